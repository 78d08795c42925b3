//! Stacks with a weight, `main;parse;malloc 42`, a line each: what flame graph tools read.
//!
//! Invariant: a line for every path that weighs something; a name never holds what separates names.

use std::io::Write;

use super::names::{Texts, printable};
use super::out::Out;
use super::{ExportError, Exported, Weight};
use crate::select::Selection;
use crate::trace::Trace;
use crate::tree::{CallTree, Graph, MOST_NODES, ROOT, Sums};

/// Stands for paths that the tree had no room for.
const OTHER: &str = "[more paths than are kept]";

pub(super) fn export<W: Write>(
    trace: &Trace,
    selection: &Selection,
    weight: Weight,
    out: W,
) -> Result<Exported, ExportError> {
    let Graph { tree, outcome } = Graph::new(trace, selection, MOST_NODES);
    let mut out = Out::new(out);
    let mut names = Texts::new(trace, |about| printable(&about.to_string()).replace(';', ":"));
    for node in tree.nodes().iter().skip(1) {
        let weight = weigh(&node.sums, weight);
        if weight == 0 {
            continue;
        }
        let mut path: Vec<u32> = tree.above(node).map(|above| above.function).collect();
        path.reverse();
        for function in path {
            out.text(names.get(function));
            out.text(";");
        }
        out.text(names.get(node.function));
        line_end(&mut out, weight)?;
    }
    let other = weigh(tree.other(), weight);
    if other > 0 {
        out.text(OTHER);
        line_end(&mut out, other)?;
    }
    Ok(Exported { outcome, bytes: out.finish()?, without_path: tree.other().calls, ..Exported::default() })
}

/// What a path weighs.
pub(super) fn weigh(sums: &Sums, weight: Weight) -> u64 {
    match weight {
        Weight::Calls => sums.calls,
        Weight::SelfTime => sums.self_ns,
        Weight::Total => sums.total_ns,
    }
}

/// What each path weighs with all that is below it, by its number.
pub(super) fn with_below(tree: &CallTree, weight: Weight) -> Vec<u64> {
    let mut sums: Vec<u64> = tree.nodes().iter().map(|node| weigh(&node.sums, weight)).collect();
    // Children come after their parents.
    for (place, node) in tree.nodes().iter().enumerate().skip(1).rev() {
        let own = sums.get(place).copied().unwrap_or(0);
        if let Some(parent) = sums.get_mut(node.parent as usize) {
            *parent = parent.saturating_add(own);
        }
    }
    if let Some(root) = sums.get_mut(ROOT as usize) {
        *root = root.saturating_add(weigh(tree.other(), weight));
    }
    sums
}

fn line_end<W: Write>(out: &mut Out<W>, weight: u64) -> Result<(), ExportError> {
    out.text(" ");
    out.number(weight);
    out.text("\n");
    Ok(out.piece()?)
}
