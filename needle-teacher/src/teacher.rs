//! The teacher: asks an endpoint many questions, within limits and with retries, and takes answers
//! that are already paid for from the journal.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use needle_data::random::{Purpose, rng};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::budget::{Budget, Limits, RateLimiter};
use crate::client::{Client, ClientConfig, Failure, Question, Reply, retry};
use crate::error::TeacherError;
use crate::journal::{Answer, Event, Journal};
use crate::tokens::{Price, Usage, estimate};

/// After this many consecutive questions without an answer, the run ends: the endpoint is down or
/// misconfigured.
const MAX_FAILURES_IN_A_ROW: usize = 8;
/// How often a waiting thread checks whether it should stop.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A question with its place in the run.
#[derive(Debug, Clone, PartialEq)]
pub struct Ask {
    /// The question itself.
    pub question: Question,
    /// Price per million tokens; `None` if it is not given.
    pub price: Option<Price>,
    /// Distinguishes requests of one run that have the same text, such as `rows 12 round 0`.
    pub place: String,
}

impl Ask {
    /// The key of this request in the journal: equal for equal questions at the same place.
    pub fn key(&self) -> String {
        let question = &self.question;
        let parts = [
            self.place.clone(),
            question.model.clone(),
            question.system.clone(),
            question.user.clone(),
            question.schema.schema.to_string(),
            format!("{:?}", question.temperature),
        ];
        let mut hash = Sha256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        hash.finalize().iter().take(16).map(|b| format!("{b:02x}")).collect()
    }

    /// Estimated number of tokens of its prompt.
    pub fn input_tokens(&self) -> u64 {
        estimate(&self.question.system)
            + estimate(&self.question.user)
            + estimate(&self.question.schema.schema.to_string())
    }

    fn usage(&self, input_tokens: u64, output_tokens: u64, is_estimated: bool) -> Usage {
        let cost = self.price.map(|price| price.cost(input_tokens, output_tokens));
        Usage { input_tokens, output_tokens, cost, is_estimated }
    }

    /// Its maximum usage.
    fn most(&self) -> Usage {
        self.usage(self.input_tokens(), self.question.max_answer_tokens, true)
    }
}

/// How a question ended.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// With an answer.
    Answered(Arc<Answer>),
    /// Without one, after all retries.
    Failed(String),
    /// It was not asked: the run was stopped, or a limit reached.
    NotAsked,
}

/// Why a run has ended early.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// The user stopped it.
    Stopped,
    /// The limit on cost or tokens was reached.
    Limit,
    /// The endpoint cannot be used.
    Error(String),
}

/// Counts of one session.
#[derive(Debug, Default)]
pub struct Counters {
    /// Requests sent, retries included.
    pub requests: AtomicUsize,
    /// Of those, sent again after a failure.
    pub retries: AtomicUsize,
    /// Answers taken from the journal.
    pub from_journal: AtomicUsize,
    /// Questions that ended without an answer.
    pub failed: AtomicUsize,
}

/// A client of an endpoint, with a journal and limits.
pub struct Teacher {
    client: Client,
    config: ClientConfig,
    journal: Journal,
    budget: Budget,
    pace: Mutex<RateLimiter>,
    stop: Arc<AtomicBool>,
    ended: Mutex<Option<StopReason>>,
    failures_in_a_row: AtomicUsize,
    seed: u64,
    /// Counts of this session so far.
    pub counters: Counters,
}

impl Teacher {
    /// A teacher that continues `journal`. Setting `stop` ends it after the requests in flight.
    pub fn new(
        client: Client,
        config: ClientConfig,
        journal: Journal,
        limits: Limits,
        stop: Arc<AtomicBool>,
        seed: u64,
    ) -> Self {
        let pace = RateLimiter::new(config.requests_per_minute, config.tokens_per_minute, Instant::now());
        Self {
            budget: Budget::new(limits, journal.used()),
            client,
            config,
            journal,
            pace: Mutex::new(pace),
            stop,
            ended: Mutex::new(None),
            failures_in_a_row: AtomicUsize::new(0),
            seed,
            counters: Counters::default(),
        }
    }

    /// Usage of all sessions of this run.
    pub fn used(&self) -> Usage {
        self.budget.used()
    }

    /// The journal.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// Why the run has ended early, if it has.
    pub fn ended(&self) -> Option<StopReason> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Asks all of `asks`, several at a time, and passes the outcomes to `each` in the order of
    /// `asks`, as soon as possible.
    ///
    /// After the end of the run (see [`Teacher::ended`]) the rest are [`Outcome::NotAsked`].
    pub fn ask_all(&self, asks: &[Ask], mut each: impl FnMut(usize, Outcome)) {
        let next = AtomicUsize::new(0);
        let (sender, receiver) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.config.concurrency.min(asks.len()) {
                let (sender, next) = (sender.clone(), &next);
                scope.spawn(move || {
                    while let Some((index, ask)) = {
                        let index = next.fetch_add(1, Ordering::Relaxed);
                        asks.get(index).map(|ask| (index, ask))
                    } {
                        // The receiver lives as long as this scope.
                        let _ = sender.send((index, self.ask(ask)));
                    }
                });
            }
            drop(sender);
            let mut early = BTreeMap::new();
            let mut expected = 0;
            for (index, outcome) in receiver {
                early.insert(index, outcome);
                while let Some(outcome) = early.remove(&expected) {
                    each(expected, outcome);
                    expected += 1;
                }
            }
        });
    }

    /// Asks one question, with retries.
    fn ask(&self, ask: &Ask) -> Outcome {
        let key = ask.key();
        if let Some(answer) = self.journal.answer(&key) {
            self.counters.from_journal.fetch_add(1, Ordering::Relaxed);
            return Outcome::Answered(answer);
        }
        if !self.goes_on() {
            return Outcome::NotAsked;
        }
        let Some(reservation) = self.budget.reserve(ask.most()) else {
            self.end(StopReason::Limit);
            return Outcome::NotAsked;
        };
        let attempts = self.attempt(ask, &key);
        let used = attempts.as_ref().map_or_else(|_| Usage::default(), |answer| answer.usage);
        self.budget.settle(reservation, &used);
        match attempts {
            Ok(answer) => {
                self.failures_in_a_row.store(0, Ordering::Relaxed);
                Outcome::Answered(answer)
            }
            Err(None) => Outcome::NotAsked,
            Err(Some(reason)) => {
                self.counters.failed.fetch_add(1, Ordering::Relaxed);
                let in_a_row = self.failures_in_a_row.fetch_add(1, Ordering::Relaxed) + 1;
                if in_a_row >= MAX_FAILURES_IN_A_ROW {
                    self.end_with(&format!("{in_a_row} requests in a row had no answer; the last one: {reason}"));
                }
                Outcome::Failed(reason)
            }
        }
    }

    /// Sends the request until there is an answer; `Err(None)` if the run ends first.
    fn attempt(&self, ask: &Ask, key: &str) -> Result<Arc<Answer>, Option<String>> {
        let mut rng = rng(self.seed, Purpose::RetryDelay, &[u64::from_str_radix(&key[..16], 16).unwrap_or(0)]);
        let mut attempt = 0;
        loop {
            if !self.wait_for_slot(ask) {
                return Err(None);
            }
            self.record(&Event::Sent { key: key.into() })?;
            self.counters.requests.fetch_add(1, Ordering::Relaxed);
            let failure = match self.client.ask(&ask.question, key) {
                Ok(reply) => {
                    let answer = answer_of(ask, reply);
                    self.record(&Event::Answered { key: key.into(), answer: answer.clone() })?;
                    return Ok(Arc::new(answer));
                }
                Err(failure) => failure,
            };
            let may_be_charged = matches!(failure, Failure::Temporary { may_be_charged: true, .. });
            let usage = if may_be_charged { ask.usage(ask.input_tokens(), 0, true) } else { Usage::default() };
            self.budget.charge(&usage);
            self.record(&Event::Failed { key: key.into(), reason: failure.reason().to_owned(), usage })?;
            let (reason, retry_after) = match failure {
                Failure::Temporary { reason, retry_after, .. } => (reason, retry_after),
                Failure::Refused(reason) => return Err(Some(reason)),
                Failure::Fatal(reason) => {
                    self.end_with(&reason);
                    return Err(Some(reason));
                }
            };
            if attempt >= self.config.max_retries {
                return Err(Some(format!("{reason} ({} attempts)", attempt + 1)));
            }
            let first = Duration::from_secs_f64(self.config.first_retry_seconds);
            let wait = retry::delay(first, attempt, retry_after, &mut rng);
            tracing::debug!("{reason}; asking again in {:.1} s", wait.as_secs_f64());
            let until = Instant::now() + wait;
            if retry_after.is_some() {
                // The wait that an endpoint asks for applies to all threads.
                self.pace.lock().unwrap_or_else(PoisonError::into_inner).pause(until);
            }
            if !self.sleep_until(until) {
                return Err(None);
            }
            attempt += 1;
            self.counters.retries.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn wait_for_slot(&self, ask: &Ask) -> bool {
        let tokens = ask.input_tokens() + ask.question.max_answer_tokens;
        let slot = self.pace.lock().unwrap_or_else(PoisonError::into_inner).take(tokens, Instant::now());
        self.sleep_until(slot)
    }

    /// False if the run ended while waiting.
    fn sleep_until(&self, until: Instant) -> bool {
        loop {
            if !self.goes_on() {
                return false;
            }
            match until.checked_duration_since(Instant::now()) {
                Some(left) if !left.is_zero() => std::thread::sleep(left.min(LOOK_EVERY)),
                _ => return true,
            }
        }
    }

    fn goes_on(&self) -> bool {
        if self.stop.load(Ordering::Relaxed) {
            self.end(StopReason::Stopped);
        }
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Writes to the journal. A failure ends the run, because an answer that is not recorded would
    /// be paid for again.
    fn record(&self, event: &Event) -> Result<(), Option<String>> {
        self.journal.write(event).map_err(|error| {
            self.end(StopReason::Error(error.to_string()));
            Some(error.to_string())
        })
    }

    fn end_with(&self, reason: &str) {
        let endpoint = self.client.endpoint().to_owned();
        self.end(StopReason::Error(TeacherError::Endpoint { endpoint, reason: reason.into() }.to_string()));
    }

    /// Ends the run; only the first reason is kept.
    fn end(&self, why: StopReason) {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(why);
    }
}

/// An answer with its usage: tokens as the endpoint counted them, or estimated.
fn answer_of(ask: &Ask, reply: Reply) -> Answer {
    let is_estimated = reply.input_tokens.is_none() || reply.output_tokens.is_none();
    let input_tokens = reply.input_tokens.unwrap_or_else(|| ask.input_tokens());
    let output_tokens = reply.output_tokens.unwrap_or_else(|| estimate(&reply.content));
    Answer { usage: ask.usage(input_tokens, output_tokens, is_estimated), content: reply.content, is_cut: reply.is_cut }
}
