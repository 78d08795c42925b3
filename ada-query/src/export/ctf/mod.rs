//! Common Trace Format 1.8: a folder with a stream of packets for each stack of each thread, and their description.
//!
//! Invariant: only the files of one thread are open at a time; the description comes last, so that a folder without one
//! is not whole.

mod metadata;
mod packet;

use std::fs::File;
use std::path::Path;

use ada_format::manifest::Gap;

use self::packet::Packets;
use super::names;
use super::nest::{Begin, Ended, Sink};
use super::values::{Signal, Values};
use super::{ExportError, Exported, create, lead};
use crate::functions::FunctionIndex;
use crate::select::Selection;
use crate::span::{Mark, MarkKind};
use crate::switches::Switches;
use crate::trace::{Thread, Trace};

pub(super) fn export(trace: &Trace, selection: &Selection, dir: &Path) -> Result<Exported, ExportError> {
    let switches = Switches::find(trace, selection);
    let known = u32::try_from(trace.functions().known().len()).unwrap_or(u32::MAX);
    // Readers count from 1970, with a sign.
    let latest_ns = u64::try_from(i128::from(i64::MAX) - names::wall_offset_ns(trace).max(0)).unwrap_or(0);
    let writer = Writer {
        dir,
        latest_ns,
        uuid: metadata::uuid(trace),
        thread: None,
        stacks: Vec::new(),
        functions: known,
        bytes: 0,
    };
    let (writer, exported) = lead(trace, selection, &switches, writer)?;
    let path = dir.join("metadata");
    let text = metadata::text(trace, writer.functions);
    std::fs::write(&path, &text).map_err(|source| ExportError::File { path, source })?;
    Ok(Exported { bytes: writer.bytes + text.len() as u64, ..exported })
}

struct Writer<'a> {
    dir: &'a Path,
    uuid: [u8; 16],
    /// Later times cannot be told.
    latest_ns: u64,
    thread: Option<Thread>,
    /// By stack.
    stacks: Vec<Packets<File>>,
    /// The greatest function number, and one more.
    functions: u32,
    bytes: u64,
}

impl Writer<'_> {
    /// The packets of a stack; there are those of all stacks before it.
    fn packets(&mut self, stack: u32) -> Result<&mut Packets<File>, ExportError> {
        while self.stacks.len() <= stack as usize {
            let Some(thread) = &self.thread else { break };
            let number = u32::try_from(self.stacks.len()).unwrap_or(u32::MAX);
            let name = if number == 0 { String::new() } else { format!("_{}", number + 1) };
            let file = create(&self.dir.join(format!("thread_{}{name}", thread.id)))?;
            let ids = (names::pid(thread), thread.tid, thread.id);
            self.stacks.push(Packets::new(file, self.uuid, ids, &thread.name, self.latest_ns));
        }
        // There is one from a thread's beginning to its end.
        self.stacks.get_mut(stack as usize).ok_or(ExportError::Changed)
    }

    fn event(
        &mut self,
        id: u8,
        time_ns: u64,
        stack: u32,
        function: FunctionIndex,
    ) -> Result<&mut Packets<File>, ExportError> {
        self.functions = self.functions.max(function.saturating_add(1));
        let packets = self.packets(stack)?;
        packets.event(id, time_ns)?;
        packets.bytes(&function.to_le_bytes());
        Ok(packets)
    }
}

fn text(value: Option<serde_json::Value>) -> String {
    value.map(|value| value.to_string()).unwrap_or_default()
}

impl Sink for Writer<'_> {
    const VALUES: bool = true;
    const NESTS: bool = true;

    fn thread(&mut self, thread: &Thread) -> Result<(), ExportError> {
        self.thread = Some(thread.clone());
        self.packets(0).map(drop)
    }

    fn begin(&mut self, begin: &Begin) -> Result<(), ExportError> {
        let call = &begin.call;
        let packets = self.event(0, call.start_ns, begin.stack, call.function)?;
        packets.bytes(&begin.stack.to_le_bytes());
        packets.bytes(&call.depth.to_le_bytes());
        packets.bytes(&call.number.to_le_bytes());
        packets.text(&text(begin.arguments.as_deref().map(Values::json)));
        Ok(())
    }

    fn end(&mut self, ended: &Ended) -> Result<(), ExportError> {
        let span = &ended.span;
        let packets = self.event(1, span.end_ns, ended.stack, span.function)?;
        packets.bytes(&ended.stack.to_le_bytes());
        packets.bytes(&span.depth.to_le_bytes());
        for number in [span.number, span.duration_ns(), span.self_ns()] {
            packets.bytes(&number.to_le_bytes());
        }
        packets.bytes(&[metadata::number_of(span.end)]);
        packets.text(&text(ended.returned.as_ref().map(Values::returned)));
        Ok(())
    }

    fn mark(&mut self, mark: &Mark, signal: Option<&Signal>) -> Result<(), ExportError> {
        let id = match mark.kind {
            MarkKind::Signal => 2,
            MarkKind::UnmatchedReturn => 4,
            MarkKind::Unknown => 5,
        };
        let packets = self.event(id, mark.time_ns, 0, mark.function)?;
        if id == 2 {
            let signal = signal.copied().unwrap_or_default();
            packets.bytes(&signal.number.to_le_bytes());
            packets.bytes(&signal.code.to_le_bytes());
            packets.bytes(&signal.address.to_le_bytes());
        }
        Ok(())
    }

    fn gap(&mut self, gap: &Gap) -> Result<(), ExportError> {
        let packets = self.packets(0)?;
        packets.lose(gap.count)?;
        packets.event(3, gap.time_start_ns)?;
        packets.bytes(&gap.count.to_le_bytes());
        packets.bytes(&gap.time_end_ns.to_le_bytes());
        Ok(())
    }

    fn thread_end(&mut self) -> Result<(), ExportError> {
        for packets in self.stacks.drain(..) {
            self.bytes += packets.finish()?;
        }
        Ok(())
    }
}
