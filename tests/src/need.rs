//! What a test needs from the machine: it says so and passes where that is missing, or fails where nothing may be
//! missing (ADA_REQUIRE_ROOT=1, as in CI).

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Keeps tests that are hard on the machine from running at the same time; to be held for the length of the test.
pub fn the_machine() -> MutexGuard<'static, ()> {
    static MACHINE: Mutex<()> = Mutex::new(());
    MACHINE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the test runs as root. To be asked first: `if !need::root() { return; }`.
#[must_use]
pub fn root() -> bool {
    met("root", rustix::process::geteuid().is_root())
}

/// Whether `program` is installed.
#[must_use]
pub fn program(program: &str) -> bool {
    met(program, find(program))
}

/// Whether the machine has a reader that no package of the distribution brings: where it cannot be had, a test says so and
/// passes, also where nothing else may be missing.
#[must_use]
pub fn foreign(what: &str, available: bool) -> bool {
    if !available {
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        writeln!(std::io::stderr(), "\n{test}: skipped: needs {what}").expect("stderr");
    }
    available
}

/// Whether a process that crashes leaves a core file in its working folder.
#[must_use]
pub fn core_files() -> bool {
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap_or_default();
    met("core files", pattern.starts_with("core"))
}

/// Whether `command` succeeds, as the proof that the machine has `what`.
#[must_use]
pub fn works(what: &str, command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    met(what, status.is_ok_and(|status| status.success()))
}

fn find(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Written past the capture of libtest, which would swallow it when the test passes.
fn met(what: &str, available: bool) -> bool {
    if !available {
        let strict = std::env::var_os("ADA_REQUIRE_ROOT").is_some_and(|value| value == "1");
        assert!(!strict, "needs {what}, and ADA_REQUIRE_ROOT=1 forbids skipping");
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        writeln!(std::io::stderr(), "\n{test}: skipped: needs {what}").expect("stderr");
    }
    available
}
