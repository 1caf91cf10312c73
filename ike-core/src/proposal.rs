//! Agreeing on algorithms (RFC 7296 §2.7, §3.3): what we offer, what we choose, whether we got what we offered.
//!
//! A proposal is one ordered list of transforms, and so is what came of it: everything here works on lists, whatever types of
//! transforms stand in them.

mod choice;
mod codec;
mod configured;
mod words;

pub use self::choice::{
    Chosen, ChosenEsp, ChosenIke, Mismatch, NotOffered, check_esp, check_ike, select_esp, select_ike,
};
pub(crate) use self::choice::{check_asked, read_ike};
pub(crate) use self::configured::{Asked, ask_esp};
pub use self::configured::{EspProposal, IkeProposal, MAX_TRANSFORMS, offer_esp, offer_ike};
pub use self::words::{ProposalError, Reason};
pub use crate::crypto::{EspSuite, IkeSuite};
