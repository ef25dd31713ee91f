//! The engine as a WebAssembly module for `www/needle.js`. The interface is plain functions on the
//! module's memory, a tenth of the size of generated bindings. A module can have any number of
//! models and runs on one thread.
//!
//! Arguments are passed in memory from `needle_alloc`. Results are returned as a [`Reply`].

use std::cell::RefCell;

use needle_runtime::retrieval::rank;
use needle_runtime::{AnswerConfig, Needle, Options, Utf8Pieces, tools_from_json};
use serde_json::{Value, json};

/// The location of a result, which is valid until the next call.
#[repr(C)]
pub struct Reply {
    /// The text: JSON, or an error message.
    text: *const u8,
    len: usize,
    /// 1 if the text is JSON, 0 if it is an error message.
    is_good: usize,
}

thread_local! {
    static LAST: RefCell<(String, Reply)> =
        const { RefCell::new((String::new(), Reply { text: std::ptr::null(), len: 0, is_good: 0 })) };
}

#[cfg(target_arch = "wasm32")]
#[link(wasm_import_module = "needle")]
unsafe extern "C" {
    /// Receives each piece of an answer as it is written.
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

/// Allocates `len` bytes.
#[unsafe(no_mangle)]
pub extern "C" fn needle_alloc(len: usize) -> *mut u8 {
    Box::into_raw(vec![0_u8; len].into_boxed_slice()).cast()
}

/// Takes ownership of allocated bytes.
///
/// # Safety
/// `place` came from [`needle_alloc`] with this `len` and is not used again.
unsafe fn taken(place: *mut u8, len: usize) -> Vec<u8> {
    // SAFETY: guaranteed by the caller.
    unsafe { Box::from_raw(std::ptr::slice_from_raw_parts_mut(place, len)) }.into_vec()
}

/// # Safety
/// As for [`taken`].
unsafe fn text(place: *mut u8, len: usize) -> Result<String, String> {
    // SAFETY: guaranteed by the caller.
    String::from_utf8(unsafe { taken(place, len) }).map_err(|error| error.to_string())
}

/// Loads a model from the contents of `needle.safetensors` and `vocab.txt`. The reply is the
/// model's handle, a number.
///
/// # Safety
/// Both pointers came from [`needle_alloc`] with these lengths and are not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_load(
    weights: *mut u8,
    weights_len: usize,
    vocab: *mut u8,
    vocab_len: usize,
) -> *const Reply {
    // SAFETY: guaranteed by the caller.
    let (weights, vocab) = unsafe { (taken(weights, weights_len), text(vocab, vocab_len)) };
    let load = || {
        let options = Options { threads: 1, ..Options::default() };
        let needle = Needle::from_bytes(weights, &vocab?, &options).map_err(|error| error.to_string())?;
        Ok(json!(Box::into_raw(Box::new(needle)).expose_provenance()))
    };
    reply(load())
}

/// Answers a query with calls of the tools. The answer has at most `max_tokens` tokens; 0 means the
/// model's own limit.
///
/// # Safety
/// `needle` came from [`needle_load`] and has not been freed; query and tools came from
/// [`needle_alloc`] and are not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_call(
    needle: *const Needle,
    query: *mut u8,
    query_len: usize,
    tools: *mut u8,
    tools_len: usize,
    max_tokens: usize,
) -> *const Reply {
    // SAFETY: guaranteed by the caller.
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

/// Ranks the tools by similarity to the query. The reply is a list of `[index, cosine]`, best
/// first.
///
/// # Safety
/// As for [`needle_call`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_rank(
    needle: *const Needle,
    query: *mut u8,
    query_len: usize,
    tools: *mut u8,
    tools_len: usize,
) -> *const Reply {
    // SAFETY: guaranteed by the caller.
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
/// `needle` came from [`needle_load`] and is not used again.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn needle_free(needle: *mut Needle) {
    // SAFETY: it came from `Box::into_raw`.
    drop(unsafe { Box::from_raw(needle) });
}
