//! What is asked: a query and the tools on offer.

use needle_data::Tool;
use needle_data::error::{Problem, ProblemCode};

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The query.
    pub query: &'a str,
    /// The tools on offer.
    pub tools: &'a [Tool],
}

/// What can be asked: a query and the tools on offer, owned or by reference.
pub trait AsQuestion {
    /// Both by reference.
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

/// Tool definitions from JSON: a list of them (or MCP's `{"tools": [..]}`), in the native, the JSON
/// Schema, the OpenAI or the MCP form.
///
/// # Errors
/// If the text is not JSON, with line and column, or a definition cannot be read, with its field.
pub fn tools_from_json(text: &str) -> Result<Vec<Tool>, Problem> {
    let value = serde_json::from_str(text)
        .map_err(|error| Problem::new("tools", ProblemCode::NotJson, format!("not JSON: {error}")))?;
    Tool::list_from_json(&value)
}
