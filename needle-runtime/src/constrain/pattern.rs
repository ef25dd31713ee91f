//! Explains why a regular expression cannot be part of a grammar.

/// The reason why a grammar cannot express `pattern`.
pub fn obstacle(pattern: &str) -> &'static str {
    let mut previous = None;
    let mut rest = pattern;
    let mut in_class = false;
    while let Some(c) = rest.chars().next() {
        let after = &rest[c.len_utf8()..];
        let next = after.chars().next();
        match c {
            '\\' => {
                if !in_class && next.is_some_and(|next| matches!(next, '1'..='9' | 'k')) {
                    return "a grammar cannot express a back-reference";
                }
                if !in_class && matches!(next, Some('b' | 'B')) {
                    return "a grammar cannot express a word boundary";
                }
                previous = next;
                rest = &after[next.map_or(0, char::len_utf8)..];
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class && ["?=", "?!", "?<=", "?<!"].iter().any(|look| after.starts_with(look)) => {
                return "a grammar cannot express look-around";
            }
            '^' if !in_class && previous.is_some_and(|before| !"(|".contains(before)) => {
                return "a grammar cannot express a ^ after the beginning";
            }
            '$' if !in_class && next.is_some_and(|next| !")|".contains(next)) => {
                return "a grammar cannot express a $ before the end";
            }
            _ => {}
        }
        previous = Some(c);
        rest = after;
    }
    "a grammar cannot express this regular expression: it is too large or of an unsupported dialect"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_names_what_a_grammar_cannot_express() {
        for (pattern, reason) in [
            ("^(?!admin$).+$", "look-around"),
            ("(?<=a)b", "look-around"),
            ("a$b", "$ before the end"),
            ("x^y", "^ after the beginning"),
            ("^(a|b)\\1$", "back-reference"),
            ("\\bword\\b", "word boundary"),
            ("^[\\^$]\\$(?<year>a)++$", "dialect"),
        ] {
            assert!(obstacle(pattern).contains(reason), "{pattern}: {}", obstacle(pattern));
        }
    }
}
