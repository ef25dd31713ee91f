//! Inside each crate, imports go in one direction: the table in the documentation of its `lib.rs`
//! lists its modules from top to bottom, and a file imports only modules above its own.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const CRATES: [&str; 5] = ["needle-data", "needle-runtime", "needle-model", "needle-train", "needle-teacher"];

/// The source of one crate.
struct Sources {
    /// Modules of the table in `lib.rs`, from top to bottom, such as `text::json`.
    map: Vec<String>,
    /// Code of each module, without comments and unit tests.
    code: BTreeMap<String, String>,
    /// Names that `lib.rs` re-exports from other crates.
    foreign: Vec<String>,
}

impl Sources {
    fn read(name: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().join(name).join("src");
        let lib = std::fs::read_to_string(root.join("lib.rs")).unwrap();
        let mut code = BTreeMap::new();
        for file in rust_files(&root) {
            let path = file.strip_prefix(&root).unwrap().with_extension("");
            let module = path.to_str().unwrap().replace('/', "::");
            let module = module.strip_suffix("::mod").unwrap_or(&module).to_owned();
            if module != "lib" && !module.ends_with("tests") {
                code.insert(module, without_tests(&std::fs::read_to_string(&file).unwrap()));
            }
        }
        let reexports = paths(&without_tests(&lib), "needle_");
        let foreign = reexports.iter().filter_map(|path| path.rsplit("::").next());
        Self { map: table(&lib), code, foreign: foreign.map(str::to_owned).collect() }
    }

    /// The row of the table that `path` belongs to: that of its longest known prefix.
    fn row(&self, path: &str) -> Option<usize> {
        prefixes(path).find_map(|prefix| self.map.iter().position(|row| row == prefix))
    }

    /// The modules that `module` imports.
    fn imports(&self, module: &str) -> Vec<String> {
        let code = &self.code[module];
        let own: Vec<&str> = module.split("::").collect();
        let absolute = paths(code, "crate::").into_iter().map(|p| p["crate::".len()..].to_owned());
        // `super::*` occurs only in modules inside a file.
        let relative = paths(code, "super::").into_iter().filter(|path| path != "super::");
        let relative = relative.map(|path| {
            let levels = path.split("::").take_while(|part| *part == "super").count();
            let above = own[..own.len() - levels].iter().copied();
            above.chain(path.split("::").skip(levels)).collect::<Vec<_>>().join("::")
        });
        let is_foreign = |path: &String| self.foreign.iter().any(|name| path.split("::").next() == Some(name.as_str()));
        let paths = absolute.chain(relative).filter(|path| !is_foreign(path));
        let module_of = |path: String| {
            let known = prefixes(&path).find(|prefix| self.code.contains_key(*prefix));
            known.map_or_else(|| panic!("{module} imports {path}, which belongs to no known file"), str::to_owned)
        };
        paths.map(module_of).collect()
    }
}

/// All prefixes of a path: `a::b::c`, `a::b`, `a`.
fn prefixes(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| Some(path.rsplit_once("::")?.0))
}

fn rust_files(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { rust_files(&path) } else { vec![path] };
    entries.flat_map(below).filter(|path| path.extension().is_some_and(|e| e == "rs")).collect()
}

/// Code without comments, and without the unit tests at its end.
fn without_tests(code: &str) -> String {
    let end = ["#[cfg(test)]\nmod ", "#[cfg(all(test"].iter().filter_map(|mark| code.find(mark));
    let code = &code[..end.min().unwrap_or(code.len())];
    let lines = code.lines().map(|line| line.split("//").next().unwrap_or_default());
    // In the body of a macro, a `$crate` path is not an import of this module.
    lines.collect::<Vec<_>>().join("\n").replace("$crate::", "")
}

/// The modules in the first column of the table in the documentation of `lib.rs`.
fn table(lib: &str) -> Vec<String> {
    let rows = lib.lines().filter_map(|line| line.strip_prefix("//! | "));
    let cells = rows.filter_map(|row| row.split(" | ").next());
    let names = cells.flat_map(|cell| cell.split('`').skip(1).step_by(2));
    names.map(|name| name.trim_start_matches("mod@").to_owned()).collect()
}

/// Every path in `code` that begins with `start`, with groups in braces expanded.
fn paths(code: &str, start: &str) -> Vec<String> {
    let is_name = |c: char| c.is_alphanumeric() || c == '_';
    let begins = |at: &usize| {
        let before = &code[..*at];
        !before.ends_with(is_name) && !before.ends_with("::")
    };
    let found = code.match_indices(start).map(|(at, _)| at).filter(begins);
    found.flat_map(|at| expanded(&code[at..])).collect()
}

/// Expands `a::{b, c::{d, e}}` to `a::b`, `a::c::d`, `a::c::e`; ignores what follows.
fn expanded(tree: &str) -> Vec<String> {
    let end = tree.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'));
    let (head, rest) = tree.split_at(end.unwrap_or(tree.len()));
    let Some(inner) = rest.strip_prefix('{') else { return vec![head.to_owned()] };
    let (mut depth, mut begin, mut found) = (0, 0, Vec::new());
    for (at, c) in inner.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth > 0 => depth -= 1,
            ',' | '}' if depth == 0 => {
                found.extend(expanded(inner[begin..at].trim()).into_iter().filter(|p| !p.is_empty()));
                begin = at + 1;
                if c == '}' {
                    break;
                }
            }
            _ => {}
        }
    }
    found.into_iter().map(|path| format!("{head}{path}")).collect()
}

#[test]
fn every_file_is_in_the_map_of_its_crate_and_imports_only_modules_above_it() {
    let mut wrong = Vec::new();
    for name in CRATES {
        let sources = Sources::read(name);
        assert!(sources.map.len() > 5, "{name}: the table in lib.rs was not found");
        for row in &sources.map {
            if !sources.code.contains_key(row) {
                wrong.push(format!("{name}: the map lists {row}, which is not a file"));
            }
        }
        for module in sources.code.keys() {
            let imports = sources.imports(module);
            let Some(own) = sources.row(module) else {
                // A `mod.rs` that only lists the files of its folder needs no row.
                if !imports.is_empty() || sources.code[module].contains("fn ") {
                    wrong.push(format!("{name}: {module} is not in the map"));
                }
                continue;
            };
            for import in imports {
                match sources.row(&import) {
                    Some(row) if row <= own => {}
                    Some(_) => wrong.push(format!("{name}: {module} imports {import} from below")),
                    None => wrong.push(format!("{name}: {module} imports {import}, which is not in the map")),
                }
            }
        }
    }
    wrong.dedup();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn imports_are_found_in_groups_and_across_lines() {
    let code = "use crate::text::{json, tool::{Tool, self}};\nfn f(x: crate::error::E) {}";
    let expected = ["crate::text::json", "crate::text::tool::Tool", "crate::text::tool::self"];
    assert_eq!(paths(code, "crate::"), [&expected[..], &["crate::error::E"]].concat());
    assert_eq!(table("//! | [`a`](mod@a), `b::c` | why |\n//! | --- | --- |"), ["a", "b::c"]);
    assert_eq!(without_tests("a // crate::b\n#[cfg(test)]\nmod tests { use crate::c; }"), "a ");
}
