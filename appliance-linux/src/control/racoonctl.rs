//! IKE SAs as `racoonctl -ll show-sa isakmp` lists them: for eyes and scripts that know that. Times are UTC.

use std::fmt::{self, Display, Formatter};

use super::protocol::ShownIke;
use super::setkey::Moment;

/// `racoonctl -ll show-sa isakmp`.
pub(crate) struct Phase1<'i>(pub(crate) &'i [ShownIke], pub(crate) Moment);

impl Display for Phase1<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(sas, moment) = *self;
        let (cookies, created) = ("Cookies", "Created");
        writeln!(f, "{:<16} {:<19} {cookies:<33} ST S  V E {created:<19} Phase2", "Source", "Destination")?;
        for ShownIke { state, children, ike, .. } in sas {
            let cookies = match ike.initiator {
                true => format!("{}:{}", ike.spi_local, ike.spi_remote),
                false => format!("{}:{}", ike.spi_remote, ike.spi_local),
            };
            let side = if ike.initiator { "I" } else { "R" };
            // Its numbers for what has begun, what is established and what is about to end.
            let step = match state.as_str() {
                "established" => 9,
                "closing" => 10,
                _ => 1,
            };
            let created = moment.ago(ike.age_s);
            let (source, destination) = (end(&ike.local), end(&ike.remote));
            // 2.0, in hex, and no exchange of phase 1 (main, aggressive or base).
            writeln!(f, "{source:<16} {destination:<19} {cookies} {step:>2} {side} 20 - {created:#} {children:>6}")?;
        }
        Ok(())
    }
}

/// `192.0.2.1.4500`, of an address and a port.
fn end(text: &str) -> String {
    match text.rsplit_once(':') {
        Some((address, port)) => format!("{}.{port}", address.trim_matches(['[', ']'])),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::control::protocol::IkeStatus;

    fn shown(state: &str, initiator: bool, [local, remote]: [&str; 2], children: usize) -> ShownIke {
        let ike = IkeStatus {
            initiator,
            called: initiator,
            spi_local: "9f7a366492b4f22e".into(),
            spi_remote: "b90b9aa17880beb8".into(),
            suite: "aes256gcm16-prfsha384-x25519".into(),
            local: local.into(),
            remote: remote.into(),
            nat: false,
            nat_local: false,
            nat_remote: false,
            age_s: 75,
            heard_s: Some(1),
            rekey_s: None,
            remote_id: "b.test".into(),
            local_id: "a.test".into(),
        };
        ShownIke { peer: Some("cloud".into()), state: state.into(), children, ike }
    }

    #[test]
    fn b12_ike_sas_are_listed_as_racoonctl_does() {
        let sas = [
            shown("established", true, ["10.1.1.1:4500", "10.3.3.3:4500"], 1),
            shown("closing", false, ["[2001:db8::1]:500", "[2001:db8::2]:500"], 12),
            shown("connecting", true, ["10.1.1.1:500", "10.2.2.2:500"], 0),
        ];
        // Dec 14 16:23:15 2015.
        let moment = Moment { now: UNIX_EPOCH + Duration::from_secs(1_450_110_195), process: 1 };
        assert_eq!(
            Phase1(&sas, moment).to_string(),
            "\
Source           Destination         Cookies                           ST S  V E Created             Phase2
10.1.1.1.4500    10.3.3.3.4500       9f7a366492b4f22e:b90b9aa17880beb8  9 I 20 - 2015-12-14 16:22:00      1
2001:db8::1.500  2001:db8::2.500     b90b9aa17880beb8:9f7a366492b4f22e 10 R 20 - 2015-12-14 16:22:00     12
10.1.1.1.500     10.2.2.2.500        9f7a366492b4f22e:b90b9aa17880beb8  1 I 20 - 2015-12-14 16:22:00      0
"
        );
    }
}
