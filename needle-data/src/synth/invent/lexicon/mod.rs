//! The word lists of the generator, read from the TOML files beside it: domains and their things,
//! the actions on them, the roles of a request with their kinds of value, and the phrases around
//! it.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::kind::Kind;

/// Everything that is read from the TOML files.
pub(super) struct Lexicon {
    pub domains: Vec<Domain>,
    pub actions: Vec<Action>,
    pub roles: BTreeMap<String, Role>,
    pub choices: BTreeMap<String, Vec<Alternative>>,
    pub pools: BTreeMap<String, Vec<String>>,
    pub phrases: Phrases,
}

/// A field of life, such as a brewery.
pub(super) struct Domain {
    pub name: String,
    /// What the people that it serves are called, such as `patient`.
    pub person: String,
    pub things: Vec<Thing>,
    /// Values by name of the pool; a leading `~` marks a value that is said with an article.
    pub pools: BTreeMap<String, Vec<String>>,
}

/// A kind of thing that actions apply to.
#[derive(Debug, Clone)]
pub(super) struct Thing {
    pub noun: String,
    pub plural: String,
    pub traits: Vec<String>,
    /// How one of them is identified: `code`, `number`, `label`, `place`, or a pool of names.
    pub known_by: String,
    /// Roles that only this thing has, such as the pressure of a valve.
    pub attributes: Vec<String>,
}

/// An action on things with certain traits.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Action {
    /// Actions of one group on the same thing could be mistaken for each other.
    pub group: String,
    /// Other groups that it could be mistaken for.
    #[serde(default)]
    pub clash: String,
    /// Traits of the things that it applies to.
    pub on: String,
    pub verbs: String,
    #[serde(default)]
    pub names: Vec<String>,
    pub does: Vec<String>,
    /// Roles in order of declaration: `ref!` is required, `note` is optional, and at least one of
    /// those with `+` is stated.
    pub roles: String,
    /// Verb phrases: `cancel {ref}`.
    #[serde(default, rename = "do")]
    pub verb_phrases: Vec<String>,
    /// Noun phrases that can be asked for: `{quantity} {item}`.
    #[serde(default, rename = "np")]
    pub noun_phrases: Vec<String>,
    /// Whole sentences: `we are out of {item}, get {quantity}`.
    #[serde(default)]
    pub say: Vec<String>,
    /// Roles that only this action has.
    #[serde(skip)]
    pub own_roles: BTreeMap<String, Role>,
}

/// A tool that is written out with its roles, see `lexicon/frames.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawFrame {
    domain: String,
    thing: String,
    verbs: String,
    #[serde(default)]
    group: String,
    #[serde(default)]
    clash: String,
    #[serde(default)]
    names: Vec<String>,
    does: Vec<String>,
    /// `key! = kind | label | names | descriptions | ways to say it | ways without a value`, or the
    /// key of a shared role.
    roles: Vec<String>,
    #[serde(default, rename = "do")]
    verb_phrases: Vec<String>,
    #[serde(default, rename = "np")]
    noun_phrases: Vec<String>,
    #[serde(default)]
    say: Vec<String>,
}

#[derive(Deserialize)]
struct Frames {
    frame: Vec<RawFrame>,
}

/// The role that an argument plays in a request.
#[derive(Deserialize, Clone)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRole {
    kind: String,
    #[serde(default)]
    label: String,
    names: String,
    #[serde(default)]
    about: Vec<String>,
    #[serde(default)]
    core: Vec<String>,
    #[serde(default)]
    say: Vec<String>,
    #[serde(default)]
    extra: Vec<String>,
    #[serde(default)]
    vague: Vec<String>,
    #[serde(default)]
    yes: Vec<String>,
    #[serde(default)]
    no: Vec<String>,
    #[serde(default)]
    pleas: Vec<String>,
}

/// See [`RawRole`].
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub kind: Kind,
    /// What people call it: `due date`.
    pub label: String,
    /// What developers call it.
    pub names: Vec<String>,
    /// Descriptions.
    pub about: Vec<String>,
    /// Ways to say it inside an action's phrase.
    pub core: Vec<String>,
    /// Ways to say it after the phrase.
    pub say: Vec<String>,
    /// Ways to say it in a separate sentence.
    pub extra: Vec<String>,
    /// Ways to mention it inside an action's phrase without giving a value.
    pub vague: Vec<String>,
    /// Flags: ways to say yes.
    pub yes: Vec<String>,
    /// Flags: ways to say no.
    pub no: Vec<String>,
    /// Attributes of things: sentences that say what is wrong, with `{attr}` for the value.
    pub pleas: Vec<String>,
}

/// One of the values of a choice, and the ways to say it.
#[derive(Debug, Clone)]
pub(super) struct Alternative {
    pub value: String,
    pub said: Vec<String>,
}

/// The phrases around requests; `{}` stands for the request.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Phrases {
    pub greetings: Vec<String>,
    pub verb_wrappers: Vec<String>,
    pub verb_questions: Vec<String>,
    pub noun_wrappers: Vec<String>,
    pub thanks: Vec<String>,
    pub chatter_before: Vec<String>,
    pub chatter_after: Vec<String>,
    pub fillers: Vec<String>,
    pub corrections: Vec<String>,
    pub late_corrections: Vec<String>,
    pub joiners: Vec<String>,
    pub negations: Vec<String>,
    pub taken_back: Vec<String>,
    pub reported: Vec<String>,
    pub not_negations: Vec<String>,
    pub tool_questions: Vec<String>,
    pub verb_tool_questions: Vec<String>,
    pub small_talk: Vec<String>,
}

#[derive(Deserialize)]
struct RawDomain {
    #[serde(default)]
    person: String,
    things: Vec<String>,
    #[serde(flatten)]
    pools: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Actions {
    action: Vec<Action>,
}

/// `a, b, c` as a list; `a; b, c; d` if the values contain commas.
fn listed(text: &str) -> Vec<String> {
    text.split(if text.contains(';') { ';' } else { ',' })
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Words separated by spaces; `_` stands for a space inside a word.
fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

impl Thing {
    /// `noun/plural | traits | known by | attributes`.
    fn parse(line: &str) -> Self {
        let parts: Vec<&str> = line.split('|').map(str::trim).collect();
        let part = |i: usize| parts.get(i).copied().unwrap_or_default();
        let (noun, plural) = match part(0).split_once('/') {
            Some((noun, plural)) => (noun.to_owned(), plural.to_owned()),
            None => (part(0).to_owned(), plural_of(part(0))),
        };
        let known_by = if part(2).is_empty() { "code" } else { part(2) };
        Self { noun, plural, traits: words(part(1)), known_by: known_by.to_owned(), attributes: words(part(3)) }
    }
}

/// The regular plural of an English noun.
pub(super) fn plural_of(noun: &str) -> String {
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| noun.ends_with(s));
    if ends(&["s", "x", "z", "ch", "sh"]) {
        format!("{noun}es")
    } else if noun.ends_with('y') && !ends(&["ay", "ey", "oy", "uy"]) {
        format!("{}ies", &noun[..noun.len() - 1])
    } else {
        format!("{noun}s")
    }
}

/// `noun` with its article.
pub(super) fn with_article(noun: &str) -> String {
    let an = noun.starts_with(['a', 'e', 'i', 'o'])
        || ["hour", "unl", "unp", "und", "unu"].iter().any(|s| noun.starts_with(s));
    format!("{} {noun}", if an { "an" } else { "a" })
}

#[expect(clippy::expect_used, reason = "the embedded files are checked by this crate's tests")]
fn read<'a, T: Deserialize<'a>>(text: &'a str, file: &str) -> T {
    toml::from_str(text).map_err(|e| format!("{file}: {e}")).expect("an embedded file is valid")
}

impl Lexicon {
    /// Reads the embedded files.
    pub fn new() -> Self {
        let domains: BTreeMap<String, RawDomain> = read(include_str!("domains.toml"), "domains.toml");
        let actions: Actions = read(include_str!("actions.toml"), "actions.toml");
        let roles: BTreeMap<String, RawRole> = read(include_str!("roles.toml"), "roles.toml");
        let choices: BTreeMap<String, BTreeMap<String, String>> = read(include_str!("choices.toml"), "choices.toml");
        let pools: BTreeMap<String, String> = read(include_str!("pools.toml"), "pools.toml");
        let frames: Frames = read(include_str!("frames.toml"), "frames.toml");
        let domain = |(name, raw): (String, RawDomain)| Domain {
            name: name.replace('_', " "),
            person: if raw.person.is_empty() { "person".into() } else { raw.person },
            things: raw.things.iter().map(|line| Thing::parse(line)).collect(),
            pools: raw.pools.into_iter().map(|(name, values)| (name, listed(&values))).collect(),
        };
        let choice = |(name, options): (String, BTreeMap<String, String>)| {
            let options = options.into_iter().map(|(value, said)| Alternative { value, said: listed(&said) });
            (name, options.collect())
        };
        let mut domains: Vec<Domain> = domains.into_iter().map(domain).collect();
        let mut actions = actions.action;
        let workplaces: Frames = read(include_str!("workplaces.toml"), "workplaces.toml");
        for frame in frames.frame.into_iter().chain(workplaces.frame) {
            add_frame(frame, &mut domains, &mut actions);
        }
        Self {
            domains,
            actions,
            roles: roles.into_iter().map(|(name, raw)| (name, Role::new(raw))).collect(),
            choices: choices.into_iter().map(choice).collect(),
            pools: pools.into_iter().map(|(name, values)| (name, listed(&values))).collect(),
            phrases: read(include_str!("phrases.toml"), "phrases.toml"),
        }
    }

    /// The values of a pool: the domain's own pool if it has one of that name, else the shared one.
    pub fn pool<'a>(&'a self, domain: &'a Domain, name: &str) -> &'a [String] {
        domain.pools.get(name).or_else(|| self.pools.get(name)).map_or(&[], Vec::as_slice)
    }
}

/// Adds a written-out tool as an action of its own on its thing.
fn add_frame(frame: RawFrame, domains: &mut Vec<Domain>, actions: &mut Vec<Action>) {
    let name = frame.domain.replace('_', " ");
    let at = domains.iter().position(|domain| domain.name == name).unwrap_or_else(|| {
        domains.push(Domain { name, person: "person".into(), things: Vec::new(), pools: BTreeMap::new() });
        domains.len() - 1
    });
    let own_trait = format!("frame-{}", actions.len());
    let mut thing = Thing::parse(&frame.thing);
    thing.known_by = "made-up".into();
    match domains[at].things.iter_mut().find(|other| other.noun == thing.noun) {
        Some(known) => known.traits.push(own_trait.clone()),
        None => {
            thing.traits.push(own_trait.clone());
            domains[at].things.push(thing);
        }
    }
    let mut own_roles = BTreeMap::new();
    let mut roles = Vec::new();
    for line in frame.roles {
        let (key, role) = line.split_once('=').map_or((line.trim(), None), |(key, role)| (key.trim(), Some(role)));
        roles.push(key.to_owned());
        if let Some(role) = role {
            let key = key.trim_end_matches(['!', '+', '*']);
            own_roles.insert(key.to_owned(), Role::new(RawRole::parse(key, role)));
        }
    }
    actions.push(Action {
        group: if frame.group.is_empty() { own_trait.clone() } else { frame.group },
        clash: frame.clash,
        on: own_trait,
        verbs: frame.verbs,
        names: frame.names,
        does: frame.does,
        roles: roles.join(" "),
        verb_phrases: frame.verb_phrases,
        noun_phrases: frame.noun_phrases,
        say: frame.say,
        own_roles,
    });
}

impl RawRole {
    /// `kind | label | names | descriptions | ways to say it | ways without a value`; for a flag,
    /// the last two are ways to say yes and no.
    fn parse(key: &str, text: &str) -> Self {
        let parts: Vec<&str> = text.split('|').map(str::trim).collect();
        let part = |i: usize| parts.get(i).copied().unwrap_or_default();
        let phrases = |i: usize| -> Vec<String> {
            part(i).split(';').map(str::trim).filter(|p| !p.is_empty()).map(str::to_owned).collect()
        };
        let is_flag = part(0) == "flag";
        let of = |is_wanted: bool, i: usize| if is_wanted { phrases(i) } else { Vec::new() };
        Self {
            kind: part(0).to_owned(),
            label: part(1).to_owned(),
            names: if part(2).is_empty() { key.to_owned() } else { part(2).to_owned() },
            about: phrases(3),
            core: Vec::new(),
            say: of(!is_flag, 4),
            extra: Vec::new(),
            vague: of(!is_flag, 5),
            yes: of(is_flag, 4),
            no: of(is_flag, 5),
            pleas: Vec::new(),
        }
    }
}

impl Role {
    fn new(raw: RawRole) -> Self {
        let names = words(&raw.names);
        let label = if raw.label.is_empty() {
            names.first().map(|n| n.replace('_', " ")).unwrap_or_default()
        } else {
            raw.label
        };
        Self {
            kind: Kind::parse(&raw.kind),
            label,
            names,
            about: raw.about,
            core: raw.core,
            say: raw.say,
            extra: raw.extra,
            vague: raw.vague,
            yes: raw.yes,
            no: raw.no,
            pleas: raw.pleas,
        }
    }
}

impl Action {
    /// The traits of the things that it is done to.
    pub fn traits(&self) -> impl Iterator<Item = &str> {
        self.on.split_whitespace()
    }
}
