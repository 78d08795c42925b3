//! Tests of which functions a name stands for.

use std::process::Command;

use super::*;

#[test]
fn rust_names_without_hash() {
    let target = Target::from_pid(std::process::id()).unwrap();
    let name = std::any::type_name_of_val(&resolve);
    let plan = try_resolve(&target, &[&format!("exe:{name}")]).unwrap();
    assert_eq!(plan.functions[0].demangled.as_deref(), Some(name));
    let here = resolve as *const () as u64;
    assert_eq!(plan.modules[0].bases[0].1 + plan.functions[0].address, here);
}

#[test]
fn static_functions_of_one_name_are_all_chosen() {
    let folder = tempfile::tempdir().unwrap();
    let unit = |name: &str, other: &str| {
        let source = format!(
            "__attribute__((noinline)) static int twin(int x) {{ __asm__ volatile(\"\"); return x + {}; }}
             int {name}(int x) {{ return twin(x); }} {other}",
            name.len()
        );
        compile(folder.path(), &format!("{name}.o"), &source, &["-c"]);
    };
    unit("first", "int second1(int); int main(int c, char **v) { return first(c) + second1(c); }");
    unit("second1", "");
    let path = folder.path().join("program");
    run(Command::new("cc").arg("-o").arg(&path).args(["first.o", "second1.o"].map(|o| folder.path().join(o))));
    let plan = try_resolve(&Target::from_file(&path).unwrap(), &["exe:twin"]).unwrap();
    assert_eq!(names(&plan), ["twin", "twin"]);
    assert_ne!(plan.functions[0].address, plan.functions[1].address);
}

#[test]
fn cpp_names() {
    let source = r"
        namespace ns { struct Class {
            __attribute__((noinline)) int method(int x) const { return x + 1; }
            __attribute__((noinline)) int method(long x, char *) { return x + 2; }
            __attribute__((noinline)) Class operator+(int) const { return *this; }
        }; }
        template <class T> __attribute__((noinline)) T twice(T x) { asm volatile(&quot;&quot;); return x + x; }
        int main(int argc, char **argv) {
            ns::Class c; c = c + 1; return c.method(argc) + c.method(2L, argv[0]) + twice(argc) + (int)twice(2.5);
        }"
    .replace("&quot;", "\"");
    let program =
        Program::new(&source, &["-xc++", "-fno-ipa-icf", "-fno-ipa-pure-const", "-fno-ipa-cp", "-fno-ipa-sra", "-O0"]);
    let count = |spec: &str| program.resolve(&[spec]).unwrap_or_else(|error| panic!("{error}")).functions.len();
    assert_eq!(count("exe:ns::Class::method"), 2);
    assert_eq!(count("exe:ns::Class::method(int) const"), 1);
    assert_eq!(count("exe:ns::Class::method(long, char*)"), 1);
    assert_eq!(count("exe:ns::Class::operator+"), 1);
    assert_eq!(count("exe:twice<int>"), 1);
    assert_eq!(count("exe:double twice<double>(double)"), 1);
    assert_eq!(count("exe:_ZNK2ns5Class6methodEi"), 1);
    let error = program.error("exe:ns::Class::metod");
    assert!(matches!(error, ResolveError::NotFound { .. }), "{error}");
    let ResolveError::NotFound { near, .. } = program.error("exe:Class::method") else { panic!() };
    assert_eq!(near.len(), 2, "{near:?}");
}

#[test]
fn indirect_functions_are_what_the_process_uses() {
    let source = r#"
        static int one(void) { return 1; }
        static int (*choose(void))(void) { return one; }
        int picked(void) __attribute__((ifunc("choose")));
        int main(void) { return picked(); }"#;
    let program = Program::new(source, &[]);
    let error = program.error("exe:picked");
    assert!(matches!(&error, ResolveError::Ifunc { function, .. } if function == "picked"), "{error}");
    let target = Target::from_pid(std::process::id()).unwrap();
    let plan = try_resolve(&target, &["libc:strlen"]).unwrap();
    let [function] = plan.functions.as_slice() else { panic!("{plan:?}") };
    let here = libc::strlen as *const () as u64;
    assert_eq!((function.name.as_str(), plan.modules[0].bases[0].1 + function.address), ("strlen", here));
}

#[test]
fn versions() {
    let target = Target::from_system();
    let one = |spec: &str| try_resolve(&target, &[spec]).unwrap_or_else(|error| panic!("{error}")).functions[0].address;
    if cfg!(target_arch = "x86_64") {
        let (current, old) = (one("libc:pthread_cond_wait@@GLIBC_2.3.2"), one("libc:pthread_cond_wait@GLIBC_2.2.5"));
        assert_ne!(current, old);
        assert_eq!(one("libc:pthread_cond_wait"), current);
        let error = try_resolve(&target, &["libc:pthread_cond_wait@GLIBC_9"]).unwrap_err();
        assert!(matches!(&error, ResolveError::NoSuchVersion { versions, .. } if versions.len() == 2), "{error}");
    }
}

#[test]
fn debug_files_name_static_functions() {
    let program = Program::new(SIMPLE, &["-Wl,--build-id"]);
    let inner = program.address("inner");
    let (debug, path) = (program.folder.path().join("program.debug"), &program.path);
    run(Command::new("objcopy").arg("--only-keep-debug").args([path, &debug]));
    run(Command::new("strip").arg(path));
    let error = program.error("exe:inner");
    assert!(matches!(error, ResolveError::NotFound { .. } | ResolveError::Stripped { .. }), "{error}");
    run(Command::new("objcopy").arg(format!("--add-gnu-debuglink={}", debug.display())).arg(path));
    let plan = program.resolve(&["exe:inner"]).unwrap();
    assert_eq!(plan.functions[0].address, inner);

    // A debug file of another build is not believed.
    let other = Program::new(&SIMPLE.replace("x * 3", "x * 5 + counter"), &["-Wl,--build-id"]);
    run(Command::new("objcopy").arg("--only-keep-debug").args([&other.path, &debug]));
    assert!(program.resolve(&["exe:inner"]).is_err());
}
