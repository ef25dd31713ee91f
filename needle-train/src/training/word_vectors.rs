//! Initializes an embedding with word vectors.
//!
//! A small model that trains for hours never sees enough sentences to learn that a lamp and a light
//! are similar. Vectors trained on billions of words contain this from the first step on. Their
//! lengths count, too: "the" has a short vector, "lamp" a long one, so that a sentence's mean is
//! about its telling words. Results: docs/LOG.md, "Word vectors".

use burn::module::Param;
use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use needle_data::tokenizer::word_vectors::WordVectors;
use needle_model::San;

/// Standard deviation of the embedding, of rows with and without a word vector. It is larger than
/// the 0.02 of [`San::new`], so that the vectors outlast the first steps of AdamW.
const STD: f32 = 0.05;
/// Largest share of a row's norm that comes from the word's vector; a vector shorter than the
/// median has proportionally less. The rest is random, so that `Light` and `light`, which share a
/// vector, can be distinguished, and all rows have the same norm.
const VECTOR_SHARE: f32 = 0.95;

/// Writes the vector of each piece into the first elements of its row of the embedding.
///
/// # Errors
/// If the vectors leave no room in a row for what distinguishes pieces.
pub fn begin_with<B: Backend>(model: &mut San<B>, vectors: &WordVectors) -> Result<(), String> {
    let (d_model, width) = (model.d_model(), vectors.width());
    if width >= d_model {
        return Err(format!("the vectors have {width} numbers; this model needs fewer than its width, {d_model}"));
    }
    let weight = model.embed_tokens.weight.val();
    let (shape, device) = (weight.shape(), weight.device());
    let [vocab_size, _] = shape.dims();
    let mut lengths: Vec<f32> = (0..vocab_size).map(|id| vectors.length(id as u32)).filter(|l| *l > 0.0).collect();
    lengths.sort_by(f32::total_cmp);
    let median = lengths.get(lengths.len() / 2).copied().unwrap_or(1.0);

    let mut rows: Vec<f32> = weight.into_data().iter::<f32>().collect();
    for (id, row) in rows.chunks_mut(d_model).enumerate() {
        let id = id as u32;
        let length = STD * (d_model as f32).sqrt();
        let share = VECTOR_SHARE * (vectors.length(id) / median).min(1.0);
        let (of_word, rest) = row.split_at_mut(width);
        // Zero without a vector, so that only words have a meaning there.
        of_word.fill(0.0);
        if let Some(vector) = vectors.vector(id) {
            of_word.copy_from_slice(&vector);
            scale_to(of_word, share * length);
        }
        scale_to(rest, length * (1.0 - share * share).sqrt());
    }
    model.embed_tokens.weight = Param::from_tensor(Tensor::from_data(TensorData::new(rows, shape), &device));
    Ok(())
}

/// Scales `vector`, which is not zero, to norm `length`.
fn scale_to(vector: &mut [f32], length: f32) {
    let factor = length / norm(vector);
    vector.iter_mut().for_each(|x| *x *= factor);
}

fn norm(vector: &[f32]) -> f32 {
    vector.iter().map(|x| x * x).sum::<f32>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use burn_flex::Flex;
    use needle_data::Tokenizer;
    use needle_data::tokenizer::TokenizerConfig;
    use needle_model::SanConfig;

    fn begun(file: &str) -> Result<(San<Flex>, Tokenizer), String> {
        let texts = ["lamp Lamp light the lamp Lamp light"; 9];
        let config = TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: false };
        let tokenizer = Tokenizer::train(&config, texts.iter()).unwrap();
        let sizes = SanConfig { vocab_size: tokenizer.vocab_size(), ..SanConfig::preset("tiny").unwrap() };
        let mut model = San::new(&sizes, 1, &Default::default()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words.txt");
        std::fs::write(&path, file).unwrap();
        begin_with(&mut model, &WordVectors::read_text(&path, &tokenizer).unwrap())?;
        Ok((model, tokenizer))
    }

    /// The row of a word.
    fn row(of: &(San<Flex>, Tokenizer), word: &str) -> Vec<f32> {
        let (model, tokenizer) = of;
        // A text begins with a space.
        let &[_, id] = tokenizer.encode(word).as_slice() else { panic!("{word} is one piece") };
        let rows: Vec<f32> = model.embed_tokens.weight.val().into_data().iter::<f32>().collect();
        rows[id as usize * model.d_model()..][..model.d_model()].to_vec()
    }

    fn cosine(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(x, y)| x * y).sum::<f32>() / (norm(a) * norm(b))
    }

    #[test]
    fn words_that_are_alike_begin_alike_in_any_case_and_others_do_not() {
        let model = begun("lamp 1 0 0 2\nlight 1.1 0 0.1 2\nunheard 0 0 1 0\n").unwrap();
        let row = |word| row(&model, word);
        assert!(cosine(&row("lamp"), &row("light")) > 0.6, "{}", cosine(&row("lamp"), &row("light")));
        assert!(cosine(&row("lamp"), &row("Lamp")) > 0.6);
        assert_ne!(row("lamp"), row("Lamp"), "the two can be distinguished");
        assert_eq!(row("the")[..4], [0.0; 4], "only words with a vector have a meaning");
        for word in ["lamp", "the"] {
            let length = STD * (model.0.d_model() as f32).sqrt();
            assert!((norm(&row(word)) - length).abs() < 1e-3, "{word} is as long as all others");
        }
    }

    #[test]
    fn a_word_with_a_short_vector_means_less() {
        let model = begun("lamp 3 0 0 4\nlight 3 4 0 0\nthe 0 0.6 0.8 0\n").unwrap();
        let share = |word| norm(&row(&model, word)[..4]) / norm(&row(&model, word));
        assert!((share("lamp") - VECTOR_SHARE).abs() < 1e-3);
        assert!((share("the") - VECTOR_SHARE / 5.0).abs() < 1e-2, "a fifth of the median length");
    }

    #[test]
    fn vectors_as_wide_as_the_model_are_refused() {
        let wide = begun(&format!("lamp{}\n", " 1".repeat(5000))).unwrap_err();
        assert!(wide.contains("5000 numbers"), "{wide}");
    }
}
