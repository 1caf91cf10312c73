//! Policies and SAs as `setkey -DP` and `setkey -D` print them: for eyes and scripts that know those.
//!
//! What they have and we do not stands as it does there for what is not set. Keys are shown to nobody. Times are UTC.

use std::fmt::{self, Display, Formatter};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::protocol::{Flow, Sa};

/// Who asks, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) now: SystemTime,
    /// The number of his process.
    pub(crate) process: u32,
}

impl Moment {
    /// So many seconds ago.
    pub(super) fn ago(self, seconds: u64) -> Date {
        Date(self.now.checked_sub(Duration::from_secs(seconds)).unwrap_or(UNIX_EPOCH))
    }
}

/// `setkey -DP`, with how many packets met each policy behind `refcnt`.
pub(crate) struct Policies<'f>(pub(crate) &'f [Flow], pub(crate) Moment);

impl Display for Policies<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(flows, moment) = *self;
        if flows.is_empty() {
            return writeln!(f, "No SPD entries.");
        }
        for (flow, sequence) in flows.iter().zip((0..flows.len()).rev()) {
            let (from, to) = (End::of(&flow.from), End::of(&flow.to));
            // Either side may leave it open.
            let protocol = [from.protocol, to.protocol].into_iter().find(|word| *word != "any").unwrap_or("255");
            writeln!(f, "{from} {to} {protocol}")?;
            let action = match flow.action.as_str() {
                "protect" => "ipsec",
                "bypass" => "none",
                other => other,
            };
            writeln!(f, "\t{} {} {action}", flow.direction, Priority(flow.priority))?;
            template(f, flow)?;
            let last = flow.last_s.map(|last| moment.ago(last).to_string()).unwrap_or_default();
            writeln!(f, "\tcreated: {}  lastused: {last}", moment.ago(flow.age_s))?;
            writeln!(f, "\tlifetime: 0(s) validtime: 0(s)")?;
            // As the kernel numbers them: the direction in the lowest bits.
            let way = match flow.direction.as_str() {
                "in" => 0,
                "out" => 1,
                _ => 2,
            };
            let id = (u64::from(flow.rule) + 1) * 8 + way;
            writeln!(f, "\tspid={id} seq={sequence} pid={}", moment.process)?;
            write!(f, "\trefcnt=1")?;
            match flow.hits {
                Some(hits) => writeln!(f, " hits={hits}")?,
                None => writeln!(f)?,
            }
        }
        Ok(())
    }
}

/// How a policy protects.
fn template(f: &mut Formatter<'_>, flow: &Flow) -> fmt::Result {
    let (Some(level), Some(mode)) = (&flow.level, &flow.mode) else { return Ok(()) };
    let end = |end: &Option<String>| end.as_deref().filter(|end| *end != "any").unwrap_or("0.0.0.0").to_owned();
    let (local, remote) = (end(&flow.local), end(&flow.peer));
    match (mode.as_str(), flow.direction.as_str()) {
        ("transport", _) => writeln!(f, "\tesp/transport//{level}"),
        (mode, "out") => writeln!(f, "\tesp/{mode}/{local}-{remote}/{level}"),
        (mode, _) => writeln!(f, "\tesp/{mode}/{remote}-{local}/{level}"),
    }
}

/// `setkey -D`, without keys.
pub(crate) struct Associations<'s>(pub(crate) &'s [Sa], pub(crate) Moment);

impl Display for Associations<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self(sas, moment) = *self;
        if sas.is_empty() {
            return writeln!(f, "No SAD entries.");
        }
        for (sa, left) in sas.iter().zip((0..sas.len()).rev()) {
            writeln!(f, "{} {} ", sa.from, sa.to)?;
            let spi = u32::from_str_radix(sa.spi.trim_start_matches("0x"), 16).unwrap_or_default();
            let protocol = if sa.encap == "esp" { "esp" } else { "esp-udp" };
            writeln!(f, "\t{protocol} mode={} spi={spi}({spi:#010x}) reqid=0(0x00000000)", sa.mode)?;
            writeln!(f, "\tE: {}  (not shown)", sa.suite)?;
            let state = if sa.replaced { "dying" } else { "mature" };
            writeln!(f, "\tseq={:#010x} replay=0 flags=0x00000000 state={state} ", sa.sequence & 0xffff_ffff)?;
            writeln!(f, "\tcreated: {}\tcurrent: {}", moment.ago(sa.age_s), Date(moment.now))?;
            writeln!(f, "\tdiff: {}(s)\thard: 0(s)\tsoft: 0(s)", sa.age_s)?;
            let last = sa.last_s.map(|last| moment.ago(last).to_string()).unwrap_or_default();
            writeln!(f, "\tlast: {last}\thard: 0(s)\tsoft: 0(s)")?;
            writeln!(f, "\tcurrent: {}(bytes)\thard: 0(bytes)\tsoft: 0(bytes)", sa.bytes)?;
            writeln!(f, "\tallocated: {}\thard: 0\tsoft: 0", sa.packets)?;
            writeln!(f, "\tsadb_seq={left} pid={} refcnt=0", moment.process)?;
        }
        Ok(())
    }
}

/// One side of a selector that is written as the configuration has it: `10.1.0.0/16[tcp/22]`.
struct End<'t> {
    address: &'t str,
    protocol: &'t str,
    port: &'t str,
}

impl<'t> End<'t> {
    fn of(text: &'t str) -> Self {
        let (address, rest) = text.split_once('[').unwrap_or((text, ""));
        let (protocol, port) = rest.trim_end_matches(']').split_once('/').unwrap_or((rest.trim_end_matches(']'), ""));
        let said = |word: &'t str| if word.is_empty() { "any" } else { word };
        // Of a host setkey writes no length.
        let whole = if address.contains(':') { "/128" } else { "/32" };
        Self { address: address.strip_suffix(whole).unwrap_or(address), protocol: said(protocol), port: said(port) }
    }
}

impl Display for End<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.address, self.port)
    }
}

/// A priority: `def` is that of a child, and a larger number behind it goes first.
struct Priority(u32);

impl Priority {
    const DEFAULT: u32 = gateway_core::config::Child::PRIORITY;
}

impl Display for Priority {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match (Self::DEFAULT.checked_sub(self.0), self.0.checked_sub(Self::DEFAULT)) {
            (Some(0), _) => write!(f, "prio def"),
            (Some(before), _) => write!(f, "prio def + {before}"),
            (None, behind) => write!(f, "prio def - {}", behind.unwrap_or_default()),
        }
    }
}

/// `Dec 14 16:23:15 2015`, in UTC; `{:#}`: `2015-12-14 16:23:15`.
pub(super) struct Date(SystemTime);

impl Display for Date {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        const MONTHS: [&str; 12] = ["Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec", "Jan", "Feb"];
        let seconds = self.0.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        // Years that begin in March have their odd day at the end; 719,468 days lie between the first of them and 1970.
        let days = seconds / 86_400 + 719_468;
        let (era, day) = (days / 146_097, days % 146_097);
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let month = (5 * day + 2) / 153;
        let of_month = day - (153 * month + 2) / 5 + 1;
        let year = era * 400 + year + u64::from(month >= 10);
        let name = usize::try_from(month).ok().and_then(|month| MONTHS.get(month)).unwrap_or(&"");
        let (hours, minutes, seconds) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
        if f.alternate() {
            let number = (month + 2) % 12 + 1;
            return write!(f, "{year}-{number:02}-{of_month:02} {hours:02}:{minutes:02}:{seconds:02}");
        }
        write!(f, "{name} {of_month:2} {hours:02}:{minutes:02}:{seconds:02} {year}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Dec 14 16:23:15 2015.
    fn moment() -> Moment {
        Moment { now: UNIX_EPOCH + Duration::from_secs(1_450_110_195), process: 2797 }
    }

    fn flow(direction: &str, from: &str, to: &str) -> Flow {
        Flow {
            direction: direction.into(),
            action: "protect".into(),
            level: Some("use".into()),
            priority: 1000,
            rule: 66,
            age_s: 3600,
            mode: Some("transport".into()),
            local: Some("192.168.33.12".into()),
            peer: Some("192.168.33.11".into()),
            from: from.into(),
            to: to.into(),
            ..Flow::default()
        }
    }

    #[test]
    fn e4_policies_are_dumped_as_setkey_does() {
        let (us, peer) = ("192.168.33.12/32", "192.168.33.11/32");
        let into = flow("in", peer, us);
        let out = Flow { hits: Some(42), last_s: Some(15), ..flow("out", us, peer) };
        assert_eq!(
            Policies(&[into, out], moment()).to_string(),
            "192.168.33.11[any] 192.168.33.12[any] 255\n\tin prio def ipsec\n\tesp/transport//use\n\
             \tcreated: Dec 14 15:23:15 2015  lastused: \n\tlifetime: 0(s) validtime: 0(s)\n\
             \tspid=536 seq=1 pid=2797\n\trefcnt=1\n\
             192.168.33.12[any] 192.168.33.11[any] 255\n\tout prio def ipsec\n\tesp/transport//use\n\
             \tcreated: Dec 14 15:23:15 2015  lastused: Dec 14 16:23:00 2015\n\tlifetime: 0(s) validtime: 0(s)\n\
             \tspid=537 seq=0 pid=2797\n\trefcnt=1 hits=42\n"
        );
        assert_eq!(Policies(&[], moment()).to_string(), "No SPD entries.\n");
    }

    #[test]
    fn b9_ssh_in_clear_stands_before_what_is_protected_as_prio_def_plus() {
        let ssh = Flow {
            action: "bypass".into(),
            priority: 900,
            level: None,
            mode: None,
            ..flow("out", "0.0.0.0/0[tcp]", "0.0.0.0/0[tcp/22]")
        };
        let tunnel = Flow {
            mode: Some("tunnel".into()),
            level: Some("require".into()),
            priority: 1100,
            ..flow("fwd", "10.1.0.0/16", "2001:db8::/32")
        };
        let dump = Policies(&[ssh, tunnel], moment()).to_string();
        assert!(dump.starts_with("0.0.0.0/0[any] 0.0.0.0/0[22] tcp\n\tout prio def + 100 none\n\tcreated:"), "{dump}");
        assert!(
            dump.contains(
                "\n10.1.0.0/16[any] 2001:db8::/32[any] 255\n\tfwd prio def - 100 ipsec\n\
                           \tesp/tunnel/192.168.33.11-192.168.33.12/require\n"
            ),
            "{dump}"
        );
        assert!(dump.contains("\tspid=538 seq=0"), "{dump}");
    }

    #[test]
    fn b12_sas_are_dumped_as_setkey_does_and_without_their_keys() {
        let sa = Sa {
            mode: "tunnel".into(),
            from: "192.0.2.1".into(),
            to: "192.0.2.2".into(),
            spi: "0x0000beef".into(),
            suite: "aes256gcm16-esn".into(),
            encap: "esp-in-udp".into(),
            bytes: 840,
            packets: 10,
            age_s: 75,
            last_s: Some(15),
            sequence: 0x1_0000_000a,
            ..Sa::default()
        };
        assert_eq!(
            Associations(&[sa], moment()).to_string(),
            "192.0.2.1 192.0.2.2 \n\tesp-udp mode=tunnel spi=48879(0x0000beef) reqid=0(0x00000000)\n\
             \tE: aes256gcm16-esn  (not shown)\n\tseq=0x0000000a replay=0 flags=0x00000000 state=mature \n\
             \tcreated: Dec 14 16:22:00 2015\tcurrent: Dec 14 16:23:15 2015\n\tdiff: 75(s)\thard: 0(s)\tsoft: 0(s)\n\
             \tlast: Dec 14 16:23:00 2015\thard: 0(s)\tsoft: 0(s)\n\
             \tcurrent: 840(bytes)\thard: 0(bytes)\tsoft: 0(bytes)\n\tallocated: 10\thard: 0\tsoft: 0\n\
             \tsadb_seq=0 pid=2797 refcnt=0\n"
        );
        assert_eq!(Associations(&[], moment()).to_string(), "No SAD entries.\n");
    }

    #[test]
    fn dates_are_right_around_the_odd_day_of_a_year() {
        let date = |seconds| Date(UNIX_EPOCH + Duration::from_secs(seconds)).to_string();
        assert_eq!(date(0), "Jan  1 00:00:00 1970");
        assert_eq!(date(951_782_399), "Feb 28 23:59:59 2000");
        assert_eq!(date(951_782_400), "Feb 29 00:00:00 2000");
        assert_eq!(date(951_868_800), "Mar  1 00:00:00 2000");
        assert_eq!(date(4_107_542_400), "Mar  1 00:00:00 2100");
        assert_eq!(date(4_107_542_399), "Feb 28 23:59:59 2100");
        let numbers = |seconds| format!("{:#}", Date(UNIX_EPOCH + Duration::from_secs(seconds)));
        assert_eq!(numbers(0), "1970-01-01 00:00:00");
        assert_eq!(numbers(951_782_400), "2000-02-29 00:00:00");
        assert_eq!(numbers(1_450_110_195), "2015-12-14 16:23:15");
    }
}
