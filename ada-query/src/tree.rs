//! The call tree: calls by the path of functions that led to them; and what calls a function, and what it calls.
//!
//! ```text
//! (root) ── main ─┬─ parse ── malloc        a node is a path; malloc below parse and malloc below run are two
//!                 └─ run ──── malloc
//! ```
//!
//! Invariant: a node's number is greater than its parent's; and calls that find no room for their path are counted in
//! [`CallTree::other`].

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use crate::functions::FunctionIndex;
use crate::run::{Outcome, run_parallel};
use crate::select::Selection;
use crate::span::{Call, End, Span, Visitor};
use crate::trace::Trace;

/// The most nodes that a tree has unless another number is asked for.
pub const MOST_NODES: usize = 1_000_000;

/// A node's place in [`CallTree::nodes`].
pub type NodeIndex = u32;

pub(crate) const ROOT: NodeIndex = 0;
/// Stands for paths without room.
pub(crate) const OTHER: NodeIndex = NodeIndex::MAX;

/// What is known of the calls by one path. Times are in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sums {
    /// Calls.
    pub calls: u64,
    /// Their time.
    pub total_ns: u64,
    /// Their time without that of selected calls below them.
    pub self_ns: u64,
    /// Calls of which only is known that they ended, and after which time at the earliest.
    pub unseen_ends: u64,
}

impl Sums {
    /// Adds another's numbers.
    pub fn merge(&mut self, other: &Self) {
        self.calls += other.calls;
        self.total_ns = self.total_ns.saturating_add(other.total_ns);
        self.self_ns = self.self_ns.saturating_add(other.self_ns);
        self.unseen_ends += other.unseen_ends;
    }
}

/// A path.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// Its last function; of no meaning for the root.
    pub function: FunctionIndex,
    /// The path without the last function; the root is its own.
    pub parent: NodeIndex,
    /// Its calls.
    pub sums: Sums,
    /// The child that was looked for last.
    latest: NodeIndex,
}

/// Calls by path.
#[derive(Clone, Debug)]
pub struct CallTree {
    nodes: Vec<Node>,
    places: HashMap<u64, NodeIndex, BuildHasherDefault<PathHasher>>,
    most: usize,
    other: Sums,
}

/// A tree, and what came of reading.
#[derive(Debug)]
pub struct Graph {
    /// The tree.
    pub tree: CallTree,
    /// What became of every event, and what could not be read.
    pub outcome: Outcome,
}

impl Graph {
    /// Reads the selected part of a session, several threads at a time. The tree gets at most `most` nodes.
    #[must_use]
    pub fn new(trace: &Trace, selection: &Selection, most: usize) -> Self {
        let workers = std::thread::available_parallelism().map_or(1, usize::from).min(trace.threads().len().max(1));
        let (trees, outcome) = run_parallel(trace, selection, || Builder(CallTree::new(most / workers)));
        let mut trees = trees.into_iter().map(|builder| builder.0);
        let mut tree = trees.next().unwrap_or_else(|| CallTree::new(most));
        tree.most = most;
        trees.for_each(|other| tree.merge(&other));
        tree.places = HashMap::default();
        Self { tree, outcome }
    }
}

impl CallTree {
    /// A tree without calls and with room for `most` paths.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let root = Node { function: FunctionIndex::MAX, parent: ROOT, sums: Sums::default(), latest: ROOT };
        Self { nodes: vec![root], places: HashMap::default(), most: most.max(1), other: Sums::default() }
    }

    /// All nodes; the first is the root, and parents come before their children. Some may have no calls.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// Calls for whose path there was no room.
    #[must_use]
    pub fn other(&self) -> &Sums {
        &self.other
    }

    /// The children of every node that have calls or lead to some, those with the most time first.
    #[must_use]
    pub fn children(&self) -> Vec<Vec<NodeIndex>> {
        let mut children = vec![Vec::new(); self.nodes.len()];
        let mut leads = vec![false; self.nodes.len()];
        for (place, node) in self.nodes.iter().enumerate().skip(1).rev() {
            let used = node.sums.calls > 0 || leads.get(place).is_some_and(|leads| *leads);
            let parent = node.parent as usize;
            if let (true, Some(leads), Some(children)) = (used, leads.get_mut(parent), children.get_mut(parent)) {
                *leads = true;
                children.push(u32::try_from(place).unwrap_or(OTHER));
            }
        }
        let key = |place: &NodeIndex| {
            self.nodes
                .get(*place as usize)
                .map_or((0, 0, 0), |node| (node.sums.total_ns, node.sums.calls, !node.function))
        };
        children.iter_mut().for_each(|children| children.sort_by_key(|place| std::cmp::Reverse(key(place))));
        children
    }

    /// What these functions call: their subtrees, put together. Recursion stays within.
    #[must_use]
    pub fn callees(&self, functions: &HashSet<FunctionIndex>) -> Self {
        let mut result = Self::new(self.most);
        // Where a node of this tree is in the other one.
        let mut places: Vec<Option<NodeIndex>> = vec![None; self.nodes.len()];
        for (place, node) in self.nodes.iter().enumerate().skip(1) {
            let above = places.get(node.parent as usize).copied().flatten();
            let is_one = functions.contains(&node.function);
            let Some(parent) = above.or(is_one.then_some(ROOT)) else { continue };
            let there = result.child(parent, node.function);
            result.sums(there).merge(&node.sums);
            if let Some(slot) = places.get_mut(place) {
                *slot = Some(there);
            }
        }
        result
    }

    /// What calls these functions: below each of them its callers, below those theirs. All numbers are those of the
    /// calls of the functions asked for; the time is that of outermost ones.
    #[must_use]
    pub fn callers(&self, functions: &HashSet<FunctionIndex>) -> Self {
        let mut result = Self::new(self.most);
        for node in self.nodes.iter().skip(1).filter(|node| functions.contains(&node.function) && node.sums.calls > 0) {
            let recursive = self.above(node).any(|above| functions.contains(&above.function));
            let total_ns = if recursive { 0 } else { node.sums.total_ns };
            let sums = Sums { total_ns, ..node.sums };
            let mut there = result.child(ROOT, node.function);
            result.sums(there).merge(&sums);
            for above in self.above(node) {
                there = result.child(there, above.function);
                result.sums(there).merge(&sums);
            }
        }
        result
    }

    /// The nodes around a node, without the root.
    pub fn above<'a>(&'a self, node: &'a Node) -> impl Iterator<Item = &'a Node> {
        let parent = |node: &&Node| self.nodes.get(node.parent as usize).filter(|_| node.parent != ROOT);
        std::iter::successors(parent(&node), parent)
    }

    fn merge(&mut self, other: &Self) {
        let mut places = Vec::with_capacity(other.nodes.len());
        places.push(ROOT);
        for node in other.nodes.iter().skip(1) {
            let parent = places.get(node.parent as usize).copied().unwrap_or(ROOT);
            let there = self.child(parent, node.function);
            self.sums(there).merge(&node.sums);
            places.push(there);
        }
        self.other.merge(&other.other);
    }

    /// The child of a node for a function, made if there is room.
    #[inline]
    pub(crate) fn child(&mut self, parent: NodeIndex, function: FunctionIndex) -> NodeIndex {
        let Some(node) = self.nodes.get(parent as usize) else { return OTHER };
        let latest = node.latest;
        match self.nodes.get(latest as usize) {
            Some(node) if latest != ROOT && node.function == function => latest,
            _ => self.look_up(parent, function),
        }
    }

    fn look_up(&mut self, parent: NodeIndex, function: FunctionIndex) -> NodeIndex {
        let key = u64::from(parent) << 32 | u64::from(function);
        let child = match self.places.get(&key) {
            Some(child) => *child,
            None if self.nodes.len() > self.most => return OTHER,
            None => {
                let child = u32::try_from(self.nodes.len()).unwrap_or(OTHER);
                self.nodes.push(Node { function, parent, sums: Sums::default(), latest: ROOT });
                self.places.insert(key, child);
                child
            }
        };
        if let Some(node) = self.nodes.get_mut(parent as usize) {
            node.latest = child;
        }
        child
    }

    #[inline]
    fn sums(&mut self, node: NodeIndex) -> &mut Sums {
        match self.nodes.get_mut(node as usize) {
            Some(node) => &mut node.sums,
            None => &mut self.other,
        }
    }
}

/// Fills a tree.
struct Builder(CallTree);

impl Visitor for Builder {
    type Mark = NodeIndex;

    #[inline]
    fn enter(&mut self, call: &Call, parent: Option<NodeIndex>) -> NodeIndex {
        self.0.child(parent.unwrap_or(ROOT), call.function)
    }

    #[inline]
    fn exit(&mut self, span: &Span, node: NodeIndex) {
        let sums = self.0.sums(node);
        sums.calls += 1;
        sums.total_ns = sums.total_ns.saturating_add(span.duration_ns());
        sums.self_ns = sums.self_ns.saturating_add(span.self_ns());
        sums.unseen_ends += u64::from(matches!(span.end, End::Missed | End::Lost));
    }
}

/// Spreads a path's key by one multiplication.
#[derive(Debug, Default)]
struct PathHasher(u64);

impl Hasher for PathHasher {
    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }

    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.write_u64((*byte).into()));
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = (self.0 ^ key).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}
