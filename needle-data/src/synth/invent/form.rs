//! The form in which a parameter takes its value, and how a value in that form is said.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::Value;

use super::coin;
use super::lexicon::{Domain, Lexicon, Thing};
use super::numbers::{self, Span};
use super::said::{Said, SlotId};
use crate::synth::values::{self, pick};
use crate::synth::{Part, is_reserved};

/// The source of an example's words.
pub(super) struct Source<'a> {
    pub lexicon: &'a Lexicon,
    pub part: Part,
    pub next_slot: SlotId,
}

impl Source<'_> {
    fn slot(&mut self) -> SlotId {
        self.next_slot += 1;
        self.next_slot
    }
}

/// Where an open string comes from.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Words {
    /// These values, where a leading `~` marks those that are said with an article; also made-up
    /// ones, if `is_open`.
    Pool {
        values: Vec<String>,
        is_open: bool,
    },
    /// `strips_title`: the tool takes the name without Mr, Dr and the like.
    Person {
        strips_title: bool,
    },
    Organization,
    Title,
    Code,
    Label,
    Email,
    Phone,
    Url,
    Path,
    Rare,
    Snake,
    Host,
    Dna,
    Square,
    Team,
    /// `is_free`: arbitrary sentences, as opposed to a topic of a few words.
    Text {
        templates: Vec<String>,
        is_free: bool,
    },
    Time,
    Day,
}

/// The form of a parameter's value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Form {
    /// A string that the call repeats.
    Verbatim(Words),
    Identifier {
        lowest: i64,
        highest: i64,
    },
    Count {
        lowest: i64,
        highest: i64,
    },
    Measure {
        lowest: i64,
        highest: i64,
        step: i64,
        units: Vec<String>,
    },
    Percent,
    Money {
        lowest: i64,
        highest: i64,
        currency: String,
    },
    Duration(Span),
    Time {
        hours: Option<(u32, u32)>,
    },
    IsoDate,
    /// The values with their wordings, and wordings of values that the tool does not know.
    Choice {
        options: Vec<(Value, Vec<String>)>,
        unknown: Vec<String>,
    },
    Flag,
    List(Box<Form>),
}

/// An argument of the call.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Argument {
    Fixed(Value),
    /// The text of this slot.
    Said(SlotId),
    /// A list of either.
    List(Vec<Argument>),
}

/// A value and its wording.
#[derive(Debug, Clone)]
pub(super) struct Filled {
    pub said: Said,
    pub argument: Argument,
    /// The preposition of the value: `on ` before `Tuesday`.
    pub before: &'static str,
    /// True if the counted noun is in the plural.
    pub is_plural: bool,
}

impl Filled {
    fn fixed(said: String, value: impl Into<Value>) -> Self {
        let argument = Argument::Fixed(value.into());
        Self { said: Said::value(said), argument, before: "", is_plural: true }
    }
}

/// A JSON number: an integer if `value` has no fraction.
pub(super) fn number(value: f64) -> Value {
    if value.fract() == 0.0 { Value::from(value as i64) } else { Value::from(value) }
}

impl Form {
    /// The JSON type.
    pub fn json_type(&self) -> &'static str {
        match self {
            Self::Verbatim(_) | Self::Time { .. } | Self::IsoDate => "string",
            Self::Identifier { .. } | Self::Count { .. } | Self::Percent => "integer",
            Self::Measure { lowest, highest, step, .. } => {
                if [lowest, highest, step].iter().all(|n| **n % 100 == 0) {
                    "integer"
                } else {
                    "number"
                }
            }
            Self::Money { .. } => "number",
            Self::Duration(span) => {
                if *span == Span::Hours {
                    "number"
                } else {
                    "integer"
                }
            }
            Self::Choice { options, .. } => {
                if options.iter().all(|o| o.0.is_i64()) {
                    "integer"
                } else {
                    "string"
                }
            }
            Self::Flag => "boolean",
            Self::List(_) => "array",
        }
    }

    /// Draws a value and its wording; `before_noun` if the counted noun follows.
    pub fn fill(&self, source: &mut Source, rng: &mut ChaCha8Rng, before_noun: bool) -> Option<Filled> {
        Some(match self {
            Self::Verbatim(words) => words.fill(source, rng)?,
            Self::Identifier { lowest, highest } => {
                let n = rng.random_range(*lowest..=*highest);
                Filled::fixed(numbers::identifier(rng, n as u64), n)
            }
            Self::Count { lowest, highest } => {
                let n = skewed(rng, *lowest, *highest);
                let said = numbers::count(rng, n as u64, before_noun);
                Filled { is_plural: n != 1, ..Filled::fixed(said, n) }
            }
            Self::Measure { lowest, highest, step, units } => {
                let n = lowest + step * rng.random_range(0..=(highest - lowest) / step);
                let said = numbers::measure(rng, n, units, false);
                Filled::fixed(said.said, number(said.value))
            }
            Self::Percent => {
                let n = percentage(rng);
                Filled::fixed(numbers::percent(rng, n), n)
            }
            Self::Money { lowest, highest, currency } => {
                let cents = skewed(rng, (*lowest / 100).max(1), *highest / 100) * 100;
                let cents =
                    if rng.random_bool(0.25) { cents + pick(rng, &[50, 99, 95, 25, 75, 90, 49]) } else { cents };
                let said = numbers::money(rng, cents as u64, currency);
                Filled::fixed(said.said, number(said.value))
            }
            Self::Duration(span) => {
                let said = numbers::duration(rng, *span);
                Filled::fixed(said.said, number(said.value))
            }
            Self::Time { hours } => {
                let (said, value) = numbers::time(rng, *hours);
                Filled { before: "at ", ..Filled::fixed(said, value) }
            }
            Self::IsoDate => {
                let (said, value) = numbers::iso_date(rng);
                Filled { before: "on ", ..Filled::fixed(said, value) }
            }
            Self::Choice { options, .. } => {
                let (value, said) = options.choose(rng)?;
                Filled::fixed(said.choose(rng)?.clone(), value.clone())
            }
            Self::Flag => return None,
            Self::List(inner) => inner.fill_list(source, rng)?,
        })
    }

    /// Several values as a list in the sentence: `bed 4, bed 7 and the orchard`.
    fn fill_list(&self, source: &mut Source, rng: &mut ChaCha8Rng) -> Option<Filled> {
        let length = pick(rng, &[1, 2, 2, 2, 3, 3, 4]);
        let mut members: Vec<Filled> = Vec::new();
        for _ in 0..length * 3 {
            let member = self.fill(source, rng, false)?;
            let text = member.said.whole().to_lowercase();
            let is_new = members.iter().all(|m| {
                let other = m.said.whole().to_lowercase();
                !other.contains(&text) && !text.contains(&other) && m.argument != member.argument
            });
            if is_new && members.len() < length {
                members.push(member);
            }
        }
        let (last, between) = pick(
            rng,
            &[
                (" and ", ", "),
                (" and ", ", "),
                (" and ", ", "),
                (" plus ", ", "),
                (" and ", " and "),
                (", ", ", "),
                (", and ", ", "),
            ],
        );
        let mut said = Said::default();
        let count = members.len();
        let mut arguments = Vec::new();
        for (i, member) in members.into_iter().enumerate() {
            if i > 0 {
                said.push(if i + 1 == count { last } else { between });
            }
            said.extend(member.said);
            arguments.push(member.argument);
        }
        Some(Filled { said, argument: Argument::List(arguments), before: "", is_plural: count > 1 })
    }
}

/// Draws a number of the range, small ones more often than large ones.
fn skewed(rng: &mut ChaCha8Rng, lowest: i64, highest: i64) -> i64 {
    if highest - lowest <= 12 {
        return rng.random_range(lowest..=highest);
    }
    match rng.random_range(0..4) {
        0 => rng.random_range(lowest..=lowest.saturating_add(10).min(highest)),
        1 => rng.random_range(lowest..=highest),
        2 => {
            let ceiling = lowest.saturating_add(40).min(highest);
            rng.random_range(lowest..=ceiling)
        }
        _ => {
            let step = if highest > 2000 {
                100
            } else if highest > 150 {
                10
            } else {
                5
            };
            (rng.random_range(lowest..=highest) / step * step).max(lowest)
        }
    }
}

fn percentage(rng: &mut ChaCha8Rng) -> u64 {
    match rng.random_range(0..4) {
        0 => pick(rng, &[25, 50, 50, 75, 100]),
        1 | 2 => rng.random_range(1..20) * 5,
        _ => rng.random_range(1..=99),
    }
}

impl Words {
    fn fill(&self, source: &mut Source, rng: &mut ChaCha8Rng) -> Option<Filled> {
        // A reserved value is drawn again; the limit is for pools that hold only reserved ones.
        let mut spoken = self.draw(rng)?;
        for _ in 0..40 {
            if source.part == Part::HeldOut || !is_reserved(&spoken.value) {
                break;
            }
            spoken = self.draw(rng)?;
        }
        let slot = source.slot();
        let mut said = Said::default();
        said.push(&spoken.before).extend(Said::verbatim(spoken.value, slot));
        Some(Filled { said, argument: Argument::Said(slot), before: spoken.preposition, is_plural: true })
    }

    fn draw(&self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        Some(match self {
            Self::Pool { values, is_open } => {
                if *is_open && (values.is_empty() || rng.random_bool(0.12)) {
                    Spoken::plain(made_up(rng))
                } else {
                    let value = values.choose(rng)?;
                    match value.strip_prefix('~') {
                        Some(value) => Spoken { before: "the ".into(), ..Spoken::plain(value.into()) },
                        None => Spoken::plain(value.clone()),
                    }
                }
            }
            Self::Person { strips_title } => person(rng, *strips_title),
            Self::Organization => Spoken::plain(organization(rng)),
            Self::Title => Spoken::plain(title(rng)),
            Self::Code => Spoken::plain(coin::code(rng)),
            Self::Label => Spoken::plain(label(rng)),
            Self::Email => Spoken::plain(email(rng)),
            Self::Phone => Spoken::plain(phone(rng)),
            Self::Url => {
                let (host, page) = (coin::word(rng), coin::word(rng));
                let url = match rng.random_range(0..3) {
                    0 => format!("https://{host}.{}", pick(rng, &["com", "org", "io", "net", "dev"])),
                    1 => format!("{host}.{}/{page}", pick(rng, &["com", "org", "co.uk", "de"])),
                    _ => format!("https://www.{host}.{}/{page}", pick(rng, &["com", "net", "fr"])),
                };
                Spoken::plain(url)
            }
            Self::Path => {
                let (a, b) = (coin::word(rng), coin::word(rng));
                let path = match rng.random_range(0..4) {
                    0 => format!("{a}.{}", pick(rng, &["csv", "txt", "pdf", "json", "log", "xlsx", "md", "png"])),
                    1 => format!("/{}/{a}/{b}", pick(rng, &["srv", "home", "data", "var/log", "mnt", "etc"])),
                    2 => format!("{a}_{b}.{}", pick(rng, &["csv", "py", "docx", "wav", "mp4", "zip"])),
                    _ => format!(
                        "{a}-{}.{}",
                        rng.random_range(1..99),
                        pick(rng, &["pdf", "jpg", "parquet", "sql", "yaml"])
                    ),
                };
                Spoken::plain(path)
            }
            Self::Rare => Spoken::plain(values::rare_word(rng)),
            Self::Snake => Spoken::plain(snake(rng)),
            Self::Host => Spoken::plain(host(rng)),
            Self::Dna => {
                let length = rng.random_range(5..=14);
                Spoken::plain((0..length).map(|_| pick(rng, &['A', 'C', 'G', 'T'])).collect())
            }
            Self::Square => {
                Spoken::plain(format!("{}{}", char::from(b'a' + rng.random_range(0..8u8)), rng.random_range(1..=8)))
            }
            Self::Team => Spoken::plain(values::group(rng)),
            Self::Text { templates, .. } => Spoken::plain(text(rng, templates)?),
            Self::Time => {
                let (said, _) = numbers::time(rng, None);
                Spoken { preposition: "at ", ..Spoken::plain(said) }
            }
            Self::Day => {
                let (preposition, day) = numbers::day(rng);
                Spoken { preposition, ..Spoken::plain(day) }
            }
        })
    }
}

struct Spoken {
    before: String,
    value: String,
    preposition: &'static str,
}

impl Spoken {
    fn plain(value: String) -> Self {
        Self { before: String::new(), value, preposition: "" }
    }
}

fn made_up(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..4) {
        0 => coin::name(rng),
        1 => coin::word(rng),
        2 => format!("{} {}", coin::name(rng), coin::name(rng)),
        _ => format!("{} {}", coin::word(rng), coin::word(rng)),
    }
}

fn first_name(rng: &mut ChaCha8Rng) -> String {
    if rng.random_bool(0.25) { coin::name(rng) } else { values::first_name(rng) }
}

fn last_name(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..12) {
        0..3 => coin::name(rng),
        3 => format!("{}-{}", values::last_name(rng), values::last_name(rng)),
        4 => format!("{} {}", pick(rng, &["van", "de", "von", "del", "O'", "Mc"]), coin::name(rng))
            .replace("' ", "'")
            .replace("Mc ", "Mc"),
        5 => pick(
            rng,
            &[
                "Østergård",
                "Núñez",
                "Çelik",
                "Müller",
                "Lefèvre",
                "Kowalczyk",
                "Ångström",
                "Şahin",
                "Dvořák",
                "Gonçalves",
                "Jõgi",
                "Łukasik",
            ],
        )
        .into(),
        _ => values::last_name(rng),
    }
}

fn person(rng: &mut ChaCha8Rng, strips_title: bool) -> Spoken {
    let plain = match rng.random_range(0..5) {
        0 | 1 => first_name(rng),
        2 | 3 => format!("{} {}", first_name(rng), last_name(rng)),
        _ if strips_title => {
            let title = pick(rng, &["Mr ", "Mrs ", "Ms ", "Dr ", "Professor ", "Mr. ", "Miss "]);
            return Spoken { before: title.into(), ..Spoken::plain(last_name(rng)) };
        }
        _ => last_name(rng),
    };
    Spoken::plain(plain)
}

fn organization(rng: &mut ChaCha8Rng) -> String {
    let name = coin::name(rng);
    match rng.random_range(0..6) {
        0 => name,
        1 => format!("{name} {}", pick(rng, &["Ltd", "GmbH", "Inc", "& Co", "SA", "BV"])),
        2 => format!("{} & {}", last_name(rng), pick(rng, &["Sons", "Daughters", "Partners", "Co"])),
        3 => format!(
            "{name} {}",
            pick(rng, &["Supplies", "Logistics", "Works", "Trading", "Systems", "Foods", "Tools", "Labs", "Group"])
        ),
        4 => format!(
            "{} {}",
            pick(rng, &["Northern", "Blue", "United", "Harbour", "First", "Red Kite", "Silver", "Old Mill"]),
            pick(rng, &["Trading", "Press", "Foods", "Bank", "Couriers", "Hardware", "Dairy", "Textiles"])
        ),
        _ => values::company(rng),
    }
}

fn title(rng: &mut ChaCha8Rng) -> String {
    let noun = |rng: &mut ChaCha8Rng| {
        pick(
            rng,
            &[
                "River",
                "Winter",
                "Orchard",
                "Machine",
                "Lantern",
                "Ferry",
                "Harbour",
                "Letter",
                "Shadow",
                "Garden",
                "Tide",
                "Whistle",
                "Mirror",
                "Kingdom",
                "Promise",
                "Stranger",
                "Bridge",
                "Clockmaker",
                "Window",
                "Salt",
                "Engine",
                "Fox",
                "Signal",
                "Valley",
                "Ghost",
                "Comet",
                "Island",
                "Carpet",
                "Thunder",
                "Sparrow",
                "Cathedral",
                "Compass",
                "Basement",
                "Feather",
                "Highway",
                "Monsoon",
            ],
        )
    };
    let adjective = |rng: &mut ChaCha8Rng| {
        pick(
            rng,
            &[
                "Last", "Silent", "Paper", "Crooked", "Golden", "Seventh", "Wild", "Broken", "Little", "Velvet",
                "Empty", "Northern", "Quiet", "Burning", "Second", "Blue", "Hollow", "Long", "Iron", "Lost",
            ],
        )
    };
    match rng.random_range(0..12) {
        0 => format!("The {} {}", adjective(rng), noun(rng)),
        1 => format!("{} of {}", noun(rng), coin::name(rng)),
        2 => format!("The {} and the {}", noun(rng), noun(rng)),
        3 => noun(rng).into(),
        4 => format!("{} {}", adjective(rng), noun(rng)),
        5 => format!("The {}'s {}", noun(rng), noun(rng)),
        6 => pick(
            rng,
            &[
                "Not Today",
                "What We Owe",
                "Two for the Road",
                "Call Me Tomorrow",
                "Never Again",
                "Turn Left at Noon",
                "All the Way Home",
                "Open at Night",
                "Don't Wait Up",
                "One of Us",
                "Before the Rain",
                "Nobody Said Goodbye",
                "At Five O'Clock",
                "Room for Three",
                "Please Hold",
                "Stop the Music",
            ],
        )
        .into(),
        7 => coin::name(rng),
        8 => format!("{} {}", noun(rng), rng.random_range(2..=12)),
        9 => format!("{} in {}", noun(rng), coin::name(rng)),
        10 => format!("A {} for {}", noun(rng), first_name(rng)),
        _ => format!("{} {} {}", adjective(rng), coin::name(rng), noun(rng)),
    }
}

fn label(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..5) {
        0 => char::from(b'A' + rng.random_range(0..26u8)).to_string(),
        1 => format!("{}{}", char::from(b'A' + rng.random_range(0..12u8)), rng.random_range(1..=30)),
        2 => {
            pick(rng, &["Alpha", "Bravo", "Delta", "Echo", "Kilo", "Sierra", "Tango", "Zulu", "Omega", "Sigma"]).into()
        }
        3 => coin::name(rng),
        _ => format!(
            "{} {}",
            pick(rng, &["north", "south", "east", "west", "upper", "lower", "blue", "red"]),
            rng.random_range(1..=9)
        ),
    }
}

fn email(rng: &mut ChaCha8Rng) -> String {
    let host = coin::word(rng);
    let name = first_name(rng).to_lowercase();
    let end = pick(rng, &["com", "org", "net", "de", "io", "co.uk"]);
    match rng.random_range(0..3) {
        0 => format!("{name}@{host}.{end}"),
        1 => format!("{name}.{}@{host}.{end}", coin::word(rng)),
        _ => format!("{}{}@{host}.{end}", coin::word(rng), rng.random_range(1..99)),
    }
}

fn phone(rng: &mut ChaCha8Rng) -> String {
    let digits = |rng: &mut ChaCha8Rng, n: usize| -> String {
        (0..n).map(|_| char::from(b'0' + rng.random_range(0..10u8))).collect()
    };
    match rng.random_range(0..4) {
        0 => format!("+{} {} {}", rng.random_range(20..99), digits(rng, 3), digits(rng, 6)),
        1 => format!("{}-{}", digits(rng, 3), digits(rng, 4)),
        2 => format!("0{} {}", digits(rng, 3), digits(rng, 6)),
        _ => digits(rng, 9),
    }
}

fn snake(rng: &mut ChaCha8Rng) -> String {
    let first = pick(
        rng,
        &[
            "order", "user", "customer", "invoice", "product", "event", "shipment", "page", "session", "payment",
            "stock", "city",
        ],
    );
    match rng.random_range(0..4) {
        0 => format!("{first}s"),
        1 => format!("{first}_{}", pick(rng, &["id", "items", "status", "log", "name", "type", "history", "code"])),
        2 => format!("{}_{first}", coin::word(rng)),
        _ => coin::word(rng),
    }
}

fn host(rng: &mut ChaCha8Rng) -> String {
    let word = coin::word(rng);
    match rng.random_range(0..4) {
        0 => format!(
            "{}.{}.{}.{}",
            rng.random_range(10..223),
            rng.random_range(0..255),
            rng.random_range(0..255),
            rng.random_range(1..255)
        ),
        1 => format!("{word}-{:02}", rng.random_range(1..40)),
        2 => format!("{word}.{}", pick(rng, &["local", "com", "net", "internal", "org"])),
        _ => format!("{}-{word}", pick(rng, &["db", "web", "mail", "build", "cache"])),
    }
}

/// A text from a template such as `{name} is late`, with `{name}`, `{word}` and `{n}` replaced.
fn text(rng: &mut ChaCha8Rng, templates: &[String]) -> Option<String> {
    let mut text = templates.choose(rng)?.clone();
    for (mark, word) in
        [("{name}", first_name(rng)), ("{word}", coin::word(rng)), ("{n}", rng.random_range(2..30).to_string())]
    {
        text = text.replace(mark, &word);
    }
    Some(text)
}

/// The form of the value that identifies a thing among others of its kind.
pub(super) fn reference_form(lexicon: &Lexicon, domain: &Domain, thing: &Thing) -> Form {
    match thing.known_by.as_str() {
        "code" => Form::Verbatim(Words::Code),
        "number" => Form::Identifier { lowest: 1, highest: 60 },
        "id" => Form::Identifier { lowest: 100, highest: 99_999 },
        "label" => Form::Verbatim(Words::Label),
        "title" => Form::Verbatim(Words::Title),
        "person" => Form::Verbatim(Words::Person { strips_title: false }),
        "organization" => Form::Verbatim(Words::Organization),
        "made-up" => Form::Verbatim(Words::Pool { values: Vec::new(), is_open: true }),
        pool => Form::Verbatim(Words::Pool { values: lexicon.pool(domain, pool).to_vec(), is_open: true }),
    }
}

/// `options` in random order.
pub(super) fn shuffled<T>(mut options: Vec<T>, rng: &mut ChaCha8Rng) -> Vec<T> {
    options.shuffle(rng);
    options
}
