//! Depths of calls that nest, jump, switch stacks and get lost, against literals and a naive stack.

use proptest::prelude::*;

use super::*;

fn call(sp: u64, function_id: u64) -> Call {
    Call { sp, function_id, chained: false, returns: Expect::ReturnProbe, time_ns: 0 }
}

#[test]
fn nested_calls() {
    let mut stack = CallStack::default();
    assert_eq!(stack.call(call(1000, 1)), 0);
    assert_eq!(stack.call(call(900, 2)), 1);
    assert_eq!(stack.ret(900, 2), Ok(1));
    assert_eq!(stack.call(call(900, 3)), 1);
    assert_eq!(stack.ret(900, 3), Ok(1));
    assert_eq!(stack.ret(1000, 1), Ok(0));
    assert_eq!(stack.unreturned(), Unreturned::default());
}

#[test]
fn a_tail_call_nests_in_its_caller() {
    let mut stack = CallStack::default();
    assert_eq!(stack.call(call(1000, 1)), 0);
    assert_eq!(stack.call(Call { chained: true, ..call(1000, 2) }), 1);
    assert_eq!(stack.ret(1000, 2), Ok(1));
    assert_eq!(stack.ret(1000, 1), Ok(0));
}

#[test]
fn longjmp_in_a_loop_does_not_grow() {
    let mut stack = CallStack::default();
    for round in 0..1000 {
        assert_eq!(stack.call(call(1000, 1)), 0);
        let left = [Left { function_id: 1, depth: 0 }];
        assert_eq!(stack.left(), if round == 0 { &[][..] } else { &left });
    }
    assert_eq!(stack.unreturned().unwound, 999);
}

#[test]
fn what_ran_while_events_were_lost_may_have_returned() {
    let mut stack = CallStack::default();
    let at = |time_ns| Call { time_ns, ..call(1000, time_ns) };
    stack.call(at(1));
    stack.note_loss(2);
    stack.note_loss(1);
    stack.call(at(3));
    assert_eq!(stack.left(), []);
    stack.call(at(4));
    assert_eq!(stack.left(), [Left { function_id: 3, depth: 0 }]);
}

#[test]
fn a_call_higher_up_proves_frames_gone() {
    let mut stack = CallStack::default();
    stack.call(call(1000, 1));
    stack.call(call(900, 2));
    stack.call(call(800, 3));
    assert_eq!(stack.call(call(950, 4)), 1);
    let left = |function_id, depth| Left { function_id, depth };
    assert_eq!(stack.left(), [left(3, 2), left(2, 1)]);
    assert_eq!(stack.ret(950, 4), Ok(1));
    assert_eq!(stack.ret(1000, 1), Ok(0));
}

#[test]
fn returns_beyond_the_limit_are_counted() {
    let mut stack = CallStack::default();
    for level in 0..100 {
        assert_eq!(stack.call(call(100_000 - level * 16, 1)), u32::try_from(level).unwrap());
    }
    for level in (0..RETURN_LIMIT as u64).rev() {
        assert_eq!(stack.ret(100_000 - level * 16, 1), Ok(u32::try_from(level).unwrap()));
    }
    assert_eq!(stack.unreturned(), Unreturned { unwound: 0, beyond_limit: 36 });
}

#[test]
fn a_handler_on_a_stack_above_does_not_lose_the_one_below() {
    let mut stack = CallStack::default();
    assert_eq!(stack.call(call(1000, 1)), 0);
    assert_eq!(stack.call(call(900, 2)), 1);
    stack.call(call(50_000_000, 7));
    assert_eq!(stack.left(), []);
    assert!(stack.ret(50_000_000, 7).is_ok());
    assert_eq!(stack.ret(900, 2), Ok(1));
    assert_eq!(stack.ret(1000, 1), Ok(0));
    assert_eq!(stack.unreturned(), Unreturned::default());
}

#[test]
fn a_signal_is_within_what_runs() {
    let mut stack = CallStack::default();
    assert_eq!(stack.running(500), (0, None));
    stack.call(Call { returns: Expect::Nothing, ..call(1000, 1) });
    stack.call(Call { returns: Expect::Nothing, ..call(900, 2) });
    assert_eq!(stack.running(880), (2, Some(2)));
    assert_eq!(stack.running(900), (2, Some(2)));
    assert_eq!(stack.running(940), (1, Some(1)));
    assert_eq!(stack.running(1008), (0, None));
    // On another stack nothing is known to be gone.
    assert_eq!(stack.running(50_000_000), (2, Some(2)));
}

#[test]
fn an_aligned_return_address_alone_is_no_tail_call() {
    for returns in [Expect::Nothing, Expect::Exit] {
        let mut stack = CallStack::default();
        for _ in 0..100 {
            assert_eq!(stack.call(Call { chained: true, returns, ..call(1000, 1) }), 0);
        }
    }
}

#[test]
fn the_kernel_keeps_the_places_of_frames_that_were_left_until_it_looks_again() {
    let mut stack = CallStack::default();
    for level in 0..70 {
        stack.call(call(100_000 - level * 16, 1));
    }
    // longjmp out of all but the outermost: its callees find the kernel's list still full.
    stack.call(call(100_000 - 16, 2));
    stack.call(call(100_000 - 16, 2));
    assert_eq!(stack.unreturned(), Unreturned { unwound: 63, beyond_limit: 7 });
    assert_eq!(stack.ret(100_000, 1), Ok(0));
    assert_eq!(stack.unreturned(), Unreturned { unwound: 63, beyond_limit: 8 });
    stack.call(call(100_000, 1));
    assert_eq!(stack.ret(100_000, 1), Ok(0));
}

#[test]
fn an_unknown_return_says_so() {
    let mut stack = CallStack::default();
    stack.call(call(1000, 1));
    assert_eq!(stack.ret(900, 9), Err(1));
    assert_eq!(stack.ret(2000, 9), Err(0));
}

/// What a program can do.
#[derive(Debug, Clone)]
enum Act {
    /// A call of a function whose frame takes so many bytes: where its own calls will be.
    Call {
        frame: u64,
        function: u64,
    },
    /// The running function jumps to another, which takes its place.
    TailCall {
        function: u64,
    },
    Return,
    /// longjmp, or an exception, out of so many frames.
    Jump {
        frames: usize,
    },
    /// A call whose record is lost.
    LostCall {
        frame: u64,
        function: u64,
    },
}

fn calls() -> impl Strategy<Value = Act> {
    prop_oneof![
        6 => (1..6u64, 0..4u64).prop_map(|(size, function)| Act::Call { frame: size * 16, function }),
        1 => (0..4u64).prop_map(|function| Act::TailCall { function }),
        6 => Just(Act::Return),
    ]
}

fn with_jumps() -> impl Strategy<Value = Act> {
    prop_oneof![9 => calls(), 1 => (1..5usize).prop_map(|frames| Act::Jump { frames })]
}

fn with_losses() -> impl Strategy<Value = Act> {
    let lost = (1..6u64, 0..4u64).prop_map(|(size, function)| Act::LostCall { frame: size * 16, function });
    prop_oneof![9 => calls(), 1 => lost]
}

/// A frame that is really there.
struct True {
    sp: u64,
    frame: u64,
    function: u64,
    /// The depth that was given, if the call was seen.
    depth: Option<u32>,
}

/// The oracle: the true stack, and what each act must give.
fn check(acts: Vec<Act>, deepest: usize) -> Result<(), TestCaseError> {
    let mut stack = CallStack::default();
    let mut truth: Vec<True> = Vec::new();
    for act in acts {
        let seen = truth.iter().filter(|frame| frame.depth.is_some()).count() as u32;
        if truth.len() >= deepest && !matches!(act, Act::Return | Act::Jump { .. }) {
            continue;
        }
        let top_frame = truth.last().map_or(0, |top| top.frame);
        let sp = truth.last().map_or(1 << 40, |top| top.sp - top.frame);
        match act {
            Act::Call { frame, function } => {
                let depth = stack.call(call(sp, function));
                prop_assert_eq!(depth, seen);
                truth.push(True { sp, frame, function, depth: Some(depth) });
            }
            Act::LostCall { frame, function } => truth.push(True { sp, frame, function, depth: None }),
            Act::TailCall { function } => {
                let Some(&True { sp, frame, depth: Some(_), .. }) = truth.last() else { continue };
                let depth = stack.call(Call { chained: true, ..call(sp, function) });
                prop_assert_eq!(depth, seen);
                truth.push(True { sp, frame, function, depth: Some(depth) });
            }
            // What jumped to another function has no frame of its own any more: all of them return at once.
            Act::Return => {
                while let Some(top) = truth.pop_if(|top| top.sp == sp + top_frame) {
                    // The kernel's limit has a test of its own: there is no return beyond it.
                    if truth.len() < RETURN_LIMIT {
                        prop_assert_eq!(stack.ret(top.sp, top.function).ok(), top.depth);
                    }
                }
            }
            Act::Jump { frames } => {
                let kept = truth.len().saturating_sub(frames);
                let left = truth.get(kept).map(|frame| frame.sp);
                truth.truncate(kept);
                while truth.pop_if(|top| Some(top.sp) == left).is_some() {}
            }
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn depths_are_those_of_the_true_stack_whatever_is_left_by_jumps(
        acts in prop::collection::vec(with_jumps(), 1..300)
    ) {
        check(acts, usize::MAX)?;
    }

    #[test]
    fn depths_are_those_of_the_frames_seen_where_calls_are_lost(
        acts in prop::collection::vec(with_losses(), 1..300)
    ) {
        // A lost call takes one of the kernel's places too, so which returns are beyond its limit is not known.
        check(acts, RETURN_LIMIT)?;
    }
}
