//! Resource limits of this process.
//!
//! Invariant: pure text of /proc/self/limits.

use super::{Finding, Version};

/// Files that a recording needs besides those of the threads.
const OWN_FILES: u64 = 64;
/// Below this many files a program with many threads may have too many.
const FEW_FILES: u64 = 4096;
/// Rings and maps at their default size, in bytes.
const RINGS: u64 = 64 << 20;

/// RLIMIT_MEMLOCK, which older kernels charge eBPF maps against.
pub(super) fn locked_memory(limits: &str, version: Version) -> Finding {
    let check = "rlimit memlock";
    let soft = soft(limits, "Max locked memory");
    let text = text(soft);
    if version.charges_cgroup() {
        return Finding::ok(check, format!("RLIMIT_MEMLOCK is {text}; it does not matter from Linux 5.11 on"));
    }
    match soft {
        Some(Some(bytes)) if bytes < RINGS => {
            let found = format!("RLIMIT_MEMLOCK is {bytes} bytes, less than the rings take if it cannot be raised");
            Finding::note(check, found).mend("ulimit -l unlimited, or smaller rings with --buffer-size 256K")
        }
        _ => Finding::ok(check, format!("RLIMIT_MEMLOCK is {text}, which is enough")),
    }
}

/// RLIMIT_NOFILE: each thread that is recorded has one or two open files.
pub(super) fn open_files(limits: &str) -> Finding {
    let check = "rlimit nofile";
    let soft = soft(limits, "Max open files");
    match soft {
        Some(Some(files)) if files < FEW_FILES => {
            let threads = files.saturating_sub(OWN_FILES) / 2;
            let found = format!("RLIMIT_NOFILE is {files}: enough for targets of about {threads} threads");
            Finding::note(check, found).mend("ulimit -n 65536 for targets with more")
        }
        _ => Finding::ok(check, format!("RLIMIT_NOFILE is {}, which is enough", text(soft))),
    }
}

/// The soft limit; `Some(None)` is unlimited.
fn soft(limits: &str, name: &str) -> Option<Option<u64>> {
    let line = limits.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(None),
        number => number.parse().ok().map(Some),
    }
}

fn text(soft: Option<Option<u64>>) -> String {
    match soft {
        Some(Some(number)) => number.to_string(),
        Some(None) => "unlimited".to_owned(),
        None => "not told".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    const LIMITS: &str = "\
Limit                     Soft Limit           Hard Limit           Units     
Max locked memory         8388608              unlimited            bytes     
Max open files            1024                 524288               files     
Max address space         unlimited            unlimited            bytes     
";

    #[test]
    fn soft_limits() {
        assert_eq!(soft(LIMITS, "Max open files"), Some(Some(1024)));
        assert_eq!(soft(LIMITS, "Max address space"), Some(None));
        assert_eq!(soft(LIMITS, "Max nonsense"), None);
    }

    #[test]
    fn locked_memory_matters_to_old_kernels() {
        assert_eq!(locked_memory(LIMITS, Version::parse("6.6.0")).verdict, Verdict::Ok);
        assert_eq!(locked_memory(LIMITS, Version::parse("5.10.0")).verdict, Verdict::Note);
        assert_eq!(locked_memory("", Version::parse("5.10.0")).verdict, Verdict::Ok);
    }

    #[test]
    fn few_files_mean_few_threads() {
        let few = open_files(LIMITS);
        assert_eq!(few.verdict, Verdict::Note);
        assert!(few.found.ends_with("about 480 threads"), "{}", few.found);
        assert_eq!(open_files(&LIMITS.replace("1024", "1048576")).verdict, Verdict::Ok);
        assert_eq!(open_files("").verdict, Verdict::Ok);
    }
}
