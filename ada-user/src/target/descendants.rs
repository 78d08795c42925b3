//! The processes that processes have made, as /proc has them at the moment.
//!
//! Invariant: one whose parent has ended belongs to init and is not found; nor is the process itself.

use std::collections::HashMap;
use std::fs;

use super::process::folder;

/// The children of `pids`, their children, and so on, that are alive and not among `pids`: parents first.
#[must_use]
pub fn descendants(pids: &[u32]) -> Vec<u32> {
    among(&children(), pids)
}

/// Whether a process is no more, or a zombie.
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

/// The fourth field of /proc/PID/stat, unless the third says that it is a zombie; the second is the command in parentheses,
/// which may hold anything.
fn parent(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
    let alive = fields.next()? != "Z";
    fields.next().filter(|_| alive)?.parse().ok()
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
        assert_eq!(parent("7 (a) Z 3 (b) S 42 7 7"), Some(42));
        assert_eq!(parent("7 (a) Z 42 7 7"), None);
        assert_eq!(parent(""), None);
    }
}
