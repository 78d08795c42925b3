//! Programs that nobody made for these tests, under load: as many calls as they count themselves.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::need;
use tests::process::{Process, run};
use tests::recorder::{Trace, exe};
use tests::scratch::Scratch;
use tests::session::Kind;
use tests::wait;

/// Threads that keep the interpreter busy from before the recording begins, and then threads whose calls count.
const PYTHON: &str = r#"
import json, os, sys, threading
stop = threading.Event()
def load():
    while not stop.is_set():
        json.loads(json.dumps(list(range(200))))
def count(calls):
    for _ in range(calls):
        os.getppid()
busy = [threading.Thread(target=load) for _ in range(2)]
for thread in busy: thread.start()
print("ready", flush=True)
sys.stdin.readline()
counting = [threading.Thread(target=count, args=(int(sys.argv[1]),)) for _ in range(int(sys.argv[2]))]
for thread in counting: thread.start()
for thread in counting: thread.join()
stop.set()
"#;

/// The interpreter itself: `python3` may be a script that finds it.
pub(crate) fn python() -> PathBuf {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().expect("python3");
    Path::new(String::from_utf8_lossy(&output.stdout).trim()).canonicalize().expect("the interpreter")
}

#[test]
fn python_under_load() {
    if !(need::root() && need::program("python3")) {
        return;
    }
    const CALLS: u64 = 20_000;
    const THREADS: u64 = 4;
    let scratch = Scratch::new();
    let mut command = Command::new(python());
    command.args(["-c", PYTHON, &CALLS.to_string(), &THREADS.to_string()]);
    let mut target = Process::start(&mut command, scratch.path());
    target.said("ready");
    let recorder = Trace::new(&scratch, ["libc:getppid"]).pid(target.pid());
    target.tell("go");
    drop(target.end().success());
    let session = recorder.session().complete();
    assert_eq!(session.threads.len() as u64, THREADS);
    for thread in &session.threads {
        assert!(thread.is_flat(CALLS), "thread {} has {} events", thread.id, thread.events.len());
    }
}

/// The busiest function there is: nothing may be lost or out of order, and the interpreter must do its work.
#[test]
fn python_with_every_allocation_recorded() {
    if !(need::root() && need::program("python3")) {
        return;
    }
    let _alone = need::the_machine();
    let scratch = Scratch::in_memory();
    let trace = Trace::new(&scratch, ["libc:malloc", "libc:calloc", "libc:realloc", "libc:free"]);
    let script = "x = [bytearray(600 + i % 3) for i in range(50000)]; del x; print(sum(range(100)))";
    let recorder = trace.launch(&python(), ["-c", script]);
    let folder = recorder.folder.clone();
    assert_eq!(recorder.end().success().out, "4950\n");
    let session = tests::session::Session::read(&folder).complete();
    assert!(session.calls("malloc") + session.calls("calloc") >= 50_000, "{:?}", session.per_function(Kind::Call));
    assert!(session.calls("free") >= 50_000);
}

/// A redis-server on a socket of its own, stopped when dropped.
struct Redis {
    server: Process,
    socket: PathBuf,
}

impl Redis {
    fn start(scratch: &Scratch) -> Self {
        let socket = scratch.join("redis.sock");
        let mut command = Command::new("redis-server");
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket"]).arg(&socket);
        let server = Process::start(command.current_dir(scratch.path()), scratch.path());
        wait::until("redis-server listens", || socket.exists().then_some(()));
        Self { server, socket }
    }

    fn client(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.arg("-s").arg(&self.socket).args(arguments);
        command
    }

    /// How many times it says it ran `command`.
    fn calls(&self, command: &str, scratch: &Scratch) -> u64 {
        let info = run(&mut self.client("redis-cli", &["info", "commandstats"]), scratch.path()).success().out;
        let line = info.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
        let count = line.and_then(|line| line.split(',').next()).unwrap_or("0");
        count.parse().expect("a count")
    }
}

#[test]
fn redis_server_under_load() {
    if !(need::root() && need::program("redis-server") && need::program("redis-benchmark")) {
        return;
    }
    let scratch = Scratch::new();
    let redis = Redis::start(&scratch);
    let _load = Process::start(&mut redis.client("redis-benchmark", &["-l", "-q", "-t", "ping"]), scratch.path());
    wait::until("redis-server is busy", || (redis.calls("ping", &scratch) > 1000).then_some(()));
    let recorder = Trace::new(&scratch, exe(&["getCommand", "setCommand"])).pid(redis.server.pid());
    let bench = ["-q", "-t", "set,get", "-n", "30000", "-r", "1000"];
    drop(run(&mut redis.client("redis-benchmark", &bench), scratch.path()).success());
    let counted = [redis.calls("get", &scratch), redis.calls("set", &scratch)];
    drop(run(&mut redis.client("redis-cli", &["shutdown", "nosave"]), scratch.path()));
    let session = recorder.session().complete();
    assert_eq!([session.calls("getCommand"), session.calls("setCommand")], counted);
    assert_eq!(counted, [30_000, 30_000]);
    assert_eq!(session.count(Kind::Return), 60_000);
    drop(redis.server.end().success());
}
