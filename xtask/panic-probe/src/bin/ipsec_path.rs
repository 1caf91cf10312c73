//! What ipsec-core does with packets beside ESP: fragments, ICMP errors, lengths, with any input.
#![no_std]
#![no_main]

use ipsec_core::buf::PacketBuf;
use ipsec_core::crypto::AeadAlg;
use ipsec_core::fragment::cut;
use ipsec_core::icmp::{Report, quoted, too_big};
use ipsec_core::mss;
use ipsec_core::mtu::Overhead;
use ipsec_core::net::Encap;
use ipsec_core::reassembly::{Outcome, Reassembly, Slot};
use ipsec_core::sa::TfcPadding;
use ipsec_core::transform::Layout;
use ipsec_core::wire::ip::Version;
use panic_probe::{address, any, duration, instant, keep, octets};

panic_probe::program!(run());

fn run() {
    let mut slots = core::hint::black_box([const { Slot::EMPTY }; 16]);
    let slots = slots.get_mut(..any() as usize).unwrap_or_default();
    let mut reassembly = Reassembly::new(any(), duration(), slots, octets());
    while any() != 0 {
        match any() {
            0 => match reassembly.take(instant(), any() as u32, &mut packet()) {
                Ok(Outcome::Whole(whole)) => keep(whole.len() as u64),
                outcome => keep(u64::from(outcome.is_ok())),
            },
            1 => {
                reassembly.handle_timeout(instant());
                keep(reassembly.poll_timeout().map_or(0, |at| at.as_millis()) ^ reassembly.lost().expired);
            }
            2 => {
                if let Ok(pieces) = cut(octets(), any() as usize, any() as u32) {
                    let written = pieces.map(|piece| piece.write(octets()).map_or(0, |piece| piece.len() as u64));
                    keep(written.fold(0, u64::wrapping_add));
                }
            }
            3 => keep(Report::of(octets()).map_or(0, |report| report.mtu.unwrap_or(0).into())),
            4 => keep(Report::of_message(version(), octets()).map_or(0, |report| report.path.remote.port().into())),
            5 => keep(quoted(octets()).map_or(0, |flow| flow.len as u64)),
            6 => keep(too_big(octets(), any() as usize, address(), octets()).map_or(0, |told| told.len() as u64)),
            7 => keep(u64::from(mss::clamp(octets(), any() as usize))),
            8 => keep(padding().padded(any() as usize) as u64),
            _ => {
                let encap = if any() == 0 { Encap::Udp } else { Encap::None };
                let layout = Layout::of(AeadAlg::Aes256Gcm16.into());
                let replaced = (any() == 0).then(version);
                let overhead = Overhead { outer: version(), replaced, encap, layout };
                keep((overhead.outer_len(any() as usize) ^ overhead.max_inner_len(any() as usize)) as u64);
            }
        }
    }
}

/// A window in any octets.
fn packet() -> PacketBuf<'static> {
    loop {
        if let Ok(packet) = PacketBuf::new(octets(), any() as usize, any() as usize) {
            return packet;
        }
    }
}

fn version() -> Version {
    if any() == 0 { Version::V4 } else { Version::V6 }
}

fn padding() -> TfcPadding {
    match any() {
        0 => TfcPadding::None,
        1 => TfcPadding::Length(any() as u16),
        _ => TfcPadding::Multiple { of: any() as u16, up_to: any() as u16 },
    }
}
