//! The collector behind `ada-trace`: probe specs, symbols, backends, drain, demux; and [`session::TraceSession`] to
//! embed it.
//!
//! Invariant: libraries never print and never exit; clap, stdout and stderr live in the binary.

pub mod backend;
pub mod clock;
pub mod collect;
pub mod control;
pub mod disasm;
pub mod doctor;
pub mod elf;
pub mod estimate;
pub mod exits;
pub mod filter;
pub mod follow;
pub mod go;
pub mod ifunc;
pub mod launch;
pub mod loader;
pub mod pattern;
pub mod placement;
pub mod plan;
pub mod privileges;
pub mod process;
pub mod resolve;
pub mod session;
pub mod spec;
pub mod suggest;
pub mod target;
pub mod timespan;
pub mod trigger;
pub mod types;
