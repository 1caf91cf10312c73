//! Lines on their way to somebody who may stop reading: a journal that is stuck, a full disk, a pipe that nobody empties.
//! A thread of its own writes them, so that whoever has something to say never waits.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow};
use tracing::warn;

use crate::disk::{self, Plain};

/// So many octets wait; what is more is lost, and counted.
const ROOM: usize = 1 << 20;
/// How long the end waits for whoever reads.
const LAST: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Queue {
    lines: VecDeque<Vec<u8>>,
    octets: usize,
    lost: u64,
    /// Lines that were taken are being written.
    writes: bool,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// It is no longer empty, or all of it is written.
    changed: Condvar,
}

/// Where a line goes: `write` takes a whole one.
#[derive(Clone)]
pub(crate) struct Lines(Arc<Shared>);

/// Its end waits until all is written, or for as long as one waits for a reader.
pub(crate) struct Written(Arc<Shared>);

/// Has lines written to `out`.
///
/// # Errors
/// When there is no thread to be had.
pub(crate) fn start(out: impl Write + Plain) -> io::Result<(Lines, Written)> {
    let shared = Arc::new(Shared::default());
    let queue = Arc::clone(&shared);
    // It inherits that signals are blocked: they are for others.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    let writes = disk::thread("log", (queue, out), write);
    before.thread_set_mask()?;
    writes.map(|_| (Lines(Arc::clone(&shared)), Written(shared)))
}

fn write<W: Write>((queue, mut out): (Arc<Shared>, W)) {
    loop {
        let (lines, lost) = queue.take();
        for line in lines {
            let _ = out.write_all(&line); // there is nobody else to tell
        }
        if lost > 0 {
            warn!(lost, "nobody took the log for a while: lines of it are lost");
        }
    }
}

impl Plain for Shared {}

impl Shared {
    fn locked<T>(&self, with: impl FnOnce(&mut Queue) -> T) -> T {
        with(&mut self.queue.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What is there, once there is something, and how many lines were lost meanwhile. What was taken before is written.
    fn take(&self) -> (VecDeque<Vec<u8>>, u64) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        queue.writes = false;
        self.changed.notify_all();
        queue = self.changed.wait_while(queue, |queue| queue.lines.is_empty()).unwrap_or_else(PoisonError::into_inner);
        (queue.writes, queue.octets) = (true, 0);
        (std::mem::take(&mut queue.lines), std::mem::take(&mut queue.lost))
    }
}

impl Write for Lines {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.locked(|queue| {
            if queue.octets.saturating_add(line.len()) > ROOM {
                queue.lost += 1;
            } else {
                queue.octets += line.len();
                queue.lines.push_back(line.to_vec());
            }
        });
        self.0.changed.notify_all();
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        let queue = self.0.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = self.0.changed.wait_timeout_while(queue, LAST, |queue| queue.writes || !queue.lines.is_empty());
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::os::fd::AsRawFd as _;
    use std::sync::mpsc::{self, Receiver, SyncSender};
    use std::thread;

    use nix::sys::signal::Signal;

    use super::*;

    /// Takes so many lines before somebody reads.
    struct Pipe(SyncSender<String>);

    impl Plain for Pipe {}

    impl Write for Pipe {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.send(String::from_utf8_lossy(line).into_owned()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn pipe(room: usize) -> (Receiver<String>, Pipe) {
        let (write, read) = mpsc::sync_channel(room);
        (read, Pipe(write))
    }

    #[test]
    fn whoever_has_something_to_say_never_waits_for_a_reader() {
        let (read, write) = pipe(1000);
        let (mut lines, written) = start(write).unwrap();
        // More than a pipe, a queue and what was taken from it hold: this ends though nobody reads.
        let many = ROOM / 2;
        (0..many).for_each(|number| lines.write_all(format!("{number:07}\n").as_bytes()).unwrap());
        let (found, all) = mpsc::channel();
        let reader = thread::spawn(move || {
            for line in read {
                match line.trim_end().parse::<usize>() {
                    Ok(number) => found.send(number).unwrap(),
                    Err(_) => return, // the last word
                }
            }
        });
        drop(written);
        while !reader.is_finished() {
            lines.write_all(b"the last word\n").unwrap();
            thread::sleep(Duration::from_millis(1));
        }
        let all: Vec<usize> = all.iter().collect();
        assert_eq!(all.first(), Some(&0));
        assert!(all.is_sorted() && all.len() < many, "in their order, and no more than there is room for");
    }

    #[test]
    fn whoever_writes_holds_nothing_that_others_have() {
        struct Look(String, SyncSender<bool>);
        impl Plain for Look {}
        impl Write for Look {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                self.1.send(fs::symlink_metadata(&self.0).is_ok()).map_err(|_| io::ErrorKind::BrokenPipe)?;
                Ok(line.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (file, (look, looked)) = (File::open("/proc/self/stat").unwrap(), mpsc::sync_channel(1));
        let (mut lines, _) = start(Look(format!("/proc/thread-self/fd/{}", file.as_raw_fd()), look)).unwrap();
        lines.write_all(b"line").unwrap();
        assert!(!looked.recv().unwrap());
    }

    #[test]
    fn signals_find_others_than_whoever_writes_and_those_as_before() {
        struct Look(SyncSender<bool>);
        impl Plain for Look {}
        impl Write for Look {
            fn write(&mut self, line: &[u8]) -> io::Result<usize> {
                let blocked = SigSet::thread_get_mask()?.contains(Signal::SIGTERM);
                self.0.send(blocked).map_err(|_| io::ErrorKind::BrokenPipe)?;
                Ok(line.len())
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let (look, looked) = mpsc::sync_channel(1);
        let before = SigSet::thread_get_mask().unwrap();
        let (mut lines, _) = start(Look(look)).unwrap();
        assert_eq!(SigSet::thread_get_mask().unwrap(), before);
        assert!(!before.contains(Signal::SIGTERM));
        lines.write_all(b"line").unwrap();
        assert!(looked.recv().unwrap());
    }

    #[test]
    fn what_is_lost_is_told_once_and_what_is_taken_makes_room() {
        let shared = Arc::new(Shared::default());
        let mut lines = Lines(Arc::clone(&shared));
        for lost in [2, 0, 1] {
            lines.write_all(&vec![b'x'; ROOM]).unwrap();
            (0..lost).for_each(|_| lines.write_all(b"more").unwrap());
            let (taken, told) = shared.take();
            assert_eq!((taken.len(), told), (1, lost));
        }
    }

    #[test]
    fn who_waits_for_the_end_waits_for_what_was_taken_and_is_told_when_that_is_written() {
        let shared = Arc::new(Shared::default());
        let mut lines = Lines(Arc::clone(&shared));
        lines.write_all(b"line").unwrap();
        assert_eq!(shared.take().0.len(), 1);
        let queue = shared.queue.lock().unwrap();
        assert!(queue.writes && queue.lines.is_empty());
        let taker = Arc::clone(&shared);
        let next = thread::spawn(move || taker.take());
        drop(shared.changed.wait_while(queue, |queue| queue.writes).unwrap());
        lines.write_all(b"next").unwrap();
        assert_eq!(next.join().unwrap().0.len(), 1);
    }

    #[test]
    fn the_end_waits_for_the_last_line() {
        let (read, write) = pipe(100);
        let (mut lines, written) = start(write).unwrap();
        for number in 0..100 {
            lines.write_all(format!("{number}\n").as_bytes()).unwrap();
        }
        drop(written);
        // Nothing is on its way any more.
        assert!(lines.0.locked(|queue| queue.lines.is_empty() && !queue.writes));
        assert_eq!(read.try_iter().last().as_deref(), Some("99\n"));
    }
}
