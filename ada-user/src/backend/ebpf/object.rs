//! The kernel object that is embedded in ada-trace: its maps, configuration and programs.
//!
//! aya makes the maps and loads the tracepoint programs (and, for kernels without uprobe_multi, the probe programs);
//! for uprobe_multi the object is parsed a second time and its programs are bound to the same maps.

use std::{
    collections::HashSet,
    ffi::CString,
    os::fd::{AsFd, AsRawFd, OwnedFd},
};

use ada_format::wire::{Config, Follow, names};
use aya::{
    Ebpf, EbpfLoader,
    maps::{ArrayOfMaps, Map, MapData},
    programs::{RawTracePoint, UProbe},
};
use aya_obj::{Object, generated::bpf_map_type};

use super::sys::{self, Sleeps};
use crate::backend::AttachError;

/// `cargo xtask build-ebpf` makes it from ada-ebpf; build.rs says where it is.
#[repr(align(8))]
struct Aligned<T: ?Sized>(T);
static OBJECT: &Aligned<[u8]> = &Aligned(*include_bytes!(env!("ADA_BPF_OBJECT")));

/// A newtype, for aya wants a type of ours to call its bytes a global.
#[derive(Clone, Copy)]
#[repr(transparent)]
struct Global<T>(T);

// SAFETY: a repr(C) struct of integers without padding.
unsafe impl aya::Pod for Global<Config> {}
// SAFETY: a repr(C) struct of integers without padding.
unsafe impl aya::Pod for Global<Follow> {}

/// The programs that uprobe_multi links take.
#[derive(Debug)]
pub(super) struct MultiPrograms {
    pub(super) entry: OwnedFd,
    pub(super) ret: OwnedFd,
    pub(super) exit: OwnedFd,
    pub(super) go_entry: OwnedFd,
    pub(super) go_exit: OwnedFd,
    /// Those for functions of which memory is copied, if there may be any.
    pub(super) capturing: Option<Capturing>,
}

/// The programs that copy memory; they may sleep.
#[derive(Debug)]
pub(super) struct Capturing {
    pub(super) entry: OwnedFd,
    pub(super) ret: OwnedFd,
    pub(super) exit: OwnedFd,
}

/// Entries of the maps whose size depends on what is asked for.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Room {
    pub(super) threads: usize,
    pub(super) frames: usize,
    pub(super) rates: usize,
    pub(super) counts: usize,
    pub(super) captures: usize,
}

/// Loads the object: makes its maps, for `cpus` processors, and gives it `config` and `follow`.
pub(super) fn load(config: Config, follow: Follow, cpus: u32, room: &Room) -> Result<Ebpf, AttachError> {
    // No map can be empty.
    let entries = |wanted: usize| u32::try_from(wanted.max(1)).unwrap_or(u32::MAX);
    let (config, follow) = (Global(config), Global(follow));
    EbpfLoader::new()
        .override_global(names::CONFIG, &config, true)
        .override_global(names::FOLLOW, &follow, true)
        .map_max_entries(names::RINGS, cpus + 1)
        .map_max_entries(names::DROPS, cpus)
        .map_max_entries(names::THREADS, entries(room.threads))
        .map_max_entries(names::FRAMES, entries(room.frames))
        .map_max_entries(names::RATES, entries(room.rates))
        .map_max_entries(names::COUNTS, entries(room.counts))
        .map_max_entries(names::CAPTURES, entries(room.captures))
        .load(&OBJECT.0)
        .map_err(object_error)
}

/// Loads the probe programs for uprobe_multi, over the maps of `ebpf`.
pub(super) fn load_multi(ebpf: &Ebpf, captures: bool) -> Result<MultiPrograms, AttachError> {
    let object = bound(ebpf)?;
    let capturing = if captures { Some(load_capturing(&object)?) } else { None };
    Ok(MultiPrograms {
        entry: load_program(&object, names::ENTRY)?,
        ret: load_program(&object, names::RETURN)?,
        exit: load_program(&object, names::EXIT)?,
        go_entry: load_program(&object, names::GO_ENTRY)?,
        go_exit: load_program(&object, names::GO_EXIT)?,
        capturing,
    })
}

fn load_capturing(object: &Object) -> Result<Capturing, AttachError> {
    let load = |name| load_program_that(object, name, Sleeps::Maybe);
    Ok(Capturing {
        entry: load(names::ENTRY_CAPTURING)?,
        ret: load(names::RETURN_CAPTURING)?,
        exit: load(names::EXIT_CAPTURING)?,
    })
}

/// Loads one more program for uprobe_multi, over the maps of `ebpf`.
pub(super) fn load_multi_one(ebpf: &Ebpf, name: &'static str) -> Result<OwnedFd, AttachError> {
    load_program(&bound(ebpf)?, name)
}

/// The object, its programs bound to the maps of `ebpf`.
fn bound(ebpf: &Ebpf) -> Result<Object, AttachError> {
    let mut object = Object::parse(&OBJECT.0).map_err(|error| AttachError::Object(error.to_string()))?;
    let templates = std::mem::take(&mut object.maps);
    let text: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
    let bound = templates.iter().filter_map(|(name, template)| {
        let data = map_data(ebpf.map(name)?)?;
        Some((name.as_str(), data.fd().as_fd().as_raw_fd(), template))
    });
    object.relocate_maps(bound, &text).map_err(|error| AttachError::Object(error.to_string()))?;
    object.relocate_calls(&text).map_err(|error| AttachError::Object(error.to_string()))?;
    Ok(object)
}

fn load_program(object: &Object, name: &'static str) -> Result<OwnedFd, AttachError> {
    load_program_that(object, name, Sleeps::Never)
}

fn load_program_that(object: &Object, name: &'static str, sleeps: Sleeps) -> Result<OwnedFd, AttachError> {
    let missing = || AttachError::Object(format!("it has no program {name}"));
    let program = object.programs.get(name).ok_or_else(missing)?;
    let function = object.functions.get(&program.function_key()).ok_or_else(missing)?;
    let c_name = CString::new(name).map_err(|_| missing())?;
    sys::load_multi(&c_name, &function.instructions, sleeps).map_err(|(source, log)| match source.raw_os_error() {
        Some(libc::EPERM) => AttachError::Permission { what: "loading an eBPF program", source },
        _ => AttachError::Program { program: name, source, log },
    })
}

/// Loads and attaches a raw tracepoint program for as long as `ebpf` lives.
pub(super) fn attach_tracepoint(ebpf: &mut Ebpf, program: &str, tracepoint: &str) -> Result<(), AttachError> {
    let program: &mut RawTracePoint = program_mut(ebpf, program)?;
    program.load().map_err(program_error)?;
    program.attach(tracepoint).map_err(program_error)?;
    Ok(())
}

/// The program `name`, loaded for perf-event links.
pub(super) fn load_uprobe<'a>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut UProbe, AttachError> {
    let program: &mut UProbe = program_mut(ebpf, name)?;
    if program.fd().is_err() {
        program.load().map_err(program_error)?;
    }
    Ok(program)
}

fn program_mut<'a, P>(ebpf: &'a mut Ebpf, name: &str) -> Result<&'a mut P, AttachError>
where
    &'a mut P: TryFrom<&'a mut aya::programs::Program, Error = aya::programs::ProgramError>,
{
    let program = ebpf.program_mut(name);
    let program = program.ok_or_else(|| AttachError::Object(format!("it has no program {name}")))?;
    program.try_into().map_err(program_error)
}

/// A handle of our own on the map `name`: `ebpf` keeps its own, for the programs are bound to it later.
pub(super) fn map(ebpf: &Ebpf, name: &str) -> Result<MapData, AttachError> {
    let missing = || AttachError::Object(format!("it has no map {name}"));
    let data = ebpf.map(name).and_then(map_data).ok_or_else(missing)?;
    let fd = data.fd().as_fd().try_clone_to_owned();
    let fd = fd.map_err(|error| AttachError::system("duplicating a file descriptor", error))?;
    MapData::from_fd(fd).map_err(object_error)
}

/// The array of rings.
pub(super) fn array_of_maps(ebpf: &Ebpf) -> Result<ArrayOfMaps<MapData, MapData>, AttachError> {
    let map = Map::ArrayOfMaps(map(ebpf, names::RINGS)?);
    ArrayOfMaps::try_from(map).map_err(object_error)
}

/// Makes a ring buffer of `size` bytes.
pub(super) fn new_ring(size: u32) -> Result<MapData, AttachError> {
    let kind = bpf_map_type::BPF_MAP_TYPE_RINGBUF as u32;
    let definition = aya_obj::Map::new_from_params(kind, 0, 0, size, 0);
    MapData::create(definition, "ring", None).map_err(object_error)
}

fn map_data(map: &Map) -> Option<&MapData> {
    match map {
        Map::Array(data) | Map::HashMap(data) | Map::LruHashMap(data) | Map::PerCpuHashMap(data) => Some(data),
        Map::ArrayOfMaps(data) | Map::RingBuf(data) => Some(data),
        _ => None,
    }
}

/// An error of aya's that may carry a refusal of the kernel's somewhere inside.
pub(super) fn object_error(error: impl std::error::Error + 'static) -> AttachError {
    match os_error(&error) {
        Some(code @ (libc::EPERM | libc::EACCES)) => {
            AttachError::Permission { what: "making an eBPF map", source: std::io::Error::from_raw_os_error(code) }
        }
        _ => AttachError::Object(chain(&error)),
    }
}

fn program_error(error: aya::programs::ProgramError) -> AttachError {
    object_error(error)
}

/// The innermost system error of a chain.
pub(super) fn os_error(error: &(dyn std::error::Error + 'static)) -> Option<i32> {
    let mut current = Some(error);
    let mut code = None;
    while let Some(error) = current {
        code = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::raw_os_error).or(code);
        current = error.source();
    }
    code
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut current = error.source();
    while let Some(error) = current {
        text = format!("{text}: {error}");
        current = error.source();
    }
    text
}
