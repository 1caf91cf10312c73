//! Events: in binary to the console (defmt), and as text for the status page.
//!
//! `event!(info, "port {} is up", number)` is the only way in. Values are numbers or `&str`, which both sides print
//! alike. Frames go out at once and wait for the port: events are rare.

use crate::{clock, map};
use core::cell::RefCell;
use core::fmt::{self, Write};
use core::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use critical_section::Mutex;
use rpi_services::log_tail::LogTail;

/// How weighty an event is; the same words as in the configuration.
#[allow(non_camel_case_types, reason = "the names are defmt's macros")]
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    error,
    warn,
    info,
    debug,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::info as u8);
static TAIL: Mutex<RefCell<LogTail>> = Mutex::new(RefCell::new(LogTail::new()));

/// Sets the least weighty level that is kept.
pub(crate) fn set_level(level: Level) {
    LEVEL.store(level as u8, Ordering::Relaxed);
}

pub(crate) fn is_kept(level: Level) -> bool {
    level as u8 <= LEVEL.load(Ordering::Relaxed)
}

/// Adds a line to the text that the status page shows.
pub(crate) fn keep(level: Level, text: fmt::Arguments<'_>) {
    critical_section::with(|token| {
        let millis = clock::micros() / 1000;
        // Writing to the ring cannot fail.
        let _ = writeln!(TAIL.borrow_ref_mut(token), "{:6}.{:03} {level:?} {text}", millis / 1000, millis % 1000);
    });
}

/// The end of the log.
pub(crate) fn tail() -> alloc::string::String {
    critical_section::with(|token| TAIL.borrow_ref(token).text())
}

/// Logs an event.
macro_rules! event {
    ($level:ident, $text:literal $(, $value:expr)* $(,)?) => {
        if $crate::log::is_kept($crate::log::Level::$level) {
            defmt::$level!($text $(, $value)*);
            $crate::log::keep($crate::log::Level::$level, format_args!($text $(, $value)*));
        }
    };
}
pub(crate) use event;

defmt::timestamp!("{=u64:us}", clock::micros());

static ENCODER: Mutex<RefCell<defmt::Encoder>> = Mutex::new(RefCell::new(defmt::Encoder::new()));
static TAKEN: AtomicBool = AtomicBool::new(false);

fn encode(work: impl FnOnce(&mut defmt::Encoder)) {
    critical_section::with(|token| work(&mut ENCODER.borrow_ref_mut(token)));
}

fn put(octets: &[u8]) {
    let uart = map::uart();
    for octet in octets {
        uart.put(*octet);
    }
}

#[defmt::global_logger]
struct Console;

// SAFETY: there is one core, and no interrupt or exception handler logs, so that frames cannot interleave; a formatter
// that logs while it is being logged is caught by TAKEN.
unsafe impl defmt::Logger for Console {
    fn acquire() {
        assert!(!TAKEN.swap(true, Ordering::Relaxed), "a log message inside of a log message");
        encode(|encoder| encoder.start_frame(put));
    }

    unsafe fn flush() {
        map::uart().drain();
    }

    unsafe fn release() {
        encode(|encoder| encoder.end_frame(put));
        TAKEN.store(false, Ordering::Relaxed);
    }

    unsafe fn write(octets: &[u8]) {
        encode(|encoder| encoder.write(octets, put));
    }
}
