//! Interfaces and their addresses.

use std::io;
use std::net::IpAddr;

use netlink_packet_core::{NLM_F_ACK, NLM_F_DUMP};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::{AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, In6AddrGenMode, LinkAttribute, LinkFlags, LinkInfo, LinkMessage,
};

use super::Netlink;

/// An address of this machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LocalAddr {
    /// The address.
    pub(crate) addr: IpAddr,
    /// The length of the prefix of its network.
    pub(crate) prefix: u8,
    /// The index of its interface.
    pub(crate) link: u32,
    /// Whether packets may be sent from it: an IPv6 address may not until nobody else is found to have it.
    pub(crate) usable: bool,
}

/// An interface.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Link {
    pub(crate) index: u32,
    /// Whether it is switched on, with a carrier or without.
    pub(crate) up: bool,
    pub(crate) loopback: bool,
    /// What it is made by, `bridge` say; `None`: nothing but its driver.
    pub(crate) kind: Option<String>,
    /// The index of the interface that it is a part of.
    pub(crate) master: Option<u32>,
}

impl Netlink {
    /// Switches an interface on, with this MTU.
    pub(crate) fn link_up(&mut self, link: u32, mtu: u32) -> io::Result<()> {
        // Without a link-local address the kernel sends no router solicitations of its own accord. Where there is no
        // IPv6 this fails, and is not needed.
        let no_address = vec![AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)])];
        let _ = self.set_link(link, LinkFlags::empty(), LinkAttribute::AfSpecUnspec(no_address));
        self.set_link(link, LinkFlags::Up, LinkAttribute::Mtu(mtu))
    }

    /// Gives an interface another name. It is switched off: before Linux 6.2 the kernel renames nothing that is on.
    pub(crate) fn rename(&mut self, link: u32, name: &str) -> io::Result<()> {
        let mut off = LinkMessage::default();
        off.header.index = link;
        off.header.change_mask = LinkFlags::Up;
        self.change(RouteNetlinkMessage::SetLink(off), 0)?;
        self.set_link(link, LinkFlags::empty(), LinkAttribute::IfName(name.to_owned()))
    }

    /// Removes an interface, as an operator might.
    #[cfg(test)]
    pub(crate) fn remove_link(&mut self, link: u32) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link;
        self.change(RouteNetlinkMessage::DelLink(message), 0)
    }

    fn set_link(&mut self, link: u32, flags: LinkFlags, attribute: LinkAttribute) -> io::Result<()> {
        let mut message = LinkMessage::default();
        message.header.index = link;
        message.header.flags = flags;
        message.header.change_mask = flags;
        message.attributes.push(attribute);
        self.change(RouteNetlinkMessage::SetLink(message), 0)
    }

    /// Whether an interface is switched on and has this MTU.
    pub(crate) fn link_is(&mut self, link: u32, mtu: u32) -> io::Result<bool> {
        let found = self.link(link)?;
        let up = found.header.flags.contains(LinkFlags::Up);
        Ok(up && found.attributes.contains(&LinkAttribute::Mtu(mtu)))
    }

    fn link(&mut self, link: u32) -> io::Result<LinkMessage> {
        let mut message = LinkMessage::default();
        message.header.index = link;
        let answers = self.ask(RouteNetlinkMessage::GetLink(message), NLM_F_ACK)?;
        let found = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        found.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Whether an interface is a TUN device; one that cannot be asked about is none.
    pub(crate) fn is_tun(&mut self, link: u32) -> bool {
        self.link(link).is_ok_and(|found| kind(&found).as_deref() == Some("tun"))
    }

    /// Every interface.
    pub(crate) fn links(&mut self) -> io::Result<Vec<Link>> {
        let answers = self.ask(RouteNetlinkMessage::GetLink(LinkMessage::default()), NLM_F_DUMP)?;
        let links = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        let seen = |link: LinkMessage| Link {
            index: link.header.index,
            up: link.header.flags.contains(LinkFlags::Up),
            loopback: link.header.flags.contains(LinkFlags::Loopback),
            kind: kind(&link),
            master: link.attributes.iter().find_map(|attribute| match attribute {
                LinkAttribute::Controller(master) => Some(*master),
                _ => None,
            }),
        };
        Ok(links.map(seen).collect())
    }

    /// The MTU of an interface.
    pub(crate) fn link_mtu(&mut self, link: u32) -> io::Result<u32> {
        let mtu = self.link(link)?.attributes.into_iter().find_map(|attribute| match attribute {
            LinkAttribute::Mtu(mtu) => Some(mtu),
            _ => None,
        });
        mtu.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    }

    /// Every address of this machine.
    pub(crate) fn addresses(&mut self) -> io::Result<Vec<LocalAddr>> {
        let answers = self.ask(RouteNetlinkMessage::GetAddress(AddressMessage::default()), NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(address) => local_addr(&address),
                _ => None,
            })
            .collect())
    }
}

/// What an interface is made by; `None`: nothing but its driver.
fn kind(link: &LinkMessage) -> Option<String> {
    link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::LinkInfo(about) => about.iter().find_map(|about| match about {
            LinkInfo::Kind(kind) => Some(kind.to_string()),
            _ => None,
        }),
        _ => None,
    })
}

/// The address itself: `Local` on IPv4, where `Address` is the other end of a point-to-point link, else `Address`.
fn local_addr(message: &AddressMessage) -> Option<LocalAddr> {
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(addr) => Some(*addr),
        _ => None,
    });
    let addr = local.or_else(|| {
        message.attributes.iter().find_map(|attribute| match attribute {
            AddressAttribute::Address(addr) => Some(*addr),
            _ => None,
        })
    })?;
    let (tentative, failed) = (AddressHeaderFlags::Tentative, AddressHeaderFlags::Dadfailed);
    let mut usable = !message.header.flags.intersects(tentative | failed);
    for attribute in &message.attributes {
        if let AddressAttribute::Flags(flags) = attribute {
            usable = !flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed);
        }
    }
    // The network of an address with another end is that of the other end.
    let beyond = message
        .attributes
        .iter()
        .any(|attribute| matches!(attribute, AddressAttribute::Address(other) if *other != addr));
    let prefix = match beyond {
        true if addr.is_ipv4() => 32,
        true => 128,
        false => message.header.prefix_len,
    };
    Some(LocalAddr { addr, prefix, link: message.header.index, usable })
}
