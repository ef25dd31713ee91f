//! What crosses the boundary between C and Rust: strings, errors, and never a panic.

use std::any::Any;
use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};

thread_local! {
    static LAST_ERROR: RefCell<Option<CString>> = const { RefCell::new(None) };
}

/// Calls `work`. Where it fails, or panics, the reason becomes this thread's last error and the
/// result is `failed`.
pub fn guard<T>(failed: T, work: impl FnOnce() -> Result<T, String>) -> T {
    // What `work` changes is either the handle's, which locks what it shares, or the caller's, who
    // is told that it failed.
    let result = catch_unwind(AssertUnwindSafe(work));
    let (value, error) = match result {
        Ok(Ok(value)) => (value, None),
        Ok(Err(reason)) => (failed, Some(reason)),
        Err(panic) => (failed, Some(format!("a defect of this library: {}", message(&*panic)))),
    };
    // A thread that is ending has no last error any more, and nobody who asks for it.
    let _ = LAST_ERROR.try_with(|last| *last.borrow_mut() = error.map(c_string));
    value
}

/// The reason why this thread's last call failed; null if it did not.
pub fn last_error() -> *const c_char {
    let pointer =
        |last: &RefCell<Option<CString>>| last.borrow().as_ref().map_or(std::ptr::null(), |text| text.as_ptr());
    LAST_ERROR.try_with(pointer).unwrap_or(std::ptr::null())
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("it panicked")
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
    // SAFETY: the caller's.
    let text = unsafe { CStr::from_ptr(pointer) };
    text.to_str().map_err(|error| format!("{name} is not UTF-8: {error}"))
}

/// The `len` values at `pointer`; `name` is for messages. None of them may be at null.
///
/// # Safety
/// `pointer` is null or the beginning of `len` values that live as long as the result is used.
pub unsafe fn slice<'a, T>(pointer: *const T, len: usize, name: &str) -> Result<&'a [T], String> {
    check(pointer, len, name)?;
    // SAFETY: the caller's; empty slices have no place of their own.
    Ok(if len == 0 { &[] } else { unsafe { std::slice::from_raw_parts(pointer, len) } })
}

/// As [`slice`], of values that are written.
///
/// # Safety
/// As [`slice`], and nobody else uses the values as long as the result is used.
pub unsafe fn slice_mut<'a, T>(pointer: *mut T, len: usize, name: &str) -> Result<&'a mut [T], String> {
    check(pointer, len, name)?;
    // SAFETY: the caller's; empty slices have no place of their own.
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
        return Err(format!("{name} has {len} values, more than there can be"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn last() -> Option<String> {
        let pointer = last_error();
        // SAFETY: the library's own string, and no other call before it is copied.
        (!pointer.is_null()).then(|| unsafe { CStr::from_ptr(pointer) }.to_str().unwrap().to_owned())
    }

    #[test]
    fn a_panic_is_the_last_error_of_its_thread_until_a_call_goes_well() {
        assert_eq!(guard(-1, || panic!("row {} of {}", 3, 2)), -1);
        assert_eq!(last().unwrap(), "a defect of this library: row 3 of 2");
        assert!(std::thread::spawn(last).join().unwrap().is_none());
        assert_eq!(guard(-1, || Err("what it was".to_owned())), -1);
        assert_eq!(last().unwrap(), "what it was");
        assert_eq!(guard(-1, || Ok(7)), 7);
        assert_eq!(last(), None);
    }

    #[test]
    fn a_nul_inside_of_a_text_does_not_end_it() {
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
            assert!(slice(aligned, usize::MAX, "out").unwrap_err().contains("more than there can be"));
        }
    }
}
