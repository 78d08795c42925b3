//! The format's integration tests: one binary, one module per promise.
//!
//! Invariant: the fast code is compared with a naive oracle in [`model`], which knows the events as plain values.

mod arbitrary_bytes;
mod cut;
mod disk_full;
mod golden;
mod killed;
mod late;
mod links;
mod merge;
mod model;
mod recovery;
mod rotation;
mod sessions;
