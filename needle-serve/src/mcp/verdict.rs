//! Whether to make a routed call, by the model's confidence and by what the tool's server says
//! about the tool.

use serde::Serialize;

/// What to do with a routed answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// Make the calls.
    Act,
    /// Ask the user first.
    Confirm,
    /// Do not make the calls; let the large model decide.
    Refuse,
}

/// The two thresholds between the three verdicts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lines {
    /// From this confidence on, the verdict is [`Verdict::Act`].
    pub act_from: f64,
    /// Below this confidence, the verdict is [`Verdict::Refuse`].
    pub refuse_below: f64,
}

impl Default for Lines {
    fn default() -> Self {
        Self { act_from: 0.9, refuse_below: 0.5 }
    }
}

impl Lines {
    /// The verdict on `calls` calls, and why.
    pub fn verdict(&self, calls: usize, confidence: Option<f64>, is_destructive: bool) -> (Verdict, &'static str) {
        match confidence {
            _ if calls == 0 => (Verdict::Refuse, "no tool fits"),
            Some(sure) if sure < self.refuse_below => (Verdict::Refuse, "the model is not sure enough"),
            None => (Verdict::Confirm, "the model has no calibrated confidence"),
            _ if is_destructive => (Verdict::Confirm, "a tool is marked as destructive"),
            Some(sure) if sure < self.act_from => (Verdict::Confirm, "the model is not quite sure"),
            Some(_) => (Verdict::Act, "the model is sure"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sure_answer_of_harmless_tools_is_acted_on() {
        let verdict = |calls, confidence, is_destructive| Lines::default().verdict(calls, confidence, is_destructive).0;
        assert_eq!(verdict(1, Some(0.95), false), Verdict::Act);
        assert_eq!(verdict(1, Some(0.95), true), Verdict::Confirm);
        assert_eq!(verdict(1, Some(0.7), false), Verdict::Confirm);
        assert_eq!(verdict(1, None, false), Verdict::Confirm);
        assert_eq!(verdict(1, Some(0.3), true), Verdict::Refuse);
        assert_eq!(verdict(0, Some(0.99), false), Verdict::Refuse);
    }
}
