//! `--args`: what functions are given and give back, as strace or the fixture's source says.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tests::process::run;
use tests::recorder::{ATTACHES, Attach, Trace, exe};
use tests::scratch::Scratch;
use tests::{dumped, expected, fixture, need};

use crate::programs::python;

/// One open(2), by whichever program watched it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Opened {
    folder: String,
    path: String,
    flags: BTreeSet<String>,
    mode: Option<u64>,
    result: i64,
}

/// As strace -xx sees `command`: paths are all `\x2f`.
fn by_strace(command: &mut Command, scratch: &Scratch) -> Vec<Opened> {
    let output = scratch.join("strace");
    let mut strace = Command::new("strace");
    strace.args(["-f", "-xx", "-s", "4096", "-e", "trace=open,openat", "-o"]).arg(&output);
    strace.arg(command.get_program()).args(command.get_args());
    drop(run(&mut strace, scratch.path()).success());
    let text = fs::read_to_string(&output).expect("strace's output");
    text.lines().filter(|line| line.contains("open")).map(strace_line).collect()
}

/// `4711 openat(AT_FDCWD, "\x2f", O_RDONLY|O_CREAT, 0640) = 3`
fn strace_line(line: &str) -> Opened {
    let (call, result) = line.rsplit_once(" = ").expect("a result");
    let (name, arguments) = call.split_once('(').expect("arguments");
    let mut arguments = arguments.trim_end().trim_end_matches(')').split(", ");
    let at = name.ends_with("openat").then(|| arguments.next().expect("a folder"));
    let path = arguments.next().expect("a path").trim_matches('"');
    let byte = |digits: &str| u8::from_str_radix(digits, 16).unwrap_or_else(|error| panic!("{error}: {line}"));
    Opened {
        folder: at.unwrap_or("AT_FDCWD").to_owned(),
        path: String::from_utf8(path.split("\\x").skip(1).map(byte).collect()).expect("UTF-8"),
        flags: flags(arguments.next().expect("flags")),
        mode: arguments.next().map(|mode| u64::from_str_radix(mode, 8).expect("a mode")),
        result: result.split(' ').next().and_then(|result| result.parse().ok()).expect("a number"),
    }
}

fn flags(text: &str) -> BTreeSet<String> {
    text.split('|').map(str::to_owned).collect()
}

/// As ada-trace sees it.
fn by_ada_trace(command: &Command, attach: Attach, scratch: &Scratch) -> Vec<Opened> {
    let trace = Trace::new(scratch, ["libc:open*"]).attach(attach).args(["--args", "--string-max", "4094"]);
    let trace = trace.arg("--").arg(command.get_program()).args(command.get_args());
    let session = trace.start().session().complete();
    let events = dumped::objects(&session.folder);
    let opens = |event: &Value| ["open", "openat"].contains(&event["function"].as_str().expect("a name"));
    let mut opens = events.iter().filter(|event| opens(event));
    let mut opened = Vec::new();
    while let Some(call) = opens.next() {
        let result = opens.next().expect("its return");
        assert_eq!((&call["kind"], &result["kind"]), (&"call".into(), &"return".into()));
        opened.push(of_events(&call["args"], result["return"].as_i64().expect("a number")));
    }
    opened
}

fn of_events(arguments: &Value, result: i64) -> Opened {
    let folder = match &arguments["dirfd"] {
        Value::Null => "AT_FDCWD".to_owned(),
        Value::String(name) => name.clone(),
        number => number.to_string(),
    };
    Opened {
        folder,
        path: arguments["path"].as_str().unwrap_or_else(|| panic!("no path in {arguments}")).to_owned(),
        flags: flags(arguments["flags"].as_str().unwrap_or_else(|| panic!("no flags in {arguments}"))),
        mode: arguments.get("mode").map(octal),
        result,
    }
}

fn octal(mode: &Value) -> u64 {
    mode.as_u64().unwrap_or_else(|| u64::from_str_radix(mode.as_str().expect("a mode"), 8).expect("octal digits"))
}

/// Where each of `some` is in `all`, in order.
fn check_subsequence(some: &[Opened], all: &[Opened]) {
    let mut rest = all.iter();
    for each in some {
        let found = rest.any(|other| other == each);
        let close = all.iter().filter(|other| other.path == each.path).collect::<Vec<_>>();
        assert!(found, "strace does not show {each:?} (in this order), but {close:?}");
    }
}

#[test]
fn what_cat_opens_is_what_strace_shows() {
    if !(need::root() && need::program("strace")) {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let mut cat = Command::new("cat");
        cat.arg("/etc/hostname");
        let all = by_strace(&mut cat, &scratch);
        let shown = by_ada_trace(&cat, attach, &scratch);
        check_subsequence(&shown, &all);
        assert_eq!(shown.iter().filter(|opened| opened.path == "/etc/hostname").count(), 1, "{shown:?}");
    }
}

/// Opens that create, fail, are relative to a folder, and have names that need quotes.
const OPENS: &str = r#"
import os, sys
folder = sys.argv[1]
def tried(*arguments, **more):
    try: return os.open(*arguments, **more)
    except OSError: return -1
tried(folder + "/a", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
tried(folder + "/b", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o4755)
open(folder + "/c", "w").close()
open(folder + "/c").close()
tried(folder + "/nowhere/x", os.O_RDONLY)
tried(folder + "/a\"quoted\"\n\\é, (x) = 3", os.O_RDONLY)
tried(folder + "/" + "l" * 200, os.O_RDONLY)
tried(folder + "/a", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o640)
there = tried(folder, os.O_RDONLY | os.O_DIRECTORY)
tried("relative", os.O_RDONLY | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=there)
tried(folder, os.O_TMPFILE | os.O_RDWR, 0o600)
tried("", os.O_RDONLY | os.O_SYNC | os.O_NONBLOCK | os.O_NOCTTY)
tried("x", 3)
"#;

#[test]
fn what_python_opens_is_what_strace_shows() {
    if !(need::root() && need::program("strace") && need::program("python3")) {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let folder = scratch.join("opened");
        let mut command = Command::new(python());
        command.args(["-I", "-c", OPENS]).arg(&folder);
        let fresh = || {
            drop(fs::remove_dir_all(&folder));
            fs::create_dir(&folder).expect("a folder");
        };
        fresh();
        let all = by_strace(&mut command, &scratch);
        fresh();
        let shown = by_ada_trace(&command, attach, &scratch);
        check_subsequence(&shown, &all);
        // All that the script asks for is there: its first is the only one with this mode and a result.
        let first = |opened: &Opened| opened.mode == Some(0o640) && opened.result >= 0;
        let from = |opened: &[Opened]| opened[opened.iter().position(first).expect("the script's first")..].to_vec();
        assert_eq!(from(&shown)[..13], from(&all)[..13]);
        assert_eq!(from(&shown)[..13].iter().filter(|opened| opened.result == -1).count(), 6);
    }
}

/// The functions of the C++ fixture that are its own.
const CPP: [&str; 17] = [
    "shapes::Counter::add",
    "paint",
    "greet",
    "eight",
    "cross",
    "by_reference",
    "by_value",
    "view",
    "make*",
    "big",
    "point",
    "average",
    "mixed",
    "large",
    "first",
    "zero",
    "main",
];

/// Records a fixture with its arguments, and draws what `dump` prints.
fn drawn(program: &Path, functions: &[String], options: &[&str], arguments: &[&str]) -> String {
    let scratch = Scratch::new();
    let trace = Trace::new(&scratch, functions).arg("--args").args(options);
    let session = trace.launch(program, arguments).session().complete();
    dumped::text(&session.folder)
}

#[test]
fn the_arguments_of_a_cpp_program() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let attach: &[&str] = if attach == Attach::Perf { &["--attach", "perf"] } else { &[] };
        expected::check("arguments-cc", &drawn(&fixture::build("args.cc", &["-g"]), &exe(&CPP), attach, &[]));
    }
    // The optimiser leaves out what nobody uses, and ada-trace must not invent it.
    let optimised = fixture::build("args.cc", &["-g", "-O2"]);
    expected::check("arguments-cc-optimised", &drawn(&optimised, &exe(&CPP), &[], &[]));
}

#[test]
fn arguments_behind_what_is_aligned_to_more_than_a_word() {
    if !need::root() {
        return;
    }
    for level in ["-O0", "-O2"] {
        let program = fixture::build("aligned.cc", &["-g", "-Wno-psabi", "-Wno-pedantic", level]);
        expected::check("arguments-aligned", &drawn(&program, &exe(&["after_*", "not_split"]), &[], &[]));
    }
}

#[test]
fn the_arguments_of_a_rust_program() {
    if !(need::root() && need::program("rustc")) {
        return;
    }
    let program = fixture::rust("args.rs");
    expected::check("arguments-rs", &drawn(&program, &exe(&["args::*"]), &[], &[]));
}

fn tool(command: &mut Command, scratch: &Scratch) {
    drop(run(command, scratch.path()).success());
}

/// The program without its debug information, which goes to a file beside it.
fn separated(program: &Path, scratch: &Scratch) -> [PathBuf; 2] {
    let program = fixture::copied(program, scratch.path());
    let debug = program.with_extension("debug");
    tool(Command::new("objcopy").arg("--only-keep-debug").arg(&program).arg(&debug), scratch);
    tool(Command::new("objcopy").arg("--strip-debug").arg(&program), scratch);
    let link = format!("--add-gnu-debuglink={}", debug.display());
    tool(Command::new("objcopy").arg(link).arg(&program), scratch);
    [program, debug]
}

/// The debug information is in another file, and all of it is gone when the session is read.
#[test]
fn arguments_by_separate_debug_information_of_a_program_that_is_gone() {
    if !(need::root() && need::program("rustc")) {
        return;
    }
    let cpp = (fixture::build("args.cc", &["-g"]), exe(&CPP), "arguments-cc");
    let rust = (fixture::rust("args.rs"), exe(&["args::*"]), "arguments-rs");
    for (program, functions, tree) in [cpp, rust] {
        let scratch = Scratch::new();
        let files = separated(&program, &scratch);
        let session = Trace::new(&scratch, functions).arg("--args").launch(&files[0], [""; 0]).session().complete();
        for file in files {
            fs::remove_file(file).expect("the file");
        }
        expected::check(tree, &dumped::text(&session.folder));
    }
}

/// Strings that are short, long, cut, in memory that nobody has touched, at the end of memory, or nowhere.
#[test]
fn strings_of_every_kind() {
    if !need::root() {
        return;
    }
    let program = fixture::build("strings.c", &["-g"]);
    for attach in ATTACHES {
        let more: &[&str] = if attach == Attach::Perf { &["--attach", "perf"] } else { &[] };
        for (length, tree) in [("64", "strings"), ("8", "strings-cut"), ("0", "strings-pointers")] {
            let scratch = Scratch::new();
            let file = scratch.join("file");
            fs::write(&file, "from a file").expect("a file");
            let options = [&["--string-max", length], more].concat();
            let text = drawn(&program, &exe(&["take"]), &options, &[file.to_str().expect("UTF-8")]);
            expected::check(tree, &text);
        }
    }
}
