//! Writes [`Rules`] as a grammar for `llguidance`, in its dialect of Lark.
//!
//! Members of an object in any order become one rule with a bit set, not one rule per order:
//!
//! ```text
//! r7     : "{\"minutes\":" r8 o7::1 | "{\"label\":" r9 o7::2
//! o7::_  : "}" %if is_ones([0:1]) | ",\"minutes\":" r8 o7::set_bit(0) %if bit_clear(0) | ...
//! ```
//!
//! The lexer takes the longest terminal that matches and never backtracks. Where values of several
//! shapes begin alike, terminals must therefore be no longer than JSON's own tokens. Only in a
//! tool's arguments, which have no alternative shape, is a key one terminal with the punctuation
//! around it, which is faster.
//!
//! Patterns of strings and steps of numbers are left to `llguidance`'s own JSON-schema compiler
//! (`%json`). Bounds of numbers are not, because its expressions for them depend on how a bound is
//! written (between 0.5 and 0.75 it allows 0.50 but not 0.5).

use std::collections::{HashMap, HashSet};
use std::fmt::Write;

use serde_json::{Value, json};

use super::closing::key_text;
use super::number::{LARGEST, NumberShape};
use super::shape::{ArrayShape, Member, ObjectShape, RuleId, Rules, Shape, StringShape};
use super::string::{TRIMMED, chunks, json_schema, plain_regex};

/// Terminals of compact JSON. Numbers without bounds stay within the range of an `i64` and an
/// `f64`.
const NUMBERS: &str = r"
INTEGER: /-?(0|[1-9][0-9]{0,17})/
NUMBER: /-?(0|[1-9][0-9]{0,17})(\.[0-9]{1,17})?([eE][+-]?[0-9]{1,2})?/
";

/// More literals than this are joined into one terminal.
const FEW_LITERALS: usize = 64;

/// The grammar of answers of rule `start` to `query`, including the leading space.
pub fn grammar(rules: &Rules, start: RuleId, query: &str) -> String {
    let strings = format!("STRING: /{}/", plain_regex(&StringShape::default()).replace('/', "\\/"));
    let mut writer = Writer {
        rules,
        query,
        text: format!("{strings}{NUMBERS}"),
        terminals: HashMap::new(),
        queue: Vec::new(),
        met: vec![false; rules.shapes.len()],
        alone: arguments(rules),
    };
    let start = writer.name(start);
    let _ = writeln!(writer.text, "start: \" \" {start}");
    while let Some(rule) = writer.queue.pop() {
        writer.rule(rule);
    }
    writer.text
}

/// The rules of tools' arguments: objects without an alternative shape.
fn arguments(rules: &Rules) -> HashSet<RuleId> {
    let calls = rules.shapes.iter().flatten().filter_map(|shape| match shape {
        Shape::Object(object) if object.is_ordered => Some(object),
        _ => None,
    });
    let values = calls.flat_map(|call| &call.members).map(|member| member.value);
    values.filter(|&rule| rules.shapes[rule].len() == 1).collect()
}

struct Writer<'a> {
    rules: &'a Rules,
    query: &'a str,
    text: String,
    /// Names of terminals and of rules for single values, by definition.
    terminals: HashMap<String, String>,
    queue: Vec<RuleId>,
    met: Vec<bool>,
    /// Rules in which a key is one terminal with the punctuation around it.
    alone: HashSet<RuleId>,
}

impl Writer<'_> {
    /// The name of `rule`; queues the rule for writing.
    fn name(&mut self, rule: RuleId) -> String {
        if !self.met[rule] {
            self.met[rule] = true;
            self.queue.push(rule);
        }
        format!("r{rule}")
    }

    fn rule(&mut self, rule: RuleId) {
        let rules = self.rules;
        let alternatives: Vec<String> =
            rules.shapes[rule].iter().enumerate().map(|(i, shape)| self.shape(rule, i, shape)).collect();
        let _ = writeln!(self.text, "r{rule}: {}", alternatives.join("\n    | "));
    }

    /// The expansion of `shape`, the `i`-th of `rule`.
    fn shape(&mut self, rule: RuleId, i: usize, shape: &Shape) -> String {
        match shape {
            Shape::Literals(texts) => self.literals(texts),
            Shape::Number(number) => self.number(number),
            Shape::String(string) => self.string(string),
            Shape::Array(array) => self.array(array),
            Shape::Object(object) if object.is_ordered => self.ordered(object),
            Shape::Object(object) => {
                let keys =
                    if self.alone.contains(&rule) && object.others().is_none() { Keys::Whole } else { Keys::Apart };
                self.object(object, &format!("{rule}x{i}"), keys)
            }
        }
    }

    /// The name of the terminal or rule with this definition, which is written only once.
    fn named(&mut self, prefix: &str, definition: String) -> String {
        if let Some(name) = self.terminals.get(&definition) {
            return name.clone();
        }
        let name = format!("{prefix}{}", self.terminals.len());
        let _ = writeln!(self.text, "{name}: {definition}");
        self.terminals.insert(definition, name.clone());
        name
    }

    /// Joins many scalars into one terminal, so that the parser has one alternative instead of one
    /// per scalar.
    fn literals(&mut self, texts: &[String]) -> String {
        let (compound, scalars): (Vec<&String>, Vec<&String>) =
            texts.iter().partition(|text| text.starts_with(['[', '{']));
        let mut ways: Vec<String> = compound.iter().map(|text| pieces(text)).collect();
        if scalars.len() > FEW_LITERALS {
            let all: Vec<String> = scalars.iter().map(|text| literal(text)).collect();
            ways.push(self.named("ONE_OF", all.join(" | ")));
        } else {
            ways.extend(scalars.iter().map(|text| literal(text)));
        }
        ways.join(" | ")
    }

    fn number(&mut self, number: &NumberShape) -> String {
        if number.is_free() {
            return if number.is_integer { "INTEGER" } else { "NUMBER" }.to_owned();
        }
        if let Some(step) = number.multiple_of {
            return self.json(&json!({
                "type": if number.is_integer { "integer" } else { "number" },
                "minimum": whole(number.min.unwrap_or(-LARGEST)),
                "maximum": whole(number.max.unwrap_or(LARGEST)),
                "multipleOf": whole(step),
            }));
        }
        let [positive, negative] = number.regexes().map(|regexes| {
            let all: Vec<String> = regexes?.iter().map(|text| regex(&format!("({text})"))).collect();
            Some(self.named("RANGE", all.join(" & ")))
        });
        let negative = negative.map(|range| self.named("NEGATIVE", format!("\"-\" {range}")));
        positive.into_iter().chain(negative).collect::<Vec<_>>().join(" | ")
    }

    fn json(&mut self, schema: &Value) -> String {
        let mut schema = schema.clone();
        schema["x-guidance"] = json!({"whitespace_flexible": false});
        self.named("j", format!("%json {schema}"))
    }

    fn string(&mut self, shape: &StringShape) -> String {
        if !shape.patterns.is_empty() {
            return self.named("j", format!("%json {}", json_schema(shape)));
        }
        if shape.is_copied {
            let words = json!({"substring_chunks": chunks(self.query)});
            let words = self.named("WORDS", format!("\"\\\"\" %regex {words} \"\\\"\""));
            let trimmed = self.named("TRIMMED", regex(TRIMMED));
            let length = regex(&plain_regex(&StringShape { is_copied: false, ..shape.clone() }));
            return self.named("COPIED", format!("{words} & {trimmed} & {length}"));
        }
        if *shape == StringShape::default() {
            return "STRING".to_owned();
        }
        self.named("TEXT", regex(&plain_regex(shape)))
    }

    fn array(&mut self, array: &ArrayShape) -> String {
        format!("\"[\" {} \"]\"", self.items(array, 0))
    }

    /// What can follow the first `written` items of an array.
    fn items(&mut self, array: &ArrayShape, written: usize) -> String {
        let left = array.max.map(|max| max.saturating_sub(written));
        let Some(rule) = array.rule_at(written).filter(|_| left != Some(0)) else { return String::new() };
        let item = self.name(rule);
        let comma = if written > 0 { "\",\" " } else { "" };
        let needed = array.min.saturating_sub(written);
        if written < array.prefix.len() {
            let rest = self.items(array, written + 1);
            // As a named rule, because the grammar parser limits how deep parentheses nest.
            let rest = if rest.is_empty() { rest } else { self.named("p", rest) };
            return if needed > 0 { format!("{comma}{item} {rest}") } else { format!("({comma}{item} {rest})?") };
        }
        let repeated = repeat(&format!("(\",\" {item})"), needed.saturating_sub(1), left.map(|left| left - 1));
        let all = format!("{comma}{item} {repeated}");
        if needed > 0 { all } else { format!("({all})?") }
    }

    /// Members in their declared order, all required.
    fn ordered(&mut self, object: &ObjectShape) -> String {
        let mut text = String::new();
        let mut parts: Vec<String> = Vec::new();
        for (i, member) in object.members.iter().enumerate() {
            let _ = write!(text, "{}{}:", if i == 0 { '{' } else { ',' }, key_text(&member.name));
            match self.rules.shapes[member.value].as_slice() {
                [Shape::Literals(one)] if one.len() == 1 => text.push_str(&one[0]),
                _ => {
                    parts.push(literal(&std::mem::take(&mut text)));
                    parts.push(self.name(member.value));
                }
            }
        }
        text.push('}');
        parts.push(literal(&text));
        parts.join(" ")
    }

    fn object(&mut self, object: &ObjectShape, place: &str, keys: Keys) -> String {
        let other = object.others().map(|rule| {
            let key = self.other_key(&object.members);
            format!("{key} \":\" {}", self.name(rule))
        });
        if object.members.is_empty() {
            return match other {
                Some(other) => format!("\"{{\" ({other} (\",\" {other})*)? \"}}\""),
                None => "\"{\" \"}\"".to_owned(),
            };
        }
        let groups: Vec<Group> = self.groups(object);
        let can_end_at = |g: usize| groups[g..].iter().all(|group| group.required == 0);
        let mut first = Vec::new();
        if can_end_at(0) {
            first.push(keys.empty().to_owned());
        }
        if let Some(other) = &other {
            first.push(format!("\"{{\" {other} o{place}x0::0"));
        }
        // The first member may come from any group up to the first group with a required member.
        for (g, group) in groups.iter().enumerate() {
            for (bit, (key, value)) in group.members.iter().enumerate() {
                first.push(format!("{} {value} o{place}x{g}::{}", keys.written('{', key), 1_u64 << bit));
            }
            if group.required > 0 {
                break;
            }
        }
        for (g, group) in groups.iter().enumerate() {
            let done = match group.required {
                0 => String::new(),
                required => format!(" %if is_ones([0:{required}])"),
            };
            let mut rest = Vec::new();
            if can_end_at(g + 1) {
                rest.push(format!("\"}}\"{done}"));
            }
            if let Some(other) = &other {
                rest.push(format!("\",\" {other} o{place}x{g}::_"));
            }
            for (bit, (key, value)) in group.members.iter().enumerate() {
                let key = keys.written(',', key);
                rest.push(format!("{key} {value} o{place}x{g}::set_bit({bit}) %if bit_clear({bit})"));
            }
            for (later, next) in groups.iter().enumerate().skip(g + 1) {
                for (bit, (key, value)) in next.members.iter().enumerate() {
                    let key = keys.written(',', key);
                    rest.push(format!("{key} {value} o{place}x{later}::{}{done}", 1_u64 << bit));
                }
                if next.required > 0 {
                    break;
                }
            }
            let _ = writeln!(self.text, "o{place}x{g}::_: {}", rest.join("\n    | "));
        }
        first.join("\n    | ")
    }

    /// The members by group. Required members have the lowest bits.
    fn groups(&mut self, object: &ObjectShape) -> Vec<Group> {
        let mut groups = Vec::new();
        let mut start = 0;
        while start < object.members.len() {
            let range = object.group(start);
            let mut members: Vec<&Member> = object.members[range.clone()].iter().collect();
            members.sort_by_key(|member| !member.is_required);
            let required = members.iter().filter(|member| member.is_required).count();
            let members = members.iter().map(|member| (key_text(&member.name), self.name(member.value))).collect();
            groups.push(Group { members, required });
            start = range.end;
        }
        groups
    }

    /// A terminal for all names except those of `members`.
    fn other_key(&mut self, members: &[Member]) -> String {
        if members.is_empty() {
            return "STRING".to_owned();
        }
        let names: Vec<String> = members.iter().map(|member| literal(&key_text(&member.name))).collect();
        let names = self.named("DECLARED", names.join(" | "));
        self.named("OTHER", format!("STRING & ~{names}"))
    }
}

/// How a key is split into terminals.
#[derive(Clone, Copy)]
enum Keys {
    /// `,"name":`
    Whole,
    /// `,` and `"name"` and `:`
    Apart,
}

impl Keys {
    fn written(self, before: char, key: &str) -> String {
        match self {
            Self::Whole => literal(&format!("{before}{key}:")),
            Self::Apart => format!("\"{before}\" {} \":\"", literal(key)),
        }
    }

    fn empty(self) -> &'static str {
        match self {
            Self::Whole => "\"{}\"",
            Self::Apart => "\"{\" \"}\"",
        }
    }
}

struct Group {
    /// Name and rule of each member.
    members: Vec<(String, String)>,
    required: usize,
}

fn repeat(what: &str, least: usize, most: Option<usize>) -> String {
    match (least, most) {
        (0, None) => format!("{what}*"),
        (least, None) => format!("{what}{{{least}}} {what}*"),
        (_, Some(0)) => String::new(),
        (least, Some(most)) => format!("{what}{{{least},{most}}}"),
    }
}

/// Writes a number without a fraction as a JSON integer.
fn whole(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= LARGEST { (number as i64).into() } else { number.into() }
}

fn regex(pattern: &str) -> String {
    format!("/{}/", pattern.replace('/', "\\/"))
}

/// Compact JSON, split into JSON's own tokens.
fn pieces(text: &str) -> String {
    let mut pieces: Vec<String> = vec![String::new()];
    let (mut in_string, mut escaped) = (false, false);
    for c in text.chars() {
        let is_structure = !in_string && "{}[],:".contains(c);
        if is_structure {
            pieces.extend([c.to_string(), String::new()]);
            continue;
        }
        if c == '"' && !escaped {
            in_string = !in_string;
        }
        escaped = in_string && c == '\\' && !escaped;
        if let Some(last) = pieces.last_mut() {
            last.push(c);
        }
    }
    let pieces: Vec<String> = pieces.iter().filter(|piece| !piece.is_empty()).map(|piece| literal(piece)).collect();
    pieces.join(" ")
}

/// A string literal of the grammar language, which has the syntax of JSON strings.
fn literal(text: &str) -> String {
    Value::from(text).to_string()
}
