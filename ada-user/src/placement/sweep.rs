//! Decodes all code of a file for what it jumps to, calls, and takes the address of.
//!
//! Invariant: every piece of code between two known starts is decoded from its start; where that fails, every byte of the
//! piece is taken for the possible first one of a jump.

use std::ops::Range;

use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind};

use super::image::{Block, Image};
use super::tables;
use super::targets::{Marks, Targets};

/// Fills `targets` from the code and data of the image.
pub(super) fn sweep(image: &Image<'_>, targets: &mut Targets) {
    let mut found = Found::new(image);
    let mut starts = image.starts.clone();
    starts.sort_unstable();
    starts.dedup();
    for block in image.code() {
        if let Some(marks) = targets.marks_mut(block.address) {
            found.block(block, &starts, marks);
        }
    }
    let Found { elsewhere, mut taken, perhaps_taken, undecodable, .. } = found;
    let known = starts.iter().chain(&image.pointers).chain(&elsewhere);
    known.for_each(|address| targets.add(*address));
    undecodable.into_iter().for_each(|address| targets.add_undecodable(address));
    taken.sort_unstable();
    taken.dedup();
    tables::offsets(image, &taken, &perhaps_taken, targets);
    if image.fixed {
        tables::words(image, targets);
    }
}

/// What one pass over the code turns up, besides what it marks at once.
struct Found {
    fixed: bool,
    /// From the first byte of code to the last.
    code: Range<u64>,
    /// Targets outside of the block that leads there, if they are code at all.
    elsewhere: Vec<u64>,
    /// Addresses that the code takes: of code, or of a jump table.
    taken: Vec<u64>,
    /// The same of code that does not decode.
    perhaps_taken: Vec<u64>,
    undecodable: Vec<u64>,
}

impl Found {
    fn new(image: &Image<'_>) -> Self {
        let (elsewhere, taken, perhaps_taken, undecodable) = Default::default();
        Self { fixed: image.fixed, code: image.code_span(), elsewhere, taken, perhaps_taken, undecodable }
    }

    fn block(&mut self, block: &Block<'_>, starts: &[u64], marks: &mut Marks) {
        let end = block.end();
        let first = starts.partition_point(|start| *start <= block.address);
        let last = starts.partition_point(|start| *start < end);
        let bounds = starts.get(first..last).unwrap_or_default();
        let mut rest = *block;
        for bound in bounds.iter().chain([&end]) {
            let size = usize::try_from(bound - rest.address).unwrap_or(usize::MAX);
            let Some((bytes, behind)) = rest.bytes.split_at_checked(size) else { return };
            self.piece(rest.address, bytes, marks);
            rest = Block { address: *bound, bytes: behind, ..rest };
        }
    }

    /// Decodes the code from one known start to the next.
    fn piece(&mut self, address: u64, bytes: &[u8], marks: &mut Marks) {
        let mut decoder = Decoder::with_ip(64, bytes, address, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut decodes = true;
        while decoder.can_decode() {
            let position = decoder.position();
            decoder.decode_out(&mut instruction);
            if instruction.is_invalid() {
                self.undecodable.push(instruction.ip());
                decodes = false;
                decoder.set_ip(instruction.ip() + 1);
                if decoder.set_position(position + 1).is_err() {
                    break;
                }
            } else {
                marks.start(instruction.ip());
                self.look_at(&instruction, marks);
            }
        }
        if !decodes {
            self.every_byte(address, bytes, marks);
        }
    }

    #[inline]
    fn look_at(&mut self, instruction: &Instruction, marks: &mut Marks) {
        if instruction.op0_kind() == OpKind::NearBranch64 {
            self.target(instruction.near_branch64(), marks);
        } else if instruction.mnemonic() == Mnemonic::Lea {
            self.take(instruction, marks);
        }
        if self.fixed {
            self.constants(instruction);
        }
    }

    fn target(&mut self, address: u64, marks: &mut Marks) {
        if !marks.target(address) {
            self.elsewhere.push(address);
        }
    }

    /// An address that is computed from constants alone is that of code or of data.
    fn take(&mut self, lea: &Instruction, marks: &mut Marks) {
        if lea.is_ip_rel_memory_operand() {
            let address = lea.ip_rel_memory_address();
            self.target(address, marks);
            self.taken.push(address);
        }
    }

    /// The constants of a file that is loaded at its own addresses.
    fn constants(&mut self, instruction: &Instruction) {
        for operand in 0..instruction.op_count() {
            let constant = match instruction.op_kind(operand) {
                OpKind::Immediate32 | OpKind::Immediate32to64 | OpKind::Immediate64 => instruction.immediate(operand),
                OpKind::Memory => instruction.memory_displacement64(),
                _ => continue,
            };
            if self.code.contains(&constant) {
                self.elsewhere.push(constant);
            }
        }
    }

    /// All that a jump or a `lea` which starts at any byte leads to, and in a fixed file all constants.
    fn every_byte(&mut self, address: u64, bytes: &[u8], marks: &mut Marks) {
        for index in 0..bytes.len() {
            let at = address.wrapping_add(index as u64);
            let code = bytes.get(index..).unwrap_or_default();
            if let Some(target) = branch(at, code) {
                self.target(target, marks);
            }
            if let Some(address) = address_taken(at, code) {
                self.target(address, marks);
                self.perhaps_taken.push(address);
            }
            if self.fixed {
                self.elsewhere.extend(code.first_chunk().map(|constant| u64::from(u32::from_le_bytes(*constant))));
            }
        }
    }
}

/// Where a direct jump or call would lead that `code`, at virtual address `at`, began with.
fn branch(at: u64, code: &[u8]) -> Option<u64> {
    match code {
        [0xeb | 0x70..=0x7f | 0xe0..=0xe3, distance, ..] => {
            Some(at.wrapping_add(2).wrapping_add_signed(i64::from(distance.cast_signed())))
        }
        [0xe8 | 0xe9, rest @ ..] => relative(at.wrapping_add(5), rest),
        [0x0f, 0x80..=0x8f, rest @ ..] | [0xc7, 0xf8, rest @ ..] => relative(at.wrapping_add(6), rest),
        _ => None,
    }
}

/// The address that a `lea` relative to the instruction pointer would give that `code` began with, behind its prefix.
fn address_taken(at: u64, code: &[u8]) -> Option<u64> {
    match code {
        [0x8d, operands, rest @ ..] if operands & 0xc7 == 0x05 => relative(at.wrapping_add(6), rest),
        _ => None,
    }
}

fn relative(next: u64, distance: &[u8]) -> Option<u64> {
    let distance = i32::from_le_bytes(*distance.first_chunk()?);
    Some(next.wrapping_add_signed(i64::from(distance)))
}
