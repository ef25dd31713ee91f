//! Finds the JSON in a model's output: alone, in a Markdown fence, after its reasoning, or cut off
//! in the middle.

use needle_data::text::json;
use serde_json::Value;

/// Maximum number of places that are tried as the start of a JSON value, so that a hostile answer
/// costs little.
const MAX_STARTS: usize = 64;

/// The members of a list, as far as it was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Listed {
    /// The complete members.
    pub items: Vec<Value>,
    /// Why there are no more, if the text ends or is malformed inside the list.
    pub broken: Option<String>,
}

/// Finds `{"<key>": [..]}`, a bare list of objects, or a single object that could be a member of
/// it.
///
/// The complete members of a list that is cut off are kept, because they are paid for.
///
/// # Errors
/// One sentence, if there is no such JSON at all.
pub fn list(text: &str, key: &str) -> Result<Listed, String> {
    // Reasoning models may write their reasoning first.
    let text = text.rsplit_once("</think>").map_or(text, |(_, answer)| answer);
    let mut error = String::new();
    let mut at = 0;
    for _ in 0..MAX_STARTS {
        let Some(start) = text[at..].find(['{', '[']).map(|i| at + i) else { break };
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<serde::de::IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let end = start + values.byte_offset();
                match json::parse(&text[start..end]).map(|value| members(value, key)) {
                    Ok(Some(items)) => return Ok(Listed { items, broken: None }),
                    Ok(None) => {}
                    Err(e) => error = e.to_string(),
                }
                at = end;
            }
            Some(Err(e)) => {
                if error.is_empty() {
                    error = e.to_string();
                }
                if e.is_eof() {
                    // Everything that follows is inside the value that is cut off.
                    break;
                }
                at = start + 1;
            }
            None => break,
        }
    }
    match salvage(text, key) {
        Some(items) if !items.is_empty() => Ok(Listed { items, broken: Some(format!("cut off: {error}")) }),
        _ if error.is_empty() => Err(format!("no JSON with {key:?}")),
        _ => Err(format!("not JSON: {error}")),
    }
}

/// The first JSON object in `text` that has `key`.
pub fn object(text: &str, key: &str) -> Option<Value> {
    let text = text.rsplit_once("</think>").map_or(text, |(_, answer)| answer);
    let mut starts = text.match_indices('{').map(|(start, _)| start).take(MAX_STARTS);
    starts.find_map(|start| {
        let mut values = serde_json::Deserializer::from_str(&text[start..]).into_iter::<Value>();
        values.next()?.ok().filter(|value| value.get(key).is_some())
    })
}

fn members(value: Value, key: &str) -> Option<Vec<Value>> {
    match value {
        Value::Object(mut object) => match object.remove(key) {
            Some(Value::Array(items)) => Some(items),
            Some(_) => None,
            None => (object.contains_key("query") || object.contains_key("name")).then(|| vec![object.into()]),
        },
        Value::Array(items) => items.iter().all(Value::is_object).then_some(items),
        _ => None,
    }
}

/// The complete members of a list that was cut off.
fn salvage(text: &str, key: &str) -> Option<Vec<Value>> {
    let after_key = text.find(&format!("\"{key}\"")).map_or(0, |i| i + key.len() + 2);
    let mut rest = text[after_key..].split_once('[')?.1;
    let mut items = Vec::new();
    loop {
        rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<serde::de::IgnoredAny>();
        match values.next() {
            Some(Ok(_)) => {
                let end = values.byte_offset();
                items.extend(json::parse(&rest[..end]).ok().filter(Value::is_object));
                rest = &rest[end..];
            }
            _ => return Some(items),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn items(text: &str) -> Vec<Value> {
        list(text, "rows").unwrap().items
    }

    #[test]
    fn rows_are_found_alone_in_fences_after_thoughts_and_amid_prose() {
        let rows = r#"{"rows":[{"query":"a [b] {c}"},{"query":"ü"}]}"#;
        let wanted = [json!({"query": "a [b] {c}"}), json!({"query": "ü"})];
        for text in [
            rows.to_owned(),
            format!("```json\n{rows}\n```"),
            format!("<think>Maybe {{\"rows\":[]}}? No.</think>\n{rows}"),
            format!("Here are [two] rows {{as asked}}:\n{rows}\nDone {{}}."),
            r#"[{"query":"a [b] {c}"},{"query":"ü"}]"#.to_owned(),
        ] {
            assert_eq!(items(&text), wanted, "{text}");
        }
        assert_eq!(items(r#"{"query":"one","answers":[]}"#).len(), 1);
        assert_eq!(items(r#"{"rows":[]}"#), Vec::<Value>::new());
    }

    #[test]
    fn of_an_answer_that_is_cut_off_the_whole_rows_are_kept() {
        let cut = list(r#"{"rows":[{"query":"a"},{"query":"b"},{"que"#, "rows").unwrap();
        assert_eq!(cut.items, [json!({"query": "a"}), json!({"query": "b"})]);
        assert!(cut.broken.unwrap().contains("EOF"));
    }

    #[test]
    fn text_without_rows_is_refused_with_the_reason_and_at_little_cost() {
        assert_eq!(list("I cannot help with that.", "rows").unwrap_err(), "no JSON with \"rows\"");
        assert!(list(r#"{"rows":[{"que"#, "rows").unwrap_err().contains("not JSON"));
        assert!(list(r#"{"rows":[{"a":1,"a":2}]}"#, "rows").unwrap_err().contains("duplicate key"));
        list(&"[".repeat(1_000_000), "rows").unwrap_err();
        list(&r#"{"a":"#.repeat(200_000), "rows").unwrap_err();
    }
}
