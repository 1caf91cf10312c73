//! Packets that look as long as each other (`tfc-padding`), also to strongSwan and to a Linux kernel under Libreswan.

use std::collections::BTreeSet;
use std::mem::take;
use std::sync::{Arc, Mutex, PoisonError};

use super::rekey::rekey_child;
use super::tunnel::{Plan, Tunnel};
use super::{Ends, First, Scenario};
use crate::lab::frame::{Kind, classify};
use crate::lab::gateway::Program;
use crate::lab::ping::ping;
use crate::lab::watch::{Crossing, Watch};
use crate::outcome::{Result, ensure};

pub(super) fn scenarios() -> Vec<Scenario> {
    let to_libreswan =
        |name, first| Scenario::new(name, move |ends| padded(ends, first)).with(Program::Libreswan).ours();
    vec![
        Scenario::new("tfc-padding-hides-lengths", |ends| padded(ends, First::We)).ours_twice(),
        Scenario::new("tfc-padding-to-strongswan", |ends| padded(ends, First::They)).ours(),
        to_libreswan("tfc-padding-to-libreswan-we", First::We),
        to_libreswan("tfc-padding-to-libreswan-they", First::They),
    ]
}

/// Lengths of ESP frames of ours, out and in.
struct Lengths(
    Arc<Mutex<[BTreeSet<usize>; 2]>>,
    #[expect(dead_code, reason = "its end is the end of the watch")] Watch,
);

impl Lengths {
    fn watch(tunnel: &Tunnel) -> Result<Self> {
        let seen = Arc::new(Mutex::new([BTreeSet::new(), BTreeSet::new()]));
        let noted = Arc::clone(&seen);
        let watch = Watch::start(&tunnel.pair.west.gateway, "wan", move |crossing, frame| {
            if matches!(classify(frame), Kind::Esp | Kind::EspInUdp) {
                let mut noted = noted.lock().unwrap_or_else(PoisonError::into_inner);
                noted[usize::from(crossing == Crossing::In)].insert(frame.len());
            }
        })?;
        Ok(Self(seen, watch))
    }

    /// Of pings of several lengths from both sides.
    fn of_pings(&self, tunnel: &Tunnel) -> Result<[BTreeSet<usize>; 2]> {
        let take = || take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        take();
        let (west, east) = (&tunnel.pair.west, &tunnel.pair.east);
        for size in [0, 56, 400, 900] {
            ping(&west.host, east.host_v4(0), 3, size)?.all_answered()?;
            ping(&east.host, west.host_v4(0), 3, size)?.all_answered()?;
        }
        tunnel.is_protected()?;
        Ok(take())
    }
}

const PADDING: u16 = 1000;

fn padded(ends: Ends, first: First) -> Result<String> {
    let mut plan = Plan::new(ends)?;
    plan.us.children[0].tfc_padding = Some(PADDING);
    let tunnel = plan.establish(first)?;
    tunnel.warm_up()?;
    let lengths = Lengths::watch(&tunnel)?;
    let mut all = BTreeSet::new();
    for rekeyed_by in [None, Some(First::We), Some(First::They)] {
        if let Some(who) = rekeyed_by {
            rekey_child(&tunnel, who)?;
        }
        let [out, back] = lengths.of_pings(&tunnel)?;
        ensure(out.len() == 1 && back.len() == 4, || format!("frames of {out:?} octets out and {back:?} in"))?;
        all.extend(out);
    }
    ensure(all.len() == 1 && all.iter().all(|len| *len > PADDING.into()), || format!("frames of {all:?} octets out"))?;
    tunnel.carries()?;
    Ok(format!("all of {all:?} octets out"))
}
