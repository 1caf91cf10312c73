//! Two endpoints talk to each other over a simulated network.

mod asked;
mod collisions;
mod compressed;
mod debug;
mod engine;
mod faults;
mod firm_ground;
mod handshake;
mod handshake_firm;
mod handshake_flood;
mod hostile;
mod leases;
mod life;
mod modes;
mod network;
mod padded;
mod probes;
mod rooms;
mod signer;
mod suites;
