//! The control socket: how the command line talks to the daemon.

pub(crate) mod client;
pub(crate) mod clients;
pub(crate) mod events;
pub(crate) mod print;
pub(crate) mod protocol;
pub(crate) mod racoonctl;
pub(crate) mod server;
pub(crate) mod setkey;
pub(crate) mod waiting;
