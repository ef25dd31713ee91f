//! Converts published datasets of tool calls to our format.
//!
//! | format | recognized by | calls |
//! | --- | --- | --- |
//! | xLAM | `query`, `tools`, `answers` | `answers` |
//! | OpenAI chat | `messages` and `tools` | the first assistant message's `tool_calls` |
//! | Glaive v2 | `system` and `chat` | `<functioncall> {..}` in the first reply |
//! | ToolACE | `system` and `conversations` | `[Name(key=value)]` as the first reply |
//! | BFCL | `question` and `function` | the file of possible answers |
//!
//! A single-shot model answers one request, so only the first user turn of a conversation and the
//! reply to it are used. A reply in words means that no tool fits. A row that cannot be expressed
//! as one validated example is a [`Problem`] and is counted, never altered to fit.

mod bfcl;
mod chat;
mod python;
mod schema;

use std::collections::HashMap;
use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::{DataError, Place, Problem, ProblemCode};
use crate::file;
use crate::source::{Lines, Position};
use crate::text::example::Example;
use crate::text::json;
use crate::text::schema::kind;

type Object = Map<String, Value>;

/// Format of a dataset file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Salesforce/xlam-function-calling-60k.
    Xlam,
    /// Messages with `tool_calls`, as in OpenAI's finetuning files.
    Openai,
    /// glaiveai/glaive-function-calling-v2.
    Glaive,
    /// Team-ACE/ToolACE.
    Toolace,
    /// Berkeley Function Calling Leaderboard.
    Bfcl,
}

impl Format {
    /// The format of a row, by its keys.
    fn of(row: &Map<String, Value>) -> Result<Self, Problem> {
        let has = |keys: [&str; 2]| keys.iter().all(|key| row.contains_key(*key));
        Ok(match () {
            () if has(["question", "function"]) => Self::Bfcl,
            () if row.contains_key("messages") => Self::Openai,
            () if has(["system", "chat"]) => Self::Glaive,
            () if has(["system", "conversations"]) => Self::Toolace,
            () if has(["query", "tools"]) => Self::Xlam,
            () => {
                let keys: Vec<&str> = row.keys().map(String::as_str).collect();
                let reason = format!("its keys ({}) match no known format; say which it is", keys.join(", "));
                return Err(Problem::new("line", ProblemCode::BadField, reason));
            }
        })
    }
}

/// Converts every row of `path` and passes the result to `each`, good or bad. `answers` is BFCL's
/// file of possible answers.
///
/// # Errors
/// If a file cannot be read, or `each` fails.
pub fn convert(
    path: &Path,
    format: Option<Format>,
    answers: Option<&Path>,
    each: &mut dyn FnMut(Place, Result<Example, Problem>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let possible = answers.map(possible_answers).transpose()?;
    for_each_object(path, &mut |place, row| {
        let example = row.and_then(|row| convert_row(&row, format, possible.as_ref()));
        each(place, example)
    })
}

/// A question of BFCL as an example, with all answers that its authors accept.
pub struct BfclQuestion {
    /// The question's id.
    pub id: String,
    /// The question, answered with the first acceptable value of each argument. The answers are not
    /// checked against the tools: BFCL accepts some that lack a required argument, or that name a
    /// variable where a number is declared.
    pub example: Example,
    /// The accepted answers.
    pub truth: BfclTruth,
}

/// The answers that BFCL accepts.
#[derive(Debug, Clone, PartialEq)]
pub enum BfclTruth {
    /// These calls: `[{name: {argument: [acceptable values]}}]`, with `""` among the values if the
    /// argument may be omitted.
    Calls(Vec<Value>),
    /// No call ("irrelevance").
    NoCall,
    /// Any call ("relevance"): there is no reference answer, and `answers` of the example is empty.
    AnyCall,
}

/// Reads BFCL's questions in `path`, with the possible answers in `answers`, and passes each one to
/// `each`.
///
/// # Errors
/// If a file cannot be read, or `each` fails.
pub fn bfcl_questions(
    path: &Path,
    answers: Option<&Path>,
    each: &mut dyn FnMut(Place, Result<BfclQuestion, Problem>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let possible = answers.map(possible_answers).transpose()?;
    for_each_object(path, &mut |place, row| each(place, row.and_then(|row| bfcl::question(&row, possible.as_ref()))))
}

/// Whether the first row of `path` is a question of BFCL.
///
/// # Errors
/// If the file cannot be read.
pub fn is_bfcl(path: &Path) -> Result<bool, DataError> {
    let mut lines = Lines::open(path, Position::default())?;
    let first = lines.next_row()?.and_then(|row| row.text().ok());
    let first = first.and_then(|text| json::parse(&text).ok());
    Ok(first.as_ref().and_then(Value::as_object).is_some_and(|row| matches!(Format::of(row), Ok(Format::Bfcl))))
}

fn convert_row(
    row: &Map<String, Value>,
    format: Option<Format>,
    possible: Option<&HashMap<String, Value>>,
) -> Result<Example, Problem> {
    let object = match format.map_or_else(|| Format::of(row), Ok)? {
        Format::Xlam => chat::xlam(row),
        Format::Openai => chat::openai(row),
        Format::Glaive => chat::glaive(row),
        Format::Toolace => chat::toolace(row),
        Format::Bfcl => bfcl::row(row, possible),
    }?;
    Example::from_object(&object)
}

/// An example's object from its three parts, with normalized definitions.
fn example(query: &str, mut tools: Vec<Value>, answers: Vec<Value>) -> Map<String, Value> {
    tools.iter_mut().for_each(schema::tidy);
    let mut object = Map::new();
    object.insert("query".into(), query.into());
    object.insert("tools".into(), tools.into());
    object.insert("answers".into(), answers.into());
    object
}

fn call(name: &str, arguments: Map<String, Value>) -> Value {
    serde_json::json!({"name": name, "arguments": arguments})
}

fn bad(field: &str, reason: impl Into<String>) -> Problem {
    Problem::new(field, ProblemCode::BadField, reason)
}

/// The list under `field`, which may be given as a string of JSON.
fn list(row: &Map<String, Value>, field: &str) -> Result<Vec<Value>, Problem> {
    let value = match row.get(field) {
        Some(Value::String(text)) => {
            json::parse(text).map_err(|e| Problem::new(field, ProblemCode::NotJson, format!("not JSON: {e}")))?
        }
        Some(value) => value.clone(),
        None => return Err(bad(field, "missing")),
    };
    match value {
        Value::Array(list) => Ok(list),
        Value::Null => Ok(Vec::new()),
        other => Err(bad(field, format!("expected a list, got {}", kind(&other)))),
    }
}

fn text<'a>(row: &'a Map<String, Value>, field: &str) -> Result<&'a str, Problem> {
    row.get(field).and_then(Value::as_str).ok_or_else(|| bad(field, "missing, or not a string"))
}

/// Passes the objects of a file to `each`: one per line, or all in one JSON list.
fn for_each_object(
    path: &Path,
    each: &mut dyn FnMut(Place, Result<Object, Problem>) -> Result<(), DataError>,
) -> Result<(), DataError> {
    let object = |value: Value| match value {
        Value::Object(object) => Ok(object),
        other => Err(bad("line", format!("expected an object, got {}", kind(&other)))),
    };
    let not_json = |e: serde_json::Error| Problem::new("line", ProblemCode::NotJson, format!("not JSON: {e}"));
    if is_one_list(path)? {
        let mut contents = String::new();
        file::open(path)?.read_to_string(&mut contents).map_err(|e| DataError::io(path, e))?;
        let place = |line| Place { file: path.to_owned(), line };
        let rows = match json::parse(contents.trim_start_matches('\u{feff}')) {
            Ok(Value::Array(rows)) => rows,
            Ok(other) => vec![other],
            Err(error) => {
                let line = error.line();
                return Err(DataError::Row { place: place(line), problem: not_json(error) });
            }
        };
        // In a list, the place of a row is the number of its entry.
        return rows.into_iter().zip(1..).try_for_each(|(row, number)| each(place(number), object(row)));
    }
    let mut lines = Lines::open(path, Position::default())?;
    while let Some(row) = lines.next_row()? {
        let parsed = row.text().and_then(|text| json::parse(&text).map_err(not_json)).and_then(object);
        each(row.place, parsed)?;
    }
    Ok(())
}

fn is_one_list(path: &Path) -> Result<bool, DataError> {
    let mut reader = file::open(path)?;
    loop {
        let bytes = reader.fill_buf().map_err(|e| DataError::io(path, e))?;
        let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
        if bytes.is_empty() {
            return Ok(false);
        }
        match bytes.iter().find(|b| !b.is_ascii_whitespace()) {
            Some(first) => return Ok(*first == b'['),
            None => {
                let length = bytes.len();
                reader.consume(length);
            }
        }
    }
}

/// BFCL's possible answers by the id of their question.
fn possible_answers(path: &Path) -> Result<HashMap<String, Value>, DataError> {
    let mut answers = HashMap::new();
    for_each_object(path, &mut |place, row| {
        let entry = row.and_then(|row| {
            let truth = row.get("ground_truth").cloned().ok_or_else(|| bad("ground_truth", "missing"))?;
            Ok((text(&row, "id")?.to_owned(), truth))
        });
        let (id, truth) = entry.map_err(|problem| DataError::Row { place, problem })?;
        answers.insert(id, truth);
        Ok(())
    })?;
    Ok(answers)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn row(row: Value) -> Result<Example, Problem> {
        convert_row(row.as_object().unwrap(), None, None)
    }

    fn calls(example: &Example) -> String {
        serde_json::to_string(&example.answers).unwrap()
    }

    #[test]
    fn xlam_rows_become_examples_with_types_of_json() {
        let example = row(json!({
            "id": 1, "query": "Where can I watch games and 3 giveaways?",
            "tools": json!([{"name": "giveaways", "description": "d", "parameters": {
                "type": {"description": "t", "type": "str, optional", "default": "game"},
                "count": {"description": "c", "type": "int"}}}]).to_string(),
            "answers": json!([{"name": "giveaways", "arguments": {"type": "game", "count": 3}}]).to_string(),
        }))
        .unwrap();
        assert_eq!(calls(&example), r#"[{"name":"giveaways","arguments":{"type":"game","count":3}}]"#);
        let tool = &example.tools[0];
        assert_eq!(tool.parameter("count").unwrap().spec["type"], "integer");
        assert!(tool.parameter("count").unwrap().is_required() && !tool.parameter("type").unwrap().is_required());
    }

    #[test]
    fn openai_messages_give_the_first_request_and_its_calls() {
        let tools = json!([{"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}}}}]);
        let messages = json!([
            {"role": "system", "content": "You help."},
            {"role": "user", "content": [{"type": "text", "text": "do 7"}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "x", "type": "function", "function": {"name": "f", "arguments": "{\"a\": 7}"}}]},
            {"role": "tool", "content": "done"}]);
        let example = row(json!({"messages": messages, "tools": tools})).unwrap();
        assert_eq!(
            (example.query.as_str(), calls(&example).as_str()),
            ("do 7", r#"[{"name":"f","arguments":{"a":7}}]"#)
        );
        let words = json!([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "Hello!"}]);
        assert!(row(json!({"messages": words, "tools": tools})).unwrap().answers.is_empty());
        let unfinished = json!([{"role": "user", "content": "hi"}]);
        assert!(row(json!({"messages": unfinished, "tools": tools})).is_err());
    }

    #[test]
    fn glaive_chats_give_functions_from_the_system_prompt() {
        let system = "SYSTEM: You are a helpful assistant with access to the following functions. Use them if required -\n{\n    \"name\": \"convert\",\n    \"description\": \"d\",\n    \"parameters\": {\"type\": \"object\", \"properties\": {\"amount\": {\"type\": \"number\"}, \"to\": {\"type\": \"string\"}}, \"required\": [\"amount\"]}\n}\n\n{\"name\": \"b\", \"description\": \"e\", \"parameters\": {}}\n";
        let chat = "USER: Convert 500 please.\n\n\nASSISTANT: <functioncall> {\"name\": \"convert\", \"arguments\": '{\"amount\": 500, \"to\": \"l'euro\"}'} <|endoftext|>\n\n\nFUNCTION RESPONSE: {}\n\n\nASSISTANT: Done. <|endoftext|>";
        let example = row(json!({"system": system, "chat": chat})).unwrap();
        assert_eq!(example.query, "Convert 500 please.");
        assert_eq!(example.tools.len(), 2);
        assert_eq!(calls(&example), r#"[{"name":"convert","arguments":{"amount":500,"to":"l'euro"}}]"#);
        let no_call = "USER: Hi\n\n\nASSISTANT: Hello! <|endoftext|>";
        assert!(row(json!({"system": system, "chat": no_call})).unwrap().answers.is_empty());
        let no_tools = "SYSTEM: You are a helpful assistant, with no access to external functions.";
        assert!(row(json!({"system": no_tools, "chat": no_call})).unwrap_err().reason.contains("no functions"));
    }

    #[test]
    fn toolace_calls_are_read_as_python() {
        let system = "You are an expert. Here is a list of functions in JSON format that you can invoke:\n[{\"name\": \"Market Trends API\", \"description\": \"d\", \"parameters\": {\"type\": \"dict\", \"properties\": {\"kind\": {\"type\": \"string\"}, \"top\": {\"type\": \"int\"}, \"deep\": {\"type\": \"dict\"}}, \"required\": [\"kind\"]}, \"required\": null}]. \nShould you decide to return the function call(s), put it in the format of [func1(params_name=params_value)]";
        let talk = json!([{"from": "user", "value": "trends?"}, {"from": "assistant", "value": "[Market Trends API(kind=\"A (b), c\", top=-3), Market Trends API(kind='it\\'s', deep={'x': [True, None, 1.5]})]"}]);
        let example = row(json!({"system": system, "conversations": talk})).unwrap();
        assert_eq!(
            calls(&example),
            r#"[{"name":"Market Trends API","arguments":{"kind":"A (b), c","top":-3}},{"name":"Market Trends API","arguments":{"kind":"it's","deep":{"x":[true,null,1.5]}}}]"#
        );
        let words = json!([{"from": "user", "value": "hi"}, {"from": "assistant", "value": "Which market [of all]?"}]);
        assert!(row(json!({"system": system, "conversations": words})).unwrap().answers.is_empty());
    }

    #[test]
    fn bfcl_questions_meet_their_possible_answers() {
        let question = json!({"id": "simple_0", "question": [[{"role": "user", "content": "area?"}]], "function": [
            {"name": "area", "description": "d", "parameters": {"type": "dict", "properties": {
                "base": {"type": "integer"}, "unit": {"type": "string"}, "scale": {"type": "float"},
                "where": {"type": "array", "items": {"type": "dict", "properties": {"field": {"type": "string"}}}}},
                "required": ["base"]}}]});
        let truth = json!([{"area": {"base": [10], "unit": ["units", ""], "scale": ["", 1.0],
            "where": [[{"field": ["age"]}], ""]}}]);
        let possible = HashMap::from([("simple_0".to_owned(), truth)]);
        let example = convert_row(question.as_object().unwrap(), None, Some(&possible)).unwrap();
        assert_eq!(
            calls(&example),
            r#"[{"name":"area","arguments":{"base":10,"unit":"units","where":[{"field":"age"}]}}]"#
        );
        let problem = convert_row(question.as_object().unwrap(), None, Some(&HashMap::new())).unwrap_err();
        assert!(problem.reason.contains("simple_0"), "{problem}");
        let irrelevance = json!({"id": "irrelevance_0", "question": [[{"role": "user", "content": "hi"}]], "function": question["function"]});
        assert!(convert_row(irrelevance.as_object().unwrap(), None, None).unwrap().answers.is_empty());
    }

    #[test]
    fn files_of_lines_and_of_one_list_convert_alike() {
        let dir = tempfile::tempdir().unwrap();
        let good = json!({"query": "q", "tools": [{"name": "a", "parameters": {}}], "answers": []});
        let unknown = json!({"prompt": "p"});
        for (name, contents) in [
            ("lines.jsonl", format!("{good}\n{unknown}\n")),
            ("list.json", format!("\u{feff} [{good},\n {unknown}]\n")),
        ] {
            let path = dir.path().join(name);
            std::fs::write(&path, contents).unwrap();
            let mut rows = Vec::new();
            convert(&path, None, None, &mut |place, row| {
                rows.push((place.line, row.is_ok()));
                Ok(())
            })
            .unwrap();
            assert_eq!(rows, [(1, true), (2, false)], "{name}");
        }
    }
}
