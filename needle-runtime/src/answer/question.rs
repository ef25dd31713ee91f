//! A question: a query and the offered tools.

use needle_data::Tool;
use needle_data::error::{Problem, ProblemCode};

/// A question to a model.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The query.
    pub query: &'a str,
    /// The offered tools.
    pub tools: &'a [Tool],
}

/// Anything that is a query with offered tools, owned or by reference.
pub trait AsQuestion {
    /// Borrows the query and the tools.
    fn as_question(&self) -> Question<'_>;
}

impl<Q: AsRef<str>, T: AsRef<[Tool]>> AsQuestion for (Q, T) {
    fn as_question(&self) -> Question<'_> {
        Question { query: self.0.as_ref(), tools: self.1.as_ref() }
    }
}

impl AsQuestion for Question<'_> {
    fn as_question(&self) -> Question<'_> {
        *self
    }
}

impl<T: AsQuestion + ?Sized> AsQuestion for &T {
    fn as_question(&self) -> Question<'_> {
        (**self).as_question()
    }
}

/// Reads tool definitions from JSON: a list (or MCP's `{"tools": [..]}`), in Needle's own, the JSON
/// Schema, the OpenAI or the MCP form.
///
/// # Errors
/// If the text is not JSON (the message has line and column), or a definition cannot be read (the
/// message names the field).
pub fn tools_from_json(text: &str) -> Result<Vec<Tool>, Problem> {
    let value = serde_json::from_str(text)
        .map_err(|error| Problem::new("tools", ProblemCode::NotJson, format!("not JSON: {error}")))?;
    Tool::list_from_json(&value)
}
