//! The kinds of value that a role can have, as the word lists name them.

use super::numbers::Span;

/// A kind of value, see `lexicon/roles.toml`.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// What identifies a thing among others of its kind; its form depends on the thing.
    Reference,
    /// One of the thing's own examples (goods).
    Item,
    /// Words from a pool, or others.
    Pool(String),
    Person,
    Organization,
    Title,
    Code,
    Label,
    Email,
    Phone,
    Url,
    Path,
    /// A made-up word or two.
    Made,
    /// A rare or made-up word in lower case.
    Rare,
    /// A name as in a database: `order_items`.
    Snake,
    Host,
    Dna,
    /// A square of the chessboard.
    Square,
    Team,
    /// A full date, which the call gives as YYYY-MM-DD.
    IsoDate,
    /// Free text: messages, notes.
    Text(String),
    /// A number that identifies something: `job 598`.
    Identifier(i64, i64),
    /// A number of things.
    Count(i64, i64),
    /// `lowest..highest` in hundredths, step in hundredths, and the unit's forms, the full plural
    /// first.
    Measure {
        lowest: i64,
        highest: i64,
        step: i64,
        units: Vec<String>,
    },
    Percent,
    Money(i64, i64),
    Duration(Vec<Span>),
    Time,
    Date,
    Choice(String),
    Flag,
    List(Box<Kind>),
}

impl Kind {
    /// Reads `count 2..40`, `measure 5..35/0.5 degrees,°C`, `choice priority`, `list pool place`,
    /// ...
    ///
    /// # Panics
    /// At an unknown kind: the word lists are embedded, and a test reads them all.
    #[expect(clippy::panic, reason = "the embedded files are checked by this crate's tests")]
    pub fn parse(text: &str) -> Self {
        let (name, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
        let range = |text: &str| {
            let (low, high) = text.split_once("..").unwrap_or((text, text));
            (hundredths(low), hundredths(high))
        };
        match name {
            "ref" => Self::Reference,
            "item" => Self::Item,
            "pool" => Self::Pool(rest.into()),
            "person" => Self::Person,
            "organization" => Self::Organization,
            "title" => Self::Title,
            "code" => Self::Code,
            "label" => Self::Label,
            "email" => Self::Email,
            "phone" => Self::Phone,
            "url" => Self::Url,
            "path" => Self::Path,
            "made" => Self::Made,
            "rare" => Self::Rare,
            "snake" => Self::Snake,
            "host" => Self::Host,
            "dna" => Self::Dna,
            "square" => Self::Square,
            "team" => Self::Team,
            "isodate" => Self::IsoDate,
            "text" => Self::Text(rest.into()),
            "identifier" => Self::Identifier(range(rest).0 / 100, range(rest).1 / 100),
            "count" => Self::Count(range(rest).0 / 100, range(rest).1 / 100),
            "measure" => {
                let (numbers, units) = rest.split_once(' ').unwrap_or((rest, ""));
                let (numbers, step) = numbers.split_once('/').unwrap_or((numbers, "1"));
                let (lowest, highest) = range(numbers);
                let units = units.split(',').map(str::trim).filter(|u| !u.is_empty()).map(str::to_owned).collect();
                Self::Measure { lowest, highest, step: hundredths(step), units }
            }
            "percent" => Self::Percent,
            "money" => Self::Money(range(rest).0, range(rest).1),
            "duration" => Self::Duration(rest.split(',').map(Span::parse).collect()),
            "time" => Self::Time,
            "date" => Self::Date,
            "choice" => Self::Choice(rest.into()),
            "flag" => Self::Flag,
            "list" => Self::List(Box::new(Self::parse(rest))),
            _ => panic!("{text:?} is not a kind of value"),
        }
    }

    /// The family of a kind. A tool has at most one role of a family, unless its action says
    /// otherwise: a sentence with two dates has to be written by hand.
    pub fn family(&self) -> Option<&'static str> {
        Some(match self {
            Self::Person | Self::Email | Self::Phone => "person",
            Self::Text(_) => "text",
            Self::Percent => "percent",
            Self::Money(..) => "money",
            Self::Duration(_) => "duration",
            Self::Time => "time",
            Self::Date => "date",
            Self::List(inner) => return inner.family(),
            Self::Pool(name) if name == "place" => "place",
            _ => return None,
        })
    }
}

#[expect(clippy::unwrap_used, reason = "the embedded files are checked by this crate's tests")]
fn hundredths(text: &str) -> i64 {
    (text.trim().parse::<f64>().unwrap() * 100.0).round() as i64
}
