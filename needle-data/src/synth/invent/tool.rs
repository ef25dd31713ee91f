//! One invented tool: an action on a thing, with the roles that this tool knows, with names and
//! descriptions in the style of one author.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Map, Value};

use super::form::{Form, Words, number, reference_form, shuffled};
use super::kind::Kind;
use super::lexicon::{Action, Domain, Lexicon, Role, Thing, with_article};
use super::naming::NamingStyle;
use crate::synth::values::pick;
use crate::text::tool::{Parameter, Tool};

/// An action on a thing of a domain, by index: what a tool does, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Frame {
    pub domain: usize,
    pub thing: usize,
    pub action: usize,
}

/// An invented tool.
#[derive(Debug, Clone)]
pub(super) struct InventedTool {
    pub frame: Frame,
    pub name: String,
    /// The words of the name.
    pub words: String,
    pub description: Option<String>,
    pub parameters: Vec<InventedParameter>,
    /// True if `ref` takes several things at once.
    pub takes_many: bool,
}

/// See [`InventedTool`].
#[derive(Debug, Clone)]
pub(super) struct InventedParameter {
    /// The role's key in the action's phrases.
    pub key: String,
    pub role: Role,
    pub form: Form,
    pub name: String,
    pub is_required: bool,
    /// At least one parameter with this flag is stated, though none is required.
    pub is_one_of: bool,
    pub spec: Map<String, Value>,
}

/// When a tool has a role of its action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    Required,
    OneOf,
    Always,
    Sometimes,
}

/// The domain, thing and action of a frame.
pub(super) struct Scene<'a> {
    pub lexicon: &'a Lexicon,
    pub domain: &'a Domain,
    pub thing: &'a Thing,
    pub action: &'a Action,
}

impl Frame {
    pub fn scene(self, lexicon: &Lexicon) -> Scene<'_> {
        let domain = &lexicon.domains[self.domain];
        Scene { lexicon, domain, thing: &domain.things[self.thing], action: &lexicon.actions[self.action] }
    }
}

impl Scene<'_> {
    /// `text` with `{thing}`, `{things}`, `{a_thing}` and `{person}` replaced.
    pub fn words(&self, text: &str) -> String {
        if !text.contains('{') {
            return text.to_owned();
        }
        text.replace("{things}", &self.thing.plural)
            .replace("{a_thing}", &with_article(&self.thing.noun))
            .replace("{thing}", &self.thing.noun)
            .replace("{a_person}", &with_article(&self.domain.person))
            .replace("{person}", &self.domain.person)
            .replace("{domain}", &self.domain.name)
    }

    fn role(&self, key: &str) -> Option<Role> {
        let key = if key == "ref" {
            match self.thing.known_by.as_str() {
                kind @ ("code" | "number" | "id" | "label" | "title" | "person" | "place") => format!("ref_{kind}"),
                "made-up" | "organization" => "ref_name".to_owned(),
                // From a pool: the name says what it is, as in `the technical queue`.
                _ => "ref_pool".to_owned(),
            }
        } else {
            key.to_owned()
        };
        let mut role = self.action.own_roles.get(&key).or_else(|| self.lexicon.roles.get(&key))?.clone();
        role.label = self.words(&role.label);
        for texts in [
            &mut role.names,
            &mut role.about,
            &mut role.core,
            &mut role.say,
            &mut role.extra,
            &mut role.vague,
            &mut role.yes,
            &mut role.no,
            &mut role.pleas,
        ] {
            for text in texts {
                *text = self.words(text);
            }
        }
        Some(role)
    }

    /// Draws the roles of a tool: all mandatory ones, and some of the optional ones.
    fn roles(&self, rng: &mut ChaCha8Rng) -> Vec<(String, Role, Need)> {
        let mut chosen: Vec<(String, Role, Need)> = Vec::new();
        let keep = pick(rng, &[0.1, 0.3, 0.5, 0.7, 0.9]);
        let mut keys: Vec<(String, Need)> = Vec::new();
        for token in self.action.roles.split_whitespace() {
            let (key, need) = match token.char_indices().last() {
                Some((end, '!')) => (&token[..end], Need::Required),
                Some((end, '+')) => (&token[..end], Need::OneOf),
                Some((end, '*')) => (&token[..end], Need::Always),
                _ => (token, Need::Sometimes),
            };
            match key {
                // A random number of the thing's own attributes.
                "attr" => {
                    let mut attributes = self.thing.attributes.clone();
                    attributes.shuffle(rng);
                    let most = rng.random_range(1..=attributes.len().max(1));
                    let need = if most == 1 { Need::Required } else { need };
                    keys.extend(attributes.into_iter().take(most).map(|key| (key, need)));
                }
                key => keys.push((key.to_owned(), need)),
            }
        }
        let mut families: Vec<&'static str> = Vec::new();
        for (key, need) in keys {
            let Some(role) = self.role(&key) else { continue };
            let family = role.kind.family();
            if need == Need::Sometimes {
                let is_crowded = family.is_some_and(|family| families.contains(&family)) || chosen.len() >= 8;
                if is_crowded || !rng.random_bool(keep) || chosen.iter().any(|(other, ..)| *other == key) {
                    continue;
                }
            }
            families.extend(family);
            chosen.push((key, role, need));
        }
        chosen
    }

    /// Invents a tool for this frame in the style of `naming`; `None` if a required parameter gets
    /// the name of another one.
    pub fn invent(&self, frame: Frame, naming: NamingStyle, rng: &mut ChaCha8Rng) -> Option<InventedTool> {
        let mut parameters: Vec<InventedParameter> = Vec::new();
        let mut takes_many = false;
        for (key, role, need) in self.roles(rng) {
            let mut form = self.form(&role, rng)?;
            let can_be_many = key == "ref" && matches!(form, Form::Verbatim(_) | Form::Identifier { .. });
            if can_be_many && rng.random_bool(0.12) {
                takes_many = true;
                form = Form::List(Box::new(form));
            }
            let is_required = need == Need::Required || (need == Need::Sometimes && rng.random_bool(0.1));
            let is_one_of = need == Need::OneOf;
            let is_many = matches!(form, Form::List(_));
            let (name, spec) = self.declare(&role, &form, is_required, is_many, naming, rng);
            if parameters.iter().any(|p| p.name == name) {
                if need == Need::Required {
                    return None;
                }
                continue;
            }
            parameters.push(InventedParameter { key, role, form, name, is_required, is_one_of, spec });
        }
        let words = self.name(takes_many, rng)?;
        let name =
            if naming.is_nonsense { naming.nonsense(naming.tool_case, rng) } else { naming.tool_case.join(&words) };
        // A tool with a meaningless name always has a description, see `NamingStyle::draw`.
        let description = if rng.random_bool(naming.tool_described) {
            let mut text = self.words(self.action.does.choose(rng)?);
            if rng.random_bool(0.08) {
                text = format!(
                    "{text} {}",
                    self.words(pick(
                        rng,
                        &[
                            "Part of the {domain} system.",
                            "Returns a confirmation.",
                            "Use this for the {domain}.",
                            "Answers with the new state.",
                            "Only for staff."
                        ]
                    ))
                );
            }
            Some(naming.description(&text))
        } else {
            None
        };
        Some(InventedTool { frame, name, words, description, parameters, takes_many })
    }

    /// The words of the tool's name.
    fn name(&self, takes_many: bool, rng: &mut ChaCha8Rng) -> Option<String> {
        let verb = self.action.verbs.split_whitespace().collect::<Vec<_>>().choose(rng).copied()?.to_owned();
        let noun = if takes_many || self.action.on.contains("goods") { "{things}" } else { "{thing}" };
        let name = if !self.action.names.is_empty() && rng.random_bool(0.35) {
            self.action.names.choose(rng)?.clone()
        } else {
            match rng.random_range(0..8) {
                0 => format!("{noun} {verb}"),
                1 => format!("{{domain}} {verb} {noun}"),
                _ => format!("{verb} {noun}"),
            }
        };
        Some(self.words(&name))
    }

    /// The form in which this tool takes the role's value.
    fn form(&self, role: &Role, rng: &mut ChaCha8Rng) -> Option<Form> {
        let pool = |name: &str| self.lexicon.pool(self.domain, name).to_vec();
        Some(match &role.kind {
            Kind::Reference => reference_form(self.lexicon, self.domain, self.thing),
            Kind::Item => Form::Verbatim(Words::Pool { values: pool(&self.thing.known_by), is_open: false }),
            Kind::Pool(name) => {
                Form::Verbatim(Words::Pool { values: pool(name), is_open: !name.starts_with("closed") })
            }
            Kind::Person => Form::Verbatim(Words::Person { strips_title: rng.random_bool(0.25) }),
            Kind::Organization => Form::Verbatim(Words::Organization),
            Kind::Title => Form::Verbatim(Words::Title),
            Kind::Code => Form::Verbatim(Words::Code),
            Kind::Label => Form::Verbatim(Words::Label),
            Kind::Email => Form::Verbatim(Words::Email),
            Kind::Phone => Form::Verbatim(Words::Phone),
            Kind::Url => Form::Verbatim(Words::Url),
            Kind::Path => Form::Verbatim(Words::Path),
            Kind::Made => Form::Verbatim(Words::Pool { values: Vec::new(), is_open: true }),
            Kind::Rare => Form::Verbatim(Words::Rare),
            Kind::Snake => Form::Verbatim(Words::Snake),
            Kind::Host => Form::Verbatim(Words::Host),
            Kind::Dna => Form::Verbatim(Words::Dna),
            Kind::Square => Form::Verbatim(Words::Square),
            Kind::Team => Form::Verbatim(Words::Team),
            Kind::IsoDate => Form::IsoDate,
            Kind::Text(name) => Form::Verbatim(Words::Text { templates: pool(name), is_free: name != "topic" }),
            Kind::Identifier(lowest, highest) => Form::Identifier { lowest: *lowest, highest: *highest },
            Kind::Count(lowest, highest) => Form::Count { lowest: *lowest, highest: *highest },
            Kind::Measure { lowest, highest, step, units } => {
                Form::Measure { lowest: *lowest, highest: *highest, step: *step, units: units.clone() }
            }
            Kind::Percent => Form::Percent,
            Kind::Money(lowest, highest) => {
                let currency = pick(rng, &["euros", "dollars", "pounds", "", ""]).to_owned();
                Form::Money { lowest: *lowest, highest: *highest, currency }
            }
            Kind::Duration(spans) => Form::Duration(*spans.choose(rng)?),
            Kind::Time if rng.random_bool(0.2) => Form::Verbatim(Words::Time),
            Kind::Time => {
                let from = rng.random_range(4..=12);
                let to = from + rng.random_range(6..=11);
                Form::Time { hours: rng.random_bool(0.4).then_some((from, to)) }
            }
            Kind::Date if rng.random_bool(0.15) => Form::IsoDate,
            Kind::Date => Form::Verbatim(Words::Day),
            Kind::Choice(name) => self.choice(name, rng)?,
            Kind::Flag => Form::Flag,
            Kind::List(inner) => {
                let inner = Role { kind: (**inner).clone(), ..role.clone() };
                Form::List(Box::new(self.form(&inner, rng)?))
            }
        })
    }

    /// A choice among values, some of which are left out, in one of several spellings.
    fn choice(&self, name: &str, rng: &mut ChaCha8Rng) -> Option<Form> {
        let mut all = shuffled(self.lexicon.choices.get(name)?.clone(), rng);
        let keep = if all.len() > 2 { rng.random_range(2..=all.len()) } else { all.len() };
        let keep = keep.max(all.len().saturating_sub(3));
        let unknown = all.split_off(keep).into_iter().flat_map(|option| option.said).collect();
        let write = rng.random_range(0..10);
        let options = all.into_iter().enumerate().map(|(i, option)| {
            let value = match write {
                0 => Value::from(option.value.to_uppercase()),
                1 => Value::from(option.value.replace('_', " ")),
                2 => Value::from(option.value.replace('_', "-")),
                3 => Value::from(super::naming::Case::Camel.join(&option.value)),
                // Bare codes, which the description explains.
                4 => Value::from(i as i64 + 1),
                5 => Value::from(char::from(b'A' + i as u8).to_string()),
                _ => Value::from(option.value),
            };
            (value, option.said)
        });
        Some(Form::Choice { options: options.collect(), unknown })
    }

    /// The parameter's name and declaration.
    fn declare(
        &self,
        role: &Role,
        form: &Form,
        is_required: bool,
        is_many: bool,
        naming: NamingStyle,
        rng: &mut ChaCha8Rng,
    ) -> (String, Map<String, Value>) {
        let mut name = role.names.choose(rng).cloned().unwrap_or_else(|| role.label.clone());
        if is_many && !name.ends_with('s') {
            name = super::lexicon::plural_of(&name);
        }
        let about = role.about.choose(rng).cloned().unwrap_or_else(|| match rng.random_range(0..4) {
            0 => format!("{} of the {}", role.label, self.thing.noun),
            1 => format!("the {}", role.label),
            _ => role.label.clone(),
        });
        let inner = if let Form::List(inner) = form { inner } else { form };
        let mut rule = rule(inner, rng);
        // The name can give the unit, instead of the description.
        if let (Form::Duration(_) | Form::Measure { .. } | Form::Percent, Some(unit)) = (inner, unit(inner))
            && !naming.is_nonsense
            && rng.random_bool(0.4)
        {
            name = format!("{name} {unit}");
            rule = None;
        }
        let mut description = match (&rule, naming.is_nonsense || rng.random_bool(naming.parameter_described)) {
            (Some(rule), true) => Some(format!("{about}{}{rule}", pick(rng, &[", ", ", ", "; ", ": "]))),
            (Some(rule), false) => Some(rule.clone()),
            (None, true) => Some(about),
            (None, false) => None,
        };
        if is_many {
            description = description.map(|text| {
                format!("{text}{}", pick(rng, &["", ", one or more", " (several possible)", ", in the order said"]))
            });
        }
        if !is_required && rng.random_bool(0.06) {
            description = description.map(|text| {
                format!("{text}{}", pick(rng, &[", optional", " (optional)", ", only if said", ", if given"]))
            });
        }
        let name = if naming.is_nonsense {
            naming.nonsense(naming.parameter_case, rng)
        } else {
            naming.parameter_case.join(&name)
        };
        (name, spec(form, description.map(|text| naming.description(&text)), is_required, naming, rng))
    }

    /// Whether a request for this could mean `other`: the same or a similar action on what may be
    /// the same thing.
    pub fn could_be(&self, other: &Scene, names_thing: bool) -> bool {
        let same_group = self.action.group == other.action.group
            || self.action.clash.split_whitespace().any(|group| group == other.action.group)
            || other.action.clash.split_whitespace().any(|group| group == self.action.group);
        if !same_group {
            return false;
        }
        let stem = |noun: &str| noun.split(' ').next_back().unwrap_or_default().chars().take(5).collect::<String>();
        let is_same_thing = stem(&self.thing.noun) == stem(&other.thing.noun);
        is_same_thing || !names_thing
    }
}

/// The unit as part of a name.
fn unit(form: &Form) -> Option<String> {
    match form {
        Form::Duration(span) => Some(span.word().to_owned()),
        Form::Measure { units, .. } => {
            units.first().filter(|unit| unit.chars().all(|c| c.is_ascii_alphabetic() || c == ' ')).cloned()
        }
        Form::Percent => Some("percent".into()),
        _ => None,
    }
}

/// What a description says about the form of the value.
fn rule(form: &Form, rng: &mut ChaCha8Rng) -> Option<String> {
    Some(match form {
        Form::Duration(span) => {
            let word = span.word();
            pick(rng, &["in {}", "{}", "number of {}", "given in {}"]).replace("{}", word)
        }
        Form::Measure { units, .. } => {
            let unit = units.first()?;
            pick(rng, &["in {}", "{}", "given in {}"]).replace("{}", unit)
        }
        Form::Percent => pick(rng, &["percent", "in percent", "0 to 100", "0-100", "as a percentage"]).into(),
        Form::Money { currency, .. } if !currency.is_empty() => pick(rng, &["in {}", "{}"]).replace("{}", currency),
        Form::Time { hours: None } => pick(
            rng,
            &["HH:MM", "24-hour HH:MM", "HH:MM, 24 h", "as HH:MM", "24h clock, HH:MM", "time of day as HH:MM"],
        )
        .into(),
        Form::Time { hours: Some((from, to)) } => {
            let window = format!("{from:02}:00-{to:02}:00");
            pick(
                rng,
                &[
                    "HH:MM, 24 h; between {}",
                    "HH:MM, open {}",
                    "24-hour HH:MM, only {}",
                    "as HH:MM; hours are {}",
                    "HH:MM within {}",
                ],
            )
            .replace("{}", &window)
        }
        Form::IsoDate => pick(rng, &["YYYY-MM-DD", "as YYYY-MM-DD", "ISO date, YYYY-MM-DD"]).into(),
        Form::Choice { options, .. } => {
            let is_plain = options.iter().all(|(value, said)| {
                value.as_str().is_some_and(|value| {
                    let plain = value.to_lowercase().replace(['-', '_'], " ");
                    plain.len() > 2 && said.iter().any(|s| s.contains(&plain) || plain.contains(s.as_str()))
                })
            });
            if is_plain && rng.random_bool(0.7) {
                return None;
            }
            let mut meanings: Vec<String> = Vec::new();
            for (value, said) in options {
                let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
                meanings.push(format!("{value} = {}", said.choose(rng)?));
            }
            meanings.join(", ")
        }
        Form::Verbatim(Words::Person { strips_title: true }) => pick(
            rng,
            &[
                "without Mr, Ms and the like",
                "name as said, without Mr, Mrs or Dr",
                "no titles such as Dr",
                "without title",
            ],
        )
        .into(),
        Form::Verbatim(Words::Time) => pick(rng, &["as said", "in the user's words", "the way it was said"]).into(),
        Form::Verbatim(Words::Day) => {
            return rng.random_bool(0.6).then(|| pick(rng, &["as said", "day as said", "in the user's words"]).into());
        }
        Form::Verbatim(Words::Pool { .. }) => {
            return rng
                .random_bool(0.3)
                .then(|| pick(rng, &["as said", "as said, without 'the'", "without 'the'", "word for word"]).into());
        }
        Form::Verbatim(_) => {
            return rng
                .random_bool(0.2)
                .then(|| pick(rng, &["as said", "exactly as said", "word for word", "as given"]).into());
        }
        _ => return None,
    })
}

fn spec(
    form: &Form,
    description: Option<String>,
    is_required: bool,
    naming: NamingStyle,
    rng: &mut ChaCha8Rng,
) -> Map<String, Value> {
    let mut spec = Map::new();
    spec.insert("type".into(), naming.type_name(form.json_type()).into());
    if let Some(description) = description {
        spec.insert("description".into(), description.into());
    }
    match form {
        Form::Choice { options, .. } => {
            spec.insert("enum".into(), options.iter().map(|(value, _)| value.clone()).collect());
        }
        Form::List(inner) => {
            let mut items = Map::new();
            items.insert("type".into(), naming.type_name(inner.json_type()).into());
            if let Form::Choice { options, .. } = &**inner {
                items.insert("enum".into(), options.iter().map(|(value, _)| value.clone()).collect());
            }
            spec.insert("items".into(), items.into());
        }
        _ if rng.random_bool(0.5) => {
            if let Some((lowest, highest)) = bounds(form) {
                spec.insert("minimum".into(), number(lowest));
                spec.insert("maximum".into(), number(highest));
            }
        }
        _ => {}
    }
    if is_required || naming.says_optional {
        spec.insert("required".into(), is_required.into());
    }
    spec
}

/// The bounds that a schema states.
pub(super) fn bounds(form: &Form) -> Option<(f64, f64)> {
    match form {
        Form::Percent => Some((0.0, 100.0)),
        Form::Count { lowest, highest } => Some((1.0_f64.min(*lowest as f64), *highest as f64)),
        Form::Measure { lowest, highest, .. } => Some((*lowest as f64 / 100.0, *highest as f64 / 100.0)),
        _ => None,
    }
}

impl InventedTool {
    /// The definition.
    pub fn tool(&self) -> Tool {
        let parameters = self.parameters.iter().map(|p| Parameter::new(p.name.clone(), p.spec.clone()));
        Tool::new(self.name.clone(), self.description.clone().unwrap_or_default(), parameters.collect())
    }

    /// Makes the parameter at `position` required, and mentions it in the tool's name and
    /// description.
    pub fn tell_apart(&mut self, position: usize, naming: NamingStyle, rng: &mut ChaCha8Rng) {
        let label = self.parameters[position].role.label.clone();
        self.parameters[position].is_required = true;
        self.parameters[position].spec.insert("required".into(), true.into());
        if naming.is_nonsense {
            self.name = naming.nonsense(naming.tool_case, rng);
        } else {
            let joint = pick(rng, &["with", "with", "by", "for"]);
            self.name = naming.tool_case.join(&format!("{} {joint} {label}", self.words));
        }
        if let Some(description) = &mut self.description {
            let stop = if description.ends_with('.') { "." } else { "" };
            let text = description.trim_end_matches('.').to_owned();
            *description =
                format!("{text}{}{label}{stop}", pick(rng, &[", with ", ", given the ", " with a certain "]));
        }
    }

    /// Index of the parameter with this key.
    pub fn position(&self, key: &str) -> Option<usize> {
        self.parameters.iter().position(|p| p.key == key)
    }
}
