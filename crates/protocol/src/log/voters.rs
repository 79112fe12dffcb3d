//! When an entry is certified: a majority of the room's voters hold it.

use crate::ids::{CoopName, Seq};

/// The co-ops whose votes count, from the room's context, and who breaks a tie between two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Voters {
    pub names: Vec<CoopName>,
    pub tie_breaker: Option<CoopName>,
}

impl Voters {
    /// Is an entry certified that these co-ops hold? With two voters the tie-breaker's mark stands in for one of them.
    pub fn certify<'a>(&self, holders: impl Iterator<Item = &'a CoopName> + Clone) -> bool {
        let voting = self.names.iter().filter(|voter| holders.clone().any(|holder| holder == *voter)).count();
        let tie = self.names.len() == 2
            && voting == 1
            && self.tie_breaker.as_ref().is_some_and(|key| !self.names.contains(key) && holders.clone().any(|holder| holder == key));
        voting * 2 > self.names.len() || tie
    }

    /// The size up to which the log is certified, from how far each co-op holds it.
    pub fn certified_size(&self, held: &[(CoopName, u64)]) -> u64 {
        let mut sizes: Vec<u64> = held.iter().map(|(_, size)| *size).collect();
        sizes.sort_unstable_by(|a, b| b.cmp(a));
        sizes.into_iter().find(|size| self.certify(held.iter().filter(|(_, held)| held >= size).map(|(name, _)| name))).unwrap_or(0)
    }

    /// Whether that co-op may be seated as hub. A tie-breaker witnesses; it does not order.
    pub fn may_order(&self, name: &CoopName) -> bool {
        self.names.contains(name)
    }

    /// Every co-op whose word counts in any way.
    pub fn everybody(&self) -> impl Iterator<Item = &CoopName> {
        self.names.iter().chain(&self.tie_breaker)
    }

    /// Whether that co-op's word counts in any way.
    pub fn counts(&self, name: &CoopName) -> bool {
        self.names.contains(name) || self.tie_breaker.as_ref() == Some(name)
    }
}

/// Whose votes count around a room's newest commit, which may have changed the voters and may not be certified yet.
///
/// A commit that changes the voters is certified by majorities of both sides, as is a succession after it: without that,
/// a room that goes from two voters with a tie-breaker to three could lose what was certified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Electorate {
    pub before: Voters,
    pub after: Voters,
    /// The newest commit.
    pub commit: Seq,
}

impl Electorate {
    /// The size up to which the log is certified, from how far each co-op holds it.
    pub fn certified_size(&self, held: &[(CoopName, u64)]) -> u64 {
        let (before, after) = (self.before.certified_size(held), self.after.certified_size(held));
        if before <= self.commit.0 {
            before
        } else {
            // What stands before the commit counts by the voters before it.
            after.max(self.commit.0)
        }
    }

    /// Whether these voters can seat a hub.
    pub fn seats<'a>(&self, voters: impl Iterator<Item = &'a CoopName> + Clone) -> bool {
        self.before.certify(voters.clone()) && self.after.certify(voters)
    }

    /// Whether nobody can have seated a hub without one of these. A hub needs majorities of both sides; below a commit that is
    /// not certified it needs one of the side before it.
    pub fn blocks<'a>(&self, voters: impl Iterator<Item = &'a CoopName> + Clone, is_certified: bool) -> bool {
        self.before.certify(voters.clone()) || (is_certified && self.after.certify(voters))
    }

    /// Every co-op whose word counts on either side, each once.
    pub fn names(&self) -> Vec<CoopName> {
        let sides = [&self.before, &self.after];
        let mut names: Vec<CoopName> = sides.iter().flat_map(|side| side.everybody()).cloned().collect();
        names.sort();
        names.dedup();
        names
    }

    pub fn counts(&self, name: &CoopName) -> bool {
        self.before.counts(name) || self.after.counts(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &str) -> Vec<CoopName> {
        names.split_whitespace().map(|name| name.parse().unwrap()).collect()
    }

    #[test]
    fn majorities() {
        for (voters, tie, holders, certified) in [
            ("a", None, "a", true),
            ("a", None, "b", false),
            ("a b c", None, "a", false),
            ("a b c", None, "a c", true),
            ("a b c", None, "a x y", false),
            ("a b", None, "a", false),
            ("a b", None, "a b", true),
            ("a b", Some("w"), "a w", true),
            ("a b", Some("w"), "w", false),
            ("a b", Some("a"), "a", false),
            ("a b c d", None, "a b", false),
            ("", None, "a", false),
        ] {
            let voters = Voters { names: names(voters), tie_breaker: tie.map(|tie| tie.parse().unwrap()) };
            assert_eq!(voters.certify(names(holders).iter()), certified, "{voters:?} held by {holders}");
        }
    }

    #[test]
    fn the_certified_size_is_what_a_majority_holds() {
        let voters = Voters { names: names("a b c"), tie_breaker: None };
        let held: Vec<_> = names("a b c x").into_iter().zip([10, 7, 3, 99]).collect();
        assert_eq!(voters.certified_size(&held), 7);
        assert_eq!(voters.certified_size(&held[..1]), 0);
    }

    #[test]
    fn a_commit_that_changes_voters_needs_both_sides() {
        let voters = |list: &str| Voters { names: names(list), tie_breaker: None };
        let held = |sizes: [u64; 4]| names("a b c d").into_iter().zip(sizes).collect::<Vec<_>>();
        let both = Electorate { before: voters("a b c"), after: voters("a b c d"), commit: Seq(5) };
        for (sizes, certified) in
            [([4, 3, 0, 0], 3), ([9, 9, 0, 0], 5), ([9, 9, 6, 0], 6), ([9, 9, 8, 7], 8), ([9, 0, 9, 9], 9), ([9, 0, 0, 9], 0)]
        {
            assert_eq!(both.certified_size(&held(sizes)), certified, "{sizes:?}");
        }
        for (who, is_certified, blocks) in [
            ("a b", false, true),
            ("b d", true, false),
            ("b c d", false, true),
            ("c d", false, false),
            ("a d", true, false),
            ("a c d", true, true),
        ] {
            assert_eq!(both.blocks(names(who).iter(), is_certified), blocks, "{who}");
        }
        let grown = Electorate { before: voters("a b c d"), after: voters("a b c d e"), commit: Seq(5) };
        assert!(!grown.blocks(names("a b e").iter(), false) && grown.blocks(names("a b e").iter(), true));
        let same = Electorate { before: voters("a"), after: voters("a"), commit: Seq(5) };
        assert_eq!(same.certified_size(&held([9, 0, 0, 0])), 9);
        assert_eq!(both.names(), names("a b c d"));
    }
}
