//! The times of day that an English text says, in digits or in words.
//!
//! A tool wants `18:15` where people say `quarter past six`, and whether the morning or the evening
//! is meant is often left to the reader. [`said_times`] returns every reading, so that a time which
//! is not among them was probably not said.

use std::ops::Range;

use super::number_words::{one, ten};

/// A time of day that a text says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SaidTime {
    /// Minutes since midnight; two readings where the text does not say which half of the day is
    /// meant.
    pub minutes_of_day: Vec<u32>,
    /// The place of its words in the text, in bytes.
    pub at: Range<usize>,
    /// False if it may as well be another number: `for eight`, `6.30`.
    pub is_certain: bool,
}

/// Minutes since midnight of `HH:MM`.
pub fn minutes_of_day(text: &str) -> Option<u32> {
    let (hour, minute) = text.split_once(':').filter(|_| text.len() == 5)?;
    let is_digits = |part: &str| part.len() == 2 && part.bytes().all(|b| b.is_ascii_digit());
    let part = |part: &str, end: u32| part.parse().ok().filter(|n: &u32| is_digits(part) && *n < end);
    Some(part(hour, 24)? * 60 + part(minute, 60)?)
}

/// The half of the day that a text names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Half {
    Morning,
    Afternoon,
    /// From six in the evening to six in the morning.
    Night,
}

/// A word without the punctuation around it, in lower case, and its place.
struct Word {
    text: String,
    at: Range<usize>,
}

fn words(text: &str) -> Vec<Word> {
    let mut words = Vec::new();
    let mut begin = 0;
    let mut ends: Vec<usize> = Vec::new();
    let mut at = 0;
    for part in text.split_inclusive(char::is_whitespace) {
        // The times of "18:00-20:00" are two words, but "twenty-five" and "2026-05-06" are one.
        let is_range = |(_, c): &(usize, char)| matches!(c, '-' | '–') && part.contains(':');
        ends.extend(part.char_indices().filter(is_range).map(|(hyphen, c)| at + hyphen + c.len_utf8()));
        at += part.len();
        ends.push(at);
    }
    for end in ends {
        let part = &text[begin..end];
        let is_edge = |c: char| !c.is_alphanumeric();
        let kept = part.trim_start_matches(is_edge);
        let from = begin + part.len() - kept.len();
        let kept = kept.trim_end_matches(is_edge);
        if !kept.is_empty() {
            words.push(Word {
                text: kept.to_lowercase().replace("a.m", "am").replace("p.m", "pm"),
                at: from..from + kept.len(),
            });
        }
        begin += part.len();
    }
    words
}

/// All times that `text` says, in their order. Where phrases overlap, the longest counts.
pub fn said_times(text: &str) -> Vec<SaidTime> {
    let words = words(text);
    let mut times = Vec::new();
    let mut at = 0;
    while at < words.len() {
        match reading(&words, at) {
            Some((time, end)) => {
                times.push(time);
                at = end;
            }
            None => at += 1,
        }
    }
    times
}

fn word(words: &[Word], at: usize) -> &str {
    words.get(at).map_or("", |word| &word.text)
}

/// An hour in words or digits.
fn hour(text: &str) -> Option<u32> {
    let in_words = one(text).map(|hour| hour as u32);
    in_words.or_else(|| text.parse().ok()).filter(|hour| *hour <= 24)
}

/// Minutes in words, as they precede `past` and `to`, or follow an hour; and the words they take.
fn minutes(words: &[Word], at: usize) -> Option<(u32, usize)> {
    let first = word(words, at);
    if let Some((tens, ones)) = first.split_once('-') {
        return Some((ten(tens)? as u32 + one(ones)? as u32, 1));
    }
    if let Some(tens) = ten(first) {
        let ones = one(word(words, at + 1)).filter(|ones| (1.0..10.0).contains(ones));
        return Some((tens as u32 + ones.unwrap_or(0.0) as u32, 1 + usize::from(ones.is_some())));
    }
    if first == "oh" {
        return one(word(words, at + 1)).filter(|ones| *ones < 10.0).map(|ones| (ones as u32, 2));
    }
    let in_words = one(first).filter(|minutes| *minutes >= 1.0).map(|minutes| minutes as u32);
    in_words.or_else(|| first.parse().ok()).map(|minutes| (minutes, 1))
}

/// `pm`, `in the evening`, `tonight` at a word: the half of the day, and the words it takes.
fn half(words: &[Word], at: usize) -> Option<(Half, usize)> {
    let named = |text: &str| match text {
        "am" | "morning" => Some(Half::Morning),
        "pm" | "afternoon" | "evening" => Some(Half::Afternoon),
        "night" | "tonight" => Some(Half::Night),
        _ => None,
    };
    let (first, second) = (word(words, at), word(words, at + 1));
    if let "am" | "pm" | "tonight" = first {
        return named(first).map(|half| (half, 1));
    }
    match (first, second) {
        ("in", "the") => named(word(words, at + 2)).map(|half| (half, 3)),
        ("at", "night") => Some((Half::Night, 2)),
        ("this" | "tomorrow", part) => named(part).map(|half| (half, 2)),
        _ => None,
    }
}

/// `7:30`, `7.30`, `7`, `7pm`: hour, minute, whether it has a colon, and what follows the digits.
fn clock(text: &str) -> Option<(u32, Option<u32>, bool, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != ':' && c != '.').unwrap_or(text.len());
    let (digits, suffix) = text.split_at(end);
    let digits = digits.trim_end_matches('.');
    let (hour, minute) = match digits.split_once([':', '.']) {
        Some((hour, minute)) if minute.len() == 2 => (hour, Some(minute.parse().ok().filter(|m: &u32| *m < 60)?)),
        Some(_) => return None,
        None => (digits, None),
    };
    Some((hour.parse().ok().filter(|hour: &u32| *hour <= 24)?, minute, digits.contains(':'), suffix))
}

/// Where a time stands among the words, and what it says.
#[derive(Clone, Copy)]
struct Said {
    begin: usize,
    end: usize,
    /// Of a clock of 12 or 24 hours; may lie before or after the day.
    minutes: i64,
    half: Option<Half>,
    is_certain: bool,
}

impl Said {
    fn new(begin: usize, end: usize, minutes: u32, is_certain: bool) -> Self {
        Self { begin, end, minutes: i64::from(minutes), half: None, is_certain }
    }

    /// Takes the half of the day that the next words name. It makes the time certain.
    fn with_half_after(self, words: &[Word]) -> Self {
        match half(words, self.end) {
            Some((half, taken)) => Self { half: Some(half), end: self.end + taken, is_certain: true, ..self },
            None => self,
        }
    }

    fn with_half(self, half: Half) -> Self {
        Self { half: Some(half), ..self }
    }

    /// The time, and the index of the word after it.
    fn read(self, words: &[Word]) -> Option<(SaidTime, usize)> {
        let minutes = self.minutes.rem_euclid(24 * 60) as u32;
        let other = (minutes + 12 * 60) % (24 * 60);
        let (first, second) = (minutes.min(other), minutes.max(other));
        let minutes_of_day = match self.half {
            Some(Half::Morning) => vec![first],
            Some(Half::Afternoon) => vec![second],
            Some(Half::Night) if first < 6 * 60 => vec![first],
            Some(Half::Night) => vec![second],
            // After noon, a clock of 24 hours leaves no choice.
            None if minutes > 12 * 60 + 59 => vec![minutes],
            None => vec![minutes, other],
        };
        let at = words.get(self.begin)?.at.start..words.get(self.end - 1)?.at.end;
        Some((SaidTime { minutes_of_day, at, is_certain: self.is_certain }, self.end))
    }
}

/// The time that begins at a word, and the index of the word after it.
fn reading(words: &[Word], at: usize) -> Option<(SaidTime, usize)> {
    let said = named_time(words, at)
        .or_else(|| relative_time(words, at))
        .or_else(|| clock_time(words, at))
        .or_else(|| hour_and_minutes(words, at))?;
    said.read(words)
}

/// `noon` and `midnight`.
fn named_time(words: &[Word], at: usize) -> Option<Said> {
    match word(words, at) {
        "noon" | "midday" => Some(Said::new(at, at + 1, 12 * 60, true).with_half(Half::Afternoon)),
        "midnight" => Some(Said::new(at, at + 1, 0, true).with_half(Half::Morning)),
        _ => None,
    }
}

/// `half past six`, `quarter to seven`, `twenty-five past one`.
fn relative_time(words: &[Word], at: usize) -> Option<Said> {
    let first = word(words, at);
    let (offset, taken) = match first {
        "half" => (30, 1),
        "quarter" => (15, 1),
        "a" if word(words, at + 1) == "quarter" => (15, 2),
        _ => minutes(words, at).filter(|(minutes, _)| *minutes < 60)?,
    };
    let sign = match word(words, at + taken) {
        "past" | "after" => 1,
        "to" | "before" | "till" if offset != 30 => -1,
        _ => return None,
    };
    // "screen 4 to 15 percent", "pages 3 to 9" and "for 2 after 8" are no times.
    let is_quarter = word(words, at + taken - 1) == "quarter";
    let is_range = at > 0 && word(words, at - 1) == "from" && word(words, at + taken) == "to" && !is_quarter;
    if offset % 5 != 0 || first.starts_with(|c: char| c.is_ascii_digit()) || is_range {
        return None;
    }
    let hour = hour(word(words, at + taken + 1))?;
    let end = at + taken + 2;
    let said = Said::new(at, end + oclock(words, end), hour * 60, true);
    Some(Said { minutes: said.minutes + sign * i64::from(offset), ..said }.with_half_after(words))
}

/// `7:30`, `7.30`, `7pm`, `15h30`.
fn clock_time(words: &[Word], at: usize) -> Option<Said> {
    let (hour, minute, has_colon, suffix) = clock(word(words, at))?;
    let said = |is_certain| Said::new(at, at + 1, hour * 60 + minute.unwrap_or(0), is_certain);
    match suffix {
        "am" => Some(said(true).with_half(Half::Morning)),
        "pm" => Some(said(true).with_half(Half::Afternoon)),
        "h" if minute.is_some() => Some(said(true)),
        "" if minute.is_some() => Some(said(has_colon).with_half_after(words)),
        _ => None,
    }
}

/// An hour in words or digits, with what makes it a time: `six o'clock`, `7 in the evening`, `eight
/// thirty`, `at six`.
fn hour_and_minutes(words: &[Word], at: usize) -> Option<Said> {
    let first = word(words, at);
    let hour = hour(first)?;
    let taken = oclock(words, at + 1);
    if taken > 0 {
        return Some(Said::new(at, at + 1 + taken, hour * 60, true).with_half_after(words));
    }
    if half(words, at + 1).is_some() {
        let said = Said::new(at, at + 1, hour * 60, true).with_half_after(words);
        // "A table for 4 tonight" is no time.
        let is_certain = !matches!(word(words, at + 1), "tonight" | "this" | "tomorrow");
        return Some(Said { is_certain, ..said });
    }
    // "eight thirty", "seven oh five"
    if let Some((minutes, taken)) = minutes(words, at + 1).filter(|(minutes, _)| one(first).is_some() && *minutes < 60)
    {
        return Some(Said::new(at, at + 1 + taken, hour * 60 + minutes, false).with_half_after(words));
    }
    const BEFORE: [&str; 10] = ["at", "for", "by", "from", "until", "till", "to", "around", "before", "after"];
    let is_after = at > 0 && BEFORE.contains(&word(words, at - 1));
    is_after.then(|| Said::new(at, at + 1, hour * 60, false))
}

/// The number of words that `o'clock` takes, 0 if it does not follow.
fn oclock(words: &[Word], at: usize) -> usize {
    match (word(words, at), word(words, at + 1)) {
        ("o'clock" | "o’clock" | "oclock", _) => 1,
        ("o", "clock") => 2,
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn times(text: &str) -> Vec<(Vec<String>, &str, bool)> {
        let of = |time: SaidTime| {
            let clock = time.minutes_of_day.iter().map(|m| format!("{:02}:{:02}", m / 60, m % 60)).collect();
            (clock, &text[time.at], time.is_certain)
        };
        said_times(text).into_iter().map(of).collect()
    }

    #[test]
    fn times_are_read_as_people_say_them() {
        for (text, clock, phrase) in [
            ("wake me at quarter past six in the evening please", &["18:15"][..], "quarter past six in the evening"),
            ("drip from ten past four, one hour", &["04:10", "16:10"], "ten past four"),
            ("at twenty-five to one", &["00:35", "12:35"], "twenty-five to one"),
            ("twenty five to one pm", &["12:35"], "twenty five to one pm"),
            ("a quarter to eleven tonight", &["22:45"], "a quarter to eleven tonight"),
            ("Half past nine?", &["09:30", "21:30"], "Half past nine"),
            ("the 8 o'clock show", &["08:00", "20:00"], "8 o'clock"),
            ("one o clock matinee", &["01:00", "13:00"], "one o clock"),
            ("at 7pm.", &["19:00"], "7pm"),
            ("at 7 p.m., Rosa", &["19:00"], "7 p.m"),
            ("12 am", &["00:00"], "12 am"),
            ("12:30 pm", &["12:30"], "12:30 pm"),
            ("screen 3, 21:30", &["21:30"], "21:30"),
            ("6:45", &["06:45", "18:45"], "6:45"),
            ("eight thirty pm", &["20:30"], "eight thirty pm"),
            ("ten at night", &["22:00"], "ten at night"),
            ("half past two at night", &["02:30"], "half past two at night"),
            ("twelve at night", &["00:00"], "twelve at night"),
            ("until noon", &["12:00"], "noon"),
            ("open it from quarter to seven pm", &["18:45"], "quarter to seven pm"),
            ("MIDNIGHT", &["00:00"], "MIDNIGHT"),
        ] {
            let clock: Vec<String> = clock.iter().map(|time| (*time).to_owned()).collect();
            let mut found = times(text);
            found.retain(|(_, _, is_certain)| *is_certain);
            assert_eq!(found, [(clock, phrase, true)], "{text}");
        }
    }

    #[test]
    fn a_range_says_both_of_its_times() {
        for text in ["open 18:00-20:00", "18:00 – 20:00", "from 18:00 to 20:00", "18:00–20:00?"] {
            let clock: Vec<Vec<String>> = times(text).into_iter().map(|(clock, _, _)| clock).collect();
            assert_eq!(clock, [["18:00"], ["20:00"]], "{text}");
        }
    }

    #[test]
    fn what_may_be_another_number_is_not_certain() {
        for (text, clock) in
            [("for eight", "20:00"), ("seats at 6.30", "18:30"), ("seven fifteen", "07:15"), ("nine oh five", "09:05")]
        {
            let found = times(text);
            assert!(
                found.len() == 1 && !found[0].2 && found[0].0.iter().any(|time| time == clock),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn other_numbers_are_no_times() {
        for text in [
            "",
            " ",
            "5 crates",
            "twelve thousand",
            "v1.2.30",
            "99:99",
            "24:61",
            "bench 4, 25 minutes",
            "2.5 kg",
            "数字",
            "half of it",
            "10.0.0.1",
            "on 2026-05-06",
            "on 2026-05-06 in the morning",
            "we won 3-2 in the morning",
            "0171-555-0199",
        ] {
            assert_eq!(times(text), [], "{text}");
        }
        for text in
            ["from ten to six people", "lights in screen 4 to 15 percent", "pages 3 to 9", "table for 4 tonight"]
        {
            assert!(times(text).iter().all(|(_, _, is_certain)| !is_certain), "{text}: {:?}", times(text));
        }
    }

    #[test]
    fn a_clock_has_two_digits_on_each_side() {
        for (text, minutes) in
            [("18:05", Some(1085)), ("24:00", None), ("9:30", None), ("+9:30", None), ("", None), ("ab:cd", None)]
        {
            assert_eq!(minutes_of_day(text), minutes, "{text}");
        }
    }
}
