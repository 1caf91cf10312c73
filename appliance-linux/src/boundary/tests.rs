//! The boundary with a guard that says what it is told to say.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::attributes::{attribute, messages};
use super::guard::Applied;
use super::*;
use crate::namespace::in_a_network_of_its_own;

/// An nft that fails when it is told to.
pub(super) struct FakeNft(PathBuf);

impl FakeNft {
    /// From here on this process runs it.
    pub(super) fn new() -> Self {
        let folder = std::env::temp_dir().join(format!("portcullis-nft-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (program, path) = (folder.join("nft"), std::env::var("PATH").unwrap_or_default());
        let text = format!(
            "#!/bin/sh\ncd {}\n[ -e fails ] && {{ echo no >&2; exit 1; }}\nrm once 2>/dev/null && exit 1\n\
             PATH='{path}:/usr/sbin:/sbin' exec nft \"$@\"\n",
            folder.display()
        );
        fs::write(&program, text).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        // SAFETY: this process runs this one test, and nothing of it reads the environment meanwhile.
        unsafe { std::env::set_var("PATH", format!("{}:{path}", folder.display())) };
        Self(folder)
    }

    pub(super) fn fails(&self, fails: bool) {
        let mark = self.0.join("fails");
        if fails { fs::write(mark, "").unwrap() } else { fs::remove_file(mark).unwrap() }
    }

    /// The next time.
    pub(super) fn fails_once(&self) {
        fs::write(self.0.join("once"), "").unwrap();
    }
}

impl Drop for FakeNft {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

pub(super) fn config(remote: &str) -> Config {
    with_policies(remote, "")
}

pub(super) fn with_policies(remote: &str, policies: &str) -> Config {
    let local = if remote == "0.0.0.0/0" { remote } else { "10.2.0.0/16" };
    let text = format!(
        "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
         psk = \"a key of more than twenty characters\"\n\
         [[peer.child]]\nname = \"n\"\nlocal-ts = [\"{local}\"]\nremote-ts = [\"{remote}\"]\n{policies}"
    );
    Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0
}

/// A boundary whose guard does nothing until it is told what to report.
pub(super) fn boundary() -> (Boundary, mpsc::Sender<Report>) {
    let (says, said) = mpsc::channel::<Report>();
    let guard = Keeper::start("guard", move |_| said.recv().unwrap(), || {}).unwrap();
    let (owner, tun) = (Owner::claim().unwrap(), Tun::create("pcl0").unwrap());
    (Boundary::new(owner, tun, Arc::default(), guard).unwrap(), says)
}

pub(super) fn ip(line: &str) {
    said(line);
}

/// What `ip` says.
pub(super) fn said(line: &str) -> String {
    let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
    let output = std::process::Command::new("ip").args(line.split(' ')).env("PATH", path).output().unwrap();
    assert!(output.status.success(), "ip {line}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn stands() -> Report {
    let loaded = || Ok(Applied::Loaded);
    Report { loaded: loaded(), copied: loaded(), stands: true, latest: true, flush_proof: true, sockets: false }
}

fn fails() -> Report {
    Report { loaded: Err(io::ErrorKind::TimedOut.into()), latest: false, ..stands() }
}

/// What the kernel keeps in.
pub(super) fn held() -> Vec<String> {
    kernel::blocked(&mut Netlink::open().unwrap()).unwrap().iter().map(ToString::to_string).collect()
}

#[test]
fn f_01_what_is_to_be_blocked_is_blocked_whoever_has_the_name_of_the_device() {
    in_a_network_of_its_own(|| {
        let config = config("10.1.0.0/16");
        let _others = Tun::create(&config.gateway.tun).unwrap();
        let said = block(config).unwrap();
        assert_eq!(said, "blocked until the daemon runs: 10.1.0.0/16");
        assert_eq!(held(), ["10.1.0.0/16"]);
    });
}

/// The bodies of messages of this kind to this group since it was made, each time it is asked.
pub(super) fn heard(group: u32, wanted: u16) -> impl FnMut() -> Vec<Vec<u8>> {
    let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
    socket.bind(&netlink_sys::SocketAddr::new(0, group)).unwrap();
    socket.set_non_blocking(true).unwrap();
    move || {
        let mut bodies = Vec::new();
        for (octets, _) in std::iter::from_fn(|| socket.recv_from_full().ok()) {
            messages(&octets, |kind, body| bodies.extend((kind == wanted).then(|| body.to_vec())));
        }
        bodies
    }
}

/// How many routes were removed since it was made, each time it is asked.
fn removed_routes() -> impl FnMut() -> usize {
    const ROUTES_V4: u32 = 0x40; // RTMGRP_IPV4_ROUTE
    let mut removed = heard(ROUTES_V4, libc::RTM_DELROUTE);
    move || removed().len()
}

/// The priorities of the rules of IPv4 that were removed since it was made, each time it is asked.
fn removed_rules() -> impl FnMut() -> Vec<u32> {
    const RULES_V4: u32 = 0x80; // RTNLGRP_IPV4_RULE
    const PRIORITY: u16 = 6; // FRA_PRIORITY, behind struct fib_rule_hdr
    let mut removed = heard(RULES_V4, libc::RTM_DELRULE);
    let priority = |rule: Vec<u8>| {
        attribute(&rule[12..], PRIORITY).map_or(0, |octets| u32::from_ne_bytes(octets.try_into().unwrap()))
    };
    move || removed().into_iter().map(priority).collect()
}

#[test]
fn f_01_what_is_new_waits_for_the_guard_and_nothing_else_does() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        boundary.follow(&config("10.1.0.0/16"));
        boundary.try_again();
        assert!(held().is_empty(), "a route before the guard");
        assert!(boundary.followed().is_none());
        guard.send(stands()).unwrap();
        boundary.wait_for_guard();
        boundary.followed().unwrap().unwrap();
        assert_eq!(held(), ["10.1.0.0/16"]);

        // From here on nft hangs.
        boundary.follow(&config("10.3.0.0/16"));
        assert_eq!(held(), ["10.1.0.0/16"], "the guard says nothing of the new one yet");
        assert_eq!(boundary.deadline(), None, "nothing to be done until it does");
        kernel::remove_all(&mut Netlink::open().unwrap()).unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        assert_eq!(held(), ["10.1.0.0/16"], "until the new one is there");
    });
}

#[test]
fn f_01_while_nft_hangs_the_rest_is_put_back_and_a_refusal_leaves_all_as_it_was() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        guard.send(stands()).unwrap();
        boundary.follow(&config("10.1.0.0/16"));
        boundary.wait_for_guard();
        boundary.followed().unwrap().unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        assert!(boundary.guard.is_busy(), "nft is asked whether the table is still there");
        kernel::remove_all(&mut Netlink::open().unwrap()).unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        assert_eq!(held(), ["10.1.0.0/16"]);
        assert!(boundary.health().put_back > 0);

        let mut removed = removed_routes();
        boundary.follow(&config("10.3.0.0/16"));
        guard.send(stands()).unwrap(); // of the question above
        guard.send(fails()).unwrap();
        boundary.guard.wait(Instant::now() + Duration::from_secs(10));
        boundary.try_again();
        assert!(boundary.followed().is_none(), "the guard has not seen it yet");
        boundary.guard.wait(Instant::now() + Duration::from_secs(10));
        boundary.try_again();
        boundary.followed().unwrap().unwrap_err();
        assert_eq!(held(), ["10.1.0.0/16"]);
        assert_eq!(removed(), 0, "not for a moment");
        kernel::remove_all(&mut Netlink::open().unwrap()).unwrap();
        assert_ne!(removed(), 0, "it can be seen");
        assert!(boundary.deadline().is_some(), "tried again");
    });
}

#[test]
fn f_29_what_is_given_up_has_not_happened_when_the_end_comes() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        guard.send(stands()).unwrap();
        boundary.follow(&config("10.1.0.0/16"));
        boundary.wait_for_guard();
        boundary.followed().unwrap().unwrap();
        let before = boundary.guard.ordered().to_owned();

        boundary.follow(&config("10.3.0.0/16"));
        assert_ne!(boundary.guard.ordered(), before);
        boundary.give_up();
        assert_eq!(boundary.guard.ordered(), before);
        assert!(boundary.followed().is_none());
        for _ in 0..3 {
            guard.send(stands()).unwrap();
        }
        boundary.finish();
        assert_eq!((boundary.guard.ordered(), boundary.guard.is_busy()), (before.as_str(), false));
        assert_eq!(held(), ["10.1.0.0/16"]);
        // Of what has happened nothing is taken back.
        guard.send(stands()).unwrap();
        boundary.follow(&config("10.3.0.0/16"));
        boundary.wait_for_guard();
        boundary.give_up();
        assert_eq!(held(), ["10.3.0.0/16"]);
    });
}

#[test]
fn f_29_a_configuration_that_the_kernel_refuses_takes_no_route_of_the_one_before() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        guard.send(stands()).unwrap();
        boundary.follow(&config("10.1.0.0/16"));
        boundary.wait_for_guard();
        boundary.followed().unwrap().unwrap();

        let mut removed = removed_routes();
        let next = Intent::of(&config("10.3.0.0/16"));
        for undecided in [true, false] {
            let before = Intent::of(&config("10.1.0.0/16"));
            boundary.change = if undecided { Change::Undecided(before) } else { Change::Settled };
            let mut plan = plan::plan(&next, &boundary.seen);
            let mut round = Round::default();
            // Nothing leads to a device that is not there.
            boundary.route(&mut plan, true, Some(9999), &mut round);
            assert!(round.is_serious());
            assert_eq!(removed() == 0, undecided);
            assert_eq!(held().contains(&"10.1.0.0/16".to_owned()), undecided, "{:?}", held());
        }
    });
}

#[test]
fn f_01_a_copy_that_cannot_be_had_keeps_neither_the_guard_nor_a_reload_back() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        let without = || Report { copied: Err(io::ErrorKind::TimedOut.into()), flush_proof: false, ..stands() };
        let follows = |boundary: &mut Boundary, net: &str, report: Report| {
            guard.send(report).unwrap();
            boundary.follow(&config(net));
            boundary.wait_for_guard();
            boundary.followed().unwrap()
        };
        follows(&mut boundary, "10.1.0.0/16", without()).unwrap();
        follows(&mut boundary, "10.3.0.0/16", without()).unwrap();
        assert_eq!((boundary.health().trouble.clone(), boundary.health().flush_proof), (None, false));
        assert!(boundary.deadline().is_some(), "tried again");
        guard.send(stands()).unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        assert!(boundary.guard.is_busy(), "who touches the guard waits for no turn of the copy");
        boundary.wait_for_guard();
        assert_eq!(boundary.deadline(), None);
        guard.send(Report { copied: Ok(Applied::Unchanged), flush_proof: false, ..stands() }).unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        boundary.wait_for_guard();
        assert!(boundary.deadline().is_some(), "killed while the table was looked at");
        // One with the rules before blocks what is new.
        let stale = Report { copied: Err(io::ErrorKind::TimedOut.into()), ..stands() };
        follows(&mut boundary, "10.4.0.0/16", stale).unwrap_err();
    });
}

#[test]
fn f_07_a_copy_that_somebody_ended_is_made_again_at_once_unless_each_ends_so() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        guard.send(stands()).unwrap();
        boundary.follow(&config("10.1.0.0/16"));
        boundary.wait_for_guard();
        let ends = |boundary: &mut Boundary| {
            boundary.copy_ended.store(true, Ordering::SeqCst);
            boundary.try_again();
            boundary.guard.is_busy()
        };
        assert!(ends(&mut boundary));
        guard.send(stands()).unwrap();
        boundary.wait_for_guard();
        assert_eq!(boundary.deadline(), None);
        assert!(!ends(&mut boundary), "a circle without end");
        assert!(boundary.deadline().is_some());
    });
}

#[test]
fn f_07_a_copy_that_ends_behind_its_report_is_made_again_all_the_same() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        guard.send(stands()).unwrap();
        boundary.follow(&config("10.1.0.0/16"));
        boundary.wait_for_guard();
        guard.send(stands()).unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        assert!(boundary.guard.wait(Instant::now() + Duration::from_secs(10)), "and nobody has taken it");
        boundary.copy_ended.store(true, Ordering::SeqCst);
        boundary.try_again();
        assert!(boundary.guard.is_busy(), "the report still says that it is there");
    });
}

#[test]
fn f_06_a_daemon_that_lost_its_mark_puts_it_back_or_leaves_the_boundary_to_whoever_has_it() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        for _ in 0..20 {
            guard.send(Report { copied: Err(io::ErrorKind::TimedOut.into()), flush_proof: false, ..stands() }).unwrap();
        }
        boundary.follow(&config("10.1.0.0/16"));
        boundary.wait_for_guard();
        boundary.followed().unwrap().unwrap();
        let mut netlink = Netlink::open().unwrap();
        let index = || nix::net::if_::if_nametoindex("portcullis-own").unwrap();
        netlink.remove_link(index()).unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        assert_eq!(boundary.health().put_back, 1);
        assert_eq!(boundary.health().trouble, None);
        boundary.wait_for_guard();

        netlink.remove_link(index()).unwrap();
        let other = Owner::claim().unwrap();
        kernel::remove_all(&mut netlink).unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        assert!(held().is_empty(), "the other one's");
        assert_eq!(boundary.health().trouble.as_deref(), Some(LOST));
        boundary.follow(&config("10.3.0.0/16"));
        boundary.followed().unwrap().unwrap_err();
        assert_eq!(boundary.guard.ordered(), "", "our copy drops nothing of the other one's");
        boundary.wait_for_guard();
        boundary.try_again();
        let again = boundary.again.at();
        assert_eq!(boundary.deadline(), again, "nothing else has its turn, and turns that never end");
        let wait = again.unwrap().saturating_duration_since(Instant::now());
        drop(other);
        std::thread::sleep(wait);
        boundary.try_again();
        assert_ne!(boundary.guard.ordered(), "", "the other one may have removed it");
        boundary.wait_for_guard();
        assert_eq!(held(), ["10.1.0.0/16"]);
        assert_eq!(boundary.health().trouble, None);
    });
}

/// What a bypass lets through around the device is looked at by the guard; and its rules go so that none of what they keep
/// from it is let through meanwhile.
#[test]
fn f_11_nothing_goes_around_the_device_while_no_guard_stands() {
    const BYPASS: &str = "[[policy]]\naction = \"discard\"\nremote = \"10.1.1.0/24\"\n\
                          [[policy]]\naction = \"bypass\"\nremote = \"10.1.0.0/20\"\n";
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        let around = |boundary: &Boundary| boundary.last.leads.iter().filter(|lead| lead.is_around()).count();
        guard.send(stands()).unwrap();
        boundary.follow(&with_policies("10.1.0.0/16", BYPASS));
        assert_eq!(around(&boundary), 0, "before the guard");
        boundary.wait_for_guard();
        assert_eq!(around(&boundary), 2);

        let mut removed = removed_rules();
        let says = |boundary: &mut Boundary, report: Report| {
            guard.send(report).unwrap();
            boundary.guard_again.done();
            boundary.reconcile(Touched::ALL).unwrap();
            boundary.wait_for_guard();
        };
        for (stands, flush_proof) in [(true, true), (true, false), (false, true)] {
            says(&mut boundary, Report { stands, flush_proof, ..fails() });
            assert_eq!((around(&boundary), removed()), (2, vec![]), "nft alone fails: {stands}, {flush_proof}");
            assert!(boundary.health().trouble.is_some());
            assert_eq!(boundary.health().unguarded, None);
        }
        says(&mut boundary, Report { stands: false, flush_proof: false, ..fails() });
        assert_eq!(removed(), [AROUND + 1, AROUND]);
        assert!(boundary.health().unguarded.is_some() && boundary.health().trouble.is_some());
        says(&mut boundary, stands());
        assert_eq!((around(&boundary), removed()), (2, vec![]));
        assert_eq!((boundary.health().unguarded.clone(), boundary.health().trouble.clone()), (None, None));
        assert_eq!(boundary.health().put_back, 0, "nobody removed them");

        // It goes while a reload waits for what nft says of another one.
        boundary.reconcile(Touched::ALL).unwrap();
        boundary.follow(&with_policies("10.3.0.0/16", BYPASS));
        let to_the_rest = routes::Lead::new(true, TABLE_OF_THE_REST + 1, routes::Then::Table(TABLE_OF_THE_REST));
        boundary.netlink.add_rule(kernel::rule(to_the_rest)).unwrap();
        guard.send(Report { stands: false, flush_proof: false, ..fails() }).unwrap();
        boundary.guard.wait(Instant::now() + Duration::from_secs(10));
        boundary.try_again();
        assert!(boundary.followed().is_none() && boundary.guard.is_busy());
        assert_eq!(removed(), [AROUND + 1, AROUND], "all else waits");
        assert_eq!(held(), ["10.1.0.0/16"]);
    });
}

#[test]
fn f_01_what_the_log_was_not_told_is_tried_again_too() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        guard.send(stands()).unwrap();
        boundary.follow(&config("10.1.0.0/16"));
        boundary.wait_for_guard();
        assert_eq!(boundary.deadline(), None);
        let now = Instant::now();
        while boundary.told.trouble(Some("one"), now) && boundary.told.trouble(Some("other"), now) {}
        boundary.reconcile(Touched::default()).unwrap();
        assert_eq!(boundary.health().trouble, None);
        assert!(boundary.deadline().is_some(), "the log still says that there is trouble");
    });
}

#[test]
fn f_11_what_has_no_source_yet_gets_the_protected_one_also_beside_a_bypass_behind_the_child() {
    const CHILD: &str = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
         psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
         local-ts = [\"10.2.0.0/16\", \"fd02::/64\"]\nremote-ts = [\"10.1.0.0/16\", \"fd01::/64\"]\n";
    const BYPASS: &str = "[[policy]]\naction = \"bypass\"\npriority = 2000\n";
    in_a_network_of_its_own(|| {
        for line in [
            "tuntap add wan mode tun",
            "link set wan up",
            "addr add 192.0.2.2/24 dev wan",
            "addr add 2001:db8::2/64 dev wan nodad",
            "addr add 10.2.0.1/16 dev lo",
            "addr add fd02::1/64 dev lo",
            "route add default via 192.0.2.254",
            "route add default via 2001:db8::9",
        ] {
            ip(line);
        }
        let (mut boundary, guard) = boundary();
        let index = nix::net::if_::if_nametoindex("pcl0").unwrap();
        for policies in ["", BYPASS] {
            guard.send(stands()).unwrap();
            boundary.follow(&Config::parse(&(CHILD.to_owned() + policies)).unwrap().0);
            boundary.wait_for_guard();
            boundary.followed().unwrap().unwrap();
            for (to, from) in [("10.1.0.5", "10.2.0.1"), ("fd01::5", "fd02::1")] {
                let hop = boundary.netlink.next_hop(to.parse().unwrap(), 0).unwrap();
                assert_eq!((hop.link, hop.source), (index, Some(from.parse().unwrap())), "{policies}");
            }
            // They are known again for what they are.
            boundary.reconcile(Touched::ALL).unwrap();
            assert_eq!((boundary.health().put_back, boundary.health().trouble.clone()), (0, None));
            guard.send(stands()).unwrap();
            boundary.wait_for_guard();
        }
        let around = |boundary: &Boundary| boundary.last.leads.iter().filter(|lead| lead.is_around()).count();
        assert_eq!(around(&boundary), 6);
        let other = boundary.netlink.next_hop("10.3.0.5".parse().unwrap(), 0).unwrap();
        assert_ne!(other.link, index, "bypassed");
    });
}

/// Everything through the tunnel, from one network.
pub(super) const ALL: &str = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
    psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
    local-ts = \"10.2.0.0/16\"\nremote-ts = \"0.0.0.0/0\"\n";

#[test]
fn f_12_the_outer_address_leaves_by_the_operators_own_rules_whether_a_guard_stands_or_not() {
    in_a_network_of_its_own(|| {
        for line in [
            "tuntap add wan mode tun",
            "tuntap add wan2 mode tun",
            "link set wan up",
            "link set wan2 up",
            "addr add 192.0.2.2/24 dev wan",
            "addr add 198.51.100.2/24 dev wan2",
            "route add default via 192.0.2.254",
            "route add default via 198.51.100.254 table 200",
            "rule add from 198.51.100.2 lookup 200",
        ] {
            ip(line);
        }
        let (mut boundary, guard) = boundary();
        let mut config = Config::parse(ALL).unwrap().0;
        config.gateway.outside = vec!["wan".to_owned(), "wan2".to_owned()];
        let unguarded = Report { stands: false, flush_proof: false, ..fails() };
        for report in [stands(), unguarded] {
            guard.send(report).unwrap();
            boundary.follow(&config);
            boundary.wait_for_guard();
            for (from, link) in [("192.0.2.2", "wan"), ("198.51.100.2", "wan2")] {
                let way = said(&format!("route get 203.0.113.5 from {from}"));
                assert!(way.contains(&format!("dev {link} ")), "{way}");
            }
            let way = said("route get 203.0.113.5");
            assert!(way.contains("dev pcl0"), "{way}");
        }
    });
}

#[test]
fn f_12_nft_is_asked_about_sockets_again_when_it_failed_once() {
    in_a_network_of_its_own(|| {
        let nft = FakeNft::new();
        nft.fails_once();
        let device = Tun::create("pcl0").unwrap();
        let boundary = || {
            Boundary::start(Owner::claim().unwrap(), device.handle().unwrap(), &config("10.1.0.0/16"), || {}).unwrap()
        };
        let tells = |boundary: &Boundary| boundary.guard.ordered().contains("socket mark");
        assert!(tells(&boundary()), "the question alone failed");
        nft.fails(true);
        let mut later = boundary();
        assert!(!tells(&later));
        nft.fails(false);
        std::thread::sleep(later.deadline().unwrap().saturating_duration_since(Instant::now()));
        later.try_again();
        later.wait_for_guard();
        assert!(tells(&later));
    });
}

#[test]
fn f_01_doctor_sees_rules_beside_ours_and_knows_the_device_by_our_routes() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        let index = nix::net::if_::if_nametoindex("pcl0").unwrap();
        for pref in ["100", "4450", "4500", "4501", "4502", "4503"] {
            ip(&format!("rule add pref {pref} lookup 200"));
        }
        for (config, expected) in [
            (config("10.1.0.0/16"), &["100", "4450", "4500"][..]),
            (Config::parse(ALL).unwrap().0, &["100", "4450", "4500", "4501", "4502"]),
        ] {
            guard.send(stands()).unwrap();
            boundary.follow(&config);
            boundary.wait_for_guard();
            boundary.followed().unwrap().unwrap();
            let found = foreign_rules(&mut boundary.netlink).unwrap();
            assert_eq!(found, expected);
            assert_eq!(device(&mut boundary.netlink), Some(index));
        }
    });
}

#[test]
fn f_12_a_rule_that_an_older_version_left_with_another_mark_goes_and_catches_none_of_our_packets() {
    in_a_network_of_its_own(|| {
        for line in ["tuntap add wan mode tun", "link set wan up", "addr add 192.0.2.2/24 dev wan"] {
            ip(line);
        }
        ip("route add default dev wan");
        ip("rule add not fwmark 0x4500 lookup 4500 priority 4500 protocol 45");
        let (mut boundary, guard) = boundary();
        guard.send(stands()).unwrap();
        boundary.follow(&config("10.1.0.0/16"));
        boundary.wait_for_guard();
        let rules = said("rule show priority 4500");
        assert_eq!(rules.lines().count(), 1, "{rules}");
        let ours = said(&format!("route get 10.1.0.9 mark {MARK:#x}"));
        assert!(ours.contains("dev wan "), "{ours}");
        let others = said("route get 10.1.0.9");
        assert!(others.contains("dev pcl0 "), "{others}");
    });
}

#[test]
fn f_37_where_ipv6_is_switched_off_at_our_device_alone_the_trouble_names_the_way_out() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        std::fs::write("/proc/sys/net/ipv6/conf/pcl0/disable_ipv6", "1").unwrap();
        let text = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
                    psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
                    local-ts = [\"10.2.0.0/16\", \"fd02::/64\"]\nremote-ts = [\"10.1.0.0/16\", \"fd01::/64\"]\n";
        guard.send(stands()).unwrap();
        boundary.follow(&Config::parse(text).unwrap_or_else(|errors| panic!("{errors:?}")).0);
        boundary.wait_for_guard();
        let trouble = boundary.health().trouble.clone().unwrap_or_default();
        assert!(
            trouble.contains("route to fd01::/64") && trouble.contains("net.ipv6.conf.pcl0.disable_ipv6=0"),
            "{trouble}"
        );
    });
}

#[test]
fn f_12_a_route_to_the_device_with_the_scope_of_older_versions_gives_its_place_to_one_as_they_are_now() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        guard.send(stands()).unwrap();
        boundary.follow(&config("10.1.0.0/16"));
        boundary.wait_for_guard();
        let shown = said("route show table 4500");
        ip("route replace 10.1.0.0/16 dev pcl0 table 4500 metric 1 proto 45 scope link");
        assert_ne!(said("route show table 4500"), shown);
        let mut removed = removed_routes();
        boundary.reconcile(Touched::ALL).unwrap();
        assert_eq!(said("route show table 4500"), shown);
        assert!(!shown.contains("scope link") && shown.contains("10.1.0.0/16 dev pcl0"), "{shown}");
        assert_eq!(removed(), 0, "there was one at any moment");
        assert_eq!(boundary.health().put_back, 1);
        boundary.reconcile(Touched::ALL).unwrap();
        assert_eq!(boundary.health().put_back, 1, "known for what it is");
    });
}
