//! Real sockets between a server and its clients, with a pump that answers as the recorder's would.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    process::Uid,
    thread::set_thread_res_uid,
};
use tempfile::TempDir;

use super::{protocol::MAX_LINE, *};

/// A session's folder with a server, and a pump that says what it was asked. The order of the fields is that of their ends.
struct Recorder {
    server: Option<ControlServer>,
    pump: Option<JoinHandle<()>>,
    stop: Arc<AtomicBool>,
    dir: TempDir,
}

impl Recorder {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        Self::start_in(dir, "")
    }

    fn start_in(dir: TempDir, below: &str) -> Self {
        let (control, requests) = Control::new(waker(), Arc::default());
        let stop = Arc::<AtomicBool>::default();
        let server = ControlServer::start(&dir.path().join(below), control, Arc::clone(&stop)).unwrap();
        let pump = std::thread::spawn(move || requests.iter().for_each(|request| pump(&request)));
        Self { server: Some(server), pump: Some(pump), stop, dir }
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn stream(&self) -> UnixStream {
        UnixStream::connect(self.path().join(SOCKET_FILE)).unwrap()
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        drop(self.server.take());
        self.pump.take().unwrap().join().unwrap();
        assert!(!self.path().join(SOCKET_FILE).exists(), "the socket goes with the server");
    }
}

fn waker() -> Waker {
    Waker::new(Arc::new(eventfd(0, EventfdFlags::CLOEXEC).unwrap()))
}

fn pump(request: &ControlRequest) {
    let reply = match &request.command {
        Command::Mark { text } => Reply::Marked { at_ns: text.len() as u64 },
        Command::AddTrigger(arming) => Reply::Removed { trigger: arming.trigger.to_string() },
        Command::RemoveTrigger(9) => return,
        other => Reply::error(format!("{other:?}")),
    };
    let _ = request.reply.send(reply);
}

fn read_line(stream: &UnixStream) -> String {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line).unwrap();
    line
}

fn mark(text: &str) -> Request {
    Request::Mark { text: text.to_owned() }
}

#[test]
fn commands_reach_the_pump_and_answers_come_back() {
    let recorder = Recorder::start();
    let mut client = Client::connect(recorder.path()).unwrap();
    assert_eq!(client.ask(&mark("four")).unwrap(), Reply::Marked { at_ns: 4 });
    let trigger = "slow=libc:read>5ms".to_owned();
    let add = Request::AddTrigger { trigger: trigger.clone() };
    assert_eq!(client.ask(&add).unwrap(), Reply::Removed { trigger });
    assert_eq!(client.ask(&Request::Status {}).unwrap(), Reply::error("Status"));
    assert_eq!(client.ask(&Request::RemoveTrigger { id: 9 }).unwrap(), Reply::ended(), "a request that was dropped");
    let long = client.ask(&mark(&"x".repeat(MAX_LINE))).unwrap();
    assert!(matches!(long, Reply::Error { error } if error.contains("too long")));
    assert!(!recorder.stop.load(Ordering::Relaxed));
    assert_eq!(client.ask(&Request::Stop {}).unwrap(), Reply::Stopping);
    assert!(recorder.stop.load(Ordering::Relaxed));
}

#[test]
fn a_bad_line_is_answered_and_the_next_one_served() {
    let recorder = Recorder::start();
    let mut stream = recorder.stream();
    stream.write_all(b"{\"command\":\n{\"command\":\"mark\",\"text\":\"ab\"}\n\xff\n").unwrap();
    // The rest of a client that sends no more is answered, too.
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).unwrap();
    let answers: Vec<Reply> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(
        matches!(&answers[..], [Reply::Error { .. }, Reply::Marked { at_ns: 2 }, Reply::Error { .. }]),
        "{answers:?}"
    );
}

#[test]
fn a_line_without_end_is_refused() {
    let recorder = Recorder::start();
    let mut stream = recorder.stream();
    // The server hangs up while this is being written, at the latest.
    let _ = stream.write_all(&vec![b'x'; 2 * MAX_LINE]);
    assert!(read_line(&stream).contains("at most 64 KiB"));
    let mut client = Client::connect(recorder.path()).unwrap();
    assert_eq!(client.ask(&mark("")).unwrap(), Reply::Marked { at_ns: 0 });
}

#[test]
fn a_client_that_does_not_listen_keeps_nobody_waiting() {
    let recorder = Recorder::start();
    let mut deaf = recorder.stream();
    deaf.set_nonblocking(true).unwrap();
    let request = format!("{{\"command\":\"{}\"}}\n", "x".repeat(8000));
    let mut other = Client::connect(recorder.path()).unwrap();
    let (mut sent, mut blocked) = (0, 0);
    // Until its answers fill the socket, and then its requests, which the server has had many turns to read.
    while sent < 100 << 20 && blocked < 100 {
        match deaf.write(request.as_bytes()) {
            Ok(count) => (sent, blocked) = (sent + count, 0),
            Err(_) => {
                blocked += 1;
                assert_eq!(other.ask(&mark("abc")).unwrap(), Reply::Marked { at_ns: 3 });
            }
        }
    }
    assert!(sent < 100 << 20, "somebody keeps answers without end");
    let mut half = recorder.stream();
    half.write_all(b"{\"command\"").unwrap();
    let mut client = Client::connect(recorder.path()).unwrap();
    assert_eq!(client.ask(&mark("abc")).unwrap(), Reply::Marked { at_ns: 3 });
}

#[test]
fn who_says_nothing_gives_way() {
    let recorder = Recorder::start();
    let mut talker = Client::connect(recorder.path()).unwrap();
    let mut silent: Vec<UnixStream> = Vec::new();
    for _ in 0..3 {
        silent.extend((0..8).map(|_| recorder.stream()));
        std::thread::scope(|scope| {
            let newcomer = scope.spawn(|| Client::connect(recorder.path()).unwrap().ask(&mark("ab")).unwrap());
            while !newcomer.is_finished() {
                assert_eq!(talker.ask(&mark("a")).unwrap(), Reply::Marked { at_ns: 1 });
            }
            assert_eq!(newcomer.join().unwrap(), Reply::Marked { at_ns: 2 });
        });
    }
    // The first were told by an end of file.
    assert_eq!(read_line(&silent[0]), "");
}

#[test]
fn half_a_request_keeps_nobody_out() {
    let recorder = Recorder::start();
    let mut halves: Vec<UnixStream> = (0..8).map(|_| recorder.stream()).collect();
    for half in &mut halves {
        half.write_all(b"{\"command\"").unwrap();
    }
    let mut client = Client::connect(recorder.path()).unwrap();
    assert_eq!(client.ask(&mark("")).unwrap(), Reply::Marked { at_ns: 0 });
}

#[test]
fn long_paths_and_old_sockets_do() {
    let dir = tempfile::tempdir().unwrap();
    let below = format!("{}/{}", "a".repeat(120), "b".repeat(120));
    let folder = dir.path().join(&below);
    fs::create_dir_all(&folder).unwrap();
    // Where a recorder that was killed has left its own.
    let short = tempfile::tempdir().unwrap();
    drop(UnixListener::bind(short.path().join(SOCKET_FILE)).unwrap());
    fs::rename(short.path().join(SOCKET_FILE), folder.join(SOCKET_FILE)).unwrap();
    let error = Client::connect(&folder).unwrap_err();
    assert!(matches!(error, ControlError::NotRecording { .. }), "{error}");

    let recorder = Recorder::start_in(dir, &below);
    let mut client = Client::connect(&folder).unwrap();
    assert_eq!(client.ask(&mark("")).unwrap(), Reply::Marked { at_ns: 0 });
    let mode = fs::metadata(folder.join(SOCKET_FILE)).unwrap().mode();
    assert_eq!(mode & 0o777, 0o600);
    remove_stale(&folder).unwrap();
    assert!(folder.join(SOCKET_FILE).exists(), "somebody listens");
    drop(recorder);
    assert!(matches!(client.ask(&mark("")), Err(ControlError::Answer { .. })));
}

#[test]
fn what_a_killed_recorder_leaves_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    remove_stale(dir.path()).unwrap();
    drop(UnixListener::bind(dir.path().join(SOCKET_FILE)).unwrap());
    remove_stale(dir.path()).unwrap();
    assert!(!dir.path().join(SOCKET_FILE).exists());
    fs::write(dir.path().join(SOCKET_FILE), "mine").unwrap();
    remove_stale(dir.path()).unwrap();
    assert!(dir.path().join(SOCKET_FILE).exists(), "not a socket, so not a recorder's");
    assert!(matches!(Client::connect(&dir.path().join("nowhere")), Err(ControlError::NotRecording { .. })));
}

#[test]
fn nothing_is_answered_once_the_pump_has_ended() {
    let (control, requests) = Control::new(waker(), Arc::default());
    control.tell(Command::Status);
    drop(requests);
    control.tell(Command::Status);
    assert_eq!(control.ask(Command::Status), Reply::ended());
}

/// Somebody else's user id, in one thread. Only root can become somebody else.
fn as_nobody<T: Send>(act: impl FnOnce() -> T + Send) -> Option<T> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let nobody = Uid::from_raw(65534);
    std::thread::scope(|scope| {
        let became = scope.spawn(move || {
            set_thread_res_uid(nobody, nobody, nobody).unwrap();
            act()
        });
        Some(became.join().unwrap())
    })
}

#[test]
fn other_users_are_kept_out() {
    let recorder = Recorder::start();
    fs::set_permissions(recorder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let refused = as_nobody(|| Client::connect(recorder.path()).unwrap_err());
    assert!(refused.is_none_or(|error| matches!(error, ControlError::NotYours { .. })));

    // Even if somebody opens the socket up.
    let socket = recorder.path().join(SOCKET_FILE);
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777)).unwrap();
    let refused = as_nobody(|| Client::connect(recorder.path()).unwrap().ask(&mark("")).unwrap_err());
    assert!(refused.is_none_or(|error| matches!(error, ControlError::Answer { .. })));

    // The folder's owner may, whoever the recorder is.
    if rustix::process::geteuid().is_root() {
        std::os::unix::fs::chown(recorder.path(), Some(65534), None).unwrap();
        let answer = as_nobody(|| Client::connect(recorder.path()).unwrap().ask(&mark("")).unwrap());
        assert_eq!(answer, Some(Reply::Marked { at_ns: 0 }));
    }
}
