//! `bench query`: questions to one recording of 20 M events, measured by ada-query's own bench with the built command;
//! and one question beside the same one to uftrace and perf. Invariant: what is kept has been compared, or says that not.

use std::fs;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::beside::{self, Size};
use super::{Options, report};
use crate::cmd;

/// Runs both; in full runs their tables and numbers are kept, and a missed target is an error.
pub(super) fn run(options: &Options) -> Result<()> {
    let program = options.ada_trace()?;
    let json = cmd::target_dir().join("bench-query.json");
    let _ = fs::remove_file(&json);
    let mut command = cmd::cargo(&["bench", "--quiet", "--package", "ada-query", "--bench", "query"]);
    if options.short {
        // The profile and the features of the tests: nothing is compiled for this alone.
        command = cmd::cargo(&["bench", "--quiet", "--workspace", "--bench", "query", "--profile", options.profile()]);
    }
    command.arg("--").arg("--ada-trace").arg(&program).arg("--json").arg(&json);
    if options.short {
        command.arg("--short");
    }
    let questions = cmd::output(&mut command)?;
    print!("{questions}");
    let scratch = cmd::target_dir().join("bench-query");
    let size = if options.short { Size { trees: 2, rounds: 1 } } else { Size { trees: 4888, rounds: options.rounds } };
    let compared = cmd::is_root().then(|| beside::run(&program, &scratch, size)).transpose()?;
    let beside = compared.as_ref().map_or("Not root: nothing was recorded to compare.\n", |compared| &compared.table);
    print!("\n{beside}");
    if options.short {
        return Ok(());
    }
    let numbers = fs::read_to_string(&json).with_context(|| format!("{} was not written", json.display()))?;
    let numbers: Value = serde_json::from_str(&numbers)?;
    let met = all_met(&numbers) && compared.as_ref().is_none_or(|compared| compared.met);
    let others = compared.as_ref().map(|compared| &compared.numbers);
    report::keep("query", &format!("{questions}\n{beside}"), &json!({ "questions": numbers, "beside": others }))?;
    if !met {
        bail!("a target was missed");
    }
    Ok(())
}

fn all_met(numbers: &Value) -> bool {
    let rows = numbers["results"].as_array();
    rows.is_some_and(|rows| rows.iter().all(|row| row["met"] == true))
}
