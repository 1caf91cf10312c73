//! HTTP request heads: what is complete stays complete, what is refused stays refused.

use rpi_services::http::{HEAD_MAX, parse};

/// Takes the octets as they would come in, piece by piece.
pub fn run(data: &[u8]) {
    let data = data.get(..HEAD_MAX).unwrap_or(data);
    let whole = parse(data);
    let mut decided = None;
    for len in (0..=data.len()).step_by(7) {
        let now = parse(&data[..len]);
        if let Some(decided) = decided {
            assert_eq!(now, decided, "more octets change what was decided");
        }
        if now != Ok(None) {
            decided = Some(now);
        }
    }
    if let Some(decided) = decided {
        assert_eq!(whole, decided);
    }
    assert!(data.len() < HEAD_MAX || whole != Ok(None), "a head without end is waited for");
}
