//! The readers of ATF, under the names that programs import; [`v2`] is the same for those who name the version.
//!
//! Invariant: re-exports only.

pub use ada_format::layout::IndexEvent;
pub use ada_format::read::{
    DetailEvent, DetailReader, IndexReader, ReadError as AtfError, SessionReader, ThreadReader,
};

/// Version 2 of the format.
pub mod v2 {
    pub use super::{AtfError, DetailEvent, DetailReader, IndexEvent, IndexReader, SessionReader, ThreadReader};
}
