//! Runs against a scripted endpoint: what is asked, paid for, kept and left out, and what happens
//! when things go wrong.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod fake;

use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fake::{Action, Fake, INPUT_TOKENS, OUTPUT_TOKENS, good};
use needle_data::source::{BadRows, load_examples};
use needle_data::{Example, Tool};
use needle_teacher::TeacherError;
use needle_teacher::budget::Limits;
use needle_teacher::client::{ApiKey, Proxy};
use needle_teacher::config::TeacherConfig;
use needle_teacher::kind::Kind;
use needle_teacher::session::{Inventing, Rewrite, Session};
use needle_teacher::summary::Summary;
use needle_teacher::teacher::StopReason;
use needle_teacher::tokens::Price;
use needle_teacher::trust::Stage;
use serde_json::{Value, json};

/// What one answer of the fake costs at the price of [`session`].
const ANSWER_COST: f64 = (INPUT_TOKENS as f64 * 2.0 + OUTPUT_TOKENS as f64 * 10.0) / 1e6;

fn tools() -> Vec<Tool> {
    let text = json!({"type": "string", "required": true});
    Tool::list_from_json(&json!([
        {"name": "write_note", "description": "Write a note", "parameters": {"text": text}},
        {"name": "set_level", "description": "Set a level", "parameters": {"room": text, "percent": {"type": "integer"}}},
        {"name": "order_dish", "description": "Order a dish", "parameters": {"dish": text}},
    ]))
    .unwrap()
}

/// A session that is quick to retry, in order, with two rows a request.
fn session(fake: &Fake, dir: &Path) -> Session {
    let mut config = TeacherConfig::default();
    config.teacher.model = "large".into();
    config.teacher.price = Some(Price { input: 2.0, output: 10.0 });
    config.client.concurrency = 1;
    config.client.first_retry_seconds = 0.001;
    config.plan.rows_per_request = 2;
    Session {
        endpoint: fake.endpoint(),
        key: ApiKey::none(),
        proxy: None,
        config,
        limits: Limits::default(),
        out: dir.join("mine.jsonl"),
        stop: std::sync::Arc::default(),
        dry_run: false,
    }
}

fn only(kinds: &[Kind]) -> std::collections::BTreeMap<Kind, f64> {
    Kind::PLANNED.into_iter().map(|kind| (kind, if kinds.contains(&kind) { 1.0 } else { 0.0 })).collect()
}

fn generate(session: &Session, count: usize) -> Summary {
    session.generate(tools(), None, count).unwrap().run(&mut |_| {}).unwrap().unwrap()
}

fn rows(session: &Session) -> Vec<Example> {
    load_examples(&[&session.out], BadRows::Fail).unwrap().0
}

fn rejected(session: &Session) -> Vec<Value> {
    let text = std::fs::read_to_string(session.out.with_extension("rejected.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn assert_cost(summary: &Summary, answers: usize) {
    let cost = summary.usage.cost.unwrap();
    assert!((cost - answers as f64 * ANSWER_COST).abs() < 1e-9, "{cost} is not the cost of {answers} answers");
}

#[test]
fn a_good_teacher_fills_the_plan_at_the_price_of_one_answer_a_task() {
    let (fake, dir) = (Fake::good(), tempfile::tempdir().unwrap());
    let mut session = session(&fake, dir.path());
    session.config.client.concurrency = 4;
    let summary = generate(&session, 60);
    assert_eq!((summary.accepted, summary.planned, summary.rejected), (60, 60, 0), "{}", summary.to_text());
    assert_eq!((summary.requests, summary.retries, fake.num_seen()), (30, 0, 30));
    assert_cost(&summary, 30);
    assert!(summary.coverage.iter().all(|cell| cell.accepted == cell.planned));
    assert_eq!(rows(&session).len(), 60);
    let first = std::fs::read_to_string(&session.out).unwrap().lines().next().unwrap().to_owned();
    assert!(first.contains("\"origin\":{"), "{first}");
    let report = std::fs::read_to_string(session.out.with_extension("report.html")).unwrap();
    for part in ["Coverage of the plan", "distinct-2", "set_level.percent", "Cost per accepted row", "60 of 60"] {
        assert!(report.contains(part), "{part}");
    }
    let body = &fake.seen()[0].body;
    assert_eq!(body["model"], "large");
    assert_eq!(body["response_format"]["json_schema"]["strict"], true);
}

#[test]
fn failures_that_pass_are_asked_again_and_what_was_not_answered_is_not_paid_for() {
    let fake = Fake::new(|n, body| match n {
        0 => Action::Status(429, vec![("Retry-After", "1")], json!({"error": {"message": "slow down"}}).to_string()),
        1 => Action::Status(500, vec![], "<html>oops</html>".into()),
        2 => Action::HangUp,
        3 => Action::BreakOff,
        4 => Action::Silence(Duration::from_secs(3)),
        5 => Action::Status(200, vec![], r#"{"choices":[{"mess"#.into()),
        _ => Action::Say(good(body)),
    });
    let dir = tempfile::tempdir().unwrap();
    let mut session = session(&fake, dir.path());
    session.config.client.timeout_seconds = 1.0;
    let summary = generate(&session, 4);
    assert_eq!((summary.accepted, summary.requests, summary.retries), (4, 8, 6), "{}", summary.to_text());
    let seen = fake.seen();
    assert!(seen[1].at - seen[0].at >= Duration::from_secs(1), "Retry-After is kept");
    let key = seen[0].header("idempotency-key").unwrap().to_owned();
    assert!(seen[..7].iter().all(|seen| seen.header("idempotency-key") == Some(&key)), "it is one request");
    // The four that the endpoint may have computed are counted with their prompts, by estimate.
    let cost = summary.usage.cost.unwrap();
    assert!(cost > 2.0 * ANSWER_COST && summary.usage.is_estimated, "{cost}");
    assert_eq!(summary.usage.output_tokens, 2 * OUTPUT_TOKENS);
}

#[test]
fn what_cannot_succeed_ends_the_run_at_once_and_says_what_to_do() {
    for (status, hint) in [(401, "--api-key-env"), (403, "--api-key-env"), (404, "base address"), (301, "moved")] {
        let fake = Fake::new(move |_, _| {
            Action::Status(
                status,
                vec![("location", "http://127.0.0.1:9/")],
                json!({"error": {"message": "no such luck"}}).to_string(),
            )
        });
        let dir = tempfile::tempdir().unwrap();
        let session = session(&fake, dir.path());
        let summary = generate(&session, 20);
        assert_eq!((fake.num_seen(), summary.accepted), (1, 0), "{status}");
        let Some(StopReason::Error(reason)) = summary.ended else { panic!("{:?}", summary.ended) };
        assert!(
            reason.contains(&status.to_string()) && reason.contains("no such luck") && reason.contains(hint),
            "{reason}"
        );
        assert_eq!(summary.usage.tokens(), 0);
    }
}

#[test]
fn a_dead_endpoint_ends_the_run_before_it_has_tried_everything() {
    let fake = Fake::new(|_, _| Action::Status(503, vec![], String::new()));
    let dir = tempfile::tempdir().unwrap();
    let mut session = session(&fake, dir.path());
    session.config.client.max_retries = 2;
    let summary = generate(&session, 1000);
    assert_eq!(fake.num_seen(), 8 * 3);
    assert!(matches!(&summary.ended, Some(StopReason::Error(reason)) if reason.contains("8 requests in a row")));
    session.endpoint = "http://127.0.0.1:1/v1".into();
    let summary = generate(&session, 1000);
    assert!(
        matches!(&summary.ended, Some(StopReason::Error(reason)) if reason.contains("refused")),
        "{:?}",
        summary.ended
    );
}

#[test]
fn one_refused_request_does_not_end_the_run() {
    let fake = Fake::new(|n, body| match n {
        // The first is tried without a schema before it is given up.
        0 | 1 => Action::Status(400, vec![], json!({"error": {"message": "content policy"}}).to_string()),
        _ => Action::Say(good(body)),
    });
    let dir = tempfile::tempdir().unwrap();
    let session = session(&fake, dir.path());
    let summary = generate(&session, 6);
    assert_eq!(
        (summary.accepted, summary.reasons[&Stage::Request]["no_answer"]),
        (6, 1),
        "the second round makes up for it"
    );
    assert!(rejected(&session)[0]["reason"].as_str().unwrap().contains("content policy"));
    assert!(fake.seen()[2..].iter().all(|seen| seen.body.get("response_format").is_some()), "it was not about schemas");
}

#[test]
fn bad_rows_are_left_out_with_their_reasons_and_asked_for_again() {
    let fake = Fake::new(|n, body| {
        let user: Value = serde_json::from_str(body["messages"][1]["content"].as_str().unwrap()).unwrap();
        let mut rows = fake::rows(&user);
        match n {
            0 => return Action::Say("I'm sorry, I can't help with that.".into()),
            1 => return Action::Say(format!("Sure!\n```json\n{}\n```\nAnything else?", json!({"rows": rows}))),
            2 => {
                let whole = json!({"rows": rows}).to_string();
                return Action::Say(whole[..whole.len() - 10].to_owned());
            }
            3 => rows.iter_mut().for_each(|row| row["query"] = "something else entirely".into()),
            4 => rows.iter_mut().for_each(|row| row["answers"][0]["name"] = "fly_away".into()),
            5 => rows.iter_mut().for_each(|row| row["answers"] = json!([])),
            6 => rows[1] = rows[0].clone(),
            7 => {
                let name = rows[0]["answers"][0]["name"].as_str().unwrap().to_owned();
                rows.iter_mut()
                    .for_each(|row| row["query"] = format!("{name} {}", row["query"].as_str().unwrap()).into());
            }
            _ => {}
        }
        Action::Say(json!({"rows": rows}).to_string())
    });
    let dir = tempfile::tempdir().unwrap();
    let mut session = session(&fake, dir.path());
    session.config.plan.kinds = only(&[Kind::One]);
    let summary = generate(&session, 20);
    assert_eq!(summary.accepted, 20, "{}", summary.to_text());
    let counted: Vec<(Stage, &str, usize)> = summary
        .reasons
        .iter()
        .flat_map(|(stage, codes)| codes.iter().map(|(code, n)| (*stage, code.as_str(), *n)))
        .collect();
    assert_eq!(
        counted,
        [
            (Stage::Parse, "cut", 1),
            (Stage::Parse, "not_json", 1),
            (Stage::Validation, "unknown_tool", 2),
            (Stage::Plan, "off_plan", 2),
            (Stage::Grounding, "ungrounded", 2),
            (Stage::Leak, "leaked_name", 2),
            (Stage::Duplicate, "near_duplicate", 1),
        ]
    );
    assert_eq!(rejected(&session).len(), 11);
    assert!(rejected(&session).iter().all(|row| row["reason"].is_string() && row["cell"]["tool"].is_string()));
    // Ten tasks, seven of them a second time; what they have is shown to the teacher.
    assert_eq!(fake.num_seen(), 17);
    assert!(fake.seen()[10..].iter().any(|seen| seen.user()["assignment"]["unlike_these"].is_array()));
    assert_cost(&summary, 17);
}

#[test]
fn an_endpoint_without_schemas_or_with_another_limit_is_learned_once() {
    let fake = Fake::new(|_, body| {
        let refuse = |what: &str| Action::Status(400, vec![], json!({"error": {"message": what}}).to_string());
        if body.get("max_tokens").is_some() {
            return refuse("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.");
        }
        if body.get("response_format").is_some() {
            return refuse("response_format is not supported");
        }
        assert!(body["messages"][0]["content"].as_str().unwrap().contains("JSON schema"));
        Action::Say(good(body))
    });
    let dir = tempfile::tempdir().unwrap();
    let summary = generate(&session(&fake, dir.path()), 10);
    assert_eq!((summary.accepted, fake.num_seen()), (10, 2 + 5));
    assert_cost(&summary, 5);
}

#[test]
fn the_limit_on_cost_is_never_passed_and_a_higher_one_goes_on_without_asking_twice() {
    let (fake, dir) = (Fake::good(), tempfile::tempdir().unwrap());
    let mut session = session(&fake, dir.path());
    session.config.client.concurrency = 4;
    session.config.teacher.max_answer_tokens = 200;
    let whole = 20.0 * ANSWER_COST;
    session.limits.cost = Some(whole / 2.0);
    let summary = generate(&session, 40);
    assert_eq!(summary.ended, Some(StopReason::Limit));
    let cost = summary.usage.cost.unwrap();
    assert!(cost <= whole / 2.0 && cost > whole / 4.0, "{cost} of {}", whole / 2.0);
    assert_eq!(rows(&session).len(), summary.accepted);

    session.limits.cost = Some(2.0 * whole);
    let summary = generate(&session, 40);
    assert_eq!((summary.accepted, summary.ended.clone(), fake.num_seen()), (40, None, 20));
    assert_cost(&summary, 20);
    assert!(summary.from_journal > 5);

    session.config.teacher.price = None;
    let error = session.generate(tools(), None, 40).err().unwrap().to_string();
    assert!(error.contains("--input-price"), "{error}");
    session.limits = Limits { cost: None, tokens: Some(20 * (INPUT_TOKENS + OUTPUT_TOKENS) + 10) };
    let summary = generate(&session, 400);
    assert_eq!((summary.ended, fake.num_seen()), (Some(StopReason::Limit), 20), "tokens of earlier sessions count");
}

#[test]
fn a_larger_count_adds_rows_and_another_run_is_refused() {
    let (fake, dir) = (Fake::good(), tempfile::tempdir().unwrap());
    let mut session = session(&fake, dir.path());
    generate(&session, 20);
    let before = std::fs::read_to_string(&session.out).unwrap();
    generate(&session, 40);
    assert_eq!((fake.num_seen(), rows(&session).len()), (20, 40));
    assert!(std::fs::read_to_string(&session.out).unwrap().starts_with(&before));

    let refused = |session: &Session, tools: Vec<Tool>| session.generate(tools, None, 40).err().unwrap();
    let error = refused(&session, tools()[..2].to_vec());
    assert!(matches!(&error, TeacherError::OtherRun { .. }) && error.to_string().contains("another tools"), "{error}");
    session.config.teacher.model = "other".into();
    assert!(refused(&session, tools()).to_string().contains("another model"));
    session.out = dir.path().join("notes.jsonl");
    std::fs::write(&session.out, "mine\n").unwrap();
    assert!(refused(&session, tools()).to_string().contains("choose another --out"));
    assert_eq!(std::fs::read_to_string(&session.out).unwrap(), "mine\n");
    session.out = dir.path().join("rows.csv");
    assert!(refused(&session, tools()).to_string().contains(".jsonl"));
}

#[test]
fn a_stopped_run_saves_what_it_has_and_goes_on() {
    let (fake, dir) = (Fake::good(), tempfile::tempdir().unwrap());
    let session = session(&fake, dir.path());
    let planned = session.generate(tools(), None, 40).unwrap();
    let summary =
        planned.run(&mut |progress| session.stop.store(progress.accepted >= 10, Ordering::Relaxed)).unwrap().unwrap();
    assert_eq!(summary.ended, Some(StopReason::Stopped));
    assert!((10..40).contains(&rows(&session).len()));
    session.stop.store(false, Ordering::Relaxed);
    assert_eq!(generate(&session, 40).accepted, 40);
    assert_eq!((fake.num_seen(), fake.num_answered()), (20, 20));
}

#[test]
fn a_row_needs_more_than_half_of_the_judges_opinions() {
    let opinions = AtomicUsize::new(0);
    let fake = Fake::new(move |_, body| {
        let user: Value = serde_json::from_str(body["messages"][1]["content"].as_str().unwrap()).unwrap();
        if body["model"] != "judge" {
            return Action::Say(good(body));
        }
        // Of three opinions, one is for write_note; of the others one cannot be read.
        let opinion = |is_right: bool| Action::Say(json!({"reason": "too vague", "is_right": is_right}).to_string());
        match (user["answers"][0]["name"] == "write_note", opinions.fetch_add(1, Ordering::Relaxed) % 3) {
            (true, vote) => opinion(vote == 0),
            (false, 0) => Action::Say("hard to say".into()),
            (false, _) => opinion(true),
        }
    });
    let dir = tempfile::tempdir().unwrap();
    let mut session = session(&fake, dir.path());
    session.config.judge.model = Some("judge".into());
    session.config.judge.votes = 3;
    session.config.rounds = 2;
    session.config.plan.kinds = only(&[Kind::One]);
    let summary = generate(&session, 12);
    assert_eq!(summary.accepted, 8);
    assert_eq!(summary.reasons[&Stage::Judge]["judged_wrong"], 2 * 4, "in both rounds");
    assert!(rows(&session).iter().all(|row| row.answers[0].name != "write_note"));
    assert!(
        rejected(&session)[0]["reason"].as_str().unwrap().contains("1 of 3 opinions accept it; too vague; too vague")
    );
    // 6 + 2 answers, and three opinions on each of 12 + 4 rows.
    assert_eq!(fake.num_seen(), 8 + 3 * 16);
}

#[test]
fn invented_tools_are_asked_for_first_kept_and_planned_for() {
    let (fake, dir) = (Fake::good(), tempfile::tempdir().unwrap());
    let session = session(&fake, dir.path());
    let inventing = Inventing { domain: "garden".into(), count: 12 };
    let generate = || session.generate(tools(), Some(&inventing), 60).unwrap().run(&mut |_| {}).unwrap().unwrap();
    let summary = generate();
    assert_eq!((summary.accepted, fake.num_seen()), (60, 2 + 30), "{}", summary.to_text());
    let saved: Value =
        serde_json::from_slice(&std::fs::read(session.out.with_extension("tools.json")).unwrap()).unwrap();
    assert_eq!(Tool::list_from_json(&saved).unwrap().len(), 15);
    assert!(rows(&session).iter().any(|row| row.answers.iter().any(|call| call.name.starts_with("garden_"))));
    assert_eq!((generate().requests, fake.num_seen()), (0, 32), "the tools are in the journal, too");
}

#[test]
fn a_dry_run_sends_nothing_and_estimates_more_for_more_rows() {
    let (fake, dir) = (Fake::good(), tempfile::tempdir().unwrap());
    let mut session = session(&fake, dir.path());
    session.dry_run = true;
    let inventing = Inventing { domain: "garden".into(), count: 12 };
    let cost = |count: usize| {
        let planned = session.generate(tools(), Some(&inventing), count).unwrap();
        assert!(planned.text.contains(&format!("{count} rows in")) && planned.text.contains("invented_12"));
        let cost = planned.expected.cost.unwrap();
        assert!(planned.run(&mut |_| {}).unwrap().is_none());
        cost
    };
    assert!(cost(1000) > 5.0 * cost(100));
    let plan: Value = serde_json::from_slice(&std::fs::read(session.out.with_extension("plan.json")).unwrap()).unwrap();
    assert_eq!(plan["tasks"].as_array().unwrap().len(), 50);
    assert_eq!((fake.num_seen(), session.out.exists()), (0, false));
}

#[test]
fn existing_queries_are_worded_anew_and_missed_narrowly() {
    let examples: Vec<Example> = [("jot down eggs", "eggs"), ("note: feed the cat", "feed the cat")]
        .into_iter()
        .map(|(query, text)| {
            let answers = json!([{"name": "write_note", "arguments": {"text": text}}]);
            let tools: Vec<Value> = tools().iter().map(Tool::to_json).collect();
            Example::parse(&json!({"query": query, "tools": tools, "answers": answers}).to_string()).unwrap()
        })
        .collect();
    for (what, calls) in [(Rewrite::Paraphrase, 1), (Rewrite::Negatives, 0)] {
        let (fake, dir) = (Fake::good(), tempfile::tempdir().unwrap());
        let session = session(&fake, dir.path());
        let planned = session.rewrite(what, &examples, 3).unwrap();
        let summary = planned.run(&mut |_| {}).unwrap().unwrap();
        assert_eq!((summary.accepted, fake.num_seen()), (6, 2), "{}", summary.to_text());
        for (i, row) in rows(&session).iter().enumerate() {
            assert_eq!(row.answers.len(), calls);
            assert!(calls == 0 || row.answers == examples[i / 3].answers);
            assert!(row.query != examples[i / 3].query && row.tools == examples[i / 3].tools);
        }
        let error = session.rewrite(what, &examples, 2).err().unwrap().to_string();
        assert!(error.contains("rows for each example"), "{error}");
    }
    let (fake, dir) = (
        Fake::new(|_, _| Action::Say(json!({"rows": [{"query": "jot down eggs"}]}).to_string())),
        tempfile::tempdir().unwrap(),
    );
    let session = session(&fake, dir.path());
    let summary = session.rewrite(Rewrite::Paraphrase, &examples[..1], 1).unwrap().run(&mut |_| {}).unwrap().unwrap();
    assert_eq!(
        (summary.accepted, summary.reasons[&Stage::Duplicate]["near_duplicate"]),
        (0, 3),
        "the same words are no paraphrase"
    );
}

#[test]
fn a_proxy_is_used_for_other_machines_and_not_for_this_one() {
    let (fake, dir) = (Fake::good(), tempfile::tempdir().unwrap());
    let mut session = session(&fake, dir.path());
    session.proxy = Some(Proxy::new("http://127.0.0.1:1").unwrap());
    assert_eq!(generate(&session, 2).accepted, 2, "nothing listens at the proxy");
    session.proxy = Some(Proxy::new(&fake.address()).unwrap());
    session.endpoint = "http://teacher.invalid/v1".into();
    session.config.client.max_retries = 0;
    generate(&session, 4);
    assert!(fake.seen().iter().any(|seen| seen.head.contains("teacher.invalid")));
}
