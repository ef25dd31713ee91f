//! What speaks for an answer and against it: the model's own probability, and how the answer fits
//! the words of the request.
//!
//! A small model often writes an answer that is a little more probable than the right one, but that
//! any reader would doubt: it uses a number twice and another one not at all, cuts a name short, or
//! calls two tools where one thing is asked for. Each of these signs is a feature. The score is
//! their weighted sum, and the best of several answers is the one with the highest score (reranking
//! with a log-linear model: Collins and Koo, "Discriminative Reranking for Natural Language
//! Parsing", 2005).

mod labels;
mod other_values;
mod request;
mod revisions;
mod spans;

pub use request::Request;

/// Number of features.
pub const NUM: usize = 32;
/// The features, in order, and the weight of each. The weights were fitted on 3,000 requests of
/// `models/needle-mini/written` that training did not see (`cargo run --release -p needle-runtime
/// --example fit_evidence -- models/needle-mini held_out.jsonl`).
pub const FEATURES: [(&str, f64); NUM] = [
    // Log-probability of the whole answer, and its number of tokens divided by ten. The first
    // weight is twice the fitted one: the fit is on unseen tools, and a model that knows its tools
    // deserves more trust (docs/LOG.md, "The best of several answers").
    ("log_prob", 0.706),
    ("tokens", 1.235),
    // 1 if nothing is called.
    ("refusal", 0.809),
    // Numbers in arguments that the query does not say, and that occur in several arguments.
    ("unsaid_numbers", -2.270),
    ("repeated_numbers", -1.766),
    // Numbers in digits in the query that no argument has; the same of a refusal.
    ("unused_numbers", -1.013),
    ("unused_numbers_of_refusal", -0.602),
    // Open strings that are not in the query (an endless one counts several times), that share
    // words of the query with another one, that begin or end within a word or code, and that begin
    // with a function word.
    ("uncopied_strings", -2.210),
    ("overlapping_strings", -1.956),
    ("cut_strings", -4.220),
    ("leading_function_words", -0.824),
    // Capitalized words of the query, except its first one, that no argument has; the same of a
    // refusal.
    ("unused_names", -1.083),
    ("unused_names_of_refusal", -0.538),
    // Values of enums whose words the query has, and others.
    ("said_choices", 0.724),
    ("unsaid_choices", -1.156),
    ("booleans", 0.307),
    // Share of the query's content words that the called tools' definitions have.
    ("tool_words", 1.931),
    // Share of the query's characters that string arguments copy.
    ("copied_share", -1.985),
    // Calls that occur twice.
    ("repeated_calls", -3.451),
    // 1 if there are several calls, but neither an `and` nor a comma in the query; and if there is
    // one call in spite of one.
    ("several_without_and", -3.172),
    ("one_with_and", 0.785),
    // 1 if nothing is called for a query with a negation, and for a question.
    ("refused_negation", 1.171),
    ("refused_question", 0.787),
    // Times of day (HH:MM) in arguments that the query does not say, and certain ones of the query
    // that no argument has; the same of a refusal.
    ("unsaid_times", -2.923),
    ("unused_times", -1.980),
    ("unused_times_of_refusal", 0.359),
    // How much less similar to the query the called tools are, by word vectors, than the most
    // similar one on offer.
    ("worse_tool", -1.682),
    // Enums that were left out, although the query has the words of one of their values, and values
    // of enums, where the query has the words of another one.
    ("unused_choices", -0.999),
    ("other_choices", -1.526),
    // Values beside which the query has a word of their own parameter ("height of 5"), and values
    // beside which it has one of another parameter of the tool.
    ("labelled_values", 0.851),
    ("mislabelled_values", -0.144),
    // Pairs of values without such words that stand in the query in another order than their
    // parameters in the tool's definition.
    ("inverted_values", -0.591),
];

/// The features of one answer.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Evidence([f64; NUM]);

impl Evidence {
    /// The weighted sum of the features; the answer with the highest score is the best.
    pub fn score(&self) -> f64 {
        self.0.iter().zip(FEATURES).map(|(feature, (_, weight))| feature * weight).sum()
    }

    /// The features, in the order of [`FEATURES`].
    pub fn features(&self) -> [f64; NUM] {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use needle_data::text::example::parse_answers;
    use needle_data::tokenizer::TokenizerConfig;
    use needle_data::tokenizer::word_vectors::WordVectors;
    use needle_data::{Tokenizer, Tool};
    use rand::rngs::ChaCha8Rng;
    use rand::seq::IndexedRandom;
    use rand::{RngExt, SeedableRng};
    use serde_json::{Value, json};

    use super::*;

    fn tools() -> Vec<Tool> {
        Tool::list_from_json(&json!([
            {"name": "book_room", "description": "Book a room.", "parameters": {
                "guest": {"type": "string"}, "nights": {"type": "integer"}, "floor": {"type": "integer"},
                "bed": {"type": "string", "enum": ["twin", "king"]}}},
            {"name": "cancel", "description": "Cancel a booking.", "parameters": {"code": {"type": "string"}}}
        ]))
        .unwrap()
    }

    fn tokenizer() -> Tokenizer {
        let config = TokenizerConfig { vocab_size: 300, isolate_spaces: true, join_structure: false };
        Tokenizer::train(&config, ["set a timer"; 3].iter()).unwrap()
    }

    /// The features of an answer that are not 0, by name, without the model's own.
    fn features(query: &str, calls: Value) -> Vec<(&'static str, f64)> {
        features_with(&tools(), query, calls)
    }

    fn features_with(tools: &[Tool], query: &str, calls: Value) -> Vec<(&'static str, f64)> {
        let calls = parse_answers(Some(&calls)).unwrap();
        let evidence = Request::new(query, tools, &tokenizer()).evidence(&calls, 0.0, 0).features();
        FEATURES.iter().zip(evidence).filter(|(_, value)| *value != 0.0).map(|((name, _), v)| (*name, v)).collect()
    }

    fn has(features: &[(&str, f64)], name: &str, value: f64) -> bool {
        features.contains(&(name, value))
    }

    #[test]
    fn an_answer_that_a_reader_would_doubt_shows_it() {
        let query = "Room for Delia Frost, 3 nights on floor 12, king bed";
        let right = features(
            query,
            json!([{"name": "book_room", "arguments": {
            "guest": "Delia Frost", "nights": 3, "floor": 12, "bed": "king"}}]),
        );
        for doubtful in [
            "unsaid_numbers",
            "repeated_numbers",
            "unused_numbers",
            "uncopied_strings",
            "cut_strings",
            "unused_names",
            "unsaid_choices",
            "overlapping_strings",
        ] {
            assert!(right.iter().all(|(name, _)| *name != doubtful), "{doubtful}: {right:?}");
        }
        assert!(has(&right, "said_choices", 1.0) && has(&right, "one_with_and", 1.0), "{right:?}");

        let wrong = features(
            query,
            json!([{"name": "book_room", "arguments": {
            "guest": "Delia", "nights": 3, "floor": 3, "bed": "twin"}}]),
        );
        for (name, value) in
            [("repeated_numbers", 1.0), ("unused_numbers", 1.0), ("unused_names", 1.0), ("unsaid_choices", 1.0)]
        {
            assert!(has(&wrong, name, value), "{name}: {wrong:?}");
        }
        let refused = features(query, json!([]));
        assert!(has(&refused, "unused_numbers_of_refusal", 2.0) && has(&refused, "refusal", 1.0), "{refused:?}");
    }

    #[test]
    fn times_and_choices_that_the_query_says_speak_against_others() {
        let query = "wake room 12 at quarter past six in the evening, twin";
        let with = |arguments: Value| features(query, json!([{"name": "book_room", "arguments": arguments}]));
        let right = with(json!({"guest": "18:15", "floor": 12, "bed": "twin"}));
        for doubtful in ["unsaid_times", "unused_times", "unused_choices", "other_choices", "uncopied_strings"] {
            assert!(right.iter().all(|(name, _)| *name != doubtful), "{doubtful}: {right:?}");
        }
        let wrong = with(json!({"guest": "06:15", "floor": 12, "bed": "king"}));
        for (name, value) in [("unsaid_times", 1.0), ("unused_times", 1.0), ("other_choices", 1.0)] {
            assert!(has(&wrong, name, value), "{name}: {wrong:?}");
        }
        assert!(has(&with(json!({"floor": 12})), "unused_choices", 1.0));
        let off = json!([{"name": "beam", "arguments": {"state": "off"}}]);
        let beam = json!([{"name": "beam", "parameters": {"state": {"type": "string", "enum": ["off", "high"]}}}]);
        let beam = features_with(&Tool::list_from_json(&beam).unwrap(), "turn off the high beam", off);
        assert!(beam.iter().all(|(name, _)| *name != "other_choices"), "the request says off, too: {beam:?}");
        let copied = with(json!({"guest": "quarter past six", "bed": "twin"}));
        assert!(copied.iter().all(|(name, _)| *name != "unused_times"), "{copied:?}");
        assert!(has(&features(query, json!([])), "unused_times_of_refusal", 1.0));
    }

    #[test]
    fn a_tool_whose_words_the_query_has_less_of_is_worse_where_there_are_word_vectors() {
        let words = ["room book guest floor nights bed cancel booking code stay"; 9];
        let config = TokenizerConfig { vocab_size: 400, isolate_spaces: true, join_structure: false };
        let tokenizer = Tokenizer::train(&config, words.iter()).unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("words.txt");
        std::fs::write(&path, "cancel 1 0\nbooking 0.7 0.7\nroom 0 1\nguest 0 0.9\nstay 0.1 1\n").unwrap();
        let vectors = WordVectors::read_text(&path, &tokenizer).unwrap();
        let (tools, tokenizer) = (tools(), tokenizer.with_word_vectors(vectors));
        let request = Request::new("cancel A7", &tools, &tokenizer);
        let worse = |name: &str| {
            let calls = parse_answers(Some(&json!([{"name": name, "arguments": {}}]))).unwrap();
            let at = FEATURES.iter().position(|(name, _)| *name == "worse_tool").unwrap();
            request.evidence(&calls, 0.0, 0).features()[at]
        };
        assert!(worse("cancel") == 0.0 && worse("book_room") > 0.1, "{}", worse("book_room"));
    }

    #[test]
    fn codes_are_taken_whole_or_counted_as_cut() {
        for (query, code, is_cut) in [
            ("cancel vol-0a91", "vol-0a91", false),
            ("cancel vol-0a91", "0a91", true),
            ("cancel vol-0a91", "vol-0a", true),
            ("cancel vol-0a91.", "vol-0a91", false),
            ("annulez «Größe 38»", "Größe 38", false),
            ("annulez Größe", "Grö", true),
        ] {
            let features = features(query, json!([{"name": "cancel", "arguments": {"code": code}}]));
            assert_eq!(has(&features, "cut_strings", 1.0), is_cut, "{query} {code}: {features:?}");
        }
    }

    #[test]
    fn several_calls_need_a_reason_and_no_call_is_made_twice() {
        let twice =
            json!([{"name": "cancel", "arguments": {"code": "A7"}}, {"name": "cancel", "arguments": {"code": "A7"}}]);
        let doubted = features("cancel A7", twice);
        assert!(has(&doubted, "repeated_calls", 1.0) && has(&doubted, "several_without_and", 1.0), "{doubted:?}");
        let two =
            json!([{"name": "cancel", "arguments": {"code": "A7"}}, {"name": "cancel", "arguments": {"code": "B2"}}]);
        let meant = features("cancel A7 and B2", two);
        assert!(meant.iter().all(|(name, _)| !["repeated_calls", "several_without_and"].contains(name)), "{meant:?}");
    }

    fn solver() -> Vec<Tool> {
        let number = |description: &str| json!({"type": "number", "description": description, "required": true});
        let tools = json!([
            {"name": "solve", "description": "Solve a x^2 + b x + c = 0.", "parameters": {
                "a": number("first"), "b": number("second"), "c": number("third")}},
            {"name": "fall", "description": "Speed of a falling body.", "parameters": {
                "start_speed": number("m/s"), "height": number("How high it falls from")}}
        ]);
        Tool::list_from_json(&tools).unwrap()
    }

    #[test]
    fn values_beside_the_words_of_their_parameter_are_labelled() {
        let fall = |query: &str, speed: f64, height: f64| {
            let call = json!([{"name": "fall", "arguments": {"start_speed": speed, "height": height}}]);
            features_with(&solver(), query, call)
        };
        let query = "how fast is it after falling from a height of 9 with a speed of 2?";
        let right = fall(query, 2.0, 9.0);
        assert!(has(&right, "labelled_values", 2.0), "{right:?}");
        let wrong = fall(query, 9.0, 2.0);
        assert!(has(&wrong, "mislabelled_values", 2.0), "{wrong:?}");
        let in_order = fall("it drops: 2 and 9", 2.0, 9.0);
        assert!(in_order.iter().all(|(name, _)| !name.ends_with("ed_values")), "{in_order:?}");
        assert!(has(&fall("it drops: 9 and 2", 2.0, 9.0), "inverted_values", 1.0));
    }

    fn list_tools() -> Vec<Tool> {
        Tool::list_from_json(&json!([{"name": "water", "parameters": {
            "zones": {"type": "array", "items": {"type": "string"}},
            "by": {"type": "array", "items": {"type": "string", "enum": ["drip", "sprinkler"]}}}}]))
        .unwrap()
    }

    #[test]
    fn an_endless_answer_is_not_chosen_for_its_length() {
        let query = "water the herbs";
        let score = |zone: &str, tokens: usize| {
            let call = json!([{"name": "water", "arguments": {"zones": [zone]}}]);
            let calls = parse_answers(Some(&call)).unwrap();
            // As improbable as an answer can count.
            let log_prob = if zone == "herbs" { -5.0 } else { -50.0 };
            Request::new(query, &list_tools(), &tokenizer()).evidence(&calls, log_prob, tokens).score()
        };
        let endless = json!([{"name": "water", "arguments": {"zones": ["wood".repeat(200)]}}]);
        let endless = features_with(&list_tools(), query, endless);
        assert!(has(&endless, "uncopied_strings", 54.0), "800 bytes are as long as 53 requests: {endless:?}");
        let longest = [100, 420].map(|tokens| score("herbs", tokens));
        assert!(longest[0] == longest[1], "{longest:?}");
        let right = score("herbs", 15);
        assert!(right > score(&"wood".repeat(200), 420), "{right}");
        assert!(right > score("", 14), "{right}");
    }

    fn revisions(tools: &[Tool], query: &str, calls: Value) -> Vec<Value> {
        let calls = parse_answers(Some(&calls)).unwrap();
        let revisions = Request::new(query, tools, &tokenizer()).revisions(&calls, 8);
        revisions.into_iter().map(|calls| json!(calls)).collect()
    }

    #[test]
    fn revisions_mend_what_a_reader_sees_at_once() {
        let solve = |a: i64, b: i64, c: i64| json!([{"name": "solve", "arguments": {"a": a, "b": b, "c": c}}]);
        let book = |arguments: Value| json!([{"name": "book_room", "arguments": arguments}]);
        for (tools, query, wrong, right) in [
            (solver(), "solve it for a = 2, b = -6 and c = 5", solve(5, 2, 2), solve(2, -6, 5)),
            (solver(), "solve it for a = 2, b = 6, c = 5", solve(5, 6, 2), solve(2, 6, 5)),
            (
                tools(),
                "book 3 nights for Delia Frost on floor 12",
                book(json!({"guest": "Delia", "nights": 3, "floor": 12})),
                book(json!({"guest": "Delia Frost", "nights": 3, "floor": 12})),
            ),
            (
                tools(),
                "wake the guest at quarter past six in the evening",
                book(json!({"guest": "06:15"})),
                book(json!({"guest": "18:15"})),
            ),
            (
                tools(),
                "book a king for `Delia`",
                book(json!({"guest": "`delia`", "bed": "twin"})),
                book(json!({"guest": "`delia`", "bed": "king"})),
            ),
            (
                tools(),
                "cancel A7",
                json!([{"name": "cancel", "arguments": {"code": "A7"}}, {"name": "cancel", "arguments": {"code": "A7"}}]),
                json!([{"name": "cancel", "arguments": {"code": "A7"}}]),
            ),
            (
                list_tools(),
                "water the south lawn and the herbs by sprinkler and drip",
                json!([{"name": "water", "arguments": {"zones": ["south lawn", "the herbs"], "by": ["drip"]}}]),
                json!([{"name": "water", "arguments": {"zones": ["south lawn", "herbs"], "by": ["drip"]}}]),
            ),
            (
                list_tools(),
                "water the herbs by sprinkler",
                json!([{"name": "water", "arguments": {"zones": ["herbs"], "by": ["drip"]}}]),
                json!([{"name": "water", "arguments": {"zones": ["herbs"], "by": ["sprinkler"]}}]),
            ),
        ] {
            let found = revisions(&tools, query, wrong);
            let exact = |calls: &Value| parse_answers(Some(calls)).unwrap();
            assert!(found.iter().any(|calls| exact(calls) == exact(&right)), "{query}: {found:?}");
        }
    }

    #[test]
    fn a_call_is_divided_or_repeated_for_several_things() {
        let book = |arguments: Value| json!([{"name": "book_room", "arguments": arguments}]);
        for (tools, query, one, several) in [
            (
                tools(),
                "cancel A7 and B2",
                json!([{"name": "cancel", "arguments": {"code": "A7 and B2"}}]),
                json!([{"name": "cancel", "arguments": {"code": "A7"}}, {"name": "cancel", "arguments": {"code": "B2"}}]),
            ),
            (
                tools(),
                "cancel A7, B2, and C9",
                json!([{"name": "cancel", "arguments": {"code": "A7, B2, and C9"}}]),
                json!([{"name": "cancel", "arguments": {"code": "A7"}}, {"name": "cancel", "arguments": {"code": "B2"}},
                    {"name": "cancel", "arguments": {"code": "C9"}}]),
            ),
            (
                tools(),
                "book 3 nights for Delia Frost and 5 nights for Ida",
                book(json!({"guest": "Delia Frost", "nights": 3})),
                json!([{"name": "book_room", "arguments": {"guest": "Delia Frost", "nights": 3}},
                    {"name": "book_room", "arguments": {"guest": "Ida", "nights": 3}}]),
            ),
        ] {
            let calls = |calls: &Value| parse_answers(Some(calls)).unwrap();
            let found = Request::new(query, &tools, &tokenizer()).all_revisions(&calls(&one));
            assert!(found.contains(&calls(&several)), "{query}: {found:?}");
        }
    }

    #[test]
    fn an_answer_that_fits_its_request_is_not_revised() {
        let call = json!([{"name": "book_room", "arguments": {
            "guest": "Delia Frost", "nights": 3, "floor": 12, "bed": "king"}}]);
        let found = revisions(&tools(), "Room for Delia Frost, 3 nights on floor 12, king bed", call);
        assert!(found.is_empty(), "{found:?}");
        assert!(revisions(&tools(), "good morning", json!([])).is_empty());
        let ann = json!([{"name": "cancel", "arguments": {"code": "Anna"}}, {"name": "cancel", "arguments": {"code": "Ann"}}]);
        let found = revisions(&tools(), "cancel Anna and Ann", ann);
        let is_twice = |calls: &Value| calls.to_string().matches("Anna").count() > 1;
        assert!(!found.iter().any(is_twice), "Ann stands on her own: {found:?}");
        let found =
            revisions(&tools(), "don't cancel Bob's room", json!([{"name": "cancel", "arguments": {"code": "room"}}]));
        assert!(!json!(found).to_string().contains("t cancel"), "apostrophes are no quotes: {found:?}");
        assert!(revisions(&[], "İ ½ … 数字", json!([{"name": "gone", "arguments": {"x": "½"}}])).is_empty());
    }

    #[test]
    fn odd_requests_have_evidence_too() {
        for query in ["", " ", "İ", "İİ\u{212A} ab", "ẞtraße 5", "½ … 数字", "I", "'", "`a"] {
            let evidence =
                features(query, json!([{"name": "cancel", "arguments": {"code": "ß", "more": [null, {"a": ""}]}}]));
            assert!(evidence.iter().all(|(_, value)| value.is_finite()), "{query}");
            for text in ["ß", "", "İ", "k", "5", "数", "…", "'"] {
                revisions(&tools(), query, json!([{"name": "cancel", "arguments": {"code": text}}]));
            }
        }
    }

    #[test]
    fn long_requests_and_answers_with_many_arguments_have_few_revisions() {
        let parameters: serde_json::Map<String, Value> =
            (0..150).map(|i| (format!("name_{i} of the thing"), json!({"type": "string"}))).collect();
        let tools = Tool::list_from_json(&json!([{"name": "cancel", "parameters": parameters}])).unwrap();
        let arguments: serde_json::Map<String, Value> =
            parameters.keys().enumerate().map(|(i, name)| (name.clone(), json!(format!("A-{i}")))).collect();
        for query in ["A-".repeat(16_000), "7pm ".repeat(2000), "a, ".repeat(3000), "Ann Bob 12 ".repeat(1000)] {
            // Work that grows with the square of the request would not end here.
            for arguments in [json!(arguments), json!({"name_0 of the thing": query})] {
                let found = revisions(&tools, &query, json!([{"name": "cancel", "arguments": arguments}]));
                assert!(found.len() <= 8);
            }
        }
    }

    #[test]
    fn no_mixture_of_characters_stops_the_evidence() {
        const CHARACTERS: [char; 20] = [
            'İ', '\u{212A}', 'ß', 'ẞ', 'a', 'B', ' ', ' ', '1', '7', '-', '–', '.', '"', '\'', '“', '«', '数',
            '\u{301}', '½',
        ];
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let mut text = |length: usize| -> String {
            (0..rng.random_range(0..length)).filter_map(|_| CHARACTERS.choose(&mut rng)).collect()
        };
        for _ in 0..3000 {
            let (query, code) = (text(12), text(5));
            revisions(&tools(), &query, json!([{"name": "cancel", "arguments": {"code": code}}]));
        }
    }
}
