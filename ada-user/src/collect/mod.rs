//! From a backend's records to a session on disk: demultiplex by thread, find the call depth, write; keep the books.
//!
//! Invariant: nothing here allocates per event; locks are taken per thread of the target and per tick, not per event.

mod demux;
mod depth;
mod files;
pub mod flight;
mod ledger;
mod life;
mod pump;
mod returns;
mod span;
#[cfg(test)]
mod tests;
mod thread;

pub use depth::{Call, CallStack, Expect, Left, RETURN_LIMIT, Unreturned};
pub use ledger::{Gap, Ledger, Muted, ThreadEntry};
pub use life::Life;

pub(crate) use demux::Demux;
pub(crate) use life::{Stopped, go_on};
pub(crate) use pump::{Books, Pump};
pub(crate) use span::Span;
