//! The slots of requests: values as people say them, and as a call spells them.
//!
//! Open slots (names, places, titles, texts) are composed of parts, so that there are thousands of
//! values; the call copies them. Numbers, amounts, times and dates are said in several ways and
//! normalized as an assistant would: "half past seven in the evening" -> `19:30`, "twenty
//! five" -> 25. Choices and flags have several wordings for one value.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use serde_json::{Value, json};

use super::values::*;

/// A filled slot: what is said, and the value in the call.
#[derive(Debug, Clone, PartialEq)]
pub struct Filled {
    /// As the user says it.
    pub said: String,
    /// As the argument spells it.
    pub value: Value,
}

/// How a slot draws its values.
#[derive(Clone, Copy)]
pub enum Slot {
    /// Text of an open class, which the call copies.
    Open(fn(&mut ChaCha8Rng) -> String),
    /// A number, said as digits or in words, with a unit or without.
    Integer(fn(&mut ChaCha8Rng) -> (String, i64)),
    /// Text that the call normalizes.
    Normalized(fn(&mut ChaCha8Rng) -> (String, String)),
    /// One of a few values: pairs of a wording and its value.
    Choice(&'static [(&'static str, &'static str)]),
    /// True or false: pairs of a wording and its value.
    Flag(&'static [(&'static str, bool)]),
    /// Several values of an open class, as a list.
    Several(fn(&mut ChaCha8Rng) -> String),
}

impl Slot {
    /// The JSON type of the argument.
    pub fn json_type(&self) -> &'static str {
        match self {
            Self::Open(_) | Self::Normalized(_) | Self::Choice(_) => "string",
            Self::Integer(_) => "integer",
            Self::Flag(_) => "boolean",
            Self::Several(_) => "array",
        }
    }

    /// The allowed values of a choice; `None` for any other slot.
    pub fn allowed(&self) -> Option<Vec<&'static str>> {
        let Self::Choice(choices) = self else { return None };
        let mut values: Vec<&str> = Vec::new();
        for (_, value) in *choices {
            if !values.contains(value) {
                values.push(value);
            }
        }
        Some(values)
    }

    /// Draws a value; open values are drawn again until `accept` takes one.
    pub fn fill(&self, rng: &mut ChaCha8Rng, accept: impl Fn(&str) -> bool) -> Filled {
        match self {
            Self::Open(make) => {
                let said = accepted(*make, rng, accept);
                Filled { value: said.as_str().into(), said }
            }
            Self::Integer(make) => {
                let (said, value) = make(rng);
                Filled { said, value: value.into() }
            }
            Self::Normalized(make) => {
                let (said, value) = make(rng);
                Filled { said, value: value.into() }
            }
            Self::Choice(choices) => {
                let (said, value) = pick(rng, choices);
                Filled { said: said.into(), value: value.into() }
            }
            Self::Flag(choices) => {
                let (said, value) = pick(rng, choices);
                Filled { said: said.into(), value: value.into() }
            }
            Self::Several(make) => {
                let mut items: Vec<String> = Vec::new();
                let wanted = rng.random_range(1..=3);
                while items.len() < wanted {
                    let item = accepted(*make, rng, &accept);
                    if !items.contains(&item) {
                        items.push(item);
                    }
                }
                let said = match items.as_slice() {
                    [first @ .., last] if !first.is_empty() => format!("{} and {last}", first.join(", ")),
                    _ => items.concat(),
                };
                Filled { said, value: json!(items) }
            }
        }
    }
}

fn accepted(make: fn(&mut ChaCha8Rng) -> String, rng: &mut ChaCha8Rng, accept: impl Fn(&str) -> bool) -> String {
    // If a hundred draws give no acceptable value, the class has none, and the last draw is used.
    let mut value = make(rng);
    for _ in 0..100 {
        if accept(&value) {
            break;
        }
        value = make(rng);
    }
    value
}

/// The slot called `name`, or `None` if there is none.
pub fn slot(name: &str) -> Option<Slot> {
    use Slot::*;
    Some(match name {
        "person" => Open(person),
        "people" => Several(first_name),
        "city" => Open(city),
        "place" => Open(place),
        "label" => Open(label),
        "topic" => Open(topic),
        "message" => Open(message),
        "subject" => Open(subject),
        "task" => Open(task),
        "event" => Open(event),
        "item" => Open(item),
        "product" => Open(product),
        "dish" => Open(dish),
        "restaurant" => Open(restaurant),
        "song" | "movie" => Open(title),
        "artist" => Open(artist),
        "playlist" | "scene" => Open(mood),
        "podcast" => Open(podcast),
        "station" => Open(station),
        "group" | "team" => Open(group),
        "list" => Open(list),
        "company" => Open(company),
        "app" => Open(app),
        "phrase" => Open(phrase),
        "word" => Open(rare_word),
        "email" => Open(email),
        "phone" => Open(phone),
        "order_id" => Open(order_id),
        "flight_no" => Open(flight_number),
        "parking" => Open(parking),
        "time" => Normalized(time),
        "date" => Normalized(date),
        "minutes" => Integer(minutes),
        "seconds" => Integer(seconds),
        "hours" => Integer(|r| with_unit(r, 2..=12, "hour")),
        "days" => Integer(|r| with_unit(r, 2..=21, "day")),
        "nights" => Integer(|r| with_unit(r, 2..=14, "night")),
        "percent" => Integer(percent),
        "degrees" => Integer(|r| with_unit(r, 15..=28, "degree")),
        "kilograms" => Integer(|r| with_unit(r, 45..=120, "kilo")),
        "power_kw" => Integer(|r| digits(pick(r, &[11, 22, 50, 100, 150, 300]), " kW")),
        "small_count_km" => Integer(|r| digits(r.random_range(1..=30), " km")),
        "small_count" => Integer(|r| said_number(r, 2..=12)),
        "count" => Integer(|r| said_number(r, 2..=20)),
        "number" => Integer(|r| said_number(r, 2..=999)),
        "big_number" => Integer(|r| digits(r.random_range(2..=120) * 100, "")),
        "year" => Integer(|r| digits(r.random_range(1950..=2026), "")),
        "amount" => Integer(amount),
        "day" => Open(day),
        "language" => Open(|r| {
            words!(r, "French" "Spanish" "German" "Italian" "Polish" "Turkish" "Greek" "Dutch" "Korean" "Japanese" "Hindi" "Swahili" "Finnish" "Danish" "Welsh" "Czech" "Thai" "Arabic" "Hebrew" "Irish").into()
        }),
        "currency" => Open(|r| {
            words!(r, "euros" "dollars" "pounds" "yen" "francs" "pesos" "rupees" "kroner" "zloty" "lira" "won" "rand" "real" "dirhams" "baht").into()
        }),
        "color" => Open(|r| {
            words!(r, "red" "blue" "green" "yellow" "purple" "orange" "pink" "white" "turquoise" "amber" "violet" "teal" "crimson" "lime" "gold" "silver" "black" "navy" "beige" "coral").into()
        }),
        "sport" => Open(|r| {
            words!(r, "running" "cycling" "swimming" "yoga" "rowing" "hiking" "boxing" "pilates" "climbing" "tennis" "squash" "skating" "dancing" "weightlifting" "walking" "surfing").into()
        }),
        "poi" => Open(|r| {
            words!(r, "pharmacy" "petrol station" "bakery" "cash machine" "hospital" "supermarket" "playground" "car park" "post office" "library" "florist" "dentist" "hardware store" "coffee shop" "vegan restaurant" "bike shop").into()
        }),
        "unit" => Open(|r| {
            words!(r, "miles" "kilometres" "inches" "centimetres" "feet" "metres" "ounces" "grams" "litres" "gallons" "cups" "acres" "stones" "yards").into()
        }),
        "speaker" => Open(|r| {
            words!(r, "kitchen speaker" "headphones" "soundbar" "car stereo" "watch" "tablet" "earbuds" "bedroom speaker" "television" "laptop").into()
        }),
        "room" => Open(|r| {
            words!(r, "kitchen" "bedroom" "living room" "hallway" "bathroom" "office" "nursery" "garage" "attic" "dining room" "guest room" "basement" "laundry" "porch" "studio" "playroom").into()
        }),
        "door" => Open(|r| {
            words!(r, "front door" "back door" "garage door" "garden gate" "cellar door" "side door" "balcony door" "shed").into()
        }),
        "camera" => {
            Open(|r| words!(r, "front door" "driveway" "garden" "garage" "hallway" "pool" "balcony" "nursery").into())
        }
        "plant" => Open(|r| words!(r, "birch" "grass" "oak" "hazel" "ragweed" "olive" "alder" "cedar").into()),
        "weather_kind" => Open(|r| {
            words!(r, "frost" "thunder" "snow" "heavy rain" "fog" "hail" "strong wind" "heat" "black ice").into()
        }),
        "account" => {
            Open(|r| words!(r, "savings" "checking" "joint" "business" "holiday" "emergency" "travel" "pension").into())
        }
        "card" => Open(|r| words!(r, "debit" "credit" "business" "travel" "gold" "virtual" "student" "prepaid").into()),
        "expense" => Open(|r| {
            words!(r, "groceries" "fuel" "rent" "clothes" "gifts" "eating out" "taxis" "books" "pets" "repairs" "childcare" "coffee" "insurance" "medicine").into()
        }),
        "return_reason" => Open(|r| {
            words!(r, "broken" "too small" "too big" "the wrong colour" "late" "not as described" "a duplicate" "damaged").into()
        }),
        "goal" => Open(|r| words!(r, "step" "calorie" "distance" "push-up" "water" "protein").into()),
        "repeat" => Choice(&[
            ("every day", "daily"),
            ("daily", "daily"),
            ("on weekdays", "weekdays"),
            ("every workday", "weekdays"),
            ("at weekends", "weekends"),
            ("every weekend", "weekends"),
        ]),
        "travel_mode" => Choice(&[
            ("by car", "driving"),
            ("driving", "driving"),
            ("on foot", "walking"),
            ("walking", "walking"),
            ("by bike", "cycling"),
            ("by bus", "transit"),
            ("by public transport", "transit"),
        ]),
        "hvac_mode" => Choice(&[("heat", "heat"), ("warm", "heat"), ("cool", "cool"), ("chill", "cool")]),
        "fan_level" => {
            Choice(&[("low", "low"), ("gentle", "low"), ("medium", "medium"), ("full", "high"), ("maximum", "high")])
        }
        "priority" => Choice(&[("high", "high"), ("top", "high"), ("normal", "normal"), ("low", "low")]),
        "ringer" => Choice(&[
            ("silent", "silent"),
            ("mute", "silent"),
            ("vibrate", "vibrate"),
            ("vibration", "vibrate"),
            ("loud", "normal"),
            ("normal", "normal"),
        ]),
        "phone_camera" => Choice(&[("front", "front"), ("selfie", "front"), ("back", "back"), ("rear", "back")]),
        "temp_unit" => Choice(&[
            ("celsius", "celsius"),
            ("centigrade", "celsius"),
            ("fahrenheit", "fahrenheit"),
            ("kelvin", "kelvin"),
        ]),
        "sun_event" => {
            Choice(&[("sunrise", "sunrise"), ("sunup", "sunrise"), ("sunset", "sunset"), ("sundown", "sunset")])
        }
        "wind_unit" => Choice(&[
            ("knots", "kn"),
            ("kilometres per hour", "kmh"),
            ("miles per hour", "mph"),
            ("metres per second", "ms"),
        ]),
        "flight_class" => Choice(&[
            ("economy", "economy"),
            ("coach", "economy"),
            ("business class", "business"),
            ("business", "business"),
            ("first class", "first"),
        ]),
        "car_kind" => Choice(&[
            ("small", "compact"),
            ("compact", "compact"),
            ("family", "estate"),
            ("estate", "estate"),
            ("electric", "electric"),
            ("seven-seat", "van"),
        ]),
        "quality" => {
            Choice(&[("good", "good"), ("great", "good"), ("restless", "poor"), ("terrible", "poor"), ("okay", "fair")])
        }
        "operation" => {
            Choice(&[("plus", "add"), ("minus", "subtract"), ("times", "multiply"), ("divided by", "divide")])
        }
        "flag_on" => Flag(&[("on", true), ("off", false)]),
        "flag_lock" => Flag(&[("lock", true), ("bolt", true), ("unlock", false), ("open", false)]),
        "flag_freeze" => Flag(&[("freeze", true), ("block", true), ("unfreeze", false), ("unblock", false)]),
        "flag_shuffle" => {
            Flag(&[("shuffled", true), ("in random order", true), ("in order", false), ("without shuffle", false)])
        }
        "flag_speaker" => Flag(&[("on speaker", true), ("hands-free", true), ("without speaker", false)]),
        "flag_tolls" => Flag(&[("without toll roads", true), ("avoiding tolls", true), ("tolls are fine", false)]),
        "flag_urgent" => Flag(&[("urgent", true), ("important", true), ("ordinary", false)]),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, rng};

    #[test]
    fn open_values_obey_the_filter() {
        let slot = slot("city").unwrap();
        for seed in 0..200 {
            let filled = slot.fill(&mut rng(seed, Purpose::Synthetic, &[]), |value| value.len() % 2 == 0);
            assert_eq!(filled.said.len() % 2, 0);
            assert_eq!(filled.value, filled.said);
        }
    }
}
