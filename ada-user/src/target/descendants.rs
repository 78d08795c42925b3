//! The processes that processes have made, as /proc has them at the moment.
//!
//! Invariant: one whose parent has ended belongs to init and is not found; nor is the process itself.

use std::collections::HashMap;
use std::fs;

use super::process::folder;

/// `PF_EXITING` (include/linux/sched.h): set before the kernel tells that a thread ends.
const EXITING: u64 = 4;

/// The children of `pids`, their children, and so on, that are alive and not among `pids`: parents first.
#[must_use]
pub fn descendants(pids: &[u32]) -> Vec<u32> {
    among(&children(), pids)
}

/// Whether a process is no more, or its last thread is about to end.
#[must_use]
pub fn has_ended(pid: u32) -> bool {
    let stat = fs::read(folder(pid).join("stat")).unwrap_or_default();
    parent(&String::from_utf8_lossy(&stat)).is_none()
}

fn among(children: &HashMap<u32, Vec<u32>>, pids: &[u32]) -> Vec<u32> {
    let mut family = pids.to_vec();
    let mut next = 0;
    while let Some(parent) = family.get(next) {
        let new = children.get(parent).into_iter().flatten().filter(|child| !family.contains(child));
        let new: Vec<u32> = new.copied().collect();
        family.extend(new);
        next += 1;
    }
    family.split_off(pids.len())
}

/// Processes by their parent. One that ends meanwhile is left out.
fn children() -> HashMap<u32, Vec<u32>> {
    let mut children = HashMap::<u32, Vec<u32>>::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        let stat = fs::read(entry.path().join("stat")).unwrap_or_default();
        if let Some(parent) = parent(&String::from_utf8_lossy(&stat)) {
            children.entry(parent).or_default().push(pid);
        }
    }
    children
}

/// The fourth field of /proc/PID/stat, unless the process has ended; the second is the command in parentheses, which may hold
/// anything. The first thread may have ended, and look like a zombie, while others run.
fn parent(stat: &str) -> Option<u32> {
    let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
    // They are counted from 1, and these begin with the third.
    let field = |number: usize| fields.get(number - 3).copied();
    let flags: u64 = field(9)?.parse().ok()?;
    let threads: u64 = field(20)?.parse().ok()?;
    let ended = threads <= 1 && (flags & EXITING != 0 || field(3) == Some("Z"));
    field(4).filter(|_| !ended)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parents_come_first_and_nobody_twice() {
        let children = HashMap::from([(1, vec![10, 20]), (10, vec![11]), (11, vec![12, 13]), (20, vec![21])]);
        assert_eq!(among(&children, &[10]), [11, 12, 13]);
        assert_eq!(among(&children, &[10, 11]), [12, 13]);
        assert_eq!(among(&children, &[1]), [10, 20, 11, 21, 12, 13]);
        assert_eq!(among(&children, &[13]), [0; 0]);
    }

    #[test]
    fn commands_may_look_like_fields() {
        let stat = |state: &str, flags: u64, threads: u32| {
            format!("7 (a) Z 3 (b) {state} 42 7 7 0 -1 {flags} 1 2 3 4 5 6 7 8 20 0 {threads} 0 99 1000 2000")
        };
        assert_eq!(parent(&stat("S", 0x40_0000, 1)), Some(42));
        assert_eq!(parent(&stat("Z", 0x40_0004, 1)), None);
        assert_eq!(parent(&stat("R", 0x40_0004, 1)), None, "about to end");
        assert_eq!(parent(&stat("Z", 0x40_0004, 3)), Some(42), "its first thread alone has ended");
        assert_eq!(parent(""), None);
    }
}
