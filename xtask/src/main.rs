//! `cargo xtask`: builds the kernel object, tests, measures and checks the workspace.
//!
//! Invariant: what a person types here and what CI runs is the same; one file per subcommand.

mod apt;
mod bench;
mod bless;
mod build_ebpf;
mod ci;
mod cmd;
mod rustc;
mod setup;
mod sources;
mod test;
mod tidy;
mod toolchain;

use std::process::ExitCode;

use anyhow::{Result, bail};

const HELP: &str = "\
cargo xtask build-ebpf [--out FILE]   build ada-ebpf/bytecode/ada.bpf.o and the hashes of its sources
cargo xtask setup                     install what the tests and benches start (as root, on Debian)
cargo xtask test [FILTER]             set up, build, and run every test; privileged ones if root
cargo xtask bless [FILTER]            rewrite the expected call trees of the end-to-end tests
cargo xtask tidy                      check the rules that no compiler checks
cargo xtask bench [format|hit] [--short] [--rounds N] [--loss-seconds S]
                                      measure; full runs are kept in docs/bench
cargo xtask ci                        all that a change must pass
";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if rustc::is_wrapped() {
        return rustc::run(&args);
    }
    let (name, rest) = args.split_first().map_or(("help", &[][..]), |(name, rest)| (name.as_str(), rest));
    match name {
        "build-ebpf" => build_ebpf::run(rest),
        "setup" => setup::run(rest),
        "test" => test::run(rest),
        "bless" => bless::run(rest),
        "tidy" => tidy::run(rest),
        "bench" => bench::run(rest),
        "ci" => ci::run(rest),
        "help" | "-h" | "--help" => {
            print!("{HELP}");
            Ok(())
        }
        _ => bail!("no subcommand '{name}'; `cargo xtask help` lists them"),
    }
}
