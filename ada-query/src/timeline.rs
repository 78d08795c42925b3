//! A stretch of time as a picture of cells: a row for each depth, a column for each part of the time.
//!
//! Invariant: a cell shows the call that fills most of it; the picture's size alone decides how much is kept.

use crate::functions::FunctionIndex;
use crate::run::{Outcome, run_parallel};
use crate::select::Selection;
use crate::span::{Span, Visitor};
use crate::trace::{Thread, Trace};

/// What a cell shows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// The call that fills most of it, by its number in the thread; none if nothing ran at this depth.
    pub call: Option<(u64, FunctionIndex)>,
    /// How much of it that call fills, in nanoseconds.
    pub most_ns: u64,
    /// How much of it calls fill, in nanoseconds.
    pub filled_ns: u64,
    /// Calls that have a part in it.
    pub calls: u32,
}

/// A thread's picture.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Its place in [`Trace::threads`].
    pub thread: usize,
    /// Rows by depth, each of as many cells as there are columns; empty rows at the end are left out.
    pub rows: Vec<Vec<Cell>>,
    /// Calls deeper than the last row there may be.
    pub deeper: u64,
}

/// A picture of the selected threads that had calls.
#[derive(Debug)]
pub struct Timeline {
    /// When the picture begins, in nanoseconds of the clock.
    pub from_ns: u64,
    /// When it ends.
    pub until_ns: u64,
    /// By thread.
    pub lanes: Vec<Lane>,
    /// What became of every event, and what could not be read.
    pub outcome: Outcome,
}

impl Timeline {
    /// Draws the selected part of a session in `columns` columns, down to the depth `rows`.
    #[must_use]
    pub fn new(trace: &Trace, selection: &Selection, columns: usize, rows: usize) -> Self {
        let (first, last) = trace.time_range().unwrap_or_default();
        let from_ns = selection.from_ns.unwrap_or(first).max(first);
        let until_ns =
            selection.until_ns.unwrap_or(u64::MAX).min(last.saturating_add(1)).max(from_ns.saturating_add(1));
        let scale = Scale { from_ns, until_ns, columns: columns.max(1) };
        let (painters, outcome) =
            run_parallel(trace, selection, || Painter { scale, most_rows: rows, lanes: Vec::new() });
        let mut lanes: Vec<Lane> = painters.into_iter().flat_map(|painter| painter.lanes).collect();
        lanes.retain(|lane| !lane.rows.is_empty());
        lanes.sort_by_key(|lane| lane.thread);
        Self { from_ns, until_ns, lanes, outcome }
    }
}

#[derive(Clone, Copy, Debug)]
struct Scale {
    from_ns: u64,
    until_ns: u64,
    columns: usize,
}

impl Scale {
    fn length(&self) -> u128 {
        u128::from(self.until_ns - self.from_ns)
    }

    /// The column that a time is in.
    fn column(&self, time_ns: u64) -> usize {
        let within = u128::from(time_ns.clamp(self.from_ns, self.until_ns - 1) - self.from_ns);
        // Less than the number of columns.
        (within * self.columns as u128 / self.length()) as usize
    }

    /// When a column begins.
    fn start(&self, column: usize) -> u64 {
        let within = (column as u128 * self.length()).div_ceil(self.columns as u128);
        self.from_ns + u64::try_from(within).unwrap_or(u64::MAX - self.from_ns)
    }
}

struct Painter {
    scale: Scale,
    most_rows: usize,
    lanes: Vec<Lane>,
}

impl Visitor for Painter {
    type Mark = ();

    fn thread(&mut self, thread: &Thread) {
        self.lanes.push(Lane { thread: thread.index, rows: Vec::new(), deeper: 0 });
    }

    fn exit(&mut self, span: &Span, (): ()) {
        let Some(lane) = self.lanes.last_mut() else { return };
        let depth = span.depth as usize;
        if depth >= self.most_rows {
            lane.deeper += 1;
            return;
        }
        if span.start_ns >= self.scale.until_ns || span.end_ns < self.scale.from_ns {
            return;
        }
        while lane.rows.len() <= depth {
            lane.rows.push(vec![Cell::default(); self.scale.columns]);
        }
        let Some(row) = lane.rows.get_mut(depth) else { return };
        let (first, last) = (self.scale.column(span.start_ns), self.scale.column(span.end_ns));
        for column in first..=last {
            let Some(cell) = row.get_mut(column) else { return };
            let start = self.scale.start(column).max(span.start_ns);
            let end = self.scale.start(column + 1).min(span.end_ns);
            // An instant is there, too.
            let filled_ns = end.saturating_sub(start).max(1);
            if filled_ns > cell.most_ns {
                (cell.call, cell.most_ns) = (Some((span.number, span.function)), filled_ns);
            }
            cell.filled_ns = cell.filled_ns.saturating_add(filled_ns);
            cell.calls = cell.calls.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_cover_the_time_without_gaps() {
        for (from_ns, until_ns, columns) in [(0, 10, 3), (5, 6, 4), (100, u64::MAX, 80), (7, 1_000_007, 120)] {
            let scale = Scale { from_ns, until_ns, columns };
            assert_eq!((scale.start(0), scale.start(columns)), (from_ns, until_ns));
            for time in [from_ns, from_ns + (until_ns - from_ns) / 3, until_ns - 1] {
                let column = scale.column(time);
                assert!(column < columns && scale.start(column) <= time && time < scale.start(column + 1), "{time}");
            }
        }
    }
}
