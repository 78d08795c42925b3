//! From the arguments that choose functions to specs and the options that they are resolved with.

use ada_user::{
    resolve::{DEFAULT_EXCLUDES, ResolveOptions, ReturnsPolicy},
    spec::{ProbeSpec, SpecError},
};

use super::args::{ChoiceArgs, ReturnsHow};

/// The specs that `texts` and `args` ask for.
pub(super) fn specs(texts: &[String], args: &ChoiceArgs) -> Result<Vec<ProbeSpec>, SpecError> {
    let everything = args.all.then(ProbeSpec::everything);
    texts.iter().map(|text| text.parse()).chain(everything.map(Ok)).collect()
}

/// How they are resolved.
pub(super) fn options(args: &ChoiceArgs) -> Result<ResolveOptions, SpecError> {
    let excludes = args.exclude.iter().map(|text| ProbeSpec::parse_anywhere(text)).collect::<Result<_, _>>()?;
    let defaults = DEFAULT_EXCLUDES.iter().filter(|_| !args.no_default_excludes);
    let everything_but = defaults.map(|(text, _)| text.parse()).collect::<Result<_, _>>()?;
    let returns = match args.returns {
        ReturnsHow::Auto => ReturnsPolicy::Auto,
        ReturnsHow::Uretprobe => ReturnsPolicy::Probe,
        ReturnsHow::Ret => ReturnsPolicy::Exits,
    };
    Ok(ResolveOptions { returns, excludes, everything_but })
}
