//! Every entry of ipsec-core, in any order, with any input.
#![no_std]
#![no_main]

use ipsec_core::buf::PacketBuf;
use ipsec_core::compression::Compression;
use ipsec_core::ecn::Ecn;
use ipsec_core::encap;
use ipsec_core::engine::{Inbound, InboundSlot, Outbound, OutboundSlot, Verdict};
use ipsec_core::flow::Flow;
use ipsec_core::net::{Cpi, Encap, Spi};
use ipsec_core::sa::{DontFragment, InboundParams, Lifetime, Limit, OutboundParams, Params, SaId, TfcPadding};
use ipsec_core::spd::{
    Action, Changes, Direction, Hits, Index, Level, Node, PolicyId, Remembered, Rule, RuleId, Rules, Selector, Slot,
    diff,
};
use ipsec_core::wire::natt;
use panic_probe::{Engine, any, below, duration, instant, keep, mode, octets, path, protection, selector};

panic_probe::program!(run());

type Any = Index<[Slot; 8], [Node; 4]>;

/// Makes anything of anything.
struct Squeeze;

impl Compression for Squeeze {
    fn compress(&mut self, data: &[u8]) -> Option<&[u8]> {
        keep(data.len() as u64);
        (any() == 0).then(|| &*octets())
    }

    fn decompress(&mut self, data: &[u8], at_most: usize) -> Option<&[u8]> {
        keep(data.len().wrapping_add(at_most) as u64);
        (any() == 0).then(|| &*octets())
    }
}

fn run() {
    let (mut out_hits, mut in_hits) = ([Hits::NONE; 8], [Hits::NONE; 8]);
    let (mut out_flows, mut in_flows) = ([Remembered::NOTHING; 4], [Remembered::NOTHING; 4]);
    let (mut out_changes, mut in_changes) = ([Changes::NONE; 2], [Changes::NONE; 2]);
    let (mut one, mut other) = (index(), index());
    let (mut one_way, mut other_way) = (Squeeze, Squeeze);
    let mut out_sas = [const { OutboundSlot::<Engine>::EMPTY }; 4];
    let mut outbound = Outbound::new(Engine, some(&mut out_hits), some(&mut out_sas))
        .remembering(some(&mut out_flows))
        .changing(some(&mut out_changes))
        .compressing(&mut one_way);
    let mut in_sas = [const { InboundSlot::<Engine>::EMPTY }; 4];
    let mut windows = [0; 64];
    let mut inbound = Inbound::new(Engine, some(&mut in_hits), some(&mut in_sas), some(&mut windows))
        .remembering(some(&mut in_flows))
        .changing(some(&mut in_changes))
        .compressing(&mut other_way);
    let mut out_id: Option<SaId> = None;
    let mut in_id: Option<SaId> = None;
    while any() != 0 {
        match any() {
            0 => match outbound.classify(instant(), octets()) {
                Ok(Verdict::Protect(id)) => out_id = Some(id),
                Ok(_) => keep(1),
                Err(discard) => outbound.count(discard),
            },
            1 => match outbound.judge(octets()) {
                Ok(_) => seal(&mut outbound, out_id),
                Err(discard) => outbound.count(discard),
            },
            2 => open(&mut inbound),
            3 => match inbound.check_clear(instant(), direction(), octets()) {
                Ok(_) => keep(2),
                Err(discard) => inbound.count(discard),
            },
            4 => with_params(|sa| {
                let dont_fragment = if any() == 0 { DontFragment::Copy } else { DontFragment::Set };
                out_id = outbound
                    .install(
                        instant(),
                        &OutboundParams {
                            sa,
                            last_sent: any(),
                            last_number: any(),
                            copy_dscp: any() == 0,
                            dont_fragment,
                        },
                    )
                    .ok();
            }),
            5 => with_params(|sa| {
                let params = InboundParams { sa, window: below(1 << 20), highest_seen: any() };
                in_id = inbound.install(instant(), &params).ok();
            }),
            6 => match outbound.set_rules(core::mem::replace(&mut one, index())) {
                Ok(Some(before)) => one = before,
                ended => keep(u64::from(ended.is_ok())),
            },
            7 => match inbound.set_rules(core::mem::replace(&mut other, index())) {
                Ok(Some(before)) => other = before,
                ended => keep(u64::from(ended.is_ok())),
            },
            8 => keep(u64::from(outbound.clear_rules().is_some() | inbound.clear_rules().is_some())),
            9 => {
                if let Some(id) = out_id {
                    let padding = TfcPadding::Multiple { of: any() as u16, up_to: any() as u16 };
                    keep(u64::from(outbound.set_padding(id, padding) | outbound.relay_icmp_errors(id, any() == 0)));
                    keep(outbound.overhead(id).map_or(0, |overhead| overhead.outer_len(any() as usize) as u64));
                    keep(u64::from(outbound.set_path(id, path(), Encap::Udp) | outbound.remove(id)));
                    keep(outbound.selectors(id).map_or(0, |(local, remote)| (local.len() + remote.len()) as u64));
                }
            }
            10 => {
                if let Some(id) = in_id {
                    keep(u64::from(
                        inbound.relay_icmp_errors(id, any() == 0) | inbound.check_checksums(id, any() == 0),
                    ));
                    keep(u64::from(inbound.set_path(id, path(), Encap::Udp) | inbound.remove(id)));
                    keep(inbound.selectors(id).map_or(0, |(local, remote)| (local.len() + remote.len()) as u64));
                }
            }
            11 => keep(u64::from(inbound.reserve_spi(any() as u32).is_ok())),
            12 => {
                if let Some(spi) = Spi::new(any() as u32) {
                    inbound.release_spi(spi);
                }
            }
            13 => {
                outbound.handle_timeout(instant());
                inbound.handle_timeout(instant());
            }
            14 => keep(u64::from(outbound.poll_event().is_some()) + u64::from(inbound.poll_event().is_some())),
            15 => keep(
                outbound.poll_timeout().map_or(0, |at| at.as_millis())
                    ^ inbound.poll_timeout().map_or(0, |at| at.as_millis()),
            ),
            16 => keep(outbound.sas().chain(inbound.sas()).map(|status| status.packets).fold(0, u64::wrapping_add)),
            17 => {
                keep(outbound.rules().chain(inbound.rules()).map(|(_, hits)| hits.outbound).fold(0, u64::wrapping_add))
            }
            18 => keep(u64::from(natt::classify(octets()).is_ok())),
            19 => keep(u64::from(Flow::of(octets()).is_ok_and(|flow| flow.fits(&selector(), &selector())))),
            20 => keep(u64::from(outbound.add_rule(rule()).is_ok() | inbound.add_rule(rule()).is_ok())),
            21 => keep(u64::from(outbound.replace_rule(rule()).is_ok() | inbound.replace_rule(rule()).is_ok())),
            22 => {
                let id = RuleId(any() as u32);
                keep(u64::from(outbound.drop_rule(id).is_ok() | inbound.drop_rule(id).is_ok()));
            }
            23 => keep(outbound.rules_from(any() as usize).chain(inbound.rules_from(any() as usize)).count() as u64),
            24 => keep(diff(one.view(), other.view()).count() as u64),
            25 => keep(outbound.passed_clear() ^ inbound.passed_clear()),
            _ => keep(u64::from(selector().intersect(&selector()).is_some())),
        }
    }
}

fn seal(outbound: &mut Outbound<'_, Engine, Any>, id: Option<SaId>) {
    let (Some(id), Ok(mut packet)) = (id, PacketBuf::new(octets(), any() as usize, any() as usize)) else { return };
    match outbound.seal(instant(), id, &mut packet) {
        Ok(egress) => keep(u64::from(encap::push_outer(&egress, &mut packet).is_ok()) + packet.len() as u64),
        Err(discard) => outbound.count(discard),
    }
    keep(u64::from(outbound.seal_dummy(instant(), id, &mut packet).is_ok()));
    outbound.seal_batch(instant(), id, [&mut packet], |packet, sealed| {
        keep(packet.len() as u64 + u64::from(sealed.is_ok()))
    });
}

fn open(inbound: &mut Inbound<'_, Engine, Any>) {
    let Ok(mut packet) = PacketBuf::new(octets(), any() as usize, any() as usize) else { return };
    if any() == 0 && encap::pop_outer(&mut packet).is_err() {
        return;
    }
    match inbound.open(instant(), path(), Ecn::Ce, &mut packet) {
        Ok(_) => keep(packet.len() as u64),
        Err(discard) => inbound.count(discard),
    }
    let packets = [(path(), Ecn::Ce, &mut packet)];
    inbound.open_batch(instant(), packets, |packet, opened| keep(packet.len() as u64 + u64::from(opened.is_ok())));
}

fn with_params(install: impl FnOnce(Params<'_>)) {
    let Some(spi) = Spi::new(any() as u32) else { return };
    let limit = || Limit { age: Some(duration()), bytes: Some(any()), packets: Some(any()) };
    let (local, remote) = ([selector(), selector()], [selector(), selector()]);
    install(Params {
        spi,
        mode: mode(),
        protection: protection(),
        keymat: octets(),
        esn: any() == 0,
        path: path(),
        encap: if any() == 0 { Encap::Udp } else { Encap::None },
        policy: PolicyId(any() as u32),
        local_ts: some(&local),
        remote_ts: some(&remote),
        lifetime: Lifetime { soft: limit(), hard: limit() },
        compression: if any() == 0 { Some(Cpi(any() as u16)) } else { None },
    });
}

fn rule() -> Rule {
    let action = match any() {
        0 => Action::Bypass,
        1 => Action::Discard,
        2 => Action::Protect { policy: PolicyId(any() as u32), level: Level::Use },
        _ => Action::protect(PolicyId(any() as u32)),
    };
    let selector = Selector { local: selector(), remote: selector() };
    Rule { id: RuleId(any() as u32), priority: any() as u32, selector, action }
}

/// An index of any rules.
fn index() -> Any {
    loop {
        let rules = core::iter::repeat_with(rule).take(below(10));
        if let Ok(index) = Index::build(rules, some([Slot::EMPTY; 8]), some([Node::EMPTY; 4])) {
            keep(index.view().iter().map(|rule| u64::from(rule.id.0)).fold(0, u64::wrapping_add));
            return index;
        }
    }
}

fn direction() -> Direction {
    match any() {
        0 => Direction::Out,
        1 => Direction::In,
        _ => Direction::Forward,
    }
}

/// A slice of which the optimiser does not know the length.
fn some<T>(slice: T) -> T {
    core::hint::black_box(slice)
}
