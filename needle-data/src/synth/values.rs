//! Parts of which values are composed, and wordings of numbers, amounts, times and dates.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

use crate::text::number_words::{ONES, TENS};

pub(super) fn pick<T: Copy>(rng: &mut ChaCha8Rng, items: &[T]) -> T {
    items[rng.random_range(0..items.len())]
}

/// One of the words.
macro_rules! words {
    ($rng:expr, $($word:literal)*) => { pick($rng, &[$($word),*]) };
}
pub(super) use words;

/// An invented name: syllables that look like a word of no language in particular.
pub(super) fn invented(rng: &mut ChaCha8Rng, syllables: usize) -> String {
    let mut name = String::new();
    for _ in 0..syllables {
        name.push_str(
            words!(rng, "b" "br" "c" "d" "dr" "f" "g" "h" "j" "k" "l" "m" "n" "p" "r" "s" "st" "t" "v" "w" "z" "th"),
        );
        name.push_str(words!(rng, "a" "e" "i" "o" "u" "ai" "ea" "ou"));
    }
    name.push_str(words!(rng, "n" "r" "l" "s" "m" "ck" "nd" "th" "" "x"));
    capitalized(&name)
}

fn capitalized(word: &str) -> String {
    let mut chars = word.chars();
    chars.next().map(|c| c.to_uppercase().chain(chars).collect()).unwrap_or_default()
}

pub(super) fn first_name(rng: &mut ChaCha8Rng) -> String {
    if rng.random_ratio(1, 6) {
        return invented(rng, 2);
    }
    words!(rng, "Anna" "Ben" "Clara" "David" "Emma" "Felix" "Grace" "Hugo" "Iris" "Jonas" "Kira" "Leo" "Maya" "Noah" "Olga"
        "Paul" "Quinn" "Rosa" "Sam" "Tara" "Umar" "Vera" "Will" "Xenia" "Yara" "Zoe" "Amir" "Bianca" "Chen" "Diego" "Elif"
        "Farah" "Gita" "Hana" "Ivan" "Joyce" "Karim" "Lucia" "Marek" "Nadia" "Omar" "Priya" "Rafael" "Sofia" "Tomas" "Ulrich"
        "Viktor" "Wanda" "Yusuf" "Zara" "Aoife" "Bruno" "Camille" "Dmitri" "Esther" "Fiona" "Goran" "Helga" "Ingrid" "Jamal").into()
}

pub(super) fn last_name(rng: &mut ChaCha8Rng) -> String {
    if rng.random_ratio(1, 3) {
        let syllables = rng.random_range(1..=2);
        return invented(rng, syllables) + words!(rng, "son" "man" "ley" "ski" "berg" "ton" "ez" "i");
    }
    words!(rng, "Smith" "Garcia" "Mueller" "Rossi" "Novak" "Kim" "Singh" "Okafor" "Larsen" "Dubois" "Silva" "Tanaka" "Brown"
        "Murphy" "Costa" "Weber" "Ali" "Haddad" "Nowak" "Jensen" "Moreau" "Ricci" "Popov" "Mensah" "Cohen" "Baker" "Fischer").into()
}

pub(super) fn person(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..10) {
        0 => words!(rng, "Mum" "Dad" "my sister" "my boss" "Grandma" "my landlord" "Uncle Bob" "the dentist" "my neighbour").into(),
        1..=6 => first_name(rng),
        7 => format!("{} {}", words!(rng, "Dr" "Mrs" "Mr" "Aunt" "Coach"), last_name(rng)),
        _ => format!("{} {}", first_name(rng), last_name(rng)),
    }
}

pub(super) fn city(rng: &mut ChaCha8Rng) -> String {
    if rng.random_ratio(1, 4) {
        let root = invented(rng, 2);
        return match rng.random_range(0..4) {
            0 => format!("{} {root}", words!(rng, "Port" "San" "New" "Fort" "Lake" "East" "Upper")),
            1 => root + words!(rng, "ville" "burg" "ton" "ford" "field" "dorf" "wick"),
            _ => root,
        };
    }
    words!(rng, "Paris" "Berlin" "Madrid" "Rome" "Vienna" "Lisbon" "Oslo" "Dublin" "Prague" "Athens" "Warsaw" "Budapest" "Helsinki"
        "Tokyo" "Osaka" "Seoul" "Beijing" "Mumbai" "Delhi" "Cairo" "Nairobi" "Lagos" "Accra" "Cape Town" "Sydney" "Perth"
        "Auckland" "Toronto" "Montreal" "Vancouver" "Boston" "Chicago" "Denver" "Seattle" "Austin" "New York" "Los Angeles"
        "Mexico City" "Bogota" "Lima" "Santiago" "Buenos Aires" "Sao Paulo" "Istanbul" "Tehran" "Dubai" "Bangkok" "Hanoi"
        "Manila" "Jakarta" "Porto" "Seville" "Lyon" "Naples" "Zurich" "Geneva" "Hamburg" "Munich" "Ghent" "Bergen" "Cork").into()
}

pub(super) fn place(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..5) {
        0 => {
            words!(rng, "home" "work" "the airport" "the train station" "the gym" "school" "the office" "the city hall")
                .into()
        }
        1 => {
            let syllables = rng.random_range(1..=2);
            let street = invented(rng, syllables);
            format!("{} {street} {}", rng.random_range(1..=250), words!(rng, "Street" "Avenue" "Road" "Lane"))
        }
        2 => format!(
            "{} {}",
            last_name(rng),
            words!(rng, "Park" "Museum" "Hospital" "Bridge" "Stadium" "Market" "Library" "Theatre")
        ),
        3 => restaurant(rng),
        _ => city(rng),
    }
}

pub(super) fn label(rng: &mut ChaCha8Rng) -> String {
    words!(rng, "pasta" "laundry" "tea" "bread" "yoga" "nap" "meeting" "pizza" "eggs" "homework" "medicine" "plants" "rice" "cake"
        "parking" "workout" "reading" "shower" "coffee" "soup" "dog walk" "oven" "piano" "meditation" "school run" "egg boil"
        "dishwasher" "roast" "stretching" "focus" "break" "cookies" "sauce" "lunch" "chess" "sourdough" "face mask" "sprint").into()
}

pub(super) fn subject(rng: &mut ChaCha8Rng) -> String {
    format!(
        "{} {}",
        words!(rng, "summer" "budget" "project" "dinner" "holiday" "rent" "contract" "school" "birthday" "garden" "team" "kitchen" "travel" "winter" "concert" "insurance"),
        words!(rng, "plans" "report" "invoice" "update" "ideas" "photos" "questions" "tickets" "notes" "offer" "list" "draft" "meeting" "proposal")
    )
}

pub(super) fn topic(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..3) {
        0 => subject(rng),
        1 => format!(
            "{} in {}",
            words!(rng, "jazz bars" "museums" "rents" "elections" "bike paths" "street food" "hiking trails" "flea markets" "house prices" "concerts"),
            city(rng)
        ),
        _ => format!(
            "{} {}",
            words!(rng, "electric" "organic" "ancient" "modern" "cheap" "solar" "marine" "medieval" "quantum" "local" "wild" "digital"),
            words!(rng, "cars" "farming" "history" "art" "energy" "biology" "music" "computing" "animals" "politics" "gardens" "cooking" "chess" "poetry")
        ),
    }
}

pub(super) fn message(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..6) {
        0 => format!(
            "I am {}",
            words!(rng, "running late" "on my way" "stuck in traffic" "at the station" "almost there" "feeling better" "out of milk" "home already" "waiting outside" "still at work")
        ),
        1 => format!("can you {}", task(rng)),
        2 => format!("see you at {}", place(rng)),
        3 => format!("do not forget the {}", item(rng)),
        4 => format!(
            "the {} is {}",
            words!(rng, "meeting" "parcel" "car" "dinner" "key" "report" "flat" "concert" "boiler" "train"),
            words!(rng, "ready" "cancelled" "late" "moved to Friday" "under the mat" "really good" "broken again" "sold out" "fixed")
        ),
        _ => format!(
            "{} {}",
            words!(rng, "happy birthday" "thank you" "good luck" "congratulations" "get well soon" "good morning" "well done"),
            first_name(rng)
        ),
    }
}

pub(super) fn task(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..3) {
        0 => format!("call {}", person(rng)),
        1 => format!("buy {}", item(rng)),
        _ => format!(
            "{} the {}",
            words!(rng, "clean" "fix" "check" "water" "pay" "return" "paint" "book" "pack" "move" "wash" "collect" "print" "renew" "sell"),
            words!(rng, "bathroom" "bike" "tickets" "plants" "bill" "books" "fence" "hotel" "suitcase" "sofa" "car" "parcel" "contract" "passport" "windows" "boiler" "shed")
        ),
    }
}

pub(super) fn event(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..3) {
        0 => format!("{} with {}", words!(rng, "lunch" "dinner" "coffee" "a call" "an interview" "a walk" "drinks" "tennis"), person(rng)),
        1 => format!("{} {}", words!(rng, "team" "budget" "project" "parents" "sales" "design" "board" "weekly"), words!(rng, "meeting" "review" "workshop" "call" "lunch" "training")),
        _ => words!(rng, "dentist appointment" "yoga class" "piano lesson" "book club" "choir practice" "haircut" "car inspection" "football training" "eye test" "film night" "flu shot" "barbecue").into(),
    }
}

pub(super) fn item(rng: &mut ChaCha8Rng) -> String {
    let noun = words!(rng, "apples" "bread" "milk" "eggs" "rice" "batteries" "soap" "candles" "tomatoes" "cheese" "yoghurt" "lemons" "coffee"
        "sugar" "tea bags" "onions" "carrots" "olive oil" "napkins" "toothpaste" "cat food" "honey" "pasta" "mushrooms" "spinach" "light bulbs");
    if rng.random_ratio(1, 2) {
        return noun.into();
    }
    format!(
        "{} {noun}",
        words!(rng, "organic" "fresh" "frozen" "cheap" "large" "green" "red" "dried" "vegan" "local" "small" "spare")
    )
}

pub(super) fn product(rng: &mut ChaCha8Rng) -> String {
    let noun = words!(rng, "running shoes" "desk lamp" "backpack" "headphones" "water bottle" "keyboard" "rain jacket" "coffee machine" "office chair"
        "phone case" "tent" "bike helmet" "blender" "sunglasses" "yoga mat" "toaster" "suitcase" "monitor" "drill" "notebook");
    match rng.random_range(0..3) {
        0 => noun.into(),
        1 => format!("{} {noun}", invented(rng, 2)),
        _ => format!(
            "{} {noun}",
            words!(rng, "leather" "wireless" "folding" "kids" "waterproof" "used" "steel" "wooden" "lightweight" "cordless")
        ),
    }
}

pub(super) fn dish(rng: &mut ChaCha8Rng) -> String {
    format!(
        "{} {}",
        words!(rng, "chicken" "vegetable" "mushroom" "beef" "lentil" "tofu" "salmon" "pumpkin" "spinach" "cheese" "prawn" "bean" "tomato" "lamb"),
        words!(rng, "soup" "curry" "pizza" "salad" "burger" "pie" "noodles" "risotto" "tacos" "stew" "dumplings" "lasagne" "wrap" "ramen")
    )
}

pub(super) fn restaurant(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..3) {
        0 => format!(
            "{} {}",
            words!(rng, "Golden" "Blue" "Little" "Royal" "Green" "Old" "Happy" "Silver"),
            words!(rng, "Dragon" "Olive" "Lantern" "Garden" "Fork" "Mill" "Whale" "Pepper" "Anchor")
        ),
        1 => format!("{}'s {}", first_name(rng), words!(rng, "Kitchen" "Diner" "Grill" "Cafe" "Pizzeria" "Bakery")),
        _ => format!("{} {}", words!(rng, "Casa" "Trattoria" "Chez" "Taverna" "Bistro"), invented(rng, 2)),
    }
}

pub(super) fn title(rng: &mut ChaCha8Rng) -> String {
    let adjective = words!(rng, "Broken" "Silent" "Golden" "Midnight" "Lost" "Electric" "Paper" "Crimson" "Endless" "Hidden" "Frozen" "Sweet" "Distant" "Velvet" "Burning" "Hollow");
    let noun = words!(rng, "Rivers" "Dreams" "Hearts" "Highway" "Mirror" "Ocean" "Summer" "Letters" "Garden" "Machine" "Shadows" "Island" "Echo" "Lanterns" "Winter" "Orchard" "Harbour");
    match rng.random_range(0..4) {
        0 => format!("The {adjective} {noun}"),
        1 => format!("{noun} of {}", invented(rng, 2)),
        2 => noun.into(),
        _ => format!("{adjective} {noun}"),
    }
}

pub(super) fn artist(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..3) {
        0 => format!("{} {}", first_name(rng), last_name(rng)),
        1 => format!(
            "The {}",
            words!(rng, "Wanderers" "Satellites" "Night Owls" "Lemon Trees" "Foxes" "Paper Boats" "Tin Roofs" "Daydreamers" "Cold Harbours" "Marble Kings" "Sleepwalkers" "Glass Bees")
        ),
        _ => invented(rng, 2),
    }
}

pub(super) fn mood(rng: &mut ChaCha8Rng) -> String {
    format!(
        "{} {}",
        words!(rng, "morning" "evening" "summer" "rainy day" "sunday" "party" "deep" "calm" "focus" "road trip" "winter" "happy"),
        words!(rng, "mix" "vibes" "energy" "beats" "chill" "classics" "mood" "hits" "jazz" "relax" "run" "glow")
    )
}

pub(super) fn podcast(rng: &mut ChaCha8Rng) -> String {
    format!(
        "{} {}",
        words!(rng, "Daily" "History" "Science" "Planet" "Night" "Money" "Garden" "Crime" "Football" "Tech"),
        words!(rng, "Matters" "Hour" "Stories" "Talk" "Files" "Unpacked" "Weekly" "Lab" "Room" "Notes")
    )
}

pub(super) fn station(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..2) {
        0 => format!("{} FM", invented(rng, 2)),
        _ => format!(
            "Radio {}",
            words!(rng, "One" "Classic" "Nova" "Jazz" "City" "Coast" "Eins" "Swing" "Metro" "Alpha" "Nord" "Sol")
        ),
    }
}

pub(super) fn group(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..2) {
        0 => format!(
            "{} {}",
            words!(rng, "Book" "Football" "Family" "Office" "Hiking" "Choir" "Chess" "Garden" "Cycling" "Cinema"),
            words!(rng, "Club" "Friends" "Crew" "Gang" "Team" "Circle" "Squad")
        ),
        _ => format!("{} {}", invented(rng, 2), words!(rng, "United" "Rovers" "Tigers" "Stars" "Giants" "Hawks")),
    }
}

pub(super) fn list(rng: &mut ChaCha8Rng) -> String {
    words!(rng, "shopping" "packing" "gift" "reading" "wish" "guest" "camping" "chores" "party" "film" "work" "renovation" "baby" "wedding" "picnic" "christmas").into()
}

pub(super) fn company(rng: &mut ChaCha8Rng) -> String {
    format!(
        "{} {}",
        invented(rng, 2),
        words!(rng, "Energy" "Water" "Telecom" "Motors" "Foods" "Bank" "Systems" "Gas" "Insurance" "Labs")
    )
}

pub(super) fn app(rng: &mut ChaCha8Rng) -> String {
    if rng.random_ratio(1, 2) {
        return invented(rng, 2);
    }
    words!(rng, "Calculator" "Maps" "Camera" "Notes" "Gallery" "Clock" "Mail" "Calendar" "Settings" "Health" "Wallet" "Recorder" "Browser" "Scanner").into()
}

pub(super) fn phrase(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..3) {
        0 => format!("where is the {}", words!(rng, "station" "bathroom" "museum" "exit" "hotel" "bus stop" "bakery" "hospital")),
        1 => format!("I would like {}", item(rng)),
        _ => words!(rng, "good morning" "thank you very much" "how are you" "I am lost" "the bill please" "nice to meet you" "see you tomorrow" "excuse me" "no sugar please").into(),
    }
}

pub(super) fn rare_word(rng: &mut ChaCha8Rng) -> String {
    if rng.random_ratio(1, 2) {
        return invented(rng, 2).to_lowercase();
    }
    words!(rng, "serendipity" "gossamer" "petrichor" "ephemeral" "quixotic" "lagoon" "entropy" "zenith" "laconic" "umbrage" "verdant" "aplomb" "obelisk" "tacit").into()
}

pub(super) fn email(rng: &mut ChaCha8Rng) -> String {
    let (name, host) = (first_name(rng).to_lowercase(), invented(rng, 2).to_lowercase());
    format!("{name}@{host}.{}", words!(rng, "com" "org" "net" "de" "io"))
}

pub(super) fn phone(rng: &mut ChaCha8Rng) -> String {
    let length = rng.random_range(6..=10);
    let digits: String = (0..length).map(|_| char::from(b'0' + rng.random_range(0..10u8))).collect();
    if rng.random_ratio(1, 2) { digits } else { format!("{}-{}", &digits[..3], &digits[3..]) }
}

pub(super) fn order_id(rng: &mut ChaCha8Rng) -> String {
    format!("{}{}", words!(rng, "A" "B" "K" "X" "ZT" "NR-" "PK"), rng.random_range(1000..=99_999))
}

pub(super) fn flight_number(rng: &mut ChaCha8Rng) -> String {
    format!("{}{}", words!(rng, "LH" "BA" "AF" "UA" "KL" "SK" "TP" "EK"), rng.random_range(10..=9999))
}

pub(super) fn parking(rng: &mut ChaCha8Rng) -> String {
    match rng.random_range(0..2) {
        0 => format!("level {} row {}", rng.random_range(1..=9), words!(rng, "A" "B" "C" "D" "E" "F" "G")),
        _ => {
            let name = last_name(rng);
            format!("{name} {}", words!(rng, "Street" "Road" "Square"))
        }
    }
}

pub(super) fn day(rng: &mut ChaCha8Rng) -> String {
    let weekday = words!(rng, "Monday" "Tuesday" "Wednesday" "Thursday" "Friday" "Saturday" "Sunday");
    match rng.random_range(0..4) {
        0 => words!(rng, "today" "tomorrow" "tonight" "this weekend" "next week" "this evening").into(),
        1 => format!("next {weekday}"),
        2 => format!("{} {}", month(rng).0, rng.random_range(1..=28)),
        _ => format!("on {weekday}"),
    }
}

pub(super) fn month(rng: &mut ChaCha8Rng) -> (&'static str, u32) {
    pick(
        rng,
        &[
            ("January", 1),
            ("February", 2),
            ("March", 3),
            ("April", 4),
            ("May", 5),
            ("June", 6),
            ("July", 7),
            ("August", 8),
            ("September", 9),
            ("October", 10),
            ("November", 11),
            ("December", 12),
        ],
    )
}

pub(super) fn date(rng: &mut ChaCha8Rng) -> (String, String) {
    let (name, month) = month(rng);
    let day: u32 = rng.random_range(1..=28);
    let said = match rng.random_range(0..3) {
        0 => format!("{name} {day}"),
        1 => format!("{day} {name}"),
        _ => format!("the {} of {name}", ordinal(day)),
    };
    (said, format!("{month:02}-{day:02}"))
}

pub(super) fn ordinal(n: u32) -> String {
    let suffix = match (n % 10, n % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{n}{suffix}")
}

/// `0..=999` in English words.
pub(super) fn in_words(n: i64) -> String {
    let n = n.unsigned_abs() as usize;
    match n {
        0..20 => ONES[n].into(),
        20..100 if n.is_multiple_of(10) => TENS[n / 10 - 2].into(),
        20..100 => format!("{} {}", TENS[n / 10 - 2], ONES[n % 10]),
        _ if n.is_multiple_of(100) => format!("{} hundred", ONES[(n / 100) % 20]),
        _ => format!("{} hundred {}", ONES[(n / 100) % 20], in_words((n % 100) as i64)),
    }
}

/// A number as digits, or (up to a hundred) in words one time in three.
pub(super) fn said_number(rng: &mut ChaCha8Rng, range: std::ops::RangeInclusive<i64>) -> (String, i64) {
    let n = rng.random_range(range);
    let said = if n <= 100 && rng.random_ratio(1, 3) { in_words(n) } else { n.to_string() };
    (said, n)
}

/// A number as digits, followed by `after`.
pub(super) fn digits(n: i64, after: &str) -> (String, i64) {
    (format!("{n}{after}"), n)
}

pub(super) fn with_unit(rng: &mut ChaCha8Rng, range: std::ops::RangeInclusive<i64>, unit: &str) -> (String, i64) {
    let (said, n) = said_number(rng, range);
    (format!("{said} {unit}s"), n)
}

pub(super) fn percent(rng: &mut ChaCha8Rng) -> (String, i64) {
    match rng.random_range(0..8) {
        0 => ("half".into(), 50),
        1 => ("maximum".into(), 100),
        2..=4 => {
            let n = rng.random_range(1..=99);
            (format!("{n}%"), n)
        }
        _ => {
            let (said, n) = said_number(rng, 1..=100);
            (format!("{said} percent"), n)
        }
    }
}

pub(super) fn amount(rng: &mut ChaCha8Rng) -> (String, i64) {
    let n = if rng.random_ratio(1, 2) { rng.random_range(2..=99) } else { rng.random_range(1..=60) * 25 };
    let said = match rng.random_range(0..4) {
        0 => format!("${n}"),
        1 => format!("{n} euros"),
        2 if n <= 100 => format!("{} dollars", in_words(n)),
        _ => format!("{n} dollars"),
    };
    (said, n)
}

pub(super) fn minutes(rng: &mut ChaCha8Rng) -> (String, i64) {
    match rng.random_range(0..8) {
        0 => ("half an hour".into(), 30),
        1 => ("a quarter of an hour".into(), 15),
        2 => ("an hour".into(), 60),
        3 => ("an hour and a half".into(), 90),
        4 => {
            let n = rng.random_range(2..=59);
            (format!("{n} min"), n)
        }
        _ => with_unit(rng, 2..=59, "minute"),
    }
}

pub(super) fn seconds(rng: &mut ChaCha8Rng) -> (String, i64) {
    if rng.random_ratio(1, 4) {
        let (said, n) = pick(rng, &[("half a minute", 30), ("a minute", 60)]);
        return (said.into(), n);
    }
    with_unit(rng, 2..=59, "second")
}

pub(super) fn time(rng: &mut ChaCha8Rng) -> (String, String) {
    let hour24: i64 = rng.random_range(0..24);
    let hour12 = if hour24 % 12 == 0 { 12 } else { hour24 % 12 };
    let half = if hour24 < 12 { "am" } else { "pm" };
    let part = match hour24 {
        0..12 => "in the morning",
        12..18 => "in the afternoon",
        _ => "in the evening",
    };
    let minute: i64 = rng.random_range(0..12) * 5;
    let value = |hour: i64, minute: i64| format!("{:02}:{minute:02}", hour.rem_euclid(24));
    match rng.random_range(0..8) {
        0 => (format!("{hour12} {half}"), value(hour24, 0)),
        1 => (format!("half past {} {part}", in_words(hour12)), value(hour24, 30)),
        2 => (format!("quarter past {} {part}", in_words(hour12)), value(hour24, 15)),
        3 => (format!("{} {part}", in_words(hour12)), value(hour24, 0)),
        4 | 5 => (format!("{hour12}:{minute:02} {half}"), value(hour24, minute)),
        _ => (value(hour24, minute), value(hour24, minute)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, rng};
    #[test]
    fn numbers_are_spelled_as_people_say_them() {
        for (n, words) in [
            (7, "seven"),
            (15, "fifteen"),
            (40, "forty"),
            (72, "seventy two"),
            (100, "one hundred"),
            (305, "three hundred five"),
        ] {
            assert_eq!(in_words(n), words);
        }
    }

    #[test]
    fn times_are_what_was_said() {
        for seed in 0..2000 {
            let (said, value) = time(&mut rng(seed, Purpose::Synthetic, &[]));
            let (hour, minute) = value.split_once(':').unwrap();
            let hour: i64 = hour.parse().unwrap();
            assert!(hour < 24 && minute.parse::<i64>().unwrap() < 60, "{said} -> {value}");
            if said.contains("half past") {
                assert_eq!(minute, "30", "{said}");
            }
            if said.ends_with("am") || said.contains("morning") {
                assert!(hour < 12, "{said} -> {value}");
            }
        }
    }
}
