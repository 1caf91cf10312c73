//! Agreeing on algorithms (RFC 7296 §2.7, §3.3): what we offer, what we choose, whether we got what we offered.
//!
//! A proposal is one ordered list of transforms, and so is what came of it: everything here works on lists, whatever types of
//! transforms stand in them.
//!
//! ```
//! use ike_core::proposal::{Chosen, ChosenIke, EspProposal, IkeProposal};
//! use ike_core::proposal::{check_esp, check_ike, offer_esp, offer_ike, select_esp, select_ike};
//! use ike_core::registry::{ExchangeType, ProtocolId};
//! use ike_core::wire::{chain::Chain, header::Header, sa::Sa, writer::MessageWriter};
//! use ipsec_core::net::Spi;
//! /// A message with an SA payload, as the other side reads it.
//! fn sent<'b>(octets: &'b mut [u8], write: impl FnOnce(&mut MessageWriter<'_>)) -> Sa<'b> {
//!     let mut message = MessageWriter::new(octets, &Header::new(1, 0, ExchangeType::IKE_SA_INIT, 0)).unwrap();
//!     write(&mut message);
//!     let len = message.finish().len;
//!     let header = Header::parse(&octets[..len]).unwrap();
//!     let payload = Chain::new(header.next, &octets[Header::LEN..len]).next().unwrap().unwrap();
//!     Sa::parse(payload.body).unwrap()
//! }
//! let (mut question, mut answer) = ([0; 512], [0; 512]);
//!
//! // The keys of IKE itself.
//! let (ours, theirs) = ([IkeProposal::default()], [IkeProposal::parse("aes128gcm16-prfsha256-ecp256").unwrap()]);
//! let offered = sent(&mut question, |message| message.sa(ProtocolId::IKE, &[], offer_ike(&ours)).unwrap());
//! let chosen: ChosenIke = select_ike(&theirs, &offered, false).unwrap();
//! assert_eq!(chosen.suite.to_string(), "aes128gcm16-prfsha256-ecp256");
//! let choice = [(chosen.number, chosen.suite.transforms())];
//! let answered = sent(&mut answer, |message| message.sa(ProtocolId::IKE, &[], choice).unwrap());
//! assert_eq!(check_ike(&ours, &answered, false), Ok(chosen));
//!
//! // A child's, in IKE_AUTH: without key exchanges.
//! let (ours, theirs) = ([EspProposal::default()], [EspProposal::parse("aes256gcm16-noesn").unwrap()]);
//! let spi = [0, 0, 0x10, 0];
//! let offered = sent(&mut question, |message| message.sa(ProtocolId::ESP, &spi, offer_esp(&ours, false)).unwrap());
//! let Chosen { suite, number, spi: peer_spi } = select_esp(&theirs, &offered, false).unwrap();
//! assert_eq!((Some(peer_spi), suite.esn), (Spi::new(0x1000), false));
//! let choice = [(number, suite.transforms())];
//! let answered = sent(&mut answer, |message| message.sa(ProtocolId::ESP, &spi, choice).unwrap());
//! assert_eq!(check_esp(&ours, &answered, false).unwrap().suite, suite);
//! ```

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
