//! The utterance of an example of each kind: requests, and what only sounds like one.

use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::IndexedRandom;

use super::ExampleKind;
use super::compose::{Around, Utterance, utter, utter_joined};
use super::form::{Argument, Form};
use super::naming::NamingStyle;
use super::offer::{Draft, Spoken};
use super::request::{Mood, Plan, Request, request, shared_tail};
use super::said::Said;
use super::tool::{Frame, InventedTool};
use crate::synth::values::pick;

/// Verbs of tools that answer questions: asking such a tool how to do something is a request.
const ASKED_FOR: [&str; 18] = [
    "find",
    "search",
    "get",
    "calculate",
    "compute",
    "convert",
    "translate",
    "check",
    "define",
    "list",
    "count",
    "show",
    "select",
    "align",
    "read",
    "sort",
    "ping",
    "measure",
];

impl Spoken {
    fn new(utterance: Utterance, tools: Vec<InventedTool>, requests: Vec<(usize, Request)>) -> Self {
        let names_thing = requests.iter().all(|(_, request)| request.names_thing);
        let calls = requests.into_iter().map(|(tool, request)| (tool, request.arguments)).collect();
        Self { utterance, tools, calls, names_thing, withheld: false, is_far: false }
    }

    fn without_calls(self) -> Self {
        Self { calls: Vec::new(), ..self }
    }
}

impl Draft<'_> {
    /// An utterance of `kind`; `None` if the drawn tool has no words for it.
    pub fn speak(&mut self, kind: ExampleKind, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let verb_only = || Plan { verb_only: true, ..Plan::default() };
        match kind {
            ExampleKind::Single => self.single(Around::Usual, Plan { corrects: 0.06, ..Plan::default() }, rng),
            ExampleKind::NotNegated => self.single(Around::NotNegated, verb_only(), rng),
            ExampleKind::Negated => {
                let around = if rng.random_bool(0.75) { Around::Negated } else { Around::TakenBack };
                self.single(around, verb_only(), rng).map(Spoken::without_calls)
            }
            ExampleKind::Reported => self.single(Around::Reported, verb_only(), rng).map(Spoken::without_calls),
            ExampleKind::NearMiss | ExampleKind::OffTopic => {
                let spoken = self.single(Around::Usual, Plan::default(), rng)?.without_calls();
                Some(Spoken { withheld: true, is_far: kind == ExampleKind::OffTopic, ..spoken })
            }
            ExampleKind::Missing => self.missing(rng),
            ExampleKind::Invalid => self.invalid(rng),
            ExampleKind::PartlyNegated => self.partly_negated(rng),
            ExampleKind::SameTool => self.same_tool(rng),
            ExampleKind::SeveralTools => self.several_tools(rng),
            ExampleKind::AboutTools => self.about_tools(rng),
            ExampleKind::SmallTalk => self.small_talk(rng),
        }
    }

    pub fn invent(&self, frame: Frame, rng: &mut ChaCha8Rng) -> Option<InventedTool> {
        let naming = if rng.random_bool(0.9) { self.naming } else { NamingStyle::draw(rng) };
        frame.scene(self.lexicon).invent(frame, naming, rng)
    }

    fn any_tool(&self, rng: &mut ChaCha8Rng) -> Option<InventedTool> {
        let frame = self.frames.any(rng)?;
        self.invent(frame, rng)
    }

    fn request(&mut self, tool: &InventedTool, plan: Plan, rng: &mut ChaCha8Rng) -> Option<Request> {
        request(&tool.frame.scene(self.lexicon), tool, plan, &mut self.source, rng)
    }

    /// True if a request for one of the tools could mean the other.
    pub fn is_unclear(&self, a: &InventedTool, b: &InventedTool, names_thing: bool) -> bool {
        a.name == b.name || a.frame.scene(self.lexicon).could_be(&b.frame.scene(self.lexicon), names_thing)
    }

    fn single(&mut self, around: Around, plan: Plan, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        let request = self.request(&tool, plan, rng)?;
        let utterance = utter(&request, around, &self.lexicon.phrases, rng);
        Some(Spoken::new(utterance, vec![tool], vec![(0, request)]))
    }

    fn wrong(&mut self, tool: InventedTool, plan: Plan, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let request = self.request(&tool, plan, rng)?;
        let utterance = utter(&request, Around::Usual, &self.lexicon.phrases, rng);
        Some(Spoken::new(utterance, vec![tool], vec![(0, request)]).without_calls())
    }

    fn missing(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        let required: Vec<usize> = (0..tool.parameters.len()).filter(|&i| tool.parameters[i].is_required).collect();
        let missing = *required.choose(rng)?;
        // A flag has no value that could be missing: the wording of a request implies it.
        if matches!(tool.parameters[missing].form, Form::Flag) {
            return None;
        }
        self.wrong(tool, Plan { missing: Some(missing), ..Plan::default() }, rng)
    }

    fn invalid(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        let can_be_wrong = |i: &usize| match &tool.parameters[*i].form {
            Form::Choice { unknown, .. } => !unknown.is_empty(),
            _ => tool.parameters[*i].spec.contains_key("maximum"),
        };
        let candidates: Vec<usize> = (0..tool.parameters.len()).filter(can_be_wrong).collect();
        let unknown = *candidates.choose(rng)?;
        self.wrong(tool, Plan { unknown: Some(unknown), ..Plan::default() }, rng)
    }

    /// `cancel A, but don't cancel B`: one call.
    fn partly_negated(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let plan = Plan { verb_only: true, ..Plan::default() };
        let (done, left) = (self.any_tool(rng)?, self.any_tool(rng)?);
        let (yes, no) = (self.request(&done, plan.clone(), rng)?, self.request(&left, plan, rng)?);
        if self.is_unclear(&done, &left, yes.names_thing && no.names_thing) {
            return None;
        }
        let phrases = &self.lexicon.phrases;
        let mut said = Said::default();
        if rng.random_bool(0.6) && yes.can_go_on() {
            let first = utter(&yes, Around::Usual, phrases, rng);
            let mark = if first.is_question { "? But " } else { pick(rng, &[", but ", ". But ", ". ", "; "]) };
            said.extend(first.said).push(mark).extend(utter(&no, Around::Negated, phrases, rng).said);
        } else {
            if !no.can_go_on() || !yes.is_bare() {
                return None;
            }
            said.extend(utter(&no, Around::Negated, phrases, rng).said);
            said.push(pick(rng, &[", just ", ", only ", "; instead ", ". "])).extend(yes.body.clone());
        }
        let utterance = Utterance { said, is_question: false };
        let names_thing = yes.names_thing && no.names_thing;
        Some(Spoken { names_thing, ..Spoken::new(utterance, vec![done, left], vec![(0, yes)]) })
    }

    fn same_tool(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        if tool.takes_many {
            return None;
        }
        if rng.random_bool(0.35) {
            return self.spread(tool, rng);
        }
        let count = pick(rng, &[2, 2, 2, 2, 3]);
        let body_only = rng.random_bool(0.6);
        let first = Plan { verb_only: body_only || rng.random_bool(0.7), body_only, ..Plan::default() };
        let first = self.request(&tool, first, rng)?;
        let verb_only = first.mood == Mood::Verb;
        let template = body_only.then_some((first.mood, first.template));
        let mut requests = vec![first];
        while requests.len() < count {
            let again = Plan { template, verb_only, body_only, ..Plan::default() };
            let next = self.request(&tool, again, rng)?;
            if requests.iter().any(|r| r.body.whole() == next.body.whole() || !r.can_go_on()) {
                return None;
            }
            requests.push(next);
        }
        let utterance = if body_only { self.gapped(&tool, &mut requests, rng)? } else { self.in_a_row(&requests, rng) };
        Some(Spoken::new(utterance, vec![tool], requests.into_iter().map(|r| (0, r)).collect()))
    }

    /// `jobs 21, 22 and 23 are done`: one call for each thing, with otherwise equal arguments.
    fn spread(&mut self, tool: InventedTool, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let position = tool.position("ref")?;
        let request = self.request(&tool, Plan { spread: Some(position), ..Plan::default() }, rng)?;
        let utterance = utter(&request, Around::Usual, &self.lexicon.phrases, rng);
        let (spread, shared): (Vec<_>, Vec<_>) = request.arguments.iter().cloned().partition(|(p, _)| *p == position);
        let [(_, Argument::List(members))] = &spread[..] else { return None };
        if members.len() < 2 {
            return None;
        }
        let one_call = |member: &Argument| {
            let arguments = shared.iter().cloned().chain([(position, member.clone())]).collect();
            (0, Request { arguments, ..request.clone() })
        };
        let requests = members.iter().map(one_call).collect();
        Some(Spoken::new(utterance, vec![tool], requests))
    }

    /// `order five chains, two bells and a lamp, all by Friday`: the opening, and what all calls
    /// have in common, is said once.
    fn gapped(&mut self, tool: &InventedTool, requests: &mut [Request], rng: &mut ChaCha8Rng) -> Option<Utterance> {
        let opening = requests[0].opening.clone();
        if opening.is_empty() || requests.iter().any(|r| r.body.0.len() < 2) {
            return None;
        }
        let count = requests.len();
        let mut joined = requests[0].clone();
        for (i, request) in requests.iter().enumerate().skip(1) {
            let mut rest = request.body.clone();
            let first = rest.first_mut()?;
            first.text = first.text.strip_prefix(opening.as_str())?.trim_start().to_owned();
            let last = pick(rng, &[" and ", " and ", ", and ", ", also ", ", ", " plus "]);
            joined.body.push(if i + 1 == count { last } else { ", " }).extend(rest);
            joined.ends_open = request.ends_open;
        }
        let unsaid: Vec<usize> = (0..tool.parameters.len())
            .filter(|i| requests.iter().all(|r| r.arguments.iter().all(|(said, _)| said != i)))
            .collect();
        if let Some(&position) = unsaid.choose(rng)
            && !joined.ends_open
            && rng.random_bool(0.6)
        {
            let each = if count == 2 {
                pick(rng, &["both", "each", "both of them"])
            } else {
                pick(rng, &["all", "each", "all of them"])
            };
            if let Some((said, argument)) = shared_tail(tool, position, each, &mut self.source, rng) {
                joined.body.extend(said);
                requests.iter_mut().for_each(|r| r.arguments.push((position, argument.clone())));
            }
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
                let mark = pick(rng, &[". ", ". ", "; ", " - ", ". Also, ", ". Then ", ". And "]);
                let ends = said.whole().ends_with(['.', '!', '?']);
                said.push(if ends {
                    " "
                } else if is_question {
                    "? "
                } else {
                    mark
                });
            }
            is_question = utterance.is_question;
            said.extend(utterance.said);
        }
        Utterance { said, is_question }
    }

    fn several_tools(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let count = pick(rng, &[2, 2, 2, 2, 3, 3, 4]);
        let verb_only = rng.random_bool(0.6);
        let mut tools = vec![self.any_tool(rng)?];
        while tools.len() < count {
            let frame = self.frames.beside(tools[0].frame, false, rng)?;
            tools.push(self.invent(frame, rng)?);
        }
        let mut requests: Vec<Request> = Vec::new();
        for tool in &tools {
            let pronoun =
                requests.first().filter(|_| rng.random_bool(0.4)).and_then(|first| same_thing(&tools[0], tool, first));
            let verb_only = verb_only || pronoun.is_some();
            requests.push(self.request(tool, Plan { verb_only, pronoun, ..Plan::default() }, rng)?);
        }
        let (_, before) = requests.split_last()?;
        if !before.iter().all(Request::can_go_on) {
            return None;
        }
        let names_thing = requests.iter().all(|r| r.names_thing);
        let is_unclear = |i: usize| (0..i).any(|j| self.is_unclear(&tools[i], &tools[j], names_thing));
        if (0..tools.len()).any(is_unclear) {
            return None;
        }
        let utterance = self.in_a_row(&requests, rng);
        Some(Spoken::new(utterance, tools, requests.into_iter().enumerate().collect()))
    }

    fn about_tools(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        let phrases = &self.lexicon.phrases;
        // `how do I get to the station` is a request to a tool that finds routes, not a question
        // about it.
        let verb = self.lexicon.actions[tool.frame.action].verbs.split([' ', '_']).next().unwrap_or_default();
        let said = if ASKED_FOR.contains(&verb) || rng.random_bool(0.5) {
            let question = tool.frame.scene(self.lexicon).words(phrases.tool_questions.choose(rng)?);
            let parameter = tool.parameters.choose(rng).map_or("", |p| p.name.as_str());
            if question.contains("{parameter}") && parameter.is_empty() {
                return None;
            }
            Said::text(question.replace("{name}", &tool.name).replace("{parameter}", parameter))
        } else {
            let request = self.request(&tool, Plan { verb_only: true, ..Plan::default() }, rng)?;
            request.body.wrap(phrases.verb_tool_questions.choose(rng)?)
        };
        Some(Spoken::new(Utterance { said, is_question: true }, vec![tool], Vec::new()))
    }

    fn small_talk(&mut self, rng: &mut ChaCha8Rng) -> Option<Spoken> {
        let tool = self.any_tool(rng)?;
        let said = Said::text(self.lexicon.phrases.small_talk.choose(rng)?.clone());
        Some(Spoken::new(Utterance { said, is_question: false }, vec![tool], Vec::new()))
    }
}

/// The argument for the thing that `first` names, if `tool` takes the same thing in the same form,
/// so that a pronoun can refer to it.
fn same_thing(named: &InventedTool, tool: &InventedTool, first: &Request) -> Option<Argument> {
    let (a, b) = (named.position("ref")?, tool.position("ref")?);
    let is_same = (named.frame.domain, named.frame.thing) == (tool.frame.domain, tool.frame.thing);
    let fits = is_same && !named.takes_many && !tool.takes_many && named.parameters[a].form == tool.parameters[b].form;
    let argument = first.arguments.iter().find(|(position, _)| *position == a);
    argument.filter(|_| fits && first.names_thing).map(|(_, argument)| argument.clone())
}
