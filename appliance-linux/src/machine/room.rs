//! Who answers within this process.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use super::kernel::{Kernel, Parts, Work};
use crate::ask::{Question, Stands, Trouble, trouble};
use crate::boundary::{Dropped, Tally};
use crate::plane::Plane;

/// Who answers.
pub(crate) trait Room {
    /// Takes a question; waits for nobody.
    fn ask(&mut self, question: Question);

    /// What the guard dropped: in, in by a discard policy, out, out by a discard policy; and what it let in in clear. The kernel's
    /// counters, for whoever looks.
    fn dropped(&self) -> Dropped;
}

/// The thread that answers, and has others do what may take long; its end is theirs.
pub(super) struct Host {
    works: Sender<Work>,
    thread: Option<JoinHandle<()>>,
    dropped: Arc<Tally>,
}

impl Host {
    /// Makes what the daemon needs of the machine, the data plane's device and sockets among it, and has somebody answer; how
    /// things stand then.
    ///
    /// # Errors
    /// What is not granted. Then the machine is as it was.
    pub(super) fn start(parts: Parts<'_>) -> Result<(Self, Stands, Arc<Plane>), Trouble> {
        let (works, questions) = channel();
        let (kernel, plane) = Kernel::start(parts, &works)?;
        let (stands, dropped) = (kernel.stands(), kernel.dropped());
        let thread = thread::Builder::new().name("machine".into()).spawn(move || kernel.run(&questions));
        let thread = thread.map_err(|error| trouble("no thread to be had for the machine", &error))?;
        Ok((Self { works, thread: Some(thread), dropped }, stands, plane))
    }
}

impl Room for Host {
    fn ask(&mut self, question: Question) {
        let _ = self.works.send(Work::Question(question)); // the thread is there as long as this is
    }

    fn dropped(&self) -> Dropped {
        self.dropped.dropped()
    }
}

impl Drop for Host {
    /// Waits for the boundary's last look.
    fn drop(&mut self) {
        let _ = self.works.send(Work::End);
        self.thread.take().map(JoinHandle::join);
    }
}
