//! Collects the arguments of a schema that is composed of other schemas into one list for the
//! model.

use std::collections::HashMap;

use serde_json::{Map, Value};

use crate::text::json_schema;

/// The arguments that a schema declares, itself or through the schemas that it is composed of.
#[derive(Clone, Default)]
pub struct Composed {
    /// Schema of each argument, by name.
    pub properties: Map<String, Value>,
    /// Names of the arguments that every call must have.
    pub required: Vec<String>,
}

impl Composed {
    /// The arguments of `root`, a whole document.
    pub fn of(root: &Value) -> Self {
        Composer { root, known: HashMap::new() }.schema(root)
    }

    /// Adds arguments that are not declared yet.
    fn declare(&mut self, properties: &Map<String, Value>) {
        for (name, spec) in properties {
            if !self.properties.contains_key(name) {
                self.properties.insert(name.clone(), spec.clone());
            }
        }
    }

    fn require(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            if !self.required.contains(&name) {
                self.required.push(name);
            }
        }
    }
}

/// Finds the arguments of composed schemas, so that the model reads all of them: those under `$ref`
/// and `allOf`, and those of every alternative under `anyOf` and `oneOf`. An argument of the
/// alternatives is required only if all of them require it.
struct Composer<'a> {
    root: &'a Value,
    /// Results so far, by address. A schema that is part of itself adds nothing more.
    known: HashMap<*const Value, Composed>,
}

impl<'a> Composer<'a> {
    fn schema(&mut self, value: &'a Value) -> Composed {
        let place = std::ptr::from_ref(value);
        if let Some(known) = self.known.get(&place) {
            return known.clone();
        }
        self.known.insert(place, Composed::default());
        let mut found = Composed::default();
        if let Some(properties) = value.get("properties").and_then(Value::as_object) {
            found.declare(properties);
        }
        let list = |keyword: &str| value.get(keyword).and_then(Value::as_array).into_iter().flatten();
        found.require(list("required").filter_map(Value::as_str).map(str::to_owned));
        let target = value.get("$ref").and_then(Value::as_str).and_then(|to| json_schema::resolve(self.root, to));
        for part in target.into_iter().chain(list("allOf")) {
            let part = self.schema(part);
            found.declare(&part.properties);
            found.require(part.required);
        }
        for keyword in ["anyOf", "oneOf"] {
            let alternatives: Vec<Composed> = list(keyword).map(|one| self.schema(one)).collect();
            for one in &alternatives {
                found.declare(&one.properties);
            }
            if let Some((first, others)) = alternatives.split_first() {
                let by_all = |name: &&String| others.iter().all(|one| one.required.contains(*name));
                found.require(first.required.iter().filter(by_all).cloned());
            }
        }
        self.known.insert(place, found.clone());
        found
    }
}
