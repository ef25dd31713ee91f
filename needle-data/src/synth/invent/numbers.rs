//! Numbers, amounts, times of day and dates, and the ways in which people say them.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::synth::values::{ordinal, pick};
use crate::text::number_words::{ONES, Spelling, spell};

/// A number and how it is said.
pub(super) struct Number {
    pub said: String,
    pub value: f64,
}

/// Whether a number is said in words: small and round ones often are.
fn in_words(rng: &mut ChaCha8Rng, n: u64) -> bool {
    rng.random_bool(match n {
        0..=20 => 0.5,
        21..=100 => 0.35,
        _ if n.is_multiple_of(50) && n < 1_000_000 => 0.3,
        101..=999 => 0.12,
        _ => 0.0,
    })
}

/// A count of things. With `before_noun`, the counted noun follows, so that `a dozen` and
/// `a couple of` fit.
pub(super) fn count(rng: &mut ChaCha8Rng, n: u64, before_noun: bool) -> String {
    if before_noun && rng.random_bool(0.4) {
        let special: &[&str] = match n {
            1 => &["one", "a single"],
            2 => &["a couple of", "a pair of", "two"],
            6 => &["half a dozen", "six"],
            12 => &["a dozen", "one dozen", "twelve"],
            24 => &["two dozen"],
            36 => &["three dozen"],
            100 => &["a hundred", "one hundred"],
            _ => &[],
        };
        if !special.is_empty() {
            return pick(rng, special).into();
        }
    }
    if in_words(rng, n) {
        return spell(n, Spelling::draw(rng));
    }
    if n >= 10_000 && rng.random_bool(0.3) { grouped(n) } else { n.to_string() }
}

fn grouped(n: u64) -> String {
    if n < 1000 { n.to_string() } else { format!("{},{:03}", grouped(n / 1000), n % 1000) }
}

/// A number as an identifier: `job 598`, `number seven hundred and four`.
pub(super) fn identifier(rng: &mut ChaCha8Rng, n: u64) -> String {
    if n < 1000 && rng.random_bool(if n <= 20 { 0.35 } else { 0.08 }) {
        spell(n, Spelling::draw(rng))
    } else {
        n.to_string()
    }
}

/// `hundredths / 100` as digits without trailing zeros.
fn decimal(hundredths: i64) -> String {
    let (whole, rest) = (hundredths / 100, hundredths % 100);
    match rest {
        0 => whole.to_string(),
        rest if rest % 10 == 0 => format!("{whole}.{}", rest / 10),
        rest => format!("{whole}.{rest:02}"),
    }
}

/// A measured amount with its unit: `12.5 litres`, `twelve and a half litres`, `40 l`. `units` are
/// forms such as `litres`, `l`, `°C`; the first is the full plural word. With `bare`, there is no
/// unit.
pub(super) fn measure(rng: &mut ChaCha8Rng, hundredths: i64, units: &[String], bare: bool) -> Number {
    let value = hundredths as f64 / 100.0;
    let whole = (hundredths / 100) as u64;
    let long = units.first().map_or("", String::as_str);
    let is_long = units.len() < 2 || rng.random_bool(0.6);
    let unit = if is_long { long } else { units[1 + rng.random_range(0..units.len() - 1)].as_str() };
    let singular = long.strip_suffix('s').unwrap_or(long);
    let has_plural = long.ends_with('s') && !long.contains(' ');
    let said = if hundredths < 0 {
        let n = decimal(-hundredths);
        return Number { said: with_unit(&format!("minus {n}"), unit, bare), value };
    } else if hundredths % 100 == 50 && !bare && has_plural && rng.random_bool(0.4) {
        match whole {
            0 => return Number { said: format!("half a {singular}"), value },
            1 if rng.random_bool(0.5) => return Number { said: format!("a {singular} and a half"), value },
            _ => format!("{} and a half", spell(whole, Spelling::draw(rng))),
        }
    } else if hundredths % 100 == 0 && in_words(rng, whole) {
        spell(whole, Spelling::draw(rng))
    } else if hundredths % 100 == 50 && whole > 0 && rng.random_bool(0.25) {
        format!("{} and a half", spell(whole, Spelling::draw(rng)))
    } else {
        decimal(hundredths)
    };
    let unit = if hundredths == 100 && unit == long && has_plural { singular } else { unit };
    Number { said: with_unit(&said, unit, bare), value }
}

fn with_unit(number: &str, unit: &str, bare: bool) -> String {
    let digits = number.ends_with(|c: char| c.is_ascii_digit());
    match unit {
        "" => number.into(),
        _ if bare => number.into(),
        // Short units need digits before them, some without a space.
        "%" | "°" | "h" | "m" | "k" | "x" if digits => format!("{number}{unit}"),
        _ => format!("{number} {unit}"),
    }
}

/// A percentage.
pub(super) fn percent(rng: &mut ChaCha8Rng, n: u64) -> String {
    if rng.random_bool(0.3) {
        let special: &[&str] = match n {
            0 => &["zero percent", "nought percent"],
            25 => &["a quarter", "one quarter"],
            50 => &["half", "fifty percent", "one half"],
            75 => &["three quarters"],
            100 => &["a hundred percent", "full", "the maximum"],
            _ => &[],
        };
        if !special.is_empty() {
            return pick(rng, special).into();
        }
    }
    let number = if in_words(rng, n) { spell(n, Spelling::draw(rng)) } else { n.to_string() };
    let is_digits = number.ends_with(|c: char| c.is_ascii_digit());
    match rng.random_range(0..5) {
        0 | 1 if is_digits => format!("{number}%"),
        2 if is_digits => format!("{number} %"),
        3 => format!("{number} per cent"),
        _ => format!("{number} percent"),
    }
}

/// An amount of money, in hundredths of `currency` (`euros`, `dollars` or `pounds`; empty if it is
/// not said).
pub(super) fn money(rng: &mut ChaCha8Rng, cents: u64, currency: &str) -> Number {
    let value = cents as f64 / 100.0;
    let (whole, rest) = (cents / 100, cents % 100);
    let digits = if rest == 0 { whole.to_string() } else { format!("{whole}.{rest:02}") };
    let symbol = match currency {
        "euros" => "€",
        "dollars" => "$",
        "pounds" => "£",
        _ => return Number { said: if rest == 0 { count(rng, whole, false) } else { digits }, value },
    };
    let code = match currency {
        "euros" => "EUR",
        "dollars" => "USD",
        _ => "GBP",
    };
    let said = match rng.random_range(0..8) {
        0 | 1 => format!("{symbol}{digits}"),
        2 => format!("{digits} {code}"),
        3 if symbol == "$" => format!("{digits} bucks"),
        3 if symbol == "£" => format!("{digits} quid"),
        4 if rest > 0 && whole > 1 => {
            format!("{} {currency} {}", count(rng, whole, false), spell(rest, Spelling::draw(rng)))
        }
        _ if rest == 0 && whole > 1 => format!("{} {currency}", count(rng, whole, false)),
        _ => format!("{digits} {currency}"),
    };
    Number { said, value }
}

/// The unit that a duration is given in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Span {
    Seconds,
    Minutes,
    Hours,
    Days,
    Weeks,
    Months,
}

impl Span {
    pub fn parse(text: &str) -> Self {
        match text {
            "seconds" => Self::Seconds,
            "hours" => Self::Hours,
            "days" => Self::Days,
            "weeks" => Self::Weeks,
            "months" => Self::Months,
            _ => Self::Minutes,
        }
    }

    pub fn word(self) -> &'static str {
        match self {
            Self::Seconds => "seconds",
            Self::Minutes => "minutes",
            Self::Hours => "hours",
            Self::Days => "days",
            Self::Weeks => "weeks",
            Self::Months => "months",
        }
    }
}

/// A duration, in the unit that the tool asks for, whatever unit it is said in.
pub(super) fn duration(rng: &mut ChaCha8Rng, unit: Span) -> Number {
    let special: &[(&str, f64)] = match unit {
        Span::Seconds => &[
            ("half a minute", 30.0),
            ("a minute", 60.0),
            ("one minute", 60.0),
            ("two minutes", 120.0),
            ("a minute and a half", 90.0),
        ],
        Span::Minutes => &[
            ("half an hour", 30.0),
            ("a quarter of an hour", 15.0),
            ("an hour", 60.0),
            ("an hour and a half", 90.0),
            ("three quarters of an hour", 45.0),
            ("two hours", 120.0),
            ("1h", 60.0),
            ("an hour and twenty minutes", 80.0),
            ("one hour", 60.0),
            ("1.5 hours", 90.0),
            ("two and a half hours", 150.0),
            ("1 hour 15 minutes", 75.0),
            ("3 hours", 180.0),
        ],
        Span::Hours => &[
            ("half an hour", 0.5),
            ("an hour and a half", 1.5),
            ("an hour", 1.0),
            ("a day", 24.0),
            ("two days", 48.0),
            ("two and a half hours", 2.5),
            ("a quarter of an hour", 0.25),
            ("90 minutes", 1.5),
            ("30 minutes", 0.5),
        ],
        Span::Days => &[
            ("a week", 7.0),
            ("a fortnight", 14.0),
            ("two weeks", 14.0),
            ("a day", 1.0),
            ("three weeks", 21.0),
            ("one week", 7.0),
            ("a couple of days", 2.0),
            ("one day", 1.0),
            ("a week and a half", 10.5),
            ("4 weeks", 28.0),
        ],
        Span::Weeks => &[("a fortnight", 2.0), ("a week", 1.0), ("one week", 1.0), ("two weeks", 2.0)],
        Span::Months => &[
            ("a year", 12.0),
            ("half a year", 6.0),
            ("two years", 24.0),
            ("a month", 1.0),
            ("a year and a half", 18.0),
        ],
    };
    if rng.random_bool(0.35) {
        let (said, value) = pick(rng, special);
        if value.fract() == 0.0 || unit == Span::Hours {
            return Number { said: said.into(), value };
        }
    }
    let n: u64 = match unit {
        Span::Seconds | Span::Minutes if rng.random_bool(0.6) => rng.random_range(1..=18) * 5,
        Span::Seconds | Span::Minutes => rng.random_range(2..=120),
        Span::Hours => rng.random_range(2..=48),
        Span::Days => rng.random_range(2..=45),
        Span::Weeks => rng.random_range(2..=20),
        Span::Months => rng.random_range(2..=36),
    };
    let number = if in_words(rng, n) { spell(n, Spelling::draw(rng)) } else { n.to_string() };
    let short = match unit {
        Span::Seconds => ["s", " sec", " secs"],
        Span::Minutes => [" min", " mins", " min"],
        Span::Hours => ["h", " h", " hrs"],
        _ => ["", "", ""],
    };
    let short = pick(rng, &short);
    let said = if number.ends_with(|c: char| c.is_ascii_digit()) && !short.is_empty() && rng.random_bool(0.3) {
        format!("{number}{short}")
    } else {
        format!("{number} {}", unit.word())
    };
    Number { said, value: n as f64 }
}

/// A time of day as `HH:MM`. `hours` is the window that the tool states, which determines whether
/// `half past five` is in the morning or in the evening; without one, the wording is unambiguous.
pub(super) fn time(rng: &mut ChaCha8Rng, hours: Option<(u32, u32)>) -> (String, String) {
    let (from, to) = hours.unwrap_or((0, 23));
    // A window of less than twelve hours determines am or pm.
    let is_settled = hours.is_some_and(|(from, to)| to - from < 12);
    let hour = rng.random_range(from..=to.saturating_sub(u32::from(hours.is_some())));
    let minute: u32 = match rng.random_range(0..10) {
        0..4 => 0,
        4..6 => 30,
        6 => 15,
        7 => 45,
        _ => rng.random_range(1..12) * 5,
    };
    let value = format!("{hour:02}:{minute:02}");
    let half = if hour < 12 { "am" } else { "pm" };
    let part = match hour {
        0..12 => "in the morning",
        12..18 => "in the afternoon",
        _ => "in the evening",
    };
    let twelve = |hour: u32| if hour.is_multiple_of(12) { 12 } else { hour % 12 };
    let name = |hour: u32| ONES[twelve(hour) as usize];
    // If am or pm is not determined, it is said.
    let after = |rng: &mut ChaCha8Rng| match (is_settled, rng.random_bool(0.5)) {
        (true, _) => String::new(),
        (false, true) => format!(" {part}"),
        (false, false) => format!(" {half}"),
    };
    if minute == 0 && hour == 12 && rng.random_bool(0.4) {
        return ("noon".into(), value);
    }
    if minute == 0 && hour == 0 && rng.random_bool(0.6) {
        return ("midnight".into(), value);
    }
    // Wordings of times just after midnight differ too much.
    let form = if hour == 0 { rng.random_range(0..3) } else { rng.random_range(0..10) };
    let said = match form {
        0 | 1 => value.clone(),
        2 if hour > 12 || hour == 0 => value.replace(':', "."),
        2 | 3 if minute == 0 => format!("{}{half}", twelve(hour)),
        3 | 4 => format!("{}:{minute:02}{}{half}", twelve(hour), pick(rng, &["", " "])),
        5 if hour >= 13 && minute == 0 => format!("{hour}h"),
        _ => match minute {
            0 if is_settled && rng.random_bool(0.4) => format!("{} o'clock", name(hour)),
            0 => format!(
                "{}{}",
                if rng.random_bool(0.5) { name(hour).to_owned() } else { twelve(hour).to_string() },
                after(rng)
            ),
            15 => format!("quarter past {}{}", name(hour), after(rng)),
            30 => format!("half past {}{}", name(hour), after(rng)),
            45 if hour != 11 && hour != 23 && hour != 12 && hour != 17 => {
                format!("quarter to {}{}", name(hour + 1), after(rng))
            }
            5 | 10 | 20 | 25 => format!(
                "{} past {}{}",
                spell(u64::from(minute), Spelling { hyphen: true, and: true, a_hundred: true }),
                name(hour),
                after(rng)
            ),
            35 | 40 | 50 | 55 if hour != 11 && hour != 23 && hour != 12 && hour != 17 => {
                format!(
                    "{} to {}{}",
                    spell(u64::from(60 - minute), Spelling { hyphen: true, and: true, a_hundred: true }),
                    name(hour + 1),
                    after(rng)
                )
            }
            _ if is_settled => format!("{}:{minute:02}", twelve(hour)),
            _ => format!("{}:{minute:02} {half}", twelve(hour)),
        },
    };
    (said, value)
}

const MONTHS: [&str; 12] = [
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];
const WEEKDAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

/// A full date and its ISO form.
pub(super) fn iso_date(rng: &mut ChaCha8Rng) -> (String, String) {
    let (year, month, day): (u32, usize, u32) =
        (rng.random_range(2019..=2031), rng.random_range(0..12), rng.random_range(1..=28));
    let value = format!("{year}-{:02}-{day:02}", month + 1);
    let name = MONTHS[month];
    let said = match rng.random_range(0..5) {
        0 => value.clone(),
        1 => format!("{day} {name} {year}"),
        2 => format!("{name} {day}, {year}"),
        3 => format!("the {} of {name} {year}", ordinal(day)),
        _ => format!("{name} {} {year}", ordinal(day)),
    };
    (said, value)
}

/// A day as people say it, with the preposition that it takes: (`on `, `Tuesday`), (``,
/// `tomorrow`).
pub(super) fn day(rng: &mut ChaCha8Rng) -> (&'static str, String) {
    let weekday = pick(rng, &WEEKDAYS);
    let month = pick(rng, &MONTHS);
    let n: u32 = rng.random_range(1..=28);
    match rng.random_range(0..12) {
        0 => ("", pick(rng, &["today", "tomorrow", "tomorrow", "the day after tomorrow"]).into()),
        1 | 2 => ("on ", weekday.into()),
        3 => ("", format!("next {weekday}")),
        4 => ("", format!("this {weekday}")),
        5 | 6 => ("on ", format!("{n} {month}")),
        7 => ("on ", format!("{month} {n}")),
        8 => ("on ", format!("{month} {}", ordinal(n))),
        9 => ("on ", format!("the {} of {month}", ordinal(n))),
        10 => ("on ", format!("{weekday} the {}", ordinal(n))),
        _ => (
            "on ",
            pick(
                rng,
                &[
                    "Easter Sunday",
                    "Whit Monday",
                    "Christmas Eve",
                    "New Year's Day",
                    "Good Friday",
                    "Boxing Day",
                    "Midsummer Day",
                    "Labour Day",
                    "Ash Wednesday",
                    "Independence Day",
                    "Mother's Day",
                    "Halloween",
                    "Ascension Day",
                    "New Year's Eve",
                ],
            )
            .into(),
        ),
    }
}
