//! Where the copied tokens of an answer stand in its prompt.
//!
//! A value that the query says, and the name of a tool, are copies. Which tokens they are copied
//! from follows from the ids alone, so stored data needs nothing more. A copy of which the prompt
//! has several, none of them longer than the others, has no certain source and is left out.

use std::ops::Range;

use crate::batching::batch::Batch;
use crate::text::token_class::TokenClass;
use crate::tokenizer::TOOLS_ID;

/// For each target of `batch`, the position in its row of the encoder's token that it is copied
/// from; `None` for targets that are not copied. `[rows, dec_len]`, row-major.
pub fn sources(batch: &Batch) -> Vec<Option<usize>> {
    let mut found = vec![None; batch.rows * batch.dec_len];
    for row in 0..batch.rows {
        let [enc, dec] = [batch.enc_len, batch.dec_len].map(|length| row * length..(row + 1) * length);
        let prompts = segments(&batch.enc_segments[enc.clone()]);
        let answers = segments(&batch.dec_segments[dec.clone()]);
        for ((_, prompt), (_, answer)) in pairs(&prompts, &answers) {
            let of_answer = of_example(
                &batch.enc_ids[enc.clone()][prompt.clone()],
                &batch.dec_target[dec.clone()][answer.clone()],
                &batch.dec_classes[dec.clone()][answer.clone()],
            );
            for (target, source) in answer.clone().zip(of_answer) {
                found[dec.start + target] = source.map(|position| prompt.start + position);
            }
        }
    }
    found
}

/// The stretches of equal segments in a row, without padding.
fn segments(row: &[i32]) -> Vec<(i32, Range<usize>)> {
    let mut start = 0;
    let mut found = Vec::new();
    for stretch in row.chunk_by(|a, b| a == b) {
        if stretch[0] != 0 {
            found.push((stretch[0], start..start + stretch.len()));
        }
        start += stretch.len();
    }
    found
}

type Segment = (i32, Range<usize>);

/// Each prompt with its answer.
fn pairs<'a>(prompts: &'a [Segment], answers: &'a [Segment]) -> impl Iterator<Item = (&'a Segment, &'a Segment)> {
    prompts.iter().filter_map(|prompt| Some((prompt, answers.iter().find(|answer| answer.0 == prompt.0)?)))
}

/// The sources of one answer, as positions of `prompt`.
fn of_example(prompt: &[i32], answer: &[i32], classes: &[u8]) -> Vec<Option<usize>> {
    let end_of_query = prompt.iter().position(|&id| id == TOOLS_ID as i32).unwrap_or(prompt.len());
    let (query, tools) = prompt.split_at(end_of_query);
    let mut sources = vec![None; answer.len()];
    let mut start = 0;
    for class in classes.chunk_by(|a, b| a == b) {
        let (text, place) = (&answer[start..start + class.len()], &mut sources[start..start + class.len()]);
        start += class.len();
        match TokenClass::from_number(class[0]) {
            Some(TokenClass::Value) => {
                copied_from_query(query, text, place);
                if place.iter().all(Option::is_none) {
                    copied_whole(tools, end_of_query, text, place);
                }
            }
            Some(TokenClass::Name) => copied_whole(tools, end_of_query, text, place),
            Some(TokenClass::Key | TokenClass::Structure) | None => {}
        }
    }
    sources
}

/// Divides `text` into the longest parts that `query` has, and places those that it has once.
fn copied_from_query(query: &[i32], text: &[i32], place: &mut [Option<usize>]) {
    let mut done = 0;
    while done < text.len() {
        let rest = &text[done..];
        let lengths = || (0..query.len()).map(|i| common_prefix(&query[i..], rest));
        let longest = lengths().max().unwrap_or(0);
        let mut places = lengths().enumerate().filter(|&(_, length)| length == longest && length > 0);
        if let (Some((only, _)), None) = (places.next(), places.next()) {
            (0..longest).for_each(|i| place[done + i] = Some(only + i));
        }
        done += longest.max(1);
    }
}

/// Places the whole of `text` if `tools` has it once; the tools begin at `offset` of the prompt.
fn copied_whole(tools: &[i32], offset: usize, text: &[i32], place: &mut [Option<usize>]) {
    let mut places = tools.windows(text.len()).enumerate().filter(|&(_, window)| window == text);
    if let (Some((only, _)), None) = (places.next(), places.next()) {
        place.iter_mut().enumerate().for_each(|(i, source)| *source = Some(offset + only + i));
    }
}

/// Number of equal elements at the beginning of both.
fn common_prefix(a: &[i32], b: &[i32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::encode::{EncodeConfig, EncodedExample, Encoder};
    use crate::text::example::Example;
    use crate::tokenizer::{Tokenizer, TokenizerConfig};

    /// The copied tokens of the answers `put_down(text: value)` to each query, with spaces left
    /// out.
    fn copied(cases: &[(&str, &str)]) -> Vec<String> {
        let tools = json!([
            {"name": "put_down", "description": "", "parameters": {"text": {"type": "string"}}},
            {"name": "shut", "description": "", "parameters": {}},
        ]);
        let example = |&(query, value): &(&str, &str)| {
            let call = json!({"name": "put_down", "arguments": {"text": value}});
            Example::parse(&json!({"query": query, "tools": tools, "answers": [call]}).to_string()).unwrap()
        };
        let examples: Vec<Example> = cases.iter().map(example).collect();
        let config = TokenizerConfig { vocab_size: 400, isolate_spaces: true, join_structure: true };
        let tokenizer = Tokenizer::train(&config, examples.iter().flat_map(Encoder::texts)).unwrap();
        let limits = EncodeConfig { max_enc_tokens: 512, max_dec_tokens: 256, max_tool_tokens: 128 };
        let encoder = Encoder::new(&tokenizer, limits).unwrap();
        let encoded: Vec<EncodedExample> = examples.iter().map(|e| encoder.encode(e, None).unwrap()).collect();
        // Two examples to a row, so that positions count from the row's beginning.
        let rows: Vec<Vec<&EncodedExample>> = encoded.chunks(2).map(|row| row.iter().collect()).collect();
        let batch = Batch::from_rows(&rows, 0);
        let mut texts = vec![String::new(); cases.len()];
        for (target, source) in sources(&batch).into_iter().enumerate() {
            let Some(source) = source else { continue };
            let row = target / batch.dec_len;
            let source = row * batch.enc_len + source;
            assert_eq!(batch.enc_ids[source], batch.dec_target[target]);
            assert_eq!(batch.enc_segments[source], batch.dec_segments[target]);
            let text = tokenizer.decode(&[batch.dec_target[target] as u32]);
            texts[row * 2 + batch.dec_segments[target] as usize - 1].push_str(text.trim());
        }
        texts
    }

    #[test]
    fn names_and_values_that_the_query_says_once_have_sources() {
        let found = copied(&[
            ("note bench 2, sorry, bench 3", "bench 3"),
            ("write something", "Öß"),
            ("again and again", "again"),
            ("hello", "x"),
        ]);
        assert_eq!(found, ["put_downbench3", "put_down", "put_down", "put_down"]);
    }
}
