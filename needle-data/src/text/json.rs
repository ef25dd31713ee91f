//! A strict JSON parser: a duplicate key, which `serde_json` accepts silently, is an error here.
//!
//! For an object with a duplicate key, `serde_json` keeps the last value; a dataset would silently
//! lose the first one.

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Parses one JSON value. A duplicate key in an object and nesting deeper than 128 levels are
/// errors.
///
/// # Errors
/// What is wrong, with line and column.
pub fn parse(text: &str) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut reader)?;
    reader.end()?;
    Ok(value)
}

struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(Self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = members.next_key::<String>()? {
            let value = members.next_value_seed(Self)?;
            match object.entry(key) {
                serde_json::map::Entry::Vacant(place) => _ = place.insert(value),
                serde_json::map::Entry::Occupied(place) => {
                    return Err(de::Error::custom(format_args!("duplicate key {:?}", place.key())));
                }
            }
        }
        Ok(object.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_json_reads_as_serde_json_reads_it() {
        for text in [r#"{"a":[1,-2,3.5,1e3,true,null,"é\n"],"b":{"c":{}}}"#, "18446744073709551615", "\"\"", "[]"] {
            assert_eq!(parse(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
        }
    }

    #[test]
    fn repeated_keys_trailing_text_lone_surrogates_and_deep_nesting_are_errors() {
        let deep = "[".repeat(100_000);
        for (text, reason) in [
            (r#"{"a":1,"b":{"c":1,"c":2}}"#, "duplicate key \"c\""),
            ("{} {}", "trailing"),
            (r#""\ud800""#, "hex escape"),
            ("\"a\u{0}b\"", "control character"),
            (deep.as_str(), "recursion"),
            ("1e999", "out of range"),
        ] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
