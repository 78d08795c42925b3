//! Functions that the C library picks for the processor: a probe on the implementation sees every call.

use std::path::{Path, PathBuf};

use ada_user::elf::{Elf, SymbolKind};
use ada_user::ifunc::implementations;
use ada_user::target::{Target, TargetFile};
use tests::fixture;
use tests::need;
use tests::recorder::Trace;
use tests::scratch::Scratch;
use tests::session::Kind;

const NAMES: [&str; 4] = ["strlen", "memcpy", "memset", "strchr"];
const CALLS: u64 = 1000;

fn program() -> PathBuf {
    fixture::build("ifunc.c", &["-fno-builtin"])
}

/// Addresses of the implementations of libc's `name` in its file; `None` where libc picks nothing.
fn found(name: &str, file: &TargetFile, target: &Target) -> Option<Vec<u64>> {
    let elf = Elf::open(&file.open_path).expect("libc");
    let table = elf.dynsym().expect("libc's symbols");
    let mut symbols = table.named(name).filter(|symbol| symbol.version.is_none_or(|version| version.default));
    let resolver = symbols.find(|symbol| symbol.kind == SymbolKind::Ifunc)?.address;
    Some(implementations(&elf, file, resolver, target))
}

fn recorded(program: &Path, address: u64, calls: u64) -> u64 {
    let scratch = Scratch::new();
    let recorder = Trace::new(&scratch, [format!("libc:+{address:#x}")]).launch(program, [calls.to_string()]);
    recorder.session().complete().count(Kind::Call)
}

#[test]
fn implementations_get_every_call() {
    if !need::root() {
        return;
    }
    let program = program();
    let target = Target::from_command(&program, &[]).expect("the fixture");
    let libc = target.files_named("libc").remove(0);
    for name in NAMES {
        let Some(addresses) = found(name, &libc, &target) else { continue };
        assert_eq!(addresses.len(), 1, "{name}");
        // The loader and the start code call them too.
        let calls = [CALLS, 0].map(|calls| recorded(&program, addresses[0], calls));
        assert_eq!(calls[0] - calls[1], CALLS, "{name}");
    }
}

#[test]
fn a_process_uses_what_was_chosen_before_it_started() {
    let scratch = Scratch::new();
    let process = fixture::waiting(&program(), &["1"], &scratch.join("report"), scratch.path());
    let running = Target::from_pid(process.pid()).expect("the fixture");
    let libc = running.files_named("libc").remove(0);
    let command = Target::from_command(&program(), &[]).expect("the fixture");
    for name in NAMES {
        assert_eq!(found(name, &libc, &running), found(name, &libc, &command), "{name}");
    }
}
