//! Call trees as text: what the events of a thread mean, in a form that people can check and files can keep.
//!
//! ```text
//! outer {
//!   leaf;                   a call and its return
//!   2x middle { leaf; }     … twice, one after the other, the same
//!   jumper (left) {         a call that longjmp or an exception left
//!     leaf (no return);     a call of whose end nothing is known
//!   }
//! }
//! ```

use std::collections::HashMap;
use std::fmt::Write;

use crate::session::{Event, Kind};

/// A call and what was called within it.
#[derive(Debug, Default)]
struct Node {
    name: String,
    end: Option<Kind>,
    within: Vec<Node>,
}

/// Checks that the events of one thread, in order, are a tree.
///
/// # Panics
/// If a depth jumps, a return comes without its call, or the thread has several stacks.
pub fn check(events: &[Event]) {
    let mut stack = Vec::new();
    for event in events {
        let depth = event.depth as usize;
        match event.kind {
            Kind::Call => {
                assert!(depth <= stack.len(), "a call at depth {depth} within {} calls: {event:?}", stack.len());
                stack.truncate(depth);
                stack.push(event.function);
            }
            Kind::Return => {
                assert!(depth < stack.len(), "a return at depth {depth} of {} calls: {event:?}", stack.len());
                assert_eq!(stack[depth], event.function, "another function returns than was called: {event:?}");
                stack.truncate(depth);
            }
            Kind::Exception if depth < stack.len() => {
                assert_eq!(stack[depth], event.function, "another function is left than was called: {event:?}");
                stack.truncate(depth);
            }
            Kind::Switch => panic!("calls of several stacks are no tree: {event:?}"),
            // A signal, within the innermost call.
            Kind::Exception => assert_eq!(depth, stack.len(), "a signal at another depth: {event:?}"),
        }
    }
}

/// Checks that each return has a call of the same function and depth before it, all that holds where a thread has
/// several stacks.
///
/// # Panics
/// If a return has none.
pub fn check_pairs(events: &[Event]) {
    let mut open = HashMap::new();
    for event in events {
        let calls = open.entry((event.function, event.depth)).or_insert(0_u64);
        match event.kind {
            Kind::Call => *calls += 1,
            Kind::Return => *calls = calls.checked_sub(1).unwrap_or_else(|| panic!("no call for {event:?}")),
            Kind::Exception | Kind::Switch => {}
        }
    }
}

/// Draws the events of one thread, in order. `name` gives a function's name. For trees that are not deep.
///
/// # Panics
/// If the events are no tree.
#[must_use]
pub fn draw(events: &[Event], name: impl Fn(u64) -> String) -> String {
    check(events);
    let mut stack = vec![Node::default()];
    for event in events {
        let depth = event.depth as usize;
        match event.kind {
            Kind::Call => {
                close(&mut stack, depth);
                stack.push(Node { name: name(event.function), ..Node::default() });
            }
            Kind::Return => {
                close(&mut stack, depth + 1);
                stack.last_mut().expect("the call that returns").end = Some(Kind::Return);
                close(&mut stack, depth);
            }
            Kind::Exception if stack.len() > depth + 1 => {
                close(&mut stack, depth + 1);
                stack.last_mut().expect("the call that is left").end = Some(Kind::Exception);
                close(&mut stack, depth);
            }
            Kind::Exception | Kind::Switch => {}
        }
    }
    close(&mut stack, 0);
    lines(&stack[0].within, 0)
}

/// Ends every call deeper than `depth`.
fn close(stack: &mut Vec<Node>, depth: usize) {
    while stack.len() > depth + 1 {
        let ended = stack.pop().expect("a call");
        stack.last_mut().expect("its caller").within.push(ended);
    }
}

fn lines(nodes: &[Node], depth: usize) -> String {
    let mut text = String::new();
    let drawn: Vec<String> = nodes.iter().map(|node| one(node, depth)).collect();
    for same in drawn.chunk_by(|a, b| a == b) {
        let times = if same.len() > 1 { format!("{}x ", same.len()) } else { String::new() };
        write!(text, "{:indent$}{times}{}", "", same[0], indent = 2 * depth).expect("a string");
    }
    text
}

fn one(node: &Node, depth: usize) -> String {
    let mark = match node.end {
        Some(Kind::Return) => "",
        Some(_) => " (left)",
        None => " (no return)",
    };
    if node.within.is_empty() {
        return format!("{}{mark};\n", node.name);
    }
    let within = lines(&node.within, depth + 1);
    format!("{}{mark} {{\n{within}{:indent$}}}\n", node.name, "", indent = 2 * depth)
}

/// Draws several threads, sorted by what they did, those that did the same as one.
#[must_use]
pub fn threads(mut drawn: Vec<String>) -> String {
    drawn.sort();
    let mut text = String::new();
    for same in drawn.chunk_by(|a, b| a == b) {
        let title = if same.len() == 1 { "thread".to_owned() } else { format!("{} threads, each", same.len()) };
        write!(text, "{title}:\n{}\n", same[0]).expect("a string");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: Kind, function: u64, depth: u32) -> Event {
        Event { time_ns: 0, function, kind, depth, tid: 1 }
    }

    fn drawn(events: &[(Kind, u64, u32)]) -> String {
        let events: Vec<_> = events.iter().map(|(kind, function, depth)| event(*kind, *function, *depth)).collect();
        draw(&events, |function| format!("f{function}"))
    }

    #[test]
    fn draws_nesting_repetition_and_missing_returns() {
        use Kind::{Call, Exception, Return};
        let text = drawn(&[
            (Call, 1, 0),
            (Call, 2, 1),
            (Return, 2, 1),
            (Call, 2, 1),
            (Return, 2, 1),
            (Call, 3, 1),
            (Call, 2, 2),
            (Exception, 2, 3),
            (Exception, 2, 2),
            (Return, 1, 0),
            (Call, 2, 0),
        ]);
        let want = "f1 {\n  2x f2;\n  f3 (no return) {\n    f2 (left);\n  }\n}\nf2 (no return);\n";
        assert_eq!(text, want);
    }

    #[test]
    #[should_panic(expected = "a call at depth 1")]
    fn a_depth_without_a_caller_is_no_tree() {
        drop(drawn(&[(Kind::Call, 1, 1)]));
    }

    #[test]
    #[should_panic(expected = "another function returns")]
    fn a_return_of_another_function_is_no_tree() {
        drop(drawn(&[(Kind::Call, 1, 0), (Kind::Return, 2, 0)]));
    }

    #[test]
    fn threads_that_did_the_same_are_one() {
        let text = threads(vec!["b;\n".into(), "a;\n".into(), "b;\n".into()]);
        assert_eq!(text, "thread:\na;\n\n2 threads, each:\nb;\n\n");
    }
}
