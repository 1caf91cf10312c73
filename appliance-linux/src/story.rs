//! The log as a story: what the gateway reports, one line each, with what an operator asks next.

use std::time::Duration;

use gateway_core::cause::Cause;
use gateway_core::config::selector::Selector;
use gateway_core::config::{ChildDiff, Diff, MANUAL, ManualDiff, PeerDiff};
use gateway_core::gateway::{Level, Report, What};
use ike_core::wire::header::Header;
use ike_core::wire::outline::Outline;
use ipsec_core::net::{Encap, TrafficSelector};
use ipsec_core::sa::Mode;
use tracing::{info, info_span, warn};

use crate::boundary;
use crate::control::protocol::{Event, IkeStatus};
use crate::control::waiting::Failed;
use crate::logging;

/// What a report says has failed or is gone, of what somebody may wait for.
pub(crate) fn failed(report: &Report) -> Option<Failed<'_>> {
    let child = report.child.as_deref();
    match report.what {
        What::Failed { .. } => Some(Failed::Handshake),
        What::Closed | What::Merged => Some(Failed::Closed),
        What::ChildFailed => child.map(Failed::Child),
        What::ChildDown => child.map(Failed::Down),
        What::RekeyFailed => Some(child.map_or(Failed::IkeRekey, Failed::Rekey)),
        _ => None,
    }
}

/// An IKE message that came, for the debug log: all of it when it could be read, else what stands in clear.
pub(crate) fn heard(outline: Option<Outline>, message: &[u8]) -> String {
    match (outline, Header::parse(message)) {
        (Some(outline), _) => outline.to_string(),
        (None, Ok(header)) => {
            let direction = if header.response { "response" } else { "request" };
            format!("{} {direction} {}, not read", header.exchange, header.message_id)
        }
        (None, Err(_)) => "what is no IKE message".to_owned(),
    }
}

/// Writes a report; `up`: the IKE SA that it says is up, and how long that took, where we called.
pub(crate) fn tell(report: &Report, up: Option<(&IkeStatus, Option<Duration>)>) {
    let is_manual = report.peer.as_deref() == Some(MANUAL);
    let _span = report.peer.as_ref().map(|peer| match is_manual {
        true => info_span!("manual", peer).entered(),
        false => info_span!("ike", peer).entered(),
    });
    match (&report.what, up) {
        (_, Some((ike, took))) => {
            let began = if ike.called { "we" } else { "the peer" };
            let took_ms = took.map(|took| u64::try_from(took.as_millis()).unwrap_or(u64::MAX));
            info!(
                local = ike.local,
                remote = ike.remote,
                local_id = ike.local_id,
                remote_id = ike.remote_id,
                suite = ike.suite,
                nat = ike.nat,
                began,
                took_ms,
                "connected: the peer is authenticated"
            );
        }
        (What::ChildUp { suite, spi_in, spi_out, encap, local, remote, compressed, padded, rekeyed, .. }, None) => {
            info!(
                child = report.child,
                %suite,
                encap = carrier(*encap),
                compressed,
                padded,
                local = selectors(local).join(" "),
                remote = selectors(remote).join(" "),
                spi_in = format_args!("{:#010x}", spi_in.get()),
                spi_out = format_args!("{:#010x}", spi_out.get()),
                "{}",
                match (rekeyed, is_manual) {
                    (true, _) => "Child SA rekeyed",
                    (false, true) => "SAs with manual keys up",
                    (false, false) => "Child SA up",
                }
            );
        }
        _ => {
            let (child, code) = (&report.child, report.cause.as_ref().map(|cause| cause.code));
            let level = report.level();
            let text = text(report);
            match level {
                Level::Info => info!(child, code, "{text}"),
                Level::Warn => warn!(child, code, "{text}"),
            }
        }
    }
}

/// As the configuration writes them.
pub(crate) fn selectors(list: &[TrafficSelector]) -> Vec<String> {
    list.iter().map(|selector| Selector(selector).to_string()).collect()
}

/// The word for a mode.
pub(crate) const fn mode(mode: Mode) -> &'static str {
    match mode {
        Mode::Transport => "transport",
        Mode::Beet => "beet",
        _ => "tunnel",
    }
}

/// The protocol in front of ESP.
pub(crate) fn carrier(encap: Encap) -> &'static str {
    match encap {
        Encap::None => "esp",
        Encap::Udp => "esp-in-udp",
    }
}

/// A report as a sentence. The peer, the child and the code stand beside it.
fn text(report: &Report) -> String {
    let bare = Report { peer: None, cause: None, ..report.clone() };
    match &report.cause {
        Some(Cause { text, hint, .. }) if hint.is_empty() => format!("{bare}: {text}"),
        Some(Cause { text, hint, .. }) => format!("{bare}: {text}; {hint}"),
        None => bare.to_string(),
    }
}

/// A report for those who listen to the events.
pub(crate) fn event(report: &Report) -> Event {
    Event {
        time: logging::now(),
        event: report.what.as_str().to_owned(),
        peer: report.peer.clone(),
        child: report.child.clone(),
        cause: report.cause.as_ref().map(Into::into),
        text: report.to_string(),
    }
}

/// What a reload changed, a line each, but for what it opens.
pub(crate) fn changes(diff: &Diff) -> Vec<String> {
    let mut lines = Vec::new();
    for key in &diff.settings {
        lines.push(match *key {
            "log" => "log: holds at once".to_owned(),
            key => format!("{key}: holds from the next start"),
        });
    }
    for (peer, change) in &diff.peers {
        match change {
            PeerDiff::Added => lines.push(format!("{peer}: new")),
            PeerDiff::Removed => lines.push(format!("{peer}: gone, closed")),
            PeerDiff::Replaced => lines.push(format!(
                "{peer}: its addresses, identities, key, encap or ike changed: closed, and connected anew unless `down` holds it"
            )),
            PeerDiff::Changed { children } if children.is_empty() => {
                lines.push(format!("{peer}: dpd, rekey or start changed, its SAs go on"));
            }
            PeerDiff::Changed { children } => lines.extend(children.iter().map(|(child, change)| {
                let what = match change {
                    ChildDiff::Added => "new",
                    ChildDiff::Removed => "gone, deleted",
                    ChildDiff::Replaced => {
                        "its selectors, mode, esp or compress changed: deleted, and negotiated anew unless `down` holds it"
                    }
                    ChildDiff::Changed => {
                        "its level, priority, df, tfc-padding, lifetime or when it is rekeyed changed, its SAs go on"
                    }
                };
                format!("{peer}/{child}: {what}")
            })),
        }
    }
    lines.extend(diff.manual.iter().map(|(name, change)| {
        let what = match change {
            ManualDiff::Added => "new",
            ManualDiff::Removed => "gone",
            ManualDiff::Replaced => "its mode, addresses or selectors changed: another pair is in its place",
            ManualDiff::Changed { outbound: true, inbound: false } => "what we send with is another one now",
            ManualDiff::Changed { outbound: false, .. } => "what the peer sends with is another one now",
            ManualDiff::Changed { .. } => "both are others now",
        };
        format!("{name}: {what}")
    }));
    if diff.policies {
        lines.push("policies: changed".to_owned());
    }
    if lines.is_empty() && diff.bared.is_empty() && diff.opened.is_empty() {
        lines.push("nothing changed".to_owned());
    }
    lines
}

/// What a reload lets pass in clear, a line each.
pub(crate) fn openings(diff: &Diff) -> Vec<String> {
    let mut lines: Vec<_> = diff.bared.iter().map(boundary::bared).collect();
    lines.extend(diff.opened.iter().map(|(local, remote)| {
        format!(
            "{local} with {remote}: no child has all of that any more, what none has is let in in clear from now on unless \
             a policy discards it"
        )
    }));
    lines
}

#[cfg(test)]
mod tests {
    use gateway_core::cause::Kind;

    use super::*;

    #[test]
    fn f_78_what_cannot_be_read_is_named_by_its_header() {
        let mut message = [0; 28];
        message[17..20].copy_from_slice(&[0x20, 35, 0x20]);
        message[23] = 1;
        message[27] = 28;
        assert_eq!(heard(None, &message), "IKE_AUTH response 1, not read");
        assert_eq!(heard(None, &message[..20]), "what is no IKE message");
    }

    #[test]
    fn f_78_a_line_has_the_code_of_its_cause_once() {
        let cause = Cause { code: "peer-silent", text: "no answer".into(), hint: "look".into(), kind: Kind::Absence };
        let report = Report {
            peer: Some("cloud".into()),
            child: None,
            what: What::Failed { remote: Some(([192, 0, 2, 1], 500).into()) },
            cause: Some(cause),
        };
        // The code is a field of its own beside it.
        assert_eq!(text(&report), "not connected to 192.0.2.1:500: no answer; look");
    }

    #[test]
    fn f_78_a_child_that_is_not_rekeyed_is_not_called_an_ike_sa() {
        let failed = |child: Option<&str>| {
            let (peer, child) = (Some("cloud".to_owned()), child.map(str::to_owned));
            text(&Report { peer, child, what: What::RekeyFailed, cause: None })
        };
        // Its name is a field of its own beside it.
        assert_eq!((failed(Some("net")).as_str(), failed(None).as_str()), ("not rekeyed", "IKE SA not rekeyed"));
    }

    #[test]
    fn f_34_a_rekey_that_failed_is_something_that_failed() {
        let failed = |what: What, child: Option<&str>| {
            let report = Report { peer: Some("cloud".into()), child: child.map(Into::into), what, cause: None };
            failed(&report).map(|failed| format!("{failed:?}"))
        };
        assert_eq!(failed(What::RekeyFailed, Some("net")).unwrap(), "Rekey(\"net\")");
        assert_eq!(failed(What::RekeyFailed, None).unwrap(), "IkeRekey");
        assert_eq!(failed(What::ChildFailed, Some("net")).unwrap(), "Child(\"net\")");
        assert_eq!(failed(What::ChildDown, Some("net")).unwrap(), "Down(\"net\")");
        assert_eq!(failed(What::Failed { remote: None }, None).unwrap(), "Handshake");
        assert_eq!(failed(What::Closed, None).unwrap(), "Closed");
        // What goes on is another connection, and has not been rekeyed.
        assert_eq!(failed(What::Merged, None).unwrap(), "Closed");
        // The peer asked for it: nobody here waits for that.
        assert_eq!(failed(What::ChildFailed, None), None);
    }

    #[test]
    fn f_83_an_event_names_its_subject_and_its_cause() {
        let cause = Cause { code: "peer-silent", text: "no answer".into(), hint: String::new(), kind: Kind::Absence };
        let (peer, child) = (Some("cloud".to_owned()), Some("net".to_owned()));
        let told =
            event(&Report { peer: peer.clone(), child: child.clone(), what: What::ChildFailed, cause: Some(cause) });
        assert_eq!((told.peer, told.child, told.event.as_str()), (peer, child, "child-failed"));
        assert_eq!(told.cause.unwrap().code, "peer-silent");
        assert!(told.time.starts_with("20") && told.time.ends_with('Z') && told.time.contains('T'), "{}", told.time);
        assert!(told.text.contains("cloud/net: not up: no answer"), "{}", told.text);
    }

    #[test]
    fn f_81_a_reload_says_what_changed_and_what_follows() {
        let diff = Diff {
            peers: vec![
                ("a".into(), PeerDiff::Replaced),
                ("b".into(), PeerDiff::Changed { children: vec![("net".into(), ChildDiff::Replaced)] }),
                ("c".into(), PeerDiff::Changed { children: Vec::new() }),
            ],
            manual: vec![("sa/0x00002001".into(), ManualDiff::Replaced)],
            bared: vec!["10.1.0.0/16".into()],
            opened: vec![("10.2.0.0/16".into(), "10.3.0.0/16".into())],
            ..Diff::default()
        };
        assert_eq!(
            changes(&diff),
            [
                "a: its addresses, identities, key, encap or ike changed: closed, and connected anew unless `down` holds it",
                "b/net: its selectors, mode, esp or compress changed: deleted, and negotiated anew unless `down` holds it",
                "c: dpd, rekey or start changed, its SAs go on",
                "sa/0x00002001: its mode, addresses or selectors changed: another pair is in its place",
            ]
        );
        assert_eq!(
            openings(&diff),
            [
                "10.1.0.0/16: no child has it any more, it is in clear from now on unless a policy discards it",
                "10.2.0.0/16 with 10.3.0.0/16: no child has all of that any more, what none has is let in in clear from now \
                 on unless a policy discards it",
            ]
        );
    }
}
