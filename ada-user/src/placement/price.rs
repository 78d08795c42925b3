//! What a hit costs, by the instruction under the probe.
//!
//! The kernel's rules are those of arch/x86/kernel/uprobes.c; each was checked by probing such an instruction on 6.18.
//!
//! Invariant: what is said to be cheap was measured to be; what the kernel refuses is never a site.

use iced_x86::{Code, Decoder, DecoderOptions, EncodingKind, Instruction, Mnemonic, Register};

/// What the kernel does with the probed instruction, from the cheapest on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Price {
    /// A 5-byte nop at the function's entry, which the kernel turns into a call (6.18): no trap.
    Call,
    /// One trap; the kernel does the instruction's work itself.
    Emulated,
    /// Two traps; the instruction is executed in a copy. Some ten times as much as `Emulated`.
    Stepped,
    /// It accepts no probe there, or would change what the program does.
    Refused,
    /// Not known: no x86_64 code.
    #[default]
    Unknown,
}

impl Price {
    /// Whether a hit costs one trap at the most.
    #[must_use]
    pub fn is_cheap(self) -> bool {
        matches!(self, Self::Call | Self::Emulated)
    }

    /// As `ada-trace list` prints it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Call => "call",
            Self::Emulated => "emulated",
            Self::Stepped => "stepped",
            Self::Refused => "refused",
            Self::Unknown => "unknown",
        }
    }
}

/// What the running kernel can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// It turns 5-byte nops into calls, and emulates all other nops: 6.18 and later.
    pub knows_nops: bool,
}

impl Kernel {
    /// The kernel of a release such as `6.18.44-amd64`; of an unreadable one, the oldest.
    #[must_use]
    pub fn of_release(release: &str) -> Self {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
        let (major, minor) = (numbers.next(), numbers.next());
        let version = major.and_then(Result::ok).zip(minor.and_then(Result::ok));
        Self { knows_nops: version.is_some_and(|version| version >= (6, 18)) }
    }
}

/// The nop that compilers leave room with at entries (`nopl 0x0(%rax,%rax,1)`).
const NOP5: [u8; 5] = [0x0f, 0x1f, 0x44, 0x00, 0x00];

/// Price of a probe at `address`, where `code` begins; `at_entry` if a function starts there.
#[must_use]
pub fn price_of(address: u64, code: &[u8], at_entry: bool, kernel: Kernel) -> Price {
    let instruction = Decoder::with_ip(64, code, address, DecoderOptions::NONE).decode();
    price(&instruction, code, at_entry, kernel)
}

/// Price of a probe on `instruction`, which `bytes` begin with; `at_entry` if a function starts there.
#[must_use]
pub fn price(instruction: &Instruction, bytes: &[u8], at_entry: bool, kernel: Kernel) -> Price {
    let bytes = bytes.get(..instruction.len()).filter(|_| !instruction.is_invalid()).unwrap_or_default();
    let Some(opcode) = opcode(instruction, bytes) else { return Price::Refused };
    if has_bad_prefix(bytes)
        || is_bad_opcode(opcode, instruction)
        || is_taken_for_another(opcode, instruction)
        || is_narrow_branch(instruction, bytes)
    {
        return Price::Refused;
    }
    if is_taken_for_nop(opcode, instruction) {
        return Price::Refused;
    }
    match bytes == NOP5 {
        // Elsewhere than at an entry the call would overwrite what the function keeps below its stack pointer.
        true if !at_entry => Price::Refused,
        true if kernel.knows_nops => Price::Call,
        _ if is_emulated(opcode, instruction, bytes, kernel) => Price::Emulated,
        _ => Price::Stepped,
    }
}

/// The legacy prefixes in front.
fn prefixes(bytes: &[u8]) -> &[u8] {
    let is_prefix = |byte: &u8| matches!(byte, 0x26 | 0x2e | 0x36 | 0x3e | 0x64..=0x67 | 0xf0 | 0xf2 | 0xf3);
    let count = bytes.iter().take_while(|byte| is_prefix(byte)).count();
    bytes.get(..count).unwrap_or_default()
}

/// Segment prefixes but fs and gs (so also `notrack` and branch hints), and lock.
fn has_bad_prefix(bytes: &[u8]) -> bool {
    prefixes(bytes).iter().any(|prefix| matches!(prefix, 0x26 | 0x2e | 0x36 | 0x3e | 0xf0))
}

/// `xchg %eax,%r8d` and its like have the opcode of `nop`. The kernel accepts a probe there, and then does not exchange
/// anything (seen on 6.18).
fn is_taken_for_nop(opcode: u8, instruction: &Instruction) -> bool {
    opcode == 0x90 && instruction.encoding() == EncodingKind::Legacy && instruction.mnemonic() == Mnemonic::Xchg
}

/// Under VEX and EVEX the kernel looks at the opcode as if it were of one byte: what stands for a push, a jump, a call, a return or a
/// nop there is emulated, or its address not corrected, and the program goes wrong. `vpbroadcastb %esi,%ymm17` (`7a`, as
/// `jp`) in glibc's strchrnul jumps away (seen on 6.18: printf no longer finds its percent signs).
fn is_taken_for_another(opcode: u8, instruction: &Instruction) -> bool {
    let by_its_opcode = matches!(
        opcode,
        0x0f | 0x50..=0x57 | 0x70..=0x7f | 0x90 | 0x9a | 0x9d | 0xc2 | 0xc3 | 0xca | 0xcb | 0xe8..=0xeb | 0xff
    );
    by_its_opcode && matches!(instruction.encoding(), EncodingKind::VEX | EncodingKind::EVEX)
}

/// A direct jump or call with an operand size prefix, such as the padded calls to `__tls_get_addr`.
fn is_narrow_branch(instruction: &Instruction, bytes: &[u8]) -> bool {
    prefixes(bytes).contains(&0x66) && is_emulated_branch(instruction)
}

fn is_emulated_branch(instruction: &Instruction) -> bool {
    instruction.is_jmp_short_or_near() || instruction.is_jcc_short_or_near() || instruction.is_call_near()
}

/// The byte that the kernel looks up: the first behind the prefixes, `0x0f` for all longer opcodes; but with VEX or
/// EVEX the opcode itself, in the same table.
fn opcode(instruction: &Instruction, bytes: &[u8]) -> Option<u8> {
    let mut rest = bytes.get(prefixes(bytes).len()..)?;
    let skip = match instruction.encoding() {
        EncodingKind::Legacy | EncodingKind::D3NOW => usize::from(matches!(rest.first(), Some(0x40..=0x4f))),
        EncodingKind::VEX if rest.first() == Some(&0xc5) => 2,
        EncodingKind::VEX => 3,
        EncodingKind::EVEX => 4,
        _ => return None,
    };
    rest = rest.get(skip..)?;
    rest.first().copied()
}

/// What the table excludes: what is no instruction in 64-bit mode, in and out, int, iret, hlt, cli, sti. Besides, what writes %ss.
fn is_bad_opcode(opcode: u8, instruction: &Instruction) -> bool {
    let in_table = matches!(
        opcode,
        0x06 | 0x07 | 0x0e | 0x16 | 0x17 | 0x1e | 0x1f | 0x27 | 0x2f | 0x37 | 0x3f | 0x60..=0x62 | 0x6c..=0x6f
            | 0x82 | 0x9a | 0xcc..=0xcf | 0xd4..=0xd6 | 0xe4..=0xe7 | 0xea | 0xec..=0xef | 0xf1 | 0xf4 | 0xfa | 0xfb
    );
    in_table || instruction.op0_register() == Register::SS
}

fn is_emulated(opcode: u8, instruction: &Instruction, bytes: &[u8], kernel: Kernel) -> bool {
    match opcode {
        _ if instruction.encoding() != EncodingKind::Legacy => false,
        _ if is_emulated_branch(instruction) => true,
        // Not with other prefixes, which change its size or say nothing.
        0x50..=0x57 => matches!(bytes, [_] | [0x41, _]),
        _ if bytes == [0x90] => true,
        _ => kernel.knows_nops && is_long_nop(instruction),
    }
}

fn is_long_nop(instruction: &Instruction) -> bool {
    matches!(
        instruction.code(),
        Code::Nopw | Code::Nopd | Code::Nopq | Code::Nop_rm16 | Code::Nop_rm32 | Code::Nop_rm64
    )
}
