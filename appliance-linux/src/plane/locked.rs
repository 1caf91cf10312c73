//! The engines, each shared by its thread and the control thread.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gateway_core::plane::{self, Hold};
use gateway_core::policy::{Inbound, Outbound};

use crate::provider::Engine;

/// An engine that its thread and the control thread share. It is locked for single steps.
pub(crate) struct Locked<E>(Arc<Mutex<E>>);

impl<E> Locked<E> {
    pub(super) fn new(engine: E) -> Self {
        Self(Arc::new(Mutex::new(engine)))
    }

    /// No engine panics, so a poisoned lock still guards sound data.
    pub(super) fn lock(&self) -> MutexGuard<'_, E> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<E> Clone for Locked<E> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<E> Hold for Locked<E> {
    type Engine = E;

    fn with<R>(&self, look: impl FnOnce(&E) -> R) -> R {
        look(&self.lock())
    }

    fn with_mut<R>(&mut self, change: impl FnOnce(&mut E) -> R) -> R {
        change(&mut self.lock())
    }
}

/// The engines as the gateway sees them.
pub(crate) type Engines = plane::Engines<Locked<Outbound<'static, Engine>>, Locked<Inbound<'static, Engine>>>;
