//! USB: a DesignWare (DWC2) host, hubs, and the network devices behind them.
//!
//! ```text
//! UsbHost (bus)  one poll: channels, status endpoints, the task in hand
//!  ├ attach      a port's change to a device in service      ├ errand  requests to a device in service
//!  ├ ecm, smsc95xx, hub   what the classes say               ├ nic     rings of frames
//!  └ control     setup, data, status  ─────────────────────── dwc2     registers and channels
//! ```
//!
//! The classes are state machines without I/O (`procedure`); only `dwc2` and `root` touch registers.
//!
//! What is absent: split transactions (a full- or low-speed device behind a high-speed hub is switched off and
//! counted as refused), isochronous transfers, suspend.

mod attach;
mod bus;
mod control;
pub mod descriptor;
mod devices;
mod dwc2;
pub mod ecm;
mod errand;
pub mod hub;
mod layout;
mod nic;
mod port;
mod procedure;
mod registers;
mod ring;
mod root;
mod setup;
pub mod smsc95xx;
mod transfer;

pub use bus::{Became, BusCounters, NICS, News, UsbHost};
pub use dwc2::InitError;
pub use port::UsbPort;
pub use transfer::TransferError;
