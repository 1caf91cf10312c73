//! Peers that refuse what others take, and what becomes of the connection and its other children.

use std::collections::BTreeSet;
use std::time::Duration;

use gateway_core::gateway::{Parts, What};
use ike_core::failure::Failure;

use crate::overheard::sealed;
use crate::secs;
use crate::world::{Flight, RIGHT, Site, World, config, packet, parts, peer, second};

/// What the right side is made to refuse, as no gateway does.
pub(crate) enum Refusal {
    /// Each CREATE_CHILD_SA, with this notification and its data; the requests, by IKE SA and number.
    Children(u16, &'static [u8], BTreeSet<Vec<u8>>),
    /// With a child that it refuses the whole connection, with this notification.
    Connections(u16),
    /// Each CREATE_CHILD_SA, without a word.
    Silence,
    /// The same, and each call.
    Deafness,
}

pub(crate) const NO_ADDITIONAL_SAS: u16 = 35;
const INVALID_KE_PAYLOAD: u16 = 17;
const NO_PROPOSAL_CHOSEN: u16 = 14;
const TS_UNACCEPTABLE: u16 = 38;
const AUTHENTICATION_FAILED: u16 = 24;

/// Places in the header.
const EXCHANGE: usize = 18;
const FLAGS: usize = 19;
const RESPONSE: u8 = 0x20;
const IKE_SA_INIT: u8 = 34;
const IKE_AUTH: u8 = 35;
const CREATE_CHILD_SA: u8 = 36;
const INFORMATIONAL: u8 = 37;

fn notify(kind: u16, data: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 8 + data.len() as u8, 0, 0][..], &kind.to_be_bytes(), data].concat()
}

impl World {
    /// Puts the refusal in the place of what goes by.
    pub(crate) fn refuse(&mut self, flight: &mut Flight) {
        let Flight { to, esp: false, octets, .. } = flight else { return };
        let (right, answer) = (to.ip().to_string() == RIGHT, octets[FLAGS] & RESPONSE != 0);
        let mut header = octets[..24].to_vec();
        let name = || [&octets[..16], &octets[20..24]].concat();
        match &mut self.refusal {
            // The right side sees a question whether it lives, so that it counts the messages as the left one does.
            Some(Refusal::Children(.., refused)) if right && !answer && octets[EXCHANGE] == CREATE_CHILD_SA => {
                refused.insert(name());
                header[EXCHANGE] = INFORMATIONAL;
                flight.octets = sealed(&header, 0, &[]);
            }
            Some(Refusal::Deafness) if right && !answer && octets[EXCHANGE] == IKE_SA_INIT => flight.octets.clear(),
            Some(Refusal::Silence | Refusal::Deafness) if right && !answer && octets[EXCHANGE] == CREATE_CHILD_SA => {
                flight.octets.clear()
            }
            Some(Refusal::Children(kind, data, refused)) if !right && answer && refused.contains(&name()) => {
                header[EXCHANGE] = CREATE_CHILD_SA;
                flight.octets = sealed(&header, 41, &notify(*kind, data));
            }
            Some(Refusal::Connections(kind)) if !right && answer && octets[EXCHANGE] == IKE_AUTH => {
                let site = &mut self.right;
                let spi = u64::from_be_bytes(octets[8..16].try_into().unwrap());
                let ike = site.endpoint.ike_sas().find(|ike| ike.spi_local == spi).unwrap().id;
                if site.endpoint.child_sas().all(|sa| sa.ike != ike) {
                    flight.octets = sealed(&header, 41, &notify(*kind, &[]));
                    site.endpoint.abandon(self.now, ike, Failure::ClosedHere).unwrap();
                }
            }
            _ => {}
        }
    }
}

pub(crate) fn renewing(what: &What) -> bool {
    *what == What::Renewing
}

/// The left site calls, the right one makes no Child SA but with an IKE SA.
fn with_ike_sas_only(left: &str, (kind, data): (u16, &'static [u8])) -> World {
    let mut world = World::new(left, &peer(false, "start = \"passive\"", ""));
    world.refusal = Some(Refusal::Children(kind, data, BTreeSet::new()));
    let mut world = world.start();
    world.ping();
    world
}

pub(crate) const TEMPORARY_FAILURE: u16 = 43;
const REFUSALS: [(u16, &[u8]); 2] = [(NO_ADDITIONAL_SAS, &[]), (INVALID_KE_PAYLOAD, &[0, 14])];

#[test]
fn f_61_a_child_whose_rekeys_are_refused_for_any_reason_is_carried_on_by_a_new_ike_sa_before_its_end() {
    for refusal in REFUSALS {
        let mut world = with_ike_sas_only(&peer(true, "", "rekey = \"60s\"\nlifetime = \"90s\""), refusal);
        for _ in 0..300 {
            world.pass(secs(1));
            world.ping();
        }
        assert!(world.left.told(renewing) > 0, "{}", world.story());
        assert_eq!(world.left.told(|what| *what == What::ChildDown), 0, "{}", world.story());
    }
}

#[test]
fn f_61_a_child_that_ended_and_is_refused_for_any_reason_comes_back_with_a_new_ike_sa() {
    for refusal in REFUSALS {
        let mut world = with_ike_sas_only(&peer(true, "", ""), refusal);
        world.pass(secs(60));
        world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
        world.exchange();
        assert!(world.left.told(|what| *what == What::ChildDown) > 0, "{}", world.story());
        world.pass(secs(10));
        world.ping();
        assert_eq!(world.left.told(renewing), 1, "{}", world.story());
    }
}

#[test]
fn f_61_a_child_that_is_taken_down_while_it_is_asked_for_is_no_reason_to_connect_anew() {
    let mut world = with_ike_sas_only(&peer(true, "", ""), REFUSALS[0]);
    world.pass(secs(60));
    world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
    world.exchange();
    world.left.gateway.up(world.now, "other/net", parts!(world.left)).unwrap();
    world.left.gateway.down(world.now, "other/net", parts!(world.left)).unwrap();
    world.pass(secs(300));
    assert_eq!(world.left.told(renewing), 0, "{}", world.story());
}

#[test]
fn f_61_a_child_that_a_new_connection_does_not_bring_back_costs_ever_fewer_of_them_whatever_its_neighbours_do() {
    let esp = |net: &str| format!("esp = \"{net}\"");
    let right = |net: &str| peer(false, "start = \"passive\"", &esp(net)) + &second(4, 3);
    let left = peer(true, "", &esp("aes256gcm16")) + &second(3, 4);
    let mut world = World::new(&left, &right("aes256gcm16")).start();
    world.pass(secs(60));
    world.ping();
    world.right.gateway.reload(world.now, config(&right("aes128gcm16")), parts!(world.right)).1.unwrap();
    world.pass(secs(3600));
    // After pauses of 1, 2, 4, 8, 16 and 32 minutes.
    let renewed = world.left.told(renewing);
    assert!((5..=7).contains(&renewed), "{renewed}\n{}", world.story());
    assert_eq!(world.send(true, &packet(3, 4, b"two")), Ok(()), "{}", world.story());
    // Agreed with again, it is trusted again.
    world.right.gateway.reload(world.now, config(&right("aes256gcm16")), parts!(world.right)).1.unwrap();
    world.pass(secs(70));
    world.right.received.clear();
    world.ping();
    world.right.gateway.reload(world.now, config(&right("aes128gcm16")), parts!(world.right)).1.unwrap();
    world.pass(secs(10));
    assert_eq!(world.left.told(renewing), renewed + 1, "{}", world.story());
}

#[test]
fn f_61_a_child_that_a_reload_changed_comes_back_with_a_new_ike_sa_too() {
    let mut world = with_ike_sas_only(&peer(true, "", ""), REFUSALS[0]);
    world.pass(secs(60));
    let narrower = peer(true, "", "").replace("\"10.2.0.0/16\"", "\"10.2.0.0/17\"");
    world.left.gateway.reload(world.now, config(&narrower), parts!(world.left)).1.unwrap();
    world.pass(secs(10));
    world.ping();
}

#[test]
fn f_53_a_child_for_whose_sake_the_peer_refuses_the_whole_connection_keeps_no_other_one_down() {
    // Two children before the one that the peer takes, wrong in either way.
    let left = |wrong: &str| {
        let good = peer(true, "", "");
        let (head, net) = good.split_at(good.find("[[peer.child]]").unwrap());
        let bad = second(3, 4) + wrong;
        let worse = bad.replace("two", "three").replace("10.3.", "10.5.").replace("10.4.", "10.6.");
        format!("{head}{bad}\n{worse}\n{net}")
    };
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3) + "esp = \"aes256gcm16\"\n";
    for (wrong, refusal) in [("esp = \"aes128gcm16\"", NO_PROPOSAL_CHOSEN), ("", TS_UNACCEPTABLE)] {
        let right = if wrong.is_empty() { right.replace("10.3.0.0/16", "10.9.0.0/16") } else { right.clone() };
        let mut world = World::new(&left(wrong), &right);
        world.refusal = Some(Refusal::Connections(refusal));
        let mut world = world.start();
        world.pass(secs(20));
        world.ping();
        assert_eq!(world.left.told(failed), 2, "{}", world.story());
        // Nor does it when the connection was lost: it begins with what the peer took.
        world.right.gateway.down(world.now, "other", parts!(world.right)).unwrap();
        world.pass(secs(5));
        world.ping();
        assert_eq!(world.left.told(failed), 2, "{}", world.story());
    }
}

#[test]
fn f_61_a_child_for_whose_sake_the_peer_refuses_a_new_connection_does_not_keep_it_from_coming_about() {
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3);
    let mut world = World::new(&(peer(true, "", "") + &second(3, 4)), &right).start();
    world.pass(secs(60));
    world.refusal = Some(Refusal::Connections(TS_UNACCEPTABLE));
    let other = right.replace("\"10.2.0.0/16\"", "\"10.9.0.0/16\"");
    world.right.gateway.reload(world.now, config(&other), parts!(world.right)).1.unwrap();
    world.pass(secs(300));
    assert_eq!(world.send(true, &packet(3, 4, b"two")), Ok(()), "{}", world.story());
    assert_eq!(world.left.told(failed), world.left.told(renewing), "{}", world.story());
    assert!(world.left.told(renewing) <= 3, "{}", world.story());
}

#[test]
fn f_61_a_child_that_was_up_and_is_refused_with_a_new_connection_is_not_asked_for_with_another_one_at_once() {
    let right = peer(false, "start = \"passive\"", "");
    let mut world = World::new(&peer(true, "start = \"on-demand\"", ""), &right).start();
    world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap();
    world.pass(secs(60));
    world.ping();
    world.left.gateway.down(world.now, "other", parts!(world.left)).unwrap();
    world.pass(secs(60));
    let other = right.replace("\"10.2.0.0/16\"", "\"10.9.0.0/16\"");
    world.right.gateway.reload(world.now, config(&other), parts!(world.right)).1.unwrap();
    world.left.gateway.up(world.now, "other", parts!(world.left)).unwrap();
    world.pass(secs(20));
    assert_eq!(world.left.told(|what| *what == What::ChildFailed), 1, "{}", world.story());
    assert_eq!((world.left.told(renewing), world.left.endpoint.ike_sas().count()), (0, 1), "{}", world.story());
}

pub(crate) fn down(what: &What) -> bool {
    *what == What::ChildDown
}

fn failed(what: &What) -> bool {
    matches!(what, What::Failed { .. })
}

#[test]
fn f_61_a_child_that_the_peer_takes_and_deletes_at_once_is_no_more_welcome_by_that() {
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3);
    for refused in [true, false] {
        let mut world = World::new(&(peer(true, "", "") + &second(3, 4)), &right).start();
        if refused {
            let (kind, data) = REFUSALS[0];
            world.refusal = Some(Refusal::Children(kind, data, BTreeSet::new()));
        }
        for _ in 0..3600 {
            world.pass(secs(1));
            if world.right.child("other", "net").2 {
                world.right.gateway.down(world.now, "other/net", parts!(world.right)).unwrap();
                world.exchange();
            }
        }
        // After pauses of 1, 2, 4, .. minutes anew, or asked for once a minute.
        let renewed = world.left.told(renewing);
        assert!(renewed <= 8 && (renewed > 4) == refused, "{renewed}\n{}", world.story());
        let up = world.left.told(|what| matches!(what, What::ChildUp { .. }));
        assert!(up <= 100, "{up}\n{}", world.story());
        assert_eq!(world.send(true, &packet(3, 4, b"two")), Ok(()), "{}", world.story());
    }
}

/// A child more, of the left side or the right one.
fn another(net: u8, left: bool, lines: &str) -> String {
    let (ours, theirs) = if left { (1, 2) } else { (2, 1) };
    format!(
        "[[peer.child]]\nname = \"n{net}\"\nlocal-ts = \"10.{ours}0.{net}.0/24\"\n\
         remote-ts = \"10.{theirs}0.{net}.0/24\"\n{lines}\n"
    )
}

/// The left site calls, with so many children more, and after a minute the right one has other lines for its children. The
/// lines are those of the first child and of the others.
fn with_many(count: u8, left: [&str; 2], right: [&str; 2]) -> World {
    let site = |left: bool, lines: &str, [first, others]: [&str; 2]| {
        peer(left, lines, first) + &(0..count).map(|net| another(net, left, others)).collect::<String>()
    };
    let passive = "start = \"passive\"";
    let (left, begun, right) = (site(true, "", left), site(false, passive, [""; 2]), site(false, passive, right));
    let mut world = World::new(&left, &begun);
    world.left = Site::with_tables(1, &left, 64, [32, 64, 64]);
    world.right = Site::with_tables(2, &begun, 64, [32, 64, 64]);
    let mut world = world.start();
    world.pass(secs(60));
    assert_eq!(world.left.plane.inbound.sas().count(), 1 + usize::from(count), "{}", world.story());
    world.right.gateway.reload(world.now, config(&right), parts!(world.right)).1.unwrap();
    world
}

#[test]
fn f_61_many_children_that_a_new_connection_does_not_bring_back_cost_no_more_of_them_than_one() {
    let mut world = with_many(8, ["", "esp = \"aes256gcm16\""], ["", "esp = \"aes128gcm16\""]);
    world.pass(secs(3600));
    let renewed = world.left.told(renewing);
    assert!((5..=8).contains(&renewed), "{renewed}\n{}", world.story());
    world.ping();
}

#[test]
fn f_61_more_children_than_a_peer_mostly_has_ike_sas_are_carried_on_by_one_each() {
    // Perfect forward secrecy with another group: IKE_AUTH, where no group is agreed on, brings each of them.
    let (ours, theirs) = ("esp = \"aes256gcm16\"\nrekey = \"10m\"", "esp = \"aes256gcm16-ecp256\"");
    let mut world = with_many(9, [ours; 2], [theirs; 2]);
    world.pass(secs(600));
    let before = world.left.told(down);
    for _ in 0..7200 {
        world.pass(secs(1));
    }
    assert_eq!(world.left.told(down), before, "{}", world.story());
    let standing = world.left.endpoint.ike_sas().filter(|ike| ike.since.is_some()).count();
    assert!((10..=12).contains(&standing), "{standing}\n{}", world.story());
    world.ping();
}

#[test]
fn f_61_a_renewal_that_the_peer_refuses_is_one_in_vain_and_none_is_tried_once_the_child_is_up() {
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3);
    let mut world = World::new(&(peer(true, "", "") + &second(3, 4)), &right).start();
    world.pass(secs(60));
    world.refusal = Some(Refusal::Connections(AUTHENTICATION_FAILED));
    let other = right.replace("\"10.2.0.0/16\"", "\"10.9.0.0/16\"");
    world.right.gateway.reload(world.now, config(&other), parts!(world.right)).1.unwrap();
    world.pass(secs(3600));
    let tried = world.left.told(failed);
    assert!((5..=8).contains(&tried), "{tried}\n{}", world.story());
    assert_eq!(world.send(true, &packet(3, 4, b"two")), Ok(()), "{}", world.story());
    world.right.gateway.reload(world.now, config(&right), parts!(world.right)).1.unwrap();
    world.pass(secs(100));
    world.right.received.clear();
    world.ping();
    world.pass(secs(1800));
    assert_eq!(world.left.told(failed), tried, "{}", world.story());
}

/// The peer sends on, and answers whatever else it is asked than rekeys, of the IKE SA or of its child. Nothing is lost for so
/// many seconds.
fn without_an_answer(calls: bool, ike: bool, seconds: u32) -> World {
    let (left, right) = if calls { ("", "start = \"passive\"") } else { ("start = \"passive\"", "") };
    let (of_ike, of_child) = if ike { ("rekey = \"10m\"", "rekey = \"8h\"") } else { ("", "rekey = \"10m\"") };
    let left = peer(true, &format!("{left}\n{of_ike}"), of_child);
    let mut world = World::new(&left, &peer(false, right, "rekey = \"8h\"")).start();
    world.refusal = Some(Refusal::Silence);
    for _ in 0..seconds {
        world.pass(secs(1));
        world.ping();
    }
    assert_eq!(world.left.told(down), 0, "{}", world.story());
    assert!(world.left.told(|what| *what == What::Waiting) > 0, "{}", world.story());
    world
}

#[test]
fn f_45_what_is_carried_where_a_rekey_stays_unanswered_is_carried_on_by_a_connection_beside_it() {
    for ike in [true, false] {
        let world = without_an_answer(true, ike, 3600);
        assert!(world.left.told(renewing) > 3, "{}", world.story());
        assert!(world.left.endpoint.ike_sas().count() <= 2, "{}", world.story());
    }
}

/// A second child that no answer ever comes to, beside one that carries on for so many seconds: how often the connection is
/// made anew. `then`: what the peer answers to nothing more once it is connected.
fn renewals(child: &str, then: Refusal, seconds: u32) -> (usize, World) {
    let right = peer(false, "start = \"passive\"", "rekey = \"8h\"") + &second(4, 3);
    let mut world = World::new(&(peer(true, "", child) + &second(3, 4)), &right);
    world.refusal = Some(Refusal::Silence);
    let mut world = world.start();
    world.refusal = Some(then);
    for _ in 0..seconds {
        world.pass(secs(1));
        world.ping();
    }
    (world.left.told(renewing), world)
}

#[test]
fn f_45_a_child_that_no_answer_comes_to_costs_ever_fewer_connections_while_another_goes_on() {
    let (tried, world) = renewals("", Refusal::Silence, 7200);
    assert!((4..=9).contains(&tried), "{tried}\n{}", world.story());
}

#[test]
fn f_45_where_no_other_connection_comes_about_either_they_are_tried_ever_more_rarely() {
    let (tried, world) = renewals("", Refusal::Deafness, 3000);
    assert!((3..=9).contains(&tried), "{tried}\n{}", world.story());
}

#[test]
fn f_45_a_child_that_is_to_be_rekeyed_does_not_wait_for_one_that_no_answer_comes_to() {
    let (tried, world) = renewals("rekey = \"10m\"", Refusal::Silence, 7200);
    assert!((12..=24).contains(&tried), "{tried}\n{}", world.story());
}

#[test]
fn f_45_a_child_that_is_to_be_rekeyed_and_never_ends_calls_a_deaf_peer_no_more_often_than_once_a_minute() {
    let (tried, world) = renewals("rekey = \"10m\"\nlifetime = \"0s\"", Refusal::Deafness, 3600);
    assert!((20..=60).contains(&tried), "{tried}\n{}", world.story());
}

#[test]
fn f_45_what_is_carried_where_a_rekey_stays_unanswered_and_the_peer_calls_is_carried_to_its_end_and_then_called_for() {
    without_an_answer(false, true, 3600);
    let mut world = without_an_answer(false, false, 650);
    let mut lost = 0;
    for _ in 0..3600 {
        world.pass(secs(1));
        let sent = world.send(false, &packet(2, 1, b"on and on"));
        lost += u32::from(sent != Ok(()) || world.left.received.pop().is_none());
    }
    assert!(world.left.told(down) > 0 && lost <= 12, "{lost} s\n{}", world.story());
}

#[test]
fn f_61_children_that_take_the_only_connection_from_each_other_do_so_ever_more_rarely() {
    let right = peer(false, "start = \"passive\"", "") + &second(4, 3);
    let left = peer(true, "", "rekey = \"10m\"") + &second(3, 4);
    let mut world = World::new(&left, &right).start();
    let (kind, data) = REFUSALS[0];
    world.refusal = Some(Refusal::Children(kind, data, BTreeSet::new()));
    for _ in 0..3600 {
        world.pass(secs(1));
        // It keeps the newest connection only.
        let mut open: Vec<_> = world.right.endpoint.ike_sas().filter(|ike| ike.since.is_some()).collect();
        open.sort_by_key(|ike| ike.since);
        open.pop();
        for ike in open {
            let _ = world.right.endpoint.close(world.now, ike.id);
        }
        world.exchange();
        let up = ["net", "two"].map(|child| world.left.child("other", child).2);
        assert!(up.contains(&true), "{}", world.story());
    }
    let renewed = world.left.told(renewing);
    assert!((4..=10).contains(&renewed), "{renewed}\n{}", world.story());
}

#[test]
fn f_61_a_child_that_the_last_renewal_helped_does_not_suffer_from_one_that_it_does_not() {
    let esp = |net: &str| format!("esp = \"{net}\"");
    let right = |two: &str| peer(false, "start = \"passive\"", &esp("aes256gcm16-ecp256")) + &second(4, 3) + &esp(two);
    let left = peer(true, "", "esp = \"aes256gcm16\"\nrekey = \"10m\"") + &second(3, 4) + &esp("aes256gcm16");
    // Before and after it was itself carried on by one.
    for began in [60, 900] {
        let mut world = World::new(&left, &right("aes256gcm16")).start();
        world.pass(secs(began));
        world.right.gateway.reload(world.now, config(&right("aes128gcm16")), parts!(world.right)).1.unwrap();
        let before = world.left.told(down);
        for _ in 0..7200 {
            world.pass(secs(1));
        }
        assert_eq!(world.left.told(down), before + 1, "{began}\n{}", world.story());
        world.ping();
    }
}

#[test]
fn f_61_a_child_whose_rekeys_for_an_amount_are_refused_is_carried_on_by_a_new_ike_sa_before_that_is_used_up() {
    let limited = peer(true, "", "rekey-packets = 1000");
    let mut world = with_ike_sas_only(&limited, REFUSALS[0]);
    // The amount lasts for eight seconds, which leaves two for the rekey.
    for _ in 0..100 * 125 {
        let _ = world.send(true, &packet(1, 2, b"much"));
        world.pass(Duration::from_millis(8));
        world.right.received.clear();
    }
    assert_eq!(world.left.told(down), 0, "{}", world.story());
    let renewed = world.left.told(renewing);
    assert!((10..=13).contains(&renewed), "{renewed}\n{}", world.story());
}

/// Two children of which IKE_AUTH alone brings the first here, and the right side takes the second no more after a minute.
fn with_a_neighbour_in_vain(order: [&str; 2]) -> World {
    let esp = |net: &str| format!("esp = \"{net}\"");
    let right = |two: &str| peer(false, "start = \"passive\"", &esp("aes256gcm16-ecp256")) + &second(4, 3) + &esp(two);
    let net = peer(true, "", "esp = \"aes256gcm16\"\nrekey = \"10m\"");
    let (head, net) = net.split_at(net.find("[[peer.child]]").unwrap());
    let two = second(3, 4) + &esp("aes256gcm16") + "\n";
    let children = order.map(|name| if name == "net" { net } else { &two }).concat();
    let mut world = World::new(&format!("{head}{children}"), &right("aes256gcm16")).start();
    world.pass(secs(60));
    world.right.gateway.reload(world.now, config(&right("aes128gcm16")), parts!(world.right)).1.unwrap();
    world
}

#[test]
fn f_61_a_lost_connection_comes_back_with_a_child_that_the_peer_takes_and_not_with_the_first_of_the_file() {
    let mut world = with_a_neighbour_in_vain(["two", "net"]);
    world.pass(secs(3600));
    world.cut = true;
    world.pass(secs(300));
    assert!(!world.left.child("other", "net").2, "{}", world.story());
    world.cut = false;
    world.pass(secs(120));
    world.ping();
}

#[test]
fn f_61_a_renewal_that_nobody_answered_is_none_that_was_in_vain() {
    let mut world = with_a_neighbour_in_vain(["net", "two"]);
    let story = |world: &World| (world.left.told(renewing), world.left.told(down));
    world.pass(secs(3600));
    // Nothing of the next one that is for its sake arrives.
    let (renewed, _) = story(&world);
    world.left.gateway.rekey(world.now, "other/net", false, parts!(world.left)).unwrap().unwrap();
    let begun = |world: &World| world.left.endpoint.ike_sas().find(|ike| ike.since.is_none());
    while world.left.told(renewing) == renewed || begun(&world).is_none() {
        assert!(world.step(), "{}", world.story());
    }
    world.drop_spi = begun(&world).map(|ike| ike.spi_local.to_be_bytes());
    let before = world.left.told(failed);
    while world.left.told(failed) == before {
        world.pass(secs(1));
    }
    world.drop_spi = None;
    let (_, ended) = story(&world);
    world.pass(secs(3600));
    assert_eq!(story(&world).1, ended, "{}", world.story());
    world.ping();
}

#[test]
fn f_61_a_child_whose_amount_passes_in_seconds_is_made_again_as_often_as_that_takes() {
    let mut world = with_ike_sas_only(&peer(true, "", "rekey-packets = 1000"), REFUSALS[0]);
    let mut passed = 0;
    let mut last = 0;
    for count in 0..300_000 / 3 {
        if world.send(true, &packet(1, 2, b"much")) == Ok(()) {
            passed += 1;
            last = count;
        }
        world.pass(Duration::from_millis(3));
        world.right.received.clear();
    }
    assert!(passed > 50_000 && last > 99_000, "{passed} of 100000, the last one was {last}\n{}", world.story());
}
