//! A model's answers to questions, constrained or free, with the features of their confidence.

use std::sync::{Mutex, PoisonError};

use needle_data::text::example::parse_answers;
use needle_data::text::names::NameMap;
use needle_data::text::span_json::SpanJson;
use needle_data::{Call, Encoder, TokenClass, Tool};
use serde::Serialize;
use serde_json::Value;

use super::config::AnswerConfig;
use super::evidence::Request;
use super::judge::{judge, violations};
use super::question::Question;
use crate::confidence::{Confidence, Features};
use crate::constrain::copying::Values;
use crate::constrain::grounding::{ArgumentGrounding, groundings};
use crate::constrain::preference::Preference;
use crate::constrain::search::{Fork, ROUNDS, SLACK, Search, log_prob};
use crate::constrain::{Asked, Constrained, Constrainer, Constraint};
use crate::error::RuntimeError;
use crate::generate::{Generated, NoHook, StepHook, Stop};
use crate::network::{KeptPrompt, Network, map_tasks};
use crate::retrieval::tool_vectors::ToolVectors;
use crate::retrieval::{similarity, tool_texts};

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The calls, with the user's tool names; `None` if the text is not a list of calls.
    pub calls: Option<Vec<Call>>,
    /// Violations of the tools' schemas, one sentence each; this covers rules that the grammar
    /// cannot enforce.
    pub violations: Vec<String>,
    /// Where each argument comes from.
    pub groundings: Vec<ArgumentGrounding>,
    /// The text that the model wrote.
    pub text: String,
    /// Token ids of `text`; the first is `<tool_call>`.
    pub token_ids: Vec<u32>,
    /// Why decoding ended.
    pub stop: Stop,
    /// Number of prompt tokens that did not fit.
    pub cut_tokens: usize,
    /// Inputs of the confidence.
    #[serde(skip)]
    pub features: Features,
    /// Calibrated probability that the whole answer is exact; `None` if the model has no calibrated
    /// confidence.
    pub confidence: Option<f64>,
}

/// A question as the token ids that the model reads.
#[derive(Debug, Clone)]
pub(super) struct Prompt {
    /// Query and tools.
    pub(super) ids: Vec<u32>,
    /// Number of tokens that did not fit.
    pub(super) cut_tokens: usize,
}

/// A model, ready to answer.
pub(super) struct Answerer<'a> {
    pub(super) network: &'a dyn Network,
    pub(super) encoder: Encoder<'a>,
    /// Constrains answers to what the tools allow; `None` leaves them free.
    pub(super) constrainer: Option<&'a Constrainer>,
    /// The model's calibrated confidence, if it has one.
    pub(super) confidence: Option<&'a Confidence>,
    /// Which strings must be copied from the query.
    pub(super) values: Values,
    /// Cached embeddings of tools that were offered before.
    pub(super) vectors: &'a ToolVectors,
    /// Maximum number of tokens of an answer.
    pub(super) max_tokens: usize,
    pub(super) config: &'a AnswerConfig,
}

impl Answerer<'_> {
    /// Encodes `question`.
    pub(super) fn prompt(&self, question: Question<'_>) -> Prompt {
        let (ids, cut_tokens) = self.encoder.prompt(question.query, question.tools);
        Prompt { ids, cut_tokens }
    }

    /// Answers `questions`, whose prompts are `prompts`, and returns the answers in the same order.
    /// `progress` receives the number of questions answered so far.
    ///
    /// # Errors
    /// If a question's tools cannot be constrained.
    pub(super) fn answer(
        &self,
        questions: &[Question<'_>],
        prompts: &[Prompt],
        progress: &mut (dyn FnMut(usize) + Send),
    ) -> Result<Vec<Prediction>, RuntimeError> {
        // Prompts of similar length share a batch, which saves padding.
        let mut order: Vec<usize> = (0..questions.len()).collect();
        order.sort_by_key(|&i| prompts[i].ids.len());
        let each = questions.len().div_ceil(self.network.threads()).clamp(1, self.config.batch_size.max(1));
        let batches: Vec<&[usize]> = order.chunks(each).collect();
        let progress = Mutex::new((0, progress));
        let answered = map_tasks(self.network, batches.len(), |index| {
            let batch = batches[index];
            let asked: Vec<Question<'_>> = batch.iter().map(|&i| questions[i]).collect();
            let inputs: Vec<Vec<u32>> = batch.iter().map(|&i| prompts[i].ids.clone()).collect();
            let answers = self.generate(&inputs, &asked, &mut NoHook)?;
            let both = batch.iter().zip(answers);
            let read = both.map(|(&i, answer)| (i, self.read(answer, questions[i], prompts[i].cut_tokens)));
            let read: Vec<(usize, Prediction)> = read.collect();
            let mut progress = progress.lock().unwrap_or_else(PoisonError::into_inner);
            let (done, tell) = &mut *progress;
            *done += batch.len();
            tell(*done);
            Ok::<_, RuntimeError>(read)
        });
        let mut predictions: Vec<Option<Prediction>> = vec![None; questions.len()];
        for batch in answered {
            for (i, prediction) in batch? {
                predictions[i] = Some(prediction);
            }
        }
        let mut predictions: Vec<Prediction> = predictions.into_iter().flatten().collect();
        self.judge(questions, &mut predictions)?;
        Ok(predictions)
    }

    /// The answer to one question, shown to `hook` token by token.
    ///
    /// # Errors
    /// If the tools cannot be constrained.
    pub(super) fn answer_streaming(
        &self,
        question: Question<'_>,
        prompt: Prompt,
        hook: &mut dyn StepHook,
    ) -> Result<Prediction, RuntimeError> {
        let Prompt { ids, cut_tokens } = prompt;
        let answer = if self.config.candidates > 0 && self.constrainer.is_some() {
            // The best answer is known only at the end, so nothing is streamed before.
            let mut answer = self.generate(&[ids], &[question], &mut NoHook)?.remove(0);
            show(&mut answer, hook);
            answer
        } else {
            self.generate(&[ids], &[question], hook)?.remove(0)
        };
        let mut prediction = [self.read(answer, question, cut_tokens)];
        self.judge(&[question], &mut prediction)?;
        let [prediction] = prediction;
        Ok(prediction)
    }

    fn generate(
        &self,
        prompts: &[Vec<u32>],
        questions: &[Question<'_>],
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError> {
        let Some(constrainer) = self.constrainer else {
            return self.network.generate(prompts, self.max_tokens, hook);
        };
        let AnswerConfig { min_calls, max_calls, .. } = *self.config;
        let (values, max_tokens) = (&self.values, self.max_tokens);
        let compile = |q: &Question<'_>| {
            constrainer.compile(&Asked { query: q.query, tools: q.tools, values, min_calls, max_calls, max_tokens })
        };
        let rows = questions.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        let preferences = self.preferences(questions)?;
        let rows: Vec<Constraint> = rows.into_iter().zip(preferences).map(|(row, p)| row.preferring(p)).collect();
        if self.config.candidates > 0 {
            return self.search(prompts, questions, rows, hook);
        }
        let mut constrained = Constrained { rows, inner: hook };
        let answers = self.network.generate(prompts, max_tokens, &mut constrained)?;
        match constrained.rows.iter().find_map(Constraint::error) {
            Some(reason) => Err(disagree(reason)),
            None => Ok(answers),
        }
    }

    /// The retrieval head's preference among each question's tools; `None` if it has no weight or
    /// there are fewer than two tools.
    fn preferences(&self, questions: &[Question<'_>]) -> Result<Vec<Option<Preference>>, RuntimeError> {
        let weight = self.config.retrieval_weight;
        let preference = |question: &Question<'_>| {
            if weight <= 0.0 || question.tools.len() < 2 {
                return Ok(None);
            }
            let Some(tools) = self.vectors.of(self.network, tool_texts(&self.encoder, question.tools))? else {
                return Ok(None);
            };
            let query = self.network.embed(&[self.encoder.query_ids(question.query)])?;
            let Some(query) = query.as_deref().and_then(<[_]>::first) else { return Ok(None) };
            let cosines: Vec<f32> = tools.iter().map(|tool| similarity(query, tool)).collect();
            Ok(Some(Preference::new(question.tools, &cosines, weight)))
        };
        questions.iter().map(preference).collect()
    }

    /// The best of each question's greedy answer, the answers that fork off it, and its revisions.
    fn search(
        &self,
        prompts: &[Vec<u32>],
        questions: &[Question<'_>],
        rows: Vec<Constraint>,
        hook: &mut dyn StepHook,
    ) -> Result<Vec<Generated>, RuntimeError> {
        let prompts: Vec<KeptPrompt> = prompts.iter().map(|ids| KeptPrompt::new(ids.clone())).collect();
        let mut first = Search::new(rows.clone(), hook);
        let mut answers =
            self.network.generate_kept(&prompts.iter().collect::<Vec<_>>(), self.max_tokens, &mut first)?;
        if let Some(reason) = (0..rows.len()).find_map(|row| first.error(row)) {
            return Err(disagree(reason));
        }
        for (row, question) in questions.iter().enumerate() {
            let mut forks = first.forks(row, &answers[row], self.config.candidates, SLACK);
            if forks.is_empty() {
                continue;
            }
            let request = Request::new(question.query, question.tools, self.encoder.tokenizer());
            let score = |answer: &Generated| {
                let calls = self.calls(answer, question.tools);
                calls.map(|calls| request.evidence(&calls, log_prob(answer), answer.ids.len()).score())
            };
            let mut best = score(&answers[row]);
            let mut seen = vec![answers[row].ids.clone()];
            for _ in 0..ROUNDS {
                forks.extend(self.revisions(&request, *question, &answers[row]));
                let mut no_hook = NoHook;
                let mut again = Search::from_forks(&rows[row], &forks, &mut no_hook);
                let prompts = vec![&prompts[row]; forks.len()];
                let others = self.network.generate_kept(&prompts, self.max_tokens, &mut again)?;
                let mut better = None;
                for (i, (fork, other)) in forks.into_iter().zip(others).enumerate() {
                    let other = again.complete(i, fork, other);
                    seen.push(other.ids.clone());
                    // An error means that no answer within the limit begins like this.
                    let score = if again.error(i).is_none() { score(&other) } else { None };
                    if score > best {
                        (best, better) = (score, Some((i, other)));
                    }
                }
                let Some((i, other)) = better else { break };
                // A fork off a revision may lead back to an answer that it was better than.
                forks = again.forks(i, &other, self.config.candidates + seen.len(), SLACK);
                forks.retain(|fork| !seen.iter().any(|ids| fork.begins(ids)));
                forks.truncate(self.config.candidates);
                answers[row] = other;
            }
        }
        Ok(answers)
    }

    /// Revisions of `answer` that fit the words of the request better.
    fn revisions(&self, request: &Request<'_>, question: Question<'_>, answer: &Generated) -> Vec<Fork> {
        let calls = self.calls(answer, question.tools).unwrap_or_default();
        let revisions = request.revisions(&calls, self.config.candidates);
        if revisions.is_empty() {
            return Vec::new();
        }
        let ids = self.encoder.answer_ids(question.query, question.tools, revisions);
        ids.into_iter().map(Fork::of_answer).collect()
    }

    /// The calls of `answer`, with the user's tool names; `None` if it is not a list of calls.
    fn calls(&self, answer: &Generated, tools: &[Tool]) -> Option<Vec<Call>> {
        let text = self.encoder.tokenizer().decode(&answer.ids);
        let inner = parse_answers(Some(&serde_json::from_str::<Value>(&text).ok()?)).ok()?;
        Some(with_outer_names(inner, tools))
    }

    /// Parses `generated` as calls, with the names of the offered tools.
    fn read(&self, generated: Generated, question: Question<'_>, cut_tokens: usize) -> Prediction {
        let text = self.encoder.tokenizer().decode(&generated.ids);
        let inner = serde_json::from_str::<Value>(&text).ok().and_then(|value| parse_answers(Some(&value)).ok());
        let classes = inner.as_deref().map(|calls| self.classes(&generated, calls)).unwrap_or_default();
        let features = Features::new(&generated, &classes, inner.as_deref());
        let calls = inner.map(|calls| with_outer_names(calls, question.tools));
        let Generated { ids, stop, .. } = generated;
        let read: &[Call] = calls.as_deref().unwrap_or_default();
        let (violations, groundings) =
            (violations(question.tools, read), groundings(question.query, question.tools, read));
        Prediction { calls, violations, groundings, text, token_ids: ids, stop, cut_tokens, features, confidence: None }
    }

    /// The class of each token, if the text is the compact JSON of `calls`; otherwise empty.
    fn classes(&self, generated: &Generated, calls: &[Call]) -> Vec<TokenClass> {
        let json = SpanJson::of_calls(calls, |name| name);
        // The decoded text begins with a space.
        let mut at = 0;
        let mut classes = Vec::new();
        let mut written = Vec::new();
        for &id in &generated.ids {
            let bytes = self.encoder.tokenizer().token_bytes(id);
            let range = at..at + bytes.len();
            let class = range.filter_map(|i| json.classes.get(i.checked_sub(1)?)).max();
            classes.push(class.copied().unwrap_or(TokenClass::Structure));
            at += bytes.len();
            written.extend(bytes);
        }
        if written.get(1..) == Some(json.text.as_bytes()) { classes } else { Vec::new() }
    }

    fn judge(&self, questions: &[Question<'_>], predictions: &mut [Prediction]) -> Result<(), RuntimeError> {
        match self.confidence {
            Some(confidence) => judge(self.network, &self.encoder, confidence, questions, predictions),
            None => Ok(()),
        }
    }
}

/// Shows a whole answer to `hook` token by token; it ends where the hook stops it.
fn show(answer: &mut Generated, hook: &mut dyn StepHook) {
    for (i, (&token, &certainty)) in answer.ids.iter().zip(&answer.certainties).enumerate() {
        hook.certain(0, certainty);
        hook.chosen(0, token);
        if hook.is_stopped(0) {
            answer.ids.truncate(i + 1);
            answer.certainties.truncate(i + 1);
            answer.stop = Stop::Length;
            return;
        }
    }
}

/// `calls` with the user's names of `tools` instead of those that the model writes.
fn with_outer_names(calls: Vec<Call>, tools: &[Tool]) -> Vec<Call> {
    let names = NameMap::of(tools);
    calls.into_iter().map(|call| Call { name: names.to_outer(&call.name).to_owned(), ..call }).collect()
}

fn disagree(reason: &str) -> RuntimeError {
    RuntimeError::Config { field: "tools", reason: reason.to_owned() }
}
