//! The numbers and clock times that a query states, as digits or in English words.

use needle_data::text::number_words;

use super::words::words;

const ORDINALS: [&str; 12] = [
    "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh",
    "twelfth",
];
/// Words that mean a number, or one of several.
const MEANINGS: [(&str, &[f64]); 26] = [
    ("a", &[1.0]),
    ("an", &[1.0]),
    ("once", &[1.0]),
    ("single", &[1.0]),
    ("couple", &[2.0]),
    ("pair", &[2.0]),
    ("both", &[2.0]),
    ("twice", &[2.0]),
    ("double", &[2.0]),
    ("triple", &[3.0]),
    ("dozen", &[12.0]),
    ("half", &[0.5, 30.0, 50.0]),
    ("quarter", &[0.25, 15.0, 25.0, 45.0]),
    ("noon", &[12.0]),
    ("midday", &[12.0]),
    ("midnight", &[0.0, 24.0]),
    ("no", &[0.0]),
    ("off", &[0.0]),
    ("mute", &[0.0]),
    ("minimum", &[0.0, 1.0]),
    ("full", &[100.0]),
    ("fully", &[100.0]),
    ("max", &[100.0]),
    ("maximum", &[100.0]),
    ("completely", &[0.0, 100.0]),
    ("percent", &[]),
];
/// Conversion factors between units: minutes per hour, days per week, percent...
const UNITS: [f64; 10] = [1.0, 60.0, 3600.0, 24.0, 1440.0, 7.0, 12.0, 100.0, 1000.0, 1e6];

/// The numbers of a query.
pub struct Numbers {
    stated: Vec<f64>,
    has_before: bool,
}

impl Numbers {
    /// The numbers that `query` states.
    pub fn new(query: &str) -> Self {
        let words = words(query);
        let mut stated = digits(query);
        stated.extend(words.iter().filter_map(|word| leading_number(word)));
        for word in &words {
            stated.extend(MEANINGS.iter().filter(|(said, _)| said == word).flat_map(|(_, values)| *values));
            stated.extend(ORDINALS.iter().position(|said| said == word).map(|i| (i + 1) as f64));
        }
        spelled(&words, &mut stated);
        let has_before = words.iter().any(|word| ["to", "before", "til", "till", "of"].contains(&word.as_str()));
        Self { stated, has_before }
    }

    /// Whether `number` is stated, in its own unit or another common one, or as the sum of two ("an
    /// hour and ten minutes").
    pub fn state(&self, number: f64) -> bool {
        let number = number.abs();
        let is = |x: f64| (x - number).abs() <= 1e-6 * number.max(1.0);
        let scaled = |x: f64| UNITS.iter().flat_map(move |unit| [x * unit, x / unit]);
        self.stated.iter().any(|&x| scaled(x).any(is))
            || self.stated.iter().enumerate().any(|(i, &a)| {
                let others = self.stated.iter().enumerate().filter(move |(j, _)| *j != i);
                let mut others = others.map(|(_, &b)| b);
                others
                    .any(|b| [1.0, 60.0, 3600.0].iter().any(|unit| is(a * unit + b) || is(a * unit * 60.0 + b * unit)))
            })
    }

    /// Whether a clock time or a date (`06:30`, `6:30 pm`, `2026-03-14`) is stated; `None` for
    /// other text.
    pub fn state_time(&self, text: &str) -> Option<bool> {
        let text = text.trim().to_ascii_lowercase();
        if let Some((year, rest)) = text.split_once('-')
            && let [month, day] = rest.split(['-', 't', ' ']).take(2).collect::<Vec<_>>()[..]
            && year.len() == 4
            && [year, month, day].iter().all(|part| part.parse::<u32>().is_ok())
        {
            return Some(day.parse().is_ok_and(|day: f64| self.has(day)));
        }
        let (clock, suffix) = text.split_at(text.find(|c: char| !c.is_ascii_digit() && c != ':').unwrap_or(text.len()));
        if !matches!(suffix.trim().replace('.', "").as_str(), "" | "am" | "pm") {
            return None;
        }
        let (hours, rest) = clock.split_once(':')?;
        let minutes = rest.split(':').next()?;
        let (hours, minutes) = (hours.parse::<f64>().ok()?, minutes.parse::<f64>().ok()?);
        // A quarter to seven is 6:45; ten to seven 6:50.
        let before = if self.has_before { 1.0 } else { 0.0 };
        let has_hour = [hours, (hours + 12.0) % 24.0, (hours + 11.0) % 12.0 + 1.0]
            .iter()
            .any(|&h| self.has(h) || (before > 0.0 && self.has(h + before)));
        let has_minutes = minutes == 0.0 || self.has(minutes) || (before > 0.0 && self.has(60.0 - minutes));
        Some(has_hour && has_minutes)
    }

    fn has(&self, number: f64) -> bool {
        // Compact times: 630, 1815.
        self.stated
            .iter()
            .any(|&x| x == number || (x >= 100.0 && ((x / 100.0).floor() == number || x % 100.0 == number)))
    }
}

/// Numbers written as digits, with `,` or a space between thousands and `.` or `,` before decimals:
/// every reading counts.
fn digits(query: &str) -> Vec<f64> {
    let mut out = Vec::new();
    for run in query.split(|c: char| !c.is_ascii_digit() && !matches!(c, '.' | ',')).filter(|run| !run.is_empty()) {
        let run = run.trim_matches(['.', ',']);
        out.extend(run.parse::<f64>().ok());
        out.extend(run.replace(',', "").parse::<f64>().ok());
        out.extend(run.replace('.', "").replace(',', ".").parse::<f64>().ok());
        out.extend(run.split(['.', ',']).filter_map(|part| part.parse::<f64>().ok()));
    }
    out
}

/// The number that a word begins with: `5th`, `20s`, `3pm`, `10k`.
fn leading_number(word: &str) -> Option<f64> {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let number: f64 = word[..end].parse().ok()?;
    Some(match &word[end..] {
        "k" => number * 1e3,
        "m" => number * 1e6,
        _ => number,
    })
}

/// Numbers in English words, each alone and composed: `two hundred and fifty`, `twenty five`.
fn spelled(words: &[String], out: &mut Vec<f64>) {
    let mut group = 0.0;
    let mut total = 0.0;
    let mut is_open = false;
    for word in words.iter().map(String::as_str).chain(["."]) {
        let (small, ten) = (number_words::one(word), number_words::ten(word));
        let ordinal = ORDINALS.iter().position(|w| *w == word).map(|i| (i + 1) as f64);
        match word {
            _ if small.is_some() || ten.is_some() || (ordinal.is_some() && is_open) => {
                let value = small.or(ten).or(ordinal).unwrap_or_default();
                out.push(value);
                // "six thirty" is a time, "thirty six" one number; both readings count.
                if is_open && group > 0.0 && group < 100.0 && !(group >= 20.0 && group % 10.0 == 0.0 && value < 10.0) {
                    out.push(total + group);
                    group = value;
                } else {
                    group += value;
                }
                is_open = true;
            }
            "hundred" => group = group.max(1.0) * 100.0,
            "thousand" => {
                total += group.max(1.0) * 1000.0;
                group = 0.0;
            }
            "and" if is_open => {}
            _ if is_open || group > 0.0 || total > 0.0 => {
                out.push(total + group);
                (group, total, is_open) = (0.0, 0.0, false);
            }
            _ => {}
        }
        if matches!(word, "hundred" | "thousand") {
            is_open = true;
            out.push(total + group);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_stated_as_digits_words_and_in_other_units() {
        for (query, number) in [
            ("set it to 21.5 degrees", 21.5),
            ("send 1,250 euros", 1250.0),
            ("1.250,50 Euro", 1250.5),
            ("for twenty-five minutes", 25.0),
            ("two hundred and fifty grams", 250.0),
            ("three thousand four hundred", 3400.0),
            ("an hour", 60.0),
            ("an hour and a half", 90.0),
            ("1 hour 10 minutes", 70.0),
            ("an hour and ten minutes", 4200.0),
            ("half brightness", 50.0),
            ("the 5th of may", 5.0),
            ("minus three", -3.0),
            ("a dozen eggs", 12.0),
            ("two weeks", 14.0),
            ("१५ मिनट", 15.0),
            ("turn it off", 0.0),
            ("10k steps", 10_000.0),
        ] {
            assert!(Numbers::new(query).state(number), "{query}: {number}");
        }
        for (query, number) in [("ten minutes", 25.0), ("wake me", 7.0), ("", 0.0), ("two hundred", 250.0)] {
            assert!(!Numbers::new(query).state(number), "{query}: {number}");
        }
    }

    #[test]
    fn clock_times_and_dates_are_read() {
        for (query, time) in [
            ("at half past six", "06:30"),
            ("wake me at 6:30 pm", "18:30"),
            ("at 7am", "07:00"),
            ("a quarter to seven", "6:45 am"),
            ("ten to seven", "06:50"),
            ("at noon", "12:00"),
            ("at midnight", "00:00"),
            ("at six thirty", "18:30:00"),
            ("on march 14", "2026-03-14"),
            ("at 630", "06:30"),
        ] {
            assert_eq!(Numbers::new(query).state_time(time), Some(true), "{query}: {time}");
        }
        assert_eq!(Numbers::new("tomorrow").state_time("2026-03-14"), Some(false));
        assert_eq!(Numbers::new("early").state_time("06:30"), Some(false));
        assert_eq!(Numbers::new("at six").state_time("06:45"), Some(false));
        for other in ["tomorrow", "at 5", "12", "a:b", "10:20 tomorrow", ""] {
            assert_eq!(Numbers::new("at 5").state_time(other), None, "{other}");
        }
    }
}
