//! Where the copied tokens of an answer stand in its prompt.
//!
//! A value that the query says, and the name of a tool, are copies. Which tokens they are copied
//! from follows from the ids alone, so stored data needs nothing more. What the prompt has several
//! times has no certain origin and is left out.

use std::ops::Range;

use crate::batching::batch::Batch;
use crate::text::token_class::TokenClass;
use crate::tokenizer::TOOLS_ID;

/// For each target of `batch`, the position in its row of the encoder's token that it is copied
/// from; `None` for targets that are not copied. `[rows, dec_len]`, row-major.
pub fn copied_from(batch: &Batch) -> Vec<Option<usize>> {
    let mut found = vec![None; batch.rows * batch.dec_len];
    for row in 0..batch.rows {
        let [enc, dec] = [batch.enc_len, batch.dec_len].map(|length| row * length..(row + 1) * length);
        let prompts = segments(&batch.enc_segments[enc.clone()]);
        for (segment, answer) in segments(&batch.dec_segments[dec.clone()]) {
            let Some((_, prompt)) = prompts.iter().find(|(other, _)| *other == segment) else { continue };
            let origins = in_example(
                &batch.enc_ids[enc.clone()][prompt.clone()],
                &batch.dec_target[dec.clone()][answer.clone()],
                &batch.dec_classes[dec.clone()][answer.clone()],
            );
            for (target, origin) in answer.zip(origins) {
                found[dec.start + target] = origin.map(|position| prompt.start + position);
            }
        }
    }
    found
}

/// Number and place of an example in a row.
type Segment = (i32, Range<usize>);

/// The stretches of equal segments in a row, without padding.
fn segments(row: &[i32]) -> Vec<Segment> {
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

/// The origins of one answer's tokens, as positions of `prompt`.
fn in_example(prompt: &[i32], answer: &[i32], classes: &[u8]) -> Vec<Option<usize>> {
    let end_of_query = prompt.iter().position(|&id| id == TOOLS_ID as i32).unwrap_or(prompt.len());
    let (query, tools) = prompt.split_at(end_of_query);
    let mut origins = vec![None; answer.len()];
    let mut start = 0;
    for class in classes.chunk_by(|a, b| a == b) {
        let range = start..start + class.len();
        start = range.end;
        let (ids, origins) = (&answer[range.clone()], &mut origins[range]);
        match TokenClass::from_number(class[0]) {
            Some(TokenClass::Value) => match whole(query, ids) {
                Found::Once(at) => place(origins, at),
                Found::Several => {}
                // A single piece, such as a digit, stands in the tools by chance.
                Found::Nowhere => match whole(tools, ids) {
                    Found::Once(at) if ids.len() > 1 => place(origins, end_of_query + at),
                    _ => place_parts(query, ids, origins),
                },
            },
            Some(TokenClass::Name) => {
                if let Found::Once(at) = whole(tools, ids) {
                    place(origins, end_of_query + at);
                }
            }
            Some(TokenClass::Key | TokenClass::Structure) | None => {}
        }
    }
    origins
}

/// How often a text has another within it, and where.
enum Found {
    Nowhere,
    Once(usize),
    Several,
}

/// Looks for the whole of `ids` in `text`.
fn whole(text: &[i32], ids: &[i32]) -> Found {
    let mut places = text.windows(ids.len()).enumerate().filter(|&(_, window)| window == ids);
    match (places.next(), places.next()) {
        (None, _) => Found::Nowhere,
        (Some((at, _)), None) => Found::Once(at),
        (Some(_), Some(_)) => Found::Several,
    }
}

/// Sets the origins of consecutive tokens, the first of which stands at `at`.
fn place(origins: &mut [Option<usize>], at: usize) {
    origins.iter_mut().enumerate().for_each(|(i, origin)| *origin = Some(at + i));
}

/// Divides `ids` into the longest parts that `query` has, such as the items of a list, and places
/// those that it has once. Parts of one token are too often pieces of other words.
fn place_parts(query: &[i32], ids: &[i32], origins: &mut [Option<usize>]) {
    let mut done = 0;
    while done < ids.len() {
        let rest = &ids[done..];
        let lengths = || (0..query.len()).map(|i| common_prefix(&query[i..], rest));
        let longest = lengths().max().unwrap_or(0);
        let mut places = lengths().enumerate().filter(|&(_, length)| length == longest);
        if let (2.., Some((only, _)), None) = (longest, places.next(), places.next()) {
            place(&mut origins[done..done + longest], only);
        }
        done += longest.max(1);
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
            {"name": "put_down", "description": "Writes a note.", "parameters": {"text": {"type": "string"}}},
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
        for (target, origin) in copied_from(&batch).into_iter().enumerate() {
            let Some(origin) = origin else { continue };
            let row = target / batch.dec_len;
            let origin = row * batch.enc_len + origin;
            assert_eq!(batch.enc_ids[origin], batch.dec_target[target]);
            assert_eq!(batch.enc_segments[origin], batch.dec_segments[target]);
            let text = tokenizer.decode(&[batch.dec_target[target] as u32]);
            texts[row * 2 + batch.dec_segments[target] as usize - 1].push_str(text.trim());
        }
        texts
    }

    #[test]
    fn names_and_values_have_an_origin_if_the_prompt_says_them_once() {
        let found = copied(&[
            ("note bench 2, sorry, bench 3", "bench 3"),
            ("write something", "Öß"),
            ("again and again", "again"),
            // The query says it twice, so the description is not its origin.
            ("as in a note, a note of course", "a note"),
            ("hello", "x"),
        ]);
        assert_eq!(found, ["put_downbench3", "put_down", "put_down", "put_down", "put_down"]);
    }
}
