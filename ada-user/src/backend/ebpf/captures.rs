//! The kernel programs' table of what memory is copied, by function.
//!
//! Invariant: an entry is there before the function's probes are, and never changes.

use ada_format::wire::{self, names};
use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData},
};

use super::object;
use crate::{backend::AttachError, plan::Plan};

/// A newtype, for aya wants a type of ours to call its bytes a value.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Capture(wire::Capture);

// SAFETY: a repr(C) struct of integers without padding.
unsafe impl aya::Pod for Capture {}

/// The table.
pub(super) struct Captures(HashMap<MapData, u64, Capture>);

impl Captures {
    pub(super) fn of(ebpf: &Ebpf) -> Result<Self, AttachError> {
        let map = Map::HashMap(object::map(ebpf, names::CAPTURES)?);
        Ok(Self(HashMap::try_from(map).map_err(object::object_error)?))
    }

    /// Adds the functions of `plan` that have any.
    pub(super) fn add(&mut self, plan: &Plan) -> Result<(), AttachError> {
        for function in &plan.functions {
            if let Some(capture) = &function.capture {
                self.0.insert(function.id.0, Capture(**capture), 0).map_err(object::object_error)?;
            }
        }
        Ok(())
    }
}

impl std::fmt::Debug for Captures {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Captures").finish_non_exhaustive()
    }
}
