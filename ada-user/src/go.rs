//! The stack check at the start of Go's functions: `cmp 0x10(%r14),%rsp; jbe grow`, by which a function that lacks room has its
//! stack moved and is then entered once more.
//!
//! Invariant: from the function's entry, the jump is reached exactly once per call that finds room and once more for each time
//! that it does not; at the jump the stack pointer is still that of the entry.

use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, InstructionInfoFactory, OpAccess, Register};

/// The longest check: `mov %rsp,%r12; sub $n,%r12; jb grow; cmp 0x10(%r14),%r12; jbe grow`.
const MAX_INSTRUCTIONS: usize = 5;
/// Offset of `stackguard0` in runtime.g.
const STACK_GUARD: u64 = 0x10;

/// How far the `jbe` of an x86_64 function's stack check lies behind its entry, in bytes; `None` if it has no check.
#[must_use]
pub fn stack_check(entry: u64, code: &[u8]) -> Option<u64> {
    let mut factory = InstructionInfoFactory::new();
    let mut compared = false;
    for instruction in Decoder::with_ip(64, code, entry, DecoderOptions::NONE).into_iter().take(MAX_INSTRUCTIONS) {
        match instruction.code() {
            Code::Jbe_rel8_64 | Code::Jbe_rel32_64 if compared => return instruction.ip().checked_sub(entry),
            // A frame that is larger than all of the stack's addresses below it.
            Code::Jb_rel8_64 | Code::Jb_rel32_64 => {}
            _ if instruction.flow_control() != FlowControl::Next || !is_scratch(&mut factory, &instruction) => {
                return None;
            }
            _ => compared |= compares_with_guard(&instruction),
        }
    }
    None
}

/// Whether it changes nothing but the registers that Go keeps free at a function's entry.
fn is_scratch(factory: &mut InstructionInfoFactory, instruction: &Instruction) -> bool {
    let info = factory.info(instruction);
    let writes = |access: OpAccess| {
        !matches!(access, OpAccess::None | OpAccess::Read | OpAccess::CondRead | OpAccess::NoMemAccess)
    };
    let free = |register: Register| matches!(register.full_register(), Register::R12 | Register::R13);
    info.used_registers().iter().all(|used| !writes(used.access()) || free(used.register()))
        && info.used_memory().iter().all(|used| !writes(used.access()))
}

fn compares_with_guard(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Code::Cmp_r64_rm64)
        && instruction.memory_base() == Register::R14
        && instruction.memory_displacement64() == STACK_GUARD
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checks_that_the_compiler_makes() {
        // cmp 0x10(%r14),%rsp; jbe
        assert_eq!(stack_check(0x1000, &[0x49, 0x3b, 0x66, 0x10, 0x76, 0x20]), Some(4));
        // lea -0x1a0(%rsp),%r12; cmp 0x10(%r14),%r12; jbe
        let medium =
            [0x4c, 0x8d, 0xa4, 0x24, 0x60, 0xfe, 0xff, 0xff, 0x4d, 0x3b, 0x66, 0x10, 0x0f, 0x86, 0xc0, 0, 0, 0];
        assert_eq!(stack_check(0x1000, &medium), Some(12));
        // mov %rsp,%r12; sub $0x11100,%r12; jb; cmp 0x10(%r14),%r12; jbe
        let large = [0x49, 0x89, 0xe4, 0x49, 0x81, 0xec, 0, 0x11, 1, 0, 0x72, 0x40, 0x4d, 0x3b, 0x66, 0x10, 0x76, 0x3a];
        assert_eq!(stack_check(0x1000, &large), Some(16));
    }

    #[test]
    fn what_is_no_check() {
        // lea (%rax,%rax,2),%rax; inc %rax; ret
        assert_eq!(stack_check(0, &[0x48, 0x8d, 0x04, 0x40, 0x48, 0xff, 0xc0, 0xc3]), None);
        // cmp 0x10(%r13),%rsp; jbe
        assert_eq!(stack_check(0, &[0x49, 0x3b, 0x65, 0x10, 0x76, 0x20]), None);
        // push %rbp; cmp 0x10(%r14),%rsp; jbe
        assert_eq!(stack_check(0, &[0x55, 0x49, 0x3b, 0x66, 0x10, 0x76, 0x20]), None);
        assert_eq!(stack_check(0, &[]), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes(code: Vec<u8>) {
            let _ = stack_check(0, &code);
        }
    }
}
