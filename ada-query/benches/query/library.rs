//! Opening, pairing on one processor, and the report on all of them.
//!
//! Invariant: pairing includes reading the files; its visitor uses every span.

use std::path::Path;
use std::time::{Duration, Instant};

use ada_query::run::run;
use ada_query::select::Selection;
use ada_query::span::{Span, Visitor};
use ada_query::stats::{Options, Report};
use ada_query::trace::Trace;

use crate::Failure;
use crate::row::Row;

/// Uses spans, and keeps nothing.
struct Sum(u64);

impl Visitor for Sum {
    type Mark = ();

    fn exit(&mut self, span: &Span, (): ()) {
        self.0 = self.0.wrapping_add(span.self_ns());
    }
}

pub(crate) fn bench(dir: &Path, rounds: usize) -> Result<Vec<Row>, Failure> {
    let all = Selection::default();
    let trace = Trace::open(dir)?;
    let events = trace.event_count() as f64;
    let opening = best(rounds, || Trace::open(dir).map(|trace| trace.time_range()));
    let pairing = best(rounds, || {
        let mut sum = Sum(0);
        (run(&trace, &all, &mut sum), sum.0)
    });
    let report = best(rounds, || Report::new(&trace, &all, Options::default()));
    let rate = events / pairing.as_secs_f64() / 1e6;
    let row = |name: &str, value, unit, target, met| Row { name: name.to_owned(), value, unit, target, met };
    let opening = opening.as_secs_f64() * 1e3;
    Ok(vec![
        row("open", opening, "ms", "< 5 ms", opening < 5.0),
        row("pairing, with reading, by core", rate, "M events/s", ">= 30 M events/s", rate >= 30.0),
        row("statistics, all cores", events / report.as_secs_f64() / 1e6, "M events/s", "", true),
    ])
}

fn best<T>(rounds: usize, work: impl Fn() -> T) -> Duration {
    let time = |_| {
        let start = Instant::now();
        std::hint::black_box(work());
        start.elapsed()
    };
    (0..rounds).map(time).min().unwrap_or_default()
}
