//! The generator's tools, read from `catalog.toml`.

use serde::Deserialize;
use serde_json::{Map, Value};

use super::slots::{Slot, slot};
use crate::text::tool::{Parameter, Tool};

/// One tool of the catalogue.
#[derive(Clone)]
pub struct CatalogTool {
    /// Its category, such as `timers`.
    pub category: String,
    /// Its name.
    pub name: String,
    /// What it does.
    pub description: String,
    pub(super) arguments: Vec<Argument>,
    pub(super) phrases: Vec<Vec<Part>>,
}

#[derive(Clone)]
pub(super) struct Argument {
    pub name: String,
    pub required: bool,
    pub description: String,
    pub slot: Slot,
}

/// A part of a phrase; if `optional`, it is left out at random.
#[derive(Clone)]
pub(super) struct Part {
    pub optional: bool,
    pub pieces: Vec<Piece>,
}

#[derive(Clone)]
pub(super) enum Piece {
    Text(String),
    /// Index into the tool's arguments.
    Argument(usize),
}

/// Alternative verbs for the first word of a tool's name.
const SYNONYMS: [(&str, [&str; 2]); 17] = [
    ("add", ["insert", "put"]),
    ("book", ["reserve", "order"]),
    ("cancel", ["remove", "drop"]),
    ("create", ["make", "new"]),
    ("delete", ["remove", "clear"]),
    ("find", ["locate", "search"]),
    ("get", ["fetch", "show"]),
    ("log", ["record", "track"]),
    ("open", ["launch", "start"]),
    ("order", ["buy", "purchase"]),
    ("play", ["start", "stream"]),
    ("read", ["show", "list"]),
    ("search", ["find", "query"]),
    ("send", ["write", "post"]),
    ("set", ["change", "update"]),
    ("start", ["begin", "run"]),
    ("toggle", ["switch", "turn"]),
];

impl CatalogTool {
    /// Possible names of the tool; the catalogue's name is the first.
    pub fn names(&self) -> Vec<String> {
        let Some((verb, rest)) = self.name.split_once('_') else { return vec![self.name.clone()] };
        let synonyms = SYNONYMS.iter().find(|(word, _)| *word == verb).map(|(_, others)| others.as_slice());
        let mut names = vec![self.name.clone(), format!("{rest}_{verb}")];
        names.extend(synonyms.unwrap_or_default().iter().map(|other| format!("{other}_{rest}")));
        names
    }

    /// The definition under the catalogue's name; `brief` leaves out the descriptions of
    /// parameters.
    pub fn tool(&self, brief: bool) -> Tool {
        self.tool_named(&self.name, brief)
    }

    /// The definition under another name.
    pub fn tool_named(&self, name: &str, brief: bool) -> Tool {
        let parameters = self
            .arguments
            .iter()
            .map(|argument| {
                let mut spec = Map::new();
                spec.insert("type".into(), argument.slot.json_type().into());
                if !brief {
                    spec.insert("description".into(), argument.description.as_str().into());
                }
                if let Some(allowed) = argument.slot.allowed() {
                    spec.insert("enum".into(), allowed.into_iter().map(Value::from).collect());
                }
                if argument.required || !brief {
                    spec.insert("required".into(), argument.required.into());
                }
                Parameter::new(argument.name.clone(), spec)
            })
            .collect();
        Tool::new(name, self.description.clone(), parameters)
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    does: String,
    takes: Vec<String>,
    said: Vec<String>,
}

/// All tools, by category and name.
#[expect(clippy::expect_used, reason = "the embedded catalogue is checked by this crate's tests")]
pub fn catalog() -> Vec<CatalogTool> {
    type Categories = std::collections::BTreeMap<String, std::collections::BTreeMap<String, Entry>>;
    let categories: Categories = toml::from_str(include_str!("catalog.toml")).expect("catalog.toml is valid");
    categories
        .into_iter()
        .flat_map(|(category, tools)| {
            tools.into_iter().map(move |(name, entry)| {
                let tool = read(&category, &name, entry);
                tool.unwrap_or_else(|reason| panic!("catalog.toml, {category}.{name}: {reason}"))
            })
        })
        .collect()
}

fn read(category: &str, name: &str, entry: Entry) -> Result<CatalogTool, String> {
    let arguments = entry.takes.iter().map(|text| argument(text)).collect::<Result<Vec<_>, _>>()?;
    let phrases = entry.said.iter().map(|text| phrase(text, &arguments)).collect::<Result<Vec<_>, _>>()?;
    Ok(CatalogTool { category: category.into(), name: name.into(), description: entry.does, arguments, phrases })
}

/// `name!:slot=description`.
fn argument(text: &str) -> Result<Argument, String> {
    let (head, description) = text.split_once('=').ok_or_else(|| format!("{text:?} has no description"))?;
    let (name, slot_name) = head.split_once(':').ok_or_else(|| format!("{text:?} has no slot"))?;
    let slot = slot(slot_name).ok_or_else(|| format!("there is no slot {slot_name:?}"))?;
    let required = name.ends_with('!');
    Ok(Argument { name: name.trim_end_matches('!').into(), required, description: description.into(), slot })
}

/// `text {argument}[ optional {argument}]`.
fn phrase(text: &str, arguments: &[Argument]) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    for (i, stretch) in text.split(['[', ']']).enumerate().filter(|(_, s)| !s.is_empty()) {
        let mut pieces = Vec::new();
        for (j, piece) in stretch.split(['{', '}']).enumerate().filter(|(_, p)| !p.is_empty()) {
            pieces.push(if j % 2 == 0 {
                Piece::Text(piece.into())
            } else {
                let index = arguments.iter().position(|a| a.name == piece);
                Piece::Argument(index.ok_or_else(|| format!("{text:?} fills {piece:?}, which it does not take"))?)
            });
        }
        parts.push(Part { optional: i % 2 == 1, pieces });
    }
    let always: Vec<usize> = parts
        .iter()
        .filter(|p| !p.optional)
        .flat_map(|p| &p.pieces)
        .filter_map(|p| if let Piece::Argument(i) = p { Some(*i) } else { None })
        .collect();
    match arguments.iter().enumerate().find(|(i, a)| a.required && !always.contains(i)) {
        Some((_, argument)) => Err(format!("{text:?} does not always state {:?}", argument.name)),
        None => Ok(parts),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phrases_state_every_required_argument() {
        let arguments = [argument("a!:city=x").unwrap(), argument("b:city=x").unwrap()];
        assert!(phrase("to {a}[ from {b}]", &arguments).is_ok());
        assert!(phrase("to[ {a}]", &arguments).is_err());
        assert!(phrase("to {a} and {c}", &arguments).is_err());
        assert!(argument("a:nonsense=x").is_err());
    }

    #[test]
    fn a_brief_tool_is_shorter_and_has_the_same_arguments() {
        for tool in catalog() {
            let (whole, brief) = (tool.tool(false), tool.tool(true));
            assert_eq!(whole.parameters.len(), brief.parameters.len());
            assert!(brief.to_json().to_string().len() <= whole.to_json().to_string().len());
        }
    }
}
