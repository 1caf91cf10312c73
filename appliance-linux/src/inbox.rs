//! The control thread's inbox: everything that comes to it, in the order in which it came. Who puts something there waits for
//! nobody. What may be lost takes one of so many places. All else is answered questions, wishes, and what the machine tells of
//! itself: only who may change the machine has a hand in how much of that there is.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

use crate::ask::Answer;
use crate::control::server::Call;
use crate::disk;
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

/// An inbox with so many places for what may be lost, and where its inputs come out.
pub(crate) fn open(places: usize) -> (Inbox, Inputs) {
    let (inputs, taken) = mpsc::channel();
    (Inbox { inputs, free: Arc::new(AtomicUsize::new(places)) }, Inputs(taken))
}

/// Where others put what is for the control thread.
#[derive(Clone)]
pub(crate) struct Inbox {
    inputs: Sender<(Input, Option<Place>)>,
    free: Arc<AtomicUsize>,
}

/// Where inputs come out.
pub(crate) struct Inputs(Receiver<(Input, Option<Place>)>);

/// One of the places, taken until its end.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(free: &Arc<AtomicUsize>) -> Option<Self> {
        let taken = free.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |free| free.checked_sub(1));
        taken.is_ok().then(|| Self(Arc::clone(free)))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Inbox {
    /// Hands over what must not be lost: strangers, who fill places, hold up nobody who has that.
    pub(crate) fn send(&self, input: Input) {
        let _ = self.inputs.send((input, None)); // fails only when the daemon ends
    }

    /// Hands over what somebody else answers for when it is lost.
    pub(crate) fn try_send(&self, input: Input) -> bool {
        self.put(input).is_none()
    }

    /// Returns what there is no place for.
    fn put(&self, input: Input) -> Option<Input> {
        let Some(place) = Place::take(&self.free) else { return Some(input) };
        let _ = self.inputs.send((input, Some(place))); // or the daemon ends
        None
    }
}

/// Its end of a channel; what is in it is at the other one.
impl disk::Plain for Inbox {}

impl Listener for Inbox {
    fn offer(&self, news: News) -> Option<News> {
        match self.put(Input::News(news)) {
            Some(Input::News(news)) => Some(news),
            _ => None,
        }
    }

    fn tell(&self, news: News) {
        self.send(Input::News(news));
    }
}

impl Inputs {
    /// The next one, if it comes within this time.
    pub(crate) fn recv_timeout(&self, patience: Duration) -> Result<Input, RecvTimeoutError> {
        self.0.recv_timeout(patience).map(|(input, _)| input)
    }

    /// The next one, if it is there.
    pub(crate) fn try_recv(&self) -> Option<Input> {
        self.0.try_recv().ok().map(|(input, _)| input)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_34_who_fills_the_inbox_holds_up_nobody_who_has_what_must_not_be_lost() {
        let (inbox, inputs) = open(2);
        let offered = || (0..9).filter(|_| inbox.offer(News::Sas).is_none()).count();
        assert_eq!(offered(), 2);
        // This ends though nobody takes anything.
        (0..100).for_each(|_| inbox.send(Input::Told(Answer::Moved)));
        inbox.tell(News::Sas);
        assert!(!inbox.try_send(Input::Wish(Wish::Reload)) && offered() == 0);
        let first = inputs.recv_timeout(Duration::ZERO);
        assert!(matches!(first, Ok(Input::News(_))), "in their order");
        assert_eq!(offered(), 1, "it has left its place");
        let rest: Vec<_> = std::iter::from_fn(|| inputs.try_recv()).collect();
        assert!(matches!(rest[0], Input::News(_)) && rest.len() == 103, "{}", rest.len());
        assert!(rest[1..101].iter().all(|input| matches!(input, Input::Told(Answer::Moved))));
        assert_eq!(offered(), 2, "and each one place");
    }
}
