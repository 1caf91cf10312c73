//! Bursts of received frames of an SMSC 95xx.

use rpi_drivers::usb::smsc95xx::{RX_HEADER, rx_header};

/// One burst, walked as the driver does.
pub fn run(data: &[u8]) {
    let (mut at, mut frames) = (0, 0);
    while let Some(word) = data.get(at..).and_then(<[u8]>::first_chunk::<RX_HEADER>) {
        let left = data.len() - at;
        let Some(frame) = rx_header(u32::from_le_bytes(*word), left) else { break };
        assert!(frame.advance >= RX_HEADER && frame.advance.is_multiple_of(4), "the walk comes to an end");
        if let Some(length) = frame.length {
            assert!(length >= 14 && RX_HEADER + length + 4 <= left, "a frame lies in its burst, with its FCS");
        }
        at += frame.advance;
        frames += 1;
        assert!(frames <= data.len() / RX_HEADER);
    }
}
