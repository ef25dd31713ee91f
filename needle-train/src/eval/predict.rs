//! A model's answers to questions, a batch at a time: constrained or free, with what its confidence is judged by.

use std::collections::HashMap;

use needle_data::text::example::parse_answers;
use needle_data::text::names::NameMap;
use needle_data::text::span_json::SpanJson;
use needle_data::{Call, Encoder, TokenClass, Tool};
use needle_model::constrain::grounding::{ArgumentGrounding, groundings};
use needle_model::constrain::look_ahead::{LookAhead, log_prob};
use needle_model::constrain::{Asked, Constrained, Constrainer};
use needle_model::generate::{Generated, NoHook, StepHook, Stop, generate};
use needle_model::{FusedOps, ModelError, San};
use serde::Serialize;
use serde_json::Value;

use super::confidence::{Confidence, Features, Similarity};
use super::retrieval::{embed, similarity, tool_texts};
use crate::recipe::EvalConfig;

/// One answer.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    /// The calls, under the user's tool names; none if the text is not a list of calls.
    pub calls: Option<Vec<Call>>,
    /// Where the calls break the tools' schemas, in words; what the grammar cannot hold is checked here.
    pub violations: Vec<String>,
    /// Where each argument comes from.
    pub groundings: Vec<ArgumentGrounding>,
    /// What the model wrote.
    pub text: String,
    /// Its tokens, `<tool_call>` first.
    pub token_ids: Vec<u32>,
    /// Why it ended.
    pub stop: Stop,
    /// Tokens of the prompt that did not fit.
    pub cut_tokens: usize,
    /// What the confidence is computed from.
    #[serde(skip)]
    pub features: Features,
    /// Calibrated probability that the whole answer is exact, where the model has a calibration.
    pub confidence: Option<f64>,
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Question<'a> {
    /// The query.
    pub query: &'a str,
    /// The tools on offer.
    pub tools: &'a [Tool],
}

/// A model, ready to answer.
pub struct Answerer<'a, B: FusedOps> {
    /// The model, at the precision that it answers at.
    pub model: &'a San<B>,
    /// Texts to ids.
    pub encoder: &'a Encoder<'a>,
    /// Only what the tools allow is written, where given.
    pub constrainer: Option<&'a Constrainer>,
    /// The model's calibration, where it has one.
    pub confidence: Option<&'a Confidence>,
    /// Sizes of batches and answers.
    pub config: &'a EvalConfig,
}

impl<B: FusedOps> Answerer<'_, B> {
    /// Answers to `questions`, in order; `progress` is told how many are done.
    ///
    /// # Errors
    /// If a question's tools cannot be constrained.
    pub fn answer(
        &self,
        questions: &[Question<'_>],
        progress: &mut dyn FnMut(usize),
    ) -> Result<Vec<Prediction>, ModelError> {
        let prompts: Vec<_> = questions.iter().map(|q| self.encoder.prompt(q.query, q.tools)).collect();
        // Prompts of like length share a batch: less padding.
        let mut order: Vec<usize> = (0..questions.len()).collect();
        order.sort_by_key(|&i| prompts[i].0.len());
        let mut predictions: Vec<Option<Prediction>> = vec![None; questions.len()];
        let mut done = 0;
        for batch in order.chunks(self.config.batch_size) {
            let inputs: Vec<Vec<u32>> = batch.iter().map(|&i| prompts[i].0.clone()).collect();
            let asked: Vec<Question<'_>> = batch.iter().map(|&i| questions[i]).collect();
            let answers = self.generate(&inputs, &asked, &mut NoHook)?;
            for (&index, answer) in batch.iter().zip(answers) {
                predictions[index] = Some(self.read(answer, questions[index], prompts[index].1));
            }
            done += batch.len();
            progress(done);
        }
        let mut predictions: Vec<Prediction> = predictions.into_iter().flatten().collect();
        self.judge(questions, &mut predictions);
        Ok(predictions)
    }

    /// The answer to one question, shown to `hook` token by token.
    ///
    /// # Errors
    /// If the tools cannot be constrained.
    pub fn answer_streaming(&self, question: Question<'_>, hook: &mut impl StepHook) -> Result<Prediction, ModelError> {
        let (prompt, cut_tokens) = self.encoder.prompt(question.query, question.tools);
        let answer = if self.config.look_ahead && self.constrainer.is_some() {
            // Only then is it known which answer is the best.
            let answer = self.generate(&[prompt], &[question], &mut NoHook)?.remove(0);
            answer.ids.iter().for_each(|&token| hook.chosen(0, token));
            answer
        } else {
            self.generate(&[prompt], &[question], hook)?.remove(0)
        };
        let mut prediction = [self.read(answer, question, cut_tokens)];
        self.judge(&[question], &mut prediction);
        let [prediction] = prediction;
        Ok(prediction)
    }

    fn generate(
        &self,
        prompts: &[Vec<u32>],
        questions: &[Question<'_>],
        hook: &mut impl StepHook,
    ) -> Result<Vec<Generated>, ModelError> {
        let Some(constrainer) = self.constrainer else {
            return Ok(generate(self.model, prompts, self.config.max_tokens, hook));
        };
        let EvalConfig { max_calls, max_tokens, ref values, .. } = *self.config;
        let compile = |q: &Question<'_>| {
            constrainer.compile(&Asked { query: q.query, tools: q.tools, values, max_calls, max_tokens })
        };
        let rows = questions.iter().map(compile).collect::<Result<Vec<_>, _>>()?;
        let disagree = |reason: &str| ModelError::Config { field: "tools", reason: reason.to_owned() };
        if !self.config.look_ahead {
            let mut constrained = Constrained { rows, inner: hook };
            let answers = generate(self.model, prompts, max_tokens, &mut constrained);
            return match constrained.rows.iter().find_map(|row| row.error()) {
                Some(reason) => Err(disagree(reason)),
                None => Ok(answers),
            };
        }
        let mut first = LookAhead::new(rows.clone(), hook);
        let mut answers = generate(self.model, prompts, max_tokens, &mut first);
        let forks: Vec<(usize, Vec<u32>)> =
            (0..rows.len()).flat_map(|row| first.forks(row).into_iter().map(move |fork| (row, fork))).collect();
        if let Some(reason) = (0..rows.len()).find_map(|row| first.error(row)) {
            return Err(disagree(reason));
        }
        for forks in forks.chunks(self.config.batch_size) {
            let prompts: Vec<Vec<u32>> = forks.iter().map(|(row, _)| prompts[*row].clone()).collect();
            let rows = forks.iter().map(|(row, fork)| (rows[*row].clone(), fork.clone())).collect();
            let mut no_hook = NoHook;
            let mut again = LookAhead::with_prefixes(rows, &mut no_hook);
            let others = generate(self.model, &prompts, max_tokens, &mut again);
            for (i, ((row, _), other)) in forks.iter().zip(others).enumerate() {
                if again.error(i).is_none() && log_prob(&other) > log_prob(&answers[*row]) {
                    answers[*row] = other;
                }
            }
        }
        Ok(answers)
    }

    /// Reads `generated` as an answer under the names of the offered tools.
    fn read(&self, generated: Generated, question: Question<'_>, cut_tokens: usize) -> Prediction {
        let text = self.encoder.tokenizer().decode(&generated.ids);
        let inner = serde_json::from_str::<Value>(&text).ok().and_then(|value| parse_answers(Some(&value)).ok());
        let classes = inner.as_deref().map(|calls| self.classes(&generated, calls)).unwrap_or_default();
        let features = Features::new(&generated, &classes, inner.as_deref());
        let names = NameMap::of(question.tools);
        let calls = inner.map(|calls| {
            calls.into_iter().map(|call| Call { name: names.to_outer(&call.name).to_owned(), ..call }).collect()
        });
        let Generated { ids, stop, .. } = generated;
        let read: &[Call] = calls.as_deref().unwrap_or_default();
        let (violations, groundings) =
            (violations(question.tools, read), groundings(question.query, question.tools, read));
        Prediction { calls, violations, groundings, text, token_ids: ids, stop, cut_tokens, features, confidence: None }
    }

    /// The class of each token after the first, if the text is the compact JSON of `calls`; else nothing.
    fn classes(&self, generated: &Generated, calls: &[Call]) -> Vec<TokenClass> {
        let json = SpanJson::of_calls(calls, |name| name);
        // The text has a space in front.
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

    /// Adds what the retrieval head thinks of each answer, and the confidence.
    fn judge(&self, questions: &[Question<'_>], predictions: &mut [Prediction]) {
        let Some(confidence) = self.confidence else { return };
        let similarities = self.similarities(questions, predictions);
        for (prediction, similarity) in predictions.iter_mut().zip(similarities) {
            prediction.features.add_similarity(similarity);
            prediction.confidence = Some(match prediction.calls {
                Some(_) => confidence.of(&prediction.features),
                // What is no list of calls is not the right one.
                None => 0.0,
            });
        }
    }

    /// How like each query is to the tools that its answer calls, and to the others; zeros without a retrieval head.
    fn similarities(&self, questions: &[Question<'_>], predictions: &[Prediction]) -> Vec<Similarity> {
        // Tools recur from question to question.
        let mut place: HashMap<Vec<u32>, usize> = HashMap::new();
        let mut texts: Vec<Vec<u32>> = Vec::new();
        let offered: Vec<Vec<usize>> = questions
            .iter()
            .map(|q| {
                let of_tool = |text: Vec<u32>| {
                    *place.entry(text.clone()).or_insert_with(|| {
                        texts.push(text);
                        texts.len() - 1
                    })
                };
                tool_texts(self.encoder, q.tools).into_iter().map(of_tool).collect()
            })
            .collect();
        let queries: Vec<Vec<u32>> = questions.iter().map(|q| self.encoder.query_ids(q.query)).collect();
        let both =
            embed(self.model, &texts, self.config.batch_size).zip(embed(self.model, &queries, self.config.batch_size));
        let Some((tools, queries)) = both else { return vec![Similarity::default(); questions.len()] };
        let of_one = |i: usize| {
            let calls = predictions[i].calls.as_deref().unwrap_or_default();
            let (mut called, mut others): (Vec<f32>, Vec<f32>) = (Vec::new(), Vec::new());
            for (tool, &place) in questions[i].tools.iter().zip(&offered[i]) {
                let is_called = calls.iter().any(|call| call.name == tool.name);
                if is_called { &mut called } else { &mut others }.push(similarity(&queries[i], &tools[place]));
            }
            let least = called.into_iter().reduce(f32::min);
            let most = others.into_iter().reduce(f32::max);
            Similarity { called: least.unwrap_or(0.0), other: most.unwrap_or(0.0) }
        };
        (0..questions.len()).map(of_one).collect()
    }
}

/// Where `calls` break the schemas of `tools`, in words.
fn violations(tools: &[Tool], calls: &[Call]) -> Vec<String> {
    let of_call = |(i, call): (usize, &Call)| match tools.iter().find(|tool| tool.name == call.name) {
        Some(tool) => tool.violation(&call.arguments).map(|violation| format!("call {i}, {}: {violation}", call.name)),
        None => Some(format!("call {i}: {:?} is not offered", call.name)),
    };
    calls.iter().enumerate().filter_map(of_call).collect()
}
