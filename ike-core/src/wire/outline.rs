//! What a message carries, in the words of a log.

use core::fmt;

use super::chain::Chain;
use super::header::Header;
use crate::registry::{ExchangeType, NotifyKind, PayloadType};

/// Payloads that an outline names; further ones are an ellipsis.
const NAMED: usize = 16;

/// The exchange, the direction and the payloads of one message; nothing of what they say but the kind of a Notify. Shown
/// as `IKE_AUTH response 1 [ N(AUTHENTICATION_FAILED) ]`.
///
/// ```
/// use ike_core::registry::{ExchangeType, PayloadType};
/// use ike_core::wire::{header::Header, outline::Outline};
/// let header = Header { response: true, ..Header::new(1, 2, ExchangeType::IKE_AUTH, 1) };
/// let refusal = [0, 0, 0, 8, 0, 0, 0, 24];
/// let outline = Outline::read(&header, PayloadType::NOTIFY, &refusal);
/// assert_eq!(outline.to_string(), "IKE_AUTH response 1 [ N(AUTHENTICATION_FAILED) ]");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    exchange: ExchangeType,
    response: bool,
    message_id: u32,
    payloads: [Named; NAMED],
    /// How many there are, named or not.
    count: u16,
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Named {
    payload: PayloadType,
    /// The kind of a Notify payload, as it stands there: each SA keeps two outlines.
    notify: [u8; 2],
}

const NOTHING: Named = Named { payload: PayloadType::NONE, notify: [0; 2] };

impl Outline {
    /// Reads the payloads of a message; `first` is the type of the first one in `body`, which stands in clear here. What
    /// comes after something malformed is not named.
    pub fn read(header: &Header, first: PayloadType, body: &[u8]) -> Self {
        let mut payloads = [NOTHING; NAMED];
        let mut count = 0u16;
        for payload in Chain::new(first, body).map_while(Result::ok) {
            if let Some(place) = payloads.get_mut(usize::from(count)) {
                let notify = match payload.kind {
                    // Behind the protocol and the size of the SPI.
                    PayloadType::NOTIFY => match payload.body {
                        [_, _, high, low, ..] => [*high, *low],
                        _ => NOTHING.notify,
                    },
                    _ => NOTHING.notify,
                };
                *place = Named { payload: payload.kind, notify };
            }
            count = count.saturating_add(1);
        }
        Self { exchange: header.exchange, response: header.response, message_id: header.message_id, payloads, count }
    }
}

impl fmt::Display for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = if self.response { "response" } else { "request" };
        write!(f, "{} {direction} {} [ ", self.exchange, self.message_id)?;
        let count = usize::from(self.count);
        for Named { payload, notify } in self.payloads.iter().take(count) {
            match *payload {
                PayloadType::NOTIFY => write!(f, "{payload}({}) ", NotifyKind(u16::from_be_bytes(*notify)))?,
                _ => write!(f, "{payload} ")?,
            }
        }
        f.write_str(if count > NAMED { "… ]" } else { "]" })
    }
}

impl fmt::Debug for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use std::format;
    use std::string::String;

    use super::*;
    use crate::wire::writer::MessageWriter;

    fn outline(response: bool, payloads: impl FnOnce(&mut MessageWriter<'_>)) -> String {
        let mut buf = [0; 512];
        let header = Header { response, ..Header::new(1, 2, ExchangeType::IKE_AUTH, 1) };
        let mut out = MessageWriter::new(&mut buf, &header).unwrap();
        payloads(&mut out);
        let written = out.finish();
        let read = Header::parse(&buf[..written.len]).unwrap();
        assert_eq!(Outline::read(&read, read.next, &buf[Header::LEN..written.len]), written.outline);
        format!("{}", written.outline)
    }

    #[test]
    fn f_78_exchange_payloads_and_notifies_are_named() {
        let failed = outline(true, |out| out.notify_parts(NotifyKind::AUTHENTICATION_FAILED, &[]).unwrap());
        assert_eq!(failed, "IKE_AUTH response 1 [ N(AUTHENTICATION_FAILED) ]");
        let more = outline(false, |out| {
            out.notify_parts(NotifyKind(12_345), &[]).unwrap();
            out.delete_ike().unwrap();
            out.vendor(b"secret").unwrap();
        });
        assert_eq!(more, "IKE_AUTH request 1 [ N(notify 12345) D V ]");
        assert_eq!(outline(false, |_| {}), "IKE_AUTH request 1 [ ]");
    }

    #[test]
    fn a_message_of_many_payloads_has_an_end() {
        let many = outline(false, |out| (0..NAMED + 1).for_each(|_| out.vendor(b"").unwrap()));
        assert_eq!(many, format!("IKE_AUTH request 1 [ {}… ]", "V ".repeat(NAMED)));
    }

    #[test]
    fn what_is_malformed_is_not_named() {
        let header = Header::new(1, 2, ExchangeType::INFORMATIONAL, 7);
        let read = Outline::read(&header, PayloadType::DELETE, &[41, 0, 0, 4, 0, 0, 0, 3]);
        assert_eq!(format!("{read:?}"), "INFORMATIONAL request 7 [ D ]");
    }
}
