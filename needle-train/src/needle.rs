//! A trained model as a library: load a checkpoint, ask it.
//!
//! ```no_run
//! use needle_train::{Needle, tools_from_json};
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

use std::path::{Path, PathBuf};
use std::time::Instant;

use needle_data::error::{Problem, ProblemCode};
use needle_data::text::names::NameMap;
use needle_data::{Call, EncodeConfig, Encoder, Tokenizer, Tool};
use needle_model::checkpoint::Checkpoint;
use needle_model::checkpoint::locate::locate;
use needle_model::constrain::Constrainer;
use needle_model::constrain::copying::{CopyStatistics, Values, ValuesPolicy};
use needle_model::constrain::grounding::ArgumentGrounding;
use needle_model::generate::{StepHook, Stop};
use needle_model::quant::fake_quant::{Precision, at_precision};
use needle_model::{ModelError, San, SanConfig};

use crate::catalogue::Catalogue;
use crate::device::Inference;
use crate::error::TrainError;
use crate::eval::answer_stream::AnswerStream;
use crate::eval::confidence::{self, Confidence};
use crate::eval::predict::{Answerer, Prediction, Question};
use crate::eval::retrieval::{embed, rank, tool_texts};
use crate::recipe::EvalConfig;

/// The precision that ships, and that answers and measurements are of unless another is asked for.
pub const SHIPPED_PRECISION: Precision = Precision::Int4;

/// Tool definitions from JSON: a list of them (or MCP's `{"tools": [..]}`), in the native, the JSON Schema, the OpenAI or the
/// MCP form.
///
/// # Errors
/// If the text is not JSON, with line and column, or a definition cannot be read, with its field.
pub fn tools_from_json(text: &str) -> Result<Vec<Tool>, Problem> {
    let value = serde_json::from_str(text)
        .map_err(|error| Problem::new("tools", ProblemCode::NotJson, format!("not JSON: {error}")))?;
    Tool::list_from_json(&value)
}

/// What can be asked: a query and the tools on offer, owned or by reference.
pub trait AsQuestion {
    /// Both by reference.
    fn as_question(&self) -> Question<'_>;
}

impl<Q: AsRef<str>, T: AsRef<[Tool]>> AsQuestion for (Q, T) {
    fn as_question(&self) -> Question<'_> {
        Question { query: self.0.as_ref(), tools: self.1.as_ref() }
    }
}

impl AsQuestion for Question<'_> {
    fn as_question(&self) -> Question<'_> {
        *self
    }
}

impl<T: AsQuestion + ?Sized> AsQuestion for &T {
    fn as_question(&self) -> Question<'_> {
        (**self).as_question()
    }
}

/// How questions are answered.
#[derive(Debug, Clone, PartialEq)]
pub struct CallOptions {
    /// Only what the tools allow is written.
    pub constrained: bool,
    /// Most calls of an answer, where it is constrained.
    pub max_calls: usize,
    /// Which strings of a constrained answer must be words of the query.
    pub values: ValuesPolicy,
    /// Where the grammar forbids what the model wants, other answers are decoded, and the most probable one is taken.
    pub look_ahead: bool,
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
            values: ValuesPolicy::default(),
            look_ahead: eval.look_ahead,
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
    /// Probability that the whole answer is exact; none without a calibration in the checkpoint, or with one that was fitted on
    /// too few examples.
    pub confidence: Option<f64>,
    /// Examples that the confidence was fitted on.
    pub confidence_fitted_on: Option<usize>,
    /// Whether the answer was withheld for being less sure than [`CallOptions::abstain_below`].
    pub abstained: bool,
    /// Whether the answer is a whole list of calls. Where it is not, `calls` is empty and does not mean that no tool fits: see
    /// [`Answer::incomplete_because`].
    pub is_complete: bool,
    /// Where the calls break the tools' schemas, in words: what no grammar holds is checked after the answer.
    pub violations: Vec<String>,
    /// Where each argument comes from.
    pub groundings: Vec<ArgumentGrounding>,
    /// Whether the answer reached the length limit.
    pub reached_limit: bool,
    /// What of query and tools did not fit, in words.
    pub cut: Option<String>,
    /// Names of the tools that the retrieval head picked, best first, where it had to.
    pub picked: Option<Vec<String>>,
    /// Seconds from question to answer; of a batch, its share.
    pub seconds: f64,
}

impl Answer {
    /// Why the answer is not complete, in words.
    pub fn incomplete_because(&self) -> Option<String> {
        match (self.is_complete, self.reached_limit) {
            (true, _) => None,
            (false, true) => Some(format!("it reached the length limit of {} tokens", self.token_ids.len())),
            (false, false) => Some("it is not a list of calls".to_owned()),
        }
    }
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
    copying: CopyStatistics,
    options: CallOptions,
}

impl Needle {
    /// Loads the checkpoint in `dir`, or the result of the run there, as it ships: INT4, answers constrained to the offered tools.
    ///
    /// # Errors
    /// If there is no readable checkpoint.
    pub fn load(dir: impl AsRef<Path>) -> Result<Self, TrainError> {
        Self::load_at(dir.as_ref(), SHIPPED_PRECISION)
    }

    /// Loads the checkpoint in `dir`, or the result of the run there, at `precision`.
    ///
    /// # Errors
    /// If there is no readable checkpoint.
    pub fn load_at(dir: &Path, precision: Precision) -> Result<Self, TrainError> {
        let dir = &locate(dir)?;
        let checkpoint = Checkpoint::load(dir, &Default::default())?;
        Ok(Self {
            path: dir.to_owned(),
            precision,
            config: checkpoint.config,
            model: at_precision(checkpoint.model, precision),
            constrainer: Constrainer::new(&checkpoint.tokenizer).map_err(ModelError::from)?,
            confidence: Confidence::load(dir)?,
            copying: CopyStatistics::load(dir).map_err(ModelError::from)?,
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
                "no calibrated confidence ({}) to abstain by; `needle eval CHECKPOINT DATA --calibrate` adds one, with {} examples \
                 or more",
                confidence::FILE,
                confidence::LEAST_EXAMPLES
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

    /// As [`Needle::call`]; `on_bytes` is given the answer's JSON, under the names of `tools`, as it comes.
    ///
    /// Where an answer may be withheld ([`CallOptions::abstain_below`]) nothing is given before it is judged: then the whole of it
    /// at once, or `[]`.
    ///
    /// # Errors
    /// As [`Needle::call`].
    pub fn call_streaming(
        &self,
        query: &str,
        tools: &[Tool],
        mut on_bytes: impl FnMut(&[u8]),
    ) -> Result<Answer, TrainError> {
        let start = Instant::now();
        let encoder = self.encoder()?;
        let (tools, picked) = self.offer(query, tools)?;
        let question = Question { query, tools: &tools };
        let cut = self.check(&encoder, question)?;
        let config = self.eval_config();
        let mut held_back = Vec::new();
        let may_withhold = self.options.abstain_below.is_some();
        let mut stream = Stream {
            tokenizer: &self.tokenizer,
            text: AnswerStream::new(NameMap::of(&tools)),
            on_bytes: |bytes: &[u8]| if may_withhold { held_back.extend_from_slice(bytes) } else { on_bytes(bytes) },
        };
        let prediction = self.answerer(&encoder, &config).answer_streaming(question, &mut stream)?;
        stream.finish();
        let answer = self.answer(prediction, picked, cut, start.elapsed().as_secs_f64());
        if may_withhold {
            on_bytes(if answer.abstained { b"[]" } else { &held_back });
        }
        Ok(answer)
    }

    /// Answers many questions, several at a time; `progress` is told how many are done.
    ///
    /// Takes what one has: `&[(String, Vec<Tool>)]`, `[("a query", &tools)]`, any iterator of such pairs.
    ///
    /// # Errors
    /// As [`Needle::call`], of the first question that cannot be answered.
    pub fn call_batch(
        &self,
        questions: impl IntoIterator<Item: AsQuestion>,
        mut progress: impl FnMut(usize),
    ) -> Result<Vec<Answer>, TrainError> {
        let start = Instant::now();
        let encoder = self.encoder()?;
        let questions: Vec<_> = questions.into_iter().collect();
        let questions: Vec<Question<'_>> = questions.iter().map(AsQuestion::as_question).collect();
        let offers = questions.iter().map(|q| self.offer(q.query, q.tools)).collect::<Result<Vec<_>, _>>()?;
        let asked: Vec<Question<'_>> =
            questions.iter().zip(&offers).map(|(q, (tools, _))| Question { query: q.query, tools }).collect();
        let cuts = asked.iter().map(|question| self.check(&encoder, *question)).collect::<Result<Vec<_>, _>>()?;
        let config = self.eval_config();
        let answers = self.answerer(&encoder, &config).answer(&asked, &mut progress)?;
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
        let CallOptions { constrained, max_calls, batch_size, look_ahead, .. } = self.options;
        let values = Values::new(self.options.values, &self.copying);
        let max_tokens = self.config.max_dec_len;
        EvalConfig { constrained, max_calls, values, look_ahead, batch_size, max_tokens, ..EvalConfig::default() }
    }

    fn answerer<'a>(&'a self, encoder: &'a Encoder<'a>, config: &'a EvalConfig) -> Answerer<'a, Inference> {
        let constrainer = config.constrained.then_some(&self.constrainer);
        Answerer { model: &self.model, encoder, constrainer, confidence: self.confidence.as_ref(), config }
    }

    fn answer(&self, prediction: Prediction, picked: Option<Vec<String>>, cut: Option<String>, seconds: f64) -> Answer {
        let abstained = self.options.abstain_below.zip(prediction.confidence).is_some_and(|(least, sure)| sure < least);
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

/// Passes the bytes of each token on.
struct Stream<'a, F> {
    tokenizer: &'a Tokenizer,
    text: AnswerStream,
    on_bytes: F,
}

impl<F: FnMut(&[u8])> Stream<'_, F> {
    /// Passes on what was held back, of an answer that ended in the middle of a name.
    fn finish(mut self) {
        (self.on_bytes)(&self.text.finish());
    }
}

impl<F: FnMut(&[u8])> StepHook for Stream<'_, F> {
    fn chosen(&mut self, _: usize, token: u32) {
        let bytes = self.text.push(&self.tokenizer.token_bytes(token));
        if !bytes.is_empty() {
            (self.on_bytes)(&bytes);
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
