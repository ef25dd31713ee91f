//! One example: the tools on offer, the request, and the calls that answer it.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

use super::compose::{Around, Utterance, utter, utter_joined};
use super::form::{Argument, Form, Source};
use super::lexicon::Lexicon;
use super::naming::Hand;
use super::request::{Mood, Plan, Request, request};
use super::said::{Said, SlotId};
use super::style::style;
use super::tool::{Frame, InventedTool};
use super::{ExampleKind, InventConfig, Invented};
use crate::example::{Call, Example};
use crate::synth::values::pick;
use crate::synth::{Part, is_reserved};

/// All frames of one part, and where those of a domain, thing or action are.
pub(super) struct Frames {
    all: Vec<Frame>,
    by_domain: BTreeMap<usize, Vec<usize>>,
    by_thing: BTreeMap<(usize, usize), Vec<usize>>,
    by_action: BTreeMap<usize, Vec<usize>>,
}

impl Frames {
    pub fn new(lexicon: &Lexicon, part: Part) -> Self {
        let mut frames =
            Self { all: Vec::new(), by_domain: BTreeMap::new(), by_thing: BTreeMap::new(), by_action: BTreeMap::new() };
        for (d, domain) in lexicon.domains.iter().enumerate() {
            for (t, thing) in domain.things.iter().enumerate() {
                // By the noun alone: the bookings of all domains are kept from training, or none.
                let is_held_out =
                    is_reserved(&format!("domain {}", domain.name)) || is_reserved(&format!("thing {}", thing.noun));
                if is_held_out != (part == Part::HeldOut) {
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

    fn any(&self, rng: &mut ChaCha8Rng) -> Option<Frame> {
        // A domain first, so that large ones do not prevail; then a thing.
        let domains: Vec<&Vec<usize>> = self.by_domain.values().collect();
        domains.choose(rng)?.choose(rng).map(|&at| self.all[at])
    }

    /// A frame that stands beside `target`: how close is drawn.
    fn beside(&self, target: Frame, is_far: bool, rng: &mut ChaCha8Rng) -> Option<Frame> {
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

/// What is being put together.
struct Draft<'a> {
    lexicon: &'a Lexicon,
    frames: &'a Frames,
    config: &'a InventConfig,
    source: Source<'a>,
    hand: Hand,
}

/// The tools spoken of, each with the requests that ask for it.
struct Spoken {
    utterance: Utterance,
    /// Tools that are called or spoken of; on offer unless `withheld`.
    tools: Vec<InventedTool>,
    /// The tool by its place among `tools`, and the arguments, in the order of the request.
    calls: Vec<(usize, Vec<(usize, Argument)>)>,
    names_thing: bool,
    withheld: bool,
    is_far: bool,
}

/// An example of `kind`; none where the drawn tool has no words for it.
pub(super) fn draw(
    lexicon: &Lexicon,
    frames: &Frames,
    config: &InventConfig,
    kind: ExampleKind,
    rng: &mut ChaCha8Rng,
) -> Option<Invented> {
    let source = Source { lexicon, part: config.part, next_slot: 0 };
    let mut draft = Draft { lexicon, frames, config, source, hand: Hand::draw(rng) };
    let mut spoken = match kind {
        ExampleKind::Single => draft.single(Around::Usual, Plan { corrects: 0.06, ..Plan::default() }, rng)?,
        ExampleKind::NotNegated => {
            draft.single(Around::NotNegated, Plan { verb_only: true, ..Plan::default() }, rng)?
        }
        ExampleKind::Negated => {
            let around = if rng.random_bool(0.75) { Around::Negated } else { Around::TakenBack };
            draft.single(around, Plan { verb_only: true, ..Plan::default() }, rng)?.without_calls()
        }
        ExampleKind::Reported => {
            draft.single(Around::Reported, Plan { verb_only: true, ..Plan::default() }, rng)?.without_calls()
        }
        ExampleKind::NearMiss | ExampleKind::OffTopic => {
            let mut spoken = draft.single(Around::Usual, Plan::default(), rng)?.without_calls();
            spoken.withheld = true;
            spoken.is_far = kind == ExampleKind::OffTopic;
            spoken
        }
        ExampleKind::Missing => draft.missing(rng)?,
        ExampleKind::Invalid => draft.invalid(rng)?,
        ExampleKind::PartlyNegated => draft.partly_negated(rng)?,
        ExampleKind::SameTool => draft.same_tool(rng)?,
        ExampleKind::SeveralTools => draft.several_tools(rng)?,
        ExampleKind::AboutTools => draft.about_tools(rng)?,
        ExampleKind::SmallTalk => draft.small_talk(rng)?,
    };
    let tools = draft.offer(&spoken, rng)?;
    style(&mut spoken.utterance.said, spoken.utterance.is_question, rng);
    finish(spoken, tools, kind)
}

impl Spoken {
    fn without_calls(self) -> Self {
        Self { calls: Vec::new(), ..self }
    }
}

impl Draft<'_> {
    fn invent(&self, frame: Frame, rng: &mut ChaCha8Rng) -> Option<InventedTool> {
        let hand = if rng.random_bool(0.9) { self.hand } else { Hand::draw(rng) };
        frame.scene(self.lexicon).invent(frame, hand, rng)
    }

    fn any_tool(&self, rng: &mut ChaCha8Rng) -> Option<InventedTool> {
        let frame = self.frames.any(rng)?;
        self.invent(frame, rng)
    }

    fn request(&mut self, tool: &InventedTool, plan: Plan, rng: &mut ChaCha8Rng) -> Option<Request> {
        request(&tool.frame.scene(self.lexicon), tool, plan, &mut self.source, rng)
    }

    fn spoken(&self, tool: InventedTool, request: Request, around: Around, rng: &mut ChaCha8Rng) -> Spoken {
        let utterance = utter(&request, around, &self.lexicon.phrases, rng);
        Spoken {
            utterance,
            tools: vec![tool],
            calls: vec![(0, request.arguments)],
            names_thing: request.names_thing,
            withheld: false,
            is_far: false,
        }
    }

    fn single(&mut self, around: Around, plan: Plan, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        let request = self.request(&tool, plan, rng)?;
        Some(self.spoken(tool, request, around, rng))
    }

    fn missing(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        let required: Vec<usize> = (0..tool.parameters.len()).filter(|&i| tool.parameters[i].is_required).collect();
        let missing = *required.choose(rng)?;
        // A flag is heard from how a thing is asked for, never missed.
        if matches!(tool.parameters[missing].form, Form::Flag) {
            return None;
        }
        let request = self.request(&tool, Plan { missing: Some(missing), ..Plan::default() }, rng)?;
        Some(self.spoken(tool, request, Around::Usual, rng).without_calls())
    }

    fn invalid(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        let can_be_wrong = |i: &usize| match &tool.parameters[*i].form {
            Form::Choice { unknown, .. } => !unknown.is_empty(),
            _ => tool.parameters[*i].spec.contains_key("maximum"),
        };
        let candidates: Vec<usize> = (0..tool.parameters.len()).filter(can_be_wrong).collect();
        let unknown = *candidates.choose(rng)?;
        let request = self.request(&tool, Plan { unknown: Some(unknown), ..Plan::default() }, rng)?;
        Some(self.spoken(tool, request, Around::Usual, rng).without_calls())
    }

    /// `cancel A, but don't cancel B`: one call.
    fn partly_negated(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let plan = Plan { verb_only: true, ..Plan::default() };
        let (done, left) = (self.any_tool(rng)?, self.other_tool(rng)?);
        let (yes, no) = (self.request(&done, plan, rng)?, self.request(&left, plan, rng)?);
        if self.is_unclear(&done, &left, yes.names_thing && no.names_thing) {
            return None;
        }
        let phrases = &self.lexicon.phrases;
        let first = utter(&yes, Around::Usual, phrases, rng);
        let second = utter(&no, Around::Negated, phrases, rng);
        let mut said = Said::default();
        if rng.random_bool(0.6) {
            let mark = if first.is_question { "? But " } else { pick(rng, &[", but ", ". But ", ". ", "; "]) };
            said.extend(first.said).push(mark).extend(second.said);
        } else {
            said.extend(second.said)
                .push(pick(rng, &[", just ", ", only ", "; instead ", ". "]))
                .extend(yes.body.clone());
            // Only the body is repeated: what else belongs to the call must be in it.
            if !yes.extras.is_empty() || !yes.lead.0.is_empty() {
                return None;
            }
        }
        let calls = vec![(0, yes.arguments)];
        let utterance = Utterance { said, is_question: false };
        Some(Spoken {
            utterance,
            tools: vec![done, left],
            calls,
            names_thing: yes.names_thing && no.names_thing,
            withheld: false,
            is_far: false,
        })
    }

    fn other_tool(&self, rng: &mut ChaCha8Rng) -> Option<InventedTool> {
        self.any_tool(rng)
    }

    fn is_unclear(&self, a: &InventedTool, b: &InventedTool, names_thing: bool) -> bool {
        a.name == b.name || a.frame.scene(self.lexicon).could_be(&b.frame.scene(self.lexicon), names_thing)
    }

    fn same_tool(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        if tool.takes_many {
            return None;
        }
        let count = pick(rng, &[2, 2, 2, 2, 3]);
        let is_gapped = rng.random_bool(0.6);
        let first = self.request(
            &tool,
            Plan { verb_only: is_gapped || rng.random_bool(0.7), body_only: is_gapped, ..Plan::default() },
            rng,
        )?;
        let same = Plan { template: Some((first.mood, first.template)), body_only: is_gapped, ..Plan::default() };
        let again = if is_gapped { same } else { Plan { verb_only: first.mood == Mood::Verb, ..Plan::default() } };
        let mut requests = vec![first];
        for _ in 1..count {
            let next = self.request(&tool, again, rng)?;
            if requests.iter().any(|r| r.body.whole() == next.body.whole()) {
                return None;
            }
            requests.push(next);
        }
        let names_thing = requests.iter().all(|r| r.names_thing);
        let utterance = if is_gapped { self.gapped(&requests, rng)? } else { self.in_a_row(&requests, rng) };
        let calls = requests.into_iter().map(|r| (0, r.arguments)).collect();
        Some(Spoken { utterance, tools: vec![tool], calls, names_thing, withheld: false, is_far: false })
    }

    /// `order five chains, two bells and a lamp`: the opening is said once.
    fn gapped(&self, requests: &[Request], rng: &mut ChaCha8Rng) -> Option<Utterance> {
        let opening = &requests[0].opening;
        if opening.is_empty() || requests.iter().any(|r| r.body.0.len() < 2) {
            return None;
        }
        let mut joined = requests[0].clone();
        for (i, request) in requests.iter().enumerate().skip(1) {
            let mut rest = request.body.clone();
            let first = rest.first_mut()?;
            first.text = first.text.strip_prefix(opening.as_str())?.trim_start().to_owned();
            joined.body.push(if i + 1 == requests.len() {
                pick(rng, &[" and ", " and ", ", and ", ", also ", ", ", " plus "])
            } else {
                ", "
            });
            joined.body.extend(rest);
        }
        Some(utter(&joined, Around::Usual, &self.lexicon.phrases, rng))
    }

    fn in_a_row(&self, requests: &[Request], rng: &mut ChaCha8Rng) -> Utterance {
        let phrases = &self.lexicon.phrases;
        let can_join = requests.iter().all(|r| r.mood == Mood::Verb && r.extras.is_empty())
            && requests[1..].iter().all(|r| r.lead.0.is_empty());
        if can_join && rng.random_bool(0.7) {
            return utter_joined(requests, phrases, rng);
        }
        let mut said = Said::default();
        let mut is_question = false;
        for (i, request) in requests.iter().enumerate() {
            let utterance = utter(request, Around::Usual, phrases, rng);
            if i > 0 {
                let mark = if is_question {
                    "? "
                } else {
                    pick(rng, &[". ", ". ", "; ", " - ", ". Also, ", ". Then ", ". And "])
                };
                let ends = said.whole().ends_with(['.', '!', '?']);
                said.push(if ends { " " } else { mark });
            }
            is_question = utterance.is_question;
            said.extend(utterance.said);
        }
        Utterance { said, is_question }
    }

    fn several_tools(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let count = pick(rng, &[2, 2, 2, 2, 3, 3, 4]);
        let mut tools = vec![self.any_tool(rng)?];
        let mut requests: Vec<Request> = Vec::new();
        let verb_only = rng.random_bool(0.6);
        while tools.len() < count {
            let frame = self.frames.beside(tools[0].frame, false, rng)?;
            tools.push(self.invent(frame, rng)?);
        }
        for tool in &tools {
            requests.push(self.request(tool, Plan { verb_only, ..Plan::default() }, rng)?);
        }
        let names_thing = requests.iter().all(|r| r.names_thing);
        for i in 0..tools.len() {
            for j in 0..i {
                if self.is_unclear(&tools[i], &tools[j], names_thing) {
                    return None;
                }
            }
        }
        let utterance = self.in_a_row(&requests, rng);
        let calls = requests.into_iter().enumerate().map(|(i, r)| (i, r.arguments)).collect();
        Some(Spoken { utterance, tools, calls, names_thing, withheld: false, is_far: false })
    }

    fn about_tools(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        let phrases = &self.lexicon.phrases;
        let said = if rng.random_bool(0.5) {
            let scene = tool.frame.scene(self.lexicon);
            let question = scene.words(phrases.tool_questions.choose(rng)?);
            let parameter = tool.parameters.choose(rng).map_or("", |p| p.name.as_str());
            if question.contains("{parameter}") && parameter.is_empty() {
                return None;
            }
            Said::text(question.replace("{name}", &tool.name).replace("{parameter}", parameter))
        } else {
            let request = self.request(&tool, Plan { verb_only: true, ..Plan::default() }, rng)?;
            let body = Said::text(request.body.whole());
            body.wrap(phrases.verb_tool_questions.choose(rng)?)
        };
        let utterance = Utterance { said, is_question: true };
        Some(Spoken {
            utterance,
            tools: vec![tool],
            calls: Vec::new(),
            names_thing: true,
            withheld: false,
            is_far: false,
        })
    }

    fn small_talk(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        let said = Said::text(self.lexicon.phrases.small_talk.choose(rng)?.clone());
        let utterance = Utterance { said, is_question: false };
        Some(Spoken {
            utterance,
            tools: vec![tool],
            calls: Vec::new(),
            names_thing: true,
            withheld: false,
            is_far: false,
        })
    }

    /// The tools spoken of, unless they are withheld, among others that cannot be meant.
    fn offer(&self, spoken: &Spoken, rng: &mut ChaCha8Rng) -> Option<Vec<InventedTool>> {
        let mut offered = if spoken.withheld { Vec::new() } else { spoken.tools.clone() };
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
        if offered.len() < self.config.min_tools {
            return None;
        }
        offered.shuffle(rng);
        Some(offered)
    }
}

/// Puts the texts into the calls.
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
        // In the order of the declaration, whatever the order in the sentence.
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
