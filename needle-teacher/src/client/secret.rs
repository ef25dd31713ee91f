//! API keys, which are sent and never shown.

use std::fmt;

/// An API key. It has no `Display`, and `Debug` hides it.
#[derive(Clone, Default)]
pub struct ApiKey(Option<String>);

/// Replaces a key that an endpoint repeats.
const HIDDEN: &str = "[key]";

impl ApiKey {
    /// A key; surrounding white space is removed.
    ///
    /// # Errors
    /// If it is empty or not allowed in a header; the message does not show it.
    pub fn new(key: &str) -> Result<Self, String> {
        let key = key.trim();
        if key.is_empty() {
            return Err("the key is empty".into());
        }
        if !key.bytes().all(|b| b.is_ascii_graphic()) {
            return Err("the key has characters that are not allowed in a header".into());
        }
        Ok(Self(Some(key.to_owned())))
    }

    /// No key: for endpoints that need none.
    pub const fn none() -> Self {
        Self(None)
    }

    pub(super) fn header(&self) -> Option<String> {
        self.0.as_ref().map(|key| format!("Bearer {key}"))
    }

    /// `text` with the key hidden: endpoints repeat keys in their error messages, and a model can
    /// be made to.
    pub(super) fn hide(&self, text: String) -> String {
        match &self.0 {
            Some(key) if text.contains(key.as_str()) => text.replace(key.as_str(), HIDDEN),
            _ => text,
        }
    }
}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "ApiKey([key])" } else { "ApiKey(none)" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_hidden_wherever_it_could_be_read() {
        let key = ApiKey::new(" sk-abc123\n").unwrap();
        assert_eq!(key.header().unwrap(), "Bearer sk-abc123");
        assert!(!format!("{key:?}").contains("abc123"));
        assert_eq!(key.hide("wrong key sk-abc123!".into()), "wrong key [key]!");
        assert!(!ApiKey::new("sk-abc\u{7}123").unwrap_err().contains("abc"));
        assert!(ApiKey::new("  ").is_err());
    }
}
