//! Composes one request for one tool: which arguments are stated, where in the sentence and in
//! which words.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::Value;

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
    /// Like a filled-in form: `order chains: item .., quantity ..`.
    List,
}

/// What to leave out or get wrong on purpose.
#[derive(Debug, Clone, Default)]
pub(super) struct Plan {
    /// A required parameter that is mentioned without a value, or not at all.
    pub missing: Option<usize>,
    /// A parameter for which a value is stated that the tool does not accept.
    pub unknown: Option<usize>,
    /// Chance that a value is corrected while speaking.
    pub corrects: f64,
    /// Only verb phrases, which can be negated and joined.
    pub verb_only: bool,
    /// Only what the template itself says: nothing after it.
    pub body_only: bool,
    /// Use this template: its mood, and its index among the action's templates of that mood.
    pub template: Option<(Mood, usize)>,
    /// A parameter that takes one value but is given several, which asks for several calls at once.
    pub spread: Option<usize>,
    /// The argument under which the previous request named the thing; this request says `it`.
    pub pronoun: Option<Argument>,
}

/// The words and arguments of a request.
#[derive(Debug, Clone)]
pub(super) struct Request {
    pub mood: Mood,
    pub template: usize,
    /// Before everything: `at five, `.
    pub lead: Said,
    pub body: Said,
    /// A correction after the body: `no, make that seven`.
    pub afterthought: Option<Said>,
    /// Separate sentences after the body.
    pub extras: Vec<Said>,
    /// Arguments by parameter index.
    pub arguments: Vec<(usize, Argument)>,
    /// True if the thing is named, so that the same action on another thing cannot be meant.
    pub names_thing: bool,
    /// The words of the body before its first value.
    pub opening: String,
    /// True if the body ends in a free text without quotes: anything after it would be taken for a
    /// part of it.
    pub ends_open: bool,
}

/// Makes the request for `tool` that `plan` asks for; `None` if there are no words for it.
pub(super) fn request<'l>(
    scene: &Scene<'l>,
    tool: &InventedTool,
    plan: Plan,
    source: &mut Source<'l>,
    rng: &mut ChaCha8Rng,
) -> Option<Request> {
    let chosen = stated(tool, &plan, rng);
    let is_list = !plan.verb_only && plan.template.is_none() && plan.missing.is_none() && rng.random_bool(0.05);
    let (mood, index, template) =
        if is_list { (Mood::List, 0, list_opening(scene, rng)?) } else { template(scene, tool, &chosen, &plan, rng)? };
    let chosen = if plan.body_only { in_body(scene, tool, &template, &chosen)? } else { chosen };
    let mut speaker = Speaker {
        scene,
        tool,
        plan,
        source,
        left: chosen.clone(),
        chosen,
        is_quoted: false,
        before_noun: false,
        request: Request {
            mood,
            template: index,
            lead: Said::default(),
            body: Said::default(),
            afterthought: None,
            extras: Vec::new(),
            arguments: Vec::new(),
            names_thing: is_list,
            opening: template.split('{').next().unwrap_or_default().trim().to_owned(),
            ends_open: false,
        },
    };
    speaker.body(&template, rng)?;
    if is_list {
        speaker.filled_in(rng)?
    } else {
        speaker.tails(rng)?
    }
    Some(speaker.request)
}

/// Words that give one more argument to several requests at once, such as `, both by Friday`; and
/// the argument itself.
pub(super) fn shared_tail(
    tool: &InventedTool,
    position: usize,
    each: &str,
    source: &mut Source,
    rng: &mut ChaCha8Rng,
) -> Option<(Said, Argument)> {
    let parameter = &tool.parameters[position];
    if matches!(parameter.form, Form::Flag | Form::List(_)) || is_text(&parameter.form) {
        return None;
    }
    let words: Vec<&String> = parameter.role.say.iter().filter(|words| !words.starts_with([',', '-', '('])).collect();
    let words = words.choose(rng)?.trim_start();
    let filled = parameter.form.fill(source, rng, false)?;
    let words = numbered(words, filled.is_plural).replace("{@}", &format!("{}{{}}", filled.before));
    Some((filled.said.wrap(&format!(", {each} {words}")), filled.argument))
}

impl Request {
    /// True if other words may follow it.
    pub fn can_go_on(&self) -> bool {
        !self.ends_open
    }

    /// True if it consists only of its body.
    pub fn is_bare(&self) -> bool {
        self.lead.0.is_empty() && self.extras.is_empty() && self.afterthought.is_none()
    }
}

/// A short heading: `cancel booking`, `new booking cancellation`.
fn list_opening(scene: &Scene, rng: &mut ChaCha8Rng) -> Option<String> {
    let name = if scene.action.names.is_empty() || rng.random_bool(0.5) {
        format!("{} {{thing}}", scene.action.verbs.split_whitespace().next()?.replace('_', " "))
    } else {
        scene.action.names.choose(rng)?.clone()
    };
    Some(name)
}

/// Draws the parameters that are stated.
fn stated(tool: &InventedTool, plan: &Plan, rng: &mut ChaCha8Rng) -> Vec<usize> {
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
fn first_attribute(scene: &Scene, tool: &InventedTool, chosen: &[usize]) -> Option<usize> {
    chosen.iter().copied().find(|&i| scene.thing.attributes.contains(&tool.parameters[i].key))
}

/// The parameter that a placeholder such as `date`, `date:on` or `attr` stands for.
fn parameter_of(scene: &Scene, tool: &InventedTool, chosen: &[usize], placeholder: &str) -> Option<usize> {
    let key = placeholder.split([':', '=']).next().unwrap_or(placeholder);
    if key == "attr" { first_attribute(scene, tool, chosen) } else { tool.position(key) }
}

/// True for placeholders that stand for words, not for values.
fn is_word(placeholder: &str) -> bool {
    matches!(placeholder, "thing" | "things" | "a_thing" | "domain")
}

/// A template of the action whose roles are all stated or, if one is missing on purpose, can be
/// mentioned vaguely.
fn template(
    scene: &Scene,
    tool: &InventedTool,
    chosen: &[usize],
    plan: &Plan,
    rng: &mut ChaCha8Rng,
) -> Option<(Mood, usize, String)> {
    let action = scene.action;
    let pleas = first_attribute(scene, tool, chosen).map_or(&[][..], |i| &tool.parameters[i].role.pleas);
    let say: Vec<&String> = action.say.iter().chain(pleas.iter().filter(|_| action.group == "adjust")).collect();
    let of = |mood| -> Vec<&String> {
        match mood {
            Mood::Verb => action.verb_phrases.iter().collect(),
            Mood::Noun => action.noun_phrases.iter().collect(),
            Mood::Sentence => say.clone(),
            Mood::List => Vec::new(),
        }
    };
    if let Some((mood, index)) = plan.template {
        return Some((mood, index, (*of(mood).get(index)?).clone()));
    }
    let fits = |template: &str| {
        placeholders(template).all(|name| {
            let name = name.strip_suffix(".label").unwrap_or(name);
            is_word(name)
                || parameter_of(scene, tool, chosen, name).is_some_and(|position| {
                    let can_be_vague =
                        plan.missing == Some(position) && !tool.parameters[position].role.vague.is_empty();
                    chosen.contains(&position) || can_be_vague
                })
        })
    };
    let mut moods = vec![Mood::Verb];
    if !plan.verb_only {
        moods.extend([Mood::Noun, Mood::Sentence]);
    }
    // The first mood with a fitting template is used; verbs come first more often.
    moods.shuffle(rng);
    if rng.random_bool(0.3) {
        moods.sort_by_key(|&mood| mood != Mood::Verb);
    }
    moods.into_iter().find_map(|mood| {
        let of = of(mood);
        let fitting: Vec<usize> = (0..of.len()).filter(|&i| fits(of[i])).collect();
        fitting.choose(rng).map(|&i| (mood, i, of[i].clone()))
    })
}

fn placeholders(template: &str) -> impl Iterator<Item = &str> {
    template.split('{').skip(1).filter_map(|rest| rest.split('}').next())
}

/// Those of `chosen` that the template itself states; `None` if it lacks a required one.
fn in_body(scene: &Scene, tool: &InventedTool, template: &str, chosen: &[usize]) -> Option<Vec<usize>> {
    let said: Vec<usize> = placeholders(template).filter_map(|name| parameter_of(scene, tool, chosen, name)).collect();
    let is_complete = tool.parameters.iter().enumerate().all(|(i, p)| !p.is_required || said.contains(&i));
    (is_complete && said.iter().all(|i| chosen.contains(i))).then_some(said)
}

/// A request under construction.
struct Speaker<'a, 's, 'l> {
    scene: &'a Scene<'l>,
    tool: &'a InventedTool,
    plan: Plan,
    source: &'s mut Source<'l>,
    /// Parameters that are stated.
    chosen: Vec<usize>,
    /// Those of them that are not stated yet.
    left: Vec<usize>,
    /// True if the template has quotes around the value.
    is_quoted: bool,
    /// True if the counted noun follows in the template.
    before_noun: bool,
    request: Request,
}

impl Speaker<'_, '_, '_> {
    /// Fills the template.
    fn body(&mut self, template: &str, rng: &mut ChaCha8Rng) -> Option<()> {
        let mut body = Said::default();
        let mut rest = template;
        let mut is_plural = true;
        while let Some(start) = rest.find('{') {
            let end = start + rest[start..].find('}')?;
            body.push(&numbered(&rest[..start], is_plural));
            self.is_quoted = rest[..start].ends_with(['"', '\'', '“']);
            self.before_noun = is_before_noun(&rest[end + 1..]);
            let (said, plural) = self.placeholder(&rest[start + 1..end], rng)?;
            self.is_quoted = false;
            is_plural = plural;
            body.extend(said);
            rest = &rest[end + 1..];
        }
        body.push(&numbered(rest, is_plural));
        self.request.body = tidy(body);
        Some(())
    }

    /// The words for one placeholder, and whether they are plural.
    fn placeholder(&mut self, name: &str, rng: &mut ChaCha8Rng) -> Option<(Said, bool)> {
        let (scene, tool) = (self.scene, self.tool);
        if is_word(name) {
            self.request.names_thing |= name != "domain";
            return Some((Said::text(scene.words(&format!("{{{name}}}"))), true));
        }
        let (key, is_label) = name.strip_suffix(".label").map_or((name, false), |key| (key, true));
        let position = parameter_of(scene, tool, &self.chosen, key)?;
        let parameter = &tool.parameters[position];
        if is_label {
            return Some((Said::text(parameter.role.label.clone()), true));
        }
        if self.plan.missing == Some(position) {
            let vague = parameter.role.vague.choose(rng)?;
            self.request.names_thing |= vague.contains(&scene.thing.noun);
            return Some((Said::text(vague.clone()), true));
        }
        self.left.retain(|&p| p != position);
        if let Some((_, implied)) = key.split_once('=') {
            let argument = implied_value(&parameter.form, implied)?;
            self.request.arguments.push((position, Argument::Fixed(argument)));
            return Some((Said::default(), true));
        }
        if let (Some(same), "ref") = (&self.plan.pronoun, parameter.key.as_str()) {
            self.request.arguments.push((position, same.clone()));
            let words = if self.scene.thing.known_by == "person" { ["them", "them"] } else { ["it", "that one"] };
            return Some((Said::text(pick(rng, &words)), true));
        }
        let filled = self.value(position, self.before_noun, rng)?;
        let form = if name.contains(':') {
            // `{date:on}`: with the preposition that it takes.
            "{@}".to_owned()
        } else {
            parameter.role.core.choose(rng).cloned().unwrap_or_else(|| "{}".to_owned())
        };
        self.request.names_thing |= form.contains(&scene.thing.noun) || form.contains(&scene.thing.plural);
        let is_plural = filled.is_plural;
        Some((self.place(position, &form, filled, rng), is_plural))
    }

    /// Puts a value into `form`, and its argument into the call.
    fn place(&mut self, position: usize, form: &str, filled: Filled, rng: &mut ChaCha8Rng) -> Said {
        let mut form = numbered(form, filled.is_plural).replace("{@}", &format!("{}{{}}", filled.before));
        if matches!(&filled.argument, Argument::List(members) if members.len() > 1) {
            form = form.replace(&self.scene.thing.noun, &self.scene.thing.plural);
        }
        // A free text must be quoted or end the request.
        if is_free(&self.tool.parameters[position].form) && !self.is_quoted && !form.contains('"') {
            if !self.left.is_empty() || rng.random_bool(0.3) {
                let quoted = pick(rng, &["\"{}\"", "\"{}\"", "'{}'", "“{}”"]);
                form = form.replace("{}", quoted);
            } else {
                self.request.ends_open = true;
            }
        }
        self.request.arguments.push((position, filled.argument));
        filled.said.wrap(&form)
    }

    /// States the arguments that the body does not state.
    fn tails(&mut self, rng: &mut ChaCha8Rng) -> Option<()> {
        let tool = self.tool;
        self.left.shuffle(rng);
        self.left.sort_by_key(|&p| is_free(&tool.parameters[p].form));
        // A question mark goes to the very end.
        let is_question = self.request.body.whole().ends_with('?');
        if is_question && !self.left.is_empty() {
            let last = self.request.body.0.last_mut()?;
            last.text = last.text.trim_end_matches('?').to_owned();
        }
        let asks_more = is_question && !self.left.is_empty();
        while !self.left.is_empty() {
            // Nothing can follow a text in the body that is still open.
            if self.request.ends_open {
                return None;
            }
            let position = self.left.remove(0);
            self.tail(position, rng)?;
        }
        if asks_more && !self.request.ends_open {
            self.request.body.push("?");
        }
        Some(())
    }

    /// States one more argument after the body, before it, or in a separate sentence.
    fn tail(&mut self, position: usize, rng: &mut ChaCha8Rng) -> Option<()> {
        let tool = self.tool;
        let role = &tool.parameters[position].role;
        let form = &tool.parameters[position].form;
        if matches!(form, Form::Flag) {
            let (words, argument) = flag(&tool.parameters[position], rng)?;
            push_tail(&mut self.request.body, &words);
            self.request.arguments.push((position, argument));
            return Some(());
        }
        let filled = self.value(position, false, rng)?;
        let is_extra = !is_text(form) && rng.random_bool(if role.extra.is_empty() { 0.12 } else { 0.25 });
        let own = if is_extra { &role.extra } else { &role.say };
        let words = match own.choose(rng) {
            Some(words) if rng.random_bool(0.8) => words.clone(),
            _ => general_words(is_extra, is_text(form), rng).replace("{l}", &role.label),
        };
        self.request.names_thing |= words.contains(&self.scene.thing.noun) && !is_extra;
        let said = self.place(position, &words, filled, rng);
        if is_extra {
            self.request.extras.push(said);
            return Some(());
        }
        let leads = ["for ", "at ", "on ", "in ", "by ", "with ", "from ", "as of ", "to "];
        let can_lead = leads.iter().any(|word| words.trim_start().starts_with(word)) && !is_text(form);
        if can_lead && self.request.lead.0.is_empty() && rng.random_bool(0.12) {
            let mut lead = said.wrap("{}, ");
            if let Some(first) = lead.first_mut() {
                first.text = first.text.trim_start().to_owned();
            }
            self.request.lead = lead;
        } else {
            push_tail(&mut self.request.body, &said);
        }
        Some(())
    }

    /// States everything as in a form: `quantity 5, item: chains`.
    fn filled_in(&mut self, rng: &mut ChaCha8Rng) -> Option<()> {
        let tool = self.tool;
        self.left.shuffle(rng);
        self.left.sort_by_key(|&p| is_free(&tool.parameters[p].form));
        let (opening, between) = pick(
            rng,
            &[(": ", ", "), (" - ", ", "), (", ", ", "), (": ", "; "), ("; ", "; "), (" / ", " / "), (": ", ", ")],
        );
        let link = pick(rng, &[" ", ": ", " ", " = ", " is "]);
        let mut is_first = true;
        while !self.left.is_empty() {
            let position = self.left.remove(0);
            self.request.body.push(if is_first { opening } else { between });
            is_first = false;
            let parameter = &tool.parameters[position];
            if matches!(parameter.form, Form::Flag) {
                let (words, argument) = flag(parameter, rng)?;
                self.request.body.push(words.whole().trim_start_matches([',', ' ']));
                self.request.arguments.push((position, argument));
                continue;
            }
            let filled = self.value(position, false, rng)?;
            let said = self.place(position, &format!("{}{link}{{}}", parameter.role.label), filled, rng);
            self.request.body.extend(said);
        }
        (!is_first).then_some(())
    }

    /// A value for the parameter, which the tool accepts or, according to the plan, does not;
    /// sometimes it is corrected while speaking.
    fn value(&mut self, position: usize, before_noun: bool, rng: &mut ChaCha8Rng) -> Option<Filled> {
        let form = &self.tool.parameters[position].form;
        if self.plan.unknown == Some(position) {
            return unknown_value(form, rng);
        }
        if self.plan.spread == Some(position) {
            return Form::List(Box::new(form.clone())).fill(self.source, rng, false);
        }
        let filled = form.fill(self.source, rng, before_noun)?;
        if !can_be_corrected(form) || self.plan.corrects == 0.0 || !rng.random_bool(self.plan.corrects) {
            return Some(filled);
        }
        let wrong = form.fill(self.source, rng, false)?;
        let (wrong_text, right_text) = (wrong.said.whole(), filled.said.whole());
        if wrong.argument == filled.argument || right_text.contains(&wrong_text) || wrong_text.contains(&right_text) {
            return Some(filled);
        }
        let phrases = &self.source.lexicon.phrases;
        if self.is_only_of_its_kind(position) && rng.random_bool(0.4) {
            // The correction follows the sentence: `.. No, make that seven.`
            self.request.afterthought = Some(filled.said.wrap(phrases.late_corrections.choose(rng)?));
            return Some(Filled { said: Said::value(wrong_text), ..filled });
        }
        let (before, after) = phrases.corrections.choose(rng)?.split_once("{b}")?;
        let mut said = Said::value(wrong_text).wrap(&before.replace("{a}", "{}"));
        said.extend(filled.said).push(after);
        Some(Filled { said, ..filled })
    }

    /// True if no other argument has the same form, so that a late correction is unambiguous.
    fn is_only_of_its_kind(&self, position: usize) -> bool {
        let form = &self.tool.parameters[position].form;
        let is_like = |other: &Form| std::mem::discriminant(other) == std::mem::discriminant(form);
        matches!(form, Form::Measure { .. } | Form::Duration(_) | Form::Time { .. } | Form::IsoDate | Form::Percent)
            && self.chosen.iter().filter(|&&i| is_like(&self.tool.parameters[i].form)).count() == 1
    }
}

/// The value that a template implies: for a choice one of its wordings, for a flag `yes` or `no`,
/// else a number.
fn implied_value(form: &Form, implied: &str) -> Option<Value> {
    match form {
        Form::Choice { options, .. } => {
            options.iter().find(|(_, said)| said.iter().any(|said| said == implied)).map(|(value, _)| value.clone())
        }
        Form::Flag => Some((implied == "yes").into()),
        _ => implied.parse::<f64>().ok().map(number),
    }
}

/// Generic words for any argument; `{l}` is its label.
fn general_words(is_extra: bool, is_text: bool, rng: &mut ChaCha8Rng) -> &'static str {
    match (is_extra, is_text) {
        (_, true) => pick(rng, &[", {l}: {}", " with the {l} {}", ", {l} {}"]),
        (true, _) => pick(
            rng,
            &[
                "the {l} is {}",
                "the {l} should be {}",
                "{l}: {}",
                "make the {l} {}",
                "use {} as the {l}",
                "for the {l} take {}",
                "{l} {}",
                "the {l}, that's {}",
            ],
        ),
        _ => pick(
            rng,
            &[
                " with {l} {}",
                ", {l} {}",
                " ({l} {})",
                ", {l}: {}",
                ", with {} as the {l}",
                ", the {l} being {}",
                " - {l} {}",
            ],
        ),
    }
}

/// The words and the argument of a flag.
fn flag(parameter: &InventedParameter, rng: &mut ChaCha8Rng) -> Option<(Said, Argument)> {
    let yes = rng.random_bool(0.65);
    let words = (if yes { &parameter.role.yes } else { &parameter.role.no }).choose(rng)?;
    Some((Said::text(words.clone()), Argument::Fixed(yes.into())))
}

fn can_be_corrected(form: &Form) -> bool {
    !matches!(form, Form::Flag | Form::List(_) | Form::Verbatim(Words::Text { .. } | Words::Title | Words::Time))
}

/// Words for a value outside the choice or the bounds.
fn unknown_value(form: &Form, rng: &mut ChaCha8Rng) -> Option<Filled> {
    let said = match form {
        Form::Choice { unknown, .. } => Said::value(unknown.choose(rng)?.clone()),
        Form::Percent => Said::value(format!("{}%", pick(rng, &[110, 120, 150, 200, 300, 1000]))),
        form => {
            let (lowest, highest) = bounds(form)?;
            let far = (highest * pick(rng, &[1.5, 2.0, 3.0, 10.0])).ceil() + 1.0;
            let below = lowest - pick(rng, &[1.0, 5.0, 10.0]);
            let n = if below >= 0.0 && rng.random_bool(0.3) { below } else { far };
            let unit = match form {
                Form::Measure { units, .. } => units.first().map_or(String::new(), |unit| format!(" {unit}")),
                _ => String::new(),
            };
            Said::value(format!("{}{unit}", number(n)))
        }
    };
    Some(Filled { said, argument: Argument::Fixed(Value::Null), before: "", is_plural: true })
}

/// True if the rest of a template begins with the counted noun, so that `a couple of` fits before
/// it.
fn is_before_noun(rest: &str) -> bool {
    const NO_NOUN: [&str; 24] = [
        "of", "for", "and", "in", "to", "at", "on", "with", "from", "is", "are", "off", "please", "as", "by", "over",
        "out", "each", "more", "new", "times", "went", "sold", "points",
    ];
    let Some(rest) = rest.strip_prefix(' ') else { return false };
    let word: String = rest.chars().take_while(|c| c.is_alphabetic()).collect();
    rest.starts_with('{') || (!word.is_empty() && !NO_NOUN.contains(&word.as_str()))
}

/// Replaces `(s)` according to number.
fn numbered(words: &str, is_plural: bool) -> String {
    words.replace("(s)", if is_plural { "s" } else { "" })
}

fn is_text(form: &Form) -> bool {
    matches!(form, Form::Verbatim(Words::Text { .. }))
}

/// True for free text, as opposed to a topic of a few words.
fn is_free(form: &Form) -> bool {
    matches!(form, Form::Verbatim(Words::Text { is_free: true, .. }))
}

fn push_tail(body: &mut Said, said: &Said) {
    let starts_with_mark = said.whole().starts_with([' ', ',', ';', ':', '.', '-', '(']);
    body.push(if starts_with_mark { "" } else { " " }).extend(said.clone());
}

/// Removes the double space that an empty placeholder leaves.
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
