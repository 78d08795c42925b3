//! A flame graph, SVG: a box for each path, as wide as what it weighs with all below it.
//!
//! Invariant: the picture needs nothing from elsewhere; boxes narrower than a tenth of a pixel are left out, so that its
//! size is bounded by its width and depth.

use std::io::Write;

use super::names::{Texts, printable};
use super::out::Out;
use super::{ExportError, Exported, Weight, folded};
use crate::functions::FunctionIndex;
use crate::select::Selection;
use crate::trace::Trace;
use crate::tree::{CallTree, Graph, MOST_NODES, ROOT};

/// Pixels.
const WIDTH: f64 = 1200.0;
const ROW: f64 = 16.0;
const HEAD: f64 = 40.0;
/// Boxes are not drawn below this width, and have no text below the second.
const NARROWEST: f64 = 0.1;
const TEXT: f64 = 24.0;
/// Width of a letter.
const LETTER: f64 = 7.2;

const SCRIPT: &str = include_str!("flamegraph.js");

pub(super) fn export<W: Write>(
    trace: &Trace,
    selection: &Selection,
    weight: Weight,
    out: W,
) -> Result<Exported, ExportError> {
    if weight == Weight::Total {
        return Err(ExportError::TotalFlamegraph);
    }
    let Graph { tree, outcome } = Graph::new(trace, selection, MOST_NODES);
    let sums = folded::with_below(&tree, weight);
    let boxes = lay_out(&tree, &sums);
    let depth = boxes.iter().map(|cell| cell.depth).max().unwrap_or(0) + 1;
    let mut out = Out::new(out);
    head(&mut out, f64::from(depth), weight);
    let mut names = Texts::new(trace, |about| printable(&about.to_string()));
    for cell in &boxes {
        draw(&mut out, cell, &mut names, depth, (sums.first().copied().unwrap_or(0), weight))?;
    }
    out.text("</svg>\n");
    Ok(Exported { outcome, bytes: out.finish()?, without_path: tree.other().calls, ..Exported::default() })
}

/// A box, in pixels.
struct Cell {
    /// None is the root.
    function: Option<FunctionIndex>,
    depth: u32,
    left: f64,
    width: f64,
    weight: u64,
}

/// From left to right, those with the most time first, as the tree's children are.
fn lay_out(tree: &CallTree, sums: &[u64]) -> Vec<Cell> {
    let weight_of = |place: u32| sums.get(place as usize).copied().unwrap_or(0);
    let scale = WIDTH / weight_of(ROOT).max(1) as f64;
    let children = tree.children();
    let mut cells = Vec::new();
    let mut todo = vec![(ROOT, 0, 0.0)];
    while let Some((place, depth, left)) = todo.pop() {
        let weight = weight_of(place);
        let function = tree.nodes().get(place as usize).filter(|_| place != ROOT).map(|node| node.function);
        cells.push(Cell { function, depth, left, width: weight as f64 * scale, weight });
        let mut at = left;
        for &child in children.of(place) {
            let width = weight_of(child) as f64 * scale;
            if width >= NARROWEST {
                todo.push((child, depth + 1, at));
            }
            at += width;
        }
    }
    cells
}

fn head<W: Write>(out: &mut Out<W>, depth: f64, weight: Weight) {
    let height = HEAD + depth * ROW + 8.0;
    let what = if weight == Weight::Calls { "calls" } else { "time" };
    out.text(&format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\">\n\
         <style>text{{font:12px monospace;pointer-events:none}}rect{{stroke:#fff;stroke-width:.3}}\
         g:hover rect{{stroke:#000;stroke-width:1}}.found rect{{fill:#c3f}}</style>\n\
         <script><![CDATA[\n{SCRIPT}]]></script>\n\
         <text x=\"4\" y=\"18\">{what}: click a box to zoom, Ctrl-F or / to search, Esc to reset</text>\n\
         <text id=\"about\" x=\"4\" y=\"34\"> </text>\n"
    ));
}

fn draw<W: Write>(
    out: &mut Out<W>,
    cell: &Cell,
    names: &mut Texts<'_>,
    depth: u32,
    (all, weight): (u64, Weight),
) -> Result<(), ExportError> {
    let name = cell.function.map_or_else(|| "all".to_owned(), |function| names.get(function).to_owned());
    let top = HEAD + f64::from(depth - 1 - cell.depth) * ROW;
    let share = 100.0 * cell.weight as f64 / all.max(1) as f64;
    let unit = if weight == Weight::Calls { "calls" } else { "ns" };
    let (left, width, escaped) = (cell.left, cell.width, escape(&name));
    out.text(&format!(
        "<g data-x=\"{left:.3}\" data-w=\"{width:.3}\"><title>{escaped}: {} {unit}, {share:.2} %</title>\
         <rect x=\"{left:.3}\" y=\"{top}\" width=\"{width:.3}\" height=\"{ROW}\" fill=\"{}\"/>",
        cell.weight,
        colour(&name)
    ));
    let fits = ((width - 6.0) / LETTER) as usize;
    let shown = if width < TEXT { String::new() } else { shortened(&name, fits) };
    out.text(&format!("<text x=\"{:.3}\" y=\"{}\">{}</text></g>\n", left + 3.0, top + 12.0, escape(&shown)));
    Ok(out.piece()?)
}

/// A warm colour, the same for the same name everywhere.
fn colour(name: &str) -> String {
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    format!("rgb({},{},{})", 205 + hash % 50, 80 + (hash >> 16) % 130, (hash >> 32) % 80)
}

fn shortened(name: &str, letters: usize) -> String {
    if name.chars().count() <= letters {
        return name.to_owned();
    }
    name.chars().take(letters.saturating_sub(1)).chain(['…']).collect()
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
