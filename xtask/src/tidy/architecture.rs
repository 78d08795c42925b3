//! ARCHITECTURE.md against the tree: its invariants are all there, its code map names what exists and nothing else.

use std::collections::HashSet;

use anyhow::Result;
use serde_json::Value;

use super::{File, Finding};
use crate::cmd;

const DOCUMENT: &str = "ARCHITECTURE.md";

/// The architecture's invariants; the document may decorate them, not leave one out.
const INVARIANTS: [&str; 6] = [
    "ada-format depends on no other crate of the workspace",
    "ada-query never depends on ada-user",
    "aya appears only in ada-ebpf and in ada-user's backend/ebpf",
    "frida-gum only in ada-frida's agent",
    "clap, stdout and stderr only in main.rs and cli/",
    "nothing in the record path (ring → demux → writer) allocates per event",
];

/// Checks the document.
pub(super) fn check(files: &[File]) -> Result<Vec<Finding>> {
    let Some(document) = files.iter().find(|file| file.path == DOCUMENT) else {
        return Ok(vec![Finding::error(
            DOCUMENT,
            1,
            "is missing, write the bird's eye view, the code map, the invariants",
        )]);
    };
    let folders = folders()?;
    let mut findings = invariants(&document.text);
    findings.extend(unnamed(document, files, &folders));
    let root = cmd::root();
    findings.extend(stale(document, &folders, |path| {
        root.join(path).exists() || root.join(path.to_owned() + ".rs").exists()
    }));
    Ok(findings)
}

/// The folders of the crates: the workspace's members and the kernel side.
fn folders() -> Result<Vec<String>> {
    let metadata: Value =
        serde_json::from_str(&cmd::output(&mut cmd::cargo(&["metadata", "--format-version", "1", "--no-deps"]))?)?;
    let root = cmd::root();
    let manifests =
        metadata["packages"].as_array().into_iter().flatten().filter_map(|package| package["manifest_path"].as_str());
    let relative = manifests.filter_map(|path| std::path::Path::new(path).parent()?.strip_prefix(&root).ok());
    let members = relative.map(|dir| dir.display().to_string());
    Ok(members.chain(["ada-ebpf".to_owned()]).collect())
}

fn invariants(text: &str) -> Vec<Finding> {
    let plain = plain(text);
    let missing = INVARIANTS.iter().filter(|invariant| !plain.contains(**invariant));
    missing
        .map(|invariant| Finding::error(DOCUMENT, 1, format!("lacks the invariant '{invariant}', write it down")))
        .collect()
}

/// Lower case, one space between words, no code or bold marks.
fn plain(text: &str) -> String {
    let unmarked = text.to_lowercase().replace(['`', '*'], "");
    unmarked.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Crates and modules that the code map does not name.
fn unnamed(document: &File, files: &[File], folders: &[String]) -> Vec<Finding> {
    let words: HashSet<&str> = document.text.split(|c: char| !(c.is_alphanumeric() || c == '_' || c == '-')).collect();
    let mut missing = Vec::new();
    for folder in folders {
        if !words.contains(folder.as_str()) {
            missing.push(format!("{folder}/"));
        }
        let modules = modules(files, folder);
        missing.extend(
            modules
                .into_iter()
                .filter(|name| !words.contains(name.as_str()))
                .map(|name| format!("{folder}/src/{name}")),
        );
    }
    missing
        .into_iter()
        .map(|path| Finding::error(DOCUMENT, 1, format!("does not name {path}, add it to the code map")))
        .collect()
}

/// The top modules of a crate: files and folders right below src.
fn modules(files: &[File], folder: &str) -> Vec<String> {
    let source = format!("{folder}/src/");
    let below = files.iter().filter(|file| file.is_rust()).filter_map(|file| file.path.strip_prefix(&source));
    let tops = below.map(|path| path.split('/').next().unwrap_or(path).trim_end_matches(".rs"));
    let mut modules: Vec<String> =
        tops.filter(|name| !["lib", "main", "mod"].contains(name)).map(str::to_owned).collect();
    modules.sort();
    modules.dedup();
    modules
}

/// Paths in the document's code spans that lead nowhere.
fn stale(document: &File, folders: &[String], exists: impl Fn(&str) -> bool) -> Vec<Finding> {
    let in_crate = |path: &str| {
        folders.iter().any(|folder| path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/')))
    };
    let spans = |line| str::split(line, '`').skip(1).step_by(2);
    let spans = document.lines().flat_map(|(number, line)| spans(line).map(move |span| (number, span)));
    let paths = spans.filter(|(_, span)| in_crate(span) && !span.contains([' ', '*', '{', '<']));
    let gone = paths.filter(|(_, path)| !exists(path));
    let what = |path| format!("names {path}, which does not exist: correct it");
    gone.map(|(number, path)| Finding::error(DOCUMENT, number, what(path))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, text: &str) -> File {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn invariants_may_be_decorated() {
        let text = INVARIANTS.map(|line| line.replace("ada-user", "`ada-user`").replace(' ', "\n")).join(". ");
        assert_eq!(invariants(&text), []);
        assert_eq!(invariants("").len(), INVARIANTS.len());
    }

    #[test]
    fn the_code_map_names_modules_and_no_ghosts() {
        let files = [file("ada-x/src/lib.rs", ""), file("ada-x/src/demux.rs", ""), file("ada-x/src/read/a.rs", "")];
        let folders = ["ada-x".to_owned()];
        let document = file(DOCUMENT, "`ada-x/src/read/` reads, `ada-x/src/gone.rs` is gone");
        let unnamed = unnamed(&document, &files, &folders);
        assert_eq!(unnamed.len(), 1);
        assert!(unnamed[0].what.contains("ada-x/src/demux"));
        assert_eq!(stale(&document, &folders, |path| !path.contains("gone")).len(), 1);
    }
}
