//! What every file must be like: an opening `//!`, a length that can be read, nothing of the machine it was written on.

use anyhow::Result;

use super::{File, Finding};
use crate::cmd;

const LONG: usize = 600;
const TOO_LONG: usize = 800;

/// Folders of one machine, as the parts of a path.
const MACHINE_FOLDERS: [&str; 2] = ["work", "root"];

/// The only hosts that a file may name: sources to cite, and names that lead nowhere.
const HOSTS: [&str; 26] = [
    "127.0.0.1",
    "crates.io",
    "doc.rust-lang.org",
    "docs.ebpf.io",
    "docs.kernel.org",
    "docs.rs",
    "elixir.bootlin.com",
    "example.com",
    "frida.re",
    "gcc.gnu.org",
    "git.kernel.org",
    "github.com",
    "keepachangelog.com",
    "localhost",
    "lwn.net",
    "man7.org",
    "opensource.org",
    "profiler.firefox.com",
    "refspecs.linuxfoundation.org",
    "semver.org",
    "sourceware.org",
    "ui.perfetto.dev",
    "www.apache.org",
    "www.kernel.org",
    "www.speedscope.app",
    "www.w3.org",
];

/// Checks all files.
pub(super) fn check(files: &[File]) -> Result<Vec<Finding>> {
    let mut findings = ignored()?;
    for file in files {
        if file.is_rust() {
            findings.extend(opening(file));
            findings.extend(length(file));
        }
        findings.extend(machine_paths(file));
        findings.extend(hosts(file));
    }
    findings.extend(changelog(files));
    Ok(findings)
}

/// A module that git ignores is missing in every clone: `target/` in .gitignore also means `ada-user/src/target/`.
fn ignored() -> Result<Vec<Finding>> {
    let list =
        cmd::output(&mut cmd::command("git", &["ls-files", "-z", "-o", "-i", "--exclude-standard", "*/src/**/*.rs"]))?;
    let ours =
        list.split_terminator('\0').filter(|path| !path.starts_with("target/") && !path.contains("/target/debug/"));
    Ok(ours.map(|path| Finding::error(path, 1, "is ignored by git, anchor the pattern in .gitignore")).collect())
}

fn opening(file: &File) -> Option<Finding> {
    let what = "does not open with //!, say what the file is and its one invariant";
    (!file.text.starts_with("//!")).then(|| Finding::error(&file.path, 1, what))
}

fn length(file: &File) -> Option<Finding> {
    let lines = file.text.lines().count();
    let what = format!("{lines} lines, move a second noun to a file of its own");
    if lines > TOO_LONG {
        return Some(Finding::error(&file.path, lines, what));
    }
    (lines > LONG).then(|| Finding::warning(&file.path, lines, what))
}

fn changelog(files: &[File]) -> Option<Finding> {
    let exists = files.iter().any(|file| file.path == "CHANGELOG.md");
    (!exists).then(|| Finding::error("CHANGELOG.md", 1, "is missing, begin it with what a user notices"))
}

fn machine_paths(file: &File) -> Vec<Finding> {
    let found = file.lines().filter_map(|(number, line)| Some((number, machine_path(line)?)));
    let what =
        |path| format!("names {path}, a folder of one machine: make it relative or take it from the environment");
    found.map(|(number, path)| Finding::error(&file.path, number, what(path))).collect()
}

/// A path below one of the folders; `/proc/1/root/` and `/net/work/` are none.
fn machine_path(line: &str) -> Option<String> {
    let folders = MACHINE_FOLDERS.iter().map(|name| format!("/{name}/"));
    let begins =
        |at: usize| !line[..at].ends_with(|before: char| before.is_alphanumeric() || ".})_-*>".contains(before));
    folders.into_iter().find(|folder| line.match_indices(folder.as_str()).any(|(at, _)| begins(at)))
}

fn hosts(file: &File) -> Vec<Finding> {
    let named = file.lines().flat_map(|(number, line)| hosts_of(line).map(move |host| (number, host)));
    let strange = named.filter(|(_, host)| !HOSTS.contains(host));
    let what = |host| {
        format!("names the host {host}, take it out, or if anyone may visit it add it to xtask/src/tidy/files.rs")
    };
    strange.map(|(number, host)| Finding::error(&file.path, number, what(host))).collect()
}

/// The hosts of the URLs in a line; a URL made by a program (`https://{host}`) names none.
fn hosts_of(line: &str) -> impl Iterator<Item = &str> {
    let urls = line.split("http").skip(1).filter_map(|rest| rest.trim_start_matches('s').strip_prefix("://"));
    let end = |c: char| !(c.is_ascii_alphanumeric() || c == '.' || c == '-');
    urls.filter_map(move |url| url.split(end).next()).filter(|host| !host.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_paths_of_this_machine_are_found() {
        let root = MACHINE_FOLDERS[1];
        assert!(machine_path(&format!("let home = \"/{root}/x\";")).is_some());
        assert!(machine_path(&format!("/proc/{{pid}}/{root}/lib and /proc/1/{root}/lib")).is_none());
    }

    #[test]
    fn hosts_are_cut_out_of_urls() {
        let hosts: Vec<&str> = hosts_of("see https://docs.rs/x, http://localhost:80 and https://{host}/").collect();
        assert_eq!(hosts, ["docs.rs", "localhost"]);
    }

    #[test]
    fn length_warns_before_it_fails() {
        let file = |lines| File { path: "a.rs".to_owned(), text: "//!\n".repeat(lines) };
        assert_eq!(length(&file(LONG)), None);
        assert_eq!(length(&file(LONG + 1)).map(|f| f.severity), Some(super::super::Severity::Warning));
        assert_eq!(length(&file(TOO_LONG + 1)).map(|f| f.severity), Some(super::super::Severity::Error));
    }
}
