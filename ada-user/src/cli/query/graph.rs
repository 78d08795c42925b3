//! `ada-trace graph SESSION`: the call tree, or what calls a function, or what it calls.
//!
//! ```text
//!     TOTAL       SELF  CALLS  CALL TREE
//! 12.345 ms   1.234 ms      1  main
//!  9.000 ms   9.000 ms  1 000  ├─ work
//!  2.111 ms   2.111 ms      7  └─ ... and 3 more functions
//! ```
//!
//! Invariant: the nodes that are shown are those with the most time, each with all those around it; what is not shown is
//! summed up where it belongs.

use std::borrow::Cow;
use std::collections::BinaryHeap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::process::ExitCode;

use ada_query::tree::{CallTree, Children, Graph, MOST_NODES, NodeIndex, Sums};
use anyhow::Result;
use serde_json::json;

use super::args::GraphArgs;
use super::words::{exact, limit, name};
use super::{Question, notes};
use crate::cli::args::Format;
use crate::cli::names::short_module;
use crate::cli::summary::{count, plural};
use crate::cli::table::Table;

/// Lines for people, unless they ask for more.
const LONGEST: usize = 60;
/// Where the indentation has grown so wide, in characters, the lines below begin at the left again.
const WIDEST_INDENT: usize = 240;

/// Prints what `args` ask for.
pub(crate) fn run(args: &GraphArgs) -> Result<ExitCode> {
    let question = Question::new(args.asked.session.as_deref(), &args.asked.select)?;
    let (text, graph) = answer(&question, args)?;
    io::stdout().write_all(text.as_bytes())?;
    Ok(question.complain(&graph.outcome))
}

/// What is printed, and what it was made from.
pub(super) fn answer(question: &Question, args: &GraphArgs) -> Result<(String, Graph)> {
    let callers = args.callers.as_deref().map(|text| question.functions(text)).transpose()?;
    let callees = args.callees.as_deref().map(|text| question.functions(text)).transpose()?;
    let progress = question.progress();
    let graph = Graph::new(&question.trace, &question.selection, MOST_NODES);
    drop(progress);
    let tree = match (callers, callees) {
        (Some(functions), _) => Cow::Owned(graph.tree.callers(&functions)),
        (None, Some(functions)) => Cow::Owned(graph.tree.callees(&functions)),
        (None, None) => Cow::Borrowed(&graph.tree),
    };
    let view = View { question, graph: &graph, tree: &tree, children: tree.children(), args };
    let text = match args.asked.print.format {
        Format::Text => view.text(),
        Format::Jsonl => view.jsonl(),
    };
    Ok((text, graph))
}

/// What is still to be printed.
enum Line {
    /// A node, what stands before it, and what before its children.
    Node(NodeIndex, String, String),
    /// Children that are not shown, and what stands before them.
    Rest(Vec<NodeIndex>, String),
}

struct View<'a> {
    question: &'a Question,
    graph: &'a Graph,
    tree: &'a CallTree,
    children: Children,
    args: &'a GraphArgs,
}

impl View<'_> {
    fn text(&self) -> String {
        let paint = self.question.paint;
        let accounting = &self.graph.outcome.accounting;
        let mut text = paint.dim(&self.question.head(accounting)) + "\n";
        let mut table = Table::new(&[("TOTAL", true), ("SELF", true), ("CALLS", true), (self.title(), false)]);
        self.rows(&self.shown(limit(self.args.asked.print.limit, LONGEST)), &mut table);
        if !table.is_empty() {
            let table = table.to_string();
            let (head, body) = table.split_once('\n').unwrap_or((&table, ""));
            let _ = write!(text, "\n{}\n{body}", paint.bold(head));
        }
        let other = self.graph.tree.other();
        if other.calls > 0 {
            let paths = count(MOST_NODES as u64);
            let _ = writeln!(
                text,
                "\n{} with {} of their own are in none of the {paths} paths that there is room for: choose fewer with -F or -N",
                plural(other.calls, "call"),
                exact(other.self_ns)
            );
        }
        let notes = notes::text(accounting);
        if !notes.is_empty() {
            let _ = write!(text, "\n{notes}");
        }
        text
    }

    fn title(&self) -> &'static str {
        match (&self.args.callers, &self.args.callees) {
            (Some(_), _) => "FUNCTION, AND BELOW IT WHAT CALLED IT",
            (None, Some(_)) => "FUNCTION, AND BELOW IT WHAT IT CALLED",
            (None, None) => "CALL TREE",
        }
    }

    /// Which nodes are shown: the greatest ones among those whose parents are.
    fn shown(&self, limit: usize) -> Vec<bool> {
        let nodes = self.tree.nodes();
        let mut shown = vec![false; nodes.len()];
        let weight = |place: NodeIndex| {
            let sums = nodes.get(place as usize).map(|node| node.sums).unwrap_or_default();
            (sums.total_ns, sums.calls, std::cmp::Reverse(place), place)
        };
        let below = |place: NodeIndex| self.children.of(place).iter().copied();
        let mut heap: BinaryHeap<_> = below(0).map(weight).collect();
        for _ in 0..limit {
            let Some((.., place)) = heap.pop() else { break };
            if let Some(shown) = shown.get_mut(place as usize) {
                *shown = true;
            }
            heap.extend(below(place).map(weight));
        }
        shown
    }

    /// All rows. A chain of calls is as deep as a stack, so this does not call itself.
    fn rows(&self, shown: &[bool], table: &mut Table) {
        let mut ahead = self.below(0, "", shown);
        while let Some(line) = ahead.pop() {
            match line {
                Line::Node(node, before, after) => {
                    self.row(node, &before, table);
                    ahead.extend(self.below(node, &after, shown));
                }
                Line::Rest(nodes, before) => {
                    let sums = self.sum(&nodes);
                    let what = format!("{before}... and {} more", plural(nodes.len() as u64, "function"));
                    table.row([time(&sums, sums.total_ns), time(&sums, sums.self_ns), count(sums.calls), what]);
                }
            }
        }
    }

    /// The lines right below a node, the first one last.
    fn below(&self, node: NodeIndex, indent: &str, shown: &[bool]) -> Vec<Line> {
        let children = self.children.of(node);
        let is_shown = |place: &NodeIndex| shown.get(*place as usize).is_some_and(|shown| *shown);
        let (some, hidden): (Vec<_>, Vec<_>) = children.iter().copied().partition(is_shown);
        let branch = |last: bool| match (node == 0, last) {
            (true, _) => ("", ""),
            (false, true) => ("└─ ", "   "),
            (false, false) => ("├─ ", "│  "),
        };
        let mut lines = Vec::new();
        let indent = if indent.chars().count() < WIDEST_INDENT { indent } else { "… " };
        let all_shown = hidden.is_empty();
        if !all_shown {
            lines.push(Line::Rest(hidden, format!("{indent}{}", branch(true).0)));
        }
        for (place, child) in some.iter().enumerate().rev() {
            let (here, below) = branch(all_shown && place + 1 == some.len());
            lines.push(Line::Node(*child, format!("{indent}{here}"), format!("{indent}{below}")));
        }
        lines
    }

    fn row(&self, node: NodeIndex, before: &str, table: &mut Table) {
        let Some(node) = self.tree.nodes().get(node as usize) else { return };
        let about = self.question.trace.functions().about(node.function);
        let module = about.module.filter(|_| self.args.asked.print.full).map(short_module);
        let module = module.map_or_else(String::new, |module| format!(" ({module})"));
        let what = format!("{before}{}{module}", name(&about, self.args.asked.print.full));
        let sums = &node.sums;
        table.row([time(sums, sums.total_ns), time(sums, sums.self_ns), count(sums.calls), what]);
    }

    fn sum(&self, nodes: &[NodeIndex]) -> Sums {
        let mut sum = Sums::default();
        for node in nodes.iter().filter_map(|place| self.tree.nodes().get(*place as usize)) {
            sum.merge(&node.sums);
        }
        sum
    }

    fn jsonl(&self) -> String {
        let mut text = String::new();
        let nodes = (0..).zip(self.tree.nodes()).skip(1);
        let used = nodes.filter(|(place, node)| node.sums.calls > 0 || !self.children.of(*place).is_empty());
        for (place, node) in used.take(limit(self.args.asked.print.limit, usize::MAX)) {
            let about = self.question.trace.functions().about(node.function);
            let timed = node.sums.unseen_ends < node.sums.calls;
            let object = json!({
                "kind": "node",
                "id": place,
                "parent": (node.parent != 0).then_some(node.parent),
                "function_id": about.id,
                "function": about.name,
                "demangled": about.demangled,
                "module": about.module,
                "calls": node.sums.calls,
                "total_ns": timed.then_some(node.sums.total_ns),
                "self_ns": timed.then_some(node.sums.self_ns),
                "unseen_ends": node.sums.unseen_ends,
            });
            let _ = writeln!(text, "{object}");
        }
        let other = self.graph.tree.other();
        if other.calls > 0 {
            let object = json!({ "kind": "other", "calls": other.calls, "self_ns": other.self_ns });
            let _ = writeln!(text, "{object}");
        }
        let _ = writeln!(text, "{}", notes::json(&self.graph.outcome.accounting));
        text
    }
}

fn time(sums: &Sums, time: u64) -> String {
    if sums.unseen_ends < sums.calls || sums.calls == 0 { exact(time) } else { "-".to_owned() }
}
