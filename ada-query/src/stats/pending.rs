//! Calls that are not in their function's statistics yet.
//!
//! ```text
//! call ─▶ Pending: one line of the cache for each function ─── 11 calls ──▶ FunctionStats: some KiB of buckets
//! ```
//!
//! The buckets of thousands of functions fit in no cache, these lines fit in the second. When one is full, the way to the
//! buckets is waited for once. Invariant: a call is either pending or in the statistics, and it makes no difference when
//! it gets there.

use super::FunctionStats;
use crate::span::{End, Span};

/// What a line has room for.
const MOST: usize = 11;

/// Calls of one function.
#[derive(Clone, Debug, Default)]
#[repr(align(64))]
pub(super) struct Pending {
    /// Time of outermost calls, and of all without those below them, in nanoseconds.
    total_ns: u64,
    self_ns: u64,
    calls: u32,
    durations_ns: [u32; MOST],
}

const _: () = assert!(size_of::<Pending>() == 64);

impl Pending {
    /// Adds a call. False if there is no room, or if it took 2³² ns or more or did not end with a return.
    #[inline]
    pub(super) fn add(&mut self, span: &Span) -> bool {
        let (Ok(duration_ns), true) = (u32::try_from(span.duration_ns()), span.end == End::Return && span.is_timed())
        else {
            return false;
        };
        let Some(place) = self.durations_ns.get_mut(self.calls as usize) else { return false };
        *place = duration_ns;
        self.calls += 1;
        // A few times 4 seconds do not overflow.
        self.self_ns += span.self_ns();
        self.total_ns += if span.outermost { span.duration_ns() } else { 0 };
        true
    }

    /// Moves all calls to the statistics.
    pub(super) fn add_to(&mut self, stats: &mut FunctionStats) {
        stats.calls += u64::from(self.calls);
        stats.self_ns = stats.self_ns.saturating_add(self.self_ns);
        stats.total_ns = stats.total_ns.saturating_add(self.total_ns);
        stats.latency.add_all(self.durations_ns.get(..self.calls as usize).unwrap_or_default());
        (self.calls, self.self_ns, self.total_ns) = (0, 0, 0);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::span::Place;

    fn span(duration_ns: u64, children_ns: u64, end: End, flags: u8) -> Span {
        Span {
            function: 0,
            start_ns: 1000,
            too_short: false,
            end_ns: 1000 + duration_ns,
            children_ns: children_ns.min(duration_ns),
            end,
            depth: 0,
            number: 0,
            parent: None,
            outermost: flags & 1 == 0,
            cut: flags == 9,
            over_loss: flags == 10,
            call: Place::default(),
            ret: None,
            ret_detail: None,
        }
    }

    proptest! {
        #[test]
        fn it_makes_no_difference_when_calls_are_added(
            spans in prop::collection::vec(
                (
                    prop_oneof![9 => 0..3000_u64, 1 => 4_294_967_290..4_294_967_300_u64],
                    0..4000_u64,
                    prop_oneof![9 => Just(End::Return), 1 => Just(End::Unwound), 1 => Just(End::Missed)],
                    0..12_u8,
                )
                    .prop_map(|(duration_ns, children_ns, end, flags)| span(duration_ns, children_ns, end, flags)),
                0..100,
            )
        ) {
            let (mut pending, mut late, mut at_once) = (Pending::default(), FunctionStats::default(), FunctionStats::default());
            for span in &spans {
                at_once.add(span);
                if !pending.add(span) {
                    pending.add_to(&mut late);
                    if !pending.add(span) {
                        late.add(span);
                    }
                }
            }
            pending.add_to(&mut late);
            prop_assert_eq!(late.calls, spans.len() as u64);
            prop_assert_eq!(format!("{late:?}"), format!("{at_once:?}"));
        }
    }
}
