//! Waiting for conditions.

use std::time::{Duration, Instant};

/// How long a condition may take before the test is declared broken. Generous: the machine may be busy.
pub const DEADLINE: Duration = Duration::from_secs(100);

/// Asks `probe` again and again until it answers, and returns the answer.
///
/// # Panics
/// If it never does; the message names `what`.
pub fn until<T>(what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(answer) = probe() {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "waited in vain until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
