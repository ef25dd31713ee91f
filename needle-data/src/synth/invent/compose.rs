//! Turns the body of a request into what a person says: with courtesies, openings and small talk
//! around it, and several requests in a row.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;

use super::lexicon::Phrases;
use super::request::{Mood, Request};
use super::said::Said;
use crate::synth::values::pick;

/// A complete text, and whether it is a question.
pub(super) struct Utterance {
    pub said: Said,
    pub is_question: bool,
}

/// The kind of words around a verb phrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Around {
    /// Any of the usual ways to ask.
    Usual,
    /// Words with a negation that does not negate: `don't forget to {}`.
    NotNegated,
    /// `don't {}`.
    Negated,
    /// `{}. No, leave it.`
    TakenBack,
    /// `my colleague will {} himself`.
    Reported,
}

/// A random phrase of `from`, with probability `chance`; else an empty string.
fn maybe<'a>(rng: &mut ChaCha8Rng, chance: f64, from: &'a [String]) -> &'a str {
    if rng.random_bool(chance) { from.choose(rng).map_or("", String::as_str) } else { "" }
}

/// Builds the utterance of one request.
pub(super) fn utter(request: &Request, around: Around, phrases: &Phrases, rng: &mut ChaCha8Rng) -> Utterance {
    let mut core = request.lead.clone();
    let (mut wrapper, mut is_question) = wrapper(request.mood, around, phrases, rng);
    // Words after an open text would be taken for a part of it.
    if request.ends_open && !wrapper.ends_with("{}") {
        (wrapper, is_question) = closing_last(request.mood, around, phrases, rng);
    }
    let body = request.body.clone();
    let ends_with_mark = body.whole().ends_with(['?', '.', '!']);
    is_question |= body.whole().ends_with('?');
    core.extend(body.wrap(if ends_with_mark { "{}" } else { &wrapper }));
    let mut said = Said::default();
    if around == Around::Usual || around == Around::NotNegated {
        said.push(maybe(rng, 0.08, &phrases.greetings));
        said.push(maybe(rng, 0.05, &phrases.fillers));
        said.push(maybe(rng, 0.07, &phrases.chatter_before));
    }
    said.extend(core);
    if let Some(correction) = &request.afterthought {
        let mark = if is_question && !ends_with_mark { "? " } else { pick(rng, &[". ", "... ", ", ", " - "]) };
        said.push(if ends_with_mark { " " } else { mark }).extend(correction.clone());
    }
    for (i, extra) in request.extras.iter().enumerate() {
        let is_asked = is_question && request.afterthought.is_none() && i == 0;
        let mark = match (ends_with_mark && i == 0 && request.afterthought.is_none(), is_asked) {
            (true, _) => " ",
            (false, true) => pick(rng, &["? ", "; ", " - "]),
            (false, false) => pick(rng, &[", ", ". ", "; ", " - ", ", and ", ". "]),
        };
        said.push(mark).extend(extra.clone());
    }
    is_question &= request.extras.is_empty() && request.afterthought.is_none();
    if around == Around::Usual && !request.ends_open && !said.whole().ends_with(['?', '!']) {
        let after = maybe(rng, 0.06, &phrases.chatter_after);
        let thanks = if after.is_empty() { maybe(rng, 0.06, &phrases.thanks) } else { after };
        if !thanks.is_empty() {
            is_question = false;
        }
        said.push(thanks);
    }
    Utterance { said, is_question }
}

/// Words around a request, all of which precede it.
fn closing_last(mood: Mood, around: Around, phrases: &Phrases, rng: &mut ChaCha8Rng) -> (String, bool) {
    for _ in 0..20 {
        let (wrapper, is_question) = wrapper(mood, around, phrases, rng);
        if wrapper.ends_with("{}") {
            return (wrapper, is_question);
        }
    }
    ("{}".to_owned(), false)
}

fn wrapper(mood: Mood, around: Around, phrases: &Phrases, rng: &mut ChaCha8Rng) -> (String, bool) {
    let choose = |from: &[String], rng: &mut ChaCha8Rng| from.choose(rng).cloned().unwrap_or_else(|| "{}".to_owned());
    match (mood, around) {
        (Mood::Verb, Around::Usual) => match rng.random_range(0..10) {
            0..4 => ("{}".to_owned(), false),
            4..6 => (choose(&phrases.verb_questions, rng), true),
            _ => (choose(&phrases.verb_wrappers, rng), false),
        },
        (Mood::Noun, Around::Usual) => {
            let wrapper = if rng.random_bool(0.2) { "{}".to_owned() } else { choose(&phrases.noun_wrappers, rng) };
            let is_question = wrapper.ends_with('?');
            (wrapper.trim_end_matches('?').to_owned(), is_question)
        }
        (Mood::Sentence | Mood::List, _) => ("{}".to_owned(), false),
        (_, Around::NotNegated) => {
            let wrapper = choose(&phrases.not_negations, rng);
            let is_question = wrapper.ends_with('?');
            (wrapper.trim_end_matches('?').to_owned(), is_question)
        }
        (_, Around::Negated) => (choose(&phrases.negations, rng), false),
        (_, Around::TakenBack) => (choose(&phrases.taken_back, rng), false),
        (_, Around::Reported) => (choose(&phrases.reported, rng), false),
    }
}

/// Joins requests of the same mood into one sentence: `can you A, B and C?`
pub(super) fn utter_joined(requests: &[Request], phrases: &Phrases, rng: &mut ChaCha8Rng) -> Utterance {
    let joiner = phrases.joiners.choose(rng).map_or(" and ", String::as_str);
    let starts_sentence = joiner.contains('.');
    let mut body = Said::default();
    for (i, request) in requests.iter().enumerate() {
        if i > 0 {
            body.push(if i + 1 < requests.len() && !starts_sentence { ", " } else { joiner });
        }
        body.extend(request.body.clone());
    }
    let (wrapper, is_question) =
        if starts_sentence { ("{}".to_owned(), false) } else { wrapper(requests[0].mood, Around::Usual, phrases, rng) };
    let mut said = Said::default();
    said.push(maybe(rng, 0.06, &phrases.greetings)).push(maybe(rng, 0.04, &phrases.chatter_before));
    said.extend(requests[0].lead.clone()).extend(body.wrap(&wrapper));
    if !is_question {
        said.push(maybe(rng, 0.05, &phrases.thanks));
    }
    Utterance { said, is_question }
}
