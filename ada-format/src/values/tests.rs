//! Values as text and as JSON, by table; and that nothing breaks on what was never recorded.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::manifest::{Condition, Field, Form, Location, Named, Part, Source, Value};

fn named(pairs: &[(&str, i64)]) -> Vec<Named> {
    pairs.iter().map(|(name, value)| Named { name: (*name).to_owned(), value: *value }).collect()
}

fn value(form: Form, place: &[Part], slot: Option<u8>) -> Value {
    Value { type_name: "T".to_owned(), form, place: place.to_vec(), slot }
}

fn one(form: Form, place: &[Part], slot: Option<u8>) -> Signature {
    let parameter = Parameter { name: "x".to_owned(), value: value(form, place, slot), only_if: None };
    Signature { parameters: vec![parameter], ..Signature::default() }
}

fn first() -> Part {
    Part::whole(Location::Register(0))
}

fn memory(bytes: &[u8], full_length: u32) -> Memory<'_> {
    Memory { slot: 0, address: 0x1000, full_length, bytes }
}

/// The value of the one parameter as text and as JSON.
fn both(signature: &Signature, observed: &Observed<'_>) -> (String, serde_json::Value) {
    let mut text = String::new();
    write_call(&mut text, "f", signature, observed).unwrap();
    let text = text.strip_prefix("f(x=").and_then(|text| text.strip_suffix(')')).unwrap().to_owned();
    (text, values(signature, observed).pop().map_or(json!("left out"), |(_, value)| value))
}

/// A number in the first register.
fn number(form: Form, register: u64) -> (String, serde_json::Value) {
    both(&one(form, &[first()], None), &Observed::new(Moment::Call, [register; 8], &[], []))
}

fn of(text: &str, json: serde_json::Value) -> (String, serde_json::Value) {
    (text.to_owned(), json)
}

#[test]
fn numbers() {
    let minus = u64::MAX << 32 | 0xffff_fffe;
    assert_eq!(number(Form::Signed { size: 4 }, 0xdead_0000_ffff_fffe), of("-2", json!(-2)));
    assert_eq!(number(Form::Signed { size: 8 }, minus), of("-2", json!(-2)));
    assert_eq!(number(Form::Unsigned { size: 2 }, minus), of("65534", json!(65534)));
    assert_eq!(number(Form::Octal { size: 4 }, 0o644), of("0644", json!(0o644)));
    assert_eq!(number(Form::Octal { size: 4 }, 0), of("0", json!(0)));
    assert_eq!(number(Form::Bool { size: 1 }, 0xff01), of("true", json!(true)));
    assert_eq!(number(Form::Bool { size: 1 }, 0), of("false", json!(false)));
    assert_eq!(number(Form::Char { size: 1 }, b'w'.into()), of("'w'", json!(119)));
    assert_eq!(number(Form::Char { size: 1 }, 0xff), of("-1", json!(-1)));
    assert_eq!(number(Form::Char { size: 4 }, 'ä'.into()).0, "'ä'");
    assert_eq!(number(Form::Char { size: 1 }, 'ä'.into()).0, "-28");
    assert_eq!(number(Form::Char { size: 4 }, 'ł'.into()), of("'ł'", json!("ł")));
    assert_eq!(number(Form::Pointer { to: None }, 0), of("NULL", json!(null)));
    assert_eq!(number(Form::Pointer { to: None }, 0x7f00), of("0x7f00", json!({ "address": "0x7f00" })));
    assert_eq!(number(Form::Pointer { to: None }, u64::MAX).0, "-1");
    assert_eq!(number(Form::Unknown, 1), of("{...}", json!("left out")));
    let nowhere = one(Form::Float { size: 8 }, &[], None);
    assert_eq!(both(&nowhere, &Observed::new(Moment::Call, [1; 8], &[], [])), of("?", json!("left out")));
}

#[test]
fn names_of_numbers() {
    let enumeration = || Form::Enum { size: 4, names: named(&[("RED", 0), ("BLUE", -1)]) };
    assert_eq!(number(enumeration(), 0), of("RED", json!("RED")));
    assert_eq!(number(enumeration(), 0xffff_ffff), of("BLUE", json!("BLUE")));
    assert_eq!(number(enumeration(), 7), of("7", json!(7)));
    let open = || Form::Flags {
        size: 4,
        number: 3,
        names: named(&[("RDONLY", 0), ("WRONLY", 1), ("SYNC", 0o30), ("DSYNC", 0o10)]),
    };
    for (bits, want) in [
        (0, "RDONLY"),
        (1, "WRONLY"),
        (0o31, "WRONLY|SYNC"),
        (0o10, "RDONLY|DSYNC"),
        (0x1000, "RDONLY|0x1000"),
        (3, "0x3"),
        (0o13, "DSYNC|0x3"),
    ] {
        assert_eq!(number(open(), bits), of(want, json!(want)));
    }
    let prot = || Form::Flags { size: 4, number: 0, names: named(&[("NONE", 0), ("READ", 1), ("WRITE", 2)]) };
    for (bits, want) in [(0, "NONE"), (3, "READ|WRITE"), (12, "0xc")] {
        assert_eq!(number(prot(), bits).0, want);
    }
    assert_eq!(number(Form::Flags { size: 4, number: 0, names: named(&[("A", 1)]) }, 0).0, "0");
}

#[test]
fn text() {
    let string = |form: Form, register, block: Option<Memory<'_>>| {
        both(&one(form, &[first()], Some(0)), &Observed::new(Moment::Call, [register; 8], &[], block))
    };
    assert_eq!(
        string(Form::CString, 0x1000, Some(memory(b"/etc/passwd", 11))),
        of("\"/etc/passwd\"", json!("/etc/passwd"))
    );
    assert_eq!(
        string(Form::CString, 0x1000, Some(memory(b"long", 5))),
        of("\"long\"...", json!({ "text": "long", "full_length": 5 }))
    );
    assert_eq!(string(Form::CString, 0x1000, None), of("0x1000", json!({ "address": "0x1000" })));
    assert_eq!(string(Form::CString, 0, None), of("NULL", json!(null)));
    let object = || Box::new(Form::Text { pointer: 0, length: 8 });
    assert_eq!(string(Form::Reference { to: object() }, 1, Some(memory(b"x", 1))).0, "\"x\"");
    assert_eq!(string(Form::Pointer { to: Some(object()) }, 16, Some(memory(b"x", 1))).0, "0x10 -> \"x\"");
    assert_eq!(string(Form::Reference { to: object() }, 16, None).0, "0x10");
}

#[test]
fn quoted() {
    let cases: [(&[u8], &str); 7] = [
        (b"a\"b\\c", r#""a\"b\\c""#),
        (b"\n\t\r\x0b\x0c", r#""\n\t\r\v\f""#),
        (b"\0x", r#""\0x""#),
        (b"\x017", r#""\0017""#),
        ("größe €".as_bytes(), "\"größe €\""),
        (b"\xff\xfe1", r#""\377\3761""#),
        ("\u{9b}\u{202e}".as_bytes(), r#""\302\233\342\200\256""#),
    ];
    for (bytes, want) in cases {
        let mut text = String::new();
        quote(&mut text, bytes, false).unwrap();
        assert_eq!(text, want);
    }
}

#[test]
fn structs() {
    let field = |name: &str, offset, form| Field { name: name.to_owned(), offset, form };
    let int = Form::Signed { size: 4 };
    let point = || Form::Struct { size: 8, fields: vec![field("x", 0, int.clone()), field("y", 4, int.clone())] };
    let bytes = [1, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff];
    let behind = one(Form::Pointer { to: Some(Box::new(point())) }, &[first()], Some(0));
    let observed = Observed::new(Moment::Call, [0x10; 8], &[], [memory(&bytes, 8)]);
    assert_eq!(
        both(&behind, &observed),
        of("0x10 -> {x=1, y=-2}", json!({ "address": "0x10", "value": { "x": 1, "y": -2 } }))
    );
    let cut = Observed::new(Moment::Call, [0x10; 8], &[], [memory(&bytes[..4], 8)]);
    assert_eq!(both(&behind, &cut).0, "0x10 -> {x=1, ...}");
    let part = Part { at: Location::Stack(8), offset: 0, size: 8 };
    let stack: Vec<u8> = [[9; 8], bytes].concat();
    let placed = one(point(), &[part], None);
    assert_eq!(both(&placed, &Observed::new(Moment::Call, [0; 8], &stack, [])).0, "{x=1, y=-2}");
    assert_eq!(both(&placed, &Observed::new(Moment::Call, [0; 8], &stack[..12], [])).0, "{x=1, y=?}");
    let halves = [
        Part { at: Location::Register(1), offset: 0, size: 4 },
        Part { at: Location::Register(3), offset: 4, size: 4 },
    ];
    let registers = [9, 5, 9, 6, 9, 9, 9, 9];
    assert_eq!(both(&one(point(), &halves, None), &Observed::new(Moment::Call, registers, &[], [])).0, "{x=5, y=6}");
    let array = Form::Struct { size: 8, fields: vec![field("", 0, int.clone()), field("", 4, int)] };
    assert_eq!(number(array, 2 << 32 | 1), of("{1, 2}", json!([1, 2])));
}

#[test]
fn calls_and_returns() {
    let parameter = |name: &str, form, register, only_if| {
        let place = [Part::whole(Location::Register(register))];
        Parameter { name: name.to_owned(), value: value(form, &place, None), only_if }
    };
    let condition = Some(Condition { parameter: 0, bits: 0o100 });
    let signature = Signature {
        parameters: vec![
            parameter("flags", Form::Unsigned { size: 4 }, 0, None),
            parameter("mode", Form::Octal { size: 4 }, 1, condition),
            parameter("", Form::Signed { size: 4 }, 2, None),
        ],
        returns: Some(value(Form::Signed { size: 4 }, &[first()], None)),
        variadic: true,
        source: Source::Known,
    };
    let written = |moment, first| {
        let mut text = String::new();
        write_call(&mut text, "f", &signature, &Observed::new(moment, [first, 0o600, 5, 0, 0, 0, 0, 0], &[], []))
            .unwrap();
        text
    };
    assert_eq!(written(Moment::Call, 0), "f(flags=0, 5, ...)");
    assert_eq!(written(Moment::Call, 0o100), "f(flags=64, mode=0600, 5, ...)");
    assert_eq!(written(Moment::Return, u64::MAX), " = -1");
    let none = Signature { returns: None, ..signature.clone() };
    let mut text = String::new();
    write_call(&mut text, "f", &none, &Observed::new(Moment::Return, [1; 8], &[], [])).unwrap();
    assert_eq!(text, "");
    let observed = Observed::new(Moment::Call, [0; 8], &[], []);
    let all: Vec<String> = values(&signature, &observed).into_iter().map(|(name, _)| name).collect();
    assert_eq!(all, ["flags", "arg1"]);
    let mut text = String::new();
    write_signature(&mut text, "f", &signature).unwrap();
    assert_eq!(text, "T f(T flags, T mode, T, ...)");
}

fn any_form() -> impl Strategy<Value = Form> {
    let names =
        prop::collection::vec(("[A-Z\n]{0,3}", any::<i64>()).prop_map(|(name, value)| Named { name, value }), 0..4);
    let size = prop_oneof![0..20_u32, any::<u32>().prop_map(|size| size % 5000)];
    let leaf =
        (0..14, size, names, any::<(u64, u32, u32)>()).prop_map(|(kind, size, names, (number, a, b))| match kind {
            0 => Form::Signed { size },
            1 => Form::Unsigned { size },
            2 => Form::Octal { size },
            3 => Form::Bool { size },
            4 => Form::Char { size },
            5 => Form::Float { size },
            6 => Form::Chars { size },
            7 => Form::Pointer { to: None },
            8 => Form::CString,
            9 => Form::Buffer { length: 3 },
            10 => Form::Text { pointer: a, length: b },
            11 => Form::Enum { size, names },
            12 => Form::Flags { size, number, names },
            _ => Form::Opaque { size },
        });
    leaf.prop_recursive(3, 12, 3, |inner| {
        let field =
            (any::<u32>(), inner.clone()).prop_map(|(offset, form)| Field { name: "f".to_owned(), offset, form });
        prop_oneof![
            inner.clone().prop_map(|to| Form::Pointer { to: Some(Box::new(to)) }),
            inner.prop_map(|to| Form::Reference { to: Box::new(to) }),
            (any::<u32>(), prop::collection::vec(field, 0..3)).prop_map(|(size, fields)| Form::Struct { size, fields }),
        ]
    })
}

fn any_part() -> impl Strategy<Value = Part> {
    let at = prop_oneof![any::<u8>().prop_map(Location::Register), any::<u32>().prop_map(Location::Stack)];
    (at, 0..20_u32, any::<u32>()).prop_map(|(at, offset, size)| Part { at, offset, size })
}

proptest! {
    #[test]
    fn anything_has_one_line_of_text(
        forms in prop::collection::vec((any_form(), prop::collection::vec(any_part(), 0..3), any::<Option<u8>>()), 0..4),
        registers in any::<[u64; 8]>(),
        stack in prop::collection::vec(any::<u8>(), 0..64),
        blocks in prop::collection::vec((0..9_u8, any::<u32>(), prop::collection::vec(any::<u8>(), 0..20)), 0..9),
        is_return in any::<bool>(),
        bits in any::<u64>(),
    ) {
        let parameter = |(form, place, slot): &(Form, Vec<Part>, Option<u8>)| Parameter {
            name: String::new(),
            value: value(form.clone(), place, *slot),
            only_if: Some(Condition { parameter: 1, bits }),
        };
        let returns = forms.first().map(|(form, place, slot)| value(form.clone(), place, *slot));
        let signature = Signature { parameters: forms.iter().map(parameter).collect(), returns, variadic: true, source: Source::Dwarf };
        let memory = blocks.iter().map(|(slot, full_length, bytes)| Memory { slot: *slot, address: 1, full_length: *full_length, bytes });
        let moment = if is_return { Moment::Return } else { Moment::Call };
        let observed = Observed::new(moment, registers, &stack, memory);
        let mut text = String::new();
        write_call(&mut text, "f", &signature, &observed).unwrap();
        prop_assert!(!text.contains(char::is_control), "{text:?}");
        let _ = values(&signature, &observed);
        let stored = serde_json::to_string(&signature).unwrap();
        prop_assert_eq!(serde_json::from_str::<Signature>(&stored).unwrap(), signature);
    }
}
