//! The shortest completion of an unfinished answer.
//!
//! The prefix of a JSON text can be parsed without backtracking: only at its end is there a choice.
//! So the text is parsed against the [`Rules`], and the shortest text that completes it is found.
//! Before decoding takes a token, it checks that the completion after this token fits into the
//! remaining tokens.

use std::collections::HashMap;

use super::shape::{ArrayShape, Member, ObjectShape, Others, RuleId, Rules, Shape};
use super::string::Strings;

/// Maximum nesting depth of an answer. JSON parsers such as serde_json stop at 128.
const MAX_NESTING: usize = 100;

/// A value whose shortest text has more bytes than this does not fit into any answer.
const LONGEST: usize = 1 << 16;

/// Result of parsing a value that may be incomplete.
#[derive(Debug, Clone, PartialEq)]
enum Read {
    /// A complete value, which ends before this position.
    Whole(usize),
    /// The text ends inside the value; these bytes complete it.
    Open(Vec<u8>),
}

/// The set of answers that rules allow.
pub struct Answers {
    rules: Rules,
    strings: Strings,
    start: RuleId,
    /// Rules of members that were left out, because no value satisfies them.
    left_out: Vec<RuleId>,
}

impl Answers {
    /// Answers of rule `start`. Removes from `rules` everything that no value satisfies.
    pub fn new(mut rules: Rules, mut strings: Strings, start: RuleId) -> Self {
        for shape in rules.shapes.iter().flatten() {
            if let Shape::String(shape) = shape {
                strings.add(shape);
            }
        }
        let lengths = lengths(&rules, &strings);
        let left_out = prune(&mut rules, &lengths, &strings);
        rules.shortest = vec![None; rules.shapes.len()];
        for rule in 0..rules.shapes.len() {
            shortest(&mut rules, &lengths, &strings, rule);
        }
        Self { rules, strings, start, left_out }
    }

    /// The rules of declared members that were left out, because no value satisfies them.
    pub fn left_out(&self) -> &[RuleId] {
        &self.left_out
    }

    /// The rules, without those that no value satisfies.
    pub fn rules(&self) -> &Rules {
        &self.rules
    }

    /// The rule of a complete answer.
    pub fn start(&self) -> RuleId {
        self.start
    }

    /// The shortest bytes that complete `text` to an answer; `None` if it cannot be completed.
    pub fn completion(&self, text: &[u8]) -> Option<Vec<u8>> {
        let mut known = HashMap::new();
        match self.value(self.start, text, 0, 0, &mut known)? {
            Read::Whole(end) => (end == text.len()).then(Vec::new),
            Read::Open(rest) => Some(rest),
        }
    }

    fn value(
        &self,
        rule: RuleId,
        text: &[u8],
        at: usize,
        depth: usize,
        known: &mut HashMap<(RuleId, usize), Option<Read>>,
    ) -> Option<Read> {
        if at == text.len() {
            return self.rules.shortest[rule].as_ref().map(|text| Read::Open(text.clone().into_bytes()));
        }
        if depth > MAX_NESTING {
            return None;
        }
        // Results are cached only for rules with several shapes: only those can be parsed twice at
        // one position.
        let shapes = &self.rules.shapes[rule];
        if shapes.len() > 1
            && let Some(read) = known.get(&(rule, at))
        {
            return read.clone();
        }
        let mut best: Option<Read> = None;
        for shape in shapes {
            let read = match shape {
                Shape::Array(array) if text[at] == b'[' => self.array(array, text, at, depth, known),
                Shape::Object(object) if text[at] == b'{' => self.object(object, text, at, depth, known),
                Shape::Array(_) | Shape::Object(_) => None,
                scalar => self.scalar(scalar, text, at),
            };
            best = match (best, read) {
                (Some(Read::Open(a)), Some(Read::Open(b))) if b.len() < a.len() => Some(Read::Open(b)),
                (None, read) => read,
                (best, _) => best,
            };
        }
        if shapes.len() > 1 {
            known.insert((rule, at), best.clone());
        }
        best
    }

    /// Parses literals, numbers and strings.
    fn scalar(&self, shape: &Shape, text: &[u8], at: usize) -> Option<Read> {
        let rest = &text[at..];
        if let Shape::Literals(literals) = shape
            && matches!(rest[0], b'[' | b'{')
        {
            return literals.iter().find_map(|literal| {
                let literal = literal.as_bytes();
                match literal.strip_prefix(rest) {
                    Some(more) if !more.is_empty() => Some(Read::Open(more.to_vec())),
                    _ => rest.starts_with(literal).then(|| Read::Whole(at + literal.len())),
                }
            });
        }
        let is_string = rest[0] == b'"';
        let end = if is_string { string_end(rest) } else { rest.iter().position(|b| b",]}".contains(b)) };
        let written = &rest[..end.unwrap_or(rest.len())];
        let completion = match shape {
            Shape::Literals(literals) => {
                let literals = literals.iter().map(String::as_bytes);
                if end.is_some() {
                    literals.clone().any(|literal| literal == written).then(Vec::new)
                } else {
                    let ends = literals.filter_map(|literal| literal.strip_prefix(written));
                    ends.min_by_key(|end| end.len()).map(<[u8]>::to_vec)
                }
            }
            Shape::String(shape) if is_string => match end {
                Some(_) => self.strings.accepts(shape, written).then(Vec::new),
                None => self.strings.completion(shape, written),
            },
            Shape::Number(number) if !is_string => {
                let written = std::str::from_utf8(written).ok()?;
                if !written.starts_with(|c: char| c == '-' || c.is_ascii_digit()) {
                    None
                } else if end.is_some() {
                    number.accepts(written).then(Vec::new)
                } else {
                    number.completion(written).map(String::into_bytes)
                }
            }
            _ => None,
        }?;
        Some(match end {
            Some(end) => Read::Whole(at + end),
            None => Read::Open(completion),
        })
    }

    fn array(
        &self,
        array: &ArrayShape,
        text: &[u8],
        at: usize,
        depth: usize,
        known: &mut HashMap<(RuleId, usize), Option<Read>>,
    ) -> Option<Read> {
        let mut at = at + 1;
        let mut items = 0;
        // The text that completes the array after `items` items.
        let rest = |items: usize| {
            let mut bytes = Vec::new();
            for i in items..array.min {
                if i > 0 {
                    bytes.push(b',');
                }
                bytes.extend(self.rules.shortest[array.rule_at(i)?].as_ref()?.bytes());
            }
            bytes.push(b']');
            Some(bytes)
        };
        loop {
            if at == text.len() && items == 0 {
                return rest(0).map(Read::Open);
            }
            if items == 0 && text[at] == b']' {
                return (array.min == 0).then_some(Read::Whole(at + 1));
            }
            if array.max.is_some_and(|max| items >= max) {
                return None;
            }
            match self.value(array.rule_at(items)?, text, at, depth + 1, known)? {
                Read::Open(mut bytes) => {
                    bytes.extend(rest(items + 1)?);
                    return Some(Read::Open(bytes));
                }
                Read::Whole(end) => at = end,
            }
            items += 1;
            match text.get(at) {
                None => return rest(items).map(Read::Open),
                Some(b']') => return (items >= array.min).then_some(Read::Whole(at + 1)),
                Some(b',') => at += 1,
                Some(_) => return None,
            }
        }
    }

    fn object(
        &self,
        object: &ObjectShape,
        text: &[u8],
        at: usize,
        depth: usize,
        known: &mut HashMap<(RuleId, usize), Option<Read>>,
    ) -> Option<Read> {
        let mut at = at + 1;
        let mut written = Written { is_used: vec![false; object.members.len()], count: 0, first_free: 0 };
        if text.get(at) == Some(&b'}') {
            return self.lacks(object, &written)?.is_empty().then_some(Read::Whole(at + 1));
        }
        loop {
            // A key follows, unless the text ends here.
            if at == text.len() && written.count == 0 {
                return self.lacks(object, &written).map(close);
            }
            let Some(key_end) = string_end(&text[at..]).map(|end| at + end) else {
                return self.begun_key(object, &mut written, &text[at..]);
            };
            let name: String = serde_json::from_slice(&text[at..key_end]).ok()?;
            let value = match object.members.iter().position(|member| member.name == name) {
                Some(i) => {
                    if !written.take(object, i) {
                        return None;
                    }
                    object.members[i].value
                }
                None => object.others()?,
            };
            written.count += 1;
            let read = match text.get(key_end) {
                None => self.rules.shortest[value].as_ref().map(|text| Read::Open(format!(":{text}").into_bytes())),
                Some(b':') => self.value(value, text, key_end + 1, depth + 1, known),
                Some(_) => None,
            };
            match read? {
                Read::Open(mut bytes) => {
                    bytes.extend(self.rest(object, &written)?);
                    return Some(Read::Open(bytes));
                }
                Read::Whole(end) => at = end,
            }
            match text.get(at) {
                None => return self.rest(object, &written).map(Read::Open),
                Some(b'}') => return self.lacks(object, &written)?.is_empty().then_some(Read::Whole(at + 1)),
                Some(b',') => at += 1,
                Some(_) => return None,
            }
        }
    }

    /// The shortest completion of an object whose text breaks off in a key, or after the comma
    /// before a key.
    fn begun_key(&self, object: &ObjectShape, written: &mut Written, key: &[u8]) -> Option<Read> {
        let mut best: Option<Vec<u8>> = None;
        let mut offer = |bytes: Option<Vec<u8>>| {
            best = match (best.take(), bytes) {
                (Some(a), Some(b)) => Some(if b.len() < a.len() { b } else { a }),
                (a, b) => a.or(b),
            };
        };
        for (i, member) in object.members.iter().enumerate() {
            let name = key_text(&member.name);
            let mut taken = written.clone();
            let Some(rest_of_name) = name.as_bytes().strip_prefix(key) else { continue };
            if !taken.take(object, i) {
                continue;
            }
            taken.count += 1;
            offer(self.rest(object, &taken).and_then(|rest| {
                let value = self.rules.shortest[member.value].as_ref()?;
                Some([rest_of_name, b":", value.as_bytes(), &rest].concat())
            }));
        }
        if let Some(others) = object.others() {
            let partial = if key.is_empty() { b"\"".as_slice() } else { key };
            let mut name_end = [&b"\""[..usize::from(key.is_empty())], &self.end_of_name(object, partial)?].concat();
            written.count += 1;
            offer(self.rest(object, written).and_then(|rest| {
                let value = self.rules.shortest[others].as_ref()?;
                name_end.extend([b":", value.as_bytes(), &rest].concat());
                Some(name_end)
            }));
        }
        best.map(Read::Open)
    }

    /// Completes the undeclared name that begins with `partial`.
    fn end_of_name(&self, object: &ObjectShape, partial: &[u8]) -> Option<Vec<u8>> {
        let end = self.strings.completion(&Default::default(), partial)?;
        // The completed name must not be a declared one, so it is made longer until it is not.
        (0..=object.members.len()).find_map(|more| {
            let mut end = end.clone();
            let quote = end.pop()?;
            end.extend(std::iter::repeat_n(b'x', more));
            end.push(quote);
            let name = [partial, &end].concat();
            let is_declared = object.members.iter().any(|member| key_text(&member.name).as_bytes() == name);
            (!is_declared).then_some(end)
        })
    }

    /// The text that an object with these members still needs: the missing members, with commas,
    /// and the closing brace.
    fn rest(&self, object: &ObjectShape, written: &Written) -> Option<Vec<u8>> {
        let mut bytes = Vec::new();
        for text in self.lacks(object, written)? {
            bytes.push(b',');
            bytes.extend(text.bytes());
        }
        bytes.push(b'}');
        Some(bytes)
    }

    /// The members that an object still needs; `None` if one of them can no longer be written.
    fn lacks(&self, object: &ObjectShape, written: &Written) -> Option<Vec<String>> {
        let missing = |(i, member): &(usize, &Member)| member.is_required && !written.is_used[*i];
        let missing = object.members.iter().enumerate().filter(missing);
        missing
            .map(|(i, member)| {
                let value = self.rules.shortest[member.value].as_ref()?;
                (i >= written.first_free).then(|| format!("{}:{value}", key_text(&member.name)))
            })
            .collect()
    }
}

/// The members of an object that have been parsed so far.
#[derive(Clone)]
struct Written {
    is_used: Vec<bool>,
    count: usize,
    /// Members before this index can no longer be written.
    first_free: usize,
}

impl Written {
    /// Marks member `i` as written; false if it is not allowed here.
    fn take(&mut self, object: &ObjectShape, i: usize) -> bool {
        if self.is_used[i] || i < self.first_free {
            return false;
        }
        let first = object.group(i).start;
        let is_missing = |j: usize| object.members[j].is_required && !self.is_used[j];
        if (self.first_free..first).any(is_missing) {
            return false;
        }
        self.first_free = self.first_free.max(first);
        self.is_used[i] = true;
        true
    }
}

fn close(missing: Vec<String>) -> Read {
    Read::Open(format!("{}}}", missing.join(",")).into_bytes())
}

/// A name as a JSON string.
pub fn key_text(name: &str) -> String {
    serde_json::Value::from(name).to_string()
}

/// The end of the JSON string at the start of `text`; `None` if it is not closed.
fn string_end(text: &[u8]) -> Option<usize> {
    let mut escaped = false;
    for (i, &byte) in text.iter().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return Some(i + 1),
            _ => {}
        }
    }
    None
}

/// The length of the shortest text of each rule, by fixed-point iteration; `None` if no value
/// satisfies the rule.
fn lengths(rules: &Rules, strings: &Strings) -> Vec<Option<usize>> {
    let mut lengths: Vec<Option<usize>> = vec![None; rules.shapes.len()];
    loop {
        let mut improved = false;
        for (rule, shapes) in rules.shapes.iter().enumerate() {
            let shortest = shapes.iter().filter_map(|shape| length(shape, &lengths, strings)).min();
            if shortest.is_some_and(|new| lengths[rule].is_none_or(|old| new < old)) {
                lengths[rule] = shortest;
                improved = true;
            }
        }
        if !improved {
            return lengths;
        }
    }
}

fn length(shape: &Shape, lengths: &[Option<usize>], strings: &Strings) -> Option<usize> {
    match shape {
        Shape::Literals(texts) => texts.iter().map(String::len).min(),
        Shape::Number(number) => number.shortest().map(|text| text.len()),
        Shape::String(shape) => strings.completion(shape, b"\"").map(|rest| rest.len() + 1),
        Shape::Array(array) => {
            let items: Option<usize> = (0..array.min).map(|i| lengths[array.rule_at(i)?].map(|n| n + 1)).sum();
            items.map(|items| (items + 1).max(2)).filter(|&items| items <= LONGEST)
        }
        Shape::Object(object) => {
            let required = object.members.iter().filter(|member| member.is_required);
            let members: Option<usize> =
                required.map(|m| lengths[m.value].map(|n| key_text(&m.name).len() + n + 2)).sum();
            members.map(|members| (members + 1).max(2)).filter(|&members| members <= LONGEST)
        }
    }
}

/// Removes shapes and members that no value satisfies; returns the rules of those members.
fn prune(rules: &mut Rules, lengths: &[Option<usize>], strings: &Strings) -> Vec<RuleId> {
    let mut left_out = Vec::new();
    for shapes in &mut rules.shapes {
        let members = |shape: &Shape| match shape {
            Shape::Object(object) => object.members.iter().map(|member| member.value).collect(),
            _ => Vec::new(),
        };
        left_out.extend(shapes.iter().flat_map(members).filter(|&rule| lengths[rule].is_none()));
        shapes.retain(|shape| length(shape, lengths, strings).is_some());
        for shape in shapes {
            match shape {
                Shape::Object(object) => {
                    let was_declared = !object.members.is_empty();
                    object.members.retain(|member| lengths[member.value].is_some());
                    if was_declared && matches!(object.others, Others::Unsaid(_)) {
                        object.others = Others::None;
                    }
                    if object.others().is_some_and(|others| lengths[others].is_none()) {
                        object.others = Others::None;
                    }
                }
                Shape::Array(array) => {
                    if let Some(first) = array.prefix.iter().position(|&rule| lengths[rule].is_none()) {
                        array.max = Some(array.max.map_or(first, |max| max.min(first)));
                        array.prefix.truncate(first);
                    }
                    array.items = array.items.filter(|&rule| lengths[rule].is_some());
                }
                _ => {}
            }
        }
    }
    left_out
}

/// Fills in the shortest text of `rule`. The recursion ends, because the parts of a text are
/// shorter than the text.
fn shortest(rules: &mut Rules, lengths: &[Option<usize>], strings: &Strings, rule: RuleId) -> Option<String> {
    if let Some(known) = &rules.shortest[rule] {
        return Some(known.clone());
    }
    let shapes = &rules.shapes[rule];
    let shape = shapes.iter().find(|shape| length(shape, lengths, strings) == lengths[rule])?.clone();
    let text = match shape {
        Shape::Literals(texts) => texts.iter().min_by_key(|text| text.len())?.clone(),
        Shape::Number(number) => number.shortest()?,
        Shape::String(shape) => {
            format!("\"{}", String::from_utf8(strings.completion(&shape, b"\"")?).ok()?)
        }
        Shape::Array(array) => {
            let items: Option<Vec<String>> =
                (0..array.min).map(|i| shortest(rules, lengths, strings, array.rule_at(i)?)).collect();
            format!("[{}]", items?.join(","))
        }
        Shape::Object(object) => {
            let required = object.members.iter().filter(|member| member.is_required);
            let members: Option<Vec<String>> = required
                .map(|m| Some(format!("{}:{}", key_text(&m.name), shortest(rules, lengths, strings, m.value)?)))
                .collect();
            format!("{{{}}}", members?.join(","))
        }
    };
    rules.shortest[rule] = Some(text.clone());
    Some(text)
}
