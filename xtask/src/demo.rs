//! `cargo xtask demo`: two sites, one tunnel, and a look at the wire between them.

use std::process::ExitCode;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::checkout::build_portcullis;
use crate::lab::frame::Kind;
use crate::lab::gateway::{Gateway, Program};
use crate::lab::pair::{Outer, Pair, Side, nothing_panicked};
use crate::lab::ping::{Pinger, ping};
use crate::lab::tcp::transfer;
use crate::lab::{sandbox, wait_for};
use crate::outcome::{Result, ensure};

/// See a tunnel work: two sites in network namespaces, a Portcullis on each, and the wire between them watched.
///
/// Runs as root, or as any user where the kernel allows user namespaces. Needs no package beside Rust, touches nothing
/// outside its namespaces, and leaves nothing behind.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Octets of the file that crosses the tunnel.
    #[arg(long, default_value_t = 16_000_000)]
    octets: usize,
}

const PEER: &str = "peer";
const NET: &str = "net";

/// Runs `cargo xtask demo`.
///
/// # Errors
/// When anything the story promises does not happen.
pub(crate) fn run(arguments: &Arguments) -> Result<ExitCode> {
    if !sandbox::inside() {
        println!("building portcullis");
        build_portcullis()?;
    }
    sandbox::run(|| {
        let start = Instant::now();
        tell(arguments.octets)?;
        nothing_panicked()?;
        println!("\ndone in {:.1} s; nothing is left behind", start.elapsed().as_secs_f32());
        Ok(ExitCode::SUCCESS)
    })
}

fn tell(octets: usize) -> Result {
    println!("\n  host 10.1.0.10 -- west gateway 192.0.2.1 ==== wire ==== 192.0.2.2 east gateway -- host 10.2.0.10\n");
    let pair = Pair::new(1)?;
    let (west, east) = (&pair.west, &pair.east);

    // First the proof that the watcher notices what it should: without a tunnel a ping is there for all to see.
    ping(&west.host, east.host_v4(0), 1, 56)?.all_answered()?;
    let clear = pair.wire.clear_packets();
    ensure(!clear.is_empty(), || "the watcher overlooked a ping in clear".to_owned())?;
    println!("without a tunnel the wire shows: {}", clear.join(", "));

    let mut gateways =
        [pair.gateway(Side::West, Program::Portcullis, "")?, pair.gateway(Side::East, Program::Portcullis, "")?];
    for (gateway, side) in gateways.iter_mut().zip([Side::West, Side::East]) {
        gateway.configure(&[pair.connection(side, Outer::V4)])?;
        gateway.start()?;
    }
    let [ours, theirs] = &gateways;
    pair.wire.forget();
    let began = Instant::now();
    ours.up(PEER, NET)?;
    theirs.wait_up(PEER, NET, Duration::from_secs(5))?;
    println!("two gateways started; the tunnel came up in {:.0} ms:", began.elapsed().as_secs_f32() * 1e3);
    for line in pair.wire.story().lines() {
        println!("  {line}");
    }
    let (sa, child) = (ours.ike_sa(PEER)?, ours.child_sa(PEER, NET)?);
    println!("  IKE {}, ESP {}", sa.suite, child.suite);

    let tally = ping(&west.host, east.host_v4(0), 20, 56)?;
    tally.all_answered()?;
    println!("ping: {tally}");

    let file = transfer(&west.host, &east.host, east.host_v4(0), octets)?;
    // No rate: this build checks each sum. `cargo xtask bench` measures.
    println!("file: {octets} octets in {:.2} s", file.took.as_secs_f32());
    println!("  sha256 of both ends {}", file.hash);

    rekey(&pair, &**ours)?;

    let seen = pair.wire.summary();
    println!("since the tunnel is up the wire has shown: {seen}");
    let clear = pair.wire.clear_packets();
    ensure(clear.is_empty() && pair.wire.count(Kind::Clear) == 0, || format!("seen in clear: {clear:?}"))?;
    let protected = pair.wire.count(Kind::Esp) + pair.wire.count(Kind::EspInUdp);
    ensure(protected > 0, || "no ESP on the wire".to_owned())?;
    println!("nothing in clear, {protected} packets of ESP\n");

    println!("$ portcullis status\n{}", ours.shown()?);
    for gateway in &mut gateways {
        gateway.stop()?;
    }
    Ok(())
}

/// New keys for the Child SA while a ping goes out every 5 ms.
fn rekey(pair: &Pair, gateway: &dyn Gateway) -> Result {
    let before = gateway.child_sa(PEER, NET)?.spi_out;
    let pinger = Pinger::start(&pair.west.host, pair.east.host_v4(0), 56, Duration::from_millis(5))?;
    sleep(Duration::from_millis(300));
    gateway.rekey_child(PEER, NET)?;
    let after = wait_for("new keys", Duration::from_secs(5), || {
        let spi = gateway.child_sa(PEER, NET)?.spi_out;
        Ok((spi != before).then_some(spi))
    });
    sleep(Duration::from_millis(700));
    let tally = pinger.stop()?;
    let after = after?;
    tally.all_answered()?;
    println!("rekeyed under traffic, SPI {before:08x} became {after:08x}: {tally}");
    Ok(())
}
