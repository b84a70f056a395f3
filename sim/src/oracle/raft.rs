//! What Raft promises itself, from what servers tell of their logs and votes ([`restante::world::World::observe`]):
//!
//! * one leader a term; one vote a term by each disk; a disk's vote never goes back, whatever happens to its server;
//! * an entry that was synced is there after a restart; one that was committed is never cut off, and every server that
//!   applies an index applies the same entry there, with the same state coming of it;
//! * an entry is applied only when a majority has synced it; a life applies each index once and in order;
//! * there is one cluster, unless nothing was committed in the one before;
//! * whoever becomes leader has everything that was committed in earlier terms.
//!
//! They are the invariants of the Raft paper (figure 3: election safety, leader completeness, state machine safety), and
//! what it asks of stable storage. A disk is known by its incarnation: one that lost what it held is another one.

use std::collections::BTreeMap;

/// One disk, over all lives of its server.
#[derive(Debug, Default)]
struct Disk {
    host: String,
    /// Term, for whom, and whether that one leads.
    vote: (u64, u64, bool),
    /// The term of every entry that was appended and not cut off.
    log: BTreeMap<u64, u64>,
    /// The last entry that was synced.
    durable: u64,
    /// A snapshot or a purge covers everything up to here.
    floor: u64,
    /// The last entry that this life has applied.
    applied: Option<u64>,
    /// A snapshot was installed, so the next index applied may be any.
    installed: bool,
}

impl Disk {
    fn has(&self, index: u64, term: u64) -> bool {
        index <= self.floor || self.log.get(&index) == Some(&term)
    }

    fn has_synced(&self, index: u64, term: u64) -> bool {
        index <= self.floor || (index <= self.durable && self.log.get(&index) == Some(&term))
    }
}

/// A membership entry: where it stands in the log, and the configurations that each need a majority.
#[derive(Debug)]
struct Membership {
    index: u64,
    term: u64,
    voters: Vec<Vec<u64>>,
}

/// An entry that somebody applied.
#[derive(Debug)]
struct Committed {
    term: u64,
    /// What came of it.
    digest: String,
    host: String,
}

/// The invariants, and what they are judged by. Feed it with everything that servers tell.
#[derive(Debug, Default)]
pub(crate) struct Raft {
    /// The id of the cluster that all this is about.
    cluster: Option<String>,
    disks: BTreeMap<u64, Disk>,
    /// The incarnation that each host runs now.
    running: BTreeMap<String, u64>,
    memberships: Vec<Membership>,
    leaders: BTreeMap<u64, u64>,
    committed: BTreeMap<u64, Committed>,
}

/// The value of a field in `name=value` words.
fn field<'a>(detail: &'a str, name: &str) -> Option<&'a str> {
    detail.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

fn number(detail: &str, name: &str) -> Result<u64, String> {
    field(detail, name).and_then(|value| value.parse().ok()).ok_or_else(|| format!("no number {name} in {detail:?}"))
}

impl Raft {
    /// Reads what a host told.
    ///
    /// # Errors
    /// The invariant that it breaks, or what cannot be read.
    pub(crate) fn read(&mut self, host: &str, kind: &str, detail: &str) -> Result<(), String> {
        match kind {
            "node" => return self.started(host, number(detail, "incarnation")?, field(detail, "cluster")),
            "log.opened" | "log.append" | "log.membership" | "log.durable" | "log.truncated" | "log.purged"
            | "vote" | "apply" | "install" => {}
            _ => return Ok(()),
        }
        let Some(id) = self.running.get(host).copied() else {
            return Err(format!("{host} tells of {kind} and not which incarnation it is"));
        };
        match kind {
            "log.opened" => self.opened(id, detail),
            "log.append" => self.append(id, detail),
            "log.membership" => self.membership(detail),
            "log.durable" => {
                let last = number(detail, "last")?;
                let disk = self.disk(id);
                disk.durable = disk.durable.max(last);
                Ok(())
            }
            "log.truncated" => self.truncated(id, number(detail, "after")?),
            // Only what a checkpoint covers is purged, which may be ahead of what the log had synced.
            "log.purged" => {
                let up_to = number(detail, "up_to")?;
                let disk = self.disk(id);
                disk.floor = disk.floor.max(up_to);
                Ok(())
            }
            "vote" => self.voted(id, detail),
            "install" => {
                let index = number(detail, "index")?;
                let disk = self.disk(id);
                disk.floor = disk.floor.max(index);
                disk.installed = true;
                Ok(())
            }
            _ => self.applied(id, detail),
        }
    }

    fn disk(&mut self, id: u64) -> &mut Disk {
        self.disks.entry(id).or_default()
    }

    fn started(&mut self, host: &str, id: u64, cluster: Option<&str>) -> Result<(), String> {
        // A founder that loses its disk before the others have heard of it founds another one, with the same incarnations.
        if let Some(cluster) = cluster.filter(|cluster| self.cluster.as_deref() != Some(*cluster)) {
            if let Some((index, one)) = self.committed.first_key_value() {
                return Err(format!(
                    "{host} belongs to another cluster than {}, which has applied entry {index}",
                    one.host
                ));
            }
            *self = Self { cluster: Some(cluster.to_owned()), ..Self::default() };
        }
        self.running.insert(host.to_owned(), id);
        let disk = self.disk(id);
        if disk.host.is_empty() {
            host.clone_into(&mut disk.host);
        } else if disk.host != host {
            return Err(format!("both {} and {host} run incarnation {id}", disk.host));
        }
        disk.applied = None;
        Ok(())
    }

    fn opened(&mut self, id: u64, detail: &str) -> Result<(), String> {
        let (last, term) = (number(detail, "last")?, number(detail, "term")?);
        let vote = (number(detail, "vote")?, number(detail, "for")?);
        let purged = number(detail, "purged")?;
        let disk = self.disk(id);
        let host = &disk.host;
        if last < disk.durable {
            let durable = disk.durable;
            return Err(format!("{host} had synced its log up to {durable}, and it ends at {last} after a restart"));
        }
        let known = disk.log.get(&last).filter(|_| last == disk.durable && last > purged);
        if let Some(known) = known.filter(|known| **known != term) {
            return Err(format!("{host} had synced entry {last} of term {known}, and it is of term {term} now"));
        }
        if vote.0 < disk.vote.0 || (vote.0 == disk.vote.0 && vote.1 != disk.vote.1 && disk.vote.0 > 0) {
            let (voted, whom, _) = disk.vote;
            let (now, for_whom) = vote;
            return Err(format!(
                "{host} had voted for {whom} in term {voted}, and after a restart it says for {for_whom} in term {now}"
            ));
        }
        disk.log.split_off(&(last + 1));
        disk.log.insert(last, term);
        disk.durable = last;
        disk.floor = disk.floor.max(purged);
        Ok(())
    }

    /// `5..9@3 10..10@4`: first and last index and term of each run of entries.
    fn append(&mut self, id: u64, detail: &str) -> Result<(), String> {
        for run in detail.split(' ') {
            let parts = run.split_once('@').and_then(|(range, term)| {
                let (first, last) = range.split_once("..")?;
                Some((first.parse::<u64>().ok()?, last.parse::<u64>().ok()?, term.parse::<u64>().ok()?))
            });
            let Some((first, last, term)) = parts else { return Err(format!("no entries in {detail:?}")) };
            let log = &mut self.disk(id).log;
            log.split_off(&first);
            log.extend((first..=last).map(|index| (index, term)));
        }
        Ok(())
    }

    /// `index=… term=… voters=1,2,3;2,3,4`.
    fn membership(&mut self, detail: &str) -> Result<(), String> {
        let (index, term) = (number(detail, "index")?, number(detail, "term")?);
        let lists = field(detail, "voters").unwrap_or_default().split(';');
        let voters = lists.map(|list| list.split(',').filter_map(|id| id.parse().ok()).collect()).collect();
        if !self.memberships.iter().any(|known| known.index == index && known.term == term) {
            self.memberships.push(Membership { index, term, voters });
        }
        Ok(())
    }

    fn truncated(&mut self, id: u64, after: u64) -> Result<(), String> {
        let cut = self.disk(id).log.split_off(&(after + 1));
        let disk = self.disk(id);
        disk.durable = disk.durable.min(after);
        let host = disk.host.clone();
        let lost = cut.iter().find(|(index, term)| self.committed.get(index).is_some_and(|one| one.term == **term));
        match lost {
            Some((index, term)) => Err(format!("{host} cut off entry {index} of term {term}, which was committed")),
            None => Ok(()),
        }
    }

    fn voted(&mut self, id: u64, detail: &str) -> Result<(), String> {
        let (term, whom) = (number(detail, "term")?, number(detail, "for")?);
        let leads = field(detail, "committed") == Some("true");
        let disk = self.disk(id);
        let before = std::mem::replace(&mut disk.vote, (term, whom, leads));
        let host = disk.host.clone();
        if term < before.0 {
            return Err(format!("{host} had voted in term {}, and goes back to term {term}", before.0));
        }
        // A vote without a leader behind it may give way to one with: whoever was elected in the term counts.
        if term == before.0 && whom != before.1 && (before.2 || !leads) {
            return Err(format!("{host} votes for {whom} in term {term}, and had voted for {}", before.1));
        }
        if !leads {
            return Ok(());
        }
        let leader = *self.leaders.entry(term).or_insert(whom);
        if leader != whom {
            return Err(format!("the leader of term {term} is {leader}, and for {host} it is {whom}"));
        }
        let Some(disk) = self.disks.get(&whom).filter(|_| whom == id) else { return Ok(()) };
        let earlier = self.committed.iter().filter(|(_, one)| one.term < term);
        for (index, one) in earlier {
            if !disk.has(*index, one.term) {
                return Err(format!(
                    "{host} leads in term {term} without entry {index} of term {}, which {} has applied",
                    one.term, one.host
                ));
            }
        }
        Ok(())
    }

    fn applied(&mut self, id: u64, detail: &str) -> Result<(), String> {
        let (index, term) = (number(detail, "index")?, number(detail, "term")?);
        let digest = field(detail, "digest").unwrap_or_default();
        let disk = self.disk(id);
        let host = disk.host.clone();
        let installed = std::mem::take(&mut disk.installed);
        match disk.applied.replace(index) {
            Some(before) if index <= before => {
                return Err(format!("{host} had applied entry {before}, and applies {index}"));
            }
            Some(before) if index > before + 1 && !installed => {
                return Err(format!("{host} applies entry {index} right after {before}"));
            }
            _ => {}
        }
        if let Some(known) = self.committed.get(&index) {
            if known.term != term || known.digest != digest {
                return Err(format!(
                    "entry {index} is of term {} and leaves {} for {}, and it is of term {term} and leaves {digest} \
                     for {host}",
                    known.term, known.digest, known.host
                ));
            }
            return Ok(());
        }
        if !self.is_on_a_majority(index, term) {
            let have: Vec<&str> =
                self.disks.values().filter(|disk| disk.has_synced(index, term)).map(|d| &*d.host).collect();
            return Err(format!("{host} applies entry {index} of term {term}, which only {} synced", have.join(", ")));
        }
        self.committed.insert(index, Committed { term, digest: digest.to_owned(), host });
        Ok(())
    }

    /// By any membership that can have been in force: the last one that is committed, or one behind it.
    fn is_on_a_majority(&self, index: u64, term: u64) -> bool {
        let is_committed = |one: &&Membership| match self.committed.get(&one.index) {
            Some(known) => known.term == one.term,
            None => one.index == index && one.term == term,
        };
        let last = self.memberships.iter().filter(|one| one.index <= index).filter(is_committed).map(|one| one.index);
        let last = last.max().unwrap_or(0);
        let mut possible = self.memberships.iter().filter(|one| one.index >= last);
        let holds = |id: &&u64| self.disks.get(id).is_some_and(|disk| disk.has_synced(index, term));
        let majority = |voters: &Vec<u64>| voters.iter().filter(holds).count() > voters.len() / 2;
        possible.any(|one| one.voters.iter().all(majority))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What hosts told: `host kind detail`.
    fn read(lines: &[&str]) -> Result<(), String> {
        let mut raft = Raft::default();
        lines.iter().try_for_each(|line| {
            let (host, rest) = line.split_once(' ').unwrap();
            let (kind, detail) = rest.split_once(' ').unwrap();
            raft.read(host, kind, detail)
        })
    }

    const FOUNDED: [&str; 12] = [
        "a node incarnation=1",
        "b node incarnation=2",
        "c node incarnation=3",
        "a log.append 0..0@0",
        "a log.membership index=0 term=0 voters=1,2,3",
        "a log.durable last=0",
        "b log.append 0..0@0",
        "b log.durable last=0",
        "a vote term=1 for=1 committed=false",
        "b vote term=1 for=1 committed=false",
        "a vote term=1 for=1 committed=true",
        "b vote term=1 for=1 committed=true",
    ];

    fn after_founding(lines: &[&str]) -> Result<(), String> {
        read(&[&FOUNDED, lines].concat())
    }

    fn rejects(lines: &[&str], expected: &str) {
        let error = after_founding(lines).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn an_ordinary_life_is_fine() {
        let lines = [
            "a log.append 1..2@1",
            "b log.append 1..2@1",
            "b log.durable last=2",
            "a log.durable last=2",
            "a apply index=0 term=0 digest=0",
            "a apply index=1 term=1 digest=x",
            "b apply index=0 term=0 digest=0",
            "b apply index=1 term=1 digest=x",
            // Killed and back: it applies again what its checkpoint did not have.
            "b node incarnation=2",
            "b log.opened last=2 term=1 vote=1 for=1 purged=0",
            "b apply index=1 term=1 digest=x",
            "b apply index=2 term=1 digest=y",
            // Another one leads, and what the first one had alone is cut off.
            "a log.append 3..3@1",
            "b vote term=2 for=2 committed=false",
            "b vote term=2 for=2 committed=true",
            "a vote term=2 for=2 committed=true",
            "a log.truncated after=2",
            // Told by a snapshot, it may go on anywhere.
            "c install index=2 term=1",
            "c apply index=2 term=1 digest=y",
            "c something else",
        ];
        assert_eq!(after_founding(&lines), Ok(()));
    }

    #[test]
    fn a_term_has_one_leader_and_a_disk_one_vote_in_it() {
        rejects(&["c vote term=1 for=3 committed=true"], "the leader of term 1 is 1, and for c it is 3");
        rejects(&["c vote term=2 for=3 committed=false", "c vote term=2 for=2 committed=false"], "had voted for 3");
        rejects(&["b vote term=2 for=3 committed=false", "b vote term=1 for=1 committed=false"], "goes back");
        rejects(&["b vote term=1 for=2 committed=false"], "had voted for 1");
    }

    #[test]
    fn what_was_synced_is_there_after_a_restart() {
        let restart = |opened| ["b log.append 1..2@1", "b log.durable last=2", "b node incarnation=2", opened];
        assert_eq!(after_founding(&restart("b log.opened last=2 term=1 vote=1 for=1 purged=0")), Ok(()));
        assert_eq!(
            after_founding(&restart("b log.opened last=3 term=1 vote=2 for=3 purged=0")),
            Ok(()),
            "more is fine"
        );
        rejects(&restart("b log.opened last=1 term=1 vote=1 for=1 purged=0"), "it ends at 1 after a restart");
        rejects(&restart("b log.opened last=2 term=9 vote=1 for=1 purged=0"), "it is of term 9 now");
        rejects(&restart("b log.opened last=2 term=1 vote=0 for=0 purged=0"), "it says for 0 in term 0");
        rejects(&restart("b log.opened last=2 term=1 vote=1 for=3 purged=0"), "it says for 3 in term 1");
        // A disk that is empty is another one.
        let other = ["b log.append 1..2@1", "b log.durable last=2", "b node incarnation=77"];
        let fresh = "b log.opened last=0 term=0 vote=0 for=0 purged=0";
        assert_eq!(after_founding(&[&other[..], &[fresh]].concat()), Ok(()));
        rejects(&["c node incarnation=2"], "both b and c run incarnation 2");
    }

    #[test]
    fn only_what_a_majority_has_synced_is_applied() {
        rejects(
            &["a log.append 1..1@1", "a log.durable last=1", "a apply index=1 term=1 digest=x"],
            "which only a synced",
        );
        let unsynced = ["a log.append 1..1@1", "a log.durable last=1", "b log.append 1..1@1"];
        rejects(&[&unsynced[..], &["a apply index=1 term=1 digest=x"]].concat(), "which only a synced");
        // Of two configurations at once, each needs its majority.
        let joint = [
            "a log.append 1..1@1",
            "a log.membership index=1 term=1 voters=1,2,3;1,4,5",
            "a log.durable last=1",
            "b log.append 1..1@1",
            "b log.durable last=1",
            "a apply index=0 term=0 digest=0",
            "a apply index=1 term=1 digest=x",
        ];
        // The one before may still be in force while it is not committed: not so behind it.
        rejects(&joint, "which only a, b synced");
    }

    #[test]
    fn what_was_committed_stays_and_is_the_same_for_all() {
        let committed = [
            "a log.append 1..1@1",
            "a log.durable last=1",
            "b log.append 1..1@1",
            "b log.durable last=1",
            "a apply index=1 term=1 digest=x",
        ];
        let then = |lines: &[&'static str]| [&committed[..], lines].concat();
        rejects(&then(&["b log.truncated after=0"]), "which was committed");
        rejects(&then(&["b apply index=1 term=1 digest=z"]), "leaves z for b");
        rejects(&then(&["b apply index=1 term=2 digest=x"]), "it is of term 2");
        rejects(&then(&["c vote term=2 for=3 committed=true"]), "leads in term 2 without entry 1");
        assert_eq!(after_founding(&then(&["b vote term=2 for=2 committed=true"])), Ok(()));
        assert_eq!(after_founding(&then(&["c log.purged up_to=1", "c vote term=2 for=3 committed=true"])), Ok(()));
    }

    #[test]
    fn a_life_applies_each_index_once_and_in_order() {
        let all = ["a log.append 1..3@1", "a log.durable last=3", "b log.append 1..3@1", "b log.durable last=3"];
        let then = |lines: &[&'static str]| [&all[..], lines].concat();
        let once = "a apply index=1 term=1 digest=x";
        rejects(&then(&[once, once]), "had applied entry 1, and applies 1");
        rejects(&then(&[once, "a apply index=3 term=1 digest=z"]), "applies entry 3 right after 1");
    }

    #[test]
    fn a_second_cluster_may_be_founded_only_in_place_of_one_that_has_done_nothing() {
        let lost = ["a node incarnation=1 cluster=x", "a vote term=1 for=1 committed=false"];
        let again = ["a node incarnation=1 cluster=y", "a log.opened last=0 term=0 vote=0 for=0 purged=0"];
        assert_eq!(read(&[lost, again].concat()), Ok(()));
        let other = "c node incarnation=3 cluster=y";
        rejects(&["a apply index=0 term=0 digest=0", other], "belongs to another cluster than a");
    }

    #[test]
    fn what_cannot_be_read_is_told() {
        rejects(&["a apply index=x"], "no number index");
        rejects(&["d apply index=1 term=1 digest=x"], "not which incarnation");
        rejects(&["a log.append nothing"], "no entries");
    }
}
