//! Instructions at a probe: their text, and where they start.
//!
//! Invariant: boundaries come from decoding forward from the function's first instruction; bytes that do not decode
//! end the search, so that no site is accepted on a guess.

use iced_x86::{Decoder, DecoderOptions, Formatter, GasFormatter, Instruction};

use crate::elf::Machine;

/// The longest x86 instruction.
pub const MAX_INSTRUCTION: u64 = 15;

/// Where an offset lies within a function's instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Boundary {
    /// An instruction starts there.
    Start,
    /// It lies inside an instruction: offsets from the function of that one and of the next.
    Inside {
        /// Where the instruction starts, in bytes from the function.
        before: u64,
        /// Where the next one starts.
        after: u64,
    },
    /// The bytes at this offset before it are no instruction (data in the code, or an unknown instruction).
    Undecodable {
        /// In bytes from the function.
        at: u64,
    },
}

/// The first instruction of `code` in AT&T syntax as objdump prints it, on one line: `lea 0x2ef9(%rip),%rax  # 0x4040`.
/// Where the instruction set is not known, its first word in hexadecimal. `None` if there is no instruction.
#[must_use]
pub fn first_instruction(machine: Machine, address: u64, code: &[u8]) -> Option<String> {
    match machine {
        Machine::X86_64 => {
            let instruction = decoder(address, code).into_iter().next()?;
            (!instruction.is_invalid()).then(|| text(&instruction))
        }
        Machine::Aarch64 | Machine::Other(_) => {
            let word = u32::from_le_bytes(*code.first_chunk()?);
            (word != 0).then(|| format!("{word:#010x}"))
        }
    }
}

/// Where `offset` lies within the function whose bytes are `code`.
#[must_use]
pub fn boundary(machine: Machine, address: u64, code: &[u8], offset: u64) -> Boundary {
    match machine {
        Machine::X86_64 => x86_boundary(address, code, offset),
        Machine::Aarch64 | Machine::Other(_) if offset.is_multiple_of(4) => Boundary::Start,
        Machine::Aarch64 | Machine::Other(_) => {
            let before = offset - offset % 4;
            Boundary::Inside { before, after: before.saturating_add(4) }
        }
    }
}

fn x86_boundary(address: u64, code: &[u8], offset: u64) -> Boundary {
    let mut before = 0;
    for instruction in &mut decoder(address, code) {
        if before == offset {
            break;
        }
        if instruction.is_invalid() {
            return Boundary::Undecodable { at: before };
        }
        let after = before + instruction.len() as u64;
        if after > offset {
            return Boundary::Inside { before, after };
        }
        before = after;
    }
    if before == offset { Boundary::Start } else { Boundary::Undecodable { at: before } }
}

fn decoder(address: u64, code: &[u8]) -> Decoder<'_> {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE)
}

fn text(instruction: &Instruction) -> String {
    let mut formatter = GasFormatter::new();
    let options = formatter.options_mut();
    options.set_uppercase_hex(false);
    options.set_rip_relative_addresses(true);
    options.set_branch_leading_zeros(false);
    options.set_small_hex_numbers_in_decimal(false);
    let mut text = String::new();
    formatter.format(instruction, &mut text);
    if instruction.is_ip_rel_memory_operand() {
        text.push_str(&format!("  # {:#x}", instruction.ip_rel_memory_address()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn x86(code: &[u8]) -> Option<String> {
        first_instruction(Machine::X86_64, 0x1000, code)
    }

    #[test]
    fn reads_like_objdump() {
        assert_eq!(x86(&[0xf3, 0x0f, 0x1e, 0xfa]).as_deref(), Some("endbr64"));
        assert_eq!(x86(&[0x55]).as_deref(), Some("push %rbp"));
        assert_eq!(x86(&[0x48, 0x89, 0xe5]).as_deref(), Some("mov %rsp,%rbp"));
        assert_eq!(x86(&[0x48, 0x83, 0xec, 0x18]).as_deref(), Some("sub $0x18,%rsp"));
        assert_eq!(x86(&[0xe8, 0x10, 0, 0, 0]).as_deref(), Some("call 0x1015"));
        let lea = [0x48, 0x8d, 0x05, 0xf9, 0x2e, 0, 0];
        assert_eq!(x86(&lea).as_deref(), Some("lea 0x2ef9(%rip),%rax  # 0x3f00"));
        assert_eq!(x86(&[0x06]), None);
        assert_eq!(x86(&[0x48]), None);
        assert_eq!(x86(&[]), None);
    }

    #[test]
    fn arm64_is_a_word() {
        let paciasp = [0x3f, 0x23, 0x03, 0xd5];
        assert_eq!(first_instruction(Machine::Aarch64, 0, &paciasp).as_deref(), Some("0xd503233f"));
        assert_eq!(first_instruction(Machine::Aarch64, 0, &[0; 3]), None);
        assert_eq!(boundary(Machine::Aarch64, 0, &paciasp, 2), Boundary::Inside { before: 0, after: 4 });
        assert_eq!(boundary(Machine::Aarch64, 0, &paciasp, 4), Boundary::Start);
    }

    #[test]
    fn boundaries() {
        // endbr64; push %rbp; mov %rsp,%rbp; ret; (bad)
        let code = [0xf3, 0x0f, 0x1e, 0xfa, 0x55, 0x48, 0x89, 0xe5, 0xc3, 0x06, 0x90];
        let at = |offset| boundary(Machine::X86_64, 0x1000, &code, offset);
        for start in [0, 4, 5, 8, 9] {
            assert_eq!(at(start), Boundary::Start, "{start}");
        }
        assert_eq!(at(2), Boundary::Inside { before: 0, after: 4 });
        assert_eq!(at(7), Boundary::Inside { before: 5, after: 8 });
        assert_eq!(at(10), Boundary::Undecodable { at: 9 });
        assert_eq!(at(u64::MAX), Boundary::Undecodable { at: 9 });
    }

    proptest::proptest! {
        #[test]
        fn decodes_anything(code: Vec<u8>, address: u64, offset in 0_u64..64) {
            let _ = first_instruction(Machine::X86_64, address, &code);
            let _ = boundary(Machine::X86_64, address, &code, offset);
        }
    }
}
