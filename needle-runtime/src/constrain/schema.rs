//! JSON Schemas become [`Rules`]: references followed, `allOf` merged, alternatives side by side.
//!
//! A rule stands for the set of subschemas that a value must satisfy together, so that a schema
//! which refers to itself leads back to a rule that is there already. Keywords that no grammar
//! holds (`not`, `uniqueItems`, ...) are left out here: the rules then allow more than the schema,
//! and `needle_data::text::json_schema::check` has the last word. So are keywords with values that
//! no grammar holds; each of those is noted as a [`Loss`].

use std::collections::{HashMap, HashSet};

use needle_data::text::json_schema::{self, check, item_schemas, size, type_names};
use serde_json::{Map, Value};

use super::number::{LARGEST_STEP, NumberShape};
use super::shape::{
    ANYTHING, ArrayShape, Member, NOTHING, ObjectShape, Others, RuleId, Rules, Shape, StringShape, intersect,
};
use super::string::is_grammatical;
use super::weaken::{Dropped, Holding, holding, weakened};

/// More alternatives than this for one value are no longer a schema that a person wrote.
const MAX_ALTERNATIVES: usize = 512;
/// An `enum` of more values than this is checked after the answer.
const MAX_LITERALS: usize = 2000;
/// Intersections, checks of literals and visits of subschemas that the schemas of one tool may
/// cost.
const MAX_WORK: usize = 200_000;
/// Larger steps or finer ones than these are checked after the answer.
const MULTIPLES: std::ops::RangeInclusive<f64> = 1e-6..=LARGEST_STEP;

/// Of more alternatives of a `oneOf` it is not found out whether a value can fit two of them.
const MAX_COMPARED: usize = 64;

/// A string of this many characters needs no limit: the answer's own is lower.
const LONGEST: usize = 1 << 15;

type NodeId = usize;

/// A keyword of a schema that the rules do not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The schema, by its place in memory.
    pub schema: *const Value,
    /// The keyword.
    pub keyword: &'static str,
    /// Why the rules do not hold it.
    pub reason: String,
}

/// Rules, and how they came to be.
pub struct Built {
    /// The rules.
    pub rules: Rules,
    /// What the rules do not hold of the schemas.
    pub losses: Vec<Loss>,
    /// The schemas that each rule stands for, by their places in memory.
    pub schemas: Vec<Vec<*const Value>>,
}

/// Builds rules out of schemas.
#[derive(Default)]
pub struct Builder<'a> {
    /// Every subschema met, with the document that its references stand in.
    nodes: Vec<(&'a Value, &'a Value)>,
    node_of: HashMap<*const Value, NodeId>,
    /// Strings of these subschemas are words of the query.
    copied: HashSet<NodeId>,
    /// What each rule's values must satisfy; none for rules that were given their shapes.
    asked: Vec<Option<Vec<NodeId>>>,
    rule_of: HashMap<Vec<NodeId>, RuleId>,
    shapes: Vec<Option<Vec<Shape>>>,
    visiting: HashSet<NodeId>,
    /// The shapes of nodes that were visited.
    known: HashMap<NodeId, Vec<Shape>>,
    losses: Vec<Loss>,
    /// Rules whose shapes are final.
    settled: usize,
    work: usize,
}

impl<'a> Builder<'a> {
    /// With the rules that nothing and that everything satisfies.
    pub fn new() -> Self {
        let mut builder = Self::default();
        assert_eq!(builder.add(Vec::new()), NOTHING);
        assert_eq!(builder.rule(Vec::new()), ANYTHING);
        builder
    }

    /// A rule of these shapes.
    pub fn add(&mut self, shapes: Vec<Shape>) -> RuleId {
        self.shapes.push(Some(shapes));
        self.asked.push(None);
        self.shapes.len() - 1
    }

    /// Strings that `schema` allows are held to the words of the query.
    pub fn copy(&mut self, schema: &'a Value, root: &'a Value) {
        let node = self.node(schema, root);
        self.copied.insert(node);
    }

    /// The rule of values that satisfy `schema`, part of the document `root`.
    pub fn schema(&mut self, schema: &'a Value, root: &'a Value) -> RuleId {
        let node = self.node(schema, root);
        self.rule(vec![node])
    }

    /// The rule of arguments that satisfy `schema`, a whole document: objects with declared members
    /// alone.
    ///
    /// # Errors
    /// As [`Self::shapes`].
    pub fn arguments(&mut self, schema: &'a Value) -> Result<RuleId, String> {
        let rule = self.schema(schema, schema);
        let closed = self.shapes(rule)?.into_iter().filter_map(|shape| match shape {
            Shape::Object(object) => Some(Shape::Object(ObjectShape { others: Others::None, ..object })),
            _ => None,
        });
        let closed = closed.collect();
        Ok(self.add(closed))
    }

    /// The shapes of `rule`, as far as one level.
    ///
    /// # Errors
    /// If the schemas cost too much work.
    pub fn shapes(&mut self, rule: RuleId) -> Result<Vec<Shape>, String> {
        if let Some(shapes) = &self.shapes[rule] {
            return Ok(shapes.clone());
        }
        let nodes = self.asked[rule].clone().unwrap_or_default();
        let shapes = match self.intersection(&nodes)? {
            Some(shapes) => shapes,
            None => self.types_of(&nodes)?,
        };
        let mut fitting = Vec::new();
        for shape in shapes {
            fitting.extend(self.checked(shape, &nodes)?);
        }
        self.shapes[rule] = Some(fitting.clone());
        Ok(fitting)
    }

    /// Makes all rules so far final, those that were met on the way included. What the schemas of
    /// the next tool cost is counted anew.
    ///
    /// # Errors
    /// As [`Self::shapes`]; nothing then satisfies the rules that are not final.
    pub fn settle(&mut self) -> Result<(), String> {
        let mut settled = Ok(());
        while self.settled < self.shapes.len() {
            let rule = self.settled;
            let shapes = match &settled {
                Ok(()) => self.shapes(rule),
                Err(_) => Ok(Vec::new()),
            };
            let shapes = shapes.unwrap_or_else(|reason| {
                settled = Err(reason);
                Vec::new()
            });
            let mut held = Vec::new();
            for shape in shapes.into_iter().filter_map(with_few_steps) {
                held.extend(self.held(rule, shape));
            }
            self.shapes[rule] = Some(held);
            self.settled += 1;
        }
        self.work = 0;
        settled
    }

    /// All rules.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub fn finish(mut self) -> Result<Built, String> {
        self.settle()?;
        let nodes = &self.nodes;
        let schemas_of = |asked: &Option<Vec<NodeId>>| {
            asked.iter().flatten().map(|&node| std::ptr::from_ref(nodes[node].0)).collect()
        };
        let schemas = self.asked.iter().map(schemas_of).collect();
        let shapes = self.shapes.into_iter().map(Option::unwrap_or_default).collect();
        Ok(Built { rules: Rules { shapes, shortest: Vec::new() }, losses: self.losses, schemas })
    }

    /// The shapes that satisfy all of `nodes`; none if they are too many.
    fn intersection(&mut self, nodes: &[NodeId]) -> Result<Option<Vec<Shape>>, String> {
        let mut shapes = anything();
        for &node in nodes {
            let more = self.node_shapes(node)?;
            shapes = self.cross(&shapes, &more)?;
        }
        if shapes.len() <= MAX_ALTERNATIVES {
            return Ok(Some(shapes));
        }
        let reason = format!("{} alternatives for one value; a grammar holds {MAX_ALTERNATIVES}", shapes.len());
        for node in self.in_place(nodes) {
            for keyword in ["anyOf", "oneOf"] {
                self.lose(node, keyword, &reason);
            }
        }
        Ok(None)
    }

    /// The shapes that the types of `nodes` allow, and the keywords beside them.
    fn types_of(&mut self, nodes: &[NodeId]) -> Result<Vec<Shape>, String> {
        let mut shapes = anything();
        for &node in nodes {
            let (value, root) = self.nodes[node];
            if let Value::Object(schema) = value {
                let more = self.typed(node, schema, root);
                shapes = self.cross(&shapes, &more)?;
            }
        }
        Ok(shapes)
    }

    /// `shape` of `rule` as far as a grammar holds it; what it does not hold is noted.
    fn held(&mut self, rule: RuleId, shape: Shape) -> Option<Shape> {
        match holding(&shape) {
            Holding::Held => return Some(shape),
            Holding::Nothing => return None,
            Holding::TooHard(_) => {}
        }
        let nodes = self.in_place(&self.asked[rule].clone().unwrap_or_default());
        let pattern_of = |node: NodeId, keyword: &str| {
            let text = self.nodes[node].0.get(keyword)?.as_str()?;
            if keyword == "format" { format_regex(text) } else { Some(text.to_owned()) }
        };
        let formats: Vec<String> = nodes.iter().filter_map(|&node| pattern_of(node, "format")).collect();
        let (shape, dropped) = weakened(shape, &formats);
        let mut lost = Vec::new();
        for Dropped { keywords, patterns, reason } in dropped {
            for (&node, &keyword) in nodes.iter().flat_map(|node| keywords.iter().map(move |keyword| (node, keyword))) {
                if patterns.is_empty() || pattern_of(node, keyword).is_some_and(|own| patterns.contains(&own)) {
                    lost.push((node, keyword, reason.clone()));
                }
            }
        }
        for (node, keyword, reason) in lost {
            self.lose(node, keyword, &reason);
        }
        shape
    }

    /// Notes that the rules do not hold `keyword` of `node`, if it has it.
    fn lose(&mut self, node: NodeId, keyword: &'static str, reason: &str) {
        let schema = self.nodes[node].0;
        let is_known = |loss: &Loss| std::ptr::eq(loss.schema, schema) && loss.keyword == keyword;
        if schema.get(keyword).is_some() && !self.losses.iter().any(is_known) {
            self.losses.push(Loss { schema, keyword, reason: reason.to_owned() });
        }
    }

    /// `nodes`, and those that say something of the same value for them.
    fn in_place(&mut self, nodes: &[NodeId]) -> Vec<NodeId> {
        let mut found: Vec<NodeId> = nodes.to_vec();
        let mut seen: HashSet<NodeId> = found.iter().copied().collect();
        let mut next = 0;
        while let Some(&node) = found.get(next) {
            next += 1;
            let (value, root) = self.nodes[node];
            let target = value.get("$ref").and_then(Value::as_str).and_then(|to| json_schema::resolve(root, to));
            let lists = ["allOf", "anyOf", "oneOf"].into_iter().filter_map(|keyword| value.get(keyword)?.as_array());
            for part in target.into_iter().chain(lists.flatten()) {
                let part = self.node(part, root);
                if seen.insert(part) {
                    found.push(part);
                }
            }
        }
        found
    }

    fn spend(&mut self, work: usize) -> Result<(), String> {
        self.work += work;
        if self.work > MAX_WORK {
            return Err("its schema costs too much work: too many alternatives and references".to_owned());
        }
        Ok(())
    }

    fn node(&mut self, schema: &'a Value, root: &'a Value) -> NodeId {
        *self.node_of.entry(std::ptr::from_ref(schema)).or_insert_with(|| {
            self.nodes.push((schema, root));
            self.nodes.len() - 1
        })
    }

    fn rule(&mut self, mut nodes: Vec<NodeId>) -> RuleId {
        nodes.sort_unstable();
        nodes.dedup();
        if let Some(&rule) = self.rule_of.get(&nodes) {
            return rule;
        }
        self.shapes.push(None);
        self.asked.push(Some(nodes.clone()));
        self.rule_of.insert(nodes, self.shapes.len() - 1);
        self.shapes.len() - 1
    }

    /// The rule of values that satisfy two rules.
    fn both(&mut self, a: RuleId, b: RuleId) -> RuleId {
        match (&self.asked[a], &self.asked[b]) {
            (Some(a), Some(b)) => {
                let nodes = a.iter().chain(b).copied().collect();
                self.rule(nodes)
            }
            // Only `NOTHING` has no schema and is part of one.
            _ => NOTHING,
        }
    }

    fn cross(&mut self, a: &[Shape], b: &[Shape]) -> Result<Vec<Shape>, String> {
        self.spend(a.len() * b.len() + 1)?;
        let mut shapes = Vec::new();
        for a in a {
            for b in b {
                let shape = intersect(a, b, &mut |a, b| self.both(a, b));
                shapes.extend(shape.filter(|shape| !shapes.contains(shape)));
            }
        }
        Ok(shapes)
    }

    /// `shape` with only those literals that satisfy all of `nodes`.
    fn checked(&mut self, shape: Shape, nodes: &[NodeId]) -> Result<Option<Shape>, String> {
        let Shape::Literals(texts) = shape else { return Ok(Some(shape)) };
        self.spend(texts.len() * nodes.len())?;
        let fits = |text: &String| {
            serde_json::from_str(text).is_ok_and(|value: Value| {
                nodes.iter().all(|&n| check(self.nodes[n].0, self.nodes[n].1, &value).is_ok())
            })
        };
        let texts: Vec<String> = texts.into_iter().filter(fits).collect();
        Ok((!texts.is_empty()).then_some(Shape::Literals(texts)))
    }

    fn node_shapes(&mut self, node: NodeId) -> Result<Vec<Shape>, String> {
        let (value, root) = self.nodes[node];
        let schema = match value {
            Value::Bool(false) => return Ok(Vec::new()),
            Value::Object(schema) => schema,
            _ => return Ok(anything()),
        };
        if let Some(known) = self.known.get(&node) {
            return Ok(known.clone());
        }
        self.spend(1)?;
        if !self.visiting.insert(node) {
            // What is asked for to answer what is asked for: nothing ever satisfies that.
            self.lose(node, "$ref", "it leads back to itself");
            return Ok(Vec::new());
        }
        let shapes = self.combined(node, schema, root);
        self.visiting.remove(&node);
        let mut shapes = shapes?;
        let null = Shape::Literals(vec!["null".to_owned()]);
        if schema.get("nullable") == Some(&Value::Bool(true)) && !shapes.contains(&null) {
            shapes.push(null);
        }
        self.known.insert(node, shapes.clone());
        Ok(shapes)
    }

    fn combined(
        &mut self,
        node: NodeId,
        schema: &'a Map<String, Value>,
        root: &'a Value,
    ) -> Result<Vec<Shape>, String> {
        let literals = match (schema.get("const"), schema.get("enum")) {
            (Some(one), _) => Some(std::slice::from_ref(one)),
            (None, Some(Value::Array(many))) => Some(many.as_slice()),
            _ => None,
        };
        let mut shapes = match literals {
            Some(literals) if literals.len() <= MAX_LITERALS => {
                let mut texts: Vec<String> = literals.iter().map(Value::to_string).collect();
                texts.sort();
                texts.dedup();
                let shape = self.checked(Shape::Literals(texts), &[node])?;
                return Ok(shape.into_iter().collect());
            }
            Some(literals) => {
                self.lose(node, "enum", &format!("a grammar holds at most {MAX_LITERALS} values"));
                let has_type_of = |shape: &Shape| literals.iter().any(|literal| shape.has_type_of(literal));
                self.typed(node, schema, root).into_iter().filter(has_type_of).collect()
            }
            None => self.typed(node, schema, root),
        };
        if let Some(Value::String(reference)) = schema.get("$ref") {
            let Some(target) = json_schema::resolve(root, reference) else {
                self.lose(node, "$ref", &format!("{reference:?} is not in the schema, and nothing is fetched"));
                return Ok(Vec::new());
            };
            let target = self.node(target, root);
            let more = self.node_shapes(target)?;
            shapes = self.cross(&shapes, &more)?;
        }
        for one in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            let one = self.node(one, root);
            let more = self.node_shapes(one)?;
            shapes = self.cross(&shapes, &more)?;
        }
        for keyword in ["anyOf", "oneOf"] {
            let Some(Value::Array(any)) = schema.get(keyword) else { continue };
            let mut alternatives = Vec::new();
            for one in any {
                let one = self.node(one, root);
                alternatives.extend(self.node_shapes(one)?);
            }
            shapes = self.cross(&shapes, &side_by_side(alternatives))?;
        }
        Ok(shapes)
    }

    /// What the keywords of each type allow.
    fn typed(&mut self, node: NodeId, schema: &'a Map<String, Value>, root: &'a Value) -> Vec<Shape> {
        let types = type_names(schema);
        let has = |name: &str| types.is_empty() || types.contains(&name);
        let mut shapes = Vec::new();
        if has("null") {
            shapes.push(Shape::Literals(vec!["null".into()]));
        }
        if has("boolean") {
            shapes.push(Shape::Literals(vec!["true".into(), "false".into()]));
        }
        if has("number") || has("integer") {
            shapes.extend(number(schema, !has("number")).map(Shape::Number));
        }
        if has("string") {
            shapes.extend(string(schema, self.copied.contains(&node)).map(Shape::String));
        }
        if has("array") {
            shapes.extend(self.array(schema, root).map(Shape::Array));
        }
        if has("object") {
            shapes.push(Shape::Object(self.object(schema, root)));
        }
        shapes
    }

    fn array(&mut self, schema: &'a Map<String, Value>, root: &'a Value) -> Option<ArrayShape> {
        let (prefix, rest) = item_schemas(schema);
        let prefix = prefix.iter().map(|item| self.schema(item, root)).collect();
        let items = rest.map_or(ANYTHING, |rest| self.schema(rest, root));
        let min = size(schema, "minItems").unwrap_or(0);
        // No answer is longer than this.
        let max = size(schema, "maxItems").filter(|&max| max < LONGEST || max < min);
        max.is_none_or(|max| min <= max).then_some(ArrayShape { prefix, items: Some(items), min, max })
    }

    fn object(&mut self, schema: &'a Map<String, Value>, root: &'a Value) -> ObjectShape {
        let others = match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => Others::None,
            // As if it were not there, which means the same.
            None | Some(Value::Bool(true)) => Others::Unsaid(ANYTHING),
            Some(other) => Others::Of(self.schema(other, root)),
        };
        let required: Vec<&str> =
            schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        let properties = schema.get("properties").and_then(Value::as_object);
        let mut members: Vec<Member> = Vec::new();
        for (name, value) in properties.into_iter().flatten() {
            let is_required = required.contains(&name.as_str());
            members.push(Member { name: name.clone(), value: self.schema(value, root), is_required });
        }
        for name in required {
            if members.iter().all(|member| member.name != name) {
                let value = match others {
                    Others::Unsaid(rule) | Others::Of(rule) => rule,
                    Others::None => NOTHING,
                };
                members.push(Member { name: name.to_owned(), value, is_required: true });
            }
        }
        ObjectShape { members, others, is_ordered: false }
    }
}

/// Alternatives, each once: all literals as one.
fn side_by_side(alternatives: Vec<Shape>) -> Vec<Shape> {
    let mut texts = Vec::new();
    let mut shapes: Vec<Shape> = Vec::new();
    for shape in alternatives {
        match shape {
            Shape::Literals(more) => texts.extend(more),
            shape if !shapes.contains(&shape) => shapes.push(shape),
            _ => {}
        }
    }
    texts.sort();
    texts.dedup();
    if !texts.is_empty() {
        shapes.push(Shape::Literals(texts));
    }
    shapes
}

/// Numbers with a step as the grammar has them: a list where they are few; else, without a fraction
/// in their bounds.
fn with_few_steps(shape: Shape) -> Option<Shape> {
    let Shape::Number(mut number) = shape else { return Some(shape) };
    if let Some(texts) = number.listed() {
        return (!texts.is_empty()).then_some(Shape::Literals(texts));
    }
    if number.multiple_of.is_some() {
        (number.min, number.max) = (number.min.map(f64::ceil), number.max.map(f64::floor));
    }
    Some(Shape::Number(number))
}

/// Every value.
fn anything() -> Vec<Shape> {
    vec![
        Shape::Literals(vec!["null".into()]),
        Shape::Literals(vec!["true".into(), "false".into()]),
        Shape::Number(NumberShape::default()),
        Shape::String(StringShape::default()),
        Shape::Array(ArrayShape { prefix: Vec::new(), items: Some(ANYTHING), min: 0, max: None }),
        Shape::Object(ObjectShape { members: Vec::new(), others: Others::Unsaid(ANYTHING), is_ordered: false }),
    ]
}

/// The step of `multipleOf`, where a grammar can hold it.
pub fn step(schema: &Map<String, Value>) -> Option<f64> {
    let step = schema.get("multipleOf").and_then(Value::as_f64)?;
    let millionths = step * 1e6;
    (MULTIPLES.contains(&step) && (millionths - millionths.round()).abs() < 1e-9 * millionths).then_some(step)
}

fn number(schema: &Map<String, Value>, is_integer: bool) -> Option<NumberShape> {
    let mut shape = NumberShape { is_integer, multiple_of: step(schema), ..NumberShape::default() };
    for bound in json_schema::bounds(schema) {
        // The next integer, or the next number that no rounding takes for the limit itself.
        let gap = if is_integer { 0.0 } else { bound.limit.abs().max(1.0) * 1e-9 };
        let limit = match (bound.is_upper, bound.is_exclusive, is_integer) {
            (true, false, true) => bound.limit.floor(),
            (true, true, true) => bound.limit.ceil() - 1.0,
            (false, false, true) => bound.limit.ceil(),
            (false, true, true) => bound.limit.floor() + 1.0,
            (true, true, false) => bound.limit - gap,
            (false, true, false) => bound.limit + gap,
            (_, false, false) => bound.limit,
        };
        if bound.is_upper {
            shape.max = Some(shape.max.map_or(limit, |max| max.min(limit)));
        } else {
            shape.min = Some(shape.min.map_or(limit, |min| min.max(limit)));
        }
    }
    let shape = shape.with_whole_steps();
    (!shape.is_empty()).then_some(shape)
}

/// The regular expression of strings of the named format, if the format is known.
fn format_regex(format: &str) -> Option<String> {
    json_schema::format_pattern(format).map(|pattern| format!("^(?:{pattern})$"))
}

fn string(schema: &Map<String, Value>, is_copied: bool) -> Option<StringShape> {
    let mut patterns = Vec::new();
    if let Some(Value::String(pattern)) = schema.get("pattern")
        && is_grammatical(pattern)
    {
        patterns.push(pattern.clone());
    }
    if let Some(Value::String(format)) = schema.get("format")
        && let Some(pattern) = format_regex(format)
    {
        patterns.push(pattern);
    }
    let is_copied = is_copied || schema.get("x-from-query") == Some(&Value::Bool(true));
    let min_chars = size(schema, "minLength").unwrap_or(0);
    // No answer is longer than this.
    let max_chars = size(schema, "maxLength").filter(|&max| max < LONGEST);
    max_chars.is_none_or(|max| min_chars <= max).then_some(StringShape { min_chars, max_chars, patterns, is_copied })
}

/// True if no value can satisfy two of the alternatives of a `oneOf`, as far as their types,
/// constants and required constant members tell: the grammar then holds the `oneOf` whole.
pub fn are_disjoint(alternatives: &[Value], root: &Value) -> bool {
    if let Some(literals) = all_literals(alternatives) {
        let different: HashSet<&String> = literals.iter().collect();
        return different.len() == literals.len();
    }
    if alternatives.len() > MAX_COMPARED {
        return false;
    }
    let pairs = alternatives.iter().enumerate();
    pairs.clone().all(|(i, a)| alternatives[i + 1..].iter().all(|b| two_are_disjoint(a, b, root, 0)))
}

/// The values of alternatives that are constants, as texts that only equal values share.
fn all_literals(alternatives: &[Value]) -> Option<Vec<String>> {
    alternatives.iter().map(|one| one.get("const").map(json_schema::canonical)).collect()
}

fn two_are_disjoint(a: &Value, b: &Value, root: &Value, depth: usize) -> bool {
    let follow = |value: &'_ Value| -> Value {
        match value.get("$ref").and_then(Value::as_str).and_then(|r| json_schema::resolve(root, r)) {
            Some(target) => target.clone(),
            None => value.clone(),
        }
    };
    let (a, b) = (follow(a), follow(b));
    let (Value::Object(a), Value::Object(b)) = (&a, &b) else {
        return a == Value::Bool(false) || b == Value::Bool(false);
    };
    let literals = |schema: &Map<String, Value>| match (schema.get("const"), schema.get("enum")) {
        (Some(one), _) => Some(vec![one.clone()]),
        (_, Some(Value::Array(many))) => Some(many.clone()),
        _ => None,
    };
    match (literals(a), literals(b)) {
        (Some(a), Some(b)) => return a.iter().all(|a| b.iter().all(|b| !json_schema::is_equal(a, b))),
        (Some(texts), None) => return texts.iter().all(|text| check(&b.clone().into(), root, text).is_err()),
        (None, Some(texts)) => return texts.iter().all(|text| check(&a.clone().into(), root, text).is_err()),
        (None, None) => {}
    }
    let (types_a, types_b) = (type_names(a), type_names(b));
    let overlap = |a: &&str| {
        let is_number = |name: &str| matches!(name, "integer" | "number");
        types_b.iter().any(|b: &&str| **a == **b || is_number(a) && is_number(b))
    };
    if !types_a.is_empty() && !types_b.is_empty() && !types_a.iter().any(overlap) {
        return true;
    }
    let only_objects = |types: &[&str]| types == ["object"];
    let required = |schema: &Map<String, Value>, name: &str| {
        schema.get("required").and_then(Value::as_array).is_some_and(|all| all.iter().any(|one| one == name))
    };
    let properties = |schema: &Map<String, Value>| schema.get("properties").and_then(Value::as_object).cloned();
    let (Some(in_a), Some(in_b)) = (properties(a), properties(b)) else { return false };
    depth < 8
        && only_objects(&types_a)
        && only_objects(&types_b)
        && in_a.iter().any(|(name, a_value)| {
            in_b.get(name).is_some_and(|b_value| {
                required(a, name) && required(b, name) && two_are_disjoint(a_value, b_value, root, depth + 1)
            })
        })
}
