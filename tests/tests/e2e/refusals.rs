//! Bad input: exit status 2, one sentence that names the thing and the mend, nothing recorded, nothing harmed.

use std::path::Path;
use std::process::{Command, Stdio};

use tests::fixture;
use tests::need;
use tests::process::Ended;
use tests::recorder::{Trace, ada, ada_trace};
use tests::scratch::Scratch;

/// Checks that `ended` is a refusal whose sentence has all of `facts`; gives the sentence.
pub(crate) fn check_sentence(ended: Ended, facts: &[&str]) -> String {
    let said = ended.code(2).err;
    assert_eq!(said.lines().count(), 1, "not one sentence: {said}");
    assert!(said.starts_with("ada-trace: "), "{said}");
    assert!(said.trim_end().len() > "ada-trace: ".len() + 10, "{said}");
    for fact in facts {
        assert!(said.contains(fact), "no {fact:?} in: {said}");
    }
    said
}

/// A recording of `spec` with `arguments` is refused, and makes no session.
fn refused(spec: &str, arguments: &[&str], facts: &[&str]) -> String {
    let scratch = Scratch::new();
    let recorder = Trace::new(&scratch, [spec]).args(arguments).start();
    let folder = recorder.folder.clone();
    let said = check_sentence(recorder.end(), facts);
    assert!(!folder.exists(), "a refused recording leaves no folder: {said}");
    said
}

/// The same for a process that waits all the while.
fn refused_for_a_process(spec: &str, facts: &[&str]) {
    let scratch = Scratch::new();
    let program = fixture::build("constant.c", &[]);
    let mut target = fixture::waiting(&program, &[], &scratch.join("report"), scratch.path());
    drop(refused(spec, &["-p", &target.pid().to_string()], facts));
    target.tell("go");
    drop(target.end().success());
}

#[test]
fn no_such_process() {
    if need::root() {
        let mut child = Command::new("true").spawn().expect("true");
        let gone = child.id().to_string();
        child.wait().expect("its end");
        drop(refused("libc:malloc", &["-p", &gone], &[&gone, "no "]));
        drop(refused("libc:malloc", &["-p", "4194305"], &["4194305"]));
    }
}

#[test]
fn a_pid_that_is_none() {
    misused(&["-e", "libc:malloc", "-p", "redis"], &["redis"]);
    misused(&["-e", "libc:malloc", "-p", "-1"], &["-1"]);
    misused(&["-e", "libc:malloc", "-p", "0"], &["0"]);
}

/// A zombie has a pid and no memory.
#[test]
fn a_process_that_has_exited() {
    if !need::root() {
        return;
    }
    let mut child = Command::new("sh").args(["-c", "exit 0"]).stdin(Stdio::null()).spawn().expect("sh");
    let pid = child.id().to_string();
    let stat = format!("/proc/{pid}/stat");
    tests::wait::until("the process is a zombie", || {
        std::fs::read_to_string(&stat).expect("a process").contains(") Z ").then_some(())
    });
    drop(refused("libc:malloc", &["-p", &pid], &[&pid, "ended"]));
    child.wait().expect("its end");
}

/// Processes that end at any moment of the attaching: recorded or refused, never anything else.
#[test]
fn a_process_that_exits_while_attaching() {
    if !need::root() {
        return;
    }
    for spins in [0, 10, 30, 100, 300, 1000, 3000] {
        let scratch = Scratch::new();
        let script = format!("i=0; while [ $i -lt {spins}0 ]; do i=$((i+1)); done");
        let mut child = Command::new("sh").args(["-c", &script]).stdin(Stdio::null()).spawn().expect("sh");
        let pid = child.id().to_string();
        // Reaped at once, so that the pid is really gone.
        let reaper = std::thread::spawn(move || child.wait());
        let recorder = Trace::new(&scratch, ["libc:malloc"]).args(["-p", &pid]).start();
        let folder = recorder.folder.clone();
        let ended = recorder.end();
        if ended.status.code() == Some(0) {
            drop(tests::session::Session::read(&folder).complete());
        } else {
            drop(check_sentence(ended, &[&pid]));
        }
        reaper.join().expect("the reaper").expect("the child's end");
    }
}

#[test]
fn a_library_that_is_not_loaded() {
    if need::root() {
        refused_for_a_process("libcc:malloc", &["libcc", "libc"]);
        refused_for_a_process("libnowhere:malloc", &["libnowhere"]);
        refused_for_a_process("/no/such/lib.so:malloc", &["/no/such/lib.so"]);
    }
}

#[test]
fn a_library_that_the_loader_does_not_know() {
    if need::root() {
        drop(refused("libnowhere:malloc", &["--", "true"], &["libnowhere"]));
    }
}

#[test]
fn a_function_that_is_not_there() {
    if need::root() {
        refused_for_a_process("libc:mallok", &["mallok", "malloc"]);
        refused_for_a_process("libc:malloc+x", &["malloc+x", "malloc"]);
        refused_for_a_process("exe:laef", &["laef", "leaf"]);
        refused_for_a_process("exe:leaf+0x100000", &["leaf"]);
    }
}

#[test]
fn a_probe_on_data() {
    if !need::root() {
        return;
    }
    refused_for_a_process("exe:written_words", &["written_words"]);
    refused_for_a_process("exe:counter", &["counter"]);
    let words = fixture::address(&fixture::build("constant.c", &[]), "written_words");
    refused_for_a_process(&format!("exe:+{words:#x}"), &[&format!("{words:#x}"), "execut"]);
}

#[test]
fn a_32_bit_target() {
    if !need::root() {
        return;
    }
    let program = fixture::build_32_bit();
    let path = program.to_str().expect("UTF-8");
    drop(refused("exe:_start", &["--", path], &["32-bit"]));
    let scratch = Scratch::new();
    // Where the kernel runs no 32-bit programs, nobody can attach to one.
    if let Ok(child) = Command::new(&program).stdin(Stdio::null()).spawn() {
        let pid = child.id();
        let _killed_in_the_end = tests::process::Owned::new(child);
        drop(refused("exe:_start", &["-p", &pid.to_string()], &["32-bit", &pid.to_string()]));
    }
    drop(scratch);
}

#[test]
fn an_output_folder_that_is_not_empty() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let folder = scratch.join("mine");
    std::fs::create_dir(&folder).expect("a folder");
    std::fs::write(folder.join("thesis.txt"), "years of work").expect("a file");
    let path = folder.to_str().expect("UTF-8");
    drop(ada_refuses(&["-e", "libc:malloc", "-o", path, "--", "true"], &[path, "empty"]));
    assert_eq!(std::fs::read_to_string(folder.join("thesis.txt")).expect("the file"), "years of work");
    assert_eq!(std::fs::read_dir(&folder).expect("the folder").count(), 1);
    let file = folder.join("thesis.txt");
    let path = file.to_str().expect("UTF-8");
    drop(ada_refuses(&["-e", "libc:malloc", "-o", path, "--", "true"], &[path]));
    drop(ada_refuses(&["-e", "libc:malloc", "-o", "/proc/nowhere", "--", "true"], &["/proc/nowhere"]));
}

#[test]
fn a_command_that_is_not_there() {
    if need::root() {
        drop(refused("libc:malloc", &["--", "no-such-command"], &["no-such-command"]));
        drop(refused("libc:malloc", &["--", "/no/such/command"], &["/no/such/command"]));
        drop(refused("libc:malloc", &["--", "/etc/passwd"], &["/etc/passwd"]));
        drop(refused("libc:malloc", &["--", "/etc"], &["/etc"]));
    }
}

/// A command line that makes no sense is refused with exit status 2 and told what; how to write it may follow.
fn misused(arguments: &[&str], facts: &[&str]) {
    let said = ada(&Scratch::new(), arguments).code(2).err;
    for fact in facts {
        assert!(said.contains(fact), "no {fact:?} in: {said}");
    }
}

fn ada_refuses(arguments: &[&str], facts: &[&str]) -> String {
    let scratch = Scratch::new();
    let mut command = Command::new(ada_trace());
    check_sentence(tests::process::run(command.args(arguments).current_dir(scratch.path()), scratch.path()), facts)
}

#[test]
fn specs_that_are_none() {
    for spec in ["malloc", "libc:", ":malloc", "libc:/mall", "libc:/(/", "libc:no_such_*", "libno_such*"] {
        let text = if spec.starts_with("libno") { "libno_such*:f" } else { spec };
        drop(ada_refuses(&["-e", text, "--", "true"], &[spec]));
    }
}

#[test]
fn options_that_make_no_sense() {
    let malloc = ["-e", "libc:malloc"];
    let with = |more: &[&'static str]| [&malloc, more].concat();
    misused(&malloc, &["-p"]);
    misused(&["--", "true"], &["-e"]);
    misused(&with(&["-d", "soon", "--", "true"]), &["soon"]);
    misused(&with(&["--buffer-size", "5000", "--", "true"]), &["5000", "power of two"]);
    misused(&with(&["--buffer-size", "2K", "--", "true"]), &["2K"]);
    misused(&with(&["--attach", "magic", "--", "true"]), &["magic"]);
    misused(&with(&["-p", "1", "--", "true"]), &["-p"]);
}

#[test]
fn sessions_that_are_none() {
    let scratch = Scratch::new();
    let empty = scratch.join("empty");
    std::fs::create_dir(&empty).expect("a folder");
    let broken = scratch.join("broken");
    std::fs::create_dir(&broken).expect("a folder");
    std::fs::write(broken.join("manifest.json"), "{").expect("a file");
    for command in ["info", "dump", "recover"] {
        for folder in [Path::new("/no/such/session"), &empty, &broken] {
            let ended = ada(&scratch, [command.as_ref(), folder.as_os_str()]);
            drop(check_sentence(ended, &[folder.to_str().expect("UTF-8")]));
        }
    }
}

#[test]
fn details_that_make_no_sense() {
    let with = |more: &[&'static str]| [&["-e", "libc:open"], more, &["--", "true"]].concat();
    for size in ["4096", "x", "513", "1.5", ""] {
        misused(&with(&["--stack", size]), &[&format!("'{size}' is not a size of stack"), "0 to 512"]);
    }
    for length in ["100000", "4095", "long"] {
        misused(&with(&["--string-max", length]), &[&format!("'{length}' is not a length"), "0 to 4094"]);
    }
    misused(&with(&["--pre-roll", "x"]), &["'x' is neither a time nor a number", "500ms"]);
    misused(&with(&["--post-roll", "5 days"]), &["'5 days' is neither", "500ms"]);
    misused(&with(&["--detail-buffer", "64K"]), &["'64K'", "from 128K to 1T"]);
    misused(&with(&["--detail-buffer", "some"]), &["'some'", "256M"]);
}

#[test]
fn triggers_that_are_none() {
    let near_misses = [
        ("nonsense", "slow=LIB:FUNCTION>50ms"),
        ("slow=libc:read", "write the time last"),
        ("slow=libc:read>soon", "write the time last"),
        ("slow=read>5ms", "libc:malloc"),
        ("symbol=read", "libc:malloc"),
        ("signal=SIGFOO", "'SIGFOO'"),
        ("signal=65", "'65'"),
        ("every=0s", "between 1ms and a century"),
        ("every=often", "'often' is not a time"),
        ("exit!=x", "from 0 to 255"),
        ("exit>0", "exit!=0"),
        ("SIGSEGV", "signal=SIGSEGV"),
        ("", "is no trigger"),
    ];
    for (trigger, mend) in near_misses {
        misused(&["-e", "libc:read", "--trigger", trigger, "--", "true"], &[&format!("'{trigger}'"), mend]);
    }
}

#[test]
fn details_of_what_is_not_recorded() {
    if !need::root() {
        return;
    }
    let libc = |more: &[&str], facts: &[&str]| drop(refused("libc:open", &[more, &["--", "true"]].concat(), facts));
    libc(&["--detail=libc:nothing_recorded"], &["libc:nothing_recorded", "-e"]);
    libc(&["--detail=open"], &["'open'", "libc:malloc"]);
    libc(&["--trigger", "symbol=libc:no_such_function"], &["no_such_function", "libc.so"]);
    libc(&["--trigger", "slow=libnowhere:read>1s"], &["libnowhere"]);
    libc(&["--detail", "--min-duration", "1ms"], &["--min-duration", "--detail", "leave one of them out"]);
    libc(&["--args", "--min-duration", "1ms"], &["--min-duration", "leave one of them out"]);
}

/// No refusal: it is recorded, and said once what is missing.
#[test]
fn arguments_of_a_function_without_debug_information() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let trace = Trace::new(&scratch, ["exe:leaf", "exe:middle"]).arg("--args");
    let recorder = trace.launch(&fixture::build("crash.c", &["-O1"]), ["lives"]);
    let folder = recorder.folder.clone();
    let said = recorder.end().success().err;
    assert_eq!(said.lines().count(), 1, "not one sentence: {said}");
    for fact in ["no debug information for", "(and 1 more)", "raw registers", "--symbols"] {
        assert!(said.contains(fact), "no {fact:?} in: {said}");
    }
    drop(tests::session::Session::read(&folder).complete());
    let text = tests::dumped::text(&folder);
    let lines: Vec<&str> = text.lines().collect();
    let raw = |line: &str, name: &str| {
        line.trim_start().starts_with(&format!("-> {name} (ADDRESS, 0x"))
            || line.trim_start().starts_with(&format!("-> {name} (ADDRESS, ADDRESS"))
    };
    assert!(raw(lines[0], "middle") && raw(lines[1], "leaf"), "{text}");
    assert_eq!(lines[2..], ["  <- leaf = 0x2a", "<- middle = 0x2a", "!! SIGUSR1 SI_TKILL, rip ADDRESS"]);
}

#[test]
fn a_command_that_is_a_script() {
    if !need::root() {
        return;
    }
    let scratch = Scratch::new();
    let script = scratch.join("script");
    std::fs::write(&script, "#!/bin/sh\nexec true\n").expect("a script");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("its mode");
    let script = script.to_str().expect("UTF-8");
    drop(refused("exe:no_such_function", &["--", script], &["no_such_function", script, "is a script", "-f"]));
}
