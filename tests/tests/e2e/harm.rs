//! Programs go on as if nobody looked, with every function of everything that they load probed.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use tests::fixture;
use tests::need;
use tests::process::run;
use tests::recorder::{ada, ada_trace};
use tests::scratch::Scratch;

/// What a program did: its status and its output.
fn outcome(command: &mut Command, scratch: &Scratch) -> (Option<i32>, String) {
    let ended = run(command, scratch.path());
    (ended.status.code(), ended.out)
}

/// Runs a command alone, then with everything probed, and compares.
fn unharmed(program: &str, arguments: &[&str], options: &[&str]) {
    let scratch = Scratch::in_memory();
    let alone = outcome(Command::new(program).args(arguments), &scratch);
    let mut traced = Command::new(ada_trace());
    traced.args(["-q", "--all"]).args(options).arg("-o").arg(scratch.join("session"));
    let traced = outcome(traced.arg("--").arg(program).args(arguments), &scratch);
    assert_eq!(traced, alone, "{program} {arguments:?} with {options:?}");
}

const OPTIONS: [&[&str]; 3] = [&[], &["--no-default-excludes"], &["--no-default-excludes", "--detail"]];

#[test]
fn everything_that_python_loads() {
    if !need::root() || !need::program("python3") {
        return;
    }
    let script = "import json, threading, subprocess\n\
        print(json.dumps({'sum': sum(range(1000)), 'f': '%5.2f|%x' % (3.14159, 255)}))\n\
        print(subprocess.run(['echo', 'child'], capture_output=True).stdout)\n\
        thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n\
        try: raise ValueError(7)\n\
        except ValueError as error: print(error)";
    for options in OPTIONS {
        unharmed("/usr/bin/python3", &["-c", script], options);
    }
}

#[test]
fn everything_that_small_programs_load() {
    if !need::root() {
        return;
    }
    for options in OPTIONS {
        unharmed("ls", &["-la", "/usr/lib"], options);
        unharmed("sort", &["-k3", "-t:", "/etc/passwd"], options);
        unharmed(
            "sh",
            &["-c", "for i in 1 2 3; do (echo $i; exit $i); done; cat /etc/passwd | wc -l; exit 7"],
            options,
        );
    }
}

#[test]
fn instructions_that_the_kernel_mistakes_for_others_are_left_alone() {
    if !need::root() || !need::works("AVX", Command::new("grep").args(["-qw", "avx", "/proc/cpuinfo"])) {
        return;
    }
    let program = fixture::assembled("opcodes.s");
    let path = program.display().to_string();
    unharmed(&path, &[], &["--no-default-excludes"]);
    // The one can be passed by a probe that is moved, the other cannot.
    refused(&program, &["--placement", "entry", "exe:exchange"], "accepts no probe");
    refused(&program, &["exe:compare"], "accepts no probe");
    let scratch = Scratch::new();
    let all = ada(&scratch, ["list".as_ref(), "exe:[cem]*".as_ref(), program.as_os_str()]).success();
    assert!(all.out.contains("skipped by exe:[cem]*: compare") && all.out.contains(" main "), "{}", all.out);
}

/// One sentence that says why.
fn refused(program: &Path, specs: &[&str], why: &str) {
    let scratch = Scratch::new();
    let words = ["list"].iter().chain(specs).map(OsStr::new);
    let ended = ada(&scratch, words.chain([program.as_os_str()])).code(2);
    assert!(ended.err.contains(why), "{}", ended.err);
}
