//! Manual keys against the ESP of a Linux kernel: every suite that the kernel has, tunnel, transport and BEET, with and without
//! extended sequence numbers, over both families, in UDP, and across the end of the lower 32 bits.
//!
//! One guest and one daemon serve all cases of a scenario; the daemon gets each by a reload.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use super::{Ends, Scenario};
use crate::lab::frame::Kind;
use crate::lab::gateway::Gateway as _;
use crate::lab::guest::Guest;
use crate::lab::pair::{Outer, Pair, Site};
use crate::lab::ping::ping;
use crate::lab::portcullis::Portcullis;
use crate::lab::sandbox::WORK;
use crate::lab::wait_for;
use crate::lab::wire::Way;
use crate::outcome::{Result, ensure};

/// What protects the packets: our words, and the kernel's.
struct Suite {
    words: &'static str,
    kernel: Names,
}

/// How `ip xfrm` names algorithms, and how many octets of key each has: a cipher's with its salt.
enum Names {
    /// With the bits of the ICV.
    Aead(&'static str, usize, u32),
    /// A cipher, and an authenticator with the bits of its ICV.
    Two((&'static str, usize), (&'static str, usize, u32)),
}

const SHA256: (&str, usize, u32) = ("hmac(sha256)", 32, 128);

const SUITES: &[Suite] = &[
    Suite { words: "aes128gcm16", kernel: Names::Aead("rfc4106(gcm(aes))", 20, 128) },
    Suite { words: "aes192gcm16", kernel: Names::Aead("rfc4106(gcm(aes))", 28, 128) },
    Suite { words: "aes256gcm16", kernel: Names::Aead("rfc4106(gcm(aes))", 36, 128) },
    Suite { words: "aes128gcm12", kernel: Names::Aead("rfc4106(gcm(aes))", 20, 96) },
    Suite { words: "aes256gcm12", kernel: Names::Aead("rfc4106(gcm(aes))", 36, 96) },
    Suite { words: "aes128gcm8", kernel: Names::Aead("rfc4106(gcm(aes))", 20, 64) },
    Suite { words: "aes256gcm8", kernel: Names::Aead("rfc4106(gcm(aes))", 36, 64) },
    Suite { words: "aes128ccm16", kernel: Names::Aead("rfc4309(ccm(aes))", 19, 128) },
    Suite { words: "aes256ccm16", kernel: Names::Aead("rfc4309(ccm(aes))", 35, 128) },
    Suite { words: "aes128ccm12", kernel: Names::Aead("rfc4309(ccm(aes))", 19, 96) },
    Suite { words: "aes128ccm8", kernel: Names::Aead("rfc4309(ccm(aes))", 19, 64) },
    Suite { words: "aes256ccm8", kernel: Names::Aead("rfc4309(ccm(aes))", 35, 64) },
    Suite { words: "chacha20poly1305", kernel: Names::Aead("rfc7539esp(chacha20,poly1305)", 36, 128) },
    Suite { words: "aes128gmac", kernel: Names::Aead("rfc4543(gcm(aes))", 20, 128) },
    Suite { words: "aes256gmac", kernel: Names::Aead("rfc4543(gcm(aes))", 36, 128) },
    Suite { words: "aes128-sha1", kernel: Names::Two(("cbc(aes)", 16), ("hmac(sha1)", 20, 96)) },
    Suite { words: "aes128-sha256", kernel: Names::Two(("cbc(aes)", 16), SHA256) },
    Suite { words: "aes192-sha256", kernel: Names::Two(("cbc(aes)", 24), SHA256) },
    Suite { words: "aes256-sha256", kernel: Names::Two(("cbc(aes)", 32), SHA256) },
    Suite { words: "aes256-sha384", kernel: Names::Two(("cbc(aes)", 32), ("hmac(sha384)", 48, 192)) },
    Suite { words: "aes256-sha512", kernel: Names::Two(("cbc(aes)", 32), ("hmac(sha512)", 64, 256)) },
    Suite { words: "aes128-aesxcbc", kernel: Names::Two(("cbc(aes)", 16), ("xcbc(aes)", 16, 96)) },
    Suite { words: "aes128-aescmac", kernel: Names::Two(("cbc(aes)", 16), ("cmac(aes)", 16, 96)) },
    Suite { words: "aes128ctr-sha256", kernel: Names::Two(("rfc3686(ctr(aes))", 20), SHA256) },
    Suite { words: "aes256ctr-sha256", kernel: Names::Two(("rfc3686(ctr(aes))", 36), SHA256) },
    Suite { words: "null-sha256", kernel: Names::Two(("ecb(cipher_null)", 0), SHA256) },
];

const MODES: [&str; 3] = ["tunnel", "transport", "beet"];

/// The last numbers before the lower 32 bits begin anew.
const WRAP: u32 = 0xffff_fffd;

/// One way to talk to the kernel.
#[derive(Clone, Copy)]
struct Case {
    suite: &'static Suite,
    mode: &'static str,
    esn: bool,
    outer: Outer,
    /// Families of what is inside and outside differ.
    mixed: bool,
    udp: bool,
    /// Numbers behind this one are used, both ways.
    sequence: u32,
}

impl Case {
    const fn of(suite: &'static Suite, mode: &'static str, esn: bool) -> Self {
        Self { suite, mode, esn, outer: Outer::V4, mixed: false, udp: false, sequence: 0 }
    }

    /// All of one suite that the two have.
    fn all(suite: &'static Suite) -> Vec<Self> {
        let mut all = Vec::new();
        for mode in MODES {
            for esn in [false, true] {
                let case = Self::of(suite, mode, esn);
                all.extend([case, Self { outer: Outer::V6, ..case }]);
            }
            let case = Self::of(suite, mode, true);
            all.extend([Self { udp: true, ..case }, Self { sequence: WRAP, ..case }]);
        }
        let tunnel = Self::of(suite, MODES[0], false);
        all.extend([Self { mixed: true, ..tunnel }, Self { mixed: true, outer: Outer::V6, ..tunnel }]);
        all
    }

    /// Whether what is inside is IPv4.
    fn inner_v4(&self) -> bool {
        (self.outer == Outer::V4) != self.mixed
    }

    fn is_a_tunnel(&self) -> bool {
        self.mode == MODES[0]
    }

    /// What the policies are for: the networks behind the gateways, or these alone.
    fn sides(&self, gateways: [IpAddr; 2]) -> [String; 2] {
        let v4 = self.inner_v4();
        gateways.map(|gateway| if self.is_a_tunnel() { net(gateway, v4) } else { gateway.to_string() })
    }

    fn name(&self) -> String {
        let mut name = format!("{} {}", self.suite.words, self.mode);
        let inner = if self.inner_v4() { "IPv4" } else { "IPv6" };
        let outer = if self.outer == Outer::V4 { "IPv4" } else { "IPv6" };
        let _ = write!(name, " {inner} in {outer}"); // writing into a string does not fail
        for (holds, word) in [(self.esn, " esn"), (self.udp, " udp"), (self.sequence > 0, " wrap")] {
            name += if holds { word } else { "" };
        }
        name
    }

    /// SPI and keys of the SA from our side to the kernel's, or back; each case has others.
    fn keys(&self, number: u32, to_us: bool) -> (u32, [Vec<u8>; 2]) {
        let lengths = match self.suite.kernel {
            Names::Aead(_, key, _) => [key, 0],
            Names::Two((_, key), (_, integ, _)) => [key, integ],
        };
        let spi = 0x1000 + 2 * number + u32::from(to_us);
        let mut state = u64::from(spi) << 32 | 0x9e37;
        let mut octets = |length: usize| {
            let next = |_| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                state.to_be_bytes()[0]
            };
            (0..length).map(next).collect::<Vec<u8>>()
        };
        (spi, lengths.map(&mut octets))
    }

    /// Our configuration.
    fn ours(&self, number: u32, [us, peer]: [IpAddr; 2], [ours, theirs]: &[String; 2]) -> String {
        let mut text = String::new();
        for (direction, to_us) in [("out", false), ("in", true)] {
            let (spi, [key, integ]) = self.keys(number, to_us);
            let esn = if self.esn { "-esn" } else { "" };
            text += &format!(
                "[[sa]]\ndirection = \"{direction}\"\nspi = {spi:#x}\nmode = \"{}\"\nlocal = \"{us}\"\nremote = \"{peer}\"\n\
                 suite = \"{}{esn}\"\nsequence = {}\nlocal-ts = \"{ours}\"\nremote-ts = \"{theirs}\"\n",
                self.mode, self.suite.words, self.sequence
            );
            for (name, key) in [("key", key), ("integ-key", integ)] {
                if !key.is_empty() {
                    text += &format!("{name} = \"{}\"\n", hex(&key));
                }
            }
            text += if self.udp { "encap = 4500\n" } else { "" };
        }
        text
    }

    /// What the guest's kernel is told, in the place of what it was told before.
    fn theirs(&self, number: u32, [us, peer]: [IpAddr; 2], [ours, theirs]: &[String; 2]) -> String {
        let mut script = "set -e\nip xfrm policy flush\nip xfrm state flush\n".to_owned();
        for to_us in [false, true] {
            let (spi, [key, integ]) = self.keys(number, to_us);
            let (from, to) = if to_us { (peer, us) } else { (us, peer) };
            script +=
                &format!("ip xfrm state add src {from} dst {to} proto esp spi {spi:#x} mode {} reqid 1", self.mode);
            // The window of ESN is in another place than the old one of 32 packets.
            script += if self.esn { " flag esn replay-window 128" } else { " replay-window 32" };
            // Else it would be for packets of the outer family.
            script += if self.mixed { " flag af-unspec" } else { "" };
            if self.sequence > 0 {
                script += &format!(" {} {:#x}", if to_us { "replay-oseq" } else { "replay-seq" }, self.sequence);
            }
            script += &match self.suite.kernel {
                Names::Aead(name, _, icv) => format!(" aead '{name}' {} {icv}", hex(&key)),
                Names::Two((cipher, _), (auth, _, icv)) => {
                    let key = if key.is_empty() { "''".to_owned() } else { hex(&key) };
                    format!(" auth-trunc '{auth}' {} {icv} enc '{cipher}' {key}", hex(&integ))
                }
            };
            script += if self.udp { " encap espinudp 4500 4500 0.0.0.0" } else { "" };
            if self.mode == "beet" {
                let (from, to) = if to_us { (theirs, ours) } else { (ours, theirs) };
                script += &format!(" sel src {from} dst {to}");
            }
            script += "\n";
        }
        for (direction, from_us) in [("out", false), ("in", true), ("fwd", true)] {
            let (from, to) = if from_us { (us, peer) } else { (peer, us) };
            let (source, destination) = if from_us { (ours, theirs) } else { (theirs, ours) };
            script += &format!(
                "ip xfrm policy add src {source} dst {destination} dir {direction} tmpl src {from} dst {to} proto esp mode {} reqid 1\n",
                self.mode
            );
        }
        script
    }
}

fn hex(octets: &[u8]) -> String {
    octets.iter().fold("0x".to_owned(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}"); // writing into a string does not fail
        text
    })
}

/// The network behind a gateway: its site's number is the last of its address.
fn net(gateway: IpAddr, v4: bool) -> String {
    let number = match gateway {
        IpAddr::V4(gateway) => gateway.octets()[3],
        IpAddr::V6(gateway) => gateway.octets()[15],
    };
    if v4 { format!("10.{number}.0.0/16") } else { format!("fd0{number}::/64") }
}

/// Those for each run: each mode, family and extra at least once.
fn representative() -> Vec<Case> {
    let find = |words: &str| SUITES.iter().find(|suite| suite.words == words);
    let [gcm, large, other, cbc] = ["aes128gcm16", "aes256gcm16", "chacha20poly1305", "aes256-sha256"].map(find);
    let mut cases = Vec::new();
    for (suite, mode) in [(gcm, "tunnel"), (large, "transport"), (large, "beet"), (other, "tunnel"), (cbc, "transport")]
    {
        let Some(suite) = suite else { continue };
        let case = Case::of(suite, mode, true);
        cases.extend([case, Case { esn: false, outer: Outer::V6, ..case }]);
    }
    let plain = gcm.into_iter().flat_map(|suite| {
        let case = Case::of(suite, "tunnel", true);
        let mixed = Case { mixed: true, esn: false, ..case };
        [Case { udp: true, ..case }, Case { sequence: WRAP, ..case }, mixed, Case { outer: Outer::V6, ..mixed }]
    });
    cases.extend(plain);
    cases
}

pub(super) fn scenarios() -> Vec<Scenario> {
    let mut list = vec![Scenario::new("kernel-esp", |_| against(&representative())).with_a_kernel()];
    for suite in SUITES {
        let name = format!("kernel-esp-{}", suite.words);
        list.push(Scenario::new(name, move |_: Ends| against(&Case::all(suite))).with_a_kernel().thorough());
    }
    list
}

/// Keeps UDP port 4500 open for ESP, as who has no IKE daemon has to, with a policy of its own by which what arrives there may be
/// in clear (it is ESP; `xfrm_userpolicy_info`, inbound). What stays behind closes what the door would wait for.
const OPEN_4500: &str = "setsid -f perl -e 'use POSIX; POSIX::close($_) for 3..255; use Socket; socket(S, PF_INET, SOCK_DGRAM, 17) or die; bind(S, sockaddr_in(4500, INADDR_ANY)) or die; \
                         setsockopt(S, 17, 100, pack(\"i\", 2)) or die; setsockopt(S, 0, 17, pack(\"x40 S x126\", 2)) or die; sleep' \
                         </dev/null >/dev/null 2>&1";

/// Each case with a daemon of ours and a kernel that go on.
fn against(cases: &[Case]) -> Result<String> {
    let pair = Pair::new(1)?;
    let folder = PathBuf::from(WORK).join("kernel");
    std::fs::create_dir_all(&folder)?;
    let guest = Guest::boot(&pair.east.gateway, &folder)?;
    guest.run(OPEN_4500)?;
    meet_neighbours(&pair, &guest)?;
    let mut us = Portcullis::new(&pair.west.gateway, "")?;
    us.keep_state()?;
    let mut failed = Vec::new();
    for (number, case) in (0..).zip(cases) {
        if let Err(error) = one(case, number, &pair, &guest, &mut us) {
            let shown = guest.run("ip -s xfrm state; grep -v ' 0$' /proc/net/xfrm_stat; true").unwrap_or_default();
            std::fs::write(folder.join(format!("case-{number}.log")), format!("{}: {error}\n{shown}", case.name()))?;
            failed.push(format!("{}: {error}", case.name()));
        }
    }
    ensure(failed.is_empty(), || format!("{} of {} cases:\n{}", failed.len(), cases.len(), failed.join("\n")))?;
    Ok(format!("{} cases", cases.len()))
}

/// What a young interface asks first may be lost, and it asks again a second later: longer than a ping waits.
fn meet_neighbours(pair: &Pair, guest: &Guest) -> Result {
    let gateways = [Outer::V4, Outer::V6].map(|outer| pair.west.address(outer));
    for neighbour in [pair.east.host_v4(0), pair.east.host_v6()].into_iter().chain(gateways) {
        guest.run(&format!("until ping -q -c 1 -W 1 {neighbour}; do sleep 0.1; done"))?;
    }
    Ok(())
}

fn one(case: &Case, number: u32, pair: &Pair, guest: &Guest, us: &mut Portcullis) -> Result {
    let addresses = [&pair.west, &pair.east].map(|site: &Site| site.address(case.outer));
    let v4 = case.inner_v4();
    let sides = case.sides(addresses);
    guest.run(&case.theirs(number, addresses, &sides))?;
    us.configure_as_written(&case.ours(number, addresses, &sides), "")?;
    match us.runs() {
        true => us.reload()?,
        false => us.start()?,
    }
    wait_for("our SAs", Duration::from_secs(10), || {
        let status = us.status()?;
        let manual = &status["manual"][0];
        ensure(manual["cause"].is_null(), || manual["cause"].to_string())?;
        Ok((manual["state"] == "up").then_some(()))
    })?;
    let counted = stat(guest)?;
    pair.wire.forget();
    let host = |site: &Site| if v4 { site.host_v4(0) } else { site.host_v6() };
    for size in [64, 1300] {
        if case.is_a_tunnel() {
            ping(&pair.west.host, host(&pair.east), 4, size)?.all_answered()?;
            ping(&pair.east.host, host(&pair.west), 4, size)?.all_answered()?;
        } else {
            ping(&pair.west.gateway, addresses[1], 4, size)?.all_answered()?;
            guest.run(&format!("ping -q -c 4 -i 0.05 -W 2 -s {size} {}", addresses[0]))?;
        }
    }
    let wire = &pair.wire;
    let clear = wire.clear_packets();
    ensure(clear.is_empty(), || format!("seen in clear on the wire: {clear:?}"))?;
    let carrier = if case.udp { Kind::EspInUdp } else { Kind::Esp };
    let seen = || (wire.esp(Way::East), wire.esp(Way::West), wire.count(carrier));
    // A large packet may be two fragments, the second of which is not counted as ESP. Who watches the wire may be late.
    let _ = wait_for("all packets on the wire", Duration::from_secs(5), || Ok((seen() == (16, 16, 32)).then_some(())));
    ensure(seen() == (16, 16, 32), || format!("of 32 packets on the wire: {:?}, {}", seen(), wire.summary()))?;
    let now = stat(guest)?;
    ensure(now == counted, || format!("the kernel discards: {counted}, then {now}"))?;
    if case.sequence > 0 {
        let high = guest.run("ip xfrm state | grep -c 'seq-hi 0x1, seq\\|oseq-hi 0x1' ; true")?;
        ensure(high.trim() != "0", || "the kernel's numbers did not get beyond 32 bits".to_owned())?;
    }
    Ok(())
}

/// What the kernel counts of errors.
fn stat(guest: &Guest) -> Result<String> {
    guest.run("grep -v ' 0$\\|\\t0$' /proc/net/xfrm_stat; true").map(|text| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_configuration_takes_each_case() {
        let all: Vec<_> = SUITES.iter().flat_map(Case::all).chain(representative()).collect();
        assert_eq!(all.len(), SUITES.len() * (6 * MODES.len() + 2) + 14);
        for case in all {
            let gateways: [IpAddr; 2] = match case.outer {
                Outer::V4 => [[192, 0, 2, 1].into(), [192, 0, 2, 2].into()],
                Outer::V6 => ["2001:db8:1::1", "2001:db8:1::2"].map(|address| address.parse().unwrap()),
            };
            let text = case.ours(1, gateways, &case.sides(gateways));
            let taken = gateway_core::config::Config::parse(&text);
            assert!(taken.is_ok(), "{}: {:?}", case.name(), taken.err());
        }
    }

    #[test]
    fn no_two_sas_of_a_run_have_a_key_or_an_spi_in_common() {
        let case = Case::of(&SUITES[0], "tunnel", true);
        let keys = |number| [false, true].map(|to_us| case.keys(number, to_us));
        let all: Vec<_> = (0..40).flat_map(keys).collect();
        let spis: std::collections::BTreeSet<_> = all.iter().map(|(spi, _)| *spi).collect();
        let octets: std::collections::BTreeSet<_> = all.iter().map(|(_, [key, _])| key.clone()).collect();
        assert_eq!((spis.len(), octets.len()), (80, 80));
    }
}
