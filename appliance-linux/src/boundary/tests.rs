//! The boundary with a guard that says what it is told to say.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::mpsc;
use std::time::Duration;

use super::attributes::{attribute, messages};
use super::guard::{Applied, Report};
use super::keeper::Keeper;
use super::numbers::{AROUND, TABLE_OF_THE_REST};
use super::*;
use crate::namespace::in_a_network_of_its_own;

mod ways;

/// Everything through the tunnel, from one network.
pub(super) const ALL: &str = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
    psk = \"a key of more than twenty characters\"\n[[peer.child]]\nname = \"n\"\n\
    local-ts = \"10.2.0.0/16\"\nremote-ts = \"0.0.0.0/0\"\n";

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
             [ -e slow ] && sleep 0.9\nPATH='{path}:/usr/sbin:/sbin' exec nft \"$@\"\n",
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

    /// Each run takes almost a second.
    pub(super) fn is_slow(&self, slow: bool) {
        let mark = self.0.join("slow");
        if slow { fs::write(mark, "").unwrap() } else { fs::remove_file(mark).unwrap() }
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
    (Boundary::new(owner, tun, Arc::default(), Guarding::of(guard)).unwrap(), says)
}

/// The same, with a configuration that stands.
fn standing() -> (Boundary, mpsc::Sender<Report>) {
    let (mut boundary, guard) = boundary();
    guard.send(stands()).unwrap();
    boundary.follow(Intent::of(&config("10.1.0.0/16")));
    boundary.wait_for_guard();
    boundary.followed().unwrap().unwrap();
    (boundary, guard)
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

#[test]
fn f_12_what_is_for_this_machine_itself_stays_here_also_where_the_kernels_own_rule_for_that_comes_behind_ours() {
    in_a_network_of_its_own(|| {
        ip("link set lo up");
        ip("addr add 203.0.113.9/32 dev lo");
        ip("-6 addr add fd03::9/128 dev lo");
        // One whose network is too large to be spared, as some clouds give them.
        ip("link add wan type veth peer name far");
        ip("link set wan up");
        ip("addr add 10.9.0.7/8 dev wan");
        let both = ALL.replace("\"10.2.0.0/16\"", "[\"10.2.0.0/16\", \"fd02::/64\"]");
        let both = both.replace("\"0.0.0.0/0\"", "[\"0.0.0.0/0\", \"::/0\"]");
        block(Config::parse(&both).unwrap().0).unwrap();
        // As is done for VRFs.
        for family in ["-4", "-6"] {
            ip(&format!("{family} rule add priority 32765 table local"));
            ip(&format!("{family} rule del priority 0"));
        }
        for addr in ["127.0.0.1", "203.0.113.9", "10.9.0.7", "::1", "fd03::9"] {
            let way = said(&format!("route get {addr}"));
            assert!(way.starts_with("local "), "{addr}: {way}");
        }
        release().unwrap();
        for family in ["-4", "-6"] {
            let rules = said(&format!("{family} rule show"));
            assert!(!rules.contains("4399"), "one is left: {rules}");
        }
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
        boundary.follow(Intent::of(&config("10.1.0.0/16")));
        boundary.try_again();
        assert!(held().is_empty(), "a route before the guard");
        assert!(boundary.followed().is_none());
        guard.send(stands()).unwrap();
        boundary.wait_for_guard();
        boundary.followed().unwrap().unwrap();
        assert_eq!(held(), ["10.1.0.0/16"]);

        // From here on nft hangs.
        boundary.follow(Intent::of(&config("10.3.0.0/16")));
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
        let (mut boundary, guard) = standing();
        boundary.reconcile(Touched::ALL).unwrap();
        assert!(boundary.guard.is_busy(), "nft is asked whether the table is still there");
        kernel::remove_all(&mut Netlink::open().unwrap()).unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        assert_eq!(held(), ["10.1.0.0/16"]);
        assert!(boundary.health.put_back > 0);

        let mut removed = removed_routes();
        boundary.follow(Intent::of(&config("10.3.0.0/16")));
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
        let (mut boundary, guard) = standing();
        let before = boundary.guard.ordered().to_owned();

        boundary.follow(Intent::of(&config("10.3.0.0/16")));
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
        boundary.follow(Intent::of(&config("10.3.0.0/16")));
        boundary.wait_for_guard();
        boundary.give_up();
        assert_eq!(held(), ["10.3.0.0/16"]);
    });
}

#[test]
fn f_29_of_two_configurations_in_a_row_that_nobody_has_judged_the_one_that_stood_before_both_comes_back() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = standing();
        let before = boundary.guard.ordered().to_owned();

        boundary.follow(Intent::of(&config("10.3.0.0/16")));
        boundary.follow(Intent::of(&config("10.4.0.0/16")));
        guard.send(fails()).unwrap();
        guard.send(fails()).unwrap();
        boundary.wait_for_guard();
        boundary.followed().unwrap().unwrap_err();
        assert_eq!(held(), ["10.1.0.0/16"]);
        assert_eq!(boundary.guard.says(), before);
    });
}

#[test]
fn f_01_what_somebody_makes_of_our_device_is_put_back_and_told_and_what_we_make_of_it_is_not() {
    in_a_network_of_its_own(|| {
        let (mut boundary, guard) = boundary();
        let mut put_back = |config: &Config, line: Option<&str>| {
            guard.send(stands()).unwrap();
            boundary.follow(Intent::of(config));
            boundary.wait_for_guard();
            boundary.followed().unwrap().unwrap();
            line.into_iter().for_each(ip);
            boundary.reconcile(Touched::default()).unwrap();
            assert!(said("link show pcl0").contains(&format!("mtu {}", config.gateway.mtu)));
            boundary.view().health.put_back
        };
        let mut config = config("10.1.0.0/16");
        assert_eq!(put_back(&config, None), 0);
        assert_eq!(put_back(&config, Some("link set pcl0 mtu 1300")), 1);
        config.gateway.mtu = 1350;
        assert_eq!(put_back(&config, None), 1);
    });
}

#[test]
fn f_29_a_configuration_that_the_kernel_refuses_takes_no_route_of_the_one_before() {
    in_a_network_of_its_own(|| {
        let (mut boundary, _guard) = standing();

        let mut removed = removed_routes();
        let next = Intent::of(&config("10.3.0.0/16"));
        for undecided in [true, false] {
            let before = Intent::of(&config("10.1.0.0/16"));
            boundary.change = if undecided { Change::Undecided(before.into()) } else { Change::Settled };
            let mut plan = Arc::new(plan::plan(&next, &boundary.seen));
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
            boundary.follow(Intent::of(&config(net)));
            boundary.wait_for_guard();
            boundary.followed().unwrap()
        };
        follows(&mut boundary, "10.1.0.0/16", without()).unwrap();
        follows(&mut boundary, "10.3.0.0/16", without()).unwrap();
        assert_eq!((boundary.health.trouble.clone(), boundary.health.flush_proof), (None, false));
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
        boundary.follow(Intent::of(&config("10.1.0.0/16")));
        boundary.wait_for_guard();
        let ends = |boundary: &mut Boundary| {
            boundary.guard.end_copy();
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
        boundary.follow(Intent::of(&config("10.1.0.0/16")));
        boundary.wait_for_guard();
        guard.send(stands()).unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        assert!(boundary.guard.wait(Instant::now() + Duration::from_secs(10)), "and nobody has taken it");
        boundary.guard.end_copy();
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
        boundary.follow(Intent::of(&config("10.1.0.0/16")));
        boundary.wait_for_guard();
        boundary.followed().unwrap().unwrap();
        let mut netlink = Netlink::open().unwrap();
        let index = || nix::net::if_::if_nametoindex("portcullis-own").unwrap();
        netlink.remove_link(index()).unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        assert_eq!(boundary.health.put_back, 1);
        assert_eq!(boundary.health.trouble, None);
        boundary.wait_for_guard();

        netlink.remove_link(index()).unwrap();
        let other = Owner::claim().unwrap();
        kernel::remove_all(&mut netlink).unwrap();
        boundary.reconcile(Touched::ALL).unwrap();
        assert!(held().is_empty(), "the other one's");
        assert_eq!(boundary.health.trouble.as_deref(), Some(LOST));
        boundary.follow(Intent::of(&config("10.3.0.0/16")));
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
        assert_eq!(boundary.health.trouble, None);
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
        boundary.follow(Intent::of(&with_policies("10.1.0.0/16", BYPASS)));
        assert_eq!(around(&boundary), 0, "before the guard");
        boundary.wait_for_guard();
        assert_eq!(around(&boundary), 2);

        let mut removed = removed_rules();
        let says = |boundary: &mut Boundary, report: Report| {
            guard.send(report).unwrap();
            boundary.guard.again().done();
            boundary.reconcile(Touched::ALL).unwrap();
            boundary.wait_for_guard();
        };
        for (stands, flush_proof) in [(true, true), (true, false), (false, true)] {
            says(&mut boundary, Report { stands, flush_proof, ..fails() });
            assert_eq!((around(&boundary), removed()), (2, vec![]), "nft alone fails: {stands}, {flush_proof}");
            assert!(boundary.health.trouble.is_some());
            assert_eq!(boundary.health.unguarded, None);
        }
        says(&mut boundary, Report { stands: false, flush_proof: false, ..fails() });
        assert_eq!(removed(), [AROUND + 1, AROUND]);
        assert!(boundary.health.unguarded.is_some() && boundary.health.trouble.is_some());
        says(&mut boundary, stands());
        assert_eq!((around(&boundary), removed()), (2, vec![]));
        assert_eq!((boundary.health.unguarded.clone(), boundary.health.trouble.clone()), (None, None));
        assert_eq!(boundary.health.put_back, 0, "nobody removed them");

        // It goes while a reload waits for what nft says of another one.
        boundary.reconcile(Touched::ALL).unwrap();
        boundary.follow(Intent::of(&with_policies("10.3.0.0/16", BYPASS)));
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
        boundary.follow(Intent::of(&config("10.1.0.0/16")));
        boundary.wait_for_guard();
        assert_eq!(boundary.deadline(), None);
        let now = Instant::now();
        while boundary.told.trouble(Some("one"), now) && boundary.told.trouble(Some("other"), now) {}
        boundary.reconcile(Touched::default()).unwrap();
        assert_eq!(boundary.health.trouble, None);
        assert!(boundary.deadline().is_some(), "the log still says that there is trouble");
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
