//! The harness of the end-to-end tests: fixtures, targets, the recorder under test, and what it wrote read back.
//!
//! Invariant: nothing here waits for a length of time; it waits for conditions, with a deadline that only a broken
//! program reaches. Only processes that a test started are ever signalled, each by its pid.
#![forbid(unsafe_code)]

pub mod board;
pub mod container;
pub mod dumped;
pub mod expected;
pub mod fixture;
pub mod mount;
pub mod need;
pub mod process;
pub mod recorder;
pub mod scratch;
pub mod session;
mod sound;
pub mod tree;
pub mod wait;
pub mod windows;
