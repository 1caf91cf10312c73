//! Who answers within this process.

use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::thread::{self, JoinHandle};

use super::kernel::{Kernel, Parts, Work};
use super::{Machine, Room};
use crate::ask::{Question, Trouble, trouble};
use crate::boundary::Tally;
use crate::plane::Plane;

/// The thread that answers, and has others do what may take long; its end is theirs.
pub(crate) struct Host {
    works: Sender<Work>,
    thread: Option<JoinHandle<()>>,
    dropped: Arc<Tally>,
}

impl Host {
    /// Makes what the daemon needs of the machine, the data plane's device and sockets among it, and has somebody answer.
    ///
    /// # Errors
    /// What is not granted. Then the machine is as it was.
    pub(crate) fn start(parts: Parts<'_>) -> Result<(Machine, Arc<Plane>), Trouble> {
        let (started, (works, questions)) = (parts.config.gateway.clone(), channel());
        let (kernel, plane) = Kernel::start(parts, &works)?;
        let (stands, dropped) = (kernel.stands(), kernel.dropped());
        let thread = thread::Builder::new().name("machine".into()).spawn(move || kernel.run(&questions));
        let thread = thread.map_err(|error| trouble("no thread to be had for the machine", &error))?;
        let room = Self { works, thread: Some(thread), dropped };
        Ok((Machine::new(Box::new(room), started, stands), plane))
    }
}

impl Room for Host {
    fn ask(&mut self, question: Question) {
        let _ = self.works.send(Work::Question(question)); // the thread is there as long as this is
    }

    fn dropped(&self) -> [u64; 4] {
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
