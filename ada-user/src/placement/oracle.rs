//! Placement against a naive oracle: random straight code made of instructions whose effects were written down by hand.
//!
//! Invariant: the oracle shares nothing with the code under test; it knows what each instruction does from the manual.

use proptest::prelude::*;

use super::tests::{ARGUMENTS, CALLS, placed};

/// What an instruction does, as far as a probe's site depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Effect {
    /// Nothing that is recorded.
    Harmless,
    /// Writes argument registers, or memory that is none of the caller's.
    Arguments,
    /// Replaces rax.
    SetsRax,
    /// Reads rax, and leaves it.
    ReadsRax,
    /// Reads and writes rax, or part of it.
    ChangesRax,
    /// Moves the stack pointer, leaves the function, or has effects of its own.
    Barrier,
    /// Cheap to probe.
    Site,
}
use Effect::{Arguments, Barrier, ChangesRax, Harmless, ReadsRax, SetsRax, Site};

const INSTRUCTIONS: &[(&[u8], Effect)] = &[
    (&[0xf3, 0x0f, 0x1e, 0xfa], Harmless),                     // endbr64
    (&[0x48, 0x8b, 0x1f], Harmless),                           // mov (%rdi),%rbx
    (&[0x49, 0x89, 0xf3], Harmless),                           // mov %rsi,%r11
    (&[0x4d, 0x31, 0xe4], Harmless),                           // xor %r12,%r12
    (&[0x48, 0x39, 0xf7], Harmless),                           // cmp %rsi,%rdi
    (&[0x0f, 0x1f, 0x44, 0x00, 0x00], Harmless),               // nopl: a site at the entry only
    (&[0x4c, 0x8d, 0x5c, 0x24, 0x08], Harmless),               // lea 8(%rsp),%r11
    (&[0x66, 0x44, 0x0f, 0x6f, 0xc1], Harmless),               // movdqa %xmm1,%xmm8
    (&[0x41, 0x0f, 0x94, 0xc3], Harmless),                     // sete %r11b
    (&[0x31, 0xff], Arguments),                                // xor %edi,%edi
    (&[0x40, 0xb6, 0x01], Arguments),                          // mov $1,%sil
    (&[0x48, 0x99], Arguments),                                // cqo: rdx; also reads rax
    (&[0x41, 0xff, 0xc0], Arguments),                          // inc %r8d
    (&[0x48, 0x89, 0xe5], Arguments),                          // mov %rsp,%rbp
    (&[0x0f, 0x28, 0xc1], Arguments),                          // movaps %xmm1,%xmm0
    (&[0x48, 0x89, 0x5c, 0x24, 0xe0], Arguments),              // mov %rbx,-0x20(%rsp)
    (&[0xc7, 0x05, 0, 0, 0, 0, 1, 0, 0, 0], Arguments),        // movl $1,0(%rip)
    (&[0x31, 0xc0], SetsRax),                                  // xor %eax,%eax
    (&[0x48, 0x8b, 0x47, 0x08], SetsRax),                      // mov 8(%rdi),%rax
    (&[0xb8, 1, 0, 0, 0], SetsRax),                            // mov $1,%eax
    (&[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], SetsRax), // mov %fs:0x28,%rax
    (&[0x84, 0xc0], ReadsRax),                                 // test %al,%al
    (&[0x48, 0x89, 0xc3], ReadsRax),                           // mov %rax,%rbx
    (&[0x48, 0xff, 0xc0], ChangesRax),                         // inc %rax
    (&[0xb0, 0x01], ChangesRax),                               // mov $1,%al
    (&[0x48, 0x98], ChangesRax),                               // cltq
    (&[0x48, 0x83, 0xec, 0x18], Barrier),                      // sub $0x18,%rsp
    (&[0xc3], Barrier),                                        // ret
    (&[0x89, 0x07], Barrier),                                  // mov %eax,(%rdi)
    (&[0x48, 0x89, 0x1c, 0x24], Barrier),                      // mov %rbx,(%rsp)
    (&[0xf3, 0xa4], Barrier),                                  // rep movsb
    (&[0x0f, 0xa2], Barrier),                                  // cpuid
    (&[0x0f, 0xae, 0xe8], Barrier),                            // lfence
    (&[0x55], Site),                                           // push %rbp
    (&[0x41, 0x56], Site),                                     // push %r14
    (&[0x0f, 0x1f, 0x40, 0x00], Site),                         // nopl 0(%rax)
];

/// Where the probe of a function with these instructions goes.
fn expected(body: &[(&[u8], Effect)], arguments: bool) -> u64 {
    let (mut offset, mut read, mut dead) = (0, false, false);
    for (index, (bytes, effect)) in body.iter().enumerate() {
        let nop5 = bytes.len() == 5 && bytes[..2] == [0x0f, 0x1f];
        let goes_on = match effect {
            Site => return offset,
            Harmless if nop5 && index == 0 => return 0,
            Harmless => true,
            Arguments => !arguments,
            Barrier => false,
            _ if !arguments => true,
            SetsRax => !read || dead,
            ReadsRax => true,
            ChangesRax => dead,
        };
        if !goes_on {
            return 0;
        }
        dead |= *effect == SetsRax && !read;
        read |= matches!(effect, ReadsRax | ChangesRax);
        offset += bytes.len() as u64;
    }
    0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4000))]

    #[test]
    fn placement_agrees_with_the_oracle(body in prop::collection::vec(prop::sample::select(INSTRUCTIONS), 1..10)) {
        let bytes: Vec<u8> = body.iter().flat_map(|(bytes, _)| bytes.iter().copied()).chain([0xc3]).collect();
        prop_assert_eq!(placed(&bytes, CALLS).offset, expected(&body, false), "calls: {:x?}", &bytes);
        prop_assert_eq!(placed(&bytes, ARGUMENTS).offset, expected(&body, true), "arguments: {:x?}", &bytes);
    }
}
