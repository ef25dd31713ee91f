//! The text of a request as a list of pieces. Each value that a call repeats verbatim is a piece
//! with a slot, so that a change to the sentence (capitals, lower case) changes the value in the
//! call, too.

use std::collections::BTreeMap;

/// Identifies one verbatim value of a request.
pub(super) type SlotId = u32;

/// A part of a request's text.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// The text itself.
    pub text: String,
    /// Set if a call repeats the text verbatim.
    pub slot: Option<SlotId>,
    /// True for values, verbatim or not: they are never misspelled.
    pub is_value: bool,
}

/// A text made of pieces.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Said(pub Vec<Piece>);

impl Said {
    /// Words of the sentence around the values.
    pub fn text(text: impl Into<String>) -> Self {
        Self(vec![Piece { text: text.into(), slot: None, is_value: false }])
    }

    /// A value that the call gives in another form, such as `half past five`.
    pub fn value(text: impl Into<String>) -> Self {
        Self(vec![Piece { text: text.into(), slot: None, is_value: true }])
    }

    /// A value that the call repeats.
    pub fn verbatim(text: impl Into<String>, slot: SlotId) -> Self {
        Self(vec![Piece { text: text.into(), slot: Some(slot), is_value: true }])
    }

    /// Appends words.
    pub fn push(&mut self, text: &str) -> &mut Self {
        if !text.is_empty() {
            self.0.push(Piece { text: text.into(), slot: None, is_value: false });
        }
        self
    }

    /// Appends another text.
    pub fn extend(&mut self, other: Self) -> &mut Self {
        self.0.extend(other.0);
        self
    }

    /// Inserts the text into `template` at `{}`.
    pub fn wrap(self, template: &str) -> Self {
        let (before, after) = template.split_once("{}").unwrap_or((template, ""));
        let mut said = Self::default();
        said.push(before).extend(self).push(after);
        said
    }

    /// The whole text.
    pub fn whole(&self) -> String {
        self.0.iter().map(|piece| piece.text.as_str()).collect()
    }

    /// The text of each verbatim value.
    pub fn slots(&self) -> BTreeMap<SlotId, &str> {
        self.0.iter().filter_map(|piece| piece.slot.map(|slot| (slot, piece.text.as_str()))).collect()
    }

    /// The first piece that is not blank.
    pub fn first_mut(&mut self) -> Option<&mut Piece> {
        self.0.iter_mut().find(|piece| !piece.text.trim().is_empty())
    }

    /// Capitalizes the first letter, even of a value: people write `Spokes are out, order ten`.
    pub fn capitalize(&mut self) {
        if let Some(piece) = self.first_mut() {
            piece.text = capitalized(&piece.text);
        }
    }
}

/// `word` with a capital first letter.
pub(super) fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}
