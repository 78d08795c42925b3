//! The call trees that the fixtures must give, kept as text in `expected/`.

use std::fs;
use std::path::Path;

/// Compares `text` with `expected/<name>.txt`, or with ADA_BLESS=1 makes it what is expected from now on.
///
/// # Panics
/// If they differ.
pub fn check(name: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("expected").join(format!("{name}.txt"));
    if std::env::var_os("ADA_BLESS").is_some_and(|value| value == "1") {
        fs::write(&path, text).expect("the expected tree");
        return;
    }
    let want = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if want != text {
        let line = 1 + want.lines().zip(text.lines()).take_while(|(want, got)| want == got).count();
        panic!(
            "the calls are not those of {} (first difference in line {line}; `cargo xtask bless` accepts them):\n{text}",
            path.display()
        );
    }
}
