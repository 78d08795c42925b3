//! System calls without a library, for the child at the gate: what it calls may be probed already.

use std::{arch::asm, ffi::c_char, io, os::fd::RawFd};

/// Waits for a byte; false if the other end is gone.
pub(super) fn read_byte(fd: RawFd) -> bool {
    let mut byte = 0u8;
    loop {
        match call(libc::SYS_read, fd.cast_unsigned() as usize, &raw mut byte as usize, 1) {
            1 => return true,
            code if code == -(libc::EINTR as isize) => {}
            _ => return false,
        }
    }
}

/// Tells the parent an errno, or 0.
pub(super) fn write_code(fd: RawFd, code: i32) {
    let bytes = code.to_ne_bytes();
    call(libc::SYS_write, fd.cast_unsigned() as usize, bytes.as_ptr() as usize, bytes.len());
}

/// Executes; returns the errno of a failure.
pub(super) fn execve(path: *const c_char, argv: *const *const c_char, envp: *const *const c_char) -> i32 {
    let code = call(libc::SYS_execve, path as usize, argv as usize, envp as usize);
    i32::try_from(-code).unwrap_or(libc::EIO)
}

/// setgroups(2). Not glibc's: it also signals the other threads, which a fork has lost.
pub(super) fn set_groups(groups: &[u32]) -> io::Result<()> {
    result(call(libc::SYS_setgroups, groups.len(), groups.as_ptr() as usize, 0))
}

/// setresuid(2) or setresgid(2), the same id three times.
pub(super) fn set_ids(number: libc::c_long, id: u32) -> io::Result<()> {
    result(call(number, id as usize, id as usize, id as usize))
}

fn result(code: isize) -> io::Result<()> {
    let errno = i32::try_from(-code).unwrap_or(libc::EIO);
    if errno > 0 { Err(io::Error::from_raw_os_error(errno)) } else { Ok(()) }
}

pub(super) fn exit(status: i32) -> ! {
    loop {
        call(libc::SYS_exit_group, status.cast_unsigned() as usize, 0, 0);
    }
}

#[inline(always)]
fn call(number: libc::c_long, a: usize, b: usize, c: usize) -> isize {
    let result: isize;
    // SAFETY: the callers pass what each call expects; the kernel clobbers nothing else that is not declared.
    #[cfg(target_arch = "x86_64")]
    unsafe {
        asm!("syscall", inlateout("rax") number as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
             lateout("rcx") _, lateout("r11") _, options(nostack));
    }
    // SAFETY: as above.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("svc 0", in("x8") number, inlateout("x0") a as isize => result, in("x1") b, in("x2") c, options(nostack));
    }
    result
}
