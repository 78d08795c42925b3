//! Reads what the kernel programs counted as lost: by processor through a mapping, by thread through the table.
//!
//! Invariant: counters only grow and are never reset, so that nothing is lost between a read and a reset.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
};

use ada_format::wire::{Drops, Lost, LostKey, loss, names};
use aya::{
    Ebpf,
    maps::{HashMap as BpfHashMap, Map, MapData},
};
use rustix::mm::ProtFlags;

use super::{mapping::Mapping, object};
use crate::backend::{AttachError, LossGauge, Losses, ThreadLoss};

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Key(LostKey);
// SAFETY: repr(C) integers without padding.
unsafe impl aya::Pod for Key {}

#[derive(Clone, Copy)]
#[repr(transparent)]
struct Value(Lost);
// SAFETY: repr(C) integers without padding.
unsafe impl aya::Pod for Value {}

/// The loss counters of a recording.
pub(super) struct LossCounters {
    drops: Arc<Counters>,
    epoch: Mapping,
    by_thread: BpfHashMap<MapData, Key, Value>,
    /// For each thread the losses reported so far and the time of the last of them.
    seen: HashMap<(u32, u32), (u64, u64)>,
}

impl LossCounters {
    /// Takes over the maps that the programs count in.
    pub(super) fn new(ebpf: &Ebpf, cpus: u32) -> Result<Self, AttachError> {
        let processors = cpus as usize;
        let lost = Map::HashMap(object::map(ebpf, names::LOST)?);
        Ok(Self {
            drops: Arc::new(Counters {
                memory: map(ebpf, names::DROPS, processors * size_of::<Drops>())?,
                processors,
                before: [0; loss::COUNTERS],
            }),
            epoch: map(ebpf, names::EPOCH, size_of::<u64>())?,
            by_thread: BpfHashMap::try_from(lost).map_err(object::object_error)?,
            seen: HashMap::new(),
        })
    }

    /// Forgets what was lost so far: the recording begins now. To be called before [`Self::gauge`].
    pub(super) fn begin(&mut self) -> Result<(), AttachError> {
        self.report(&mut Losses::default())?;
        if let Some(drops) = Arc::get_mut(&mut self.drops) {
            drops.before = std::array::from_fn(|counter| drops.counted(counter));
        }
        Ok(())
    }

    /// A reader of the number of events lost so far.
    pub(super) fn gauge(&self) -> LossGauge {
        let drops = Arc::clone(&self.drops);
        Arc::new(move || drops.total())
    }

    /// Reports what was lost since the last call.
    pub(super) fn report(&mut self, report: &mut Losses) -> Result<(), AttachError> {
        report.threads.clear();
        report.lifecycle = self.drops.count(loss::LIFECYCLE as usize);
        report.unfollowed = self.drops.count(loss::UNFOLLOWED as usize);
        if self.drops.total() == 0 {
            return Ok(());
        }
        report.by_reason = loss::NAMES.iter().enumerate().map(|(i, name)| (*name, self.drops.count(i))).collect();
        let reported = self.report_threads(report);
        // A thread that loses from here on starts a new stretch of time; one that lost meanwhile goes on with the old one,
        // which is cut to what was not reported yet. Relaxed: the stretches need no exact border.
        self.epoch.u64_at(0).fetch_add(1, Ordering::Relaxed);
        reported
    }

    fn report_threads(&mut self, report: &mut Losses) -> Result<(), AttachError> {
        for entry in &self.by_thread {
            let (Key(key), Value(lost)) = entry.map_err(object::object_error)?;
            let (seen, until_ns) = self.seen.entry((key.tgid, key.tid)).or_default();
            let count = lost.count.saturating_sub(*seen);
            let (first_ns, last_ns) = (lost.first_ns.max(*until_ns), lost.last_ns.max(*until_ns));
            (*seen, *until_ns) = (lost.count, last_ns);
            if count > 0 {
                report.threads.push(ThreadLoss { pid: key.tgid, tid: key.tid, count, first_ns, last_ns });
            }
        }
        Ok(())
    }
}

/// The counters of all processors, in memory that the programs add to.
struct Counters {
    memory: Mapping,
    processors: usize,
    /// What they counted before the recording began.
    before: [u64; loss::COUNTERS],
}

impl Counters {
    /// Events lost so far, for whatever reason.
    fn total(&self) -> u64 {
        (0..loss::REASONS).map(|reason| self.count(reason)).sum()
    }

    /// Since the recording began.
    fn count(&self, counter: usize) -> u64 {
        self.counted(counter).saturating_sub(self.before.get(counter).copied().unwrap_or(0))
    }

    fn counted(&self, counter: usize) -> u64 {
        let of_processor = |cpu| {
            let counter = cpu * size_of::<Drops>() + counter * size_of::<u64>();
            // Relaxed: a counter; the ring's own orderings put it before the records that follow a loss.
            self.memory.u64_at(counter).load(Ordering::Relaxed)
        };
        (0..self.processors).map(of_processor).sum()
    }
}

fn map(ebpf: &Ebpf, name: &str, length: usize) -> Result<Mapping, AttachError> {
    let mapping = Mapping::new(object::map(ebpf, name)?.fd(), length, 0, ProtFlags::READ | ProtFlags::WRITE);
    mapping.map_err(|error| AttachError::system("mapping the loss counters", error))
}
