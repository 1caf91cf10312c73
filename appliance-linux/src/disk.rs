//! Threads that a disk may hold for ever. The kernel ends none that waits for one that hangs, whoever kills the process: so
//! they hold nothing of it that the next daemon needs, be it the TUN device, a socket or the mark of the owner.

use std::io::{self, Stderr};
use std::os::fd::RawFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::thread::{self, JoinHandle};

/// Behind stdin, stdout and stderr.
const FIRST: RawFd = 3;

/// What holds no descriptor and is handed none: to such a thread it would be another one, or none.
pub(crate) trait Plain: Send + 'static {}

impl Plain for u64 {}
impl Plain for PathBuf {}
/// Before the first one.
impl Plain for Stderr {}
impl<T: Plain> Plain for Option<T> {}
impl<T: Plain + Sync> Plain for Arc<T> {}
impl<T: Plain> Plain for Receiver<T> {}
impl<A: Plain, B: Plain> Plain for (A, B) {}
impl<A: Plain, B: Plain, C: Plain> Plain for (A, B, C) {}

/// A thread with descriptors of its own, none of those that are open now or later elsewhere. It has what it is given, and
/// `work` brings nothing along.
///
/// # Errors
/// When the kernel grants no thread.
pub(crate) fn thread<T: Plain>(name: &str, given: T, work: fn(T)) -> io::Result<JoinHandle<()>> {
    thread::Builder::new().name(name.into()).spawn(move || {
        // In one step: a table of its own with all of them in it would hold what others close. Where the kernel does not know
        // that (before Linux 5.9), or it is not allowed, it works all the same.
        // SAFETY: others go on using theirs in the table that they share, and what this thread is given owns none.
        let _ = unsafe { libc::syscall(libc::SYS_close_range, FIRST, RawFd::MAX, libc::CLOSE_RANGE_UNSHARE) };
        work(given);
    })
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsRawFd as _;
    use std::sync::mpsc::{self, Sender};

    use super::*;

    impl Plain for () {}
    impl Plain for String {}
    impl<T: Plain> Plain for Sender<T> {}

    #[test]
    fn a_thread_that_a_disk_may_hold_holds_nothing_of_the_process_and_takes_nothing_from_it() {
        let file = File::open("/proc/self/stat").unwrap();
        let (name, here) = (format!("/proc/thread-self/fd/{}", file.as_raw_fd()), file.metadata().unwrap().is_file());
        assert!(here && fs::symlink_metadata(&name).is_ok());
        let seen = thread("test", name.clone(), |there| {
            assert!(fs::symlink_metadata(&there).is_err() && File::open("/proc/self/stat").is_ok())
        });
        seen.unwrap().join().unwrap();
        assert!(fs::symlink_metadata(&name).is_ok(), "still open here");
    }

    /// As before Linux 5.9, for this thread and those that it makes.
    fn does_not_know_close_range() {
        // SAFETY: it only makes one.
        let rule = |code: u32, k, skipped| unsafe { libc::BPF_JUMP(code as u16, k, 0, skipped) };
        let (load, result) = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_RET | libc::BPF_K);
        let mut filter = [
            rule(load, 0, 0), // the number of the call
            rule(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, libc::SYS_close_range as u32, 1),
            rule(result, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0),
            rule(result, libc::SECCOMP_RET_ALLOW, 0),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        nix::sys::prctl::set_no_new_privs().unwrap();
        // SAFETY: the program is only read.
        let set = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        assert_eq!(set, 0, "{}", io::Error::last_os_error());
    }

    #[test]
    fn where_the_kernel_cannot_do_it_nothing_is_held_that_everybody_else_has_closed() {
        let old_kernel = thread::spawn(|| {
            does_not_know_close_range();
            let ((begins, begun), (opens, opened)) = (mpsc::channel::<()>(), mpsc::channel::<String>());
            let seen = thread("test", (begins, opened), |(begins, opened)| {
                begins.send(()).unwrap();
                let name = opened.recv().unwrap();
                assert!(fs::symlink_metadata(name).is_ok(), "it has what they have");
            });
            begun.recv().unwrap();
            let file = File::open("/proc/self/stat").unwrap();
            opens.send(format!("/proc/thread-self/fd/{}", file.as_raw_fd())).unwrap();
            seen.unwrap().join().unwrap();
        });
        old_kernel.join().unwrap();
    }
}
