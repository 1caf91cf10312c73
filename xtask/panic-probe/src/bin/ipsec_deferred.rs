//! The halves of sealing and opening, with any SAs and input. Beside `ipsec_core`, whose size is that of what a node needs.
#![no_std]
#![no_main]

use ipsec_core::buf::PacketBuf;
use ipsec_core::ecn::Ecn;
use ipsec_core::encap;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot};
use ipsec_core::net::{Encap, Spi};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, OutboundParams, Params, SaId};
use ipsec_core::spd::PolicyId;
use panic_probe::{Engine, any, below, instant, keep, mode, octets, path, protection, selector};

panic_probe::program!(run());

fn run() {
    let mut sas = core::hint::black_box([const { OutboundSlot::<Engine>::EMPTY }; 2]);
    let mut outbound = Outbound::new(Engine, &mut [], &mut sas);
    let mut sas = core::hint::black_box([const { InboundSlot::<Engine>::EMPTY }; 2]);
    let mut windows = core::hint::black_box([0; 8]);
    let mut inbound = Inbound::new(Engine, &mut [], &mut sas, &mut windows);
    let mut id = None;
    while any() != 0 {
        match any() {
            0 => with_params(|sa| {
                let dont_fragment = DontFragment::Copy;
                let (last_sent, last_number, copy_dscp) = (any(), any(), any() == 0);
                let params = OutboundParams { sa, last_sent, last_number, copy_dscp, dont_fragment };
                id = outbound.install(instant(), &params).ok();
            }),
            1 => with_params(|sa| {
                let params = InboundParams { sa, window: below(1 << 20), highest_seen: any() };
                keep(u64::from(inbound.install(instant(), &params).is_ok()));
            }),
            2 => seal_later(&mut outbound, id),
            _ => open_later(&mut inbound),
        }
    }
}

fn with_params(install: impl FnOnce(Params<'_>)) {
    let Some(spi) = Spi::new(any() as u32) else { return };
    let (local, remote) = ([selector()], [selector()]);
    install(Params {
        spi,
        mode: mode(),
        protection: protection(),
        keymat: octets(),
        esn: any() == 0,
        path: path(),
        encap: if any() == 0 { Encap::Udp } else { Encap::None },
        policy: PolicyId(any() as u32),
        local_ts: &local,
        remote_ts: &remote,
        lifetime: Lifetime::default(),
        compression: None,
    });
}

fn seal_later(outbound: &mut Outbound<'_, Engine>, id: Option<SaId>) {
    let (Some(id), Ok(mut packet)) = (id, PacketBuf::new(octets(), any() as usize, any() as usize)) else { return };
    let Ok(sealing) = outbound.begin_seal(instant(), id, &mut packet) else { return };
    keep(u64::from(outbound.is_sealed(&sealing)) + u64::from(outbound.remove(id)));
    if any() == 0 {
        keep(u64::from(outbound.finish_seal(sealing).is_ok()));
        keep(packet.len() as u64);
    }
}

fn open_later(inbound: &mut Inbound<'_, Engine>) {
    let Ok(mut packet) = PacketBuf::new(octets(), any() as usize, any() as usize) else { return };
    let from = match encap::pop_outer(&mut packet) {
        Ok(encap::Arrival::Esp { path, .. }) => path,
        _ => path(),
    };
    let Ok(opening) = inbound.begin_open(instant(), from, Ecn::Ce, &mut packet) else { return };
    keep(u64::from(inbound.is_open(&opening)));
    if any() == 0 {
        keep(u64::from(inbound.finish_open(instant(), opening).is_ok()));
        keep(packet.len() as u64);
    }
}
