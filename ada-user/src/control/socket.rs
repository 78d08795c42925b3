//! The socket's file in the session's folder, and who may talk through it.
//!
//! Invariant: from its first moment on the file is its owner's alone (0600); and whoever gets through even so is asked for
//! their user id.

use std::{
    io,
    os::{
        fd::{AsRawFd, OwnedFd},
        unix::{
            fs::FileTypeExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    time::Duration,
};

use rustix::{
    fs::{AtFlags, Mode, OFlags, fchmod, fstat, open, unlinkat},
    io::Errno,
    net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, bind, connect, listen, socket_with, sockopt},
};

/// Name of the socket in the session's folder.
pub const SOCKET_FILE: &str = "control.sock";

/// How long a listener may take to let somebody in.
const PATIENCE: Duration = Duration::from_secs(5);
/// Clients that may wait to be let in.
const BACKLOG: i32 = 8;

/// A socket that listens in a session's folder; dropping it removes its file.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) socket: UnixListener,
    folder: OwnedFd,
}

impl Listener {
    /// Listens in `dir`, whose session this process has locked: what lies there from before is nobody's.
    pub(super) fn bind(dir: &Path) -> io::Result<Self> {
        let folder = open_folder(dir)?;
        let socket = new_socket()?;
        // The file gets the socket's mode (unix(7)); the folder's descriptor stands for a path that may be too long.
        fchmod(&socket, Mode::RUSR | Mode::WUSR)?;
        let address = address(&folder)?;
        match bind(&socket, &address) {
            Err(Errno::ADDRINUSE) => {
                unlinkat(&folder, SOCKET_FILE, AtFlags::empty())?;
                bind(&socket, &address)?;
            }
            bound => bound?,
        }
        listen(&socket, BACKLOG)?;
        Ok(Self { socket: socket.into(), folder })
    }

    /// Lets the next one in. `None` if they may not.
    pub(super) fn accept(&self) -> io::Result<Option<UnixStream>> {
        let (stream, _) = self.socket.accept()?;
        stream.set_nonblocking(true)?;
        let peer = sockopt::socket_peercred(&stream)?.uid;
        let owner = fstat(&self.folder)?.st_uid;
        Ok((peer.is_root() || peer.as_raw() == owner).then_some(stream))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        // Without it, the file would only tell that nobody listens.
        let _ = unlinkat(&self.folder, SOCKET_FILE, AtFlags::empty());
    }
}

/// Connects to the recorder of the session in `dir`.
pub(super) fn connect_to(dir: &Path) -> io::Result<UnixStream> {
    let folder = open_folder(dir)?;
    let stream = UnixStream::from(new_socket()?);
    // A listener that does not let anybody in is no reason to wait for ever.
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_nonblocking(false)?;
    connect(&stream, &address(&folder)?)?;
    Ok(stream)
}

/// Removes the socket of a recorder that was killed. One that somebody listens at stays.
///
/// # Errors
/// If it is there, nobody listens, and it cannot be removed.
pub fn remove_stale(dir: &Path) -> io::Result<()> {
    let path = dir.join(SOCKET_FILE);
    let is_socket = path.symlink_metadata().is_ok_and(|file| file.file_type().is_socket());
    let refused = || connect_to(dir).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if is_socket && refused() { std::fs::remove_file(path) } else { Ok(()) }
}

fn open_folder(dir: &Path) -> io::Result<OwnedFd> {
    Ok(open(dir, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?)
}

fn new_socket() -> io::Result<OwnedFd> {
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    Ok(socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?)
}

fn address(folder: &OwnedFd) -> io::Result<SocketAddrUnix> {
    Ok(SocketAddrUnix::new(format!("/proc/self/fd/{}/{SOCKET_FILE}", folder.as_raw_fd()))?)
}
