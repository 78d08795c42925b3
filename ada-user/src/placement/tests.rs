//! Each rule of docs/placement.md, with the case that keeps it and the case that breaks it.

use proptest::prelude::*;

use super::*;

const ENTRY: u64 = 0x1000;
const NEW: Kernel = Kernel { knows_nops: true };
const OLD: Kernel = Kernel { knows_nops: false };
pub(super) const CALLS: Needs = Needs { arguments: false, faults: false };
const FAULTS: Needs = Needs { arguments: false, faults: true };
pub(super) const ARGUMENTS: Needs = Needs { arguments: true, faults: false };

const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const PUSH: &[u8] = &[0x55];
const NOP5: &[u8] = &[0x0f, 0x1f, 0x44, 0x00, 0x00];
const RET: &[u8] = &[0xc3];
/// `mov %edi,%eax`
const MOV: &[u8] = &[0x89, 0xf8];

fn code(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

/// An image of a function at `ENTRY` and what else a test needs.
fn image(bytes: &[u8]) -> Image<'_> {
    let block = Block { address: ENTRY, bytes, executable: true };
    Image { blocks: vec![block], starts: vec![ENTRY], ..Image::default() }
}

fn placed_in(image: &Image<'_>, size: usize, needs: Needs, kernel: Kernel) -> Placement {
    let targets = Targets::find(image);
    Placer::new(&targets, needs, kernel).place(ENTRY, size as u64, image.bytes(ENTRY))
}

pub(super) fn placed(bytes: &[u8], needs: Needs) -> Placement {
    placed_in(&image(bytes), bytes.len(), needs, NEW)
}

/// Where a probe goes in `passed; push; ret`: behind `passed`, or not.
fn passes(passed: &[u8], needs: Needs) -> bool {
    let placement = placed(&code(&[passed, PUSH, RET]), needs);
    assert!(placement.offset == 0 || placement.offset == passed.len() as u64, "{passed:x?}: {placement:?}");
    placement.moved()
}

#[test]
fn the_entry_is_kept_where_it_is_cheap() {
    for (first, price) in [(PUSH, Price::Emulated), (NOP5, Price::Call), (&[0x90][..], Price::Emulated)] {
        let placement = placed(&code(&[first, PUSH, RET]), CALLS);
        assert_eq!(placement, Placement { offset: 0, price, first_price: price });
    }
}

#[test]
fn the_first_cheap_instruction_is_the_site() {
    let bytes = code(&[ENDBR64, MOV, &[0x41, 0x54], PUSH, RET]);
    let expected = Placement { offset: 6, price: Price::Emulated, first_price: Price::Stepped };
    assert_eq!(placed(&bytes, CALLS), expected);
    // push %r12; je; jmp; call
    for site in [&[0x41, 0x54][..], &[0x74, 0x00], &[0xeb, 0x00], &[0xe8, 0, 0, 0, 0]] {
        assert_eq!(placed(&code(&[ENDBR64, site, RET]), CALLS).offset, 4, "{site:x?}");
    }
}

#[test]
fn without_a_cheap_instruction_the_probe_stays() {
    let expected = Placement { offset: 0, price: Price::Stepped, first_price: Price::Stepped };
    assert_eq!(placed(&code(&[ENDBR64, MOV, RET]), CALLS), expected);
}

#[test]
fn what_the_kernel_refuses_at_the_entry_is_moved_off() {
    // cs nopw, then something stepped.
    let bytes = code(&[&[0x2e, 0x0f, 0x1f, 0x00], MOV, RET]);
    let expected = Placement { offset: 4, price: Price::Stepped, first_price: Price::Refused };
    assert_eq!(placed(&bytes, CALLS), expected);
}

#[test]
fn only_what_falls_through_is_passed() {
    let (jump, hidden_call) = (&[0xeb, 0x00][..], &[0xff, 0xd0][..]);
    // A jump is itself a site, and cheap; an indirect call and ud2 are neither passed.
    assert_eq!(placed(&code(&[ENDBR64, jump, PUSH, RET]), CALLS).offset, 4);
    assert!(!passes(hidden_call, CALLS));
    assert!(!passes(&[0x0f, 0x0b], CALLS), "ud2");
    assert!(!passes(RET, CALLS));
}

#[test]
fn the_stack_pointer_is_never_passed() {
    assert!(passes(&[0x48, 0x8d, 0x44, 0x24, 0x08], CALLS), "lea 8(%rsp),%rax only reads it");
    let changes: [&[u8]; 7] = [
        &[0x48, 0x83, 0xec, 0x08],       // sub $8,%rsp
        &[0x48, 0x8d, 0x64, 0x24, 0xf8], // lea -8(%rsp),%rsp
        &[0x6a, 0x01],                   // push $1
        &[0x58],                         // pop %rax
        &[0xc9],                         // leave
        &[0xc8, 0, 0, 0],                // enter
        &[0x48, 0x94],                   // xchg %rax,%rsp
    ];
    for change in changes {
        // Pushes of registers are sites themselves.
        assert!(!passes(change, CALLS), "{change:x?}");
    }
}

#[test]
fn argument_registers_are_passed_only_where_they_are_not_recorded() {
    let writes: [&[u8]; 11] = [
        &[0x48, 0x89, 0xc7],       // mov %rax,%rdi
        &[0x31, 0xf6],             // xor %esi,%esi
        &[0xb2, 0x01],             // mov $1,%dl
        &[0xb5, 0x01],             // mov $1,%ch
        &[0x66, 0x41, 0xb8, 1, 0], // mov $1,%r8w
        &[0x4c, 0x89, 0xc9],       // mov %r9,%rcx
        &[0x48, 0x89, 0xe5],       // mov %rsp,%rbp
        &[0x48, 0x87, 0xc7],       // xchg %rax,%rdi
        &[0x0f, 0x44, 0xc8],       // cmove %eax,%ecx
        &[0x48, 0xf7, 0xe3],       // mul %rbx: rdx
        &[0x66, 0x0f, 0xef, 0xff], // pxor %xmm7,%xmm7
    ];
    for write in writes {
        assert!(passes(write, CALLS), "{write:x?}");
        assert!(!passes(write, ARGUMENTS), "{write:x?}");
    }
    assert!(passes(&[0x66, 0x45, 0x0f, 0xef, 0xc0], ARGUMENTS), "pxor %xmm8,%xmm8");
    assert!(passes(&[0x85, 0xff], ARGUMENTS), "test %edi,%edi");
    assert!(passes(&[0x49, 0x89, 0xfc], ARGUMENTS), "mov %rdi,%r12");
}

#[test]
fn rax_and_r10_are_passed_where_nothing_read_them_before() {
    let (zero, test, byte) = (&[0x31, 0xc0][..], &[0x84, 0xc0][..], &[0xb0, 0x01][..]);
    assert!(passes(zero, ARGUMENTS));
    assert!(passes(test, ARGUMENTS), "reading is no harm");
    assert!(
        !passes(&code(&[test, zero]), ARGUMENTS),
        "test %al,%al: the number of vector registers of a variadic call"
    );
    assert!(passes(&code(&[zero, test, zero]), ARGUMENTS), "dead once, dead for good");
    assert!(!passes(byte, ARGUMENTS), "the rest of rax may still be read");
    assert!(passes(&code(&[zero, byte]), ARGUMENTS));
    assert!(!passes(&[0x0f, 0x44, 0xc3], ARGUMENTS), "cmove %ebx,%eax may keep it");
    assert!(!passes(&[0x48, 0xff, 0xc0], ARGUMENTS), "inc %rax");
    assert!(passes(&[0x49, 0x89, 0xfa], ARGUMENTS), "mov %rdi,%r10");
    assert!(!passes(&[0x49, 0xff, 0xc2], ARGUMENTS), "inc %r10");
    assert!(passes(&code(&[test, zero]), CALLS));
}

#[test]
fn memory_is_written_only_where_nothing_recorded_is() {
    let below = &[0x48, 0x89, 0x5c, 0x24, 0xf0][..]; // mov %rbx,-0x10(%rsp)
    assert!(passes(below, FAULTS));
    assert!(!passes(below, ARGUMENTS), "an argument may point there");
    let own = &[0x89, 0x1d, 0, 0, 0, 0][..]; // mov %ebx,0(%rip)
    assert!(passes(own, FAULTS));
    assert!(!passes(own, ARGUMENTS));
    assert!(!passes(&[0x89, 0x07], CALLS), "mov %eax,(%rdi) may write anywhere");
    assert!(!passes(&[0x89, 0x5c, 0x3c, 0xf0], CALLS), "mov %ebx,-0x10(%rsp,%rdi)");
}

#[test]
fn the_return_address_is_never_written() {
    assert!(!passes(&[0x48, 0x89, 0x1c, 0x24], CALLS), "mov %rbx,(%rsp)");
    assert!(!passes(&[0x48, 0x89, 0x5c, 0x24, 0xf9], CALLS), "mov %rbx,-7(%rsp)");
    assert!(!passes(&[0x88, 0x5c, 0x24, 0x07], CALLS), "mov %bl,7(%rsp)");
    assert!(passes(&[0x48, 0x89, 0x5c, 0x24, 0xf8], CALLS), "mov %rbx,-8(%rsp)");
    assert!(passes(&[0x88, 0x5c, 0x24, 0x08], CALLS), "mov %bl,8(%rsp)");
}

#[test]
fn loads_that_may_fault_are_passed_by_choice() {
    let may: [&[u8]; 5] = [
        &[0x48, 0x8b, 0x07],                         // mov (%rdi),%rax
        &[0x48, 0x8b, 0x04, 0xfc],                   // mov (%rsp,%rdi,8),%rax
        &[0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0],       // mov 0x0,%rax
        &[0x65, 0x48, 0x8b, 0x04, 0x25, 0, 0, 0, 0], // mov %gs:0x0,%rax
        &[0x66, 0x0f, 0x6f, 0x44, 0x24, 0x08],       // movdqa 8(%rsp),%xmm0: alignment
    ];
    for load in may {
        assert!(passes(load, CALLS), "{load:x?}");
        assert!(!passes(load, FAULTS), "{load:x?}");
    }
    let cannot: [&[u8]; 4] = [
        &[0x48, 0x8b, 0x44, 0x24, 0x08],                // mov 8(%rsp),%rax
        &[0x48, 0x8b, 0x05, 0, 0, 0, 0],                // mov 0(%rip),%rax
        &[0x64, 0x48, 0x8b, 0x04, 0x25, 0x28, 0, 0, 0], // mov %fs:0x28,%rax
        &[0x48, 0x8d, 0x07],                            // lea (%rdi),%rax
    ];
    for load in cannot {
        assert!(passes(load, FAULTS), "{load:x?}");
        assert!(passes(load, ARGUMENTS), "{load:x?}");
    }
}

#[test]
fn what_is_not_on_the_list_ends_the_walk() {
    let unlisted: [&[u8]; 14] = [
        &[0xf3, 0xa4],                   // rep movsb
        &[0xa5],                         // movsl, whose name is that of a move of vectors
        &[0xf0, 0x83, 0x03, 0x01],       // lock addl $1,(%rbx)
        &[0x87, 0x05, 0, 0, 0, 0],       // xchg %eax,0(%rip): locked
        &[0x0f, 0xa3, 0x05, 0, 0, 0, 0], // bt %eax,0(%rip): may read beyond
        &[0x0f, 0xae, 0xf0],             // mfence
        &[0x0f, 0xa2],                   // cpuid
        &[0x0f, 0x05],                   // syscall
        &[0x0f, 0x31],                   // rdtsc
        &[0xf7, 0xf3],                   // div %ebx
        &[0x8e, 0xe0],                   // mov %eax,%fs
        &[0x0f, 0x20, 0xc0],             // mov %cr0,%rax
        &[0xc5, 0xf8, 0x77],             // vzeroupper
        &[0xdb, 0xe3],                   // fninit
    ];
    for instruction in unlisted {
        assert!(!passes(instruction, CALLS), "{instruction:x?}");
    }
    let begin = code(&[&[0xc7, 0xf8, 0, 0, 0, 0], PUSH, RET]);
    assert!(!placed(&begin, CALLS).moved(), "xbegin");
}

#[test]
fn an_interior_five_byte_nop_is_passed_and_never_probed() {
    assert_eq!(placed(&code(&[ENDBR64, NOP5, RET]), CALLS).offset, 0);
    assert_eq!(placed(&code(&[ENDBR64, NOP5, PUSH, RET]), CALLS).offset, 9);
    let refused = code(&[&[0x2e, 0x0f, 0x1f, 0x00], NOP5, RET]);
    assert_eq!(placed(&refused, CALLS).offset, 9, "not even where the entry is refused");
}

#[test]
fn old_kernels_step_nops() {
    let bytes = code(&[NOP5, PUSH, RET]);
    let expected = Placement { offset: 5, price: Price::Emulated, first_price: Price::Stepped };
    assert_eq!(placed_in(&image(&bytes), bytes.len(), CALLS, OLD), expected);
    assert!(Kernel::of_release("6.18.44-amd64").knows_nops && Kernel::of_release("7.0").knows_nops);
    assert!(!Kernel::of_release("6.17.9").knows_nops && !Kernel::of_release("rubbish").knows_nops);
}

/// `endbr64; mov; push; ret`, then 32 bytes for what leads there.
fn with_more(more: &[u8]) -> Vec<u8> {
    let mut bytes = code(&[ENDBR64, MOV, PUSH, RET]);
    bytes.extend_from_slice(more);
    bytes
}

fn stays(image: &Image<'_>) -> bool {
    !placed_in(image, 8, CALLS, NEW).moved()
}

#[test]
fn a_jump_or_call_between_entry_and_site_keeps_the_probe_at_the_entry() {
    // From 0x1008: jmp, call, je, loop, xbegin to 0x1004 and to the site.
    for more in [
        &[0xeb, 0xfa][..],
        &[0xeb, 0xfc],
        &[0xe8, 0xf7, 0xff, 0xff, 0xff],
        &[0x0f, 0x84, 0xf6, 0xff, 0xff, 0xff],
        &[0xe2, 0xfa],
        &[0xc7, 0xf8, 0xf6, 0xff, 0xff, 0xff],
    ] {
        assert!(stays(&image(&with_more(more))), "{more:x?}");
    }
    assert!(!stays(&image(&with_more(&[0xeb, 0xf6]))), "to the entry: every pass reaches the site");
    assert!(!stays(&image(&with_more(&[0xeb, 0xfd]))), "behind the site");
}

#[test]
fn code_whose_address_is_taken_is_a_target() {
    // lea 0x1004(%rip),%rax from 0x1008
    let bytes = with_more(&[0x48, 0x8d, 0x05, 0xf5, 0xff, 0xff, 0xff]);
    assert!(stays(&image(&bytes)));
    let bytes = with_more(&[]);
    let pointer = Image { pointers: vec![ENTRY + 4], ..image(&bytes) };
    assert!(stays(&pointer), "of a relocation");
    let start = Image { starts: vec![ENTRY, ENTRY + 4], ..image(&bytes) };
    assert!(stays(&start), "of a symbol");
}

#[test]
fn a_jump_table_s_entries_are_targets() {
    // lea 0x2000(%rip),%rax from 0x1008; the table: 0x1007 - 0x2000, 0x1004 - 0x2000.
    let bytes = with_more(&[0x48, 0x8d, 0x05, 0xf1, 0x0f, 0, 0]);
    let table: Vec<u8> = [0x1007_i32 - 0x2000, 0x1004 - 0x2000].iter().flat_map(|entry| entry.to_le_bytes()).collect();
    let data = Block { address: 0x2000, bytes: &table, executable: false };
    let mut image = image(&bytes);
    assert!(!stays(&image));
    image.blocks.push(data);
    assert!(stays(&image));
    let ended = Block { bytes: &[0, 0, 0, 0, 0x04, 0xf0, 0xff, 0xff], ..data };
    image.blocks.pop();
    image.blocks.push(ended);
    assert!(!stays(&image), "an entry that leads to no code ends it");
}

#[test]
fn a_jump_table_ends_where_the_code_takes_another_address() {
    // lea 0x2000(%rip),%rax from 0x1008; lea 0x2004(%rip),%rax from 0x100f: the second entry is not the first table's.
    let bytes = with_more(&[0x48, 0x8d, 0x05, 0xf1, 0x0f, 0, 0, 0x48, 0x8d, 0x05, 0xee, 0x0f, 0, 0]);
    let table: Vec<u8> = [0x1007_i32 - 0x2000, 0x1004 - 0x2000].iter().flat_map(|entry| entry.to_le_bytes()).collect();
    let mut image = image(&bytes);
    image.blocks.push(Block { address: 0x2000, bytes: &table, executable: false });
    assert!(!stays(&image));
}

#[test]
fn words_and_constants_of_a_fixed_file_are_targets() {
    let bytes = with_more(&[]);
    let word = 0x1004_u64.to_le_bytes();
    let data = Block { address: 0x2000, bytes: &word, executable: false };
    let with_word = Image { blocks: vec![image(&bytes).blocks[0], data], ..image(&bytes) };
    assert!(!stays(&with_word));
    assert!(stays(&Image { fixed: true, ..with_word }));
    // mov $0x1004,%eax; lea 0x1004(,%rbx,8),%rax
    for more in [&[0xb8, 0x04, 0x10, 0, 0][..], &[0x48, 0x8d, 0x04, 0xdd, 0x04, 0x10, 0, 0]] {
        let bytes = with_more(more);
        assert!(!stays(&image(&bytes)));
        assert!(stays(&Image { fixed: true, ..image(&bytes) }), "{more:x?}");
    }
}

#[test]
fn code_that_does_not_decode_hides_no_jump() {
    // 0x06 is no instruction; the jump behind 0xb8 is part of a constant in a straight decoding.
    let bytes = with_more(&[0x06, 0xb8, 0xeb, 0xf8, 0, 0, 0, 0xc3]);
    assert!(stays(&image(&bytes)));
    let sound = with_more(&[0x90, 0xb8, 0xeb, 0xf8, 0, 0, 0, 0xc3]);
    assert!(!stays(&image(&sound)));
}

#[test]
fn doubtful_functions_keep_their_probes_at_the_entry() {
    let bytes = code(&[ENDBR64, PUSH, RET]);
    assert!(!placed_in(&image(&bytes), 0, CALLS, NEW).moved(), "size unknown");
    assert!(!placed_in(&image(&bytes), 7, CALLS, NEW).moved(), "beyond the code");
    assert!(!placed_in(&image(&bytes), 4, CALLS, NEW).moved(), "the site is not the function's");
    assert!(!placed(&code(&[ENDBR64, PUSH, &[0x06], RET]), CALLS).moved(), "undecodable");
    // jmp into the constant of mov
    assert!(!placed(&code(&[ENDBR64, PUSH, &[0xeb, 0x01, 0xb8, 0xc3, 0xc3, 0xc3, 0xc3]]), CALLS).moved(), "overlap");
    let elsewhere = Placer::new(&Targets::default(), CALLS, NEW).place(ENTRY, 6, &bytes);
    assert!(!elsewhere.moved(), "not in the file's code");
}

#[test]
fn a_byte_that_goes_to_all_places_of_a_vector_is_passed() {
    // vpbroadcastb %esi,%ymm17, on which no probe may sit; push %rbp
    let code = [0x62, 0xe2, 0x7d, 0x28, 0x7a, 0xce, 0x55];
    assert_eq!((placed(&code, CALLS).offset, placed(&code, CALLS).price), (6, Price::Emulated));
    // vpbroadcastb (%rdi),%ymm1 reads memory: it is not on the list.
    let code = [0xc4, 0xe2, 0x7d, 0x78, 0x0f, 0x55];
    assert!(!placed(&code, CALLS).moved());
}

#[test]
fn prices_are_those_that_were_measured() {
    let price_of = |bytes: &[u8]| placed(bytes, CALLS).first_price;
    let emulated: [&[u8]; 11] = [
        &[0x50],
        &[0x41, 0x57],
        &[0x90],
        &[0x66, 0x90],
        &[0x0f, 0x1f, 0x00],
        &[0x66, 0x0f, 0x1f, 0x44, 0x00, 0x00],
        &[0xeb, 0x00],
        &[0xe9, 0, 0, 0, 0],
        &[0x0f, 0x84, 0, 0, 0, 0],
        &[0xf2, 0xe9, 0, 0, 0, 0],
        &[0xe8, 0, 0, 0, 0],
    ];
    for bytes in emulated {
        assert_eq!(price_of(bytes), Price::Emulated, "{bytes:x?}");
    }
    let stepped: [&[u8]; 7] =
        [ENDBR64, RET, &[0x6a, 0x01], &[0x58], &[0xe3, 0x00], &[0xff, 0xe0], &[0xc5, 0xf8, 0x28, 0xc1]];
    for bytes in stepped {
        assert_eq!(price_of(bytes), Price::Stepped, "{bytes:x?}");
    }
    let refused: [&[u8]; 17] = [
        &[0x62, 0xe2, 0x7d, 0x28, 0x7a, 0xce], // vpbroadcastb %esi,%ymm17: as `jp`
        &[0xc5, 0xf0, 0xc2, 0xc1, 0x00],       // vcmpps: as `ret`
        &[0xc5, 0xf8, 0x77],                   // vzeroupper: as `ja`
        &[0xf0, 0x83, 0x04, 0x24, 0x00],       // lock
        &[0x3e, 0xff, 0xe0],                   // notrack
        &[0x66, 0x2e, 0x0f, 0x1f, 0x84, 0, 0, 0, 0, 0],
        &[0x26, 0x8b, 0x04, 0x24], // es
        &[0x41, 0x90],             // xchg %eax,%r8d
        &[0xcc],
        &[0xf4],
        &[0xfa],
        &[0xec],
        &[0x6c],
        &[0x8e, 0xd0],                         // mov %eax,%ss
        &[0x66, 0x66, 0x48, 0xe8, 0, 0, 0, 0], // data16 call
        &[0xc5, 0xf1, 0xef, 0xc9],             // vpxor: its opcode is that of `out`
        &[0x62, 0xa1, 0xfd, 0x00, 0xef, 0xc0], // vpxorq
    ];
    for bytes in refused {
        assert_eq!(price_of(bytes), Price::Refused, "{bytes:x?}");
    }
    assert_eq!(price_of(&[]), Price::Refused);
}

proptest! {
    #[test]
    fn nothing_panics(bytes in prop::collection::vec(any::<u8>(), 0..200), size in 0_u64..300, fixed: bool, data in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut image = Image { fixed, pointers: vec![0, u64::MAX, ENTRY + 3], ..image(&bytes) };
        image.starts.extend([ENTRY + 7, 0, u64::MAX]);
        image.blocks.push(Block { address: u64::MAX - 20, bytes: &data, executable: true });
        let targets = Targets::find(&image);
        for needs in [CALLS, FAULTS, ARGUMENTS] {
            for entry in [ENTRY, ENTRY + 5, 0, u64::MAX - 3] {
                let placement = Placer::new(&targets, needs, NEW).place(entry, size, image.bytes(entry));
                prop_assert!(placement.offset == 0 || placement.offset < size);
                prop_assert!(placement.price <= placement.first_price);
            }
        }
    }
}
