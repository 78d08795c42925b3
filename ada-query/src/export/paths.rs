//! Paths of functions, numbered in the order in which they are met.
//!
//! Invariant: a path's number is greater than that of the path around it, and there are never more than was asked for;
//! each takes 8 bytes, and up to 10 in the table that finds it.

use hashbrown::HashTable;

use crate::functions::FunctionIndex;

/// A path's place.
pub(super) type PathIndex = u32;

/// A path: the path around it, and its last function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Path {
    pub(super) around: Option<PathIndex>,
    pub(super) function: FunctionIndex,
}

/// Those of one stack.
#[derive(Debug)]
pub(super) struct Paths {
    /// As two numbers: an option would take four more bytes.
    paths: Vec<(PathIndex, FunctionIndex)>,
    places: HashTable<PathIndex>,
    most: usize,
}

/// No path.
const NONE: PathIndex = PathIndex::MAX;

impl Paths {
    /// None yet, and room for `most`.
    pub(super) fn new(most: usize) -> Self {
        Self { paths: Vec::new(), places: HashTable::new(), most: most.min(NONE as usize) }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.paths.len()
    }

    /// All of them, by their numbers.
    pub(super) fn iter(&self) -> impl Iterator<Item = Path> {
        let path = |(around, function): &(PathIndex, FunctionIndex)| Path {
            around: Some(*around).filter(|around| *around != NONE),
            function: *function,
        };
        self.paths.iter().map(path)
    }

    /// The path that leads on from another one to a function; `None` if it is new and there is no room.
    pub(super) fn child(&mut self, around: Option<PathIndex>, function: FunctionIndex) -> Option<PathIndex> {
        let (path, paths) = ((around.unwrap_or(NONE), function), &mut self.paths);
        let found = self.places.find(hash(path), |place| paths.get(*place as usize) == Some(&path));
        if found.is_some() || paths.len() >= self.most {
            return found.copied();
        }
        let place = PathIndex::try_from(paths.len()).ok()?;
        paths.push(path);
        let again = |place: &PathIndex| paths.get(*place as usize).map_or(0, |path| hash(*path));
        self.places.insert_unique(hash(path), place, again);
        Some(place)
    }
}

/// Nobody chooses these numbers against us.
fn hash((around, function): (PathIndex, FunctionIndex)) -> u64 {
    let key = u64::from(around) << 32 | u64::from(function);
    // The product's upper bits are the good ones, and the table takes those at both ends.
    let product = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    product ^ product >> 32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn paths_are_those_of_a_map(walk in prop::collection::vec((0_u32..5, 0_usize..4), 0..300), most in 0_usize..100) {
            let mut paths = Paths::new(most);
            let mut naive: HashMap<(Option<PathIndex>, FunctionIndex), PathIndex> = HashMap::new();
            let mut around = None;
            for (function, up) in walk {
                let next = naive.len();
                let known = naive.get(&(around, function)).copied();
                let want = known.or_else(|| (next < most).then_some(next as PathIndex));
                if let Some(want) = want {
                    naive.insert((around, function), want);
                }
                prop_assert_eq!(paths.child(around, function), want);
                around = want.filter(|_| up > 0);
            }
            prop_assert_eq!(paths.len(), naive.len());
            for (place, path) in paths.iter().enumerate() {
                prop_assert_eq!(naive.get(&(path.around, path.function)), Some(&(place as PathIndex)));
            }
        }
    }
}
