//! Readers over bytes that nobody wrote: never a panic, and nothing shown that is not there.
//!
//! Half of the cases begin with valid files, so that most damage lies behind the header.

use ada_format::layout::EventKind;
use ada_format::manifest::Manifest;
use ada_format::read::{DetailReader, IndexReader, Payload, ReadError, ThreadReader};
use ada_format::write::{Detail, FunctionDetail, Memory, ThreadWriter};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use crate::model::{self, Event};

/// Valid index and detail files; of as many events more that have memory, if there is to be some.
fn valid(events: u8, finish: bool, memory: bool) -> (Vec<u8>, Vec<u8>) {
    let dir = model::folder();
    let folder = dir.path().join("thread_0");
    let event = |number: u8| Event {
        time: number.into(),
        function: 1,
        kind: if number % 3 == 2 { EventKind::Exception } else { EventKind::Call },
        depth: 0,
        detail: Some(vec![number; number.into()]),
    };
    let mut writer = model::write(&folder, 1, &(0..events).map(event).collect::<Vec<_>>());
    if memory {
        add_memory(&mut writer, events);
    }
    if finish {
        writer.finish().unwrap();
    } else {
        drop(writer);
    }
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    (read("index.atf"), read("detail.atf"))
}

/// Appends calls with memory, the last of them late, so that there are `events` more.
fn add_memory(writer: &mut ThreadWriter, events: u8) {
    let bytes = vec![events; events.into()];
    let piece = |slot| Memory { slot, address: 0x1000, full_length: 99, bytes: &bytes };
    for _ in 0..events {
        writer.append(100, 1, EventKind::Call, 0).unwrap();
    }
    for number in 0..events {
        let memory: Vec<_> = (0..number % 4).map(piece).collect();
        let detail = Detail::Function(FunctionDetail { stack: &[7; 5], memory: &memory, ..FunctionDetail::default() });
        writer.add_detail((events + number).into(), 100, 1, EventKind::Call, &detail).unwrap();
    }
}

/// One thing to do to a file.
#[derive(Clone, Debug)]
enum Damage {
    Cut(Index),
    Extend(Vec<u8>),
    Overwrite(Index, Vec<u8>),
    /// At a multiple of four from either end.
    Number(bool, u8, u64),
}

fn damage() -> impl Strategy<Value = Damage> {
    let number = prop_oneof![
        0..300_u64,
        any::<u64>(),
        Just(u64::MAX),
        Just(u64::from(u32::MAX)),
        (0..64_u32).prop_map(|bit| 1 << bit),
        Just(u64::MAX - 63),
    ];
    prop_oneof![
        1 => any::<Index>().prop_map(Damage::Cut),
        1 => vec(any::<u8>(), 1..100).prop_map(Damage::Extend),
        2 => (any::<Index>(), vec(any::<u8>(), 1..9)).prop_map(|(at, bytes)| Damage::Overwrite(at, bytes)),
        4 => (any::<bool>(), 0..32_u8, number).prop_map(|(end, at, number)| Damage::Number(end, at, number)),
    ]
}

fn overwrite(bytes: &mut [u8], at: usize, new: &[u8]) {
    for (old, new) in bytes.iter_mut().skip(at).zip(new) {
        *old = *new;
    }
}

fn apply(bytes: &mut Vec<u8>, damage: &[Damage]) {
    for damage in damage {
        match damage {
            Damage::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Damage::Extend(more) => bytes.extend_from_slice(more),
            Damage::Overwrite(at, new) => {
                let at = at.index(bytes.len() + 1);
                overwrite(bytes, at, new);
            }
            Damage::Number(from_end, at, number) => {
                let at = 4 * usize::from(*at);
                let at = if *from_end { bytes.len().saturating_sub(at) } else { at };
                overwrite(bytes, at, &number.to_le_bytes());
            }
        }
    }
}

/// Calls everything a reader has.
fn exercise(index: &[u8], detail: &[u8]) {
    let detail = read_detail(detail);
    let Ok(index) = noted(IndexReader::from_bytes(index.to_vec(), "index")) else {
        return;
    };
    let length = index.len();
    assert_eq!(index.events().len() as u64, length);
    assert!(length.checked_sub(1).is_none_or(|last| index.get(last).is_some()));
    assert!(index.get(length).is_none() && index.get(u64::MAX).is_none());
    let _ = (index.time_range(), index.header(), index.footer(), index.recovered(), noted(index.verify()));
    let thread = ThreadReader::from_parts(index, detail, "thread");
    for position in (0..length.min(300)).chain([length, u64::MAX]) {
        let _ = thread.index().get(position).map(|event| (event.kind(), event.detail()));
        let _ = noted(thread.detail_of(position));
    }
    for position in (0..300).chain([u32::MAX - 1, u32::MAX]) {
        let _ = noted(thread.index_of(position));
    }
    let _ = noted(thread.verify());
}

fn read_detail(bytes: &[u8]) -> Option<DetailReader<Vec<u8>>> {
    let detail = noted(DetailReader::from_bytes(bytes.to_vec(), "detail")).ok()?;
    assert!(detail.len() <= bytes.len() as u64 / 24);
    assert_eq!(detail.events().count() as u64, detail.len());
    for event in detail.events() {
        assert!(event.bytes().len() + 24 <= bytes.len());
        let _ = (event.detail_type(), event.header());
        if let Some(Payload::Function(function)) = event.payload() {
            let memory: usize = function.memory().map(|piece| 16 + piece.bytes.len()).sum();
            assert!(100 + function.stack.len() + memory <= event.bytes().len());
        }
    }
    let _ = (detail.header(), detail.footer(), detail.recovered(), noted(detail.verify()));
    Some(detail)
}

/// An error's text must be makeable, too, and name its file.
fn noted<T>(outcome: Result<T, ReadError>) -> Result<T, ReadError> {
    outcome.inspect_err(|error| {
        let text = error.to_string();
        assert!(["index", "detail", "thread"].iter().any(|name| text.starts_with(name)), "{text}");
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn noise(index in vec(any::<u8>(), 0..400), detail in vec(any::<u8>(), 0..400)) {
        exercise(&index, &detail);
    }

    #[test]
    fn noise_behind_a_header(mut index in vec(any::<u8>(), 64..400), mut detail in vec(any::<u8>(), 64..400)) {
        let (valid_index, valid_detail) = valid_header();
        overwrite(&mut index, 0, valid_index);
        overwrite(&mut detail, 0, valid_detail);
        exercise(&index, &detail);
    }

    #[test]
    fn damaged_files(
        which in 0..DAMAGEABLE,
        index_damage in vec(damage(), 0..4),
        detail_damage in vec(damage(), 0..4),
    ) {
        let (mut index, mut detail) = damageable(which).clone();
        apply(&mut index, &index_damage);
        apply(&mut detail, &detail_damage);
        exercise(&index, &detail);
    }
}

/// Number of pairs of valid files.
const DAMAGEABLE: usize = 16;

fn damageable(which: usize) -> &'static (Vec<u8>, Vec<u8>) {
    static PAIRS: std::sync::OnceLock<Vec<(Vec<u8>, Vec<u8>)>> = std::sync::OnceLock::new();
    let make =
        || (0..DAMAGEABLE).map(|which| valid([1, 2, 7, 20][which / 2 % 4], which % 2 == 0, which >= 8)).collect();
    &PAIRS.get_or_init(make)[which]
}

/// Headers of files that are not finalised.
fn valid_header() -> (&'static [u8], &'static [u8]) {
    let (index, detail) = damageable(1);
    (&index[..64], &detail[..64])
}

proptest! {
    #[test]
    fn manifests(text in "\\PC{0,100}", bytes in vec(any::<u8>(), 0..100), cut in any::<Index>()) {
        let dir = model::folder();
        let path = dir.path().join("manifest.json");
        Manifest::default().write_atomic(dir.path()).unwrap();
        let valid = std::fs::read(&path).unwrap();
        for content in [text.as_bytes(), &bytes, &valid[..cut.index(valid.len() - 2)]] {
            std::fs::write(&path, content).unwrap();
            if let Err(error) = Manifest::read(dir.path()) {
                prop_assert!(error.to_string().contains("manifest.json"));
            }
        }
    }
}

/// Damages four or eight bytes of a finalised file and says what opening it comes to.
fn lie(detail: bool, at: usize, bytes: &[u8]) -> String {
    let (mut index_bytes, mut detail_bytes) = damageable(4).clone();
    overwrite(if detail { &mut detail_bytes } else { &mut index_bytes }, at, bytes);
    let index = IndexReader::from_bytes(index_bytes, "index").map(|index| format!("{} events", index.len()));
    let detail_reader = DetailReader::from_bytes(detail_bytes, "detail").and_then(|detail| {
        detail.verify()?;
        Ok(format!("{} events", detail.len()))
    });
    (if detail { detail_reader } else { index }).unwrap_or_else(|error| error.to_string())
}

#[test]
fn an_index_that_lies() {
    let u64s = u64::to_le_bytes;
    // 7 events: the footer begins at 64 + 7 * 32 = 288.
    assert_eq!(lie(false, 0, b"ATI3"), r#"index at byte 0: found "ATI3", expected "ATI2""#);
    assert_eq!(lie(false, 4, &[2]), "index at byte 4: endian is 2, expected 1");
    assert_eq!(
        lie(false, 5, &[2]),
        "index is of file version 2, and this version reads 1: read it with a newer ada-trace"
    );
    assert_eq!(lie(false, 24, &[16]), "index at byte 24: event_size is 16, expected 32");
    assert_eq!(lie(false, 28, &[200]), "7 events", "the footer's count is the one that counts");
    assert_eq!(lie(false, 32, &u64s(72)), "index at byte 32: events_offset is 72, expected 64");
    assert_eq!(lie(false, 40, &u64s(7)), "7 events", "the footer is where it is");
    assert_eq!(lie(false, 288, b"2ITB"), r#"index at byte 288: found "2ITB", expected "2ITA""#);
    assert_eq!(lie(false, 296, &u64s(8)), "index at byte 296: event_count is 8, expected 7");
    let huge = u64::MAX;
    assert_eq!(lie(false, 296, &u64s(huge)), format!("index at byte 296: event_count is {huge}, expected 7"));
    assert_eq!(lie(false, 320, &u64s(0)), "index at byte 320: bytes_written is 0, expected 224");
}

#[test]
fn an_index_that_promises_a_footer_elsewhere() {
    let (index, _) = damageable(4);
    let open = |bytes: Vec<u8>| match IndexReader::from_bytes(bytes, "index") {
        Ok(index) => format!("{} events, recovered: {}", index.len(), index.recovered()),
        Err(error) => error.to_string(),
    };
    assert_eq!(open([index.as_slice(), &[0; 32]].concat()), "index at byte 40: footer_offset is 288, expected 320");
    assert_eq!(open(index[..288].to_vec()), "7 events, recovered: true");
    let mut without = index[..288].to_vec();
    overwrite(&mut without, 40, &u64::MAX.to_le_bytes());
    assert_eq!(open(without.clone()), "7 events, recovered: true");
    overwrite(&mut without, 40, &63_u64.to_le_bytes());
    assert_eq!(open(without), "index at byte 40: footer_offset is 63, expected 64");
}

#[test]
fn detail_that_lies() {
    let u64s = u64::to_le_bytes;
    let (_, detail) = damageable(4);
    let footer = detail.len() - 64;
    let section = footer - 64;
    assert_eq!(lie(true, 0, b"ATI2"), r#"detail at byte 0: found "ATI2", expected "ATD2""#);
    assert_eq!(lie(true, 20, &u64s(0)), "detail at byte 20: events_offset is 0, expected 64");
    assert_eq!(lie(true, 28, &u64s(99)), "7 events", "the footer's count is the one that counts");
    assert_eq!(lie(true, 36, &u64s(99)), "7 events");
    let at = footer + 8;
    assert_eq!(lie(true, at, &u64s(8)), format!("detail at byte {at}: event_count is 8, expected 7"));
    let most = section / 24;
    assert_eq!(
        lie(true, at, &u64s(u64::MAX)),
        format!("detail at byte {at}: event_count is {}, expected {most}", u64::MAX)
    );
    let at = footer + 16;
    assert_eq!(lie(true, at, &u64s(1)), format!("detail at byte {at}: bytes_length is 1, expected {section}"));
}

#[test]
fn memory_that_lies() {
    let dir = model::folder();
    let folder = dir.path().join("thread_0");
    let mut writer = ThreadWriter::create(&folder, &model::meta(1)).unwrap();
    let memory = [b"first", b"other"].map(|bytes| Memory { slot: 1, address: 2, full_length: 3, bytes });
    let detail = Detail::Function(FunctionDetail { stack: &[7; 4], memory: &memory, ..FunctionDetail::default() });
    writer.append_with_detail(1, 1, EventKind::Call, 0, &detail).unwrap();
    drop(writer);
    let valid = std::fs::read(folder.join("detail.atf")).unwrap();
    let payload = 64 + 24;
    // What is left of the pieces if the number at an offset into the payload is another.
    let lie = |at: usize, number: u16| {
        let mut bytes = valid.clone();
        overwrite(&mut bytes, payload + at, &number.to_le_bytes());
        let detail = DetailReader::from_bytes(bytes, "detail").unwrap();
        let Some(Payload::Function(function)) = detail.get(0).unwrap().payload() else { panic!("a function") };
        function.memory().map(|piece| String::from_utf8_lossy(piece.bytes).into_owned()).collect::<Vec<_>>()
    };
    let (memory_size, stack_size, first, second) = (98, 96, 104 + 12, 104 + 21 + 12);
    assert_eq!(lie(memory_size, 42), ["first", "other"]);
    assert_eq!(lie(memory_size, 0), [""; 0], "as in files from before there was memory");
    assert_eq!(lie(memory_size, 15), [""; 0]);
    assert_eq!(lie(memory_size, 18), ["fi"]);
    assert_eq!(lie(memory_size, u16::MAX), ["first", "other"]);
    assert_eq!(lie(stack_size, u16::MAX), [""; 0], "all of it is stack");
    assert_eq!(lie(first, 4).len(), 2);
    assert_eq!(lie(first, u16::MAX)[0].len(), 26);
    assert_eq!(lie(second, 3), ["first", "oth"]);
    assert_eq!(lie(second, 6), ["first", "other"]);
}
