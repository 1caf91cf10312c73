//! `portcullis doctor`: is this machine ready for this configuration? Every finding says what it means and how to mend it.

mod elsewhere;
mod finding;
mod firewall;
mod guard;
mod host;
mod ports;
mod uplinks;
mod ways;

use std::path::Path;

use gateway_core::config::Config;

use crate::boundary;
use crate::configuration::reason;
use crate::control::client;
use crate::control::protocol::{Answer, Request};
use crate::netlink::Netlink;

pub(crate) use elsewhere::reminders;
use finding::finding;
pub(crate) use finding::{Finding, Grade};
pub(crate) use guard::{clear_meanwhile, left_to_routes};
pub(crate) use host::forwarding;

/// Looks at everything, and tells each thing as soon as it is found: name servers, or a daemon, may take long to answer.
pub(crate) fn examine(config: &Config, tell: &mut dyn FnMut(Finding)) {
    let mut told = |found: Vec<Finding>| found.into_iter().for_each(&mut *tell);
    told(vec![host::privileges()]);
    let socket = Path::new(&config.gateway.control);
    let answer = client::call(socket, &Request::Status);
    // Who cannot be asked may run all the same: whether somebody does is for the kernel to say.
    let running = answer.is_ok() || boundary::is_claimed();
    if let Some(error) = answer.as_ref().err().filter(|_| running) {
        let text = format!("one runs, and cannot be asked at {}: {}", socket.display(), reason(error));
        let fix = "ask as root or as the daemon's user, with the configuration (or --control) that it was started with";
        told(vec![finding(Grade::Warning, "daemon", text, fix)]);
    }
    let status = match answer {
        Ok(Answer::Status { status }) => Some(status),
        _ => None,
    };
    told(forwarding(config));
    told(host::interfaces(config));
    told(without_ipv6(config).into_iter().collect());
    told(ports::ports(config, running));
    let guard = boundary::guard_state();
    told(guard::boundary(config, &guard, running));
    told(status.iter().map(|status| guard::as_the_daemon_sees_it(&status.boundary)).collect());
    told(status.iter().filter_map(|status| guard::nowhere(&status.boundary)).collect());
    told(firewall::firewall(config));
    told(firewall::saved());
    match Netlink::open() {
        Ok(mut netlink) => {
            told(vec![host::tun(config, running, &mut netlink)]);
            let ours = netlink.addresses().unwrap_or_default();
            if running {
                let spared = status.as_ref().map(|status| status.boundary.reached_in_clear.as_slice());
                told(ways::ways(config, &mut netlink, &ways::elsewhere(&ours, spared)));
            }
            told(ways::beside_a_full_tunnel(config, &mut netlink));
            let outside = ways::outside(config, &mut netlink);
            told(host::reverse_path(config, &outside, host::is_guarded(&guard, running)));
            told(host::addresses(config, &ours));
            told(host::switched(config, &netlink.links().unwrap_or_default(), host::setting));
            told(ways::peers(config, &mut netlink));
            told(uplinks::uplinks(config, &mut netlink, &ours));
        }
        Err(error) => told(vec![finding(Grade::Failure, "netlink", format!("cannot be opened: {error}"), "")]),
    }
    told(elsewhere::elsewhere(config));
}

/// The peers that the daemon cannot meet, as the kernel has no IPv6.
pub(crate) fn without_ipv6(config: &Config) -> Option<Finding> {
    ports::without_ipv6(config, boundary::has_ipv6())
}

/// What `check` says of this machine beside the configuration, a line each.
pub(crate) fn in_clear_beside(config: &Config) -> Vec<String> {
    let found = Netlink::open().map(|mut netlink| ways::beside_a_full_tunnel(config, &mut netlink)).unwrap_or_default();
    found.into_iter().map(|found| format!("{}; {}", found.text, found.fix)).collect()
}

#[cfg(test)]
mod tests {
    use gateway_core::config::Mode;

    use super::finding::a_few;
    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    fn config(peers: usize) -> Config {
        let peer = |number: usize| {
            format!(
                "[[peer]]\nname = \"p{number}\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\nstart = \"passive\"\n\
                 remote-id = \"p{number}.lab\"\npsk = \"a key of more than twenty characters\"\n[[peer.child]]\n\
                 name = \"n\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = \"11.{}.{}.0/24\"\n",
                number / 250,
                number % 250
            )
        };
        let text: String = (0..peers).map(peer).collect();
        Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0
    }

    #[test]
    fn f_33_words_about_many_peers_are_few() {
        assert_eq!(a_few(vec!["10.0.0.0/16".to_owned(); 1000]), "10.0.0.0/16");
        let many: Vec<String> = (0..100).map(|net| format!("10.{net}.0.0/16")).collect();
        assert_eq!(a_few(many), "10.0.0.0/16, 10.1.0.0/16, 10.10.0.0/16, 10.11.0.0/16 and 96 more");
        let many = config(1000);
        let lines = reminders(&many);
        assert_eq!(lines.len(), 5);
        assert_eq!(lines[4], "the same holds for the networks of 996 more children");
        let mut alike = config(1);
        let child = alike.peers[0].children[0].clone();
        alike.peers[0].children.extend(vec![child; 9]);
        assert_eq!(reminders(&alike).len(), 1, "each once");
        alike.peers[0].children.iter_mut().for_each(|child| child.mode = Mode::Transport);
        assert_eq!(reminders(&alike), [""; 0], "nobody is behind a host");
        let found = host::addresses(&many, &[]);
        assert_eq!(found.len(), 2, "{found:?}");
        let texts = found.iter().chain(&forwarding(&many)).map(|found| found.text.len()).max().unwrap();
        assert!(texts < 300, "{texts} octets in one line");
    }

    #[test]
    fn f_01_doctor_does_not_take_a_daemon_that_it_cannot_ask_for_none() {
        in_a_network_of_its_own(|| {
            let mut config = config(1);
            config.gateway.control = "/nowhere/control.sock".to_owned();
            let lines = || {
                let mut lines = Vec::new();
                examine(&config, &mut |found| lines.push(found.to_string()));
                lines
            };
            let about = |lines: Vec<String>, what: &str| lines.into_iter().find(|line| line.contains(what));
            assert_eq!(about(lines(), "daemon: "), None, "nobody runs");
            let owner = boundary::Owner::claim().unwrap();
            let device = crate::tun::Tun::create(&config.gateway.tun).unwrap();
            let told = lines();
            assert!(
                about(told.clone(), "warn  daemon: one runs, and cannot be asked at /nowhere").is_some(),
                "{told:?}"
            );
            for wrong in ["ip link delete", "no daemon runs", "another program uses", "until the next start"] {
                assert_eq!(about(told.clone(), wrong), None);
            }
            drop(owner);
            assert!(about(lines(), "ip link delete").is_some(), "a device that nobody who owns the boundary has");
            drop(device);
        });
    }
}
