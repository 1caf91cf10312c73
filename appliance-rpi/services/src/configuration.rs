//! The configuration file of the image: its addresses and how it is managed. It has no tunnels yet, and the file neither
//! peers nor policies. docs/rpi.md describes every key.

use alloc::format;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use gateway_core::config::reader::{Document, Reader, Section};
use gateway_core::config::schema::RASPBERRY_PI;
use gateway_core::config::{Bad, ConfigError, LogLevel, Warning};

/// Ports a board may have.
pub const PORTS_MAX: u8 = 4;

/// What the file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoardConfig {
    /// How much is logged: `log` of `[gateway]`; default [`LogLevel::Info`].
    pub log: LogLevel,
    /// `[[network]]`, one for each port that is named.
    pub networks: Vec<Network>,
    /// `[management]`.
    pub management: Management,
}

/// `[[network]]`: the addresses of one port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    /// The port, counted from 0; default 0.
    pub port: u8,
    /// `address`; default `"dhcp"`.
    pub address: Address,
}

/// Where a port's IPv4 address comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Address {
    /// From a DHCP server; until one answers, the fallback.
    Dhcp {
        /// `fallback`; default [`Network::fallback`].
        fallback: Ipv4Net,
    },
    /// As written.
    Static {
        /// Address and prefix length.
        address: Ipv4Net,
        /// `router`: where packets for other networks go.
        router: Option<Ipv4Addr>,
    },
}

/// An IPv4 address with the prefix length of its network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Net {
    /// The address.
    pub address: Ipv4Addr,
    /// Prefix length, 0 to 32.
    pub prefix: u8,
}

/// `[management]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Management {
    /// TCP port of the status page; default 80.
    pub http_port: u16,
    /// Whether `POST /panic` makes the appliance panic, to try what follows; default no.
    pub allow_panic: bool,
}

impl Network {
    /// The fallback address of a port for which none is written: 192.168.77.1/24 for port 0, 192.168.78.1/24 for port
    /// 1 and so on.
    pub const fn fallback(port: u8) -> Ipv4Net {
        Ipv4Net { address: Ipv4Addr::new(192, 168, 77_u8.saturating_add(port), 1), prefix: 24 }
    }

    /// A port that is not configured: DHCP with the default fallback.
    pub const fn unconfigured(port: u8) -> Self {
        Self { port, address: Address::Dhcp { fallback: Self::fallback(port) } }
    }
}

impl Default for Management {
    fn default() -> Self {
        Self { http_port: 80, allow_panic: false }
    }
}

impl BoardConfig {
    /// What holds in safe mode, without any configuration.
    pub fn safe() -> Self {
        Self { log: LogLevel::Info, networks: Vec::new(), management: Management::default() }
    }

    /// The network of `port`, configured or not.
    pub fn network(&self, port: u8) -> Network {
        self.networks.iter().find(|network| network.port == port).copied().unwrap_or(Network::unconfigured(port))
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// Everything that is wrong, in the order of the file.
    ///
    /// ```
    /// use rpi_services::configuration::BoardConfig;
    /// let Err(errors) = BoardConfig::parse("[[network]]\naddress = \"192.0.2.1\"\n") else { panic!() };
    /// assert_eq!(errors[0].at.to_string(), "2:12");
    /// ```
    pub fn parse(text: &str) -> Result<(Self, Vec<Warning>), Vec<ConfigError>> {
        let document = Document::parse(text).map_err(|error| alloc::vec![error])?;
        let mut reader = Reader::new(text, &RASPBERRY_PI);
        let root = document.root();
        reader.known(root);
        let gateway = reader.table(root, "gateway", "[gateway]");
        let log = gateway.map_or(LogLevel::Info, |section| {
            reader.known(section);
            LogLevel::read(&mut reader, section)
        });
        let mut networks: Vec<Network> = Vec::new();
        for section in reader.tables(root, "network", "[[network]]") {
            let network = network(&mut reader, section);
            if networks.iter().any(|other| other.port == network.port) {
                let expected = "one [[network]] for each port";
                reader.error(section.at, format!("port {} a second time", network.port), expected, "");
            }
            networks.push(network);
        }
        let management = reader.table(root, "management", "[management]");
        let management = management.map_or_else(Management::default, |section| read_management(&mut reader, section));
        let warnings = reader.finish()?;
        Ok((Self { log, networks, management }, warnings))
    }
}

fn network<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>) -> Network {
    reader.known(section);
    let port = reader.number(section, "port", 0..=PORTS_MAX.saturating_sub(1)).unwrap_or(0);
    let expected = "\"dhcp\" or an address with its prefix length such as \"192.0.2.1/24\"";
    let address = reader
        .read(section, "address", expected, |word| match word {
            "dhcp" => Ok(None),
            written => net(written).map(Some),
        })
        .and_then(|word| word.value);
    let router = reader.read(section, "router", "an IPv4 address", |word| {
        word.parse::<Ipv4Addr>().map_err(|_| Bad::whole(word, "an IPv4 address such as \"192.0.2.254\""))
    });
    let fallback = reader.read(section, "fallback", "an address with its prefix length", net);
    let address = match address {
        Some(address) => {
            if let Some(fallback) = fallback {
                reader.error(
                    fallback.at,
                    "a fallback",
                    "no fallback beside a written address",
                    "it would never be used",
                );
            }
            if let Some(router) = &router
                && !on_link(address, router.value)
            {
                let found = format!("the router {}", router.value);
                reader.error(router.at, found, format!("one in the network of {}", address.address), "");
            }
            Address::Static { address, router: router.map(|word| word.value) }
        }
        None => {
            if let Some(router) = router {
                reader.error(router.at, "a router", "no router beside \"dhcp\"", "the DHCP server tells it");
            }
            Address::Dhcp { fallback: fallback.map_or(Network::fallback(port), |word| word.value) }
        }
    };
    Network { port, address }
}

fn read_management<'t>(reader: &mut Reader<'t>, section: Section<'_, 't>) -> Management {
    reader.known(section);
    let defaults = Management::default();
    Management {
        http_port: reader.number(section, "http-port", 1..=u16::MAX).unwrap_or(defaults.http_port),
        allow_panic: reader
            .choice(section, "allow-panic", &[("yes", true), ("no", false)])
            .unwrap_or(defaults.allow_panic),
    }
}

/// An address that a host may have, with its prefix length.
fn net(word: &str) -> Result<Ipv4Net, Bad> {
    const EXPECTED: &str = "an address with its prefix length such as \"192.0.2.1/24\"";
    let Some((address, prefix)) = word.split_once('/') else {
        return Err(Bad::whole(word, EXPECTED).hint("add the prefix length, for instance \"/24\""));
    };
    let net = address
        .parse::<Ipv4Addr>()
        .ok()
        .zip(prefix.parse::<u8>().ok().filter(|prefix| (1..=32).contains(prefix)))
        .map(|(address, prefix)| Ipv4Net { address, prefix })
        .ok_or_else(|| Bad::whole(word, EXPECTED))?;
    if net.address.is_multicast() || net.address.is_broadcast() || net.address.is_unspecified() {
        return Err(Bad::whole(word, "an address of one host"));
    }
    Ok(net)
}

/// Whether `other` lies in the network of `net`.
fn on_link(net: Ipv4Net, other: Ipv4Addr) -> bool {
    let mask = u32::MAX.checked_shl(32_u32.saturating_sub(net.prefix.into())).unwrap_or(0);
    net.address.to_bits() & mask == other.to_bits() & mask
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::{String, ToString};
    use alloc::vec;
    use gateway_core::config::schema::FILE;

    fn net(text: &str) -> Ipv4Net {
        super::net(text).unwrap_or_else(|_| panic!("{text}"))
    }

    fn error(text: &str) -> (String, String) {
        let errors = BoardConfig::parse(text).expect_err("it is wrong");
        assert_eq!(errors.len(), 1, "{errors:?}");
        (errors[0].at.to_string(), errors[0].to_string())
    }

    #[test]
    fn an_empty_file_means_dhcp_everywhere() {
        let (config, warnings) = BoardConfig::parse("").expect("nothing is required");
        assert_eq!(warnings, []);
        assert_eq!(config, BoardConfig::safe());
        assert_eq!(config.network(1).address, Address::Dhcp { fallback: net("192.168.78.1/24") });
    }

    #[test]
    fn the_file_on_the_card_says_what_the_defaults_are() {
        let (config, warnings) = BoardConfig::parse(include_str!("../../portcullis.toml")).expect("right");
        assert_eq!(warnings, []);
        assert_eq!(config, BoardConfig { networks: vec![Network::unconfigured(0)], ..BoardConfig::safe() });
    }

    #[test]
    fn every_key_is_read() {
        let (config, _) = BoardConfig::parse(
            "[gateway]\nlog = \"debug\"\n\
             [[network]]\nport = 1\naddress = \"192.0.2.1/24\"\nrouter = \"192.0.2.254\"\n\
             [[network]]\naddress = \"dhcp\"\nfallback = \"10.0.0.1/8\"\n\
             [management]\nhttp-port = 8080\nallow-panic = \"yes\"\n",
        )
        .expect("it is right");
        assert_eq!(config.log, LogLevel::Debug);
        assert_eq!(
            config.network(1).address,
            Address::Static { address: net("192.0.2.1/24"), router: Some(Ipv4Addr::new(192, 0, 2, 254)) }
        );
        assert_eq!(config.network(0).address, Address::Dhcp { fallback: net("10.0.0.1/8") });
        assert_eq!(config.management, Management { http_port: 8080, allow_panic: true });
    }

    #[test]
    fn every_key_is_documented() {
        let text = include_str!("../../../docs/rpi.md");
        for table in RASPBERRY_PI.tables.iter().filter(|table| table.title != FILE) {
            assert!(text.contains(&format!("| `{}", table.title)), "{}", table.title);
            for key in table.keys {
                assert!(text.contains(&format!("`{key}`")) || text.contains(&format!("{} {key}`", table.title)));
            }
        }
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        for (text, place, part) in [
            ("[[network]]\naddress = \"192.0.2.1\"\n", "2:12", "prefix length"),
            ("[[network]]\naddress = \"224.0.0.1/4\"\n", "2:12", "one host"),
            ("[[network]]\naddress = \"192.0.2.1/33\"\n", "2:12", "prefix length"),
            ("[[network]]\nadress = \"dhcp\"\n", "2:1", "did you mean \"address\"?"),
            ("[[network]]\nport = 9\n", "2:8", "0 to 3"),
            ("[[network]]\nrouter = \"192.0.2.9\"\n", "2:10", "no router beside \"dhcp\""),
            ("[[network]]\naddress = \"192.0.2.1/24\"\nfallback = \"10.0.0.1/8\"\n", "3:12", "never be used"),
            ("[[network]]\naddress = \"192.0.2.1/24\"\nrouter = \"192.0.3.1\"\n", "3:10", "in the network of"),
            ("[[network]]\n[[network]]\n", "2:1", "a second time"),
            ("[network]\n", "1:2", "double brackets"),
            ("[management]\nhttp-port = 0\n", "2:13", "1 to 65535"),
            ("[management]\nallow-panic = \"perhaps\"\n", "2:16", "\"yes\" or \"no\""),
            ("[[peer]]\n", "1:3", "[[peer]], which is of portcullis for Linux"),
            ("[[peer]]\n", "1:3", "expected one of gateway, network, management; this is the Raspberry Pi image"),
            ("[[policy]]\n", "1:3", "[[policy]], which is of portcullis for Linux"),
            ("[gateway]\ntun = \"pcl0\"\n", "2:1", "found \"tun\" in [gateway], which is of portcullis for Linux"),
            ("[[pear]]\n", "1:3", "unknown key \"pear\""),
            ("[[network]\n", "1:11", "not TOML"),
        ] {
            let (at, told) = error(text);
            assert!(told.contains(part), "{text:?} is told as {told:?}");
            assert_eq!(at, place, "{text:?}: {told}");
        }
    }
}
