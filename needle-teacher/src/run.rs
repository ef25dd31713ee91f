//! Runs tasks in rounds, passes every row through the stages, and records what became of it.
//!
//! A round asks for the rows that are still missing, asks the judge about those that passed, and
//! ends when all is answered. Rows are checked in the order of the plan, so that the same answers
//! give the same rows, and therefore the next round asks the same questions: a resumed run finds
//! all of them in its journal.

use std::collections::BTreeMap;

use needle_data::Example;
use serde_json::{Value, json};

use crate::config::TeacherConfig;
use crate::error::TeacherError;
use crate::extract;
use crate::kind::Shape;
use crate::prompt::{self, Prompt};
use crate::task::Task;
use crate::teacher::{Ask, Outcome, StopReason, Teacher};
use crate::tokens::{Usage, estimate};
use crate::trust::{Rejection, Stage, Trust};

/// Maximum number of a task's queries that are shown to the teacher when it is asked for more.
const SHOWN_QUERIES: usize = 10;

/// A row that passed.
#[derive(Debug, Clone, PartialEq)]
pub struct Accepted {
    /// Index of its task.
    pub task: usize,
    /// The row.
    pub example: Example,
}

/// A row that was rejected.
#[derive(Debug, Clone, PartialEq)]
pub struct Rejected {
    /// Index of its task.
    pub task: usize,
    /// What the teacher wrote.
    pub row: Value,
    /// Why it was rejected.
    pub rejection: Rejection,
}

/// Progress of a run.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Progress {
    /// Rows accepted.
    pub accepted: usize,
    /// Rows rejected.
    pub rejected: usize,
    /// Rows planned.
    pub planned: usize,
    /// Usage of all sessions.
    pub used: Usage,
}

/// The result of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Collected {
    /// Rows to train on, in the order of their tasks.
    pub accepted: Vec<Accepted>,
    /// Rejected rows, in the order of rejection.
    pub rejected: Vec<Rejected>,
    /// Rows that reached each stage.
    pub reached: BTreeMap<Stage, usize>,
    /// Why the run ended early; `None` if it did not.
    pub ended: Option<StopReason>,
}

/// Asks for the rows of `tasks`.
///
/// # Errors
/// If a setting is invalid. A failure of the endpoint is not an error: it ends the run with the
/// rows so far ([`Collected::ended`]).
pub fn run(
    teacher: &Teacher,
    tasks: &[Task],
    trust: Trust,
    config: &TeacherConfig,
    progress: &mut dyn FnMut(Progress),
) -> Result<Collected, TeacherError> {
    config.validate()?;
    let mut run = Run {
        teacher,
        tasks,
        trust,
        config,
        progress,
        accepted: vec![Vec::new(); tasks.len()],
        rejected: Vec::new(),
        reached: BTreeMap::new(),
        planned: tasks.iter().map(|task| task.rows).sum(),
    };
    for round in 0..config.rounds {
        let wanted = run.missing();
        if wanted.is_empty() || teacher.ended().is_some() {
            break;
        }
        let kept = run.round(round, &wanted);
        run.judge(round, &kept);
    }
    let accepted = run.accepted.into_iter().flatten().collect();
    let (rejected, reached) = (run.rejected, run.reached);
    Ok(Collected { accepted, rejected, reached, ended: teacher.ended() })
}

/// The question for `rows` rows of a task in a round.
pub fn ask_for(task: &Task, rows: usize, have: &[&str], round: usize, config: &TeacherConfig) -> Ask {
    let Prompt { system, user, schema } = prompt::rows(task, rows, have);
    let model = &config.teacher;
    let question = crate::client::Question {
        model: model.model.clone(),
        system,
        user,
        schema,
        max_answer_tokens: model.max_answer_tokens,
        temperature: model.temperature,
    };
    Ask { question, price: model.price, place: format!("rows {} round {round}", task.number) }
}

/// Estimated usage of the first round of `tasks`, including the judge.
pub fn expected_usage(tasks: &[Task], config: &TeacherConfig) -> Usage {
    let mut usage = Usage { is_estimated: true, ..Usage::default() };
    let judged = config.judge.model.is_some();
    for task in tasks {
        let ask = ask_for(task, task.rows, &[], 0, config);
        let row_tokens = task.cell.kind.expected_row_tokens();
        let (input, output) = (ask.input_tokens(), task.rows as u64 * row_tokens + 10);
        let cost = config.teacher.price.map(|price| price.cost(input, output));
        usage.add(&Usage { input_tokens: input, output_tokens: output, cost, is_estimated: true });
        if judged {
            let tools: Vec<Value> = task.tools.iter().map(needle_data::Tool::to_json).collect();
            let opinions = (task.rows * config.judge.votes) as u64;
            let (input, output) = (opinions * (300 + row_tokens + estimate(&json!(tools).to_string())), opinions * 40);
            let cost = config.judge.price.or(config.teacher.price).map(|price| price.cost(input, output));
            usage.add(&Usage { input_tokens: input, output_tokens: output, cost, is_estimated: true });
        }
    }
    usage
}

struct Run<'a> {
    teacher: &'a Teacher,
    tasks: &'a [Task],
    trust: Trust,
    config: &'a TeacherConfig,
    progress: &'a mut dyn FnMut(Progress),
    /// Accepted rows of each task.
    accepted: Vec<Vec<Accepted>>,
    rejected: Vec<Rejected>,
    reached: BTreeMap<Stage, usize>,
    planned: usize,
}

/// A row that passed the stages and waits for the judge.
struct Kept {
    task: usize,
    example: Example,
    /// Its number among the known queries.
    known: usize,
}

impl Run<'_> {
    /// Tasks with too few rows, and the number of rows that they lack.
    fn missing(&self) -> Vec<(usize, usize)> {
        let lacks = |(i, task): (usize, &Task)| (i, task.rows.saturating_sub(self.accepted[i].len()));
        self.tasks.iter().enumerate().map(lacks).filter(|(_, rows)| *rows > 0).collect()
    }

    /// Asks once for the missing rows, and returns those that passed the stages.
    fn round(&mut self, round: usize, wanted: &[(usize, usize)]) -> Vec<Kept> {
        let asks: Vec<Ask> = wanted
            .iter()
            .map(|&(i, rows)| {
                let have: Vec<&str> =
                    self.accepted[i].iter().take(SHOWN_QUERIES).map(|row| row.example.query.as_str()).collect();
                ask_for(&self.tasks[i], rows, &have, round, self.config)
            })
            .collect();
        let mut kept = Vec::new();
        let teacher = self.teacher;
        teacher.ask_all(&asks, |index, outcome| {
            let (task, rows) = wanted[index];
            match outcome {
                Outcome::Answered(answer) => self.look_at(task, rows, &answer.content, answer.is_cut, &mut kept),
                Outcome::Failed(reason) => {
                    self.reject(task, Value::Null, Rejection::new(Stage::Request, "no_answer", reason));
                }
                Outcome::NotAsked => {}
            }
            self.report(kept.len());
        });
        kept
    }

    /// Passes the rows of one answer through the stages, and keeps at most as many as were asked
    /// for.
    fn look_at(&mut self, index: usize, rows: usize, content: &str, is_cut: bool, kept: &mut Vec<Kept>) {
        let task = &self.tasks[index];
        *self.reached.entry(Stage::Request).or_default() += 1;
        let listed = match extract::list(content, "rows") {
            Ok(listed) => listed,
            Err(reason) => {
                let code = if is_cut { "cut" } else { "not_json" };
                let shown: String = content.chars().take(500).collect();
                return self.reject(index, shown.into(), Rejection::new(Stage::Parse, code, reason));
            }
        };
        let mut passed = 0;
        for row in &listed.items {
            if passed == rows {
                // The teacher wrote more than was asked for: the quotas are not exceeded.
                break;
            }
            match self.trust.check(task, row) {
                Ok((example, known)) => {
                    passed += 1;
                    kept.push(Kept { task: index, example, known });
                    self.count_stages(Stage::Judge);
                }
                Err(rejection) => {
                    self.count_stages(rejection.stage);
                    self.reject(index, row.clone(), rejection);
                }
            }
        }
        if let Some(reason) = listed.broken {
            self.reject(index, Value::Null, Rejection::new(Stage::Parse, "cut", reason));
        } else if listed.items.is_empty() {
            self.reject(index, Value::Null, Rejection::new(Stage::Parse, "no_rows", "the list of rows is empty"));
        }
    }

    /// Counts a row at every stage up to the one that it reached.
    fn count_stages(&mut self, last: Stage) {
        for stage in Stage::ALL.into_iter().filter(|stage| (Stage::Parse..=last).contains(stage)) {
            *self.reached.entry(stage).or_default() += 1;
        }
    }

    fn reject(&mut self, task: usize, row: Value, rejection: Rejection) {
        self.rejected.push(Rejected { task, row, rejection });
    }

    /// Asks the judge about `kept`, and accepts rows that more than half of the opinions accept.
    fn judge(&mut self, round: usize, kept: &[Kept]) {
        let config = &self.config.judge;
        let Some(model) = &config.model else {
            return self.accept_all(kept);
        };
        let ask = |kept: &Kept, vote: usize| {
            let (task, example) = (&self.tasks[kept.task], &kept.example);
            let Prompt { system, user, schema } =
                prompt::verdict(&example.query, &example.tools, &example.answers, task.cell.kind);
            let question = crate::client::Question {
                model: model.clone(),
                system,
                user,
                schema,
                max_answer_tokens: config.max_answer_tokens,
                temperature: None,
            };
            let place = format!("verdict {} round {round} vote {vote}", task.number);
            Ask { question, price: config.price.or(self.config.teacher.price), place }
        };
        let asks: Vec<Ask> = kept.iter().flat_map(|kept| (0..config.votes).map(move |vote| ask(kept, vote))).collect();
        let mut verdicts: Vec<Option<Result<(), String>>> = Vec::with_capacity(asks.len());
        let teacher = self.teacher;
        teacher.ask_all(&asks, |_, outcome| {
            verdicts.push(match outcome {
                Outcome::Answered(answer) => Some(opinion(&answer.content)),
                Outcome::Failed(reason) => Some(Err(format!("no opinion: {reason}"))),
                Outcome::NotAsked => None,
            });
            self.report(kept.len());
        });
        for (kept, verdicts) in kept.iter().zip(verdicts.chunks(config.votes)) {
            let row = json!({"query": kept.example.query, "answers": kept.example.answers});
            let wrong: Vec<&str> =
                verdicts.iter().flatten().filter_map(|v| v.as_ref().err()).map(String::as_str).collect();
            let unheard = verdicts.iter().filter(|verdict| verdict.is_none()).count();
            let for_it = verdicts.len() - wrong.len() - unheard;
            if 2 * for_it > config.votes {
                self.accept(kept);
                continue;
            }
            self.trust.forget(kept.known);
            let (code, reason) = if unheard > 0 {
                ("not_judged", "the run ended before the judge had answered".to_owned())
            } else {
                ("judged_wrong", format!("{for_it} of {} opinions accept it; {}", config.votes, wrong.join("; ")))
            };
            self.reject(kept.task, row, Rejection::new(Stage::Judge, code, reason));
        }
        self.report(0);
    }

    fn accept_all(&mut self, kept: &[Kept]) {
        kept.iter().for_each(|kept| self.accept(kept));
        self.report(0);
    }

    fn accept(&mut self, kept: &Kept) {
        self.accepted[kept.task].push(Accepted { task: kept.task, example: kept.example.clone() });
    }

    /// Reports the progress; `kept` rows of this round wait for the judge.
    fn report(&mut self, kept: usize) {
        let accepted = self.accepted.iter().map(Vec::len).sum::<usize>() + kept;
        let (rejected, planned, used) = (self.rejected.len(), self.planned, self.teacher.used());
        (self.progress)(Progress { accepted, rejected, planned, used });
    }
}

/// A judge's opinion: `Ok` if the row is right, else the reason. An unreadable opinion counts
/// against the row.
fn opinion(content: &str) -> Result<(), String> {
    let verdict = extract::object(content, "is_right").ok_or_else(|| "unreadable opinion".to_owned())?;
    if verdict["is_right"] == true {
        return Ok(());
    }
    Err(verdict["reason"].as_str().unwrap_or("no reason given").to_owned())
}

/// A row of the result as JSON: query, tools and answers, and the row's origin.
pub fn row_json(task: &Task, example: &Example) -> Value {
    let mut row = example.to_json();
    let mut origin = json!({"task": task.number, "kind": task.cell.kind});
    if task.cell.kind.shape() != Shape::Source {
        origin["persona"] = task.cell.persona.as_str().into();
        origin["length"] = json!(task.cell.length);
        origin["language"] = task.cell.language.as_str().into();
    }
    row["origin"] = origin;
    row
}
