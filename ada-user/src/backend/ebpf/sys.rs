//! The bpf(2) calls that aya 0.14 has no word for: loading a program for uprobe_multi and attaching it.
//!
//! Kept apart so that it can go when a newer aya can be used. Invariant: every fd that the kernel returns is owned.

use std::{
    ffi::{CStr, CString, c_long},
    io,
    os::{
        fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use aya_obj::generated::{
    bpf_attach_type::BPF_TRACE_UPROBE_MULTI, bpf_attr, bpf_cmd, bpf_insn, bpf_prog_type::BPF_PROG_TYPE_KPROBE,
};

/// `BPF_F_UPROBE_MULTI_RETURN`
const UPROBE_MULTI_RETURN: u32 = 1;
/// `BPF_F_SLEEPABLE`
const BPF_F_SLEEPABLE: u32 = 1 << 4;
/// Enough for the verifier's report on a program of this size.
const LOG_SIZE: usize = 256 * 1024;

/// The probes of one link.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sites<'a> {
    /// File that holds the functions, by a path that the tracer can resolve.
    pub(super) path: &'a Path,
    /// File offsets, in bytes.
    pub(super) offsets: &'a [u64],
    /// What `bpf_get_attach_cookie` answers at each.
    pub(super) cookies: &'a [u64],
    /// Whether the program runs when the functions return.
    pub(super) returns: bool,
    /// The process to which the probes are confined.
    pub(super) pid: u32,
}

impl<'a> Sites<'a> {
    /// The first half and the rest; `None` for a single site.
    pub(super) fn halves(self) -> Option<[Self; 2]> {
        let middle = self.offsets.len() / 2;
        let (offsets, cookies) = (self.offsets.split_at(middle), self.cookies.split_at_checked(middle)?);
        let half = |offsets, cookies| Self { offsets, cookies, ..self };
        (middle > 0).then(|| [half(offsets.0, cookies.0), half(offsets.1, cookies.1)])
    }
}

/// Whether a program may sleep: then it may touch memory that is not there yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sleeps {
    Never,
    Maybe,
}

/// Loads `instructions` as a program that uprobe_multi links take. The error carries the verifier's log.
pub(super) fn load_multi(
    name: &CStr,
    instructions: &[bpf_insn],
    sleeps: Sleeps,
) -> Result<OwnedFd, (io::Error, String)> {
    match load(name, instructions, sleeps, None) {
        Ok(fd) => Ok(fd),
        Err(_) => {
            let mut log = vec![0; LOG_SIZE];
            load(name, instructions, sleeps, Some(&mut log)).map_err(|error| (error, last_lines(&log)))
        }
    }
}

/// Loads a program that returns 0, for uprobe_multi links.
pub(super) fn load_empty() -> io::Result<OwnedFd> {
    // BPF_ALU64 | BPF_MOV | BPF_K: r0 = 0; BPF_JMP | BPF_EXIT
    load(c"ada_empty", &[instruction(0xb7), instruction(0x95)], Sleeps::Never, None)
}

fn instruction(code: u8) -> bpf_insn {
    // SAFETY: a struct of plain integers.
    let mut instruction: bpf_insn = unsafe { std::mem::zeroed() };
    instruction.code = code;
    instruction
}

fn load(name: &CStr, instructions: &[bpf_insn], sleeps: Sleeps, log: Option<&mut [u8]>) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: this arm of the union belongs to BPF_PROG_LOAD, and all of its bytes are initialised.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = BPF_PROG_TYPE_KPROBE as u32;
    load.expected_attach_type = BPF_TRACE_UPROBE_MULTI as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = u32::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    load.prog_flags = if sleeps == Sleeps::Maybe { BPF_F_SLEEPABLE } else { 0 };
    load.license = c"Dual MIT/GPL".as_ptr() as u64;
    for (to, from) in load.prog_name.iter_mut().zip(name.to_bytes().iter().take(15)) {
        *to = from.cast_signed();
    }
    if let Some(log) = log {
        load.log_level = 1;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = u32::try_from(log.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    }
    call_for_fd(bpf_cmd::BPF_PROG_LOAD, &attr)
}

/// Attaches `program` to `sites` in one link; closing the fd detaches.
pub(super) fn attach_multi(program: BorrowedFd<'_>, sites: Sites<'_>) -> io::Result<OwnedFd> {
    let path = CString::new(sites.path.as_os_str().as_bytes())?;
    let mut attr = zeroed();
    // SAFETY: these arms of the unions belong to BPF_LINK_CREATE, and all of their bytes are initialised.
    unsafe {
        let link = &mut attr.link_create;
        link.__bindgen_anon_1.prog_fd = program.as_raw_fd().cast_unsigned();
        link.attach_type = BPF_TRACE_UPROBE_MULTI as u32;
        let multi = &mut link.__bindgen_anon_3.uprobe_multi;
        multi.path = path.as_ptr() as u64;
        multi.offsets = sites.offsets.as_ptr() as u64;
        multi.cookies = sites.cookies.as_ptr() as u64;
        multi.cnt = u32::try_from(sites.offsets.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
        multi.flags = if sites.returns { UPROBE_MULTI_RETURN } else { 0 };
        multi.pid = sites.pid;
    }
    call_for_fd(bpf_cmd::BPF_LINK_CREATE, &attr)
}

/// Feature probe, kernel 6.6: with uprobe_multi a path that is a folder is EBADF, without it the call is EINVAL.
/// (The probe that libbpf makes.)
pub(super) fn has_uprobe_multi(program: BorrowedFd<'_>) -> bool {
    let sites = Sites { path: Path::new("/"), offsets: &[0], cookies: &[0], returns: false, pid: 0 };
    attach_multi(program, sites).is_err_and(|error| error.raw_os_error() == Some(libc::EBADF))
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers, for which all zeros are valid and mean "not given".
    unsafe { std::mem::zeroed() }
}

fn call_for_fd(command: bpf_cmd, attr: &bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: attr lives through the call and its pointers are those of live slices and strings of the callers.
    let result: c_long =
        unsafe { libc::syscall(libc::SYS_bpf, command as c_long, std::ptr::from_ref(attr), size_of::<bpf_attr>()) };
    let fd = i32::try_from(result).map_err(|_| io::ErrorKind::InvalidData)?;
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands return a new fd that nobody else has.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// The end of a verifier log, where the complaint is.
fn last_lines(log: &[u8]) -> String {
    let text = String::from_utf8_lossy(log.split(|byte| *byte == 0).next().unwrap_or_default());
    let lines: Vec<&str> = text.lines().filter(|line| !line.is_empty()).collect();
    let tail = lines.iter().rev().take(4).rev();
    tail.fold(String::new(), |text, line| text + "\n" + line)
}
