//! What the scenarios ask of a gateway, whichever program it is.

use std::net::IpAddr;
use std::time::Duration;

use super::wait_for;
use crate::outcome::{Result, ensure};

/// A program to test with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Program {
    /// Ours.
    Portcullis,
    /// The peer of reference.
    StrongSwan,
    /// Libreswan, in a guest.
    Libreswan,
    /// OpenIKED, in a guest.
    OpenIked,
    /// The kernel of a guest with manual keys, and no IKE.
    Kernel,
}

impl Program {
    /// Whether it needs a kernel of its own.
    pub(crate) fn in_a_guest(self) -> bool {
        matches!(self, Self::Libreswan | Self::OpenIked | Self::Kernel)
    }

    /// Whether it names the SPIs of its IKE SAs.
    pub(crate) fn tells_ike_spis(self) -> bool {
        self != Self::Libreswan
    }
}

/// Who begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Start {
    /// As soon as the gateway runs, and again after a loss.
    Active,
    /// Waits for the peer or for `up`.
    Passive,
    /// When a packet needs it.
    OnDemand,
}

/// One peer, from the point of view of one gateway; each program's configuration is written from it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    /// Its name in commands.
    pub(crate) name: String,
    /// Our address; `None`: any.
    pub(crate) local: Option<IpAddr>,
    /// The peer's; `None`: any.
    pub(crate) remote: Option<IpAddr>,
    /// Our identity.
    pub(crate) local_id: String,
    /// The peer's.
    pub(crate) remote_id: String,
    /// Text, or `0x` and hex.
    pub(crate) psk: String,
    /// IKE proposals in strongSwan's words.
    pub(crate) ike: Vec<String>,
    /// ESP proposals in strongSwan's words, for every child.
    pub(crate) esp: Vec<String>,
    /// Child SAs.
    pub(crate) children: Vec<Child>,
    /// Who begins.
    pub(crate) start: Start,
    /// UDP encapsulation also where no NAT is.
    pub(crate) encap: bool,
    /// Liveness checks after so much silence.
    pub(crate) dpd: Duration,
}

/// A Child SA, from the point of view of one gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Child {
    /// Its name in commands.
    pub(crate) name: String,
    /// Networks on our side.
    pub(crate) local_ts: Vec<String>,
    /// Networks on the peer's side.
    pub(crate) remote_ts: Vec<String>,
    /// In transport mode: the two networks are the two ends.
    pub(crate) transport: bool,
    /// What it carries is to be compressed.
    pub(crate) compress: bool,
    /// Octets that what it sends is to look long.
    pub(crate) tfc_padding: Option<u16>,
}

impl Child {
    /// A child between networks written as in `10.1.0.0/16`.
    pub(crate) fn new(name: &str, local_ts: &[&str], remote_ts: &[&str]) -> Self {
        let own = |list: &[&str]| list.iter().map(|&ts| ts.to_owned()).collect();
        Self {
            name: name.to_owned(),
            local_ts: own(local_ts),
            remote_ts: own(remote_ts),
            transport: false,
            compress: false,
            tfc_padding: None,
        }
    }
}

/// An IKE SA as its gateway reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct IkeSa {
    /// Name of the connection.
    pub(crate) name: String,
    /// Both SPIs, the initiator's first; Libreswan does not tell them and has its own serial number twice.
    pub(crate) spis: (u64, u64),
    /// Whether authentication is done and nobody is leaving.
    pub(crate) established: bool,
    /// The peer's address and port as the gateway prints them.
    pub(crate) remote: String,
    /// Algorithms as the gateway prints them.
    pub(crate) suite: String,
    /// Whether a NAT was found on either side.
    pub(crate) nat: bool,
    /// Its Child SAs that carry traffic.
    pub(crate) children: Vec<ChildSa>,
}

/// A Child SA as its gateway reports it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ChildSa {
    /// Name of the child.
    pub(crate) name: String,
    /// SPI of packets to us.
    pub(crate) spi_in: u32,
    /// SPI of packets to the peer.
    pub(crate) spi_out: u32,
    /// Algorithms as the gateway prints them.
    pub(crate) suite: String,
    /// Our selectors as the gateway prints them.
    pub(crate) local_ts: Vec<String>,
    /// The peer's.
    pub(crate) remote_ts: Vec<String>,
    /// Packets received and sent.
    pub(crate) packets: (u64, u64),
}

/// A running, or stopped, gateway program.
pub(crate) trait Gateway: Sync {
    /// Which program.
    fn program(&self) -> Program;

    /// Writes the configuration for these connections.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn configure(&self, connections: &[Connection]) -> Result;

    /// Writes a configuration in the program's own language, with `psk` where the language wants a file of its own.
    ///
    /// # Errors
    /// When a file cannot be written.
    fn configure_as_written(&self, text: &str, psk: &str) -> Result;

    /// Tells the running program to read its configuration again.
    ///
    /// # Errors
    /// When the program refuses it.
    fn reload(&self) -> Result;

    /// Starts the program and waits until it takes commands.
    ///
    /// # Errors
    /// When it does not.
    fn start(&mut self) -> Result;

    /// Establishes a child, and its IKE SA where there is none.
    ///
    /// # Errors
    /// The program's own words.
    fn up(&self, connection: &str, child: &str) -> Result;

    /// Deletes the IKE SA and its children.
    ///
    /// # Errors
    /// The program's own words.
    fn down(&self, connection: &str) -> Result;

    /// Asks for new keys of a child. Returns when the program has taken the order, or carried it out.
    ///
    /// # Errors
    /// The program's own words.
    fn rekey_child(&self, connection: &str, child: &str) -> Result;

    /// Asks for a new IKE SA. Returns when the program has taken the order, or carried it out.
    ///
    /// # Errors
    /// The program's own words.
    fn rekey_ike(&self, connection: &str) -> Result;

    /// What is established.
    ///
    /// # Errors
    /// When the program does not answer.
    fn sas(&self) -> Result<Vec<IkeSa>>;

    /// What the program shows its operator.
    ///
    /// # Errors
    /// When the program does not answer.
    fn shown(&self) -> Result<String>;

    /// Why the connection is not up, in the program's own word for it; empty when it gives none.
    ///
    /// # Errors
    /// When the program does not answer.
    fn cause(&self, connection: &str) -> Result<String>;

    /// The program's kernel forgets every SA, and nobody tells the program.
    ///
    /// # Errors
    /// Where ESP is not the kernel's.
    fn lose_sas(&self) -> Result {
        Err(format!("{:?} has its SAs itself", self.program()).into())
    }

    /// SIGTERM, and the program's end.
    ///
    /// # Errors
    /// When it does not end within 10 s.
    fn stop(&mut self) -> Result;

    /// SIGKILL.
    fn kill(&mut self);

    /// Everything it logged.
    fn log(&self) -> String;
}

impl dyn Gateway + '_ {
    /// The only IKE SA of a connection; half-open and leaving ones do not count.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub(crate) fn ike_sa(&self, connection: &str) -> Result<IkeSa> {
        let mut found: Vec<IkeSa> =
            self.sas()?.into_iter().filter(|sa| sa.name == connection && sa.established).collect();
        ensure(found.len() == 1, || {
            format!("{:?}: {} IKE SAs of {connection}: {found:?}", self.program(), found.len())
        })?;
        Ok(found.remove(0))
    }

    /// The only Child SA of a name.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub(crate) fn child_sa(&self, connection: &str, child: &str) -> Result<ChildSa> {
        let mut found: Vec<ChildSa> =
            self.ike_sa(connection)?.children.into_iter().filter(|sa| sa.name == child).collect();
        ensure(found.len() == 1, || format!("{:?}: {} Child SAs {child}: {found:?}", self.program(), found.len()))?;
        Ok(found.remove(0))
    }

    /// Waits until exactly one Child SA of this name stands.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub(crate) fn wait_up(&self, connection: &str, child: &str, limit: Duration) -> Result<ChildSa> {
        wait_for(&format!("{:?} to have {connection}/{child} up", self.program()), limit, || {
            self.child_sa(connection, child).map(Some)
        })
    }

    /// Waits until no IKE SA of this connection stands.
    ///
    /// # Errors
    /// When that takes longer than `limit`.
    pub(crate) fn wait_down(&self, connection: &str, limit: Duration) -> Result {
        wait_for(&format!("{:?} to have {connection} down", self.program()), limit, || {
            Ok((!self.sas()?.iter().any(|sa| sa.name == connection && sa.established)).then_some(()))
        })
    }
}
