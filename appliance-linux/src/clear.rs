//! What a BYPASS policy lets through: back to the kernel, past our routing rule.
//!
//! Routes know addresses only, so everything to a protected network comes to the TUN device, also what a policy on
//! ports or protocols lets go in clear. It leaves again through raw sockets with our firewall mark, as it came.

use std::io;
use std::net::{IpAddr, SocketAddr};

use ipsec_core::flow::Flow;
use socket2::{Domain, Protocol, Socket, Type};

use crate::boundary::MARK;

/// A raw socket for each family.
pub(crate) struct ClearSockets {
    v4: Socket,
    /// `None` where the kernel has no IPv6.
    v6: Option<Socket>,
}

impl ClearSockets {
    pub(crate) fn open() -> io::Result<Self> {
        let v4 = Socket::new(Domain::IPV4, Type::RAW.cloexec().nonblocking(), Some(Protocol::from(libc::IPPROTO_RAW)))?;
        v4.set_header_included_v4(true)?;
        v4.set_mark(MARK)?;
        let v6 = Socket::new(Domain::IPV6, Type::RAW.cloexec().nonblocking(), Some(Protocol::from(libc::IPPROTO_RAW)));
        let v6 = match v6 {
            Ok(v6) => {
                v6.set_header_included_v6(true)?;
                v6.set_mark(MARK)?;
                Some(v6)
            }
            Err(_) => None,
        };
        Ok(Self { v4, v6 })
    }

    /// Sends a whole IP packet on.
    pub(crate) fn send(&self, packet: &[u8]) -> io::Result<()> {
        let flow = Flow::of(packet).map_err(|_| io::ErrorKind::InvalidData)?;
        let packet = packet.get(..flow.len).unwrap_or_default();
        let socket = match flow.destination {
            IpAddr::V4(_) => &self.v4,
            IpAddr::V6(_) => self.v6.as_ref().ok_or(io::ErrorKind::Unsupported)?,
        };
        socket.send_to(packet, &SocketAddr::new(flow.destination, 0).into()).map(drop)
    }
}
