//! Scores answers to questions of the Berkeley Function Calling Leaderboard, whoever gave them, as
//! `needle eval` does:
//!
//! ```console
//! $ score_bfcl BFCL_v4_simple_python.json possible_answer/BFCL_v4_simple_python.json < answers.jsonl > verdicts.jsonl
//! ```
//!
//! A line of input is `{"id": "simple_python_0", "calls": [{"name", "arguments"}]}` (`null` where
//! the answer was no list of calls), one of output `true` or `false`. `scripts/check_bfcl.py`
//! compares these verdicts with those of the leaderboard's own checker.

use std::collections::HashMap;
use std::io::{BufRead, Write};
use std::path::PathBuf;

use needle_data::convert::bfcl_questions;
use needle_data::text::example::parse_answers;
use needle_train::eval::bfcl::is_acceptable;
use serde_json::Value;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut paths = std::env::args_os().skip(1).map(PathBuf::from);
    let data = paths.next().ok_or("expected the file of questions, and that of possible answers if there is one")?;
    let mut questions = HashMap::new();
    bfcl_questions(&data, paths.next().as_deref(), &mut |place, question| {
        match question {
            Ok(question) => _ = questions.insert(question.id.clone(), question),
            Err(problem) => eprintln!("{place}: {problem}"),
        }
        Ok(())
    })?;
    let mut out = std::io::stdout().lock();
    for (line, number) in std::io::stdin().lock().lines().zip(1..) {
        let line: Value = serde_json::from_str(&line?).map_err(|error| format!("line {number}: {error}"))?;
        let id = line["id"].as_str().unwrap_or_default();
        let question = questions.get(id).ok_or_else(|| format!("line {number}: no question {id:?}"))?;
        let calls = line.get("calls").filter(|calls| !calls.is_null());
        let calls = calls.map(|calls| parse_answers(Some(calls))).transpose();
        let calls = calls.map_err(|error| format!("line {number}: {error}"))?;
        writeln!(out, "{}", is_acceptable(&question.example.tools, &question.truth, calls.as_deref()))?;
    }
    Ok(())
}
