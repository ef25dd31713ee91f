//! Numbers with bounds and steps: which texts are such numbers, and the shortest completion of a
//! partial one.

use needle_data::text::json_schema::is_multiple;

/// A set of numbers. Without bounds they stay within the range of an `i64` and an `f64`.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct NumberShape {
    /// True if only integers are allowed.
    pub is_integer: bool,
    /// Smallest value, inclusive.
    pub min: Option<f64>,
    /// Largest value, inclusive.
    pub max: Option<f64>,
    /// The step: values must be multiples of it.
    pub multiple_of: Option<f64>,
}

/// The bound (in magnitude) of numbers without a bound on that side: 18 digits.
pub const LARGEST: f64 = 999_999_999_999_999_872.0;
/// Largest step. Steps are also multiples of one millionth.
pub const LARGEST_STEP: f64 = 1e9;
/// Largest step without its decimal places (see [`NumberShape::factor`]), which bounds the number
/// of remainders.
pub const LARGEST_FACTOR: u64 = 5000;
/// Maximum number of fraction digits of a completion.
const MAX_FRACTION_DIGITS: u32 = 12;
const MAX_DIGITS: u32 = 18;
/// Maximum number of multiples that are listed one by one.
const MOST_LISTED: f64 = 2000.0;

impl NumberShape {
    /// The numbers that are in both shapes; `None` if there are none.
    pub fn and(&self, other: &Self) -> Option<Self> {
        let mut min = [self.min, other.min].into_iter().flatten().reduce(f64::max);
        let mut max = [self.max, other.max].into_iter().flatten().reduce(f64::min);
        let multiple_of = match (self.multiple_of, other.multiple_of) {
            (Some(a), Some(b)) => {
                let common = least_common_multiple(a, b);
                if common > LARGEST_STEP {
                    // The common step is too large to enforce, so zero stands for its few
                    // multiples.
                    (min, max) = (Some(min.unwrap_or(0.0).max(0.0)), Some(max.unwrap_or(0.0).min(0.0)));
                }
                Some(common).filter(|common| *common <= LARGEST_STEP)
            }
            (a, b) => a.or(b),
        };
        let is_integer = self.is_integer || other.is_integer;
        let both = Self { is_integer, min, max, multiple_of }.with_whole_steps();
        (!both.is_empty()).then_some(both)
    }

    /// The same numbers, with an integer step if they are integers.
    pub fn with_whole_steps(self) -> Self {
        let whole = |step| least_common_multiple(step, 1.0);
        let multiple_of = match self.multiple_of {
            Some(step) if self.is_integer => Some(whole(step)).filter(|whole| *whole != 1.0),
            step => step,
        };
        Self { multiple_of, ..self }
    }

    /// True if the shape certainly contains no number.
    pub fn is_empty(&self) -> bool {
        const NEARLY: f64 = 1e-9;
        let (Some(min), Some(max)) = (self.min, self.max) else { return false };
        let step = self.multiple_of.or(self.is_integer.then_some(1.0));
        min > max || step.is_some_and(|step| (min / step - NEARLY).ceil() > (max / step + NEARLY).floor())
    }

    /// The step without its decimal places: 25 for 0.25.
    pub fn factor(&self) -> Option<u64> {
        let mut millionths = (self.multiple_of? * 1e6).round() as u64;
        let mut places = 6;
        while places > 0 && millionths.is_multiple_of(10) {
            millionths /= 10;
            places -= 1;
        }
        Some(millionths)
    }

    /// True if any number, or any integer, is allowed.
    pub fn is_free(&self) -> bool {
        self.min.is_none() && self.max.is_none() && self.multiple_of.is_none()
    }

    /// True if `text` is a number of this shape.
    pub fn accepts(&self, text: &str) -> bool {
        let is_whole = !text.contains(['.', 'e', 'E']);
        text.parse::<f64>().is_ok_and(|value| {
            value.is_finite()
                && (is_whole || !self.is_integer || value.fract() == 0.0)
                && self.min.is_none_or(|min| value >= min)
                && self.max.is_none_or(|max| value <= max)
                && self.multiple_of.is_none_or(|step| is_multiple(text, &step.to_string()))
        })
    }

    /// The shortest number of this shape; `None` if there is none.
    pub fn shortest(&self) -> Option<String> {
        self.completion("")
    }

    /// The text that completes `partial` to a number of this shape; `None` if nothing does.
    pub fn completion(&self, partial: &str) -> Option<String> {
        let ends = partial.ends_with(|c: char| c.is_ascii_digit());
        if ends && self.accepts(partial) && self.is_written_so(partial) {
            return Some(String::new());
        }
        if self.is_free() {
            return Some("0".to_owned());
        }
        match partial.strip_prefix('-') {
            Some(digits) => self.magnitude(digits, true),
            None if partial.is_empty() => {
                let negative = || self.magnitude("", true).map(|rest| format!("-{rest}"));
                self.magnitude("", false).or_else(negative)
            }
            None => self.magnitude(partial, false),
        }
    }

    /// True if the grammar can write `text`: for numbers with a step, `llguidance` allows neither a
    /// negative zero nor a trailing zero in a negative fraction.
    fn is_written_so(&self, text: &str) -> bool {
        self.multiple_of.is_none()
            || !text.starts_with('-')
            || text.parse() != Ok(0.0) && !(text.contains('.') && text.ends_with('0'))
    }

    /// All numbers of this shape, if they are few; `None` if they are many or unbounded, or have no
    /// step.
    pub fn listed(&self) -> Option<Vec<String>> {
        let (min, max, step) = (self.min?, self.max?, self.multiple_of?);
        let step_millionths = (step * 1e6).round() as i128;
        let (first, last) = ((min / step).ceil(), (max / step).floor());
        if last - first >= MOST_LISTED {
            return None;
        }
        let texts = (first as i128 - 1..=last as i128 + 1).map(|times| {
            let millionths = times * step_millionths;
            let sign = if millionths < 0 { "-" } else { "" };
            let digits = format!("{:07}", millionths.unsigned_abs());
            let (whole, fraction) = digits.split_at(digits.len() - 6);
            let fraction = fraction.trim_end_matches('0');
            if fraction.is_empty() { format!("{sign}{whole}") } else { format!("{sign}{whole}.{fraction}") }
        });
        Some(texts.filter(|text| self.accepts(text)).collect())
    }

    /// Regular expressions of the non-negative numbers, and of the negative ones without their
    /// sign. A number must match all three of its list; `None` means that there are no numbers of
    /// this sign. Steps are not included.
    pub fn regexes(&self) -> [Option<[String; 3]>; 2] {
        let (min, max) = (self.min.unwrap_or(-LARGEST).max(-LARGEST), self.max.unwrap_or(LARGEST).min(LARGEST));
        let fraction = if self.is_integer { "" } else { "(\\.[0-9]{1,17})?" };
        let form = format!("(0|[1-9][0-9]{{0,17}}){fraction}");
        [(min, max), (-max, -min)].map(|(low, high)| {
            // Adding 0.0 turns -0.0 into 0.0.
            let (low, high) = (low.max(0.0) + 0.0, high + 0.0);
            (low <= high).then(|| [self.at_least(low), self.at_most(high), form.clone()])
        })
    }

    /// A regular expression of the unsigned numbers from `low` on.
    fn at_least(&self, low: f64) -> String {
        let text = low.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let any = self.any_fraction();
        let n = whole.len();
        let mut ways = vec![match whole {
            "0" => format!("[1-9][0-9]*{any}"),
            _ => format!("[1-9][0-9]{{{n},}}{any}"),
        }];
        for (k, digit) in whole.bytes().enumerate().filter(|(_, digit)| *digit < b'9') {
            ways.push(format!("{}[{}-9][0-9]{{{}}}{any}", &whole[..k], digit - b'0' + 1, n - k - 1));
        }
        if fraction.is_empty() {
            ways.push(format!("{whole}{any}"));
        } else if !self.is_integer {
            for (k, digit) in fraction.bytes().enumerate().filter(|(_, digit)| *digit < b'9') {
                ways.push(format!("{whole}\\.{}[{}-9][0-9]*", &fraction[..k], digit - b'0' + 1));
            }
            ways.push(format!("{whole}\\.{fraction}[0-9]*"));
        }
        ways.join("|")
    }

    /// A regular expression of the unsigned numbers up to `high`.
    fn at_most(&self, high: f64) -> String {
        let text = high.to_string();
        let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
        let any = self.any_fraction();
        let n = whole.len();
        let mut ways = Vec::new();
        if n > 1 {
            ways.push(format!("(0|[1-9][0-9]{{0,{}}}){any}", n - 2));
        }
        for (k, digit) in whole.bytes().enumerate() {
            let least = if k == 0 && n > 1 { b'1' } else { b'0' };
            if digit > least {
                let range = format!("[{}-{}]", least - b'0', digit - b'0' - 1);
                ways.push(format!("{}{range}[0-9]{{{}}}{any}", &whole[..k], n - k - 1));
            }
        }
        ways.push(whole.to_owned());
        if !self.is_integer {
            for (k, digit) in fraction.bytes().enumerate() {
                if digit > b'0' {
                    ways.push(format!("{whole}\\.{}[0-{}][0-9]*", &fraction[..k], digit - b'0' - 1));
                }
                ways.push(format!("{whole}\\.{}", &fraction[..=k]));
            }
            ways.push(format!("{whole}\\.{fraction}0{}", if fraction.is_empty() { "+" } else { "*" }));
        }
        ways.join("|")
    }

    fn any_fraction(&self) -> &'static str {
        if self.is_integer { "" } else { "(\\.[0-9]+)?" }
    }

    fn magnitude(&self, digits: &str, is_negative: bool) -> Option<String> {
        let (min, max) = (self.min.unwrap_or(-LARGEST), self.max.unwrap_or(LARGEST));
        let (low, high) = if is_negative { (-max, -min) } else { (min, max) };
        if high < 0.0 {
            return None;
        }
        let low = low.max(0.0);
        let (whole, fraction) = match digits.split_once('.') {
            Some((whole, fraction)) => (whole, Some(fraction)),
            None => (digits, None),
        };
        if self.is_integer && fraction.is_some() {
            return None;
        }
        let written = fraction.map_or(0, |fraction| fraction.len() as u32);
        let most_fraction = if self.is_integer { 0 } else { MAX_FRACTION_DIGITS.max(written + 1) };
        // Shorter completions first; a decimal point costs a character.
        for places in written..=most_fraction {
            let may_grow = fraction.is_none() && (whole.is_empty() || whole != "0");
            let most_whole = if may_grow { MAX_DIGITS.saturating_sub(places) } else { whole.len() as u32 };
            for length in (whole.len() as u32).max(1)..=most_whole.max(1) {
                let so_far = format!("{whole}{}", fraction.unwrap_or(""));
                let text = self.smallest(&so_far, length, places, (low, high), is_negative);
                if let Some(rest) = text.and_then(|text| text.strip_prefix(digits).map(str::to_owned)) {
                    return Some(rest);
                }
            }
        }
        None
    }

    /// The smallest number in `range` whose digits begin with `digits`, with `length` digits before
    /// the decimal point and `places` after it.
    fn smallest(&self, digits: &str, length: u32, places: u32, range: (f64, f64), is_negative: bool) -> Option<String> {
        let missing = (length + places).checked_sub(digits.len() as u32)?;
        if length + places > 30 {
            return None;
        }
        let power = 10_i128.checked_pow(missing)?;
        let begun: i128 = if digits.is_empty() { 0 } else { digits.parse().ok()? };
        let (mut from, to) = (begun * power, begun * power + power - 1);
        if digits.is_empty() && length > 1 {
            // A number of several digits does not begin with a zero.
            from = 10_i128.pow(length + places - 1);
        }
        let scale = 10_f64.powi(places as i32);
        let least = i128::from(is_negative);
        let from = from.max((range.0 * scale).floor() as i128).max(least);
        let to = to.min((range.1 * scale).ceil() as i128);
        let step = match self.multiple_of {
            Some(step) => {
                let scaled = step * scale;
                if scaled < 0.5 || (scaled - scaled.round()).abs() > 1e-9 * scaled {
                    return None;
                }
                scaled.round() as i128
            }
            None => 1,
        };
        // The bounds were rounded outwards, so one of the next few multiples lies inside.
        let mut value = from.div_euclid(step) * step;
        for _ in 0..4 {
            if value > to {
                return None;
            }
            let text = decimal(value, length, places);
            let signed = if is_negative { format!("-{text}") } else { text.clone() };
            if value >= from && self.accepts(&signed) && self.is_written_so(&signed) {
                return Some(text);
            }
            value += step;
        }
        None
    }
}

fn least_common_multiple(a: f64, b: f64) -> f64 {
    let millionths = |step: f64| (step * 1e6).round() as u128;
    let (a, b) = (millionths(a), millionths(b));
    let (mut x, mut y) = (a, b);
    while y > 0 {
        (x, y) = (y, x % y);
    }
    (a / x.max(1) * b) as f64 / 1e6
}

fn decimal(value: i128, length: u32, places: u32) -> String {
    let width = (length + places) as usize;
    let mut text = format!("{value:0width$}");
    if places > 0 {
        text.insert(text.len() - places as usize, '.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partial_number_is_completed_within_its_bounds() {
        let shape = |is_integer, min, max, multiple_of| NumberShape { is_integer, min, max, multiple_of };
        for (shape, partial, whole) in [
            (shape(true, None, None, None), "-", Some("-0")),
            (shape(false, None, None, None), "1.5e", Some("1.5e0")),
            (shape(true, Some(5.0), Some(5000.0), None), "", Some("5")),
            (shape(true, Some(50.0), Some(5000.0), None), "1", Some("100")),
            (shape(true, Some(-9.0), Some(-3.0), None), "", Some("-3")),
            (shape(true, Some(-90.0), Some(-30.0), None), "-4", Some("-40")),
            (shape(true, Some(3.0), Some(99.0), Some(7.0)), "3", Some("35")),
            (shape(true, Some(3.0), Some(4.0), Some(7.0)), "", None),
            (shape(false, Some(0.5), Some(0.75), None), "", Some("0.5")),
            (shape(false, Some(0.5), Some(0.75), None), "0", Some("0.5")),
            (shape(false, Some(0.5), Some(0.75), None), "0.", Some("0.5")),
            (shape(false, Some(0.52), Some(0.75), None), "0.5", Some("0.52")),
            (shape(false, Some(0.0), Some(1.0), Some(0.25)), "0.7", Some("0.75")),
            (shape(false, Some(0.0), Some(1.0), Some(0.25)), "0.8", None),
            (shape(true, Some(1e17), None, None), "", Some("100000000000000000")),
            (shape(true, None, Some(-1.0), None), "", Some("-1")),
            (shape(false, Some(-24.0), Some(31.0), None), "-0", Some("-0")),
            (shape(false, Some(-1.5), Some(40.5), None), "-0.440", Some("-0.440")),
            (shape(false, Some(-1.5), Some(40.5), None), "40.", Some("40.0")),
            (shape(false, Some(-1.5), Some(30.999), None), "30.99", Some("30.99")),
            (shape(true, Some(-24.0), None, Some(7.0)), "-0", None),
            (shape(false, None, None, Some(0.5)), "-0.", Some("-0.5")),
        ] {
            let found = shape.completion(partial).map(|rest| format!("{partial}{rest}"));
            assert_eq!(found.as_deref(), whole, "{shape:?} {partial:?}");
        }
    }

    #[test]
    fn the_regular_expressions_of_bounds_match_exactly_the_numbers_within() {
        let bounds = [-40.5, -7.25, -1.0, -0.1, 0.0, 0.05, 0.5, 1.0, 7.25, 9.9, 10.0, 99.0, 100.5, 1234.0];
        let texts = [
            "0", "0.0", "0.04", "0.05", "0.050", "0.1", "0.49", "0.5", "0.50", "1", "1.0", "7.2", "7.25", "7.2500",
            "7.26", "9", "9.89", "9.9", "9.91", "10", "10.0", "10.1", "40.5", "40.51", "41", "98", "99", "99.5", "100",
            "100.5", "1233", "1234", "1234.0", "1234.5", "12345", "00", "01", "1.", ".5", "1e3",
        ];
        for (i, &min) in bounds.iter().enumerate() {
            for &max in &bounds[i..] {
                for is_integer in [false, true] {
                    let shape = NumberShape { is_integer, min: Some(min), max: Some(max), multiple_of: None };
                    let [positive, negative] = shape.regexes();
                    for text in texts {
                        let is_number = text.starts_with(|c: char| c.is_ascii_digit())
                            && text.ends_with(|c: char| c.is_ascii_digit())
                            && !text.contains('e')
                            && !["00", "01"].contains(&text)
                            && !(is_integer && text.contains('.'));
                        for (regexes, sign) in [(&positive, ""), (&negative, "-")] {
                            let matches = |regex: &String| {
                                needle_data::text::json_schema::matches(&format!("^({regex})$"), text).unwrap()
                            };
                            let holds = regexes.as_ref().is_some_and(|all| all.iter().all(matches));
                            let expected = is_number && shape.accepts(&format!("{sign}{text}"));
                            assert_eq!(holds, expected, "{sign}{text} {shape:?}");
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn few_multiples_are_listed() {
        let shape =
            |min, max, step| NumberShape { is_integer: false, min: Some(min), max: Some(max), multiple_of: Some(step) };
        assert_eq!(shape(-0.5, 1.2, 0.25).listed().unwrap(), ["-0.5", "-0.25", "0", "0.25", "0.5", "0.75", "1"]);
        assert_eq!(shape(100.0, 120.0, 7.0).listed().unwrap(), ["105", "112", "119"]);
        assert_eq!(shape(0.0, 1e9, 1.0).listed(), None);
    }
}
