//! Under sudo, the command runs as the user who called it, and the session is that user's.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::Path;

use tests::fixture;
use tests::need;
use tests::recorder::{Trace, exe};
use tests::scratch::Scratch;
use tests::session::Session;

const NOBODY: u32 = 65534;

/// Every file and folder of the session is the user's.
fn check_owner(path: &Path) {
    let meta = fs::symlink_metadata(path).expect("a file");
    assert_eq!((meta.uid(), meta.gid()), (NOBODY, NOBODY), "{}", path.display());
    if meta.is_dir() {
        for entry in fs::read_dir(path).expect("a folder") {
            check_owner(&entry.expect("an entry").path());
        }
    }
}

fn as_sudo(trace: Trace<'_>) -> Trace<'_> {
    let id = NOBODY.to_string();
    trace.env("SUDO_UID", &id).env("SUDO_GID", &id).env("SUDO_USER", "nobody")
}

#[test]
fn a_launched_command_runs_as_the_user_who_called_sudo() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    chown(scratch.path(), Some(NOBODY), Some(NOBODY)).expect("the user's folder");
    let program = fixture::copied(&fixture::build("identity.c", &[]), scratch.path());
    let trace = as_sudo(Trace::new(&scratch, exe(&["leaf"])).inside(scratch.path()));
    let recorder = trace.launch(&program, [""; 0]);
    let folder = recorder.folder.clone();
    let ended = recorder.end().success();
    let mut lines = ended.out.lines();
    let groups = lines.next().expect("ids");
    let (ids, groups) = groups.split_once(" :").expect("groups");
    assert_eq!(ids, format!("{NOBODY} {NOBODY}"));
    assert!(groups.split_whitespace().all(|group| group != "0"), "root's groups are not the user's: {groups}");
    assert_eq!(lines.next(), scratch.path().to_str(), "the working folder stays");
    assert_eq!(Session::read(&folder).complete().calls("leaf"), 1);
    check_owner(&folder);
}

#[test]
fn a_session_of_a_running_process_belongs_to_the_user_who_called_sudo() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    chown(scratch.path(), Some(NOBODY), Some(NOBODY)).expect("the user's folder");
    let report = scratch.join("report");
    let mut target = fixture::waiting(&fixture::build("threads.c", &[]), &["3", "5"], &report, scratch.path());
    let recorder = as_sudo(Trace::new(&scratch, exe(&["work"]))).pid(target.pid());
    let folder = recorder.folder.clone();
    target.tell("go");
    drop(target.end().success());
    assert_eq!(recorder.session().complete().calls("work"), 15);
    check_owner(&folder);
}
