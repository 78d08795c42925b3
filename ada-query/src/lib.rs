//! Questions to ATF v2 sessions: spans, statistics, call trees, differences of two sessions.
//!
//! ```text
//! index.atf ─▶ blocks ─▶ pairing ─▶ Visitor: statistics, call tree, lines, exports
//!              (pread)   (by thread)
//! ```
//!
//! Invariant: memory grows with functions, threads and calls that run at the same time, never with events; and nothing
//! is left out of a result without being counted in its [`span::Accounting`].
#![forbid(unsafe_code)]

pub mod atf;
pub mod blocks;
pub mod detail;
pub mod diff;
mod error;
pub mod export;
pub mod functions;
pub mod latency;
pub mod live;
pub mod merge;
pub mod rank;
pub mod replay;
pub mod run;
pub mod select;
pub mod span;
pub mod stats;
mod switches;
pub mod timeline;
pub mod trace;
pub mod tree;
pub mod verify;

pub use self::error::QueryError;
