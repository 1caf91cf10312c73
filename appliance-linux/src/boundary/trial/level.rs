//! What comes in in clear under a child that does not insist on protection, beside one that does.

use super::*;

const CHILDREN: &str = "[[peer]]\nname = \"a\"\nlocal = \"192.0.2.2\"\nremote = \"192.0.2.1\"\n\
    psk = \"a key of more than twenty characters\"\n\
    [[peer.child]]\nname = \"strict\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.5.0/24\"\n\
    [[peer.child]]\nname = \"lax\"\nlevel = \"use\"\nlocal-ts = \"10.2.0.0/16\"\nremote-ts = \"10.1.0.0/16\"\n";

#[test]
fn e1_level_use_lets_in_and_counts_what_is_in_clear_and_no_other_child_does() {
    in_a_network_of_its_own(|| {
        let config = |text: &str| Config::parse(text).unwrap().0;
        let mut gateway = Gateway::new("192.0.2.2/24", "10.2.0.1/16", &config(CHILDREN));
        assert_eq!(gateway.boundary.view().clear_meanwhile, ["a/lax"]);
        let strict = ("10.1.5.9", 7);
        let mut tally = gateway.boundary.dropped.dropped();
        let mut counted = |gateway: &Gateway| {
            let before = std::mem::replace(&mut tally, gateway.boundary.dropped.dropped());
            (tally[0] - before[0], tally[2] - before[2], tally[4] - before[4])
        };
        gateway.wan.send(&packet(PEER, HOST)).unwrap();
        assert!(out_of(&gateway.lan).is_some(), "in clear");
        assert_eq!(counted(&gateway), (0, 0, 1), "once, although the copy sees it too");
        gateway.wan.send(&packet(strict, HOST)).unwrap();
        assert_eq!(out_of(&gateway.lan), None);
        assert_eq!(counted(&gateway), (1, 0, 0));
        // The other way nothing passes by the device, which knows whether there is an SA.
        for to in [PEER, strict] {
            gateway.lan.send(&packet(HOST, to)).unwrap();
            assert!(out_of(&gateway.device).is_some());
        }
        ip("rule add priority 1 to 10.1.0.0/16 lookup main");
        gateway.lan.send(&packet(HOST, PEER)).unwrap();
        assert_eq!(out_of(&gateway.wan), None, "past the device");
        assert_eq!(counted(&gateway), (0, 1, 0));
        ip("rule del priority 1");

        // From now on it insists, and back.
        for (level, passes) in [("require", false), ("use", true)] {
            let text = CHILDREN.replace("\"use\"", &format!("\"{level}\""));
            gateway.boundary.follow(Intent::of(&config(&text)));
            gateway.boundary.wait_for_guard();
            gateway.boundary.followed().unwrap().unwrap();
            gateway.wan.send(&packet(PEER, HOST)).unwrap();
            assert_eq!(out_of(&gateway.lan).is_some(), passes, "{level}");
            assert_eq!(counted(&gateway), (u64::from(!passes), 0, u64::from(passes)), "{level}");
        }
    });
}
