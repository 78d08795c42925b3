//! What is recorded of a call besides that it was, and when: `--detail`, `--stack`, `--args`, `--trigger`.

use ada_format::{layout::MAX_STACK, wire::MAX_CAPTURE_BYTES};
use ada_user::{
    backend::ebpf::DetailLayout,
    collect::flight::{FlightOptions, SMALLEST_BUFFER},
    plan::Plan,
    resolve::DetailChoice,
    session::Flight,
    spec::ProbeSpec,
    trigger::{Roll, Trigger, When},
    types::{self, TypesError},
};
use anyhow::{Result, bail};
use clap::Args;

use super::{
    args::RecordArgs,
    summary::{bytes, count},
    tell,
};

/// How much detail, and when.
#[derive(Debug, Args)]
#[command(next_help_heading = "Detail")]
pub(crate) struct DetailArgs {
    /// Bytes of stack to record at a call with --detail: 0 to 512, from the stack pointer upwards
    #[arg(long, value_name = "BYTES", value_parser = stack_bytes, default_value = "128")]
    pub(crate) stack: u32,
    /// Look up names and types of parameters and return values (DWARF, also in separate debug files; known functions of the C
    /// library without), and record the strings and structs that they point at; implies --detail
    #[arg(long)]
    pub(crate) args: bool,
    /// Bytes to copy of each string or struct with --args: 0 to 4094
    #[arg(short, long, value_name = "BYTES", value_parser = string_bytes, default_value = "64")]
    pub(crate) string_max: u32,
    /// Flight recorder: write detail only around the moments when this fires: symbol=SPEC, 'slow=SPEC>50ms', signal[=SIGSEGV],
    /// 'exit!=0' or every=10s; repeatable. `ada-trace mark` and SIGUSR1 fire by hand (docs/flight.md)
    #[arg(long, value_name = "WHEN")]
    pub(crate) trigger: Vec<Trigger>,
    /// How much detail to keep before a trigger: a time, or a number of events [default: 5s]
    #[arg(long, value_name = "5s|N")]
    pub(crate) pre_roll: Option<Roll>,
    /// The same after it [default: 1s]
    #[arg(long, value_name = "5s|N")]
    pub(crate) post_roll: Option<Roll>,
    /// Memory for the detail that waits for a trigger, such as 64M [default: 256M]
    #[arg(long, value_name = "SIZE", value_parser = buffer_size)]
    pub(crate) detail_buffer: Option<usize>,
}

impl DetailArgs {
    /// Whether it makes no sense without `--detail`, and so implies it.
    pub(super) fn needs_detail(&self) -> bool {
        self.args || self.flies()
    }

    /// Whether detail waits for triggers.
    fn flies(&self) -> bool {
        !self.trigger.is_empty() || self.pre_roll.is_some() || self.post_roll.is_some() || self.detail_buffer.is_some()
    }
}

/// Whose calls have detail: `--detail` alone means all; so does what needs detail.
pub(super) fn choice(texts: &[String], args: Option<&DetailArgs>) -> Result<DetailChoice> {
    let specs: Vec<ProbeSpec> =
        texts.iter().filter(|text| !text.is_empty()).map(|text| text.parse()).collect::<Result<_, _>>()?;
    let implied = texts.is_empty() && args.is_some_and(DetailArgs::needs_detail);
    Ok(match specs.is_empty() {
        _ if implied || texts.iter().any(String::is_empty) => DetailChoice::All,
        true => DetailChoice::None,
        false => DetailChoice::Some(specs),
    })
}

/// The functions that fire triggers have to be recorded.
pub(super) fn specs(args: &DetailArgs) -> impl Iterator<Item = ProbeSpec> {
    args.trigger.iter().filter_map(|trigger| trigger.when.spec().cloned())
}

/// Whether a trigger waits for signals or the ends of processes.
pub(super) fn waits_for_lives(args: &DetailArgs) -> bool {
    args.trigger.iter().any(|trigger| matches!(trigger.when, When::Signal(_) | When::Exit(_)))
}

/// The flight recorder, if one is asked for.
pub(super) fn flight(args: &DetailArgs) -> Option<Flight> {
    let options = FlightOptions {
        pre_roll: args.pre_roll.unwrap_or(Roll::BEFORE),
        post_roll: args.post_roll.unwrap_or(Roll::AFTER),
        buffer: args.detail_buffer.unwrap_or(FlightOptions::BUFFER),
    };
    args.flies().then(|| Flight { options, triggers: args.trigger.clone() })
}

/// What detail comes to for the functions of `plan`, to which others may be added (`grows`).
pub(super) fn layout(args: &RecordArgs, plan: &Plan, grows: bool) -> DetailLayout {
    let DetailArgs { stack, args: signatures, string_max, .. } = args.detail;
    let slots = if grows && signatures && string_max > 0 { 8 } else { plan.capture_slots() };
    DetailLayout {
        stack_bytes: stack.max(types::stack_needed(plan)).next_multiple_of(8).min(MAX_STACK as u32),
        capture_slots: slots,
        // One more for the zero of a string, and one to see that there is more.
        capture_bytes: (string_max + 2).next_multiple_of(8),
        string_max,
    }
}

/// Of this machine, in bytes.
fn memory() -> u64 {
    let info = rustix::system::sysinfo();
    u64::from(info.mem_unit).saturating_mul(info.totalram)
}

/// Somebody who names functions means some that are recorded; and what is to be kept in memory has to fit there.
pub(super) fn check(args: &RecordArgs, plan: &Plan) -> Result<()> {
    let (buffer, memory) = (args.detail.detail_buffer.unwrap_or(0) as u64, memory());
    if buffer > memory {
        bail!("--detail-buffer {} is more than this machine's memory: give less than {}", bytes(buffer), bytes(memory));
    }
    if args.choice.detail.is_empty() || plan.functions.iter().any(|function| function.detail) {
        return Ok(());
    }
    let specs = args.choice.detail.join("' and '");
    bail!("--detail='{specs}' names none of the functions that are recorded; choose them with -e, too");
}

/// A word about functions whose types were looked for in vain.
pub(super) fn tell_untyped(plan: &Plan) {
    let Some(first) = plan.untyped.first() else { return };
    let why = &first.why;
    let more = match plan.untyped.len() {
        1 => String::new(),
        all => format!(" (and {} more)", count(all as u64 - 1)),
    };
    // Nobody can install what a language does not say.
    let mend = match why {
        TypesError::Convention { .. } => "",
        _ => "; install the package with its debug information, or give a file that has it with --symbols",
    };
    tell(&format!("ada-trace: {why}{more}: recorded as raw registers{mend}\n"));
}

fn stack_bytes(text: &str) -> Result<u32, String> {
    let limit = MAX_STACK as u32;
    let complaint = || format!("'{text}' is not a size of stack; write a number of bytes from 0 to {limit}");
    text.parse().ok().filter(|bytes| *bytes <= limit).ok_or_else(complaint)
}

fn string_bytes(text: &str) -> Result<u32, String> {
    let limit = MAX_CAPTURE_BYTES - 2;
    let complaint = || format!("'{text}' is not a length of strings; write a number of bytes from 0 to {limit}");
    text.parse().ok().filter(|bytes| *bytes <= limit).ok_or_else(complaint)
}

fn buffer_size(text: &str) -> Result<usize, String> {
    let least = SMALLEST_BUFFER >> 10;
    let complaint = || format!("'{text}' is not a buffer's size; write one from {least}K to 1T, like 256M");
    let size = super::args::size(text).and_then(|size| usize::try_from(size).ok());
    size.filter(|size| (SMALLEST_BUFFER..=1 << 40).contains(size)).ok_or_else(complaint)
}
