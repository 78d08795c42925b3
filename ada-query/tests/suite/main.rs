//! The library's tests, in one binary: answers of ada-query against naive ones.
//!
//! Invariant: what is compared with was written without the code under test.

mod answers;
mod live;
mod merge;
mod model;
mod oracle;
mod program;
mod spans;
mod stacks;
mod truncated;
