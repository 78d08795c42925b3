//! Tests of the closure: against ldd, and against the loader's rules on fixtures.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::process::Command;

use super::*;
use crate::elf::fixture::{compile, run};

fn load(program: &Path, variables: &[(&str, &str)]) -> Loader {
    let variables: Vec<_> = variables.iter().map(|(k, v)| (OsString::from(k), OsString::from(v))).collect();
    Loader::load(&Elf::open(program).unwrap(), &Environment::new(&variables))
}

fn paths(loader: &Loader) -> BTreeSet<PathBuf> {
    loader.objects().iter().skip(1).map(|object| object.path.clone()).collect()
}

/// What ldd prints, without the vdso.
fn ldd(program: &Path) -> BTreeSet<PathBuf> {
    let output = run(Command::new("ldd").arg(program).env_remove("LD_LIBRARY_PATH").env_remove("LD_PRELOAD"));
    let path = |line: &str| -> Option<PathBuf> {
        let line = line.trim();
        let path = line.split_once(" => ").map_or(line, |(_, path)| path);
        Path::new(path.split(" (").next()?).canonicalize().ok()
    };
    output.lines().filter_map(path).collect()
}

#[test]
fn closure_is_what_ldd_says() {
    let programs = ["ls", "bash", "git", "perl", "redis-server", "gdb", "gcc", "sudo", "curl", "python3.11", "readelf"];
    let mut checked = 0;
    for program in programs {
        let path = Path::new("/usr/bin").join(program);
        if !path.exists() {
            continue;
        }
        let loader = load(&path, &[]);
        assert_eq!(paths(&loader), ldd(&path), "{program}");
        assert_eq!(loader.missing(), [""; 0], "{program}");
        checked += 1;
    }
    assert!(checked >= 3, "{checked}");
}

#[test]
fn needs_of_this_test_are_mapped() {
    let loader = Loader::load(&Elf::open(Path::new("/proc/self/exe")).unwrap(), &Environment::current());
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    for object in loader.objects() {
        assert!(maps.contains(object.path.to_str().unwrap()), "{object:?}");
    }
}

/// A program that needs libmid.so, which needs libdeep.so; each library in a folder of its own.
struct Chain {
    folder: tempfile::TempDir,
}

impl Chain {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for name in ["mid", "deep", "other"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let library = |folder: PathBuf, name: &str, source: &str, link: &[&str]| {
            let soname = format!("-Wl,-soname,{name}");
            compile(&folder, name, source, &[&["-shared", "-fPIC", soname.as_str()], link].concat());
        };
        let root = folder.path().to_owned();
        library(root.join("deep"), "libdeep.so.1", "int deep(void) { return 1; }", &[]);
        library(root.join("other"), "libdeep.so.1", "int deep(void) { return 2; }", &[]);
        let deep = root.join("deep/libdeep.so.1");
        let source = "int deep(void); int mid(void) { return deep(); }";
        library(root.join("mid"), "libmid.so", source, &[deep.to_str().unwrap()]);
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn program(&self, link: &[&str]) -> PathBuf {
        let mid = self.path("mid/libmid.so");
        let source = "int mid(void); int main(void) { return mid(); }";
        let unresolved = "-Wl,--unresolved-symbols=ignore-in-shared-libs";
        compile(self.folder.path(), "program", source, &[&[mid.to_str().unwrap(), unresolved], link].concat())
    }
}

#[test]
fn rpath_reaches_the_needs_of_needs_and_runpath_does_not() {
    let chain = Chain::new();
    let rpath = "-Wl,-rpath,$ORIGIN/mid:${ORIGIN}/deep";
    let loader = load(&chain.program(&["-Wl,--disable-new-dtags", rpath]), &[]);
    assert!(paths(&loader).contains(&chain.path("deep/libdeep.so.1")), "{loader:?}");
    assert_eq!(loader.missing(), [""; 0]);

    let loader = load(&chain.program(&["-Wl,--enable-new-dtags", rpath]), &[]);
    assert!(paths(&loader).contains(&chain.path("mid/libmid.so")));
    assert_eq!(loader.missing(), ["libdeep.so.1"]);
}

#[test]
fn library_path_and_preload() {
    let chain = Chain::new();
    let program = chain.program(&["-Wl,--enable-new-dtags", "-Wl,-rpath,$ORIGIN/mid"]);
    let other = chain.path("other");
    let loader = load(&program, &[("LD_LIBRARY_PATH", &format!("/nope;{}", other.display()))]);
    assert!(paths(&loader).contains(&other.join("libdeep.so.1")), "{loader:?}");

    let deep = chain.path("deep/libdeep.so.1");
    let variables = [("LD_LIBRARY_PATH", other.to_str().unwrap()), ("LD_PRELOAD", deep.to_str().unwrap())];
    let loader = load(&program, &variables);
    assert!(paths(&loader).contains(&deep) && !paths(&loader).contains(&other.join("libdeep.so.1")), "{loader:?}");
    // And that is what the real loader does.
    let status = Command::new(&program).envs(variables).status().unwrap();
    assert_eq!(status.code(), Some(1));
}

#[test]
fn static_programs_need_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let source = "int main(void) { return 0; }";
    for (name, link) in [("static", "-static"), ("static-pie", "-static-pie")] {
        let loader = load(&compile(folder.path(), name, source, &[link]), &[("LD_PRELOAD", "/lib/x.so")]);
        assert_eq!(loader.objects().len(), 1, "{name}");
    }
}

#[test]
fn musl_searches_its_path_file() {
    let chain = Chain::new();
    let folder = chain.folder.path();
    for name in ["lib", "etc"] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    let interpreter = folder.join("lib/ld-musl-x86_64.so.1");
    std::fs::copy("/lib64/ld-linux-x86-64.so.2", &interpreter).unwrap();
    let list = format!("{}\n{}\n", folder.join("mid").display(), folder.join("other").display());
    std::fs::write(folder.join("etc/ld-musl-x86_64.path"), list).unwrap();
    let program = chain.program(&[&format!("-Wl,--dynamic-linker={}", interpreter.display())]);
    let loader = load(&program, &[]);
    let expected = [interpreter, chain.path("mid/libmid.so"), chain.path("other/libdeep.so.1")];
    // libc.so.6 is "libc", which musl's loader is itself.
    assert_eq!(paths(&loader), BTreeSet::from(expected));
    assert_eq!(loader.missing(), [""; 0]);
    let unloaded =
        load(&program, &[("LD_LIBRARY_PATH", chain.path("deep").to_str().unwrap())]).find_unloaded("libdeep");
    assert_eq!(unloaded.len(), 2, "{unloaded:?}");
}

#[test]
fn unloaded_libraries_come_from_the_cache() {
    let loader = Loader::without_program();
    let found = loader.find_unloaded("libc");
    assert!(found.iter().any(|object| object.names.contains(&"libc.so.6".to_owned())), "{found:?}");
    assert!(found.iter().all(|object| { object.names.iter().any(|name| match_name(name, "libc").is_some()) }));
    assert!(loader.find_unloaded("libnosuchthing").is_empty());
}
