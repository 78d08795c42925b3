//! Brings the rings of all processors into one stream that is in time order within each thread.
//!
//! A thread that migrates leaves its records in several rings, and a record may hide behind one that another, preempted
//! thread has reserved and not yet committed. Two facts make the order certain without holding anything back in memory:
//!
//! 1. *What may be delivered.* The clock is read, then every ring is scanned. If a ring has no uncommitted record, it
//!    is complete up to that time: what is added later was reserved later. Otherwise it is complete up to the last time
//!    it had none. Let W be the earliest of these. If a record of a thread is no later than W, then every earlier
//!    record of the same thread was committed before W, so it was seen by the scan.
//! 2. *In which order.* Merging by the time of each ring's first record is right although a ring is not sorted: all that
//!    lies before a record R of a thread in R's ring was reserved before R was, and so has an earlier time than
//!    every later record of that thread in any other ring (a record takes its time before its place).
//!
//! A first record later than W ends its ring's turn; what lies behind it was reserved after W and is not due either.
//!
//! *Late records.* A filter holds calls back and writes them when it knows that they count, with the time at which they
//! began: such a record's time is older than its place. Both facts hold all the same, because of what the kernel side
//! promises (ada-ebpf, `frames`): whenever a run of a program writes a call or return of its thread, it writes all that
//! is held back of that thread before. So the records of one run lie in one ring, in the order of time, and a call that
//! a later run writes late had not begun when the earlier run ended. With that, a record of a thread has a later time
//! than the *end* of every earlier run of it. For 1: a record no later than W shows that all earlier runs had committed
//! by W; those before it in its own run lie in front of it. For 2: what lies before R in R's ring was reserved before R,
//! so its time, which never is after its place, is earlier than that of any record of a later run of R's thread; and
//! records of the same run are in the same ring. The stream is in time order within a thread, not over all of them.

use std::{cmp::Reverse, collections::BinaryHeap};

/// A queue of records of one processor.
pub(super) trait Source {
    /// Takes notice of what was added. True if nothing in it is half-written.
    fn scan(&mut self) -> bool;
    /// Time of the first record that is complete, in nanoseconds.
    fn first_time(&mut self) -> Option<u64>;
    /// Hands the first record to `deliver` and drops it.
    fn take(&mut self, deliver: &mut impl FnMut(&[u8]));
    /// Ends a run of takes.
    fn release(&mut self);
}

/// Records taken from one source before its space is given back.
const RELEASE_EVERY: usize = 4096;

/// The state of a merge over sources that keep filling.
#[derive(Debug)]
pub(super) struct Merge<S> {
    sources: Vec<S>,
    /// For each source, the time up to which it is known to be complete.
    complete: Vec<u64>,
    /// Times of the first records and the sources they are in; kept for its allocation.
    heads: BinaryHeap<Reverse<(u64, usize)>>,
}

impl<S: Source> Merge<S> {
    pub(super) fn new(sources: Vec<S>) -> Self {
        let count = sources.len();
        Self { sources, complete: vec![0; count], heads: BinaryHeap::with_capacity(count) }
    }

    /// Delivers all that is due at `now`, a time read before the call; returns the number of records.
    pub(super) fn drain(&mut self, now: u64, deliver: &mut impl FnMut(&[u8])) -> usize {
        for (source, complete) in self.sources.iter_mut().zip(&mut self.complete) {
            if source.scan() {
                *complete = now;
            }
        }
        let due = self.complete.iter().copied().min().unwrap_or(0);
        self.fill_heads(due);
        let mut count = 0;
        while let Some(Reverse((_, index))) = self.heads.pop() {
            let until = self.heads.peek().map_or(due, |Reverse((time, _))| *time);
            count += self.take_run(index, until, due, deliver);
        }
        count
    }

    /// Whether the last drain found nothing half-written; `now` is the time it was given.
    pub(super) fn was_complete(&self, now: u64) -> bool {
        self.complete.iter().all(|complete| *complete == now)
    }

    fn fill_heads(&mut self, due: u64) {
        self.heads.clear();
        for (index, source) in self.sources.iter_mut().enumerate() {
            if let Some(time) = source.first_time().filter(|time| *time <= due) {
                self.heads.push(Reverse((time, index)));
            }
        }
    }

    /// Takes from one source while its first record is not later than `until`.
    fn take_run(&mut self, index: usize, until: u64, due: u64, deliver: &mut impl FnMut(&[u8])) -> usize {
        let Some(source) = self.sources.get_mut(index) else { return 0 };
        let mut count = 0;
        let next = loop {
            source.take(deliver);
            count += 1;
            if count % RELEASE_EVERY == 0 {
                source.release();
            }
            match source.first_time() {
                Some(time) if time <= until => {}
                next => break next,
            }
        };
        source.release();
        if let Some(time) = next.filter(|time| *time <= due) {
            self.heads.push(Reverse((time, index)));
        }
        count
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    /// A ring whose records are (time, thread, number); `visible` of them are committed, the next may be half-written.
    #[derive(Debug, Default)]
    struct Queue {
        records: VecDeque<(u64, u32, u32)>,
        committed: usize,
        busy: bool,
    }

    impl Source for Queue {
        fn scan(&mut self) -> bool {
            !self.busy
        }

        fn first_time(&mut self) -> Option<u64> {
            if self.committed > 0 { self.records.front().map(|record| record.0) } else { None }
        }

        fn take(&mut self, deliver: &mut impl FnMut(&[u8])) {
            let (_, thread, number) = self.records.pop_front().unwrap();
            self.committed -= 1;
            deliver(&(u64::from(thread) << 32 | u64::from(number)).to_ne_bytes());
        }

        fn release(&mut self) {}
    }

    /// A step of a simulated machine.
    #[derive(Debug, Clone)]
    enum Step {
        /// A thread takes the time of a record that it holds back.
        Hold { thread: usize },
        /// A thread forgets the last one: it does not count.
        Forget { thread: usize },
        /// A thread takes the time of a record that it writes, on a processor, with all that it has held back.
        Stamp { thread: usize, cpu: usize },
        /// It reserves the next place.
        Reserve { thread: usize },
        /// It commits it.
        Commit { thread: usize },
        /// The collector drains.
        Drain,
    }

    fn step(threads: usize, cpus: usize) -> impl Strategy<Value = Step> {
        prop_oneof![
            3 => (0..threads).prop_map(|thread| Step::Hold { thread }),
            1 => (0..threads).prop_map(|thread| Step::Forget { thread }),
            4 => (0..threads, 0..cpus).prop_map(|(thread, cpu)| Step::Stamp { thread, cpu }),
            4 => (0..threads).prop_map(|thread| Step::Reserve { thread }),
            4 => (0..threads).prop_map(|thread| Step::Commit { thread }),
            1 => Just(Step::Drain),
        ]
    }

    #[derive(Debug, Clone, Copy)]
    enum Phase {
        Idle,
        Stamped { cpu: usize, time: u64 },
        Reserved { cpu: usize, more: Option<u64> },
    }

    /// Rings in which every place has an owner, committed or not, as the kernel keeps them.
    struct Machine {
        rings: Vec<Vec<(u64, u32, u32, bool)>>,
        fed: Vec<usize>,
        phases: Vec<Phase>,
        held: Vec<VecDeque<u64>>,
        /// Times of each thread's records, in the order in which it wrote them.
        written: Vec<Vec<u64>>,
        clock: u64,
    }

    impl Machine {
        fn run(&mut self, step: &Step) {
            self.clock += 1;
            match *step {
                Step::Hold { thread } => {
                    if matches!(self.phases[thread], Phase::Idle) {
                        self.held[thread].push_back(self.clock);
                    }
                }
                Step::Forget { thread } => {
                    if matches!(self.phases[thread], Phase::Idle) {
                        self.held[thread].pop_back();
                    }
                }
                Step::Stamp { thread, cpu } => {
                    if matches!(self.phases[thread], Phase::Idle) {
                        self.phases[thread] = Phase::Stamped { cpu, time: self.clock };
                    }
                }
                Step::Reserve { thread } => {
                    if let Phase::Stamped { cpu, time } = self.phases[thread] {
                        let late = self.held[thread].pop_front();
                        let number = self.written[thread].len() as u32;
                        self.written[thread].push(late.unwrap_or(time));
                        self.rings[cpu].push((late.unwrap_or(time), thread as u32, number, false));
                        self.phases[thread] = Phase::Reserved { cpu, more: late.map(|_| time) };
                    }
                }
                Step::Commit { thread } => {
                    if let Phase::Reserved { cpu, more } = self.phases[thread] {
                        let own = self.rings[cpu].iter_mut().rev().find(|record| record.1 == thread as u32);
                        own.unwrap().3 = true;
                        self.phases[thread] = more.map_or(Phase::Idle, |time| Phase::Stamped { cpu, time });
                    }
                }
                Step::Drain => {}
            }
        }

        /// Shows the queues what a scan of the rings would find now.
        fn feed(&mut self, queues: &mut [Queue]) {
            for ((ring, fed), queue) in self.rings.iter().zip(&mut self.fed).zip(queues) {
                let ready = ring[*fed..].iter().take_while(|record| record.3).count();
                queue.records.extend(ring[*fed..*fed + ready].iter().map(|record| (record.0, record.1, record.2)));
                queue.committed += ready;
                *fed += ready;
                queue.busy = *fed < ring.len();
            }
        }
    }

    proptest! {
        /// However threads migrate and are preempted, and whatever they hold back: each thread's records come out in
        /// order, and all of them do.
        #[test]
        fn every_thread_comes_out_in_order(steps in prop::collection::vec(step(5, 3), 1..400)) {
            let (threads, cpus) = (5, 3);
            let mut machine = Machine {
                rings: vec![Vec::new(); cpus],
                fed: vec![0; cpus],
                phases: vec![Phase::Idle; threads],
                held: vec![VecDeque::new(); threads],
                written: vec![Vec::new(); threads],
                clock: 0,
            };
            let mut merge = Merge::new((0..cpus).map(|_| Queue::default()).collect());
            let mut delivered: Vec<u64> = Vec::new();
            let mut deliver = |bytes: &[u8]| delivered.push(u64::from_ne_bytes(bytes.try_into().unwrap()));
            for step in &steps {
                machine.run(step);
                if matches!(step, Step::Drain) {
                    let now = machine.clock;
                    machine.feed(&mut merge.sources);
                    merge.drain(now, &mut deliver);
                }
            }
            for thread in 0..threads {
                while !matches!(machine.phases[thread], Phase::Idle) {
                    machine.run(&Step::Reserve { thread });
                    machine.run(&Step::Commit { thread });
                }
            }
            machine.feed(&mut merge.sources);
            merge.drain(u64::MAX, &mut deliver);
            for thread in 0..threads as u64 {
                let of_thread = delivered.iter().filter(|record| *record >> 32 == thread);
                let numbers: Vec<u64> = of_thread.map(|record| record & 0xffff_ffff).collect();
                let written = &machine.written[thread as usize];
                prop_assert!(written.is_sorted());
                prop_assert_eq!(numbers, (0..written.len() as u64).collect::<Vec<u64>>());
            }
        }
    }
}
