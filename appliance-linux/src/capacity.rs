//! How large the tables are that a configuration needs. They are made at the start and keep their size.

use gateway_core::config::Config;
use gateway_core::policy;

/// No table has more slots.
const MOST: usize = 0xffff;
/// Room for IKE SAs beside those for each peer: strangers, peers that a reload brings.
const SPARE_IKE_SAS: usize = 120;
/// Peers that are called at once, or twice as many as call, after which others have to wait for their turn.
const MOST_AT_ONCE: usize = 2048;
/// Room for Child SAs beside those for each child.
const SPARE_CHILD_SAS: usize = 256;
/// So many children have room for four SAs each: one, one that a rekey of each side makes, and one that drains. More of them
/// have room for three: all may be rekeyed at once, by both sides, and only some of them drain beside that.
const ROOMY: usize = 256;
/// Room for rules beside two for each: a reload may double them.
const SPARE_RULES: usize = 4096;

/// Sizes of the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Capacity {
    pub(crate) ike_sas: usize,
    /// Of those, how many may have long messages: handshakes.
    pub(crate) blocks: usize,
    pub(crate) child_sas: usize,
    pub(crate) rules: usize,
}

/// What a configuration needs at least.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Need {
    peers: usize,
    children: usize,
    rules: usize,
}

impl Need {
    pub(crate) fn of(config: &Config) -> Self {
        // A pair with manual keys takes no more room than the SAs of a child.
        let children = config.traffic().count();
        Self { peers: config.peers.len(), children, rules: policy::count(config) }
    }

    /// The sizes of tables that serve well.
    ///
    /// # Errors
    /// What there is too much of, with the numbers.
    pub(crate) fn capacity(self) -> Result<Capacity, String> {
        let most = Capacity { ike_sas: MOST, blocks: MOST, child_sas: MOST, rules: MOST };
        self.fits(&most)?;
        Ok(Capacity {
            // Two for each, one that is replaced, and one for every second of the crowd, which begins anew.
            ike_sas: SPARE_IKE_SAS + 2 * self.peers + self.peers.min(MOST_AT_ONCE) / 2,
            blocks: SPARE_IKE_SAS + self.peers.min(MOST_AT_ONCE),
            child_sas: SPARE_CHILD_SAS + 3 * self.children + self.children.min(ROOMY),
            rules: (SPARE_RULES + 2 * self.rules).min(MOST),
        })
    }

    /// Whether tables of these sizes will do, as well as a fresh start would make them.
    ///
    /// # Errors
    /// What there is too much of, with the numbers.
    pub(crate) fn fits(self, tables: &Capacity) -> Result<(), String> {
        for (what, found, most) in [
            ("peers", self.peers, peers_in(tables.ike_sas.saturating_sub(SPARE_IKE_SAS))),
            ("children", self.children, children_in(tables.child_sas.saturating_sub(SPARE_CHILD_SAS))),
            ("rules (one for each pair of selectors, and for each policy)", self.rules, tables.rules),
        ] {
            if found > most {
                return Err(format!("{found} {what}, and there is room for {most}"));
            }
        }
        Ok(())
    }

    /// Whether tables that were made for another configuration will do: not as well, but a peer or two more is no reason
    /// to start anew.
    ///
    /// # Errors
    /// What there is too much of, with the numbers.
    pub(crate) fn squeezes_into(self, tables: &Capacity) -> Result<(), String> {
        for (what, found, most) in [
            ("peers", self.peers, tables.ike_sas.saturating_sub(SPARE_IKE_SAS / 2)),
            ("children", self.children, tables.child_sas / 2),
            ("rules (one for each pair of selectors, and for each policy)", self.rules, tables.rules),
        ] {
            if found > most {
                return Err(format!("{found} {what}, and the running daemon has room for {most}"));
            }
        }
        Ok(())
    }
}

impl Capacity {
    /// IKE SAs that strangers may have begun: as many as there may be handshakes of theirs.
    pub(crate) fn half_open(&self) -> usize {
        self.blocks / 2
    }
}

/// How many peers there are so many slots for.
fn peers_in(slots: usize) -> usize {
    ((2 * slots + 1) / 5).min(MOST_AT_ONCE) + slots.saturating_sub(MOST_AT_ONCE / 2 * 5) / 2
}

/// How many children there are so many slots for.
fn children_in(slots: usize) -> usize {
    (slots / 4).min(ROOMY) + slots.saturating_sub(4 * ROOMY) / 3
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f_31_tables_are_as_large_as_the_configuration_needs_or_the_numbers_are_told() {
        let need = |peers, children, rules| Need { peers, children, rules };
        let large = need(5000, 5000, 9000).capacity().unwrap();
        assert!(large.ike_sas >= 10_000 && large.child_sas >= 15_000 && large.rules >= 9000);
        assert_eq!(need(5000, 5000, 9000).squeezes_into(&large), Ok(()));
        assert_eq!(need(0, 0, 0).capacity().unwrap().ike_sas, SPARE_IKE_SAS);
        let half_open = |peers| need(peers, 1, 1).capacity().unwrap().half_open();
        assert_eq!([0, 1000, 2048, 30_000].map(half_open), [60, 560, 1084, 1084], "what SECURITY.md says");
        for (need, told) in [
            (need(40_000, 0, 0), "40000 peers, and there is room for 32195"),
            (need(1, 22_000, 0), "22000 children, and there is room for 21674"),
            (
                need(1, 1, 70_000),
                "70000 rules (one for each pair of selectors, and for each policy), and there is room for 65535",
            ),
        ] {
            assert_eq!(need.capacity().unwrap_err(), told);
        }
        for peers in (0..600).chain([2047, 2048, 2049, 10_000, 32_195]) {
            let made = need(peers, 1, 1).capacity().unwrap();
            assert_eq!(peers_in(made.ike_sas - SPARE_IKE_SAS), peers, "as many as they were made for");
            assert!(made.ike_sas - made.half_open() >= 2 * peers, "strangers leave room for all to rekey at once");
            assert!(peers == 0 || peers_in(made.ike_sas - SPARE_IKE_SAS - 1) < peers);
        }
        for children in (0..600).chain([10_000, 21_000]) {
            let slots = need(1, children, 1).capacity().unwrap().child_sas - SPARE_CHILD_SAS;
            assert_eq!(children_in(slots), children, "as many as they were made for");
            assert!(slots >= 3 * children && (children == 0 || children_in(slots - 1) < children));
        }
        let small = need(1, 1, 1).capacity().unwrap();
        assert_eq!(need(50, 50, 50).squeezes_into(&small), Ok(()));
        let told = need(5000, 1, 1).squeezes_into(&small).unwrap_err();
        assert_eq!(told, "5000 peers, and the running daemon has room for 62");
    }
}
