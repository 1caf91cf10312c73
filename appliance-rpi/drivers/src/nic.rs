//! The one face every network device shows: frames in, frames out.

use core::fmt;

/// An IEEE 802 MAC address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MacAddress(pub [u8; 6]);

impl fmt::Display for MacAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

/// What the device last said about its cable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// No carrier, or the device is gone.
    Down,
    /// Carrier.
    Up {
        /// Speed in Mbit/s; 0 where the device does not tell.
        mbit: u16,
        /// Both directions at once.
        full_duplex: bool,
    },
}

impl Link {
    /// Whether frames can pass.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Up { .. })
    }
}

/// Software counters, one writer each; they only grow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames handed to the caller.
    pub rx_frames: u64,
    /// Octets of those frames, from destination address to the end of the payload, without FCS.
    pub rx_octets: u64,
    /// Frames accepted for sending.
    pub tx_frames: u64,
    /// Octets of those frames.
    pub tx_octets: u64,
    /// Received frames dropped because the device reported an error (CRC, alignment, length).
    pub rx_errors: u64,
    /// Received frames dropped for want of a buffer or because the caller's buffer was too short.
    pub rx_overruns: u64,
    /// Frames refused by [`Nic::send`] or lost by the device.
    pub tx_drops: u64,
    /// Descriptors, lengths or messages of the device that made no sense.
    pub malformed: u64,
    /// Waits for the device that ran into their limit.
    pub timeouts: u64,
    /// Changes of the link state.
    pub link_changes: u64,
}

/// Why a frame was not accepted for sending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendError {
    /// No room right now; try after the next [`Nic::poll`].
    Full,
    /// No carrier, or the device is gone.
    LinkDown,
    /// The device is a passive tap ([`Nic::set_receive_only`]).
    ReceiveOnly,
    /// Shorter than an Ethernet header or longer than the device sends.
    BadLength,
}

/// A network device that moves Ethernet frames without FCS.
///
/// Nothing blocks: `receive` and `send` move at most one frame, `poll` does a bounded amount of everything else.
pub trait Nic {
    /// The station address in use.
    fn mac(&self) -> MacAddress;

    /// Does what is due: link state, finished transfers, recovery from errors. `now_us` is the time since boot.
    fn poll(&mut self, now_us: u64);

    /// The link state as of the last [`poll`](Self::poll).
    fn link(&self) -> Link;

    /// Copies the next received frame into `frame` and returns its length, or `None` when there is none.
    ///
    /// A frame longer than `frame` is dropped and counted. 1,522 octets hold every untagged or tagged frame of the
    /// standard MTU.
    fn receive(&mut self, frame: &mut [u8]) -> Option<usize>;

    /// Takes a frame for sending.
    ///
    /// # Errors
    /// [`SendError`]; the frame was not and will not be sent, and `tx_drops` has counted it.
    fn send(&mut self, frame: &[u8]) -> Result<(), SendError>;

    /// Whether [`send`](Self::send) would find room.
    fn can_send(&self) -> bool;

    /// Accepts frames for every address (`true`) or only those for [`mac`](Self::mac), multicast and broadcast.
    fn set_promiscuous(&mut self, on: bool);

    /// As a passive tap the device never sends a frame: every [`send`](Self::send) is refused.
    fn set_receive_only(&mut self, on: bool);

    /// The counters since the device came up.
    fn counters(&self) -> Counters;
}

#[cfg(test)]
mod tests {
    extern crate std;
    use super::*;
    use std::string::ToString;

    #[test]
    fn mac_addresses_print_in_the_usual_form() {
        assert_eq!(MacAddress([2, 0, 0xab, 0, 0, 1]).to_string(), "02:00:ab:00:00:01");
    }
}
