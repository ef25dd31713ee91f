//! What the pieces of a tokenizer mean: a vector for each piece that is a word or a fragment of
//! one, trained elsewhere on billions of words. They initialize a new model's embedding, and
//! [`crate::similarity`] orders tools by them.
//!
//! A model has seen some ten thousand requests when it meets tools that it has never seen. The
//! vectors know already that "quieter" and "volume" belong together.
//!
//! In a checkpoint, they are the file [`WORD_VECTORS`], in an artifact they lie among the weights:
//! `word_vectors.codes [vocab_size, width]` in I8 and `word_vectors.scales [vocab_size]` in F32. A
//! piece without a vector has scale 0. Lengths are kept, since they say how telling a word is:
//! "the" has a short vector, "lamp" a long one.

#[cfg(feature = "training")]
use std::collections::HashMap;
#[cfg(feature = "training")]
use std::io::{BufRead, BufReader};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors, TensorView};

#[cfg(feature = "training")]
use super::Tokenizer;
use crate::error::DataError;

/// Name of the file in a checkpoint.
pub const WORD_VECTORS: &str = "word_vectors.safetensors";
/// Name of the tensor of codes.
pub const CODES: &str = "word_vectors.codes";
/// Name of the tensor of scales.
pub const SCALES: &str = "word_vectors.scales";
/// Largest width that is accepted; published vectors have up to 4,096 numbers.
const MAX_WIDTH: usize = 1 << 14;

/// A vector for each piece of a tokenizer.
#[derive(Debug, Clone, PartialEq)]
pub struct WordVectors {
    width: usize,
    /// `[vocab_size, width]`.
    codes: Vec<i8>,
    /// `[vocab_size]`; 0 for a piece without a vector.
    scales: Vec<f32>,
    /// Lengths of the codes, `[vocab_size]`.
    norms: Vec<f32>,
}

impl WordVectors {
    /// Reads a text file in GloVe's format, with a word and its numbers on each line, separated by
    /// spaces; a first line with two numbers (word2vec's header) is skipped. Each piece of
    /// `tokenizer` that is a word in the file, in upper or lower case, gets the vector of that
    /// word.
    ///
    /// # Errors
    /// If the file cannot be read, a line is malformed or has more or fewer numbers than the
    /// others, or no piece is among the words.
    #[cfg(feature = "training")]
    pub fn read_text(path: &Path, tokenizer: &Tokenizer) -> Result<Self, DataError> {
        let words: Vec<Option<String>> = (0..tokenizer.vocab_size())
            .map(|id| u32::try_from(id).ok().and_then(|id| word(tokenizer.piece(id)?)))
            .collect();
        let mut vectors: HashMap<&str, Option<Vec<f32>>> = words.iter().flatten().map(|w| (w.as_str(), None)).collect();
        let width = read_lines(path, &mut vectors)?;
        let mut codes = vec![0; words.len() * width];
        let mut scales = vec![0.0; words.len()];
        for (id, word) in words.iter().enumerate() {
            let Some(vector) = word.as_deref().and_then(|word| vectors[word].as_deref()) else { continue };
            let largest = vector.iter().fold(0.0_f32, |most, x| most.max(x.abs()));
            scales[id] = largest / 127.0;
            for (code, x) in codes[id * width..][..width].iter_mut().zip(vector) {
                *code = (x / scales[id]).round() as i8;
            }
        }
        if scales.iter().all(|scale| *scale == 0.0) {
            return Err(bad(path, "no piece of the tokenizer is among these words".into()));
        }
        Self::new(codes, scales).map_err(|reason| bad(path, reason))
    }

    /// Vectors of `codes [vocab_size, width]` and `scales [vocab_size]`.
    ///
    /// # Errors
    /// If there is not one vector for each scale, or a scale is negative or not finite.
    pub fn new(codes: Vec<i8>, scales: Vec<f32>) -> Result<Self, String> {
        let width = codes.len().checked_div(scales.len()).unwrap_or(0);
        if !(1..=MAX_WIDTH).contains(&width) || width * scales.len() != codes.len() {
            return Err(format!(
                "{} codes for {} pieces, expected 1 to {MAX_WIDTH} for each",
                codes.len(),
                scales.len()
            ));
        }
        if let Some(id) = scales.iter().position(|scale| !(scale.is_finite() && *scale >= 0.0)) {
            return Err(format!("the scale of piece {id} is {}", scales[id]));
        }
        let norms = codes.chunks_exact(width).map(|row| (dot(row, row) as f32).sqrt()).collect();
        Ok(Self { width, codes, scales, norms })
    }

    /// Name, type, shape and values of the two tensors, little-endian.
    pub fn tensors(&self) -> [(&'static str, Dtype, Vec<usize>, Vec<u8>); 2] {
        let size = self.scales.len();
        let codes = self.codes.iter().map(|code| code.cast_unsigned()).collect();
        let scales = self.scales.iter().flat_map(|scale| scale.to_le_bytes()).collect();
        [(CODES, Dtype::I8, vec![size, self.width], codes), (SCALES, Dtype::F32, vec![size], scales)]
    }

    /// The contents of a [`WORD_VECTORS`] file.
    pub fn to_bytes(&self) -> Vec<u8> {
        let tensors = self.tensors();
        #[expect(clippy::expect_used, reason = "the shapes are those of the data")]
        let views = tensors.iter().map(|(name, dtype, shape, data)| {
            (*name, TensorView::new(*dtype, shape.clone(), data).expect("as many as the shape"))
        });
        #[expect(clippy::expect_used, reason = "two tensors of different names")]
        safetensors::serialize(views, None).expect("valid tensors")
    }

    /// Reads the contents of a [`WORD_VECTORS`] file for a tokenizer of `vocab_size` pieces; `path`
    /// is for messages.
    ///
    /// # Errors
    /// If it does not hold a vector for each piece.
    pub fn from_bytes(bytes: &[u8], vocab_size: usize, path: &Path) -> Result<Self, DataError> {
        let refuse = |reason: String| bad(path, reason);
        let file = SafeTensors::deserialize(bytes).map_err(|e| refuse(format!("not a safetensors file: {e}")))?;
        let tensor = |name: &str, dtype: Dtype| {
            let view = file.tensor(name).map_err(|e| refuse(e.to_string()))?;
            match view.dtype() == dtype && view.shape().first() == Some(&vocab_size) {
                true => Ok(view),
                false => Err(refuse(format!(
                    "{name} is {:?} {:?}, expected {dtype:?} with {vocab_size} rows, one for each piece",
                    view.dtype(),
                    view.shape()
                ))),
            }
        };
        let codes = tensor(CODES, Dtype::I8)?.data().iter().map(|byte| byte.cast_signed()).collect();
        let scales = tensor(SCALES, Dtype::F32)?;
        let scales = scales.data().as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        Self::new(codes, scales).map_err(refuse)
    }

    /// How many numbers a vector has.
    pub fn width(&self) -> usize {
        self.width
    }

    /// How many pieces have a vector.
    pub fn num_known(&self) -> usize {
        self.scales.iter().filter(|scale| **scale > 0.0).count()
    }

    /// The vector of a piece, `[width]`; `None` if it has none.
    pub fn vector(&self, id: u32) -> Option<Vec<f32>> {
        let scale = self.scale(id)?;
        Some(self.codes(id).iter().map(|code| scale * f32::from(*code)).collect())
    }

    /// Length of the vector of a piece; 0 without one.
    pub fn length(&self, id: u32) -> f32 {
        self.scale(id).map_or(0.0, |scale| scale * self.norms[id as usize])
    }

    /// Cosine of the vectors of two pieces; 0 if one of them has none.
    pub fn cosine(&self, a: u32, b: u32) -> f32 {
        match self.scale(a).and(self.scale(b)) {
            Some(_) => {
                let lengths = self.norms[a as usize] * self.norms[b as usize];
                dot(self.codes(a), self.codes(b)) as f32 / lengths.max(1.0)
            }
            None => 0.0,
        }
    }

    fn scale(&self, id: u32) -> Option<f32> {
        self.scales.get(id as usize).copied().filter(|scale| *scale > 0.0)
    }

    fn codes(&self, id: u32) -> &[i8] {
        &self.codes[id as usize * self.width..][..self.width]
    }
}

/// At most `MAX_WIDTH * 128^2`, which fits.
fn dot(a: &[i8], b: &[i8]) -> i32 {
    a.iter().zip(b).map(|(x, y)| i32::from(*x) * i32::from(*y)).sum()
}

fn bad(path: &Path, reason: String) -> DataError {
    DataError::WordVectors { path: path.to_owned(), reason }
}

/// The word or fragment that a piece is, in lower case; `None` for other text.
#[cfg(feature = "training")]
fn word(piece: &str) -> Option<String> {
    let text = piece.trim_start_matches(super::SPACE);
    let is_word = text.chars().nth(1).is_some() && text.chars().all(char::is_alphabetic);
    is_word.then(|| text.to_lowercase())
}

/// Fills in those of `vectors` that the file has, and returns how many numbers each has.
#[cfg(feature = "training")]
fn read_lines(path: &Path, vectors: &mut HashMap<&str, Option<Vec<f32>>>) -> Result<usize, DataError> {
    let io = |e| DataError::io(path, e);
    let mut width = None;
    for (index, line) in BufReader::new(std::fs::File::open(path).map_err(io)?).lines().enumerate() {
        let line = line.map_err(io)?;
        let refuse = |reason: String| bad(path, format!("line {}: {reason}", index + 1));
        let Some((word, numbers)) = line.trim_end().split_once(' ') else {
            return Err(refuse("expected a word and its numbers, separated by spaces".into()));
        };
        let count = numbers.split(' ').count();
        if index == 0 && count == 1 {
            continue;
        }
        let expected = *width.get_or_insert(count);
        if count != expected {
            return Err(refuse(format!("{count} numbers, where the lines before have {expected}")));
        }
        if count > MAX_WIDTH {
            return Err(refuse(format!("{count} numbers, but at most {MAX_WIDTH} are allowed")));
        }
        let Some(place) = vectors.get_mut(word) else { continue };
        let parsed: Result<Vec<f32>, _> = numbers.split(' ').map(str::parse).collect();
        let vector = parsed.map_err(|e| refuse(e.to_string()))?;
        let length = vector.iter().map(|x| x * x).sum::<f32>();
        if !(length.is_finite() && length > 0.0) {
            return Err(refuse("the vector is zero or not finite".into()));
        }
        *place = Some(vector);
    }
    Ok(width.unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::TokenizerConfig;

    fn tokenizer() -> Tokenizer {
        let texts = ["lamp Lamp light the lamp Lamp light"; 9];
        let config = TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: false };
        Tokenizer::train(&config, texts.iter()).unwrap()
    }

    fn read(file: &str) -> Result<WordVectors, DataError> {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words.txt");
        std::fs::write(&path, file).unwrap();
        WordVectors::read_text(&path, &tokenizer())
    }

    fn id(word: &str) -> u32 {
        // A text begins with a space.
        let &[_, id] = tokenizer().encode(word).as_slice() else { panic!("{word} is one piece") };
        id
    }

    #[test]
    fn pieces_have_the_vector_of_their_word_in_any_case() {
        let vectors = read("3 4\nlamp 1 0 0 2\nlight 1.1 0 0.1 2\nunheard 0 0 1 0\n").unwrap();
        assert_eq!((vectors.width(), vectors.num_known()), (4, 3), "lamp, Lamp and light");
        assert_eq!(vectors.vector(id("lamp")), vectors.vector(id("Lamp")));
        assert!((vectors.length(id("lamp")) - 5f32.sqrt()).abs() < 0.02);
        assert!(vectors.cosine(id("lamp"), id("light")) > 0.99);
        assert_eq!(vectors.vector(id("the")), None);
        assert_eq!((vectors.length(id("the")), vectors.cosine(id("the"), id("lamp"))), (0.0, 0.0));
        assert_eq!((vectors.vector(9999), vectors.length(9999)), (None, 0.0));
    }

    #[test]
    fn what_is_written_is_what_is_read_and_damaged_files_are_refused() {
        let vectors = read("lamp 1 0 0 2\nlight 1.1 0 0.1 2\n").unwrap();
        let (bytes, size) = (vectors.to_bytes(), tokenizer().vocab_size());
        let path = Path::new("word_vectors.safetensors");
        assert_eq!(WordVectors::from_bytes(&bytes, size, path).unwrap(), vectors);
        let other = WordVectors::from_bytes(&bytes, size + 1, path).unwrap_err().to_string();
        assert!(other.contains("word_vectors.safetensors") && other.contains("one for each piece"), "{other}");
        for len in 0..bytes.len() {
            assert!(WordVectors::from_bytes(&bytes[..len], size, path).is_err(), "cut to {len} bytes");
        }
        let mut broken = vectors.clone();
        broken.scales[7] = f32::NAN;
        let error = WordVectors::from_bytes(&broken.to_bytes(), size, path).unwrap_err().to_string();
        assert!(error.contains("the scale of piece 7 is NaN"), "{error}");
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
            (&format!("lamp{}\n", " 1".repeat(20_000)), "line 1: 20000 numbers, but at most"),
        ] {
            let message = read(file).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(message.contains(named) && message.contains("words.txt"), "{file:.20}: {message}");
        }
    }
}
