//! What an SA wants next: what falls due, and which request is to be sent when none is outstanding.

use crate::child::{Child, Phase, Standing, Turn};
use crate::crypto::IkeCrypto;
use crate::effects::Effects;
use crate::env::Env;
use crate::event::ChildId;
use crate::exchange;
use crate::failure::Failure;
use crate::sa::{AuthSent, InitAnswered, Request, Sa, State};

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
    if matches!(sa.state, State::Dead(_)) {
        return Effects::Nothing;
    }
    if let Err(exchange) = sa.window.repeat(env.now, &env.settings.retransmission) {
        let heard = is_heard(sa, env);
        if !heard || goes(sa, env) {
            if heard {
                exchange::farewell_instead(sa, env);
            }
            return sa.over(sa.silence(exchange));
        }
        // Told again each time that it was repeated so often once more: what comes of that may come to nothing.
        let repeated = sa.window.outstanding().map_or(0, |request| request.repetitions);
        if repeated.is_multiple_of(u32::from(env.settings.retransmission.tries).max(1)) {
            sa.report.unanswered = Some(exchange);
        }
        sa.window.repeat_once_more(env.now, &env.settings.retransmission);
    }
    match &mut sa.state {
        State::InitAnswered(InitAnswered { until, course, .. }) | State::AuthSent(AuthSent { until, course, .. })
            if *until <= env.now && course.wait.is_some() =>
        {
            sa.over(Failure::SignerSilent)
        }
        State::InitAnswered(answered) if answered.until <= env.now => sa.over(Failure::HalfOpenTimeout),
        State::Established(established) => {
            sa.report.reauthenticate |= established.on_time(env.now, env.settings);
            Effects::Nothing
        }
        _ => Effects::Nothing,
    }
}

/// Whether a peer that does not answer a request is there all the same: messages on the IKE SA and packets on its children show
/// that (RFC 7296 §2.4). What stands is worth waiting for then, and another IKE SA can be made beside it.
fn is_heard<C: IkeCrypto>(sa: &Sa<C>, env: &Env<'_, '_, C>) -> bool {
    let silent_for_long = env.settings.retransmission.span();
    matches!(&sa.state, State::Established(established) if established.liveness.heard + silent_for_long > env.now)
}

/// Whether it, or something of it, is to go, and cannot while a request is outstanding: a Delete that is not answered, the end
/// of a child that nothing takes the place of, or the peer's rekey of the IKE SA, which crossed ours and made the one that
/// takes over.
fn goes<C: IkeCrypto>(sa: &Sa<C>, env: &Env<'_, '_, C>) -> bool {
    let State::Established(established) = &sa.state else { return true };
    let crossed = matches!(&established.request, Some(Request::Rekey(rekey)) if rekey.crossed.is_some());
    let ends = |child: &Child| match &child.phase {
        _ if child.standing != Standing::Stands => false,
        Phase::Up(up) => up.leaving.as_ref().is_some_and(|why| *why != Failure::Replaced),
        Phase::Deleting(why) => *why != Failure::Replaced,
        _ => false,
    };
    let mut turns = [Turn::Settling, Turn::Leaving, Turn::Deleting].into_iter();
    let end = |turn| env.children.waiting(env.slot, turn).any(|(_, child)| ends(child));
    crossed || established.closing() || turns.any(end)
}

/// The next request to send; `None` when nobody waits for one, or one is outstanding. Each turn takes one wish off the
/// agenda, so that one whose request could not be written does not come again.
pub(crate) fn next<C: IkeCrypto>(sa: &mut Sa<C>, env: &mut Env<'_, '_, C>) -> Option<Task> {
    let State::Established(established) = &mut sa.state else { return None };
    if !established.work || sa.window.outstanding().is_some() {
        return None;
    }
    if let Some(cause) = established.leaving.take() {
        return Some(Task::DeleteIke(cause));
    }
    if !established.standing.is_over() {
        if established.rekey.take() {
            return Some(Task::RekeyIke);
        }
        if let Some(task) = child_task(env) {
            return Some(task);
        }
    }
    if core::mem::take(&mut established.liveness.wanted) {
        return Some(Task::Liveness);
    }
    // Whatever is answered or falls due later sets it again.
    established.work = false;
    None
}

/// What goes makes room, and what stands is kept before there is more of it; of each, who stands first in line.
fn child_task<C: IkeCrypto>(env: &mut Env<'_, '_, C>) -> Option<Task> {
    if env.children.next(env.slot, Turn::Leaving).is_some() {
        return Some(Task::DeleteChildren);
    }
    if let Some(slot) = env.children.next(env.slot, Turn::Rekey) {
        let old = env.children.id(slot)?;
        env.children.get_mut(slot)?.up_mut()?.rekey.take();
        return Some(Task::RekeyChild(slot, old));
    }
    env.children.next(env.slot, Turn::Wanted).map(Task::CreateChild)
}
