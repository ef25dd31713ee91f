//! Splits text into words, in lower case and without punctuation.

/// The words of `text`: runs of letters and digits, in lower case.
pub fn words(text: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut word = String::new();
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c.is_alphanumeric() {
            word.extend(ascii_digit(c).map_or_else(|| c.to_lowercase().collect::<Vec<_>>(), |d| vec![d]));
        } else if is_mark(c) && !word.is_empty() {
            // Drops marks that belong to the letter before them, as in Hindi; the next branch drops
            // an apostrophe inside a word.
        } else if matches!(c, '\'' | '\u{2019}')
            && !word.is_empty()
            && chars.peek().is_some_and(|c| c.is_alphanumeric())
        {
        } else if !word.is_empty() {
            out.push(std::mem::take(&mut word));
        }
    }
    if !word.is_empty() {
        out.push(word);
    }
    out
}

/// Combining marks and joiners of common scripts.
const fn is_mark(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{93c}' | '\u{94d}' | '\u{64b}'..='\u{652}' | '\u{200c}' | '\u{200d}')
}

/// The ASCII digit for a digit of another script.
fn ascii_digit(c: char) -> Option<char> {
    let zero = match c {
        '0'..='9' => '0',
        '\u{660}'..='\u{669}' => '\u{660}',
        '\u{6f0}'..='\u{6f9}' => '\u{6f0}',
        '\u{966}'..='\u{96f}' => '\u{966}',
        '\u{ff10}'..='\u{ff19}' => '\u{ff10}',
        _ => return None,
    };
    char::from_digit(c as u32 - zero as u32, 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_compared_without_case_marks_and_punctuation() {
        assert_eq!(words("Don't STOP, it's 7:30!"), ["dont", "stop", "its", "7", "30"]);
        assert_eq!(words("٣ दिल्ली"), ["3", "दिलली"]);
        assert_eq!(words(" \t… "), Vec::<String>::new());
        assert_eq!(words("'quoted' e\u{301}t"), ["quoted", "et"]);
    }
}
