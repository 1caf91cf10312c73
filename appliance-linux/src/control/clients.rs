//! Who is connected to the control socket, and what each may take: a slow client costs its own seat and nobody else's.
//!
//! Who is slow to ask or to read can be sent away at any time, and is when the seats are all taken: first the one who has
//! been slow for longest, of the user who takes most seats. Who waits for the daemon keeps its seat, so there are fewer of
//! those.

use std::cmp::Reverse;
use std::io;
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Connections at once.
pub(crate) const CLIENTS: usize = 64;
/// Commands that wait for an outcome at once (`up`, `down`, `rekey`, `reload`).
pub(crate) const WAITING: usize = 32;
/// Listeners to events at once.
pub(crate) const LISTENING: usize = 8;

/// What a client is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// It is its turn: to ask, or to read the answer.
    Reading,
    /// The daemon answers at once.
    Asking,
    /// The daemon answers when there is an outcome.
    Waiting,
    /// It listens to events.
    Listening,
}

impl Stage {
    /// How many may be at it at once.
    fn limit(self) -> usize {
        match self {
            Self::Reading | Self::Asking => CLIENTS,
            Self::Waiting => WAITING,
            Self::Listening => LISTENING,
        }
    }
}

/// Everybody who is connected; first who has been at its stage for longest.
#[derive(Default)]
pub(crate) struct Clients(Mutex<Room>);

#[derive(Default)]
struct Room {
    seats: Vec<Taken>,
    next: u64,
    closed: bool,
}

struct Taken {
    number: u64,
    uid: u32,
    stage: Stage,
    /// To send it away with.
    stream: UnixStream,
}

/// A client's place; given back on drop.
pub(crate) struct Seat {
    clients: Arc<Clients>,
    number: u64,
    uid: u32,
}

impl Clients {
    /// Takes one more, and sends somebody slow away when it is one too many.
    ///
    /// # Errors
    /// When all seats are taken by those whom the daemon is busy with, or the server ends.
    pub(crate) fn admit(clients: &Arc<Self>, stream: &UnixStream, uid: u32) -> io::Result<Seat> {
        let stream = stream.try_clone()?;
        let mut room = clients.room();
        if room.closed || (room.seats.len() >= CLIENTS && !room.send_one_away()) {
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        let number = room.next;
        room.next += 1;
        room.seats.push(Taken { number, uid, stage: Stage::Reading, stream });
        Ok(Seat { clients: Arc::clone(clients), number, uid })
    }

    /// Sends everybody away, and takes nobody any more. Who waits for an answer of the daemon still gets it.
    pub(crate) fn close(&self) {
        let mut room = self.room();
        room.closed = true;
        for taken in room.seats.iter().filter(|taken| matches!(taken.stage, Stage::Reading | Stage::Listening)) {
            let _ = taken.stream.shutdown(Shutdown::Both); // it has left by itself
        }
    }

    fn room(&self) -> MutexGuard<'_, Room> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Room {
    fn send_one_away(&mut self) -> bool {
        let slow = |taken: &&Taken| taken.stage == Stage::Reading;
        let seats_of = |uid| self.seats.iter().filter(slow).filter(|taken| taken.uid == uid).count();
        // The first of equals: `min_by_key` keeps it, `max_by_key` would not.
        let found = self.seats.iter().filter(slow).min_by_key(|taken| Reverse(seats_of(taken.uid)));
        let Some(number) = found.map(|taken| taken.number) else { return false };
        for taken in self.seats.extract_if(.., |taken| taken.number == number) {
            let _ = taken.stream.shutdown(Shutdown::Both); // wakes its thread, which ends
        }
        true
    }
}

impl Seat {
    /// Whose it is.
    pub(crate) fn uid(&self) -> u32 {
        self.uid
    }

    /// Goes over to another stage; `false` when as many are at it as may be.
    pub(crate) fn take(&self, stage: Stage) -> bool {
        let mut room = self.clients.room();
        let others = room.seats.iter().filter(|taken| taken.stage == stage && taken.number != self.number).count();
        // Who was sent away has none.
        let Some(place) = room.seats.iter().position(|taken| taken.number == self.number) else { return false };
        let room_left = others < stage.limit();
        if room_left {
            let taken = room.seats.remove(place);
            room.seats.push(Taken { stage, ..taken });
        }
        room_left
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.clients.room().seats.retain(|taken| taken.number != self.number);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn is_open(mut stream: &UnixStream) -> bool {
        stream.set_nonblocking(true).unwrap();
        !matches!(stream.read(&mut [0]), Ok(0))
    }

    #[test]
    fn f_34_the_greediest_user_loses_its_oldest_seat_and_who_waits_keeps_its_own() {
        let clients = Arc::new(Clients::default());
        let mut held = Vec::new();
        let mut admit = |uid| {
            let (ours, theirs) = UnixStream::pair().unwrap();
            held.push((Clients::admit(&clients, &ours, uid).unwrap(), theirs));
        };
        (0..3).for_each(|_| admit(1000));
        (3..CLIENTS).for_each(|_| admit(0));
        admit(1000);
        assert!(held[..3].iter().all(|(_, stream)| is_open(stream)));
        assert!(!is_open(&held[3].1), "the oldest of the user with the most");
        assert!(held[4..].iter().all(|(_, stream)| is_open(stream)));
        let waiting = held.iter().filter(|(seat, _)| seat.take(Stage::Waiting)).count();
        assert_eq!(waiting, WAITING);
        drop(held);
        assert!(clients.room().seats.is_empty(), "seats are given back");
    }

    #[test]
    fn f_34_so_many_listen_as_the_manual_says_and_keep_nobody_else_out() {
        let clients = Arc::new(Clients::default());
        let mut streams = Vec::new();
        let seats: Vec<_> = (0..CLIENTS)
            .map(|_| {
                let (ours, theirs) = UnixStream::pair().unwrap();
                streams.push(theirs);
                Clients::admit(&clients, &ours, 0).unwrap()
            })
            .collect();
        let (listening, others): (Vec<_>, Vec<_>) = seats.iter().partition(|seat| seat.take(Stage::Listening));
        assert_eq!(listening.len(), LISTENING);
        assert_eq!(others.iter().filter(|seat| seat.take(Stage::Waiting)).count(), WAITING);
        let manual = include_str!("../../../docs/operations.md");
        let told = format!(
            "There are {CLIENTS} seats, {WAITING} of them for commands that wait (`up`, `down`, `rekey`, `reload`) and {LISTENING} for listeners;"
        );
        assert!(manual.split_whitespace().collect::<Vec<_>>().join(" ").contains(&told), "{told}");
    }

    #[test]
    fn f_34_who_has_just_got_its_answer_is_not_the_one_who_has_been_slow_for_longest() {
        let clients = Arc::new(Clients::default());
        let mut streams = Vec::new();
        let mut admit = || {
            let (ours, theirs) = UnixStream::pair().unwrap();
            streams.push(theirs);
            Clients::admit(&clients, &ours, 0).unwrap()
        };
        let waited = admit();
        assert!(waited.take(Stage::Waiting));
        let _slow: Vec<_> = (1..CLIENTS).map(|_| admit()).collect();
        assert!(waited.take(Stage::Reading), "its answer is there");
        let _one_too_many = admit();
        let open: Vec<_> = streams.iter().take(2).map(is_open).collect();
        assert_eq!(open, [true, false]);
    }
}
