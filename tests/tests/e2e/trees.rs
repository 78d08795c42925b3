//! The call trees of the fixtures: launched and attached to, with every kind of link, against `expected/`.
//!
//! Invariant: a fixture gives one tree, however it is recorded and however it was compiled.

use std::path::{Path, PathBuf};

use tests::expected;
use tests::fixture;
use tests::need;
use tests::recorder::{ATTACHES, Attach, Trace, exe};
use tests::scratch::Scratch;
use tests::session::Session;

/// A fixture, what is recorded of it, and the tree that this gives.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    pub(crate) source: &'static str,
    pub(crate) flags: &'static [&'static str],
    pub(crate) arguments: &'static [&'static str],
    pub(crate) functions: &'static [&'static str],
    pub(crate) options: &'static [&'static str],
    pub(crate) tree: &'static str,
}

const NESTED: Case = Case {
    source: "nested.c",
    flags: &[],
    arguments: &[],
    functions: &["outer", "middle", "leaf"],
    options: &[],
    tree: "nested",
};

const LONGJMP: Case = Case {
    source: "longjmp.c",
    functions: &["same_place", "out_of_many", "leave", "deep", "jumper", "leaf"],
    tree: "longjmp",
    ..NESTED
};

/// The frames that the exceptions leave have no return. Return probes would end the target (FACTS.md, docs): in a C++
/// program `ada-trace` puts probes on the exits instead.
const THROWN: Case = Case {
    source: "exceptions.cc",
    functions: &["catcher", "passer", "thrower", "plain", "leaf"],
    tree: "exceptions",
    ..NESTED
};

const THROWN_ENTRY_ONLY: Case = Case { options: &["--entry-only"], tree: "exceptions-entry-only", ..THROWN };

/// The frame that catches may bear a return probe.
const CAUGHT: Case = Case {
    functions: &["catcher", "plain", "leaf"],
    options: &["--returns", "uretprobe"],
    tree: "exceptions-caught",
    ..THROWN
};

const TAILCALL: Case = Case {
    source: "tailcall.c",
    flags: &["-O2", "-fomit-frame-pointer"],
    functions: &["caller", "first", "hop", "last", "even", "odd"],
    tree: "tailcall",
    ..NESTED
};

const CHILDREN: Case = Case { source: "exec.c", functions: &["start_children", "inner"], tree: "children", ..NESTED };

const REPLACED: Case = Case {
    source: "exec.c",
    arguments: &["again"],
    functions: &["replace_myself", "replaced", "inner"],
    tree: "exec-itself",
    ..NESTED
};

const SIGNAL: Case =
    Case { source: "sigalt.c", functions: &["interrupted", "handler_work", "leaf"], tree: "signal", ..NESTED };

const COROUTINE: Case = Case { source: "coroutine.c", functions: &["step", "leaf"], tree: "coroutine", ..NESTED };

const SHALLOW: Case =
    Case { source: "recurse.c", arguments: &["100"], functions: &["down"], tree: "recurse-100", ..NESTED };

const THREADS: Case =
    Case { source: "threads.c", arguments: &["5", "3"], functions: &["work"], tree: "threads", ..NESTED };

const LOCKED_UP: Case = Case { source: "seccomp.c", functions: &["work"], tree: "seccomp", ..NESTED };

const ENTRIES: Case = Case {
    source: "entries.c",
    functions: &[
        "is_ret",
        "is_rip_relative",
        "is_lea",
        "is_short_jump",
        "is_near_jump",
        "is_branch",
        "is_call",
        "is_push_pop",
        "is_push_immediate",
        "is_push_r15",
        "is_sub_rsp",
        "is_xor",
        "is_nop1",
        "is_nop2",
        "is_nop4",
        "is_nop5",
        "is_nop9",
        "is_two_nop5",
        "is_endbr_ret",
        "is_endbr_push",
        "is_endbr_nop5",
        "is_endbr_sub",
        "is_endbr_loop",
        "is_mov_loop",
        "is_red_zone",
        "is_sse",
        "is_string",
    ],
    tree: "entries",
    ..NESTED
};

fn trace<'a>(case: &Case, scratch: &'a Scratch, attach: Attach) -> Trace<'a> {
    Trace::new(scratch, exe(case.functions)).attach(attach).args(case.options)
}

pub(crate) fn launched(case: &Case, program: &Path, attach: Attach) -> Session {
    let scratch = Scratch::new();
    trace(case, &scratch, attach).launch(program, case.arguments).session().complete()
}

pub(crate) fn attached(case: &Case, program: &Path, attach: Attach) -> Session {
    let scratch = Scratch::new();
    let mut target = fixture::waiting(program, case.arguments, &scratch.join("report"), scratch.path());
    let recorder = trace(case, &scratch, attach).pid(target.pid());
    target.tell("go");
    drop(target.end().success());
    recorder.session().complete()
}

fn program(case: &Case) -> PathBuf {
    fixture::build(case.source, case.flags)
}

fn every_launch(case: &Case) {
    if need::root() {
        for attach in ATTACHES {
            expected::check(case.tree, &launched(case, &program(case), attach).tree());
        }
    }
}

fn every_attach(case: &Case) {
    if need::root() {
        for attach in ATTACHES {
            expected::check(case.tree, &attached(case, &program(case), attach).tree());
        }
    }
}

#[test]
fn nested_calls() {
    every_launch(&NESTED);
    every_attach(&NESTED);
}

#[test]
fn longjmp() {
    every_launch(&LONGJMP);
    every_attach(&LONGJMP);
}

#[test]
fn exceptions_through_traced_frames() {
    every_launch(&THROWN);
    every_attach(&THROWN);
    every_launch(&THROWN_ENTRY_ONLY);
    every_attach(&THROWN_ENTRY_ONLY);
}

#[test]
fn exceptions_caught_by_a_traced_frame() {
    every_launch(&CAUGHT);
    every_attach(&CAUGHT);
}

#[test]
fn tail_calls() {
    let hop = fixture::disassembled(&program(&TAILCALL), "hop");
    assert!(hop.contains("jmp") && !hop.contains("call"), "the fixture makes no tail call:\n{hop}");
    every_launch(&TAILCALL);
    every_attach(&TAILCALL);
}

#[test]
fn children_by_fork_and_by_vfork_and_exec_are_not_recorded() {
    every_launch(&CHILDREN);
    every_attach(&CHILDREN);
}

#[test]
fn a_process_that_replaces_itself_goes_on_being_recorded() {
    every_launch(&REPLACED);
    every_attach(&REPLACED);
}

#[test]
fn a_signal_handler_on_an_alternate_stack() {
    every_launch(&SIGNAL);
    every_attach(&SIGNAL);
}

#[test]
fn a_coroutine_that_switches_between_traced_calls() {
    every_launch(&COROUTINE);
    every_attach(&COROUTINE);
}

#[test]
fn recursion_100_deep() {
    every_launch(&SHALLOW);
    every_attach(&SHALLOW);
}

#[test]
fn threads() {
    every_launch(&THREADS);
    every_attach(&THREADS);
}

#[test]
fn functions_by_their_first_instructions() {
    every_launch(&ENTRIES);
    if need::root() {
        // One link per probe takes long to detach: once is enough.
        expected::check(ENTRIES.tree, &attached(&ENTRIES, &program(&ENTRIES), Attach::Default).tree());
    }
}

#[test]
fn a_process_that_may_make_no_system_calls() {
    every_launch(&LOCKED_UP);
    every_attach(&LOCKED_UP);
    every_launch(&Case { flags: &["-fpatchable-function-entry=5"], ..LOCKED_UP });
}

/// The same trees without return probes.
#[test]
fn returns_seen_at_the_exits() {
    for case in [&NESTED, &LONGJMP, &THROWN, &CHILDREN, &REPLACED, &SIGNAL, &COROUTINE, &THREADS, &LOCKED_UP] {
        every_launch(&Case { options: &["--returns", "ret"], ..*case });
    }
}

/// The same trees by way of the filters, which keep books of all running calls and leave none out.
#[test]
fn filters_that_leave_nothing_out() {
    if !need::root() {
        return;
    }
    let check = |case: &Case, options| {
        let case = Case { options, ..*case };
        expected::check(case.tree, &launched(&case, &program(&case), Attach::Default).tree());
    };
    for case in [&NESTED, &LONGJMP, &TAILCALL, &CHILDREN, &REPLACED, &SIGNAL, &COROUTINE, &SHALLOW, &THREADS] {
        check(case, &["--sample", "1/1"]);
    }
    for case in [&NESTED, &LONGJMP, &THROWN, &REPLACED, &SIGNAL, &COROUTINE, &THREADS] {
        check(case, &["--max-rate", "1000000000", "--returns", "ret"]);
    }
    // All of these return.
    for case in [&NESTED, &TAILCALL, &CHILDREN, &SIGNAL, &COROUTINE, &THREADS] {
        check(case, &["--min-duration", "1ns"]);
    }
}

/// What the compiler and the linker may make of it, and the probes must cope with.
const BUILDS: [&[&str]; 8] = [
    &["-fcf-protection=full"],
    &["-O2", "-fomit-frame-pointer", "-momit-leaf-frame-pointer"],
    &["-fcf-protection=full", "-O2", "-fomit-frame-pointer", "-momit-leaf-frame-pointer"],
    &["-O1"],
    &["-fpatchable-function-entry=5"],
    &["-no-pie", "-Wl,-z,noseparate-code"],
    &["-static"],
    &["-static-pie"],
];

#[test]
fn nested_calls_however_they_are_compiled() {
    if need::root() {
        for flags in BUILDS {
            let program = fixture::build(NESTED.source, flags);
            expected::check(NESTED.tree, &launched(&NESTED, &program, Attach::Default).tree());
            expected::check(NESTED.tree, &attached(&NESTED, &program, Attach::Default).tree());
        }
    }
}
