//! `bench hit`: what a call costs while it is traced, by ada-trace and by others, side by side in one run.
//!
//! Invariant: the rounds are interleaved (every tracer once, then all of them again), so that a change in the machine's
//! mood touches all alike; the numbers are medians over the rounds.

use std::fs;

use anyhow::{Result, bail};
use serde_json::{Value, json};

use super::fixture::{self, Fixture, Programs};
use super::report::{self, median};
use super::tracefs::Definitions;
use super::tracer::{Place, Tracer};
use super::{Options, loss};
use crate::cmd;

/// The fixture's functions by their first instruction.
const FUNCTIONS: [(&str, &str); 4] =
    [("f_push", "push %rbp"), ("f_endbr64", "endbr64"), ("f_mov", "mov"), ("f_nop", "5-byte nop")];

/// What recording a call and its return may cost above the empty programs, on the function that begins with a push.
const ALLOWED_ABOVE_EMPTY_NS: f64 = 200.0;

/// What a recorded call and return may cost on the function that begins with endbr64, as a share of what the others pay
/// for the call alone.
const ALLOWED_SHARE: f64 = 0.25;

/// What registers and 128 bytes of stack may cost more, per call with its return, on that function.
const ALLOWED_FOR_DETAIL_NS: f64 = 250.0;

/// All measurements of one tracer on one function.
#[derive(Clone, Debug)]
struct Cell {
    tracer: Tracer,
    function: &'static str,
    ns: Vec<f64>,
    calls: u64,
    events: u64,
    lost: u64,
}

/// Runs the bench.
pub(super) fn run(options: &Options) -> Result<()> {
    if !cmd::is_root() {
        println!("skipped: needs root");
        return Ok(());
    }
    let scratch = cmd::target_dir().join("bench-hit");
    fs::create_dir_all(&scratch)?;
    let programs = fixture::compile(&scratch)?;
    let place = Place { ada_trace: options.ada_trace()?, program: programs.plain.clone(), scratch };
    let cells = measure_all(&place, options)?;
    let uftrace = uftrace(&programs, &place, options)?;
    let losses = loss::measure(&place, options)?;
    let mut text = table(&cells) + &uftrace_line(&uftrace) + &above_empty_line(&cells) + &detail_line(&cells);
    text += &shares_lines(&cells);
    text += &loss::table(&losses);
    print!("{text}");
    if !options.short {
        let numbers = json!({
            "rounds": options.rounds,
            "ns_per_call": cells.iter().map(Cell::json).collect::<Vec<_>>(),
            "uftrace_ns_per_call": uftrace,
            "loss": losses.iter().map(loss::Run::json).collect::<Vec<_>>(),
        });
        report::keep("hit", &text, &numbers)?;
        judge(&cells, &losses)?;
    }
    Ok(())
}

fn measure_all(place: &Place, options: &Options) -> Result<Vec<Cell>> {
    let tracers = available();
    let names = FUNCTIONS.map(|(name, _)| name);
    let _definitions =
        tracers.contains(&Tracer::PerfCall).then(|| Definitions::add(&place.program, &names)).transpose()?;
    let pairs = tracers.iter().flat_map(|&tracer| names.map(|function| (tracer, function)));
    let mut cells: Vec<Cell> = pairs.map(|(tracer, function)| Cell::new(tracer, function)).collect();
    for round in 1..=options.rounds {
        println!("round {round} of {}", options.rounds);
        for cell in &mut cells {
            cell.measure(place, options)?;
        }
    }
    Ok(cells)
}

/// The tracers that are installed.
fn available() -> Vec<Tracer> {
    let (have, lack): (Vec<Tracer>, Vec<Tracer>) =
        Tracer::ALL.into_iter().partition(|tracer| tracer.needs().is_none_or(|program| cmd::find(program).is_some()));
    for tracer in lack {
        println!("without {}: not installed", tracer.name());
    }
    have
}

impl Cell {
    fn new(tracer: Tracer, function: &'static str) -> Cell {
        Cell { tracer, function, ns: Vec::new(), calls: 0, events: 0, lost: 0 }
    }

    fn measure(&mut self, place: &Place, options: &Options) -> Result<()> {
        let mut fixture = Fixture::start(&mut plain(place), self.function, options.measure, 1)?;
        let running = self.tracer.attach(place, &mut fixture, self.function)?;
        let ran = fixture.go()?;
        let seen = running.stop(place)?;
        fixture.end()?;
        self.ns.push(ran.ns);
        self.calls += ran.calls;
        self.events += seen.events;
        self.lost += seen.lost;
        Ok(())
    }

    fn median(&self) -> f64 {
        median(&self.ns)
    }

    /// The part of the events that it kept, in percent; none if it keeps none by design.
    fn kept(&self) -> Option<f64> {
        let expected = self.calls * self.tracer.events_per_call();
        (expected > 0).then(|| 100.0 * self.events as f64 / expected as f64)
    }

    fn json(&self) -> Value {
        json!({
            "tracer": self.tracer.name(), "function": self.function, "median": self.median(), "rounds": self.ns,
            "calls": self.calls, "events": self.events, "lost": self.lost,
        })
    }
}

/// The fixture, its command to be completed.
pub(super) fn plain(place: &Place) -> std::process::Command {
    cmd::command(&place.program.display().to_string(), &[])
}

fn find(cells: &[Cell], tracer: Tracer, function: &str) -> Option<f64> {
    cells.iter().find(|cell| cell.tracer == tracer && cell.function == function).map(Cell::median)
}

fn table(cells: &[Cell]) -> String {
    let functions = FUNCTIONS.iter().flat_map(|(_, first)| [format!("{first}, ns"), "÷ empty".to_owned()]);
    let header: Vec<String> =
        ["per call of a function that begins with".to_owned()].into_iter().chain(functions).collect();
    let tracers = Tracer::ALL.into_iter().filter(|tracer| cells.iter().any(|cell| cell.tracer == *tracer));
    let mut rows: Vec<Vec<String>> = Vec::new();
    for tracer in tracers {
        let of_tracer = cells.iter().filter(|cell| cell.tracer == tracer);
        let numbers = of_tracer.clone().flat_map(|cell| {
            let empty = find(cells, Tracer::Empty, cell.function).unwrap_or(f64::NAN);
            [format!("{:.0}", cell.median()), format!("{:.2}", cell.median() / empty)]
        });
        rows.push([tracer.name()].into_iter().chain(numbers).chain([kept(of_tracer)]).collect());
    }
    let header: Vec<String> = header.into_iter().chain(["events kept".to_owned()]).collect();
    report::table(&header, &rows)
}

/// The worst of a tracer's functions.
fn kept<'a>(cells: impl Iterator<Item = &'a Cell>) -> String {
    let worst = cells.filter_map(Cell::kept).min_by(f64::total_cmp);
    worst.map_or_else(String::new, |percent| format!("{percent:.2} %"))
}

/// Pairs of a function that gcc has instrumented, in ns; none without uftrace.
fn uftrace(programs: &Programs, place: &Place, options: &Options) -> Result<Option<f64>> {
    if cmd::find("uftrace").is_none() {
        return Ok(None);
    }
    let data = place.scratch.join("uftrace");
    let mut ns = Vec::new();
    for _ in 0..options.rounds {
        let mut command = cmd::command("uftrace", &["record", "--no-event", "--no-libcall", "-d"]);
        command.arg(&data).arg(&programs.instrumented);
        let mut fixture = Fixture::start(&mut command, "f_c", options.measure, 1)?;
        ns.push(fixture.go()?.ns);
        fixture.end()?;
        fs::remove_dir_all(&data)?;
    }
    Ok(Some(median(&ns)))
}

fn uftrace_line(ns: &Option<f64>) -> String {
    let line = |ns: &f64| format!("\nuftrace, hooks compiled in by gcc -pg, call+return: {ns:.0} ns per call\n");
    ns.as_ref().map_or_else(String::new, line)
}

fn above_empty(cells: &[Cell]) -> f64 {
    let of = |tracer| find(cells, tracer, "f_push").unwrap_or(f64::NAN);
    of(Tracer::Record) - of(Tracer::Empty)
}

fn above_empty_line(cells: &[Cell]) -> String {
    let above = above_empty(cells);
    format!(
        "\nada-trace call+return above the empty program, push: {above:.0} ns (at most {ALLOWED_ABOVE_EMPTY_NS:.0})\n\n"
    )
}

fn for_detail(cells: &[Cell]) -> f64 {
    let of = |tracer| find(cells, tracer, "f_push").unwrap_or(f64::NAN);
    of(Tracer::Detail(128)) - of(Tracer::Record)
}

fn detail_line(cells: &[Cell]) -> String {
    let more = for_detail(cells);
    format!(
        "ada-trace --detail with 128 bytes of stack above the index alone, push: {more:.0} ns (at most \
         {ALLOWED_FOR_DETAIL_NS:.0})\n\n"
    )
}

/// ada-trace's call and return on the function that begins with endbr64, as a share of the other's call.
fn share_of(cells: &[Cell], other: Tracer) -> Option<f64> {
    Some(find(cells, Tracer::Record, "f_endbr64")? / find(cells, other, "f_endbr64")?)
}

const OTHERS: [Tracer; 2] = [Tracer::BpftraceCount, Tracer::PerfCall];

fn shares_lines(cells: &[Cell]) -> String {
    let line = |other: Tracer| {
        let share = share_of(cells, other)?;
        let name = other.name();
        Some(format!("ada-trace call+return to {name}, endbr64: {share:.2} (at most {ALLOWED_SHARE:.2})\n"))
    };
    OTHERS.into_iter().filter_map(line).collect::<String>() + "\n"
}

fn judge(cells: &[Cell], losses: &[loss::Run]) -> Result<()> {
    let above = above_empty(cells);
    if above.is_nan() || above > ALLOWED_ABOVE_EMPTY_NS {
        bail!("recording costs {above:.0} ns above the empty program, more than {ALLOWED_ABOVE_EMPTY_NS:.0}");
    }
    let more = for_detail(cells);
    if more.is_nan() || more > ALLOWED_FOR_DETAIL_NS {
        bail!("detail costs {more:.0} ns more per call, above {ALLOWED_FOR_DETAIL_NS:.0}");
    }
    for share in OTHERS.into_iter().filter_map(|other| share_of(cells, other)) {
        if share.is_nan() || share > ALLOWED_SHARE {
            bail!(
                "a call and return of the endbr64 function cost {share:.2} of another's call, more than {ALLOWED_SHARE:.2}"
            );
        }
    }
    if let Some(run) = losses.iter().find(|run| run.lost() > 0) {
        bail!("{} events were lost with {} threads at full speed", run.lost(), run.threads());
    }
    Ok(())
}
