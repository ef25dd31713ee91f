//! An example as token ids: what the encoder reads, what the decoder reads and predicts, and how much each token weighs.
//!
//! ```text
//! encoder:        query[..max_enc-2] <tools> tools[..rest]
//! decoder input:  </s> <tool_call> a n s w e r s
//! decoder target: <tool_call> a n s w e r s </s>
//! ```
//!
//! Too long a query or tools text is cut, as in the original; too long an answer is a [`Problem`], never cut.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::augment::{shuffle_tools, stream};
use crate::error::{DataError, Problem, ProblemCode};
use crate::example::Example;
use crate::names::NameMap;
use crate::span_json::SpanJson;
use crate::tokenizer::{EOS_ID, TOOL_CALL_ID, TOOLS_ID, Tokenizer};
use crate::tool::Tool;

/// What a target token is part of. The loss weighs the classes; the data keeps them apart, so that stored data survives
/// other weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum TokenClass {
    /// Braces, quotes, the words `name` and `arguments`, the markers.
    Structure = 0,
    /// A tool's name, or the empty list where none is called.
    Name = 1,
    /// An argument's name.
    Key = 2,
    /// An argument's value.
    Value = 3,
}

/// Number of token classes.
pub const NUM_TOKEN_CLASSES: usize = 4;

/// Lengths at which text is cut, in tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EncodeConfig {
    /// Most tokens that the encoder reads.
    pub max_enc_tokens: usize,
    /// Most tokens that the decoder reads.
    pub max_dec_tokens: usize,
    /// Most tokens of one tool when it stands alone, for retrieval.
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
    /// What the decoder reads.
    pub dec_input: Vec<u32>,
    /// What it predicts, position by position.
    pub dec_target: Vec<u32>,
    /// Class of each target token.
    pub dec_classes: Vec<TokenClass>,
    /// Query alone and called tool alone, for retrieval; none where no tool is called.
    pub retrieval: Option<RetrievalPair>,
    /// Tokens of query and tools that did not fit into the encoder.
    pub cut_tokens: usize,
}

/// A query and the tool that it calls, each alone.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrievalPair {
    /// The called tool: pairs of one tool, under whatever name, are never each other's negatives.
    pub tool: Tool,
    /// The query.
    pub query_ids: Vec<u32>,
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

    /// The tokenizer in use.
    pub fn tokenizer(&self) -> &Tokenizer {
        self.tokenizer
    }

    /// Encodes one example; with `shuffle_seed`, tools, parameters and keys come in an order drawn from it.
    ///
    /// # Errors
    /// [`ProblemCode::AnswerTooLong`] if the answer does not fit into the decoder.
    pub fn encode(&self, example: &Example, shuffle_seed: Option<u64>) -> Result<EncodedExample, Problem> {
        let names = NameMap::of(&example.tools);
        let mut tools: Vec<Value> =
            example.tools.iter().enumerate().map(|(i, tool)| tool.to_json_named(names.inner(i))).collect();
        if let Some(seed) = shuffle_seed {
            shuffle_tools(&mut tools, &mut stream(seed, &[]));
        }
        let answers = SpanJson::of_calls(&example.answers, |name| names.to_inner(name).unwrap_or(name));
        let (dec_input, dec_target, dec_classes) = self.decoder_side(&answers)?;

        let called = example.answers.first().and_then(|call| example.tools.iter().find(|t| t.name == call.name));
        let inner = called.and_then(|tool| names.to_inner(&tool.name));
        let json = inner.and_then(|name| tools.iter().find(|tool| tool["name"] == name));
        let retrieval = called.zip(json).map(|(tool, json)| RetrievalPair {
            tool: tool.clone(),
            query_ids: self.query_ids(&example.query),
            tool_ids: self.tool_ids(&json.to_string()),
        });
        let (enc_ids, cut_tokens) = self.encoder_side(&example.query, &Value::from(tools).to_string());
        Ok(EncodedExample { enc_ids, dec_input, dec_target, dec_classes, retrieval, cut_tokens })
    }

    /// What the encoder reads for a query and offered tools, in their own order, and how many tokens were cut.
    pub fn prompt(&self, query: &str, tools: &[Tool]) -> (Vec<u32>, usize) {
        self.encoder_side(query, &tools_text(tools, &NameMap::of(tools)))
    }

    /// The texts of an example as the model meets them, for training a tokenizer.
    pub fn texts(example: &Example) -> [String; 3] {
        let names = NameMap::of(&example.tools);
        let answers = SpanJson::of_calls(&example.answers, |name| names.to_inner(name).unwrap_or(name));
        [example.query.clone(), tools_text(&example.tools, &names), answers.text]
    }

    /// The ids of a query alone, for retrieval.
    pub fn query_ids(&self, query: &str) -> Vec<u32> {
        cut(self.tokenizer.encode(query), self.config.max_enc_tokens)
    }

    /// The ids of one tool alone, for retrieval; `tool` is its compact JSON.
    pub fn tool_ids(&self, tool: &str) -> Vec<u32> {
        cut(self.tokenizer.encode(tool), self.config.max_tool_tokens)
    }

    fn encoder_side(&self, query: &str, tools: &str) -> (Vec<u32>, usize) {
        let query = self.tokenizer.encode(query);
        let tools = self.tokenizer.encode(tools);
        let whole = query.len() + 1 + tools.len();
        let mut ids = cut(query, self.config.max_enc_tokens - 2);
        ids.push(TOOLS_ID);
        ids.extend(tools);
        let ids = cut(ids, self.config.max_enc_tokens);
        let cut_tokens = whole - ids.len();
        (ids, cut_tokens)
    }

    #[expect(clippy::type_complexity, reason = "input, target and classes of one answer")]
    fn decoder_side(&self, answers: &SpanJson) -> Result<(Vec<u32>, Vec<u32>, Vec<TokenClass>), Problem> {
        let (ids, spans) = self.tokenizer.encode_with_spans(&answers.text);
        let length = ids.len() + 2;
        if length > self.config.max_dec_tokens {
            return Err(Problem::new(
                "answers",
                ProblemCode::AnswerTooLong,
                format!("{length} tokens, the decoder reads {}", self.config.max_dec_tokens),
            ));
        }
        let dec_input = [&[EOS_ID, TOOL_CALL_ID], ids.as_slice()].concat();
        let dec_target = [&[TOOL_CALL_ID], ids.as_slice(), &[EOS_ID]].concat();
        // A token that straddles classes counts as the one that matters most.
        let class_of = |span: &std::ops::Range<usize>| answers.classes[span.clone()].iter().max().copied();
        let mut classes = vec![TokenClass::Structure];
        classes.extend(spans.iter().map(|span| class_of(span).unwrap_or(TokenClass::Structure)));
        classes.push(TokenClass::Structure);
        Ok((dec_input, dec_target, classes))
    }
}

/// Compact JSON of the offered tools under their inner names.
fn tools_text(tools: &[Tool], names: &NameMap) -> String {
    let tools: Vec<Value> = tools.iter().enumerate().map(|(i, t)| t.to_json_named(names.inner(i))).collect();
    Value::from(tools).to_string()
}

fn cut(mut ids: Vec<u32>, most: usize) -> Vec<u32> {
    ids.truncate(most);
    ids
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::TokenizerConfig;

    fn example() -> Example {
        Example::parse(
            r#"{"query":"call Zoë twice, then call Bob","tools":[{"name":"callPhone","description":"d","parameters":{"who":{"type":"string"},"times":{"type":"integer"}}},{"name":"other","parameters":{}}],
            "answers":[{"name":"callPhone","arguments":{"who":"Zoë","times":2}},{"name":"callPhone","arguments":{"who":"Bob"}}]}"#,
        )
        .unwrap()
    }

    fn tokenizer() -> Tokenizer {
        let text = example().to_json().to_string();
        Tokenizer::train(&TokenizerConfig { vocab_size: 360, isolate_spaces: true }, [text.as_str(); 3].iter()).unwrap()
    }

    fn config() -> EncodeConfig {
        EncodeConfig { max_enc_tokens: 200, max_dec_tokens: 100, max_tool_tokens: 64 }
    }

    #[test]
    fn the_decoder_predicts_its_own_input_one_step_ahead() {
        let tokenizer = tokenizer();
        let encoded = Encoder::new(&tokenizer, config()).unwrap().encode(&example(), None).unwrap();
        assert_eq!(encoded.dec_input[..2], [EOS_ID, TOOL_CALL_ID]);
        assert_eq!(encoded.dec_input[1..], encoded.dec_target[..encoded.dec_target.len() - 1]);
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
