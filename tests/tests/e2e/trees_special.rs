//! Trees of fixtures that need more than a name in the program: libraries, stripped files, entry-only recordings of
//! what return probes would harm, and recursion too deep for a drawing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use tests::expected;
use tests::fixture::{self, LIBRARY};
use tests::need;
use tests::recorder::{ATTACHES, Attach, Trace, exe, in_file};
use tests::scratch::Scratch;
use tests::session::{Kind, Session};

use crate::trees::{Case, attached, launched};

#[test]
fn recursion_10_000_deep() {
    if !need::root() {
        return;
    }
    let program = fixture::build("recurse.c", &[]);
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let session = Trace::new(&scratch, exe(&["down"])).attach(attach).launch(&program, ["10000"]).session();
        check_deep_recursion(&session.complete(), 10_000);
    }
}

/// Probes on the exits know no limit.
#[test]
fn recursion_10_000_deep_seen_at_the_exits() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let trace = Trace::new(&scratch, exe(&["down"])).args(["--returns", "ret"]);
    let session = trace.launch(&fixture::build("recurse.c", &[]), ["10000"]).session().complete();
    let depths: Vec<u32> = session.threads[0].events.iter().map(|event| event.depth).collect();
    assert!(depths.into_iter().eq((0..10_000).chain((0..10_000).rev())));
    assert_eq!(session.count(Kind::Return), 10_000);
    assert_eq!(session.threads[0].missed_returns(), 0);
}

/// The kernel keeps 64 pending returns for a thread: those of the outermost calls.
fn check_deep_recursion(session: &Session, deep: u32) {
    const PENDING: u32 = 64;
    let [thread] = &session.threads[..] else { panic!("{} threads", session.threads.len()) };
    let depths = |kind| thread.events.iter().filter(move |event| event.kind == kind).map(|event| event.depth);
    assert!(depths(Kind::Call).eq(0..deep), "calls are not at depths 0, 1, 2 …");
    assert!(depths(Kind::Return).eq((0..PENDING).rev()), "returns are not those of the outermost {PENDING}");
    assert_eq!(thread.missed_returns(), u64::from(deep - PENDING));
}

/// Every tail call leaves one more return pending.
#[test]
fn a_thousand_tail_calls() {
    if !need::root() {
        return;
    }
    let program = fixture::build("tailcall.c", &["-O2", "-fomit-frame-pointer"]);
    for (option, returns) in [(None, 64), (Some("--entry-only"), 0)] {
        let scratch = Scratch::new();
        let trace = Trace::new(&scratch, exe(&["even", "odd"])).args(option);
        let session = trace.launch(&program, ["1000"]).session().complete();
        assert_eq!([session.calls("even"), session.calls("odd")], [501, 500]);
        assert_eq!(session.count(Kind::Return), returns);
        let deepest = session.threads[0].events.iter().map(|event| event.depth).max();
        assert_eq!(deepest, Some(if returns == 0 { 0 } else { 1000 }));
    }
}

/// A folder with the library in it, and the program that loads it.
fn late(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let library = fixture::copied(&fixture::build("liblate.c", LIBRARY), scratch.path());
    (library, fixture::build("late.c", &[]))
}

fn late_specs(library: &Path) -> [String; 2] {
    [in_file(library, "late_outer"), in_file(library, "late_inner")]
}

#[test]
fn a_library_loaded_after_the_recording_began() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let (library, program) = late(&scratch);
        let trace = || Trace::new(&scratch, late_specs(&library)).attach(attach);
        let path = library.to_str().expect("a path in UTF-8");
        expected::check("late", &trace().launch(&program, [path]).session().complete().tree());

        let mut target = fixture::waiting(&program, &[path], &scratch.join("report"), scratch.path());
        let recorder = trace().pid(target.pid());
        target.tell("go");
        drop(target.end().success());
        expected::check("late", &recorder.session().complete().tree());
    }
}

#[test]
fn a_library_deleted_after_it_was_loaded() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let (library, program) = late(&scratch);
    let path = library.to_str().expect("a path in UTF-8").to_owned();
    let mut target = fixture::waiting(&program, &[&path, "early"], &scratch.join("report"), scratch.path());
    std::fs::remove_file(&library).expect("the library deleted");
    let recorder = Trace::new(&scratch, ["liblate:late_outer", "liblate:late_inner"]).pid(target.pid());
    target.tell("go");
    drop(target.end().success());
    expected::check("late-early", &recorder.session().complete().tree());
}

#[test]
fn a_stripped_program_by_its_dynamic_symbols() {
    if !need::root() {
        return;
    }
    let program = fixture::stripped(&fixture::build("nested.c", &["-rdynamic"]));
    let functions = exe(&["outer", "middle", "leaf"]);
    let scratch = Scratch::new();
    let session = Trace::new(&scratch, &functions).launch(&program, [""; 0]).session().complete();
    expected::check("nested", &session.tree());
}

#[test]
fn a_stripped_program_by_offsets() {
    if !need::root() {
        return;
    }
    for flags in [&[][..], &["-no-pie"]] {
        let whole = fixture::build("nested.c", flags);
        let names: BTreeMap<_, _> =
            ["outer", "middle", "leaf"].iter().map(|name| (fixture::address(&whole, name), *name)).collect();
        let specs = names.keys().map(|address| format!("exe:+{address:#x}"));
        let scratch = Scratch::new();
        let program = fixture::stripped(&whole);
        let session = Trace::new(&scratch, specs).launch(&program, [""; 0]).session().complete();
        let tree = names.iter().fold(session.tree(), |tree, (address, name)| {
            tree.replace(&format!("nested+{address:#x}"), name).replace(&format!("exe+{address:#x}"), name)
        });
        expected::check("nested", &tree);
    }
}

/// All functions of a program without names go by their addresses; its own are among them, and their calls.
#[test]
fn a_stripped_program_by_its_unwind_table() {
    if !need::root() {
        return;
    }
    let whole = fixture::build("nested.c", &[]);
    let scratch = Scratch::new();
    let program = fixture::stripped(&whole);
    let session = Trace::new(&scratch, ["exe:sub_*"]).launch(&program, [""; 0]).session().complete();
    let name = |symbol: &str| format!("sub_{:x}", fixture::address(&whole, symbol));
    for (symbol, calls) in [("main", 1), ("outer", 2), ("middle", 4), ("leaf", 7)] {
        assert_eq!(session.calls(&name(symbol)), calls, "{symbol}");
    }
    let only = Trace::new(&scratch, [format!("exe:{}", name("middle"))]).launch(&program, [""; 0]).session().complete();
    assert_eq!((only.calls(&name("middle")), only.count(Kind::Call), only.count(Kind::Return)), (4, 4, 4));
}

/// What would end a target that bears return probes (see the fixtures): how many calls there are, and as many returns
/// where probes sit on the exits.
fn counts_on_several_stacks(case: &Case, want: &[u64]) {
    if !need::root() {
        return;
    }
    let program = fixture::build(case.source, case.flags);
    for options in [&["--returns", "ret"][..], &["--entry-only"]] {
        let case = Case { options, ..*case };
        for session in [launched(&case, &program, Attach::Default), attached(&case, &program, Attach::Perf)] {
            let counted: Vec<u64> = case.functions.iter().map(|function| session.calls(function)).collect();
            assert_eq!(counted, want, "calls of {:?} with {options:?}", case.functions);
            let returns = if options.len() == 1 { 0 } else { want.iter().sum() };
            assert_eq!(session.count(Kind::Return), returns, "with {options:?}");
            session.threads.iter().for_each(|thread| tests::tree::check_pairs(&thread.events));
        }
    }
}

#[test]
fn coroutines_that_switch_within_traced_calls() {
    let functions = &["leaf", "step", "yielder", "resumer"];
    let case = Case { source: "coroutine.c", flags: &[], arguments: &["within"], functions, options: &[], tree: "" };
    counts_on_several_stacks(&case, &[17, 7, 3, 4]);
}

#[test]
fn a_signal_handler_on_an_alternate_stack_above() {
    let functions = &["leaf", "interrupted", "handler_work"];
    let case = Case { source: "sigalt.c", flags: &[], arguments: &["above"], functions, options: &[], tree: "" };
    counts_on_several_stacks(&case, &[7, 2, 2]);
}
