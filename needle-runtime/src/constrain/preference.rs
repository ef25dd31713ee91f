//! Which tool to call, as the retrieval head sees it.
//!
//! A small decoder copies values well before it has learned to choose among tools that it never
//! saw; the retrieval head, which compares one query with one tool, learns that from fewer
//! examples. Where a name is written, the logarithm of the head's probability of each tool is
//! therefore added to the decoder's logits: a product of two experts, which leaves everything else
//! of the answer alone.

use needle_data::Tool;
use needle_data::text::names::NameMap;
use serde_json::Value;

/// How an answer's call begins.
const CALL: &[u8] = br#"{"name":"#;
/// Temperature of the cosines: that of the contrastive loss when training begins.
const TEMPERATURE: f32 = 0.07;

/// Probabilities of the tools on offer.
#[derive(Debug, Clone)]
pub struct Preference {
    /// The JSON text of each name, and its tool's odds.
    tools: Vec<(Vec<u8>, f32)>,
}

impl Preference {
    /// By the `cosines` of the query and each of `tools`; the logarithms of the odds count `weight`
    /// times.
    pub fn new(tools: &[Tool], cosines: &[f32], weight: f32) -> Self {
        let names = NameMap::of(tools);
        let largest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let odds = cosines.iter().map(|cosine| (weight * (cosine - largest) / TEMPERATURE).exp());
        let tools =
            odds.enumerate().map(|(i, odds)| (Value::from(names.inner(i)).to_string().into_bytes(), odds)).collect();
        Self { tools }
    }

    /// Adds to the logits of the tokens that go on with a name. `written` is the answer so far;
    /// `bytes` are those of a token.
    pub fn add<'a>(&self, written: &[u8], bytes: impl Fn(u32) -> &'a [u8], logits: &mut [f32]) {
        let Some(name) = open_name(written) else { return };
        let possible = self.odds(name, b"").max(f32::MIN_POSITIVE);
        for (id, logit) in logits.iter_mut().enumerate() {
            if *logit > f32::MIN {
                let share = self.odds(name, bytes(id as u32)) / possible;
                // A token that ends no name and begins none is not the preference's to judge.
                *logit += share.max(f32::MIN_POSITIVE).ln();
            }
        }
    }

    /// The odds of all tools whose name's text goes on with `next` after `begun`.
    fn odds(&self, begun: &[u8], next: &[u8]) -> f32 {
        let goes_on = |text: &[u8]| {
            let rest = text.strip_prefix(begun);
            // A token may hold the end of the name and more.
            rest.is_some_and(|rest| rest.starts_with(next) || next.starts_with(rest))
        };
        self.tools.iter().filter(|(text, _)| goes_on(text)).map(|(_, odds)| odds).sum()
    }
}

/// What is written of the JSON text of a call's name that has not ended; it may be nothing yet.
fn open_name(written: &[u8]) -> Option<&[u8]> {
    let (mut depth, mut is_in_string, mut is_escaped, mut call) = (0_usize, false, false, 0);
    for (i, &byte) in written.iter().enumerate() {
        match (is_in_string, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => is_in_string = !is_in_string,
            (false, b'[' | b'{') => {
                depth += 1;
                // A list of calls holds objects at this depth and nothing else.
                if depth == 2 {
                    call = i;
                }
            }
            (false, b']' | b'}') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    let name = (depth == 2).then(|| written[call..].strip_prefix(CALL)).flatten()?;
    let has_ended = !is_in_string && !name.is_empty();
    (!has_ended).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_name_is_open_between_its_quotes_and_nowhere_else() {
        for (written, expected) in [
            (r#" [{"name":"#, Some("")),
            (r#" [{"name":""#, Some("\"")),
            (r#" [{"name":"set_"#, Some("\"set_")),
            (r#" [{"name":"set\"x"#, Some("\"set\\\"x")),
            (r#" [{"name":"set""#, None),
            (r#" [{"name":"x","arguments":{"name":"a"#, None),
            (r#" [{"name":"x","arguments":{"list":[{"name":"a"#, None),
            (r#" [{"name":"x","arguments":{"text":"}},{\"name\":\"a"#, None),
            (r#" [{"name":"x","arguments":{}},{"name":"y"#, Some("\"y")),
            (" [", None),
            ("", None),
            (" []", None),
        ] {
            assert_eq!(open_name(written.as_bytes()), expected.map(str::as_bytes), "{written}");
        }
    }

    #[test]
    fn the_likelier_tool_gains_on_the_other_at_each_token_of_its_name_and_nowhere_else() {
        let tools =
            Tool::list_from_json(&json!([{"name": "set_timer"}, {"name": "set_alarm"}, {"name": "x"}])).unwrap();
        let preference = Preference::new(&tools, &[0.9, 0.83, 0.2], 1.0);
        let tokens: [&[u8]; 6] = [b"set", b"_timer", b"_alarm\",\"", b"x", b"timer", b"\""];
        let after = |written: &str| {
            let mut logits = vec![0.0; tokens.len()];
            logits[4] = f32::NEG_INFINITY;
            preference.add(written.as_bytes(), |id| tokens[id as usize], &mut logits);
            logits
        };
        let first = after(r#" [{"name":""#);
        assert!(first[0].abs() < 0.01 && first[3] < -5.0, "{first:?}");
        let second = after(r#" [{"name":"set"#);
        assert!((second[1] - second[2] - 1.0).abs() < 1e-3, "a cosine of 0.07 more is e times likelier: {second:?}");
        assert_eq!(second[4], f32::NEG_INFINITY, "what is forbidden stays so");
        for elsewhere in [r#" [{"name":"set_timer","arguments":{"#, " ["] {
            assert!(after(elsewhere).iter().all(|logit| *logit == 0.0 || *logit == f32::NEG_INFINITY));
        }
    }
}
