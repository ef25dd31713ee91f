//! The C ABI of the engine. A test compares `include/needle.h` with what cbindgen generates from
//! this file.
//!
//! Names and arguments are those of needle-rs 0.3, so that a program written for its header builds
//! with ours. Each function documents what it does beyond that header. A panic never crosses the
//! boundary, and a null pointer is an error.
//!
//! | file | concept |
//! | --- | --- |
//! | `boundary` | strings, errors and panics between C and Rust |
//! | `lib` | the functions |

mod boundary;

use std::ffi::{c_char, c_void};
use std::path::Path;

use boundary::{c_string, guard, slice, slice_mut, text};
use needle_runtime::retrieval::rank;
use needle_runtime::{Answer, Needle, Options, Tool, Utf8Pieces, tools_from_json};
use serde_json::{Value, json};

/// A loaded model. Several threads may use it at the same time.
pub struct NeedleHandle {
    needle: Needle,
}

/// Receives one piece of the answer: its index, counted from 0, and its NUL-terminated UTF-8 text,
/// which is valid until the callback returns.
pub type NeedleStreamCallback =
    Option<unsafe extern "C" fn(piece_index: u32, piece: *const c_char, user_data: *mut c_void)>;

/// Loads a model. Either `weights_path` is a needle.safetensors file and `vocab_path` its
/// vocab.txt, or `weights_path` is a directory with both files or a training checkpoint, and
/// `vocab_path` is NULL.
///
/// Returns NULL on failure; needle_last_error() says why. Free the handle with needle_free().
///
/// # Safety
/// Each argument is NULL or a NUL-terminated string.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_load(weights_path: *const c_char, vocab_path: *const c_char) -> *mut NeedleHandle {
    // SAFETY: guaranteed by the caller.
    unsafe { needle_load_with_threads(weights_path, vocab_path, 0) }
}

/// Like needle_load(), but computes with `threads` threads; 0 means as many as the CPU has. The
/// answers do not depend on the number of threads.
///
/// # Safety
/// As for needle_load().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_load_with_threads(
    weights_path: *const c_char,
    vocab_path: *const c_char,
    threads: usize,
) -> *mut NeedleHandle {
    guard(std::ptr::null_mut(), || {
        // SAFETY: guaranteed by the caller.
        let weights = Path::new(unsafe { text(weights_path, "weights_path") }?);
        let options = options(threads)?;
        if vocab_path.is_null() {
            return boxed(Needle::load_with(weights, &options));
        }
        // SAFETY: guaranteed by the caller.
        let vocab = Path::new(unsafe { text(vocab_path, "vocab_path") }?);
        let weights = std::fs::read(weights).map_err(|error| format!("{}: {error}", weights.display()))?;
        let vocab = std::fs::read_to_string(vocab).map_err(|error| format!("{}: {error}", vocab.display()))?;
        boxed(Needle::from_bytes(weights, &vocab, &options))
    })
}

/// Loads a model from the contents of needle.safetensors and vocab.txt. Both are copied.
///
/// Returns NULL on failure. Free the handle with needle_free().
///
/// # Safety
/// Each pointer is NULL or points to as many bytes as the length that follows it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_load_bytes(
    weights_data: *const u8,
    weights_len: usize,
    vocab_data: *const u8,
    vocab_len: usize,
) -> *mut NeedleHandle {
    guard(std::ptr::null_mut(), || {
        // SAFETY: guaranteed by the caller.
        let weights = unsafe { slice(weights_data, weights_len, "weights_data") }?;
        // SAFETY: guaranteed by the caller.
        let vocab = unsafe { slice(vocab_data, vocab_len, "vocab_data") }?;
        let vocab = std::str::from_utf8(vocab).map_err(|error| format!("vocab_data is not UTF-8: {error}"))?;
        boxed(Needle::from_bytes(weights.to_vec(), vocab, &options(0)?))
    })
}

/// Answers a query with calls of the offered tools, as JSON:
/// [{"name":"get_weather","arguments":{"city":"Paris"}}], or [] if no tool fits. `tools_json` is a
/// JSON list of tool definitions in Needle's own, the JSON Schema, the OpenAI or the MCP form.
///
/// Returns NULL on failure, and also if the answer is not a complete list of calls. Free the string
/// with needle_free_str().
///
/// # Safety
/// `handle` is NULL or was returned by needle_load(), needle_load_with_threads() or
/// needle_load_bytes() and has not been freed. The strings are NULL or NUL-terminated.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_run(
    handle: *const NeedleHandle,
    query: *const c_char,
    tools_json: *const c_char,
) -> *mut c_char {
    // SAFETY: guaranteed by the caller.
    unsafe { needle_run_stream(handle, query, tools_json, None, std::ptr::null_mut()) }
}

/// Like needle_run(). In addition `callback`, unless it is NULL, receives each piece of the
/// answer's JSON as it is written, together with `user_data`, on the calling thread.
///
/// # Safety
/// As for needle_run(); `callback` returns normally and does not free the handle.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_run_stream(
    handle: *const NeedleHandle,
    query: *const c_char,
    tools_json: *const c_char,
    callback: NeedleStreamCallback,
    user_data: *mut c_void,
) -> *mut c_char {
    guard(std::ptr::null_mut(), || {
        // SAFETY: guaranteed by the caller.
        let (needle, query, tools) = unsafe { (model(handle)?, text(query, "query")?, tools(tools_json)?) };
        let (mut pieces, mut index) = (Utf8Pieces::default(), 0);
        let on_bytes = |bytes: &[u8]| {
            let Some(callback) = callback else { return };
            let piece = pieces.push(bytes);
            if !piece.is_empty() {
                let piece = c_string(piece);
                // SAFETY: the caller guarantees that `callback` may be called; `piece` lives until
                // it returns.
                unsafe { callback(index, piece.as_ptr(), user_data) };
                index += 1;
            }
        };
        let answer = needle.call_streaming(query, &tools, on_bytes).map_err(|error| error.to_string())?;
        if let Some(reason) = answer.incomplete_because() {
            return Err(format!("the answer is incomplete: {reason}"));
        }
        Ok(c_string(calls(&answer).to_string()).into_raw())
    })
}

/// Like needle_run(), but returns everything that is known about the answer: {"calls": [..],
/// "text": "..", "confidence": 0.93 or null, "is_complete": true, "abstained": false, "violations":
/// [".."], "seconds": 0.004}.
///
/// If the answer is not a complete list of calls, is_complete is false; this is not a failure.
///
/// # Safety
/// As for needle_run().
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_run_json(
    handle: *const NeedleHandle,
    query: *const c_char,
    tools_json: *const c_char,
) -> *mut c_char {
    guard(std::ptr::null_mut(), || {
        // SAFETY: guaranteed by the caller.
        let (needle, query, tools) = unsafe { (model(handle)?, text(query, "query")?, tools(tools_json)?) };
        let answer = needle.call(query, &tools).map_err(|error| error.to_string())?;
        let object = json!({
            "calls": calls(&answer),
            "text": answer.text,
            "confidence": answer.confidence,
            "is_complete": answer.is_complete,
            "abstained": answer.abstained,
            "violations": answer.violations,
            "seconds": answer.seconds,
        });
        Ok(c_string(object.to_string()).into_raw())
    })
}

/// Number of values of an embedding; 0 if the model has no retrieval head, and on failure.
///
/// # Safety
/// `handle` is NULL or was returned by needle_load(), needle_load_with_threads() or
/// needle_load_bytes() and has not been freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_contrastive_dim(handle: *const NeedleHandle) -> usize {
    // SAFETY: guaranteed by the caller.
    guard(0, || Ok(unsafe { model(handle) }?.model_config().contrastive_dim.unwrap_or(0)))
}

/// Writes the embedding of a text, a unit vector, to `out`. `dim` must be needle_contrastive_dim().
/// The dot product of two embeddings is their cosine similarity.
///
/// Returns false on failure.
///
/// # Safety
/// As for needle_run(); `out` is NULL or points to `dim` values.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_encode_contrastive(
    handle: *const NeedleHandle,
    text: *const c_char,
    out: *mut f32,
    dim: usize,
) -> bool {
    guard(false, || {
        // SAFETY: guaranteed by the caller.
        let (needle, text, out) =
            unsafe { (model(handle)?, boundary::text(text, "text")?, slice_mut(out, dim, "out")?) };
        let vector = embedding(needle, text)?;
        if vector.len() != dim {
            return Err(format!("out has room for {dim} values, but an embedding has {}", vector.len()));
        }
        out.copy_from_slice(&vector);
        Ok(true)
    })
}

/// Ranks tools by cosine similarity to a query; each tool is described by its compact JSON. Writes
/// the indices of the `top_k` best tools, best first, and their similarities. Returns how many it
/// wrote (at most `n_tools`); 0 on failure.
///
/// # Safety
/// As for needle_run(); `tool_descs` points to `n_tools` strings, `out_indices` and `out_scores`
/// point to `top_k` values each; any of the three may be NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_retrieve_tools(
    handle: *const NeedleHandle,
    query: *const c_char,
    tool_descs: *const *const c_char,
    n_tools: usize,
    top_k: usize,
    out_indices: *mut usize,
    out_scores: *mut f32,
) -> usize {
    guard(0, || {
        // SAFETY: guaranteed by the caller.
        let (needle, query) = unsafe { (model(handle)?, text(query, "query")?) };
        let count = top_k.min(n_tools);
        // SAFETY: guaranteed by the caller.
        let (descriptions, indices, scores) = unsafe {
            (
                slice(tool_descs, n_tools, "tool_descs")?,
                slice_mut(out_indices, count, "out_indices")?,
                slice_mut(out_scores, count, "out_scores")?,
            )
        };
        // SAFETY: guaranteed by the caller.
        let descriptions = descriptions.iter().map(|pointer| unsafe { text(*pointer, "an element of tool_descs") });
        let descriptions = descriptions.collect::<Result<Vec<_>, _>>()?;
        let tools = descriptions.iter().map(|text| embedding(needle, text)).collect::<Result<Vec<_>, _>>()?;
        let ranked = rank(&embedding(needle, query)?, &tools);
        for ((index, score), (ranked_index, ranked_score)) in indices.iter_mut().zip(scores).zip(ranked) {
            (*index, *score) = (ranked_index, ranked_score);
        }
        Ok(count)
    })
}

/// Frees a string that this library returned. Does nothing if `string` is NULL.
///
/// # Safety
/// `string` is NULL or came from this library and has not been freed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_free_str(string: *mut c_char) {
    if !string.is_null() {
        // SAFETY: it came from `CString::into_raw`.
        drop(unsafe { std::ffi::CString::from_raw(string) });
    }
}

/// Frees a model. Does nothing if `handle` is NULL.
///
/// # Safety
/// `handle` is NULL or came from this library and has not been freed, and no other call uses it.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_free(handle: *mut NeedleHandle) {
    if !handle.is_null() {
        // SAFETY: it came from `Box::into_raw`.
        guard((), || {
            drop(unsafe { Box::from_raw(handle) });
            Ok(())
        });
    }
}

/// Why the last call on this thread failed, in one sentence; NULL if it succeeded. The string is
/// valid until the next call on this thread. Do not free it.
#[unsafe(no_mangle)]
pub extern "C" fn needle_last_error() -> *const c_char {
    boundary::last_error()
}

fn options(threads: usize) -> Result<Options, String> {
    match threads {
        0 => Ok(Options::default()),
        1..=Options::MAX_THREADS => Ok(Options { threads, ..Options::default() }),
        more => Err(format!("threads is {more}, expected at most {}", Options::MAX_THREADS)),
    }
}

fn boxed<E: std::fmt::Display>(needle: Result<Needle, E>) -> Result<*mut NeedleHandle, String> {
    let needle = needle.map_err(|error| error.to_string())?;
    Ok(Box::into_raw(Box::new(NeedleHandle { needle })))
}

/// # Safety
/// `handle` is null or came from [`boxed`], and is not freed while the result is used.
unsafe fn model<'a>(handle: *const NeedleHandle) -> Result<&'a Needle, String> {
    // SAFETY: guaranteed by the caller.
    unsafe { handle.as_ref() }.map(|handle| &handle.needle).ok_or_else(|| "handle is NULL".to_owned())
}

/// # Safety
/// As for [`text`].
unsafe fn tools(json: *const c_char) -> Result<Vec<Tool>, String> {
    // SAFETY: guaranteed by the caller.
    tools_from_json(unsafe { text(json, "tools_json") }?).map_err(|problem| problem.to_string())
}

fn embedding(needle: &Needle, text: &str) -> Result<Vec<f32>, String> {
    let vector = needle.embed(text).map_err(|error| error.to_string())?;
    vector.ok_or_else(|| "the model has no retrieval head".to_owned())
}

/// The calls, with the tool names that the user gave.
fn calls(answer: &Answer) -> Value {
    answer.calls.iter().map(|call| json!({"name": call.name, "arguments": call.arguments})).collect()
}

/// Compile-time check that several threads may use a handle at once.
const _: fn() = || {
    fn is_shared<T: Send + Sync>() {}
    is_shared::<NeedleHandle>();
};
