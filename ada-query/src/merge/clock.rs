//! What has to be added to a session's times to make them those of another's clock.
//!
//! ```text
//! wall clock = boot clock + base;  base: one for each anchor, the mean of the first and the last is taken
//! offset     = base of this session − base of the first
//! ```
//!
//! Invariant: within a session all times are moved by the same amount, so that no duration changes.

use ada_format::manifest::{Anchor, Manifest};

/// Sessions of one machine whose clocks differ by less have the same boot clock, in nanoseconds: what differs is how the
/// wall clock was set meanwhile. No machine starts twice within this time.
const SAME_BOOT_NS: u64 = 50_000_000;

/// What is added, and how well that is known; both in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Offset {
    pub(super) ns: i64,
    pub(super) uncertainty_ns: u64,
}

/// That of `of` to the clock of `to`; none if one of them has no anchor.
pub(super) fn offset(of: &Manifest, to: &Manifest) -> Option<Offset> {
    let ((base, spread), (first_base, first_spread)) = (base(&of.clock.anchors)?, base(&to.clock.anchors)?);
    let ns = i64::try_from(base - first_base).ok()?;
    let same_host = of.host.hostname == to.host.hostname && of.host.kernel == to.host.kernel;
    if same_host && ns.unsigned_abs() < SAME_BOOT_NS {
        return Some(Offset::default());
    }
    Some(Offset { ns, uncertainty_ns: spread.saturating_add(first_spread) })
}

/// What the wall clock is ahead of the boot clock, and by how much the anchors disagree about that.
fn base(anchors: &[Anchor]) -> Option<(i128, u64)> {
    let of = |anchor: &Anchor| i128::from(anchor.realtime_ns) - i128::from(anchor.boottime_ns);
    let (first, last) = (of(anchors.first()?), of(anchors.last()?));
    let all = || anchors.iter().map(of);
    let spread = all().max()? - all().min()?;
    Some(((first + last).div_euclid(2), u64::try_from(spread).unwrap_or(u64::MAX)))
}

/// A time of a session on the common clock; none if that had not begun by then.
pub(super) fn moved(time_ns: u64, offset: Offset) -> Option<u64> {
    time_ns.checked_add_signed(offset.ns)
}

#[cfg(test)]
mod tests {
    use ada_format::manifest::{Clock, Host};

    use super::*;

    fn manifest(host: &str, anchors: &[(u64, u64)]) -> Manifest {
        let anchors = anchors.iter().map(|&(boottime_ns, realtime_ns)| Anchor { boottime_ns, realtime_ns });
        Manifest {
            host: Host { hostname: host.to_owned(), ..Host::default() },
            clock: Clock { anchors: anchors.collect(), ..Clock::default() },
            ..Manifest::default()
        }
    }

    #[test]
    fn hosts_are_told_apart_by_their_wall_clocks() {
        let first = manifest("a", &[(100, 1_000_000_000_100), (200, 1_000_000_000_220)]);
        let later = manifest("b", &[(40, 1_500_000_000_040)]);
        assert_eq!(offset(&later, &first), Some(Offset { ns: 499_999_999_990, uncertainty_ns: 20 }));
        assert_eq!(moved(40, offset(&later, &first).unwrap()), Some(500_000_000_030));
        assert_eq!(moved(40, offset(&first, &later).unwrap()), None);
    }

    #[test]
    fn one_boot_has_one_clock() {
        let first = manifest("a", &[(100, 1_000_000_000_100)]);
        let set_meanwhile = manifest("a", &[(300, 1_000_000_000_300 + SAME_BOOT_NS - 1)]);
        assert_eq!(offset(&set_meanwhile, &first), Some(Offset::default()));
        let next_boot = manifest("a", &[(300, 1_000_000_000_300 + SAME_BOOT_NS)]);
        assert_eq!(offset(&next_boot, &first).unwrap().ns.unsigned_abs(), SAME_BOOT_NS);
        assert_eq!(offset(&manifest("a", &[]), &first), None);
    }
}
