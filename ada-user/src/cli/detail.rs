//! What is recorded of a call besides that it was: `--detail`, `--stack`, `--args`.

use ada_format::layout::MAX_STACK;
use ada_user::{backend::ebpf::DetailLayout, plan::Plan, resolve::DetailChoice, spec::ProbeSpec};
use anyhow::{Result, bail};
use clap::Args;

use super::args::RecordArgs;

/// How much detail.
#[derive(Debug, Args)]
#[command(next_help_heading = "Detail")]
pub(crate) struct DetailArgs {
    /// Bytes of stack to record at a call with --detail: 0 to 512, from the stack pointer upwards
    #[arg(long, value_name = "BYTES", value_parser = stack_bytes, default_value = "128")]
    pub(crate) stack: u32,
}

/// Whose calls have detail: `--detail` alone means all.
pub(super) fn choice(texts: &[String]) -> Result<DetailChoice> {
    if texts.iter().any(String::is_empty) {
        return Ok(DetailChoice::All);
    }
    let specs: Vec<ProbeSpec> = texts.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    Ok(if specs.is_empty() { DetailChoice::None } else { DetailChoice::Some(specs) })
}

/// What detail comes to for the functions of `plan`.
pub(super) fn layout(args: &RecordArgs) -> DetailLayout {
    DetailLayout { stack_bytes: args.detail.stack.next_multiple_of(8), ..DetailLayout::default() }
}

/// Somebody who names functions means some that are recorded.
pub(super) fn check(args: &RecordArgs, plan: &Plan) -> Result<()> {
    if args.choice.detail.is_empty() || plan.functions.iter().any(|function| function.detail) {
        return Ok(());
    }
    let specs = args.choice.detail.join("' and '");
    bail!("--detail='{specs}' names none of the functions that are recorded; choose them with -e, too");
}

fn stack_bytes(text: &str) -> Result<u32, String> {
    let limit = MAX_STACK as u32;
    let complaint = || format!("'{text}' is not a size of stack; write a number of bytes from 0 to {limit}");
    text.parse().ok().filter(|bytes| *bytes <= limit).ok_or_else(complaint)
}
