//! Where names may be used: aya only in the kernel side and its loader, clap and printing only in the command line.
//!
//! Code counts, comments and the tests at a file's end do not.

use super::{File, Finding};

/// A name, as it is written where it is used, and where it may be.
struct Rule {
    name: &'static str,
    uses: &'static [&'static str],
    allowed: &'static [&'static str],
}

const CLI: [&str; 4] = ["ada-user/src/main.rs", "ada-user/src/cli.rs", "ada-user/src/cli/", "ada-user/src/bin/"];

const RULES: [Rule; 3] = [
    Rule {
        name: "aya",
        uses: &["aya", "aya_obj", "aya_ebpf", "aya_log", "aya_log_ebpf"],
        allowed: &["ada-ebpf/", "ada-user/src/backend/ebpf.rs", "ada-user/src/backend/ebpf/"],
    },
    Rule { name: "clap", uses: &["clap", "clap_complete"], allowed: &CLI },
    Rule { name: "frida-gum", uses: &["frida_gum", "frida_gum_sys"], allowed: &["ada-frida/"] },
];

const PRINTING: [&str; 7] = ["println!", "eprintln!", "print!", "eprint!", "dbg!", "stdout(", "stderr("];

/// Code that is no part of the product may print.
const TOOLS: [&str; 2] = ["xtask/", "tests/"];

/// Checks all Rust files.
pub(super) fn check(files: &[File]) -> Vec<Finding> {
    files.iter().filter(|file| file.is_rust()).flat_map(check_file).collect()
}

fn check_file(file: &File) -> Vec<Finding> {
    let code = file
        .lines()
        .take_while(|(_, line)| line.trim() != "#[cfg(test)]")
        .map(|(number, line)| (number, code_of(line)));
    let mut findings = Vec::new();
    for (number, line) in code {
        for rule in RULES.iter().filter(|rule| !within(&file.path, rule.allowed)) {
            if rule.uses.iter().any(|name| uses_crate(line, name)) {
                let what = format!("uses {}, which belongs to {}", rule.name, rule.allowed.join(", "));
                findings.push(Finding::error(&file.path, number, what));
            }
        }
        if !may_print(&file.path) && PRINTING.iter().any(|call| calls(line, call)) {
            findings.push(Finding::error(
                &file.path,
                number,
                "prints, return it as a value or an error to main.rs or cli/",
            ));
        }
    }
    findings
}

fn may_print(path: &str) -> bool {
    let aside = ["/tests/", "/benches/", "/examples/"].iter().any(|folder| path.contains(folder));
    let file = ["/build.rs", "/tests.rs", "/fixture.rs"].iter().any(|name| path.ends_with(name));
    within(path, &CLI) || within(path, &TOOLS) || aside || file
}

fn within(path: &str, places: &[&str]) -> bool {
    places.iter().any(|place| path.starts_with(place))
}

/// The line without its comment.
fn code_of(line: &str) -> &str {
    line.split_once("//").map_or(line, |(code, _)| code)
}

fn uses_crate(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let after = &code[at + name.len()..];
        let word = !code[..at].ends_with(is_word);
        let imported = code
            .trim_start()
            .trim_start_matches("pub ")
            .strip_prefix("use ")
            .is_some_and(|rest| rest.starts_with(name));
        word && (after.starts_with("::") || imported && after.starts_with([';', ' ']))
    })
}

/// A call of a macro or function of that name; a method of the name (`Command::stdout`) is another thing.
fn calls(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| !code[..at].ends_with(|before| is_word(before) || before == '.'))
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn crates_are_seen_where_they_are_used() {
        assert!(uses_crate("use aya::maps::Map;", "aya") && uses_crate("let x: aya::Ebpf;", "aya"));
        assert!(uses_crate("pub use clap;", "clap"));
        assert!(!uses_crate("let maya::x; use ayah::y; let aya = 1;", "aya"));
    }

    #[test]
    fn printing_is_no_method() {
        assert!(calls("println!()", "println!") && calls("io::stdout()", "stdout("));
        assert!(!calls("command.stdout(x)", "stdout(") && !calls("eprintln!()", "println!"));
    }

    #[test]
    fn tests_and_comments_may_name_anything() {
        let text = "//! aya::x\nfn f() {} // println!()\n#[cfg(test)]\nmod tests { use aya::x; }\n";
        assert_eq!(check_file(&File { path: "ada-user/src/a.rs".to_owned(), text: text.to_owned() }), []);
    }
}
