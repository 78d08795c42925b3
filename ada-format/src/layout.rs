//! Every struct of ATF v2 as it lies on disk; nothing else in this workspace knows an offset.
//!
//! Invariant: all fields are little-endian and of alignment 1, so that the structs are packed by construction and can
//! be read in place from any byte of any file. Sizes and offsets are asserted below against `docs/ATF-V2.md`; a change
//! bumps [`VERSION`] and adds a golden session.
//!
//! ```text
//! index.atf   │ IndexHeader 64 │ IndexEvent 32 │ IndexEvent 32 │ … │ IndexFooter 64 │
//! detail.atf  │ DetailHeader 64 │ DetailEventHeader 24 + payload │ … │ DetailFooter 64 │
//!                                                   ├ FunctionPayload 100 + stack + (MemoryBlock 16 + bytes) × n
//!                                                   └ SignalPayload 20 + registers × 8
//! ```

use zerocopy::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// First bytes of an index file.
pub const INDEX_MAGIC: [u8; 4] = *b"ATI2";
/// First bytes of an index footer.
pub const INDEX_FOOTER_MAGIC: [u8; 4] = *b"2ITA";
/// First bytes of a detail file.
pub const DETAIL_MAGIC: [u8; 4] = *b"ATD2";
/// First bytes of a detail footer.
pub const DETAIL_FOOTER_MAGIC: [u8; 4] = *b"2DTA";
/// The endian byte of a header: 1 = little, the only one there is.
pub const LITTLE_ENDIAN: u8 = 1;
/// The version byte of a header.
pub const VERSION: u8 = 1;
/// Length of every header, in bytes; events begin there.
pub const HEADER_SIZE: usize = 64;
/// Length of every footer, in bytes.
pub const FOOTER_SIZE: usize = 64;
/// Length of an [`IndexEvent`], in bytes.
pub const INDEX_EVENT_SIZE: usize = 32;
/// Length of a [`DetailEventHeader`], in bytes: the smallest `total_length` there can be.
pub const DETAIL_EVENT_HEADER_SIZE: usize = 24;
/// Length of a [`FunctionPayload`] without what follows it, in bytes.
pub const FUNCTION_PAYLOAD_SIZE: usize = 100;
/// Length of a [`MemoryBlock`] without its bytes, in bytes.
pub const MEMORY_BLOCK_SIZE: usize = 16;
/// Length of a [`SignalPayload`] without its registers, in bytes.
pub const SIGNAL_PAYLOAD_SIZE: usize = 20;
/// The most stack a detail event carries, in bytes.
pub const MAX_STACK: usize = 512;
/// The most memory a detail event carries, in bytes, its [`MemoryBlock`]s included.
pub const MAX_MEMORY: usize = 0xFFFF;
/// The `detail_seq` of an index event that has no detail.
pub const NO_DETAIL: u32 = 0xFFFF_FFFF;
/// The most events one index file holds; a thread with more goes on in a new ordinal.
pub const MAX_EVENTS: u64 = 0xFFFF_FFFE;
/// The `function_id` of an exception while no recorded function was running.
pub const NO_FUNCTION: u64 = u64::MAX;
/// Bit of [`IndexHeader::flags`]: a detail file exists.
pub const FLAG_HAS_DETAIL: u32 = 1;

/// Declares an enum whose values are numbers in the files.
macro_rules! file_enum {
    ($(#[$about:meta])* $name:ident: $raw:ty { $($(#[$doc:meta])* $variant:ident = $value:literal,)* }) => {
        $(#[$about])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name {
            $($(#[$doc])* $variant = $value,)*
        }

        impl $name {
            /// The variant a file's number stands for; `None` if this version knows no such number.
            #[must_use]
            pub const fn from_raw(raw: $raw) -> Option<Self> {
                match raw {
                    $($value => Some(Self::$variant),)*
                    _ => None,
                }
            }

            /// The number that stands for it in a file.
            #[must_use]
            pub const fn raw(self) -> $raw {
                self as $raw
            }
        }
    };
}

file_enum! {
    /// What happened: [`IndexEvent::event_kind`].
    EventKind: u32 {
        /// A function was entered.
        Call = 1,
        /// A function returned.
        Return = 2,
        /// A signal was delivered, or frames were unwound.
        Exception = 3,
        /// The thread's events lie on another stack from here on; [`IndexEvent::function_id`] is that stack's number.
        Switch = 4,
    }
}

file_enum! {
    /// The processor of the traced process.
    Arch: u8 {
        /// x86-64.
        X86_64 = 1,
        /// AArch64.
        Arm64 = 2,
    }
}

file_enum! {
    /// The operating system of the traced process.
    Os: u8 {
        /// iOS.
        Ios = 1,
        /// Android.
        Android = 2,
        /// macOS.
        MacOs = 3,
        /// Linux.
        Linux = 4,
        /// Windows.
        Windows = 5,
    }
}

file_enum! {
    /// The clock that timestamps were read from.
    ClockType: u8 {
        /// mach_continuous_time, in nanoseconds.
        MachContinuous = 1,
        /// QueryPerformanceCounter, in nanoseconds.
        Qpc = 2,
        /// Linux's `CLOCK_BOOTTIME`.
        Boottime = 3,
    }
}

file_enum! {
    /// What a detail event holds: [`DetailEventHeader::event_type`].
    DetailType: u16 {
        /// A [`FunctionPayload`] taken at a call.
        FunctionCall = 3,
        /// A [`FunctionPayload`] taken at a return.
        FunctionReturn = 4,
        /// A [`SignalPayload`].
        SignalDelivery = 5,
    }
}

impl Arch {
    /// The processor this program was built for.
    #[must_use]
    pub const fn host() -> Self {
        if cfg!(target_arch = "aarch64") { Self::Arm64 } else { Self::X86_64 }
    }

    /// Its name in a manifest.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::X86_64 => "x86_64",
            Self::Arm64 => "arm64",
        }
    }
}

/// The start of index.atf. Counts, times, flags and `footer_offset` are 0 until the file is finalised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IndexHeader {
    /// [`INDEX_MAGIC`].
    pub magic: [u8; 4],
    /// [`LITTLE_ENDIAN`].
    pub endian: u8,
    /// [`VERSION`].
    pub version: u8,
    /// An [`Arch`].
    pub arch: u8,
    /// An [`Os`].
    pub os: u8,
    /// [`FLAG_HAS_DETAIL`] or 0.
    pub flags: U32,
    /// The operating system's thread id.
    pub thread_id: U32,
    /// A [`ClockType`].
    pub clock_type: u8,
    /// 0.
    pub reserved: [u8; 7],
    /// [`INDEX_EVENT_SIZE`].
    pub event_size: U32,
    /// Number of events; the footer's is authoritative.
    pub event_count: U32,
    /// [`HEADER_SIZE`].
    pub events_offset: U64,
    /// Where the footer begins.
    pub footer_offset: U64,
    /// Timestamp of the first event, in nanoseconds of the clock.
    pub time_start_ns: U64,
    /// Timestamp of the last event, in nanoseconds of the clock.
    pub time_end_ns: U64,
}

/// One call, return or exception.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IndexEvent {
    /// In nanoseconds of the header's clock; non-decreasing within a file.
    pub timestamp_ns: U64,
    /// `(module_id << 32) | symbol_index`.
    pub function_id: U64,
    /// The operating system's thread id.
    pub thread_id: U32,
    /// An [`EventKind`]; see [`IndexEvent::kind`].
    pub event_kind: U32,
    /// Traced frames below this one; a call and its return carry the same depth, the outermost is 0.
    pub call_depth: U32,
    /// Position of the detail event, or [`NO_DETAIL`]; see [`IndexEvent::detail`].
    pub detail_seq: U32,
}

impl IndexEvent {
    /// What happened; `None` if the file holds a number this version does not know.
    #[must_use]
    pub fn kind(&self) -> Option<EventKind> {
        EventKind::from_raw(self.event_kind.get())
    }

    /// Position of the linked detail event, if there is one.
    #[must_use]
    #[inline]
    pub fn detail(&self) -> Option<u32> {
        Some(self.detail_seq.get()).filter(|&seq| seq != NO_DETAIL)
    }
}

/// The end of a finalised index.atf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct IndexFooter {
    /// [`INDEX_FOOTER_MAGIC`].
    pub magic: [u8; 4],
    /// CRC-32 (IEEE) of the events section.
    pub checksum: U32,
    /// Number of events.
    pub event_count: U64,
    /// Timestamp of the first event, in nanoseconds of the clock; 0 if there is none.
    pub time_start_ns: U64,
    /// Timestamp of the last event, in nanoseconds of the clock; 0 if there is none.
    pub time_end_ns: U64,
    /// Length of the events section, in bytes.
    pub bytes_written: U64,
    /// 0.
    pub reserved: [u8; 24],
}

/// The start of detail.atf. From `events_offset` on the u64s are not 8-aligned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DetailHeader {
    /// [`DETAIL_MAGIC`].
    pub magic: [u8; 4],
    /// [`LITTLE_ENDIAN`].
    pub endian: u8,
    /// [`VERSION`].
    pub version: u8,
    /// An [`Arch`].
    pub arch: u8,
    /// An [`Os`].
    pub os: u8,
    /// 0.
    pub flags: U32,
    /// The operating system's thread id.
    pub thread_id: U32,
    /// 0.
    pub reserved: U32,
    /// [`HEADER_SIZE`].
    pub events_offset: U64,
    /// Number of events; the footer's is authoritative. 0 until finalised.
    pub event_count: U64,
    /// Length of the events section, in bytes. 0 until finalised.
    pub bytes_length: U64,
    /// First index position covered.
    pub index_seq_start: U64,
    /// Last index position covered.
    pub index_seq_end: U64,
    /// 0.
    pub reserved_end: [u8; 4],
}

/// The start of every detail event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DetailEventHeader {
    /// Length of this header and the payload, in bytes.
    pub total_length: U32,
    /// A [`DetailType`].
    pub event_type: U16,
    /// 0.
    pub flags: U16,
    /// Position of the linked index event.
    pub index_seq: U32,
    /// The operating system's thread id.
    pub thread_id: U32,
    /// The linked index event's timestamp, in nanoseconds of the clock.
    pub timestamp_ns: U64,
}

/// Registers at a call or a return, followed by `stack_size` bytes of stack and `memory_size` bytes of [`MemoryBlock`]s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct FunctionPayload {
    /// The linked index event's function.
    pub function_id: U64,
    /// x86_64: rdi rsi rdx rcx r8 r9 rax r10 of a call, rax rdx xmm0 0 0 0 0 0 of a return; arm64: x0–x7.
    pub regs: [U64; 8],
    /// Where the function returns to (arm64: lr).
    pub return_address: U64,
    /// rbp, or x29.
    pub frame_pointer: U64,
    /// rsp, or sp: the address of the first byte of the stack that follows.
    pub stack_pointer: U64,
    /// Bytes of stack that follow, at most [`MAX_STACK`].
    pub stack_size: U16,
    /// Bytes of memory blocks that follow the stack; 0 in files from before there were any.
    pub memory_size: U16,
}

/// A piece of the target's memory, followed by `length` bytes, without padding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct MemoryBlock {
    /// Where it was in the target.
    pub address: U64,
    /// Length of the whole in the target, in bytes: more than `length` if it was cut.
    pub full_length: U32,
    /// Bytes that follow.
    pub length: U16,
    /// Which piece of the function's signature it is: its position there.
    pub slot: u8,
    /// 0.
    pub flags: u8,
}

/// A signal's delivery, followed by `register_count` u64s.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct SignalPayload {
    /// Signal number.
    pub number: U32,
    /// `si_code`.
    pub code: I32,
    /// `si_addr`, or 0.
    pub fault_address: U64,
    /// Registers that follow. x86_64, 18: rax rbx rcx rdx rsi rdi rbp rsp r8–r15 rip rflags; arm64, 34: x0–x30 sp pc
    /// pstate.
    pub register_count: U16,
    /// 0.
    pub reserved: U16,
}

/// The end of a finalised detail.atf.
#[derive(Clone, Copy, Debug, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct DetailFooter {
    /// [`DETAIL_FOOTER_MAGIC`].
    pub magic: [u8; 4],
    /// CRC-32 (IEEE) of the events section.
    pub checksum: U32,
    /// Number of events.
    pub event_count: U64,
    /// Length of the events section, in bytes.
    pub bytes_length: U64,
    /// Timestamp of the first event, in nanoseconds of the clock; 0 if there is none.
    pub time_start_ns: U64,
    /// Timestamp of the last event, in nanoseconds of the clock; 0 if there is none.
    pub time_end_ns: U64,
    /// 0.
    pub reserved: [u8; 24],
}

/// Asserts at compile time a struct's size and the offset of every field.
macro_rules! assert_layout {
    ($name:ident, $size:expr, { $($field:ident @ $offset:literal,)* }) => {
        const _: () = assert!(size_of::<$name>() == $size && align_of::<$name>() == 1);
        $(const _: () = assert!(core::mem::offset_of!($name, $field) == $offset);)*
        // Naming every field makes a field without an assertion a compile error.
        const _: fn($name) = |value| { let $name { $($field: _,)* } = value; };
    };
}

assert_layout!(IndexHeader, HEADER_SIZE, {
    magic @ 0, endian @ 4, version @ 5, arch @ 6, os @ 7, flags @ 8, thread_id @ 12, clock_type @ 16, reserved @ 17,
    event_size @ 24, event_count @ 28, events_offset @ 32, footer_offset @ 40, time_start_ns @ 48, time_end_ns @ 56,
});
assert_layout!(IndexEvent, INDEX_EVENT_SIZE, {
    timestamp_ns @ 0, function_id @ 8, thread_id @ 16, event_kind @ 20, call_depth @ 24, detail_seq @ 28,
});
assert_layout!(IndexFooter, FOOTER_SIZE, {
    magic @ 0, checksum @ 4, event_count @ 8, time_start_ns @ 16, time_end_ns @ 24, bytes_written @ 32, reserved @ 40,
});
assert_layout!(DetailHeader, HEADER_SIZE, {
    magic @ 0, endian @ 4, version @ 5, arch @ 6, os @ 7, flags @ 8, thread_id @ 12, reserved @ 16, events_offset @ 20,
    event_count @ 28, bytes_length @ 36, index_seq_start @ 44, index_seq_end @ 52, reserved_end @ 60,
});
assert_layout!(DetailEventHeader, DETAIL_EVENT_HEADER_SIZE, {
    total_length @ 0, event_type @ 4, flags @ 6, index_seq @ 8, thread_id @ 12, timestamp_ns @ 16,
});
assert_layout!(FunctionPayload, FUNCTION_PAYLOAD_SIZE, {
    function_id @ 0, regs @ 8, return_address @ 72, frame_pointer @ 80, stack_pointer @ 88, stack_size @ 96,
    memory_size @ 98,
});
assert_layout!(MemoryBlock, MEMORY_BLOCK_SIZE, {
    address @ 0, full_length @ 8, length @ 12, slot @ 14, flags @ 15,
});
assert_layout!(SignalPayload, SIGNAL_PAYLOAD_SIZE, {
    number @ 0, code @ 4, fault_address @ 8, register_count @ 16, reserved @ 18,
});
assert_layout!(DetailFooter, FOOTER_SIZE, {
    magic @ 0, checksum @ 4, event_count @ 8, bytes_length @ 16, time_start_ns @ 24, time_end_ns @ 32, reserved @ 40,
});
