//! From a backend's records to a session on disk: demultiplex by thread, find the call depth, write; keep the books.
//!
//! Invariant: nothing here allocates per event; locks are taken per thread of the target and per tick, not per event.

mod demux;
mod depth;
mod ledger;
mod pump;
mod returns;
mod span;
#[cfg(test)]
mod tests;

pub use depth::{Call, CallStack, Expect, RETURN_LIMIT, Unreturned};
pub use ledger::{Exec, Gap, Ledger, Muted, ThreadEntry};

pub(crate) use demux::Demux;
pub(crate) use pump::{Books, Pump};
pub(crate) use span::Span;
