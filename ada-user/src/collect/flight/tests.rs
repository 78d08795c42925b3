//! What the flight recorder keeps, against a naive idea of it that sees everything and decides afterwards; and that it
//! stays within its bounds over minutes of calls.

use std::time::Duration;

use ada_format::{
    layout::EventKind,
    write::{Detail, FunctionDetail},
};
use proptest::{collection::vec, prelude::*};

use super::*;
use crate::collect::tests::allocations;

const BEGIN: u64 = 1_000;
const S: u64 = 1_000_000_000;

fn entry(thread: u32, index_seq: u32, time_ns: u64, stack: &[u8]) -> Entry<'_> {
    let detail = Detail::Function(FunctionDetail { stack, ..FunctionDetail::default() });
    Entry { thread, index_seq, time_ns, function_id: 1, kind: EventKind::Call, detail }
}

/// A recorder and the files that its details would go to.
struct Deck {
    flight: FlightRecorder,
    /// Thread, index position and time of each detail that was written, in that order.
    written: Vec<(u32, u32, u64)>,
    next: [u32; 4],
}

impl Deck {
    fn new(pre_roll: Roll, post_roll: Roll) -> Self {
        let options = FlightOptions { pre_roll, post_roll, buffer: 0 };
        Self { flight: FlightRecorder::new(&options, BEGIN), written: Vec::new(), next: [0; 4] }
    }

    fn event(&mut self, thread: u32, time_ns: u64, stack: &[u8]) {
        let place = &mut self.next[thread as usize];
        let index_seq = *place;
        *place += 1;
        match self.flight.route(time_ns) {
            Route::Write => {
                self.written.push((thread, index_seq, time_ns));
                self.flight.wrote();
            }
            Route::Keep => self.flight.keep(&entry(thread, index_seq, time_ns, stack)),
            Route::Drop => {}
        }
    }

    fn fire(&mut self, at_ns: u64, from_ns: u64) {
        let written = &mut self.written;
        let moment = Moment { at_ns, from_ns, event: None };
        let sink = &mut |entry: &Entry<'_>| {
            written.push((entry.thread, entry.index_seq, entry.time_ns));
            true
        };
        self.flight.open("mark", Arc::from("m"), moment, sink);
    }

    fn windows(&self) -> Vec<(u64, u64)> {
        self.flight.windows().map(|window| (window.start_ns, window.end_ns)).collect()
    }

    /// Each thread's details have come in the order of its index.
    fn is_in_order(&self) -> bool {
        (0..4).all(|thread| {
            let of_thread = self.written.iter().filter(|(of, _, _)| *of == thread);
            of_thread.map(|(_, seq, _)| *seq).is_sorted_by(|a, b| a < b)
        })
    }

    fn times(&self) -> Vec<u64> {
        let mut times: Vec<u64> = self.written.iter().map(|(_, _, time)| *time).collect();
        times.sort_unstable();
        times
    }
}

/// One step of a random recording.
#[derive(Clone, Debug)]
enum Step {
    /// An event of a thread, so long after the last one, and so much late.
    Event { thread: u32, after: u64, late: u64 },
    /// Something fires that is about a moment so long ago.
    Fire { ago: u64 },
}

fn steps(latest: u64) -> impl Strategy<Value = Vec<Step>> {
    let event = (0..4_u32, 1..20_u64, 0..=latest).prop_map(|(thread, after, late)| Step::Event { thread, after, late });
    let fire = (0..120_u64).prop_map(|ago| Step::Fire { ago });
    vec(prop_oneof![12 => event, 1 => fire], 1..400)
}

proptest! {
    /// Time decides: a detail is kept exactly if it lies in a window, however its thread lags behind the others.
    #[test]
    fn rolls_of_time(
        (pre, post, steps) in (0..40_u64, 0..60_u64, 0..60_u64)
            .prop_flat_map(|(latest, more, post)| (Just(latest + more), Just(post), steps(latest))),
    ) {
        let roll = |ns| Roll::Time(Duration::from_nanos(ns));
        let mut deck = Deck::new(roll(pre), roll(post));
        let (mut now, mut last) = (BEGIN, [BEGIN; 4]);
        let (mut seen, mut windows): (Vec<u64>, Vec<(u64, u64)>) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Event { thread, after, late } => {
                    now += after;
                    let time = (now - late.min(now - BEGIN)).max(last[thread as usize]);
                    last[thread as usize] = time;
                    deck.event(thread, time, &[]);
                    seen.push(time);
                }
                Step::Fire { ago } => {
                    let from = now.saturating_sub(ago).max(BEGIN);
                    deck.fire(now, from);
                    let start = from.saturating_sub(pre).max(BEGIN);
                    match windows.last_mut() {
                        Some(last) if start <= last.1 => last.1 = now + post,
                        _ => windows.push((start, now + post)),
                    }
                }
            }
        }
        seen.retain(|time| windows.iter().any(|(start, end)| (start..=end).contains(&time)));
        seen.sort_unstable();
        prop_assert_eq!(deck.times(), seen);
        prop_assert_eq!(deck.windows(), windows);
        prop_assert!(deck.is_in_order());
        let kept: u64 = deck.flight.windows().map(|window| window.details).sum();
        prop_assert_eq!(kept, deck.written.len() as u64);
    }

    /// Rolls that are counted in events, where these come in the order of their times.
    #[test]
    fn rolls_of_events(pre in 0..12_u64, post in 0..12_u64, steps in steps(0)) {
        let mut deck = Deck::new(Roll::Events(pre), Roll::Events(post));
        let mut now = BEGIN;
        let (mut seen, mut windows): (Vec<u64>, Vec<(u64, u64)>) = (Vec::new(), Vec::new());
        for step in steps {
            match step {
                Step::Event { thread, after, .. } => {
                    now += after;
                    deck.event(thread, now, &[]);
                    seen.push(now);
                }
                Step::Fire { ago } => {
                    let from = now.saturating_sub(ago).max(BEGIN);
                    deck.fire(now, from);
                    // In numbers of events: from this one on, up to but without that one.
                    let start = (seen.iter().filter(|time| **time < from).count() as u64).saturating_sub(pre);
                    let end = seen.len() as u64 + post;
                    match windows.last_mut() {
                        Some(last) if start < last.1 => last.1 = end,
                        _ => windows.push((start, end)),
                    }
                }
            }
        }
        let inside = |at: u64| windows.iter().any(|(start, end)| (start..end).contains(&&at));
        let expected: Vec<u64> = (0..).zip(&seen).filter(|(at, _)| inside(*at)).map(|(_, time)| *time).collect();
        prop_assert_eq!(deck.times(), expected);
        prop_assert!(deck.is_in_order());
    }

    /// A buffer that is too small: the window tells from when on it has everything, and that it does.
    #[test]
    fn a_short_buffer_is_told(events in 1..2000_u64, stack in 0..=512_usize, pre in 0..3000_u64) {
        let mut deck = Deck::new(Roll::Time(Duration::from_nanos(pre)), Roll::Events(0));
        let stack = vec![1; stack];
        for time in 0..events {
            deck.event((time % 4) as u32, BEGIN + time, &stack);
        }
        let (first, now) = (deck.flight.buffer.oldest_ns().unwrap(), BEGIN + events - 1);
        deck.fire(now, now);
        let asked = now.saturating_sub(pre).max(BEGIN);
        let window = deck.flight.windows().next().unwrap().clone();
        prop_assert_eq!(window.start_ns, asked.max(first));
        prop_assert_eq!(window.complete, first <= asked);
        prop_assert_eq!(window.pre_roll_ns, now - window.start_ns);
        prop_assert_eq!(deck.times(), (window.start_ns..=now).collect::<Vec<_>>());
    }
}

#[test]
fn only_what_was_written_counts_as_kept() {
    let second = Roll::Time(Duration::from_secs(1));
    let options = FlightOptions { pre_roll: second, post_roll: second, buffer: 1 << 20 };
    let mut flight = FlightRecorder::new(&options, BEGIN);
    for number in 0..10 {
        assert_eq!(flight.route(BEGIN + u64::from(number)), Route::Keep);
        flight.keep(&entry(0, number, BEGIN + u64::from(number), &[]));
    }
    // The disk is full after four of them; then two of five are written.
    let mut room = 4;
    flight.mark("", BEGIN + 9, &mut |_| {
        room -= 1;
        room >= 0
    });
    for number in 10..15 {
        assert_eq!(flight.route(BEGIN + number), Route::Write);
        if number < 12 {
            flight.wrote();
        }
    }
    assert_eq!((flight.windows().next().unwrap().details, flight.details()), (6, 6));
}

#[test]
fn a_look_at_the_windows_copies_the_last_alone() {
    let nothing = Roll::Time(Duration::ZERO);
    let options = FlightOptions { pre_roll: nothing, post_roll: nothing, buffer: 0 };
    let mut flight = FlightRecorder::new(&options, BEGIN);
    let mut look = |at_ns| {
        flight.mark("", at_ns, &mut |_| true);
        flight.shared_windows().collect::<Vec<_>>()
    };
    let looks = [BEGIN, BEGIN + 10, BEGIN + 20].map(&mut look);
    let same = |one: usize, other: usize, place: usize| Arc::ptr_eq(&looks[one][place], &looks[other][place]);
    assert_eq!(looks.each_ref().map(Vec::len), [1, 2, 3]);
    assert!(same(1, 2, 0) && !same(1, 2, 1));
    let times = |window: &Arc<Window>| window.start_ns;
    assert_eq!(looks[2].iter().map(times).collect::<Vec<_>>(), [BEGIN, BEGIN + 10, BEGIN + 20]);
}

#[test]
fn a_window_says_what_opened_it_and_what_prolonged_it() {
    let mut deck = Deck::new(Roll::Time(Duration::from_nanos(10)), Roll::Time(Duration::from_nanos(5)));
    let flight = &mut deck.flight;
    let id = flight.triggers.add("exit".parse().unwrap(), Vec::new(), BEGIN);
    flight.fire(id, Moment { at_ns: 1050, from_ns: 1040, event: Some((3, 9)) }, &mut |_| true);
    flight.mark("here", 1055, &mut |_| true);
    flight.mark("", 1100, &mut |_| true);
    // Reaches back over the start of the window that it falls into, where nothing is left.
    flight.fire(id, Moment { at_ns: 1101, from_ns: 1060, event: None }, &mut |_| true);
    flight.finish(1103);
    let windows: Vec<&Window> = flight.windows().collect();
    let about = |window: &Window| (window.start_ns, window.end_ns, window.pre_roll_ns, window.complete);
    assert_eq!(
        windows.iter().map(|window| about(window)).collect::<Vec<_>>(),
        [(1030, 1060, 10, true), (1090, 1103, 10, false),]
    );
    let first = &windows[0].triggers;
    assert_eq!(
        (first[0].kind, &*first[0].what, first[0].thread, first[0].index_seq),
        ("exit", "exit", Some(3), Some(9))
    );
    assert_eq!((first[1].kind, &*first[1].what, first[1].thread), ("mark", "here", None));
}

#[test]
fn lists_are_bounded() {
    let none = Roll::Events(0);
    let mut deck = Deck::new(none, none);
    for time in 0..2 * TRIGGERS_LISTED as u64 {
        deck.fire(BEGIN, BEGIN + time / 1_000_000);
    }
    let first = deck.flight.windows().next().unwrap();
    assert_eq!(first.manifest().extra["triggers_unlisted"], TRIGGERS_LISTED);
    assert_eq!((first.triggers.len() as u64, first.unlisted), (TRIGGERS_LISTED as u64, TRIGGERS_LISTED as u64));
    for time in 1..=2 * WINDOWS_LISTED as u64 {
        deck.event(0, BEGIN + 2 * time, &[]);
        deck.fire(BEGIN + 2 * time, BEGIN + 2 * time);
    }
    assert_eq!(deck.flight.windows().count(), WINDOWS_LISTED + 1);
    assert_eq!(deck.flight.windows_unlisted(), WINDOWS_LISTED as u64);
    assert_eq!(deck.flight.status(0).windows, 2 * WINDOWS_LISTED as u64 + 1);
}

/// A hundred thousand calls per second with 128 bytes of stack, and one that takes 80 ms in the middle.
fn simulate(seconds: u64) {
    const STEP: u64 = 5_000;
    const SLOW: u64 = 80_000_000;
    let stack = [7; 128];
    let second = Roll::Time(Duration::from_secs(1));
    let options = FlightOptions { pre_roll: second, post_roll: second, buffer: 64 << 20 };
    let mut flight = FlightRecorder::new(&options, BEGIN);
    flight.triggers.add("slow=libx:f>50ms".parse().unwrap(), vec![crate::plan::FunctionId(0)], BEGIN);
    let events = seconds * (S / STEP);
    let slow_call = events / 2;
    let slow_return = slow_call + SLOW / STEP;
    let (mut count, mut outside, mut largest) = (0_u64, 0_u64, 0);
    let range = BEGIN + slow_call * STEP - S..=BEGIN + slow_return * STEP + S;
    let before = allocations();
    for number in 0..events {
        let time_ns = BEGIN + number * STEP;
        let (thread, took) = match number {
            _ if number == slow_call => (1, 0),
            _ if number == slow_return => (1, SLOW),
            _ => (0, number % 2 * STEP),
        };
        let mut written = |time_ns: u64| {
            count += 1;
            outside += u64::from(!range.contains(&time_ns));
        };
        match flight.route(time_ns) {
            Route::Write => written(time_ns),
            Route::Keep => flight.keep(&entry(thread, number as u32, time_ns, &stack)),
            Route::Drop => {}
        }
        if let Some(id) = flight.triggers.returned(0, took) {
            let moment = Moment { at_ns: time_ns, from_ns: time_ns - took, event: Some((thread, number as u32)) };
            flight.fire(id, moment, &mut |entry| {
                written(entry.time_ns);
                true
            });
        }
        largest = largest.max(flight.buffer.bytes());
    }
    // The list of threads and that of windows; not one for each of millions of events.
    assert!(allocations() - before < 20, "{} allocations", allocations() - before);
    assert_eq!((count, outside), ((range.end() - range.start()) / STEP + 1, 0));
    assert!(largest <= flight.buffer.capacity() && flight.buffer.capacity() == 64 << 20);
    let windows: Vec<_> = flight.windows().map(|window| (window.start_ns..=window.end_ns, window.complete)).collect();
    assert_eq!(windows, [(range, true)]);
}

#[test]
fn a_minute_of_calls_with_a_slow_one() {
    simulate(60);
}

#[test]
#[ignore = "ten minutes' worth: cargo test -p ada-user --lib -- --ignored ten_minutes"]
fn ten_minutes_of_calls_with_a_slow_one() {
    simulate(600);
}
