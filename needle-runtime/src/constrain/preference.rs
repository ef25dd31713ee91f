//! The retrieval head's preference among the offered tools.
//!
//! A small decoder copies values well long before it chooses well among unseen tools. The retrieval
//! head, which compares one query with one tool, learns the choice from fewer examples. While a
//! tool's name is written, the logarithm of the head's probability of each tool is therefore added
//! to the decoder's logits (a product of experts). The rest of the answer is not affected.

use needle_data::Tool;
use needle_data::text::names::NameMap;
use serde_json::Value;

/// The text at the beginning of a call.
const CALL: &[u8] = br#"{"name":"#;
/// Temperature of the cosines: the initial temperature of the contrastive loss in training.
const TEMPERATURE: f32 = 0.07;

/// Odds of the offered tools.
#[derive(Debug, Clone)]
pub struct Preference {
    /// The JSON text of each tool's name, and the tool's odds.
    tools: Vec<(Vec<u8>, f32)>,
}

impl Preference {
    /// The preference that follows from the `cosines` between the query and each of `tools`. The
    /// logarithms of the odds are multiplied by `weight`.
    pub fn new(tools: &[Tool], cosines: &[f32], weight: f32) -> Self {
        let names = NameMap::of(tools);
        let largest = cosines.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let odds = cosines.iter().map(|cosine| (weight * (cosine - largest) / TEMPERATURE).exp());
        let tools =
            odds.enumerate().map(|(i, odds)| (Value::from(names.inner(i)).to_string().into_bytes(), odds)).collect();
        Self { tools }
    }

    /// Adds the preference to the logits of tokens that continue a tool's name. `written` is the
    /// answer so far; `bytes` returns the bytes of a token.
    pub fn add<'a>(&self, written: &[u8], bytes: impl Fn(u32) -> &'a [u8], logits: &mut [f32]) {
        let Some(name) = open_name(written) else { return };
        let possible = self.odds(name, b"").max(f32::MIN_POSITIVE);
        for (id, logit) in logits.iter_mut().enumerate() {
            if *logit > f32::MIN {
                let share = self.odds(name, bytes(id as u32)) / possible;
                // A token that continues no offered name gets a tiny share instead of a logit of
                // minus infinity.
                *logit += share.max(f32::MIN_POSITIVE).ln();
            }
        }
    }

    /// The total odds of the tools whose name continues with `next` after `begun`.
    fn odds(&self, begun: &[u8], next: &[u8]) -> f32 {
        let goes_on = |text: &[u8]| {
            let rest = text.strip_prefix(begun);
            // A token may contain the end of the name and more.
            rest.is_some_and(|rest| rest.starts_with(next) || next.starts_with(rest))
        };
        self.tools.iter().filter(|(text, _)| goes_on(text)).map(|(_, odds)| odds).sum()
    }
}

/// The part of an unfinished tool name that is written so far, as JSON text (maybe empty); `None`
/// outside of a name.
fn open_name(written: &[u8]) -> Option<&[u8]> {
    let (mut depth, mut is_in_string, mut is_escaped, mut call) = (0_usize, false, false, 0);
    for (i, &byte) in written.iter().enumerate() {
        match (is_in_string, byte) {
            (true, _) if is_escaped => is_escaped = false,
            (true, b'\\') => is_escaped = true,
            (_, b'"') => is_in_string = !is_in_string,
            (false, b'[' | b'{') => {
                depth += 1;
                // At this depth, a list of calls contains only objects.
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
    fn the_likelier_tool_is_preferred_at_each_token_of_its_name_and_nowhere_else() {
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
        assert!(
            (second[1] - second[2] - 1.0).abs() < 1e-3,
            "a cosine that is 0.07 larger is e times as likely: {second:?}"
        );
        assert_eq!(second[4], f32::NEG_INFINITY, "a forbidden token stays forbidden");
        for elsewhere in [r#" [{"name":"set_timer","arguments":{"#, " ["] {
            assert!(after(elsewhere).iter().all(|logit| *logit == 0.0 || *logit == f32::NEG_INFINITY));
        }
    }
}
