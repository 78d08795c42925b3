//! `ada-trace -e SPEC… (-p PID… | -- CMD…) --estimate [TIME]`: what the recording would cost, and nothing is recorded.

use std::{
    fmt::Write as _,
    io::Write as _,
    process::ExitCode,
    time::{Duration, Instant},
};

use ada_user::{
    estimate::{CARRIED_PER_S, Estimate, Rated},
    plan::Plan,
};
use anyhow::Result;

use super::{
    args::RecordArgs,
    record::{self, Request},
    summary::{bytes, count, plural},
    table::Table,
    tell,
    watch::Watch,
};

/// Functions that are listed.
const SHOWN: usize = 20;
/// Functions that the advice names.
const NAMED: usize = 3;

/// Counts calls for `time`, or until the targets or the user end it, and prints what recording them would cost.
pub(super) fn run(args: &RecordArgs, time: Duration) -> Result<ExitCode> {
    let Request { plan, pids, gated, filters, .. } = record::prepare(args)?;
    let mut watch = Watch::new(&pids, Some(time))?;
    let counting = record::backend(args, &plan, filters).count(&plan, &pids)?;
    let began = Instant::now();
    if let Some(gated) = gated {
        watch.launched(gated.release()?);
    }
    if !args.quiet {
        tell(&format!("ada-trace: counting the calls of {}\n", plural(plan.functions.len() as u64, "function")));
    }
    watch.wait()?;
    let (calls, elapsed) = (counting.calls()?, began.elapsed());
    drop(counting);
    let estimate = Estimate::new(&plan, &calls, elapsed, args.detail.stack);
    std::io::stdout().write_all(text(&estimate, &plan).as_bytes())?;
    Ok(ExitCode::SUCCESS)
}

fn text(estimate: &Estimate<'_>, plan: &Plan) -> String {
    let mut text = format!(
        "{} of {} in {:.2} s; {} of them called\n",
        plural(estimate.calls, "call"),
        plural(plan.functions.len() as u64, "function"),
        estimate.elapsed.as_secs_f64(),
        estimate.functions.len(),
    );
    let _ = writeln!(
        text,
        "recording them: {} events/s, {}/s on disk, {:.1} % of one processor spent in probes",
        count(estimate.events_per_s as u64),
        bytes(estimate.bytes_per_s as u64),
        estimate.busy * 100.0
    );
    if !estimate.functions.is_empty() {
        let _ = write!(text, "\n{}\n{}", table(estimate, plan), advice(estimate, plan));
    }
    text
}

fn table(estimate: &Estimate<'_>, plan: &Plan) -> String {
    let columns = [
        ("CALLS/S", true),
        ("SHARE", true),
        ("NS/CALL", true),
        ("PROBED AT", false),
        ("FUNCTION", false),
        ("MODULE", false),
    ];
    let mut table = Table::new(&columns);
    for rated in estimate.functions.iter().take(SHOWN) {
        table.row([
            count(per_second(estimate, rated)),
            format!("{:.1} %", rated.share * 100.0),
            count(rated.price_ns()),
            rated.function.first_instruction.clone(),
            rated.function.demangled.clone().unwrap_or_else(|| rated.function.name.clone()),
            module(plan, rated).file_name().unwrap_or_default().to_string_lossy().into_owned(),
        ]);
    }
    let mut text = table.to_string();
    let more = estimate.functions.len().saturating_sub(SHOWN);
    if more > 0 {
        let _ = writeln!(text, "… and {}", plural(more as u64, "function"));
    }
    text
}

/// What to do about what dominates.
fn advice(estimate: &Estimate<'_>, plan: &Plan) -> String {
    let mut text = String::new();
    if estimate.events_per_s > CARRIED_PER_S {
        let carried = count(CARRIED_PER_S as u64);
        let _ = writeln!(text, "this is more than about {carried} events/s: some would be lost");
    }
    let dominating = estimate.dominating();
    let spec = |rated: &Rated<'_>| format!("--exclude '{}:{}'", module(plan, rated).display(), rated.function.name);
    let named: Vec<String> = dominating.iter().take(NAMED).map(spec).collect();
    let top = estimate.functions.first().map_or(0, |rated| per_second(estimate, rated));
    let tenth = 10u64.pow(top.max(10).ilog10() - 1);
    let _ = writeln!(text, "half of the calls are of {}:", plural(dominating.len() as u64, "function"));
    let _ = writeln!(text, "  leave out what you do not need: {}", named.join(" "));
    let _ = writeln!(text, "  or mute what is called too often: --max-rate {tenth}");
    text
}

fn per_second(estimate: &Estimate<'_>, rated: &Rated<'_>) -> u64 {
    (rated.calls as f64 / estimate.elapsed.as_secs_f64().max(1e-9)) as u64
}

fn module<'a>(plan: &'a Plan, rated: &Rated<'_>) -> &'a std::path::Path {
    let id = rated.function.id.module();
    plan.modules.iter().find(|module| module.id == id).map_or(std::path::Path::new("?"), |module| &module.path)
}
