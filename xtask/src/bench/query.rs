//! `bench query`: questions to one recording of 20 M events, measured by ada-query's own bench with the built command.
//!
//! uftrace and perf, on recordings of the same program, are to stand beside them here.

use std::fs;

use anyhow::{Context, Result};

use super::{Options, report};
use crate::cmd;

/// Runs it; in full runs its table and its numbers are kept.
pub(super) fn run(options: &Options) -> Result<()> {
    let program = options.ada_trace()?;
    let json = cmd::target_dir().join("bench-query.json");
    let _ = fs::remove_file(&json);
    let mut command = cmd::cargo(&["bench", "--quiet", "--package", "ada-query", "--bench", "query"]);
    if options.short {
        // The profile and the features of the tests: nothing is compiled for this alone.
        command = cmd::cargo(&["bench", "--quiet", "--workspace", "--bench", "query", "--profile", options.profile()]);
    }
    command.arg("--").arg("--ada-trace").arg(program).arg("--json").arg(&json);
    if options.short {
        return cmd::run(command.arg("--short"));
    }
    let table = cmd::output(&mut command)?;
    print!("{table}");
    let numbers = fs::read_to_string(&json).with_context(|| format!("{} was not written", json.display()))?;
    report::keep("query", &table, &serde_json::from_str(&numbers)?)
}
