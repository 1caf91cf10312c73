//! Who replaces whom: rekeys, crossings, heirs and orphans (RFC 7296 §2.8, §2.8.1).
//!
//! What a rekey takes for its time belongs to the request that it sent: the slot of the new IKE SA is kept exactly as long
//! as that request stands ([`Established::keeps`]), so no way in which an SA ends has to remember to give it back. In the
//! same way a replaced SA is replaced only as long as the one that replaced it is there.

use core::cmp::Ordering;

use ipsec_core::net::Path;
use ipsec_core::time::Instant;

use crate::auth::ask::Lease;
use crate::child::{Child, Children, Phase};
use crate::crypto::IkeCrypto;
use crate::effects::Effects;
use crate::env::Env;
use crate::event::{ChildId, IkeId};
use crate::failure::Failure;
use crate::sa::{Begun, ChildRequest, Crossed, Established, Heir, LowestNonce, Request, Sa, Standing, State};
use crate::timers::When;

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
    let Some((old, made)) = request.old.zip(env.children.id(request.new)) else { return };
    let ours = lowest(&request.nonce, nonce);
    let redundant = redundant(&ours, &request.crossed);
    if let Some(mut new) = env.children.by_id_mut(made) {
        new.replaces = Some(old);
        if let Some(crossed) = request.crossed.as_ref().filter(|_| redundant) {
            new.outbound_ready = false;
            new.make_room(crossed.made);
        }
        new.beside = request.crossed.as_ref().map(|crossed| crossed.made).filter(|_| !redundant);
    }
    if let Some(crossed) = request.crossed.as_ref().filter(|_| redundant) {
        if let Some(mut theirs) = env.children.by_id_mut(crossed.made) {
            theirs.beside = Some(made);
        }
        return;
    }
    if let Some(mut theirs) = request.crossed.as_ref().and_then(|crossed| env.children.by_id_mut(crossed.made)) {
        theirs.give_way(made, env.now + env.settings.orphan);
    }
    if let Some(mut old) = env.children.by_id_mut(old) {
        old.make_room(made);
    }
}

/// The peer deletes the Child SA in a slot.
pub(crate) fn deleted_by_peer<C: IkeCrypto>(env: &mut Env<'_, '_, C>, slot: u16) {
    // It has what carries on: it asked for this Delete after our answer that made that.
    if let Some(mut heir) = deleted(env, slot).and_then(|heir| env.children.by_id_mut(heir)) {
        heir.send_through();
    }
}

/// The Child SA in a slot is deleted on both sides. Returns the one that carries on what it carried.
pub(crate) fn deleted<C: IkeCrypto>(env: &mut Env<'_, '_, C>, slot: u16) -> Option<ChildId> {
    let id = env.children.id(slot)?;
    let mut child = env.children.by_id_mut(id)?;
    if child.suite.is_none() && child.replaces.is_some() {
        // It never came up, and that the rekey came to nothing was told with the SA that it was to replace.
        drop(child);
        env.children.free(slot);
        return None;
    }
    let cause = match &child.phase {
        Phase::Deleting(why) => why.clone(),
        _ => Failure::ClosedByPeer,
    };
    child.deleted(cause.clone(), env.now + env.settings.drain);
    let (ike, heir) = (child.ike, child.standing.heir());
    drop(child);
    let heir = heir.map(|heir| env.children.last_heir(ike, heir));
    let heir = heir.filter(|heir| env.children.by_id(*heir).is_some());
    if heir.is_none() {
        child_deleted(env.children, id, cause, env.now + env.settings.retry);
    }
    heir
}

/// The Child SA `heir` is gone, for this reason. What gave way to it, the one that it was made for or one that
/// crossed it, is there no longer, or has to know. Nobody else gives way to it.
pub(crate) fn child_deleted(children: &mut Children<'_>, heir: ChildId, cause: Failure, rekey_at: Instant) {
    let before = children.by_id(heir).map(|child| [child.replaces, child.beside]);
    let gave_way = |child: &Child| child.standing.heir() == Some(heir) && child.live();
    for before in before.into_iter().flatten().flatten() {
        if let Some(mut child) = children.by_id_mut(before).filter(|child| gave_way(child)) {
            child.go_on_instead(cause.clone(), rekey_at);
        }
    }
}

/// Puts a new SA on the same path with the same peer into its place, to take the place of `sa`.
#[inline(never)]
pub(crate) fn successor<'x, C: IkeCrypto>(
    place: &'x mut Option<C::Place<Sa<C>>>,
    sa: &Sa<C>,
    initiator: bool,
    (spi_i, spi_r): (u64, u64),
    state: Established,
) -> &'x mut Sa<C> {
    let keepalive = match &sa.state {
        State::Established(old) => old.keepalive,
        _ => state.keepalive,
    };
    let sa = Sa {
        peer: sa.peer,
        party: sa.party,
        named: sa.named,
        called: sa.called,
        nat: sa.nat,
        encap: sa.encap,
        ..Sa::new(initiator, spi_i, spi_r, sa.path, State::Established(Established { keepalive, ..state }))
    };
    place.insert(sa.into())
}

/// The peer rekeyed the IKE SA `old` and `made` another. While our own rekey is outstanding it is not known which of them
/// stays; that is known when our answer comes. Should the old SA end before that, nobody will know what the new one is for.
pub(crate) fn ike_rekeyed_by_peer(
    established: &mut Established,
    new: &mut Established,
    (old, made): (Heir, Heir),
    lowest: LowestNonce,
    (orphan_at, undecided_until): (Instant, Instant),
) -> Effects {
    let Some(Request::Rekey(request)) = &mut established.request else {
        return give_way(established, made, orphan_at);
    };
    new.standing = Standing::Undecided { from: old, until: undecided_until };
    request.crossed = Some(Crossed { made, lowest });
    Effects::Made(made.slot)
}

/// Our rekey of the IKE SA made `new`: it takes over, unless it is the redundant one of two.
pub(crate) fn ike_rekeyed_by_us(
    established: &mut Established,
    new: &mut Established,
    made: Heir,
    (ours, crossed): (LowestNonce, Option<Crossed<Heir>>),
    orphan_at: Instant,
) -> Effects {
    let redundant = redundant(&ours, &crossed);
    let theirs = crossed.map(|crossed| crossed.made);
    if let Some(theirs) = theirs.filter(|_| redundant) {
        new.standing = Standing::Redundant;
        new.leaving = Some(Failure::Replaced);
        established.give_way(theirs, orphan_at);
        return Effects::TakesOver { heir: theirs, loser: Some(made) };
    }
    established.standing = Standing::Replaced { by: made };
    established.leaving.get_or_insert(Failure::Replaced);
    established.rekey = When::Never;
    Effects::TakesOver { heir: made, loser: theirs }
}

/// The SA that the peer's rekey made takes over; the peer deletes this one.
pub(crate) fn give_way(established: &mut Established, heir: Heir, orphan_at: Instant) -> Effects {
    established.give_way(heir, orphan_at);
    Effects::TakesOver { heir, loser: None }
}

/// A crossing rekey made this SA in vain: it goes, by the peer's Delete or else, at the moment that was set when it was made,
/// by ours. One of ours is to be deleted already.
pub(crate) fn lose<C: IkeCrypto>(sa: &mut Sa<C>) {
    if let State::Established(established) = &mut sa.state
        && let Standing::Undecided { from, until } = established.standing
    {
        established.give_way(from, until);
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
    lease: Option<Lease>,
}

/// Takes from an SA what its heir gets.
pub(crate) fn bequeath<C: IkeCrypto>(sa: &mut Sa<C>, old: IkeId) -> Option<Estate> {
    let State::Established(established) = &mut sa.state else { return None };
    Some(Estate {
        old,
        announced: core::mem::take(&mut established.announced),
        moved: core::mem::take(&mut sa.report.moved),
        path: sa.path,
        reauthenticate_at: established.reauthenticate_at.take(),
        lease: sa.lease.take(),
        // Whoever wanted this SA closed wants the connection closed.
        leaving: established.leaving.clone().filter(|cause| *cause != Failure::Replaced),
    })
}

/// Gives an SA what the one before left.
pub(crate) fn inherit<C: IkeCrypto>(sa: &mut Sa<C>, estate: Estate) {
    let Estate { old, announced, moved, path, leaving, reauthenticate_at, lease } = estate;
    sa.lease = sa.lease.or(lease);
    if let State::Established(established) = &mut sa.state {
        if let Standing::Undecided { .. } = established.standing {
            established.standing = Standing::Stands;
        }
        established.work = true;
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
    sa.report.begun = announced.then_some(Begun::Rekeyed(old));
}

/// The SA that was to take over is gone already: this one goes on.
pub(crate) fn stay<C: IkeCrypto>(sa: &mut Sa<C>, rekey_at: Instant) {
    if let State::Established(established) = &mut sa.state {
        established.standing = Standing::Stands;
        established.rekey = When::At(rekey_at);
    }
}
