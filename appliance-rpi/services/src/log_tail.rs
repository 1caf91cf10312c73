//! The last lines of the log, for the status page.

use alloc::string::String;
use core::fmt;

const ROOM: usize = 4096;

/// A ring of text: what is written pushes out the oldest.
pub struct LogTail {
    ring: [u8; ROOM],
    /// Octets ever written.
    written: usize,
}

impl LogTail {
    /// An empty ring.
    pub const fn new() -> Self {
        Self { ring: [0; ROOM], written: 0 }
    }

    /// The whole lines that are left, oldest first.
    pub fn text(&self) -> String {
        let (end, start) = self.ring.split_at(self.written % ROOM);
        let start = if self.written < ROOM { &[] } else { start };
        let mut text = String::with_capacity(ROOM);
        let mut skipping = self.written > ROOM;
        for octet in start.iter().chain(end) {
            if !skipping {
                text.push(char::from(*octet));
            } else if *octet == b'\n' {
                skipping = false;
            }
        }
        text
    }
}

impl Default for LogTail {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Write for LogTail {
    /// Characters outside of ASCII are kept as '?'.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for letter in text.chars() {
            let octet = u8::try_from(letter).ok().filter(u8::is_ascii).unwrap_or(b'?');
            if let Some(place) = self.ring.get_mut(self.written % ROOM) {
                *place = octet;
            }
            self.written += 1;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use core::fmt::Write;

    #[test]
    fn a_short_log_is_all_there() {
        let mut tail = LogTail::new();
        writeln!(tail, "one").expect("infallible");
        writeln!(tail, "twø").expect("infallible");
        assert_eq!(tail.text(), "one\ntw?\n");
    }

    #[test]
    fn a_long_log_keeps_the_last_whole_lines() {
        let mut tail = LogTail::new();
        for number in 0..2000 {
            writeln!(tail, "line {number}").expect("infallible");
        }
        let text = tail.text();
        assert!(text.ends_with("line 1998\nline 1999\n"));
        let first = text.lines().next().expect("a line");
        let number: usize = first.strip_prefix("line ").and_then(|n| n.parse().ok()).expect("a whole line");
        assert_eq!(text.lines().count(), 2000 - number);
        assert!(text.len() > ROOM - 20);
    }
}
