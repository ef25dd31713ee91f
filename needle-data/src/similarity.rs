//! How similar a query and a tool are by their words alone, and the order in which tools are
//! offered.
//!
//! The tool that a query is about stands first, so that a small model has to learn only when the
//! first one is wrong, and the answer does not depend on the order in which a user lists the tools.
//!
//! The similarity is the sum of two cosines, of the vectors of pieces ([`WordVectors`]):
//!
//! - of the sums of the query's and the tool's pieces: is it about the same subject?
//! - of each piece of the query with the most similar one of the tool, averaged with the lengths of
//!   the query's vectors as weights, as in ColBERT (Khattab and Zaharia, arXiv:2004.12832): is each
//!   word of the query accounted for?
//!
//! Each piece counts once. What was measured: docs/LOG.md, "Word vectors".

use serde_json::Value;

use crate::tokenizer::Tokenizer;
use crate::tokenizer::word_vectors::WordVectors;

/// Orders tools by their similarity to a query, the most similar one first. Equal ones are in the
/// order of their texts, so that the given order has no influence. Without vectors, tools stay
/// where they are.
pub fn order_tools(tools: &mut Vec<Value>, query: &str, tokenizer: &Tokenizer) {
    let Some(vectors) = tokenizer.word_vectors() else { return };
    let query = Words::new(query, tokenizer, vectors);
    let mut ordered: Vec<(f32, String, Value)> = std::mem::take(tools)
        .into_iter()
        .map(|tool| {
            let similarity = query.similarity(&Words::new(&text_of(&tool), tokenizer, vectors), vectors);
            (similarity, tool.to_string(), tool)
        })
        .collect();
    ordered.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    tools.extend(ordered.into_iter().map(|(_, _, tool)| tool));
}

/// The different pieces of a text that have a vector, and the sum of the vectors.
struct Words {
    ids: Vec<u32>,
    sum: Vec<f32>,
}

impl Words {
    fn new(text: &str, tokenizer: &Tokenizer, vectors: &WordVectors) -> Self {
        let mut ids = tokenizer.encode(text);
        ids.sort_unstable();
        ids.dedup();
        ids.retain(|&id| vectors.length(id) > 0.0);
        let mut sum = vec![0.0; vectors.width()];
        for vector in ids.iter().filter_map(|&id| vectors.vector(id)) {
            sum.iter_mut().zip(vector).for_each(|(sum, x)| *sum += x);
        }
        Self { ids, sum }
    }

    /// Between -2 and 2; 0 if one of the two texts has no word with a vector.
    fn similarity(&self, tool: &Self, vectors: &WordVectors) -> f32 {
        if self.ids.is_empty() || tool.ids.is_empty() {
            return 0.0;
        }
        let subject = cosine(&self.sum, &tool.sum);
        let mut accounted = 0.0;
        let mut weights = 0.0;
        for &id in &self.ids {
            let nearest = tool.ids.iter().map(|&other| vectors.cosine(id, other)).fold(-1.0, f32::max);
            accounted += vectors.length(id) * nearest;
            weights += vectors.length(id);
        }
        subject + accounted / weights
    }
}

fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}

/// What a tool's native JSON says to a reader: names, descriptions and the values of enums, with
/// names split into words.
fn text_of(tool: &Value) -> String {
    let mut text = String::new();
    add_words(tool, &mut text);
    text
}

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
    fn nested_parameters_and_enums_are_read_and_types_are_not() {
        let tool = json!({"name": "playSound", "description": "d", "parameters": {"at": {"type": "object", "properties":
            {"low_room": {"type": "array", "items": {"type": "string", "enum": ["a-b", 3]}}}, "required": ["low_room"]}}});
        assert_eq!(text_of(&tool), "play Sound d at low room a b ");
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
