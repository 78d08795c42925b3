//! The shares of functions at cheap sites in real libraries, and how long it takes to tell.
//!
//! Invariant: it prints; nothing here depends on what a machine has installed.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Instant;

use super::{Image, Kernel, Needs, Placer, Targets};
use crate::elf::{Elf, Symbol};

const FILES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/libc.so.6",
    "/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
    "/usr/lib/x86_64-linux-gnu/libpython3.11.so.1.0",
    "/usr/lib/postgresql/15/bin/postgres",
];
const KERNEL: Kernel = Kernel { knows_nops: true };

#[test]
#[ignore = "prints what docs/placement.md quotes"]
fn of_libraries() {
    let named = std::env::var("ADA_FILES").unwrap_or_else(|_| FILES.join(":"));
    for path in named.split(':').map(Path::new).filter(|path| path.exists()) {
        of_file(path);
    }
}

fn of_file(path: &Path) {
    let elf = Elf::open(path).unwrap();
    let functions = functions(&elf);
    let begun = Instant::now();
    let image = Image::of(&elf, functions.keys().copied());
    let read = begun.elapsed();
    let targets = Targets::find(&image);
    let swept = begun.elapsed();
    println!("{}: {} functions; read {read:?}, swept {swept:?}", path.display(), functions.len());
    for (what, arguments, faults) in [
        ("plain", false, true),
        ("plain, loads passed", false, false),
        ("arguments", true, true),
        ("arguments, loads passed", true, false),
    ] {
        let needs = Needs { arguments, faults };
        let begun = Instant::now();
        let mut placer = Placer::new(&targets, needs, KERNEL);
        let (mut first, mut cheap, mut moved) = (0, 0, 0);
        for (&entry, &size) in &functions {
            let placement = placer.place(entry, size, image.bytes(entry));
            first += usize::from(placement.first_price.is_cheap());
            cheap += usize::from(placement.price.is_cheap());
            moved += usize::from(placement.moved());
        }
        let share = |count: usize| 100.0 * count as f64 / functions.len() as f64;
        println!(
            "  {what:25} at +0 {:5.1} %, placed {:5.1} %, moved {moved} ({:?})",
            share(first),
            share(cheap),
            begun.elapsed()
        );
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
