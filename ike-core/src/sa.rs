//! The nouns: an IKE SA, what each of its states holds, and the questions one may ask them.

mod by;
mod established;
mod filed;
mod handshake;
mod one;

pub(crate) use by::{By, same_source};
pub(crate) use established::{ChildRequest, Crossed, Established, Heir, LowestNonce, RekeyRequest, Request, Standing};
pub use filed::IkeSlot;
pub(crate) use handshake::{AuthSent, First, InitAnswered, InitSent, NONCE_LEN};
pub(crate) use one::{Begun, Dead, Sa, State, party};
