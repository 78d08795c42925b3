//! A full disk: said in one sentence, and what was recorded before it is there to read.

use tests::board::Board;
use tests::fixture;
use tests::mount::Tmpfs;
use tests::need;
use tests::recorder::{ada, ada_trace};
use tests::scratch::Scratch;
use tests::session::{Kind, Session};

#[test]
fn a_full_disk_keeps_what_was_recorded_before() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let board = Board::new(scratch.path());
    let disk = Tmpfs::new(scratch.join("disk"), 1024);
    let folder = disk.path().join("session");
    let mut command = std::process::Command::new(ada_trace());
    command.args(["-q", "-e", "exe:tick", "-o"]).arg(&folder).arg("--");
    command.arg(fixture::build("ticker.c", &[])).arg(board.path());
    let recorder = tests::process::Process::start(&mut command, scratch.path());
    let target = tests::process::Stray::new(board.pid());
    let mut ended = recorder.end();
    // What was lost is told before, as always.
    ended.err = ended.err.lines().filter(|line| !line.starts_with("LOST: ")).collect();
    let said = crate::refusals::check_sentence(ended, &["full"]);
    assert!(said.contains(folder.to_str().expect("UTF-8")), "the sentence names the folder: {said}");
    assert!(target.running(), "the target must live on");
    board.advance(1000);
    board.stop();
    check_readable(&folder, &scratch);
}

/// The calls from the first to where the disk was full, without a hole, after recovering if need be.
fn check_readable(folder: &std::path::Path, scratch: &Scratch) {
    let info = ada(scratch, ["info".as_ref(), folder.as_os_str()]).success();
    assert!(info.out.contains("event"), "{}", info.out);
    let session = Session::unfinished(folder);
    let events = session.count(Kind::Call) + session.count(Kind::Return);
    assert!(events * 32 > 512 * 1024, "only {events} events on a disk of 1 MiB");
    let limited = ["dump", "--limit", "5"].map(AsRef::as_ref).into_iter().chain([folder.as_os_str()]);
    let dumped = ada(scratch, limited).success();
    assert_eq!(dumped.out.lines().filter(|line| line.contains("tick")).count(), 5, "{}", dumped.out);
}
