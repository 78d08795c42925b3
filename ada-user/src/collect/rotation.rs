//! Which folders of a recording are kept, when only its newest events are: pure policy, asked at every tick.
//!
//! ```text
//! --keep        │ deleted │◀────────── keep ──────────▶│ now
//! thread 1   ▒▒▒▒▒▒▒▒▒▒ ██████████ ██████████ █████████…    each chunk is a folder; the last one is open
//! thread 2      ▒▒▒▒▒▒▒▒▒▒▒▒ ███████████ ███████████ ██…    ▒ ends before: goes
//! ```
//!
//! Invariant: nothing that ends within the time to keep is deleted for its age, and nothing that somebody writes to is
//! deleted at all; what is kept after a decision is no larger than the size that was asked for, as far as chunks that
//! can be deleted make it up.

use std::{sync::Arc, time::Duration};

use super::flight::Window;
use crate::timespan;

/// Into so many chunks a thread's part of the time to keep is divided.
const CHUNKS_IN_TIME: u64 = 4;
/// Into so many chunks the size to keep is divided, unless they get smaller than [`SMALLEST_CHUNK`].
const CHUNKS_IN_SIZE: u64 = 32;
/// A smaller chunk is not worth its files, in bytes.
const SMALLEST_CHUNK: u64 = 64 << 10;
/// A chunk of fewer bytes does not go on elsewhere even if there is no other way to make room.
const SMALLEST_FORCED: u64 = 4 << 10;
/// Threads that go on in new folders at one tick: each takes the pump some system calls.
const AT_ONCE: usize = 64;
/// What the disk gives a file or folder at a time, on most file systems.
const BLOCK: u64 = 4 << 10;
/// Ticks for which there is to be room: so long it takes, about, until what is to go is gone.
const TICKS_AHEAD: u64 = 8;

/// What of a recording is kept: its newest events. Both may be asked for; the stricter one counts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Rotation {
    /// Those of so long a time. At least [`Rotation::SHORTEST`].
    pub keep: Option<Duration>,
    /// Those that fit into so many bytes of index and detail files. At least [`Rotation::SMALLEST`].
    pub max_size: Option<u64>,
}

impl Rotation {
    /// The shortest time that can be kept.
    pub const SHORTEST: Duration = Duration::from_secs(1);
    /// The smallest size, in bytes.
    pub const SMALLEST: u64 = 1 << 20;

    /// Whether not all is kept.
    #[must_use]
    pub fn asked(&self) -> bool {
        self.keep.is_some() || self.max_size.is_some()
    }

    /// The size, in bytes, at which a chunk is left for the next one: whatever is written between two ticks, there are
    /// enough of them to choose from.
    pub(super) fn largest_chunk(&self) -> u64 {
        self.max_size.map_or(u64::MAX, |max_size| (max_size / CHUNKS_IN_SIZE).max(SMALLEST_CHUNK))
    }
}

/// A thread's folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Chunk {
    pub(super) folder: u32,
    /// Time of its first event.
    pub(super) first_ns: u64,
    /// Time of its last event.
    pub(super) last_ns: u64,
    pub(super) events: u64,
    /// Length of its files.
    pub(super) bytes: u64,
    pub(super) state: ChunkState,
}

/// Who has to do with a chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ChunkState {
    /// A thread writes to it.
    Open,
    /// No more events, but details may follow.
    Waiting,
    /// It is as it will be.
    Finished,
}

/// What is to be done.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Decision {
    /// The folders whose threads go on in a new one.
    pub(super) go_on: Vec<u32>,
    /// The folders that go.
    pub(super) delete: Vec<u32>,
}

/// The policy, and how fast the recording grows.
#[derive(Debug)]
pub(super) struct Rotator {
    keep_ns: Option<u64>,
    max_size: Option<u64>,
    /// What was kept after the last decision, and how much is written from tick to tick, in bytes on the disk.
    kept: u64,
    pace: u64,
    /// Nothing more is written.
    is_over: bool,
}

impl Chunk {
    /// What it takes of the disk: whole blocks, and one for the folder. So many small ones count, too.
    pub(super) fn on_disk(&self) -> u64 {
        self.bytes.next_multiple_of(BLOCK) + BLOCK
    }

    /// Whether details of its time were kept.
    fn is_in(&self, windows: &[Arc<Window>]) -> bool {
        let from = windows.partition_point(|window| window.end_ns < self.first_ns);
        windows.get(from).is_some_and(|window| window.start_ns <= self.last_ns)
    }
}

impl Rotator {
    pub(super) fn new(rotation: Rotation) -> Self {
        let keep_ns = rotation.keep.map(timespan::nanoseconds);
        Self { keep_ns, max_size: rotation.max_size, kept: 0, pace: 0, is_over: false }
    }

    /// Only one more decision follows, after which nothing is written: no room has to be left.
    pub(super) fn last(&mut self) {
        self.is_over = true;
    }

    /// What is to be done at `now_ns` about `chunks`, which are all that are kept. `windows`: the times in which details
    /// were kept, in order; --keep leaves what is in them alone.
    pub(super) fn decide(&mut self, chunks: &[Chunk], windows: &[Arc<Window>], now_ns: u64) -> Decision {
        let mut decision = Decision::default();
        let mut rest: Vec<&Chunk> = chunks.iter().collect();
        if let Some(keep_ns) = self.keep_ns {
            let old = |chunk: &&Chunk| chunk.first_ns < now_ns.saturating_sub(keep_ns / CHUNKS_IN_TIME);
            decision.go_on.extend(open(chunks).filter(old).map(|chunk| chunk.folder));
            let goes = |chunk: &Chunk| {
                chunk.state == ChunkState::Finished
                    && chunk.last_ns < now_ns.saturating_sub(keep_ns)
                    && !chunk.is_in(windows)
            };
            decision.delete.extend(chunks.iter().filter(|chunk| goes(chunk)).map(|chunk| chunk.folder));
            rest.retain(|chunk| !goes(chunk));
        }
        if let Some(max_size) = self.max_size {
            self.fit(max_size, rest, &mut decision);
        }
        decision.go_on.truncate(AT_ONCE);
        decision
    }

    /// Makes what is kept small enough.
    fn fit(&mut self, max_size: u64, mut rest: Vec<&Chunk>, decision: &mut Decision) {
        let mut total: u64 = rest.iter().map(|chunk| chunk.on_disk()).sum();
        let written = total.saturating_sub(self.kept);
        self.pace = written.max(self.pace - self.pace / 8);
        let room = self.pace.saturating_mul(TICKS_AHEAD).clamp(max_size / 16, max_size / 2);
        let limit = if self.is_over { max_size } else { max_size - room };
        rest.sort_unstable_by_key(|chunk| (chunk.last_ns, chunk.folder));
        for chunk in rest.iter().filter(|chunk| chunk.state != ChunkState::Open) {
            if total <= limit {
                break;
            }
            total -= chunk.on_disk();
            decision.delete.push(chunk.folder);
        }
        self.kept = total;
        let mut is_open: Vec<&Chunk> = rest.into_iter().filter(|chunk| chunk.state == ChunkState::Open).collect();
        is_open.sort_unstable_by_key(|chunk| (std::cmp::Reverse(chunk.bytes), chunk.folder));
        for chunk in is_open {
            // What goes on now can go at the next tick.
            if total <= limit || chunk.bytes < SMALLEST_FORCED {
                break;
            }
            total = total.saturating_sub(chunk.bytes);
            if !decision.go_on.contains(&chunk.folder) {
                decision.go_on.push(chunk.folder);
            }
        }
    }
}

/// Those that can go on elsewhere: a chunk without events is as good as a new one.
fn open(chunks: &[Chunk]) -> impl Iterator<Item = &Chunk> {
    chunks.iter().filter(|chunk| chunk.state == ChunkState::Open && chunk.events > 0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        super::flight::{FlightOptions, FlightRecorder},
        *,
    };
    use crate::trigger::Roll;

    const SECOND: u64 = 1_000_000_000;
    const TICK: u64 = SECOND / 25;
    /// Header and footer of a file.
    const ENDS: u64 = 128;
    const EVENT: u64 = 32;

    fn chunk(folder: u32, first_ns: u64, last_ns: u64, bytes: u64, state: ChunkState) -> Chunk {
        Chunk { folder, first_ns, last_ns, events: bytes.saturating_sub(ENDS / 2) / EVENT, bytes, state }
    }

    fn by_time(seconds: u64) -> Rotator {
        Rotator::new(Rotation { keep: Some(Duration::from_secs(seconds)), max_size: None })
    }

    fn by_size(max_size: u64) -> Rotator {
        Rotator::new(Rotation { keep: None, max_size: Some(max_size) })
    }

    /// One window, from `start_ns` to `end_ns`.
    fn windows(start_ns: u64, end_ns: u64) -> Vec<Arc<Window>> {
        let (pre_roll, post_roll) = (Roll::Time(Duration::ZERO), Roll::Time(Duration::from_nanos(end_ns - start_ns)));
        let mut flight = FlightRecorder::new(&FlightOptions { pre_roll, post_roll, buffer: 0 }, 0);
        flight.mark("", start_ns, &mut |_| true);
        flight.shared_windows().collect()
    }

    #[test]
    fn a_chunk_goes_when_all_of_it_is_too_old() {
        use ChunkState::{Finished, Open, Waiting};
        let chunks = [
            chunk(0, 0, 10 * SECOND - 1, 96, Finished),
            chunk(1, 0, 10 * SECOND, 96, Finished),
            chunk(2, 0, 5 * SECOND, 96, Waiting),
            chunk(3, 5 * SECOND, 6 * SECOND, 96, Open),
            chunk(4, 18 * SECOND, 20 * SECOND, 96, Open),
            chunk(5, 5 * SECOND, 5 * SECOND, 0, Open),
        ];
        let decision = by_time(10).decide(&chunks, &[], 20 * SECOND);
        assert_eq!(decision, Decision { go_on: vec![3], delete: vec![0] });
    }

    #[test]
    fn the_seconds_that_matter_stay_unless_they_are_too_much() {
        let chunks = [2, 4, 6]
            .map(|at| chunk(at, SECOND * u64::from(at), SECOND * u64::from(at + 1), 1 << 20, ChunkState::Finished));
        let windows = windows(5 * SECOND, 11 * SECOND / 2);
        let mut rotator = by_time(10);
        assert_eq!(rotator.decide(&chunks, &windows, 100 * SECOND).delete, [2, 6]);
        let mut rotator = by_size(1 << 20);
        assert_eq!(rotator.decide(&chunks, &windows, 8 * SECOND).delete, [2, 4, 6]);
    }

    #[test]
    fn the_oldest_go_first() {
        use ChunkState::{Finished, Open, Waiting};
        let mega = 1 << 20;
        let chunks = [
            chunk(0, 0, 9, 3 * mega, Finished),
            chunk(1, 0, 5, 3 * mega, Waiting),
            chunk(2, 0, 7, mega, Open),
            chunk(3, 0, 8, 1000, Open),
        ];
        let mut rotator = by_size(10 * mega);
        assert_eq!(rotator.decide(&chunks, &[], 10), Decision { go_on: vec![], delete: vec![1] });
    }

    #[test]
    fn with_nothing_but_open_chunks_the_largest_go_on() {
        let open = |folder, kilo: u64| chunk(folder, 0, 9, kilo << 10, ChunkState::Open);
        let chunks: Vec<Chunk> = (0..40).map(|folder| open(folder, 20 + u64::from(folder))).collect();
        let decision = by_size(1 << 20).decide(&chunks, &[], 10);
        assert!(decision.delete.is_empty());
        assert!(decision.go_on.starts_with(&[39, 38, 37]) && decision.go_on.len() < 40, "{decision:?}");
    }

    /// A recording in simulation: each thread has one open chunk.
    struct Simulation {
        chunks: Vec<Chunk>,
        next: u32,
        now_ns: u64,
        largest: u64,
        /// 0: no details come late. Otherwise: how soon they have come.
        waits: u8,
    }

    impl Simulation {
        fn new(threads: u32, waits: u8) -> Self {
            let chunks = (0..threads).map(|folder| chunk(folder, 0, 0, ENDS / 2, ChunkState::Open)).collect();
            Self { chunks, next: threads, now_ns: 100 * SECOND, largest: u64::MAX, waits }
        }

        /// Time goes by, in which each thread writes so many events.
        fn write(&mut self, events: &[u64]) {
            let open = self.chunks.iter_mut().filter(|chunk| chunk.state == ChunkState::Open);
            for (chunk, events) in open.zip(events).filter(|(_, events)| **events > 0) {
                chunk.last_ns = self.now_ns + TICK;
                if chunk.events == 0 {
                    chunk.first_ns = self.now_ns + 1;
                }
                chunk.events += events;
                chunk.bytes += events * EVENT;
            }
            self.now_ns += TICK;
            let is_large = |chunk: &&Chunk| chunk.state == ChunkState::Open && chunk.bytes >= self.largest;
            let large = self.chunks.iter().filter(is_large).map(|chunk| chunk.folder).collect();
            self.obey(&Decision { go_on: large, delete: Vec::new() });
        }

        fn obey(&mut self, decision: &Decision) -> Vec<Chunk> {
            for chunk in self.chunks.iter_mut().filter(|chunk| chunk.state == ChunkState::Waiting) {
                if self.next % 3 == u32::from(self.waits) {
                    chunk.state = ChunkState::Finished;
                }
            }
            for folder in &decision.go_on {
                let going = self.chunks.iter_mut().find(|chunk| chunk.folder == *folder).unwrap();
                assert!(going.state == ChunkState::Open && going.events > 0);
                going.bytes += ENDS / 2;
                going.state = if self.waits > 0 { ChunkState::Waiting } else { ChunkState::Finished };
                self.chunks.push(chunk(self.next, 0, 0, ENDS / 2, ChunkState::Open));
                self.next += 1;
            }
            let goes = |chunk: &Chunk| decision.delete.contains(&chunk.folder);
            let gone = self.chunks.iter().filter(|chunk| goes(chunk)).copied().collect();
            self.chunks.retain(|chunk| !goes(chunk));
            gone
        }

        fn on_disk(&self) -> u64 {
            self.chunks.iter().map(Chunk::on_disk).sum()
        }
    }

    proptest! {
        /// With bursts that are no larger than what there is always room for, the size is never above the limit, and what
        /// goes is older than what stays.
        #[test]
        fn the_size_is_kept(
            waits in 0..3_u8,
            mega in 1..4_u64,
            ticks in prop::collection::vec([0..400_u64, 0..400, 0..200], 1..400),
        ) {
            let max_size = mega << 20;
            let (mut rotator, mut simulation) = (by_size(max_size), Simulation::new(3, waits));
            simulation.largest = Rotation { keep: None, max_size: Some(max_size) }.largest_chunk();
            for events in ticks {
                simulation.write(&events);
                prop_assert!(simulation.on_disk() <= max_size, "{}", simulation.on_disk());
                let decision = rotator.decide(&simulation.chunks, &[], simulation.now_ns);
                let gone = simulation.obey(&decision);
                prop_assert!(gone.iter().all(|chunk| chunk.state != ChunkState::Open));
                let newest = gone.iter().map(|chunk| chunk.last_ns).max().unwrap_or(0);
                let stays = simulation.chunks.iter().filter(|chunk| chunk.events > 0);
                prop_assert!(stays.filter(|chunk| chunk.state != ChunkState::Open).all(|chunk| chunk.last_ns >= newest));
                prop_assert!(gone.is_empty() || simulation.on_disk() >= max_size / 4, "more than needed went");
            }
        }

        /// Nothing that is younger than what is to be kept goes, or that is in a window; all else goes before long.
        #[test]
        fn the_time_is_kept(
            keep in 1..4_u64,
            window in 100..110_u64,
            ticks in prop::collection::vec([0..3_u64, 0..3, 0..2000], 1..400),
        ) {
            let windows = windows(window * SECOND, (window + 1) * SECOND);
            let (mut rotator, mut simulation) = (by_time(keep), Simulation::new(3, 0));
            for events in ticks {
                simulation.write(&events);
                let decision = rotator.decide(&simulation.chunks, &windows, simulation.now_ns);
                let from_ns = simulation.now_ns - keep * SECOND;
                let is_in = |chunk: &Chunk| chunk.first_ns <= (window + 1) * SECOND && chunk.last_ns >= window * SECOND;
                for chunk in simulation.obey(&decision) {
                    prop_assert!(chunk.last_ns < from_ns && !is_in(&chunk), "{chunk:?}");
                }
                let oldest_ns = from_ns - keep * SECOND / CHUNKS_IN_TIME - 2 * TICK;
                let mut with_events = simulation.chunks.iter().filter(|chunk| chunk.events > 0 && !is_in(chunk));
                prop_assert!(with_events.all(|chunk| chunk.first_ns >= oldest_ns), "{:?}", simulation.chunks);
            }
        }
    }
}
