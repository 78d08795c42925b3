//! Where members lie in the running kernel's structs, from its own type information (BTF).
//!
//! ```text
//! header: magic 0xEB9F u16 │ version u8 │ flags u8 │ hdr_len │ type_off │ type_len │ str_off │ str_len   (u32 each)
//! types, from 1 on: name_off │ info = kflag:1 kind:5 … vlen:16 │ size or type, then what the kind adds
//! struct or union:  vlen × { name_off │ type │ offset in bits, with kflag in the low 24 bits }
//! ```
//!
//! Layout: Documentation/bpf/btf.rst. Invariant: bytes are read with bounds checked; whatever they say, there is an answer or
//! none.

/// Kinds that have members or stand for another type.
const ARRAY: u32 = 3;
const STRUCT: u32 = 4;
const UNION: u32 = 5;

/// How deep anonymous structs are looked into; the kernel nests two or three.
const MAX_NESTING: u32 = 8;

/// A kernel's types.
#[derive(Debug)]
pub(super) struct Btf<'a> {
    strings: &'a [u8],
    /// By type id; the first is `void`.
    types: Vec<Type<'a>>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Type<'a> {
    name: u32,
    info: u32,
    size: u32,
    /// What follows the three words that every type has.
    rest: &'a [u8],
}

/// A member of a struct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    name: u32,
    kind: u32,
    bit_offset: u32,
}

impl<'a> Btf<'a> {
    /// Finds the types in `bytes`, such as those of /sys/kernel/btf/vmlinux.
    pub(super) fn parse(bytes: &'a [u8]) -> Option<Self> {
        if bytes.first_chunk()? != &0xEB9F_u16.to_ne_bytes() {
            return None;
        }
        let word = |index: usize| word(bytes, 4 + 4 * index).map(|word| word as usize);
        let body = bytes.get(word(0)?..)?;
        let section = |offset: usize, length: usize| body.get(offset..)?.get(..length);
        let (types, strings) = (section(word(1)?, word(2)?)?, section(word(3)?, word(4)?)?);
        Some(Self { strings, types: read_types(types)? })
    }

    /// Bytes from the start of struct `name` to `member`, which may lie in an anonymous struct or union of it, or be
    /// given as a path through named ones: `ns.inum`.
    pub(super) fn offset(&self, name: &str, member: &str) -> Option<u32> {
        let mut of = self.struct_named(name)?;
        let mut bits = 0;
        for part in member.split('.') {
            let found = self.find(of, part, 0)?;
            bits += found.bit_offset;
            of = *self.types.get(found.kind as usize)?;
        }
        (bits % 8 == 0).then_some(bits / 8)
    }

    /// Bytes of struct `name`.
    pub(super) fn size(&self, name: &str) -> Option<u32> {
        self.struct_named(name).map(|found| found.size)
    }

    fn struct_named(&self, name: &str) -> Option<Type<'a>> {
        let is = |each: &&Type<'_>| kind(each.info) == STRUCT && self.string(each.name) == Some(name.as_bytes());
        self.types.iter().find(is).copied()
    }

    fn find(&self, of: Type<'a>, name: &str, nesting: u32) -> Option<Member> {
        if nesting > MAX_NESTING || !matches!(kind(of.info), STRUCT | UNION) {
            return None;
        }
        of.members().find_map(|member| match self.string(member.name)? {
            found if found == name.as_bytes() => Some(member),
            b"" => {
                let inner = self.find(*self.types.get(member.kind as usize)?, name, nesting + 1)?;
                Some(Member { bit_offset: member.bit_offset.checked_add(inner.bit_offset)?, ..inner })
            }
            _ => None,
        })
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        self.strings.get(offset as usize..)?.split(|byte| *byte == 0).next()
    }
}

impl Type<'_> {
    fn members(&self) -> impl Iterator<Item = Member> {
        let kflag = self.info >> 31 == 1;
        self.rest.chunks_exact(12).filter_map(move |bytes| {
            let offset = word(bytes, 8)?;
            let bit_offset = if kflag { offset & 0x00FF_FFFF } else { offset };
            Some(Member { name: word(bytes, 0)?, kind: word(bytes, 4)?, bit_offset })
        })
    }
}

fn read_types(mut bytes: &[u8]) -> Option<Vec<Type<'_>>> {
    let mut types = vec![Type::default()];
    while !bytes.is_empty() {
        let info = word(bytes, 4)?;
        let (rest, next) = bytes.get(12..)?.split_at_checked(rest_length(info)?)?;
        types.push(Type { name: word(bytes, 0)?, info, size: word(bytes, 8)?, rest });
        bytes = next;
    }
    Some(types)
}

/// Bytes that a type of this kind has beyond its first three words; none for a kind that is not known.
fn rest_length(info: u32) -> Option<usize> {
    let entries = (info & 0xFFFF) as usize;
    match kind(info) {
        // void, pointers, forward declarations, typedefs, qualifiers, functions, floats, type tags.
        0 | 2 | 7..=12 | 16 | 18 => Some(0),
        // Integers, variables, declaration tags.
        1 | 14 | 17 => Some(4),
        ARRAY => Some(12),
        STRUCT | UNION | 15 | 19 => Some(12 * entries),
        // Enumerations, prototypes.
        6 | 13 => Some(8 * entries),
        _ => None,
    }
}

fn kind(info: u32) -> u32 {
    info >> 24 & 0x1F
}

fn word(bytes: &[u8], offset: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(offset..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// `struct a { int x; struct { int y; union { int z; }; }; struct b in; }; struct b { char pad; int w; }`, more or less.
    fn example() -> Vec<u8> {
        let strings = b"\0a\0x\0y\0z\0in\0b\0w\0";
        let of = |kind: u32, entries: u32| kind << 24 | entries;
        let types: Vec<u32> = [
            vec![0, of(1, 0), 4, 32],
            vec![1, of(STRUCT, 3), 20, 3, 1, 0, 0, 3, 32, 9, 5, 96],
            vec![0, of(STRUCT, 2), 8, 5, 1, 0, 0, 4, 32],
            vec![0, of(UNION, 1), 4, 7, 1, 0],
            vec![12, of(STRUCT, 1), 8, 14, 1, 32],
        ]
        .concat();
        let length = u32::try_from(4 * types.len()).unwrap();
        let header = [24, 0, length, length, u32::try_from(strings.len()).unwrap()];
        let words = header.into_iter().chain(types).flat_map(u32::to_ne_bytes);
        [0x9F, 0xEB, 1, 0].into_iter().chain(words).chain(strings.iter().copied()).collect()
    }

    #[test]
    #[cfg(target_endian = "little")]
    fn finds_members_through_anonymous_and_named_structs() {
        let bytes = example();
        let btf = Btf::parse(&bytes).unwrap();
        assert_eq!(btf.offset("a", "x"), Some(0));
        assert_eq!(btf.offset("a", "y"), Some(4));
        assert_eq!(btf.offset("a", "z"), Some(8));
        assert_eq!(btf.offset("a", "in.w"), Some(16));
        assert_eq!(btf.size("b"), Some(8));
        for (name, member) in [("a", "w"), ("a", "x.y"), ("c", "x")] {
            assert_eq!(btf.offset(name, member), None, "{name}.{member}");
        }
    }

    #[test]
    fn knows_this_kernel() {
        let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else { return };
        let btf = Btf::parse(&bytes).unwrap();
        let (pid, tgid) = (btf.offset("task_struct", "pid").unwrap(), btf.offset("task_struct", "tgid").unwrap());
        assert_eq!(tgid, pid + 4);
        assert_eq!(btf.offset("upid", "nr"), Some(0));
        assert_eq!(btf.size("upid"), Some(16));
    }

    proptest! {
        #[test]
        #[cfg(target_endian = "little")]
        fn any_bytes_have_an_answer(at in 0_usize..220, byte: u8, cut in 0_usize..260) {
            let mut bytes = example();
            if let Some(place) = bytes.get_mut(at) {
                *place = byte;
            }
            bytes.truncate(cut);
            if let Some(btf) = Btf::parse(&bytes) {
                let _ = (btf.offset("a", "in.w"), btf.offset("a", "z"), btf.size("b"));
            }
        }
    }
}
