//! An answer's bytes as text while they arrive.

/// Splits a stream of bytes between UTF-8 characters.
#[derive(Default)]
pub struct Utf8Pieces {
    rest: Vec<u8>,
}

impl Utf8Pieces {
    /// Returns the characters that are complete after `bytes`; invalid bytes become replacement
    /// characters.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        self.rest.extend_from_slice(bytes);
        let mut text = String::new();
        loop {
            match std::str::from_utf8(&self.rest) {
                Ok(whole) => {
                    text.push_str(whole);
                    self.rest.clear();
                    return text;
                }
                Err(error) => {
                    let whole = error.valid_up_to();
                    text.push_str(&String::from_utf8_lossy(&self.rest[..whole]));
                    let Some(broken) = error.error_len() else {
                        self.rest.drain(..whole);
                        return text;
                    };
                    text.push(char::REPLACEMENT_CHARACTER);
                    self.rest.drain(..whole + broken);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_end_between_characters() {
        let mut pieces = Utf8Pieces::default();
        let parts = ["Zü".as_bytes(), &[0xE2], &[0x82], &[0xAC, b'!', 0xC3], b"x"];
        let texts: Vec<String> = parts.iter().map(|bytes| pieces.push(bytes)).collect();
        assert_eq!(texts, ["Zü", "", "", "€!", "\u{FFFD}x"]);
    }
}
