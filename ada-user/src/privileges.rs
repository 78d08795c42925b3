//! Who asked for the recording: with sudo, the person behind it. Files belong to them and launched commands run as them;
//! root's privileges are given up as soon as the probes are attached.

use std::{
    env,
    ffi::{CStr, CString},
    io,
    path::PathBuf,
};

/// The user behind sudo.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invoker {
    /// User id.
    pub uid: u32,
    /// Primary group.
    pub gid: u32,
    /// Login name, if it is known.
    pub name: Option<CString>,
    /// Home folder, if it is known.
    pub home: Option<PathBuf>,
}

/// The user who called sudo, if this is root on their behalf. `None`: act as oneself.
#[must_use]
pub fn invoker() -> Option<Invoker> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let uid: u32 = env::var("SUDO_UID").ok()?.parse().ok()?;
    let gid: u32 = env::var("SUDO_GID").ok()?.parse().ok()?;
    if uid == 0 {
        return None;
    }
    let (name, home) = account(uid).map_or((None, None), |(name, home)| (Some(name), Some(home)));
    Some(Invoker { uid, gid, name, home })
}

impl Invoker {
    /// Their supplementary groups.
    #[must_use]
    pub fn groups(&self) -> Vec<u32> {
        let Some(name) = &self.name else { return vec![self.gid] };
        let mut groups = vec![0; 256];
        let mut count = 256;
        // SAFETY: room for `count` groups is there, and the name is a C string.
        let found = unsafe { libc::getgrouplist(name.as_ptr(), self.gid, groups.as_mut_ptr(), &raw mut count) };
        groups.truncate(usize::try_from(count).unwrap_or(0));
        if found < 0 { vec![self.gid] } else { groups }
    }
}

/// Names of the capabilities that recording needs and this process does not have.
#[must_use]
pub fn missing() -> Vec<&'static str> {
    use rustix::thread::{CapabilitySet, capabilities};
    let have = capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    if have.contains(CapabilitySet::SYS_ADMIN) {
        return Vec::new();
    }
    let needed = [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::PERFMON, "CAP_PERFMON")];
    needed.iter().filter(|(capability, _)| !have.contains(*capability)).map(|(_, name)| *name).collect()
}

/// Makes this thread, and those it starts from now on, the invoker's, keeping no privilege but to read eBPF maps and, with
/// `signals`, to signal any process.
///
/// # Errors
/// If the kernel refuses; the caller is then still privileged and should end.
pub fn drop_to(invoker: &Invoker, signals: bool) -> io::Result<()> {
    keep_capabilities()?;
    become_user(invoker)?;
    limit_capabilities(signals)
}

/// Changes all ids of the process. glibc does so for every thread.
///
/// # Errors
/// If the kernel refuses.
pub fn become_user(invoker: &Invoker) -> io::Result<()> {
    let groups = invoker.groups();
    // SAFETY: plain system calls; the list of groups is as long as it is said to be.
    let failed = unsafe {
        libc::setgroups(groups.len(), groups.as_ptr()) != 0
            || libc::setresgid(invoker.gid, invoker.gid, invoker.gid) != 0
            || libc::setresuid(invoker.uid, invoker.uid, invoker.uid) != 0
    };
    if failed { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn keep_capabilities() -> io::Result<()> {
    rustix::thread::set_keep_capabilities(true)?;
    Ok(())
}

/// Reading the loss counters by thread needs CAP_BPF where unprivileged eBPF is off, as it is everywhere by now.
fn limit_capabilities(signals: bool) -> io::Result<()> {
    use rustix::thread::{CapabilitySet, CapabilitySets, set_capabilities};
    let signals = if signals { CapabilitySet::KILL } else { CapabilitySet::empty() };
    let kept = CapabilitySet::BPF | signals;
    let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
    match set_capabilities(None, sets) {
        // A kernel before 5.8 has no CAP_BPF; CAP_SYS_ADMIN was in its place.
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::PERM) => {
            let kept = CapabilitySet::SYS_ADMIN | signals;
            let sets = CapabilitySets { effective: kept, permitted: kept, inheritable: CapabilitySet::empty() };
            Ok(set_capabilities(None, sets)?)
        }
        other => Ok(other?),
    }
}

/// Login name and home folder from the user database.
fn account(uid: u32) -> Option<(CString, PathBuf)> {
    let mut buffer = vec![0; 16 * 1024];
    // SAFETY: all zeros is a valid passwd of null pointers, which getpwuid_r fills.
    let mut entry: libc::passwd = unsafe { std::mem::zeroed() };
    let mut result = std::ptr::null_mut();
    // SAFETY: the buffer is as long as it is said to be, and outlives the use of `entry` below.
    let code = unsafe { libc::getpwuid_r(uid, &raw mut entry, buffer.as_mut_ptr(), buffer.len(), &raw mut result) };
    if code != 0 || result.is_null() {
        return None;
    }
    // SAFETY: getpwuid_r succeeded, so both point at C strings in the buffer.
    let (name, home) = unsafe { (CStr::from_ptr(entry.pw_name), CStr::from_ptr(entry.pw_dir)) };
    Some((name.to_owned(), PathBuf::from(home.to_string_lossy().into_owned())))
}
