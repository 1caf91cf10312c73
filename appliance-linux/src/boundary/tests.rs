//! The boundary with a guard that says what it is told to say.

use std::sync::mpsc;

use super::*;
use crate::namespace::in_a_network_of_its_own;

fn config(remote: &str) -> Config {
    let text = format!(
        "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
         psk = \"a key of more than twenty characters\"\n\
         [[peer.child]]\nname = \"n\"\nlocal-ts = [\"10.2.0.0/16\"]\nremote-ts = [\"{remote}\"]\n"
    );
    Config::parse(&text).unwrap_or_else(|errors| panic!("{errors:?}")).0
}

/// A boundary whose guard does nothing until it is told what to report.
fn boundary() -> (Boundary, mpsc::Sender<Report>) {
    let (says, said) = mpsc::channel::<Report>();
    let guard = Keeper::start("guard", move |_| said.recv().unwrap(), || {}).unwrap();
    let (owner, tun) = (Owner::claim().unwrap(), Tun::create("pcl0").unwrap());
    (Boundary::new(owner, tun, Arc::default(), guard).unwrap(), says)
}

fn stands() -> Report {
    Report { loaded: Ok(Applied::Loaded), copied: Ok(Applied::Loaded), stands: true, flush_proof: true }
}

fn fails() -> Report {
    Report { loaded: Err(io::ErrorKind::TimedOut.into()), ..stands() }
}

/// What the kernel keeps in.
fn held() -> Vec<String> {
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

/// How many routes were removed since it was made, each time it is asked.
fn removed_routes() -> impl FnMut() -> usize {
    const ROUTES_V4: u32 = 0x40; // RTMGRP_IPV4_ROUTE
    const DELETED: u16 = 25; // RTM_DELROUTE
    let mut socket = netlink_sys::Socket::new(netlink_sys::protocols::NETLINK_ROUTE).unwrap();
    socket.bind(&netlink_sys::SocketAddr::new(0, ROUTES_V4)).unwrap();
    socket.set_non_blocking(true).unwrap();
    move || {
        let messages = std::iter::from_fn(|| socket.recv_from_full().ok());
        messages.filter(|(octets, _)| octets.get(4..6) == Some(DELETED.to_ne_bytes().as_slice())).count()
    }
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
            boundary.before = undecided.then(|| Intent::of(&config("10.1.0.0/16")));
            let mut plan = plan::plan(&next, &boundary.seen);
            let (mut put_back, mut problems) = (Vec::new(), Vec::new());
            // Nothing leads to a device that is not there.
            boundary.route(&mut plan, true, Some(9999), &mut put_back, &mut problems);
            assert!(problems.iter().any(|problem| problem.serious));
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
