//! What a call was given and what it gave back, from a signature and a detail event: as text and as JSON.
//!
//! Invariant: whatever registers, stack, memory and signature hold, there is text: what cannot be read is a question
//! mark, and what a pointer points to is left out if it was not copied.

mod json;
mod observed;
mod quote;
#[cfg(test)]
mod tests;
mod text;

use crate::manifest::{Parameter, Signature};

pub use self::json::{RETURN, values};
pub use self::observed::{Moment, Observed};
pub use self::quote::quote;
pub use self::text::{write_call, write_signature};
/// What is read of the target's memory is what was written of it.
pub use crate::write::Memory;

/// The parameters that this very call has.
fn present<'a>(signature: &'a Signature, observed: &Observed<'a>) -> impl Iterator<Item = &'a Parameter> {
    let observed = *observed;
    signature.parameters.iter().filter(move |parameter| is_present(parameter, signature, &observed))
}

fn is_present(parameter: &Parameter, signature: &Signature, observed: &Observed<'_>) -> bool {
    let Some(condition) = parameter.only_if else { return true };
    let Some(other) = signature.parameters.get(condition.parameter) else { return true };
    let bits = observed.of(&other.value).number(0, other.value.form.size().min(8));
    bits.is_some_and(|bits| bits & condition.bits != 0)
}
