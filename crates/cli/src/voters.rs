//! `kith room voters`: whose votes decide which co-op keeps a room in order.

use anyhow::Result;
use kith_client::native::client::now;
use kith_protocol::ids::CoopName;
use kith_protocol::log::voters::Voters;
use serde_json::json;

use super::Session;
use crate::arguments::Until;

/// What is to change.
pub struct Change {
    pub add: Option<CoopName>,
    pub remove: Option<CoopName>,
    pub tie_breaker: Option<CoopName>,
}

impl Change {
    fn apply(self, old: &Voters) -> Option<Voters> {
        if self.add.is_none() && self.remove.is_none() && self.tie_breaker.is_none() {
            return None;
        }
        let mut names = old.names.clone();
        names.retain(|name| Some(name) != self.remove.as_ref());
        names.extend(self.add.filter(|name| !old.names.contains(name)));
        // Only a room of two has a tie-breaker.
        let tie_breaker = self.tie_breaker.or_else(|| old.tie_breaker.clone().filter(|_| names.len() == 2));
        Some(Voters { names, tie_breaker })
    }
}

impl Session {
    pub async fn voters(&mut self, room: &str, change: Change) -> Result<()> {
        let room = self.find_room(room)?;
        self.client.sync(self.deadline).await?;
        let (old, _) = self.client.home.step(|core| core.voters(&room))?;
        let mut voters = old?;
        if let Some(wanted) = change.apply(&voters) {
            let (item, _) = self.client.run(|core| core.set_voters(now(), &room, &wanted)).await?;
            self.until_item(&room, item?, Until::Ordered).await?;
            voters = wanted;
        }
        let names: Vec<String> = voters.names.iter().map(ToString::to_string).collect();
        let tie_breaker = voters.tie_breaker.as_ref().map(ToString::to_string);
        let text = match &tie_breaker {
            Some(tie) => format!("{} (ties: {tie})", names.join(" ")),
            None => names.join(" "),
        };
        self.result(&json!({ "room": room.to_string(), "voters": names, "tie_breaker": tie_breaker }), &text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> CoopName {
        name.parse().unwrap()
    }

    #[test]
    fn a_change_is_applied_to_what_is_there() {
        let voters =
            |names: &[&str], tie: Option<&str>| Voters { names: names.iter().map(|n| name(n)).collect(), tie_breaker: tie.map(name) };
        let change = |add: Option<&str>, remove: Option<&str>, tie: Option<&str>| Change {
            add: add.map(name),
            remove: remove.map(name),
            tie_breaker: tie.map(name),
        };
        for (old, change, new) in [
            (voters(&["a"], None), change(None, None, None), None),
            (voters(&["a"], None), change(Some("b"), None, Some("c")), Some(voters(&["a", "b"], Some("c")))),
            (voters(&["a", "b"], Some("c")), change(Some("c"), None, None), Some(voters(&["a", "b", "c"], None))),
            (voters(&["a", "b", "c"], None), change(None, Some("a"), Some("a")), Some(voters(&["b", "c"], Some("a")))),
            (voters(&["a", "b"], Some("c")), change(Some("b"), None, None), Some(voters(&["a", "b"], Some("c")))),
        ] {
            assert_eq!(change.apply(&old), new);
        }
    }
}
