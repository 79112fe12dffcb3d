//! When an entry is certified: a majority of the room's voters hold it.

use crate::ids::CoopName;

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
}
