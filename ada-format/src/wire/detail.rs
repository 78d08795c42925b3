//! What may follow a record in the ring: registers, stack, memory, a signal; and what the kernel programs are told to copy.
//!
//! Invariant: structs of integers without padding, so that any bytes of their size are one.

/// What is recorded of a call or return beside the event itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// The registers.
    pub registers: Registers,
    /// The stack pointer at the function's entry, as it was; also on a stack that moves.
    pub stack_pointer: u64,
    /// How many of the bytes of stack that follow could be read, from the stack pointer upwards.
    pub stack_size: u32,
    /// Bit `n` is set if slot `n` of the memory that follows was filled.
    pub slots: u32,
}

/// A piece of memory that was copied at a call or return: the head of a place for
/// [`Config::capture_bytes`](super::Config::capture_bytes) bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Slot {
    /// Where it is in the target.
    pub address: u64,
    /// Bytes copied; of a C string without the zero at its end.
    pub length: u32,
    /// Length of the whole in the target, in bytes; of a C string that was cut, one more than `length`, for nobody counted.
    pub full_length: u32,
}

/// A signal's delivery.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signal {
    /// Signal number.
    pub number: u32,
    /// `si_code`.
    pub code: i32,
    /// `si_addr` of a fault; otherwise 0.
    pub fault_address: u64,
    /// The sender's process id where `si_code` says that there is one; otherwise 0.
    pub sender: u32,
    /// Registers that are filled.
    pub register_count: u32,
    /// The full general-purpose set in ATF v2's order for the architecture.
    pub registers: [u64; MAX_SIGNAL_REGISTERS],
}

/// Registers of a [`Signal`] on the architecture that has most of them.
pub const MAX_SIGNAL_REGISTERS: usize = 34;

/// Pieces of memory that can be copied at one call, and at one return.
pub const MAX_SLOTS: usize = 8;

/// The most bytes that are copied of one piece of memory.
pub const MAX_CAPTURE_BYTES: u32 = 4096;

/// What memory is copied at the calls and returns of one function: the value of [`CAPTURES`](super::names::CAPTURES).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// At its calls.
    pub call: [Piece; MAX_SLOTS],
    /// At its returns, from the registers as they are then.
    pub ret: [Piece; MAX_SLOTS],
}

/// Which memory goes into one slot. All zeros: none. At most [`Config::capture_bytes`](super::Config::capture_bytes) are
/// copied of any.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Piece {
    /// One of [`piece`].
    pub kind: u8,
    /// Where the pointer is: 0–7 is one of [`Registers::regs`], 8–15 a word of the stack, counted from the first one behind
    /// the return address.
    pub base: u8,
    /// The same for a length that has a register or word of its own.
    pub length_base: u8,
    /// 0.
    pub reserved: u8,
    /// Of an object: where in it the pointer is, in bytes.
    pub pointer_offset: u16,
    /// Of an object: where in it the length is, in bytes.
    pub length_offset: u16,
    /// Of memory of a fixed length: that, in bytes.
    pub size: u32,
}

/// Kinds of [`Piece`].
pub mod piece {
    /// None.
    pub const NONE: u8 = 0;
    /// Memory up to the first zero byte.
    pub const C_STRING: u8 = 1;
    /// [`Piece::size`](Piece::size) bytes.
    pub const FIXED: u8 = 2;
    /// As many bytes as a register or stack word says.
    pub const SLICE: u8 = 3;
    /// The pointer points at an object that holds a pointer and, as a u64, a length: what these describe.
    pub const OBJECT: u8 = 4;
}

/// The registers that belong to a CALL or RETURN record.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Registers {
    /// Argument registers of a call or value registers of a return, in ATF v2's order for the architecture.
    pub regs: [u64; 8],
    /// Where the function returns to; 0 on a return.
    pub return_address: u64,
    /// rbp, or x29.
    pub frame_pointer: u64,
}

const _: () = assert!(size_of::<Registers>() == 80);
const _: () = assert!(size_of::<Detail>() == 96);
const _: () = assert!(size_of::<Slot>() == 16);
const _: () = assert!(size_of::<Signal>() == 296);
const _: () = assert!(size_of::<Piece>() == 12);
