//! Jump targets in data: the tables behind `switch`.
//!
//! Invariant: a table is read from an address that the code takes, until an entry leads to no code: the entries of real
//! tables all do. What is no table mostly ends with its first entry; what does not, only adds targets.

use super::image::Image;
use super::targets::Targets;

/// As many entries are read in all. Chromium has half a million.
const MAX_ENTRIES: usize = 1 << 24;

/// Tables of 32-bit distances from the table itself, as in position-independent code, at addresses that the code takes (in
/// order) or perhaps takes. One ends where the code takes another address: that is something else's.
pub(super) fn offsets(image: &Image<'_>, taken: &[u64], perhaps: &[u64], targets: &mut Targets) {
    let mut left = MAX_ENTRIES;
    for &table in taken.iter().chain(perhaps) {
        let next = taken.partition_point(|address| *address <= table);
        let room = taken.get(next).map_or(u64::MAX, |next| (next - table).div_ceil(4));
        let (entries, _) = image.bytes(table).as_chunks::<4>();
        for entry in entries.iter().take(usize::try_from(room).unwrap_or(usize::MAX)) {
            let target = table.wrapping_add_signed(i64::from(i32::from_le_bytes(*entry)));
            if !targets.is_code(target) {
                break;
            }
            if left == 0 {
                return targets.give_up();
            }
            left -= 1;
            targets.add(target);
        }
    }
}

/// Any word that may be an address, in a file that is loaded at its own addresses.
pub(super) fn words(image: &Image<'_>, targets: &mut Targets) {
    let span = image.code_span();
    for block in &image.blocks {
        let unaligned = usize::try_from(block.address.wrapping_neg() % 8).unwrap_or(0);
        let (words, _) = block.bytes.get(unaligned..).unwrap_or_default().as_chunks::<8>();
        let addresses = words.iter().map(|word| u64::from_le_bytes(*word));
        addresses.filter(|address| span.contains(address)).for_each(|address| targets.add(address));
    }
}
