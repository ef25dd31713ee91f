//! A trained model as a library: load it and ask it.
//!
//! ```no_run
//! use needle_runtime::{Needle, tools_from_json};
//!
//! fn main() -> Result<(), Box<dyn std::error::Error>> {
//!     let tools = tools_from_json(r#"[{"name": "set_timer", "description": "Start a timer",
//!         "parameters": {"minutes": {"type": "integer", "required": true}}}]"#)?;
//!     let needle = Needle::load("quickstart/best")?;
//!     let answer = needle.call("a timer for ten minutes please", &tools)?;
//!     for call in answer.calls {
//!         println!("{} {:?}", call.name, call.arguments);
//!     }
//!     Ok(())
//! }
//! ```

use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use needle_data::encode::MAX_TOOL_TOKENS;
use needle_data::text::names::NameMap;
use needle_data::{EncodeConfig, Encoder, Tokenizer, Tool};

use super::Answer;
use super::config::AnswerConfig;
use super::predict::{Answerer, Prediction, Prompt};
use super::question::{AsQuestion, Question};
use super::stopwatch::Stopwatch;
use super::stream::AnswerStream;
use crate::confidence::{self, Confidence};
use crate::config::SanConfig;
use crate::constrain::Constrainer;
use crate::constrain::copying::{CopyStatistics, Values};
use crate::engine::{Engine, Options};
use crate::error::RuntimeError;
use crate::file::artifact;
use crate::file::locate::locate;
use crate::generate::{Certainty, StepHook, Stop};
use crate::network::Network;
use crate::precision::Precision;
use crate::retrieval::catalogue::Catalogue;
use crate::retrieval::tool_vectors::ToolVectors;
use crate::retrieval::{rank, rank_with_words, tool_texts, tool_words};

/// Number of catalogues whose embeddings are kept in memory.
const REMEMBERED_CATALOGUES: usize = 8;

/// A loaded model. Clones share the weights, so that several configurations need no more memory
/// than one. Several threads can use it at the same time.
#[derive(Clone)]
pub struct Needle {
    model: Arc<Model>,
    confidence: Option<Confidence>,
    copying: CopyStatistics,
    /// Directory where embeddings of catalogues are cached; `None` caches them only in memory.
    dir: Option<PathBuf>,
    lengths: EncodeConfig,
    config: AnswerConfig,
}

/// What all clones share.
struct Model {
    network: Box<dyn Network>,
    tokenizer: Tokenizer,
    constrainer: Constrainer,
    catalogues: Mutex<Vec<(Vec<Vec<u32>>, Catalogue)>>,
    tool_vectors: ToolVectors,
}

impl Needle {
    /// Loads the model at `path` into the INT4 engine: a training checkpoint, the result of a
    /// training run, or an artifact of `needle export --format needle-rs`. By default, answers are
    /// constrained to the offered tools.
    ///
    /// # Errors
    /// If there is no readable model.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, RuntimeError> {
        Self::load_with(path, &Options::default())
    }

    /// Like [`Needle::load`], with `options` of the engine.
    ///
    /// # Errors
    /// As for [`Needle::load`], and if this CPU lacks the requested instruction set.
    pub fn load_with(path: impl AsRef<Path>, options: &Options) -> Result<Self, RuntimeError> {
        let path = path.as_ref();
        let dir = if path.join(artifact::WEIGHTS).exists() { path.to_owned() } else { locate(path)? };
        Self::from_engine(Engine::open_with(&dir, options)?)?.beside(&dir)
    }

    /// Loads an artifact from the contents of its two files, `weights` (`needle.safetensors`) and
    /// `vocab` (`vocab.txt`).
    ///
    /// # Errors
    /// If they are malformed or do not fit together, and as for [`Needle::load_with`].
    pub fn from_bytes(weights: Vec<u8>, vocab: &str, options: &Options) -> Result<Self, RuntimeError> {
        Self::from_engine(Engine::from_bytes(weights, Some(vocab), options)?)
    }

    /// Wraps an engine that is already open. Embeddings of catalogues are not cached on disk.
    ///
    /// # Errors
    /// If the engine was opened without a tokenizer, and as for [`Needle::new`].
    pub fn from_engine(engine: Engine) -> Result<Self, RuntimeError> {
        let tokenizer = engine.tokenizer().cloned();
        let none = || RuntimeError::Config { field: "vocab", reason: "the model has no tokenizer".into() };
        Self::new(Box::new(engine), tokenizer.ok_or_else(none)?)
    }

    /// Wraps any network, with the tokenizer that it was trained with.
    ///
    /// # Errors
    /// If the vocabulary cannot be used, or the model's sizes leave no room for a prompt.
    pub fn new(network: Box<dyn Network>, tokenizer: Tokenizer) -> Result<Self, RuntimeError> {
        let lengths = limits(network.config());
        lengths.validate()?;
        let constrainer = Constrainer::new(&tokenizer)?;
        Ok(Self {
            model: Arc::new(Model {
                network,
                tokenizer,
                constrainer,
                catalogues: Mutex::default(),
                tool_vectors: ToolVectors::default(),
            }),
            confidence: None,
            copying: CopyStatistics::default(),
            dir: None,
            lengths,
            config: AnswerConfig::default(),
        })
    }

    /// Adds the files that lie beside the weights in `dir`: the calibrated confidence, and the
    /// statistics of which arguments training always copied. Embeddings of catalogues are cached
    /// there.
    ///
    /// # Errors
    /// If one of these files cannot be read.
    pub fn beside(self, dir: &Path) -> Result<Self, RuntimeError> {
        let (confidence, copying) = (Confidence::load(dir)?, CopyStatistics::load(dir)?);
        Ok(Self { confidence, copying, dir: Some(dir.to_owned()), ..self })
    }

    /// Sets how questions are answered.
    ///
    /// # Errors
    /// If `config` sets `abstain_below` and the model has no calibrated confidence.
    pub fn with_config(self, config: AnswerConfig) -> Result<Self, RuntimeError> {
        if config.abstain_below.is_some() && self.confidence.is_none() {
            let reason = format!(
                "abstaining needs a calibrated confidence ({}); `needle eval CHECKPOINT DATA --calibrate` adds one, with {} examples \
                 or more",
                confidence::FILE,
                confidence::LEAST_EXAMPLES
            );
            return Err(RuntimeError::bad_file(self.dir.unwrap_or_default(), reason));
        }
        Ok(Self { config, ..self })
    }

    /// Caches embeddings of catalogues only in memory. This is for servers, whose clients bring the
    /// catalogues.
    pub fn in_memory(self) -> Self {
        Self { dir: None, ..self }
    }

    /// Sets or removes the calibrated confidence.
    pub fn with_confidence(self, confidence: Option<Confidence>) -> Self {
        Self { confidence, ..self }
    }

    /// Sets the lengths at which text is cut; by default they are the longest that the model reads.
    ///
    /// # Errors
    /// If a length is too small for any text.
    pub fn with_lengths(self, lengths: EncodeConfig) -> Result<Self, RuntimeError> {
        lengths.validate()?;
        Ok(Self { lengths, ..self })
    }

    /// The model's sizes.
    pub fn model_config(&self) -> &SanConfig {
        self.model.network.config()
    }

    /// The format of the stored weights.
    pub fn precision(&self) -> Precision {
        self.model.network.precision()
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.model.tokenizer
    }

    /// How questions are answered.
    pub fn config(&self) -> &AnswerConfig {
        &self.config
    }

    /// The calibrated confidence, if there is one.
    pub fn confidence(&self) -> Option<&Confidence> {
        self.confidence.as_ref()
    }

    /// Encodes text as ids, cut at this model's lengths.
    pub fn encoder(&self) -> Encoder<'_> {
        #[expect(clippy::expect_used, reason = "the lengths are validated where they are set")]
        Encoder::new(&self.model.tokenizer, self.lengths.clone()).expect("validated")
    }

    /// Answers `query` with calls of `tools`.
    ///
    /// # Errors
    /// If the query is empty, the tools cannot be constrained, or the prompt is too long and
    /// [`AnswerConfig::strict`] is set.
    pub fn call(&self, query: &str, tools: &[Tool]) -> Result<Answer, RuntimeError> {
        self.call_streaming(query, tools, |_| ())
    }

    /// Like [`Needle::call`]. In addition `on_bytes` receives the answer's JSON as it is written,
    /// with the tool names of `tools`.
    ///
    /// If an answer may be withheld ([`AnswerConfig::abstain_below`]), `on_bytes` receives nothing
    /// until the confidence is known, and then the whole answer or `[]`.
    ///
    /// # Errors
    /// As for [`Needle::call`].
    pub fn call_streaming(
        &self,
        query: &str,
        tools: &[Tool],
        mut on_bytes: impl FnMut(&[u8]),
    ) -> Result<Answer, RuntimeError> {
        self.call_watched(query, tools, |piece| {
            on_bytes(piece.bytes);
            ControlFlow::Continue(())
        })
    }

    /// Like [`Needle::call_streaming`]. In addition `watch` receives the probability of each token,
    /// and may stop the answer early, which is then incomplete.
    ///
    /// # Errors
    /// As for [`Needle::call`].
    pub fn call_watched(
        &self,
        query: &str,
        tools: &[Tool],
        mut watch: impl FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> Result<Answer, RuntimeError> {
        let start = Stopwatch::start();
        let (tools, picked) = self.offer(query, tools)?;
        let question = Question { query, tools: &tools };
        let answerer = self.answerer();
        let prompt = answerer.prompt(question);
        let cut = self.check(question, &prompt)?;
        let mut held_back = Vec::new();
        let may_withhold = self.config.abstain_below.is_some();
        let mut stream = Stream {
            tokenizer: self.tokenizer(),
            text: AnswerStream::new(NameMap::of(&tools)),
            watch: |piece: Piece<'_>| {
                if may_withhold {
                    held_back.extend_from_slice(piece.bytes);
                    // `watch` may stop the answer even though it is not shown the text yet.
                    return watch(Piece { bytes: b"", probability: None });
                }
                watch(piece)
            },
            probability: None,
            flow: ControlFlow::Continue(()),
        };
        let prediction = answerer.answer_streaming(question, prompt, &mut stream)?;
        stream.finish();
        let answer = self.answer(prediction, picked, cut, start.seconds());
        if may_withhold {
            let bytes = if answer.abstained { b"[]" } else { held_back.as_slice() };
            let _ = watch(Piece { bytes, probability: None });
        }
        Ok(answer)
    }

    /// Answers many questions in batches. `progress` receives the number of questions answered so
    /// far.
    ///
    /// Accepts any iterator over pairs of query and tools, such as `&[(String, Vec<Tool>)]` or
    /// `[("a query", &tools)]`.
    ///
    /// # Errors
    /// As for [`Needle::call`]; the error is that of the first question that cannot be answered.
    pub fn call_batch(
        &self,
        questions: impl IntoIterator<Item: AsQuestion>,
        mut progress: impl FnMut(usize) + Send,
    ) -> Result<Vec<Answer>, RuntimeError> {
        let start = Stopwatch::start();
        let questions: Vec<_> = questions.into_iter().collect();
        let questions: Vec<Question<'_>> = questions.iter().map(AsQuestion::as_question).collect();
        let offers = questions.iter().map(|q| self.offer(q.query, q.tools)).collect::<Result<Vec<_>, _>>()?;
        let asked: Vec<Question<'_>> =
            questions.iter().zip(&offers).map(|(q, (tools, _))| Question { query: q.query, tools }).collect();
        let answerer = self.answerer();
        let prompts: Vec<Prompt> = asked.iter().map(|question| answerer.prompt(*question)).collect();
        let cuts =
            asked.iter().zip(&prompts).map(|(q, prompt)| self.check(*q, prompt)).collect::<Result<Vec<_>, _>>()?;
        let answers = answerer.answer(&asked, &prompts, &mut progress)?;
        let seconds = start.seconds() / questions.len().max(1) as f64;
        let answers = answers.into_iter().zip(&offers).zip(cuts);
        Ok(answers.map(|((answer, (_, picked)), cut)| self.answer(answer, picked.clone(), cut, seconds)).collect())
    }

    /// Answers `questions` for measurements, each with all of its tools: the retrieval head picks
    /// none, no question is refused, no answer is withheld, and prompts that are too long are cut.
    /// `progress` receives the number of questions answered so far.
    ///
    /// # Errors
    /// If a question's tools cannot be constrained.
    pub fn predict(
        &self,
        questions: &[Question<'_>],
        progress: &mut (dyn FnMut(usize) + Send),
    ) -> Result<Vec<Prediction>, RuntimeError> {
        let answerer = self.answerer();
        let prompts: Vec<Prompt> = questions.iter().map(|question| answerer.prompt(*question)).collect();
        answerer.answer(questions, &prompts, progress)
    }

    /// Ranks the tools of `catalogue` by similarity to `query`: pairs of index and similarity, best
    /// first. The similarity is the cosine of the embeddings, plus that of the words if the model
    /// has word vectors.
    ///
    /// # Errors
    /// If the model has no retrieval head.
    pub fn rank(&self, query: &str, catalogue: &Catalogue) -> Result<Vec<(usize, f32)>, RuntimeError> {
        let embedded = self.embed_ids(&[self.encoder().query_ids(query)])?.remove(0);
        Ok(match &catalogue.words {
            Some(words) => {
                let words = words.similarities(query, &self.model.tokenizer);
                rank_with_words(&embedded, catalogue.vectors(), &words)
            }
            None => rank(&embedded, catalogue.vectors()),
        })
    }

    /// The embeddings of `tools`. They are computed once and cached, also in the model's directory
    /// if it was loaded from one.
    ///
    /// # Errors
    /// If the model has no retrieval head.
    pub fn catalogue(&self, tools: &[Tool]) -> Result<Catalogue, RuntimeError> {
        let texts = tool_texts(&self.encoder(), tools);
        let remembered = || self.model.catalogues.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, catalogue)) = remembered().iter().find(|(known, _)| *known == texts) {
            return Ok(catalogue.clone());
        }
        let embed = |texts: &[Vec<u32>]| self.embed_ids(texts);
        let catalogue = Catalogue::load_or_embed(self.dir.as_deref(), self.precision(), &texts, embed)?
            .with_words(tool_words(&self.encoder(), tools));
        let mut all = remembered();
        if all.len() >= REMEMBERED_CATALOGUES {
            all.remove(0);
        }
        all.push((texts, catalogue.clone()));
        Ok(catalogue)
    }

    /// The embedding of `text` as a query, a unit vector of `contrastive_dim` values; `None` if the
    /// model has no retrieval head.
    ///
    /// # Errors
    /// If the network cannot embed it.
    pub fn embed(&self, text: &str) -> Result<Option<Vec<f32>>, RuntimeError> {
        Ok(self.model.network.embed(&[self.encoder().query_ids(text)])?.map(|mut vectors| vectors.remove(0)))
    }

    /// The network itself, for measurements.
    pub fn network(&self) -> &dyn Network {
        &*self.model.network
    }

    /// Embeddings (unit vectors) of texts that are given as ids.
    fn embed_ids(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, RuntimeError> {
        let no_head = || {
            let dir = self.dir.clone().unwrap_or_default();
            RuntimeError::bad_file(dir, "the model has no retrieval head")
        };
        self.model.network.embed(texts)?.ok_or_else(no_head)
    }

    /// The tools to offer: all, or the best `top_k`.
    fn offer(&self, query: &str, tools: &[Tool]) -> Result<(Vec<Tool>, Option<Vec<String>>), RuntimeError> {
        if tools.len() <= self.config.top_k {
            return Ok((tools.to_vec(), None));
        }
        let ranked = self.rank(query, &self.catalogue(tools)?)?;
        let picked: Vec<Tool> = ranked.iter().take(self.config.top_k).map(|(i, _)| tools[*i].clone()).collect();
        let names = picked.iter().map(|tool| tool.name.clone()).collect();
        Ok((picked, Some(names)))
    }

    /// Which part of the prompt does not fit, in words.
    ///
    /// # Errors
    /// If the query or the list of tools is empty, or if [`AnswerConfig::strict`] is set and the
    /// prompt does not fit.
    fn check(&self, question: Question<'_>, prompt: &Prompt) -> Result<Option<String>, RuntimeError> {
        let bad = |reason: String| RuntimeError::Question { query: question.query.to_owned(), reason };
        if question.query.trim().is_empty() {
            return Err(bad("the query is empty".into()));
        }
        if question.tools.is_empty() {
            return Err(bad("there are no tools to call".into()));
        }
        let cut = prompt.cut_tokens;
        if cut == 0 {
            return Ok(None);
        }
        let (whole, most) = (prompt.ids.len() + cut, self.lengths.max_enc_tokens);
        let query = self.tokenizer().encode(question.query).len();
        let reason = if query > most - 2 {
            format!(
                "the query alone has {query} tokens, but the model reads only {most}: its end and all tools were cut"
            )
        } else {
            format!(
                "query and tools have {whole} tokens, but the model reads only {most}: the last {cut} of the tools were cut"
            )
        };
        if self.config.strict { Err(bad(reason.replace("were cut", "do not fit"))) } else { Ok(Some(reason)) }
    }

    fn answerer(&self) -> Answerer<'_> {
        let Model { network, constrainer, tool_vectors, .. } = &*self.model;
        Answerer {
            vectors: tool_vectors,
            network: &**network,
            encoder: self.encoder(),
            constrainer: self.config.constrained.then_some(constrainer),
            confidence: self.confidence.as_ref(),
            values: Values::new(self.config.values, &self.copying),
            max_tokens: self.config.max_tokens.unwrap_or(network.config().max_dec_len),
            config: &self.config,
        }
    }

    fn answer(&self, prediction: Prediction, picked: Option<Vec<String>>, cut: Option<String>, seconds: f64) -> Answer {
        let abstained = self.config.abstain_below.zip(prediction.confidence).is_some_and(|(least, sure)| sure < least);
        Answer {
            is_complete: prediction.calls.is_some(),
            calls: prediction.calls.filter(|_| !abstained).unwrap_or_default(),
            text: prediction.text,
            token_ids: prediction.token_ids,
            confidence: prediction.confidence,
            confidence_fitted_on: self.confidence.as_ref().map(|confidence| confidence.fitted_on),
            abstained,
            violations: prediction.violations,
            groundings: prediction.groundings,
            reached_limit: prediction.stop == Stop::Length,
            cut,
            picked,
            seconds,
        }
    }
}

/// The next bytes of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Piece<'a> {
    /// Bytes of the answer's JSON, with the user's tool names; they may end inside a UTF-8
    /// character.
    pub bytes: &'a [u8],
    /// The probability that the model gave to the token that these bytes end with, among all
    /// tokens; `None` if unknown.
    pub probability: Option<f32>,
}

/// Passes the bytes of each token to `watch`.
struct Stream<'a, F> {
    tokenizer: &'a Tokenizer,
    text: AnswerStream,
    watch: F,
    /// Probability of the next token.
    probability: Option<f32>,
    flow: ControlFlow<()>,
}

impl<F: FnMut(Piece<'_>) -> ControlFlow<()>> Stream<'_, F> {
    /// Passes on the bytes that were held back if the answer ended in the middle of a name.
    fn finish(mut self) {
        let _ = (self.watch)(Piece { bytes: &self.text.finish(), probability: None });
    }
}

impl<F: FnMut(Piece<'_>) -> ControlFlow<()>> StepHook for Stream<'_, F> {
    fn certain(&mut self, _: usize, certainty: Certainty) {
        self.probability = Some(certainty.log_prob.exp());
    }

    fn chosen(&mut self, _: usize, token: u32) {
        let bytes = self.text.push(&self.tokenizer.token_bytes(token));
        let probability = self.probability.take();
        if !bytes.is_empty() && self.flow.is_continue() {
            self.flow = (self.watch)(Piece { bytes: &bytes, probability });
        }
    }

    fn is_stopped(&mut self, _: usize) -> bool {
        self.flow.is_break()
    }
}

/// The longest prompts, answers and tools of a model with this configuration, in tokens.
pub fn limits(config: &SanConfig) -> EncodeConfig {
    EncodeConfig {
        max_enc_tokens: config.max_enc_len,
        max_dec_tokens: config.max_dec_len,
        max_tool_tokens: config.max_enc_len.min(MAX_TOOL_TOKENS),
    }
}
