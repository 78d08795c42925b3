//! `-f`: the processes that the targets make are recorded from their first instruction to their last.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;

use tests::fixture::{self, LIBRARY};
use tests::need;
use tests::process::{Process, Signal, Stray};
use tests::recorder::{ATTACHES, Attach, Trace, exe, in_file};
use tests::scratch::Scratch;
use tests::session::{Json, Kind, Session, number};
use tests::wait;

const CALLS: u64 = 3;

/// A process as the fixture knows it: its parent, and its exit code or minus the signal that killed it.
type Known = (u64, i64);

struct Forks {
    scratch: Scratch,
    program: PathBuf,
    worker: PathBuf,
}

impl Forks {
    fn new() -> Self {
        let (program, worker) = (fixture::build("forks.c", &[]), fixture::build("worker.c", &[]));
        Self { scratch: Scratch::new(), program, worker }
    }

    fn trace(&self) -> Trace<'_> {
        let specs = [exe(&["work"]).remove(0), in_file(&self.worker, "work")];
        Trace::new(&self.scratch, specs).env("ADA_REPORT", self.report())
    }

    fn report(&self) -> PathBuf {
        self.scratch.join("report")
    }

    fn arguments(&self, how: &str, children: u64) -> Vec<String> {
        let worker = self.worker.display().to_string();
        vec![how.to_owned(), children.to_string(), CALLS.to_string(), worker]
    }

    /// What the fixture says of its children.
    fn known(&self) -> BTreeMap<u64, Known> {
        let text = fs::read_to_string(self.report()).expect("the report");
        let line = |line: &str| {
            let numbers: Vec<i64> = line.split(' ').map(|word| word.parse().expect("a number")).collect();
            (numbers[0].cast_unsigned(), (numbers[1].cast_unsigned(), numbers[2]))
        };
        text.lines().map(line).collect()
    }
}

/// The manifest's processes but the first, in the fixture's terms.
fn followed(session: &Session) -> BTreeMap<u64, Known> {
    let processes = &session.manifest["process"].as_array().expect("processes")[1..];
    let known = |process: &Json| {
        let status = process["exit_code"].as_i64().or_else(|| process["signal"].as_i64().map(|signal| -signal));
        assert!(number(process, "end_ns") >= number(process, "start_ns"), "{process}");
        (number(process, "pid"), (number(process, "ppid"), status.expect("a status")))
    };
    let all: BTreeMap<u64, Known> = processes.iter().map(known).collect();
    assert_eq!(all.len(), processes.len(), "two entries have the same pid");
    all
}

/// Each of the processes made exactly its calls, in one thread folder of its own; nobody else made any.
fn check_calls(session: &Session, processes: &BTreeMap<u64, Known>) {
    let pids: Vec<u64> = session.threads.iter().map(|thread| number(&thread.entry, "pid")).collect();
    for thread in &session.threads {
        assert!(thread.is_flat(CALLS), "{} events: {}", thread.events.len(), thread.entry);
    }
    let mut sorted = pids;
    sorted.sort_unstable();
    assert_eq!(sorted, processes.keys().copied().collect::<Vec<_>>());
}

fn follows(how: &str, children: u64, processes: u64) -> Session {
    let forks = Forks::new();
    let session =
        forks.trace().arg("-f").launch(&forks.program, forks.arguments(how, children)).session().complete().callers();
    let (known, recorded) = (forks.known(), followed(&session));
    assert_eq!(recorded, known, "{how}");
    assert_eq!(recorded.len() as u64, processes);
    check_calls(&session, &recorded);
    session
}

#[test]
fn a_thousand_short_lived_children_of_fork() {
    if need::root() {
        let _alone = need::the_machine();
        let _ = follows("fork", 1000, 1000);
    }
}

#[test]
fn children_that_execute_another_program_after_vfork() {
    if need::root() {
        let session = follows("vfork", 100, 100);
        let programs = session.manifest["process"].as_array().expect("processes")[1..].iter();
        let named = |process: &Json| process["executable"].as_str().is_some_and(|path| path.ends_with("worker"));
        assert!(programs.clone().all(named), "{}", session.manifest["process"]);
    }
}

#[test]
fn children_of_posix_spawn_and_of_clone_that_share_memory() {
    if need::root() {
        let _ = follows("spawn", 100, 100);
        let _ = follows("clone", 100, 100);
    }
}

#[test]
fn grandchildren_and_children_that_a_signal_kills() {
    if need::root() {
        let _ = follows("tree", 50, 100);
        let _ = follows("kill", 20, 20);
    }
}

#[test]
fn children_of_a_process_that_runs() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let forks = Forks::new();
        let arguments = forks.arguments("fork", 20);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let mut target = fixture::waiting(&forks.program, &arguments, &forks.report(), forks.scratch.path());
        let recorder = forks.trace().arg("-f").attach(attach).pid(target.pid());
        target.tell("go");
        drop(target.end().success());
        let session = recorder.session().complete().callers();
        assert_eq!(followed(&session), forks.known());
        check_calls(&session, &forks.known());
    }
}

#[test]
fn children_that_are_there_already_and_their_children() {
    if !need::root() {
        return;
    }
    let forks = Forks::new();
    let arguments = forks.arguments("early", 0);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let mut target = fixture::waiting(&forks.program, &arguments, &forks.report(), forks.scratch.path());
    let recorder = forks.trace().arg("-f").pid(target.pid());
    target.tell("go");
    drop(target.end().success());
    let session = recorder.session().complete();
    assert_eq!(forks.known().len(), 2);
    assert_eq!(followed(&session), forks.known());
    check_calls(&session, &forks.known());
}

#[test]
fn without_f_children_are_not_recorded() {
    if !need::root() {
        return;
    }
    let forks = Forks::new();
    let session = forks.trace().launch(&forks.program, forks.arguments("fork", 20)).session().complete();
    assert_eq!((session.threads.len(), followed(&session).len()), (0, 0));
}

/// The recording goes on until the last process has ended; the exit status is the command's.
#[test]
fn a_daemon_is_recorded_to_its_end() {
    if !need::root() {
        return;
    }
    let forks = Forks::new();
    let mut recorder = forks.trace().arg("-f").launch(&forks.program, forks.arguments("daemon", 1)).recording();
    let listed = |recorder: &tests::recorder::Recorder| {
        let text = fs::read(recorder.folder.join("manifest.json")).expect("a manifest");
        let manifest: Json = serde_json::from_slice(&text).expect("JSON");
        let ended = |process: &Json| process["end_ns"].is_u64();
        let processes = manifest["process"].as_array().expect("processes").clone();
        (processes.len() == 3 && ended(&processes[0]) && ended(&processes[1])).then(|| number(&processes[2], "pid"))
    };
    let daemon = wait::until("the daemon is alone", || listed(&recorder));
    let stray = Stray::new(u32::try_from(daemon).expect("a pid"));
    assert!(recorder.process.running() && stray.running());
    recorder.process.tell("go");
    let session = recorder.session().complete();
    assert!(!stray.running());
    assert_eq!(session.threads.len(), 2);
    assert!(session.threads.iter().all(|thread| thread.is_flat(CALLS)));
    assert_eq!(session.manifest["process"][2]["exit_code"], 3);
}

const OWN_PIDS: [&str; 5] = ["unshare", "--kill-child", "--pid", "--fork", "--mount-proc"];

/// Ids are the tracer's: of children in its own namespace, of those in one below, and seen from inside one.
#[test]
fn children_in_pid_namespaces() {
    if !(need::root() && need::works("pid namespaces", Command::new(OWN_PIDS[0]).args(&OWN_PIDS[1..]).arg("true"))) {
        return;
    }
    for tracer in [&[][..], &OWN_PIDS[..]] {
        let forks = Forks::new();
        let specs = [in_file(&forks.program, "work")];
        let trace = match tracer {
            [] => Trace::new(&forks.scratch, specs),
            tracer => Trace::under(tracer, &forks.scratch, specs),
        };
        let program = forks.program.display().to_string();
        let command = OWN_PIDS[1..].iter().map(|word| (*word).to_owned()).chain([program]);
        let unshare = PathBuf::from(OWN_PIDS[0]);
        let trace = trace.env("ADA_REPORT", forks.report()).arg("-f");
        let session = trace.launch(&unshare, command.chain(forks.arguments("fork", 20))).session().complete();
        let recorded = followed(&session);
        // unshare itself, its child, which becomes the fixture, and the fixture's own.
        assert_eq!(recorded.len(), 21, "{recorded:?}");
        assert_eq!(session.threads.len(), 20);
        for thread in &session.threads {
            assert!(thread.is_flat(CALLS));
            assert!(recorded.contains_key(&number(&thread.entry, "pid")), "{}", thread.entry);
        }
        let (inside, outside) = (forks.known(), recorded);
        assert_eq!(inside.len(), 20);
        let statuses = |known: &BTreeMap<u64, Known>| {
            let mut all: Vec<i64> = known.values().map(|(_, status)| *status).collect();
            all.sort_unstable();
            all
        };
        let mut expected = statuses(&inside);
        expected.insert(0, 0);
        assert_eq!(statuses(&outside), expected);
    }
}

#[test]
fn a_shell_and_what_it_runs() {
    if !need::root() {
        return;
    }
    let forks = Forks::new();
    let script = format!("{0} 3 0; {0} 3 4 & wait; {0} 3 5", forks.worker.display());
    let trace = Trace::new(&forks.scratch, [in_file(&forks.worker, "work")]).arg("-f");
    let session = trace.launch(&PathBuf::from("/bin/sh"), ["-c", &script]).session_after(5).complete().callers();
    assert_eq!(session.threads.len(), 3);
    assert!(session.threads.iter().all(|thread| thread.is_flat(CALLS)));
}

/// A process that nobody asked for pays for the probes, and is not in the recording.
#[test]
fn strangers_are_not_recorded() {
    if !need::root() {
        return;
    }
    let forks = Forks::new();
    let arguments = forks.arguments("fork", 10);
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let waiting = || fixture::waiting(&forks.program, &arguments, &forks.report(), forks.scratch.path());
    let (mut target, mut stranger): (Process, Process) = (waiting(), waiting());
    let recorder = forks.trace().arg("-f").attach(Attach::Default).pid(target.pid());
    stranger.tell("go");
    drop(stranger.end().success());
    fs::remove_file(forks.report()).expect("the stranger's report");
    target.tell("go");
    drop(target.end().success());
    let session = recorder.session().complete();
    assert_eq!(followed(&session), forks.known());
    check_calls(&session, &forks.known());
}

/// `exe:work` is in none of the shell's files: each program that it runs is looked at before its first instruction.
#[test]
fn specs_mean_the_functions_of_new_programs_too() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let forks = Forks::new();
        let arguments = forks.arguments("spawn", 4).join(" ");
        let (program, worker) = (forks.program.display(), forks.worker.display());
        let script =
            format!("{worker} {CALLS} 0; {program} {arguments}; {worker} {CALLS} 4 & wait; {worker} {CALLS} 5");
        let trace = Trace::new(&forks.scratch, exe(&["work"])).arg("-f").attach(attach);
        let session = trace.launch(&PathBuf::from("/bin/sh"), ["-c", &script]).session_after(5).complete().callers();
        assert_eq!(session.threads.len(), 7);
        assert!(session.threads.iter().all(|thread| thread.is_flat(CALLS)), "{}", session.tree());
        let files = [forks.worker.display().to_string(), forks.program.display().to_string()];
        assert_eq!(modules(&session), files, "only what has the function is a module");
        assert_eq!(number(&session.manifest["probes"][0], "functions"), 2);
    }
}

fn modules(session: &Session) -> Vec<&str> {
    session.manifest["modules"].as_array().expect("modules").iter().filter_map(|it| it["path"].as_str()).collect()
}

/// A program that executes itself under another identity is another file, with functions of its own.
#[test]
fn a_program_replaced_by_another_is_recorded_on() {
    if !need::root() {
        return;
    }
    let forks = Forks::new();
    let copy = fixture::copied(&forks.worker, forks.scratch.path());
    let script = format!("{} 3 0 && exec {} 3 7", forks.worker.display(), copy.display());
    let trace = Trace::new(&forks.scratch, exe(&["work"])).arg("-f");
    let session = trace.launch(&PathBuf::from("/bin/sh"), ["-c", &script]).session_after(7).complete();
    assert_eq!(session.calls("work"), 2 * CALLS);
    assert_eq!(modules(&session).len(), 2);
    let shell = &session.manifest["process"][0];
    assert_eq!(shell["executable"].as_str(), copy.to_str(), "{shell}");
}

/// Whenever the recording ends, nothing stays stopped: the shell gets to its last line.
#[test]
fn a_recording_that_ends_leaves_nothing_stopped() {
    if !need::root() {
        return;
    }
    let forks = Forks::new();
    let done = forks.scratch.join("done");
    let loops = format!("i=0; while [ $i -lt 150 ]; do {} 3 0; i=$((i+1)); done", forks.worker.display());
    let script = format!("{loops}; echo > {}", done.display());
    let trace = Trace::new(&forks.scratch, exe(&["work"])).arg("-f");
    let recorder = trace.launch(&PathBuf::from("/bin/sh"), ["-c", &script]);
    wait::until("some have run", || recorder.folder.join("thread_9").exists().then_some(()));
    recorder.process.signal(Signal::INT);
    let session = recorder.session().complete();
    assert!(session.threads.len() >= 9);
    wait::until("the shell has run them all", || done.exists().then_some(()));
}

#[test]
fn nothing_of_it_yet_is_no_mistake_with_f_but_said() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let words = ["-f", "-e", "exe:no_such_function", "-o"].map(std::ffi::OsString::from);
    let command = [scratch.join("session").into_os_string(), "--".into(), "true".into()];
    let ended = tests::recorder::ada(&scratch, words.into_iter().chain(command)).success();
    assert!(ended.err.contains("no_such_function") && ended.err.contains("waiting until"), "{}", ended.err);
}

/// late.c loads the library twice; its constructor makes two calls each time, before dlopen returns.
fn check_late(session: &Session) {
    assert_eq!((session.calls("eager"), session.calls("late_outer")), (2 + 2 + 2 + 3, 4), "{}", session.tree());
    assert_eq!(session.count(Kind::Return), session.count(Kind::Call));
    assert_eq!(modules(session).len(), 1);
}

const LATE: [&str; 2] = ["libeager:eager", "libeager:late_outer"];

#[test]
fn a_library_is_probed_when_a_running_process_loads_it_and_before_its_constructors() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let library = fixture::build("libeager.c", LIBRARY).display().to_string();
        let report = scratch.join("report");
        let mut target = fixture::waiting(&fixture::build("late.c", &[]), &[&library], &report, scratch.path());
        let recorder = Trace::new(&scratch, LATE).arg("--wait").attach(attach).pid(target.pid());
        target.tell("go");
        drop(target.end().success());
        check_late(&recorder.session().complete());
    }
}

#[test]
fn a_library_is_probed_when_a_command_or_its_child_loads_it() {
    if !need::root() {
        return;
    }
    let (program, library) = (fixture::build("late.c", &[]), fixture::build("libeager.c", LIBRARY));
    let scratch = Scratch::new();
    let session = Trace::new(&scratch, LATE).arg("--wait").launch(&program, [&library]).session().complete();
    check_late(&session);
    let script = format!("{} {}; true", program.display(), library.display());
    let trace = Trace::new(&scratch, LATE).arg("-f");
    check_late(&trace.launch(&PathBuf::from("/bin/sh"), ["-c", &script]).session().complete());
}

/// The loader's cache knows where it is: no need to wait for it, nor to stop anything.
#[test]
fn a_library_of_the_system_that_a_running_process_has_not_loaded_is_probed_ahead() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let report = scratch.join("report");
    let mut target = fixture::waiting(&fixture::build("nested.c", &[]), &[], &report, scratch.path());
    let recorder = Trace::new(&scratch, ["libm:acos"]).pid(target.pid());
    target.tell("go");
    drop(target.end().success());
    let session = recorder.session().complete();
    assert_eq!(modules(&session).len(), 1);
    assert_eq!(number(&session.manifest["probes"][0], "functions"), 1);
}
