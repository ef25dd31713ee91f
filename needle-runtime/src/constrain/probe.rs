//! Whether `llguidance` accepts a grammar. The test uses a vocabulary of single bytes, because the
//! result does not depend on the tokenization.

use std::sync::LazyLock;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv};
use llguidance::{Matcher, ParserFactory};

/// Limit on the work of compiling the regular expressions of a grammar, about a third of a second.
const LEXER_FUEL: u64 = 10_000_000;

/// A factory of parsers for the vocabulary of `env`.
///
/// # Errors
/// If the vocabulary cannot be used.
pub fn factory(env: &TokEnv) -> Result<ParserFactory, String> {
    let mut factory = ParserFactory::new_simple(env).map_err(first_line)?;
    factory.quiet();
    factory.limits_mut().initial_lexer_fuel = LEXER_FUEL;
    Ok(factory)
}

/// The matcher of `grammar`.
///
/// # Errors
/// If `llguidance` does not accept it; the message says why.
pub fn matcher(factory: &ParserFactory, grammar: String) -> Result<Matcher, String> {
    let parser = factory.create_parser(TopLevelGrammar::from_lark(grammar)).map_err(first_line)?;
    let matcher = Matcher::new(Ok(parser));
    match matcher.get_error() {
        Some(reason) => Err(first_line(reason)),
        None => Ok(matcher),
    }
}

/// Checks that `llguidance` accepts `grammar`.
///
/// # Errors
/// If it does not; the message says why.
pub fn takes(grammar: String) -> Result<(), String> {
    static BYTES: LazyLock<Result<ParserFactory, String>> =
        LazyLock::new(|| factory(&ApproximateTokEnv::single_byte_env()));
    let bytes = BYTES.as_ref().map_err(Clone::clone)?;
    matcher(bytes, grammar).map(drop)
}

/// The first line of a message of the crate, shortened: its messages continue with a dump of the
/// crate's state and with regular expressions of any length.
pub fn first_line(reason: impl std::fmt::Display) -> String {
    let reason = reason.to_string();
    let line = reason.lines().next().unwrap_or_default();
    match line.char_indices().nth(160) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}
