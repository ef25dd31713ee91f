//! One request for one tool: which arguments are said, where in the sentence and in which words.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom, SliceRandom};

use super::form::{Argument, Filled, Form, Source, Words, number};
use super::said::Said;
use super::tool::{InventedParameter, InventedTool, Scene, bounds};
use crate::synth::values::pick;

/// The grammar of a request's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mood {
    /// `cancel booking 4`: fits after `please`, `could you`, `don't`.
    Verb,
    /// `two chains`: fits after `I need`.
    Noun,
    /// A sentence or question of its own.
    Sentence,
}

/// What to leave out or get wrong on purpose.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Plan {
    /// A required parameter that is spoken of without a value, or not at all.
    pub missing: Option<usize>,
    /// A parameter for which a value is said that the tool does not take.
    pub unknown: Option<usize>,
    /// Chance that a value is corrected while speaking.
    pub corrects: f64,
    /// Only verb phrases, which can be negated and joined.
    pub verb_only: bool,
    /// Only what the template itself says: nothing after it.
    pub body_only: bool,
    /// Take this template, by its place among the action's.
    pub template: Option<(Mood, usize)>,
}

/// A request, said.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub mood: Mood,
    pub template: usize,
    /// Before everything: `at five, `.
    pub lead: Said,
    pub body: Said,
    /// Sentences of their own after the body.
    pub extras: Vec<Said>,
    /// By parameter.
    pub arguments: Vec<(usize, Argument)>,
    /// True where the thing is called by its name, so that the same action on another thing is not meant.
    pub names_thing: bool,
    /// The words of the body before its first value.
    pub opening: String,
}

/// One value on its way into the sentence.
struct Stated {
    parameter: usize,
    filled: Filled,
}

/// Makes the request for `tool` that `plan` asks for; none where the words for it are lacking.
pub(super) fn request(
    scene: &Scene,
    tool: &InventedTool,
    plan: Plan,
    source: &mut Source,
    rng: &mut ChaCha8Rng,
) -> Option<Request> {
    let chosen = stated(tool, plan, rng);
    let (mood, index, template) = template(scene, tool, &chosen, plan, rng)?;
    let mut request = Request {
        mood,
        template: index,
        lead: Said::default(),
        body: Said::default(),
        extras: Vec::new(),
        arguments: Vec::new(),
        names_thing: false,
        opening: template.split('{').next().unwrap_or_default().trim().to_owned(),
    };
    let chosen = if plan.body_only { in_body(scene, tool, template, &chosen)? } else { chosen };
    let mut left: Vec<usize> = chosen.clone();
    let mut is_bad = false;
    let body = Said::fill(template, |name| {
        let key =
            if name.starts_with("attr") { first_attribute(scene, tool, &chosen)? } else { key_of(name).to_owned() };
        match name {
            "thing" | "things" | "a_thing" | "domain" => {
                request.names_thing |= name.ends_with("thing") || name.ends_with("things");
                return Some(Said::text(scene.words(&format!("{{{name}}}"))));
            }
            "attr.label" => {
                let key = first_attribute(scene, tool, &chosen)?;
                return Some(Said::text(tool.parameters[tool.position(&key)?].role.label.clone()));
            }
            _ => {}
        }
        let position = tool.position(&key)?;
        let parameter = &tool.parameters[position];
        if plan.missing == Some(position) {
            let vague = parameter.role.vague.choose(rng)?;
            request.names_thing |= vague.contains(&scene.thing.noun);
            return Some(Said::text(vague.clone()));
        }
        let filled = value(parameter, position, plan, source, rng, true)?;
        left.retain(|&p| p != position);
        let form = if name.contains(':') {
            // `{date:on}`: with the preposition that it takes.
            "{@}"
        } else if parameter.role.core.is_empty() {
            "{}"
        } else {
            parameter.role.core.choose(rng)?.as_str()
        };
        request.names_thing |= form.contains(&scene.thing.noun) || form.contains(&scene.thing.plural);
        let stated = Stated { parameter: position, filled };
        let said = put(form, &stated);
        request.arguments.push((stated.parameter, stated.filled.argument));
        Some(said)
    });
    request.body = tidy(body?);
    left.shuffle(rng);
    // Free text swallows whatever comes after it.
    left.sort_by_key(|&p| matches!(tool.parameters[p].form, Form::Verbatim(Words::Text(_))));
    for position in left {
        is_bad |= !tail(&mut request, scene, tool, position, plan, source, rng);
    }
    (!is_bad).then_some(request)
}

/// The parameters that are said.
fn stated(tool: &InventedTool, plan: Plan, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let chance = pick(rng, &[0.15, 0.35, 0.5, 0.8]);
    let mut chosen: Vec<usize> = Vec::new();
    for (i, parameter) in tool.parameters.iter().enumerate() {
        let is_said = parameter.is_required || plan.unknown == Some(i) || rng.random_bool(chance);
        let is_many = chosen.len() >= 6;
        if is_said && plan.missing != Some(i) && (!is_many || parameter.is_required) {
            chosen.push(i);
        }
    }
    let one_of: Vec<usize> = (0..tool.parameters.len()).filter(|&i| tool.parameters[i].is_one_of).collect();
    if !one_of.is_empty() && !one_of.iter().any(|i| chosen.contains(i)) {
        chosen.extend(one_of.choose(rng));
        chosen.sort_unstable();
    }
    chosen
}

/// The thing's attribute that the body is about.
fn first_attribute(scene: &Scene, tool: &InventedTool, chosen: &[usize]) -> Option<String> {
    chosen.iter().map(|&i| &tool.parameters[i].key).find(|key| scene.thing.attributes.contains(key)).cloned()
}

/// A template of the action whose roles are all said or, where one is missing, can be spoken of vaguely.
fn template<'a>(
    scene: &'a Scene,
    tool: &InventedTool,
    chosen: &[usize],
    plan: Plan,
    rng: &mut ChaCha8Rng,
) -> Option<(Mood, usize, &'a str)> {
    let action = scene.action;
    let of = |mood| match mood {
        Mood::Verb => &action.verb_phrases,
        Mood::Noun => &action.noun_phrases,
        Mood::Sentence => &action.say,
    };
    if let Some((mood, index)) = plan.template {
        return Some((mood, index, of(mood).get(index)?));
    }
    let fits = |template: &str| {
        placeholders(template).all(|name| match name {
            "thing" | "things" | "a_thing" | "domain" => true,
            "attr" | "attr.label" => first_attribute(scene, tool, chosen).is_some(),
            name => tool.position(key_of(name)).is_some_and(|position| {
                let can_be_vague = plan.missing == Some(position) && !tool.parameters[position].role.vague.is_empty();
                chosen.contains(&position) || can_be_vague
            }),
        })
    };
    let mut moods = vec![Mood::Verb];
    if !plan.verb_only {
        moods.extend([Mood::Noun, Mood::Sentence]);
    }
    // Whichever mood has words for it; verbs more often than the others.
    moods.shuffle(rng);
    if rng.random_bool(0.35) {
        moods.sort_by_key(|&mood| mood != Mood::Verb);
    }
    moods.into_iter().find_map(|mood| {
        let fitting: Vec<usize> = (0..of(mood).len()).filter(|&i| fits(&of(mood)[i])).collect();
        fitting.choose(rng).map(|&i| (mood, i, of(mood)[i].as_str()))
    })
}

/// The role of a placeholder such as `date:on`.
fn key_of(placeholder: &str) -> &str {
    placeholder.split(':').next().unwrap_or(placeholder)
}

fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

/// Those of `chosen` that the template itself says; none if it leaves a required one to be said after it.
fn in_body(scene: &Scene, tool: &InventedTool, template: &str, chosen: &[usize]) -> Option<Vec<usize>> {
    let attribute = first_attribute(scene, tool, chosen);
    let said = |name: &str| {
        if name == "attr" {
            attribute.as_deref().and_then(|key| tool.position(key))
        } else {
            tool.position(key_of(name))
        }
    };
    let said: Vec<usize> = placeholders(template).filter_map(said).collect();
    let is_complete = tool.parameters.iter().enumerate().all(|(i, p)| !p.is_required || said.contains(&i));
    (is_complete && said.iter().all(|i| chosen.contains(i))).then_some(said)
}

/// A value for the parameter: what the tool takes, or what it does not.
fn value(
    parameter: &InventedParameter,
    position: usize,
    plan: Plan,
    source: &mut Source,
    rng: &mut ChaCha8Rng,
    in_body: bool,
) -> Option<Filled> {
    if plan.unknown == Some(position) {
        return unknown_value(&parameter.form, rng);
    }
    let filled = parameter.form.fill(source, rng, in_body)?;
    if plan.corrects > 0.0 && rng.random_bool(plan.corrects) && can_be_corrected(&parameter.form) {
        let wrong = parameter.form.fill(source, rng, false)?;
        let (wrong_text, right_text) = (wrong.said.whole(), filled.said.whole());
        let is_apart =
            wrong.argument != filled.argument && !right_text.contains(&wrong_text) && !wrong_text.contains(&right_text);
        let same_words = |form: &Form| matches!(form, Form::Verbatim(_));
        if is_apart && (same_words(&parameter.form) || wrong.argument != filled.argument) {
            let connector = source.lexicon.phrases.corrections.choose(rng)?;
            let (a, b) = connector.split_once("{b}").unwrap_or((connector, ""));
            let mut said = Said::value(wrong_text).wrap(&a.replace("{a}", "{}"));
            said.extend(filled.said).push(b);
            return Some(Filled { said, ..filled });
        }
    }
    Some(filled)
}

fn can_be_corrected(form: &Form) -> bool {
    !matches!(form, Form::Flag | Form::List(_) | Form::Verbatim(Words::Text(_) | Words::Title | Words::Time))
}

/// Words for a value outside of the choice or the bounds.
fn unknown_value(form: &Form, rng: &mut ChaCha8Rng) -> Option<Filled> {
    let said = match form {
        Form::Choice { unknown, .. } => Said::value(unknown.choose(rng)?.clone()),
        Form::Percent => Said::value(format!("{}%", pick(rng, &[110, 120, 150, 200, 300, 1000]))),
        form => {
            let (lowest, highest) = bounds(form)?;
            let far = (highest * pick(rng, &[1.5, 2.0, 3.0, 10.0])).ceil() + 1.0;
            let below = lowest - pick(rng, &[1.0, 5.0, 10.0]);
            let n = if below >= 0.0 && rng.random_bool(0.3) { below } else { far };
            let unit = if let Form::Measure { units, .. } = form {
                units.first().map_or(String::new(), |u| format!(" {u}"))
            } else {
                String::new()
            };
            Said::value(format!("{}{unit}", number(n)))
        }
    };
    Some(Filled { said, argument: Argument::Fixed(serde_json::Value::Null), before: "", is_plural: true })
}

/// `form` with the value in the place of `{}` (`{@}`: with its preposition), and `(s)` by its number.
fn put(form: &str, stated: &Stated) -> Said {
    let form = form.replace("(s)", if stated.filled.is_plural { "s" } else { "" });
    let form = form.replace("{@}", &format!("{}{{}}", stated.filled.before));
    stated.filled.said.clone().wrap(&form)
}

/// Says one more argument after the body, before it, or in a sentence of its own; false where there are no words for it.
fn tail(
    request: &mut Request,
    scene: &Scene,
    tool: &InventedTool,
    position: usize,
    plan: Plan,
    source: &mut Source,
    rng: &mut ChaCha8Rng,
) -> bool {
    let parameter = &tool.parameters[position];
    let role = &parameter.role;
    if matches!(parameter.form, Form::Flag) {
        let yes = rng.random_bool(0.7);
        let Some(words) = (if yes { &role.yes } else { &role.no }).choose(rng) else { return false };
        push_tail(&mut request.body, &Said::text(words.clone()));
        request.arguments.push((position, Argument::Fixed(yes.into())));
        return true;
    }
    let Some(filled) = value(parameter, position, plan, source, rng, false) else { return false };
    let stated = Stated { parameter: position, filled };
    let label = &role.label;
    let is_extra = rng.random_bool(if role.extra.is_empty() { 0.12 } else { 0.25 }) && !is_text(&parameter.form);
    let own = if is_extra { &role.extra } else { &role.say };
    let form = if !own.is_empty() && rng.random_bool(0.8) {
        own.choose(rng).cloned().unwrap_or_default()
    } else {
        let general: &[&str] = match (is_extra, is_text(&parameter.form)) {
            (_, true) => &[", {l}: {}", " with the {l} {}", ", {l} {}"],
            (true, _) => &[
                "the {l} is {}",
                "the {l} should be {}",
                "{l}: {}",
                "make the {l} {}",
                "use {} as the {l}",
                "for the {l} take {}",
                "{l} {}",
                "the {l}, that's {}",
            ],
            _ => &[
                " with {l} {}",
                ", {l} {}",
                " ({l} {})",
                ", {l}: {}",
                ", with {} as the {l}",
                ", the {l} being {}",
                " - {l} {}",
            ],
        };
        pick(rng, general).replace("{l}", label)
    };
    request.names_thing |= form.contains(&scene.thing.noun) && !is_extra;
    let said = put(&form, &stated);
    request.arguments.push((position, stated.filled.argument));
    if is_extra {
        request.extras.push(said);
        return true;
    }
    let starts = ["for ", "at ", "on ", "in ", "by ", "with ", "from ", "as of ", "to "]
        .iter()
        .any(|word| form.trim_start().starts_with(word));
    let is_body = !is_text(&parameter.form) && request.lead.0.is_empty();
    if starts && is_body && rng.random_bool(0.12) {
        request.lead = said.wrap("{}, ");
        if let Some(first) = request.lead.first_mut() {
            first.text = first.text.trim_start().to_owned();
        }
    } else {
        push_tail(&mut request.body, &said);
    }
    true
}

fn is_text(form: &Form) -> bool {
    matches!(form, Form::Verbatim(Words::Text(_)))
}

fn push_tail(body: &mut Said, said: &Said) {
    let starts_with_mark = said.whole().starts_with([' ', ',', ';', ':', '.', '-', '(']);
    body.push(if starts_with_mark { "" } else { " " }).extend(said.clone());
}

/// Joins words where a value was spoken of by nothing: no two spaces.
fn tidy(mut said: Said) -> Said {
    let mut ends_with_space = true;
    for piece in &mut said.0 {
        if ends_with_space && !piece.is_value {
            piece.text = piece.text.trim_start().to_owned();
        }
        if !piece.text.is_empty() {
            ends_with_space = piece.text.ends_with(' ');
        }
    }
    said
}
