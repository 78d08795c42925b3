//! Whether a session is whole: checksums, links between index and detail, order, and what the manifest says of it.
//!
//! Invariant: reads by pread(2), and finds at most [`MOST`] faults of each kind in a file, but counts all.

use std::path::Path;

use ada_format::layout::{EventKind, IndexEvent};
use ada_format::read::ThreadReader;

use crate::QueryError;
use crate::blocks::{BLOCK, Blocks};
use crate::detail::Details;
use crate::trace::{Part, Trace};

/// Faults of a kind that are described.
pub const MOST: u64 = 3;

/// Something that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The folder's ordinal; none if it is about the manifest.
    pub part: Option<u32>,
    /// What kind: `checksum`, `link`, `order`, `event`, `manifest`, `read`.
    pub kind: &'static str,
    /// What, in words.
    pub what: String,
}

/// What was looked at, and what was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Folders.
    pub parts: u64,
    /// Index events.
    pub events: u64,
    /// Links from index to detail that lead there and back.
    pub links: u64,
    /// Files with a checksum that is right.
    pub checksums: u64,
    /// Files without one: their recorder was killed, or is at work.
    pub unfinished: u64,
    /// What is not as it should be.
    pub faults: Vec<Fault>,
}

/// Reads every file of a session.
#[must_use]
pub fn verify(trace: &Trace) -> Verified {
    let mut verified = Verified::default();
    for broken in trace.broken() {
        verified.fault(Some(broken.id), "read", broken.error.to_string());
    }
    for part in trace.threads().iter().flat_map(|thread| &thread.parts) {
        verified.parts += 1;
        if let Some(reader) = trace.session().thread(part.id)
            && let Err(error) = verified.part(reader, part, trace)
        {
            verified.fault(Some(part.id), "read", error.to_string());
        }
    }
    verified.manifest(trace);
    verified
}

impl Verified {
    fn fault(&mut self, part: Option<u32>, kind: &'static str, what: String) {
        self.faults.push(Fault { part, kind, what });
    }

    fn part(&mut self, reader: &ThreadReader, part: &Part, trace: &Trace) -> Result<(), QueryError> {
        if let Some(error) = reader.detail_error() {
            self.fault(Some(part.id), "read", error.to_string());
        }
        let mut walk = Walk::new(part, reader);
        let mut blocks = Blocks::new(&part.index, part.events, BLOCK);
        loop {
            let position = blocks.position();
            let events = blocks.next_block(u64::MAX)?;
            if events.is_empty() {
                break;
            }
            walk.block(events, position)?;
            trace.count_read(events.len() as u64);
        }
        self.events += part.events;
        self.links += walk.links;
        let crc = walk.crc.finalize();
        for (kind, count, first) in walk.faults {
            self.faults.extend(first.into_iter().map(|what| Fault { part: Some(part.id), kind, what }));
            if count > MOST {
                self.fault(Some(part.id), kind, format!("{} more such faults", count - MOST));
            }
        }
        self.checksum(part, &part.index, reader.index().footer().map(|footer| footer.checksum.get()), crc);
        if let Some((path, detail)) = part.detail.as_ref().zip(reader.detail()) {
            let crc = crate::detail::checksum(path, detail.footer().map(|footer| footer.bytes_length.get()))?;
            self.checksum(part, path, detail.footer().map(|footer| footer.checksum.get()), crc);
        }
        Ok(())
    }

    fn checksum(&mut self, part: &Part, path: &Path, expected: Option<u32>, found: u32) {
        match expected {
            None => self.unfinished += 1,
            Some(expected) if expected == found => self.checksums += 1,
            Some(expected) => {
                let what = format!(
                    "{}: the events' checksum is {found:#010x}, the footer says {expected:#010x}",
                    path.display()
                );
                self.fault(Some(part.id), "checksum", what);
            }
        }
    }

    /// Compares the manifest's counts with the files', unless it lags behind them.
    fn manifest(&mut self, trace: &Trace) {
        if trace.is_recording() {
            return;
        }
        for entry in &trace.manifest().threads {
            let part =
                trace.thread_of(entry.id).and_then(|thread| thread.parts.iter().find(|part| part.id == entry.id));
            if let Some(part) = part.filter(|part| part.events != entry.event_count) {
                let what = format!("the manifest says {} events, the file has {}", entry.event_count, part.events);
                self.fault(Some(entry.id), "manifest", what);
            }
        }
    }
}

/// What is checked event by event.
struct Walk<'a> {
    part: &'a Part,
    tid: u32,
    crc: crc32fast::Hasher,
    details: Details,
    last_ns: u64,
    links: u64,
    /// Kind, how many, and the first of them.
    faults: Vec<(&'static str, u64, Vec<String>)>,
}

impl<'a> Walk<'a> {
    fn new(part: &'a Part, reader: &ThreadReader) -> Self {
        Self {
            part,
            tid: reader.tid(),
            crc: crc32fast::Hasher::new(),
            details: Details::of_part(part),
            last_ns: 0,
            links: 0,
            faults: Vec::new(),
        }
    }

    fn block(&mut self, events: &[IndexEvent], first: u64) -> Result<(), QueryError> {
        self.crc.update(zerocopy::IntoBytes::as_bytes(events));
        for (event, position) in events.iter().zip(first..) {
            let time_ns = event.timestamp_ns.get();
            if time_ns < self.last_ns {
                let before = self.last_ns;
                self.fault("order", || format!("event {position}: time {time_ns} comes after {before}"));
            }
            self.last_ns = time_ns.max(self.last_ns);
            if EventKind::from_raw(event.event_kind.get()).is_none() {
                self.fault("event", || {
                    format!("event {position}: kind {} is none of 1, 2, 3, 4", event.event_kind.get())
                });
            }
            let (tid, expected) = (event.thread_id.get(), self.tid);
            if tid != expected {
                self.fault("event", || format!("event {position}: thread id {tid}, the header says {expected}"));
            }
            if let Some(seq) = event.detail() {
                self.link(event, position, seq)?;
            }
        }
        Ok(())
    }

    fn link(&mut self, event: &IndexEvent, position: u64, seq: u32) -> Result<(), QueryError> {
        let found = self.details.event(self.part.id, seq)?;
        let what = match found {
            None => format!("event {position} leads to detail {seq}, which is not there"),
            Some(detail) if u64::from(detail.header.index_seq.get()) != position => {
                format!(
                    "event {position} leads to detail {seq}, which leads to event {}",
                    detail.header.index_seq.get()
                )
            }
            Some(detail) if detail.header.timestamp_ns != event.timestamp_ns => {
                format!("event {position} and its detail {seq} have different times")
            }
            Some(_) => {
                self.links += 1;
                return Ok(());
            }
        };
        self.fault("link", || what);
        Ok(())
    }

    fn fault(&mut self, kind: &'static str, what: impl FnOnce() -> String) {
        let place = self.faults.iter().position(|(known, ..)| *known == kind);
        let place = place.unwrap_or_else(|| {
            self.faults.push((kind, 0, Vec::new()));
            self.faults.len() - 1
        });
        if let Some((_, count, first)) = self.faults.get_mut(place) {
            *count += 1;
            if *count <= MOST {
                first.push(what());
            }
        }
    }
}
