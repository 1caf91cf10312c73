//! Threads that a disk may hold for ever. The kernel ends none that waits for one that hangs, whoever kills the process: so
//! they hold nothing of it that the next daemon needs, be it the TUN device, a socket or the mark of the owner.

use std::io;
use std::os::fd::RawFd;
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, unshare};

/// Behind stdin, stdout and stderr.
const FIRST: RawFd = 3;

/// A thread with descriptors of its own, none of those that are open now or later elsewhere. What it is given must hold none.
///
/// # Errors
/// When the kernel grants no thread.
pub(crate) fn thread(name: &str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        // Where that is not allowed it works all the same.
        if unshare(CloneFlags::CLONE_FILES).is_ok() {
            // SAFETY: the table of descriptors is this thread's alone from here on, and no value that this thread can reach
            // owns one of these: others go on using theirs in the table that they share.
            let _ = unsafe { libc::syscall(libc::SYS_close_range, FIRST, RawFd::MAX, 0) };
        }
        work();
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsRawFd as _;

    use super::*;

    #[test]
    fn a_thread_that_a_disk_may_hold_holds_nothing_of_the_process_and_takes_nothing_from_it() {
        let file = File::open("/proc/self/stat").unwrap();
        let (name, here) = (format!("/proc/thread-self/fd/{}", file.as_raw_fd()), file.metadata().unwrap().is_file());
        assert!(here && fs::symlink_metadata(&name).is_ok());
        let there = name.clone();
        let seen = thread("test", move || {
            assert!(fs::symlink_metadata(&there).is_err() && File::open("/proc/self/stat").is_ok())
        });
        seen.unwrap().join().unwrap();
        assert!(fs::symlink_metadata(&name).is_ok(), "still open here");
    }
}
