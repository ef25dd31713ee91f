//! Examples, line by line: shown with their problems, filtered, edited.

use std::sync::{Mutex, PoisonError};

use needle_data::{Example, file};
use serde_json::{Value, json};

use super::workspace::{Name, Workspace, read};
use crate::error::ServeError;

/// Most bytes of a file of examples.
pub const MAX_FILE_BYTES: usize = 32 << 20;

/// The files of examples; they are edited one at a time.
#[derive(Debug, Default)]
pub struct Data {
    edits: Mutex<()>,
}

/// Which lines are shown.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only examples that call this tool.
    pub tool: Option<String>,
    /// Only lines with this text.
    pub text: Option<String>,
    /// Only lines that cannot be used.
    pub only_problems: bool,
    /// How many matching lines to skip.
    pub offset: usize,
    /// How many lines to show at most.
    pub limit: usize,
}

impl Data {
    /// A page of the lines of `name`, with counts over the whole file.
    ///
    /// # Errors
    /// If there is no such file.
    pub fn page(&self, workspace: &Workspace, name: &Name, filter: &Filter) -> Result<Value, ServeError> {
        let text = read(&workspace.data(name), &format!("data {name}"))?;
        let (mut lines, mut matching, mut problems, mut used) = (Vec::new(), 0, 0, 0);
        let mut tools = std::collections::BTreeMap::<String, usize>::new();
        for (i, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            let example = Example::parse(line);
            let called = match &example {
                Ok(example) if example.answers.is_empty() => vec!["(no call)".to_owned()],
                Ok(example) => example.answers.iter().map(|call| call.name.clone()).collect(),
                Err(_) => Vec::new(),
            };
            problems += usize::from(example.is_err());
            used += usize::from(example.is_ok());
            called.iter().for_each(|tool| *tools.entry(tool.clone()).or_default() += 1);
            let is_wanted = filter.tool.as_ref().is_none_or(|tool| called.contains(tool))
                && filter.text.as_ref().is_none_or(|text| line.to_lowercase().contains(&text.to_lowercase()))
                && (!filter.only_problems || example.is_err());
            if !is_wanted {
                continue;
            }
            matching += 1;
            if matching > filter.offset && lines.len() < filter.limit {
                lines.push(shown(i + 1, line, &example));
            }
        }
        Ok(json!({
            "name": name.as_str(), "lines": lines, "matching": matching, "used": used, "problems": problems, "tools": tools,
        }))
    }

    /// Writes a whole file.
    ///
    /// # Errors
    /// If there is a file of this name, and `replace` is false.
    pub fn upload(&self, workspace: &Workspace, name: &Name, text: &str, replace: bool) -> Result<(), ServeError> {
        let _edit = self.edits.lock().unwrap_or_else(PoisonError::into_inner);
        let path = workspace.data(name);
        if path.exists() && !replace {
            return Err(ServeError::Conflict(format!("there is data called {name} already")));
        }
        write(&path, text)
    }

    /// Adds an example at the end; the file need not exist.
    ///
    /// # Errors
    /// If it is not a valid example, or the file would be too long.
    pub fn append(&self, workspace: &Workspace, name: &Name, line: &str) -> Result<(), ServeError> {
        let line = valid(line)?;
        let _edit = self.edits.lock().unwrap_or_else(PoisonError::into_inner);
        let path = workspace.data(name);
        let mut text = if path.exists() { read(&path, "data")? } else { String::new() };
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(&line);
        text.push('\n');
        write(&path, &text)
    }

    /// Replaces the `number`-th line (from 1) by `line`, or removes it if `line` is none. `before`
    /// is the line that the editor showed.
    ///
    /// # Errors
    /// If `line` is not a valid example, or the file's line is no longer `before`.
    pub fn replace(
        &self,
        workspace: &Workspace,
        name: &Name,
        number: usize,
        before: &str,
        line: Option<&str>,
    ) -> Result<(), ServeError> {
        let line = line.map(valid).transpose()?;
        let _edit = self.edits.lock().unwrap_or_else(PoisonError::into_inner);
        let path = workspace.data(name);
        let text = read(&path, &format!("data {name}"))?;
        let mut lines: Vec<&str> = text.lines().collect();
        let place = number.checked_sub(1).filter(|&place| lines.get(place) == Some(&before)).ok_or_else(|| {
            ServeError::Conflict(format!("line {number} of {name} has changed in the meantime; reload it"))
        })?;
        match &line {
            Some(line) => lines[place] = line,
            None => _ = lines.remove(place),
        }
        let mut text = lines.join("\n");
        if !text.is_empty() {
            text.push('\n');
        }
        write(&path, &text)
    }
}

/// The example on one line.
fn valid(line: &str) -> Result<String, ServeError> {
    let example = Example::parse(line).map_err(|problem| ServeError::Input(problem.to_string()))?;
    // Tools keep the form that the user wrote them in.
    let value: Value = serde_json::from_str(line).unwrap_or_else(|_| example.to_json());
    Ok(value.to_string())
}

fn write(path: &std::path::Path, text: &str) -> Result<(), ServeError> {
    if text.len() > MAX_FILE_BYTES {
        return Err(ServeError::Input(format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    file::write_atomically(path, text.as_bytes()).map_err(|error| ServeError::Config(error.to_string()))
}

fn shown(number: usize, line: &str, example: &Result<Example, needle_data::Problem>) -> Value {
    match example {
        Ok(example) => json!({
            "line": number,
            "text": line,
            "query": example.query,
            "tools": example.tools.iter().map(|tool| &tool.name).collect::<Vec<_>>(),
            "answers": example.answers,
        }),
        Err(problem) => json!({"line": number, "text": line, "problem": problem}),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"query":"go","tools":[{"name":"a","description":"","parameters":{}}],"answers":[{"name":"a","arguments":{}}]}"#;
    const NONE: &str = r#"{"query":"stay","tools":[{"name":"a","description":"","parameters":{}}],"answers":[]}"#;
    const BAD: &str = r#"{"query":"","tools":[],"answers":[]}"#;

    fn with(text: &str) -> (tempfile::TempDir, Workspace, Name, Data) {
        let dir = tempfile::tempdir().unwrap();
        let workspace = Workspace::open(dir.path()).unwrap();
        let (name, data) = (Name::new("mine").unwrap(), Data::default());
        data.upload(&workspace, &name, text, false).unwrap();
        (dir, workspace, name, data)
    }

    #[test]
    fn a_page_shows_lines_with_their_problems_and_counts_tools() {
        let (_dir, workspace, name, data) = with(&format!("{GOOD}\n\n{BAD}\n{NONE}\n"));
        let filter = Filter { limit: 10, ..Filter::default() };
        let page = data.page(&workspace, &name, &filter).unwrap();
        assert_eq!((&page["used"], &page["problems"], &page["matching"]), (&json!(2), &json!(1), &json!(3)));
        assert_eq!(page["tools"], json!({"(no call)": 1, "a": 1}));
        assert_eq!((&page["lines"][1]["line"], &page["lines"][1]["problem"]["field"]), (&json!(3), &json!("query")));
        let of_a = Filter { tool: Some("a".into()), ..filter.clone() };
        assert_eq!(data.page(&workspace, &name, &of_a).unwrap()["matching"], 1);
        let wrong = Filter { only_problems: true, ..filter.clone() };
        assert_eq!(data.page(&workspace, &name, &wrong).unwrap()["lines"][0]["line"], 3);
        let rest = Filter { offset: 2, limit: 1, text: Some("STAY".into()), ..filter };
        assert_eq!(data.page(&workspace, &name, &rest).unwrap()["lines"], json!([]));
    }

    #[test]
    fn lines_are_edited_only_as_they_were_seen() {
        let (_dir, workspace, name, data) = with(&format!("{GOOD}\n{BAD}"));
        data.replace(&workspace, &name, 2, BAD, Some(NONE)).unwrap();
        let late = data.replace(&workspace, &name, 2, BAD, None).unwrap_err();
        assert!(matches!(late, ServeError::Conflict(_)), "{late}");
        data.append(&workspace, &name, GOOD).unwrap();
        data.replace(&workspace, &name, 1, GOOD, None).unwrap();
        assert_eq!(std::fs::read_to_string(workspace.data(&name)).unwrap(), format!("{NONE}\n{GOOD}\n"));
        assert!(data.append(&workspace, &name, BAD).unwrap_err().to_string().contains("query"));
    }

    #[test]
    fn a_file_is_not_replaced_unasked() {
        let (_dir, workspace, name, data) = with(GOOD);
        assert!(matches!(data.upload(&workspace, &name, NONE, false), Err(ServeError::Conflict(_))));
        data.upload(&workspace, &name, NONE, true).unwrap();
    }
}
