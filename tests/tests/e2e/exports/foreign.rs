//! Each format, read by somebody else, against ada-query's spans.
//!
//! Invariant: a reader that is not there is named, and its test passes only where tests may be skipped.

use std::path::{Path, PathBuf};
use std::process::Command;

use ada_query::select::{Pattern, Selection};
use serde_json::Value;
use tests::need;
use tests::process::run;
use tests::recorder::ada;
use tests::scratch::Scratch;

use super::oracle::{Rows, Truth, truth};
use super::session::{Faults, write};

const SESSIONS: [Faults; 4] = [Faults::None, Faults::Many, Faults::Handlers, Faults::All];

/// What a reader found.
struct Found {
    rows: Rows,
    facts: Value,
}

impl Found {
    fn fact(&self, name: &str) -> u64 {
        self.facts[name].as_u64().unwrap_or(0)
    }

    fn flat(&self) -> Rows {
        let mut rows = Rows::new();
        for ((tid, name, _), (calls, time)) in &self.rows {
            let row = rows.entry((*tid, name.clone(), String::new())).or_default();
            *row = (row.0 + calls, row.1 + time);
        }
        rows
    }
}

/// Compares, and shows what differs.
fn same(found: &Rows, want: &Rows) {
    let lacks = |rows: &Rows, others: &Rows| -> Rows {
        rows.iter().filter(|(key, row)| others.get(*key) != Some(row)).map(|(key, row)| (key.clone(), *row)).collect()
    };
    let (more, less) = (lacks(found, want), lacks(want, found));
    assert!(more.is_empty() && less.is_empty(), "found {more:?}\ninstead of {less:?}");
}

fn export(scratch: &Scratch, format: &str, options: &[&str]) -> PathBuf {
    let path = scratch.join(format!("export.{format}"));
    let session = scratch.join("session");
    let line = ["export", session.to_str().unwrap(), "--as", format, "--force", "-o", path.to_str().unwrap()];
    drop(ada(scratch, line.iter().chain(options)).success());
    path
}

fn read(scratch: &Scratch, format: &str, path: &Path, more: Option<&Path>) -> Found {
    let reader = Path::new(env!("CARGO_MANIFEST_DIR")).join("readers/read.py");
    let mut command = Command::new("python3");
    command.arg(reader).arg(format).arg(path).args(more).env("PYTHONIOENCODING", "utf-8");
    let ended = run(&mut command, scratch.path()).success();
    let facts: Value = serde_json::from_str(&ended.out).expect("JSON");
    let number = |value: &Value| value.as_u64().expect("a number");
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let row = |row: &Value| {
        let tid = u32::try_from(number(&row[0])).expect("an id");
        ((tid, text(&row[1]), text(&row[2])), (number(&row[3]), number(&row[4])))
    };
    Found { rows: facts["rows"].as_array().expect("rows").iter().map(row).collect(), facts }
}

/// Exports sessions with and without faults, whole and in part, and compares.
fn check(format: &str, compare: impl Fn(Faults, &Truth, &Found)) {
    check_with(format, &[], None, compare);
}

fn check_with(format: &str, options: &[&str], more: Option<&Path>, compare: impl Fn(Faults, &Truth, &Found)) {
    if !need::program("python3") {
        return;
    }
    for faults in SESSIONS {
        let scratch = Scratch::new();
        write(&scratch.join("session"), 3, 3000, faults);
        let part = Selection {
            exclude: vec![Pattern::new("leaf").unwrap()],
            min_duration_ns: 60,
            from_ns: Some(5_000_000_020_000),
            ..Selection::default()
        };
        let of_part = ["-N", "leaf", "-t", "60ns", "--from", "@5000000020000"];
        for (selection, chosen) in [(Selection::default(), &[][..]), (part, &of_part)] {
            let truth = truth(&scratch.join("session"), &selection);
            assert!(truth.spans.len() > 500, "{faults:?}: {} spans", truth.spans.len());
            let path = export(&scratch, format, &[options, chosen].concat());
            compare(faults, &truth, &read(&scratch, format, &path, more));
        }
    }
}

/// What formats find whose calls have to nest on each stack.
fn nests(faults: Faults, truth: &Truth, found: &Found) {
    let calls = |rows: &Rows| -> Vec<_> { rows.iter().map(|(key, (calls, _))| (key.clone(), *calls)).collect() };
    match faults {
        Faults::None | Faults::Many => same(&found.rows, &truth.rows()),
        // On a stack of its own, a call has no caller there.
        Faults::Handlers => same(&found.flat(), &truth.flat()),
        // Where stacks take turns, a call may outlive what is taken for its caller; that cannot nest.
        Faults::All if truth.accounting.too_short == 0 => assert_eq!(calls(&found.flat()), calls(&truth.flat())),
        // Of these, the ones that are too short by then are left out.
        Faults::All => {
            let (found, all) = (found.rows.values().map(|row| row.0).sum::<u64>(), truth.spans.len() as u64);
            assert!((all - all / 50..=all).contains(&found), "{found} of {all}");
        }
    }
}

/// What formats find that tell each call by itself.
fn tells(_: Faults, truth: &Truth, found: &Found) {
    same(&found.flat(), &truth.flat());
}

fn switches(faults: Faults) -> bool {
    matches!(faults, Faults::Handlers | Faults::All)
}

fn accounts(truth: &Truth, found: &Found) {
    assert_eq!(found.fact("lost"), truth.accounting.events_lost);
    assert_eq!(found.fact("signals"), truth.accounting.signals);
}

#[test]
fn protoc_reads_perfetto() {
    if !need::program("protoc") {
        return;
    }
    check("perfetto", |faults, truth, found| {
        nests(faults, truth, found);
        assert_eq!(found.fact("processes"), 1);
        assert_eq!(
            found.fact("unwound"),
            truth.spans.iter().filter(|told| told.span.end.name() == "unwound").count() as u64
        );
    });
}

#[test]
fn python_reads_chrome_events() {
    check("chrome", tells);
}

#[test]
fn python_reads_csv() {
    check("csv", tells);
}

#[test]
fn python_reads_jsonl() {
    check("jsonl", |faults, truth, found| {
        tells(faults, truth, found);
        if !switches(faults) {
            nests(faults, truth, found);
        }
        assert_eq!(found.fact("lost"), truth.accounting.events_lost);
    });
}

#[test]
fn babeltrace_reads_ctf() {
    if !need::program("babeltrace2") {
        return;
    }
    check("ctf", nests);
}

#[test]
fn protoc_reads_the_older_stream() {
    if !need::program("protoc") {
        return;
    }
    check("atf4", |_, truth, found| same(&found.rows, &truth.returns()));
}

#[test]
fn nothing_lost_is_left_out() {
    for format in ["perfetto", "chrome", "jsonl", "ctf"] {
        let reader = match format {
            "perfetto" => "protoc",
            "ctf" => "babeltrace2",
            _ => "python3",
        };
        if !need::program(reader) || !need::program("python3") {
            return;
        }
        let scratch = Scratch::new();
        write(&scratch.join("session"), 2, 4000, Faults::Many);
        let truth = truth(&scratch.join("session"), &Selection::default());
        assert!(truth.accounting.events_lost > 0 && truth.accounting.signals > 0 && truth.accounting.open > 0);
        accounts(&truth, &read(&scratch, format, &export(&scratch, format, &[]), None));
    }
}

#[test]
fn folded_stacks_add_up() {
    check("folded", |faults, truth, found| {
        // Of a call that goes on in the time range after others, the path is not known.
        if !switches(faults) || truth.accounting.outside == 0 {
            same(&found.rows, &truth.own());
        }
    });
    check_with("folded", &["--weight", "calls"], None, |_, truth, found| {
        assert_eq!(found.rows.values().map(|(_, calls)| calls).sum::<u64>(), truth.spans.len() as u64);
    });
    check_with("folded", &["--weight", "total"], None, |_, truth, found| {
        let total = |rows: &Rows| rows.values().map(|(_, time)| time).sum::<u64>();
        assert_eq!(total(&found.rows), total(&truth.rows()));
    });
}

/// inferno drops lines that it cannot read and says how many it has seen of what.
#[test]
fn inferno_draws_folded_stacks() {
    let scratch = Scratch::new();
    write(&scratch.join("session"), 3, 4000, Faults::None);
    let stacks = std::fs::File::open(export(&scratch, "folded", &[])).expect("the export");
    let mut options = inferno::flamegraph::Options::default();
    options.count_name = "ns".to_owned();
    let mut drawn = Vec::new();
    inferno::flamegraph::from_reader(&mut options, stacks, &mut drawn).expect("a flame graph");
    let drawn = String::from_utf8(drawn).expect("UTF-8");
    let own: u64 = truth(&scratch.join("session"), &Selection::default()).own().values().map(|(_, time)| time).sum();
    let all = drawn.split("<title>all (").nth(1).and_then(|rest| rest.split(" ns,").next()).expect("its root");
    assert_eq!(all.replace(',', "").parse(), Ok(own));
}

#[test]
fn flame_graphs_are_xml_as_wide_as_what_they_show() {
    check("flamegraph", |_, truth, found| {
        let all = found.rows[&(0, "all".to_owned(), String::new())];
        assert_eq!(all, (1, truth.own().values().map(|(_, time)| time).sum()));
        assert!(found.rows.len() > 4);
    });
}

/// A file of an npm package that `cargo xtask setup` has put into the build folder.
fn of_npm(path: &str) -> Option<PathBuf> {
    let folder = tests::fixture::build_folder().parent()?.join("npm/node_modules");
    let file = folder.join(path);
    need::foreign(&file.display().to_string(), file.is_file()).then_some(file)
}

/// The major version of node, if there is one.
fn node_version() -> Option<u32> {
    let output = Command::new("node").arg("--version").output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

#[test]
fn speedscope_files_fit_their_schema() {
    let Some(schema) = of_npm("speedscope/dist/release/file-format-schema.json") else { return };
    let imports = Command::new("python3").args(["-c", "import jsonschema"]).output();
    if !need::foreign("python3-jsonschema", imports.is_ok_and(|output| output.status.success())) {
        return;
    }
    check_with("speedscope", &[], Some(&schema), nests);
}

#[test]
fn firefox_profiles_weigh_what_calls_took() {
    check("firefox", |faults, truth, found| {
        // Stacks that overlap are threads of their own there; recursion across them counts twice.
        if !switches(faults) {
            let (outermost, mut found) = (truth.outermost(), found.rows.clone());
            for (key, row) in &outermost {
                // What never weighed anything is in no sample.
                found.entry(key.clone()).or_insert(*row);
            }
            same(&found, &outermost);
        }
    });
}

#[test]
fn firefox_profiler_loads_profiles() {
    let Some(program) = of_npm("@firefox-devtools/profiler-cli/dist/profiler-cli.js") else { return };
    if !need::foreign("node 20", node_version() >= Some(20)) {
        return;
    }
    let scratch = Scratch::new();
    write(&scratch.join("session"), 3, 3000, Faults::Many);
    let path = export(&scratch, "firefox", &[]);
    let cli = |arguments: &[&str]| {
        let mut command = Command::new("node");
        command.arg(&program).args(arguments).args(["--session", "ada"]).env("HOME", scratch.path());
        command.env("PROFILER_CLI_SESSION_DIR", scratch.path());
        run(&mut command, scratch.path())
    };
    // Its daemon gives up waiting for itself after half a second, and goes on starting.
    let mut threads = cli(&["load", path.to_str().unwrap()]);
    for _ in 0..60 {
        threads = cli(&["thread", "list"]);
        if threads.status.success() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(500));
    }
    let functions = cli(&["thread", "functions"]);
    drop(cli(&["stop"]));
    let threads = threads.success().out;
    (0..3).for_each(|id| assert!(threads.contains(&format!("worker \"{id}\"")), "{threads}"));
    let functions = functions.success().out;
    ["main", "größe", "leaf"].iter().for_each(|name| assert!(functions.contains(name), "{functions}"));
}
