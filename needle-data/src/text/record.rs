//! What a row of a dataset can be: a tool-call example or pretraining text.
//!
//! | keys or columns | row |
//! | --- | --- |
//! | `query`, `tools`, `answers` | an [`Example`] |
//! | `query`, `query_seed_text`, `synthetic_answer` | a question, a text to read and an answer, in the format of PleIAs/SYNTH |
//! | `text` | plain text |
//!
//! Other keys are ignored: datasets carry ids and scores of their own.

use serde_json::{Map, Value};

use crate::error::{Problem, ProblemCode};
use crate::text::example::Example;
use crate::text::json;
use crate::text::schema::kind;

/// One usable row.
#[derive(Debug, Clone, PartialEq)]
pub enum Record {
    /// A query, tools, and the calls that answer it.
    ToolCall(Example),
    /// A question about a text, and its answer.
    Question {
        /// The question.
        query: String,
        /// The text; may be empty.
        seed_text: String,
        /// The answer.
        answer: String,
    },
    /// Plain text.
    Text(String),
}

/// The columns that a parquet file may have for each kind of row.
pub const COLUMNS: [&[&str]; 3] =
    [&["query", "tools", "answers"], &["query", "query_seed_text", "synthetic_answer"], &["text"]];

impl Record {
    /// Reads one line of JSONL.
    ///
    /// # Errors
    /// The first problem of the line.
    pub fn from_line(line: &[u8]) -> Result<Self, Problem> {
        let not_json = |reason: String| Problem::new("line", ProblemCode::NotJson, reason);
        let text = std::str::from_utf8(line).map_err(|e| not_json(format!("not UTF-8: {e}")))?;
        match json::parse(text).map_err(|e| not_json(format!("not JSON: {e}")))? {
            Value::Object(object) => Self::from_object(&object),
            other => {
                let reason = format!("expected an object, got {}", kind(&other));
                Err(Problem::new("line", ProblemCode::BadField, reason))
            }
        }
    }

    /// Reads a JSON object.
    ///
    /// # Errors
    /// The first problem.
    pub fn from_object(object: &Map<String, Value>) -> Result<Self, Problem> {
        if object.contains_key("synthetic_answer") {
            let text = |field: &str, may_be_empty: bool| match object.get(field) {
                Some(Value::String(text)) if may_be_empty || !text.trim().is_empty() => Ok(text.clone()),
                None | Some(Value::Null) if may_be_empty => Ok(String::new()),
                None | Some(Value::Null | Value::String(_)) => {
                    Err(Problem::new(field, ProblemCode::EmptyText, "missing or empty"))
                }
                Some(other) => Err(not_a_string(field, other)),
            };
            return Ok(Self::Question {
                query: text("query", false)?,
                seed_text: text("query_seed_text", true)?,
                answer: text("synthetic_answer", false)?,
            });
        }
        if !object.contains_key("query") && !object.contains_key("tools") {
            return match object.get("text") {
                Some(Value::String(text)) if !text.trim().is_empty() => Ok(Self::Text(text.clone())),
                Some(Value::String(_) | Value::Null) => Err(Problem::new("text", ProblemCode::EmptyText, "empty")),
                Some(other) => Err(not_a_string("text", other)),
                None => {
                    let reason = "expected the keys query, tools and answers; query, query_seed_text and \
                                  synthetic_answer; or text";
                    Err(Problem::new("line", ProblemCode::BadField, reason))
                }
            };
        }
        Example::from_object(object).map(Self::ToolCall)
    }
}

fn not_a_string(field: &str, value: &Value) -> Problem {
    Problem::new(field, ProblemCode::BadField, format!("expected a string, got {}", kind(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_keys_tell_the_kind_of_row() {
        let read = |line: &str| Record::from_line(line.as_bytes());
        assert_eq!(read(r#"{"text":"a b"}"#), Ok(Record::Text("a b".into())));
        assert_eq!(
            read(r#"{"query":"q","query_seed_text":null,"synthetic_answer":"a","id":7}"#),
            Ok(Record::Question { query: "q".into(), seed_text: String::new(), answer: "a".into() })
        );
        assert!(matches!(read(r#"{"query":"q","tools":[],"answers":[]}"#), Ok(Record::ToolCall(_))));
    }

    #[test]
    fn unusable_rows_are_named() {
        use ProblemCode::*;
        for (line, field, code) in [
            (&b"\xff"[..], "line", NotJson),
            (b"{\"text\":1}", "text", BadField),
            (b"{\"text\":\" \"}", "text", EmptyText),
            (b"{\"query\":\"q\",\"synthetic_answer\":\"\"}", "synthetic_answer", EmptyText),
            (b"{\"query\":[],\"synthetic_answer\":\"a\"}", "query", BadField),
            (b"{\"prompt\":\"q\"}", "line", BadField),
            (b"{\"text\":\"a\",\"text\":\"b\"}", "line", NotJson),
            (b"7", "line", BadField),
        ] {
            let problem = Record::from_line(line).unwrap_err();
            assert_eq!((problem.field.as_str(), problem.code), (field, code));
        }
    }
}
