//! How an IKE SA comes up, and how it ends.

use crate::auth::Authenticated;
use crate::crypto::IkeCrypto;
use crate::effects::Effects;
use crate::env::Env;
use crate::failure::Failure;
use crate::pad::Connection;
use crate::registry::NotifyKind;
use crate::rules::Payloads;
use crate::sa::{Begun, Dead, Established, Request, Sa, State};
use crate::timers;

impl<C: IkeCrypto> Sa<C> {
    /// The peer is authenticated. `confirmed`: it is known to have this SA, too.
    pub(crate) fn establish(
        &mut self,
        env: &mut Env<'_, '_, C>,
        connection: &Connection<'_>,
        _: Authenticated,
        confirmed: bool,
    ) {
        let Some(keys) = &mut self.keys else { return };
        keys.forget_auth();
        let group = keys.suite.group;
        let mut established = Established::new(env.crypto, env.now, group, Some(connection), self.initiator);
        established.announced = true;
        established.confirmed = confirmed;
        if self.nat.local {
            established.keepalive.begin(env.now, env.settings);
        }
        self.state = State::Established(established);
        self.report.begun = Some(Begun::Established);
    }

    /// The peer may have said for how long it takes us for authenticated; what it says last counts.
    pub(crate) fn hear_lifetime(&mut self, env: &mut Env<'_, '_, C>, payloads: &Payloads<'_>) {
        if let State::Established(established) = &mut self.state
            && let Some(notify) = payloads.notify(NotifyKind::AUTH_LIFETIME)
            && let Some(at) = timers::reauthenticate_at(env.crypto, env.now, notify.data)
        {
            established.reauthenticate_at = Some(at);
        }
    }

    /// The SA is over. When the peer's rekey crossed ours and is done, the children live on in the SA that it made: what
    /// becomes of our own request does not matter to it.
    pub(crate) fn over(&mut self, cause: Failure) -> Effects {
        let request = match &mut self.state {
            State::Established(established) => established.request.take(),
            _ => None,
        };
        let heir = match request {
            Some(Request::Rekey(request)) => request.crossed.map(|crossed| crossed.made),
            _ => None,
        };
        Effects::Over { cause, heir }
    }

    /// Ends the SA and its children. The caller is told when it knows the SA.
    pub(crate) fn die(&mut self, env: &mut Env<'_, '_, C>, cause: Failure) {
        let (established, told) = match &self.state {
            State::Dead(_) => return,
            State::Established(established) => (true, established.announced),
            _ => (false, true),
        };
        env.children.end_all(env.slot, &cause);
        let untold = told.then_some((established, cause));
        // It is no use to know where somebody went under a name that nobody knows.
        self.report.moved &= told;
        self.window.restart();
        self.state = State::Dead(Dead { until: Some(env.now + env.settings.linger), untold });
        self.keys = None;
        self.ke = None;
    }
}
