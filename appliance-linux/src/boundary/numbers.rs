//! The numbers by which ours is known in the kernel.

/// Our routing table, and the priority of the rule that leads there.
pub(crate) const TABLE: u32 = 4500;
/// The table for a remote network that is everything.
pub(crate) const TABLE_OF_THE_REST: u32 = 4501;
/// The first priority of the rules that lead around our device.
pub(crate) const AROUND: u32 = TABLE - 100;
/// The priority of the rule before all of ours, by which what is for this machine itself stays here.
pub(crate) const OWN: u32 = AROUND - 1;
/// The kernel's table of the addresses of this machine, to which that rule leads.
pub(crate) const LOCAL: u32 = 255;
/// Where they lead: behind the last of our rules.
pub(crate) const BEYOND: u32 = TABLE_OF_THE_REST + 2;
/// The firewall mark of our own packets. Others look at some bits of a mark alone, and would translate or lead away what
/// carries them; Calico and Cilium take nearly all for themselves, so that no mark keeps clear of everybody.
pub(crate) const MARK: u32 = 0x4500_0000;
const KUBE_PROXY: u32 = 0xc000;
const MWAN3: u32 = 0x3f00;
const TAILSCALE: u32 = 0x00ff_0000;
const _: () = assert!(MARK & (KUBE_PROXY | MWAN3 | TAILSCALE) == 0);
