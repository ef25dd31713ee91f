//! Strings as JSON text: which texts a shape allows, and the shortest completion of a partial one.
//!
//! Both come from the same automata of regular expressions that `llguidance` uses, so that the
//! completions planned here are texts that the grammar allows.

use std::collections::{HashMap, VecDeque};
use std::sync::{LazyLock, Mutex, PoisonError};

use llguidance::derivre::{JsonQuoteOptions, Regex, RegexAst, RegexBuilder, StateID};
use llguidance::regex_to_lark;
use llguidance::substring::substring;
use serde_json::{Value, json};

use super::grounding::pieces;
use super::probe;
use super::shape::StringShape;
use super::weaken::Holding;

/// One character of a JSON string.
const CHAR: &str = r#"([^"\\\x00-\x1F\x7F]|\\["\\bfnrt]|\\u00[01][0-9a-fA-F])"#;
/// Maximum number of states that are searched for the end of a string.
const MAX_STATES: usize = 5000;
/// Limit on the work of compiling one regular expression.
const FUEL: u64 = 500_000;
/// Number of shapes for which the result of [`holding`] is cached.
const CACHED_SHAPES: usize = 4096;

/// The regular expression of a string without patterns, including the quotes.
pub fn plain_regex(shape: &StringShape) -> String {
    match (shape.min_chars, shape.max_chars) {
        (0, None) => format!("\"{CHAR}*\""),
        (min, None) => format!("\"{CHAR}{{{min},}}\""),
        (min, Some(max)) => format!("\"{CHAR}{{{min},{max}}}\""),
    }
}

/// The regular expression of a non-empty string without inner quotes that neither begins nor ends
/// with a space.
pub const TRIMMED: &str = r#""[^" ]([^"\n]*[^" ])?""#;

/// The pieces of `query`, escaped for JSON, of which a copied string is a run: words, and the
/// single characters between them.
pub fn chunks(query: &str) -> Vec<String> {
    let escaped = |chunk: String| {
        let quoted = serde_json::Value::from(chunk).to_string();
        quoted[1..quoted.len() - 1].to_owned()
    };
    pieces(query).into_iter().map(escaped).collect()
}

/// True if a grammar can express the regular expression `pattern`: one without look-around and
/// back-references.
pub fn is_grammatical(pattern: &str) -> bool {
    let shape = StringShape { patterns: vec![pattern.to_owned()], ..StringShape::default() };
    holding(&shape) == Holding::Held
}

/// The schema of a shape with patterns, for `llguidance`'s own JSON-schema compiler.
pub fn json_schema(shape: &StringShape) -> Value {
    let mut schema = json!({"type": "string", "minLength": shape.min_chars});
    if let Some(max) = shape.max_chars {
        schema["maxLength"] = max.into();
    }
    schema["allOf"] = shape.patterns.iter().map(|pattern| json!({"type": "string", "pattern": pattern})).collect();
    schema["x-guidance"] = json!({"whitespace_flexible": false});
    schema
}

/// Whether a grammar can express strings of `shape`, ignoring whether they must be copied.
pub fn holding(shape: &StringShape) -> Holding {
    static KNOWN: LazyLock<Mutex<HashMap<StringShape, Holding>>> = LazyLock::new(Mutex::default);
    let shape = StringShape { is_copied: false, ..shape.clone() };
    if shape == StringShape::default() {
        return Holding::Held;
    }
    // A panic while the lock was held cannot have damaged the cache.
    if let Some(known) = KNOWN.lock().unwrap_or_else(PoisonError::into_inner).get(&shape) {
        return known.clone();
    }
    let holding = compiled_holding(&shape);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if known.len() >= CACHED_SHAPES {
        known.clear();
    }
    known.insert(shape, holding.clone());
    holding
}

fn compiled_holding(shape: &StringShape) -> Holding {
    let too_large = || Holding::TooHard("its regular expression is too large for a grammar".to_owned());
    let Some(mut automaton) = Automaton::new(shape, "") else { return too_large() };
    let start = automaton.regex.initial_state();
    match automaton.search(start) {
        Search::Found(_) => {}
        Search::Nothing => return Holding::Nothing,
        Search::TooFar => return too_large(),
    }
    let grammar = match shape.patterns.is_empty() {
        true => format!("start: TEXT\nTEXT: /{}/\n", plain_regex(shape).replace('/', "\\/")),
        false => format!("start: j\nj: %json {}\n", json_schema(shape)),
    };
    match probe::takes(grammar) {
        Ok(()) => Holding::Held,
        Err(reason) => Holding::TooHard(format!("a grammar cannot express its keywords together: {reason}")),
    }
}

fn ast(shape: &StringShape) -> RegexAst {
    if shape.patterns.is_empty() {
        return RegexAst::Regex(plain_regex(shape));
    }
    let mut all: Vec<RegexAst> =
        shape.patterns.iter().map(|pattern| RegexAst::SearchRegex(regex_to_lark(pattern, "dw"))).collect();
    if shape.min_chars > 0 || shape.max_chars.is_some() {
        let max = shape.max_chars.map(|max| max.to_string()).unwrap_or_default();
        all.push(RegexAst::Regex(format!("(?s:.{{{},{max}}})", shape.min_chars)));
    }
    let escapes = JsonQuoteOptions { allowed_escapes: "nrbtf\\\"u".to_owned(), raw_mode: false };
    RegexAst::JsonQuote(Box::new(RegexAst::And(all)), escapes)
}

/// Result of the search from a state.
enum Search {
    /// The shortest text that leads to an accepting state.
    Found(Vec<u8>),
    /// No accepting state can be reached.
    Nothing,
    /// No accepting state among the first `MAX_STATES` states.
    TooFar,
}

/// The automaton of one shape.
struct Automaton {
    regex: Regex,
    /// The shortest end from each state, once it was searched.
    ends: HashMap<StateID, Option<Vec<u8>>>,
}

impl Automaton {
    fn new(shape: &StringShape, query: &str) -> Option<Self> {
        let mut builder = RegexBuilder::new();
        let mut expression = builder.mk(&ast(shape)).ok()?;
        if shape.is_copied && shape.patterns.is_empty() {
            let chunks = chunks(query);
            let words = substring(&mut builder, chunks.iter().map(String::as_str).collect()).ok()?;
            let quote = || RegexAst::Literal("\"".to_owned());
            let quoted = RegexAst::Concat(vec![quote(), RegexAst::ExprRef(words), quote()]);
            let trimmed = RegexAst::Regex(TRIMMED.to_owned());
            expression = builder.mk(&RegexAst::And(vec![RegexAst::ExprRef(expression), quoted, trimmed])).ok()?;
        }
        let regex = builder.into_regex_limited(expression, FUEL).ok()?;
        Some(Self { regex, ends: HashMap::new() })
    }

    fn accepts(&mut self, text: &[u8]) -> bool {
        self.regex.is_match_bytes(text)
    }

    fn completion(&mut self, partial: &[u8]) -> Option<Vec<u8>> {
        let start = self.regex.initial_state();
        let state = self.regex.transition_bytes(start, partial);
        if let Some(known) = self.ends.get(&state) {
            return known.clone();
        }
        let end = match self.search(state) {
            Search::Found(end) => Some(end),
            Search::Nothing | Search::TooFar => None,
        };
        self.ends.insert(state, end.clone());
        end
    }

    /// Breadth-first search for the fewest bytes to an accepting state.
    fn search(&mut self, from: StateID) -> Search {
        let mut came_from: HashMap<StateID, (StateID, u8)> = HashMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(state) = queue.pop_front() {
            if self.regex.is_accepting(state) {
                let mut bytes = Vec::new();
                let mut at = state;
                while at != from {
                    let (before, byte) = came_from[&at];
                    bytes.push(byte);
                    at = before;
                }
                bytes.reverse();
                return Search::Found(bytes);
            }
            if came_from.len() > MAX_STATES {
                return Search::TooFar;
            }
            for byte in b' '..=0xF4 {
                let next = self.regex.transition(state, byte);
                if !next.is_dead() && next != from && !came_from.contains_key(&next) {
                    came_from.insert(next, (state, byte));
                    queue.push_back(next);
                }
            }
        }
        Search::Nothing
    }
}

/// The automata of all string shapes of a grammar.
#[derive(Default)]
pub struct Strings {
    query: String,
    automata: HashMap<StringShape, Option<Mutex<Automaton>>>,
}

impl Strings {
    /// The automata for answers to `query`.
    pub fn new(query: &str) -> Self {
        Self { query: query.to_owned(), automata: HashMap::new() }
    }

    /// Builds the automaton of `shape`.
    pub fn add(&mut self, shape: &StringShape) {
        if !self.automata.contains_key(shape) {
            let automaton = Automaton::new(shape, &self.query).map(Mutex::new);
            self.automata.insert(shape.clone(), automaton);
        }
    }

    /// The text that completes `partial`, the beginning of a JSON string with its quote, to a
    /// string of `shape`; `None` if nothing does.
    pub fn completion(&self, shape: &StringShape, partial: &[u8]) -> Option<Vec<u8>> {
        self.with(shape, |automaton| automaton.completion(partial)).flatten()
    }

    /// True if `text`, a JSON string with its quotes, has this `shape`.
    pub fn accepts(&self, shape: &StringShape, text: &[u8]) -> bool {
        self.with(shape, |automaton| automaton.accepts(text)).unwrap_or(false)
    }

    fn with<T>(&self, shape: &StringShape, f: impl FnOnce(&mut Automaton) -> T) -> Option<T> {
        let automaton = self.automata.get(shape)?.as_ref()?;
        // A panic while the lock was held cannot have damaged the cache.
        Some(f(&mut automaton.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}
