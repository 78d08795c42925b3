//! Counts calls instead of recording them: entry probes and a counter for each function and processor, no rings.

use std::collections::BTreeMap;

use ada_format::wire::{Follow, names};
use aya::{
    Ebpf,
    maps::{Map, MapData, PerCpuHashMap},
};

use super::{EbpfBackend, allow_locked_memory, attach, object, processors, set_ids};
use crate::{backend::AttachError, plan::Plan};

/// Counters at work; dropping this detaches the probes.
pub struct Counting {
    counts: PerCpuHashMap<MapData, u64, u64>,
    _links: attach::Links,
    _ebpf: Ebpf,
}

impl EbpfBackend {
    /// Counts the calls of what `plan` names in the processes `pids` alone. Of the filters, that of threads holds.
    ///
    /// # Errors
    /// As [`Backend::attach`](crate::backend::Backend::attach); needs uprobe_multi (kernel 6.6).
    pub fn count(&self, plan: &Plan, pids: &[u32]) -> Result<Counting, AttachError> {
        allow_locked_memory();
        let (_, possible) = processors()?;
        let room =
            object::Room { threads: self.filters.threads.len(), counts: plan.functions.len(), ..Default::default() };
        let mut ebpf = object::load(self.config(plan, pids, 0, possible)?, Follow::default(), possible, &room)?;
        set_ids(&mut ebpf, names::TARGETS, pids)?;
        set_ids(&mut ebpf, names::THREADS, &self.filters.threads)?;
        let counts = Map::PerCpuHashMap(object::map(&ebpf, names::COUNTS)?);
        let counts = PerCpuHashMap::try_from(counts).map_err(object::object_error)?;
        let links = attach::attach_count(&ebpf, plan, pids)?;
        Ok(Counting { counts, _links: links, _ebpf: ebpf })
    }
}

impl Counting {
    /// Calls so far, by function id; functions that were not called may be missing.
    ///
    /// # Errors
    /// If the kernel refuses to tell.
    pub fn calls(&self) -> Result<BTreeMap<u64, u64>, AttachError> {
        let entry = |entry: Result<(u64, aya::maps::PerCpuValues<u64>), _>| {
            let (function_id, by_processor) = entry.map_err(object::object_error)?;
            Ok((function_id, by_processor.iter().sum()))
        };
        self.counts.iter().map(entry).collect()
    }
}

impl std::fmt::Debug for Counting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Counting").finish_non_exhaustive()
    }
}
