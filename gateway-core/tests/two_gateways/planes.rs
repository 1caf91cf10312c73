//! What a gateway asks of a data plane, in which order, and what it makes of the answers.

use std::time::Duration;

use gateway_core::gateway::{Parts, Totals, What};
use gateway_core::plane::{Half, Pair, PlaneEvent, Refused};
use ipsec_core::time::Instant;

use crate::recording::{Side, Step, Two};
use crate::world::{config, parts, peer, second};
use crate::{secs, up};

use Half::{Inbound, Outbound};
use Step::{Installed, Removed, Rules, Sent};

fn two(child: &str) -> Two {
    Two::new(&peer(true, "", child), &peer(false, "start = \"passive\"", child))
}

fn connected(child: &str) -> Two {
    let mut two = two(child);
    two.exchange();
    assert_eq!((two.left.plane.there.len(), two.right.plane.there.len()), (2, 2), "{:?}", two.left.told());
    two
}

/// A connection with ten children, all up.
fn ten_children() -> Two {
    let named = |number: u8, child: String| child.replace("two", &format!("n{number}"));
    let ours: String = (100..109).map(|number| named(number, second(1, number))).collect();
    let theirs: String = (100..109).map(|number| named(number, second(number, 1))).collect();
    let mut two = Two::new(&(peer(true, "", "") + &ours), &(peer(false, "start = \"passive\"", "") + &theirs));
    two.pass(secs(2));
    assert_eq!(two.left.plane.pairs().len(), 10, "{:#?}", two.left.told());
    two
}

/// Of what happened, what the data plane was asked for.
fn asked(steps: &[Step]) -> Vec<Step> {
    steps.iter().copied().filter(|step| *step != Sent).collect()
}

fn ups(side: &Side) -> usize {
    side.story.iter().filter(|report| up(&report.what)).count()
}

#[test]
fn rules_come_before_sas_and_an_answer_leaves_behind_the_sas_that_it_makes() {
    let two = connected("");
    let [left, right] = [&two.left, &two.right].map(|side| side.plane.steps.clone());
    assert_eq!(asked(&left), [Rules(1), Installed(1, Inbound), Installed(1, Outbound)]);
    // The peer may send as soon as it has the answer.
    assert_eq!(right, [Rules(1), Sent, Installed(1, Inbound), Installed(1, Outbound), Sent]);
}

#[test]
fn e10_at_a_rekey_the_new_sas_come_before_the_old_ones_go_and_the_one_that_answers_sends_last() {
    let mut two = connected("");
    two.left.take_steps();
    two.right.take_steps();
    assert_eq!(two.left.gateway.rekey(two.now, "other/net", false, parts!(two.left)), Ok(Ok(())));
    two.exchange();
    two.pass(secs(40));
    // Who asks has both at once, sends no more through the old one, and takes what is on its way for a while.
    let asks = two.left.take_steps();
    let new = [Installed(2, Inbound), Installed(2, Outbound), Removed(1, Outbound), Removed(1, Inbound)];
    assert_eq!(asked(&asks), new);
    assert_eq!(asks.first(), Some(&Sent), "the question");
    // Who answers receives before the answer, and sends once the other one does, or deletes the old one.
    let answers = two.right.take_steps();
    assert_eq!(asked(&answers), new);
    assert_eq!(answers.get(..2), Some(&[Installed(2, Inbound), Sent][..]), "{answers:?}");
}

#[test]
fn f_81_a_reload_places_rules_before_it_takes_sas_away() {
    let mut two = connected("");
    two.left.take_steps();
    let other = config(&peer(true, "", "").replace("10.2.0.0/16", "10.2.7.0/24"));
    two.left.gateway.reload(two.now, other, parts!(two.left)).1.unwrap();
    two.exchange();
    let steps = asked(&two.left.take_steps());
    let gone = [Rules(1), Removed(1, Outbound), Removed(1, Inbound)];
    assert_eq!(steps.get(..3), Some(&gone[..]), "{steps:?}");
    assert_eq!(two.left.plane.pairs(), [2], "{:?}", two.left.told());
}

#[test]
fn f_81_what_a_reload_takes_away_is_closed_both_ways_before_anybody_is_told() {
    let only = config(&peer(true, "", ""));
    for (later, after) in [(false, only), (true, config(""))] {
        let mut two = ten_children();
        two.left.plane.later = later;
        two.left.take_steps();
        let left = after.peers.len();
        two.left.gateway.reload(two.now, after, parts!(two.left)).1.unwrap();
        two.exchange();
        let steps = two.left.take_steps();
        let before = steps.split(|step| *step == Sent).next().unwrap_or_default();
        let removed = |half| before.iter().filter(|step| matches!(step, Removed(_, of) if *of == half)).count();
        assert_eq!([removed(Inbound), removed(Outbound)], [10 - left; 2], "{steps:?}");
        assert!(matches!(before.first(), Some(Rules(_))) && steps.contains(&Sent), "{steps:?}");
    }
}

#[test]
fn a_child_is_up_when_a_plane_that_answers_later_has_said_so_of_both_halves() {
    let mut two = two("");
    two.left.plane.later = true;
    two.right.plane.later = true;
    let outcome = |two: &mut Two| {
        two.left.gateway.outcome("other", &Parts { endpoint: &mut two.left.endpoint, plane: &mut two.left.plane })
    };
    two.carry_messages();
    assert_eq!((ups(&two.left), outcome(&mut two)), (0, Ok(None)), "nothing was answered");
    two.exchange();
    assert_eq!((ups(&two.left), ups(&two.right), outcome(&mut two)), (1, 1, Ok(Some(Ok(())))));
    // What is said twice, or of what is gone, changes nothing.
    for pair in [Pair(1), Pair(77)] {
        let event = PlaneEvent::Installed { pair, half: Inbound };
        two.left.gateway.handle_plane(two.now, event, parts!(two.left));
    }
    two.exchange();
    assert_eq!(ups(&two.left), 1);
    assert_eq!(two.left.gateway.rekey(two.now, "other/net", false, parts!(two.left)), Ok(Ok(())));
    two.pass(secs(40));
    assert_eq!((two.left.plane.pairs(), two.right.plane.pairs()), (vec![2], vec![2]));
}

#[test]
fn what_a_plane_refuses_later_is_told_as_not_up_and_leaves_no_half_behind() {
    for half in [Inbound, Outbound] {
        let mut two = two("");
        two.left.plane.later = true;
        two.left.plane.refuses = Some(half);
        two.exchange();
        let told = two.left.told();
        assert_eq!((ups(&two.left), two.left.plane.there.len()), (0, 0), "{half:?} {told:#?}");
        let failed = |line: &&String| line.starts_with("other/net: not up") && line.contains("it is full");
        assert_eq!(told.iter().filter(failed).count(), 1, "{told:#?}");
        assert!(two.left.story.iter().all(|report| report.what != What::ChildDown), "{told:#?}");
        assert_eq!(two.right.plane.there.len(), 0, "the peer has it no more");
        // It comes when there is room.
        two.left.plane.refuses = None;
        two.pass(secs(5));
        assert_eq!((ups(&two.left), two.left.plane.there.len()), (1, 2), "{:#?}", two.left.told());
    }
}

#[test]
fn what_ends_before_a_plane_has_answered_is_told_as_not_up_and_comes_back_after_a_pause() {
    let mut two = two("");
    two.left.plane.later = true;
    two.carry_messages();
    assert_eq!(two.left.plane.pairs(), [1]);
    two.right.gateway.down(two.now, "other/net", parts!(two.right)).unwrap();
    // Who answered deletes nothing of which it is not known that the other one has it.
    two.linger(Duration::from_millis(10_500));
    let told = two.left.told();
    assert_eq!(two.left.plane.there.len(), 0, "asked for again at once: {told:#?}");
    let failed = told.iter().filter(|line| line.starts_with("other/net: not up")).count();
    assert_eq!((failed, ups(&two.left)), (1, 0), "{told:#?}");
    two.pass(secs(5));
    assert_eq!((ups(&two.left), two.left.plane.pairs().len()), (1, 1), "{:#?}", two.left.told());
}

#[test]
fn a_child_whose_fresh_sa_a_plane_refuses_later_is_told_as_down() {
    for (later, half) in [(false, Inbound), (true, Inbound), (false, Outbound), (true, Outbound)] {
        let mut two = connected("");
        two.left.plane.later = later;
        two.left.plane.refuses = Some(half);
        assert_eq!(two.left.gateway.rekey(two.now, "other/net", false, parts!(two.left)), Ok(Ok(())));
        two.exchange();
        let downs = two.left.story.iter().filter(|report| report.what == What::ChildDown).count();
        assert_eq!(downs, 1, "later: {later}, {half:?}: {:#?}", two.left.told());
        two.left.plane.refuses = None;
    }
}

#[test]
fn what_went_through_a_child_never_becomes_less() {
    let mut two = connected("");
    two.left.plane.later = true;
    two.left.plane.carry(two.now, 100);
    let totals = |two: &mut Two| {
        let lent = parts!(two.left);
        two.left.gateway.status(lent).next().unwrap().children[0].totals
    };
    let before = totals(&mut two);
    assert_eq!((before.bytes_in, before.bytes_out), (100, 100));
    assert_eq!(two.left.gateway.rekey(two.now, "other/net", false, parts!(two.left)), Ok(Ok(())));
    two.carry_messages();
    assert_eq!(totals(&mut two), before, "while the old one drains");
    two.left.settle(two.now);
    assert_eq!(totals(&mut two), before);
    two.left.gateway.down(two.now, "other", parts!(two.left)).unwrap();
    assert_eq!(totals(&mut two), before, "while they go");
    two.exchange();
    assert_eq!(totals(&mut two), before);
}

#[test]
fn what_is_refused_once_it_was_asked_to_go_is_told_as_gone() {
    let mut two = two("");
    two.left.plane.later = true;
    two.carry_messages();
    assert_eq!(two.left.plane.pairs(), [1]);
    two.left.gateway.down(two.now, "other", parts!(two.left)).unwrap();
    for half in [Inbound, Outbound] {
        assert_eq!(two.left.gateway.poll_ended(), None, "{half:?}");
        let event = PlaneEvent::Refused { pair: Pair(1), half, why: Refused("it is full".to_owned()) };
        two.left.gateway.handle_plane(two.now, event, parts!(two.left));
    }
    let ended = two.left.gateway.poll_ended().map(|ended| (ended.pair, ended.totals));
    assert_eq!(ended, Some((Pair(1), Totals::default())));
}

#[test]
fn a_sending_half_that_is_refused_after_a_rekey_ends_the_sa() {
    let mut two = connected("");
    two.right.plane.later = true;
    two.right.plane.refuses = Some(Outbound);
    assert_eq!(two.left.gateway.rekey(two.now, "other/net", false, parts!(two.left)), Ok(Ok(())));
    two.pass(secs(1));
    assert!(two.right.told().iter().any(|line| line.contains("it is full")), "{:#?}", two.right.told());
    two.right.plane.refuses = None;
    two.pass(secs(60));
    assert_eq!(two.left.plane.pairs().len(), 1, "{:#?}", two.left.told());
}

#[test]
fn what_went_through_each_sa_is_told_once_at_its_end_on_an_account_that_no_number_changes() {
    for later in [false, true] {
        let mut two = connected("");
        two.left.plane.later = later;
        two.left.plane.carry(two.now, 100);
        assert_eq!(two.left.gateway.rekey(two.now, "other/net", false, parts!(two.left)), Ok(Ok(())));
        two.pass(secs(40));
        two.left.plane.carry(two.now, 7);
        // Another number for the child.
        let other = peer(true, "", "").replace("10.2.0.0/16", "10.2.7.0/24");
        two.left.gateway.reload(two.now, config(&other), parts!(two.left)).1.unwrap();
        two.exchange();
        two.left.plane.carry(two.now, 1);
        two.left.gateway.down(two.now, "other", parts!(two.left)).unwrap();
        two.exchange();
        let ended = std::mem::take(&mut two.left.ended);
        let told: Vec<_> =
            ended.iter().map(|ended| (ended.pair.0, ended.totals.bytes_in, ended.totals.bytes_out)).collect();
        assert_eq!(told, [(1, 100, 100), (2, 7, 7), (3, 1, 1)], "later: {later}");
        let accounts: Vec<_> = ended.iter().map(|ended| &*ended.account).collect();
        assert!(accounts.iter().all(|account| account == &accounts[0]), "{accounts:?}");
        let account = accounts[0];
        assert_eq!([&*account.peer, &account.child, &account.party], ["other", "net", "right.lab"]);
        assert!(ended.iter().all(|ended| ended.since < ended.until || ended.pair.0 == 3));
        let totals = totals(108, 3);
        assert_eq!(
            two.left.gateway.accounts(&two.left.plane).into_iter().collect::<Vec<_>>(),
            [(ended[0].account.clone(), totals)]
        );
        let lent = parts!(two.left);
        assert_eq!(two.left.gateway.status(lent).next().unwrap().children[0].totals, totals, "later: {later}");
    }
}

/// As much both ways.
fn totals(octets: u64, packets: u64) -> Totals {
    Totals { bytes_in: octets, bytes_out: octets, packets_in: packets, packets_out: packets }
}

#[test]
fn an_account_goes_on_when_its_child_was_not_configured_for_a_while_and_in_another_gateway() {
    let on_accounts = |two: &Two| two.left.gateway.accounts(&two.left.plane).into_values().collect::<Vec<_>>();
    let shown = |two: &mut Two| {
        let lent = parts!(two.left);
        two.left.gateway.status(lent).next().unwrap().children[0].totals
    };
    let mut two = connected("");
    assert_eq!(on_accounts(&two), []);
    two.left.plane.carry(two.now, 100);
    assert_eq!(on_accounts(&two), [totals(100, 1)], "what stands is counted");
    let before = two.left.gateway.accounts(&two.left.plane);
    let ours = peer(true, "", "");
    let renamed = ours.replace("name = \"net\"", "name = \"web\"");
    for (text, packets) in [(renamed, 0), (ours, 1)] {
        two.left.gateway.reload(two.now, config(&text), parts!(two.left)).1.unwrap();
        two.pass(secs(10));
        assert_eq!(shown(&mut two), totals(100 * packets, packets));
    }
    two.left.plane.carry(two.now, 7);
    assert_eq!((on_accounts(&two), shown(&mut two)), (vec![totals(107, 2)], totals(107, 2)));

    let mut again = connected("");
    again.left.gateway.bring_forward(before.into_iter().map(|(account, totals)| ((*account).clone(), totals)));
    again.left.plane.carry(again.now, 7);
    assert_eq!((on_accounts(&again), shown(&mut again)), (vec![totals(107, 2)], totals(107, 2)));
}

#[test]
fn f_34_an_end_that_nobody_asks_for_is_forgotten_and_those_of_one_call_are_not() {
    let mut two = ten_children();
    two.left.gateway.down(two.now, "other", parts!(two.left)).unwrap();
    assert_eq!(std::iter::from_fn(|| two.left.gateway.poll_ended()).count(), 10);
    assert_eq!(two.left.gateway.poll_ended(), None);
}

#[test]
fn f_32_a_timer_looks_at_the_sas_that_are_due_and_at_no_other() {
    let mut two = ten_children();
    let looks = |two: &mut Two, now: Instant| {
        two.left.plane.looks.set(0);
        two.left.gateway.handle_timeout(now, parts!(two.left));
        two.left.plane.looks.get()
    };
    let now = two.now;
    assert_eq!(looks(&mut two, now), 0, "none is due");
    // A sign of life is known to IKE before it asks for one.
    two.left.plane.carry(now + secs(15), 1);
    two.left.take_steps();
    two.pass(secs(40));
    let heard = two.left.endpoint.ike_sas().next().unwrap().heard;
    assert!(heard >= Some(now + secs(15)), "{heard:?}");
}

#[test]
fn news_of_what_goes_through_an_sa_is_a_sign_of_life_at_once() {
    let mut two = connected("");
    two.now = two.now + secs(3);
    two.left.plane.carry(two.now, 1);
    two.left.gateway.handle_plane(two.now, PlaneEvent::Used { pair: Pair(1) }, parts!(two.left));
    assert_eq!(two.left.endpoint.ike_sas().next().unwrap().heard, Some(two.now));
}
