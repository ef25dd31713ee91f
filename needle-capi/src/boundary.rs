//! Strings, errors and panics at the boundary between C and Rust.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Calls `work`. If it fails or panics, stores the reason as this thread's last error and returns
/// `failed`.
pub fn guard<T>(failed: T, work: impl FnOnce() -> Result<T, String>) -> T {
    // Unwind safe: `work` changes either the handle, which keeps its shared state behind locks, or
    // the caller's buffers, and the caller is told that the call failed.
    let result = catch_unwind(AssertUnwindSafe(work));
    let (value, error) = match result {
        Ok(Ok(value)) => (value, None),
        Ok(Err(reason)) => (failed, Some(reason)),
        Err(panic) => (failed, Some(format!("internal error (a bug in needle): {}", message(&*panic)))),
    };
    // A thread that is shutting down has already dropped its last error, and nobody can ask for it.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = error.map(c_string));
    value
}

/// Why this thread's last call failed; null if it succeeded.
pub fn last_error() -> *const c_char {
    let pointer =
        |last: &RefCell<Option<CString>>| last.borrow().as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    LAST_ERROR.try_with(pointer).unwrap_or(std::ptr::null())
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a message")
}

/// A string for C. A NUL would end it early: it becomes a replacement character.
pub fn c_string(text: String) -> CString {
    CString::new(text).unwrap_or_else(|error| {
        let text = String::from_utf8_lossy(&error.into_vec()).replace('\0', "\u{FFFD}");
        CString::new(text).unwrap_or_default()
    })
}

/// The text at `pointer`; `name` is for messages.
///
/// # Safety
/// `pointer` is null or the beginning of a NUL-terminated string that lives as long as the result
/// is used.
pub unsafe fn text<'a>(pointer: *const c_char, name: &str) -> Result<&'a str, String> {
    if pointer.is_null() {
        return Err(format!("{name} is NULL"));
    }
    // SAFETY: guaranteed by the caller.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|error| format!("{name} is not UTF-8: {error}"))
}

/// The `len` values at `pointer`; `name` is for messages. The pointer may be null only if `len`
/// is 0.
///
/// # Safety
/// `pointer` is null or the beginning of `len` values that live as long as the result is used.
pub unsafe fn slice<'a, T>(pointer: *const T, len: usize, name: &str) -> Result<&'a [T], String> {
    check(pointer, len, name)?;
    // SAFETY: guaranteed by the caller; an empty slice does not use the pointer, which may be null.
    Ok(if len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(pointer, len) } })
}

/// Like [`slice`], but mutable.
///
/// # Safety
/// As for [`slice`], and nothing else accesses the values while the result is used.
pub unsafe fn slice_mut<'a, T>(pointer: *mut T, len: usize, name: &str) -> Result<&'a mut [T], String> {
    check(pointer, len, name)?;
    // SAFETY: guaranteed by the caller; an empty slice does not use the pointer, which may be null.
    Ok(if len == 0 { &mut [] } else { unsafe { std::slice::from_raw_parts_mut(pointer, len) } })
}

fn check<T>(pointer: *const T, len: usize, name: &str) -> Result<(), String> {
    if len > 0 && pointer.is_null() {
        return Err(format!("{name} is NULL"));
    }
    if !pointer.is_aligned() {
        return Err(format!("{name} is not aligned"));
    }
    if len > isize::MAX as usize / size_of::<T>() {
        return Err(format!("{name} has {len} values, more than fit into memory"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> Option<String> {
        let pointer = last_error();
        // SAFETY: the string is the library's own, and it is copied before the next call.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_panic_is_the_last_error_of_its_thread_until_a_call_succeeds() {
        assert_eq!(guard(-1, || panic!("row {} of {}", 3, 2)), -1);
        assert_eq!(last().unwrap(), "internal error (a bug in needle): row 3 of 2");
        assert!(std::thread::spawn(last).join().unwrap().is_none());
        assert_eq!(guard(-1, || Err("what it was".to_owned())), -1);
        assert_eq!(last().unwrap(), "what it was");
        assert_eq!(guard(-1, || Ok(7)), 7);
        assert_eq!(last(), None);
    }

    #[test]
    fn a_nul_inside_a_text_does_not_end_it() {
        assert_eq!(c_string("a\0b".to_owned()).to_str().unwrap(), "a\u{FFFD}b");
    }

    #[test]
    fn pointers_that_cannot_be_read_are_refused() {
        // SAFETY: none of them is read.
        unsafe {
            assert_eq!(text(std::ptr::null(), "query").unwrap_err(), "query is NULL");
            assert_eq!(slice::<u8>(std::ptr::null(), 4, "vocab").unwrap_err(), "vocab is NULL");
            assert!(slice::<u8>(std::ptr::null(), 0, "vocab").unwrap().is_empty());
            let odd = std::ptr::without_provenance::<f32>(5);
            assert!(slice(odd, 1, "out").unwrap_err().contains("aligned"));
            let aligned = std::ptr::without_provenance::<f32>(8);
            assert!(slice(aligned, usize::MAX, "out").unwrap_err().contains("more than fit into memory"));
        }
    }
}
