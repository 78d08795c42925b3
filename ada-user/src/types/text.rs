//! Which structs are text: strings of C++ and Rust, and views of them.
//!
//! Invariant: offsets come from the debug information wherever it has them; only a class that is declared but not
//! defined there is taken to be libstdc++'s.

use super::model::{Kind, Language, Member, Type};

/// libstdc++'s string since 5.1: pointer, length, buffer.
const STRING: (u32, u32) = (0, 8);

/// Offsets of pointer and length in a struct that is text.
pub(super) fn layout(language: Language, name: &str, scopes: &[String], members: &[Member]) -> Option<(u32, u32)> {
    match language {
        Language::Cpp if name.starts_with("basic_string<char,") || name == "basic_string<char>" => {
            string(scopes, members)
        }
        Language::Cpp if name.starts_with("basic_string_view<char,") => {
            let pointer = offset(members, &["_M_str", "__data_", "__data"])?;
            Some((pointer, offset(members, &["_M_len", "__size_", "__size"])?))
        }
        Language::Rust => rust(name, members),
        _ => None,
    }
}

/// Whether a class of text owns it, so that copying it runs code.
pub(super) fn is_owner(name: &str) -> bool {
    name.starts_with("basic_string<")
}

fn string(scopes: &[String], members: &[Member]) -> Option<(u32, u32)> {
    if members.is_empty() {
        return scopes.iter().any(|scope| scope == "__cxx11").then_some(STRING);
    }
    let pointer = offset(members, &["_M_dataplus"])?;
    Some((pointer, offset(members, &["_M_string_length"])?))
}

fn rust(name: &str, members: &[Member]) -> Option<(u32, u32)> {
    const VIEWS: [&str; 8] = [
        "&str",
        "&mut str",
        "&[u8]",
        "&mut [u8]",
        "&std::path::Path",
        "&std::ffi::os_str::OsStr",
        "alloc::boxed::Box<str, alloc::alloc::Global>",
        "alloc::boxed::Box<[u8], alloc::alloc::Global>",
    ];
    const OWNERS: [&str; 4] = ["String", "PathBuf", "OsString", "Vec<u8, alloc::alloc::Global>"];
    if VIEWS.contains(&name) {
        return Some((offset(members, &["data_ptr"])?, offset(members, &["length"])?));
    }
    if !OWNERS.contains(&name) {
        return None;
    }
    let whole = members.iter().flat_map(|member| {
        let scalars = member.of.scalars().into_iter();
        scalars.filter(|scalar| scalar.is_pointer).map(|scalar| member.offset.saturating_add(scalar.offset))
    });
    let pointers: Vec<u32> = whole.collect();
    let [pointer] = pointers.as_slice() else { return None };
    Some((*pointer, deep(members, "len", 0)?))
}

fn offset(members: &[Member], names: &[&str]) -> Option<u32> {
    let found = members.iter().find(|member| names.contains(&member.name.as_str()));
    found.map(|member| member.offset)
}

/// The offset of a member somewhere inside.
fn deep(members: &[Member], name: &str, base: u32) -> Option<u32> {
    let own = offset(members, &[name]).map(|offset| base.saturating_add(offset));
    let inside = |member: &Member| match &*member.of {
        Type { kind: Kind::Struct(of), .. } => deep(&of.members, name, base.saturating_add(member.offset)),
        _ => None,
    };
    own.or_else(|| members.iter().find_map(inside))
}
