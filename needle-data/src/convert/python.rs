//! Calls written as Python: `[Name of tool(key="value", other=[1, True]), other_tool()]`. Names may
//! contain spaces.

use serde_json::{Map, Number, Value};

use super::call;

/// Reads a list of calls.
///
/// # Errors
/// What was expected, and where.
pub(super) fn calls(text: &str) -> Result<Vec<Value>, String> {
    let mut reader = Reader { text, at: 0, depth: 0 };
    reader.expect('[')?;
    let mut calls = Vec::new();
    while !reader.take(']') {
        if !calls.is_empty() {
            reader.expect(',')?;
        }
        let name = reader.until('(')?.trim().to_owned();
        reader.expect('(')?;
        let mut arguments = Map::new();
        while !reader.take(')') {
            if !arguments.is_empty() {
                reader.expect(',')?;
            }
            let key = reader.until('=')?.trim().to_owned();
            reader.expect('=')?;
            let value = reader.value()?;
            if arguments.insert(key.clone(), value).is_some() {
                return Err(format!("{key} is given twice"));
            }
        }
        calls.push(call(&name, arguments));
    }
    match reader.rest().trim() {
        "" => Ok(calls),
        rest => Err(format!("{rest:?} after the calls")),
    }
}

const MAX_DEPTH: usize = 64;

struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn skip_space(&mut self) {
        self.at = self.text.len() - self.rest().trim_start().len();
    }

    fn take(&mut self, c: char) -> bool {
        self.skip_space();
        let is_there = self.rest().starts_with(c);
        if is_there {
            self.at += c.len_utf8();
        }
        is_there
    }

    fn expect(&mut self, c: char) -> Result<(), String> {
        if self.take(c) { Ok(()) } else { Err(format!("expected {c:?} at {:?}", self.near())) }
    }

    fn near(&self) -> String {
        self.rest().chars().take(20).collect()
    }

    /// The text up to `c`, which is not consumed.
    fn until(&mut self, c: char) -> Result<&'a str, String> {
        let length = self.rest().find(c).ok_or_else(|| format!("expected {c:?} after {:?}", self.near()))?;
        let text = &self.rest()[..length];
        self.at += length;
        Ok(text)
    }

    fn value(&mut self) -> Result<Value, String> {
        self.skip_space();
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err("nested too deep".into());
        }
        let value = match self.rest().chars().next() {
            Some(quote @ ('"' | '\'')) => self.string(quote)?.into(),
            Some('[') => self.items('[', ']')?.into(),
            Some('(') => self.items('(', ')')?.into(),
            Some('{') => self.object()?.into(),
            Some(_) => self.word()?,
            None => return Err("expected a value at the end".into()),
        };
        self.depth -= 1;
        Ok(value)
    }

    fn items(&mut self, open: char, close: char) -> Result<Vec<Value>, String> {
        self.expect(open)?;
        let mut items = Vec::new();
        while !self.take(close) {
            if !items.is_empty() {
                self.expect(',')?;
                if self.take(close) {
                    break;
                }
            }
            items.push(self.value()?);
        }
        Ok(items)
    }

    fn object(&mut self) -> Result<Map<String, Value>, String> {
        self.expect('{')?;
        let mut object = Map::new();
        while !self.take('}') {
            if !object.is_empty() {
                self.expect(',')?;
            }
            let Value::String(key) = self.value()? else { return Err("expected a string as key".into()) };
            self.expect(':')?;
            object.insert(key, self.value()?);
        }
        Ok(object)
    }

    fn string(&mut self, quote: char) -> Result<String, String> {
        self.at += 1;
        let mut out = String::new();
        let mut chars = self.rest().char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '\\' => match chars.next().map(|(_, c)| c) {
                    Some('n') => out.push('\n'),
                    Some('t') => out.push('\t'),
                    Some('r') => out.push('\r'),
                    Some(c @ ('\\' | '\'' | '"')) => out.push(c),
                    // As in Python, an unknown escape stands for its two characters.
                    Some(c) => out.extend(['\\', c]),
                    None => break,
                },
                c if c == quote => {
                    self.at += at + 1;
                    return Ok(out);
                }
                c => out.push(c),
            }
        }
        Err("an unterminated string".into())
    }

    fn word(&mut self) -> Result<Value, String> {
        let length = self.rest().find([',', ')', ']', '}', ':']).unwrap_or(self.rest().len());
        let word = self.rest()[..length].trim();
        self.at += length;
        Ok(match word {
            "True" | "true" => true.into(),
            "False" | "false" => false.into(),
            "None" | "null" => Value::Null,
            number => match (number.parse::<i64>(), number.parse::<f64>()) {
                (Ok(integer), _) => integer.into(),
                (_, Ok(float)) => Number::from_f64(float)
                    .map(Value::from)
                    .ok_or_else(|| format!("{number} is not a finite number"))?,
                _ => return Err(format!("{number:?} is not a value")),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn malformed_calls_are_errors() {
        for text in
            ["[f(", "[f(a=)]", "[f(a=1]", "[f(a='x)]", "[f(a=b)]", "[f(a=1, a=2)]", "[f()] and", "f()", "[f(a={1:2})]"]
        {
            assert!(calls(text).is_err(), "{text}");
        }
        assert!(calls(&format!("[f(a={})]", "[".repeat(100_000))).is_err());
        assert_eq!(calls("[]").unwrap(), Vec::<Value>::new());
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "[\\[\\](){}=,:'\"\\\\a1é .-]{0,40}") {
            let _ = calls(&text);
        }
    }
}
