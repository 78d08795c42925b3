//! Near matches for "not found" messages.
//!
//! Invariant: cost is bounded: a million candidates are filtered by cheap tests before any edit distance is taken.

/// How many near matches a message lists.
pub const MAX_NEAR: usize = 5;

/// Edit distances are taken of at most this many candidates.
const MAX_DISTANCES: usize = 100_000;

/// The names nearest to `wanted`, best first, at most [`MAX_NEAR`], without duplicates. Names that contain it, or that
/// it contains, come before names that are merely spelled alike.
#[must_use]
pub fn near<'a>(wanted: &str, candidates: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    near_keys(wanted, candidates.into_iter().map(|name| (name, name)))
}

/// As [`near`], for pairs of what is compared and what is listed for it.
#[must_use]
pub fn near_keys<'a>(wanted: &str, candidates: impl IntoIterator<Item = (&'a str, &'a str)>) -> Vec<String> {
    let wanted = wanted.to_ascii_lowercase();
    let mut scored: Vec<(Score, &str)> = Vec::new();
    let mut distances = 0;
    for (key, name) in candidates {
        let Some(score) = score(&wanted, key, &mut distances) else {
            continue;
        };
        scored.push((score, name));
        if scored.len() > 4096 {
            keep_best(&mut scored);
        }
    }
    keep_best(&mut scored);
    scored.into_iter().map(|(_, name)| name.to_owned()).collect()
}

/// Lower is nearer: substring before spelling, then how far.
type Score = (u8, usize);

fn keep_best(scored: &mut Vec<(Score, &str)>) {
    scored.sort_unstable();
    let mut kept: Vec<(Score, &str)> = Vec::with_capacity(MAX_NEAR);
    for &(score, name) in scored.iter() {
        if kept.len() < MAX_NEAR && !kept.iter().any(|&(_, known)| known == name) {
            kept.push((score, name));
        }
    }
    *scored = kept;
}

fn score(wanted: &str, candidate: &str, distances: &mut usize) -> Option<Score> {
    let (shorter, longer) = (wanted.len().min(candidate.len()), wanted.len().max(candidate.len()));
    if shorter == 0 || longer > 1024 {
        return None;
    }
    let lower = candidate.to_ascii_lowercase();
    if lower.contains(wanted) || (candidate.len() >= 4 && wanted.contains(&lower)) {
        return Some((0, longer - shorter));
    }
    let limit = (wanted.len() / 3).clamp(1, 4);
    if longer - shorter > limit || *distances >= MAX_DISTANCES {
        return None;
    }
    *distances += 1;
    let distance = strsim::osa_distance(wanted, &lower);
    (distance <= limit).then_some((1, distance))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn substrings_come_first_and_near_spellings_after() {
        let names = ["malloc", "mallok", "__libc_malloc", "free", "realloc", "malloc_trim", "mallinfo", "MALLOC2"];
        assert_eq!(near("malloc", names), ["malloc", "MALLOC2", "malloc_trim", "__libc_malloc", "mallok"]);
        assert_eq!(near("mallox", names), ["malloc", "mallok", "MALLOC2"]);
        assert_eq!(near("zzzzz", names), [""; 0]);
        assert_eq!(near("", names), [""; 0]);
    }

    #[test]
    fn no_duplicates() {
        assert_eq!(near("foo", ["foobar", "foobar", "foobar"]), ["foobar"]);
    }
}
