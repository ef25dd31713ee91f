//! How similar a query and a tool are by their words alone, and the order in which tools, their
//! parameters and the values of enums are offered.
//!
//! What a query is about stands first, so that a small model has to learn only when the first one
//! is wrong, and the answer does not depend on the order in which a user lists the tools.
//!
//! The similarity of a tool is the sum of two cosines, of the vectors of pieces ([`WordVectors`]):
//!
//! - of the sums of the query's and the tool's pieces: is it about the same subject?
//! - of each piece of the query with the most similar one of the tool, averaged with the lengths of
//!   the query's vectors as weights, as in ColBERT (Khattab and Zaharia, arXiv:2004.12832): is each
//!   word of the query accounted for?
//!
//! That of a parameter or value asks the other way round: is each of its words, and is its best
//! one, accounted for by the query?
//!
//! Each piece counts once. What was measured: docs/LOG.md, "Tools ordered by words".

use serde_json::Value;

use crate::tokenizer::Tokenizer;
use crate::tokenizer::word_vectors::WordVectors;

/// Orders `tools`, in native form, by their similarity to a query, the most similar one first, and
/// the parameters of each tool and the values of their enums likewise. Equal ones are in the order
/// of their texts, so that the given order has no influence. Without vectors, all stay where they
/// are.
pub fn order_tools(tools: &mut Vec<Value>, query: &str, tokenizer: &Tokenizer) {
    let Some(texts) = SimilarityTo::new(query, tokenizer) else { return };
    sort_by(tools, |tool| texts.of_tool(tool), |tool| tool.to_string());
    for tool in tools {
        let Some(Value::Object(parameters)) = tool.get_mut("parameters") else { continue };
        let mut members: Vec<(String, Value)> = std::mem::take(parameters).into_iter().collect();
        sort_by(&mut members, |(name, schema)| texts.of_parameter(name, schema), |(name, _)| name.clone());
        for (name, mut schema) in members {
            texts.order_enum(&mut schema);
            parameters.insert(name, schema);
        }
    }
}

/// The words of the tools of a catalogue.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolWords(Vec<Words>);

impl ToolWords {
    /// The words of `tools`, in native form; `None` if the tokenizer has no word vectors.
    pub fn new(tools: &[Value], tokenizer: &Tokenizer) -> Option<Self> {
        let vectors = tokenizer.word_vectors()?;
        Some(Self(tools.iter().map(|tool| Words::of_tool(tool, tokenizer, vectors)).collect()))
    }

    /// The similarity of each tool to `query`; all 0 if the tokenizer has no word vectors.
    pub fn similarities(&self, query: &str, tokenizer: &Tokenizer) -> Vec<f32> {
        let Some(vectors) = tokenizer.word_vectors() else { return vec![0.0; self.0.len()] };
        let query = Words::new(query, tokenizer, vectors);
        self.0.iter().map(|tool| query.similarity(tool, vectors)).collect()
    }
}

/// Sorts by falling similarity; `text` decides between equal ones.
fn sort_by<T>(items: &mut Vec<T>, similarity: impl Fn(&T) -> f32, text: impl Fn(&T) -> String) {
    let mut rated: Vec<(f32, T)> = std::mem::take(items).into_iter().map(|item| (similarity(&item), item)).collect();
    rated.sort_by(|(a, x), (b, y)| b.total_cmp(a).then_with(|| text(x).cmp(&text(y))));
    items.extend(rated.into_iter().map(|(_, item)| item));
}

/// A query, to which tools and texts are compared.
pub struct SimilarityTo<'a> {
    query: Words,
    tokenizer: &'a Tokenizer,
    vectors: &'a WordVectors,
}

impl<'a> SimilarityTo<'a> {
    /// For `query`; `None` if the tokenizer has no word vectors.
    pub fn new(query: &str, tokenizer: &'a Tokenizer) -> Option<Self> {
        let vectors = tokenizer.word_vectors()?;
        Some(Self { query: Words::new(query, tokenizer, vectors), tokenizer, vectors })
    }

    /// The similarity of `tool`, in native form: between -2 and 2.
    pub fn of_tool(&self, tool: &Value) -> f32 {
        self.query.similarity(&Words::of_tool(tool, self.tokenizer, self.vectors), self.vectors)
    }

    fn of_parameter(&self, name: &str, schema: &Value) -> f32 {
        let mut text = String::new();
        add(name, &mut text);
        add_words(schema, &mut text);
        self.of_words(&text)
    }

    /// The similarity of the value of an enum: between -2 and 2.
    pub fn of_choice(&self, value: &str) -> f32 {
        let mut text = String::new();
        add(value, &mut text);
        self.of_words(&text)
    }

    fn of_words(&self, text: &str) -> f32 {
        let ids = known_pieces(text, self.tokenizer, self.vectors);
        let best = ids.iter().map(|&id| nearest(id, &self.query.ids, self.vectors)).fold(-1.0, f32::max);
        accounted_for(&ids, &self.query.ids, self.vectors) + best
    }

    fn order_enum(&self, schema: &mut Value) {
        let Some(members) = schema.as_object_mut() else { return };
        for (key, value) in members {
            match (key.as_str(), value) {
                ("enum", Value::Array(values)) if values.iter().all(Value::is_string) => {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    sort_by(values, |value| self.of_choice(&text(value)), text);
                }
                ("items", items) => self.order_enum(items),
                _ => {}
            }
        }
    }
}

/// The different pieces of a text that have a vector, and the sum of the vectors.
#[derive(Debug, Clone, PartialEq)]
struct Words {
    ids: Vec<u32>,
    sum: Vec<f32>,
}

impl Words {
    fn new(text: &str, tokenizer: &Tokenizer, vectors: &WordVectors) -> Self {
        let ids = known_pieces(text, tokenizer, vectors);
        let mut sum = vec![0.0; vectors.width()];
        for vector in ids.iter().filter_map(|&id| vectors.vector(id)) {
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        Self { ids, sum }
    }

    fn of_tool(tool: &Value, tokenizer: &Tokenizer, vectors: &WordVectors) -> Self {
        let mut text = String::new();
        add_words(tool, &mut text);
        Self::new(&text, tokenizer, vectors)
    }

    /// Of this query and a tool: between -2 and 2, and 0 without words.
    fn similarity(&self, tool: &Self, vectors: &WordVectors) -> f32 {
        cosine(&self.sum, &tool.sum) + accounted_for(&self.ids, &tool.ids, vectors)
    }
}

/// The different pieces of a text that have a vector.
fn known_pieces(text: &str, tokenizer: &Tokenizer, vectors: &WordVectors) -> Vec<u32> {
    let mut ids = tokenizer.encode(text);
    ids.sort_unstable();
    ids.dedup();
    ids.retain(|&id| vectors.length(id) > 0.0);
    ids
}

/// Cosine of a piece with the most similar one of `others`; -1 if there are none.
fn nearest(id: u32, others: &[u32], vectors: &WordVectors) -> f32 {
    others.iter().map(|&other| vectors.cosine(id, other)).fold(-1.0, f32::max)
}

/// Mean over `ids`, weighted with their lengths, of the cosine with the nearest one of `others`; 0
/// without pieces.
fn accounted_for(ids: &[u32], others: &[u32], vectors: &WordVectors) -> f32 {
    let weights: f32 = ids.iter().map(|&id| vectors.length(id)).sum();
    let sum: f32 = ids.iter().map(|&id| vectors.length(id) * nearest(id, others, vectors)).sum();
    if weights > 0.0 { sum / weights } else { 0.0 }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

/// Appends what native JSON says to a reader: names, descriptions and the values of enums, with
/// names split into words.
fn add_words(schema: &Value, text: &mut String) {
    let Some(members) = schema.as_object() else { return };
    for (key, value) in members {
        match (key.as_str(), value) {
            ("name" | "description", Value::String(words)) => add(words, text),
            ("enum", Value::Array(values)) => values.iter().filter_map(Value::as_str).for_each(|v| add(v, text)),
            ("parameters" | "properties", Value::Object(parameters)) => {
                for (name, parameter) in parameters {
                    add(name, text);
                    add_words(parameter, text);
                }
            }
            ("items", items) => add_words(items, text),
            _ => {}
        }
    }
}

/// Appends `words`, with `setTimer` and `set_timer` as `set timer`.
fn add(words: &str, text: &mut String) {
    let mut before = ' ';
    for c in words.chars() {
        if c.is_uppercase() && before.is_lowercase() {
            text.push(' ');
        }
        text.push(if matches!(c, '_' | '-' | '.' | '/') { ' ' } else { c });
        before = c;
    }
    text.push(' ');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::TokenizerConfig;
    use serde_json::json;

    fn tokenizer() -> Tokenizer {
        let words = "quieter volume sound lamp light set the percent room number";
        let config = TokenizerConfig { vocab_size: 400, isolate_spaces: true, join_structure: false };
        let tokenizer = Tokenizer::train(&config, [words; 9].iter()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words.txt");
        let lines = "quieter 1 0 0.2\nvolume 0.9 0.1 0\nsound 0.8 0 0\nlamp 0 1 0\nlight 0.1 0.9 0\nset 0.1 0.1 0.1\n\
                     the 0.01 0 0.02\npercent 0 0 1\nroom 0 0.5 0.1\nnumber 0 0.1 0.6\n";
        std::fs::write(&path, lines).unwrap();
        let vectors = WordVectors::read_text(&path, &tokenizer).unwrap();
        tokenizer.with_word_vectors(vectors)
    }

    fn tools() -> Vec<Value> {
        vec![
            json!({"name": "set_light", "parameters": {"room": {"type": "string"}}}),
            json!({"name": "setVolume", "parameters": {"percent": {"type": "number"}}}),
            json!({"name": "zzz", "parameters": {}}),
        ]
    }

    fn order(query: &str, mut tools: Vec<Value>) -> Vec<String> {
        order_tools(&mut tools, query, &tokenizer());
        tools.iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect()
    }

    #[test]
    fn the_tool_that_a_query_is_about_comes_first_in_whatever_order_they_were_given() {
        let mut reversed = tools();
        reversed.reverse();
        for given in [tools(), reversed] {
            assert_eq!(order("quieter", given.clone())[0], "setVolume");
            assert_eq!(order("the lamp", given.clone())[0], "set_light");
            assert_eq!(order("日本語 ?!", given.clone()), ["setVolume", "set_light", "zzz"], "by their texts");
            assert_eq!(order("", given), ["setVolume", "set_light", "zzz"]);
        }
    }

    #[test]
    fn parameters_and_values_that_a_query_names_come_first() {
        let given = |parameters: Value| vec![json!({"name": "set", "parameters": parameters})];
        let parameters = json!({"room": {"type": "string"}, "light": {"enum": ["sound", "light", 3]},
            "volume": {"type": "array", "items": {"enum": ["lamp", "quieter", "number"]}}});
        let mut tools = given(parameters.clone());
        order_tools(&mut tools, "quieter", &tokenizer());
        let expected = r#"{"volume":{"type":"array","items":{"enum":["quieter","number","lamp"]}},"light":{"enum":["sound","light",3]},"room":{"type":"string"}}"#;
        assert_eq!(tools[0]["parameters"].to_string(), expected, "other values than texts keep their order");
        let mut tools = given(parameters);
        order_tools(&mut tools, "room with a lamp", &tokenizer());
        let names: Vec<&String> = tools[0]["parameters"].as_object().unwrap().keys().collect();
        assert_eq!((names[0].as_str(), names[1].as_str()), ("room", "light"));
    }

    #[test]
    fn nested_parameters_and_enums_are_read_and_types_are_not() {
        let tool = json!({"name": "playSound", "description": "d", "parameters": {"at": {"type": "object", "properties":
            {"low_room": {"type": "array", "items": {"type": "string", "enum": ["a-b", 3]}}}, "required": ["low_room"]}}});
        let mut text = String::new();
        add_words(&tool, &mut text);
        assert_eq!(text, "play Sound d at low room a b ");
    }

    #[test]
    fn without_vectors_tools_stay_where_they_are() {
        let tokenizer = Tokenizer::train(
            &TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: false },
            ["set a timer"; 3].iter(),
        )
        .unwrap();
        let mut same = tools();
        order_tools(&mut same, "quieter", &tokenizer);
        assert_eq!(same, tools());
    }
}
