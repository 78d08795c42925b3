//! Where a function's probe goes: at the cheapest instruction that sees exactly the same calls as the first one.
//!
//! What a hit costs is decided by what the kernel does with the probed instruction ([`price`]), and a few instructions
//! into most functions there is one that it emulates. docs/placement.md has the measurements, the rules, and why they hold.
//!
//! Invariant: a probe moves only over instructions that are known to fall through and to leave alone what is recorded,
//! and only if nothing that is known of the file leads between the entry and the site. In doubt it stays at the entry.

mod image;
#[cfg(test)]
mod oracle;
mod pass;
mod price;
mod sweep;
mod tables;
mod targets;

#[cfg(test)]
mod tests;

use iced_x86::{Decoder, DecoderOptions, Instruction};

pub use image::{Block, Image};
use pass::Passage;
pub use price::{Kernel, Price, price, price_of};
pub use targets::Targets;

/// As many instructions are passed at most: those that are moved over usually number one to five.
const MAX_PASSED: usize = 32;

/// What must be seen, and still be intact, where the probe sits, besides every call, the stack pointer and the return
/// address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Needs {
    /// The argument registers, what they point to, and the frame pointer, because they are recorded.
    pub arguments: bool,
    /// Calls that end in a fault at once, as of a null pointer that the first instruction follows: no load that may fault is
    /// passed.
    pub faults: bool,
}

/// Where a probe goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The site, in bytes from the function's entry.
    pub offset: u64,
    /// What a hit costs there.
    pub price: Price,
    /// What it would cost at the entry.
    pub first_price: Price,
}

impl Placement {
    /// At the function's first instruction.
    #[must_use]
    pub fn at_entry(price: Price) -> Self {
        Self { offset: 0, price, first_price: price }
    }

    /// Whether it is elsewhere than at the entry.
    #[must_use]
    pub fn moved(&self) -> bool {
        self.offset > 0
    }
}

/// Chooses the sites of one file's functions. Of x86_64 files: elsewhere probes stay at the entry
/// ([`Placement::at_entry`] of [`Price::Unknown`]).
#[derive(Debug)]
pub struct Placer<'a> {
    targets: &'a Targets,
    passage: Passage,
    kernel: Kernel,
    instruction: Instruction,
}

impl<'a> Placer<'a> {
    /// For a file in which `targets` may be jumped to.
    #[must_use]
    pub fn new(targets: &'a Targets, needs: Needs, kernel: Kernel) -> Self {
        Self { targets, passage: Passage::new(needs), kernel, instruction: Instruction::default() }
    }

    /// The site of the function of `size` bytes (0 = unknown) at virtual address `entry`, whose code begins with `code`.
    #[must_use]
    pub fn place(&mut self, entry: u64, size: u64, code: &[u8]) -> Placement {
        let mut decoder = Decoder::with_ip(64, code, entry, DecoderOptions::NONE);
        decoder.decode_out(&mut self.instruction);
        let mut best = Placement::at_entry(self.price(code, 0));
        if best.price.is_cheap() || !self.may_move(entry, size) {
            return best;
        }
        self.passage.begin();
        for _ in 0..MAX_PASSED {
            let next = self.instruction.next_ip();
            let offset = next.wrapping_sub(entry);
            if !self.passage.passes(&self.instruction)
                || offset >= size
                || self.targets.any_in(self.instruction.ip().wrapping_add(1)..=next)
            {
                break;
            }
            decoder.decode_out(&mut self.instruction);
            let price = self.price(code, offset);
            if price < best.price {
                best = Placement { offset, price, ..best };
            }
            if price.is_cheap() || self.instruction.is_invalid() {
                break;
            }
        }
        best
    }

    fn price(&self, code: &[u8], offset: u64) -> Price {
        let rest = usize::try_from(offset).ok().and_then(|offset| code.get(offset..)).unwrap_or_default();
        price(&self.instruction, rest, offset == 0, self.kernel)
    }

    /// Whether the function's extent is known, and its code is what a straight decoding of it says.
    fn may_move(&self, entry: u64, size: u64) -> bool {
        size > 0 && entry.checked_add(size).is_some_and(|end| self.targets.is_plain(entry..end))
    }
}
