//! `ada-trace`: see `ada-trace --help`.

mod cli;

fn main() -> std::process::ExitCode {
    cli::run()
}
