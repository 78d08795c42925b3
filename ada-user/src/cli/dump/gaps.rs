//! The places where events are missing, in the order in which a dump comes to them.
//!
//! Invariant: each gap of a selected thread that the range touches is given once.

use std::vec::IntoIter;

use ada_format::manifest::{Gap, Manifest};

use super::range::Range;
use super::selection::Selection;
use crate::cli::names::Who;

/// Gaps that lie ahead.
pub(super) struct Gaps {
    ahead: IntoIter<(Gap, Who)>,
    current: Option<(Gap, Who)>,
    /// When the next one begins; the greatest time if there is none.
    next_ns: u64,
}

impl Gaps {
    /// Those of the selected threads within the range.
    pub(super) fn new(manifest: &Manifest, selection: &Selection<'_>, range: &Range) -> Self {
        let wanted = |gap: &&Gap| selection.wants(gap.thread) && range.touches(gap.time_start_ns, gap.time_end_ns);
        let gaps = manifest.lost.gaps.iter().filter(wanted);
        let mut gaps: Vec<_> = gaps.map(|gap| (*gap, Who::of_id(gap.thread, manifest))).collect();
        gaps.sort_by_key(|(gap, _)| (gap.time_start_ns, gap.thread));
        let next_ns = gaps.first().map_or(u64::MAX, |(gap, _)| gap.time_start_ns);
        Self { ahead: gaps.into_iter(), current: None, next_ns }
    }

    /// The next gap, if it begins before or at this time.
    #[inline]
    pub(super) fn due(&mut self, time_ns: u64) -> Option<(&Gap, &Who)> {
        if self.next_ns > time_ns { None } else { self.take() }
    }

    #[cold]
    fn take(&mut self) -> Option<(&Gap, &Who)> {
        self.current = self.ahead.next();
        self.next_ns = self.ahead.as_slice().first().map_or(u64::MAX, |(gap, _)| gap.time_start_ns);
        self.current.as_ref().map(|(gap, who)| (gap, who))
    }
}
