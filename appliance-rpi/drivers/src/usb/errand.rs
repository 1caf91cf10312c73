//! What network devices are asked while in service.

use super::ecm;
use super::nic::{Class, Errand};
use super::procedure::{Event, Next};
use super::setup::Setup;
use super::smsc95xx::{FilterChange, LinkPoll};
use crate::Link;

/// An errand on its way; done with the link as it is then known.
pub(super) struct NicTask {
    errand: Errand,
    link: Link,
    work: Work,
}

enum Work {
    /// One request without an answer.
    Request(Setup),
    Filter(FilterChange),
    Link(LinkPoll),
}

impl NicTask {
    pub(super) fn new(class: Class, errand: Errand, link: Link) -> Self {
        let work = match (errand, class) {
            (Errand::ClearHalt { number, into_host }, _) => Work::Request(Setup::clear_halt(number, into_host)),
            (Errand::Filter { promiscuous }, Class::Ecm(function)) => {
                Work::Request(ecm::packet_filter(&function, promiscuous))
            }
            (Errand::Filter { promiscuous }, Class::Smsc95xx) => Work::Filter(FilterChange::new(promiscuous)),
            (Errand::Link, _) => Work::Link(LinkPoll::new(link)),
        };
        Self { errand, link, work }
    }

    pub(super) fn errand(&self) -> Errand {
        self.errand
    }

    pub(super) fn step(&mut self, event: Event<'_>) -> Next<Link> {
        match &mut self.work {
            Work::Request(setup) => match event {
                Event::Begin => Next::request(*setup),
                Event::Answer(Ok(_)) => Next::Done(self.link),
                Event::Answer(Err(_)) | Event::Elapsed => Next::Failed,
            },
            Work::Filter(filter) => filter.step(event).map(|()| self.link),
            Work::Link(poll) => poll.step(event),
        }
    }
}
