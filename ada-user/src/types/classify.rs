//! In which register or stack word each parameter is, by the System V ABI for x86_64; and by rustc's, which is not promised
//! to stay.
//!
//! Invariant: parameters are placed in order, for each one moves those behind it; one whose place is not known for
//! certain ends the placing, and the rest have none.

use ada_format::manifest::{Location, Part};

use super::model::{Declared, Kind, Language, Scalar, Seen, Struct, Type};

/// rdi, rsi, rdx, rcx, r8, r9.
const INTEGER_REGISTERS: u8 = 6;
/// xmm0 to xmm7.
const FLOAT_REGISTERS: u8 = 8;
/// Behind the return address.
const FIRST_STACK_BYTE: u32 = 8;

/// Where a value is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Placed {
    /// Its bytes; none if they cannot be seen.
    pub(super) parts: Vec<Part>,
    /// These are not the value's, but its address.
    pub(super) by_address: bool,
}

/// What earlier parameters left over.
#[derive(Clone, Debug, Default)]
pub(super) struct Registers {
    integers: u8,
    floats: u8,
    stack: u32,
}

/// How C and C++ pass something.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Class {
    Nothing,
    /// For each eight bytes, whether they go into a floating-point register.
    Words(Vec<bool>),
    Memory,
    Address,
}

impl Registers {
    /// Place of a number or pointer.
    pub(super) fn word(&mut self) -> Vec<Part> {
        vec![Part::whole(self.integer())]
    }

    /// Place of a number or pointer that is given back.
    pub(super) fn result() -> Vec<Part> {
        vec![Part::whole(Location::Register(0))]
    }

    /// Takes what an object needs that is given back by its address.
    pub(super) fn returned(&mut self, of: &Type, language: Language) -> Placed {
        let placed = match language {
            Language::Rust => rust_result(of),
            _ => c_result(of, language),
        };
        if placed.by_address {
            self.integer();
        }
        placed
    }

    /// Takes what a parameter needs.
    pub(super) fn parameter(&mut self, of: &Type, language: Language) -> Placed {
        match language {
            Language::Rust => self.rust(of),
            _ => self.c(of, language),
        }
    }

    fn c(&mut self, of: &Type, language: Language) -> Placed {
        match class(of, language) {
            Class::Nothing => Placed::default(),
            Class::Address => by_address(self.integer()),
            Class::Memory => in_place(self.on_stack(of.size, of.alignment())),
            Class::Words(words) => {
                let floats = u8::try_from(words.iter().filter(|float| **float).count()).unwrap_or(u8::MAX);
                let integers = u8::try_from(words.len()).unwrap_or(u8::MAX).saturating_sub(floats);
                if self.integers + integers > INTEGER_REGISTERS || self.floats + floats > FLOAT_REGISTERS {
                    return in_place(self.on_stack(of.size, of.alignment()));
                }
                in_place(words.iter().enumerate().filter_map(|(index, float)| self.part(index, *float)).collect())
            }
        }
    }

    fn part(&mut self, index: usize, is_float: bool) -> Option<Part> {
        let offset = u32::try_from(index).ok()? * 8;
        if is_float {
            self.floats += 1;
            return None;
        }
        Some(Part { at: self.integer(), offset, size: 8 })
    }

    fn rust(&mut self, of: &Type) -> Placed {
        match rust_shape(of) {
            Shape::Nothing => Placed::default(),
            Shape::Scalars(scalars) => in_place(scalars.iter().flat_map(|scalar| self.scalar(*scalar)).collect()),
            Shape::Bytes if of.size <= 8 => in_place(vec![Part { at: self.integer(), offset: 0, size: 8 }]),
            Shape::Bytes => by_address(self.integer()),
        }
    }

    /// Each half of a pair has a register of its own, or a stack word; a number of two words is in one place.
    fn scalar(&mut self, scalar: Scalar) -> Vec<Part> {
        if scalar.is_float {
            if self.floats < FLOAT_REGISTERS {
                self.floats += 1;
                return Vec::new();
            }
            return self.scalar_on_stack(scalar);
        }
        let words = scalar.size.div_ceil(8).max(1);
        if words > 1 && u32::from(INTEGER_REGISTERS - self.integers) < words {
            return self.scalar_on_stack(scalar);
        }
        (0..words)
            .map(|word| Part { at: self.integer(), offset: scalar.offset + 8 * word, size: scalar.size.min(8) })
            .collect()
    }

    fn scalar_on_stack(&mut self, scalar: Scalar) -> Vec<Part> {
        let parts = self.on_stack(scalar.size, scalar.size.min(16));
        parts.iter().map(|part| Part { offset: scalar.offset, ..*part }).collect()
    }

    fn integer(&mut self) -> Location {
        if self.integers < INTEGER_REGISTERS {
            self.integers += 1;
            return Location::Register(self.integers - 1);
        }
        Location::Stack(self.take_stack(8, 8))
    }

    fn on_stack(&mut self, size: u32, align: u32) -> Vec<Part> {
        vec![Part { at: Location::Stack(self.take_stack(size, align)), offset: 0, size }]
    }

    /// What is aligned to more than a word leaves a gap. Callers align the place behind the return address to 16 bytes,
    /// or to more if that is needed.
    fn take_stack(&mut self, size: u32, align: u32) -> u32 {
        let begin = self.stack.checked_next_multiple_of(align.max(8)).unwrap_or(u32::MAX);
        self.stack = begin.saturating_add(size.div_ceil(8).saturating_mul(8));
        FIRST_STACK_BYTE.saturating_add(begin)
    }
}

/// What the debug information says of the places counts more than the rules. Where it contradicts them, the compiler
/// has made a convention of its own for the function, and what is not said is not known.
pub(super) fn correct(parameters: &[Declared], by_rule: Vec<Placed>, language: Language) -> Vec<Placed> {
    let contradicts = |(declared, placed): (&Declared, &Placed)| match &declared.seen {
        Seen::At { parts, by_address } => !agree(parts, *by_address, placed),
        Seen::Gone => true,
        Seen::Home => false,
        // LLVM drops what is not read, and then nothing is said of it.
        Seen::Unsaid => language == Language::Rust && !placed.parts.is_empty(),
    };
    let own_rules = parameters.iter().zip(&by_rule).any(contradicts);
    let place = |(declared, placed): (&Declared, Placed)| match &declared.seen {
        Seen::At { parts, by_address } if own_rules => Placed { parts: parts.clone(), by_address: *by_address },
        _ if own_rules => Placed { parts: Vec::new(), by_address: placed.by_address },
        _ => placed,
    };
    parameters.iter().zip(by_rule).map(place).collect()
}

/// Whether both mean the same registers, however many of their bytes they count.
fn agree(parts: &[Part], by_address: bool, placed: &Placed) -> bool {
    let places = |parts: &[Part]| parts.iter().map(|part| (part.at, part.offset)).collect::<Vec<_>>();
    by_address == placed.by_address && places(parts) == places(&placed.parts)
}

fn in_place(parts: Vec<Part>) -> Placed {
    Placed { parts, by_address: false }
}

fn by_address(at: Location) -> Placed {
    Placed { parts: vec![Part::whole(at)], by_address: true }
}

fn c_result(of: &Type, language: Language) -> Placed {
    match class(of, language) {
        Class::Nothing => Placed::default(),
        // What the x87 gives back is not seen.
        Class::Memory if is_x87_result(of) => Placed::default(),
        // Its address is given back as well.
        Class::Address | Class::Memory => by_address(Location::Register(0)),
        Class::Words(words) => {
            let mut next = 0;
            let mut part = |(index, is_float): (usize, &bool)| {
                let at = Location::Register(next);
                next += u8::from(!is_float);
                (!is_float).then_some(Part { at, offset: u32::try_from(index).ok()? * 8, size: 8 })
            };
            in_place(words.iter().enumerate().filter_map(&mut part).collect())
        }
    }
}

fn class(of: &Type, language: Language) -> Class {
    if matches!(&of.kind, Kind::Struct(Struct { by_address: true, .. })) {
        return Class::Address;
    }
    let scalars = of.scalars();
    if scalars.is_empty() {
        // An empty class takes a byte and nothing else; C's incomplete types cannot be passed.
        return if language == Language::Cpp || of.size == 0 { Class::Nothing } else { Class::Memory };
    }
    let misplaced = |scalar: &Scalar| scalar.size > 1 && !scalar.offset.is_multiple_of(scalar.size.min(8));
    // A vector or a _Float128, also if it is all that a struct has, is in one register.
    if matches!(scalars.as_slice(), [one] if one.is_float && !one.is_x87 && one.size == of.size) {
        return Class::Words(vec![true]);
    }
    let is_x87 = |scalar: &Scalar| scalar.is_x87;
    if of.size > 16 || of.size == 0 || scalars.iter().any(|scalar| misplaced(scalar) || is_x87(scalar)) {
        return Class::Memory;
    }
    let mut words = vec![true; usize::try_from(of.size.div_ceil(8)).unwrap_or(2)];
    for scalar in scalars.iter().filter(|scalar| !scalar.is_float) {
        let (first, last) = (scalar.offset / 8, (scalar.offset + scalar.size.max(1) - 1) / 8);
        for (index, word) in (0..).zip(&mut words) {
            *word &= !(first..=last).contains(&index);
        }
    }
    Class::Words(words)
}

/// One `long double`, also if it is all that a struct has, or a complex one.
fn is_x87_result(of: &Type) -> bool {
    let all_x87 = |scalars: &[Scalar]| !scalars.is_empty() && scalars.iter().all(|scalar| scalar.is_x87);
    all_x87(&of.scalars()) && (of.size == 16 || matches!(of.kind, Kind::Complex { .. }))
}

/// How Rust passes something.
enum Shape {
    Nothing,
    /// One number or pointer, or two: each by itself.
    Scalars(Vec<Scalar>),
    /// As bytes, in one register if they fit.
    Bytes,
}

fn rust_shape(of: &Type) -> Shape {
    if of.size == 0 {
        return Shape::Nothing;
    }
    if has_array(of) {
        return Shape::Bytes;
    }
    let scalars = distinct(of.scalars());
    match scalars.as_slice() {
        [] => Shape::Bytes,
        [_] | [_, _] => Shape::Scalars(scalars),
        _ => Shape::Bytes,
    }
}

/// Variants lie over each other: what begins in one place counts once, by its longest.
fn distinct(mut scalars: Vec<Scalar>) -> Vec<Scalar> {
    scalars.sort_unstable_by_key(|scalar| (scalar.offset, std::cmp::Reverse(scalar.size)));
    scalars.dedup_by_key(|scalar| scalar.offset);
    scalars
}

fn has_array(of: &Type) -> bool {
    match &of.kind {
        Kind::Array { .. } | Kind::Vector => true,
        Kind::Struct(Struct { members, .. }) => {
            members.iter().any(|member| member.of.size > 0 && has_array(&member.of))
        }
        _ => false,
    }
}

fn rust_result(of: &Type) -> Placed {
    let whole = |register: u8, offset, size| Part { at: Location::Register(register), offset, size };
    match rust_shape(of) {
        Shape::Nothing => Placed::default(),
        Shape::Scalars(scalars) => {
            let mut next = 0;
            let mut parts = Vec::new();
            for scalar in scalars.iter().filter(|scalar| !scalar.is_float) {
                for word in 0..scalar.size.div_ceil(8).max(1) {
                    parts.push(whole(next, scalar.offset + 8 * word, scalar.size.min(8)));
                    next += 1;
                }
            }
            in_place(parts)
        }
        Shape::Bytes if of.size <= 16 => in_place(vec![whole(0, 0, 8), whole(1, 8, 8)]),
        Shape::Bytes => by_address(Location::Register(0)),
    }
}
