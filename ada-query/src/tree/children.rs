//! The children of each node of a call tree.
//!
//! ```text
//! begins   0 │ 2 │ 3 │ …      of each node's children in the list
//! list     b c │ d │ …
//! ```
//!
//! Invariant: a node that has no calls and leads to none is nobody's child.

use std::cmp::Reverse;

use super::{Node, NodeIndex, OTHER};

/// Children of nodes, those with the most time first.
#[derive(Clone, Debug)]
pub struct Children {
    /// One more than there are nodes.
    begins: Vec<u32>,
    list: Vec<NodeIndex>,
}

impl Children {
    /// Of all these; parents come before their children.
    pub(super) fn new(nodes: &[Node]) -> Self {
        let used = used(nodes);
        let children = || (0..).zip(nodes).zip(&used).skip(1).filter(|(_, used)| **used).map(|(child, _)| child);
        let mut begins = vec![0; nodes.len() + 1];
        for (_, node) in children() {
            if let Some(count) = begins.get_mut(node.parent as usize) {
                *count += 1;
            }
        }
        let mut end = 0;
        for begin in &mut begins {
            end += *begin;
            *begin = end;
        }
        let mut list = vec![OTHER; end as usize];
        for (child, node) in children() {
            // So far it is where the parent's children end that have no place yet.
            let Some(begin) = begins.get_mut(node.parent as usize) else { continue };
            *begin -= 1;
            if let Some(place) = list.get_mut(*begin as usize) {
                *place = child;
            }
        }
        let mut children = Self { begins, list };
        children.sort(nodes);
        children
    }

    /// A node's children.
    #[must_use]
    pub fn of(&self, node: NodeIndex) -> &[NodeIndex] {
        let begin = self.begins.get(node as usize).zip(self.begins.get(node as usize + 1));
        begin.and_then(|(begin, end)| self.list.get(*begin as usize..*end as usize)).unwrap_or_default()
    }

    fn sort(&mut self, nodes: &[Node]) {
        let key = |place: &NodeIndex| {
            let node = nodes.get(*place as usize);
            Reverse(node.map(|node| (node.sums.total_ns, node.sums.calls, Reverse(node.function))))
        };
        let mut rest = self.list.as_mut_slice();
        for count in self.begins.iter().zip(self.begins.iter().skip(1)).map(|(begin, end)| end - begin) {
            let Some((children, after)) = rest.split_at_mut_checked(count as usize) else { break };
            children.sort_unstable_by_key(key);
            rest = after;
        }
    }
}

/// Which nodes have calls or lead to some.
fn used(nodes: &[Node]) -> Vec<bool> {
    let mut used: Vec<bool> = nodes.iter().map(|node| node.sums.calls > 0).collect();
    for (place, node) in nodes.iter().enumerate().rev() {
        if used.get(place).is_some_and(|used| *used)
            && let Some(parent) = used.get_mut(node.parent as usize)
        {
            *parent = true;
        }
    }
    used
}
