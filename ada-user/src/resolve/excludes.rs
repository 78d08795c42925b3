//! What `--all` does not choose.

/// What `--all` leaves out unless told otherwise, and why: code that is over before a probe is, or that programs depend on
/// being left alone.
pub const DEFAULT_EXCLUDES: [(&str, &str); 12] = [
    ("ld-*:*", "the loader: at work before and between everything else"),
    ("libgcc_s*:*", "the unwinder, which exceptions pass through"),
    (
        "libc.*:/^(_*(mem|str|stp|wcs|wcp|wmem|bcmp|bcopy|bzero|ffs|rawmem|index|rindex))/",
        "string functions: shorter than a probe",
    ),
    ("libc.*:/^_*(is|to|isw|tow)[a-z]+(_l)?$/", "character classes: shorter than a probe"),
    ("libc.*:/^__ctype_|^__errno_location$|^__h_errno_location$/", "looks up a variable of the thread"),
    ("libc.*:/(mutex|rwlock|spin|flockfile|funlockfile|trylock|lll_)/", "locks: shorter than a probe"),
    ("libc.*:/^_*(cancel|pthread_(testcancel|self|once|getspecific|setspecific|equal))/", "shorter than a probe"),
    ("libpthread*:/(mutex|rwlock|spin|lll_|getspecific|setspecific|self|once)/", "locks: shorter than a probe"),
    ("libm.*:*", "mathematics: shorter than a probe"),
    ("*:/^_(init|fini)$|^_start$|^_dl_/", "start and end of a file"),
    ("*:/^runtime\\.|^runtime\\/|^_rt0_|^internal\\/(abi|bytealg|cpu|runtime)/", "Go's runtime, which switches stacks"),
    (
        "*:/^(__tsan_|__asan_|__ubsan_|__msan_|__sanitizer_|__gcov_|mcount|_mcount|__fentry__|__cyg_profile_)/",
        "instrumentation by compilers",
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{FunctionSpec, ProbeSpec};

    #[test]
    fn the_default_excludes_are_specs() {
        for (text, why) in DEFAULT_EXCLUDES {
            let spec: ProbeSpec = text.parse().unwrap_or_else(|error| panic!("{text}: {error}"));
            assert!(matches!(spec.function, FunctionSpec::Pattern(_)) && !why.is_empty(), "{text}");
        }
    }
}
