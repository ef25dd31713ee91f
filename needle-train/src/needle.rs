//! A trained model as a library: load a checkpoint, ask it.
//!
//! ```no_run
//! use needle_data::Tool;
//! use needle_train::Needle;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let tools = Tool::list_from_json(&serde_json::from_str(r#"[{"name": "set_timer", "description": "Start a timer",
//!     "parameters": {"minutes": {"type": "integer", "required": true}}}]"#)?)?;
//! let needle = Needle::load("quickstart/run/best")?;
//! let answer = needle.call("a timer for ten minutes please", &tools)?;
//! for call in answer.calls {
//!     println!("{} {:?}", call.name, call.arguments);
//! }
//! # Ok(())
//! # }
//! ```

use std::path::{Path, PathBuf};
use std::time::Instant;

use needle_data::{Call, EncodeConfig, Encoder, Tokenizer, Tool};
use needle_model::checkpoint::Checkpoint;
use needle_model::constrain::Constrainer;
use needle_model::generate::{StepHook, Stop};
use needle_model::quant::fake_quant::{Precision, at_precision};
use needle_model::{ModelError, San, SanConfig};

use crate::catalogue::Catalogue;
use crate::device::Inference;
use crate::error::TrainError;
use crate::eval::confidence::{self, Confidence};
use crate::eval::predict::{Answerer, Prediction, Question};
use crate::eval::retrieval::{embed, rank, tool_texts};
use crate::recipe::EvalConfig;

/// How questions are answered.
#[derive(Debug, Clone, PartialEq)]
pub struct CallOptions {
    /// Only what the tools allow is written.
    pub constrained: bool,
    /// Most calls of an answer, where it is constrained.
    pub max_calls: usize,
    /// Where more tools are offered, the retrieval head picks so many.
    pub top_k: usize,
    /// Answers of which the model is less sure become "nothing to call".
    pub abstain_below: Option<f64>,
    /// A prompt longer than the model reads is an error; else its end is cut.
    pub strict: bool,
    /// Questions answered together.
    pub batch_size: usize,
}

impl Default for CallOptions {
    fn default() -> Self {
        let eval = EvalConfig::default();
        Self {
            constrained: true,
            max_calls: eval.max_calls,
            // Training prompts seldom offer more.
            top_k: 10,
            abstain_below: None,
            strict: false,
            batch_size: eval.batch_size,
        }
    }
}

/// What the model answered.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// The calls; none where no tool fits, or the model abstained.
    pub calls: Vec<Call>,
    /// What the model wrote.
    pub text: String,
    /// Its tokens, `<tool_call>` first.
    pub token_ids: Vec<u32>,
    /// Probability that the whole answer is exact; none without a calibration in the checkpoint.
    pub confidence: Option<f64>,
    /// Whether the answer was withheld for being less sure than [`CallOptions::abstain_below`].
    pub abstained: bool,
    /// Whether the answer is a list of calls; always, where it is constrained and complete.
    pub is_valid: bool,
    /// Whether the answer reached the length limit, and is not complete.
    pub reached_limit: bool,
    /// What of query and tools did not fit, in words.
    pub cut: Option<String>,
    /// Names of the tools that the retrieval head picked, best first, where it had to.
    pub picked: Option<Vec<String>>,
    /// Seconds from question to answer; of a batch, its share.
    pub seconds: f64,
}

/// A loaded model. It computes on the processor: one answer at a time, a model of this size leaves a GPU waiting for work.
pub struct Needle {
    path: PathBuf,
    precision: Precision,
    config: SanConfig,
    model: San<Inference>,
    tokenizer: Tokenizer,
    constrainer: Constrainer,
    confidence: Option<Confidence>,
    options: CallOptions,
}

impl Needle {
    /// Loads the checkpoint in `dir` as it ships: INT4, answers constrained to the offered tools.
    ///
    /// # Errors
    /// If there is no readable checkpoint.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, TrainError> {
        Self::load_at(dir.as_ref(), Precision::Int4)
    }

    /// Loads the checkpoint in `dir` at `precision`.
    ///
    /// # Errors
    /// If there is no readable checkpoint.
    pub fn load_at(dir: &Path, precision: Precision) -> Result<Self, TrainError> {
        let checkpoint = Checkpoint::load(dir, &Default::default())?;
        Ok(Self {
            path: dir.to_owned(),
            precision,
            config: checkpoint.config,
            model: at_precision(checkpoint.model, precision),
            constrainer: Constrainer::new(&checkpoint.tokenizer).map_err(ModelError::from)?,
            confidence: Confidence::load(dir)?,
            tokenizer: checkpoint.tokenizer,
            options: CallOptions::default(),
        })
    }

    /// The same model, answering as `options` say.
    ///
    /// # Errors
    /// If it is to abstain and has no calibrated confidence.
    pub fn with_options(mut self, options: CallOptions) -> Result<Self, TrainError> {
        if options.abstain_below.is_some() && self.confidence.is_none() {
            let reason = format!(
                "no calibrated confidence ({}) to abstain by; `needle eval CHECKPOINT DATA --calibrate` adds one",
                confidence::FILE
            );
            return Err(ModelError::bad_file(&self.path, reason).into());
        }
        self.options = options;
        Ok(self)
    }

    /// The model's sizes.
    pub fn config(&self) -> &SanConfig {
        &self.config
    }

    /// The model's tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// Answers `query` with calls of `tools`.
    ///
    /// # Errors
    /// If the query is empty, the tools cannot be constrained, or (where `strict`) the prompt is too long.
    pub fn call(&self, query: &str, tools: &[Tool]) -> Result<Answer, TrainError> {
        self.call_streaming(query, tools, |_| ())
    }

    /// As [`Needle::call`]; `on_bytes` is given the bytes of each token as it comes.
    ///
    /// # Errors
    /// As [`Needle::call`].
    pub fn call_streaming(
        &self,
        query: &str,
        tools: &[Tool],
        on_bytes: impl FnMut(&[u8]),
    ) -> Result<Answer, TrainError> {
        struct Stream<'a, F>(&'a Tokenizer, F);
        impl<F: FnMut(&[u8])> StepHook for Stream<'_, F> {
            fn chosen(&mut self, _: usize, token: u32) {
                (self.1)(&self.0.token_bytes(token));
            }
        }
        let start = Instant::now();
        let encoder = self.encoder()?;
        let (tools, picked) = self.offer(query, tools)?;
        let question = Question { query, tools: &tools };
        let cut = self.check(&encoder, question)?;
        let config = self.eval_config();
        let answer =
            self.answerer(&encoder, &config).answer_streaming(question, &mut Stream(&self.tokenizer, on_bytes))?;
        Ok(self.answer(answer, picked, cut, start.elapsed().as_secs_f64()))
    }

    /// Answers many questions, several at a time; `progress` is told how many are done.
    ///
    /// # Errors
    /// As [`Needle::call`], of the first question that cannot be answered.
    pub fn call_batch(
        &self,
        questions: &[(String, Vec<Tool>)],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Answer>, TrainError> {
        let start = Instant::now();
        let encoder = self.encoder()?;
        let offers = questions.iter().map(|(query, tools)| self.offer(query, tools)).collect::<Result<Vec<_>, _>>()?;
        let asked: Vec<Question<'_>> =
            questions.iter().zip(&offers).map(|((query, _), (tools, _))| Question { query, tools }).collect();
        let cuts = asked.iter().map(|question| self.check(&encoder, *question)).collect::<Result<Vec<_>, _>>()?;
        let config = self.eval_config();
        let answers = self.answerer(&encoder, &config).answer(&asked, progress)?;
        let seconds = start.elapsed().as_secs_f64() / questions.len().max(1) as f64;
        let answers = answers.into_iter().zip(&offers).zip(cuts);
        Ok(answers.map(|((answer, (_, picked)), cut)| self.answer(answer, picked.clone(), cut, seconds)).collect())
    }

    /// Indices of the tools of `catalogue` by likeness to `query`, best first, with their cosine.
    ///
    /// # Errors
    /// If the model has no retrieval head.
    pub fn rank(&self, query: &str, catalogue: &Catalogue) -> Result<Vec<(usize, f32)>, TrainError> {
        let query = self.embed(&[self.encoder()?.query_ids(query)])?.remove(0);
        Ok(rank(&query, catalogue.vectors()))
    }

    /// The embeddings of `tools`, computed once and kept in the checkpoint's directory.
    ///
    /// # Errors
    /// If the model has no retrieval head.
    pub fn catalogue(&self, tools: &[Tool]) -> Result<Catalogue, TrainError> {
        Catalogue::load_or_embed(&self.path, self.precision, &tool_texts(&self.encoder()?, tools), |texts| {
            self.embed(texts)
        })
    }

    /// Unit vectors of texts, given as ids.
    fn embed(&self, texts: &[Vec<u32>]) -> Result<Vec<Vec<f32>>, TrainError> {
        let no_head = || ModelError::bad_file(&self.path, "the model has no retrieval head").into();
        embed(&self.model, texts, self.options.batch_size).ok_or_else(no_head)
    }

    fn encoder(&self) -> Result<Encoder<'_>, TrainError> {
        Ok(Encoder::new(&self.tokenizer, limits(&self.config))?)
    }

    /// The tools to offer: all, or the best `top_k`.
    fn offer(&self, query: &str, tools: &[Tool]) -> Result<(Vec<Tool>, Option<Vec<String>>), TrainError> {
        if tools.len() <= self.options.top_k {
            return Ok((tools.to_vec(), None));
        }
        let ranked = self.rank(query, &self.catalogue(tools)?)?;
        let picked: Vec<Tool> = ranked.iter().take(self.options.top_k).map(|(i, _)| tools[*i].clone()).collect();
        let names = picked.iter().map(|tool| tool.name.clone()).collect();
        Ok((picked, Some(names)))
    }

    /// What of the prompt does not fit, in words.
    ///
    /// # Errors
    /// If there is nothing to answer, or (where `strict`) if anything does not fit.
    fn check(&self, encoder: &Encoder<'_>, question: Question<'_>) -> Result<Option<String>, TrainError> {
        let bad = |reason: String| TrainError::Question { query: question.query.to_owned(), reason };
        if question.query.trim().is_empty() {
            return Err(bad("the query is empty".into()));
        }
        if question.tools.is_empty() {
            return Err(bad("there are no tools to call".into()));
        }
        let (prompt, cut) = encoder.prompt(question.query, question.tools);
        if cut == 0 {
            return Ok(None);
        }
        let (whole, most) = (prompt.len() + cut, self.config.max_enc_len);
        let query = self.tokenizer.encode(question.query).len();
        let reason = if query > most - 2 {
            format!("the query alone has {query} tokens, the model reads {most}: its end and all tools were cut")
        } else {
            format!(
                "query and tools have {whole} tokens, the model reads {most}: the last {cut}, of the tools, were cut"
            )
        };
        if self.options.strict { Err(bad(reason.replace("were cut", "do not fit"))) } else { Ok(Some(reason)) }
    }

    fn eval_config(&self) -> EvalConfig {
        let CallOptions { constrained, max_calls, batch_size, .. } = self.options;
        EvalConfig { constrained, max_calls, batch_size, max_tokens: self.config.max_dec_len, ..EvalConfig::default() }
    }

    fn answerer<'a>(&'a self, encoder: &'a Encoder<'a>, config: &'a EvalConfig) -> Answerer<'a, Inference> {
        let constrainer = config.constrained.then_some(&self.constrainer);
        Answerer { model: &self.model, encoder, constrainer, confidence: self.confidence.as_ref(), config }
    }

    fn answer(&self, prediction: Prediction, picked: Option<Vec<String>>, cut: Option<String>, seconds: f64) -> Answer {
        let abstained = self.options.abstain_below.zip(prediction.confidence).is_some_and(|(least, sure)| sure < least);
        Answer {
            is_valid: prediction.calls.is_some(),
            calls: prediction.calls.filter(|_| !abstained).unwrap_or_default(),
            text: prediction.text,
            token_ids: prediction.token_ids,
            confidence: prediction.confidence,
            abstained,
            reached_limit: prediction.stop == Stop::Length,
            cut,
            picked,
            seconds,
        }
    }
}

/// The limits of a trained model's prompts and answers.
pub fn limits(config: &SanConfig) -> EncodeConfig {
    EncodeConfig {
        max_enc_tokens: config.max_enc_len,
        max_dec_tokens: config.max_dec_len,
        // The original's limit.
        max_tool_tokens: config.max_enc_len.min(256),
    }
}
