//! Finds tool names that have leaked into a query.
//!
//! People do not say `get_weather`; a model that learns from such queries learns to look for the
//! name. An indirect wish must not even say the words of the name, or it is not indirect.

use needle_data::Tool;
use needle_data::text::names::to_snake_case;

use super::words::words;

/// The tool whose identifier occurs in `query`, written as code: in snake_case, kebab-case, dotted
/// or camelCase.
pub fn identifier<'a>(query: &str, tools: &'a [Tool]) -> Option<&'a str> {
    let lower = query.to_lowercase();
    let occurs = |name: &str| {
        let name = name.to_lowercase();
        lower.match_indices(&name).any(|(at, _)| {
            let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
            !is_part(lower[..at].chars().next_back()) && !is_part(lower[at + name.len()..].chars().next())
        })
    };
    let is_code = |name: &str| to_snake_case(name).contains('_') && !name.contains(' ');
    let names = tools.iter().map(|tool| tool.name.as_str());
    names.into_iter().find(|name| is_code(name) && (occurs(name) || occurs(&to_snake_case(name))))
}

/// The words of the tool's name, if all of them occur in `query`, in any order and inflection.
pub fn spoken_name(query: &str, name: &str) -> Option<String> {
    let said = words(query);
    let snake = to_snake_case(name);
    let parts: Vec<&str> = snake.split('_').filter(|part| !part.is_empty()).collect();
    // `set` and `sets`, `light` and `lights`, `play` and `playing`.
    let is_said = |part: &&str| {
        said.iter()
            .any(|word| word == part || (part.len() > 2 && word.starts_with(*part) && word.len() <= part.len() + 3))
    };
    (!parts.is_empty() && parts.iter().all(is_said)).then(|| parts.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn identifiers_are_found_in_any_spelling_and_ordinary_words_are_not() {
        let tools =
            Tool::list_from_json(&json!([{"name": "getWeather"}, {"name": "set-timer"}, {"name": "stop"}])).unwrap();
        for leak in ["call getweather for Oslo", "use `get_weather` now", "run set-timer 5", "SET_TIMER for me"] {
            assert!(identifier(leak, &tools).is_some(), "{leak}");
        }
        for plain in ["get weather for Oslo", "stop the music", "widget_weather", "reset-timers", ""] {
            assert!(identifier(plain, &tools).is_none(), "{plain}");
        }
    }

    #[test]
    fn an_indirect_wish_does_not_say_the_words_of_the_name() {
        assert_eq!(spoken_name("could you set all the lights to blue", "set_light").unwrap(), "set light");
        assert!(spoken_name("it is too dark in here", "set_light").is_none());
        assert!(spoken_name("the sunset was beautiful, but it is dark", "setLight").is_none());
        assert!(spoken_name("any music playing?", "play").is_some());
        assert!(spoken_name("anything", "日本").is_none(), "a name without words of ours cannot be said");
    }
}
