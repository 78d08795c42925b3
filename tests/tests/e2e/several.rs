//! Several of a kind: processes in one recording, recordings of one process, specs for one function.

use tests::recorder::{ATTACHES, Trace, exe, in_file};
use tests::scratch::Scratch;
use tests::session::{Kind, number};
use tests::{dumped, expected, fixture, need, windows};

#[test]
fn several_processes_in_one_session() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let report = scratch.join("report");
        let program = fixture::build("threads.c", &[]);
        let start = |calls| fixture::waiting(&program, &["3", calls], &report, scratch.path());
        let mut targets = [start("5"), start("7"), start("11")];
        let pids = targets.each_ref().map(|target| target.pid().to_string());
        // The second one is not among them.
        let trace = Trace::new(&scratch, exe(&["work"])).attach(attach);
        let recorder = trace.args(["-p", &pids[0], "-p", &pids[2]]).start().recording();
        targets.iter_mut().for_each(|target| target.tell("go"));
        for target in targets {
            drop(target.end().success());
        }
        let session = recorder.session().complete();
        let mut counts: Vec<_> = session.threads.iter().map(|thread| thread.count(Kind::Call)).collect();
        counts.sort_unstable();
        assert_eq!(counts, [5, 5, 5, 11, 11, 11]);
        let recorded: Vec<_> = session.manifest["process"].as_array().expect("processes").iter().collect();
        let recorded: Vec<_> = recorded.iter().map(|process| number(process, "pid").to_string()).collect();
        assert_eq!(recorded, [pids[0].clone(), pids[2].clone()]);
        let bases = &session.manifest["modules"][0]["bases"];
        assert!(
            recorded.iter().all(|pid| number(bases, pid) > 0 && number(bases, pid).is_multiple_of(4096)),
            "{bases}"
        );
    }
}

#[test]
fn several_recordings_of_one_process() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let report = scratch.join("report");
        let program = fixture::build("threads.c", &[]);
        let mut target = fixture::waiting(&program, &["5", "3"], &report, scratch.path());
        let start = || Trace::new(&scratch, exe(&["work"])).attach(attach).pid(target.pid());
        let recorders = [start(), start()];
        target.tell("go");
        drop(target.end().success());
        for recorder in recorders {
            expected::check("threads", &recorder.session().complete().tree());
        }
    }
}

#[test]
fn several_specs_for_one_function_record_it_once() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let program = fixture::build("threads.c", &[]);
        let specs = ["exe:work".to_owned(), in_file(&program, "work"), "exe:work".to_owned()];
        let recorder = Trace::new(&scratch, specs).attach(attach).launch(&program, ["5", "3"]);
        let session = recorder.session().complete();
        expected::check("threads", &session.tree());
        assert_eq!(session.manifest["functions"].as_array().map(Vec::len), Some(1));
    }
}

#[test]
fn one_process_named_twice_is_recorded_once() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let report = scratch.join("report");
        let program = fixture::build("threads.c", &[]);
        let mut target = fixture::waiting(&program, &["5", "3"], &report, scratch.path());
        let pid = target.pid().to_string();
        let trace = Trace::new(&scratch, exe(&["work"])).attach(attach);
        let recorder = trace.args(["-p", &pid]).pid(target.pid());
        target.tell("go");
        drop(target.end().success());
        expected::check("threads", &recorder.session().complete().tree());
    }
}

/// One recording copies arguments, another waits for a trigger: each has what it asked for.
#[test]
fn recordings_of_one_process_with_different_detail() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let program = fixture::build("moments.c", &["-g"]);
        let script = ["quick:20", "fire", "quick:20"];
        let mut target = fixture::waiting(&program, &script, &scratch.join("report"), scratch.path());
        let start = |options: &[&str]| {
            Trace::new(&scratch, exe(&["quick", "fire"])).attach(attach).args(options).pid(target.pid())
        };
        let typed = start(&["--args"]);
        let flying = start(&["--trigger", "symbol=exe:fire", "--pre-roll", "6", "--post-roll", "4"]);
        target.tell("go");
        drop(target.end().success());
        let [typed, flying] = [typed, flying].map(|recorder| recorder.session().complete());
        assert_eq!([typed.calls("quick"), flying.calls("quick")], [40, 40]);
        let once: Vec<String> = (0..20).map(|i| format!("-> quick(i={i})\n<- quick\n")).collect();
        let once = once.concat();
        assert_eq!(dumped::text(&typed.folder), format!("{once}-> fire()\n<- fire\n{once}"));
        assert_eq!(windows::check(&flying.folder, &flying.manifest).values().copied().collect::<Vec<_>>(), [6 + 1 + 4]);
    }
}
