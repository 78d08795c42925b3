//! File systems that other tracers need and this one does not.
//!
//! Invariant: pure text of /proc/self/mounts.

use super::Finding;

/// tracefs.
pub(super) fn tracefs(mounts: &str) -> Finding {
    about("tracefs", mounts)
}

/// bpffs.
pub(super) fn bpffs(mounts: &str) -> Finding {
    let finding = about("bpf", mounts);
    Finding { check: "bpffs", found: finding.found.replacen("bpf ", "bpffs ", 1), ..finding }
}

fn about(kind: &'static str, mounts: &str) -> Finding {
    let place = mounts.lines().find_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?;
        (words.next()? == kind).then_some(place)
    });
    let found = match place {
        Some(place) => format!("{kind} is mounted at {place}; ada-trace does not need it"),
        None => format!("{kind} is not mounted; ada-trace does not need it"),
    };
    Finding::ok(kind, found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_are_found_by_their_kind() {
        let mounts = "tracefs /mnt tmpfs rw 0 0\nnone /sys/kernel/tracing tracefs rw 0 0\n";
        assert_eq!(tracefs(mounts).found, "tracefs is mounted at /sys/kernel/tracing; ada-trace does not need it");
        assert_eq!(bpffs(mounts).found, "bpffs is not mounted; ada-trace does not need it");
        assert_eq!(
            bpffs("bpf /sys/fs/bpf bpf rw 0 0").found,
            "bpffs is mounted at /sys/fs/bpf; ada-trace does not need it"
        );
        assert_eq!(tracefs("garbage").check, "tracefs");
    }
}
