//! Which memory is copied at the calls and returns of a function: from its signature to what the probe follows.
//!
//! Invariant: a slot of the signature is a filled piece of the capture, and the other way round.

use ada_format::manifest::{Form, Location, Part, Signature, Value};
use ada_format::wire::{self, Capture, MAX_SLOTS, Piece, piece};

/// Words of the stack that the probe can take a pointer from.
const STACK_WORDS: u32 = 8;
/// The number of the first of them.
const FIRST_WORD: u8 = 8;
/// The return address.
const BEFORE_WORDS: u32 = 8;

/// Gives slots to what `signature` points to; `None` if there is nothing to copy.
pub(super) fn assign(signature: &mut Signature) -> Option<Box<Capture>> {
    let mut capture = Capture::default();
    let places: Vec<Vec<Part>> = signature.parameters.iter().map(|parameter| parameter.value.place.clone()).collect();
    let mut next = 0;
    // Text is what people look for; if slots run out, the rest does without.
    for wanted in [Wanted::Text, Wanted::Rest] {
        for parameter in &mut signature.parameters {
            let value = &mut parameter.value;
            if Wanted::of(&value.form) == wanted && value.slot.is_none() {
                take(value, &mut next, &mut capture.call, &places);
            }
        }
    }
    let mut next = 0;
    if let Some(value) = &mut signature.returns {
        take(value, &mut next, &mut capture.ret, &[]);
    }
    (capture != Capture::default()).then(|| Box::new(capture))
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Text,
    Rest,
}

impl Wanted {
    fn of(form: &Form) -> Self {
        match form {
            Form::CString | Form::Buffer { .. } | Form::Text { .. } => Self::Text,
            Form::Pointer { to: Some(to) } | Form::Reference { to } if matches!(**to, Form::Text { .. }) => Self::Text,
            _ => Self::Rest,
        }
    }
}

fn take(value: &mut Value, next: &mut usize, pieces: &mut [Piece; MAX_SLOTS], places: &[Vec<Part>]) {
    let Some(piece) = piece(value, places) else { return };
    if let (Some(slot), Ok(number)) = (pieces.get_mut(*next), u8::try_from(*next)) {
        *slot = piece;
        value.slot = Some(number);
        *next += 1;
    }
}

/// What is copied of a value, if anything.
fn piece(value: &Value, places: &[Vec<Part>]) -> Option<Piece> {
    match &value.form {
        Form::CString => Some(Piece { kind: piece::C_STRING, base: base(&value.place, 0)?, ..Piece::default() }),
        Form::Buffer { length } => {
            let length_base = base(places.get(*length)?, 0)?;
            Some(Piece { kind: piece::SLICE, base: base(&value.place, 0)?, length_base, ..Piece::default() })
        }
        Form::Text { pointer, length } => {
            let (base, length_base) = (base(&value.place, *pointer)?, base(&value.place, *length)?);
            Some(Piece { kind: piece::SLICE, base, length_base, ..Piece::default() })
        }
        Form::Pointer { to: Some(to) } | Form::Reference { to } => pointed(base(&value.place, 0)?, to),
        _ => None,
    }
}

fn pointed(base: u8, to: &Form) -> Option<Piece> {
    if let Form::Text { pointer, length } = to {
        let (pointer_offset, length_offset) = (u16::try_from(*pointer).ok()?, u16::try_from(*length).ok()?);
        return Some(Piece { kind: piece::OBJECT, base, pointer_offset, length_offset, ..Piece::default() });
    }
    let size = to.size().min(wire::MAX_CAPTURE_BYTES);
    (size > 0).then_some(Piece { kind: piece::FIXED, base, size, ..Piece::default() })
}

/// The number of the register or stack word that holds the eight bytes at `offset` of a value.
fn base(place: &[Part], offset: u32) -> Option<u8> {
    let holds = |part: &&Part| offset >= part.offset && offset + 8 <= part.offset.saturating_add(part.size);
    let part = place.iter().find(holds)?;
    match part.at {
        Location::Register(register) if part.offset == offset => Some(register),
        Location::Register(_) => None,
        Location::Stack(start) => {
            let from = start.checked_add(offset - part.offset)?.checked_sub(BEFORE_WORDS)?;
            let word = Some(from / 8).filter(|word| from.is_multiple_of(8) && *word < STACK_WORDS)?;
            FIRST_WORD.checked_add(u8::try_from(word).ok()?)
        }
    }
}
