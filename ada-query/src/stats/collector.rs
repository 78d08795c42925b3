//! Collects the statistics of some threads, as their calls end.
//!
//! Invariant: what is pending is of the current group, and is in its table before that is put away.

use std::collections::HashMap;

use ada_format::manifest::{Form, Location, Signature};

use super::pending::Pending;
use super::{FunctionStats, Group, Grouping, Options, Rate};
use crate::QueryError;
use crate::detail::Details;
use crate::functions::FunctionIndex;
use crate::span::{Span, Visitor};
use crate::trace::{Thread, Trace};

/// The functions of each group that were called: threads are many, and most call few of all functions.
pub(super) type Tables = HashMap<Group, Vec<(FunctionIndex, FunctionStats)>>;

/// Collects the statistics of some threads.
pub(super) struct Collector<'a> {
    trace: &'a Trace,
    options: Options,
    rate: Option<Rate>,
    /// The group of the current thread, and its table.
    group: Group,
    table: Vec<FunctionStats>,
    /// Calls that are not in the table yet, by function.
    pending: Vec<Pending>,
    tables: Tables,
    details: Details,
    failed: Vec<(u32, QueryError)>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(trace: &'a Trace, options: Options, rate: Option<Rate>) -> Self {
        Self {
            trace,
            options,
            rate,
            group: Group::Session,
            table: Vec::new(),
            pending: Vec::new(),
            tables: Tables::new(),
            details: Details::default(),
            failed: Vec::new(),
        }
    }

    /// The tables of all groups, and the threads whose values could not be read to their end.
    pub(super) fn finish(mut self) -> (Tables, Vec<(u32, QueryError)>) {
        self.put_away();
        (self.tables, self.failed)
    }

    fn put_away(&mut self) {
        for (pending, stats) in self.pending.iter_mut().zip(&mut self.table) {
            pending.add_to(stats);
        }
        let called = (0..).zip(&mut self.table).filter(|(_, stats)| stats.calls > 0);
        let called: Vec<_> = called.map(|(function, stats)| (function, std::mem::take(stats))).collect();
        if !called.is_empty() {
            self.tables.insert(self.group, called);
        }
    }

    /// Goes on where a group was put away.
    fn take_out(&mut self, group: Group) {
        self.group = group;
        for (function, stats) in self.tables.remove(&group).unwrap_or_default() {
            if let Some(place) = self.table.get_mut(function as usize) {
                *place = stats;
            }
        }
    }

    #[cold]
    fn make_room(&mut self, function: FunctionIndex) {
        let functions = self.trace.functions().len().max(function as usize + 1);
        self.table.resize_with(functions, FunctionStats::default);
        self.pending.resize_with(functions.max(self.pending.len()), Pending::default);
    }

    /// A call that cannot wait, or for which there is no room.
    #[inline(never)]
    fn add(&mut self, span: &Span) {
        let function = span.function as usize;
        if self.table.len() <= function {
            self.make_room(span.function);
        }
        let Some((pending, stats)) = self.pending.get_mut(function).zip(self.table.get_mut(function)) else { return };
        pending.add_to(stats);
        if !pending.add(span) {
            stats.add(span);
        }
    }

    /// What is not asked for every time.
    fn add_more(&mut self, span: &Span) {
        let value = match (span.ret_detail, span.ret) {
            (Some(seq), Some(ret)) if self.options.values => self.value(ret.part, seq),
            _ => None,
        };
        let Some(stats) = self.table.get_mut(span.function as usize) else { return };
        if let Some(value) = value {
            let known = self.trace.functions().known().get(span.function as usize);
            if let Some((negative, null)) = judged(known.and_then(|known| known.signature.as_deref()), value) {
                stats.values += 1;
                stats.negative += u64::from(negative);
                stats.null += u64::from(null);
            }
        }
        if let Some(rate) = self.rate.filter(|_| !span.cut) {
            if stats.rate.is_empty() {
                stats.rate.resize(rate.buckets, 0);
            }
            if let Some(count) = stats.rate.get_mut(rate.bucket(span.start_ns)) {
                *count = count.saturating_add(1);
            }
        }
    }

    #[cold]
    fn value(&mut self, part: u32, seq: u32) -> Option<u64> {
        match self.details.value(part, seq) {
            Ok(value) => value,
            Err(error) => {
                self.details.stop();
                self.failed.push((part, error));
                None
            }
        }
    }
}

impl Visitor for Collector<'_> {
    type Mark = ();

    fn thread(&mut self, thread: &Thread) {
        let group = match self.options.grouping {
            Grouping::Session => Group::Session,
            Grouping::Process => Group::Process(thread.pid),
            Grouping::Thread => Group::Thread(thread.index),
        };
        if group != self.group {
            self.put_away();
            self.take_out(group);
        }
        if self.options.values {
            self.details = Details::new(thread);
        }
    }

    #[inline]
    fn exit(&mut self, span: &Span, (): ()) {
        if !self.pending.get_mut(span.function as usize).is_some_and(|pending| pending.add(span)) {
            self.add(span);
        }
        if self.rate.is_some() || self.options.values && span.ret_detail.is_some() {
            self.add_more(span);
        }
    }
}

/// Whether a value that was returned is negative, and whether it is null; none for a function that, by its signature, does
/// not return one in the first register.
fn judged(signature: Option<&Signature>, value: u64) -> Option<(bool, bool)> {
    let Some(signature) = signature else { return Some((is_negative(value), value == 0)) };
    let returned = signature.returns.as_ref()?;
    returned.place.first().filter(|part| part.at == Location::Register(0))?;
    // The register's upper bytes are nobody's.
    let unused = 64 - 8 * returned.form.size().clamp(1, 8);
    let value = value << unused;
    match &returned.form {
        Form::Signed { .. } | Form::Enum { .. } => Some((value.cast_signed() < 0, value == 0)),
        // As mmap(2) says that it has failed.
        Form::Pointer { .. } | Form::Reference { .. } | Form::CString | Form::Buffer { .. } => {
            Some((value == u64::MAX, value == 0))
        }
        Form::Unsigned { .. } | Form::Octal { .. } | Form::Bool { .. } | Form::Char { .. } | Form::Flags { .. } => {
            Some((false, value == 0))
        }
        _ => None,
    }
}

/// As a number of 64 bits, or as one of 32 in a register whose upper half is empty.
fn is_negative(value: u64) -> bool {
    value.cast_signed() < 0 || (value >> 31) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_says_what_a_value_is() {
        let returning = |form| Signature {
            returns: Some(ada_format::manifest::Value {
                form,
                place: vec![ada_format::manifest::Part { at: Location::Register(0), offset: 0, size: 8 }],
                ..Default::default()
            }),
            ..Signature::default()
        };
        let judge = |form, value| judged(Some(&returning(form)), value);
        assert_eq!(judge(Form::Signed { size: 4 }, 0xdead_0000_ffff_ffff), Some((true, false)));
        assert_eq!(judge(Form::Signed { size: 8 }, 0xffff_ffff), Some((false, false)));
        assert_eq!(judge(Form::Signed { size: 4 }, 0xdead_0000_0000_0000), Some((false, true)));
        assert_eq!(judge(Form::Unsigned { size: 8 }, u64::MAX), Some((false, false)));
        assert_eq!(judge(Form::Bool { size: 1 }, 0xff00), Some((false, true)));
        assert_eq!(judge(Form::Pointer { to: None }, 0xffff_8000_0000_0000), Some((false, false)));
        assert_eq!(judge(Form::Pointer { to: None }, u64::MAX), Some((true, false)));
        assert_eq!(judge(Form::Float { size: 8 }, 0), None);
        assert_eq!(judged(Some(&Signature::default()), 0), None);
        assert_eq!(judged(None, 0xffff_ffff), Some((true, false)));
    }

    #[test]
    fn negative_numbers_of_both_widths() {
        assert!(is_negative(u64::MAX) && is_negative(0xffff_ffff) && is_negative(0x8000_0000));
        assert!(!is_negative(0) && !is_negative(0x7fff_ffff) && !is_negative(0x7f00_0000_0000));
    }
}
