//! Whether servers agree on who belongs to the cluster: who votes, who learns and who is listed as of an entry.
//!
//! What a server holds of that is in no digest of the state: Raft's membership is kept beside it, in the checkpoint and in
//! what a snapshot says of itself. One that is wrong there does no harm until a restart counts votes by it. So the
//! first to apply an entry that changes it says what comes of it, everybody who applies that entry later must say the
//! same, and a snapshot must bring what was in force at its entry.

use std::collections::{BTreeMap, BTreeSet};

/// What was told. Feed it with everything that servers tell.
#[derive(Debug, Default)]
pub(crate) struct Members {
    /// What came of each entry that changed something, and who said so first.
    told: BTreeMap<u64, (String, String)>,
    /// Hosts that have just installed a snapshot, and not said yet what it brought.
    installed: BTreeSet<String>,
}

impl Members {
    /// Reads what a host told.
    ///
    /// # Errors
    /// Two servers that disagree, or what cannot be read.
    pub(crate) fn read(&mut self, host: &str, kind: &str, detail: &str) -> Result<(), String> {
        match kind {
            "snapshot.installed" => {
                self.installed.insert(host.to_owned());
                Ok(())
            }
            // A process may end between the two.
            "node" => {
                self.installed.remove(host);
                Ok(())
            }
            "servers" => self.servers(host, detail),
            _ => Ok(()),
        }
    }

    /// `index=… voters=… learners=… listed=…`.
    fn servers(&mut self, host: &str, detail: &str) -> Result<(), String> {
        let read =
            detail.split_once(' ').and_then(|(index, who)| Some((index.strip_prefix("index=")?.parse().ok()?, who)));
        let Some((index, who)) = read else {
            return Err(format!("{host} tells of servers what cannot be read: {detail}"));
        };
        let installed = self.installed.remove(host);
        let later = self.told.range(index + 1..).next().is_some();
        let known =
            if installed || later { self.told.range(..=index).next_back() } else { self.told.get_key_value(&index) };
        match known {
            Some((at, (other, known))) if known != who => {
                let how = if installed { "of its snapshot" } else { "of" };
                Err(format!("by entry {at}, {other} says {known}; and {host} says {how} entry {index} {who}"))
            }
            None if !installed => {
                self.told.insert(index, (host.to_owned(), who.to_owned()));
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What hosts told: `host kind detail`.
    fn read(lines: &[&str]) -> Result<(), String> {
        let mut members = Members::default();
        lines.iter().try_for_each(|line| {
            let (host, rest) = line.split_once(' ').unwrap();
            let (kind, detail) = rest.split_once(' ').unwrap();
            members.read(host, kind, detail)
        })
    }

    fn rejects(lines: &[&str], expected: &str) {
        let error = read(lines).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }

    const CHANGES: [&str; 3] = [
        "a servers index=0 voters=a,b learners= listed=a,b",
        "a servers index=5 voters=a,b learners=c listed=a,b,c",
        "a servers index=9 voters=a,b,c learners= listed=a,b,c",
    ];

    #[test]
    fn the_same_again_is_fine() {
        assert_eq!(read(&[&CHANGES[..], &[CHANGES[1], "b node incarnation=2", CHANGES[2]]].concat()), Ok(()));
        let later = "b servers index=5 voters=a,b learners=c listed=a,b,c";
        assert_eq!(read(&[&CHANGES[..], &[later]].concat()), Ok(()));
    }

    #[test]
    fn a_snapshot_brings_what_was_in_force() {
        let installed = "c snapshot.installed index=7";
        let right = "c servers index=7 voters=a,b learners=c listed=a,b,c";
        assert_eq!(read(&[&CHANGES[..], &[installed, right]].concat()), Ok(()));
        let late = "c servers index=12 voters=a,b,c learners= listed=a,b,c";
        assert_eq!(read(&[&CHANGES[..], &["c snapshot.installed index=12", late]].concat()), Ok(()));
        let wrong = "c servers index=7 voters=a,b learners= listed=a,b";
        rejects(&[&CHANGES[..], &[installed, wrong]].concat(), "c says of its snapshot entry 7");
        let late = "c servers index=12 voters=a,b learners=c listed=a,b,c";
        rejects(&[&CHANGES[..], &["c snapshot.installed index=12", late]].concat(), "by entry 9, a says");
    }

    #[test]
    fn another_answer_to_the_same_entry_is_rejected() {
        let other = "b servers index=5 voters=a,b learners= listed=a,b,c";
        rejects(&[&CHANGES[..], &[other]].concat(), "by entry 5, a says");
    }

    #[test]
    fn a_change_that_the_first_did_not_see_is_rejected() {
        let unseen = "b servers index=7 voters=a,b,d learners= listed=a,b,c";
        rejects(&[&CHANGES[..], &[unseen]].concat(), "b says of entry 7");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        rejects(&["a servers voters=a"], "cannot be read");
    }
}
