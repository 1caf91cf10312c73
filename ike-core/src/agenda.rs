//! What an SA wants next: what falls due, and which request is to be sent when none is outstanding.

use ipsec_core::time::Instant;

use crate::child::{Child, Phase};
use crate::crypto::IkeCrypto;
use crate::event::ChildId;
use crate::exchange;
use crate::failure::Failure;
use crate::sa::{Effects, Env, Request, Sa, State};

/// A request that somebody waits for.
pub(crate) enum Task {
    DeleteIke(Failure),
    RekeyIke,
    /// Every Child SA that has to go.
    DeleteChildren,
    /// The Child SA in a slot.
    RekeyChild(u16, ChildId),
    /// The Child SA that waits in a slot.
    CreateChild(u16),
    Liveness,
}

/// What falls due by itself; in every state but a dead one.
pub(crate) fn on_time<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) -> Effects {
    if matches!(sa.state, State::Dead) {
        return Effects::default();
    }
    if let Err(exchange) = sa.window.repeat(env.now, &env.settings.retransmission) {
        let heard = is_heard(sa, env);
        if !heard || goes(sa, env) {
            if heard {
                exchange::say_farewell_instead(sa, env);
            }
            let cause = sa.silence(exchange);
            return sa.over(cause);
        }
        // Told again each time that it was repeated so often once more: what comes of that may come to nothing.
        let repeated = sa.window.outstanding.map_or(0, |request| request.repetitions);
        if repeated.is_multiple_of(u32::from(env.settings.retransmission.tries).max(1)) {
            sa.report.unanswered = Some(exchange);
        }
        sa.window.repeat_once_more(env.now, &env.settings.retransmission);
    }
    if sa.expires.is_some_and(|at| at <= env.now) {
        return sa.over(Failure::HalfOpenTimeout);
    }
    if sa.keepalive_at.is_some_and(|at| at <= env.now) {
        sa.send_keepalive = true;
        sa.keep_alive(env.now, env.settings);
    }
    let State::Established(established) = &mut sa.state else { return Effects::default() };
    let due = |at: &mut Option<Instant>| at.take_if(|at| *at <= env.now).is_some();
    let rekey = due(&mut established.rekey_at);
    let orphan = due(&mut established.orphan_at);
    let reauthenticate = due(&mut established.reauthenticate_at) && !established.closing();
    let liveness = established.liveness_at().is_some_and(|at| at <= env.now);
    established.want_rekey |= rekey;
    established.want_liveness |= liveness;
    if orphan {
        established.leaving.get_or_insert(Failure::Replaced);
    }
    sa.work |= rekey || orphan || liveness;
    sa.report.reauthenticate |= reauthenticate;
    Effects::default()
}

/// Whether a peer that does not answer a request is there all the same: messages on the IKE SA and packets on its children show
/// that (RFC 7296 §2.4). What stands is worth waiting for then, and another IKE SA can be made beside it.
fn is_heard<C: IkeCrypto>(sa: &Sa<C>, env: &Env<'_, '_, C>) -> bool {
    matches!(&sa.state, State::Established(established) if established.heard + env.settings.retransmission.span() > env.now)
}

/// Whether it, or something of it, is to go, and cannot while a request is outstanding: a Delete that is not answered, the end
/// of a child that nothing takes the place of, or the peer's rekey of the IKE SA, which crossed ours and made the one that
/// takes over.
fn goes<C: IkeCrypto>(sa: &Sa<C>, env: &Env<'_, '_, C>) -> bool {
    let State::Established(established) = &sa.state else { return true };
    let crossed = matches!(&established.request, Some(Request::Rekey(rekey)) if rekey.crossed.is_some());
    let ends = |child: &Child| match &child.phase {
        _ if child.replaced_by.is_some() => false,
        Phase::Deleting(why) => *why != Failure::Replaced,
        _ => child.leaving.as_ref().is_some_and(|why| *why != Failure::Replaced),
    };
    crossed || established.closing() || env.children.of(env.slot).any(|(_, child)| ends(child))
}

/// The next request to send; `None` when nobody waits for one, or one is outstanding. Each turn takes one wish off the
/// agenda, so that one whose request could not be written does not come again.
pub(crate) fn next<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) -> Option<Task> {
    if !sa.work || sa.window.outstanding.is_some() {
        return None;
    }
    let State::Established(established) = &mut sa.state else { return None };
    if let Some(cause) = established.leaving.take() {
        return Some(Task::DeleteIke(cause));
    }
    if !established.replaced {
        if core::mem::take(&mut established.want_rekey) {
            return Some(Task::RekeyIke);
        }
        if let Some(task) = child_task(env) {
            return Some(task);
        }
    }
    if core::mem::take(&mut established.want_liveness) {
        return Some(Task::Liveness);
    }
    // Whatever is answered or falls due later sets it again.
    sa.work = false;
    None
}

fn child_task<C: IkeCrypto>(env: &mut Env<'_, '_, C>) -> Option<Task> {
    let mut best = None;
    for (slot, child) in env.children.of(env.slot) {
        match &child.phase {
            Phase::Up if child.settles_at.is_some() => {}
            Phase::Up if child.leaving.is_some() => return Some(Task::DeleteChildren),
            Phase::Up if child.want_rekey => best = Some((slot, true)),
            Phase::Wanted(at) if *at <= env.now && best.is_none() => best = Some((slot, false)),
            _ => {}
        }
    }
    match best? {
        (slot, true) => {
            let old = env.children.id(slot)?;
            env.children.get_mut(slot)?.want_rekey = false;
            Some(Task::RekeyChild(slot, old))
        }
        (slot, false) => Some(Task::CreateChild(slot)),
    }
}
