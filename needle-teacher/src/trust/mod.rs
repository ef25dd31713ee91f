//! Checks which rows can be trusted: stages that every row passes in turn, and a reason for each
//! rejection.
//!
//! parse -> validation (the same as in `needle data check`) -> as planned -> values grounded in the
//! query -> no leaked tool name -> no near-duplicate. An optional judge follows (`run`). Rows are
//! checked in the order of the plan, whatever the order of the answers, so that a resumed run keeps
//! the same rows.

mod grounding;
mod leak;
mod minhash;
mod numbers;
pub(crate) mod words;

use std::fmt;

use needle_data::order::split::query_key;
use needle_data::{Call, Example};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::error::TeacherError;
use crate::kind::{Kind, Shape};
use crate::task::Task;

pub use grounding::Stated;
pub use minhash::NearDuplicates;

/// Minimum number of characters of a long value.
const LONG_VALUE_CHARS: usize = 20;
/// Maximum number of characters of a plausible query.
const MAX_QUERY_CHARS: usize = 2000;

/// Settings of the checks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrustConfig {
    /// Whether values must be stated by the query.
    pub grounded: bool,
    /// Jaccard similarity of 4-character shingles from which two queries count as the same; 1
    /// rejects equal ones only.
    pub near_duplicate: f64,
}

impl Default for TrustConfig {
    fn default() -> Self {
        Self { grounded: true, near_duplicate: 0.8 }
    }
}

impl TrustConfig {
    /// # Errors
    /// If a number is out of range.
    pub fn validate(&self) -> Result<(), TeacherError> {
        let is_right = self.near_duplicate > 0.0 && self.near_duplicate <= 1.0;
        let error = || TeacherError::config("trust.near_duplicate", "expected a number above 0 and up to 1");
        is_right.then_some(()).ok_or_else(error)
    }
}

/// Where a row can fail, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// The request has an answer.
    Request,
    /// The answer is JSON with rows.
    Parse,
    /// The row is a valid example.
    Validation,
    /// Its calls are those that the plan asked for.
    Plan,
    /// The query states the values.
    Grounding,
    /// The query does not say the tool's name.
    Leak,
    /// The query is not a near-duplicate of one that the set has.
    Duplicate,
    /// The judge agrees.
    Judge,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 8] = [
        Self::Request,
        Self::Parse,
        Self::Validation,
        Self::Plan,
        Self::Grounding,
        Self::Leak,
        Self::Duplicate,
        Self::Judge,
    ];
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Request => "request",
            Self::Parse => "parse",
            Self::Validation => "validation",
            Self::Plan => "plan",
            Self::Grounding => "grounding",
            Self::Leak => "leak",
            Self::Duplicate => "duplicate",
            Self::Judge => "judge",
        })
    }
}

/// Why a row was rejected.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rejection {
    /// The stage that found it.
    pub stage: Stage,
    /// Stable code to count by.
    pub code: String,
    /// The reason in one sentence.
    pub reason: String,
}

impl Rejection {
    /// A rejection at `stage`.
    pub fn new(stage: Stage, code: impl Into<String>, reason: impl Into<String>) -> Self {
        Self { stage, code: code.into(), reason: reason.into() }
    }
}

/// The stages, and the queries kept so far.
#[derive(Debug, Clone)]
pub struct Trust {
    config: TrustConfig,
    kept: NearDuplicates,
}

impl Trust {
    /// The stages, without any kept queries.
    pub fn new(config: TrustConfig) -> Self {
        Self { config, kept: NearDuplicates::default() }
    }

    /// Adds a `query` that the set already has, so that near-duplicates of it are rejected.
    pub fn know(&mut self, query: &str) {
        self.kept.insert(query);
    }

    /// Passes `row`, an answer to `task`, through all stages and keeps its query. Returns the
    /// example, and the number to forget the query by.
    ///
    /// # Errors
    /// The first stage that it fails.
    pub fn check(&mut self, task: &Task, row: &Value) -> Result<(Example, usize), Rejection> {
        let example = example(task, row)?;
        as_planned(task, &example)?;
        if self.config.grounded {
            grounded(task, &example)?;
        }
        no_leak(task, &example)?;
        let kept = self.unlike_others(&example.query)?;
        Ok((example, kept))
    }

    /// Forgets a query that was rejected after all.
    pub fn forget(&mut self, number: usize) {
        self.kept.forget(number);
    }

    fn unlike_others(&mut self, query: &str) -> Result<usize, Rejection> {
        let found = self.kept.find(query, self.config.near_duplicate);
        let found = found.filter(|(other, _)| self.config.near_duplicate < 1.0 || query_key(other) == query_key(query));
        if let Some((other, similarity)) = found {
            let reason = format!("{:.0} % similar to {other:?}", 100.0 * similarity);
            return Err(Rejection::new(Stage::Duplicate, "near_duplicate", reason));
        }
        Ok(self.kept.insert(query))
    }
}

/// Reads and validates a row.
fn example(task: &Task, row: &Value) -> Result<Example, Rejection> {
    let problem = |problem: needle_data::Problem| {
        Rejection::new(Stage::Validation, problem.code.to_string(), problem.to_string())
    };
    let mut object = Map::new();
    let query = row.get("query").map(|query| query.as_str().map_or_else(|| query.clone(), |text| text.trim().into()));
    object.insert("query".into(), query.unwrap_or_default());
    object.insert("tools".into(), task.tools.iter().map(needle_data::Tool::to_json).collect());
    let answers = match task.fixed_answers() {
        Some(answers) => answers.iter().map(|call| serde_json::json!(call)).collect(),
        None => row.get("answers").map(|answers| without_nulls(answers, task)).unwrap_or_default(),
    };
    object.insert("answers".into(), answers);
    let example = Example::from_object(&object).map_err(problem)?;
    let length = example.query.chars().count();
    if length > MAX_QUERY_CHARS {
        let reason = format!("query: {length} characters, but a query has at most {MAX_QUERY_CHARS}");
        return Err(Rejection::new(Stage::Validation, "long_query", reason));
    }
    Ok(example)
}

/// Removes nulls of optional arguments: strict schemas make these nullable, and null means that
/// there is none.
fn without_nulls(answers: &Value, task: &Task) -> Value {
    let mut answers = answers.clone();
    for call in answers.as_array_mut().into_iter().flatten() {
        let tool = task.tools.iter().find(|tool| call["name"] == *tool.name);
        let Some(Value::Object(arguments)) = call.get_mut("arguments") else { continue };
        arguments.retain(|name, value| {
            let parameter = tool.and_then(|tool| tool.parameter(name));
            !value.is_null() || parameter.is_none_or(|p| p.is_required())
        });
    }
    answers
}

fn as_planned(task: &Task, example: &Example) -> Result<(), Rejection> {
    let (kind, focus) = (task.cell.kind, task.cell.tool.as_str());
    let calls = example.answers.len();
    let of_focus = example.answers.iter().filter(|call| call.name == focus).count();
    let longest = example.answers.iter().flat_map(|call| call.arguments.values()).map(longest_text).max().unwrap_or(0);
    let wanted = match kind.shape() {
        Shape::One if calls != 1 || of_focus != 1 => format!("one call, of {focus:?}"),
        Shape::One if kind == Kind::LongValues && longest < LONG_VALUE_CHARS => {
            format!("a text value of at least {LONG_VALUE_CHARS} characters")
        }
        Shape::Several if calls < 2 || of_focus == 0 || of_focus == calls => {
            format!("several calls, of {focus:?} and another tool")
        }
        Shape::Twice if of_focus < 2 || of_focus != calls => format!("two calls, both of {focus:?}"),
        Shape::None if calls > 0 => "no call".to_owned(),
        _ => return repeated(&example.answers),
    };
    let names: Vec<&str> = example.answers.iter().map(|call| call.name.as_str()).collect();
    let reason = format!("{kind}: expected {wanted}, got [{}]", names.join(", "));
    Err(Rejection::new(Stage::Plan, "off_plan", reason))
}

fn repeated(calls: &[Call]) -> Result<(), Rejection> {
    let again = calls.iter().enumerate().find(|(i, call)| calls[..*i].contains(call));
    again.map_or(Ok(()), |(_, call)| {
        let reason = format!("the same call of {:?} occurs twice", call.name);
        Err(Rejection::new(Stage::Plan, "repeated_call", reason))
    })
}

fn longest_text(value: &Value) -> usize {
    match value {
        Value::String(text) => text.chars().count(),
        Value::Array(items) => items.iter().map(longest_text).max().unwrap_or(0),
        Value::Object(members) => members.values().map(longest_text).max().unwrap_or(0),
        _ => 0,
    }
}

fn grounded(task: &Task, example: &Example) -> Result<(), Rejection> {
    let stated = Stated::new(&example.query);
    let ungrounded = |place: String, value: String| {
        Rejection::new(Stage::Grounding, "ungrounded", format!("{place}: the query does not state {value}"))
    };
    let Some(source) = task.source.as_ref().filter(|_| task.cell.kind.shape() == Shape::Source) else {
        return match stated.first_unstated(&task.tools, &example.answers) {
            Some((place, value)) => Err(ungrounded(place, value)),
            None => Ok(()),
        };
    };
    // An existing query may state a value in a way of its own; a paraphrase must state every value
    // that its source verifiably states.
    let before = Stated::new(&source.query);
    for (i, call) in source.answers.iter().enumerate() {
        let tool = task.tools.iter().find(|tool| tool.name == call.name);
        for (name, value) in &call.arguments {
            let parameter = tool.and_then(|tool| tool.parameter(name));
            if before.states(value, parameter) && !stated.states(value, parameter) {
                return Err(ungrounded(format!("answers[{i}].arguments.{name}"), value.to_string()));
            }
        }
    }
    Ok(())
}

fn no_leak(task: &Task, example: &Example) -> Result<(), Rejection> {
    let leaked = |what: String| Rejection::new(Stage::Leak, "leaked_name", format!("the query says {what}"));
    if let Some(name) = leak::identifier(&example.query, &task.tools) {
        return Err(leaked(format!("{name:?}")));
    }
    if task.cell.kind == Kind::Indirect
        && let Some(name) = leak::spoken_name(&example.query, &task.cell.tool)
    {
        return Err(leaked(format!("{name:?}, the words of the tool's name, but must be indirect")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::task::{Cell, Length};
    use needle_data::Tool;
    use serde_json::json;

    fn task(kind: Kind) -> Task {
        let tools = json!([
            {"name": "set_light", "parameters": {"room": {"type": "string", "required": true}, "brightness": {"type": "integer"}}},
            {"name": "play", "parameters": {"song": {"type": "string", "required": true}}},
        ]);
        let cell = Cell {
            tool: "set_light".into(),
            kind,
            persona: "anyone".into(),
            length: Length::Short,
            language: "English".into(),
        };
        Task { number: 0, rows: 1, cell, tools: Tool::list_from_json(&tools).unwrap(), source: None }
    }

    fn check(kind: Kind, query: &str, answers: Value) -> Result<Example, String> {
        let row = json!({"query": query, "answers": answers});
        let checked = Trust::new(TrustConfig::default()).check(&task(kind), &row);
        checked.map(|(example, _)| example).map_err(|r| format!("{} {}", r.stage, r.code))
    }

    fn light(room: &str) -> Value {
        json!({"name": "set_light", "arguments": {"room": room, "brightness": null}})
    }

    #[test]
    fn each_stage_finds_what_is_wrong() {
        let play = json!({"name": "play", "arguments": {"song": "hello"}});
        for (kind, query, answers, wanted) in [
            (Kind::One, "light in the den", json!([light("den")]), Ok(1)),
            (Kind::One, "  ", json!([]), Err("validation empty_query")),
            (Kind::One, "light in the den", json!("nonsense"), Err("validation not_json")),
            (Kind::One, "light in the den", json!([{"name": "light"}]), Err("validation unknown_tool")),
            (Kind::One, "light", json!([{"name": "set_light", "arguments": {}}]), Err("validation missing_argument")),
            (
                Kind::One,
                "light",
                json!([{"name": "set_light", "arguments": {"room": null}}]),
                Err("validation wrong_type"),
            ),
            (Kind::One, "light in the den", json!([]), Err("plan off_plan")),
            (Kind::One, "play hello", json!([play]), Err("plan off_plan")),
            (Kind::Several, "light in the den and play hello", json!([light("den"), play]), Ok(2)),
            (Kind::Several, "light in the den and hall", json!([light("den"), light("hall")]), Err("plan off_plan")),
            (Kind::Twice, "light in the den and hall", json!([light("den"), light("hall")]), Ok(2)),
            (Kind::Twice, "light in the den, the den", json!([light("den"), light("den")]), Err("plan repeated_call")),
            (Kind::LongValues, "light in the den", json!([light("den")]), Err("plan off_plan")),
            (Kind::NoneFits, "what is love", json!([]), Ok(0)),
            (Kind::NearMiss, "light in the den", json!([light("den")]), Err("plan off_plan")),
            (Kind::One, "some light please", json!([light("den")]), Err("grounding ungrounded")),
            (Kind::One, "set_light in the den", json!([light("den")]), Err("leak leaked_name")),
            (Kind::Indirect, "set a light in the den", json!([light("den")]), Err("leak leaked_name")),
            (Kind::Indirect, "the den is so dark", json!([light("den")]), Ok(1)),
        ] {
            let got = check(kind, query, answers);
            assert_eq!(got.as_ref().map(|e| e.answers.len()).map_err(String::as_str), wanted, "{kind}: {query}");
        }
        let example = check(Kind::One, " light in the den ", json!([light("den")])).unwrap();
        assert_eq!((example.query.as_str(), example.answers[0].arguments.len()), ("light in the den", 1));
        let long = "den ".repeat(1000);
        assert_eq!(check(Kind::One, &long, json!([light("den")])).unwrap_err(), "validation long_query");
    }

    #[test]
    fn near_duplicates_are_rejected_until_the_first_one_is_forgotten() {
        let mut trust = Trust::new(TrustConfig::default());
        trust.know("could you light up the whole garage for me");
        let row = |query: &str| json!({"query": query, "answers": [light("garage")]});
        let task = task(Kind::One);
        let first = trust.check(&task, &row("a bit of light in the garage, thanks")).unwrap().1;
        for near in ["A bit of light in the garage thanks", "could you light up the whole garage for me?"] {
            assert_eq!(trust.check(&task, &row(near)).unwrap_err().code, "near_duplicate", "{near}");
        }
        trust.forget(first);
        trust.check(&task, &row("A bit of light in the garage thanks")).unwrap();
    }

    #[test]
    fn a_paraphrase_states_what_its_source_stated_and_no_more_is_asked() {
        let arguments = json!({"room": "den", "brightness": 35}).as_object().unwrap().clone();
        let answers = vec![Call { name: "set_light".into(), arguments }];
        let plain = task(Kind::Paraphrase);
        let source =
            Example { query: "cosy light in the den".into(), tools: plain.tools.clone(), answers: answers.clone() };
        let task = Task { source: Some(source), ..plain };
        let mut trust = Trust::new(TrustConfig::default());
        let kept = trust.check(&task, &json!({"query": "make the den cosy"})).unwrap().0;
        assert_eq!(kept.answers, answers, "35 was the annotator's conclusion");
        assert_eq!(trust.check(&task, &json!({"query": "make it cosy in here"})).unwrap_err().code, "ungrounded");
    }
}
