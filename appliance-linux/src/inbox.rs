//! The control thread's inbox: everything that comes to it, in the order in which it came.

use std::sync::mpsc::{SyncSender, TrySendError};

use crate::ask::Answer;
use crate::control::server::Call;
use crate::plane::{Listener, News};
use crate::signals::Wish;

/// What comes to the control thread.
pub(crate) enum Input {
    /// From the data plane.
    News(News),
    /// From the command line.
    Call(Call),
    /// From a signal.
    Wish(Wish),
    /// From the machine.
    Told(Answer),
}

/// Where others put what is for the control thread.
#[derive(Clone)]
pub(crate) struct Inbox(pub(crate) SyncSender<Input>);

impl Inbox {
    /// Hands over what must not be lost; waits when the inbox is full.
    pub(crate) fn send(&self, input: Input) {
        let _ = self.0.send(input); // fails only when the daemon ends
    }

    /// Hands over what somebody else answers for when it is lost.
    pub(crate) fn try_send(&self, input: Input) -> bool {
        self.0.try_send(input).is_ok()
    }
}

impl Listener for Inbox {
    fn offer(&self, news: News) -> Option<News> {
        match self.0.try_send(Input::News(news)) {
            Err(TrySendError::Full(Input::News(news))) => Some(news),
            _ => None, // or the daemon ends
        }
    }

    fn tell(&self, news: News) {
        self.send(Input::News(news));
    }
}
