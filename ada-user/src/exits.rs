//! Where a function is left: its `ret` instructions and its tail calls, found by decoding.
//!
//! A probe on each of them sees every return without touching the return address, so it is safe where a return probe is
//! not: for functions that exceptions or panics leave, on stacks that move or are switched. It costs more (`ret` is
//! single-stepped), and it misses a tail call through a pointer, which then shows as a call without a return.
//!
//! Invariant: a site is the start of an instruction. Code that does not decode, or that a jump enters between two
//! instructions of the sweep, gives no sites at all: a probe inside an instruction would change the program.

use std::{
    collections::{BTreeMap, HashSet},
    ops::Range,
};

use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, OpKind};

/// The most instructions that are followed outside of the function's own range (in the parts that the compiler put
/// elsewhere because they are rarely run).
const MAX_PART: usize = 4096;

/// What the search needs to know of a file.
pub trait CodeMap {
    /// The bytes of code at a virtual address, at most `size` of them.
    fn code(&self, address: u64, size: u64) -> Option<&[u8]>;
    /// Whether a function starts there that can be called.
    fn starts_function(&self, address: u64) -> bool;
    /// Whether anything starts there, function or part.
    fn starts_anything(&self, address: u64) -> bool;
}

/// An instruction by which a function is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// Its virtual address; in a plan its file offset.
    pub at: u64,
    /// What it does.
    pub by: Leaves,
}

/// How a function is left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// It returns: what it gives back is in the value registers.
    ByReturn,
    /// It jumps to another function, which will return in its place: nobody knows yet what.
    ByJump,
}

/// How a function is left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exits {
    /// In the order of their virtual addresses.
    pub sites: Vec<Exit>,
    /// Whether something can be thrown through it, or past the return address that it leaves to another function: it
    /// calls others or ends in a jump to them.
    pub may_throw: bool,
}

/// Why exits cannot be named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoExits {
    /// The function's end is not known.
    #[error("its size is unknown")]
    Size,
    /// The bytes at this virtual address are no instruction.
    #[error("its code at {0:#x} does not decode")]
    Undecodable(u64),
    /// A jump leads between the instructions that were decoded.
    #[error("a jump leads into the middle of an instruction at {0:#x}")]
    Overlap(u64),
    /// Its parts elsewhere go on for too long.
    #[error("more than {MAX_PART} of its instructions lie elsewhere")]
    TooFar,
    /// It is never left: it loops, or only calls what does not return.
    #[error("it has no return instruction")]
    NeverLeft,
}

/// Finds the exits of the x86_64 function that occupies `range`.
///
/// # Errors
/// [`NoExits`] if they cannot be named for certain.
pub fn find(range: Range<u64>, map: &impl CodeMap) -> Result<Exits, NoExits> {
    let size = range.end.checked_sub(range.start).filter(|size| *size > 0).ok_or(NoExits::Size)?;
    let code = map.code(range.start, size).filter(|code| code.len() as u64 == size);
    let code = code.ok_or(NoExits::Undecodable(range.start))?;
    let mut search = Search { range: range.clone(), map, sites: BTreeMap::new(), may_throw: false, parts: Vec::new() };
    let mut starts = HashSet::new();
    let mut targets = Vec::new();
    for instruction in decoder(range.start, code) {
        if instruction.is_invalid() {
            return Err(NoExits::Undecodable(instruction.ip()));
        }
        starts.insert(instruction.ip());
        targets.extend(branch_target(&instruction).filter(|target| range.contains(target)));
        search.look_at(&instruction);
    }
    if let Some(target) = targets.iter().find(|target| !starts.contains(*target)) {
        return Err(NoExits::Overlap(*target));
    }
    search.follow_parts()?;
    if search.sites.is_empty() {
        return Err(NoExits::NeverLeft);
    }
    let sites = search.sites.into_iter().map(|(at, by)| Exit { at, by }).collect();
    Ok(Exits { sites, may_throw: search.may_throw })
}

struct Search<'a, M> {
    range: Range<u64>,
    map: &'a M,
    sites: BTreeMap<u64, Leaves>,
    may_throw: bool,
    /// Addresses outside of the range that belong to the function, not yet followed.
    parts: Vec<u64>,
}

impl<M: CodeMap> Search<'_, M> {
    /// Notes an exit, a call, or the way into a part.
    fn look_at(&mut self, instruction: &Instruction) {
        match instruction.flow_control() {
            FlowControl::Return => {
                self.sites.insert(instruction.ip(), Leaves::ByReturn);
            }
            FlowControl::Call | FlowControl::IndirectCall | FlowControl::IndirectBranch => self.may_throw = true,
            FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch => self.look_at_branch(instruction),
            _ => {}
        }
    }

    /// A jump out of the range leads to a part of the function that the compiler put elsewhere, or is a tail call.
    /// Conditional tail calls are hardly ever made, and a part is what a conditional jump leads to.
    fn look_at_branch(&mut self, instruction: &Instruction) {
        let Some(target) = branch_target(instruction).filter(|target| !self.range.contains(target)) else { return };
        let conditional = instruction.flow_control() == FlowControl::ConditionalBranch;
        if self.map.starts_function(target) && !conditional {
            self.sites.insert(instruction.ip(), Leaves::ByJump);
            self.may_throw = true;
        } else {
            self.parts.push(target);
        }
    }

    /// Follows the code that the function's jumps lead to elsewhere, until it comes back or ends.
    fn follow_parts(&mut self) -> Result<(), NoExits> {
        let mut seen = HashSet::new();
        while let Some(part) = self.parts.pop() {
            let mut address = part;
            while !self.range.contains(&address)
                && seen.insert(address)
                && (address == part || !self.map.starts_anything(address))
            {
                if seen.len() > MAX_PART {
                    return Err(NoExits::TooFar);
                }
                let code = self.map.code(address, 15).ok_or(NoExits::Undecodable(address))?;
                let instruction = decoder(address, code).into_iter().next().unwrap_or_default();
                if instruction.is_invalid() {
                    return Err(NoExits::Undecodable(address));
                }
                self.look_at(&instruction);
                if ends_flow(&instruction) {
                    break;
                }
                address = instruction.next_ip();
            }
        }
        Ok(())
    }
}

fn decoder(address: u64, code: &[u8]) -> Decoder<'_> {
    Decoder::with_ip(64, code, address, DecoderOptions::NONE)
}

fn branch_target(instruction: &Instruction) -> Option<u64> {
    let near = matches!(instruction.op0_kind(), OpKind::NearBranch64 | OpKind::NearBranch32 | OpKind::NearBranch16);
    let branch =
        matches!(instruction.flow_control(), FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch);
    (near && branch).then(|| instruction.near_branch_target())
}

fn ends_flow(instruction: &Instruction) -> bool {
    matches!(
        instruction.flow_control(),
        FlowControl::Return
            | FlowControl::UnconditionalBranch
            | FlowControl::IndirectBranch
            | FlowControl::Exception
            | FlowControl::Interrupt
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Code at 0x1000; functions start at the addresses given.
    struct Text {
        bytes: Vec<u8>,
        functions: Vec<u64>,
    }

    impl CodeMap for Text {
        fn code(&self, address: u64, size: u64) -> Option<&[u8]> {
            let start = usize::try_from(address.checked_sub(0x1000)?).ok()?;
            let rest = self.bytes.get(start..)?;
            Some(&rest[..rest.len().min(size as usize)])
        }

        fn starts_function(&self, address: u64) -> bool {
            self.functions.contains(&address)
        }

        fn starts_anything(&self, address: u64) -> bool {
            self.functions.contains(&address)
        }
    }

    fn text(bytes: &[u8], functions: &[u64]) -> Text {
        Text { bytes: bytes.to_vec(), functions: functions.to_vec() }
    }

    fn returns(at: &[u64]) -> Vec<Exit> {
        at.iter().map(|at| Exit { at: *at, by: Leaves::ByReturn }).collect()
    }

    #[test]
    fn every_ret_is_an_exit() {
        // test edi,edi; je +1; ret; mov eax,edi; ret
        let map = text(&[0x85, 0xff, 0x74, 0x01, 0xc3, 0x89, 0xf8, 0xc3], &[0x1000]);
        assert_eq!(find(0x1000..0x1008, &map), Ok(Exits { sites: returns(&[0x1004, 0x1007]), may_throw: false }));
    }

    #[test]
    fn a_jump_to_another_function_is_an_exit_and_a_call_is_noted() {
        // call 0x1010; jmp 0x1010
        let map = text(
            &[0xe8, 0x0b, 0, 0, 0, 0xe9, 0x06, 0, 0, 0, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xc3],
            &[0x1000, 0x1010],
        );
        assert_eq!(
            find(0x1000..0x100a, &map),
            Ok(Exits { sites: vec![Exit { at: 0x1005, by: Leaves::ByJump }], may_throw: true })
        );
    }

    #[test]
    fn a_cold_part_is_followed_and_its_return_found() {
        // jne 0x1004 (the part); ret; int3 | part: nop; ret
        let map = text(&[0x75, 0x02, 0xc3, 0xcc, 0x90, 0xc3], &[0x1000]);
        assert_eq!(find(0x1000..0x1003, &map), Ok(Exits { sites: returns(&[0x1002, 0x1005]), may_throw: false }));
    }

    #[test]
    fn a_cold_part_ends_where_something_else_starts() {
        // jne 0x1004; ret; int3 | part: nop; then another function's ret at 0x1005
        let map = text(&[0x75, 0x02, 0xc3, 0xcc, 0x90, 0xc3], &[0x1000, 0x1005]);
        assert_eq!(find(0x1000..0x1003, &map), Ok(Exits { sites: returns(&[0x1002]), may_throw: false }));
    }

    #[test]
    fn doubtful_code_has_no_exits() {
        // 0x06 is no instruction in 64-bit mode.
        assert_eq!(find(0x1000..0x1002, &text(&[0x06, 0xc3], &[])), Err(NoExits::Undecodable(0x1000)));
        // jmp +1 into the immediate of mov eax, imm32
        let map = text(&[0xeb, 0x01, 0xb8, 0xc3, 0xc3, 0xc3, 0xc3, 0xc3], &[]);
        assert_eq!(find(0x1000..0x1008, &map), Err(NoExits::Overlap(0x1003)));
        // jmp to itself
        assert_eq!(find(0x1000..0x1002, &text(&[0xeb, 0xfe], &[])), Err(NoExits::NeverLeft));
        assert_eq!(find(0x1000..0x1000, &text(&[], &[])), Err(NoExits::Size));
        assert_eq!(find(0x1000..0x2000, &text(&[0xc3], &[])), Err(NoExits::Undecodable(0x1000)));
    }
}
