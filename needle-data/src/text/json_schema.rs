//! The part of JSON Schema that tools need: validation of a value, and resolution of `$ref`.
//!
//! Constrained decoding enforces what a grammar can express; the rest (`uniqueItems`, `not`, ...)
//! is checked here, and so are answers that were decoded without constraints. The keywords are
//! those of draft 2020-12, with older spellings that are still in use: `definitions`, tuples under
//! `items`, `additionalItems`, `dependencies`, boolean `exclusiveMinimum`, OpenAPI's `nullable`. A
//! keyword that constrains nothing (`title`, `default`, ...) is ignored here.
//! <https://json-schema.org/draft/2020-12/json-schema-validation>

use std::cell::{Cell, RefCell};
use std::collections::HashSet;

use fancy_regex::Regex;
use serde_json::{Map, Value};

use crate::text::schema::ValueType;

/// Maximum depth of nested schemas for one value; only a `$ref` that leads back to itself gets this
/// deep.
const MAX_DEPTH: usize = 200;

/// Maximum number of schemas that are checked for one value; only references that double at each
/// level, and that the value does not satisfy, reach it.
const MAX_ENTERED: usize = 500_000;

/// Where and how a value violates its schema.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Violation {
    /// JSON pointer into the value; empty for the value itself.
    pub path: String,
    /// The keyword that is violated.
    pub keyword: String,
    /// What was expected, and what was found.
    pub reason: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { path, keyword, reason } = self;
        if path.is_empty() { write!(f, "{reason} ({keyword})") } else { write!(f, "{path}: {reason} ({keyword})") }
    }
}

/// True if `value` is of the JSON type `type_name`.
fn is_of_type(value: &Value, type_name: &str) -> bool {
    ValueType::named(type_name).is_none_or(|of_type| of_type.holds(value))
}

/// Keywords that hold one subschema, a list of subschemas, and subschemas by name.
const SUBSCHEMA: [&str; 9] =
    ["items", "additionalItems", "additionalProperties", "not", "if", "then", "else", "contains", "propertyNames"];
const SUBSCHEMAS: [&str; 5] = ["allOf", "anyOf", "oneOf", "prefixItems", "items"];
const NAMED_SUBSCHEMAS: [&str; 5] = ["properties", "patternProperties", "$defs", "definitions", "dependentSchemas"];

/// The direct subschemas of `schema`, each with its JSON pointer.
pub fn subschemas(schema: &Map<String, Value>) -> Vec<(String, &Value)> {
    let escaped = |name: &str| name.replace('~', "~0").replace('/', "~1");
    let mut found = Vec::new();
    for (keyword, value) in schema {
        let keyword = keyword.as_str();
        match value {
            Value::Array(list) if SUBSCHEMAS.contains(&keyword) => {
                found.extend(list.iter().enumerate().map(|(i, one)| (format!("/{keyword}/{i}"), one)));
            }
            Value::Object(named) if NAMED_SUBSCHEMAS.contains(&keyword) => {
                found.extend(named.iter().map(|(name, one)| (format!("/{keyword}/{}", escaped(name)), one)));
            }
            one if SUBSCHEMA.contains(&keyword) => found.push((format!("/{keyword}"), one)),
            _ => {}
        }
    }
    found
}

/// `schema` as standard JSON Schema: with its type names, with lists of required members instead of
/// the native form's flags, and without keywords that are null.
pub fn normalized(schema: &Value) -> Value {
    let Value::Object(written) = schema else { return schema.clone() };
    let mut schema = written.clone();
    schema.retain(|keyword, value| !value.is_null() || keyword == "const" || keyword == "default");
    let names = type_names(written);
    let types: Vec<Option<&str>> =
        names.iter().map(|name| ValueType::named(name).and_then(ValueType::json_name)).collect();
    if types.contains(&None) {
        // Any type at all.
        schema.shift_remove("type");
    } else if let (Some(Value::String(_)), [Some(one)]) = (written.get("type"), types.as_slice()) {
        schema.insert("type".into(), (*one).into());
    } else if !types.is_empty() {
        schema.insert("type".into(), types.into_iter().flatten().collect());
    }
    let mut required: Vec<Value> = match schema.get("required") {
        Some(Value::Array(names)) => names.clone(),
        _ => Vec::new(),
    };
    for (name, member) in written.get("properties").and_then(Value::as_object).into_iter().flatten() {
        if member.get("required") == Some(&Value::Bool(true)) && !required.contains(&name.as_str().into()) {
            required.push(name.as_str().into());
        }
    }
    match required.is_empty() {
        true => schema.shift_remove("required"),
        false => schema.insert("required".into(), required.into()),
    };
    let places: Vec<String> = subschemas(&schema).into_iter().map(|(place, _)| place).collect();
    let mut schema = Value::Object(schema);
    for place in places {
        if let Some(inner) = schema.pointer_mut(&place) {
            *inner = normalized(inner);
        }
    }
    schema
}

/// The names in a schema's `type`, which may be one name or a list.
pub fn type_names(schema: &Map<String, Value>) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(one)) => vec![one],
        Some(Value::Array(many)) => many.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    }
}

/// What `reference` refers to in the document `root`: `#`, `#/$defs/name`, `#anchor`, or the `$id`
/// of a part of it. Other documents are never fetched.
pub fn resolve<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
    let document = if base.is_empty() { root } else { find(root, "$id", base)? };
    if fragment.is_empty() || fragment.starts_with('/') {
        let unescaped = percent_decoded(fragment)?;
        document.pointer(&unescaped)
    } else {
        find(document, "$anchor", fragment)
    }
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        if *first == b'%' && tail.len() >= 2 {
            bytes.push(u8::from_str_radix(std::str::from_utf8(&tail[..2]).ok()?, 16).ok()?);
            rest = &tail[2..];
        } else {
            bytes.push(*first);
            rest = tail;
        }
    }
    String::from_utf8(bytes).ok()
}

fn find<'a>(value: &'a Value, keyword: &str, name: &str) -> Option<&'a Value> {
    match value {
        Value::Object(object) if object.get(keyword).and_then(Value::as_str) == Some(name) => Some(value),
        Value::Object(object) => object.values().find_map(|inner| find(inner, keyword, name)),
        Value::Array(list) => list.iter().find_map(|inner| find(inner, keyword, name)),
        _ => None,
    }
}

/// The regular expression that a whole string of the named format matches; `None` for an unknown
/// format.
pub fn format_pattern(format: &str) -> Option<&'static str> {
    const DATE: &str = concat!(
        "(?:[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
        "|02-(?:0[1-9]|1[0-9]|2[0-8]))",
        "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
    );
    const TIME: &str =
        "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:[zZ]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";
    const OCTET: &str = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])";
    const LABEL: &str = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?";
    static ALL: std::sync::LazyLock<Vec<(&str, String)>> = std::sync::LazyLock::new(|| {
        let ipv4 = format!("{OCTET}(?:\\.{OCTET}){{3}}");
        const GROUP: &str = "[0-9a-fA-F]{1,4}";
        // Eight groups, or fewer around one `::`.
        let mut ipv6 = format!("(?:{GROUP}:){{7}}{GROUP}|::(?:{GROUP}(?::{GROUP}){{0,6}})?");
        for before in 1..=7 {
            let after = match before {
                7 => String::new(),
                6 => format!("(?:{GROUP})?"),
                _ => format!("(?:{GROUP}(?::{GROUP}){{0,{}}})?", 6 - before),
            };
            ipv6.push_str(&format!("|{GROUP}(?::{GROUP}){{{}}}::{after}", before - 1));
        }
        // Nine labels of at most 27 characters, or three of any length, stay within the limit of
        // 253 characters for a whole name.
        let short = "[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,25}[a-zA-Z0-9])?";
        let hostname = format!("(?:{short}(?:\\.{short}){{0,8}}|{LABEL}(?:\\.{LABEL}){{0,2}})");
        let path = "(?:[a-zA-Z0-9._~!$&'()*+,;=:@-]|%[0-9a-fA-F]{2})";
        let query = "(?:[a-zA-Z0-9._~!$&'()*+,;=:@/?-]|%[0-9a-fA-F]{2})";
        let digits = "[0-9]{1,6}";
        let date_part = format!("(?:{digits}Y(?:{digits}M(?:{digits}D)?)?|{digits}M(?:{digits}D)?|{digits}D)");
        let time_part = format!("T(?:{digits}H(?:{digits}M(?:{digits}S)?)?|{digits}M(?:{digits}S)?|{digits}S)");
        vec![
            ("date", DATE.to_owned()),
            ("time", TIME.to_owned()),
            ("date-time", format!("{DATE}[tT]{TIME}")),
            ("duration", format!("P(?:{date_part}(?:{time_part})?|{time_part}|{digits}W)")),
            ("ipv4", ipv4),
            ("ipv6", ipv6),
            ("uuid", "[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}".to_owned()),
            (
                "email",
                format!(
                    "[a-zA-Z0-9!#$%&'*+/=?^_`{{|}}~-]{{1,30}}(?:\\.[a-zA-Z0-9!#$%&'*+/=?^_`{{|}}~-]{{1,15}}){{0,2}}@{hostname}"
                ),
            ),
            ("hostname", hostname),
            (
                "uri",
                [
                    "[a-zA-Z][a-zA-Z0-9+.-]*:",
                    &format!("(?://[a-zA-Z0-9._~-]+(?::[0-9]{{1,5}})?(?:/{path}*)*|/?{path}+(?:/{path}*)*)"),
                    &format!("(?:\\?{query}*)?(?:#{query}*)?"),
                ]
                .concat(),
            ),
        ]
    });
    ALL.iter().find(|(name, _)| *name == format).map(|(_, pattern)| pattern.as_str())
}

/// Checks `value` against `schema`; its references are resolved in the document `root`.
///
/// # Errors
/// The first violation found.
pub fn check(schema: &Value, root: &Value, value: &Value) -> Result<(), Violation> {
    Checker { root, entered: Cell::new(0), satisfied: RefCell::default() }.value(schema, value, "", 0)
}

type Checked = Result<(), Violation>;

struct Checker<'a> {
    root: &'a Value,
    /// Number of schemas checked so far.
    entered: Cell<usize>,
    /// Pairs of a reference's target and a value that satisfies it, by address.
    satisfied: RefCell<HashSet<(*const Value, *const Value)>>,
}

fn violation(path: &str, keyword: &str, reason: impl Into<String>) -> Checked {
    Err(Violation { path: path.to_owned(), keyword: keyword.to_owned(), reason: reason.into() })
}

impl Checker<'_> {
    fn value(&self, schema: &Value, value: &Value, path: &str, depth: usize) -> Checked {
        let schema = match schema {
            Value::Bool(false) => return violation(path, "false", "nothing is allowed here"),
            Value::Object(schema) => schema,
            _ => return Ok(()),
        };
        self.entered.set(self.entered.get() + 1);
        if self.entered.get() > MAX_ENTERED {
            return violation(path, "$ref", "the schema refers to itself too many times to be checked");
        }
        if depth > MAX_DEPTH {
            return violation(path, "$ref", "the schema refers to itself endlessly");
        }
        if value.is_null() && schema.get("nullable") == Some(&Value::Bool(true)) {
            return Ok(());
        }
        check_type(schema, value, path)?;
        match value {
            Value::String(text) => check_string(schema, text, path)?,
            Value::Number(number) => check_number(schema, number, path)?,
            Value::Array(items) => self.array(schema, items, path, depth)?,
            Value::Object(members) => self.object(schema, members, path, depth)?,
            _ => {}
        }
        self.combinations(schema, value, path, depth)
    }

    fn fits(&self, schema: &Value, value: &Value, depth: usize) -> bool {
        self.value(schema, value, "", depth + 1).is_ok()
    }

    /// Like [`Self::value`], for the target of a reference: a value is checked against it only
    /// once, however many references lead there.
    fn target(&self, target: &Value, value: &Value, path: &str, depth: usize) -> Checked {
        let both = (std::ptr::from_ref(target), std::ptr::from_ref(value));
        if !self.satisfied.borrow().contains(&both) {
            self.value(target, value, path, depth + 1)?;
            self.satisfied.borrow_mut().insert(both);
        }
        Ok(())
    }

    /// Like [`Self::value`], for a temporary value. It has a cache of its own, because a later
    /// value may get the same address.
    fn passing(&self, schema: &Value, value: &Value, path: &str, depth: usize) -> Checked {
        let apart = Self { root: self.root, entered: self.entered.clone(), satisfied: RefCell::default() };
        let checked = apart.value(schema, value, path, depth);
        self.entered.set(apart.entered.get());
        checked
    }

    fn combinations(&self, schema: &Map<String, Value>, value: &Value, path: &str, depth: usize) -> Checked {
        if let Some(Value::String(reference)) = schema.get("$ref") {
            match resolve(self.root, reference) {
                Some(target) => self.target(target, value, path, depth)?,
                None => return violation(path, "$ref", format!("{reference:?} is not in the schema")),
            }
        }
        for all in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            self.value(all, value, path, depth + 1)?;
        }
        if let Some(Value::Array(any)) = schema.get("anyOf")
            && !any.iter().any(|one| self.fits(one, value, depth))
        {
            return violation(path, "anyOf", format!("{} fits none of the alternatives", brief(value)));
        }
        if let Some(Value::Array(one)) = schema.get("oneOf") {
            let fitting = one.iter().filter(|one| self.fits(one, value, depth)).count();
            if fitting != 1 {
                return violation(path, "oneOf", format!("{} fits {fitting} alternatives, not one", brief(value)));
            }
        }
        if let Some(not) = schema.get("not")
            && self.fits(not, value, depth)
        {
            return violation(path, "not", format!("{} matches the schema under `not`", brief(value)));
        }
        if let Some(condition) = schema.get("if") {
            let branch = if self.fits(condition, value, depth) { "then" } else { "else" };
            if let Some(branch) = schema.get(branch) {
                self.value(branch, value, path, depth + 1)?;
            }
        }
        Ok(())
    }

    fn array(&self, schema: &Map<String, Value>, items: &[Value], path: &str, depth: usize) -> Checked {
        let (prefix, rest) = item_schemas(schema);
        for (i, item) in items.iter().enumerate() {
            if let Some(schema) = prefix.get(i).or(rest) {
                self.value(schema, item, &format!("{path}/{i}"), depth + 1)?;
            }
        }
        let count = |keyword: &str| size(schema, keyword);
        if count("minItems").is_some_and(|least| items.len() < least) {
            return violation(path, "minItems", format!("{} items are too few", items.len()));
        }
        if count("maxItems").is_some_and(|most| items.len() > most) {
            return violation(path, "maxItems", format!("{} items are too many", items.len()));
        }
        if schema.get("uniqueItems") == Some(&Value::Bool(true)) {
            let mut seen = HashSet::new();
            if let Some(twice) = items.iter().find(|item| !seen.insert(canonical(item))) {
                return violation(path, "uniqueItems", format!("{} appears twice", brief(twice)));
            }
        }
        if let Some(contains) = schema.get("contains") {
            let fitting = items.iter().filter(|item| self.fits(contains, item, depth)).count();
            if fitting < count("minContains").unwrap_or(1) {
                return violation(path, "contains", format!("{fitting} matching items are too few"));
            }
            if count("maxContains").is_some_and(|most| fitting > most) {
                return violation(path, "maxContains", format!("{fitting} matching items are too many"));
            }
        }
        Ok(())
    }

    fn object(&self, schema: &Map<String, Value>, members: &Map<String, Value>, path: &str, depth: usize) -> Checked {
        let at = |name: &str| format!("{path}/{}", name.replace('~', "~0").replace('/', "~1"));
        let required = schema.get("required").and_then(Value::as_array).into_iter().flatten();
        if let Some(missing) = required.filter_map(Value::as_str).find(|name| !members.contains_key(*name)) {
            return violation(path, "required", format!("{missing:?} is missing"));
        }
        let properties = schema.get("properties").and_then(Value::as_object);
        let patterns = schema.get("patternProperties").and_then(Value::as_object);
        for (name, value) in members {
            let mut is_declared = false;
            if let Some(schema) = properties.and_then(|properties| properties.get(name)) {
                is_declared = true;
                self.value(schema, value, &at(name), depth + 1)?;
            }
            for (pattern, schema) in patterns.into_iter().flatten() {
                if matches(pattern, name).unwrap_or(false) {
                    is_declared = true;
                    self.value(schema, value, &at(name), depth + 1)?;
                }
            }
            match schema.get("additionalProperties") {
                Some(Value::Bool(false)) if !is_declared => {
                    return violation(path, "additionalProperties", format!("{name:?} is not declared"));
                }
                Some(other) if !is_declared => self.value(other, value, &at(name), depth + 1)?,
                _ => {}
            }
            if let Some(names) = schema.get("propertyNames") {
                self.passing(names, &Value::String(name.clone()), &at(name), depth + 1)?;
            }
        }
        if size(schema, "minProperties").is_some_and(|least| members.len() < least) {
            return violation(path, "minProperties", format!("{} members are too few", members.len()));
        }
        if size(schema, "maxProperties").is_some_and(|most| members.len() > most) {
            return violation(path, "maxProperties", format!("{} members are too many", members.len()));
        }
        self.dependencies(schema, members, path, depth)
    }

    fn dependencies(
        &self,
        schema: &Map<String, Value>,
        members: &Map<String, Value>,
        path: &str,
        depth: usize,
    ) -> Checked {
        for keyword in ["dependentRequired", "dependentSchemas", "dependencies"] {
            let all = schema.get(keyword).and_then(Value::as_object).into_iter().flatten();
            for (_, asked) in all.filter(|(name, _)| members.contains_key(*name)) {
                match asked {
                    Value::Array(names) => {
                        let names = names.iter().filter_map(Value::as_str);
                        if let Some(missing) = names.clone().find(|name| !members.contains_key(*name)) {
                            return violation(path, keyword, format!("{missing:?} is missing"));
                        }
                    }
                    other => self.passing(other, &Value::Object(members.clone()), path, depth + 1)?,
                }
            }
        }
        Ok(())
    }
}

/// The schemas of a list's first items, one each, and the schema of all other items.
pub fn item_schemas(schema: &Map<String, Value>) -> (&[Value], Option<&Value>) {
    match (schema.get("prefixItems"), schema.get("items")) {
        (Some(Value::Array(prefix)), rest) => (prefix, rest),
        (_, Some(Value::Array(prefix))) => (prefix, schema.get("additionalItems")),
        (_, rest) => (&[], rest),
    }
}

/// The value of a keyword that is a count, such as `minItems`.
pub fn size(schema: &Map<String, Value>, keyword: &str) -> Option<usize> {
    let number = schema.get(keyword)?.as_f64()?;
    // The cast saturates: a larger count is beyond the length of any list.
    (number >= 0.0).then_some(number as usize)
}

fn check_type(schema: &Map<String, Value>, value: &Value, path: &str) -> Checked {
    let types = type_names(schema);
    if !types.is_empty() && !types.iter().any(|name| is_of_type(value, name)) {
        return violation(path, "type", format!("expected {}, got {}", types.join(" or "), brief(value)));
    }
    if let Some(Value::Array(allowed)) = schema.get("enum")
        && !allowed.iter().any(|one| is_equal(one, value))
    {
        let allowed: Vec<String> = allowed.iter().map(Value::to_string).collect();
        return violation(path, "enum", format!("{} is not one of {}", brief(value), allowed.join(", ")));
    }
    match schema.get("const") {
        Some(one) if !is_equal(one, value) => violation(path, "const", format!("expected {one}, got {}", brief(value))),
        _ => Ok(()),
    }
}

fn check_string(schema: &Map<String, Value>, text: &str, path: &str) -> Checked {
    let chars = text.chars().count();
    if size(schema, "minLength").is_some_and(|least| chars < least) {
        return violation(path, "minLength", format!("{chars} characters are too few"));
    }
    if size(schema, "maxLength").is_some_and(|most| chars > most) {
        return violation(path, "maxLength", format!("{chars} characters are too many"));
    }
    if let Some(Value::String(pattern)) = schema.get("pattern")
        && matches(pattern, text) == Some(false)
    {
        return violation(path, "pattern", format!("{text:?} does not match {pattern:?}"));
    }
    if let Some(Value::String(format)) = schema.get("format")
        && let Some(pattern) = format_pattern(format)
        && matches(&format!("^(?:{pattern})$"), text) == Some(false)
    {
        return violation(path, "format", format!("{text:?} is not a {format}"));
    }
    Ok(())
}

fn check_number(schema: &Map<String, Value>, number: &serde_json::Number, path: &str) -> Checked {
    let value = number.as_f64().unwrap_or(f64::NAN);
    for bound in bounds(schema) {
        if !bound.holds(value) {
            return violation(path, bound.keyword, format!("{number} is outside the limit {}", bound.limit));
        }
    }
    match schema.get("multipleOf") {
        // A step of zero constrains nothing.
        Some(Value::Number(step))
            if step.as_f64().is_some_and(|step| step > 0.0) && !is_multiple(&number.to_string(), &step.to_string()) =>
        {
            violation(path, "multipleOf", format!("{number} is not a multiple of {step}"))
        }
        _ => Ok(()),
    }
}

/// True if the number `value` is a multiple of `step`: in exact decimal arithmetic, or in floating
/// point where the numbers are too large or too fine for that.
pub fn is_multiple(value: &str, step: &str) -> bool {
    let exactly = || {
        let ((value, value_places), (step, step_places)) = (decimal(value)?, decimal(step)?);
        let places = value_places.max(step_places);
        let scaled = |digits: i128, own: u32| digits.checked_mul(10_i128.checked_pow(places - own)?);
        scaled(value, value_places)?.checked_rem(scaled(step, step_places)?).map(|rest| rest == 0)
    };
    exactly().unwrap_or_else(|| {
        let times = value.parse::<f64>().unwrap_or(f64::NAN) / step.parse::<f64>().unwrap_or(f64::NAN);
        times.is_finite() && times.fract() == 0.0
    })
}

/// The digits of a number as an integer, and how many of them follow the decimal point.
fn decimal(text: &str) -> Option<(i128, u32)> {
    let (digits, exponent) = match text.split_once(['e', 'E']) {
        Some((digits, exponent)) => (digits, exponent.parse::<i32>().ok()?),
        None => (text, 0),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let value: i128 = format!("{whole}{fraction}").parse().ok()?;
    let places = i32::try_from(fraction.len()).ok()?.checked_sub(exponent)?;
    match u32::try_from(places) {
        Ok(places) => Some((value, places)),
        Err(_) => Some((value.checked_mul(10_i128.checked_pow(places.unsigned_abs())?)?, 0)),
    }
}

/// One bound of a number.
#[derive(Debug, Clone, Copy)]
pub struct Bound {
    /// The keyword that sets it.
    pub keyword: &'static str,
    /// The limit itself.
    pub limit: f64,
    /// True if the limit itself is not allowed.
    pub is_exclusive: bool,
    /// True for an upper bound.
    pub is_upper: bool,
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match (self.is_upper, self.is_exclusive) {
            (true, true) => value < self.limit,
            (true, false) => value <= self.limit,
            (false, true) => value > self.limit,
            (false, false) => value >= self.limit,
        }
    }
}

/// All bounds that a schema sets on a number.
pub fn bounds(schema: &Map<String, Value>) -> Vec<Bound> {
    let keywords = [("minimum", "exclusiveMinimum", false), ("maximum", "exclusiveMaximum", true)];
    let mut bounds = Vec::new();
    for (inclusive, exclusive, is_upper) in keywords {
        // Draft 4 has a flag where later drafts have a number.
        let is_exclusive = schema.get(exclusive) == Some(&Value::Bool(true));
        if let Some(limit) = schema.get(inclusive).and_then(Value::as_f64) {
            bounds.push(Bound { keyword: inclusive, limit, is_exclusive, is_upper });
        }
        if let Some(limit) = schema.get(exclusive).and_then(Value::as_f64) {
            bounds.push(Bound { keyword: exclusive, limit, is_exclusive: true, is_upper });
        }
    }
    bounds
}

/// Whether `pattern` matches anywhere in `text`; `None` if the pattern cannot be compiled or run.
pub fn matches(pattern: &str, text: &str) -> Option<bool> {
    Regex::new(&ascii_classes(pattern)).ok()?.is_match(text).ok()
}

/// The patterns are ECMAScript, where `\d` and `\w` match only ASCII and `$` only the very end.
/// This rewrites the classes accordingly.
fn ascii_classes(pattern: &str) -> String {
    let mut out = String::new();
    let mut chars = pattern.chars();
    let mut in_class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match (chars.next(), in_class) {
                (Some('d'), false) => out.push_str("[0-9]"),
                (Some('d'), true) => out.push_str("0-9"),
                (Some('w'), false) => out.push_str("[0-9A-Za-z_]"),
                (Some('w'), true) => out.push_str("0-9A-Za-z_"),
                (Some('D'), false) => out.push_str("[^0-9]"),
                (Some('W'), false) => out.push_str("[^0-9A-Za-z_]"),
                // An escape that only some dialects need.
                (Some('/'), _) => out.push('/'),
                (Some(other), _) => out.extend(['\\', other]),
                (None, _) => out.push('\\'),
            },
            _ => {
                in_class = (in_class || c == '[') && c != ']';
                out.push(c);
            }
        }
    }
    out
}

/// Equality as JSON Schema defines it: numbers compare by value.
pub fn is_equal(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_equal(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| is_equal(a, b)))
        }
        (Value::Number(_), Value::Number(_)) => a == b || canonical(a) == canonical(b),
        _ => a == b,
    }
}

/// A canonical text: the same for equal values.
pub fn canonical(value: &Value) -> String {
    match value {
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() && float.fract() == 0.0 && float.abs() < 1e30 => (float as i128).to_string(),
            _ => number.to_string(),
        },
        Value::Array(items) => format!("[{}]", items.iter().map(canonical).collect::<Vec<_>>().join(",")),
        Value::Object(members) => {
            let mut members: Vec<String> = members
                .iter()
                .map(|(name, value)| format!("{}:{}", Value::from(name.as_str()), canonical(value)))
                .collect();
            members.sort();
            format!("{{{}}}", members.join(","))
        }
        other => other.to_string(),
    }
}

fn brief(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}
