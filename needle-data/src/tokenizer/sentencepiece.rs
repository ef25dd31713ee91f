//! Import and export of SentencePiece `.model` files.
//!
//! The file is a protobuf message (`sentencepiece_model.proto`); encoding depends only on the
//! fields that are declared here. A model with a setting that this crate's encoder does not support
//! is refused by the name of that setting, never read approximately.

use std::path::Path;

use prost::Message;

use super::{FIRST_BYTE_ID, FIRST_MERGED_ID, SPECIAL_PIECES, TOOL_CALL_ID, TOOLS_ID, Tokenizer};
use crate::error::DataError;

#[derive(Clone, PartialEq, Message)]
struct ModelProto {
    #[prost(message, repeated, tag = "1")]
    pieces: Vec<PieceProto>,
    #[prost(message, optional, tag = "2")]
    trainer_spec: Option<TrainerSpec>,
    #[prost(message, optional, tag = "3")]
    normalizer_spec: Option<NormalizerSpec>,
}

#[derive(Clone, PartialEq, Message)]
struct PieceProto {
    #[prost(string, optional, tag = "1")]
    piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    score: Option<f32>,
    #[prost(enumeration = "PieceType", optional, tag = "3", default = "Normal")]
    r#type: Option<i32>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum PieceType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

#[derive(Clone, PartialEq, Message)]
struct TrainerSpec {
    #[prost(enumeration = "ModelType", optional, tag = "3", default = "Unigram")]
    model_type: Option<i32>,
    #[prost(int32, optional, tag = "4")]
    vocab_size: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    treat_whitespace_as_suffix: Option<bool>,
    #[prost(string, repeated, tag = "31")]
    user_defined_symbols: Vec<String>,
    #[prost(bool, optional, tag = "35")]
    byte_fallback: Option<bool>,
    #[prost(int32, optional, tag = "40")]
    unk_id: Option<i32>,
    #[prost(int32, optional, tag = "41")]
    bos_id: Option<i32>,
    #[prost(int32, optional, tag = "42")]
    eos_id: Option<i32>,
    #[prost(int32, optional, tag = "43")]
    pad_id: Option<i32>,
    #[prost(string, optional, tag = "48")]
    pad_piece: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, prost::Enumeration)]
#[repr(i32)]
enum ModelType {
    Unigram = 1,
    Bpe = 2,
    Word = 3,
    Char = 4,
}

#[derive(Clone, PartialEq, Message)]
struct NormalizerSpec {
    #[prost(string, optional, tag = "1")]
    name: Option<String>,
    #[prost(bytes = "vec", optional, tag = "2")]
    precompiled_charsmap: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3", default = "true")]
    add_dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4", default = "true")]
    remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5", default = "true")]
    escape_whitespaces: Option<bool>,
}

fn type_of(id: usize) -> PieceType {
    match id {
        3 => PieceType::Unknown,
        0..=2 => PieceType::Control,
        _ if id == TOOL_CALL_ID as usize || id == TOOLS_ID as usize => PieceType::UserDefined,
        FIRST_BYTE_ID..FIRST_MERGED_ID => PieceType::Byte,
        _ => PieceType::Normal,
    }
}

impl Tokenizer {
    /// Reads a SentencePiece BPE model.
    ///
    /// # Errors
    /// If the file cannot be read or is not a SentencePiece model; if it is not BPE with byte
    /// fallback and identity normalization; if its special ids or its order of pieces differ from
    /// Needle's.
    pub fn import_sentencepiece(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let bytes = crate::file::read(path)?;
        Self::from_sentencepiece(&bytes).map_err(|reason| DataError::Tokenizer { path: Some(path.to_owned()), reason })
    }

    /// Like [`Tokenizer::import_sentencepiece`], from the file's bytes.
    ///
    /// # Errors
    /// One sentence that names what is unsupported or malformed.
    pub fn from_sentencepiece(bytes: &[u8]) -> Result<Self, String> {
        let model = ModelProto::decode(bytes).map_err(|e| format!("not a SentencePiece model: {e}"))?;
        if model.pieces.is_empty() {
            return Err("not a SentencePiece model: it has no pieces".into());
        }
        let trainer = model.trainer_spec.unwrap_or_default();
        if trainer.model_type() != ModelType::Bpe {
            return Err(format!("a {:?} model; only BPE is supported", trainer.model_type()));
        }
        let normalizer = model.normalizer_spec.unwrap_or_default();
        for (setting, is_so) in [
            ("byte_fallback = true", trainer.byte_fallback()),
            ("treat_whitespace_as_suffix = false", !trainer.treat_whitespace_as_suffix()),
            ("identity normalization", normalizer.precompiled_charsmap().is_empty()),
            ("add_dummy_prefix = true", normalizer.add_dummy_prefix()),
            ("remove_extra_whitespaces = true", normalizer.remove_extra_whitespaces()),
            ("escape_whitespaces = true", normalizer.escape_whitespaces()),
        ] {
            if !is_so {
                return Err(format!("this model was not trained with {setting}, which needle needs"));
            }
        }
        for (id, piece) in model.pieces.iter().enumerate() {
            if piece.r#type() != type_of(id) {
                let (is, expected) = (piece.r#type(), type_of(id));
                return Err(format!("id {id}, {:?}, is a {is:?} piece, expected {expected:?}", piece.piece()));
            }
        }
        let mut best = f32::INFINITY;
        for piece in model.pieces.iter().skip(FIRST_MERGED_ID).filter(|p| p.piece().chars().count() > 1) {
            if piece.score() >= best {
                return Err(format!("{:?} does not have a lower score than the piece before it", piece.piece()));
            }
            best = piece.score();
        }
        Self::from_pieces(model.pieces.into_iter().map(|p| p.piece.unwrap_or_default()).collect())
    }

    /// The contents of a `.model` file, with which the `sentencepiece` package produces the same
    /// ids.
    pub fn to_sentencepiece(&self) -> Vec<u8> {
        let piece = |(id, piece): (usize, &String)| PieceProto {
            piece: Some(piece.clone()),
            score: Some(self.score(id as u32)),
            r#type: Some(type_of(id).into()),
        };
        let id = |piece: &str| SPECIAL_PIECES.iter().position(|p| *p == piece).map(|id| id as i32);
        let model = ModelProto {
            pieces: self.pieces.iter().enumerate().map(piece).collect(),
            trainer_spec: Some(TrainerSpec {
                model_type: Some(ModelType::Bpe.into()),
                vocab_size: Some(self.vocab_size() as i32),
                treat_whitespace_as_suffix: Some(false),
                user_defined_symbols: [TOOL_CALL_ID, TOOLS_ID].map(|id| SPECIAL_PIECES[id as usize].to_owned()).into(),
                byte_fallback: Some(true),
                unk_id: id("<unk>"),
                bos_id: id("<s>"),
                eos_id: id("</s>"),
                pad_id: id("<pad>"),
                pad_piece: Some("<pad>".into()),
            }),
            normalizer_spec: Some(NormalizerSpec {
                name: Some("identity".into()),
                precompiled_charsmap: Some(Vec::new()),
                add_dummy_prefix: Some(true),
                remove_extra_whitespaces: Some(true),
                escape_whitespaces: Some(true),
            }),
        };
        model.encode_to_vec()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::NUM_SPECIAL;
    use crate::tokenizer::TokenizerConfig;

    fn fixture(name: &str) -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/tokenizer").join(name)
    }

    fn parity_model() -> Tokenizer {
        Tokenizer::import_sentencepiece(fixture("needle.model")).unwrap()
    }

    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
    }

    #[derive(serde::Deserialize)]
    struct DecodeCase {
        ids: Vec<u32>,
        decoded: String,
    }

    #[derive(serde::Deserialize)]
    struct Cases {
        cases: Vec<Case>,
        decode_cases: Vec<DecodeCase>,
    }

    fn cases() -> Cases {
        serde_json::from_str(&std::fs::read_to_string(fixture("tokenizer_cases.json")).unwrap()).unwrap()
    }

    #[test]
    fn ids_are_those_of_sentencepiece_on_every_golden_case() {
        let tokenizer = parity_model();
        let cases = cases().cases;
        assert!(cases.len() > 300);
        for case in cases {
            assert_eq!(tokenizer.encode(&case.text), case.ids, "{:?}", case.text);
        }
    }

    #[test]
    fn ids_are_those_of_sentencepiece_on_two_thousand_hard_strings() {
        use std::io::Read;
        let tokenizer = parity_model();
        let mut lines = String::new();
        crate::file::open(&fixture("hard_strings.jsonl.gz")).unwrap().read_to_string(&mut lines).unwrap();
        assert_eq!(lines.lines().count(), 2000);
        for line in lines.lines() {
            let case: Case = serde_json::from_str(line).unwrap();
            assert_eq!(tokenizer.encode(&case.text), case.ids, "{:?}", case.text);
            // The second time, chunks come from the cache.
            assert_eq!(tokenizer.encode(&case.text), case.ids, "{:?}", case.text);
        }
    }

    #[test]
    fn text_comes_back_as_sentencepiece_gives_it_but_for_special_ids() {
        let tokenizer = parity_model();
        let is_special = |id: &u32| (*id as usize) < NUM_SPECIAL;
        let cases: Vec<_> = cases().decode_cases.into_iter().filter(|c| !c.ids.iter().any(is_special)).collect();
        assert!(cases.len() > 50);
        for case in cases {
            assert_eq!(tokenizer.decode(&case.ids), case.decoded, "{:?}", case.ids);
        }
    }

    #[test]
    fn a_model_survives_export_and_import() {
        let texts = ["set a timer for ten minutes", "turn the timer off"];
        for tokenizer in [
            parity_model(),
            Tokenizer::train(
                &TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: false },
                texts.iter(),
            )
            .unwrap(),
        ] {
            let again = Tokenizer::from_sentencepiece(&tokenizer.to_sentencepiece()).unwrap();
            assert_eq!(again.to_json(), tokenizer.to_json());
        }
    }

    #[test]
    fn models_that_encode_otherwise_are_refused_by_name() {
        let good = ModelProto::decode(std::fs::read(fixture("needle.model")).unwrap().as_slice()).unwrap();
        let refused = |change: &dyn Fn(&mut ModelProto)| {
            let mut model = good.clone();
            change(&mut model);
            Tokenizer::from_sentencepiece(&model.encode_to_vec()).unwrap_err()
        };
        let trainer = |m: &mut ModelProto| m.trainer_spec.clone().unwrap();
        assert!(
            refused(&|m| m.trainer_spec = Some(TrainerSpec { model_type: Some(1), ..trainer(m) })).contains("Unigram")
        );
        assert!(
            refused(&|m| m.trainer_spec = Some(TrainerSpec { byte_fallback: None, ..trainer(m) }))
                .contains("byte_fallback")
        );
        let charsmap = Some(vec![1, 2, 3]);
        assert!(
            refused(&|m| m.normalizer_spec.as_mut().unwrap().precompiled_charsmap.clone_from(&charsmap))
                .contains("identity")
        );
        assert!(refused(&|m| m.pieces[5].r#type = Some(PieceType::Control.into())).contains("id 5"));
        assert!(refused(&|m| m.pieces[300].score = Some(7.0)).contains("score"));
        assert!(refused(&|m| m.pieces[300].piece = m.pieces[301].piece.clone()).contains("twice"));
        assert!(refused(&|m| m.pieces.clear()).contains("no pieces"));
        assert!(Tokenizer::from_sentencepiece(b"not protobuf at all").unwrap_err().contains("not a SentencePiece"));
    }

    #[test]
    fn a_truncated_model_is_an_error_at_every_length() {
        let bytes = std::fs::read(fixture("needle.model")).unwrap();
        for length in (0..bytes.len()).step_by(97) {
            assert!(Tokenizer::from_sentencepiece(&bytes[..length]).is_err(), "{length} bytes");
        }
    }
}
