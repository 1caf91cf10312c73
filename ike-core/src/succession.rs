//! Who replaces whom: rekeys, crossings, heirs and orphans (RFC 7296 §2.8, §2.8.1).
//!
//! What a rekey takes for its time belongs to the request that it sent: the slot of the new IKE SA is kept exactly as long
//! as that request stands ([`Established::keeps`]), so no way in which an SA ends has to remember to give it back. In the
//! same way a replaced SA is replaced only as long as the one that replaced it is there.

use core::cmp::Ordering;

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::child::{Child, Children, Phase};
use crate::crypto::IkeCrypto;
use crate::event::{ChildId, IkeId};
use crate::failure::Failure;
use crate::sa::{ChildRequest, Crossed, Effects, Env, Established, Heir, LowestNonce, Request, Sa, State};

/// The lower of the two nonces of an exchange.
pub(crate) fn lowest(one: &[u8], other: &[u8]) -> LowestNonce {
    one.min(other).iter().copied().take(32).collect()
}

/// Whether the SA that our exchange made is the redundant one of two: the SA with the lowest of the four nonces goes;
/// whoever made it deletes it, the other side deletes the old one (RFC 7296 §2.8.1).
fn redundant<T>(ours: &LowestNonce, crossed: &Option<Crossed<T>>) -> bool {
    crossed.as_ref().is_some_and(|crossed| ours.cmp(&crossed.lowest) == Ordering::Less)
}

/// Our rekey of a child, or our wish for one, came up: decides what becomes of the old one, and of the one that the peer
/// made at the same time. `nonce`: the peer's.
pub(crate) fn child_came_up<C: IkeCrypto>(env: &mut Env<'_, '_, C>, request: &ChildRequest, nonce: &[u8]) {
    let Some(old) = request.old else { return };
    let ours = lowest(&request.nonce, nonce);
    let orphan_at = env.now + env.settings.orphan;
    let new_id = env.children.id(request.new);
    if let Some(mut new) = env.children.get_mut(request.new) {
        new.replaces = Some(old);
    }
    match &request.crossed {
        Some(crossed) if redundant(&ours, &request.crossed) => {
            if let Some(mut new) = env.children.get_mut(request.new) {
                new.outbound_ready = false;
                new.replaced_by = Some(crossed.made);
                new.rekey_at = None;
                new.leave(Failure::Replaced);
            }
        }
        crossed => {
            if let Some(mut theirs) = crossed.as_ref().and_then(|crossed| env.children.by_id_mut(crossed.made)) {
                theirs.replaced_by = new_id;
                theirs.rekey_at = None;
                theirs.orphan_at = Some(orphan_at);
            }
            if let Some(mut old) = env.children.by_id_mut(old) {
                old.replaced_by = new_id;
                old.rekey_at = None;
                old.orphan_at = None;
                if old.phase == Phase::Up {
                    old.leave(Failure::Replaced);
                }
            }
        }
    }
}

/// The peer's rekey made `new` in place of `old`, which the peer is to delete.
pub(crate) fn child_replaced(children: &mut Children<'_>, old: ChildId, new: Option<ChildId>, orphan_at: Instant) {
    if let Some(mut old) = children.by_id_mut(old) {
        // Who rekeys it has it, and may have `new` only later.
        old.send_through();
        old.replaced_by = new;
        old.rekey_at = None;
        old.want_rekey = false;
        old.orphan_at = Some(orphan_at);
    }
}

/// The Child SA `heir` is gone, for this reason. What gave way to it, the one that it was made for or one that
/// crossed it, is there no longer, goes too because we are deleting it, or goes on instead and is sent through.
pub(crate) fn child_deleted(children: &mut Children<'_>, heir: ChildId, cause: Failure, rekey_at: Instant) {
    let Some(ike) = children.by_id(heir).map(|child| child.ike) else { return };
    let gave_way = |child: &Child| child.replaced_by == Some(heir) && child.live();
    children.each_of(ike, gave_way, |child| {
        child.replaced_by = None;
        child.leaving.take_if(|why| *why == Failure::Replaced);
        if let Phase::Deleting(why) = &mut child.phase {
            if *why == Failure::Replaced {
                *why = cause.clone();
            }
        } else if child.leaving.is_none() {
            child.orphan_at = None;
            child.rekey_at = Some(rekey_at);
            child.outbound_ready = true;
            // What was not announced yet is announced as it is.
            child.report.outbound = !child.report.up;
        }
    });
}

/// A new SA on the same path with the same peer, in place of `sa`.
pub(crate) fn successor<C: IkeCrypto>(
    sa: &Sa<C>,
    initiator: bool,
    (spi_i, spi_r): (u64, u64),
    state: Established,
) -> Sa<C> {
    Sa {
        peer: sa.peer,
        party: sa.party,
        named: sa.named,
        called: sa.called,
        nat: sa.nat,
        encap: sa.encap,
        keepalive_at: sa.keepalive_at,
        work: true,
        ..Sa::new(initiator, spi_i, spi_r, sa.path, State::Established(state))
    }
}

/// The peer rekeyed the IKE SA `old` and `made` another. While our own rekey is outstanding it is not known which of them
/// stays; that is known when our answer comes.
pub(crate) fn ike_rekeyed_by_peer(
    established: &mut Established,
    new: &mut Established,
    effects: &mut Effects,
    (old, made): (Heir, Heir),
    lowest: LowestNonce,
    orphan_at: Instant,
) {
    if let Some(Request::Rekey(request)) = &mut established.request {
        new.undecided = true;
        new.kin = Some(old);
        // Should the old SA end before that, nobody will know what this one is for.
        new.orphan_at = Some(orphan_at);
        request.crossed = Some(Crossed { made, lowest });
    } else {
        give_way(established, effects, made, orphan_at);
    }
}

/// Our rekey of the IKE SA made `new`: it takes over, unless it is the redundant one of two.
pub(crate) fn ike_rekeyed_by_us(
    established: &mut Established,
    new: &mut Established,
    effects: &mut Effects,
    made: Heir,
    (ours, crossed): (LowestNonce, Option<Crossed<Heir>>),
    orphan_at: Instant,
) {
    match crossed {
        Some(theirs) if redundant(&ours, &Some(Crossed { made: (), lowest: theirs.lowest.clone() })) => {
            new.replaced = true;
            new.leaving = Some(Failure::Replaced);
            give_way(established, effects, theirs.made, orphan_at);
        }
        crossed => {
            effects.orphan = crossed.map(|crossed| crossed.made);
            effects.heir = Some(made);
            established.replaced = true;
            established.leaving.get_or_insert(Failure::Replaced);
            established.rekey_at = None;
        }
    }
}

/// The SA that the peer's rekey made takes over; the peer deletes this one.
pub(crate) fn give_way(established: &mut Established, effects: &mut Effects, heir: Heir, orphan_at: Instant) {
    established.replaced = true;
    established.orphan_at = Some(orphan_at);
    established.rekey_at = None;
    effects.heir = Some(heir);
}

/// This SA lost against a crossing rekey: it goes, by the peer's Delete or else, at the moment that was set when it was
/// made, by ours.
pub(crate) fn orphan<C: IkeCrypto>(sa: &mut Sa<C>) {
    if let State::Established(established) = &mut sa.state {
        established.replaced = true;
        established.rekey_at = None;
    }
}

/// What passes from an SA to the one that takes over, besides the children.
pub(crate) struct Estate {
    old: IkeId,
    announced: bool,
    moved: bool,
    path: Path,
    leaving: Option<Failure>,
    reauthenticate_at: Option<Instant>,
}

/// Takes from an SA what its heir gets.
pub(crate) fn bequeath<C: IkeCrypto>(sa: &mut Sa<C>, old: IkeId, heir: Heir) -> Option<Estate> {
    let State::Established(established) = &mut sa.state else { return None };
    established.replaced = true;
    established.kin = Some(heir);
    Some(Estate {
        old,
        announced: core::mem::take(&mut established.announced),
        moved: core::mem::take(&mut sa.report.moved),
        path: sa.path,
        reauthenticate_at: established.reauthenticate_at.take(),
        // Whoever wanted this SA closed wants the connection closed.
        leaving: established.leaving.clone().filter(|cause| *cause != Failure::Replaced),
    })
}

/// Gives an SA what the one before left.
pub(crate) fn inherit<C: IkeCrypto>(sa: &mut Sa<C>, estate: Estate) {
    let Estate { old, announced, moved, path, leaving, reauthenticate_at } = estate;
    if let State::Established(established) = &mut sa.state {
        established.undecided = false;
        established.orphan_at = None;
        established.announced |= announced;
        established.reauthenticate_at = established.reauthenticate_at.or(reauthenticate_at);
        if leaving.is_some() {
            established.leaving = leaving;
        }
    }
    // The peer may have moved since this SA was made.
    if sa.window.expected() == 0 {
        sa.path = path;
    }
    // The caller knows the path of the one before.
    sa.report.moved |= moved || sa.path != path;
    sa.report.rekeyed_from = announced.then_some(old);
    sa.work = true;
}

/// The SA that was to take over is gone already: this one goes on.
pub(crate) fn stay<C: IkeCrypto>(sa: &mut Sa<C>, rekey_at: Instant) {
    if let State::Established(established) = &mut sa.state {
        established.replaced = false;
        established.orphan_at = None;
        established.rekey_at = Some(rekey_at);
    }
}
