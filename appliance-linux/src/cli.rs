//! The command line: a contract with those who script it. Commands and options are added, never renamed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use gateway_core::config::time;

/// Where the configuration is when the command line does not say otherwise.
pub(crate) const CONFIG: &str = "/etc/portcullis/portcullis.toml";

const EXAMPLES: &str = "\
Examples:
  portcullis check            is the configuration fine?
  portcullis doctor           is this machine ready for it?
  portcullis run              the daemon, in the foreground
  portcullis status           which tunnels are up, and why not
  portcullis up cloud         connect a peer, wait for the outcome
  portcullis rekey cloud/net  fresh keys for one Child SA
  portcullis show             flows and SAs, like `ipsecctl -s all`
  portcullis events           what happens, as it happens
  portcullis decode x.pcap    what a capture says, with --keys what is protected in it too
  portcullis block            keep in what is to be protected before the daemon runs
  portcullis release          let the remote networks be reached in clear again

The smallest configuration:
  [[peer]]
  name      = \"cloud\"
  local     = \"192.0.2.2\"
  remote    = \"192.0.2.1\"
  local-id  = \"right.example\"
  remote-id = \"left.example\"
  psk-file  = \"cloud.psk\"
  [[peer.child]]
  name      = \"net\"
  local-ts  = [\"10.2.0.0/16\"]
  remote-ts = [\"10.1.0.0/16\"]

A key for it, which the other side gets too:
  openssl rand -hex 32 | sed s/^/0x/ | install -m 600 /dev/stdin /etc/portcullis/cloud.psk

Exit codes:
  0  done
  1  it did not work out; the cause and a hint stand on standard error
  2  the command line or the configuration is wrong (file:line:column: what was expected)
  3  no daemon answers at the control socket
  4  `status`: something is not up that should be, or the boundary has no guard or is in trouble";

const DECODE: &str = "\
Example:
  tcpdump -i eth0 -w tunnel.pcap 'udp port 500 or udp port 4500 or esp'
  portcullis decode tunnel.pcap --keys tunnel.keys.json

  #3 0.021310 10.66.0.1:4500 > 10.66.0.2:4500 IKE length 326 exchange IKE_AUTH direction request id 1 …
    SK length 298
      IDi type ID_FQDN id a.test
      …
  #5 1.062210 10.66.0.1:4500 > 10.66.0.2:4500 ESP length 136 spi 3a15b6de sequence 1 verdict opened …
    packet source 10.1.0.1 destination 10.2.0.1 protocol icmp type 8 code 0 length 84

The keys file, octets in hex (docs/decode.md says more):
  { \"ike_proposal\": \"aes256gcm16-prfsha256-ecp256\",
    \"ike_sas\": [ { \"Sk_ei\": \"…\", \"Sk_er\": \"…\" } ],
    \"esp_proposal\": \"aes256gcm16\",
    \"child_sas\": [ { \"spi_of_initiator_traffic\": \"3a15b6de\", \"encryption initiator key\": \"…\",
                     \"spi_of_responder_traffic\": \"2df80f39\", \"encryption responder key\": \"…\" } ] }
Beside a cipher that is no AEAD go \"Sk_ai\" and \"Sk_ar\", \"integrity initiator key\" and \"integrity responder key\".

Exit codes: 0 fine, also where keys are missing; 1 something does not open although the keys name its SA, the capture cannot be
read to its end, or what it says cannot be written; 2 the keys file is wrong (file:line:column: what was expected)";

/// An IKEv2/IPsec gateway (RFC 7296, RFC 4301, RFC 4303).
#[derive(Debug, Parser)]
#[command(name = "portcullis", version, after_help = EXAMPLES)]
pub(crate) struct Cli {
    /// The daemon's control socket [default: the one of the configuration for run and doctor, otherwise
    /// /run/portcullis/control.sock]
    #[arg(long, value_name = "SOCK", global = true)]
    pub(crate) control: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the gateway in the foreground, until SIGTERM or SIGINT; SIGHUP reloads the configuration
    Run {
        #[command(flatten)]
        file: ConfigFile,
        /// Log one JSON object a line instead of text
        #[arg(long)]
        log_json: bool,
        /// The directory for what is to last: what went through, on whose account [default: the one that systemd names in
        /// STATE_DIRECTORY, otherwise none]
        #[arg(long, value_name = "DIR")]
        state: Option<PathBuf>,
    },
    /// Check a configuration: 0 when it is fine, 2 with file:line:column when not
    Check {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Look for what would keep the gateway from working on this machine, and say how to mend it
    Doctor {
        #[command(flatten)]
        file: ConfigFile,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Show peers, their tunnels and what went through them; 0 when all is up that should be and the boundary stands, else 4
    Status {
        /// Only this peer ("cloud") or Child SA ("cloud/net"), which then should be up
        name: Option<String>,
        /// One JSON object instead of a table
        #[arg(long)]
        json: bool,
        /// Counters that stand at zero too
        #[arg(long)]
        all: bool,
    },
    /// Tell what happens as it happens, a line each, until interrupted
    Events {
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
    /// Connect a peer ("cloud") or one Child SA ("cloud/net") and wait until it is up or has failed
    Up {
        #[command(flatten)]
        target: Target,
    },
    /// Disconnect a peer or one Child SA, and leave it down until `up`, a new packet (on-demand) or the peer wants it
    Down {
        #[command(flatten)]
        target: Target,
    },
    /// Negotiate fresh keys for a peer's Child SAs, or for one
    Rekey {
        #[command(flatten)]
        target: Target,
        /// Rekey the IKE SA, not the Child SAs
        #[arg(long)]
        ike: bool,
    },
    /// Read the configuration again and apply what changed; SAs that did not change go on
    Reload {
        /// Only tell what would change
        #[arg(long)]
        dry_run: bool,
    },
    /// Keep in what is to be protected, until a daemon runs: for the time before its first start; refused while one runs
    Block {
        #[command(flatten)]
        file: ConfigFile,
    },
    /// Open what a daemon that ended left blocked, so that it passes in clear; refused while a daemon runs
    Release,
    /// Show policies and SAs, flows and SAD in the style of `ipsecctl -s all`, and accounts
    Show {
        /// Only one of them
        what: Option<What>,
        /// One JSON object instead of text
        #[arg(long)]
        json: bool,
        /// In the words of another program: `spd` as `setkey -DP` has it, `sa` as `setkey -D`, `ike` as `racoonctl -ll show-sa
        /// isakmp`
        #[arg(long, conflicts_with = "json", requires = "what")]
        format: Option<Format>,
    },
    /// Tell what a capture (pcap, pcapng) says: each IKE message with its payloads, each ESP packet with what is in it
    #[command(after_help = DECODE)]
    Decode {
        /// The capture; `-` is standard input
        file: PathBuf,
        /// The keys of its SAs, as JSON; without them only what is in clear is told
        #[arg(long, value_name = "FILE")]
        keys: Option<PathBuf>,
        /// One JSON object a line
        #[arg(long)]
        json: bool,
    },
}

/// A configuration file.
#[derive(Debug, Args)]
pub(crate) struct ConfigFile {
    /// The configuration
    #[arg(long, value_name = "FILE", default_value = CONFIG)]
    config: PathBuf,
    /// The configuration, as with --config
    #[arg(value_name = "FILE", conflicts_with = "config")]
    named: Option<PathBuf>,
}

impl ConfigFile {
    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        self.named.as_deref().unwrap_or(&self.config)
    }
}

/// A peer, or a Child SA of a peer, and how long to wait.
#[derive(Debug, Args)]
pub(crate) struct Target {
    /// The peer's name, or peer/child
    pub(crate) name: String,
    /// Time to wait for the outcome: seconds (5), or with a unit as in the configuration (500ms, 5s, 2m)
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = wait)]
    pub(crate) timeout: Duration,
}

/// A part of what the daemon holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum What {
    /// The Security Policy Database: what is protected, what bypasses, what is discarded
    Spd,
    /// The Security Association Database: the ESP SAs
    Sa,
    /// The IKE SAs
    Ike,
    /// What went through, on whose account: over rekeys and reloads, and over restarts where the daemon has a directory for it
    Accounts,
}

/// Whose words `show` uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    /// Those of setkey(8)
    Setkey,
    /// Those of racoonctl(8)
    Racoonctl,
}

fn wait(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds
        .or_else(|| time(text))
        .filter(|wait| !wait.is_zero() && *wait <= Duration::from_secs(86_400))
        .ok_or_else(|| "a time was expected, 5s for instance: more than 0 and at most 1d".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn the_contract_of_the_command_line_is_kept() {
        for line in [
            "run --config f",
            "run --state d",
            "check --config f",
            "doctor --config f",
            "--control s status --json",
            "status",
            "status cloud/net --json --all",
            "events",
            "events --json",
            "reload --dry-run",
            "--control s up cloud",
            "up cloud/net --timeout 0.5",
            "down cloud",
            "rekey cloud",
            "rekey cloud/net",
            "rekey cloud --ike",
            "reload",
            "block --config f",
            "release",
            "show",
            "show spd --json",
            "show sa",
            "show ike",
            "show ike --format racoonctl",
            "show accounts --json",
            "decode f",
            "decode f --keys k --json",
            "decode - --json",
        ] {
            let arguments = std::iter::once("portcullis").chain(line.split(' '));
            assert!(Cli::try_parse_from(arguments).is_ok(), "{line}");
        }
    }

    #[test]
    fn f_77_help_is_a_command_too() {
        for line in [&["portcullis", "help"][..], &["portcullis", "help", "up"]] {
            let told = Cli::try_parse_from(line).unwrap_err();
            assert_eq!(told.kind(), clap::error::ErrorKind::DisplayHelp, "{told}");
        }
    }

    #[test]
    fn f_77_every_command_that_reads_the_configuration_knows_where_it_is() {
        for command in ["run", "check", "doctor", "block"] {
            for (rest, place) in [(&[][..], CONFIG), (&["--config", "f"], "f"), (&["f"], "f")] {
                let cli = Cli::try_parse_from(["portcullis", command].iter().chain(rest)).unwrap();
                let (Command::Run { file, .. }
                | Command::Check { file }
                | Command::Doctor { file, .. }
                | Command::Block { file }) = cli.command
                else {
                    panic!("{command}")
                };
                assert_eq!(file.path(), Path::new(place));
            }
            assert!(Cli::try_parse_from(["portcullis", command, "f", "--config", "g"]).is_err());
        }
    }

    #[test]
    fn a_time_out_is_a_positive_number() {
        for (text, millis) in [("1.5", 1500), ("5", 5000), ("5s", 5000), ("500ms", 500), ("1d", 86_400_000)] {
            assert_eq!(wait(text), Ok(Duration::from_millis(millis)));
        }
        for bad in ["0", "-1", "nan", "inf", "1e9", "soon", "", "0s", "2d", "5x"] {
            assert!(wait(bad).is_err(), "{bad}");
        }
    }
}
