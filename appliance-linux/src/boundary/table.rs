//! Whether a table of nftables is there, asked of the kernel itself: that needs no nft, and tells also when nft fails.

use std::io;

use super::attributes::{SUBSYSTEM, ask, messages, word};

// linux/netfilter/nf_tables.h.
const NEW_TABLE: u16 = 0;
const GET_TABLE: u16 = 1;

/// Whether there is a table of this name and of the family `inet`.
///
/// # Errors
/// When the kernel does not tell.
pub(super) fn stands(name: &str) -> io::Result<bool> {
    let socket = match ask(GET_TABLE, 0, Some(name)) {
        // A kernel without netfilter has no table.
        Err(error) if error.raw_os_error() == Some(libc::EPROTONOSUPPORT) => return Ok(false),
        asked => asked?,
    };
    let (datagram, _) = socket.recv_from_full()?;
    let mut answer = Err(io::ErrorKind::InvalidData.into());
    messages(&datagram, |kind, body| match i32::from(kind) {
        libc::NLMSG_ERROR => {
            let error = word(body, 0).map_or(0, |code| code.cast_signed().wrapping_neg());
            answer = match error {
                // No such table; or a kernel without nftables, which knows no such question.
                libc::ENOENT | libc::EINVAL | libc::EOPNOTSUPP => Ok(false),
                _ => Err(io::Error::from_raw_os_error(error)),
            };
        }
        _ if kind == SUBSYSTEM << 8 | NEW_TABLE => answer = Ok(true),
        _ => {}
    });
    answer
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boundary::nft;
    use crate::namespace::in_a_network_of_its_own;

    #[test]
    fn f_01_the_kernel_tells_whether_a_table_stands_without_nft() {
        in_a_network_of_its_own(|| {
            let run = |words: &[&str]| nft::run(words, "", nft::deadline("")).map(drop).unwrap();
            assert!(!stands("foo").unwrap());
            run(&["add", "table", "inet", "foobar"]);
            run(&["add", "table", "ip", "foo"]);
            assert!(!stands("foo").unwrap(), "another name, another family");
            run(&["add", "table", "inet", "foo"]);
            assert!(stands("foo").unwrap());
            run(&["flush", "ruleset"]);
            assert!(!stands("foo").unwrap());
        });
    }
}
