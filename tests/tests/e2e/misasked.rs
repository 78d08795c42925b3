//! Questions that cannot be answered, or only in part: one sentence on stderr, exit status 2, and what can be said is said.
//!
//! Invariant: every command that reads a session is asked.

use std::fs;
use std::path::{Path, PathBuf};

use tests::process::Ended;
use tests::recorder::ada;
use tests::scratch::Scratch;

const GOLDEN: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../ada-format/tests/golden/v2_1");
/// Those that select.
const SELECTING: [&str; 4] = ["report", "graph", "replay", "timeline"];
const ALL: [&str; 7] = ["report", "graph", "replay", "timeline", "verify", "info", "dump"];

/// A copy of a small session: two threads, of which the first calls malloc and the second free.
fn sample(scratch: &Scratch) -> PathBuf {
    let folder = scratch.join("session");
    copy(Path::new(GOLDEN), &folder);
    folder
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the golden session") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

fn ask(scratch: &Scratch, command: &str, folder: &Path, options: &[&str]) -> Ended {
    let arguments = [command.as_ref(), folder.as_os_str()];
    ada(scratch, arguments.into_iter().chain(options.iter().map(AsRef::as_ref)))
}

/// Checks for exit status 2 and one complaint on stderr, and returns that. (`replay` tells there what is not known, too.)
fn complaint(ended: &Ended) -> String {
    assert_eq!(ended.status.code(), Some(2), "{ended:?}");
    let complaints: Vec<&str> = ended.err.lines().filter_map(|line| line.strip_prefix("ada-trace: ")).collect();
    assert_eq!(complaints.len(), 1, "{ended:?}");
    complaints.concat()
}

type Break = fn(&mut Vec<u8>);

fn change(path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(path).expect("a file");
    change(&mut bytes);
    fs::write(path, bytes).expect("a changed file");
}

#[test]
fn what_is_no_session_is_named() {
    let scratch = Scratch::new();
    let file = scratch.join("file");
    fs::write(&file, "text").expect("a file");
    for command in ALL {
        let text = complaint(&ask(&scratch, command, &file, &[]));
        assert!(text.contains("there is no session") && text.contains("give the folder"), "{text}");
        let text = complaint(&ask(&scratch, command, &scratch.join("nowhere"), &[]));
        assert!(text.contains("nowhere"), "{text}");
    }
}

#[test]
fn a_newer_session_is_refused() {
    let scratch = Scratch::new();
    let folder = sample(&scratch);
    change(&folder.join("manifest.json"), |bytes| {
        let text = String::from_utf8_lossy(bytes).replace("\"2.1\"", "\"3.0\"");
        *bytes = text.into_bytes();
    });
    for command in ALL {
        let ended = ask(&scratch, command, &folder, &[]);
        let text = complaint(&ended);
        assert!(text.contains("format version 3.0") && text.contains("a newer ada-trace"), "{text}");
        assert_eq!(ended.out, "");
    }
    assert_eq!(complaint(&ask(&scratch, "diff", &folder, &[GOLDEN])).matches("3.0").count(), 1);
}

#[test]
fn a_broken_thread_does_not_hide_the_others() {
    let scratch = Scratch::new();
    let folder = sample(&scratch);
    let index = folder.join("thread_0/index.atf");
    let broken: [(&str, Break); 3] = [
        ("within its header", |bytes| bytes.truncate(10)),
        ("found \"none\"", |bytes| bytes.splice(..4, *b"none").for_each(drop)),
        ("a newer ada-trace", |bytes| bytes[5] = 9),
    ];
    let whole = fs::read(&index).expect("the index");
    for (what, breaks) in broken {
        fs::write(&index, &whole).expect("the index");
        change(&index, breaks);
        for command in ALL.into_iter().filter(|command| *command != "verify") {
            let ended = ask(&scratch, command, &folder, &[]);
            let text = complaint(&ended);
            assert!(text.contains("thread_0/index.atf") && text.contains(what), "{command}: {text}");
            assert!(ended.out.contains("free"), "{command}: {ended:?}");
        }
        // It tells faults on stdout.
        let ended = ask(&scratch, "verify", &folder, &[]);
        assert_eq!(ended.status.code(), Some(2), "{ended:?}");
        assert!(ended.out.contains("thread_0") && ended.out.ends_with("FAULTY\n"), "{ended:?}");
        let ended = ask(&scratch, "report", &folder, &["--thread", "1"]);
        assert_eq!(ended.status.code(), Some(0), "nobody asked for the broken one: {ended:?}");
    }
}

#[test]
fn an_unknown_function_has_near_matches() {
    let scratch = Scratch::new();
    let folder = sample(&scratch);
    for command in SELECTING {
        let text = complaint(&ask(&scratch, command, &folder, &["-F", "mallok"]));
        assert!(text.ends_with("no function of this session is called 'mallok'; did you mean malloc?"), "{text}");
        let text = complaint(&ask(&scratch, command, &folder, &["-N", "qqqqqqqq"]));
        assert!(text.ends_with("`ada-trace report --limit 0` lists them"), "{text}");
    }
    let text = complaint(&ask(&scratch, "graph", &folder, &["--callers", "freee"]));
    assert!(text.ends_with("did you mean free?"), "{text}");
    let text = complaint(&ask(&scratch, "report", &folder, &["--histogram", "freee"]));
    assert!(text.ends_with("did you mean free?"), "{text}");
}

#[test]
fn a_time_range_outside_of_the_recording_is_refused() {
    let scratch = Scratch::new();
    let folder = sample(&scratch);
    for command in SELECTING {
        let text = complaint(&ask(&scratch, command, &folder, &["--from", "@0", "--to", "@1"]));
        assert!(text.contains("no events"), "{text}");
        let text = complaint(&ask(&scratch, command, &folder, &["--from", "2s", "--to", "1s"]));
        assert!(text.contains("--to") || text.contains("no events"), "{text}");
        let text = complaint(&ask(&scratch, command, &folder, &["--from", "soon"]));
        assert!(text.contains("soon"), "{text}");
    }
}

/// `diff` with the session on either side of a good one.
fn differ(scratch: &Scratch, folder: &Path, options: &[&str]) -> [Ended; 2] {
    let good = Path::new(GOLDEN);
    [[folder, good], [good, folder]].map(|[before, after]| {
        let sides = ["diff".as_ref(), before.as_os_str(), after.as_os_str()];
        ada(scratch, sides.into_iter().chain(options.iter().map(AsRef::as_ref)))
    })
}

#[test]
fn diff_names_the_side_that_is_no_session_or_a_newer_one() {
    let scratch = Scratch::new();
    let folder = sample(&scratch);
    change(&folder.join("manifest.json"), |bytes| {
        let text = String::from_utf8_lossy(bytes).replace("\"2.1\"", "\"3.0\"");
        *bytes = text.into_bytes();
    });
    for (folder, what) in [(scratch.join("nowhere"), "there is no session"), (folder, "format version 3.0")] {
        for ended in differ(&scratch, &folder, &[]) {
            let text = complaint(&ended);
            assert!(text.contains(what) && text.contains(folder.to_str().expect("UTF-8")), "{text}");
            assert_eq!(ended.out, "");
        }
    }
}

#[test]
fn diff_compares_the_other_threads_of_a_session_with_a_broken_one() {
    let scratch = Scratch::new();
    let folder = sample(&scratch);
    change(&folder.join("thread_0/index.atf"), |bytes| bytes.truncate(10));
    for ended in differ(&scratch, &folder, &["--all"]) {
        let text = complaint(&ended);
        assert!(text.contains("thread_0/index.atf") && text.contains("within its header"), "{text}");
        let row = |name: &str| ended.out.lines().find(|line| line.contains(name)).expect("a row").to_owned();
        let calls = |name: &str| row(name).split_whitespace().take(2).collect::<Vec<_>>().concat();
        assert!(["12", "21"].contains(&calls("free").as_str()), "{}", ended.out);
        assert!(["01", "10"].contains(&calls("malloc").as_str()), "{}", ended.out);
        // It is called in the broken thread alone.
        assert!(row("malloc").contains("new") || row("malloc").contains("gone"), "{}", ended.out);
    }
}

#[test]
fn diff_refuses_functions_and_times_that_neither_side_has() {
    let scratch = Scratch::new();
    let folder = sample(&scratch);
    for (options, what) in [
        (&["-F", "mallok"][..], "did you mean malloc?"),
        (&["-N", "qqqqqqqq"], "`ada-trace report --limit 0` lists them"),
        (&["--from", "@0", "--to", "@1"], "no events"),
        (&["--from", "2s", "--to", "1s"], "exchange them"),
        (&["--from", "soon"], "soon"),
    ] {
        for ended in differ(&scratch, &folder, options) {
            let text = complaint(&ended);
            assert!(text.contains(what), "{text}");
        }
    }
}
