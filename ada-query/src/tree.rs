//! The call tree: calls by the path of functions that led to them; and what calls a function, and what it calls.
//!
//! ```text
//! (root) ── main ─┬─ parse ── malloc        a node is a path; malloc below parse and malloc below run are two
//!                 └─ run ──── malloc
//! ```
//!
//! Invariant: a node's number is greater than its parent's; and calls that find no room for their path are counted in
//! [`CallTree::other`].

mod children;

use std::collections::HashSet;

use hashbrown::HashTable;

pub use self::children::Children;
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
/// Matches no function: there is none of that number.
const NO_CHILD: (FunctionIndex, NodeIndex) = (FunctionIndex::MAX, OTHER);

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
    /// The children that were looked for last, the last one first, and their functions: most calls are of one of them.
    latest: [(FunctionIndex, NodeIndex); 3],
}

impl Node {
    fn new(parent: NodeIndex, function: FunctionIndex) -> Self {
        Self { function, parent, sums: Sums::default(), latest: [NO_CHILD; 3] }
    }

    fn is(&self, parent: NodeIndex, function: FunctionIndex) -> bool {
        self.parent == parent && self.function == function
    }
}

/// Calls by path.
#[derive(Clone, Debug)]
pub struct CallTree {
    nodes: Vec<Node>,
    /// All nodes but the root, by parent and function.
    places: HashTable<NodeIndex>,
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
        for mut other in trees {
            // Memory that the other one needs.
            other.places = HashTable::new();
            tree.merge(&other);
        }
        tree.places = HashTable::new();
        Self { tree, outcome }
    }
}

impl CallTree {
    /// A tree without calls and with room for `most` paths.
    #[must_use]
    pub fn new(most: usize) -> Self {
        let root = Node::new(ROOT, FunctionIndex::MAX);
        Self { nodes: vec![root], places: HashTable::new(), most: most.max(1), other: Sums::default() }
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
    pub fn children(&self) -> Children {
        Children::new(&self.nodes)
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
        let room = self.most.saturating_sub(self.nodes.len()).min(other.nodes.len());
        self.places.reserve(room, again(&self.nodes));
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
        match node.latest.iter().find(|(latest, _)| *latest == function) {
            Some((_, child)) => *child,
            None => self.look_up(parent, function),
        }
    }

    fn look_up(&mut self, parent: NodeIndex, function: FunctionIndex) -> NodeIndex {
        let nodes = &self.nodes;
        let is_it = |child: &NodeIndex| nodes.get(*child as usize).is_some_and(|node| node.is(parent, function));
        let child = match self.places.find(hash(parent, function), is_it) {
            Some(child) => *child,
            None if self.nodes.len() > self.most => return OTHER,
            None => self.make(parent, function),
        };
        if let Some(node) = self.nodes.get_mut(parent as usize) {
            let [last, other, _] = node.latest;
            node.latest = [(function, child), last, other];
        }
        child
    }

    fn make(&mut self, parent: NodeIndex, function: FunctionIndex) -> NodeIndex {
        let child = u32::try_from(self.nodes.len()).unwrap_or(OTHER);
        self.nodes.push(Node::new(parent, function));
        self.places.insert_unique(hash(parent, function), child, again(&self.nodes));
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
fn hash(parent: NodeIndex, function: FunctionIndex) -> u64 {
    let key = u64::from(parent) << 32 | u64::from(function);
    key.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(26)
}

/// The hashes of nodes' paths.
fn again(nodes: &[Node]) -> impl Fn(&NodeIndex) -> u64 {
    |child| nodes.get(*child as usize).map_or(0, |node| hash(node.parent, node.function))
}
