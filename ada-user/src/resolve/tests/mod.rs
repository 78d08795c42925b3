//! Tests of whole resolutions, over compiled fixtures and this machine's files.

mod names;

use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;
use crate::elf::fixture::{compile, run};
use crate::plan::Returns;

fn try_resolve(target: &Target, specs: &[&str]) -> Result<Plan, ResolveError> {
    let specs: Vec<ProbeSpec> = specs.iter().map(|spec| spec.parse().unwrap()).collect();
    resolve(&specs, std::slice::from_ref(target), &ResolveOptions::default())
}

fn names(plan: &Plan) -> Vec<&str> {
    plan.functions.iter().map(|function| function.name.as_str()).collect()
}

/// A compiled program.
struct Program {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Program {
    fn new(source: &str, arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = compile(folder.path(), "program", source, arguments);
        Self { folder, path }
    }

    fn resolve(&self, specs: &[&str]) -> Result<Plan, ResolveError> {
        try_resolve(&Target::from_file(&self.path).unwrap(), specs)
    }

    fn error(&self, spec: &str) -> ResolveError {
        self.resolve(&[spec]).expect_err(spec)
    }

    /// Value of a symbol as readelf prints it.
    fn address(&self, name: &str) -> u64 {
        symbol_address(&self.path, "-sW", name)
    }
}

fn symbol_address(path: &Path, tables: &str, name: &str) -> u64 {
    let symbols = run(Command::new("readelf").arg(tables).arg(path));
    let value = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let found = fields.get(7).is_some_and(|field| field.split("@GLIBC_2.2.5").next() == Some(name));
        let found = found || fields.get(7).is_some_and(|field| field.split("@@").next() == Some(name));
        found.then(|| u64::from_str_radix(fields[1], 16).unwrap())
    };
    symbols.lines().find_map(value).unwrap_or_else(|| panic!("{name} in {}", path.display()))
}

const SIMPLE: &str = r#"
int counter;
__attribute__((noinline)) static int inner(int x) { __asm__ volatile("" ::: "memory"); return x * 3; }
__attribute__((noinline)) int outer(int x) { return inner(x) + 1; }
__attribute__((alias("outer"))) int same(int x);
int main(int argc, char **argv) { return outer(argc) + counter; }
"#;

#[test]
fn libc_malloc_is_where_readelf_says() {
    let target = Target::from_pid(std::process::id()).unwrap();
    let plan = try_resolve(&target, &["libc:malloc"]).unwrap();
    let (module, function) = (&plan.modules[0], &plan.functions[0]);
    assert_eq!(function.address, symbol_address(&module.open_path, "--dyn-syms", "malloc"));
    assert_eq!(module.bases.len(), 1);
    assert_eq!(module.bases[0].0, std::process::id());
    assert!(function.returns.are_recorded() && function.offset == function.probe_offset);
    assert_eq!(plan.probes[0].functions, [function.id]);
    let here = libc::malloc as *const () as u64;
    assert_eq!(module.bases[0].1 + function.address, here);
}

#[test]
fn every_way_of_linking() {
    let ways: [&[&str]; 6] =
        [&[], &["-no-pie"], &["-static"], &["-static-pie"], &["-Wl,-z,noseparate-code"], &["-fuse-ld=gold"]];
    for way in ways {
        if way == ["-fuse-ld=gold"] && !PathBuf::from("/usr/bin/ld.gold").exists() {
            continue;
        }
        let program = Program::new(SIMPLE, way);
        let plan = program.resolve(&["exe:outer"]).unwrap();
        let function = &plan.functions[0];
        assert_eq!(function.address, program.address("outer"), "{way:?}");
        let bytes = std::fs::read(&program.path).unwrap();
        let at = usize::try_from(function.offset).unwrap();
        let text = crate::disasm::first_instruction(crate::elf::Machine::NATIVE, function.address, &bytes[at..at + 16]);
        assert_eq!(text.as_deref(), Some(function.first_instruction.as_str()), "{way:?}");
        assert!(function.returns.are_recorded());
        assert!(!program.resolve(&["exe:_start"]).unwrap().functions[0].returns.are_recorded(), "{way:?}");
    }
}

#[test]
fn aliases_and_repeated_specs_are_one_function() {
    let program = Program::new(SIMPLE, &[]);
    let plan = program.resolve(&["exe:same", "exe:outer", "program:outer", "exe:main"]).unwrap();
    assert_eq!(names(&plan), ["same", "main"]);
    let ids: Vec<_> = plan.probes.iter().map(|probe| probe.functions.clone()).collect();
    assert_eq!(ids[0], ids[1]);
    assert_eq!(ids[1], ids[2]);
    assert_eq!(plan.modules.len(), 1);
    assert!(plan.functions.is_sorted_by_key(|function| function.id));
}

#[test]
fn offsets() {
    let program = Program::new(SIMPLE, &["-fcf-protection=branch", "-fno-omit-frame-pointer"]);
    let plan = program.resolve(&["exe:outer+4", "exe:outer+5"]).unwrap();
    let first = &plan.functions[0];
    assert_eq!((first.probe_offset - first.offset, first.returns.are_recorded()), (4, false));
    assert_eq!(first.first_instruction, "push %rbp");
    assert_eq!(plan.functions[1].first_instruction, "mov %rsp,%rbp");
    let error = program.error("exe:outer+2");
    assert!(matches!(error, ResolveError::InsideInstruction { before: 0, after: 4, offset: 2, .. }), "{error}");
    let error = program.error("exe:outer+4096");
    assert!(matches!(error, ResolveError::OffsetBeyond { .. }), "{error}");
}

#[test]
fn bare_addresses() {
    let program = Program::new(SIMPLE, &["-fcf-protection=branch", "-fno-omit-frame-pointer"]);
    let outer = program.address("outer");
    let plan = program.resolve(&[&format!("exe:+{outer:#x}"), &format!("exe:+{:#x}", outer + 4)]).unwrap();
    assert_eq!(plan.functions[0].address, outer);
    assert!(["outer", "same"].contains(&plan.functions[0].name.as_str()) && plan.functions[0].returns.are_recorded());
    assert_eq!(plan.functions[1].name, format!("exe+{:#x}", outer + 4));
    assert!(!plan.functions[1].returns.are_recorded());
    let error = program.error(&format!("exe:+{:#x}", outer + 1));
    assert!(matches!(error, ResolveError::InsideInstruction { .. }), "{error}");
    for spec in
        [format!("exe:+{:#x}", program.address("counter")), "exe:+1".to_owned(), "exe:+0xffffffffffffffff".to_owned()]
    {
        let error = program.error(&spec);
        assert!(matches!(error, ResolveError::NotExecutable { .. }), "{error}");
    }

    // Stripped: the unwind table still tells that a function starts there.
    run(Command::new("strip").arg(&program.path));
    let plan = program.resolve(&[&format!("exe:+{outer:#x}"), &format!("exe:+{:#x}", outer + 4)]).unwrap();
    assert!(plan.functions[0].returns.are_recorded() && !plan.functions[1].returns.are_recorded());
    assert!(matches!(program.error("exe:outer"), ResolveError::NotFound { .. } | ResolveError::Stripped { .. }));
}

#[test]
fn what_is_not_found_is_explained() {
    let program = Program::new(SIMPLE, &[]);
    let sentences = [
        ("exe:outr", "has no function 'outr'; near: outer"),
        (
            "exe:counter",
            "'counter' in {path} is a variable: give the name of a function, or an address as exe:+0xADDRESS",
        ),
        (
            "exe:__libc_start_main",
            "{path} only calls '__libc_start_main' and does not define it: probe it where it is defined, libc:__libc_start_main",
        ),
        ("exe:malloc", "{path} has no function 'malloc'; it is defined in: "),
        ("libouter:outer", "libouter is neither needed by {path} nor known to the loader"),
        ("libouter:outer", "; the function is defined in: exe:outer (give its path instead)"),
        ("vdso:clock_gettime", "vdso is code of the kernel's"),
        ("/no/such/lib.so:f", "there is no file /no/such/lib.so"),
        ("/etc/passwd:f", "/etc/passwd is no ELF file"),
        ("libc.so.9:malloc", "libc.so.9 is neither needed by"),
    ];
    let path = program.path.canonicalize().unwrap();
    for (spec, expected) in sentences {
        let text = program.error(spec).to_string();
        assert!(text.contains(&expected.replace("{path}", path.to_str().unwrap())), "{spec}: {text}");
        assert!(!text.contains('\n') && !text.ends_with('.'), "{text}");
    }
    assert!(matches!(resolve(&[], &[], &ResolveOptions::default()), Err(ResolveError::NoTarget)));
    let system = try_resolve(&Target::from_system(), &["exe:main"]).unwrap_err();
    assert!(matches!(system, ResolveError::NoProgram { .. }));
    let process = Target::from_pid(std::process::id()).unwrap();
    let error = try_resolve(&process, &["libcx:malloc"]).unwrap_err();
    assert!(
        matches!(&error, ResolveError::NotLoaded { near, .. } if near.contains(&"libc.so.6".to_owned())),
        "{error}"
    );
}

#[test]
fn two_libraries_of_one_stem_are_ambiguous() {
    let folder = tempfile::tempdir().unwrap();
    let library = |name: &str, function: &str| {
        let source = format!("int {function}(void) {{ return 1; }}");
        compile(folder.path(), name, &source, &["-shared", "-fPIC", &format!("-Wl,-soname,{name}")])
    };
    let (one, two) = (library("libtwo.so.1", "a"), library("libtwo.so.2", "b"));
    let source = "int a(void); int b(void); int main(void) { return a() + b(); }";
    let rpath = format!("-Wl,-rpath,{}", folder.path().display());
    let program = compile(folder.path(), "program", source, &[one.to_str().unwrap(), two.to_str().unwrap(), &rpath]);
    let target = Target::from_file(&program).unwrap();
    let error = try_resolve(&target, &["libtwo:b"]).unwrap_err();
    assert!(matches!(&error, ResolveError::Ambiguous { paths, .. } if paths.len() == 2), "{error}");
    let plan = try_resolve(&target, &["libtwo.so.2:b", &format!("{}:a", one.display())]).unwrap();
    assert_eq!(names(&plan), ["b", "a"]);
    assert_eq!(plan.functions[1].id, FunctionId::new(ModuleId(1), 0));
}

#[test]
fn several_targets_share_a_module() {
    let mut sleep = Command::new("sleep").arg("1000").spawn().unwrap();
    let child = loop {
        match Target::from_pid(sleep.id()) {
            Ok(target)
                if target.executable().is_some_and(|file| file.path.ends_with("sleep"))
                    && !target.files_named("libc").is_empty() =>
            {
                break target;
            }
            _ => {}
        }
    };
    let own = Target::from_pid(std::process::id()).unwrap();
    let specs: Vec<ProbeSpec> = ["libc:malloc", "sleep:_start"].iter().map(|spec| spec.parse().unwrap()).collect();
    let plan = resolve(&specs[..1], &[own, child], &ResolveOptions::default()).unwrap();
    let pids: Vec<u32> = plan.modules[0].bases.iter().map(|&(pid, _)| pid).collect();
    let _ = sleep.kill();
    let _ = sleep.wait();
    assert_eq!((plan.modules.len(), plan.functions.len()), (1, 1));
    assert!(pids.contains(&std::process::id()) && pids.contains(&sleep.id()));
}

#[test]
fn calls_only_where_a_return_probe_would_break_the_target() {
    let plan = try_resolve(&Target::from_system(), &["libc:_setjmp", "libc:getcontext", "libc:malloc"]).unwrap();
    let returns: Vec<bool> = plan.functions.iter().map(|function| function.returns.are_recorded()).collect();
    assert_eq!(returns, [false, false, true]);
    let specs = ["libc:malloc".parse().unwrap()];
    let calls = resolve(
        &specs,
        &[Target::from_system()],
        &ResolveOptions { returns: ReturnsPolicy::Off, ..ResolveOptions::default() },
    )
    .unwrap();
    assert!(!calls.functions[0].returns.are_recorded());
}

#[test]
fn symbols_without_code() {
    let source = SIMPLE.to_owned()
        + r#"__asm__(".section .rodata\n.globl data_function\n.type data_function,@function\ndata_function: .quad 1\n"
                    ".size data_function, 8\n.text\n.type bad,@function\nbad: .byte 0x06, 0x06\n.size bad, 2\n"
                    ".globl label\nlabel: ret\n");"#;
    let program = Program::new(&source, &[]);
    assert!(matches!(program.error("exe:data_function"), ResolveError::NotExecutable { .. }));
    assert!(matches!(program.error("exe:bad"), ResolveError::NoInstruction { .. }));
    assert!(matches!(program.error("exe:label"), ResolveError::NotAFunction { kind: "a label without a type", .. }));
}

#[test]
fn go_programs_get_no_return_probes() {
    let program = Program::new(SIMPLE, &[]);
    assert!(program.resolve(&["exe:outer"]).unwrap().functions[0].returns.are_recorded());
    let note = program.folder.path().join("note");
    std::fs::write(&note, "go").unwrap();
    let section = format!("--add-section=.note.go.buildid={}", note.display());
    run(Command::new("objcopy").arg(section).arg(&program.path));
    let plan = program.resolve(&["exe:outer"]).unwrap();
    assert!(matches!(&plan.functions[0].returns, Returns::Exits(exits) if exits.len() == 1), "{plan:?}");
}

#[test]
fn other_machines_files_can_be_listed() {
    const EM_AARCH64: u16 = 183;
    let program = Program::new(SIMPLE, &[]);
    let mut bytes = std::fs::read(&program.path).unwrap();
    bytes[18..20].copy_from_slice(&EM_AARCH64.to_le_bytes());
    std::fs::write(&program.path, &bytes).unwrap();
    let plan = program.resolve(&["exe:outer"]).unwrap();
    let at = usize::try_from(plan.functions[0].offset).unwrap();
    let word = u32::from_le_bytes(*bytes[at..].first_chunk().unwrap());
    assert_eq!(plan.functions[0].first_instruction, format!("{word:#010x}"));
    assert!(matches!(program.error("exe:outer+2"), ResolveError::InsideInstruction { before: 0, after: 4, .. }));
}

fn resolve_but(program: &Program, spec: &str, exclude: &[&str]) -> Result<Plan, ResolveError> {
    let excludes = exclude.iter().map(|text| ProbeSpec::parse_anywhere(text).unwrap()).collect();
    let options = ResolveOptions { excludes, ..ResolveOptions::default() };
    resolve(&[spec.parse().unwrap()], &[Target::from_file(&program.path).unwrap()], &options)
}

#[test]
fn patterns_choose_every_function_once() {
    let program = Program::new(SIMPLE, &[]);
    let plan = program.resolve(&["exe:/^(inner|outer|same|main)$/"]).unwrap();
    assert_eq!(plan.functions.len(), 3, "{:?}", names(&plan));
    let outer = plan.functions.iter().find(|function| function.aliases == ["outer"]);
    assert_eq!(outer.map(|function| function.name.as_str()), Some("same"));
    let of_same = program.resolve(&["exe:same"]).unwrap();
    assert_eq!(of_same.functions[0].name, "same");
    assert_eq!(of_same.functions[0].aliases, ["outer"]);
    let twice = program.resolve(&["exe:*", "exe:o*"]).unwrap();
    assert_eq!(twice.functions.len(), program.resolve(&["exe:*"]).unwrap().functions.len());
    assert_eq!(twice.probes[1].functions.len(), 1);
}

#[test]
fn patterns_over_modules_choose_in_each_that_has_it() {
    let program = Program::new(SIMPLE, &[]);
    let plan = program.resolve(&["*:malloc"]).unwrap();
    assert!(plan.modules.iter().any(|module| module.path.to_string_lossy().contains("libc.so")), "{plan:?}");
    assert!(matches!(program.error("*:no_such_function"), ResolveError::NothingMatches { .. }));
    assert!(matches!(program.error("exe:no_such*"), ResolveError::NothingMatches { .. }));
    assert!(matches!(program.error("libnope*:f"), ResolveError::NoFileMatches { .. }));
}

#[test]
fn what_is_excluded_is_not_chosen_under_any_name() {
    let program = Program::new(SIMPLE, &[]);
    let all = program.resolve(&["exe:*"]).unwrap();
    for exclude in ["same", "exe:outer", "/^out/", "*:same"] {
        let plan = resolve_but(&program, "exe:*", &[exclude]).unwrap();
        assert_eq!(plan.functions.len() + 1, all.functions.len(), "{exclude}");
        assert_eq!(plan.probes[0].excluded, 1, "{exclude}");
    }
    assert_eq!(resolve_but(&program, "exe:*", &["libc:outer"]).unwrap().functions.len(), all.functions.len());
    assert!(matches!(resolve_but(&program, "exe:outer", &["*"]), Err(ResolveError::AllExcluded { .. })));
}

#[test]
fn parts_that_the_compiler_put_elsewhere_are_skipped_by_patterns() {
    let source = r#"
        __attribute__((cold, noinline)) void rare(int x) { __asm__ volatile("" :: "r"(x)); }
        __attribute__((noinline)) int f(int x) { if (__builtin_expect(x == 77, 0)) { rare(x); __builtin_trap(); } return x; }
        int main(int argc, char **argv) { return f(argc); }
    "#;
    let program = Program::new(source, &["-O2", "-freorder-blocks-and-partition"]);
    let plan = program.resolve(&["exe:f*"]).unwrap();
    assert!(names(&plan).contains(&"f"));
    let skipped: Vec<&str> = plan.probes[0].skipped.iter().map(|skipped| skipped.symbol.as_str()).collect();
    assert!(skipped.contains(&"f.cold"), "{skipped:?}");
}
