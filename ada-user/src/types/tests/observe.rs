//! What a probe would see of a program's functions, by means of gdb.

use std::path::Path;
use std::process::Command;

use ada_format::manifest::Signature;
use ada_format::values::{Memory, Moment, Observed, write_call};
use ada_format::wire::{Capture, Piece};
use serde_json::{Value, json};

use crate::elf::fixture::{run, skip};

const SCRIPT: &str = include_str!("observe.py");

/// A function to be looked at.
pub(super) struct Wanted {
    pub(super) name: String,
    pub(super) address: u64,
    pub(super) signature: Signature,
    pub(super) capture: Capture,
}

/// The calls and returns of `functions` while `program` runs, as text; `None` without gdb.
pub(super) fn observe(program: &Path, functions: &[Wanted]) -> Option<Vec<String>> {
    if Command::new("gdb").args(["-nx", "-batch", "-ex", "python print(1)"]).output().is_err() {
        skip("gdb");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let plan: Vec<Value> = functions.iter().map(described).collect();
    std::fs::write(path("plan"), json!(plan).to_string()).unwrap();
    std::fs::write(path("observe.py"), SCRIPT).unwrap();
    let mut gdb = Command::new("gdb");
    gdb.env("ADA_PLAN", path("plan")).env("ADA_OUT", path("out")).env("DEBUGINFOD_URLS", "");
    run(gdb.args(["-nx", "-batch", "-x"]).arg(path("observe.py")).arg(program));
    let seen = std::fs::read_to_string(path("out")).unwrap();
    Some(seen.lines().map(|line| rendered(&serde_json::from_str(line).unwrap(), functions)).collect())
}

fn described(function: &Wanted) -> Value {
    let piece = |piece: &Piece| {
        json!([piece.kind, piece.base, piece.length_base, piece.pointer_offset, piece.length_offset, piece.size])
    };
    let pieces = |pieces: &[Piece]| pieces.iter().map(piece).collect::<Vec<_>>();
    json!({
        "address": function.address,
        "call": pieces(&function.capture.call),
        "ret": pieces(&function.capture.ret),
    })
}

fn rendered(seen: &Value, functions: &[Wanted]) -> String {
    let number = |value: &Value| value.as_u64().unwrap();
    let function = &functions[usize::try_from(number(&seen["function"])).unwrap()];
    let mut registers = [0; 8];
    for (register, value) in registers.iter_mut().zip(seen["regs"].as_array().unwrap()) {
        *register = number(value);
    }
    let stack = bytes(&seen["stack"]);
    let blocks = seen["memory"].as_array().unwrap();
    let copied: Vec<Vec<u8>> = blocks.iter().map(|block| bytes(&block[3])).collect();
    let memory = blocks.iter().zip(&copied).map(|(block, bytes)| Memory {
        slot: u8::try_from(number(&block[0])).unwrap(),
        address: number(&block[1]),
        full_length: u32::try_from(number(&block[2])).unwrap(),
        bytes,
    });
    let moment = if seen["moment"] == "call" { Moment::Call } else { Moment::Return };
    let observed = Observed::new(moment, registers, &stack, memory);
    let mut text = if moment == Moment::Return { function.name.clone() } else { String::new() };
    write_call(&mut text, &function.name, &function.signature, &observed).unwrap();
    text
}

fn bytes(hex: &Value) -> Vec<u8> {
    let hex = hex.as_str().unwrap();
    (0..hex.len() / 2).map(|index| u8::from_str_radix(&hex[2 * index..2 * index + 2], 16).unwrap()).collect()
}
