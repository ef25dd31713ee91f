//! What every invented example keeps, whatever the seed.

use super::*;

fn inventor(config: InventConfig) -> Inventor {
    Inventor::new(config).unwrap()
}

#[test]
fn twenty_thousand_examples_are_valid() {
    let inventor = inventor(InventConfig::default());
    for index in 0..20_000 {
        let Invented { example, kind, .. } = inventor.get(index);
        let line = example.to_json().to_string();
        let read = Example::parse(&line).unwrap_or_else(|e| panic!("{e}: {line}"));
        assert_eq!(read.answers.is_empty(), kind.is_refusal(), "{kind:?} {line}");
    }
}
