//! What is being said, piece by piece: a request grows by putting pieces together, and each value
//! that a call repeats word for word remembers where it stands, so that what happens to the
//! sentence (capitals, lower case) happens to the value too.

use std::collections::BTreeMap;

/// Names one verbatim value of a request.
pub(super) type SlotId = u32;

/// A stretch of a request.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Piece {
    /// What is said.
    pub text: String,
    /// Set where a call repeats the text word for word.
    pub slot: Option<SlotId>,
    /// True for values, said word for word or not: they are never misspelt.
    pub is_value: bool,
}

/// A stretch of a request made of pieces.
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

    /// Appends what another says.
    pub fn extend(&mut self, other: Self) -> &mut Self {
        self.0.extend(other.0);
        self
    }

    /// Puts what is said where `{}` stands in `template`.
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

    /// The first piece that says anything.
    pub fn first_mut(&mut self) -> Option<&mut Piece> {
        self.0.iter_mut().find(|piece| !piece.text.trim().is_empty())
    }

    /// Makes the first letter a capital, of a value too: people write `Spokes are out, order ten`.
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
