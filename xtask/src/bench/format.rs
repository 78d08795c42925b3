//! `bench format`: writing and reading ATF sessions, measured by ada-format's own bench.

use std::fs;

use anyhow::{Context, Result};

use super::{Options, report};
use crate::cmd;

/// Runs it; in full runs its table and its numbers are kept.
pub(super) fn run(options: &Options) -> Result<()> {
    let json = cmd::target_dir().join("bench-format.json");
    let _ = fs::remove_file(&json);
    let mut command = cmd::cargo(&["bench", "--quiet", "--package", "ada-format", "--bench", "format"]);
    if options.short {
        // The profile and the features of the tests: nothing is compiled for this alone.
        command = cmd::cargo(&["bench", "--quiet", "--workspace", "--bench", "format", "--profile", options.profile()]);
    }
    command.args(["--", "--json"]).arg(&json);
    if options.short {
        return cmd::run(command.arg("--short"));
    }
    let table = cmd::output(&mut command)?;
    print!("{table}");
    let numbers = fs::read_to_string(&json).with_context(|| format!("{} was not written", json.display()))?;
    report::keep("format", &table, &serde_json::from_str(&numbers)?)
}
