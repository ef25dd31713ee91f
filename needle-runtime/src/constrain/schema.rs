//! Compiles JSON Schemas to [`Rules`]: follows references, merges `allOf`, and lists alternatives
//! side by side.
//!
//! A rule stands for the set of subschemas that a value must satisfy together, so that a recursive
//! schema leads back to an existing rule. Keywords that a grammar cannot express (`not`,
//! `uniqueItems`, ...) are left out here. The rules then allow more than the schema, and
//! `needle_data::text::json_schema::check` checks the finished answer. Keywords whose particular
//! values a grammar cannot express are left out, too; each of those is recorded as a [`Loss`].

use std::collections::{HashMap, HashSet};

use needle_data::text::json_schema::{self, check, item_schemas, size, type_names};
use serde_json::{Map, Value};

use super::keywords::{LONGEST, anything, format_regex, number, string, with_few_steps};
use super::shape::{ANYTHING, ArrayShape, Member, NOTHING, ObjectShape, Others, RuleId, Rules, Shape, intersect};
use super::weaken::{Dropped, Holding, holding, weakened};

/// A value with more alternatives than this is checked after decoding.
const MAX_ALTERNATIVES: usize = 512;
const TOO_MANY_ALTERNATIVES: &str = "a grammar can have at most 512 alternatives for one value";
/// A choice among more values than this is checked after decoding.
const MAX_LITERALS: usize = 2000;
const TOO_MANY_LITERALS: &str = "a grammar can have at most 2000 values to choose from";
/// Limit on the work for the schemas of one tool: intersections, checks of literals and visits of
/// subschemas.
const MAX_WORK: usize = 200_000;

type NodeId = usize;

/// A keyword of a schema that the rules do not enforce.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The schema, by its address.
    pub schema: *const Value,
    /// The keyword.
    pub keyword: &'static str,
    /// Why the rules do not enforce it.
    pub reason: String,
}

/// Rules, with the schemas that they come from.
pub struct Built {
    /// The rules.
    pub rules: Rules,
    /// Keywords of the schemas that the rules do not enforce.
    pub losses: Vec<Loss>,
    /// The schemas that each rule stands for, by address.
    pub schemas: Vec<Vec<*const Value>>,
}

/// Builds rules from schemas.
#[derive(Default)]
pub struct Builder<'a> {
    /// All visited subschemas, each with the document that its references point into.
    nodes: Vec<(&'a Value, &'a Value)>,
    node_of: HashMap<*const Value, NodeId>,
    /// Subschemas whose strings must be copied from the query.
    copied: HashSet<NodeId>,
    /// The nodes that each rule's values must satisfy; `None` for rules that were added with their
    /// shapes.
    asked: Vec<Option<Vec<NodeId>>>,
    rule_of: HashMap<Vec<NodeId>, RuleId>,
    shapes: Vec<Option<Vec<Shape>>>,
    visiting: HashSet<NodeId>,
    /// The shapes of visited nodes.
    known: HashMap<NodeId, Vec<Shape>>,
    losses: Vec<Loss>,
    /// Number of rules whose shapes are final.
    settled: usize,
    work: usize,
}

impl<'a> Builder<'a> {
    /// A builder with the rules `NOTHING` and `ANYTHING`.
    pub fn new() -> Self {
        let mut builder = Self::default();
        assert_eq!(builder.add(Vec::new()), NOTHING);
        assert_eq!(builder.rule(Vec::new()), ANYTHING);
        builder
    }

    /// Adds a rule with these shapes.
    pub fn add(&mut self, shapes: Vec<Shape>) -> RuleId {
        self.shapes.push(Some(shapes));
        self.asked.push(None);
        self.shapes.len() - 1
    }

    /// Demands that strings of `schema` are copied from the query.
    pub fn copy(&mut self, schema: &'a Value, root: &'a Value) {
        let node = self.node(schema, root);
        self.copied.insert(node);
    }

    /// The rule of values that satisfy `schema`, part of the document `root`.
    pub fn schema(&mut self, schema: &'a Value, root: &'a Value) -> RuleId {
        let node = self.node(schema, root);
        self.rule(vec![node])
    }

    /// The rule of arguments that satisfy `schema`, a whole document: objects with only declared
    /// members.
    ///
    /// # Errors
    /// As for [`Self::shapes`].
    pub fn arguments(&mut self, schema: &'a Value) -> Result<RuleId, String> {
        let rule = self.schema(schema, schema);
        let closed = self.shapes(rule)?.into_iter().filter_map(|shape| match shape {
            Shape::Object(object) => Some(Shape::Object(ObjectShape { others: Others::None, ..object })),
            _ => None,
        });
        let closed = closed.collect();
        Ok(self.add(closed))
    }

    /// The shapes of `rule`, one level deep.
    ///
    /// # Errors
    /// If the schemas exceed the limit on work.
    pub fn shapes(&mut self, rule: RuleId) -> Result<Vec<Shape>, String> {
        if let Some(shapes) = &self.shapes[rule] {
            return Ok(shapes.clone());
        }
        let nodes = self.asked[rule].clone().unwrap_or_default();
        let shapes = self.intersection(&nodes)?;
        let mut fitting = Vec::new();
        for shape in shapes {
            fitting.extend(self.checked(shape, &nodes)?);
        }
        self.shapes[rule] = Some(fitting.clone());
        Ok(fitting)
    }

    /// Makes all rules final, including those that are added meanwhile, and resets the count of
    /// work for the next tool.
    ///
    /// # Errors
    /// As for [`Self::shapes`]. The rules that are not yet final then have no shapes.
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

    /// Finishes all rules.
    ///
    /// # Errors
    /// As for [`Self::settle`].
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

    /// The shapes that satisfy all of `nodes`. If a node makes them too many, its `$ref`, `allOf`,
    /// `anyOf` and `oneOf` are not enforced.
    fn intersection(&mut self, nodes: &[NodeId]) -> Result<Vec<Shape>, String> {
        let mut shapes = anything();
        for &node in nodes {
            let more = self.node_shapes(node)?;
            if self.narrow(&mut shapes, &more)? {
                continue;
            }
            for keyword in ["$ref", "allOf", "anyOf", "oneOf"] {
                self.lose(node, keyword, TOO_MANY_ALTERNATIVES);
            }
            if let (Value::Object(schema), root) = self.nodes[node] {
                let more = self.typed(node, schema, root);
                self.narrow(&mut shapes, &more)?;
            }
        }
        Ok(shapes)
    }

    /// Intersects `shapes` with `more`, unless the result has too many alternatives for a grammar.
    /// Returns whether it did.
    fn narrow(&mut self, shapes: &mut Vec<Shape>, more: &[Shape]) -> Result<bool, String> {
        self.spend(shapes.len() * more.len() + 1)?;
        let mut both = Vec::new();
        for a in shapes.iter() {
            for b in more {
                let shape = intersect(a, b, &mut |a, b| self.both(a, b));
                both.extend(shape.filter(|shape| !both.contains(shape)));
                if both.len() > MAX_ALTERNATIVES {
                    return Ok(false);
                }
            }
        }
        *shapes = both;
        Ok(true)
    }

    /// `shape` of `rule` as far as a grammar can enforce it; records the keywords that it cannot.
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

    /// Records that the rules do not enforce `keyword` of `node`, if the node has it.
    fn lose(&mut self, node: NodeId, keyword: &'static str, reason: &str) {
        let schema = self.nodes[node].0;
        let is_known = |loss: &Loss| std::ptr::eq(loss.schema, schema) && loss.keyword == keyword;
        if schema.get(keyword).is_some() && !self.losses.iter().any(is_known) {
            self.losses.push(Loss { schema, keyword, reason: reason.to_owned() });
        }
    }

    /// `nodes`, and the nodes that they apply to the same value (by `$ref`, `allOf`, `anyOf` and
    /// `oneOf`).
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
            return Err("its schema is too complex: too many alternatives and references".to_owned());
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
            // The only rule without nodes that can occur inside a schema is `NOTHING`.
            _ => NOTHING,
        }
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
            // The schema requires itself, so no value satisfies it.
            self.lose(node, "$ref", "the reference leads back to itself");
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
                self.lose(node, "enum", TOO_MANY_LITERALS);
                let has_type_of = |shape: &Shape| literals.iter().any(|literal| shape.has_type_of(literal));
                self.typed(node, schema, root).into_iter().filter(has_type_of).collect()
            }
            None => self.typed(node, schema, root),
        };
        if let Some(Value::String(reference)) = schema.get("$ref") {
            let Some(target) = json_schema::resolve(root, reference) else {
                self.lose(
                    node,
                    "$ref",
                    &format!("{reference:?} is not in the schema, and external schemas are not fetched"),
                );
                return Ok(Vec::new());
            };
            let target = self.node(target, root);
            let more = self.node_shapes(target)?;
            if !self.narrow(&mut shapes, &more)? {
                self.lose(node, "$ref", TOO_MANY_ALTERNATIVES);
            }
        }
        for one in schema.get("allOf").and_then(Value::as_array).into_iter().flatten() {
            let one = self.node(one, root);
            let more = self.node_shapes(one)?;
            if !self.narrow(&mut shapes, &more)? {
                self.lose(node, "allOf", TOO_MANY_ALTERNATIVES);
            }
        }
        for keyword in ["anyOf", "oneOf"] {
            let Some(Value::Array(any)) = schema.get(keyword) else { continue };
            let mut alternatives = Vec::new();
            for one in any {
                let one = self.node(one, root);
                alternatives.extend(self.node_shapes(one)?);
            }
            let alternatives = side_by_side(alternatives);
            let has_too_many = |shape: &Shape| matches!(shape, Shape::Literals(texts) if texts.len() > MAX_LITERALS);
            if alternatives.iter().any(has_too_many) {
                self.lose(node, keyword, TOO_MANY_LITERALS);
            } else if !self.narrow(&mut shapes, &alternatives)? {
                self.lose(node, keyword, TOO_MANY_ALTERNATIVES);
            }
        }
        Ok(shapes)
    }

    /// The shapes that the keywords of each type allow.
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
        // An answer is never longer than `LONGEST`, so a higher limit has no effect.
        let max = size(schema, "maxItems").filter(|&max| max < LONGEST || max < min);
        max.is_none_or(|max| min <= max).then_some(ArrayShape { prefix, items: Some(items), min, max })
    }

    fn object(&mut self, schema: &'a Map<String, Value>, root: &'a Value) -> ObjectShape {
        let others = match schema.get("additionalProperties") {
            Some(Value::Bool(false)) => Others::None,
            // `true` means the same as leaving the keyword out.
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

/// Joins all literals into one shape and removes duplicates, unless there are too many
/// alternatives.
fn side_by_side(alternatives: Vec<Shape>) -> Vec<Shape> {
    let mut texts = Vec::new();
    let mut shapes: Vec<Shape> = Vec::new();
    for shape in alternatives {
        match shape {
            Shape::Literals(more) => texts.extend(more),
            shape if shapes.len() > MAX_ALTERNATIVES || !shapes.contains(&shape) => shapes.push(shape),
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
