//! The control thread's inbox: everything that comes to it, in the order in which it came.

use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{SyncSender, TrySendError};

use gateway_core::cause::Unreachable;
use gateway_core::gateway::Locate;
use ipsec_core::net::Path;
use ipsec_core::sa::Event;
use ipsec_core::spd::PolicyId;

use crate::boundary::watch::Touched;
use crate::control::server::Call;
use crate::early::EarlyPacket;
use crate::signals::Wish;

/// What comes to the control thread.
pub(crate) enum Input {
    /// From the data plane.
    News(News),
    /// From the command line.
    Call(Call),
    /// From a signal.
    Wish(Wish),
    /// From the resolver: the addresses of a name.
    Resolved { question: Locate, result: Result<Vec<IpAddr>, String> },
    /// From the kernel: something of the boundary may have changed.
    BoundaryTouched(Touched),
    /// From the kernel: interfaces or addresses changed.
    AddressesChanged,
    /// From the thread that runs nft: it is done with something.
    Guarded,
}

/// What the data plane tells the control thread.
pub(crate) enum News {
    /// An IKE message, without non-ESP marker.
    Ike { path: Path, message: Vec<u8> },
    /// A packet that must be protected by this policy, and no SA to do it with.
    Acquire { policy: PolicyId, packet: Vec<u8> },
    /// ESP with an SPI that no SA has, at least not yet.
    Early(EarlyPacket),
    /// Something happened to an inbound SA.
    Inbound(Event),
    /// Something happened to an outbound SA.
    Outbound(Event),
    /// Who is at `from` says that an IKE message did not arrive, and why; unproven.
    Unreachable { path: Path, from: IpAddr, why: Unreachable },
    /// A device or socket failed for good.
    Broken { what: &'static str, error: io::Error },
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

    /// Hands over what may be lost when the control thread does not keep up. `false`: it was.
    pub(crate) fn offer(&self, news: News) -> bool {
        !matches!(self.0.try_send(Input::News(news)), Err(TrySendError::Full(_)))
    }

    /// Hands over what happens once and must not be lost.
    pub(crate) fn tell(&self, news: News) {
        self.send(Input::News(news));
    }
}
