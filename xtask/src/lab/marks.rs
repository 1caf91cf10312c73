//! Whether hop limit and marks of a datagram are at the other end what its sender made them.

use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::time::Duration;

use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, setsockopt, sockopt};
use socket2::SockRef;

use super::namespace::Namespace;
use crate::outcome::{Result, ensure};

const HOPS: u8 = 255;
const CLASS: u8 = 0xb8;

/// Sends a datagram with marks of its own from `sender` to `to`, an address of `receiver`, and looks at what arrives.
///
/// # Errors
/// When there are others, or nothing arrives within 5 s.
pub(crate) fn marks_arrive(sender: &Namespace, receiver: &Namespace, to: IpAddr) -> Result {
    let listener = receiver.within(|| Ok(UdpSocket::bind(SocketAddr::new(to, 0))?))?;
    listener.set_read_timeout(Some(Duration::from_secs(5)))?;
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0; 16].into() };
    let socket = sender.within(|| Ok(UdpSocket::bind(SocketAddr::new(any, 0))?))?;
    let (sending, receiving) = (SockRef::from(&socket), SockRef::from(&listener));
    if to.is_ipv4() {
        sending.set_ttl_v4(HOPS.into())?;
        sending.set_tos_v4(CLASS.into())?;
        setsockopt(&listener, sockopt::Ipv4RecvTtl, &true)?;
        receiving.set_recv_tos_v4(true)?;
    } else {
        sending.set_unicast_hops_v6(HOPS.into())?;
        sending.set_tclass_v6(CLASS.into())?;
        receiving.set_recv_hoplimit_v6(true)?;
        receiving.set_recv_tclass_v6(true)?;
    }
    socket.send_to(b"marked", listener.local_addr()?)?;
    let (mut octets, mut control) = ([0; 64], nix::cmsg_space!(libc::c_int, libc::c_int));
    let mut slices = [IoSliceMut::new(&mut octets)];
    let message = recvmsg::<SockaddrStorage>(listener.as_raw_fd(), &mut slices, Some(&mut control), MsgFlags::empty())?;
    let (mut hops, mut class) = (None, None);
    for told in message.cmsgs()? {
        match told {
            ControlMessageOwned::Ipv4Ttl(seen) | ControlMessageOwned::Ipv6HopLimit(seen) => hops = Some(seen),
            ControlMessageOwned::Ipv4Tos(seen) => class = Some(i32::from(seen)),
            ControlMessageOwned::Ipv6TClass(seen) => class = Some(seen),
            _ => {}
        }
    }
    let sent = (Some(HOPS.into()), Some(CLASS.into()));
    ensure((hops, class) == sent, || format!("sent {sent:?}, arrived as {hops:?} and {class:?}"))
}
