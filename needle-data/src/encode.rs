//! An example as token ids: what the encoder reads, what the decoder reads and predicts, and the
//! class that sets each token's weight in the loss.
//!
//! ```text
//! encoder:        query[..max_enc-2] <tools> tools[..rest]
//! decoder input:  </s> <tool_call> a n s w e r s
//! decoder target: <tool_call> a n s w e r s </s>
//! ```
//!
//! A query or tools text that is too long is truncated, as in the original; an answer that is too
//! long is a [`Problem`] and is never truncated. In pretraining text, a question or the beginning
//! of the text takes the place of the query, and an answer or the continuation that of the calls.

use std::borrow::Cow;
use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::augment::shuffle_tools;
use crate::batching::pack::RowSize;
use crate::error::{DataError, Problem, ProblemCode};
use crate::random::{Purpose, rng};
use crate::similarity::order_tools;
use crate::text::example::{Call, Example};
use crate::text::names::NameMap;
use crate::text::record::Record;
use crate::text::span_json::SpanJson;
use crate::text::token_class::TokenClass;
use crate::text::tool::Tool;
use crate::tokenizer::{EOS_ID, TOOL_CALL_ID, TOOLS_ID, Tokenizer};

/// Default of [`EncodeConfig::max_tool_tokens`]: the original's limit.
pub const MAX_TOOL_TOKENS: usize = 256;

/// Limits at which text is truncated, in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeConfig {
    /// Maximum number of tokens that the encoder reads.
    pub max_enc_tokens: usize,
    /// Maximum number of tokens that the decoder reads.
    pub max_dec_tokens: usize,
    /// Maximum number of tokens of one tool that is encoded alone, for retrieval.
    pub max_tool_tokens: usize,
}

impl EncodeConfig {
    /// # Errors
    /// If a limit is too small to hold anything.
    pub fn validate(&self) -> Result<(), DataError> {
        for (field, value, least) in [
            ("max_enc_tokens", self.max_enc_tokens, 4),
            ("max_dec_tokens", self.max_dec_tokens, 4),
            ("max_tool_tokens", self.max_tool_tokens, 1),
        ] {
            if value < least {
                return Err(DataError::Config { field, reason: format!("must be at least {least}, is {value}") });
            }
        }
        Ok(())
    }
}

/// One example as ids.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedExample {
    /// What the encoder reads.
    pub enc_ids: Vec<u32>,
    /// What the decoder predicts, position by position. Its input is the same sequence, shifted by
    /// one position, after [`EOS_ID`].
    pub dec_target: Vec<u32>,
    /// Class of each target token.
    pub dec_classes: Vec<TokenClass>,
    /// The query and the called tool, each alone, for retrieval; `None` if no tool is called.
    pub retrieval: Option<RetrievalPair>,
    /// Number of tokens that were truncated.
    pub cut_tokens: usize,
}

impl EncodedExample {
    /// Number of tokens of the encoder and of the decoder.
    pub fn size(&self) -> RowSize {
        RowSize { enc: self.enc_ids.len(), dec: self.dec_target.len() }
    }

    /// What the decoder reads: the target shifted by one position, after [`EOS_ID`].
    pub fn dec_input(&self) -> impl Iterator<Item = u32> {
        std::iter::once(EOS_ID).chain(self.dec_target.iter().copied()).take(self.dec_target.len())
    }
}

/// Identifies the tool of a retrieval pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairKey {
    /// Hash of the called tool's name.
    pub name: u64,
    /// Hash of the tool's description and parameters, without its name; `None` if it has no
    /// description.
    pub content: Option<NonZeroU64>,
}

impl PairKey {
    /// Whether two pairs call the same tool, and so are never each other's negatives.
    pub fn is_same(&self, other: &Self) -> bool {
        self.name == other.name || self.content.is_some() && self.content == other.content
    }
}

/// A query and the tool that it calls, each alone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetrievalPair {
    /// Identifies the called tool.
    pub key: PairKey,
    /// The query is the first `query_len` of the encoder's ids.
    pub query_len: usize,
    /// The called tool's compact JSON.
    pub tool_ids: Vec<u32>,
}

/// Turns examples into ids.
#[derive(Debug, Clone)]
pub struct Encoder<'a> {
    tokenizer: &'a Tokenizer,
    config: EncodeConfig,
}

impl<'a> Encoder<'a> {
    /// # Errors
    /// If a limit of `config` is too small.
    pub fn new(tokenizer: &'a Tokenizer, config: EncodeConfig) -> Result<Self, DataError> {
        config.validate()?;
        Ok(Self { tokenizer, config })
    }

    /// Limits at which text is truncated.
    pub fn config(&self) -> &EncodeConfig {
        &self.config
    }

    /// The tokenizer in use.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.tokenizer
    }

    /// Encodes one example; with `shuffle_seed`, the order of tools, parameters and keys is drawn
    /// from it. A tokenizer with word vectors orders tools and parameters by [`crate::similarity`]
    /// instead, and the arguments of calls follow.
    ///
    /// # Errors
    /// [`ProblemCode::AnswerTooLong`] if the answer does not fit into the decoder.
    pub fn encode(&self, example: &Example, shuffle_seed: Option<u64>) -> Result<EncodedExample, Problem> {
        let names = NameMap::of(&example.tools);
        let mut tools = native(&example.tools, &names);
        if let Some(seed) = shuffle_seed {
            shuffle_tools(&mut tools, &mut rng(seed, Purpose::ToolOrder, &[]));
        }
        let mut calls = Cow::Borrowed(example.answers.as_slice());
        if self.tokenizer.word_vectors().is_some() {
            order_tools(&mut tools, &example.query, self.tokenizer);
            calls.to_mut().iter_mut().for_each(|call| follow_order(call, names.to_inner(&call.name), &tools));
        }
        let answers = SpanJson::of_calls(&calls, |name| names.to_inner(name).unwrap_or(name));
        let (dec_target, dec_classes) = self.decoder_side(&answers)?;
        let query = self.tokenizer.encode(&example.query);
        let query_len = query.len().min(self.config.max_enc_tokens - 2);

        let called = example.answers.first().and_then(|call| example.tools.iter().find(|t| t.name == call.name));
        let inner = called.and_then(|tool| names.to_inner(&tool.name));
        let json = inner.and_then(|name| tools.iter().find(|tool| tool["name"] == name));
        let retrieval = called.zip(json).map(|(tool, json)| RetrievalPair {
            key: PairKey {
                name: key(&tool.name).get(),
                content: (!tool.description.is_empty()).then(|| key(&tool.to_json_named("").to_string())),
            },
            query_len,
            tool_ids: self.tool_ids(&json.to_string()),
        });
        let (enc_ids, cut_tokens) = self.encoder_side(query, &Value::from(tools).to_string());
        Ok(EncodedExample { enc_ids, dec_target, dec_classes, retrieval, cut_tokens })
    }

    /// Encodes a question about a text. An answer that is too long is truncated: a language model
    /// only loses the rest of it.
    pub fn encode_question(&self, query: &str, seed_text: &str, answer: &str) -> EncodedExample {
        let (enc_ids, cut_tokens) = self.encoder_side(self.tokenizer.encode(query), seed_text);
        let answer = self.tokenizer.encode(answer);
        let whole = answer.len() + 1;
        let dec_target = cut([answer, vec![EOS_ID]].concat(), self.config.max_dec_tokens);
        EncodedExample { cut_tokens: cut_tokens + whole - dec_target.len(), ..plain(enc_ids, dec_target) }
    }

    /// Encodes plain text as parts as long as a row, each with a beginning for the encoder and a
    /// continuation for the decoder. Nothing is truncated, and only the last part ends with
    /// [`EOS_ID`].
    pub fn encode_text(&self, text: &str) -> Vec<EncodedExample> {
        let mut ids = self.tokenizer.encode(text);
        if ids.is_empty() {
            return Vec::new();
        }
        ids.push(EOS_ID);
        // `<tools>` ends the encoder's input, as it ends a query.
        let (most_read, most_written) = (self.config.max_enc_tokens - 1, self.config.max_dec_tokens);
        let parts = ids.chunks(most_read + most_written).map(|part| {
            // The last part is split in the same proportion as full parts, so that encoder and
            // decoder rows fill evenly.
            let read = (part.len() * most_read / (most_read + most_written)).max(1).min(part.len() - 1);
            plain([&part[..read], &[TOOLS_ID]].concat(), part[read..].to_vec())
        });
        parts.collect()
    }

    /// Encodes a row of any kind, without shuffling.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_record(&self, record: &Record) -> Result<Vec<EncodedExample>, Problem> {
        Ok(match record {
            Record::ToolCall(example) => vec![self.encode(example, None)?],
            Record::Question { query, seed_text, answer } => vec![self.encode_question(query, seed_text, answer)],
            Record::Text(text) => self.encode_text(text),
        })
    }

    /// The encoder's ids for a query and the offered tools, and the number of tokens that were
    /// truncated. The tools are in the given order, or by [`crate::similarity`] if the tokenizer
    /// has word vectors.
    pub fn prompt(&self, query: &str, tools: &[Tool]) -> (Vec<u32>, usize) {
        let mut tools = native(tools, &NameMap::of(tools));
        order_tools(&mut tools, query, self.tokenizer);
        self.encoder_side(self.tokenizer.encode(query), &Value::from(tools).to_string())
    }

    /// The ids of `answers` to a question, as a trained model writes them: `<tool_call>` and the
    /// calls, whose arguments follow the order of the parameters in [`Encoder::prompt`].
    pub fn answer_ids(&self, query: &str, tools: &[Tool], answers: Vec<Vec<Call>>) -> Vec<Vec<u32>> {
        let names = NameMap::of(tools);
        let mut tools = native(tools, &names);
        order_tools(&mut tools, query, self.tokenizer);
        let ids = |mut calls: Vec<Call>| {
            calls.iter_mut().for_each(|call| follow_order(call, names.to_inner(&call.name), &tools));
            let answer = SpanJson::of_calls(&calls, |name| names.to_inner(name).unwrap_or(name));
            [&[TOOL_CALL_ID], self.tokenizer.encode(&answer.text).as_slice()].concat()
        };
        answers.into_iter().map(ids).collect()
    }

    /// The texts of an example as the model sees them, for training a tokenizer.
    pub fn texts(example: &Example) -> [String; 3] {
        let names = NameMap::of(&example.tools);
        let answers = SpanJson::of_calls(&example.answers, |name| names.to_inner(name).unwrap_or(name));
        [example.query.clone(), Value::from(native(&example.tools, &names)).to_string(), answers.text]
    }

    /// The texts of a row of any kind, for training a tokenizer.
    pub fn texts_of(record: Record) -> Vec<String> {
        match record {
            Record::ToolCall(example) => Self::texts(&example).into(),
            Record::Question { query, seed_text, answer } => vec![query, seed_text, answer],
            Record::Text(text) => vec![text],
        }
    }

    /// The ids of a query alone, for retrieval.
    pub fn query_ids(&self, query: &str) -> Vec<u32> {
        cut(self.tokenizer.encode(query), self.config.max_enc_tokens)
    }

    /// The ids of one tool alone, for retrieval; `tool` is its compact JSON.
    pub fn tool_ids(&self, tool: &str) -> Vec<u32> {
        cut(self.tokenizer.encode(tool), self.config.max_tool_tokens)
    }

    fn encoder_side(&self, query: Vec<u32>, tools: &str) -> (Vec<u32>, usize) {
        let tools = self.tokenizer.encode(tools);
        let whole = query.len() + 1 + tools.len();
        let mut ids = cut(query, self.config.max_enc_tokens - 2);
        ids.push(TOOLS_ID);
        ids.extend(tools);
        let ids = cut(ids, self.config.max_enc_tokens);
        let cut_tokens = whole - ids.len();
        (ids, cut_tokens)
    }

    fn decoder_side(&self, answers: &SpanJson) -> Result<(Vec<u32>, Vec<TokenClass>), Problem> {
        let (ids, spans) = self.tokenizer.encode_with_spans(&answers.text);
        let length = ids.len() + 2;
        if length > self.config.max_dec_tokens {
            return Err(Problem::new(
                "answers",
                ProblemCode::AnswerTooLong,
                format!("{length} tokens, but the decoder reads at most {}", self.config.max_dec_tokens),
            ));
        }
        let dec_target = [&[TOOL_CALL_ID], ids.as_slice(), &[EOS_ID]].concat();
        // A token that spans several classes gets the highest: value over key over name over
        // structure.
        let class_of = |span: &std::ops::Range<usize>| answers.classes[span.clone()].iter().max().copied();
        let mut classes = vec![TokenClass::Structure];
        classes.extend(spans.iter().map(|span| class_of(span).unwrap_or(TokenClass::Structure)));
        classes.push(TokenClass::Structure);
        Ok((dec_target, classes))
    }
}

/// A row of pretraining text, which calls no tool: every target is structure.
fn plain(enc_ids: Vec<u32>, dec_target: Vec<u32>) -> EncodedExample {
    let dec_classes = vec![TokenClass::Structure; dec_target.len()];
    EncodedExample { enc_ids, dec_target, dec_classes, retrieval: None, cut_tokens: 0 }
}

/// A hash that stays the same between versions and machines; never 0.
fn key(text: &str) -> NonZeroU64 {
    let hash = Sha256::digest(text);
    NonZeroU64::new(hash.iter().take(8).fold(0, |key, &byte| key << 8 | u64::from(byte))).unwrap_or(NonZeroU64::MIN)
}

/// Puts the arguments of `call` into the order in which its tool lists the parameters, so that an
/// answer can be written while the tool is read once.
fn follow_order(call: &mut Call, inner: Option<&str>, tools: &[Value]) {
    let tool = tools.iter().find(|tool| tool["name"].as_str() == inner);
    let Some(parameters) = tool.and_then(|tool| tool["parameters"].as_object()) else { return };
    let place = |name: &String| parameters.keys().position(|key| key == name);
    let mut arguments: Vec<(String, Value)> = std::mem::take(&mut call.arguments).into_iter().collect();
    arguments.sort_by_key(|(name, _)| place(name));
    call.arguments.extend(arguments);
}

/// The offered tools in native form under their inner names.
fn native(tools: &[Tool], names: &NameMap) -> Vec<Value> {
    tools.iter().enumerate().map(|(i, tool)| tool.to_json_named(names.inner(i))).collect()
}

fn cut(mut ids: Vec<u32>, most: usize) -> Vec<u32> {
    ids.truncate(most);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::TokenizerConfig;
    use crate::tokenizer::word_vectors::WordVectors;

    fn example() -> Example {
        Example::parse(
            r#"{"query":"call Zoë twice, then call Bob","tools":[{"name":"callPhone","description":"d","parameters":{"who":{"type":"string"},"times":{"type":"integer"}}},{"name":"other","parameters":{}}],
            "answers":[{"name":"callPhone","arguments":{"who":"Zoë","times":2}},{"name":"callPhone","arguments":{"who":"Bob"}}]}"#,
        )
        .unwrap()
    }

    fn tokenizer() -> Tokenizer {
        let text = example().to_json().to_string();
        Tokenizer::train(
            &TokenizerConfig { vocab_size: 360, isolate_spaces: true, join_structure: false },
            [text.as_str(); 3].iter(),
        )
        .unwrap()
    }

    fn config() -> EncodeConfig {
        EncodeConfig { max_enc_tokens: 200, max_dec_tokens: 100, max_tool_tokens: 64 }
    }

    #[test]
    fn the_decoder_predicts_its_own_input_one_step_ahead() {
        let tokenizer = tokenizer();
        let encoded = Encoder::new(&tokenizer, config()).unwrap().encode(&example(), None).unwrap();
        assert_eq!(encoded.dec_input().collect::<Vec<_>>()[..2], [EOS_ID, TOOL_CALL_ID]);
        assert!(encoded.dec_input().skip(1).eq(encoded.dec_target[..encoded.dec_target.len() - 1].iter().copied()));
        assert_eq!(encoded.dec_target.last(), Some(&EOS_ID));
        assert!(
            tokenizer
                .decode(&encoded.dec_target)
                .starts_with(r#"[{"name":"call_phone","arguments":{"who":"Zoë","times":2}}"#)
        );
        assert_eq!(encoded.enc_ids.iter().filter(|&&id| id == TOOLS_ID).count(), 1);
    }

    #[test]
    fn token_classes_cover_names_keys_and_values_of_every_call() {
        let tokenizer = tokenizer();
        let encoded = Encoder::new(&tokenizer, config()).unwrap().encode(&example(), None).unwrap();
        let text_of = |class| {
            let ids: Vec<u32> = encoded
                .dec_target
                .iter()
                .zip(&encoded.dec_classes)
                .filter(|(_, c)| **c == class)
                .map(|(id, _)| *id)
                .collect();
            tokenizer.decode(&ids)
        };
        assert_eq!(text_of(TokenClass::Name), "call_phonecall_phone");
        assert_eq!(text_of(TokenClass::Key), "whotimeswho");
        assert_eq!(text_of(TokenClass::Value), "Zoë2Bob");
    }

    #[test]
    fn with_word_vectors_arguments_follow_the_order_of_parameters_in_any_shuffle() {
        let plain = tokenizer();
        let codes = (0..plain.vocab_size() as i32 * 4).map(|i| (i * 37 % 101 - 50) as i8).collect();
        let scales = vec![1.0; plain.vocab_size()];
        let tokenizer = plain.with_word_vectors(WordVectors::new(codes, scales).unwrap());
        let encoder = Encoder::new(&tokenizer, config()).unwrap();
        let first = encoder.encode(&example(), None).unwrap();
        assert_eq!(encoder.prompt(&example().query, &example().tools).0, first.enc_ids);
        let prompt = tokenizer.decode(&first.enc_ids);
        let (who, times) = (prompt.find(r#""who""#), prompt.find(r#""times""#));
        let answer = tokenizer.decode(&first.dec_target);
        let is_reversed = answer.contains(r#""arguments":{"times":2,"who":"Zoë"}"#);
        assert!(is_reversed || answer.contains(r#""arguments":{"who":"Zoë","times":2}"#), "{answer}");
        assert_eq!(is_reversed, times < who, "{prompt}");
        for seed in 0..8 {
            let shuffled = encoder.encode(&example(), Some(seed)).unwrap();
            assert_eq!(shuffled.dec_target, first.dec_target);
        }
    }

    #[test]
    fn shuffling_changes_the_prompt_and_never_the_answer() {
        let tokenizer = tokenizer();
        let encoder = Encoder::new(&tokenizer, config()).unwrap();
        let plain = encoder.encode(&example(), None).unwrap();
        let shuffled: Vec<_> = (0..8).map(|seed| encoder.encode(&example(), Some(seed)).unwrap()).collect();
        assert!(shuffled.iter().any(|s| s.enc_ids != plain.enc_ids));
        assert!(shuffled.iter().all(|s| s.dec_target == plain.dec_target));
        assert_eq!(encoder.encode(&example(), Some(3)).unwrap(), shuffled[3]);
        assert_eq!(encoder.prompt(&example().query, &example().tools).0, plain.enc_ids);
    }

    #[test]
    fn text_is_cut_into_parts_that_together_are_the_text() {
        let tokenizer = tokenizer();
        let config = EncodeConfig { max_enc_tokens: 9, max_dec_tokens: 4, max_tool_tokens: 64 };
        let encoder = Encoder::new(&tokenizer, config).unwrap();
        for text in ["x".repeat(100), "call Bob, then call Zoë again and again".into(), "y".into()] {
            let ids = tokenizer.encode(&text);
            let parts = encoder.encode_text(&text);
            let mut joined = Vec::new();
            for part in &parts {
                assert!(part.enc_ids.len() <= 9 && (1..=4).contains(&part.dec_target.len()));
                joined.extend(&part.enc_ids[..part.enc_ids.len() - 1]);
                joined.extend(&part.dec_target);
            }
            assert_eq!(joined.pop(), Some(EOS_ID));
            assert_eq!(joined, ids, "{text}");
            assert!(parts[..parts.len() - 1].iter().all(|p| p.dec_target.last() != Some(&EOS_ID)));
        }
        assert!(encoder.encode_text("").is_empty());
    }

    #[test]
    fn a_question_is_read_with_its_text_and_answered() {
        let tokenizer = tokenizer();
        let encoder = Encoder::new(&tokenizer, config()).unwrap();
        let encoded = encoder.encode_question("who", "call Bob", "Bob");
        assert_eq!(encoded.enc_ids, [tokenizer.encode("who"), vec![TOOLS_ID], tokenizer.encode("call Bob")].concat());
        assert_eq!(encoded.dec_target, [tokenizer.encode("Bob"), vec![EOS_ID]].concat());
        let long = encoder.encode_question("who", "", &"Bob ".repeat(300));
        assert_eq!(long.dec_target.len(), 100);
        assert!(long.cut_tokens > 100 && long.dec_target.last() != Some(&EOS_ID));
    }

    #[test]
    fn a_long_prompt_is_cut_and_a_long_answer_is_a_problem() {
        let tokenizer = tokenizer();
        let short = EncodeConfig { max_enc_tokens: 6, ..config() };
        let encoded = Encoder::new(&tokenizer, short).unwrap().encode(&example(), None).unwrap();
        assert_eq!((encoded.enc_ids.len(), encoded.enc_ids[4]), (6, TOOLS_ID));
        assert!(encoded.cut_tokens > 0);
        let short = EncodeConfig { max_dec_tokens: 10, ..config() };
        let problem = Encoder::new(&tokenizer, short).unwrap().encode(&example(), None).unwrap_err();
        assert_eq!(problem.code, ProblemCode::AnswerTooLong);
    }
}
