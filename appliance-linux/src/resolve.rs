//! DNS names of peers, asked for in threads of their own: the resolver may take its time.

use std::net::{IpAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

/// Names asked for at once.
const THREADS: usize = 4;
/// Names that wait for their turn.
const QUEUE: usize = 4096;

/// What becomes of a question.
type Tell = Box<dyn FnOnce(Result<Vec<IpAddr>, String>) + Send>;

/// The threads that ask; they end with it.
pub(crate) struct Resolver {
    questions: SyncSender<(String, Tell)>,
}

impl Resolver {
    /// Starts the threads.
    pub(crate) fn start() -> std::io::Result<Self> {
        let (questions, queue) = sync_channel(QUEUE);
        let queue = Arc::new(Mutex::new(queue));
        for _ in 0..THREADS {
            let queue = Arc::clone(&queue);
            thread::Builder::new().name("resolver".into()).spawn(move || serve(&queue))?;
        }
        Ok(Self { questions })
    }

    /// Asks for a name; `tell` gets the addresses in the resolver's order, or why there are none.
    pub(crate) fn ask(&self, name: String, tell: impl FnOnce(Result<Vec<IpAddr>, String>) + Send + 'static) {
        let refused = match self.questions.try_send((name, Box::new(tell))) {
            Ok(()) => return,
            Err(TrySendError::Full(refused) | TrySendError::Disconnected(refused)) => refused,
        };
        (refused.1)(Err("too many names are being asked for".to_owned()));
    }
}

fn serve(queue: &Mutex<Receiver<(String, Tell)>>) {
    loop {
        let question = queue.lock().unwrap_or_else(PoisonError::into_inner).recv();
        let Ok((name, tell)) = question else { return };
        tell(resolve(&name));
    }
}

fn resolve(name: &str) -> Result<Vec<IpAddr>, String> {
    let found = (name, 500).to_socket_addrs().map_err(|error| error.to_string())?;
    let mut addresses = Vec::new();
    for address in found.map(|address| address.ip()) {
        if !addresses.contains(&address) {
            addresses.push(address);
        }
    }
    if addresses.is_empty() { Err("no address".to_owned()) } else { Ok(addresses) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_resolved_once_each_and_an_unknown_one_is_an_error() {
        assert!(resolve("localhost").unwrap().iter().all(IpAddr::is_loopback));
        assert_eq!(resolve("192.0.2.7"), Ok(vec!["192.0.2.7".parse().unwrap()]));
        assert!(resolve("no-such-host.invalid").is_err());
    }

    #[test]
    fn every_question_is_answered_in_some_order() {
        let resolver = Resolver::start().unwrap();
        let (sender, answers) = std::sync::mpsc::channel();
        for number in 0..50_u8 {
            let sender = sender.clone();
            resolver.ask(format!("192.0.2.{number}"), move |answer| sender.send(answer.unwrap()[0]).unwrap());
        }
        drop(sender);
        let mut answers: Vec<_> = answers.iter().collect();
        answers.sort_unstable();
        assert!(answers.into_iter().eq((0..50).map(|number| IpAddr::from([192, 0, 2, number]))));
    }
}
