//! What happens when a page of a mapped file is read that is not in the file any more.
//!
//! The kernel sends SIGBUS, which would end the process. The handler puts zeros in the place of the file's rest and
//! marks the file as cut, so that reading goes on to where somebody asks. Invariant: a signal that is not about one of our mappings
//! does what it would have done without the handler, and the handler does nothing but atomic loads and stores, mmap(2)
//! and sigaction(2), all of them safe in a handler (signal-safety(7); mmap(2) is a bare system call on Linux).

use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::{c_int, c_void, siginfo_t};

use super::live;

/// <asm-generic/siginfo.h>: there is nothing at this address.
const BUS_ADRERR: c_int = 2;

/// What handled SIGBUS before.
static BEFORE: OnceLock<Option<libc::sigaction>> = OnceLock::new();
static PAGE: AtomicUsize = AtomicUsize::new(0);

/// Installs the handler, once in a process.
pub(super) fn install() {
    BEFORE.get_or_init(current);
    static INSTALLED: OnceLock<()> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        // SAFETY: no memory is involved.
        #[expect(unsafe_code, reason = "libc has no safe sysconf")]
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        // Release: pairs with the handler's load, which may be another thread's.
        PAGE.store(usize::try_from(page).unwrap_or(4096), Ordering::Release);
        let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = on_sigbus;
        // SAFETY: an action of zeros is a valid one; the handler has the signature that SA_SIGINFO asks for, lives for ever
        // and keeps to what may be done in one. If the system refuses, nothing has changed.
        #[expect(unsafe_code, reason = "a signal handler cannot be installed safely")]
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = handler as libc::sighandler_t;
            action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
            libc::sigaction(libc::SIGBUS, &raw const action, std::ptr::null_mut());
        }
    });
}

fn current() -> Option<libc::sigaction> {
    // SAFETY: an action of zeros is a valid one to be written over.
    #[expect(unsafe_code, reason = "libc has no safe sigaction")]
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        (libc::sigaction(libc::SIGBUS, std::ptr::null(), &raw mut action) == 0).then_some(action)
    }
}

extern "C" fn on_sigbus(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    // SAFETY: the kernel passes a valid siginfo_t, whose address is meant if the signal is about a memory access: positive
    // codes are the kernel's own. errno is this thread's and is left as it was found.
    #[expect(unsafe_code, reason = "what a handler is given are pointers")]
    unsafe {
        let errno = *libc::__errno_location();
        let code = (*info).si_code;
        let patched = code == BUS_ADRERR && patch((*info).si_addr().addr());
        if !patched {
            pass_on(signal, info, context);
        }
        *libc::__errno_location() = errno;
    }
}

/// Puts zeros where the file has ended. `false` if no file of ours is there.
fn patch(address: usize) -> bool {
    let Some(slot) = live::find(address) else { return false };
    let page = PAGE.load(Ordering::Acquire).max(1);
    let start = address - address % page;
    // Marked first: who reads a zero finds the mark. From here to its end, not page by page: a mapping may have millions.
    let Some(end) = slot.cut() else { return false };
    let length = end.saturating_sub(start);
    // SAFETY: the range lies in a mapping that a reader owns, for it is being read at this moment; nothing writes to it, and what
    // is mapped instead can be read likewise. munmap(2) of the whole takes it away with the rest.
    #[expect(unsafe_code, reason = "there is no safe way to replace a mapping")]
    let mapped = unsafe {
        libc::mmap(
            std::ptr::with_exposed_provenance_mut(start),
            length,
            libc::PROT_READ,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    mapped != libc::MAP_FAILED
}

/// Does what was done with SIGBUS before.
///
/// # Safety
/// The arguments are those of a handler.
#[expect(unsafe_code, reason = "what a handler is given are pointers")]
unsafe fn pass_on(signal: c_int, info: *mut siginfo_t, context: *mut c_void) {
    let Some(Some(before)) = BEFORE.get() else { return };
    // SAFETY: by the caller; the kernel tells apart what sa_sigaction is by the same flag.
    unsafe {
        let is_sent = (*info).si_code <= 0;
        match before.sa_sigaction {
            libc::SIG_IGN if is_sent => {}
            libc::SIG_IGN | libc::SIG_DFL => {
                // An access is repeated, and ends the process then; what was sent must be sent again.
                libc::sigaction(signal, before, std::ptr::null_mut());
                if is_sent {
                    libc::raise(signal);
                }
            }
            handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
                let handler: extern "C" fn(c_int, *mut siginfo_t, *mut c_void) = std::mem::transmute(handler);
                handler(signal, info, context);
            }
            handler => {
                let handler: extern "C" fn(c_int) = std::mem::transmute(handler);
                handler(signal);
            }
        }
    }
}
