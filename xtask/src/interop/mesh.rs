//! Row B1: a mesh of hosts in transport mode, each of which is its own gateway.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Scenario;
use super::level::{InClear, PSK, in_transport_mode};
use crate::lab::frame::{Kind, classify};
use crate::lab::gateway::Gateway as _;
use crate::lab::iproute::{batch, ip, mac};
use crate::lab::link;
use crate::lab::namespace::Namespace;
use crate::lab::portcullis::Portcullis;
use crate::lab::requests::{Answers, Services, ask, ask_once};
use crate::lab::wait_for;
use crate::lab::watch::Watch;
use crate::outcome::{Result, ensure};

const HOSTS: u8 = 50;
/// Whose daemon is killed.
const VICTIM: u8 = 17;
/// Who waits for so long has lost something: nobody repeats a datagram.
const PATIENCE: Duration = Duration::from_secs(10);
/// Nobody waits for what will not come for longer than that.
const IN_VAIN: Duration = Duration::from_millis(500);

pub(super) fn scenarios() -> Vec<Scenario> {
    vec![
        Scenario::new("b1-mesh-of-fifty-hosts-loses-only-the-pairs-of-the-one-killed", |_| mesh())
            .ours_twice()
            .thorough(),
    ]
}

struct Host {
    number: u8,
    machine: Arc<Namespace>,
    daemon: Portcullis,
}

fn address(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 9, 0, number).into()
}

fn others(number: u8) -> impl Iterator<Item = u8> {
    // Each begins with another one, so that they do not all ask the same one at once.
    (1..HOSTS).map(move |step| (number - 1 + step) % HOSTS + 1)
}

impl Host {
    /// On the bridge, with a daemon that has not started.
    fn new(number: u8, bridge: &Namespace) -> Result<Self> {
        let machine = Arc::new(Namespace::new(&format!("host{number}"))?);
        let port = format!("to{number}");
        link::veth((bridge, &port), (&machine, "eth"))?;
        ip(bridge, &format!("link set {port} master br"))?;
        machine.address("eth", address(number), 24)?;
        let daemon = Portcullis::new(&machine, "")?;
        let here = address(number);
        let peer = |other| in_transport_mode(other, (here, address(other)), "on-demand", "require");
        daemon.configure_as_written(&others(number).map(peer).collect::<String>(), PSK)?;
        Ok(Self { number, machine, daemon })
    }

    /// Asks those of the others that are `wanted`, one after the other, over TCP and over UDP.
    fn ask(&self, wanted: impl Fn(u8) -> bool + Sync, patience: Duration) -> Answers {
        let all = || {
            let mut answers = Answers::default();
            for other in others(self.number).filter(|other| wanted(*other)) {
                for (how, ask) in [("TCP", ask as fn(IpAddr, usize, Duration) -> Result), ("UDP", ask_once)] {
                    answers.asked += 1;
                    if let Err(error) = ask(address(other), usize::from(other), patience) {
                        answers.failed.push(format!("{} asks {other} over {how}: {error}", self.number));
                    }
                }
            }
            Ok(answers)
        };
        self.machine.within(all).unwrap_or_else(|error| Answers { asked: 0, failed: vec![error.to_string()] })
    }
}

/// All of these hosts at once ask those that `wanted` says, until `enough` of so many rounds.
fn ask_all(
    hosts: &[Host],
    wanted: impl Fn(u8, u8) -> bool + Sync,
    patience: Duration,
    enough: impl Fn(usize) -> bool + Sync,
) -> Answers {
    let mut sum = Answers::default();
    thread::scope(|scope| {
        let (wanted, enough) = (&wanted, &enough);
        let ask = move |host: &Host| {
            let mut sum = Answers::default();
            for round in 1.. {
                let Answers { asked, failed } = host.ask(|other| wanted(host.number, other), patience);
                sum.asked += asked;
                sum.failed.extend(failed);
                if enough(round) {
                    break;
                }
                thread::sleep(Duration::from_millis(200));
            }
            sum
        };
        let asking: Vec<_> = hosts.iter().map(|host| scope.spawn(move || ask(host))).collect();
        for host in asking {
            let Answers { asked, failed } = host.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            sum.asked += asked;
            sum.failed.extend(failed);
        }
    });
    sum
}

/// Tells each host where the others are: the kernel's table of neighbours is one for all namespaces, and has room for 1,024.
fn introduce(hosts: &[Host]) -> Result {
    let places = hosts.iter().map(|host| Ok((host.number, mac(&host.machine, "eth")?))).collect::<Result<Vec<_>>>()?;
    for host in hosts {
        let mut lines = String::new();
        for (number, [a, b, c, d, e, f]) in places.iter().filter(|(number, _)| *number != host.number) {
            let mac = format!("{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{f:02x}");
            lines += &format!("neigh replace {} lladdr {mac} dev eth nud permanent\n", address(*number));
        }
        batch(&host.machine, "-4", &lines)?;
    }
    Ok(())
}

const ONCE: fn(usize) -> bool = |_| true;

/// 1,225 pairs, all of them protected. One daemon is killed: its 49 pairs are lost, and nothing else is.
fn mesh() -> Result<String> {
    let bridge = Namespace::new("bridge")?;
    ip(&bridge, "link add name br type bridge")?;
    // What goes from port to port passes its own interface only in this mode.
    ip(&bridge, "link set dev br promisc on up")?;
    let mut hosts = (1..=HOSTS).map(|number| Host::new(number, &bridge)).collect::<Result<Vec<_>>>()?;
    introduce(&hosts)?;
    let (clear, esp) = (InClear::default(), Arc::new(AtomicU64::new(0)));
    let (seen, counted) = (clear.clone(), Arc::clone(&esp));
    let watch = Watch::start(&bridge, "br", move |_, frame| {
        seen.see(frame);
        if classify(frame) == Kind::Esp {
            counted.fetch_add(1, Ordering::Relaxed);
        }
    })?;
    let machines: Vec<_> = hosts.iter().map(|host| (Arc::clone(&host.machine), address(host.number))).collect();
    let services = Services::start(&machines)?;
    // That the watch sees what goes from port to port.
    hosts[0].ask(|other| other == 2, PATIENCE).all()?;
    wait_for("the watch to see what is in clear", PATIENCE, || Ok((clear.take() > 0).then_some(())))?;

    for host in &mut hosts {
        host.daemon.start()?;
        host.daemon.status()?; // it has its rules once it answers
    }
    clear.take();
    // Packets make the tunnels, and each pair has one who asks first.
    let began = Instant::now();
    ask_all(&hosts, |from, to| from < to, PATIENCE, ONCE).all()?;
    let made = began.elapsed();
    let every = ask_all(&hosts, |_, _| true, PATIENCE, ONCE);
    every.all()?;
    let pairs: usize = hosts.iter().map(|host| up(host)).sum::<Result<usize>>()?;
    let all = usize::from(HOSTS) * usize::from(HOSTS - 1);
    ensure(pairs == all && every.asked == 2 * all, || format!("{pairs} of {all} halves of pairs are up"))?;
    let mut resident = hosts.iter().map(|host| host.daemon.resident()).collect::<Result<Vec<_>>>()?;
    resident.sort_unstable();

    // Those who live ask each other all the time, and the one whose daemon does not, and he asks them.
    let mut victim = hosts.remove(usize::from(VICTIM - 1));
    let done = AtomicBool::new(false);
    let (living, lost) = thread::scope(|scope| -> Result<_> {
        let living = scope.spawn(|| {
            ask_all(&hosts, |_, to| to != VICTIM, PATIENCE, |round| round > 1 && done.load(Ordering::Relaxed))
        });
        thread::sleep(Duration::from_secs(1));
        victim.daemon.kill();
        let mut lost = ask_all(&hosts, |_, to| to == VICTIM, IN_VAIN, ONCE);
        let his = victim.ask(|_| true, IN_VAIN);
        lost.asked += his.asked;
        lost.failed.extend(his.failed);
        done.store(true, Ordering::Relaxed);
        Ok((living.join().map_err(|_| "who asks panicked")?, lost))
    })?;
    living.all()?;
    ensure(lost.failed.len() == lost.asked && lost.asked == 4 * usize::from(HOSTS - 1), || {
        format!("without a daemon {lost}")
    })?;

    // And back.
    victim.daemon.start()?;
    victim.daemon.status()?;
    let began = Instant::now();
    wait_for("the pairs to come back", Duration::from_secs(60), || Ok(Some(victim.ask(|_| true, PATIENCE).all()?)))?;
    let back = began.elapsed();
    ask_all(&hosts, |_, _| true, PATIENCE, ONCE).all()?;
    hosts.push(victim);
    let pairs: usize = hosts.iter().map(|host| up(host)).sum::<Result<usize>>()?;
    ensure(pairs == all, || format!("{pairs} of {all} halves of pairs are up again"))?;

    services.stop()?;
    watch.saw_all()?;
    let in_clear = clear.take();
    ensure(in_clear == 0, || format!("{in_clear} in clear: {:?}", clear.packets()))?;
    let megabytes = |at: usize| resident.get(at).map_or(0.0, |octets| *octets as f64 / 1e6);
    Ok(format!(
        "{} pairs made in {:.1} s, all asked over TCP and UDP; {} ESP packets and none in clear; one daemon killed: of those who \
         live {living}, with him {lost}; back in {:.1} s; a daemon has {:.1} MB in memory, at most {:.1} MB",
        all / 2,
        made.as_secs_f32(),
        esp.load(Ordering::Relaxed),
        back.as_secs_f32(),
        megabytes(resident.len() / 2),
        megabytes(resident.len() - 1),
    ))
}

/// How many others a host has a Child SA with.
fn up(host: &Host) -> Result<usize> {
    let mut names: Vec<_> =
        host.daemon.sas()?.into_iter().filter(|sa| sa.established && !sa.children.is_empty()).collect();
    names.sort_by(|one, other| one.name.cmp(&other.name));
    names.dedup_by(|one, other| one.name == other.name);
    Ok(names.len())
}
