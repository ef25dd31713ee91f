//! The numbers that an English text says, in digits or in words.
//!
//! People say the same number in many ways: `14,200`, `two hundred and sixty`, `a dozen`,
//! `1.2 million`, `three and a half`. A tool may want it in another unit than they said it in:
//! `half an hour` as 30 minutes, `three quarters` as 75 percent. [`said_numbers`] returns all
//! readings, more than are meant, so that a number which is not among them was probably not said.

use std::ops::Range;

use super::number_words::{one, ten};

/// All readings of the numbers in `text`, in no particular order.
pub fn said_numbers(text: &str) -> Vec<f64> {
    let words = words(text);
    let mut numbers = Vec::new();
    for at in 0..words.len() {
        for Reading { value, end } in readings(&words, at) {
            numbers.push(value);
            // "Three quarters" may be wanted in percent.
            if value > 0.0 && value < 1.0 {
                numbers.push(100.0 * value);
            }
            let units = words.iter().skip(end).take(WORDS_TO_UNIT);
            numbers.extend(units.flat_map(|unit| conversions(unit)).map(|factor| value * factor));
        }
    }
    numbers
}

/// The numbers that `text` has in digits, each read once: `14,200` is 14200.
pub fn numbers_in_digits(text: &str) -> Vec<f64> {
    words(text).iter().filter_map(|word| digits(word).first().copied()).collect()
}

/// A number that a text says, read plainly: as it stands, without a conversion to another unit.
#[derive(Debug, Clone, PartialEq)]
pub struct SaidNumber {
    /// Its value, negative after a minus sign.
    pub value: f64,
    /// The place of its words in the text, in bytes.
    pub at: Range<usize>,
}

/// The numbers that `text` says in digits or words, in their order, each read once and as long as
/// possible: `two hundred and sixty` is 260. Words that say a number only loosely (`a`, `first`,
/// `off`) are left out.
pub fn numbers_with_places(text: &str) -> Vec<SaidNumber> {
    let words = words_with_places(text);
    let (texts, places): (Vec<String>, Vec<Range<usize>>) = words.into_iter().unzip();
    let mut numbers = Vec::new();
    let mut at = 0;
    while at < texts.len() {
        let is_loose = other_word(&texts[at]).is_some() || fraction(&texts[at]).is_some();
        let plain = multiplied(&texts, at).filter(|number| !is_loose || number.end > at + 1);
        let Some(Reading { value, end }) = plain else {
            at += 1;
            continue;
        };
        let place = places[at].start..places[end - 1].end;
        let before = &text[..place.start];
        let has_sign =
            before.ends_with(['-', '−']) && !before.trim_end_matches(['-', '−']).ends_with(char::is_alphanumeric);
        let is_negative = has_sign || at > 0 && ["minus", "negative"].contains(&texts[at - 1].as_str());
        numbers.push(SaidNumber { value: if is_negative { -value } else { value }, at: place });
        at = end;
    }
    numbers
}

/// A unit follows its number within this many words: `an hour and a half`, `3 long minutes`.
const WORDS_TO_UNIT: usize = 3;

/// A number that begins at a word, and the index of the word after it.
struct Reading {
    value: f64,
    end: usize,
}

/// Lower-case words and numbers in digits, which may have separators and a decimal point.
fn words(text: &str) -> Vec<String> {
    words_with_places(text).into_iter().map(|(word, _)| word).collect()
}

fn words_with_places(text: &str) -> Vec<(String, Range<usize>)> {
    let mut words = Vec::new();
    let mut rest = text.char_indices().peekable();
    while let Some((begin, c)) = rest.next() {
        let is_digit = |c: Option<(usize, char)>| c.is_some_and(|(_, c)| c.is_ascii_digit());
        if c.is_ascii_digit() {
            while let Some(&(_, next)) = rest.peek() {
                let is_inside = next.is_ascii_digit() || (matches!(next, '.' | ',') && is_digit(rest.clone().nth(1)));
                if !is_inside {
                    break;
                }
                rest.next();
            }
        } else if c.is_alphabetic() {
            while rest.next_if(|(_, c)| c.is_alphabetic() || matches!(c, '\'' | '’')).is_some() {}
        } else {
            continue;
        }
        let end = rest.peek().map_or(text.len(), |(end, _)| *end);
        words.push((text[begin..end].to_lowercase(), begin..end));
    }
    words
}

/// What the digits of `word` may mean: `14,200` also 14.2, and each of its parts.
fn digits(word: &str) -> Vec<f64> {
    if !word.starts_with(|c: char| c.is_ascii_digit()) {
        return Vec::new();
    }
    let mut values: Vec<f64> = [word.replace(',', ""), word.replace(',', ".")].iter().flat_map(|n| n.parse()).collect();
    values.extend(word.split(['.', ',']).flat_map(str::parse::<f64>));
    values
}

fn fraction(word: &str) -> Option<f64> {
    Some(match word.strip_suffix('s').unwrap_or(word) {
        "half" | "halve" => 0.5,
        "third" => 1.0 / 3.0,
        "quarter" => 0.25,
        "fifth" => 0.2,
        "eighth" => 0.125,
        "tenth" => 0.1,
        _ => return None,
    })
}

/// Other words that say a number, also loosely: `alone` says that one person comes.
fn other_word(word: &str) -> Option<f64> {
    Some(match word {
        "no" | "none" | "nothing" | "off" | "zero" => 0.0,
        "a" | "an" | "single" | "once" | "myself" | "alone" | "first" => 1.0,
        "couple" | "pair" | "both" | "twice" | "double" | "second" => 2.0,
        "triple" | "third" => 3.0,
        "fourth" => 4.0,
        "fifth" => 5.0,
        "sixth" => 6.0,
        "seventh" => 7.0,
        "eighth" => 8.0,
        "ninth" => 9.0,
        "tenth" => 10.0,
        "dozen" => 12.0,
        "fortnight" => 14.0,
        "hundred" => 100.0,
        "thousand" => 1e3,
        "million" => 1e6,
        _ => return None,
    })
}

/// Factors to the units in which a tool may want what is said in `unit`.
fn conversions(unit: &str) -> &'static [f64] {
    match unit {
        "h" | "hr" | "hrs" | "hour" | "hours" => &[60.0, 3600.0],
        "min" | "mins" | "minute" | "minutes" => &[60.0, 1.0 / 60.0],
        "s" | "sec" | "second" | "seconds" => &[1000.0],
        "day" | "days" => &[24.0],
        "week" | "weeks" => &[7.0],
        "year" | "years" => &[12.0],
        "kg" | "kilo" | "kilos" | "kilogram" | "kilograms" | "gram" | "grams" | "g" | "tonne" | "tonnes" | "ton"
        | "tons" | "l" | "litre" | "litres" | "liter" | "liters" | "km" | "kilometre" | "kilometres" | "kilometer"
        | "kilometers" | "m" | "metre" | "metres" | "meter" | "meters" | "centimetre" | "centimetres" | "cm" => {
            &[1000.0, 100.0, 10.0, 0.01, 0.001]
        }
        "euro" | "euros" | "dollar" | "dollars" | "pound" | "pounds" => &[100.0],
        "percent" => &[0.01],
        _ => &[],
    }
}

/// A whole number below 100 in words at `at`.
fn below_hundred(words: &[String], at: usize) -> Option<Reading> {
    let word = words.get(at)?;
    let small = |at: usize| words.get(at).and_then(|word| one(word));
    if let Some(tens) = ten(word) {
        return Some(match small(at + 1).filter(|one| (1.0..10.0).contains(one)) {
            Some(one) => Reading { value: tens + one, end: at + 2 },
            None => Reading { value: tens, end: at + 1 },
        });
    }
    small(at).map(|value| Reading { value, end: at + 1 })
}

/// Skips `and` at `at`.
fn after_and(words: &[String], at: usize) -> usize {
    at + usize::from(words.get(at).is_some_and(|word| word == "and"))
}

/// A whole number below 1,000 in words at `at`: `a hundred and ten`.
fn below_thousand(words: &[String], at: usize) -> Option<Reading> {
    let is = |at: usize, word: &str| words.get(at).is_some_and(|other| other == word);
    let small = below_hundred(words, at);
    let hundreds = if is(at, "a") { Some(1.0) } else { small.as_ref().map(|small| small.value) };
    match hundreds.filter(|hundreds| *hundreds < 20.0 && is(at + 1, "hundred")) {
        Some(hundreds) => Some(match below_hundred(words, after_and(words, at + 2)) {
            Some(rest) => Reading { value: 100.0 * hundreds + rest.value, end: rest.end },
            None => Reading { value: 100.0 * hundreds, end: at + 2 },
        }),
        None => small,
    }
}

/// A number at `at` in words or digits, with what multiplies it: `twelve thousand and five`, `two
/// dozen`, `1.2 million`.
fn multiplied(words: &[String], at: usize) -> Option<Reading> {
    let article = || {
        words.get(at).filter(|word| *word == "a" || *word == "half").map(|word| Reading {
            value: fraction(word).unwrap_or(1.0),
            end: at + 1 + usize::from(word == "half" && words.get(at + 1).is_some_and(|next| next == "a")),
        })
    };
    let in_digits = || Some(Reading { value: *digits(words.get(at)?).first()?, end: at + 1 });
    let plain = below_thousand(words, at).or_else(in_digits);
    let is_plain = plain.is_some();
    let number = plain.or_else(article)?;
    let factor = match words.get(number.end).map(String::as_str) {
        Some("thousand" | "k") => 1e3,
        Some("million") => 1e6,
        Some("dozen") => 12.0,
        Some("hundred") => 100.0,
        // A lone article is no number.
        _ => return is_plain.then_some(number),
    };
    let (value, end) = (number.value * factor, number.end + 1);
    let rest = (factor == 1e3).then(|| below_thousand(words, after_and(words, end))).flatten();
    Some(rest.map_or(Reading { value, end }, |rest| Reading { value: value + rest.value, end: rest.end }))
}

/// The readings of a number that begins at `at`.
fn readings(words: &[String], at: usize) -> Vec<Reading> {
    let word = |at: usize| words.get(at).map_or("", String::as_str);
    let mut found: Vec<Reading> = digits(word(at)).into_iter().map(|value| Reading { value, end: at + 1 }).collect();
    found.extend(other_word(word(at)).map(|value| Reading { value, end: at + 1 }));
    if let Some(value) = fraction(word(at)) {
        // "half an hour", "a quarter of the tank"
        let end = (at + 1..words.len()).find(|&next| !["a", "an", "of", "the"].contains(&word(next)));
        found.push(Reading { value, end: end.unwrap_or(words.len()) });
    }
    let article = || ["a", "an"].contains(&word(at)).then_some(Reading { value: 1.0, end: at + 1 });
    let Some(number) = multiplied(words, at).or_else(article) else { return found };
    let end = number.end;
    if word(end) == "point" {
        let decimals: Vec<f64> =
            words[end + 1..].iter().map_while(|word| one(word).filter(|digit| *digit < 10.0)).collect();
        let value = decimals.iter().rev().fold(0.0, |value, digit| (value + digit) / 10.0);
        found.push(Reading { value: number.value + value, end: end + 1 + decimals.len() });
    }
    // "three quarters"
    found.extend(fraction(word(end)).map(|part| Reading { value: number.value * part, end: end + 1 }));
    // "two and a half kilos", "two and three quarters", and with the unit first: "a kilo and a
    // half"
    for (and, after) in [(end, 0), (end + 1, 1)] {
        let times = match word(and + 1) {
            "a" => Some(1.0),
            other => one(other),
        };
        if word(and) == "and"
            && let Some((times, part)) = times.zip(fraction(word(and + 2)))
        {
            found.push(Reading { value: number.value + times * part, end: if after == 1 { end } else { and + 3 } });
        }
    }
    // "an hour and five minutes", "twelve euros fifty", "one metre eighty"
    let next = multiplied(words, after_and(words, end + 1));
    if let (Some(next), &[factor, ..]) = (next, conversions(word(end))) {
        let small = if factor >= 1000.0 { 100.0 } else { factor };
        found.push(Reading { value: number.value + next.value / small, end });
    }
    // "seventeen fifty"
    if let Some(cents) = below_hundred(words, end) {
        found.push(Reading { value: number.value + cents.value / 100.0, end: cents.end });
    }
    found.push(number);
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(text: &str, value: f64) -> bool {
        said_numbers(text).iter().any(|said| (said - value).abs() < 1e-6 * value.abs().max(1.0))
    }

    #[test]
    fn numbers_are_read_in_digits_and_in_words() {
        for (text, value) in [
            ("7.5 l please", 7.5),
            ("fixed costs of 14,200", 14_200.0),
            ("1,775,300.25 in all", 1_775_300.25),
            ("8,5 euros", 8.5),
            ("twenty-five percent", 25.0),
            ("two hundred and sixty people", 260.0),
            ("a hundred and eighty seconds", 180.0),
            ("Hundred and ten grams", 100.0),
            ("thirty-one thousand each", 31_000.0),
            ("two thousand four hundred units", 2400.0),
            ("1.2 million", 1_200_000.0),
            ("half a million", 500_000.0),
            ("a dozen", 12.0),
            ("two dozen", 24.0),
            ("half a dozen", 6.0),
            ("two and a half amps", 2.5),
            ("twelve and a half percent", 12.5),
            ("three quarters full", 75.0),
            ("a fifth open", 20.0),
            ("forty-one point two", 41.2),
            ("just myself", 1.0),
            ("a couple of places", 2.0),
            ("seventeen fifty", 17.5),
            ("5 k", 5000.0),
        ] {
            assert!(says(text, value), "{text}: {value} is not in {:?}", said_numbers(text));
        }
    }

    #[test]
    fn numbers_are_read_in_the_units_that_a_tool_may_want() {
        for (text, value) in [
            ("half an hour", 30.0),
            ("an hour and a half", 90.0),
            ("an hour and five minutes", 65.0),
            ("snooze for a week", 7.0),
            ("a year's rental, so a year", 12.0),
            ("half a minute", 30.0),
            ("a kilo and a half", 1500.0),
            ("one metre eighty", 1.8),
            ("twelve euros fifty", 12.5),
            ("90 seconds", 90_000.0),
            ("thirty centimetres wide", 300.0),
        ] {
            assert!(says(text, value), "{text}: {value} is not in {:?}", said_numbers(text));
        }
    }

    #[test]
    fn a_number_is_read_plainly_where_it_stands() {
        for (text, numbers) in [
            ("base 10 and height of 5.5", &[(10.0, "10"), (5.5, "5.5")][..]),
            ("a=3, b=-11, and c = -4", &[(3.0, "3"), (-11.0, "11"), (-4.0, "4")]),
            ("b is minus 6, negative two", &[(-6.0, "6"), (-2.0, "two")]),
            ("COVID-19 on 2024-05-06", &[(19.0, "19"), (2024.0, "2024"), (5.0, "05"), (6.0, "06")]),
            ("two hundred and sixty of 1,200", &[(260.0, "two hundred and sixty"), (1200.0, "1,200")]),
            ("a dozen of them at twelve euros", &[(12.0, "a dozen"), (12.0, "twelve")]),
            ("an egg, the first, off", &[]),
            ("Größe 38 – İ 5", &[(38.0, "38"), (5.0, "5")]),
            ("", &[]),
        ] {
            let found: Vec<(f64, &str)> =
                numbers_with_places(text).into_iter().map(|said| (said.value, &text[said.at])).collect();
            assert_eq!(found, numbers, "{text}");
        }
    }

    #[test]
    fn what_is_not_said_is_not_read() {
        for (text, value) in [
            ("twenty-five percent", 26.0),
            ("fixed costs of 14,200", 144_200.0),
            ("half an hour", 45.0),
            ("", 0.0),
            ("Größe ½ – 数", 2.0),
            ("two hundred and sixty", 160.0),
        ] {
            assert!(!says(text, value), "{text}: {value} is in {:?}", said_numbers(text));
        }
        // Long nonsense ends, too.
        assert!(said_numbers(&"a hundred and ".repeat(10_000)).len() < 1_000_000);
    }
}
