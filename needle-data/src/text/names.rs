//! Tool names: snake_case inside the model, the user's own names outside.
//!
//! With one spelling inside, the model need not learn that `getWeather`, `get-weather` and
//! `get_weather` mean the same. The rules follow `to_snake_case` of the original
//! (needle/model/run.py) and are checked against its golden cases.

use std::collections::HashMap;

use crate::text::tool::Tool;

/// `getWeatherForecast`, `get-weather forecast` and `Get.Weather.Forecast` all become
/// `get_weather_forecast`.
///
/// ASCII letters and digits are kept and everything else separates words, as in the original, whose
/// training data had names of this form. A word also starts at a capital that follows a lowercase
/// letter or a digit, and at the last capital of a run that a lowercase letter follows
/// (`HTMLParser` -> `html_parser`).
pub fn to_snake_case(name: &str) -> String {
    let chars: Vec<char> = name.chars().collect();
    let mut out = String::with_capacity(name.len() + 4);
    for (i, &c) in chars.iter().enumerate() {
        if !c.is_ascii_alphanumeric() {
            if !out.is_empty() && !out.ends_with('_') {
                out.push('_');
            }
            continue;
        }
        if c.is_ascii_uppercase() && i > 0 && !out.is_empty() && !out.ends_with('_') {
            let previous = chars[i - 1];
            let starts_word = previous.is_ascii_lowercase() || previous.is_ascii_digit();
            let ends_acronym = previous.is_ascii_uppercase() && chars.get(i + 1).is_some_and(char::is_ascii_lowercase);
            if starts_word || ends_acronym {
                out.push('_');
            }
        }
        out.push(c.to_ascii_lowercase());
    }
    while out.ends_with('_') {
        out.pop();
    }
    out
}

/// The names of one catalogue in both spellings.
///
/// Where two tools have the same snake_case name, the first keeps it and the others get `_2`,
/// `_3`..., so that every inner name leads back to exactly one tool (the original maps all of them
/// to the last).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NameMap {
    inner: Vec<String>,
    outer_of: HashMap<String, String>,
}

impl NameMap {
    /// Builds the map for tools named `outer`, in order.
    pub fn new<'a>(outer: impl IntoIterator<Item = &'a str>) -> Self {
        let mut map = Self::default();
        for name in outer {
            let snake = to_snake_case(name);
            let base = if snake.is_empty() { "tool".to_owned() } else { snake };
            let mut inner = base.clone();
            let mut suffix = 2;
            while map.outer_of.contains_key(&inner) {
                inner = format!("{base}_{suffix}");
                suffix += 1;
            }
            map.outer_of.insert(inner.clone(), name.to_owned());
            map.inner.push(inner);
        }
        map
    }

    /// The map of `tools`.
    pub fn of(tools: &[Tool]) -> Self {
        Self::new(tools.iter().map(|tool| tool.name.as_str()))
    }

    /// The inner name of the `index`-th tool.
    pub fn inner(&self, index: usize) -> &str {
        &self.inner[index]
    }

    /// The inner name of the tool that the user calls `outer`.
    pub fn to_inner(&self, outer: &str) -> Option<&str> {
        self.inner.iter().find(|name| self.outer_of[*name] == outer).map(String::as_str)
    }

    /// The user's name for `inner`; a name that was never offered stays as it is.
    pub fn to_outer<'a>(&'a self, inner: &'a str) -> &'a str {
        self.outer_of.get(inner).map_or(inner, String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_spelled_as_the_original_spells_them() {
        #[derive(serde::Deserialize)]
        struct Case {
            r#in: String,
            out: String,
        }
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/fixtures/snake_case.json")).unwrap();
        assert!(cases.len() > 70);
        for case in cases {
            assert_eq!(to_snake_case(&case.r#in), case.out, "{:?}", case.r#in);
        }
    }

    #[test]
    fn colliding_names_stay_apart_and_come_back() {
        let map = NameMap::new(["getWeather", "get_weather", "GetWeather"]);
        let inner: Vec<&str> = (0..3).map(|i| map.inner(i)).collect();
        assert_eq!(inner, ["get_weather", "get_weather_2", "get_weather_3"]);
        assert_eq!(map.to_outer("get_weather_2"), "get_weather");
        assert_eq!(map.to_inner("GetWeather"), Some("get_weather_3"));
        assert_eq!(map.to_outer("never_offered"), "never_offered");
    }
}
