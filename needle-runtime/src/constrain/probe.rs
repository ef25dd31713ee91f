//! Whether `llguidance` takes a grammar at all, asked with a vocabulary of single bytes: what the
//! answer is does not depend on how a text is cut into tokens.

use std::sync::LazyLock;

use llguidance::api::TopLevelGrammar;
use llguidance::toktrie::{ApproximateTokEnv, TokEnv};
use llguidance::{Matcher, ParserFactory};

/// Work that the regular expressions of a grammar may cost before anything is written, a third of a
/// second of it.
const LEXER_FUEL: u64 = 10_000_000;

/// What makes parsers of answers in the vocabulary of `env`.
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
/// Why there is none.
pub fn matcher(factory: &ParserFactory, grammar: String) -> Result<Matcher, String> {
    let parser = factory.create_parser(TopLevelGrammar::from_lark(grammar)).map_err(first_line)?;
    let matcher = Matcher::new(Ok(parser));
    match matcher.get_error() {
        Some(reason) => Err(first_line(reason)),
        None => Ok(matcher),
    }
}

/// Whether there is a matcher of `grammar`.
///
/// # Errors
/// Why there is none.
pub fn takes(grammar: String) -> Result<(), String> {
    static BYTES: LazyLock<Result<ParserFactory, String>> =
        LazyLock::new(|| factory(&ApproximateTokEnv::single_byte_env()));
    let bytes = BYTES.as_ref().map_err(Clone::clone)?;
    matcher(bytes, grammar).map(drop)
}

/// The crate's messages go on with a dump of its state, and with regular expressions of any length.
pub fn first_line(reason: impl std::fmt::Display) -> String {
    let reason = reason.to_string();
    let line = reason.lines().next().unwrap_or_default();
    match line.char_indices().nth(160) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line.to_owned(),
    }
}
