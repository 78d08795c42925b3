//! Shares of functions at cheap sites in the files given, as docs/placement.md quotes them; or, after `--moved` or
//! `--moved-with-arguments`, the file offsets of entry and site of every function that is moved.
//!
//! Invariant: it looks at files only.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use ada_user::elf::{Elf, Symbol};
use ada_user::placement::{Image, Kernel, Needs, Placer, Targets};

const KERNEL: Kernel = Kernel { knows_nops: true };
const CALLS: Needs = Needs { arguments: false, faults: false };
const ARGUMENTS: Needs = Needs { arguments: true, faults: false };

fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1).peekable();
    let moved = match arguments.peek().map(String::as_str) {
        Some("--moved") => Some(CALLS),
        Some("--moved-with-arguments") => Some(ARGUMENTS),
        _ => None,
    };
    for path in arguments.skip(usize::from(moved.is_some())) {
        let elf = Elf::open(Path::new(&path))?;
        match moved {
            Some(needs) => print_moved(&elf, needs),
            None => print_shares(&path, &elf),
        }
    }
    Ok(())
}

fn print_moved(elf: &Elf, needs: Needs) {
    let functions = functions(elf);
    let image = Image::of(elf, functions.keys().copied());
    let targets = Targets::find(&image);
    let mut placer = Placer::new(&targets, needs, KERNEL);
    for (entry, size) in functions {
        let placement = placer.place(entry, size, image.bytes(entry));
        let offsets = elf.code_offset(entry).zip(elf.code_offset(entry + placement.offset));
        if let Some((entry, site)) = offsets.filter(|_| placement.moved()) {
            println!("{entry:#x} {site:#x}");
        }
    }
}

fn print_shares(path: &str, elf: &Elf) {
    let functions = functions(elf);
    let begun = Instant::now();
    let image = Image::of(elf, functions.keys().copied());
    let targets = Targets::find(&image);
    println!("{path}: {} functions, swept in {:.1?}", functions.len(), begun.elapsed());
    for (what, needs) in [
        ("calls", CALLS),
        ("calls, no load passed that may fault", Needs { faults: true, ..CALLS }),
        ("arguments", ARGUMENTS),
        ("arguments, no load passed that may fault", Needs { faults: true, ..ARGUMENTS }),
    ] {
        let begun = Instant::now();
        let mut placer = Placer::new(&targets, needs, KERNEL);
        let place = |(&entry, &size): (&u64, &u64)| placer.place(entry, size, image.bytes(entry));
        let placements: Vec<_> = functions.iter().map(place).collect();
        let share = |count: usize| 100.0 * count as f64 / functions.len().max(1) as f64;
        let first = placements.iter().filter(|placement| placement.first_price.is_cheap()).count();
        let cheap = placements.iter().filter(|placement| placement.price.is_cheap()).count();
        let moved = placements.iter().filter(|placement| placement.moved()).count();
        let (first, cheap, took) = (share(first), share(cheap), begun.elapsed());
        println!("  {what}: at +0 {first:.1} %, placed {cheap:.1} %, {moved} moved, in {took:.1?}");
    }
}

/// Entries and sizes of the file's functions.
fn functions(elf: &Elf) -> BTreeMap<u64, u64> {
    let mut functions = BTreeMap::new();
    let tables = elf.symtab().into_iter().chain(elf.dynsym());
    let wanted = |symbol: &Symbol<'_>| symbol.is_function() && symbol.size > 0;
    for symbol in tables.flat_map(|table| table.iter().filter(wanted).collect::<Vec<_>>()) {
        let size = functions.entry(symbol.address).or_insert(symbol.size);
        *size = symbol.size.max(*size);
    }
    functions
}
