//! A podman container: recorded from the host, and from a sidecar that shares its pids.

use std::path::{Path, PathBuf};
use std::process::Command;

use tests::container::{Container, Image};
use tests::expected;
use tests::fixture;
use tests::need;
use tests::process::{Process, Signal};
use tests::recorder::{Recorder, Trace, ada_trace, exe};
use tests::scratch::Scratch;

fn possible() -> bool {
    need::root()
        && need::program("podman")
        && need::program("runc")
        && need::program("busybox")
        && need::works("podman", Command::new("podman").args(["--runtime", "runc", "info"]))
}

fn busybox() -> PathBuf {
    let output = Command::new("sh").args(["-c", "command -v busybox"]).output().expect("sh");
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// An image with the fixture `threads`, which runs in a container and waits.
fn started(scratch: &Scratch) -> (Image, Container, Process) {
    let image = Image::of(&[&busybox(), &fixture::build("threads.c", &["-static"])], scratch);
    let container = Container::named("target", scratch);
    let mut command = image.run(&container, &["-e", "ADA_WAIT=1"]);
    let mut target = Process::start(command.args(["/threads", "5", "3"]), scratch.path());
    target.said("ready");
    (image, container, target)
}

/// Lets the fixture work and checks what was recorded of it. It is the container's first process, and the kernel would
/// end the sidecar with it: the recording ends before.
fn check(mut target: Process, recorder: Recorder, seen_as: u64) {
    target.tell("go");
    target.said("end");
    recorder.process.signal(Signal::INT);
    let session = recorder.session().complete();
    drop(target.end().success());
    expected::check("threads", &session.tree());
    assert_eq!(session.manifest["process"][0]["pid"].as_u64(), Some(seen_as));
    assert_eq!(session.manifest["modules"][0]["path"], "/threads");
}

#[test]
fn recorded_from_the_host() {
    if !possible() {
        return;
    }
    let scratch = Scratch::new();
    let (_image, container, target) = started(&scratch);
    let recorder = Trace::new(&scratch, exe(&["work"])).pid(container.pid());
    check(target, recorder, container.pid().into());
}

/// The host's files are below /host in the sidecar; ada-trace and its libraries are run from there.
#[test]
fn recorded_from_a_sidecar() {
    if !possible() {
        return;
    }
    let scratch = Scratch::new();
    let (image, container, target) = started(&scratch);
    let sidecar = Container::named("sidecar", &scratch);
    let pids = format!("--pid=container:{}", container.name());
    let output = format!("{}:{}", scratch.path().display(), scratch.path().display());
    let mut command = image.run(&sidecar, &[&pids, "--privileged", "-v", "/:/host:ro", "-v", &output]);
    command.args(under_host(&ada_trace()));
    let recorder = Trace::by(command, &scratch, exe(&["work"])).pid(1);
    check(target, recorder, 1);
}

/// A command line that runs the host's `program` where the host's root folder is /host.
fn under_host(program: &Path) -> [String; 4] {
    let host = |path: &Path| format!("/host{}", path.canonicalize().expect("a file").display());
    let loader = Path::new("/lib64/ld-linux-x86-64.so.2").canonicalize().expect("the dynamic loader");
    let libraries = loader.parent().expect("a folder");
    [host(&loader), "--library-path".to_owned(), host(libraries), host(program)]
}
