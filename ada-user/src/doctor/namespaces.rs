//! Namespaces of this process, and of a target beside it.
//!
//! Invariant: a namespace is known by its inode; the initial ones have fixed numbers (include/linux/proc_ns.h).

use std::fs;

use super::Finding;

/// `PROC_PID_INIT_INO`.
const INITIAL_PID: u64 = 0xEFFF_FFFC;
/// `PROC_USER_INIT_INO`.
const INITIAL_USER: u64 = 0xEFFF_FFFD;

/// The inode of a namespace of process `pid` (or `self`).
pub(super) fn inode(pid: &str, kind: &str) -> Option<u64> {
    let link = fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?;
    parse(link.to_str()?)
}

/// `pid:[4026531836]`.
fn parse(link: &str) -> Option<u64> {
    link.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

/// This process's user namespace.
pub(super) fn user(own: Option<u64>) -> Finding {
    let check = "user namespace";
    match own {
        Some(INITIAL_USER) | None => Finding::ok(check, "the initial one, in which capabilities count"),
        Some(_) => {
            let found = "not the initial one: capabilities in it, even root's, do not count for eBPF and probes";
            Finding::problem(check, found).mend("run ada-trace on the host, or in a container that is not rootless")
        }
    }
}

/// This process's pid namespace.
pub(super) fn pid(own: Option<u64>) -> Finding {
    let check = "pid namespace";
    match own {
        Some(INITIAL_PID) | None => {
            Finding::ok(check, "the initial one: every process of this machine can be recorded")
        }
        Some(_) => {
            let found = "not the initial one: pids are those of this namespace, and processes outside of it, or in \
                namespaces below it, cannot be recorded";
            Finding::ok(check, found)
        }
    }
}

/// A target's pid namespace beside ours: below one that is not the initial, ids cannot be translated.
pub(super) fn pid_of_target(own: Option<u64>, theirs: Option<u64>) -> Finding {
    let check = "target: pid namespace";
    match (own, theirs) {
        (Some(own), Some(theirs)) if own == theirs => Finding::ok(check, "the same as ours"),
        (Some(INITIAL_PID), Some(_)) => Finding::ok(check, "one below ours: ids are given as the host sees them"),
        (Some(_), Some(_)) => {
            let found = "one below ours, which is not the initial one: the kernel cannot give its ids in ours";
            Finding::problem(check, found).mend("run ada-trace in that namespace, or on the host")
        }
        _ => Finding::note(check, "cannot be told: the kernel does not show it to us").mend("run it with sudo"),
    }
}

/// A target's mount namespace beside ours.
pub(super) fn mount_of_target(own: Option<u64>, theirs: Option<u64>, pid: u32) -> Finding {
    let check = "target: mount namespace";
    match (own, theirs) {
        (Some(own), Some(theirs)) if own == theirs => Finding::ok(check, "the same as ours"),
        (Some(_), Some(_)) => {
            Finding::ok(check, format!("another than ours: its libraries are found through /proc/{pid}/root"))
        }
        _ => Finding::note(check, "cannot be told: the kernel does not show it to us").mend("run it with sudo"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn namespaces_by_their_links() {
        assert_eq!(parse("pid:[4026531836]"), Some(INITIAL_PID));
        assert_eq!(parse("user:[4026531837]"), Some(INITIAL_USER));
        assert_eq!(parse("nonsense"), None);
        assert!(inode("self", "pid").is_some());
    }

    #[test]
    fn capabilities_count_in_the_initial_user_namespace() {
        assert_eq!(user(Some(INITIAL_USER)).verdict, Verdict::Ok);
        assert_eq!(user(Some(4_026_532_000)).verdict, Verdict::Problem);
    }

    #[test]
    fn targets_below_a_namespace_that_is_not_initial() {
        let other = Some(4_026_532_001);
        assert_eq!(pid_of_target(Some(INITIAL_PID), other).verdict, Verdict::Ok);
        assert_eq!(pid_of_target(other, other).verdict, Verdict::Ok);
        assert_eq!(pid_of_target(Some(4_026_532_000), other).verdict, Verdict::Problem);
        assert_eq!(pid_of_target(other, None).verdict, Verdict::Note);
        assert!(mount_of_target(Some(1), Some(2), 7).found.contains("/proc/7/root"));
    }
}
