//! The engine: runs a model on a CPU with INT4 weights and INT8 activations.
//!
//! Answers do not depend on the CPU, on the number of threads, or on other questions that are
//! answered at the same time.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use needle_data::tokenizer::{EOS_ID, PAD_ID};
use needle_data::{Tokenizer, file};

use crate::config::SanConfig;
use crate::decode::{Cache, Decoder, Sequence, key_values};
use crate::encode::PromptEncoder;
use crate::error::RuntimeError;
use crate::file::artifact::{self, Artifact};
use crate::file::checkpoint::{self, Checkpoint};
use crate::file::source::Source;
use crate::file::tensors::TensorFile;
use crate::generate::{Certainty, Generated, MAX_MARGIN, StepHook, Stop};
use crate::kernels::{InstructionSet, Kernels};
use crate::key_value::KeyValue;
use crate::network::{KeptPrompt, Network};
use crate::pool::Pool;
use crate::precision::Precision;
use crate::weights::{RetrievalHead, Weights};
use crate::workspace::Mode;

/// Maximum number of sequences that one thread decodes together; more cost more than they save.
const GROUP: usize = 8;
/// Maximum number of drafted tokens per pass: a long wrong draft costs more than it can save.
const MAX_DRAFT: usize = 8;
/// Added to the squared norm of an embedding before the square root.
const NORM_EPSILON: f32 = 1e-12;

/// Options of an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// Number of threads, at least 1.
    pub threads: usize,
    /// Whether activations, keys, values and the embedding are f32: slow, for reference.
    pub exact: bool,
    /// Instruction set to use; `None` means the best of this CPU.
    pub instructions: Option<InstructionSet>,
}

impl Options {
    /// Upper limit of the number of threads that a caller in another language may ask for.
    pub const MAX_THREADS: usize = 256;
}

impl Default for Options {
    /// All threads that the system offers, the fast mode, and the best instruction set.
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, exact: false, instructions: None }
    }
}

/// A loaded model.
pub struct Engine {
    config: SanConfig,
    weights: Weights,
    mode: Mode,
    pool: Pool,
    tokenizer: Option<Tokenizer>,
    /// Encoder buffers that are not in use.
    spare: Mutex<Vec<PromptEncoder>>,
}

impl Engine {
    /// Opens the artifact or checkpoint in the directory `path` with the default options.
    ///
    /// # Errors
    /// If a file is missing or malformed, or if the tensors or the vocabulary do not have the sizes
    /// of the configuration.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, RuntimeError> {
        Self::open_with(path, &Options::default())
    }

    /// Like [`Engine::open`], with `options`.
    ///
    /// # Errors
    /// As for [`Engine::open`], and if this CPU lacks the requested instruction set.
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self, RuntimeError> {
        let dir = path.as_ref();
        if dir.join(artifact::WEIGHTS).exists() {
            let source = Artifact::new(TensorFile::open(&dir.join(artifact::WEIGHTS))?)?;
            let vocab = dir.join(artifact::VOCAB);
            let text = file::read_text(&vocab)?;
            let tokenizer = source.tokenizer(&text, &vocab)?;
            return Self::from_source(&source, Some(tokenizer), options);
        }
        let source = Checkpoint::open(dir)?;
        let path = dir.join(checkpoint::TOKENIZER);
        let tokenizer = Tokenizer::load(&path)?;
        let (ids, vocab_size) = (tokenizer.vocab_size(), source.config().vocab_size);
        if ids != vocab_size {
            return Err(RuntimeError::bad_file(path, format!("{ids} ids, but the model has {vocab_size}")));
        }
        Self::from_source(&source, Some(tokenizer), options)
    }

    /// Loads an artifact from the contents of its two files. Without `vocab`, the engine has no
    /// tokenizer.
    ///
    /// # Errors
    /// As for [`Engine::open_with`].
    pub fn from_bytes(weights: Vec<u8>, vocab: Option<&str>, options: &Options) -> Result<Self, RuntimeError> {
        let source = Artifact::new(TensorFile::from_bytes(Path::new(artifact::WEIGHTS), weights)?)?;
        let tokenizer = vocab.map(|text| source.tokenizer(text, Path::new(artifact::VOCAB))).transpose()?;
        Self::from_source(&source, tokenizer, options)
    }

    /// Loads a model from any source of weights.
    ///
    /// # Errors
    /// If the tensors do not have the sizes of the configuration, or this CPU lacks the requested
    /// instruction set.
    pub fn from_source(
        source: &dyn Source,
        tokenizer: Option<Tokenizer>,
        options: &Options,
    ) -> Result<Self, RuntimeError> {
        let kernels = match options.instructions {
            None => Kernels::best(),
            Some(set) => Kernels::of(set).ok_or_else(|| RuntimeError::Config {
                field: "instructions",
                reason: format!("this CPU does not have {set:?}; it has {:?}", InstructionSet::available()),
            })?,
        };
        let mode = Mode { kernels, is_exact: options.exact };
        let pool = Pool::new(options.threads);
        let weights = Weights::load(source, kernels, &pool, options.exact)?;
        Ok(Self { config: source.config().clone(), weights, mode, pool, tokenizer, spare: Mutex::default() })
    }

    /// Sizes of the model.
    pub fn config(&self) -> &SanConfig {
        &self.config
    }

    /// The tokenizer, if the files contained one.
    pub fn tokenizer(&self) -> Option<&Tokenizer> {
        self.tokenizer.as_ref()
    }

    /// The instruction set in use.
    pub fn instructions(&self) -> InstructionSet {
        self.mode.kernels.set()
    }

    /// Logits after each of `tokens` (decoder input ids, beginning with the end token) as an answer
    /// to `prompt`, `[tokens, vocab]`.
    ///
    /// # Errors
    /// If the prompt or the tokens are empty, too long, or contain invalid ids.
    pub fn logits(&self, prompt: &[u32], tokens: &[u32]) -> Result<Vec<f32>, RuntimeError> {
        self.check(0, prompt)?;
        self.check_tokens(tokens)?;
        let mut decoder = Decoder::new(&self.weights, self.mode);
        let cache = self.cache(Prompt::Once(prompt), tokens.len());
        let sequence = Sequence { tokens: tokens.to_vec(), cache };
        decoder.pass(&self.weights, &mut [sequence]);
        let mut logits = Vec::new();
        decoder.logits(&self.weights, &(0..tokens.len()).collect::<Vec<_>>(), &mut logits);
        let (width, vocab) = (decoder.logits_width(&self.weights), self.config.vocab_size);
        Ok(logits.chunks_exact(width).flat_map(|row| &row[..vocab]).copied().collect())
    }

    /// Decodes an answer to each of `prompts` (encoder ids) greedily. An answer has at most
    /// `max_tokens` tokens, and at most as many as the model has positions. Among equal logits the
    /// lowest id wins.
    ///
    /// # Errors
    /// If a prompt is empty or too long, or contains invalid ids.
    pub fn generate(
        &self,
        prompts: &[Vec<u32>],
        max_tokens: usize,
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError> {
        let prompts: Vec<Prompt<'_>> = prompts.iter().map(|ids| Prompt::Once(ids)).collect();
        self.decode(&prompts, max_tokens, hook)
    }

    /// Like [`Engine::generate`], for prompts that may occur several times, in this call and in
    /// later ones: each is encoded once.
    ///
    /// # Errors
    /// As for [`Engine::generate`].
    pub fn generate_kept(
        &self,
        prompts: &[&KeptPrompt],
        max_tokens: usize,
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError> {
        let prompts: Vec<Prompt<'_>> = prompts.iter().map(|prompt| Prompt::Kept(prompt)).collect();
        self.decode(&prompts, max_tokens, hook)
    }

    fn decode(
        &self,
        prompts: &[Prompt<'_>],
        max_tokens: usize,
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError> {
        for (row, prompt) in prompts.iter().enumerate() {
            self.check(row, prompt.ids())?;
        }
        let max_tokens = max_tokens.min(self.config.max_len());
        let empty = || Generated { ids: Vec::new(), certainties: Vec::new(), stop: Stop::Length };
        let mut answers: Vec<Generated> = prompts.iter().map(|_| empty()).collect();
        if prompts.is_empty() || max_tokens == 0 {
            return Ok(answers);
        }
        let threads = self.pool.threads().min(prompts.len());
        let rows = prompts.len().div_ceil(threads).min(GROUP);
        let mut groups: Vec<Mutex<Group>> =
            (0..threads).map(|_| Mutex::new(Group::new(&self.weights, self.mode))).collect();
        let mut waiting = 0..prompts.len();
        loop {
            let mut is_done = true;
            for group in &mut groups {
                let group = group.get_mut().unwrap_or_else(PoisonError::into_inner);
                while group.rows.len() < rows
                    && let Some(row) = waiting.next()
                {
                    let mut tokens = vec![EOS_ID];
                    if extend(row, &mut answers[row], &mut tokens, max_tokens, hook) {
                        continue;
                    }
                    let drafted = add_draft(row, &answers[row], &mut tokens, max_tokens, hook);
                    group.starting.push((row, Next { tokens, drafted }));
                    group.rows.push(row);
                }
                is_done &= group.rows.is_empty();
            }
            if is_done {
                return Ok(answers);
            }
            // All threads encode a single prompt together; of several prompts, each is encoded by
            // one thread.
            self.pool.run(groups.len(), &|index| {
                let mut group = groups[index].lock().unwrap_or_else(PoisonError::into_inner);
                group.step(self, prompts, max_tokens);
            });
            for group in &mut groups {
                let group = group.get_mut().unwrap_or_else(PoisonError::into_inner);
                group.choose(self, &mut answers, max_tokens, hook);
            }
        }
    }

    /// Embeddings of `texts` (ids), unit vectors of `contrastive_dim` values; `None` if the model
    /// has no retrieval head.
    ///
    /// # Errors
    /// If a text is too long or contains invalid ids.
    pub fn embed(&self, texts: &[Vec<u32>]) -> Result<Option<Vec<Vec<f32>>>, RuntimeError> {
        let Some(head) = &self.weights.retrieval else { return Ok(None) };
        for (row, text) in texts.iter().enumerate() {
            // An empty text has an embedding, too.
            if !text.is_empty() {
                self.check(row, text)?;
            }
        }
        let vectors: Vec<Mutex<Vec<f32>>> = texts.iter().map(|_| Mutex::default()).collect();
        self.pool.run(texts.len(), &|index| {
            let vector = self.embed_one(head, &texts[index]);
            *vectors[index].lock().unwrap_or_else(PoisonError::into_inner) = vector;
        });
        Ok(Some(vectors.into_iter().map(|v| v.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()))
    }

    /// Mean over the positions -> Linear with bias -> ReLU -> Linear -> unit length.
    fn embed_one(&self, head: &RetrievalHead, text: &[u32]) -> Vec<f32> {
        let dims = self.weights.dims;
        let mut mean = vec![0.0_f32; dims.d_model];
        if !text.is_empty() {
            self.with_encoder(|encoder| {
                for row in encoder.encode(&self.weights, &self.pool, text).chunks_exact(dims.row) {
                    mean.iter_mut().zip(row).for_each(|(mean, x)| *mean += x);
                }
            });
        }
        let count = text.len().max(1) as f32;
        let mut hidden = head.bias.clone();
        for (x, weights) in mean.iter().zip(head.hidden.chunks_exact(hidden.len())) {
            let x = x / count;
            hidden.iter_mut().zip(weights).for_each(|(hidden, w)| *hidden += x * w);
        }
        let mut vector = vec![0.0_f32; head.projection.len() / hidden.len()];
        for (x, weights) in hidden.iter().zip(head.projection.chunks_exact(vector.len())) {
            let x = x.max(0.0);
            vector.iter_mut().zip(weights).for_each(|(vector, w)| *vector += x * w);
        }
        let length = (vector.iter().map(|x| x * x).sum::<f32>() + NORM_EPSILON).sqrt();
        vector.iter_mut().for_each(|x| *x /= length);
        vector
    }

    /// A cache for an answer of at most `max_tokens` tokens to `prompt`, which is encoded unless
    /// its keys and values were kept.
    fn cache(&self, prompt: Prompt<'_>, max_tokens: usize) -> Cache {
        let ids = prompt.ids();
        let encode = || {
            let mut cross = key_values(&self.weights, self.mode, ids.len());
            self.with_encoder(|encoder| encoder.read(&self.weights, &self.pool, ids, &mut cross));
            Arc::new(cross)
        };
        let cross: Arc<Vec<KeyValue>> = match prompt {
            Prompt::Once(_) => encode(),
            Prompt::Kept(prompt) => {
                let kept = Arc::clone(prompt.kept.get_or_init(|| encode()));
                // Another network may have read it.
                kept.downcast().unwrap_or_else(|_| encode())
            }
        };
        Cache::new(&self.weights, self.mode, cross, ids.len(), max_tokens)
    }

    /// Calls `work` with encoder buffers, which are reused for later prompts.
    fn with_encoder<T>(&self, work: impl FnOnce(&mut PromptEncoder) -> T) -> T {
        let spare = || self.spare.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = spare().pop();
        let mut encoder = taken.unwrap_or_else(|| PromptEncoder::new(self.mode));
        let result = work(&mut encoder);
        spare().push(encoder);
        result
    }

    fn check(&self, row: usize, prompt: &[u32]) -> Result<(), RuntimeError> {
        let refuse = |reason: String| Err(RuntimeError::Prompt { row, reason });
        if prompt.is_empty() {
            return refuse("it is empty".into());
        }
        let most = self.config.max_len();
        if prompt.len() > most {
            return refuse(format!("it has {} tokens, but the model reads at most {most}", prompt.len()));
        }
        // The encoder does not mask padding, so it would be attended to.
        match prompt.iter().find(|&&id| id == PAD_ID || id as usize >= self.config.vocab_size) {
            Some(&PAD_ID) => refuse(format!("it contains the padding id {PAD_ID}")),
            Some(id) => refuse(format!(
                "it contains id {id}, but the last id of the vocabulary is {}",
                self.config.vocab_size - 1
            )),
            None => Ok(()),
        }
    }

    fn check_tokens(&self, tokens: &[u32]) -> Result<(), RuntimeError> {
        let (most, vocab_size) = (self.config.max_len(), self.config.vocab_size);
        let is_good = !tokens.is_empty() && tokens.len() <= most && tokens.iter().all(|&id| (id as usize) < vocab_size);
        if is_good {
            return Ok(());
        }
        let reason = format!("expected 1 to {most} ids below {vocab_size}");
        Err(RuntimeError::Config { field: "tokens", reason })
    }
}

impl Network for Engine {
    fn config(&self) -> &SanConfig {
        &self.config
    }

    fn precision(&self) -> Precision {
        Precision::Int4
    }

    fn generate(
        &self,
        prompts: &[Vec<u32>],
        max_tokens: usize,
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError> {
        self.generate(prompts, max_tokens, hook)
    }

    fn generate_kept(
        &self,
        prompts: &[&KeptPrompt],
        max_tokens: usize,
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError> {
        self.generate_kept(prompts, max_tokens, hook)
    }

    fn embed(&self, texts: &[Vec<u32>]) -> Result<Option<Vec<Vec<f32>>>, RuntimeError> {
        self.embed(texts)
    }

    fn threads(&self) -> usize {
        self.pool.threads()
    }

    fn run_tasks(&self, count: usize, task: &(dyn Fn(usize) + Sync)) {
        self.pool.run(count, task);
    }
}

/// A prompt, whose keys and values may be kept for other answers.
#[derive(Clone, Copy)]
enum Prompt<'a> {
    Once(&'a [u32]),
    Kept(&'a KeptPrompt),
}

impl<'a> Prompt<'a> {
    fn ids(self) -> &'a [u32] {
        match self {
            Self::Once(ids) => ids,
            Self::Kept(prompt) => &prompt.ids,
        }
    }
}

/// The answers that one thread decodes together.
struct Group {
    decoder: Decoder,
    /// Indices of the prompts, in the order of `sequences` and then `starting`.
    rows: Vec<usize>,
    sequences: Vec<Sequence>,
    /// Number of drafted tokens of each sequence.
    drafted: Vec<usize>,
    /// Prompts to encode in the next step, with the first tokens to feed.
    starting: Vec<(usize, Next)>,
    /// The rows of a pass whose logits are needed: each sequence's last token before the draft, and
    /// its drafted tokens.
    wanted: Vec<usize>,
    logits: Vec<f32>,
    /// One value per row of logits.
    log_sum_exps: Vec<f32>,
}

/// The tokens to feed next.
struct Next {
    /// At least one token; drafted ones come last.
    tokens: Vec<u32>,
    /// Number of drafted tokens.
    drafted: usize,
}

impl Group {
    fn new(weights: &Weights, mode: Mode) -> Self {
        Self {
            decoder: Decoder::new(weights, mode),
            rows: Vec::new(),
            sequences: Vec::new(),
            drafted: Vec::new(),
            starting: Vec::new(),
            wanted: Vec::new(),
            logits: Vec::new(),
            log_sum_exps: Vec::new(),
        }
    }

    /// Encodes the starting prompts and computes the logits of all sequences.
    fn step(&mut self, engine: &Engine, prompts: &[Prompt<'_>], max_tokens: usize) {
        for (row, Next { tokens, drafted }) in self.starting.drain(..) {
            // `max_tokens` positions suffice: the last token of an answer is not fed, but the start
            // token is.
            self.sequences.push(Sequence { tokens, cache: engine.cache(prompts[row], max_tokens) });
            self.drafted.push(drafted);
        }
        if self.sequences.is_empty() {
            return;
        }
        self.decoder.pass(&engine.weights, &mut self.sequences);
        self.wanted.clear();
        let mut rows = 0;
        for (sequence, drafted) in self.sequences.iter().zip(&self.drafted) {
            rows += sequence.tokens.len();
            self.wanted.extend(rows - 1 - drafted..rows);
        }
        self.decoder.logits(&engine.weights, &self.wanted, &mut self.logits);
        let width = self.decoder.logits_width(&engine.weights);
        self.log_sum_exps.clear();
        for logits in self.logits.chunks_exact(width) {
            self.log_sum_exps.push(engine.mode.kernels.log_sum_exp(&logits[..engine.config.vocab_size]));
        }
    }

    /// Chooses tokens for each sequence, and removes the sequences that have ended.
    fn choose(&mut self, engine: &Engine, answers: &mut [Generated], max_tokens: usize, hook: &mut dyn StepHook) {
        let (width, vocab_size) = (self.decoder.logits_width(&engine.weights), engine.config.vocab_size);
        let mut place = 0;
        let mut first = 0;
        // Removing a sequence shifts the later ones, but not their logits.
        for _ in 0..self.sequences.len() {
            let (row, drafted) = (self.rows[place], self.drafted[place]);
            let (answer, sequence) = (&mut answers[row], &mut self.sequences[place]);
            let draft = sequence.tokens.split_off(sequence.tokens.len() - drafted);
            let mut has_ended = false;
            for i in 0..=drafted {
                let logits = &mut self.logits[(first + i) * width..][..vocab_size];
                hook.mask(row, logits);
                let (token, certainty) = choose(engine.mode.kernels, logits, self.log_sum_exps[first + i]);
                answer.certainties.push(certainty);
                if token == EOS_ID {
                    answer.stop = Stop::Eos;
                    has_ended = true;
                    break;
                }
                answer.ids.push(token);
                hook.certain(row, certainty);
                hook.chosen(row, token);
                if hook.is_stopped(row) || answer.ids.len() >= max_tokens {
                    has_ended = true;
                    break;
                }
                // A token that matches the draft already has its row of logits.
                if draft.get(i) != Some(&token) {
                    sequence.cache.forget(drafted - i);
                    sequence.tokens.clear();
                    sequence.tokens.push(token);
                    break;
                }
            }
            first += drafted + 1;
            if has_ended || extend(row, answer, &mut sequence.tokens, max_tokens, hook) {
                self.rows.remove(place);
                self.sequences.remove(place);
                self.drafted.remove(place);
            } else {
                self.drafted[place] = add_draft(row, answer, &mut sequence.tokens, max_tokens, hook);
                place += 1;
            }
        }
    }
}

/// Appends the drafted tokens of row `row` to `tokens`; returns their number.
fn add_draft(
    row: usize,
    answer: &Generated,
    tokens: &mut Vec<u32>,
    max_tokens: usize,
    hook: &mut dyn StepHook,
) -> usize {
    let mut draft = hook.draft(row);
    // The last token of an answer is not fed.
    draft.truncate(max_tokens.saturating_sub(answer.ids.len() + 1).min(MAX_DRAFT));
    let drafted = draft.len();
    tokens.append(&mut draft);
    drafted
}

/// Appends the forced tokens to the answer and to `tokens`; true if the answer has ended.
fn extend(
    row: usize,
    answer: &mut Generated,
    tokens: &mut Vec<u32>,
    max_tokens: usize,
    hook: &mut dyn StepHook,
) -> bool {
    loop {
        let forced = hook.forced(row);
        if forced.is_empty() {
            return false;
        }
        for token in forced {
            answer.certainties.push(Certainty::FORCED);
            if token == EOS_ID {
                answer.stop = Stop::Eos;
                return true;
            }
            answer.ids.push(token);
            hook.certain(row, Certainty::FORCED);
            hook.chosen(row, token);
            tokens.push(token);
            if answer.ids.len() >= max_tokens {
                return true;
            }
        }
    }
}

/// The token with the largest logit (the lowest id among equals), and its certainty. Overwrites its
/// logit.
fn choose(kernels: &Kernels, logits: &mut [f32], log_sum_exp: f32) -> (u32, Certainty) {
    let largest = kernels.greatest(logits);
    let token = logits.iter().position(|&logit| logit == largest).unwrap_or(0);
    let chosen = std::mem::replace(&mut logits[token], f32::NEG_INFINITY);
    let next = kernels.greatest(logits);
    (token as u32, Certainty { log_prob: chosen - log_sum_exp, margin: (chosen - next).min(MAX_MARGIN) })
}
