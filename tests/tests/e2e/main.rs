//! End-to-end tests of `ada-trace`: real targets, a real kernel, sessions read back.
//!
//! Invariant: a test makes its own folder and its own processes, and asserts exact numbers, never times (but for the
//! one promise that is about time, in `kills`).

mod arguments;
mod asking;
mod containers;
mod control;
mod cut;
mod detail;
mod disk;
mod ends;
mod estimate;
mod exact;
mod exports;
mod filters;
mod flight;
mod follow;
mod go;
mod harm;
mod ifunc;
mod kills;
mod live;
mod loss;
mod midway;
mod misasked;
mod namespaces;
mod placement;
mod postgres;
mod privileges;
mod programs;
mod reading;
mod refusals;
mod rotation;
mod several;
mod signals;
mod trees;
mod trees_special;
mod uftrace;
mod user;
