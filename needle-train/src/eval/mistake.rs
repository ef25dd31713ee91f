//! What is wrong with an answer, in words and by kind of mistake.

use std::fmt;

use needle_data::Call;
use serde::Serialize;
use serde_json::Value;

use super::score::{same_calls, same_value};

/// The first mistake in an answer, in the order in which a reader would notice it.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Mistake {
    /// The text is not a list of calls.
    NotCalls,
    /// A tool was called where none fits.
    CalledSomething {
        /// Its name.
        name: String,
    },
    /// No tool was called where one fits.
    CalledNothing,
    /// There are more or fewer calls than there should be.
    NumberOfCalls {
        /// What the model predicted.
        predicted: usize,
        /// What was expected.
        expected: usize,
    },
    /// Another tool was called.
    WrongTool {
        /// What the model predicted.
        predicted: String,
        /// What was expected.
        expected: String,
    },
    /// An argument is not among the expected ones.
    ExtraArgument {
        /// Its name.
        argument: String,
    },
    /// An argument is missing.
    MissingArgument {
        /// Its name.
        argument: String,
    },
    /// An argument has another value.
    WrongValue {
        /// Its name.
        argument: String,
        /// What the model predicted.
        predicted: Value,
        /// What was expected.
        expected: Value,
    },
}

impl Mistake {
    /// Its kind, as in the JSON form.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::NotCalls => "not_calls",
            Self::CalledSomething { .. } => "called_something",
            Self::CalledNothing => "called_nothing",
            Self::NumberOfCalls { .. } => "number_of_calls",
            Self::WrongTool { .. } => "wrong_tool",
            Self::ExtraArgument { .. } => "extra_argument",
            Self::MissingArgument { .. } => "missing_argument",
            Self::WrongValue { .. } => "wrong_value",
        }
    }
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotCalls => f.write_str("not a list of calls"),
            Self::CalledSomething { name } => write!(f, "called {name} where no tool fits"),
            Self::CalledNothing => f.write_str("called nothing"),
            Self::NumberOfCalls { predicted, expected } => write!(f, "{predicted} calls instead of {expected}"),
            Self::WrongTool { predicted, expected } => write!(f, "called {predicted} instead of {expected}"),
            Self::ExtraArgument { argument } => write!(f, "argument {argument} should not be there"),
            Self::MissingArgument { argument } => write!(f, "argument {argument} is missing"),
            Self::WrongValue { argument, predicted, expected } => {
                write!(f, "argument {argument} is {predicted} instead of {expected}")
            }
        }
    }
}

/// The first mistake in `predicted`; `None` if it holds the expected calls. `predicted` is `None`
/// if the answer was not a list of calls.
pub fn mistake(expected: &[Call], predicted: Option<&[Call]>) -> Option<Mistake> {
    let Some(predicted) = predicted else { return Some(Mistake::NotCalls) };
    if same_calls(expected, predicted) {
        return None;
    }
    match (expected, predicted) {
        ([], [first, ..]) => return Some(Mistake::CalledSomething { name: first.name.clone() }),
        ([_, ..], []) => return Some(Mistake::CalledNothing),
        (expected, predicted) if expected.len() != predicted.len() => {
            return Some(Mistake::NumberOfCalls { predicted: predicted.len(), expected: expected.len() });
        }
        _ => {}
    }
    let of_name = |call: &&Call| predicted.iter().filter(|p| p.name == call.name).count();
    let expected_of_name = |call: &Call| expected.iter().filter(|e| e.name == call.name).count();
    if let Some(call) = expected.iter().find(|call| of_name(call) < expected_of_name(call)) {
        let other = predicted.iter().find(|p| !expected.iter().any(|e| e.name == p.name)).or(predicted.first())?;
        return Some(Mistake::WrongTool { predicted: other.name.clone(), expected: call.name.clone() });
    }
    let is_right = |e: &Call, p: &Call| same_calls(std::slice::from_ref(e), std::slice::from_ref(p));
    let wrong = expected.iter().find(|e| !predicted.iter().any(|p| is_right(e, p))).or(expected.first())?;
    let given = predicted.iter().find(|p| p.name == wrong.name && !expected.iter().any(|e| is_right(e, p)));
    let given = given.or_else(|| predicted.iter().find(|p| p.name == wrong.name))?;
    for (argument, expected) in &wrong.arguments {
        match given.arguments.get(argument) {
            None => return Some(Mistake::MissingArgument { argument: argument.clone() }),
            Some(predicted) if !same_value(predicted, expected) => {
                return Some(Mistake::WrongValue {
                    argument: argument.clone(),
                    predicted: predicted.clone(),
                    expected: expected.clone(),
                });
            }
            Some(_) => {}
        }
    }
    let extra = given.arguments.keys().find(|argument| !wrong.arguments.contains_key(*argument));
    // Without an extra argument, every call is right, but not as often as expected.
    Some(extra.map_or(Mistake::NumberOfCalls { predicted: predicted.len(), expected: expected.len() }, |argument| {
        Mistake::ExtraArgument { argument: argument.clone() }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use needle_data::text::example::parse_answers;

    fn of(expected: &str, predicted: &str) -> Option<String> {
        let calls = |text: &str| parse_answers(Some(&Value::from(text))).ok();
        mistake(&calls(expected).unwrap(), calls(predicted).as_deref()).map(|m| m.to_string())
    }

    #[test]
    fn each_mistake_is_told_in_words() {
        let a = r#"[{"name":"a","arguments":{"x":1,"y":"z"}}]"#;
        for (expected, predicted, words) in [
            (a, a, None),
            (a, "[", Some("not a list of calls")),
            ("[]", a, Some("called a where no tool fits")),
            (a, "[]", Some("called nothing")),
            (a, r#"[{"name":"b"}]"#, Some("called b instead of a")),
            (a, r#"[{"name":"a","arguments":{"x":1}}]"#, Some("argument y is missing")),
            (a, r#"[{"name":"a","arguments":{"x":1,"y":"q"}}]"#, Some("argument y is \"q\" instead of \"z\"")),
            (a, r#"[{"name":"a","arguments":{"x":1.0,"y":"z","w":2}}]"#, Some("argument w should not be there")),
            (a, r#"[{"name":"a"},{"name":"a"}]"#, Some("2 calls instead of 1")),
        ] {
            assert_eq!(of(expected, predicted).as_deref(), words, "{predicted}");
        }
    }
}
