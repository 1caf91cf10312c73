//! What the status page says, as HTML for people and as JSON for programs.

use crate::http::escape;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::{self, Write};
use rpi_drivers::{Counters, Link, MacAddress};
use serde::Serialize;

/// Everything the page shows, gathered when it is asked for.
#[derive(Debug, Serialize)]
pub struct Status {
    /// Version of the product.
    pub version: &'static str,
    /// Commit it was built from.
    pub build: &'static str,
    /// `normal` or `safe`.
    pub mode: Mode,
    /// What is wrong with the configuration, a line each.
    pub problems: Vec<String>,
    /// First half of the SHA-256 of the configuration file, if one was read.
    pub configuration: Option<String>,
    /// The machine.
    pub board: Board,
    /// Milliseconds since boot.
    pub uptime_ms: u64,
    /// Milliseconds from boot until the first port had an address.
    pub network_up_ms: Option<u64>,
    /// Memory in octets.
    pub memory: Memory,
    /// Whether random numbers may be used for keys, and if not, why.
    pub entropy: &'static str,
    /// Whether a watchdog is set.
    pub watchdog: bool,
    /// Network ports.
    pub ports: Vec<Port>,
    /// How the run before this one ended, if it did not end well.
    pub last_panic: Option<String>,
    /// The end of the log.
    pub log: String,
}

/// How the image runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// As the configuration says.
    Normal,
    /// Management address only, because the configuration is missing or wrong.
    Safe,
}

/// The machine.
#[derive(Debug, Serialize)]
pub struct Board {
    /// Model in words.
    pub model: &'static str,
    /// Revision code in hexadecimal.
    pub revision: String,
    /// Serial number in hexadecimal.
    pub serial: String,
}

/// Memory in octets.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Memory {
    /// What the firmware gives us.
    pub total: u64,
    /// Image, static data and stacks.
    pub fixed: u64,
    /// Heap in use.
    pub heap_used: u64,
    /// Heap in all.
    pub heap_total: u64,
}

/// A network port.
#[derive(Debug, Serialize)]
pub struct Port {
    /// Its name, which starts with 0.
    pub number: usize,
    /// Whether a device is there.
    pub present: bool,
    /// Station address.
    pub mac: String,
    /// Carrier.
    pub link: bool,
    /// Mbit/s; 0 where the device does not tell.
    pub mbit: u16,
    /// Addresses with prefix length.
    pub addresses: Vec<String>,
    /// Where the IPv4 address comes from: `static`, `dhcp`, `fallback` or `none`.
    pub origin: &'static str,
    /// Frames handed up.
    pub rx_frames: u64,
    /// Their octets.
    pub rx_octets: u64,
    /// Frames sent.
    pub tx_frames: u64,
    /// Their octets.
    pub tx_octets: u64,
    /// Received with an error.
    pub rx_errors: u64,
    /// Lost for want of room.
    pub rx_overruns: u64,
    /// Not sent.
    pub tx_drops: u64,
    /// Things the device said that made no sense.
    pub malformed: u64,
    /// Waits that ran out.
    pub timeouts: u64,
    /// Changes of the link.
    pub link_changes: u64,
}

impl Port {
    /// A port as its device describes it.
    pub fn new(number: usize, mac: MacAddress, link: Link, counters: Counters) -> Self {
        let (up, mbit) = match link {
            Link::Up { mbit, .. } => (true, mbit),
            Link::Down => (false, 0),
        };
        Self {
            number,
            present: true,
            mac: mac.to_string(),
            link: up,
            mbit,
            addresses: Vec::new(),
            origin: "none",
            rx_frames: counters.rx_frames,
            rx_octets: counters.rx_octets,
            tx_frames: counters.tx_frames,
            tx_octets: counters.tx_octets,
            rx_errors: counters.rx_errors,
            rx_overruns: counters.rx_overruns,
            tx_drops: counters.tx_drops,
            malformed: counters.malformed,
            timeouts: counters.timeouts,
            link_changes: counters.link_changes,
        }
    }
}

impl Status {
    /// The status as one JSON object.
    pub fn json(&self) -> String {
        // Fails only for maps with odd keys, and there are none.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The status as a page without scripts or anything from elsewhere.
    pub fn html(&self) -> String {
        let mut page = String::with_capacity(8192);
        // Writing to a String cannot fail.
        let _ = self.write_html(&mut page);
        page
    }

    fn write_html(&self, page: &mut String) -> fmt::Result {
        write!(
            page,
            "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>\
             <meta http-equiv=refresh content=5><title>Portcullis</title><style>body{{font:15px/1.5 sans-serif;\
             margin:2em auto;max-width:60em;padding:0 1em}}table{{border-collapse:collapse}}td,th{{padding:.1em .8em;\
             text-align:left;border-bottom:1px solid #ccc}}pre{{background:#eee;padding:1em;overflow:auto}}\
             .bad{{background:#fdd;padding:1em}}</style><h1>Portcullis</h1>"
        )?;
        if self.mode == Mode::Safe {
            write!(page, "<div class=bad><b>Safe mode.</b> The configuration is not used:<ul>")?;
            for problem in &self.problems {
                write!(page, "<li>{}", escape(problem))?;
            }
            write!(page, "</ul></div>")?;
        }
        write!(page, "<table>")?;
        let mut row = |name: &str, value: &str| write!(page, "<tr><th>{name}<td>{}", escape(value));
        row("Board", self.board.model)?;
        row("Revision, serial", &alloc::format!("{}, {}", self.board.revision, self.board.serial))?;
        row("Version", &alloc::format!("{}, build {}", self.version, self.build))?;
        row("Configuration", self.configuration.as_deref().unwrap_or("none"))?;
        row("Up for", &alloc::format!("{} s", self.uptime_ms / 1000))?;
        row("Random numbers", self.entropy)?;
        row("Watchdog", if self.watchdog { "set" } else { "none" })?;
        let Memory { total, fixed, heap_used, heap_total } = self.memory;
        row("Memory", &alloc::format!("{total} octets; {fixed} fixed; heap {heap_used} of {heap_total}"))?;
        write!(
            page,
            "</table><h2>Ports</h2><table><tr><th>Port<th>MAC<th>Link<th>Addresses<th>Received<th>Sent<th>Errors"
        )?;
        for port in &self.ports {
            let link = match (port.present, port.link) {
                (false, _) => "not there",
                (true, false) => "down",
                (true, true) => "up",
            };
            write!(
                page,
                "<tr><td>{}<td>{}<td>{link}<td>{} ({})<td>{}<td>{}<td>{} / {} / {} / {}",
                port.number,
                port.mac,
                escape(&port.addresses.join(", ")),
                port.origin,
                port.rx_frames,
                port.tx_frames,
                port.rx_errors,
                port.rx_overruns,
                port.tx_drops,
                port.malformed,
            )?;
        }
        write!(page, "</table><p>Errors: received with an error / no room / not sent / nonsense from the device.")?;
        if let Some(report) = &self.last_panic {
            write!(page, "<h2>How the last run ended</h2><pre>{}</pre>", escape(report))?;
        }
        write!(page, "<h2>Log</h2><pre>{}</pre><p><a href=/status.json>as JSON</a></html>", escape(&self.log))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    fn status() -> Status {
        let link = Link::Up { mbit: 100, full_duplex: true };
        let counters = Counters { rx_frames: 7, malformed: 3, ..Counters::default() };
        Status {
            version: "0.1.0",
            build: "abc",
            mode: Mode::Safe,
            problems: vec!["line 3: \"<x>\"".to_string()],
            configuration: None,
            board: Board { model: "Raspberry Pi 4 Model B", revision: "b03115".into(), serial: "1".into() },
            uptime_ms: 61_000,
            network_up_ms: Some(12),
            memory: Memory { total: 1 << 30, fixed: 1 << 20, heap_used: 10, heap_total: 20 },
            entropy: "no random number generator",
            watchdog: true,
            ports: vec![Port::new(0, MacAddress([2, 0, 0, 0, 0, 1]), link, counters)],
            last_panic: Some("panicked at '</pre>'".into()),
            log: "\"quoted\"\n".into(),
        }
    }

    #[test]
    fn json_reads_back() {
        let value: serde_json::Value = serde_json::from_str(&status().json()).expect("JSON");
        assert_eq!(value["mode"], "safe");
        assert_eq!(value["problems"][0], "line 3: \"<x>\"");
        assert_eq!(value["ports"][0]["rx_frames"], 7);
        assert_eq!(value["ports"][0]["mac"], "02:00:00:00:00:01");
        assert_eq!(value["network_up_ms"], 12);
        assert_eq!(value["log"], "\"quoted\"\n");
    }

    #[test]
    fn the_page_tells_what_is_wrong_without_trusting_it() {
        let page = status().html();
        assert!(page.contains("Safe mode."));
        assert!(page.contains("line 3: &quot;&lt;x&gt;&quot;"));
        assert!(page.contains("panicked at &#39;&lt;/pre&gt;&#39;"));
        let normal = Status { mode: Mode::Normal, ..status() };
        assert!(!normal.html().contains("Safe mode."));
    }
}
