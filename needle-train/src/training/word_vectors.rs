//! Initializes an embedding with word vectors.
//!
//! A small model that trains for hours never sees enough sentences to learn that a lamp and a light
//! are similar. Vectors from the statistics of billions of words (GloVe: Pennington, Socher and
//! Manning, 2014) contain this from the first step on. Results: docs/LOG.md, "Word vectors".

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use needle_data::{DataError, Tokenizer};
use needle_model::San;

use crate::error::TrainError;

/// Standard deviation of the embedding, of rows with and without a word vector. It is larger than
/// the 0.02 of [`San::new`], so that the vectors outlast the first steps of AdamW.
const STD: f32 = 0.05;
/// Share of a row's norm that comes from the word's vector. The rest is random, so that `Light` and
/// `light`, which share a vector, can be distinguished.
const VECTOR_SHARE: f32 = 0.9;

/// How many pieces of a tokenizer are words with a vector.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Known {
    /// Number of pieces whose word has a vector.
    pub num_pieces: usize,
    /// Number of all pieces.
    pub vocab_size: usize,
}

/// Gives each piece of `tokenizer` that is a word in the file `path`, in upper or lower case, the
/// vector of that word. The file is text in GloVe's format, with a word and its numbers on each
/// line, separated by spaces; a first line with two numbers (word2vec's header) is skipped.
///
/// # Errors
/// If the file cannot be read, a line is malformed, or has more or fewer numbers than the others,
/// the vectors are wider than the model, or no piece is among the words.
pub fn begin_with<B: Backend>(model: &mut San<B>, tokenizer: &Tokenizer, path: &Path) -> Result<Known, TrainError> {
    let words: Vec<Option<String>> = (0..tokenizer.vocab_size())
        .map(|id| u32::try_from(id).ok().and_then(|id| word(tokenizer.piece(id)?)))
        .collect();
    let mut vectors: HashMap<&str, Option<Vec<f32>>> = words.iter().flatten().map(|w| (w.as_str(), None)).collect();
    let d_model = model.d_model();
    read(path, d_model, &mut vectors)?;

    let weight = model.embed_tokens.weight.val();
    let (shape, device) = (weight.shape(), weight.device());
    let mut rows: Vec<f32> = weight.into_data().iter::<f32>().collect();
    let mut num_pieces = 0;
    for (row, word) in rows.chunks_mut(d_model).zip(&words) {
        scale_to(row, STD * (d_model as f32).sqrt());
        if let Some(Some(vector)) = word.as_deref().map(|word| &vectors[word]) {
            overlay(row, vector);
            num_pieces += 1;
        }
    }
    if num_pieces == 0 {
        return Err(error(path, "no piece of the tokenizer is among these words".into()));
    }
    model.embed_tokens.weight = Param::from_tensor(Tensor::from_data(TensorData::new(rows, shape), &device));
    Ok(Known { num_pieces, vocab_size: words.len() })
}

/// The word that a piece is, in lower case; `None` for fragments of words and other text.
fn word(piece: &str) -> Option<String> {
    let text = piece.trim_start_matches('▁');
    let is_word = text.chars().nth(1).is_some() && text.chars().all(char::is_alphabetic);
    is_word.then(|| text.to_lowercase())
}

/// Fills in those of `vectors` that the file has, scaled to norm 1.
fn read(path: &Path, d_model: usize, vectors: &mut HashMap<&str, Option<Vec<f32>>>) -> Result<(), TrainError> {
    let io = |e| TrainError::Data(DataError::io(path, e));
    let mut width = None;
    for (index, line) in BufReader::new(File::open(path).map_err(io)?).lines().enumerate() {
        let line = line.map_err(io)?;
        let refuse = |reason: String| error(path, format!("line {}: {reason}", index + 1));
        let Some((word, numbers)) = line.trim_end().split_once(' ') else {
            return Err(refuse("expected a word and its numbers, separated by spaces".into()));
        };
        let count = numbers.split(' ').count();
        if index == 0 && count == 1 {
            continue;
        }
        if count > d_model {
            return Err(refuse(format!("{count} numbers, but the model is only {d_model} wide: use shorter vectors")));
        }
        let expected = *width.get_or_insert(count);
        if count != expected {
            return Err(refuse(format!("{count} numbers, where the lines before have {expected}")));
        }
        let Some(place) = vectors.get_mut(word) else { continue };
        let parsed: Result<Vec<f32>, _> = numbers.split(' ').map(str::parse).collect();
        let mut vector = parsed.map_err(|e| refuse(e.to_string()))?;
        if !scale_to(&mut vector, 1.0) {
            return Err(refuse("the vector is zero or not finite".into()));
        }
        *place = Some(vector);
    }
    Ok(())
}

/// Writes `vector`, of norm 1, into the first elements of `row`, and keeps the norm of `row`.
fn overlay(row: &mut [f32], vector: &[f32]) {
    let length = norm(row);
    let (of_word, rest) = row.split_at_mut(vector.len());
    let share = if rest.is_empty() { 1.0 } else { VECTOR_SHARE };
    of_word.iter_mut().zip(vector).for_each(|(x, v)| *x = share * length * v);
    scale_to(rest, length * (1.0 - share * share).sqrt());
}

/// Scales `vector` to norm `length`; false if it is zero or not finite.
fn scale_to(vector: &mut [f32], length: f32) -> bool {
    let now = norm(vector);
    if !(now.is_finite() && now > 0.0) {
        return false;
    }
    vector.iter_mut().for_each(|x| *x *= length / now);
    true
}

fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn error(path: &Path, reason: String) -> TrainError {
    TrainError::Run { path: PathBuf::from(path), reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use needle_data::tokenizer::TokenizerConfig;
    use needle_model::SanConfig;

    fn begun(file: &str) -> Result<(San<Flex>, Tokenizer, Known), TrainError> {
        let texts = ["lamp Lamp light the lamp Lamp light"; 9];
        let config = TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: false };
        let tokenizer = Tokenizer::train(&config, texts.iter()).unwrap();
        let sizes = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset("tiny").unwrap() };
        let mut model = San::new(&sizes, 1, &Default::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words.txt");
        std::fs::write(&path, file).unwrap();
        let known = begin_with(&mut model, &tokenizer, &path)?;
        Ok((model, tokenizer, known))
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>() / (norm(a) * norm(b))
    }

    #[test]
    fn words_that_are_alike_begin_alike_in_any_case_and_others_do_not() {
        let (model, tokenizer, known) = begun("3 4\nlamp 1 0 0 2\nlight 1.1 0 0.1 2\nunheard 0 0 1 0\n").unwrap();
        assert_eq!(known.num_pieces, 3, "lamp, Lamp and light");
        let rows: Vec<f32> = model.embed_tokens.weight.val().into_data().iter::<f32>().collect();
        let row = |word: &str| {
            // A text begins with a space.
            let &[_, id] = tokenizer.encode(word).as_slice() else { panic!("{word} is one piece") };
            &rows[id as usize * model.d_model()..][..model.d_model()]
        };
        assert!(cosine(row("lamp"), row("light")) > 0.6, "{}", cosine(row("lamp"), row("light")));
        assert!(cosine(row("lamp"), row("Lamp")) > 0.6);
        assert_ne!(row("lamp"), row("Lamp"), "the two can be told apart");
        assert!(cosine(row("lamp"), row("the")).abs() < 0.5);
        for word in ["lamp", "the"] {
            let length = STD * (model.d_model() as f32).sqrt();
            assert!((norm(row(word)) - length).abs() < 1e-3, "{word} is as long as all others");
        }
    }

    #[test]
    fn a_file_that_is_no_list_of_vectors_is_refused_with_its_line() {
        for (file, named) in [
            ("lamp\n", "line 1: expected a word"),
            ("lamp 1 2\nlight 1 2 3\n", "line 2: 3 numbers, where the lines before have 2"),
            ("lamp 1 x\n", "line 1: invalid float"),
            ("lamp 0 0\n", "line 1: the vector is zero or not finite"),
            ("lamp NaN 0\n", "line 1: the vector is zero or not finite"),
            ("unheard 1 2\n", "no piece of the tokenizer"),
            ("", "no piece of the tokenizer"),
            (&format!("lamp{}\n", " 1".repeat(5000)), "line 1: 5000 numbers, but the model is"),
        ] {
            let message = begun(file).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(message.contains(named) && message.contains("words.txt"), "{file:.20}: {message}");
        }
    }
}
