//! Builds one example: the offered tools, the request, and the calls that answer it.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

use super::compose::Utterance;
use super::form::{Argument, Form, Source};
use super::lexicon::Lexicon;
use super::naming::NamingStyle;
use super::said::SlotId;
use super::style::style;
use super::tool::{Frame, InventedTool};
use super::{ExampleKind, InventConfig, Invented};
use crate::synth::{Part, is_reserved};
use crate::text::example::{Call, Example};

/// All frames of one part, and the indices of those of each domain, thing and action.
pub(super) struct Frames {
    all: Vec<Frame>,
    by_domain: BTreeMap<usize, Vec<usize>>,
    by_thing: BTreeMap<(usize, usize), Vec<usize>>,
    by_action: BTreeMap<usize, Vec<usize>>,
}

/// More frames than this do not make a domain more frequent.
const MOST_COUNTED: usize = 20;

impl Frames {
    pub fn new(lexicon: &Lexicon, part: Part) -> Self {
        let mut frames =
            Self { all: Vec::new(), by_domain: BTreeMap::new(), by_thing: BTreeMap::new(), by_action: BTreeMap::new() };
        let held_out = held_out(lexicon);
        for (d, domain) in lexicon.domains.iter().enumerate() {
            for (t, thing) in domain.things.iter().enumerate() {
                if held_out.contains(thing.noun.as_str()) != (part == Part::HeldOut) {
                    continue;
                }
                for (a, action) in lexicon.actions.iter().enumerate() {
                    if action.traits().any(|name| thing.traits.iter().any(|t| t == name)) {
                        let at = frames.all.len();
                        frames.all.push(Frame { domain: d, thing: t, action: a });
                        frames.by_domain.entry(d).or_default().push(at);
                        frames.by_thing.entry((d, t)).or_default().push(at);
                        frames.by_action.entry(a).or_default().push(at);
                    }
                }
            }
        }
        frames
    }

    pub fn len(&self) -> usize {
        self.all.len()
    }

    #[cfg(test)]
    pub fn iter(&self) -> impl Iterator<Item = Frame> + '_ {
        self.all.iter().copied()
    }

    pub fn any(&self, rng: &mut ChaCha8Rng) -> Option<Frame> {
        // The domain is drawn first, so that large ones do not dominate.
        let domains: Vec<&Vec<usize>> = self.by_domain.values().collect();
        let weight = |frames: &&Vec<usize>| (frames.len().min(MOST_COUNTED) as f64).sqrt();
        let domain = domains.choose_weighted(rng, weight).ok()?;
        domain.choose(rng).map(|&at| self.all[at])
    }

    /// A frame of a tool to offer beside `target`; how similar it is, is drawn.
    pub fn beside(&self, target: Frame, is_far: bool, rng: &mut ChaCha8Rng) -> Option<Frame> {
        let near = if is_far { 9 } else { rng.random_range(0..10) };
        let list = match near {
            0..4 => self.by_thing.get(&(target.domain, target.thing))?,
            4..6 => self.by_action.get(&target.action)?,
            6..8 => self.by_domain.get(&target.domain)?,
            _ => return self.any(rng),
        };
        list.choose(rng).map(|&at| self.all[at])
    }
}

/// The things that are held out from training, by noun, in all domains: an eighth of all, and those
/// of some whole domains.
fn held_out(lexicon: &Lexicon) -> BTreeSet<&str> {
    let mut nouns = BTreeSet::new();
    for domain in &lexicon.domains {
        let is_whole = is_reserved(&format!("domain {}", domain.name));
        let is_kept = |noun: &str| is_whole || is_reserved(&format!("thing {noun}"));
        nouns.extend(domain.things.iter().map(|thing| thing.noun.as_str()).filter(|noun| is_kept(noun)));
    }
    nouns
}

/// An example under construction.
pub(super) struct Draft<'a> {
    pub lexicon: &'a Lexicon,
    pub frames: &'a Frames,
    pub config: &'a InventConfig,
    pub source: Source<'a>,
    pub naming: NamingStyle,
}

/// An utterance, with the tools that it mentions and the calls that it asks for.
pub(super) struct Spoken {
    pub utterance: Utterance,
    /// Tools that are called or mentioned; they are offered unless `withheld`.
    pub tools: Vec<InventedTool>,
    /// The index of each called tool in `tools`, and its arguments by parameter index, in the order
    /// of the request.
    pub calls: Vec<(usize, Vec<(usize, Argument)>)>,
    pub names_thing: bool,
    pub withheld: bool,
    pub is_far: bool,
}

/// An example of `kind`; `None` if the drawn tool has no words for it.
pub(super) fn draw(
    lexicon: &Lexicon,
    frames: &Frames,
    config: &InventConfig,
    kind: ExampleKind,
    rng: &mut ChaCha8Rng,
) -> Option<Invented> {
    let source = Source { lexicon, part: config.part, next_slot: 0 };
    let mut draft = Draft { lexicon, frames, config, source, naming: NamingStyle::draw(rng) };
    let mut spoken = draft.speak(kind, rng)?;
    let tools = draft.offer(&mut spoken, rng)?;
    style(&mut spoken.utterance.said, spoken.utterance.is_question, rng);
    finish(spoken, tools, kind)
}

impl Draft<'_> {
    /// The offered tools: those that are mentioned, unless withheld, among others that cannot be
    /// meant.
    fn offer(&self, spoken: &mut Spoken, rng: &mut ChaCha8Rng) -> Option<Vec<InventedTool>> {
        let twin = if rng.random_bool(0.08) && self.config.max_tools > 1 { self.twin(spoken, rng) } else { None };
        let mut offered = if spoken.withheld { Vec::new() } else { spoken.tools.clone() };
        offered.extend(twin);
        let count = rng.random_range(self.config.min_tools..=self.config.max_tools).max(1);
        let target = spoken.tools.choose(rng)?.frame;
        for _ in 0..count * 6 {
            if offered.len() >= count {
                break;
            }
            let Some(frame) = self.frames.beside(target, spoken.is_far, rng) else { continue };
            if spoken.is_far && frame.domain == target.domain {
                continue;
            }
            let Some(tool) = self.invent(frame, rng) else { continue };
            let is_unclear = spoken.tools.iter().any(|other| self.is_unclear(other, &tool, spoken.names_thing));
            let is_named_twice = offered.iter().any(|other| other.name.eq_ignore_ascii_case(&tool.name));
            if !is_unclear && !is_named_twice {
                offered.push(tool);
            }
        }
        if !(self.config.min_tools..=self.config.max_tools).contains(&offered.len()) {
            return None;
        }
        offered.shuffle(rng);
        Some(offered)
    }

    /// A tool that differs from the called one in one parameter: it has the parameter if the
    /// request does not state it, and lacks it if the request does. So the request shows which of
    /// the two is meant.
    fn twin(&self, spoken: &mut Spoken, rng: &mut ChaCha8Rng) -> Option<InventedTool> {
        let [(0, arguments)] = &spoken.calls[..] else { return None };
        let called = spoken.tools.first_mut().filter(|_| !spoken.withheld)?;
        let can_differ = |i: &usize| {
            let parameter = &called.parameters[*i];
            !parameter.is_required && !parameter.is_one_of && !matches!(parameter.form, Form::Flag)
        };
        let optional: Vec<usize> = (0..called.parameters.len()).filter(can_differ).collect();
        let position = *optional.choose(rng)?;
        let is_said = arguments.iter().any(|(said, _)| *said == position);
        let mut twin = called.clone();
        if is_said {
            // The called tool keeps the parameter, so the positions of the arguments stay the same.
            twin.parameters.remove(position);
            let naming = self.naming;
            called.tell_apart(position, naming, rng);
        } else {
            // The value is not stated, so the tool that requires it cannot be meant, and the called
            // one does not need it.
            twin.tell_apart(position, self.naming, rng);
            let is_after = |said: &usize| *said > position;
            for (said, _) in spoken.calls[0].1.iter_mut().filter(|(said, _)| is_after(said)) {
                *said -= 1;
            }
            called.parameters.remove(position);
        }
        (twin.name != called.name).then_some(twin)
    }
}

/// Fills the stated texts into the calls.
fn finish(spoken: Spoken, offered: Vec<InventedTool>, kind: ExampleKind) -> Option<Invented> {
    let said = &spoken.utterance.said;
    let texts = said.slots();
    let mut answers = Vec::new();
    for (tool, arguments) in &spoken.calls {
        let tool = &spoken.tools[*tool];
        let mut given: BTreeMap<usize, Value> = BTreeMap::new();
        for (position, argument) in arguments {
            given.insert(*position, resolve(argument, &texts)?);
        }
        // Arguments are in the order of the declaration, whatever the order in the sentence.
        let arguments: Map<String, Value> =
            given.into_iter().map(|(p, value)| (tool.parameters[p].name.clone(), value)).collect();
        answers.push(Call { name: tool.name.clone(), arguments });
    }
    let skeleton: String = said.0.iter().map(|piece| if piece.is_value { "_" } else { piece.text.as_str() }).collect();
    let query = said.whole().trim().to_owned();
    let tools = offered.iter().map(InventedTool::tool).collect();
    Some(Invented { example: Example { query, tools, answers }, kind, skeleton })
}

fn resolve(argument: &Argument, texts: &BTreeMap<SlotId, &str>) -> Option<Value> {
    Some(match argument {
        Argument::Fixed(value) => value.clone(),
        Argument::Said(slot) => Value::from((*texts.get(slot)?).to_owned()),
        Argument::List(members) => {
            members.iter().map(|member| resolve(member, texts)).collect::<Option<Vec<_>>>()?.into()
        }
    })
}
