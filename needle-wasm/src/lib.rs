//! The engine as a WebAssembly module for `www/needle.js`, by plain functions on its memory: a
//! tenth of the size of generated bindings. A module holds any number of models and runs on one
//! thread.
//!
//! Texts go in as places in memory that `needle_alloc` gave. What comes back is a [`Reply`].

use std::cell::RefCell;

use needle_runtime::retrieval::rank;
use needle_runtime::{AnswerConfig, Needle, Options, Utf8Pieces, tools_from_json};
use serde_json::{Value, json};

/// Where a result is. It lives until the next call.
#[repr(C)]
pub struct Reply {
    /// First byte of a JSON text, or of a sentence that says what went wrong.
    text: *const u8,
    len: usize,
    /// 1 for a JSON text.
    is_good: usize,
}

thread_local! {
    static LAST: RefCell<(String, Reply)> =
        const { RefCell::new((String::new(), Reply { text: std::ptr::null(), len: 0, is_good: 0 })) };
}

#[cfg(target_arch = "wasm32")]
#[link(wasm_import_module = "needle")]
unsafe extern "C" {
    /// Is given each piece of an answer as it comes.
    safe fn piece(text: *const u8, len: usize);
}

#[cfg(not(target_arch = "wasm32"))]
fn piece(_: *const u8, _: usize) {}

fn reply(result: Result<Value, String>) -> *const Reply {
    LAST.with_borrow_mut(|(text, reply)| {
        let is_good = usize::from(result.is_ok());
        *text = result.map_or_else(|reason| reason, |value| value.to_string());
        *reply = Reply { text: text.as_ptr(), len: text.len(), is_good };
        &raw const *reply
    })
}

/// Room for `len` bytes.
#[unsafe(no_mangle)]
pub extern "C" fn needle_alloc(len: usize) -> *mut u8 {
    Box::into_raw(vec![0_u8; len].into_boxed_slice()).cast()
}

/// Takes room back as the bytes that are in it.
///
/// # Safety
/// It came from [`needle_alloc`] with this `len`, and is not used again.
unsafe fn taken(place: *mut u8, len: usize) -> Vec<u8> {
    // SAFETY: the caller's.
    unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(place, len)) }.into_vec()
}

/// # Safety
/// As [`taken`].
unsafe fn text(place: *mut u8, len: usize) -> Result<String, String> {
    // SAFETY: the caller's.
    String::from_utf8(unsafe { taken(place, len) }).map_err(|error| error.to_string())
}

/// Loads the contents of `needle.safetensors` and `vocab.txt`: the reply is the model's number.
///
/// # Safety
/// Both came from [`needle_alloc`] with these lengths, and are not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_load(
    weights: *mut u8,
    weights_len: usize,
    vocab: *mut u8,
    vocab_len: usize,
) -> *const Reply {
    // SAFETY: the caller's.
    let (weights, vocab) = unsafe { (taken(weights, weights_len), text(vocab, vocab_len)) };
    let load = || {
        let options = Options { threads: 1, ..Options::default() };
        let needle = Needle::from_bytes(weights, &vocab?, &options).map_err(|error| error.to_string())?;
        Ok(json!(Box::into_raw(Box::new(needle)).expose_provenance()))
    };
    reply(load())
}

/// Answers a query with calls of the tools, of at most `max_tokens` tokens, or of as many as the
/// model writes if that is 0.
///
/// # Safety
/// `needle` is of [`needle_load`] and not freed; query and tools came from [`needle_alloc`], and
/// are not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_call(
    needle: *const Needle,
    query: *mut u8,
    query_len: usize,
    tools: *mut u8,
    tools_len: usize,
    max_tokens: usize,
) -> *const Reply {
    // SAFETY: the caller's.
    let (needle, query, tools) = unsafe { (&*needle, text(query, query_len), text(tools, tools_len)) };
    let answer = || {
        let tools = tools_from_json(&tools?).map_err(|error| error.to_string())?;
        let max_tokens = (max_tokens > 0).then_some(max_tokens);
        let config = AnswerConfig { max_tokens, ..needle.config().clone() };
        let needle = needle.clone().with_config(config).map_err(|error| error.to_string())?;
        let mut pieces = Utf8Pieces::default();
        let on_bytes = |bytes: &[u8]| {
            let text = pieces.push(bytes);
            piece(text.as_ptr(), text.len());
        };
        let answer = needle.call_streaming(&query?, &tools, on_bytes).map_err(|error| error.to_string())?;
        let call = |call: &needle_runtime::Call| json!({"name": call.name, "arguments": call.arguments});
        let calls: Vec<Value> = answer.calls.iter().map(call).collect();
        Ok(
            json!({"calls": calls, "text": answer.text, "isComplete": answer.is_complete, "violations": answer.violations}),
        )
    };
    reply(answer())
}

/// Ranks the tools by likeness to the query: the reply is a list of `[index, cosine]`, best first.
///
/// # Safety
/// As [`needle_call`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_rank(
    needle: *const Needle,
    query: *mut u8,
    query_len: usize,
    tools: *mut u8,
    tools_len: usize,
) -> *const Reply {
    // SAFETY: the caller's.
    let (needle, query, tools) = unsafe { (&*needle, text(query, query_len), text(tools, tools_len)) };
    let ranked = || {
        let tools = tools_from_json(&tools?).map_err(|error| error.to_string())?;
        let catalogue = needle.catalogue(&tools).map_err(|error| error.to_string())?;
        let query = needle.embed(&query?).map_err(|error| error.to_string())?;
        let query = query.ok_or_else(|| "the model has no retrieval head".to_owned())?;
        Ok(json!(rank(&query, catalogue.vectors())))
    };
    reply(ranked())
}

/// Frees a model.
///
/// # Safety
/// `needle` is of [`needle_load`], and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_free(needle: *mut Needle) {
    // SAFETY: it came from `Box::into_raw`.
    drop(unsafe { Box::from_raw(needle) });
}
