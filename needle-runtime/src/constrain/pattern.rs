//! Regular expressions in words: what stands in the way of a grammar where there is none for a
//! pattern.

/// What in `pattern`, for which there is no grammar, stands in its way.
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
                    return "no grammar holds a reference back to a group";
                }
                if !in_class && matches!(next, Some('b' | 'B')) {
                    return "no grammar holds a boundary of words";
                }
                previous = next;
                rest = &after[next.map_or(0, char::len_utf8)..];
                continue;
            }
            '[' => in_class = true,
            ']' => in_class = false,
            '(' if !in_class && ["?=", "?!", "?<=", "?<!"].iter().any(|look| after.starts_with(look)) => {
                return "no grammar holds look-around";
            }
            '^' if !in_class && previous.is_some_and(|before| !"(|".contains(before)) => {
                return "no grammar holds a ^ behind the beginning";
            }
            '$' if !in_class && next.is_some_and(|next| !")|".contains(next)) => {
                return "no grammar holds a $ before the end";
            }
            _ => {}
        }
        previous = Some(c);
        rest = after;
    }
    "no grammar holds this regular expression: it is too large, or of a dialect that is not known here"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_without_a_grammar_says_what_it_has_instead_of_look_around() {
        for (pattern, reason) in [
            ("^(?!admin$).+$", "look-around"),
            ("(?<=a)b", "look-around"),
            ("a$b", "$ before the end"),
            ("x^y", "^ behind the beginning"),
            ("^(a|b)\\1$", "reference back"),
            ("\\bword\\b", "boundary of words"),
            ("^[\\^$]\\$(?<year>a)++$", "dialect"),
        ] {
            assert!(obstacle(pattern).contains(reason), "{pattern}: {}", obstacle(pattern));
        }
    }
}
