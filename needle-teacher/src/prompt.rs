//! The prompts of teacher and judge: rules in words, and the task as one JSON object.

use needle_data::{Call, Tool};
use serde_json::{Value, json};

use crate::kind::Kind;
use crate::schema::{self, AnswerSchema};
use crate::task::Task;

/// A question's text and the schema of its answer.
#[derive(Debug, Clone, PartialEq)]
pub struct Prompt {
    /// The rules.
    pub system: String,
    /// The task.
    pub user: String,
    /// The answer's form.
    pub schema: AnswerSchema,
}

const WRITER: &str = "You write training data for a small model that reads a user's query and a list of tools and answers with tool \
calls. You get a JSON object: `tools`, the tools on offer, and `assignment`, what to write. Write as many rows as it asks for, each a \
query that the described person could really have typed or said, with the one right list of calls.

Rules:
- Every argument value is stated in the query. Text values are copied from it word for word; never add a value that it does not state.
- Leave out optional arguments that the query does not state. Give every required one.
- Numbers in answers are JSON numbers, of the unit that the parameter asks for.
- Queries never contain a tool's identifier such as get_weather, nor the name of a parameter in code form.
- Rows differ in wording, in how they begin, and in every value. Use varied, specific, realistic values; no placeholders.
- Calls stand in the order in which the query asks for them.";

/// The prompt for `rows` rows of `task`, unlike the queries in `have`.
pub fn rows(task: &Task, rows: usize, have: &[&str]) -> Prompt {
    let cell = &task.cell;
    let mut assignment = json!({
        "rows": rows,
        "kind": cell.kind,
        "focus_tool": cell.tool,
        "person": cell.persona,
        "query_length": cell.length.words(),
        "language": cell.language,
    });
    if !have.is_empty() {
        assignment["unlike_these"] = have.iter().copied().collect();
    }
    if let Some(source) = &task.source {
        assignment["source"] = json!({"query": source.query, "answers": source.answers});
    }
    let tools: Vec<Value> = task.tools.iter().map(Tool::to_json).collect();
    let form = if task.source.is_some() {
        "{\"rows\": [{\"query\": ..}]}"
    } else {
        "{\"rows\": [{\"query\": .., \"answers\": [{\"name\": .., \"arguments\": {..}}]}]}"
    };
    Prompt {
        system: format!("{WRITER}\n- {}\n\nAnswer with JSON: {form}", cell.kind.instruction()),
        user: json!({"tools": tools, "assignment": assignment}).to_string(),
        schema: if task.source.is_some() { schema::queries() } else { schema::rows(&task.tools) },
    }
}

/// The prompt for `count` new tools for `domain`, with names other than `have`.
pub fn tools(domain: &str, count: usize, have: &[&str]) -> Prompt {
    let system = "You design tools (functions that a small on-device assistant can call). You get a JSON object with `domain`, the \
                  number of tools `count`, and `have`, names that are taken. Each tool does one thing that a user would ask for in a \
                  sentence, has a name in snake_case, a description of one sentence, and one to five parameters that a user can state \
                  in words: no ids, tokens or nested objects. At least one is required. `enum` lists the choices of a parameter that \
                  has few, else it is null.\n\nAnswer with JSON: {\"tools\": [{\"name\": .., \"description\": .., \"parameters\": \
                  [{\"name\": .., \"type\": .., \"description\": .., \"required\": .., \"enum\": [..] or null}]}]}";
    Prompt {
        system: system.into(),
        user: json!({"domain": domain, "count": count, "have": have}).to_string(),
        schema: schema::tools(),
    }
}

/// The prompt that asks whether `answers` are right.
pub fn verdict(query: &str, tools: &[Tool], answers: &[Call], kind: Kind) -> Prompt {
    let system = "You check training data. You get a JSON object with the user's `query`, the `tools` on offer, and `answers`, a list of \
                  tool calls. The answers are right if a careful assistant with only these tools would make exactly these calls: the \
                  right tools, in the right number, every argument stated or clearly meant by the query, none missing, none invented. \
                  An empty list is right only if none of the tools can do what is asked. First give the reason in one sentence, then \
                  the verdict.\n\nAnswer with JSON: {\"reason\": .., \"is_right\": true or false}";
    let tools: Vec<Value> = tools.iter().map(Tool::to_json).collect();
    Prompt {
        system: system.into(),
        user: json!({"tools": tools, "query": query, "answers": answers, "kind": kind}).to_string(),
        schema: schema::verdict(),
    }
}
