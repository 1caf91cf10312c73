//! The machine as the control thread knows it: whom it asks, and what it was told last.
//!
//! Questions and answers are messages ([`mod@crate::ask`]). What answers in this process is a thread for all that the kernel is
//! asked and told ([`kernel`]), one for what the disk keeps ([`crate::ledger`]) and one for names ([`crate::resolve`]): a disk
//! or a name server that takes its time holds up nobody else.

mod kernel;
mod room;
mod ways;

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;

use gateway_core::cause::Unsent;
use gateway_core::config::Settings;

use crate::ask::{Question, Stands, Trouble};
use crate::boundary::{Dropped, View};
use crate::plane::{Plane, unsent};
pub(crate) use kernel::Parts;
use room::Host;
pub(crate) use room::Room;

/// The machine while the daemon runs; its end is that of who answers.
pub(crate) struct Machine {
    room: Box<dyn Room>,
    /// `[gateway]` at the start: a reload changes none of what the machine was told by it.
    started: Settings,
    stands: Stands,
}

impl Machine {
    /// This machine, with the data plane that lies on its device and its sockets.
    ///
    /// # Errors
    /// What is not granted. Then the machine is as it was.
    pub(crate) fn start(parts: Parts<'_>) -> Result<(Self, Arc<Plane>), Trouble> {
        let started = parts.config.gateway.clone();
        let (host, stands, plane) = Host::start(parts)?;
        Ok((Self::new(Box::new(host), started, stands), plane))
    }

    /// One that somebody else answers for.
    pub(crate) fn new(room: Box<dyn Room>, started: Settings, stands: Stands) -> Self {
        Self { room, started, stands }
    }

    /// Asks; the answer comes through the inbox.
    pub(crate) fn ask(&mut self, question: Question) {
        self.room.ask(question);
    }

    /// How things stand from now on.
    pub(crate) fn stands(&mut self, stands: Stands) {
        self.stands = stands;
    }

    /// `[gateway]` as it was at the start.
    pub(crate) fn started(&self) -> &Settings {
        &self.started
    }

    /// The boundary, as far as anybody was told.
    pub(crate) fn boundary(&self) -> &View {
        &self.stands.boundary
    }

    pub(crate) fn dropped(&self) -> Dropped {
        self.room.dropped()
    }

    /// Why a message of ours could not be sent, in words.
    pub(crate) fn why_not_sent(&self, error: &io::Error) -> Unsent {
        let (mut unsent, missing) = (unsent(error), &self.stands.missing);
        if error.kind() == io::ErrorKind::AddrNotAvailable && !missing.is_empty() {
            unsent.why += &format!("; \"outside\" names {}, and there is no such interface", listed(missing));
        }
        unsent
    }
}

fn listed(names: &BTreeSet<String>) -> String {
    names.iter().map(String::as_str).collect::<Vec<_>>().join(", ")
}
