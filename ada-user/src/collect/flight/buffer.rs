//! The details of the last moments: a ring of bytes that is allocated once.
//!
//! ```text
//! not wrapped:   ┆      [read ── entries ── write)            ┆
//! wrapped:       ┆ [0 ── newer ── write)   [read ── older ── end)  ┆
//! ```
//!
//! Invariant: entries are whole and in the order they came; the oldest go when there is no room for a new one.

use zerocopy::FromBytes;

use super::{
    entry::{Entry, Head, decode, encode, encoded_length},
    holders::Holders,
};

/// The least that a buffer holds, in bytes: some of the longest entries.
pub const SMALLEST_BUFFER: usize = 128 << 10;

/// What becomes of a buffered entry when a window has been opened or prolonged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is handed out.
    Take,
    /// It stays.
    Stay,
    /// It goes unseen: no window can want it any more.
    Drop,
}

/// A bounded ring of entries.
#[derive(Debug)]
pub struct DetailBuffer {
    data: Box<[u8]>,
    read: usize,
    write: usize,
    /// Where the older part ends, if there is a newer one at the front.
    end: Option<usize>,
    entries: usize,
    bytes: usize,
    /// Time of the newest entry that went for want of room.
    evicted_ns: Option<u64>,
    holders: Holders,
}

impl DetailBuffer {
    /// A buffer of `capacity` bytes, or [`SMALLEST_BUFFER`] if that is more. The memory becomes used as it fills.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            data: vec![0; capacity.max(SMALLEST_BUFFER)].into_boxed_slice(),
            read: 0,
            write: 0,
            end: None,
            entries: 0,
            bytes: 0,
            evicted_ns: None,
            holders: Holders::default(),
        }
    }

    /// Bytes that it takes, whatever is in it.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.data.len()
    }

    /// Bytes of the entries in it.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Number of entries in it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Time of the oldest entry.
    #[must_use]
    pub fn oldest_ns(&self) -> Option<u64> {
        self.head(self.read).filter(|_| self.entries > 0).map(|head| head.time_ns.get())
    }

    /// Time of the newest entry that went for want of room.
    #[must_use]
    pub fn evicted_ns(&self) -> Option<u64> {
        self.evicted_ns
    }

    /// Adds an entry; the oldest make room for it. False if it is longer than the whole buffer: then it is not kept.
    pub fn push(&mut self, entry: &Entry<'_>) -> bool {
        let length = encoded_length(entry);
        let Some(at) = self.make_room(length) else {
            self.evicted_ns = self.evicted_ns.max(Some(entry.time_ns));
            return false;
        };
        if let Some(place) = self.data.get_mut(at..at + length) {
            encode(entry, place);
        }
        self.write = at + length;
        self.entries += 1;
        self.bytes += length;
        self.holders.add(entry.thread);
        true
    }

    /// The time of the entry that lies `count` entries before the first one that is not before `from_ns`, in the order they
    /// came. `None` if there are fewer.
    #[must_use]
    pub fn time_before(&self, from_ns: u64, count: u64) -> Option<u64> {
        let before = || self.heads().take_while(|head| head.time_ns.get() < from_ns);
        let skip = (before().count() as u64).checked_sub(count)?;
        let wanted = before().nth(usize::try_from(skip).ok()?);
        // Of none before it, the first is the one at `from_ns` itself.
        Some(wanted.map_or(from_ns, |head| head.time_ns.get()))
    }

    /// Goes through all entries, the oldest first, and hands those to `sink` of which `judge`, by their time, says so.
    pub(super) fn sift(&mut self, mut judge: impl FnMut(u64) -> Verdict, sink: &mut dyn FnMut(&Entry<'_>)) {
        let mut place = self.first();
        while let Some((at, head)) = place.and_then(|at| Some((at, self.head(at)?))) {
            let (length, thread) = (head.length.get() as usize, head.thread.get());
            let verdict = if head.gone == 1 { Verdict::Stay } else { judge(head.time_ns.get()) };
            if verdict == Verdict::Take {
                decode(self.data.get(at..at + length).unwrap_or_default(), sink);
            }
            if verdict != Verdict::Stay {
                self.mark_gone(at);
                self.entries -= 1;
                self.bytes -= length;
                self.holders.remove(thread);
            }
            place = self.after(at, length);
        }
        self.skip_gone();
    }

    /// The thread adds nothing more. True if nothing of it is left; otherwise [`take_released`](Self::take_released) will
    /// tell when that is so.
    pub fn thread_ended(&mut self, thread: u32) -> bool {
        self.holders.end(thread)
    }

    /// An ended thread of which nothing is left any more, each once.
    pub fn take_released(&mut self) -> Option<u32> {
        self.holders.take_released()
    }

    /// The threads that have entries here.
    pub fn threads(&self) -> impl Iterator<Item = u32> {
        self.holders.threads()
    }

    /// The place for an entry of that length, once enough old ones have gone.
    fn make_room(&mut self, length: usize) -> Option<usize> {
        if length > self.data.len() {
            return None;
        }
        loop {
            if self.is_unused() {
                (self.read, self.write, self.end) = (0, 0, None);
            }
            match self.end {
                None if self.write + length <= self.data.len() => return Some(self.write),
                None if length <= self.read => {
                    self.end = Some(self.write);
                    return Some(0);
                }
                Some(_) if self.write + length <= self.read => return Some(self.write),
                _ => self.evict(),
            }
        }
    }

    /// Whether there is nothing at all in it, not even what is gone.
    fn is_unused(&self) -> bool {
        self.end.is_none() && self.read == self.write
    }

    /// Takes the oldest entry out.
    fn evict(&mut self) {
        let Some(head) = self.head(self.read) else {
            // Entries are whole, so this cannot be; but nothing of it is worth an endless loop.
            (self.read, self.write, self.end) = (0, 0, None);
            return;
        };
        let (length, thread, time_ns) = (head.length.get() as usize, head.thread.get(), head.time_ns.get());
        if head.gone == 0 {
            self.entries -= 1;
            self.bytes -= length;
            self.evicted_ns = self.evicted_ns.max(Some(time_ns));
            self.holders.remove(thread);
        }
        self.advance(length);
        self.skip_gone();
    }

    /// Moves `read` behind an entry of that length.
    fn advance(&mut self, length: usize) {
        self.read += length;
        if self.end.is_some_and(|end| self.read >= end) {
            (self.read, self.end) = (0, None);
        }
    }

    fn skip_gone(&mut self) {
        while let Some(at) = self.first()
            && let Some(head) = self.head(at).filter(|head| head.gone == 1)
        {
            let length = head.length.get() as usize;
            self.advance(length);
        }
    }

    fn mark_gone(&mut self, at: usize) {
        if let Some((head, _)) = self.data.get_mut(at..).and_then(|rest| Head::mut_from_prefix(rest).ok()) {
            head.gone = 1;
        }
    }

    fn first(&self) -> Option<usize> {
        (!self.is_unused()).then_some(self.read)
    }

    /// The place of the entry behind the one at `at`, if there is one.
    fn after(&self, at: usize, length: usize) -> Option<usize> {
        let next = at + length;
        match self.end {
            Some(end) if at >= self.read && next >= end => Some(0).filter(|_| self.write > 0),
            Some(_) if at >= self.read => Some(next),
            _ => Some(next).filter(|next| *next < self.write),
        }
    }

    fn head(&self, at: usize) -> Option<&Head> {
        Head::ref_from_prefix(self.data.get(at..)?).ok().map(|(head, _)| head).filter(|head| head.length.get() > 0)
    }

    /// The heads of all entries that are not gone.
    fn heads(&self) -> impl Iterator<Item = &Head> {
        let mut place = self.first();
        let all = std::iter::from_fn(move || {
            let at = place?;
            let head = self.head(at)?;
            place = self.after(at, head.length.get() as usize);
            Some(head)
        });
        all.filter(|head| head.gone == 0)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use ada_format::{
        layout::EventKind,
        write::{Detail, FunctionDetail, Memory},
    };
    use proptest::{collection::vec, prelude::*};

    use super::*;

    fn entry<'a>(thread: u32, time_ns: u64, memory: &'a [Memory<'a>]) -> Entry<'a> {
        let detail = Detail::Function(FunctionDetail { memory, ..FunctionDetail::default() });
        Entry { thread, index_seq: time_ns as u32, time_ns, function_id: 5, kind: EventKind::Call, detail }
    }

    fn times(buffer: &mut DetailBuffer, judge: impl FnMut(u64) -> Verdict) -> Vec<u64> {
        let mut times = Vec::new();
        buffer.sift(judge, &mut |entry| times.push(entry.time_ns));
        times
    }

    #[test]
    fn released_threads_are_told_once() {
        let mut buffer = DetailBuffer::new(0);
        buffer.push(&entry(3, 1, &[]));
        buffer.push(&entry(4, 2, &[]));
        assert!(buffer.thread_ended(9), "it never had one");
        assert!(!buffer.thread_ended(3));
        assert_eq!(buffer.take_released(), None);
        assert_eq!(times(&mut buffer, |time| if time == 1 { Verdict::Take } else { Verdict::Stay }), [1]);
        assert_eq!((buffer.take_released(), buffer.take_released()), (Some(3), None));
        assert_eq!(buffer.threads().collect::<Vec<_>>(), [4]);
        times(&mut buffer, |_| Verdict::Drop);
        assert!(buffer.thread_ended(4) && buffer.is_empty() && buffer.bytes() == 0);
    }

    #[test]
    fn counting_back() {
        let mut buffer = DetailBuffer::new(0);
        for time in [10, 20, 30, 40] {
            buffer.push(&entry(0, time, &[]));
        }
        assert_eq!(buffer.time_before(35, 0), Some(35));
        assert_eq!(buffer.time_before(35, 1), Some(30));
        assert_eq!(buffer.time_before(35, 3), Some(10));
        assert_eq!(buffer.time_before(35, 4), None);
        assert_eq!(buffer.time_before(99, 4), Some(10));
    }

    #[test]
    fn no_more_goes_than_has_to() {
        let mut buffer = DetailBuffer::new(0);
        let filling = [0; 4096];
        let length = |bytes| encoded_length(&entry(0, 0, &[Memory { bytes, ..Memory::default() }]));
        let longest = length(&filling);
        for time in 0..1000 {
            let memory = [Memory { bytes: &filling[time * 7 % 4000..], ..Memory::default() }];
            buffer.push(&entry(0, time as u64, &memory));
            let full = buffer.evicted_ns().is_some();
            assert!(!full || buffer.bytes() + 2 * longest > buffer.capacity(), "{} at {time}", buffer.bytes());
        }
        assert!(buffer.evicted_ns().is_some());
    }

    #[test]
    fn what_is_longer_than_the_buffer_counts_as_gone() {
        let mut buffer = DetailBuffer::new(0);
        let bytes = vec![0; SMALLEST_BUFFER];
        let memory = [Memory { bytes: &bytes, ..Memory::default() }];
        buffer.push(&entry(0, 1, &[]));
        assert!(!buffer.push(&entry(0, 2, &memory)));
        assert_eq!((buffer.len(), buffer.evicted_ns()), (1, Some(2)));
    }

    proptest! {
        /// Against a list of the same entries: what is there is what came last, whole, and everything adds up.
        #[test]
        fn is_a_queue(steps in vec((0..4_u32, 0..20_000_usize, 0..12_u8), 1..200)) {
            let mut buffer = DetailBuffer::new(0);
            let mut oracle: VecDeque<(u32, u64, usize)> = VecDeque::new();
            let filling = vec![7; 20_000];
            for (time, (thread, length, action)) in steps.into_iter().enumerate() {
                let time = time as u64;
                let memory = [Memory { bytes: &filling[..length], ..Memory::default() }];
                let new = entry(thread, time, &memory);
                buffer.push(&new);
                oracle.push_back((thread, time, encoded_length(&new)));
                while oracle.len() > buffer.len() {
                    oracle.pop_front();
                }
                prop_assert_eq!(buffer.oldest_ns(), oracle.front().map(|(_, time, _)| *time));
                // Room is wasted at the end of the ring for one entry at most, and by what is gone in the middle.
                if action > 1 {
                    continue;
                }
                let judge = |time: u64| match time % 3 {
                    0 => Verdict::Take,
                    1 => Verdict::Drop,
                    _ => Verdict::Stay,
                };
                let expected: Vec<u64> = oracle.iter().map(|(_, time, _)| *time).filter(|time| time % 3 == 0).collect();
                prop_assert_eq!(times(&mut buffer, judge), expected);
                oracle.retain(|(_, time, _)| time % 3 == 2);
                prop_assert_eq!(buffer.len(), oracle.len());
                prop_assert_eq!(buffer.bytes(), oracle.iter().map(|(_, _, length)| length).sum::<usize>());
                let mut held: Vec<u32> = oracle.iter().map(|(thread, _, _)| *thread).collect();
                held.sort_unstable();
                held.dedup();
                prop_assert_eq!(buffer.threads().collect::<Vec<_>>(), held);
            }
            let left: Vec<u64> = oracle.iter().map(|(_, time, _)| *time).collect();
            prop_assert_eq!(times(&mut buffer, |_| Verdict::Take), left);
            prop_assert!(buffer.is_empty());
        }
    }
}
