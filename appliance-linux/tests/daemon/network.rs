//! Networks that are not as one may think: without IPv6, reached in clear.

use super::*;

/// Shows a program a kernel without IPv6, as far as its settings tell: as booted with `ipv6.disable=1` it has none of it there.
const WITHOUT_IPV6: &str = "mkdir \"$1/net\" && mount --bind /proc/sys/net \"$1/net\" && mount -t tmpfs none /proc/sys/net && \
                            mkdir /proc/sys/net/ipv4 && mount --bind \"$1/net/ipv4\" /proc/sys/net/ipv4 && shift && exec \"$@\"";

#[test]
fn f_37_without_ipv6_whoever_may_be_anywhere_is_waited_for_in_ipv4() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let mut daemon = Daemon::new("without-ipv6");
        let anywhere = CONFIG.replace("\"127.0.0.1\"", "\"any\"\nlocal-id = \"a.example\"\nremote-id = \"b.example\"");
        let anywhere = anywhere.replace("\"127.0.0.2\"", "\"any\"").replace("16\"]", "16\", \"fd0N::/64\"]");
        daemon.configure(&anywhere.replacen("fd0N", "fd02", 1).replacen("fd0N", "fd01", 1));
        let listens = |family: &str| fs::read_to_string(format!("/proc/net/{family}")).unwrap().contains(":01F4 ");
        let folder = daemon.folder.clone();
        let mut with = daemon.command(&["run", "--config"]);
        with.arg(folder.join("config")).env("NOTIFY_SOCKET", folder.join("notify")).env("PATH", &path);
        let mut without = Command::new("unshare");
        without.args(["--mount", "--", "sh", "-c", WITHOUT_IPV6, "sh"]).arg(&folder).arg(with.get_program());
        without.args(with.get_args()).envs(with.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let mut start = |mut run: Command, six: bool| {
            daemon.process = Some(run.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap());
            assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
            assert_eq!((listens("udp"), listens("udp6")), (true, six));
            let rules = said(Command::new("ip").args(["-6", "rule"]).env("PATH", &path).output().unwrap());
            assert_eq!(rules.contains("4500"), six, "{rules}");
            daemon.signal(Signal::SIGTERM);
            assert_eq!(daemon.ended(), Some(0));
            while daemon.told(Duration::from_millis(1)).is_some() {}
            let release = daemon.command(&["release"]).env("PATH", &path).output().unwrap();
            assert_eq!(release.status.code(), Some(0));
        };
        start(with, true);
        start(without, false);
    });
}

#[test]
fn f_13_doctor_finds_nothing_wrong_with_networks_that_are_reached_in_clear_and_sees_what_is() {
    in_a_network_of_its_own(|| {
        let path = std::env::var("PATH").unwrap() + ":/usr/sbin:/sbin";
        let ip = |line: &str| {
            let output = Command::new("ip").args(line.split(' ')).env("PATH", &path).output().unwrap();
            assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        };
        ip("link add wan type veth peer name far");
        ["link set wan up", "link set far up"].into_iter().for_each(ip);
        // Two inside a network that means all, one inside a smaller one, where the tunnel wins but for the address.
        for net in ["192.168.0.9/24", "10.0.0.5/24", "172.20.0.1/24"] {
            ip(&format!("addr add {net} dev wan"));
        }
        ip("route add default via 192.168.0.1");
        let mut daemon = Daemon::new("clear");
        let remote = "\"192.168.0.0/16\", \"10.0.0.0/8\", \"172.20.0.0/16\", \"0.0.0.0/1\"";
        let config = CONFIG.replace("\"10.1.0.0/16\"", remote).replace("10.2.0.0/16", "198.18.0.0/24");
        daemon.configure(&config);
        daemon.start(&path, Stdio::null());
        assert_eq!(daemon.told(SOON).as_deref(), Some("READY=1"));
        let file = daemon.folder.join("config");
        let doctor = || said(daemon.command(&["doctor", "--config"]).arg(&file).env("PATH", &path).output().unwrap());
        let found = doctor();
        assert!(found.contains("an address of each of 4 remote networks is led to pcl0"), "{found}");
        ip("rule add pref 10 lookup main");
        let found = doctor();
        assert!(found.contains("FAIL  routes: packets to remote networks do not go to pcl0"), "{found}");
    });
}
