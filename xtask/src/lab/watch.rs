//! A look at every frame of one interface, without touching any.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use socket2::Socket;

use super::iproute;
use super::namespace::Namespace;
use super::wire::{Hears, packet_socket};
use crate::outcome::Result;

/// Which way a frame crosses the interface, as its machine sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Crossing {
    /// The machine receives it, whatever becomes of it.
    In,
    /// The machine has sent it: it passed every filter.
    Out,
}

/// The observer. Dropping it ends it.
pub(crate) struct Watch {
    interface: String,
    socket: Socket,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Shows every frame that crosses `interface` of `namespace` to `see`.
    ///
    /// # Errors
    /// When the kernel gives no packet socket.
    pub(crate) fn start(
        namespace: &Namespace,
        interface: &str,
        mut see: impl FnMut(Crossing, &[u8]) + Send + 'static,
    ) -> Result<Self> {
        let own = iproute::mac(namespace, interface)?;
        let socket = namespace.within(|| packet_socket(interface, Hears::Both))?;
        let (reader, stop) = (socket.try_clone()?, Arc::new(AtomicBool::new(false)));
        let told = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut buffer = vec![0; 65_536];
            while !told.load(Ordering::Relaxed) {
                match nix::unistd::read(&reader, &mut buffer) {
                    Ok(length) => {
                        let frame = buffer.get(..length).unwrap_or_default();
                        let crossing = if frame.get(6..12) == Some(&own) { Crossing::Out } else { Crossing::In };
                        see(crossing, frame);
                    }
                    Err(nix::errno::Errno::EAGAIN) => {
                        let mut ready = [PollFd::new(reader.as_fd(), PollFlags::POLLIN)];
                        let _ = poll(&mut ready, PollTimeout::from(20_u8));
                    }
                    Err(nix::errno::Errno::EINTR | nix::errno::Errno::ENETDOWN) => {}
                    Err(_) => return,
                }
            }
        });
        Ok(Self { interface: interface.to_owned(), socket, stop, thread: Some(thread) })
    }

    /// Checks that the observer lives and that no frame has passed it unseen since the last call.
    ///
    /// # Errors
    /// How many were missed.
    pub(crate) fn saw_all(&self) -> Result {
        if self.thread.as_ref().is_none_or(JoinHandle::is_finished) {
            return Err(format!("the watch on {} has ended", self.interface).into());
        }
        let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
        let mut length = size_of_val(&statistics) as libc::socklen_t;
        // SAFETY: the option fills a tpacket_stats, whose size is given; the descriptor is that of a live socket.
        let code = unsafe {
            libc::getsockopt(
                self.socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_STATISTICS,
                (&raw mut statistics).cast(),
                &raw mut length,
            )
        };
        match (code, statistics.tp_drops) {
            (0, 0) => Ok(()),
            (0, missed) => Err(format!("the watch on {} missed {missed} frames", self.interface).into()),
            _ => Err(io::Error::last_os_error().into()),
        }
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
