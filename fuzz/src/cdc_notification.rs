//! Notifications of a CDC Ethernet adapter.

use rpi_drivers::Link;
use rpi_drivers::usb::ecm::read_notification;

use crate::input::Input;

/// Messages, each after its length, as they change one link.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let mut link = Link::Up { mbit: 0, full_duplex: true };
    while !input.is_empty() {
        let length = usize::from(input.octet());
        let message = input.take(length);
        let Some(told) = read_notification(message, link) else { continue };
        assert_eq!(message[0], 0xA1, "only notifications are listened to");
        match (message[1], told) {
            (0x00, told) => assert_eq!(told.is_up(), message[2] != 0),
            (0x2A, Link::Up { .. }) => assert!(link.is_up() && message.len() >= 16, "a speed alone brings no link up"),
            other => panic!("{other:?}"),
        }
        link = told;
    }
}
