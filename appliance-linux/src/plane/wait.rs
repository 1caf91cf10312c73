//! Waiting for descriptors.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until one of the descriptors can be read.
pub(super) fn wait(descriptors: &mut [PollFd<'_>]) -> io::Result<()> {
    match poll(descriptors, PollTimeout::NONE) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn readable<F: AsFd + ?Sized>(descriptor: &F) -> PollFd<'_> {
    PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)
}
