//! What this machine, this process and a target allow, with the mend for what they do not.
//!
//! Each check is a pure function over a piece of text (mostly of /proc), and the trial at the end records a call of our
//! own. Invariant: nothing is changed, and a check that cannot be made says so instead of guessing.

mod kernel;
mod limits;
mod mounts;
mod namespaces;
mod rights;
mod seccomp;
mod target;
mod trial;

use std::fs;

pub use self::kernel::Version;
pub use self::target::examine as examine_target;

/// What a finding means for recording.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be, or without meaning here.
    Ok,
    /// Recording works, within the limits that it tells.
    Note,
    /// Recording does not work, or harms the target.
    Problem,
}

impl Verdict {
    /// One word.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Note => "note",
            Self::Problem => "problem",
        }
    }
}

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// What that means for recording.
    pub verdict: Verdict,
    /// What was found, and what it means.
    pub found: String,
    /// What to do about it, if there is something.
    pub mend: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self { check, verdict, found: found.into(), mend: None }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, found)
    }

    fn note(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Note, found)
    }

    fn problem(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Problem, found)
    }

    fn mend(self, mend: impl Into<String>) -> Self {
        Self { mend: Some(mend.into()), ..self }
    }
}

/// Whether recording will work by these findings.
#[must_use]
pub fn will_record(findings: &[Finding]) -> bool {
    findings.iter().all(|finding| finding.verdict != Verdict::Problem)
}

/// Looks at this machine and at this process's rights, and makes the trial.
///
/// The trial decides: where it succeeds, what else looked like a problem is none.
#[must_use]
pub fn examine_machine() -> Vec<Finding> {
    let mut findings = look();
    let trial = trial::run(Version::running());
    let works = trial.verdict != Verdict::Problem;
    for finding in findings.iter_mut().filter(|finding| works && finding.verdict == Verdict::Problem) {
        finding.verdict = Verdict::Note;
    }
    findings.push(trial);
    findings
}

/// All checks but the trial.
fn look() -> Vec<Finding> {
    let version = Version::running();
    let status = read("/proc/self/status").unwrap_or_default();
    let mounts = read("/proc/self/mounts").unwrap_or_default();
    let mut findings = vec![kernel::release(version, &kernel::running_release())];
    findings.extend(kernel::nops(version, cfg!(target_arch = "x86_64")));
    findings.push(kernel::configuration());
    findings.push(kernel::btf(fs::metadata("/sys/kernel/btf/vmlinux").is_ok()));
    findings.push(rights::capabilities(&status));
    findings.push(namespaces::user(namespaces::inode("self", "user")));
    findings.push(namespaces::pid(namespaces::inode("self", "pid")));
    findings.push(seccomp::own(&status));
    findings.push(rights::unprivileged_bpf(read("/proc/sys/kernel/unprivileged_bpf_disabled").as_deref()));
    findings.push(rights::perf_event_paranoid(read("/proc/sys/kernel/perf_event_paranoid").as_deref()));
    findings.push(rights::mapping_events(crate::session::hears_mappings()));
    findings.push(rights::lockdown(read("/sys/kernel/security/lockdown").as_deref()));
    findings.push(mounts::tracefs(&mounts));
    findings.push(mounts::bpffs(&mounts));
    let limits = read("/proc/self/limits").unwrap_or_default();
    findings.push(limits::locked_memory(&limits, version));
    findings.push(limits::open_files(&limits));
    findings
}

/// Whether return probes would kill process `pid`: it has a seccomp filter, and this kernel's return probes make a system
/// call that filters do not know.
#[must_use]
pub fn return_probes_kill(pid: u32) -> bool {
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    let status = read(&format!("/proc/{pid}/status")).unwrap_or_default();
    Version::parse(&release).filters_return_probes() && seccomp::is_filtered(&status)
}

fn read(path: &str) -> Option<String> {
    let bytes = fs::read(path).ok()?;
    Some(String::from_utf8_lossy(&bytes).into_owned())
}

/// The value of a field of /proc/PID/status.
fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let mut lines = status.lines().filter_map(|line| line.split_once(':'));
    lines.find(|(key, _)| *key == name).map(|(_, value)| value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_of_status() {
        let status = "Name:\ta:b\nSeccomp:\t2\nSeccomp_filters:\t1\n";
        assert_eq!(field(status, "Seccomp"), Some("2"));
        assert_eq!(field(status, "Name"), Some("a:b"));
        assert_eq!(field(status, "CapEff"), None);
    }

    #[test]
    fn only_a_problem_prevents_recording() {
        assert!(will_record(&[Finding::ok("a", ""), Finding::note("b", "")]));
        assert!(!will_record(&[Finding::ok("a", ""), Finding::problem("b", "").mend("c")]));
    }

    #[test]
    fn every_machine_can_be_looked_at() {
        let findings = look();
        assert!(findings.len() > 10);
        assert!(findings.iter().all(|finding| !finding.found.is_empty()), "{findings:?}");
    }
}
