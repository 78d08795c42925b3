//! What calls were given and gave back, where functions have signatures and events have detail; and what signals said.
//!
//! Invariant: details are looked up in the order of events, so that each detail file is read once; one that cannot be
//! read is named once, and its events do without from then on.

use std::io::Write;

use ada_format::manifest::Manifest;
use ada_format::read::{DetailEvent, Payload};
use ada_format::values::{Observed, values, write_call};
use ada_query::QueryError;
use ada_query::detail::Details;
use ada_query::functions::{FunctionIndex, Functions};
use ada_query::span::Mark;
use ada_query::trace::Thread;

use crate::cli::dump::{jsonl, signals};
use crate::cli::names::{IdMap, Typed, with_signatures};
use crate::cli::out::Out;

/// Bytes of a detail file that are read at once, also where many are read side by side, and how many are many.
const BLOCK: usize = 128 * 1024;
const SMALL_BLOCK: usize = 8 * 1024;
const MANY: usize = 64;

/// Reads them.
pub(super) struct Values {
    typed: IdMap<Typed>,
    /// By the thread's place.
    details: Vec<Details>,
    /// Folders whose details cannot be read, and why.
    pub(super) failed: Vec<(u32, QueryError)>,
}

impl Values {
    /// Those of a session's functions, and of no thread yet.
    pub(super) fn new(manifest: &Manifest) -> Self {
        Self { typed: with_signatures(manifest), details: Vec::new(), failed: Vec::new() }
    }

    /// The manifest names more functions by now.
    pub(super) fn learn(&mut self, manifest: &Manifest) {
        self.typed = with_signatures(manifest);
    }

    /// These are the threads, by their places. Those that were there before may have got more parts.
    pub(super) fn threads<'t>(&mut self, threads: impl ExactSizeIterator<Item = &'t Thread>) {
        let block = if threads.len() > MANY { SMALL_BLOCK } else { BLOCK };
        for (place, thread) in threads.enumerate() {
            match self.details.get_mut(place) {
                Some(details) => details.go_on(thread),
                None => self.details.push(Details::new(thread).in_blocks_of(block)),
            }
        }
    }

    /// Nothing new came of a thread: what is kept of its details is given back.
    pub(super) fn rest(&mut self, thread: usize) {
        if let Some(details) = self.details.get_mut(thread) {
            details.rest();
        }
    }

    /// Writes a call with its arguments, `open(path="/etc/hostname", flags=O_RDONLY)`, or what it gave back, ` = 3`.
    /// `false` if that is not known.
    pub(super) fn text<W: Write>(&mut self, out: &mut Out<W>, table: &Functions, thread: usize, of: Of) -> bool {
        self.with(table, thread, of, |event, typed| {
            let Some(observed) = Observed::event(event) else { return false };
            // A buffer in memory takes everything.
            let _ = write_call(out, &typed.name, &typed.signature, &observed);
            true
        })
        .unwrap_or(false)
    }

    /// Writes the same as keys of an object, `args` or `return`.
    pub(super) fn json<W: Write>(&mut self, out: &mut Out<W>, table: &Functions, thread: usize, of: Of) {
        self.with(table, thread, of, |event, typed| {
            if let Some(observed) = Observed::event(event) {
                jsonl::typed(out, &values(&typed.signature, &observed));
            }
        });
    }

    /// A signal in words, and its number.
    pub(super) fn signal(&mut self, thread: usize, mark: &Mark) -> Option<(String, u32)> {
        let event = self.event(thread, mark.place.part, mark.detail?)?;
        let Payload::Signal(signal) = event.payload()? else { return None };
        Some((signals::describe(&signal), signal.fixed.number.get()))
    }

    fn with<R>(
        &mut self,
        table: &Functions,
        thread: usize,
        of: Of,
        then: impl FnOnce(&DetailEvent<'_>, &Typed) -> R,
    ) -> Option<R> {
        let seq = of.detail?;
        let id = table.known().get(of.function as usize)?.function_id;
        if !self.typed.contains_key(&id) {
            return None;
        }
        // Taken out for a moment, since looking events up needs all of this.
        let typed = std::mem::take(&mut self.typed);
        let event = self.event(thread, of.part, seq);
        let result = event.zip(typed.get(&id)).map(|(event, typed)| then(&event, typed));
        self.typed = typed;
        result
    }

    fn event(&mut self, thread: usize, part: u32, seq: u32) -> Option<DetailEvent<'_>> {
        let details = self.details.get_mut(thread)?;
        let failed = details.event(part, seq).err();
        if let Some(error) = failed {
            self.failed.push((part, error));
            details.give_up(part);
        }
        // It is in memory now, or nowhere.
        Some(details.event(part, seq).ok()??.event())
    }
}

/// Which call or return.
#[derive(Clone, Copy)]
pub(super) struct Of {
    pub(super) function: FunctionIndex,
    /// The folder of its event, and its place in the detail file there.
    pub(super) part: u32,
    pub(super) detail: Option<u32>,
}
