//! A large configuration is read in time that does not explode.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use gateway_core::config::Config;
use gateway_core::gateway::Gateway;

#[test]
fn three_thousand_peers_are_read_within_seconds() {
    let mut text = String::new();
    for n in 0..3000 {
        let (high, low) = (n / 250, n % 250);
        write!(
            text,
            "[[peer]]\nname = \"p{n}\"\nlocal = \"192.0.2.1\"\nremote = \"10.200.{high}.{}\"\nlocal-id = \"me\"\n\
             remote-id = \"p{n}\"\nstart = \"passive\"\npsk = \"a key of more than twenty characters\"\n[[peer.child]]\n\
             name = \"n\"\nlocal-ts = \"10.0.0.0/16\"\nremote-ts = \"11.{high}.{low}.0/24\"\n",
            low + 1
        )
        .unwrap();
    }
    let begun = Instant::now();
    let (config, warnings) = Config::parse(&text).unwrap_or_else(|errors| panic!("{}", errors[0]));
    let read = begun.elapsed();
    assert_eq!((config.peers.len(), warnings.len()), (3000, 0));
    let (gateway, _) = Gateway::new(config);
    assert_eq!(gateway.rules().len(), 3000);
    eprintln!("read in {read:?}, taken up in {:?}", begun.elapsed().saturating_sub(read));
    // It took more than eight minutes when each pair of peers was looked up in the text.
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}
