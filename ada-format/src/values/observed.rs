//! The bytes that were recorded of a call or return, and where in them a value is.
//!
//! Invariant: nothing is read beyond what was recorded: a byte that is not there makes the whole number unknown.

use zerocopy::little_endian::U64;

use crate::layout::DetailType;
use crate::manifest::{Location, Part, Value};
use crate::read::{DetailEvent, Payload};
use crate::wire::MAX_SLOTS;
use crate::write::Memory;

/// Whether something is a call or a return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Its arguments are there.
    Call,
    /// Its return value is.
    Return,
}

/// What was recorded of a call or return.
#[derive(Clone, Copy, Debug)]
pub struct Observed<'a> {
    pub(super) moment: Moment,
    registers: [u64; 8],
    stack: &'a [u8],
    memory: [Option<Memory<'a>>; MAX_SLOTS],
}

impl<'a> Observed<'a> {
    /// Registers and stack (from the stack pointer upwards) of a detail event, and memory in any order.
    pub fn new(
        moment: Moment,
        registers: [u64; 8],
        stack: &'a [u8],
        memory: impl IntoIterator<Item = Memory<'a>>,
    ) -> Self {
        let mut slots = [None; MAX_SLOTS];
        for piece in memory {
            if let Some(slot) = slots.get_mut(usize::from(piece.slot)) {
                *slot = Some(piece);
            }
        }
        Self { moment, registers, stack, memory: slots }
    }

    /// A detail event of a call or return; `None` if it is another, or too short.
    #[must_use]
    pub fn event(event: &DetailEvent<'a>) -> Option<Self> {
        let moment = match event.detail_type()? {
            DetailType::FunctionCall => Moment::Call,
            DetailType::FunctionReturn => Moment::Return,
            DetailType::SignalDelivery => return None,
        };
        let Payload::Function(function) = event.payload()? else { return None };
        let memory = function.memory().map(|piece| Memory {
            slot: piece.slot,
            address: piece.address,
            full_length: piece.full_length,
            bytes: piece.bytes,
        });
        Some(Self::new(moment, function.fixed.regs.map(U64::get), function.stack, memory))
    }

    pub(super) fn of<'b>(&'b self, value: &'b Value) -> Bytes<'b> {
        Bytes::Placed { place: &value.place, observed: self }
    }

    pub(super) fn slot(&self, slot: Option<u8>) -> Option<Memory<'a>> {
        *self.memory.get(usize::from(slot?))?
    }

    fn byte(&self, place: &[Part], offset: u32) -> Option<u8> {
        let part = place.iter().find(|part| offset.checked_sub(part.offset).is_some_and(|into| into < part.size))?;
        let into = offset - part.offset;
        match part.at {
            Location::Register(register) => {
                let bytes = self.registers.get(usize::from(register))?.to_le_bytes();
                bytes.get(usize::try_from(into).ok()?).copied()
            }
            Location::Stack(start) => self.stack.get(usize::try_from(start.checked_add(into)?).ok()?).copied(),
        }
    }
}

/// The bytes of a value, in place or copied.
#[derive(Clone, Copy)]
pub(super) enum Bytes<'a> {
    Placed { place: &'a [Part], observed: &'a Observed<'a> },
    Copied(&'a [u8]),
}

impl Bytes<'_> {
    /// Up to eight bytes as a number; `None` if some are unknown.
    pub(super) fn number(&self, offset: u32, size: u32) -> Option<u64> {
        let size = size.min(8);
        (0..size).try_fold(0, |number, index| {
            let byte = self.byte(offset.checked_add(index)?)?;
            Some(number | u64::from(byte) << (8 * index))
        })
    }

    /// The same with a sign.
    pub(super) fn signed(&self, offset: u32, size: u32) -> Option<i64> {
        let size = size.clamp(1, 8);
        let unused = 64 - 8 * size;
        let number = self.number(offset, size)?;
        Some(number.cast_signed() << unused >> unused)
    }

    /// Those of `size` bytes that are known, up to the first that is not.
    pub(super) fn known(&self, offset: u32, size: u32) -> Vec<u8> {
        (0..size).map_while(|index| self.byte(offset.checked_add(index)?)).collect()
    }

    fn byte(&self, offset: u32) -> Option<u8> {
        match self {
            Self::Placed { place, observed } => observed.byte(place, offset),
            Self::Copied(bytes) => bytes.get(usize::try_from(offset).ok()?).copied(),
        }
    }
}
