//! Identities and selectors print as they are written.

use super::*;

#[test]
fn identities_of_every_kind_print_as_they_are_written() {
    for text in ["right.lab", "192.0.2.2", "2001:db8::1", "user@example.org", "@hex:00ff10"] {
        let config = parse(&GOOD.replace("\"right.lab\"", &format!("\"{text}\""))).0;
        assert_eq!(config.peers[0].local_id.as_ref().unwrap().to_string(), text);
    }
    let spelt = parse(&GOOD.replace("\"right.lab\"", "\"keyid:branch\"")).0;
    assert_eq!(spelt.peers[0].local_id.as_ref().unwrap().id().data, b"branch");
    assert_ne!(
        parse(&GOOD.replace("\"right.lab\"", "\"fqdn:a.b\"")).0.peers[0].local_id,
        parse(&GOOD.replace("\"right.lab\"", "\"keyid:a.b\"")).0.peers[0].local_id
    );
}

#[test]
fn f_59_a_name_that_looks_like_something_else_is_written_with_its_kind_and_printed_so() {
    use ike_core::registry::IdKind;
    let names = ["192.0.2.1", "me@right.lab", "2001:db8::1", "any", "keyid:x", "fqdn:x", "a..b", "1.2.3"];
    let names = names.map(|name| (IdKind::FQDN, "fqdn:", name));
    let mails = ["keyid:a@b", "fqdn:a@b"].map(|name| (IdKind::RFC822_ADDR, "email:", name));
    for (kind, prefix, name) in names.into_iter().chain(mails) {
        let text = format!("{prefix}{name}");
        let config = parse(&GOOD.replace("\"right.lab\"", &format!("\"{text}\""))).0;
        let id = config.peers[0].local_id.as_ref().unwrap();
        assert_eq!((id.id().kind, id.id().data), (kind, name.as_bytes()));
        assert_eq!((id.to_string(), id.is_writable()), (text, true));
    }
    for bad in ["fqdn:", "fqdn:a b", "fqdn:ä"] {
        assert_eq!(errors(&GOOD.replace("\"right.lab\"", &format!("\"{bad}\""))).len(), 1, "{bad}");
    }
}

#[test]
fn selectors_of_every_kind_print_as_they_are_written() {
    for text in [
        "10.1.0.0/16",
        "10.0.0.1-10.0.0.9",
        "10.1.2.3/32",
        "10.1.0.0/16[tcp]",
        "10.1.0.0/16[tcp/443]",
        "10.1.0.0/16[udp/1000-2000]",
        "10.1.0.0/16[icmp/8]",
        "10.1.0.0/16[icmp/3/4]",
        "10.1.0.0/16[89]",
        "0.0.0.0/0",
    ] {
        let config = parse(&GOOD.replace("10.1.0.0/16", text)).0;
        assert_eq!(selector::Selector(&config.peers[0].children[0].remote_ts[0]).to_string(), text);
    }
}
