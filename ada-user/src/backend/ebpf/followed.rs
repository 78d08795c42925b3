//! Which processes are recorded and have not ended, where new ones are followed.
//!
//! Invariant: whoever is of the family of a recorded process is in the kernel programs' table, or counted as left out.

use std::{io::ErrorKind, sync::Arc};

use ada_format::wire::names;
use aya::{
    Ebpf,
    maps::{HashMap, Map, MapData, MapError},
};

use super::object;
use crate::{
    backend::{AttachError, LiveGauge},
    target::{descendants, has_ended},
};

/// To insert only what is not there (`linux/bpf.h`).
const BPF_NOEXIST: u64 = 1;

/// The table that the kernel programs keep.
pub(super) struct Followed(HashMap<MapData, u32, u32>);

/// What came of taking in those that were there already.
#[derive(Debug, Default)]
pub(super) struct Adopted {
    /// Their ids.
    pub(super) pids: Vec<u32>,
    /// Those for which there was no room.
    pub(super) left_out: u64,
}

impl Followed {
    pub(super) fn of(ebpf: &Ebpf) -> Result<Followed, AttachError> {
        let map = Map::HashMap(object::map(ebpf, names::TARGETS)?);
        HashMap::try_from(map).map(Followed).map_err(object::object_error)
    }

    /// Takes in what processes made before the programs saw to that. From now on nobody of the family is made unseen, so
    /// that looking until there is no new one finds all of them.
    pub(super) fn adopt(&mut self, pids: &[u32]) -> Adopted {
        let mut adopted = Adopted::default();
        loop {
            let before = adopted.pids.len();
            adopted.left_out = 0;
            for pid in descendants(pids) {
                self.take_in(pid, &mut adopted);
            }
            if adopted.pids.len() == before {
                return adopted;
            }
        }
    }

    fn take_in(&mut self, pid: u32, adopted: &mut Adopted) {
        match self.0.insert(pid, 1, BPF_NOEXIST) {
            // The programs have seen it end if it was here by then.
            Ok(()) if has_ended(pid) => drop(self.0.remove(&pid)),
            Ok(()) => adopted.pids.push(pid),
            Err(error) if is_there(&error) => {}
            Err(_) => adopted.left_out += 1,
        }
    }

    /// Tells which they are.
    pub(super) fn gauge(self) -> LiveGauge {
        Arc::new(move || self.0.keys().filter_map(Result::ok).collect())
    }
}

fn is_there(error: &MapError) -> bool {
    matches!(error, MapError::SyscallError(error) if error.io_error.kind() == ErrorKind::AlreadyExists)
}
