//! A live thread of the target: its running calls, and the files that its events go to.
//!
//! Invariant: `delivered` counts every event that was to be written; what the files have less in the end is lost.

use ada_format::{
    layout::EventKind,
    wire::MAX_SLOTS,
    write::{Detail, FunctionDetail, Memory, SignalDetail, ThreadWriter, WriteError},
};

use super::depth::CallStack;
use crate::backend::CallDetail;

/// One thread.
#[derive(Debug)]
pub(super) struct Thread {
    pub(super) folder: u32,
    pub(super) pid: u32,
    pub(super) tid: u32,
    pub(super) stack: CallStack,
    /// The number of the stack on which its files say that it runs; 0 is its own.
    pub(super) runs_on: u32,
    pub(super) writer: ThreadWriter,
    /// Events that were to be written, and the time of the last one. A failing write also takes back some that the writer
    /// had accepted.
    pub(super) delivered: u64,
    pub(super) last_ns: u64,
}

/// What is written into the index.
#[derive(Debug, Clone, Copy)]
pub(super) struct Event {
    pub(super) time_ns: u64,
    pub(super) function_id: u64,
    pub(super) kind: EventKind,
    pub(super) depth: u32,
}

impl Thread {
    /// Writes an event.
    #[inline]
    pub(super) fn write(&mut self, event: Event) -> Result<u32, WriteError> {
        self.note(event);
        self.writer.append(event.time_ns, event.function_id, event.kind, event.depth)
    }

    /// Writes an event and its detail.
    pub(super) fn write_with(&mut self, event: Event, detail: &Detail<'_>) -> Result<u32, WriteError> {
        self.note(event);
        let Event { time_ns, function_id, kind, depth } = event;
        self.writer.append_with_detail(time_ns, function_id, kind, depth, detail).map(|(index_seq, _)| index_seq)
    }

    /// Events that were to be written and are not.
    pub(super) fn missing(&self) -> u64 {
        self.delivered.saturating_sub(self.writer.event_count())
    }

    #[inline]
    fn note(&mut self, event: Event) {
        self.delivered += 1;
        self.last_ns = event.time_ns;
    }
}

/// The pieces of memory that came with a call or return, as the writer takes them.
#[derive(Debug, Default)]
pub(super) struct Pieces<'a> {
    pieces: [Memory<'a>; MAX_SLOTS],
    count: usize,
}

impl<'a> Pieces<'a> {
    pub(super) fn of(call: &CallDetail<'a>) -> Self {
        let mut all = Self::default();
        for (place, (slot, head, bytes)) in all.pieces.iter_mut().zip(call.memory.pieces()) {
            *place = Memory { slot, address: head.address, full_length: head.full_length, bytes };
            all.count += 1;
        }
        all
    }

    fn as_slice(&self) -> &[Memory<'a>] {
        self.pieces.get(..self.count).unwrap_or_default()
    }
}

/// What came with a call or return, as the writer takes it.
pub(super) fn function_detail<'a>(call: &CallDetail<'a>, pieces: &'a Pieces<'a>) -> FunctionDetail<'a> {
    let registers = &call.detail.registers;
    FunctionDetail {
        regs: registers.regs,
        return_address: registers.return_address,
        frame_pointer: registers.frame_pointer,
        stack_pointer: call.detail.stack_pointer,
        stack: call.stack,
        memory: pieces.as_slice(),
    }
}

/// What came with a signal, as the writer takes it.
pub(super) fn signal_detail(signal: &ada_format::wire::Signal) -> SignalDetail<'_> {
    let count = signal.register_count as usize;
    SignalDetail {
        number: signal.number,
        code: signal.code,
        fault_address: signal.fault_address,
        registers: signal.registers.get(..count).unwrap_or_default(),
    }
}
