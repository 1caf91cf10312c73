//! What keeps packets from crossing in clear, now and once the daemon runs.

use gateway_core::config::Config;

use super::finding::{Finding, Grade, a_few, finding, fine};
use crate::boundary::{self, GuardState};
use crate::control::protocol::BoundaryStatus;

/// What keeps packets from crossing in clear, now and once the daemon runs.
pub(super) fn boundary(config: &Config, state: &GuardState, running: bool) -> Vec<Finding> {
    let mut findings = vec![guard(state, running)];
    if let Some(text) = left_to_routes(config.left_to_routes(), &config.gateway.tun) {
        let fix = "name the peer's networks under remote-ts; or lead all that is the peer's to the device, and drop it at \
                   other interfaces by rules of your own";
        for stands in findings.iter_mut().filter(|finding| finding.grade == Grade::Fine) {
            stands.text += ", but for this:";
        }
        findings.push(finding(Grade::Warning, "guard", text, fix));
    }
    if let Some(text) = clear_meanwhile(config.clear_meanwhile()) {
        let fix = "write level = \"require\" once ClearIn and ClearOut of `status --all` stand still";
        findings.push(finding(Grade::Warning, "level", text, fix));
    }
    if running {
        return findings;
    }
    match boundary::blocked() {
        Ok(None) => {}
        Ok(Some(nets)) => findings.push(finding(
            Grade::Note,
            "blocked",
            format!("no daemon runs, and so that nothing leaves in clear these stay blocked: {nets}"),
            "start the daemon; or `portcullis release`, to reach them in clear",
        )),
        Err(error) => findings.push(finding(Grade::Warning, "blocked", format!("routes cannot be read: {error}"), "")),
    }
    findings
}

/// What is not guarded although children, if there are any of these, connect everything with everything.
pub(crate) fn left_to_routes(children: Vec<String>, device: &str) -> Option<String> {
    (!children.is_empty()).then(|| {
        let children = a_few(children);
        format!("{children}: everything to everything has no guard: what your own routes do not lead to {device} is in clear")
    })
}

/// What is not protected while there is no SA, where children are that lax.
pub(crate) fn clear_meanwhile(children: Vec<String>) -> Option<String> {
    (!children.is_empty()).then(|| {
        let children = a_few(children);
        format!("{children}: level \"use\": in clear while there is no SA, and from the peer at any time")
    })
}

/// What the daemon itself says of the boundary.
pub(super) fn as_the_daemon_sees_it(boundary: &BoundaryStatus) -> Finding {
    let why = || boundary.why.clone().unwrap_or_default();
    match boundary.state.as_str() {
        "closed" => fine("boundary", format!("closed, says the daemon; guard: {}", boundary.guard)),
        "weak" => {
            let hint = match boundary.clear_meanwhile.is_empty() {
                true => "see guard",
                false => {
                    "when all their hosts have SAs, and the counters ClearIn and ClearOut stand still: level = \"require\""
                }
            };
            finding(Grade::Warning, "boundary", format!("weak, says the daemon: {}", why()), hint)
        }
        state => finding(
            Grade::Failure,
            "boundary",
            format!("{state}, says the daemon: {}", why()),
            "it is tried again all the time; the log says since when",
        ),
    }
}

/// Networks on our side that are nowhere, as the daemon sees it.
pub(super) fn nowhere(boundary: &BoundaryStatus) -> Option<Finding> {
    if boundary.led_outside.is_empty() {
        return None;
    }
    let nets = a_few(boundary.led_outside.clone());
    let becomes = if boundary.guard == "none" { "leaves in clear, as there is no guard" } else { "is dropped" };
    let text = format!("led outside, where nothing says that they lie: {nets}; what peers send there {becomes}");
    let net =
        boundary.led_outside.iter().map(|net| net.rsplit(' ').next().unwrap_or_default()).next().unwrap_or_default();
    let fix = format!(
        "bring its interface up, or give it a route of its own (ip route add {net} via ROUTER), also where it lies behind the \
         default gateway"
    );
    Some(finding(Grade::Warning, "networks", text, fix))
}

/// Whether what is protected is dropped where it would cross in clear.
fn guard(state: &GuardState, running: bool) -> Finding {
    let unguarded = "if somebody removes our routes or rules, packets leave in clear until they are put back, and nothing \
                     drops clear packets that come in in the name of a remote network";
    match (state, running) {
        (GuardState::Stands, true) => {
            fine("guard", "stands: what is protected is dropped where it would cross in clear")
        }
        (GuardState::Stands, false) => fine("guard", "still stands, until the next start or `portcullis release`"),
        (GuardState::Absent, false) => fine("guard", "nft answers: the guard will stand before the first route"),
        (GuardState::Absent, true) => finding(
            Grade::Failure,
            "guard",
            format!("does not stand although the daemon runs: {unguarded}"),
            "`portcullis status` says why; where nftables came later than the daemon: systemctl restart portcullis",
        ),
        (GuardState::NoNft, _) => finding(
            Grade::Warning,
            "guard",
            format!("nft is not installed: {unguarded}"),
            "install nftables (apt, dnf or apk: the package is nftables), then restart portcullis",
        ),
        (GuardState::NotRun(why), _) => finding(
            Grade::Warning,
            "guard",
            format!("nft cannot be run ({why}): {unguarded}"),
            "install nftables anew, or make its nft executable for who runs the daemon, then restart portcullis",
        ),
        (GuardState::Refused(why), _) => finding(
            Grade::Warning,
            "guard",
            format!("nft cannot be used ({why}): {unguarded}"),
            "run this as root; `modprobe nf_tables` tells whether the kernel has it",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::namespace::in_a_network_of_its_own;

    #[test]
    fn f_01_doctor_fails_on_the_trouble_of_the_daemon() {
        let state = |state: &str| BoundaryStatus {
            state: state.to_owned(),
            why: Some("rule 4500: no".to_owned()),
            ..BoundaryStatus::default()
        };
        let grades = ["closed", "weak", "trouble"].map(|word| as_the_daemon_sees_it(&state(word)).grade);
        assert_eq!(grades, [Grade::Fine, Grade::Warning, Grade::Failure]);
        assert!(as_the_daemon_sees_it(&state("trouble")).text.contains("rule 4500: no"));
        let lax = BoundaryStatus { clear_meanwhile: vec!["a/n".to_owned()], ..state("weak") };
        let hints = [state("weak"), lax].map(|state| as_the_daemon_sees_it(&state).fix);
        assert!(hints[0] == "see guard" && hints[1].ends_with("level = \"require\""), "{hints:?}");
    }

    #[test]
    fn f_13_doctor_says_of_everything_to_everything_that_nothing_guards_it() {
        in_a_network_of_its_own(|| {
            let told = |local: &str| {
                let text = format!(
                    "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\npsk = \"a key of more than twenty \
                     characters\"\n[[peer.child]]\nname = \"n\"\nlocal-ts = \"{local}\"\nremote-ts = \"::/0\"\n"
                );
                let config = Config::parse(&text).unwrap().0;
                boundary(&config, &GuardState::Absent, false).iter().map(ToString::to_string).collect::<Vec<_>>()
            };
            let lines = told("::/0");
            assert!(lines[0].ends_with("but for this:"), "{lines:?}");
            assert!(
                lines[1].starts_with(
                    "warn  guard: a/n: everything to everything has no guard: what your own routes do not lead to pcl0 is in clear"
                ),
                "{lines:?}"
            );
            assert_eq!(told("fd00::/64").len(), 1);
        });
    }

    #[test]
    fn the_route_that_is_missing_is_written_for_the_network_that_it_is_missing_for() {
        for net in ["10.2.0.0/16", "the rest of 10.2.0.0/16"] {
            let found =
                nowhere(&BoundaryStatus { led_outside: vec![net.to_owned()], ..BoundaryStatus::default() }).unwrap();
            assert!(found.fix.contains("ip route add 10.2.0.0/16 via"), "{}", found.fix);
        }
    }

    #[test]
    fn whether_the_guard_stands_is_told_and_what_to_do_without_nft() {
        let told = |state: GuardState, running| {
            let found = guard(&state, running);
            (found.grade, found.text.split(':').next().unwrap().to_owned(), found.fix)
        };
        assert_eq!(told(GuardState::Stands, true), (Grade::Fine, "stands".to_owned(), String::new()));
        assert_eq!(told(GuardState::Absent, false).0, Grade::Fine);
        let (grade, text, fix) = told(GuardState::Absent, true);
        assert_eq!((grade, text.as_str()), (Grade::Failure, "does not stand although the daemon runs"));
        assert!(fix.contains("portcullis status"), "{fix}");
        let (grade, text, fix) = told(GuardState::NoNft, true);
        assert_eq!((grade, text.as_str()), (Grade::Warning, "nft is not installed"));
        assert!(fix.contains("install nftables"), "{fix}");
        assert_eq!(told(GuardState::Refused("no".to_owned()), false).0, Grade::Warning);
        let (grade, text, fix) = told(GuardState::NotRun(std::io::ErrorKind::PermissionDenied), false);
        assert_eq!((grade, text.as_str()), (Grade::Warning, "nft cannot be run (permission denied)"));
        assert!(fix.starts_with("install nftables"), "{fix}");
    }
}
