//! Waiting for descriptors.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// Waits until one of the descriptors can be read, or for as long as this.
pub(super) fn wait(descriptors: &mut [PollFd<'_>], patience: Option<Duration>) -> io::Result<()> {
    let timeout = patience.map_or(PollTimeout::NONE, |patience| patience.try_into().unwrap_or(PollTimeout::MAX));
    match poll(descriptors, timeout) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

pub(super) fn readable<F: AsFd + ?Sized>(descriptor: &F) -> PollFd<'_> {
    PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)
}

#[cfg(test)]
mod tests {
    use std::os::unix::thread::JoinHandleExt as _;
    use std::thread;

    use nix::sys::eventfd::EventFd;
    use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, Signal, sigaction};

    use super::*;

    #[test]
    fn a_signal_is_no_reason_to_end() {
        extern "C" fn nothing(_: libc::c_int) {}
        let action = SigAction::new(SigHandler::Handler(nothing), SaFlags::empty(), SigSet::empty());
        // SAFETY: the handler does nothing.
        unsafe { sigaction(Signal::SIGUSR1, &action) }.unwrap();
        let never = EventFd::new().unwrap();
        let waits = thread::spawn(move || wait(&mut [readable(&never)], None));
        while !waits.is_finished() {
            // SAFETY: it was not joined yet.
            assert_eq!(unsafe { libc::pthread_kill(waits.as_pthread_t(), libc::SIGUSR1) }, 0);
            thread::sleep(Duration::from_millis(1));
        }
        waits.join().unwrap().unwrap();
    }
}
