//! A procedure is a row of control transfers and pauses with one device, written as a state machine that does no I/O:
//! it is told what happened and says what to do next, so that nothing in the stack ever blocks.

use super::setup::Setup;
use super::transfer::TransferError;

/// A control transfer to the device of the procedure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) setup: Setup,
    /// Data stage of a request to the device; as much of it as `setup.length` says.
    pub(super) out: [u8; 4],
}

impl From<Setup> for Request {
    fn from(setup: Setup) -> Self {
        Self { setup, out: [0; 4] }
    }
}

/// What happened.
#[derive(Clone, Copy, Debug)]
pub(super) enum Event<'a> {
    /// The procedure begins.
    Begin,
    /// The control transfer ended.
    Answer(Result<&'a [u8], TransferError>),
    /// The pause is over.
    Elapsed,
}

/// What to do next.
#[derive(Clone, Copy, Debug)]
pub(super) enum Next<T> {
    Request(Request),
    /// Pause for microseconds.
    Wait(u64),
    Done(T),
    Failed,
}

impl<T> Next<T> {
    pub(super) fn request(setup: Setup) -> Self {
        Self::Request(setup.into())
    }

    pub(super) fn map<U>(self, change: impl FnOnce(T) -> U) -> Next<U> {
        match self {
            Self::Request(request) => Next::Request(request),
            Self::Wait(us) => Next::Wait(us),
            Self::Done(value) => Next::Done(change(value)),
            Self::Failed => Next::Failed,
        }
    }
}
