//! Where parameters are at the entry of a function, by the debug information's own word.
//!
//! Invariant: only what says so of the first instruction counts. Optimisers drop parameters that nobody reads, so that
//! those behind them move: then these locations are right where the rules of the ABI are not.

use ada_format::manifest::{Location, Part};
use gimli::{AttributeValue, Expression, Operation, Register, constants as dw};

use super::die::Entry;
use super::{Bytes, DebugInfo};
use crate::types::model::Seen;

/// The return address is what the frame is counted from.
const FRAME: i64 = 8;

impl DebugInfo {
    /// Where `parameter` is when `function` begins at `address`. `size` is its type's.
    pub(super) fn seen(&self, function: &Entry, parameter: &Entry, address: u64, size: u32) -> Seen {
        let expression = match parameter.value(dw::DW_AT_location) {
            None => return if parameter.value(dw::DW_AT_const_value).is_some() { Seen::Gone } else { Seen::Unsaid },
            Some(AttributeValue::Exprloc(expression)) => expression,
            Some(list) => match self.listed(parameter, list, address) {
                Some(expression) => expression,
                None => return Seen::Unsaid,
            },
        };
        let by_frame = is_by_frame(function);
        read(expression, parameter.unit.raw.encoding(), by_frame, size).unwrap_or(Seen::Gone)
    }

    fn listed(&self, entry: &Entry, list: AttributeValue<Bytes>, address: u64) -> Option<Expression<Bytes>> {
        let dwarf = &self.units(entry.die.source)?.dwarf;
        let mut list = dwarf.attr_locations(&entry.unit.raw, list).ok()??;
        while let Ok(Some(each)) = list.next() {
            if (each.range.begin..each.range.end).contains(&address) {
                return Some(each.data);
            }
        }
        None
    }
}

/// Whether stack offsets count from the frame's address, which the return address ends.
fn is_by_frame(function: &Entry) -> bool {
    let Some(AttributeValue::Exprloc(base)) = function.value(dw::DW_AT_frame_base) else { return false };
    let mut operations = base.operations(function.unit.raw.encoding());
    matches!(operations.next(), Ok(Some(Operation::CallFrameCFA)))
}

/// `None` if it is a computation.
fn read(expression: Expression<Bytes>, encoding: gimli::Encoding, by_frame: bool, size: u32) -> Option<Seen> {
    let mut operations = expression.operations(encoding);
    let mut all = Vec::new();
    while let Some(operation) = operations.next().ok()? {
        all.push(operation);
    }
    match all.as_slice() {
        [Operation::RegisterOffset { register, offset: 0, .. }] => {
            // Another register is a frame's: the parameter has a home that is not filled yet.
            let Some(at) = location(*register) else { return Some(Seen::Home) };
            Some(Seen::At { parts: vec![Part::whole(at)], by_address: true })
        }
        [Operation::RegisterOffset { register, offset: 0, .. }, rest @ .., Operation::StackValue] => {
            // Of a bool or a char, the bits that count are cut out.
            let at = location(*register).filter(|_| rest.iter().all(only_narrows))?;
            Some(Seen::At { parts: vec![Part::whole(at)], by_address: false })
        }
        [Operation::RegisterOffset { .. }] => Some(Seen::Home),
        [Operation::FrameOffset { offset }, ..] if !by_frame || *offset < 0 => Some(Seen::Home),
        all => pieces(all, size),
    }
}

fn only_narrows(operation: &Operation<Bytes>) -> bool {
    use Operation::{And, Convert, SignedConstant, UnsignedConstant};
    matches!(operation, And | Convert { .. } | SignedConstant { .. } | UnsignedConstant { .. })
}

/// One place, or several with the number of bytes that each has.
fn pieces(operations: &[Operation<Bytes>], size: u32) -> Option<Seen> {
    let (mut parts, mut offset, mut pending, mut whole) = (Vec::new(), 0_u32, None, true);
    for operation in operations {
        match operation {
            Operation::Register { register } => pending = Some(location(*register)),
            Operation::FrameOffset { offset } => {
                pending = Some(Some(Location::Stack(u32::try_from(offset.checked_add(FRAME)?).ok()?)));
            }
            Operation::Piece { size_in_bits, bit_offset: None } => {
                whole = false;
                let bytes = u32::try_from(size_in_bits / 8).ok()?;
                if let Some(at) = pending.take().flatten() {
                    parts.push(Part { at, offset, size: bytes });
                }
                offset = offset.checked_add(bytes)?;
            }
            _ => return None,
        }
    }
    if let Some(at) = pending.flatten().filter(|_| whole) {
        let size = if matches!(at, Location::Stack(_)) { size } else { 8 };
        parts.push(Part { at, offset: 0, size });
    }
    Some(Seen::At { parts, by_address: false })
}

/// The position of an argument register in a detail event, by its number in DWARF for x86_64.
fn location(register: Register) -> Option<Location> {
    let order = [5, 4, 1, 2, 8, 9, 0, 10];
    let position = order.iter().position(|number| *number == register.0)?;
    Some(Location::Register(u8::try_from(position).ok()?))
}
