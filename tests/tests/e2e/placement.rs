//! Probes that were moved see what probes at the entry see: the same calls, in the same order, at the same depths, with the
//! same arguments, stack pointers and return addresses.
//!
//! Each workload runs at fixed addresses and with the same environment, and nothing in it depends on the time or on
//! chance. Registers that are no arguments may hold what does (the kernel gives each program random bytes): those
//! that differ between two runs with the probes at the entries are not compared.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use ada_format::layout::FunctionPayload;
use ada_format::read::{Payload, SessionReader, ThreadReader};
use tests::fixture;
use tests::need;
use tests::recorder::{Trace, ada_trace, in_file};
use tests::scratch::Scratch;
use tests::session::{Session, number};

/// File and file offset of a function's first instruction.
type Function = (u64, u64);

/// What a call was seen with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Call {
    function: Function,
    depth: u32,
    /// rdi, rsi, rdx, rcx, r8, r9, the return address, rbp and rsp; `None` where they are not recorded or not compared.
    registers: [Option<u64>; Self::REGISTERS],
}

/// What one run showed.
struct Seen {
    /// Functions on whose first instruction the kernel takes no probe.
    refused: Vec<String>,
    /// By function, where its probe was.
    sites: BTreeMap<Function, u64>,
    /// By thread, in order.
    threads: Vec<Vec<Call>>,
}

/// A program with everything that it does.
struct Workload {
    program: PathBuf,
    arguments: Vec<String>,
}

/// As many moved functions are compared in all: in each way, of the C and C++ libraries alone.
const MOVED: usize = 2000;

#[test]
fn moved_probes_see_the_same_calls() {
    compare_all(&[]);
}

#[test]
fn moved_probes_see_the_same_arguments() {
    compare_all(&["--detail"]);
}

/// Compares every library under every workload that uses it.
fn compare_all(flags: &[&str]) {
    if !need::root() || !need::works("--placement", &mut knows_placement()) || !need::program("setarch") {
        return;
    }
    let _machine = need::the_machine();
    let cpp = Workload { program: fixture::build("standard.cc", &[]), arguments: vec![] };
    let c_library = library_of(&cpp.program, "libc.so");
    let mut moved = BTreeMap::new();
    let mut run = |library: &Path, workload: &Workload| {
        let (compared, called) = compare(library, workload, flags);
        let of: &mut (BTreeSet<Function>, BTreeSet<Function>) = moved.entry(library.to_owned()).or_default();
        of.0.extend(compared);
        of.1.extend(called);
    };
    run(&library_of(&cpp.program, "libstdc++.so"), &cpp);
    run(&c_library, &cpp);
    if let Some((library, python)) = python() {
        run(&library, &python);
        run(&c_library, &python);
    }
    let mut total = 0;
    for (library, (compared, called)) in &moved {
        println!("{}: {} moved, {} of them called", library.display(), compared.len(), called.len());
        total += compared.len();
    }
    assert!(total >= MOVED, "only {total} functions were moved");
}

/// The functions of `library` that were moved, and those of them that the workload called.
fn compare(library: &Path, workload: &Workload, flags: &[&str]) -> (BTreeSet<Function>, BTreeSet<Function>) {
    let entry = record(library, workload, "entry", flags);
    // Those can only be probed where they are moved: there is nothing to compare them with.
    let excludes = entry.refused.iter().flat_map(|name| ["--exclude", name.as_str()]);
    let flags_and_excludes: Vec<&str> = flags.iter().copied().chain(excludes).collect();
    let cheapest = record(library, workload, "cheapest", &flags_and_excludes);
    assert!(entry.sites.keys().eq(cheapest.sites.keys()), "not the same functions");
    assert!(entry.sites.iter().all(|((_, offset), site)| offset == site), "not at the entries");
    let (expected, counts) = (entry.counts(), cheapest.counts());
    for (function, site) in &cheapest.sites {
        let (expected, count) = (expected.get(function), counts.get(function));
        assert_eq!(expected, count, "{}: calls of {function:x?}, probed at {site:#x}", library.display());
    }
    let again = if flags.is_empty() { &entry } else { &record(library, workload, "entry", flags) };
    let left_out = entry.all().zip(again.all()).map(|(call, again)| call.without_chance(again).1).sum::<usize>();
    for (index, ((expected, again), call)) in entry.all().zip(again.all()).zip(cheapest.all()).enumerate() {
        let (expected, _) = expected.without_chance(again);
        let masked = Call { registers: masked(&call.registers, &expected.registers), ..*call };
        assert_eq!(expected, masked, "{}: call {index}", library.display());
    }
    let registers = entry.all().count() * Call::REGISTERS;
    assert!(left_out * 100 <= registers, "{left_out} of {registers} registers differ by chance");
    let moved: BTreeSet<Function> =
        cheapest.sites.iter().filter(|((_, at), site)| at != *site).map(|(f, _)| *f).collect();
    let called = counts.into_keys().filter(|function| moved.contains(function)).collect();
    (moved, called)
}

fn record(library: &Path, workload: &Workload, placement: &str, flags: &[&str]) -> Seen {
    let scratch = Scratch::in_memory();
    // Fixed addresses are inherited by what ada-trace starts.
    let trace = Trace::under(&["setarch", "-R"], &scratch, [in_file(library, "*")]);
    let trace = trace.args(["--entry-only", "--buffer-size", "64M", "--placement", placement]).args(flags);
    let recorder =
        trace.env("PYTHONHASHSEED", "0").inside(Path::new("/")).launch(&workload.program, &workload.arguments);
    Seen::read(&recorder.session().complete())
}

impl Call {
    const REGISTERS: usize = 9;

    /// Without the registers that another run had otherwise, and how many those are.
    fn without_chance(&self, again: &Self) -> (Self, usize) {
        let pairs = self.registers.iter().zip(&again.registers);
        let mut kept = self.registers;
        kept.iter_mut().zip(pairs).for_each(|(kept, (one, other))| *kept = one.filter(|_| one == other));
        let count = |registers: &[Option<u64>]| registers.iter().flatten().count();
        (Self { registers: kept, ..*self }, count(&self.registers) - count(&kept))
    }
}

/// The registers that are compared.
fn masked(registers: &[Option<u64>], kept: &[Option<u64>]) -> [Option<u64>; Call::REGISTERS] {
    std::array::from_fn(|index| registers[index].filter(|_| kept[index].is_some()))
}

impl Seen {
    /// The calls of all threads.
    fn all(&self) -> impl Iterator<Item = &Call> {
        self.threads.iter().flatten()
    }

    fn read(session: &Session) -> Self {
        let reader = SessionReader::open(&session.folder).expect("a session");
        let functions = session.manifest["functions"].as_array().expect("functions");
        let entries = functions.iter().map(|function| (number(function, "function_id"), number(function, "offset")));
        let entries: BTreeMap<u64, u64> = entries.collect();
        let function_of = |id: u64| (id >> 32, entries[&id]);
        let site = |function| (function_of(number(function, "function_id")), number(function, "probe_offset"));
        let sites = functions.iter().map(site).collect();
        let calls = |thread: &ThreadReader| calls(thread, &function_of);
        let skipped = session.manifest["probes"].as_array().expect("probes").iter();
        let skipped = skipped.flat_map(|probe| probe["skipped"].as_array().cloned().unwrap_or_default());
        let refused = skipped.filter(|entry| entry["why"].as_str().is_some_and(|why| why.contains("accepts no probe")));
        let refused = refused.filter_map(|entry| entry["symbol"].as_str().map(str::to_owned)).collect();
        Self { sites, refused, threads: reader.threads().iter().map(calls).collect() }
    }

    fn counts(&self) -> BTreeMap<Function, u64> {
        let mut counts = BTreeMap::new();
        self.all().for_each(|call| *counts.entry(call.function).or_insert(0) += 1);
        counts
    }
}

fn calls(thread: &ThreadReader, function_of: &impl Fn(u64) -> Function) -> Vec<Call> {
    let registers = |sequence| match thread.detail_of(sequence).expect("detail").and_then(|detail| detail.payload()) {
        Some(Payload::Function(event)) => registers_of(event.fixed),
        _ => [None; Call::REGISTERS],
    };
    let events = (0_u64..).zip(thread.index().events());
    let call = |(sequence, event): (u64, &ada_format::layout::IndexEvent)| Call {
        function: function_of(event.function_id.get()),
        depth: event.call_depth.get(),
        registers: registers(sequence),
    };
    events.map(call).collect()
}

fn registers_of(fixed: &FunctionPayload) -> [Option<u64>; Call::REGISTERS] {
    let [rdi, rsi, rdx, rcx, r8, r9, ..] = fixed.regs.map(u64::from);
    let [back, frame, stack] = [fixed.return_address, fixed.frame_pointer, fixed.stack_pointer].map(u64::from);
    [rdi, rsi, rdx, rcx, r8, r9, back, frame, stack].map(Some)
}

fn knows_placement() -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "\"$1\" record --help | grep -q -e --placement", "sh"]).arg(ada_trace());
    command
}

/// A Python program in a distribution's libpython, if there is one.
fn python() -> Option<(PathBuf, Workload)> {
    let list = "ls /usr/lib*/libpython3.*.so.1.0 /usr/lib/*/libpython3.*.so.1.0";
    let output = Command::new("sh").args(["-c", list]).output().expect("sh");
    let library = String::from_utf8_lossy(&output.stdout).lines().next().map(PathBuf::from)?;
    let program = fixture::build("embed.c", &["-Wl,--no-as-needed", library.to_str()?]);
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/standard.py");
    let arguments = ["-s", "-S", "-B"].map(str::to_owned).into_iter().chain([script.to_str()?.to_owned()]);
    Some((library, Workload { program, arguments: arguments.collect() }))
}

/// The path of a library that a program is linked to.
fn library_of(program: &Path, name: &str) -> PathBuf {
    let output = Command::new("ldd").arg(program).output().expect("ldd");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains(name)).expect("the library");
    let path = line.split_whitespace().nth(2).expect("its path");
    std::fs::canonicalize(path).expect("its file")
}
