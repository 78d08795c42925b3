//! Tests of targets on real processes, scripts and files.

use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;
use crate::elf::Elf;
use crate::elf::fixture::{compile, skip};

/// A child that dies with the test.
struct Process(Child);

impl Process {
    /// Starts it and waits until it runs its own program.
    fn start(command: &mut Command) -> Self {
        let process = Self(command.stdin(Stdio::null()).spawn().unwrap());
        let own = std::fs::read_link("/proc/self/exe").unwrap();
        let deadline = Instant::now() + Duration::from_secs(10);
        while std::fs::read_link(format!("/proc/{}/exe", process.pid())).is_ok_and(|exe| exe == own) {
            assert!(Instant::now() < deadline, "{command:?} does not start");
        }
        process
    }

    fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A target of a child, once it has mapped the C library.
fn loaded(process: &Process) -> Target {
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        let target = Target::from_pid(process.pid()).unwrap();
        if !target.files_named("libc").is_empty() {
            return target;
        }
        assert!(Instant::now() < deadline, "{target:?}");
    }
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn this_process() {
    let target = Target::from_pid(std::process::id()).unwrap();
    let executable = target.executable().unwrap();
    assert_eq!(executable.path, std::env::current_exe().unwrap());
    assert_eq!(executable.open_path, executable.path);
    assert_eq!(target.files_named("libc").len(), 1);
    assert_eq!(target.files_named("libc.so.6").len(), 1);
    assert_eq!(target.label(), format!("process {}", std::process::id()));
    for file in target.files() {
        let elf = Elf::open(&file.open_path).unwrap();
        assert_eq!(elf.load_bases(&file.mappings, rustix::param::page_size() as u64).len(), 1, "{file:?}");
    }
}

#[test]
fn what_is_no_process() {
    assert!(matches!(Target::from_pid(u32::MAX), Err(TargetError::NoSuchProcess { pid: u32::MAX })));
    assert!(matches!(Target::from_pid(0), Err(TargetError::NoSuchProcess { pid: 0 })));
    let own = std::process::id();
    let tid = std::thread::spawn(|| rustix::thread::gettid().as_raw_nonzero().get()).join().unwrap();
    // The thread may be gone by now; this test's own thread is none of the leader either.
    let _ = Target::from_pid(tid.cast_unsigned());
    let tid = rustix::thread::gettid().as_raw_nonzero().get().cast_unsigned();
    if tid != own {
        let error = Target::from_pid(tid).unwrap_err();
        assert!(matches!(error, TargetError::Thread { tid: t, pid, .. } if t == tid && pid == own), "{error}");
    }
}

#[test]
fn zombies_say_so() {
    let mut child = Command::new("true").spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(10);
    loop {
        match Target::from_pid(child.id()) {
            Err(TargetError::Zombie { pid, name }) => {
                assert_eq!((pid, name.as_str()), (child.id(), "true"));
                break;
            }
            // Still running, or between its memory's end and its own.
            Ok(_) | Err(TargetError::Exited { .. }) => assert!(Instant::now() < deadline),
            Err(error) => panic!("{error}"),
        }
    }
    child.wait().unwrap();
    assert!(matches!(Target::from_pid(child.id()), Err(TargetError::NoSuchProcess { .. })));
}

#[test]
fn kernel_threads_say_so() {
    let is_kthreadd = std::fs::read_to_string("/proc/2/comm").is_ok_and(|name| name.trim() == "kthreadd");
    if is_kthreadd {
        let error = Target::from_pid(2).unwrap_err();
        assert!(matches!(&error, TargetError::KernelThread { pid: 2, name } if name == "kthreadd"), "{error}");
    }
}

/// The smallest i386 program: pause(2) for ever.
fn program_32_bit() -> Vec<u8> {
    let code = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
    let (base, start, size) = (0x0804_8000_u32, 0x0804_8054_u32, 0x54 + 9);
    let mut file = b"\x7fELF\x01\x01\x01".to_vec();
    file.resize(16, 0);
    file.extend([2_u16, 3].iter().flat_map(|half| half.to_le_bytes()));
    file.extend([1, start, 52, 0, 0].iter().flat_map(|word: &u32| word.to_le_bytes()));
    file.extend([52_u16, 32, 1, 0, 0, 0].iter().flat_map(|half| half.to_le_bytes()));
    file.extend([1, 0, base, base, size, size, 5, 4096].iter().flat_map(|word: &u32| word.to_le_bytes()));
    file.extend(code);
    file
}

#[test]
fn processes_of_32_bits_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("small");
    std::fs::write(&path, program_32_bit()).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let Ok(mut child) = Command::new(&path).spawn() else {
        println!("skipped: needs a kernel that runs 32-bit programs");
        return;
    };
    let error = Target::from_pid(child.id());
    let _ = child.kill();
    let _ = child.wait();
    let error = error.unwrap_err();
    assert!(matches!(&error, TargetError::ThirtyTwoBit { executable, .. } if *executable == path), "{error}");
}

#[test]
fn deleted_and_replaced_programs() {
    let folder = tempfile::tempdir().unwrap();
    let sleep = std::fs::canonicalize("/bin/sleep").unwrap();
    for replaced in [false, true] {
        let path = folder.path().join("sleeper");
        std::fs::copy(&sleep, &path).unwrap();
        let id = FileId::of(&path).unwrap();
        let process = Process::start(Command::new(&path).arg("1000"));
        loaded(&process);
        std::fs::remove_file(&path).unwrap();
        if replaced {
            std::fs::copy("/bin/true", &path).unwrap();
        }
        let target = Target::from_pid(process.pid()).unwrap();
        let program = target.executable().unwrap();
        assert_eq!(program.path, path);
        assert!(target.file_at(&path).is_some());
        if is_root() {
            assert!(program.open_path.starts_with(format!("/proc/{}/map_files", process.pid())), "{program:?}");
            assert_eq!(Elf::open(&program.open_path).unwrap().id(), id);
        }
    }
}

#[test]
fn another_mount_namespace() {
    if !is_root() {
        skip("root (unshare)");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let script = format!("mount -t tmpfs none {0} && cp /bin/sleep {0}/s && exec {0}/s 1000", folder.path().display());
    let process = Process::start(Command::new("unshare").args(["-m", "sh", "-c", &script]));
    let deadline = Instant::now() + Duration::from_secs(10);
    let path = folder.path().join("s");
    let target = loop {
        assert!(Instant::now() < deadline);
        match Target::from_pid(process.pid()) {
            Ok(target) if target.executable().is_some_and(|file| file.path == path) => {
                break target;
            }
            _ => std::thread::sleep(Duration::from_millis(5)),
        }
    };
    let open_path = &target.executable().unwrap().open_path;
    assert!(!path.exists());
    assert_eq!(*open_path, PathBuf::from(format!("/proc/{}/root{}", process.pid(), path.display())));
    assert_eq!(target.file_at(&path).unwrap().open_path, *open_path);
    // The C library is the same file in both namespaces.
    let target = loaded(&process);
    assert!(!target.files_named("libc")[0].open_path.starts_with("/proc"));
}

#[test]
fn links_are_followed_within_the_other_root() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["real", "real/deep", "bin"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("real/deep/lib.so"), "").unwrap();
    std::os::unix::fs::symlink("/real/deep", folder.path().join("bin/lib")).unwrap();
    let (path, id) = root::find(folder.path(), Path::new("/bin/lib/lib.so")).unwrap();
    assert_eq!(path, folder.path().join("real/deep/lib.so"));
    assert_eq!(id, FileId::of(&path).unwrap());
    assert!(root::find(folder.path(), Path::new("/bin/nope")).is_none());
}

#[test]
fn scripts_stand_for_their_interpreters() {
    let folder = tempfile::tempdir().unwrap();
    let script = |name: &str, content: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
        path
    };
    let path = OsString::from(format!("/nope:{}:/usr/bin:/bin", folder.path().display()));
    let environment = [(OsString::from("PATH"), path)];
    let program = |path: &Path| {
        let target = Target::from_command(path, &environment)?;
        Ok::<_, TargetError>(target.executable().unwrap().path.clone())
    };
    let shell = std::fs::canonicalize("/bin/sh").unwrap();
    let plain = script("plain", "#! /bin/sh -e\necho\n");
    assert_eq!(program(&plain).unwrap(), shell);
    assert_eq!(program(Path::new("plain")).unwrap(), shell);
    assert_eq!(program(&script("env", "#!/usr/bin/env sh\n")).unwrap(), shell);
    assert_eq!(program(&script("env-s", "#!/usr/bin/env -S A=b sh -e\n")).unwrap(), shell);
    let nested = script("nested", &format!("#!{}\n", plain.display()));
    assert_eq!(program(&nested).unwrap(), shell);

    let looping = folder.path().join("loop");
    let looping = script("loop", &format!("#!{}\n", looping.display()));
    assert!(matches!(program(&looping), Err(TargetError::ScriptLoop { .. })));
    assert!(matches!(program(Path::new("no-such-command")), Err(TargetError::NoSuchCommand { .. })));
    assert!(matches!(program(&script("text", "echo\n")), Err(TargetError::Elf(ElfError::NotElf { .. }))));
    let bits = script("bits", "\x7fELF\x01\x01\x01");
    assert!(matches!(program(&bits), Err(TargetError::Elf(ElfError::ThirtyTwoBit { .. }))));
    assert!(matches!(program(&script("nope", "#!/no/such\n")), Err(TargetError::Elf(ElfError::Read { .. }))));
}

#[test]
fn libraries_by_path_and_later() {
    let folder = tempfile::tempdir().unwrap();
    let library = compile(folder.path(), "liblater.so.1", "int later(void) { return 1; }", &["-shared", "-fPIC"]);
    let process = Process::start(Command::new("sleep").arg("1000"));
    let target = loaded(&process);
    let file = target.file_at(&library).unwrap();
    assert_eq!((&file.open_path, file.mappings.len()), (&library, 0));
    assert!(target.file_at(Path::new("/no/such.so")).is_none());
    let libc = target.files_named("libc").remove(0);
    assert_eq!(target.file_at(&libc.path).unwrap().mappings, libc.mappings);
    assert!(target.unloaded_named("liblater").is_empty());

    let search = [(OsString::from("LD_LIBRARY_PATH"), folder.path().as_os_str().to_owned())];
    let command = Target::from_command(Path::new("/bin/sleep"), &search).unwrap();
    assert_eq!(command.unloaded_named("liblater")[0].path, library);
    assert_eq!(command.pid(), None);
}
