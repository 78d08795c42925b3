//! A detail on its way through the buffer, and the bytes that it is there.
//!
//! ```text
//! ├ Head 32 ┼ FunctionPart 90 ┼ stack … ┼ Piece 17 + bytes … ┤
//! ├ Head 32 ┼ SignalPart 18 ┼ registers … ┤
//! ```
//!
//! Invariant: neither direction allocates, and what [`encode`] wrote [`decode`] gives back.

use ada_format::{
    layout::{EventKind, MAX_STACK},
    wire::{MAX_SIGNAL_REGISTERS, MAX_SLOTS},
    write::{Detail, FunctionDetail, Memory, SignalDetail},
};
use zerocopy::{
    FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned,
    little_endian::{I32, U16, U32, U64},
};

/// The detail of one event, with what links it to its place in the index.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// The ordinal of the thread's folder.
    pub thread: u32,
    /// Position of the event in the thread's index.
    pub index_seq: u32,
    /// Time of the event, `CLOCK_BOOTTIME` in nanoseconds.
    pub time_ns: u64,
    /// The function; 0 of a signal.
    pub function_id: u64,
    /// What the event is.
    pub kind: EventKind,
    /// Registers, stack and memory. At most 512 bytes of stack, 8 pieces of memory and 34 registers are kept.
    pub detail: Detail<'a>,
}

const FUNCTION: u8 = 1;
const SIGNAL: u8 = 2;

/// What every entry begins with.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub(super) struct Head {
    /// Of the whole entry, this head included.
    pub(super) length: U32,
    pub(super) thread: U32,
    index_seq: U32,
    kind: u8,
    payload: u8,
    pieces: u8,
    /// 1 once the entry has been handed out, while others before it are still there.
    pub(super) gone: u8,
    pub(super) time_ns: U64,
    function_id: U64,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct FunctionPart {
    regs: [U64; 8],
    return_address: U64,
    frame_pointer: U64,
    stack_pointer: U64,
    stack_size: U16,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct SignalPart {
    number: U32,
    code: I32,
    fault_address: U64,
    register_count: U16,
}

#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Piece {
    address: U64,
    full_length: U32,
    length: U32,
    slot: u8,
}

/// Length of the entry in the buffer, in bytes.
pub(super) fn encoded_length(entry: &Entry<'_>) -> usize {
    let payload = match &entry.detail {
        Detail::Function(function) => {
            let memory: usize = memory_of(function).iter().map(|piece| size_of::<Piece>() + piece.bytes.len()).sum();
            size_of::<FunctionPart>() + stack_of(function).len() + memory
        }
        Detail::Signal(signal) => size_of::<SignalPart>() + size_of_val(registers_of(signal)),
    };
    size_of::<Head>() + payload
}

/// Writes the entry to `place`, which is [`encoded_length`] long.
pub(super) fn encode(entry: &Entry<'_>, place: &mut [u8]) {
    let (payload, pieces) = match &entry.detail {
        Detail::Function(function) => (FUNCTION, memory_of(function).len()),
        Detail::Signal(_) => (SIGNAL, 0),
    };
    let head = Head {
        length: narrow(place.len()).into(),
        thread: entry.thread.into(),
        index_seq: entry.index_seq.into(),
        kind: u8::try_from(entry.kind.raw()).unwrap_or_default(),
        payload,
        pieces: u8::try_from(pieces).unwrap_or_default(),
        gone: 0,
        time_ns: entry.time_ns.into(),
        function_id: entry.function_id.into(),
    };
    let mut rest = place;
    put(&mut rest, head.as_bytes());
    match &entry.detail {
        Detail::Function(function) => put_function(&mut rest, function),
        Detail::Signal(signal) => put_signal(&mut rest, signal),
    }
}

/// Hands the entry that `bytes` hold to `take`. False if they hold none.
pub(super) fn decode(bytes: &[u8], take: &mut dyn FnMut(&Entry<'_>)) -> bool {
    let decoded = Head::ref_from_prefix(bytes).ok().and_then(|(head, rest)| match head.payload {
        FUNCTION => take_function(head, rest, take),
        SIGNAL => take_signal(head, rest, take),
        _ => None,
    });
    decoded.is_some()
}

fn put_function(rest: &mut &mut [u8], function: &FunctionDetail<'_>) {
    let stack = stack_of(function);
    let part = FunctionPart {
        regs: function.regs.map(Into::into),
        return_address: function.return_address.into(),
        frame_pointer: function.frame_pointer.into(),
        stack_pointer: function.stack_pointer.into(),
        stack_size: u16::try_from(stack.len()).unwrap_or_default().into(),
    };
    put(rest, part.as_bytes());
    put(rest, stack);
    for piece in memory_of(function) {
        let head = Piece {
            address: piece.address.into(),
            full_length: piece.full_length.into(),
            length: narrow(piece.bytes.len()).into(),
            slot: piece.slot,
        };
        put(rest, head.as_bytes());
        put(rest, piece.bytes);
    }
}

fn put_signal(rest: &mut &mut [u8], signal: &SignalDetail<'_>) {
    let registers = registers_of(signal);
    let part = SignalPart {
        number: signal.number.into(),
        code: signal.code.into(),
        fault_address: signal.fault_address.into(),
        register_count: u16::try_from(registers.len()).unwrap_or_default().into(),
    };
    put(rest, part.as_bytes());
    for register in registers {
        put(rest, &register.to_le_bytes());
    }
}

fn take_function(head: &Head, rest: &[u8], take: &mut dyn FnMut(&Entry<'_>)) -> Option<()> {
    let (part, rest) = FunctionPart::ref_from_prefix(rest).ok()?;
    let (stack, mut rest) = rest.split_at_checked(part.stack_size.get().into())?;
    let mut memory = [Memory::default(); MAX_SLOTS];
    let memory = memory.get_mut(..head.pieces.into())?;
    for piece in memory.iter_mut() {
        let (of, behind) = Piece::ref_from_prefix(rest).ok()?;
        let (bytes, behind) = behind.split_at_checked(of.length.get() as usize)?;
        *piece = Memory { slot: of.slot, address: of.address.get(), full_length: of.full_length.get(), bytes };
        rest = behind;
    }
    let function = FunctionDetail {
        regs: part.regs.map(U64::get),
        return_address: part.return_address.get(),
        frame_pointer: part.frame_pointer.get(),
        stack_pointer: part.stack_pointer.get(),
        stack,
        memory,
    };
    take(&entry(head, Detail::Function(function))?);
    Some(())
}

fn take_signal(head: &Head, rest: &[u8], take: &mut dyn FnMut(&Entry<'_>)) -> Option<()> {
    let (part, rest) = SignalPart::ref_from_prefix(rest).ok()?;
    let mut registers = [0; MAX_SIGNAL_REGISTERS];
    let registers = registers.get_mut(..part.register_count.get().into())?;
    let (words, _) = <[U64]>::ref_from_prefix_with_elems(rest, registers.len()).ok()?;
    for (register, word) in registers.iter_mut().zip(words) {
        *register = word.get();
    }
    let (number, code, fault_address) = (part.number.get(), part.code.get(), part.fault_address.get());
    take(&entry(head, Detail::Signal(SignalDetail { number, code, fault_address, registers }))?);
    Some(())
}

fn entry<'a>(head: &Head, detail: Detail<'a>) -> Option<Entry<'a>> {
    Some(Entry {
        thread: head.thread.get(),
        index_seq: head.index_seq.get(),
        time_ns: head.time_ns.get(),
        function_id: head.function_id.get(),
        kind: EventKind::from_raw(head.kind.into())?,
        detail,
    })
}

fn stack_of<'a>(function: &FunctionDetail<'a>) -> &'a [u8] {
    function.stack.get(..MAX_STACK).unwrap_or(function.stack)
}

fn registers_of<'a>(signal: &SignalDetail<'a>) -> &'a [u64] {
    signal.registers.get(..MAX_SIGNAL_REGISTERS).unwrap_or(signal.registers)
}

fn memory_of<'a>(function: &FunctionDetail<'a>) -> &'a [Memory<'a>] {
    function.memory.get(..MAX_SLOTS).unwrap_or(function.memory)
}

/// Copies `bytes` to the front of `rest` and moves on behind them.
fn put(rest: &mut &mut [u8], bytes: &[u8]) {
    if let Some((front, behind)) = std::mem::take(rest).split_at_mut_checked(bytes.len()) {
        front.copy_from_slice(bytes);
        *rest = behind;
    }
}

fn narrow(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    /// An entry as text: everything in it.
    fn written(entry: &Entry<'_>) -> String {
        format!("{entry:?}")
    }

    fn there_and_back(entry: &Entry<'_>) -> String {
        let mut place = vec![0xaa; encoded_length(entry)];
        encode(entry, &mut place);
        let mut back = String::new();
        assert!(decode(&place, &mut |entry| back = written(entry)));
        back
    }

    proptest! {
        #[test]
        fn functions_come_back(
            regs: [u64; 8],
            words: [u64; 5],
            stack in vec(any::<u8>(), 0..=MAX_STACK),
            pieces in vec((any::<u8>(), any::<u64>(), any::<u32>(), vec(any::<u8>(), 0..200)), 0..=MAX_SLOTS),
        ) {
            let piece = |(slot, address, full_length, bytes)| Memory { slot, address, full_length, bytes };
            let memory: Vec<_> = pieces.iter().map(|(s, a, l, bytes)| piece((*s, *a, *l, bytes))).collect();
            let [time_ns, function_id, return_address, frame_pointer, stack_pointer] = words;
            let detail = Detail::Function(FunctionDetail {
                regs, return_address, frame_pointer, stack_pointer, stack: &stack, memory: &memory,
            });
            let kind = if regs[0] % 2 == 0 { EventKind::Call } else { EventKind::Return };
            let entry = Entry { thread: 7, index_seq: 9, time_ns, function_id, kind, detail };
            prop_assert_eq!(there_and_back(&entry), written(&entry));
        }

        #[test]
        fn signals_come_back(
            number: u32, code: i32, fault_address: u64, registers in vec(any::<u64>(), 0..=MAX_SIGNAL_REGISTERS),
        ) {
            let detail = Detail::Signal(SignalDetail { number, code, fault_address, registers: &registers });
            let kind = EventKind::Exception;
            let entry = Entry { thread: 0, index_seq: 0, time_ns: 1, function_id: 0, kind, detail };
            prop_assert_eq!(there_and_back(&entry), written(&entry));
        }

        #[test]
        fn arbitrary_bytes_do_no_harm(bytes in vec(any::<u8>(), 0..300)) {
            decode(&bytes, &mut |_| {});
        }
    }

    #[test]
    fn what_is_too_long_is_cut() {
        let stack = [1; MAX_STACK + 8];
        let memory = [Memory::default(); MAX_SLOTS + 1];
        let detail = Detail::Function(FunctionDetail { stack: &stack, memory: &memory, ..FunctionDetail::default() });
        let kind = EventKind::Call;
        let entry = Entry { thread: 0, index_seq: 0, time_ns: 1, function_id: 0, kind, detail };
        let mut place = vec![0; encoded_length(&entry)];
        encode(&entry, &mut place);
        let mut seen = (0, 0);
        assert!(decode(&place, &mut |entry| {
            if let Detail::Function(function) = entry.detail {
                seen = (function.stack.len(), function.memory.len());
            }
        }));
        assert_eq!(seen, (MAX_STACK, MAX_SLOTS));
    }
}
