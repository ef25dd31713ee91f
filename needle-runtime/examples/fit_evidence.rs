//! Fits the weights of [`needle_runtime::answer::evidence`] on examples that the model has not seen
//! in training.
//!
//! ```text
//! cargo run --release -p needle-runtime --example fit_evidence -- MODEL_DIR EXAMPLES.jsonl [TEST.jsonl..]
//! ```
//!
//! Each example's greedy answer, eight answers that fork off it and up to eight revisions of it (by
//! the weights of the code) are decoded. The weights maximize the log-likelihood of choosing an
//! exact answer where there is one, otherwise the nearest to it: one with the right tools, or one
//! that calls something where something is to be called (a conditional log-linear model), with a
//! Gaussian prior. They are printed together with the share of exact answers among the examples, by
//! two-fold cross-validation, and among those of other files.

#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a program for measuring, not a library")]

use needle_data::source::{BadRows, load_examples};
use needle_data::text::example::parse_answers;
use needle_data::text::names::NameMap;
use needle_data::{Call, Example};
use needle_runtime::answer::evidence::{FEATURES, NUM, Request};
use needle_runtime::constrain::copying::Values;
use needle_runtime::constrain::search::{Fork, Search, log_prob};
use needle_runtime::constrain::{Asked, Constrainer};
use needle_runtime::generate::{Generated, NoHook};
use needle_runtime::network::KeptPrompt;
use needle_runtime::{AnswerConfig, Needle, Options};

/// Number of forks off each greedy answer. They are improbable ones, too, so that the weight of the
/// log-probability can be learned.
const FORKS: usize = 8;
/// Number of revisions of each greedy answer.
const REVISIONS: usize = 8;
/// Weight of an example without an exact answer.
const INEXACT_WEIGHT: f64 = 0.5;
/// Precision of the prior of a weight, for features with a standard deviation of 1.
const PULL: f64 = 1.0;
const STEPS: usize = 400;
const RATE: f64 = 0.1;
const MAX_TOKENS: usize = 160;

/// How near an answer is to the right one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Nearness {
    Far,
    /// It calls something, as it should.
    Calls,
    /// It calls the right tools.
    RightTools,
    Exact,
}

/// The answers to one example, the greedy one first.
type Answers = Vec<([f64; NUM], Nearness)>;

fn nearness(calls: &[Call], right: &[Call]) -> Nearness {
    let names = |calls: &[Call]| {
        let mut names: Vec<String> = calls.iter().map(|call| call.name.clone()).collect();
        names.sort();
        names
    };
    if calls == right {
        Nearness::Exact
    } else if names(calls) == names(right) {
        Nearness::RightTools
    } else if !calls.is_empty() && !right.is_empty() {
        Nearness::Calls
    } else {
        Nearness::Far
    }
}

fn answers(needle: &Needle, constrainer: &Constrainer, example: &Example) -> Answers {
    let config = AnswerConfig::default();
    let asked = Asked {
        query: &example.query,
        tools: &example.tools,
        values: &Values::Free,
        min_calls: config.min_calls,
        max_calls: config.max_calls,
        max_tokens: MAX_TOKENS,
    };
    let constraint = constrainer.compile(&asked).unwrap();
    let prompt = KeptPrompt::new(needle.encoder().prompt(&example.query, &example.tools).0);
    let mut no_hook = NoHook;
    let mut search = Search::new(vec![constraint.clone()], &mut no_hook);
    let greedy = needle.network().generate_kept(&[&prompt], MAX_TOKENS, &mut search).unwrap().remove(0);
    let request = Request::new(&example.query, &example.tools, needle.tokenizer());
    let read = |answer: &Generated| {
        let calls = calls(needle, answer, example)?;
        let evidence = request.evidence(&calls, log_prob(answer), answer.ids.len());
        Some((evidence.features(), nearness(&calls, &example.answers)))
    };
    let mut forks = search.forks(0, &greedy, FORKS, f32::INFINITY);
    let revisions = request.revisions(&calls(needle, &greedy, example).unwrap_or_default(), REVISIONS);
    let ids = needle.encoder().answer_ids(&example.query, &example.tools, revisions);
    forks.extend(ids.into_iter().map(Fork::of_answer));
    let mut no_hook = NoHook;
    let mut again = Search::from_forks(&constraint, &forks, &mut no_hook);
    let others = needle.network().generate_kept(&vec![&prompt; forks.len()], MAX_TOKENS, &mut again).unwrap();
    let mut all: Vec<_> = read(&greedy).into_iter().collect();
    for (i, (fork, other)) in forks.into_iter().zip(others).enumerate() {
        if again.error(i).is_none() {
            all.extend(read(&again.complete(i, fork, other)));
        }
    }
    all
}

fn calls(needle: &Needle, answer: &Generated, example: &Example) -> Option<Vec<Call>> {
    let text = needle.tokenizer().decode(&answer.ids);
    let calls = parse_answers(Some(&serde_json::from_str(&text).ok()?)).ok()?;
    let names = NameMap::of(&example.tools);
    Some(calls.into_iter().map(|call| Call { name: names.to_outer(&call.name).to_owned(), ..call }).collect())
}

fn score(weights: &[f64; NUM], features: &[f64; NUM]) -> f64 {
    weights.iter().zip(features).map(|(weight, feature)| weight * feature).sum()
}

/// Share of examples whose best answer is exact.
fn exact(weights: &[f64; NUM], examples: &[Answers]) -> f64 {
    let is_exact = |answers: &&Answers| {
        let best = answers.iter().reduce(|a, b| if score(weights, &b.0) > score(weights, &a.0) { b } else { a });
        best.is_some_and(|(_, nearness)| *nearness == Nearness::Exact)
    };
    examples.iter().filter(is_exact).count() as f64 / examples.len().max(1) as f64
}

/// The maximum a posteriori estimate, by Adam on all examples.
fn fit(examples: &[Answers]) -> [f64; NUM] {
    let all: Vec<&[f64; NUM]> = examples.iter().flatten().map(|(features, _)| features).collect();
    let n = all.len() as f64;
    let mut deviations = [0.0; NUM];
    for (i, deviation) in deviations.iter_mut().enumerate() {
        let mean = all.iter().map(|features| features[i]).sum::<f64>() / n;
        *deviation = (all.iter().map(|features| (features[i] - mean).powi(2)).sum::<f64>() / n).sqrt().max(1e-6);
    }
    let nearest = |answers: &Answers| answers.iter().map(|(_, nearness)| *nearness).max();
    let undecided = |answers: &&Answers| answers.iter().any(|(_, nearness)| Some(*nearness) != nearest(answers));
    let undecided: Vec<&Answers> = examples.iter().filter(undecided).collect();
    let count = undecided.len() as f64;
    let (mut weights, mut mean, mut square) = ([0.0; NUM], [0.0_f64; NUM], [0.0_f64; NUM]);
    for step in 1..=STEPS {
        let mut gradient: [f64; NUM] = std::array::from_fn(|i| -PULL * weights[i] * deviations[i] / count);
        for answers in &undecided {
            let nearest = nearest(answers).unwrap_or(Nearness::Far);
            let weight = if nearest == Nearness::Exact { 1.0 } else { INEXACT_WEIGHT };
            let scores: Vec<f64> = answers.iter().map(|(features, _)| score(&weights, features)).collect();
            let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let odds: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
            let total: f64 = odds.iter().sum();
            let is_right = |(_, nearness): &([f64; NUM], Nearness)| *nearness == nearest;
            let right: f64 = odds.iter().zip(answers.iter()).filter(|(_, a)| is_right(a)).map(|(odds, _)| odds).sum();
            for (answer, odds) in answers.iter().zip(&odds) {
                let share = if is_right(answer) { odds / right.max(f64::MIN_POSITIVE) } else { 0.0 } - odds / total;
                for i in 0..NUM {
                    gradient[i] += weight * share * answer.0[i] / deviations[i] / count;
                }
            }
        }
        for i in 0..NUM {
            mean[i] = 0.9 * mean[i] + 0.1 * gradient[i];
            square[i] = 0.999 * square[i] + 0.001 * gradient[i].powi(2);
            let (mean, square) =
                (mean[i] / (1.0 - 0.9_f64.powi(step as i32)), square[i] / (1.0 - 0.999_f64.powi(step as i32)));
            weights[i] += RATE * mean / (square.sqrt() + 1e-8) / deviations[i];
        }
    }
    weights
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let needle = Needle::load_with(&arguments[0], &Options { threads: 1, ..Options::default() }).unwrap();
    let constrainer = Constrainer::new(needle.tokenizer()).unwrap();
    let decode = |file: &String| -> Vec<Answers> {
        let (examples, _) = load_examples(&[file], BadRows::Fail).unwrap();
        examples.iter().map(|example| answers(&needle, &constrainer, example)).collect()
    };
    let report = |name: &str, weights: &[f64; NUM], examples: &[Answers]| {
        let share = |is: &dyn Fn(&Answers) -> bool| {
            examples.iter().filter(|answers| is(answers)).count() as f64 / examples.len().max(1) as f64
        };
        let greedy = share(&|answers| answers.first().is_some_and(|(_, is)| *is == Nearness::Exact));
        let any = share(&|answers| answers.iter().any(|(_, is)| *is == Nearness::Exact));
        let decoded = examples.iter().map(Vec::len).sum::<usize>() as f64 / examples.len().max(1) as f64;
        println!(
            "{name}: {} examples, {decoded:.1} answers each; exact match {greedy:.3} greedy, {:.3} chosen, {any:.3} if the best were known",
            examples.len(),
            exact(weights, examples)
        );
    };
    let examples = decode(&arguments[1]);
    let (one, other) = examples.split_at(examples.len() / 2);
    report("first half, fitted on the second", &fit(other), one);
    report("second half, fitted on the first", &fit(one), other);
    let weights = fit(&examples);
    for file in &arguments[2..] {
        let answers = decode(file);
        report(file, &weights, &answers);
        report("  with the weights of the code", &FEATURES.map(|(_, weight)| weight), &answers);
    }
    for ((name, _), weight) in FEATURES.iter().zip(weights) {
        println!("    (\"{name}\", {weight:.3}),");
    }
}
