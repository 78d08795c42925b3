//! The kernel: its version, its configuration, BTF.
//!
//! Invariant: a feature counts by the version that brought it; the trial tells the truth where a distributor has moved
//! it.

use std::fs;
use std::process::Command;

use super::Finding;

/// A kernel's version; later ones are greater.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// The first number.
    pub major: u32,
    /// The second.
    pub minor: u32,
    /// The third; distributors count in their own way.
    pub patch: u32,
}

impl Version {
    /// The version in a release such as `6.12.30+deb13-amd64`; what is missing is 0.
    #[must_use]
    pub fn parse(release: &str) -> Self {
        let mut numbers = release.splitn(3, '.').map(|part| {
            let end = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..end].parse().unwrap_or(0)
        });
        let mut next = || numbers.next().unwrap_or(0);
        Self { major: next(), minor: next(), patch: next() }
    }

    /// Of the kernel that runs.
    #[must_use]
    pub fn running() -> Self {
        Self::parse(&running_release())
    }

    fn at_least(self, major: u32, minor: u32) -> bool {
        (self.major, self.minor) >= (major, minor)
    }

    /// Whether a return probe makes a system call that seccomp filters may refuse, which kills the target: new in 6.11,
    /// mended in 6.14 and in the stable kernels of February 2025.
    #[must_use]
    pub fn filters_return_probes(self) -> bool {
        match (self.major, self.minor) {
            (6, 11) => true,
            (6, 12) => self.patch < 14,
            (6, 13) => self.patch < 3,
            _ => false,
        }
    }

    /// Whether maps are charged to the cgroup (5.11) and not against RLIMIT_MEMLOCK.
    pub(super) fn charges_cgroup(self) -> bool {
        self.at_least(5, 11)
    }
}

/// The release of the kernel that runs.
pub(super) fn running_release() -> String {
    rustix::system::uname().release().to_string_lossy().into_owned()
}

/// What a version brings.
pub(super) fn release(version: Version, release: &str) -> Finding {
    let check = "kernel";
    if !version.at_least(5, 15) {
        let found = format!("Linux {release}: probes that know their function (attach cookies) came with 5.15");
        return Finding::problem(check, found).mend("run a newer kernel");
    }
    if !version.at_least(6, 6) {
        let found = format!(
            "Linux {release} lacks uprobe_multi (6.6): each function gets a perf event of its own, and detaching takes \
             about 0.1 s for each"
        );
        return Finding::note(check, found).mend("record few functions at a time, or run 6.6 or newer");
    }
    if version.filters_return_probes() {
        let found = format!(
            "Linux {release} has uprobe_multi; its return probes make a system call, for which a seccomp filter may \
             kill the target"
        );
        return Finding::note(check, found).mend("for sandboxed targets --entry-only, or run 6.12.14, 6.13.3 or newer");
    }
    Finding::ok(check, format!("Linux {release} has uprobe_multi: thousands of functions attach and detach at once"))
}

/// The fast probes of 6.18, which have a catch.
pub(super) fn nops(version: Version, x86_64: bool) -> Option<Finding> {
    let found = "probes on 5-byte nops are calls in this kernel (6.18 and newer): fast at a function's start, but \
        inside a function that keeps data below its stack pointer they overwrite it";
    let applies = x86_64 && version.at_least(6, 18);
    applies.then(|| Finding::ok("nop5", found).mend("with FUNCTION+OFFSET, choose no nopl"))
}

/// The options that probes need, from wherever the kernel's configuration is found.
pub(super) fn configuration() -> Finding {
    let release = running_release();
    let plain = fs::read_to_string(format!("/boot/config-{release}")).ok();
    match plain.or_else(unpacked) {
        Some(text) => options(&text),
        None => Finding::ok("config", "the kernel's configuration cannot be read here; the trial tells"),
    }
}

fn unpacked() -> Option<String> {
    let output = Command::new("gzip").args(["-dc", "/proc/config.gz"]).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn options(configuration: &str) -> Finding {
    const NEEDED: [&str; 4] = ["CONFIG_BPF_SYSCALL", "CONFIG_UPROBES", "CONFIG_UPROBE_EVENTS", "CONFIG_BPF_EVENTS"];
    let enabled = |option: &&str| configuration.lines().any(|line| line.strip_prefix(option) == Some("=y"));
    let missing: Vec<&str> = NEEDED.into_iter().filter(|option| !enabled(option)).collect();
    if missing.is_empty() {
        return Finding::ok("config", format!("the kernel has {}", NEEDED.join(", ")));
    }
    let found = format!("the kernel was built without {}", missing.join(", "));
    Finding::problem("config", found).mend("run a kernel that has them, as those of the distributions do")
}

/// BTF, which others need for everything.
pub(super) fn btf(there: bool) -> Finding {
    let found = if there {
        "the kernel has BTF: new processes can be followed, and signals and exit statuses recorded"
    } else {
        "the kernel has no BTF: -f, signals and exit statuses go without; the rest needs none"
    };
    Finding::ok("BTF", found)
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn version(release: &str) -> Version {
        Version::parse(release)
    }

    #[test]
    fn releases() {
        let of = |major, minor, patch| Version { major, minor, patch };
        assert_eq!(version("6.12.30+deb13-amd64"), of(6, 12, 30));
        assert_eq!(version("6.18.0-rc1"), of(6, 18, 0));
        assert_eq!(version("6.8.0-45-generic"), of(6, 8, 0));
        assert_eq!(version("7.0"), of(7, 0, 0));
        assert_eq!(version("5.15-cloud"), of(5, 15, 0));
        assert_eq!(version(""), Version::default());
        assert_eq!(version("banana"), Version::default());
        assert!(Version::running() > Version::default());
    }

    #[test]
    fn what_versions_bring() {
        let verdict = |text| release(version(text), text).verdict;
        assert_eq!(verdict("5.10.0"), Verdict::Problem);
        assert_eq!(verdict("5.15.0"), Verdict::Note);
        assert_eq!(verdict("6.5.9"), Verdict::Note);
        assert_eq!(verdict("6.6.1"), Verdict::Ok);
        assert_eq!(verdict("6.11.0"), Verdict::Note);
        assert_eq!(verdict("6.12.13"), Verdict::Note);
        assert_eq!(verdict("6.12.14"), Verdict::Ok);
        assert_eq!(verdict("6.13.2"), Verdict::Note);
        assert_eq!(verdict("6.18.1"), Verdict::Ok);
        assert_eq!(verdict("7.1.0"), Verdict::Ok);
        assert!(nops(version("6.18.0"), true).is_some() && nops(version("6.17.9"), true).is_none());
        assert!(nops(version("6.18.0"), false).is_none());
    }

    #[test]
    fn options_of_a_configuration() {
        let all = "CONFIG_BPF_SYSCALL=y\nCONFIG_UPROBES=y\nCONFIG_UPROBE_EVENTS=y\nCONFIG_BPF_EVENTS=y\n";
        assert_eq!(options(all).verdict, Verdict::Ok);
        let without = options(&all.replace("CONFIG_UPROBES=y", "# CONFIG_UPROBES is not set"));
        assert_eq!(without.verdict, Verdict::Problem);
        assert!(without.found.ends_with("without CONFIG_UPROBES"), "{}", without.found);
    }
}
