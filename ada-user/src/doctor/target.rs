//! A process that is to be recorded: whether it can be, and what its probes may do to it.
//!
//! Invariant: the target is only looked at; nothing is attached to it.

use std::fs;

use super::namespaces::{self, inode};
use super::{Finding, Version, read, seccomp};
use crate::elf::Elf;
use crate::target::{Target, TargetFile};

/// Files that a finding names.
const NAMED: usize = 4;

/// Looks at process `pid`.
#[must_use]
pub fn examine(pid: u32) -> Vec<Finding> {
    let target = match Target::from_pid(pid) {
        Ok(target) => target,
        Err(error) => return vec![Finding::problem("target", error.to_string())],
    };
    let status = read(&format!("/proc/{pid}/status")).unwrap_or_default();
    let of = |kind| (inode("self", kind), inode(&pid.to_string(), kind));
    let ((own_pids, pids), (own_mounts, mounts)) = (of("pid"), of("mnt"));
    let mut findings = vec![process(pid, &target)];
    findings.push(namespaces::pid_of_target(own_pids, pids));
    findings.push(namespaces::mount_of_target(own_mounts, mounts, pid));
    findings.push(seccomp::of_target(&status, Version::running()));
    findings.extend(program(&target));
    findings.push(unwinding(&target));
    findings.extend(stacks(&target));
    findings
}

fn process(pid: u32, target: &Target) -> Finding {
    let program = target.executable().map_or_else(|| "a program".to_owned(), |file| file.path.display().to_string());
    let threads = fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    let (files, plural) = (target.files().len(), if threads == 1 { "" } else { "s" });
    Finding::ok(
        "target",
        format!("process {pid} runs {program} with {threads} thread{plural} and {files} files of code"),
    )
}

/// What kind of program it is.
fn program(target: &Target) -> Option<Finding> {
    let check = "target: program";
    let elf = Elf::open(&target.executable()?.open_path).ok()?;
    if elf.is_go() {
        let found = "a Go program: its stacks move, which return probes do not survive, so only calls are recorded";
        return Some(Finding::note(check, found));
    }
    if elf.dynamic().interpreter.is_none() {
        let found = "a static program: it loads no libraries, so only exe:FUNCTION can be recorded";
        return Some(Finding::note(check, found));
    }
    Some(Finding::ok(check, "a dynamic program: its own functions and those of its libraries can be recorded"))
}

/// Exceptions and panics end a program where they cross a return probe.
fn unwinding(target: &Target) -> Finding {
    let check = "target: exceptions";
    let unwinding = files_that(target, Elf::unwinds);
    if unwinding.is_empty() {
        return Finding::ok(check, "no code is loaded that throws exceptions or panics");
    }
    let found = format!(
        "exceptions or panics may be thrown in {}; where one crosses a return probe it ends the program, so the returns \
         of such code are recorded by probes on its exits, which cost more",
        names(&unwinding)
    );
    Finding::note(check, found).mend("--entry-only where calls are enough; never --returns uretprobe")
}

/// Stack switches confuse the kernel's list of pending returns.
fn stacks(target: &Target) -> Option<Finding> {
    let switching = files_that(target, Elf::switches_stacks);
    let found = || {
        let names = names(&switching);
        format!(
            "stacks are switched (coroutines) by {names}; within a function with a return probe that ends the program"
        )
    };
    let finding = || {
        Finding::note("target: stacks", found()).mend("--entry-only where calls are enough; never --returns uretprobe")
    };
    (!switching.is_empty()).then(finding)
}

fn files_that(target: &Target, has: impl Fn(&Elf) -> bool) -> Vec<&TargetFile> {
    let opened = |file: &&TargetFile| Elf::open(&file.open_path).is_ok_and(|elf| has(&elf));
    target.files().iter().filter(opened).collect()
}

fn names(files: &[&TargetFile]) -> String {
    let name = |file: &&TargetFile| file.path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let named: Vec<String> = files.iter().take(NAMED).map(name).collect();
    let more = files.len().saturating_sub(NAMED);
    if more > 0 { format!("{} and {more} more", named.join(", ")) } else { named.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_process_that_is_not_there_is_a_problem() {
        let findings = examine(u32::MAX / 2);
        assert!(matches!(findings.as_slice(), [one] if one.verdict == Verdict::Problem), "{findings:?}");
    }

    #[test]
    fn this_process_is_a_rust_program() {
        let findings = examine(std::process::id());
        assert!(findings.iter().all(|finding| finding.verdict != Verdict::Problem), "{findings:?}");
        let exceptions = findings.iter().find(|finding| finding.check == "target: exceptions").unwrap();
        assert_eq!(exceptions.verdict, Verdict::Note);
        assert!(findings.iter().any(|finding| finding.found.contains("dynamic program")), "{findings:?}");
        assert!(!findings.iter().any(|finding| finding.check == "target: stacks"), "{findings:?}");
    }
}
