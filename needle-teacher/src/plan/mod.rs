//! The plan of what to ask for: a matrix of tool x kind x persona x length, filled evenly and drawn
//! from a seed.
//!
//! The plan of `n` rows is a prefix of the plan of more rows, so that a set can be enlarged without
//! asking again for existing rows. Each task goes to the kind that is furthest behind its share,
//! and among that kind's tools to the one that is furthest behind.

mod choices;

use std::collections::BTreeMap;
use std::fmt::Write;

use needle_data::Tool;
use needle_data::random::{Purpose, rng};
use rand::RngExt;
use rand::rngs::ChaCha8Rng;
use rand::seq::{IndexedRandom, SliceRandom};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::TeacherError;
use crate::kind::{Kind, Shape};
use crate::task::{Cell, Length, Task};

pub use choices::{LANGUAGES, PERSONAS};

/// The language of all kinds except [`Kind::OtherLanguage`].
pub const ENGLISH: &str = "English";

/// Settings of a plan.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PlanConfig {
    /// Number of rows that one request asks for.
    pub rows_per_request: usize,
    /// Maximum number of offered tools in a row.
    pub max_offered_tools: usize,
    /// Share of each kind. A kind that is not listed has its default share; 0 excludes a kind.
    pub kinds: BTreeMap<Kind, f64>,
    /// Weights of tools in the quotas; a tool that is not listed has 1.
    pub tool_weights: BTreeMap<String, f64>,
    /// Descriptions of people who ask, such as `a driver who speaks hands-free`.
    pub personas: Vec<String>,
    /// Languages of the kind `other_language`, by their English names.
    pub languages: Vec<String>,
}

impl Default for PlanConfig {
    fn default() -> Self {
        Self {
            rows_per_request: 5,
            max_offered_tools: 5,
            kinds: BTreeMap::new(),
            tool_weights: BTreeMap::new(),
            personas: PERSONAS.map(str::to_owned).to_vec(),
            languages: LANGUAGES.map(str::to_owned).to_vec(),
        }
    }
}

impl PlanConfig {
    /// # Errors
    /// If a number is out of range, or a name is unknown.
    pub fn validate(&self, tools: &[Tool]) -> Result<(), TeacherError> {
        let check = |is_right: bool, field, reason: &str| {
            is_right.then_some(()).ok_or_else(|| TeacherError::config(field, reason))
        };
        let is_weight = |weight: &f64| weight.is_finite() && *weight >= 0.0;
        check(!tools.is_empty(), "tools", "there are none; give --tools, or --invent with --domain")?;
        check((1..=50).contains(&self.rows_per_request), "plan.rows_per_request", "expected 1 to 50")?;
        check(self.max_offered_tools > 0, "plan.max_offered_tools", "must be at least 1")?;
        check(self.kinds.values().all(is_weight), "plan.kinds", "expected numbers of at least 0")?;
        check(
            !self.kinds.contains_key(&Kind::Paraphrase),
            "plan.kinds",
            "paraphrases are made by needle data paraphrase",
        )?;
        check(self.tool_weights.values().all(is_weight), "plan.tool_weights", "expected numbers of at least 0")?;
        check(!self.personas.is_empty(), "plan.personas", "expected at least one")?;
        check(!self.languages.is_empty(), "plan.languages", "expected at least one")?;
        if let Some(name) = self.tool_weights.keys().find(|name| !tools.iter().any(|tool| tool.name == **name)) {
            return Err(TeacherError::config("plan.tool_weights", format!("there is no tool {name:?}")));
        }
        Ok(())
    }

    fn weight(&self, kind: Kind) -> f64 {
        self.kinds.get(&kind).copied().unwrap_or_else(|| kind.default_weight())
    }

    fn tool_weight(&self, tool: &Tool) -> f64 {
        self.tool_weights.get(&tool.name).copied().unwrap_or(1.0)
    }
}

/// The tasks of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// In the order in which they are asked.
    pub tasks: Vec<Task>,
}

impl Plan {
    /// Plans `count` rows about `tools`.
    ///
    /// # Errors
    /// If the settings leave nothing to ask for.
    pub fn new(tools: &[Tool], count: usize, config: &PlanConfig, seed: u64) -> Result<Self, TeacherError> {
        config.validate(tools)?;
        if count == 0 {
            return Err(TeacherError::config("count", "must be at least 1"));
        }
        let mut quotas = Quotas::new(tools, config, seed)?;
        let mut tasks = Vec::with_capacity(count.div_ceil(config.rows_per_request));
        let mut planned = 0;
        while planned < count {
            let number = tasks.len();
            let mut rng = rng(seed, Purpose::TeacherPlan, &[number as u64]);
            let (kind, focus) = quotas.next(config.rows_per_request);
            let rows = config.rows_per_request.min(count - planned);
            let cell = cell(&tools[focus], kind, config, &mut rng);
            tasks.push(Task { number, rows, cell, tools: offered(tools, focus, kind, config, &mut rng), source: None });
            planned += rows;
        }
        Ok(Self { tasks })
    }

    /// Planned rows of each kind and tool.
    pub fn matrix(&self) -> BTreeMap<Kind, BTreeMap<&str, usize>> {
        let mut matrix: BTreeMap<Kind, BTreeMap<&str, usize>> = BTreeMap::new();
        for task in &self.tasks {
            *matrix.entry(task.cell.kind).or_default().entry(&task.cell.tool).or_default() += task.rows;
        }
        matrix
    }

    /// Number of planned rows.
    pub fn num_rows(&self) -> usize {
        self.tasks.iter().map(|task| task.rows).sum()
    }

    /// The plan as text: rows of each kind, and of each tool.
    pub fn to_text(&self) -> String {
        let mut out = format!("{} rows in {} requests\n", self.num_rows(), self.tasks.len());
        let mut tools: BTreeMap<&str, usize> = BTreeMap::new();
        for (kind, of_tools) in self.matrix() {
            let rows: usize = of_tools.values().sum();
            let _ = writeln!(out, "  {rows:>7}  {kind}");
            for (tool, rows) in of_tools {
                *tools.entry(tool).or_default() += rows;
            }
        }
        let _ = writeln!(out, "of each tool");
        for (tool, rows) in tools {
            let _ = writeln!(out, "  {rows:>7}  {tool}");
        }
        out
    }

    /// The plan as JSON, one object per task.
    pub fn to_json(&self) -> Value {
        let task = |task: &Task| {
            let offered: Vec<&str> = task.tools.iter().map(|tool| tool.name.as_str()).collect();
            serde_json::json!({"number": task.number, "rows": task.rows, "cell": task.cell, "offered": offered})
        };
        self.tasks.iter().map(task).collect()
    }
}

/// How many rows each kind, and each tool of a kind, has so far.
struct Quotas<'a> {
    tools: &'a [Tool],
    config: &'a PlanConfig,
    /// Kinds, each with the tools that can have it; both in the order in which ties are broken.
    kinds: Vec<(Kind, Vec<usize>)>,
    rows: BTreeMap<(Kind, usize), usize>,
    rows_of_kind: BTreeMap<Kind, usize>,
    rows_of_tool: Vec<usize>,
}

impl<'a> Quotas<'a> {
    fn new(tools: &'a [Tool], config: &'a PlanConfig, seed: u64) -> Result<Self, TeacherError> {
        let mut rng = rng(seed, Purpose::TeacherPlanOrder, &[]);
        let mut kinds: Vec<(Kind, Vec<usize>)> = Vec::new();
        for kind in Kind::PLANNED {
            let fits = |&i: &usize| config.tool_weight(&tools[i]) > 0.0 && can_have(tools, i, kind);
            let mut of_tools: Vec<usize> = (0..tools.len()).filter(fits).collect();
            of_tools.shuffle(&mut rng);
            if config.weight(kind) > 0.0 && !of_tools.is_empty() {
                kinds.push((kind, of_tools));
            }
        }
        if kinds.is_empty() {
            return Err(TeacherError::config("plan.kinds", "no kind is left that these tools can have"));
        }
        kinds.shuffle(&mut rng);
        let rows_of_tool = vec![0; tools.len()];
        Ok(Self { tools, config, kinds, rows: BTreeMap::new(), rows_of_kind: BTreeMap::new(), rows_of_tool })
    }

    /// The kind and the tool that are furthest behind their shares.
    fn next(&mut self, rows: usize) -> (Kind, usize) {
        let total: usize = self.rows_of_kind.values().sum::<usize>() + rows;
        let weights: f64 = self.kinds.iter().map(|(kind, _)| self.config.weight(*kind)).sum();
        let behind = |kind: Kind| {
            let share = self.config.weight(kind) / weights;
            share * total as f64 - self.rows_of_kind.get(&kind).copied().unwrap_or(0) as f64
        };
        let (kind, of_tools) = first_max(self.kinds.iter(), |(kind, _)| (behind(*kind), 0.0));
        let of_kind = self.rows_of_kind.get(kind).copied().unwrap_or(0) + rows;
        let weights: f64 = of_tools.iter().map(|&i| self.config.tool_weight(&self.tools[i])).sum();
        let focus = *first_max(of_tools.iter(), |&&i| {
            let share = self.config.tool_weight(&self.tools[i]) / weights;
            let behind = share * of_kind as f64 - self.rows.get(&(*kind, i)).copied().unwrap_or(0) as f64;
            // Among tools that are equally far behind, the one with the fewest rows of all kinds
            // relative to its weight.
            (behind, -(self.rows_of_tool[i] as f64) / self.config.tool_weight(&self.tools[i]))
        });
        let kind = *kind;
        *self.rows.entry((kind, focus)).or_default() += rows;
        *self.rows_of_kind.entry(kind).or_default() += rows;
        self.rows_of_tool[focus] += rows;
        (kind, focus)
    }
}

/// The first item with the largest value; `items` must not be empty.
fn first_max<T>(mut items: impl Iterator<Item = T>, value: impl Fn(&T) -> (f64, f64)) -> T {
    #[expect(clippy::expect_used, reason = "both callers have at least one kind or tool, see Quotas::new")]
    let mut best = items.next().expect("there is an item");
    let mut most = value(&best);
    for item in items {
        let this = value(&item);
        // The tolerance keeps rounding errors from breaking ties.
        if this.0 > most.0 + 1e-9 || ((this.0 - most.0).abs() <= 1e-9 && this.1 > most.1 + 1e-9) {
            (best, most) = (item, this);
        }
    }
    best
}

/// Whether rows of `kind` can be about the `i`-th tool.
fn can_have(tools: &[Tool], i: usize, kind: Kind) -> bool {
    let parameters = &tools[i].parameters;
    let is_text = |spec: &serde_json::Map<String, Value>| {
        matches!(spec.get("type").and_then(Value::as_str), Some("string" | "str")) && !spec.contains_key("enum")
    };
    match kind.shape() {
        Shape::Several => tools.len() > 1,
        Shape::Twice => !parameters.is_empty(),
        _ if kind == Kind::LongValues => parameters.iter().any(|p| is_text(&p.spec)),
        _ => true,
    }
}

fn cell(tool: &Tool, kind: Kind, config: &PlanConfig, rng: &mut ChaCha8Rng) -> Cell {
    let persona = config.personas.choose(rng).cloned().unwrap_or_default();
    let length = match kind {
        Kind::LongValues => Length::Long,
        Kind::Several | Kind::Twice => *[Length::Medium, Length::Long].choose(rng).unwrap_or(&Length::Medium),
        _ => *Length::ALL.choose(rng).unwrap_or(&Length::Medium),
    };
    let language = match kind {
        Kind::OtherLanguage => config.languages.choose(rng).cloned().unwrap_or_default(),
        _ => ENGLISH.to_owned(),
    };
    Cell { tool: tool.name.clone(), kind, persona, length, language }
}

/// The tool in focus among others, in random order.
fn offered(tools: &[Tool], focus: usize, kind: Kind, config: &PlanConfig, rng: &mut ChaCha8Rng) -> Vec<Tool> {
    let fewest = if kind == Kind::Several { 2 } else { 1 };
    let most = config.max_offered_tools.min(tools.len()).max(fewest);
    let number = rng.random_range(fewest..=most);
    let others: Vec<usize> = (0..tools.len()).filter(|&i| i != focus).collect();
    let mut chosen: Vec<usize> = others.sample(rng, number - 1).copied().collect();
    chosen.push(focus);
    chosen.shuffle(rng);
    chosen.into_iter().map(|i| tools[i].clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn tools(n: usize) -> Vec<Tool> {
        let tool = |i: usize| json!({"name": format!("tool_{i}"), "parameters": {"text": {"type": "string"}}});
        Tool::list_from_json(&(0..n).map(tool).collect()).unwrap()
    }

    fn plan(tools: &[Tool], count: usize, config: &PlanConfig) -> Plan {
        Plan::new(tools, count, config, 7).unwrap()
    }

    #[test]
    fn kinds_have_their_shares_and_tools_equal_quotas_within_each() {
        let config = PlanConfig { rows_per_request: 1, ..PlanConfig::default() };
        let plan = plan(&tools(4), 2000, &config);
        assert_eq!(plan.num_rows(), 2000);
        for (kind, of_tools) in plan.matrix() {
            let rows: usize = of_tools.values().sum();
            assert!((rows as f64 - kind.default_weight() * 2000.0).abs() <= 2.0, "{kind}: {rows}");
            let (least, most) = (of_tools.values().min().unwrap(), of_tools.values().max().unwrap());
            assert!(of_tools.len() == 4 && most - least <= 1, "{kind}: {of_tools:?}");
        }
        let personas: std::collections::BTreeSet<&str> = plan.tasks.iter().map(|t| t.cell.persona.as_str()).collect();
        assert_eq!(personas.len(), PERSONAS.len());
    }

    #[test]
    fn a_larger_plan_begins_with_the_smaller_one() {
        let tools = tools(3);
        let (small, large) = (plan(&tools, 40, &PlanConfig::default()), plan(&tools, 400, &PlanConfig::default()));
        assert_eq!(small.tasks[..], large.tasks[..small.tasks.len()]);
        assert_ne!(small, Plan::new(&tools, 40, &PlanConfig::default(), 8).unwrap());
    }

    #[test]
    fn every_task_offers_its_tool_and_asks_for_what_it_can_do() {
        let mixed = Tool::list_from_json(
            &json!([{"name": "stop"}, {"name": "say", "parameters": {"text": {"type": "string"}}}]),
        );
        let mixed = mixed.unwrap();
        for task in plan(&mixed, 500, &PlanConfig::default()).tasks {
            let (kind, tool) = (task.cell.kind, task.cell.tool.as_str());
            assert!(task.tools.iter().any(|t| t.name == tool));
            assert!(tool == "say" || !matches!(kind, Kind::Twice | Kind::LongValues), "{kind} of {tool}");
            assert!(kind != Kind::Several || task.tools.len() == 2);
            assert_eq!(kind == Kind::OtherLanguage, task.cell.language != ENGLISH);
        }
        assert!(!plan(&mixed[..1], 100, &PlanConfig::default()).matrix().contains_key(&Kind::Several));
    }

    #[test]
    fn weights_of_kinds_and_tools_are_obeyed_and_nonsense_is_named() {
        let tools = tools(2);
        let config = PlanConfig {
            kinds: Kind::PLANNED.into_iter().map(|kind| (kind, if kind == Kind::One { 1.0 } else { 0.0 })).collect(),
            tool_weights: [("tool_0".to_owned(), 3.0)].into(),
            ..PlanConfig::default()
        };
        let of_kinds = plan(&tools, 400, &config);
        assert_eq!(of_kinds.matrix()[&Kind::One], [("tool_0", 300), ("tool_1", 100)].into());
        let bad = |config: PlanConfig| Plan::new(&tools, 4, &config, 0).unwrap_err().to_string();
        let none = Kind::PLANNED.into_iter().map(|kind| (kind, 0.0)).collect();
        assert!(bad(PlanConfig { kinds: none, ..PlanConfig::default() }).contains("no kind is left"));
        assert!(bad(PlanConfig { rows_per_request: 0, ..PlanConfig::default() }).contains("rows_per_request"));
        let unknown = [("nothing".to_owned(), 1.0)].into();
        assert!(bad(PlanConfig { tool_weights: unknown, ..PlanConfig::default() }).contains("\"nothing\""));
        assert!(Plan::new(&[], 4, &PlanConfig::default(), 0).is_err());
        assert!(Plan::new(&tools, 0, &PlanConfig::default(), 0).is_err());
    }
}
