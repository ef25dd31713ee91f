//! The Berkeley Function Calling Leaderboard's questions, with their possible answers.

use std::collections::HashMap;

use serde_json::{Map, Value};

use super::{BfclQuestion, BfclTruth, bad, call, example, list, text};
use crate::error::Problem;
use crate::text::example::{Example, parse_answers};
use crate::text::tool::Tool;

/// `{"id", "question": [[{"role", "content"}]], "function": [..]}`. Each argument has a list of
/// acceptable values, of which the first is used; `""` in the list means that the argument may be
/// omitted.
pub(super) fn row(
    row: &Map<String, Value>,
    possible: Option<&HashMap<String, Value>>,
) -> Result<Map<String, Value>, Problem> {
    let answers = match truth(row, possible)? {
        BfclTruth::Calls(truth) => calls(&truth)?,
        BfclTruth::NoCall => Vec::new(),
        BfclTruth::AnyCall => return Err(bad("id", "any call is accepted; there is no answer to learn from")),
    };
    asked(row, answers)
}

/// The question of `row`; its answers need not be valid for its tools.
pub(super) fn question(
    row: &Map<String, Value>,
    possible: Option<&HashMap<String, Value>>,
) -> Result<BfclQuestion, Problem> {
    let truth = truth(row, possible)?;
    let answers = match &truth {
        BfclTruth::Calls(truth) => calls(truth)?,
        BfclTruth::NoCall | BfclTruth::AnyCall => Vec::new(),
    };
    let object = asked(row, answers)?;
    let tools = Tool::list_from_json(&object["tools"])?;
    let example =
        Example { query: text(&object, "query")?.to_owned(), tools, answers: parse_answers(object.get("answers"))? };
    Ok(BfclQuestion { id: text(row, "id")?.to_owned(), example, truth })
}

/// The accepted answers, according to the question's id and the file of possible answers.
fn truth(row: &Map<String, Value>, possible: Option<&HashMap<String, Value>>) -> Result<BfclTruth, Problem> {
    let id = text(row, "id")?;
    match possible {
        _ if id.contains("irrelevance") => Ok(BfclTruth::NoCall),
        _ if id.contains("relevance") => Ok(BfclTruth::AnyCall),
        Some(possible) => {
            let truth = possible.get(id).and_then(Value::as_array);
            Ok(BfclTruth::Calls(
                truth.ok_or_else(|| bad("id", format!("{id:?} is not among the possible answers")))?.clone(),
            ))
        }
        None => Err(bad("id", "needs the file of possible answers")),
    }
}

/// The question of `row` with `answers`, as an example's object.
fn asked(row: &Map<String, Value>, answers: Vec<Value>) -> Result<Map<String, Value>, Problem> {
    let turns = list(row, "question")?;
    if turns.len() > 1 && turns[0].is_array() {
        return Err(bad("question", "several turns; a single-shot model answers one"));
    }
    let messages = turns.first().and_then(Value::as_array).unwrap_or(&turns);
    let user = messages.iter().find(|m| m["role"] == "user").and_then(|m| m["content"].as_str());
    let query = user.ok_or_else(|| bad("question", "no user message"))?;
    let tools = match row.get("function") {
        Some(Value::Object(one)) => vec![Value::from(one.clone())],
        _ => list(row, "function")?,
    };
    Ok(example(query, tools, answers))
}

fn calls(truth: &[Value]) -> Result<Vec<Value>, Problem> {
    let malformed = || bad("ground_truth", "expected [{name: {argument: [values]}}]");
    truth
        .iter()
        .map(|entry| {
            let (name, arguments) = entry.as_object().and_then(|e| e.iter().next()).ok_or_else(malformed)?;
            let mut chosen = Map::new();
            for (argument, acceptable) in arguments.as_object().ok_or_else(malformed)? {
                let acceptable = acceptable.as_array().ok_or_else(malformed)?;
                if let Some(value) = acceptable.first().filter(|value| *value != "") {
                    chosen.insert(argument.clone(), first_of_each(value));
                }
            }
            Ok(call(name, chosen))
        })
        .collect()
}

/// Inside objects, at any depth, each member has a list of acceptable values, too.
fn first_of_each(value: &Value) -> Value {
    let members = match value {
        Value::Object(members) => members,
        Value::Array(items) => return items.iter().map(first_of_each).collect(),
        other => return other.clone(),
    };
    let members = members.iter().filter_map(|(key, acceptable)| {
        let value = match acceptable {
            Value::Array(values) => values.first().filter(|value| *value != "")?,
            other => other,
        };
        Some((key.clone(), first_of_each(value)))
    });
    members.collect::<Map<_, _>>().into()
}
