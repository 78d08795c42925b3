//! From a backend's records to a session on disk: demultiplex by thread, find the call depth, write; keep the books.
//!
//! Invariant: nothing here allocates per event; locks are taken per thread of the target and per tick, not per event.

mod demux;
mod depth;
mod files;
pub mod flight;
mod known;
mod ledger;
mod life;
mod pump;
mod returns;
mod rotation;
mod span;
#[cfg(test)]
mod tests;
mod thread;

pub use depth::{Call, CallStack, Expect, Left, RETURN_LIMIT, Unreturned};
pub use known::Arming;
pub use ledger::{Cut, Gap, Ledger, Muted, ThreadEntry};
pub use life::Life;
pub use rotation::Rotation;

pub(crate) use demux::Demux;
pub(crate) use known::Known;
pub(crate) use life::{Stopped, go_on};
pub(crate) use pump::{Books, Pump};
pub(crate) use span::Span;
