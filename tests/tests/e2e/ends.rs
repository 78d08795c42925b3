//! How a recording ends: Ctrl-C, SIGTERM, its duration, its target; always finalised, and the target lives on.

use std::path::Path;

use tests::board::Board;
use tests::fixture;
use tests::need;
use tests::process::{Process, Signal, Stray};
use tests::recorder::{Attach, Recorder, Trace, ada, exe};
use tests::scratch::Scratch;
use tests::session::Session;
use tests::wait;

/// What ends a recording while its target runs.
#[derive(Clone, Copy)]
enum End {
    Signal(Signal),
    Duration,
}

const ENDS: [End; 3] = [End::Signal(Signal::INT), End::Signal(Signal::TERM), End::Duration];

fn trace(scratch: &Scratch, end: End) -> Trace<'_> {
    let trace = Trace::new(scratch, exe(&["tick"]));
    match end {
        End::Signal(_) => trace,
        End::Duration => trace.args(["-d", "500ms"]),
    }
}

/// Ends the recording; what it recorded begins with the ticker's first call. Gives the calls known to be complete when
/// the end was asked for.
fn ended(recorder: Recorder, board: &Board, end: End) -> (u64, Session) {
    board.advance(1000);
    let complete = board.complete();
    if let End::Signal(signal) = end {
        recorder.process.signal(signal);
    }
    (complete, recorder.session().complete())
}

fn check(known: u64, session: &Session, end: End) {
    let calls = session.calls("tick");
    let known = if matches!(end, End::Duration) { 1 } else { known };
    assert!(calls >= known, "{calls} calls recorded, but {known} were complete before the end");
    assert_eq!(session.threads.len(), 1);
    assert!(session.manifest["session"]["ended_at"].is_string());
}

#[test]
fn a_recording_of_a_running_process_ends_and_the_process_lives_on() {
    if !need::root() {
        return;
    }
    for end in ENDS {
        let scratch = Scratch::new();
        let board = Board::new(scratch.path());
        let mut target = ticker(&board, scratch.path());
        let recorder = trace(&scratch, end).pid(target.pid());
        target.tell("go");
        let (known, session) = ended(recorder, &board, end);
        check(known, &session, end);
        board.advance(1000);
        board.stop();
        drop(target.end().success());
    }
}

#[test]
fn a_recording_of_a_launched_command_ends_and_the_command_lives_on() {
    if !need::root() {
        return;
    }
    for end in ENDS {
        let scratch = Scratch::new();
        let board = Board::new(scratch.path());
        let recorder = trace(&scratch, end).launch(&fixture::build("ticker.c", &[]), [board.path()]);
        let target = Stray::new(board.pid());
        let (known, session) = ended(recorder, &board, end);
        check(known, &session, end);
        assert!(session.manifest["modules"][0]["bases"][board.pid().to_string()].is_u64(), "{}", session.manifest);
        board.advance(1000);
        board.stop();
        wait::until("the ticker ends", || (!target.running()).then_some(()));
    }
}

fn ticker(board: &Board, folder: &Path) -> Process {
    fixture::waiting(&fixture::build("ticker.c", &[]), &[board.path()], &folder.join("report"), folder)
}

/// One perf-event link per probe takes the kernel 0.1 s to detach: the second Ctrl-C meets a recorder that is busy.
#[test]
fn a_second_ctrl_c_ends_at_once_and_leaves_a_recoverable_session() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let functions: Vec<String> = (0..12).map(|number| format!("exe:f{number:02}")).collect();
    let mut target = fixture::waiting(&fixture::build("many.c", &[]), &[], &scratch.join("report"), scratch.path());
    let mut recorder = Trace::new(&scratch, functions).attach(Attach::Perf).pid(target.pid());
    target.tell("go");
    let index = recorder.folder.join("thread_0/index.atf");
    wait::until("events are on disk", || (std::fs::metadata(&index).ok()?.len() > 64 + 32).then_some(()));
    recorder.process.signal(Signal::INT);
    wait::until("the first Ctrl-C is delivered", || (!interrupt_pending(recorder.process.pid())).then_some(()));
    // A second one counts from a moment after the first: pressed until it does.
    wait::until("another Ctrl-C ends it", || {
        recorder.process.signal(Signal::INT);
        (!recorder.process.running()).then_some(())
    });
    let folder = recorder.folder.clone();
    drop(recorder.end());
    assert!(target.running(), "the target must live on");
    assert_eq!(Session::unfinished(&folder).status(), "recording");
    drop(ada(&scratch, ["recover".as_ref(), folder.as_os_str()]).success());
    let session = Session::read(&folder);
    assert_eq!(session.status(), "recovered");
    assert!(session.calls("f00") > 0);
}

/// Whether a SIGINT waits for the process.
fn interrupt_pending(pid: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let masks = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask & (1 << (2 - 1)) != 0)
}

#[test]
fn the_exit_status_is_the_commands() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let shell = Path::new("sh");
    let code = |script: &str| Trace::new(&scratch, ["libc:malloc"]).launch(shell, ["-c", script]).end();
    drop(code("exit 0").success());
    drop(code("exit 7").code(7));
    drop(code("kill -TERM $$").code(128 + 15));
    drop(code("kill -KILL $$").code(128 + 9));
    drop(code("kill -INT $$").code(128 + 2));
}

/// The command's output is the command's: nothing of the recorder's is mixed into it.
#[test]
fn the_commands_output_passes_through() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let trace = Trace::new(&scratch, ["libc:malloc"]);
    let ended = trace.launch(Path::new("/bin/sh"), ["-c", "echo out; echo err >&2; cat"]).end().success();
    assert_eq!((ended.out.as_str(), ended.err.as_str()), ("out\n", "err\n"));
}

#[test]
fn the_summary_says_what_was_recorded() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let folder = scratch.join("session");
    let program = fixture::build("nested.c", &[]);
    let arguments = ["-e", "exe:leaf", "-e", "exe:outer", "-o"].map(Into::into);
    let command = [folder.clone().into_os_string(), "--".into(), program.into_os_string()];
    let ended = ada(&scratch, arguments.into_iter().chain(command)).success();
    assert_eq!(ended.out, "", "the summary belongs to stderr");
    for fact in ["2 functions", "1 thread", "18 events", "0 lost", folder.to_str().expect("UTF-8")] {
        assert!(ended.err.contains(fact), "no {fact:?} in: {}", ended.err);
    }
    assert!(!ended.err.contains(['\r', '\x1b']), "no terminal, no live status line: {:?}", ended.err);
}

/// `script` gives it a terminal.
#[test]
fn on_a_terminal_a_line_tells_how_it_goes() {
    if !(need::root() && need::program("script")) {
        return;
    }
    let scratch = Scratch::new();
    let board = Board::new(scratch.path());
    let mut target = ticker(&board, scratch.path());
    let recording = format!(
        "{} -e exe:tick -o {} -p {}",
        tests::recorder::ada_trace().display(),
        scratch.join("session").display(),
        target.pid()
    );
    let mut command = std::process::Command::new("script");
    let terminal = Process::start(command.args(["-qfec", &recording, "/dev/null"]), scratch.path());
    wait::until("it records", || scratch.join("session/manifest.json").exists().then_some(()));
    target.tell("go");
    wait::until("the line is drawn twice", || (terminal.out().matches(['\r', '\x1b']).count() > 1).then_some(()));
    board.stop();
    drop(target.end().success());
    let said = terminal.end().success().out;
    for fact in ["events", "/s", "lost", "thread"] {
        assert!(said.contains(fact), "no {fact:?} in: {said:?}");
    }
}

#[test]
fn without_o_the_session_is_named_after_time_and_process() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let mut command = std::process::Command::new(tests::recorder::ada_trace());
    command.args(["-q", "-e", "exe:leaf", "--"]).arg(fixture::build("nested.c", &[])).current_dir(scratch.path());
    drop(tests::process::run(&mut command, scratch.path()).success());
    let only = |folder: &Path| {
        let entries: Vec<_> = std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("it")).collect();
        assert_eq!(entries.len(), 1, "{} must hold one session", folder.display());
        entries[0].path()
    };
    let session = only(&scratch.join("ada_traces"));
    let name = session.file_name().expect("a name").to_string_lossy().into_owned();
    let digits = |text: &str, count| text.len() == count && text.bytes().all(|byte| byte.is_ascii_digit());
    let parts: Vec<_> = name.split('_').collect();
    assert!(parts[0] == "session" && digits(parts[1], 8) && digits(parts[2], 6), "{name}");
    let process = only(&session);
    let session = Session::read(&process).complete();
    let pid = session.manifest["process"][0]["pid"].as_u64().expect("a pid");
    let name = process.file_name().expect("a name").to_string_lossy().into_owned();
    assert_eq!(name.strip_prefix("pid_").and_then(|digits| digits.parse().ok()), Some(pid));
}
