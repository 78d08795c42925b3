//! What perf needs to probe a function: tracefs, and a named probe definition in the kernel.
//!
//! Invariant: afterwards the machine is as before. An unmounted tracefs is mounted in a private mount namespace only,
//! and the definitions, which are the kernel's and outlive that, are deleted by name.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Result;

use crate::cmd;

const GROUP: &str = "ada_bench";
const TRACEFS: &str = "/sys/kernel/tracing";

/// The definitions of a function's entry and return; dropping it deletes them.
#[derive(Debug)]
pub(super) struct Definitions;

impl Definitions {
    /// Defines both events of each function of a program.
    pub(super) fn add(program: &Path, functions: &[&str]) -> Result<Definitions> {
        let definitions = Definitions;
        let mut command = perf(&["probe", "--quiet", "--exec"]);
        command.arg(program);
        for function in functions {
            command.args(["--add", &format!("{GROUP}:{function}={function}")]);
            command.args(["--add", &format!("{GROUP}:{function}={function}%return")]);
        }
        cmd::output(&mut command)?;
        Ok(definitions)
    }
}

impl Drop for Definitions {
    fn drop(&mut self) {
        let deleted = cmd::output(&mut perf(&["probe", "--quiet", "--del", &format!("{GROUP}:*")]));
        if let Err(error) = deleted {
            eprintln!("xtask: {error:#}; the definitions {GROUP}:* are still in the kernel's uprobe_events");
        }
    }
}

/// The names of a function's two events; perf marks a return by itself.
pub(super) fn events(function: &str) -> [String; 2] {
    ["", "__return"].map(|mark| format!("{GROUP}:{function}{mark}"))
}

/// A perf command that finds tracefs.
pub(super) fn perf(args: &[&str]) -> Command {
    if fs::read_dir(TRACEFS).is_ok_and(|mut entries| entries.next().is_some()) {
        return cmd::command("perf", args);
    }
    let script = format!("mount -t tracefs nodev {TRACEFS} && exec \"$@\"");
    let mut command = cmd::command("unshare", &["-m", "sh", "-c", &script, "sh", "perf"]);
    command.args(args);
    command
}
