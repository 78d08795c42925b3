//! Exports, read by readers that are not ours: protoc, babeltrace2, Python's modules, speedscope's schema, Firefox
//! Profiler's own loader. What they find is compared with the spans that ada-query tells.
//!
//! Invariant: the sessions are made without a recorder, so that these tests need no root.

mod command;
mod foreign;
mod memory;
mod oracle;
mod session;
