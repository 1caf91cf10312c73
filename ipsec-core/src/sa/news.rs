//! What an SA has to tell, each thing once, and what says that its slot is to be filed anew.

use core::ops::{Deref, DerefMut};

/// Something to be reported exactly once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Once<T> {
    /// Did not happen yet.
    No,
    /// Happened, not yet reported.
    Due(T),
    /// Reported.
    Done(T),
}

impl<T: Copy> Once<T> {
    pub(super) fn what(&self) -> Option<T> {
        match *self {
            Self::No => None,
            Self::Due(what) | Self::Done(what) => Some(what),
        }
    }

    #[inline]
    pub(super) const fn happened(&self) -> bool {
        !matches!(self, Self::No)
    }

    #[inline]
    pub(super) const fn is_due(&self) -> bool {
        matches!(self, Self::Due(_))
    }

    /// What is to be reported, which is done with that.
    pub(super) fn take(&mut self) -> Option<T> {
        let Self::Due(what) = *self else { return None };
        *self = Self::Done(what);
        Some(what)
    }
}

/// What an SA is filed by. Whoever has it to change it touches it; so packets look, and change only what is another then.
#[derive(Debug)]
pub(super) struct Marked<T> {
    content: T,
    touched: bool,
}

impl<T> Marked<T> {
    pub(super) const fn new(content: T) -> Self {
        Self { content, touched: false }
    }

    #[inline]
    pub(super) const fn is_touched(&self) -> bool {
        self.touched
    }

    /// The SA is filed by what it is now.
    pub(super) fn settled(&mut self) {
        self.touched = false;
    }
}

impl<T> Deref for Marked<T> {
    type Target = T;

    #[inline]
    fn deref(&self) -> &T {
        &self.content
    }
}

impl<T> DerefMut for Marked<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut T {
        self.touched = true;
        &mut self.content
    }
}
