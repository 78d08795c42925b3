//! Seccomp: what a filter means for a recorder, and for a target.
//!
//! Invariant: pure text of /proc/PID/status.

use super::{Finding, Version, field};

/// Whether a filter may refuse system calls of the process.
pub(super) fn is_filtered(status: &str) -> bool {
    matches!(field(status, "Seccomp"), Some("1" | "2"))
}

/// This process's own.
pub(super) fn own(status: &str) -> Finding {
    let check = "seccomp";
    if is_filtered(status) {
        let found = "a filter applies to ada-trace itself (a container's?), which may refuse bpf(2); the trial tells";
        return Finding::note(check, found)
            .mend("if it does, give the container CAP_BPF or --security-opt seccomp=unconfined");
    }
    Finding::ok(check, "no filter applies to ada-trace")
}

/// A target's.
pub(super) fn of_target(status: &str, version: Version) -> Finding {
    let check = "target: seccomp";
    if !is_filtered(status) {
        return Finding::ok(check, "no filter applies to the target");
    }
    if version.filters_return_probes() {
        let found = "a filter applies to the target, and return probes of this kernel make a system call (uretprobe) \
            for which it may be killed";
        return Finding::problem(check, found).mend("--entry-only or --returns ret, or run 6.12.14, 6.13.3 or newer");
    }
    Finding::ok(check, "a filter applies to the target; probes of this kernel pass it")
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn filters_matter_where_return_probes_are_system_calls() {
        let (free, filtered) = ("Seccomp:\t0\n", "Seccomp:\t2\n");
        let verdict = |status, release| of_target(status, Version::parse(release)).verdict;
        assert_eq!(verdict(free, "6.11.0"), Verdict::Ok);
        assert_eq!(verdict(filtered, "6.11.0"), Verdict::Problem);
        assert_eq!(verdict(filtered, "6.12.20"), Verdict::Ok);
        assert_eq!(verdict(filtered, "6.6.0"), Verdict::Ok);
        assert_eq!(own(free).verdict, Verdict::Ok);
        assert_eq!(own(filtered).verdict, Verdict::Note);
        assert!(!is_filtered(""));
    }
}
