//! The main loop.

use crate::board::{Board, Identity, PORTS};
use crate::configuration::{self, Configuration};
use crate::crash::Report;
use crate::log::{self, Level, event};
use crate::{BUILD, clock, heap};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::array;
use gateway_core::config::LogLevel;
use rpi_drivers::{Counters, Link, MacAddress, Nic};
use rpi_services::configuration::{Address, BoardConfig, Ipv4Net};
use rpi_services::http::{Refusal, Request, Response};
use rpi_services::stack::{self, Addressing, Pages, Stack};
use rpi_services::status::{self, Mode, Status};

/// Brings everything up and runs it, for good.
pub(crate) fn run(mut board: Board, crash: Option<Report>) -> ! {
    let configuration = configuration::load(&mut board);
    log::set_level(level(configuration.config.log));
    announce(&configuration);
    let mut seed = [0; 8 * PORTS];
    let entropy = match board.seed(&mut seed) {
        Ok(()) => "healthy",
        Err(error) => {
            event!(warn, "no keys can be made: {}", error.text());
            // TCP and DHCP want numbers that differ from boot to boot, not secrets.
            for octets in seed.chunks_mut(8) {
                octets.copy_from_slice(&clock::micros().to_le_bytes());
            }
            error.text()
        }
    };
    if let Err(error) = board.start_network() {
        event!(error, "network devices: {}", format!("{error:?}").as_str());
    }

    let mut ports = Ports::new(&configuration.config, &seed);
    let mut facts = Facts {
        identity: board.identity(),
        configuration,
        entropy,
        crash: crash.map(|report| report.text().to_string()),
        watchdog: false,
        network_up_ms: None,
    };
    loop {
        facts.watchdog = board.feed_watchdog();
        let now_us = clock::micros();
        let mut seen = [false; PORTS];
        let mut busy = false;
        board.for_each_nic(now_us, &mut |number, nic| {
            if let Some(seen) = seen.get_mut(number) {
                *seen = true;
                busy |= ports.serve(number, nic, now_us, &mut facts);
            }
        });
        ports.forget_unplugged(seen);
        if !busy {
            clock::rest();
        }
    }
}

fn announce(configuration: &Configuration) {
    match (configuration.mode, &configuration.hash) {
        (Mode::Normal, Some(hash)) => event!(info, "configuration {}", hash.as_str()),
        _ => event!(error, "safe mode: management only, no configuration is used"),
    }
    for problem in &configuration.problems {
        event!(warn, "{}", problem.as_str());
    }
}

fn level(level: LogLevel) -> Level {
    match level {
        LogLevel::Error => Level::error,
        LogLevel::Warn => Level::warn,
        LogLevel::Info => Level::info,
        LogLevel::Debug | LogLevel::Trace => Level::debug,
    }
}

/// What a device last said of itself.
#[derive(Clone, Copy)]
struct Device {
    mac: MacAddress,
    link: Link,
    counters: Counters,
}

/// The ports: their stacks, and what the status page shows of them.
struct Ports {
    stacks: [Stack; PORTS],
    devices: [Option<Device>; PORTS],
    shown: [Shown; PORTS],
    seeds: [u64; PORTS],
}

/// What of a stack changes seldom.
#[derive(Clone, Default)]
struct Shown {
    addresses: Vec<String>,
    origin: &'static str,
}

impl Ports {
    fn new(config: &BoardConfig, seed: &[u8]) -> Self {
        let mut words = seed.chunks(8).map(|octets| u64::from_le_bytes(octets.try_into().unwrap_or_default()));
        Self {
            stacks: array::from_fn(|number| {
                // There are four ports.
                let network = config.network(number as u8);
                Stack::new(addressing(network.address), config.management.http_port)
            }),
            devices: [None; PORTS],
            shown: array::from_fn(|_| Shown { addresses: Vec::new(), origin: "none" }),
            seeds: array::from_fn(|_| words.next().unwrap_or(0)),
        }
    }

    /// Serves one port; whether there may be more to do at once.
    fn serve(&mut self, number: usize, nic: &mut dyn Nic, now_us: u64, facts: &mut Facts) -> bool {
        let device = Device { mac: nic.mac(), link: nic.link(), counters: nic.counters() };
        let (Some(stack), Some(known), Some(seed)) =
            (self.stacks.get_mut(number), self.devices.get_mut(number), self.seeds.get(number))
        else {
            return false;
        };
        let before = known.replace(device);
        if before.map(|before| (before.mac, before.link.is_up())) != Some((device.mac, device.link.is_up())) {
            let link = if device.link.is_up() { "up" } else { "down" };
            event!(info, "port {}: {} link {}", number, device.mac.to_string().as_str(), link);
        }
        let mut pages = StatusPages { facts, devices: &self.devices, shown: &self.shown };
        let progress = stack.poll(nic, now_us, *seed, &mut pages);
        if progress.readdressed
            && let Some(shown) = self.shown.get_mut(number)
        {
            *shown = Shown { addresses: stack.addresses(), origin: stack.origin() };
            for address in &shown.addresses {
                event!(info, "port {}: address {} ({})", number, address.as_str(), shown.origin);
            }
            if stack.is_up() && facts.network_up_ms.is_none() {
                facts.network_up_ms = Some(now_us / 1000);
                event!(info, "network up after {} ms", now_us / 1000);
            }
        }
        progress.busy
    }

    fn forget_unplugged(&mut self, seen: [bool; PORTS]) {
        for (number, ((device, stack), seen)) in self.devices.iter_mut().zip(&mut self.stacks).zip(seen).enumerate() {
            if !seen && device.take().is_some() {
                event!(info, "port {}: unplugged", number);
                stack.detach();
                if let Some(shown) = self.shown.get_mut(number) {
                    *shown = Shown { addresses: Vec::new(), origin: "none" };
                }
            }
        }
    }
}

fn addressing(address: Address) -> Addressing {
    let net = |net: Ipv4Net| stack::Ipv4Net { address: net.address, prefix: net.prefix };
    match address {
        Address::Dhcp { fallback } => Addressing::Dhcp { fallback: net(fallback) },
        Address::Static { address, router } => Addressing::Static { address: net(address), router },
    }
}

/// What the status page says that does not come from the ports.
struct Facts {
    identity: Identity,
    configuration: Configuration,
    entropy: &'static str,
    crash: Option<String>,
    watchdog: bool,
    network_up_ms: Option<u64>,
}

struct StatusPages<'a> {
    facts: &'a Facts,
    devices: &'a [Option<Device>; PORTS],
    shown: &'a [Shown; PORTS],
}

impl StatusPages<'_> {
    fn status(&self) -> Status {
        let Facts { identity, configuration, .. } = self.facts;
        let ports = self.devices.iter().zip(self.shown).enumerate().filter_map(|(number, (device, shown))| {
            let device = (*device)?;
            let mut port = status::Port::new(number, device.mac, device.link, device.counters);
            port.addresses.clone_from(&shown.addresses);
            port.origin = shown.origin;
            Some(port)
        });
        Status {
            version: env!("CARGO_PKG_VERSION"),
            build: BUILD,
            mode: configuration.mode,
            problems: configuration.problems.clone(),
            configuration: configuration.hash.clone(),
            board: status::Board {
                model: identity.model,
                revision: format!("{:x}", identity.revision),
                serial: format!("{:016x}", identity.serial),
            },
            uptime_ms: clock::micros() / 1000,
            network_up_ms: self.facts.network_up_ms,
            memory: status::Memory {
                total: identity.memory.into(),
                fixed: crate::fixed_memory() as u64,
                heap_used: heap::used() as u64,
                heap_total: heap::total() as u64,
            },
            entropy: self.facts.entropy,
            watchdog: self.facts.watchdog,
            ports: ports.collect(),
            last_panic: self.facts.crash.clone(),
            log: log::tail(),
        }
    }
}

impl Pages for StatusPages<'_> {
    fn answer(&mut self, request: Request) -> Result<Response, Refusal> {
        match request {
            Request::Page => Ok(Response::html(&self.status().html())),
            Request::Json => Ok(Response::json(&self.status().json())),
            Request::Panic if self.facts.configuration.config.management.allow_panic => {
                panic!("asked to by POST /panic")
            }
            Request::Panic => Err(Refusal::Forbidden),
        }
    }
}
