use proptest::prelude::*;

use super::*;

fn name(letter: u8) -> Name {
    Name::new(&char::from(b'a' + letter).to_string()).expect("a name")
}

fn situation(voters: &[(u64, u8)], listed: &[(u8, Option<u64>)]) -> Situation {
    let members: BTreeMap<_, _> = voters.iter().map(|(id, letter)| (*id, name(*letter))).collect();
    let listed = listed.iter().map(|(letter, incarnation)| {
        (name(*letter), Listed { address: format!("{}:1", name(*letter)), incarnation: *incarnation, drained: false })
    });
    let voters: BTreeSet<_> = members.keys().copied().collect();
    let (listed, caught_up) = (listed.collect(), voters.clone());
    Situation { me: 1, joint: false, voters, members, caught_up, listed }
}

impl Situation {
    /// What the step makes of it, if all goes well.
    fn take(&mut self, step: Step) {
        match step {
            Step::TakeIn { incarnation, member } => drop(self.members.insert(incarnation, member.name)),
            Step::Vote { voters, .. } | Step::Remove { voters, .. } => {
                self.members.retain(|id, _| voters.contains(id) || !self.voters.contains(id));
                self.voters = voters;
            }
            Step::Settle => self.joint = false,
            Step::Drop { learners } => self.members.retain(|id, _| !learners.contains(id)),
            Step::HandOver => self.me = *self.voters.iter().find(|id| **id != self.me).expect("somebody else"),
        }
    }
}

#[test]
fn a_new_disk_votes_once_it_has_caught_up_and_replaces_the_old_one_of_its_server() {
    let mut now = situation(&[(1, 0), (2, 1), (3, 2)], &[(0, Some(1)), (1, Some(2)), (2, Some(90))]);
    let step = now.next_step().expect("a step");
    assert!(matches!(&step, Step::TakeIn { incarnation: 90, member } if member.name == name(2)), "{step:?}");
    now.take(step);
    assert_eq!(now.next_step(), None, "it has not caught up, and the old one stays so long");
    now.caught_up.insert(90);
    let voters = BTreeSet::from([1, 2, 90]);
    assert_eq!(now.next_step(), Some(Step::Vote { voters, server: name(2), incarnation: 90 }));
}

#[test]
fn a_removed_leader_hands_over_and_the_last_voter_stays() {
    let now = situation(&[(1, 0), (2, 1)], &[(1, Some(2))]);
    assert_eq!(now.next_step(), Some(Step::HandOver));
    let mut now = situation(&[(1, 0)], &[(1, Some(90))]);
    now.members.insert(90, name(1));
    assert_eq!(now.next_step(), None, "nobody else has a vote yet");
    now.caught_up.insert(90);
    assert!(matches!(now.next_step(), Some(Step::Vote { .. })));
}

#[test]
fn the_old_disk_of_a_server_that_was_added_again_goes_even_if_there_is_no_new_one() {
    let now = situation(&[(1, 0), (2, 1), (3, 2)], &[(0, Some(1)), (1, Some(2)), (2, None)]);
    let voters = BTreeSet::from([1, 2]);
    assert_eq!(now.next_step(), Some(Step::Remove { voters, server: name(2), incarnation: 3 }));
}

#[test]
fn a_change_that_could_not_be_committed_is_not_begun() {
    let mut now = situation(&[(1, 0), (2, 1), (3, 2)], &[(0, Some(1)), (2, Some(3))]);
    now.caught_up.remove(&3);
    assert_eq!(now.next_step(), None, "of a and c only a is up");
    let mut now = situation(&[(1, 0), (2, 1)], &[(0, Some(1)), (1, Some(2)), (3, Some(90)), (4, Some(91))]);
    now.members.insert(90, name(3));
    now.members.insert(91, name(4));
    now.caught_up = BTreeSet::from([1, 90]);
    assert!(matches!(now.next_step(), Some(Step::Vote { incarnation: 90, .. })), "two of three are up");
    now.voters.insert(90);
    now.caught_up = BTreeSet::from([1, 91]);
    assert_eq!(now.next_step(), None, "two of four are not enough");
}

proptest! {
    /// From whatever membership, step by step: the voters become the disks of the list, there is never none, and no
    /// step adds or takes more than one of them (a new disk and the old one of its server count as one).
    #[test]
    fn the_membership_follows_the_list(
        voters in prop::collection::btree_set((1u64..20, 0u8..5), 1..5),
        learners in prop::collection::btree_set((1u64..20, 0u8..5), 0..3),
        listed in prop::collection::btree_map(0u8..5, prop::option::weighted(0.9, 1u64..20), 1..5),
        joint in any::<bool>(),
    ) {
        let voters: BTreeMap<u64, u8> = voters.into_iter().collect();
        let mut taken = BTreeSet::new();
        let listed: Vec<_> = listed
            .into_iter()
            .map(|(letter, id)| (letter, id.filter(|id| voters.get(id).is_none_or(|l| *l == letter) && taken.insert(*id))))
            .collect();
        let voters: Vec<_> = voters.into_iter().collect();
        let mut now = situation(&voters, &listed);
        now.me = voters[0].0;
        now.joint = joint;
        for (id, letter) in learners {
            now.members.entry(id).or_insert_with(|| name(letter));
        }
        now.caught_up = (0..20).collect();
        let wanted: BTreeSet<u64> = now.listed.values().filter_map(|server| server.incarnation).collect();
        let mut steps = 0;
        while let Some(step) = now.next_step() {
            let before = now.voters.clone();
            now.take(step.clone());
            prop_assert!(!now.voters.is_empty());
            prop_assert!(now.voters.difference(&before).count() <= 1, "{step:?} of {before:?}");
            if matches!(step, Step::Remove { .. }) {
                prop_assert_eq!(before.difference(&now.voters).count(), 1);
            }
            steps += 1;
            prop_assert!(steps < 60, "it comes to no end: {step:?}");
        }
        let ends = if wanted.is_empty() { now.voters.len() == 1 } else { now.voters == wanted };
        prop_assert!(ends, "{:?} are wanted, and it ends with {:?}", wanted, now.voters);
    }
}
