//! Inside a call: registers, stack, signals. What ada-trace keeps is compared with what a debugger finds in the core file.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ada_format::layout::{EventKind, IndexEvent};
use ada_format::read::{FunctionEvent, Payload, SessionReader, SignalEvent, ThreadReader};
use tests::dumped;
use tests::fixture;
use tests::need;
use tests::process::run;
use tests::recorder::{ATTACHES, Trace, exe};
use tests::scratch::Scratch;
use tests::session::{Session, number};

/// Places in the set of general-purpose registers.
#[cfg(target_arch = "x86_64")]
const RIP: usize = 16;
#[cfg(target_arch = "x86_64")]
const RSP: usize = 7;

fn only_thread(session: &Path) -> SessionReader {
    let reader = SessionReader::open(session).expect("a session");
    assert_eq!(reader.threads().len(), 1);
    reader
}

fn payload(thread: &ThreadReader, position: usize) -> Option<Payload<'_>> {
    thread.detail_of(position as u64).expect("sound links").and_then(|detail| detail.payload())
}

fn function(thread: &ThreadReader, position: usize) -> FunctionEvent<'_> {
    match payload(thread, position) {
        Some(Payload::Function(function)) => function,
        other => panic!("event {position} has {other:?}"),
    }
}

fn signal(thread: &ThreadReader, position: usize) -> SignalEvent<'_> {
    match payload(thread, position) {
        Some(Payload::Signal(signal)) => signal,
        other => panic!("event {position} has {other:?}"),
    }
}

fn kinds(events: &[IndexEvent]) -> Vec<EventKind> {
    events.iter().map(|event| event.kind().expect("a kind")).collect()
}

/// What gdb prints for `expressions`, one a line.
fn gdb(program: &Path, core: &Path, expressions: &[String], scratch: &Scratch) -> Vec<String> {
    let mut command = Command::new("gdb");
    command.args(["-q", "-nx", "-batch"]);
    for expression in expressions {
        command.args(["-ex", expression]);
    }
    let out = run(command.arg(program).arg(core), scratch.path()).success().out;
    // gdb begins with what it thinks of the core file.
    out.lines().filter(|line| line.starts_with("ada ")).map(|line| line[4..].to_owned()).collect()
}

fn core_file(scratch: &Scratch) -> Option<PathBuf> {
    let files = fs::read_dir(scratch.path()).expect("a folder").flatten().map(|entry| entry.path());
    files
        .filter(|path| path.is_file())
        .find(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("core")))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A program that dereferences null: its last events, its registers, and the stack as it is in the core file. With the returns
/// seen at the exits, for a return probe has another return address on the stack from the call on.
#[test]
#[cfg(target_arch = "x86_64")]
fn the_moments_before_a_crash() {
    if !need::root() || !need::program("gdb") || !need::core_files() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        // A file of its own: other tests probe theirs in every process, and leave their return addresses on the stack.
        let program = fixture::copied(&fixture::build("crash.c", &["-O1"]), scratch.path());
        let unlimited = ["sh", "-c", "ulimit -c unlimited; exec \"$@\"", "sh"];
        let trace = Trace::under(&unlimited, &scratch, exe(&["leaf", "middle"])).attach(attach);
        let trace = trace.args(["--detail", "--returns", "ret"]).inside(scratch.path());
        let recorder = trace.launch(&program, [""; 0]);
        let folder = recorder.folder.clone();
        drop(recorder.end().code(128 + 11));
        drop(Session::read(&folder).complete());

        let reader = only_thread(&folder);
        let thread = &reader.threads()[0];
        let events = thread.index().events();
        use EventKind::{Call, Exception, Return};
        assert_eq!(kinds(events), [Call, Call, Return, Return, Call, Call, Exception]);
        let (call, signal) = (function(thread, 5), signal(thread, 6));
        let names = |position: usize| {
            reader.manifest().functions.iter().find(|f| f.function_id == events[position].function_id.get())
        };
        assert_eq!(names(5).map(|function| function.name.as_str()), Some("leaf"));
        assert_eq!(events[6].function_id, events[5].function_id, "the signal came within leaf");
        assert_eq!((events[5].call_depth.get(), events[6].call_depth.get()), (1, 2));
        assert_eq!(call.fixed.regs[0].get(), 0, "its argument");
        assert_eq!(function(thread, 2).fixed.regs[0].get(), 42, "what leaf returned before");
        assert_eq!(call.stack.len(), 128);
        assert_eq!((signal.fixed.number.get(), signal.fixed.fault_address.get()), (11, 0));
        assert_eq!(signal.fixed.code.get(), 1, "SEGV_MAPERR");

        let core = core_file(&scratch).expect("a core file");
        let sp = call.fixed.stack_pointer.get();
        let bytes: Vec<String> =
            (0..128).map(|at| format!("printf \"ada %02x\\n\", *(unsigned char *){}", sp + at)).collect();
        assert_eq!(hex(call.stack), gdb(&program, &core, &bytes, &scratch).concat(), "{attach:?}");
        let in_leaf = "(unsigned long)$rip >= (unsigned long)leaf && (unsigned long)$rip < (unsigned long)middle";
        let expressions = ["$rip", "$rsp", in_leaf].map(|what| format!("printf \"ada %lu\\n\", {what}"));
        let [rip, rsp] = [RIP, RSP].map(|place| signal.registers[place].get().to_string());
        assert_eq!(gdb(&program, &core, &expressions, &scratch), [rip, rsp, "1".to_owned()]);
        assert_eq!(number(&Session::read(&folder).manifest["process"][0], "signal"), 11);
    }
}

/// Programs that crash as soon as they can: where they had their code is known even so, launched or followed.
#[test]
#[cfg(target_arch = "x86_64")]
fn where_it_crashed() {
    if !need::root() {
        return;
    }
    let program = fixture::build("crash.c", &["-O1"]);
    let shell = format!("for i in 1 2 3 4 5 6 7 8 9 10; do {} & done; wait", program.display());
    for round in 0..5 {
        let scratch = Scratch::new();
        let trace = Trace::new(&scratch, exe(&["leaf", "middle"])).args(["--returns", "ret"]);
        let recorder = trace.launch(&program, [""; 0]);
        let folder = recorder.folder.clone();
        drop(recorder.end().code(128 + 11));
        let places: Vec<String> = dumped::text(&folder).lines().filter_map(place).collect();
        assert!(matches!(&places[..], [place] if place.starts_with("leaf+0x")), "round {round}: {places:?}");
    }
    let scratch = Scratch::new();
    let leaf = format!("{}:leaf", program.display());
    let trace = Trace::new(&scratch, [leaf]).args(["-f", "--returns", "ret"]);
    let session = trace.launch("/bin/sh".as_ref(), ["-c", &shell]).session();
    let places: Vec<String> = dumped::text(&session.folder).lines().filter_map(place).collect();
    assert_eq!(places.iter().filter(|place| place.starts_with("leaf+0x")).count(), 10, "{places:?}");
}

/// `leaf+0x4` of `!! SIGSEGV SEGV_MAPERR at 0x0, rip ADDRESS (leaf+0x4)`.
fn place(line: &str) -> Option<String> {
    let rest = line.trim_start().strip_prefix("!! SIGSEGV")?;
    Some(rest.split_once(" (").map_or("", |(_, place)| place).trim_end_matches(')').to_owned())
}

/// A signal that a program sends itself, and handles: within the call that raised it, which then returns.
#[test]
fn a_handled_signal() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let program = fixture::build("crash.c", &["-O1"]);
        let trace = Trace::new(&scratch, exe(&["raiser"])).attach(attach);
        let session = trace.launch(&program, ["lives"]).session().complete();
        let reader = only_thread(&session.folder);
        let thread = &reader.threads()[0];
        use EventKind::{Call, Exception, Return};
        assert_eq!(kinds(thread.index().events()), [Call, Exception, Return]);
        // The registers of a signal are recorded also where nobody asked for detail; those of the calls are not.
        let signal = signal(thread, 1);
        assert_eq!(signal.fixed.number.get(), 10, "SIGUSR1");
        assert_eq!(signal.fixed.code.get(), -6, "SI_TKILL");
        assert_eq!(signal.fixed.fault_address.get(), 0);
        assert!(payload(thread, 0).is_none() && payload(thread, 2).is_none());
        assert_eq!(thread.index().events()[1].call_depth.get(), 1);
    }
}

/// `--detail=SPEC` records the registers of some functions, `--stack` more or less of the stack.
#[test]
fn detail_of_some_functions() {
    if !need::root() {
        return;
    }
    for (stack, bytes) in [("0", 0), ("100", 104), ("512", 512)] {
        let scratch = Scratch::new();
        let program = fixture::build("crash.c", &["-O1"]);
        let trace =
            Trace::new(&scratch, exe(&["leaf", "middle", "raiser"])).args(["--detail=exe:le*", "--stack", stack]);
        let session = trace.launch(&program, ["lives"]).session().complete();
        let reader = only_thread(&session.folder);
        let thread = &reader.threads()[0];
        use EventKind::{Call, Exception, Return};
        assert_eq!(kinds(thread.index().events()), [Call, Call, Return, Return, Call, Exception, Return]);
        let with: Vec<usize> = (0..7).filter(|position| payload(thread, *position).is_some()).collect();
        assert_eq!(with, [1, 2, 5]);
        let call = function(thread, 1);
        assert_eq!(call.stack.len(), bytes);
        assert_eq!(function(thread, 2).fixed.regs[0].get(), 42);
        assert!(function(thread, 2).stack.is_empty());
        let on_top = call.stack.first_chunk().map(|bytes| u64::from_le_bytes(*bytes));
        assert!(
            on_top
                .is_none_or(|address| cfg!(not(target_arch = "x86_64")) || address == call.fixed.return_address.get())
        );
    }
}

/// A stack above which there is no memory: what there is of it.
#[test]
fn a_stack_that_ends_early() {
    if !need::root() {
        return;
    }
    for attach in ATTACHES {
        let scratch = Scratch::new();
        let program = fixture::build("strings.c", &[]);
        let trace = Trace::new(&scratch, exe(&["take"])).attach(attach).args(["--detail", "--stack", "512"]);
        let session = trace.launch(&program, [""; 0]).session().complete();
        let reader = only_thread(&session.folder);
        let thread = &reader.threads()[0];
        let events = thread.index().len();
        let calls: Vec<_> = (0..events).step_by(2).map(|position| function(thread, position as usize)).collect();
        let (last, usual) = calls.split_last().expect("calls");
        assert!(usual.iter().all(|call| call.stack.len() == 512));
        assert!((8..512).contains(&last.stack.len()), "{}", last.stack.len());
        assert!((last.fixed.stack_pointer.get() + last.stack.len() as u64).is_multiple_of(4096));
    }
}
