//! The threads that a dump prints.
//!
//! Invariant: a thread that was asked for is printed, or named as broken, or the request is refused.

use std::collections::BTreeMap;

use ada_format::read::{SessionReader, ThreadReader};
use anyhow::{Result, bail};

use crate::cli::names::{IdMap, Who};
use crate::cli::open::{broken, cut};

/// Ordinals that an error lists.
const LISTED: usize = 20;

/// The threads to be printed.
#[derive(Debug)]
pub(super) struct Selection<'a> {
    pub(super) threads: Vec<(&'a ThreadReader, Who)>,
    /// What cannot be read of the threads that were asked for.
    pub(super) broken: Vec<String>,
    places: IdMap<usize>,
    /// The ordinals that were asked for; none means all.
    ids: Vec<u32>,
}

impl<'a> Selection<'a> {
    /// The threads with the ordinals `ids`, or all of them if there are none.
    pub(super) fn new(session: &'a SessionReader, ids: &[u32]) -> Result<Self> {
        let known: Vec<u32> = ids_of(session);
        if let Some(unknown) = ids.iter().find(|id| !known.contains(id)) {
            bail!("{} has no thread {unknown}: {}", session.dir().display(), those(&known));
        }
        let wanted = |id: u32| ids.is_empty() || ids.contains(&id);
        let threads = session.threads().iter().filter(|thread| wanted(thread.id()));
        let threads: Vec<_> = threads.map(|thread| (thread, Who::of(thread, session.manifest()))).collect();
        let unreadable = broken(session).filter(|thread| wanted(thread.id)).map(|thread| thread.error.to_string());
        let unreadable =
            unreadable.chain(threads.iter().filter_map(|(thread, _)| Some(thread.detail_error()?.to_string())));
        let cut = cut(session).into_iter().filter(|(id, _)| wanted(*id)).map(|(_, text)| text);
        let broken = unreadable.chain(cut).collect();
        let places = threads.iter().enumerate().map(|(place, (thread, _))| (thread.id().into(), place)).collect();
        Ok(Self { threads, broken, places, ids: ids.to_vec() })
    }

    /// The place in `threads` of the thread with the ordinal `id`.
    #[inline]
    pub(super) fn place(&self, id: u32) -> Option<usize> {
        self.places.get(&u64::from(id)).copied()
    }

    /// Whether the thread with the ordinal `id` is asked for.
    pub(super) fn wants(&self, id: u32) -> bool {
        self.ids.is_empty() || self.ids.contains(&id)
    }

    /// Compares every file with its checksum, except where `damage` is known already, and adds what does not agree.
    pub(super) fn verify(&self, damage: &mut BTreeMap<usize, String>) {
        for (place, (thread, _)) in self.threads.iter().enumerate() {
            if !damage.contains_key(&place)
                && let Err(error) = thread.verify()
            {
                damage.insert(place, error.to_string());
            }
        }
    }
}

fn ids_of(session: &SessionReader) -> Vec<u32> {
    let broken = session.broken().iter().map(|thread| thread.id);
    let mut ids: Vec<u32> = session.threads().iter().map(ThreadReader::id).chain(broken).collect();
    ids.sort_unstable();
    ids
}

fn those(ids: &[u32]) -> String {
    let listed: Vec<String> = ids.iter().take(LISTED).map(u32::to_string).collect();
    match ids.len() {
        0 => "it has none at all".to_owned(),
        1 => format!("it has only {}", listed.join("")),
        many if many > LISTED => format!("it has {} and {} more", listed.join(", "), many - LISTED),
        _ => format!("it has {}", listed.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinals_are_listed_as_far_as_one_reads() {
        assert_eq!(those(&[]), "it has none at all");
        assert_eq!(those(&[3]), "it has only 3");
        assert_eq!(those(&[0, 1]), "it has 0, 1");
        let many: Vec<u32> = (0..22).collect();
        assert!(those(&many).ends_with("18, 19 and 2 more"));
    }
}
