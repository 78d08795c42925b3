//! Whether a probe may be moved over an instruction.
//!
//! Invariant: only instructions are passed of which all effects are known: those on a list, whose operands tell what they
//! read and write. Whatever is not on it ends the search.

use iced_x86::{
    ConditionCode, EncodingKind, FlowControl, Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind,
    Register, UsedMemory, UsedRegister,
};

use super::Needs;

/// The walk from a function's entry.
#[derive(Debug)]
pub(super) struct Passage {
    needs: Needs,
    factory: InstructionInfoFactory,
    rax: Entry,
    r10: Entry,
}

/// What has become of a register's value at entry, so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Entry {
    /// It is there, and nothing has read it.
    #[default]
    Unread,
    /// It is there, and was read: it may mean something.
    Read,
    /// It was overwritten before anything read it: it meant nothing.
    Dead,
}

impl Passage {
    pub(super) fn new(needs: Needs) -> Self {
        Self { needs, factory: InstructionInfoFactory::new(), rax: Entry::default(), r10: Entry::default() }
    }

    /// To be asked before the first instruction of each function.
    pub(super) fn begin(&mut self) {
        (self.rax, self.r10) = Default::default();
    }

    /// Whether what must be seen at the entry can still be seen behind the instruction. To be asked of one after the
    /// other.
    pub(super) fn passes(&mut self, instruction: &Instruction) -> bool {
        if matches!(instruction.mnemonic(), Mnemonic::Endbr64 | Mnemonic::Nop) {
            return true;
        }
        if !is_listed(instruction) {
            return false;
        }
        let info = self.factory.info(instruction);
        let (needs, rax, r10) = (self.needs, &mut self.rax, &mut self.r10);
        let leaves_memory = |memory: &UsedMemory| leaves_memory(needs, instruction, memory);
        let leaves_register = |used: &UsedRegister| match used.register().full_register() {
            Register::RAX if needs.arguments => rax.leave(used),
            Register::R10 if needs.arguments => r10.leave(used),
            register => !writes(used.access()) || may_be_written(needs, register),
        };
        info.used_memory().iter().all(leaves_memory) && info.used_registers().iter().all(leaves_register)
    }
}

impl Entry {
    /// Whether the value at entry is still there, or proven to be none.
    fn leave(&mut self, used: &UsedRegister) -> bool {
        let replaces = used.access() == OpAccess::Write && used.register().size() >= 4;
        match *self {
            Self::Dead => {}
            Self::Unread if replaces => *self = Self::Dead,
            _ if writes(used.access()) => return false,
            _ => *self = Self::Read,
        }
        true
    }
}

/// Whether a register other than rax and r10 is none of those that must be kept.
fn may_be_written(needs: Needs, full: Register) -> bool {
    use Register::{R8, R9, RBP, RCX, RDI, RDX, RSI, RSP, ZMM0, ZMM7};
    match full {
        RSP => false,
        RDI | RSI | RDX | RCX | R8 | R9 | RBP => !needs.arguments,
        vector if vector.is_vector_register() => !needs.arguments || !(ZMM0..=ZMM7).contains(&vector),
        other => other.is_gpr(),
    }
}

fn leaves_memory(needs: Needs, instruction: &Instruction, memory: &UsedMemory) -> bool {
    match memory.access() {
        OpAccess::None | OpAccess::NoMemAccess => true,
        _ if needs.faults && !is_there(instruction, memory) => false,
        access if !writes(access) => true,
        // A write to anywhere might be one to the return address.
        _ => !needs.arguments && is_there(instruction, memory) && !is_return_address(instruction, memory),
    }
}

/// Whether an access cannot fault, in a program that works at all: on the stack, in the file's own data, in the thread's
/// own.
fn is_there(instruction: &Instruction, memory: &UsedMemory) -> bool {
    if instruction.memory_index() != Register::None {
        return false;
    }
    let base = instruction.memory_base();
    match instruction.memory_segment() {
        Register::FS => base == Register::None,
        Register::GS => false,
        _ => base == Register::RIP || base == Register::RSP && !must_be_aligned(instruction, memory),
    }
}

/// Whether it faults where the caller left the stack misaligned.
fn must_be_aligned(instruction: &Instruction, memory: &UsedMemory) -> bool {
    use Mnemonic::{Movdqu, Movupd, Movups};
    memory.memory_size().size() >= 16 && !matches!(instruction.mnemonic(), Movups | Movupd | Movdqu)
}

/// Whether a write touches the word on top of the stack, as far as its operand tells.
fn is_return_address(instruction: &Instruction, memory: &UsedMemory) -> bool {
    let first = instruction.memory_displacement64().cast_signed();
    let last = first.saturating_add(i64::try_from(memory.memory_size().size()).unwrap_or(i64::MAX));
    let fixed = instruction.memory_index() == Register::None;
    instruction.memory_base() == Register::RSP && !(fixed && (last <= 0 || first >= 8))
}

fn writes(access: OpAccess) -> bool {
    use OpAccess::{CondWrite, ReadCondWrite, ReadWrite, Write};
    matches!(access, Write | CondWrite | ReadWrite | ReadCondWrite)
}

/// Whether all that it does is to read and write what its operands and its entry in iced's tables name.
fn is_listed(instruction: &Instruction) -> bool {
    let plain = instruction.flow_control() == FlowControl::Next
        && !instruction.has_lock_prefix()
        && !instruction.has_rep_prefix()
        && !instruction.has_repne_prefix()
        && !instruction.is_string_instruction()
        && !instruction.is_privileged();
    match instruction.encoding() {
        EncodingKind::Legacy => plain && is_known(instruction),
        EncodingKind::VEX | EncodingKind::EVEX => plain && is_known_vector(instruction),
        _ => false,
    }
}

/// What string functions begin with: a byte goes to all places of a vector. Between registers alone.
fn is_known_vector(instruction: &Instruction) -> bool {
    use Mnemonic::{Vmovd, Vmovq, Vpbroadcastb, Vpbroadcastd, Vpbroadcastq, Vpbroadcastw, Vpxor, Vpxord, Vpxorq};
    let registers = (0..instruction.op_count()).all(|op| instruction.op_kind(op) == OpKind::Register);
    let known = matches!(
        instruction.mnemonic(),
        Vmovd | Vmovq | Vpbroadcastb | Vpbroadcastd | Vpbroadcastq | Vpbroadcastw | Vpxor | Vpxord | Vpxorq
    );
    registers && known
}

fn is_known(instruction: &Instruction) -> bool {
    use Mnemonic::{
        Adc, Add, And, Andps, Bsf, Bsr, Bswap, Bt, Btc, Btr, Bts, Cbw, Cdq, Cdqe, Cmp, Cqo, Cwd, Cwde, Dec, Imul, Inc,
        Lea, Lzcnt, Mov, Movapd, Movaps, Movd, Movdqa, Movdqu, Movhlps, Movhpd, Movhps, Movlhps, Movlpd, Movlps, Movq,
        Movsd, Movss, Movsx, Movsxd, Movupd, Movups, Movzx, Mul, Neg, Not, Or, Pand, Popcnt, Por, Pshufd, Punpckldq,
        Punpcklqdq, Pxor, Rol, Ror, Sar, Sbb, Shl, Shr, Sub, Test, Tzcnt, Unpcklpd, Unpcklps, Xchg, Xor, Xorpd, Xorps,
    };
    match instruction.mnemonic() {
        Mov | Movzx | Movsx | Movsxd | Lea | Add | Adc | Sub | Sbb | And | Or | Xor | Not | Neg | Inc | Dec | Cmp
        | Test | Shl | Shr | Sar | Rol | Ror | Mul | Imul | Cbw | Cwde | Cdqe | Cwd | Cdq | Cqo | Bswap | Bsf | Bsr
        | Tzcnt | Lzcnt | Popcnt => true,
        Movd | Movq | Movss | Movsd | Movups | Movupd | Movdqu | Movaps | Movapd | Movdqa | Movhps | Movhpd
        | Movlps | Movlpd | Movhlps | Movlhps | Pxor | Xorps | Xorpd | Pand | Andps | Por | Pshufd | Punpckldq
        | Punpcklqdq | Unpcklps | Unpcklpd => true,
        // In memory, a bit's number reaches beyond the operand; an exchange is a locked one.
        Bt | Bts | Btr | Btc | Xchg => (0..instruction.op_count()).all(|op| instruction.op_kind(op) != OpKind::Memory),
        // `setcc` and `cmovcc`: no jump, and yet a condition.
        _ => instruction.condition_code() != ConditionCode::None,
    }
}
