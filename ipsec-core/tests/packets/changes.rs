//! Rules that are changed one by one under traffic, beside a list that is.

use std::collections::HashMap;
use std::time::Duration;
use std::time::SystemTime;

use crate::ends::{NOW, Rng, Rules as Owned, index};
use crate::list::{Kind, List};
use ipsec_core::crypto::rustcrypto::RustCrypto;
use ipsec_core::engine::{Inbound, Outbound, Verdict};
use ipsec_core::error::{Discard, Refused};
use ipsec_core::flow::Flow;
use ipsec_core::spd::{
    Action, Changes, Decision, Difference, Direction, Hits, Level, Remembered, Rule, RuleId, Rules, Undecided, diff,
};
use ipsec_core::time::Instant;

/// Rules at most.
const ROOM: usize = 600;

/// Both engines, each with rules of its own, and the list.
struct World<'m> {
    rng: Rng,
    kind: Kind,
    now: Instant,
    out: Outbound<'m, RustCrypto, Owned>,
    inn: Inbound<'m, RustCrypto, Owned>,
    list: List,
    met: [HashMap<RuleId, Hits>; 2],
    clear: [u64; 2],
    answers: Answers,
}

/// How often what was answered.
#[derive(Debug, Default)]
struct Answers {
    packets: u64,
    clear: u64,
    meanwhile: u64,
    acquire: u64,
    blocked: u64,
    no_policy: u64,
    fragment: u64,
    added: u64,
    replaced: u64,
    removed: u64,
    built: u64,
}

impl World<'_> {
    fn any_rule(&mut self) -> Rule {
        // Mostly one with the id of another one.
        let place = self.rng.below(2 * self.list.0.len() as u64 + 2) as usize;
        let known = self.list.0.get(place).map(|rule| rule.id.0);
        let id = known.unwrap_or_else(|| self.rng.below(ROOM as u64) as u32);
        self.kind.rule(&mut self.rng, id)
    }

    fn change(&mut self) {
        let rule = self.any_rule();
        let known = self.list.0.iter().any(|other| other.id == rule.id);
        let full = match self.rng.below(3) {
            0 => {
                let added = self.out.add_rule(rule);
                assert_eq!(self.inn.add_rule(rule), added);
                assert!(!known || added == Err(Refused::Duplicate), "{added:?}");
                if added.is_ok() {
                    assert!(self.list.add(rule));
                    self.answers.added += 1;
                }
                added == Err(Refused::Full)
            }
            1 => {
                // Half of them stay where they are.
                let old = self.list.0.iter().find(|other| other.id == rule.id).map(|old| old.priority);
                let priority = old.filter(|_| self.rng.below(2) == 0).unwrap_or(rule.priority);
                let rule = Rule { priority, ..rule };
                let replaced = self.out.replace_rule(rule);
                assert_eq!(self.inn.replace_rule(rule), replaced);
                if let Ok(replaced) = replaced {
                    assert_eq!(self.list.replace(rule), replaced);
                    self.met.iter_mut().for_each(|met| _ = met.remove(&rule.id));
                    self.answers.replaced += u64::from(replaced);
                }
                replaced == Err(Refused::Full)
            }
            _ => {
                let removed = self.out.drop_rule(rule.id);
                assert_eq!(self.inn.drop_rule(rule.id), removed);
                if let Ok(removed) = removed {
                    assert_eq!(self.list.remove(rule.id), removed);
                    self.met.iter_mut().for_each(|met| _ = met.remove(&rule.id));
                    self.answers.removed += u64::from(removed);
                }
                removed == Err(Refused::Full)
            }
        };
        if full || self.rng.below(200) == 0 {
            // All that there is, built anew.
            let rules: Vec<Rule> = self.out.rules().map(|(rule, _)| *rule).collect();
            self.out.set_rules(index(&rules).unwrap()).unwrap();
            self.inn.set_rules(index(&rules).unwrap()).unwrap();
            self.met.iter_mut().for_each(HashMap::clear);
            self.answers.built += 1;
        }
        self.is_as_the_list();
    }

    fn is_as_the_list(&mut self) {
        let hits = |met: &HashMap<RuleId, Hits>, rule: &Rule| met.get(&rule.id).copied().unwrap_or_default();
        let [out, inn] = &self.met;
        assert!(self.out.rules().eq(self.list.0.iter().map(|rule| (rule, hits(out, rule)))));
        assert!(self.inn.rules().eq(self.list.0.iter().map(|rule| (rule, hits(inn, rule)))));
        let from = self.rng.below(self.list.0.len() as u64 + 20) as usize;
        assert!(self.out.rules_from(from).map(|(rule, _)| rule).eq(self.list.0.iter().skip(from)), "from {from}");
        assert_eq!([self.out.passed_clear(), self.inn.passed_clear()], self.clear);
    }

    fn packet(&mut self) {
        let packet = self.kind.packet(&mut self.rng);
        let flow = Flow::of(&packet).unwrap();
        self.now = self.now.after(Duration::from_millis(1));
        let decided = self.list.decide(Direction::Out, &flow);
        let expected = match decided.map(|decision| decision.action) {
            Ok(Action::Bypass) => Ok(Verdict::Clear),
            Ok(Action::Protect { policy, level: Level::Use }) => Ok(Verdict::ClearMeanwhile(policy)),
            Ok(Action::Protect { policy, level: Level::Require }) => Ok(Verdict::Acquire(policy)),
            Ok(Action::Discard) => Err(Discard::OutBlocked),
            Err(Undecided::NoRule) => Err(Discard::OutNoPolicy),
            Err(Undecided::Fragment) => Err(Discard::OutFragment),
        };
        assert_eq!(self.out.judge(&packet), expected, "{flow:?}");
        assert_eq!(self.out.classify(self.now, &packet), expected, "{flow:?}");
        self.count(0, Direction::Out, decided, &flow);
        let count = match expected {
            Ok(Verdict::Clear) => &mut self.answers.clear,
            Ok(Verdict::ClearMeanwhile(_)) => &mut self.answers.meanwhile,
            Ok(_) => &mut self.answers.acquire,
            Err(Discard::OutBlocked) => &mut self.answers.blocked,
            Err(Discard::OutNoPolicy) => &mut self.answers.no_policy,
            Err(_) => &mut self.answers.fragment,
        };
        *count += 1;

        let way = [Direction::In, Direction::Forward][self.rng.below(2) as usize];
        let decided = self.list.decide(way, &flow);
        let expected = match decided.map(|decision| decision.action) {
            Ok(Action::Bypass | Action::Protect { level: Level::Use, .. }) => Ok(flow),
            Ok(Action::Protect { level: Level::Require, .. }) => Err(Discard::InClear),
            Ok(Action::Discard) => Err(Discard::InBlocked),
            Err(Undecided::NoRule) => Err(Discard::InNoPolicy),
            Err(Undecided::Fragment) => Err(Discard::InFragment),
        };
        assert_eq!(self.inn.check_clear(self.now, way, &packet), expected, "{way:?}: {flow:?}");
        self.count(1, way, decided, &flow);
        self.answers.packets += 2;
    }

    fn count(&mut self, engine: usize, way: Direction, decided: Result<Decision, Undecided>, flow: &Flow) {
        let Ok(Decision { action, rank }) = decided else { return };
        let hits = self.met[engine].entry(self.list.0[rank as usize].id).or_default();
        let count = match way {
            Direction::Out => &mut hits.outbound,
            Direction::In => &mut hits.inbound,
            Direction::Forward => &mut hits.forward,
        };
        *count += 1;
        (hits.octets, hits.last) = (hits.octets + flow.len as u64, Some(self.now));
        if matches!(action, Action::Protect { level: Level::Use, .. }) {
            hits.clear += 1;
            self.clear[engine] += 1;
        }
    }
}

/// Random rules, changed again and again, and so many packets. Whatever is wrong is told with the seed.
fn compare(seed: u64, packets: u64, mut answers: Answers) -> Answers {
    // Dense, where nearly everything overlaps, to sparse, where nearly nothing does.
    const KINDS: [(u64, u64, bool); 4] = [(4, 3, false), (40, 10, true), (300, 100, true), (100_000, 65_536, true)];
    let mut rng = Rng(seed);
    let (hosts, ports, v6) = KINDS[rng.below(4) as usize];
    let kind = Kind { hosts, ports, v6 };
    let count = [0, 20, 60, 300][rng.below(4) as usize];
    let rules: Vec<Rule> = (0..count).map(|id| kind.rule(&mut rng, id)).collect();
    let room = rng.below(6) as usize;
    let (mut out_changes, mut in_changes) = (vec![Changes::NONE; room], vec![Changes::NONE; room]);
    let (mut out_hits, mut in_hits) = (vec![Hits::NONE; ROOM], vec![Hits::NONE; ROOM]);
    let mut flows = vec![Remembered::NOTHING; rng.below(40) as usize];
    let mut out = Outbound::new(RustCrypto, &mut out_hits, &mut []).remembering(&mut flows).changing(&mut out_changes);
    let mut inn = Inbound::new(RustCrypto, &mut in_hits, &mut [], &mut []).changing(&mut in_changes);
    // Where there is no index, there are no rules.
    if count > 0 {
        out.set_rules(index(&rules).unwrap()).unwrap();
        inn.set_rules(index(&rules).unwrap()).unwrap();
    }
    answers.packets = 0;
    let met = [HashMap::new(), HashMap::new()];
    let mut world = World { rng, kind, now: NOW, out, inn, list: List::new(&rules), met, clear: [0; 2], answers };
    while world.answers.packets < packets {
        if world.rng.below(20) == 0 {
            world.change();
        }
        world.packet();
    }
    world.is_as_the_list();
    world.answers
}

#[test]
fn rules_changed_one_by_one_decide_as_a_list_does() {
    let mut answers = Answers::default();
    for seed in 0..100 {
        println!("seed {seed}");
        answers = compare(seed, 2000, answers);
    }
    let Answers { clear, meanwhile, acquire, blocked, no_policy, fragment, added, replaced, removed, built, .. } =
        answers;
    let rare = [clear, meanwhile, acquire, blocked, no_policy, fragment, added, replaced, removed, built];
    assert!(rare.iter().all(|count| *count > 300), "something hardly ever happens: {answers:?}");
}

#[test]
#[ignore = "takes minutes: ten million packets, other ones each time"]
fn rules_changed_one_by_one_decide_as_a_list_does_for_ten_million_packets() {
    let begun = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos() as u64;
    let mut answers = Answers::default();
    for seed in (0..1000).map(|number| begun.wrapping_add(number)) {
        println!("seed {seed}");
        answers = compare(seed, 10_000, answers);
    }
    println!("{answers:?}");
}

#[test]
fn what_two_indexes_have_in_common_is_no_difference() {
    for seed in 0..200 {
        let mut rng = Rng(seed);
        let kind = Kind { hosts: 30, ports: 5, v6: true };
        let of = |rng: &mut Rng| -> Vec<Rule> {
            let ids: Vec<u32> = (0..rng.below(60) as u32).filter(|_| rng.below(3) > 0).collect();
            ids.into_iter().map(|id| kind.rule(rng, id)).collect()
        };
        let (old, mut new) = (of(&mut rng), of(&mut rng));
        // Half of what both have is the same.
        for rule in &mut new {
            if let Some(same) = old.iter().find(|other| other.id == rule.id && rng.below(2) == 0) {
                *rule = *same;
            }
        }
        let (one, other) = (index(&old).unwrap(), index(&new).unwrap());
        let mut rules: HashMap<RuleId, Rule> = old.iter().map(|rule| (rule.id, *rule)).collect();
        let mut ids = Vec::new();
        for difference in diff(one.view(), other.view()) {
            ids.push(match difference {
                Difference::Added(rule) => {
                    assert_eq!(rules.insert(rule.id, *rule), None, "seed {seed}");
                    rule.id
                }
                Difference::Removed(rule) => {
                    assert_eq!(rules.remove(&rule.id), Some(*rule), "seed {seed}");
                    rule.id
                }
                Difference::Changed { old, new } => {
                    assert!(old.id == new.id && old != new, "seed {seed}");
                    assert_eq!(rules.insert(new.id, *new), Some(*old), "seed {seed}");
                    new.id
                }
            });
        }
        assert_eq!(rules, new.iter().map(|rule| (rule.id, *rule)).collect(), "seed {seed}");
        assert!(ids.is_sorted_by(|one, next| one < next), "seed {seed}: each once, in order");
        assert_eq!(diff(one.view(), one.view()).count(), 0, "seed {seed}");
    }
}

#[test]
fn a_rule_is_found_by_its_id_and_priority_among_any_number() {
    let kind = Kind { hosts: 1000, ports: 300, v6: true };
    for seed in 0..40 {
        let mut rng = Rng(seed);
        // In no order of their ids, and some of those are not there.
        let mut rules: Vec<Rule> = (0..401).map(|id| kind.rule(&mut rng, id * 7 % 401)).collect();
        rules.retain(|_| rng.below(4) > 0);
        let (mut changes, mut none) = ([Changes::NONE; 51], []);
        let mut out = Outbound::<_, Owned>::new(RustCrypto, &mut [], &mut none).changing(&mut changes);
        out.set_rules(index(&rules).unwrap()).unwrap();
        let mut list = List::new(&rules);
        while let Some(Rule { id, .. }) = list.0.get(rng.below(list.0.len().max(1) as u64) as usize).copied() {
            let missing = RuleId((id.0 + rng.below(401) as u32) % 403);
            let there = list.0.iter().any(|rule| rule.id == missing);
            for (id, there) in [(id, true), (id, false), (missing, there && missing != id)] {
                assert_eq!((out.drop_rule(id), list.remove(id)), (Ok(there), there), "seed {seed}: {id:?}");
            }
            assert!(out.rules().map(|(rule, _)| rule).eq(&list.0), "seed {seed}");
        }
    }
}

#[test]
fn memory_for_changes_is_what_the_documentation_says_and_no_more_than_that_is_taken() {
    assert_eq!((size_of::<Changes>(), size_of::<Hits>()), (1408, 56));
    let kind = Kind { hosts: 100, ports: 9, v6: false };
    let mut rng = Rng(1);
    let rules: Vec<Rule> = (0..30).map(|id| kind.rule(&mut rng, id)).collect();
    let mut rule = |id| kind.rule(&mut rng, id);
    let (mut changes, mut none) = ([Changes::NONE], []);
    let mut out = Outbound::<_, Owned>::new(RustCrypto, &mut [], &mut none);
    assert_eq!(out.add_rule(rule(1)), Err(Refused::Full), "without memory nothing changes");
    let mut out = out.changing(&mut changes);
    out.set_rules(index(&rules).unwrap()).unwrap();
    for id in 0..8 {
        assert_eq!(out.replace_rule(rule(id)), Ok(true));
    }
    let full = (out.add_rule(rule(99)), out.replace_rule(rule(20)), out.drop_rule(RuleId(20)));
    assert_eq!(full, (Err(Refused::Full), Err(Refused::Full), Err(Refused::Full)));
    assert_eq!(out.rules().count(), 30);
    // What came by a change can be changed, and goes.
    assert_eq!((out.replace_rule(rule(3)), out.drop_rule(RuleId(3))), (Ok(true), Ok(true)));
    assert_eq!((out.add_rule(rule(99)), out.add_rule(rule(98))), (Ok(()), Err(Refused::Full)));
    let before = out.set_rules(index(&rules).unwrap()).unwrap();
    assert_eq!((before.unwrap().view().len(), out.rules().count()), (30, 30), "an index has none of it");
    assert!(out.rules().map(|(rule, _)| rule).eq(&List::new(&rules).0));
    assert_eq!((out.drop_rule(RuleId(20)), out.clear_rules().is_some(), out.rules().count()), (Ok(true), true, 0));
}
