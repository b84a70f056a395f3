//! Text and back, and that every line stands alone.

use proptest::prelude::*;

use super::*;

fn millis() -> impl Strategy<Value = Millis> + Clone {
    prop_oneof![0u64..5000, (0u64..100).prop_map(|s| s * 1000), any::<u32>().prop_map(u64::from)].prop_map(Millis)
}

fn positive() -> impl Strategy<Value = Millis> + Clone {
    (1u64..100_000).prop_map(Millis)
}

fn span<T: Ord + Clone + fmt::Debug>(
    one: impl Strategy<Value = T> + Clone,
) -> impl Strategy<Value = RangeInclusive<T>> {
    (one.clone(), one).prop_map(|(x, y)| x.clone().min(y.clone())..=x.max(y))
}

fn name() -> impl Strategy<Value = String> {
    "[A-Za-z0-9._-]{1,8}"
}

fn names(least: usize) -> impl Strategy<Value = Vec<String>> {
    prop::collection::btree_set(name(), least..6).prop_map(|names| names.into_iter().collect())
}

fn groups() -> impl Strategy<Value = Vec<Vec<String>>> {
    (names(2), any::<prop::sample::Index>()).prop_map(|(mut names, at)| {
        let rest = names.split_off(1 + at.index(names.len() - 1));
        vec![names, rest]
    })
}

fn rate(most: u32) -> impl Strategy<Value = Rate> {
    (0..=most).prop_map(Rate)
}

fn host_fault() -> impl Strategy<Value = HostFault> {
    prop_oneof![
        name().prop_map(HostFault::Crash),
        name().prop_map(HostFault::Bounce),
        name().prop_map(HostFault::Stop),
        Just(HostFault::PowerCut),
        name().prop_map(HostFault::Pause),
    ]
}

fn network_fault() -> impl Strategy<Value = NetworkFault> {
    let delay = (rate(10_000), span(millis()), groups());
    prop_oneof![
        groups().prop_map(NetworkFault::Partition),
        groups().prop_map(NetworkFault::Bridge),
        groups().prop_map(|mut groups| NetworkFault::OneWay(groups.remove(0), groups.remove(0))),
        name().prop_map(NetworkFault::Isolate),
        groups().prop_map(NetworkFault::Hold),
        groups().prop_map(NetworkFault::Reset),
        delay.prop_flat_map(|(rate, delay, groups)| prop_oneof![
            Just(NetworkFault::Loss(rate, groups.clone())),
            Just(NetworkFault::Delay(delay, groups)),
        ]),
    ]
}

fn disk_fault() -> impl Strategy<Value = DiskFault> {
    prop_oneof![
        name().prop_map(DiskFault::LostDisk),
        (name(), millis()).prop_map(|(host, by)| DiskFault::SlowSync(host, by)),
        name().prop_map(DiskFault::StuckSync),
        (name(), rate(10_000)).prop_map(|(host, rate)| DiskFault::SyncErrors(host, rate)),
        (name(), prop::sample::select(Operation::ALL), rate(10_000))
            .prop_map(|(host, operation, rate)| DiskFault::IoErrors(host, operation, rate)),
        (name(), any::<u64>()).prop_map(|(host, kib)| DiskFault::FullDisk(host, kib)),
        (
            name(),
            prop::sample::select(Files::ALL),
            prop::sample::select(vec![
                DiskFault::Flip as fn(String, Files) -> DiskFault,
                DiskFault::Rot,
                DiskFault::Truncate,
                DiskFault::RemoveFile,
            ])
        )
            .prop_map(|(host, files, make)| make(host, files)),
        (name(), prop::sample::select(Directory::ALL))
            .prop_map(|(host, directory)| DiskFault::LostDirectory(host, directory)),
        name().prop_map(DiskFault::FlipSnapshot),
    ]
}

fn clock_fault() -> impl Strategy<Value = ClockFault> {
    prop_oneof![
        (name(), any::<bool>(), millis()).prop_map(|(host, behind, by)| ClockFault::Jump { host, behind, by }),
        (name(), any::<bool>(), rate(5000)).prop_map(|(host, slower, by)| ClockFault::Drift { host, slower, by }),
    ]
}

fn membership_fault() -> impl Strategy<Value = MembershipFault> {
    prop_oneof![
        name().prop_map(MembershipFault::Add),
        name().prop_map(MembershipFault::Remove),
        name().prop_map(MembershipFault::Transfer),
        name().prop_map(MembershipFault::Drain),
        Just(MembershipFault::RollingRestart),
    ]
}

fn fault() -> impl Strategy<Value = Fault> {
    prop_oneof![
        host_fault().prop_map(Fault::Host),
        network_fault().prop_map(Fault::Network),
        disk_fault().prop_map(Fault::Disk),
        clock_fault().prop_map(Fault::Clock),
        membership_fault().prop_map(Fault::Membership),
    ]
}

fn plan() -> impl Strategy<Value = Plan> {
    let interval = (millis(), millis(), fault()).prop_map(|(at, lasts, fault)| Interval { at, lasts, fault });
    let cluster = (any::<u64>(), names(1), any::<u32>(), any::<u32>(), span(any::<u64>()));
    let delays = (span(millis()), span(millis()), span(millis()), span(millis()));
    let settings = (any::<u64>(), 4096u64..=1 << 30, any::<u64>(), any::<u64>(), span(positive()), names(0));
    let phases = (positive(), positive(), positive(), positive(), positive(), positive());
    let core = (prop::collection::btree_set(name(), 0..4), super::mix::tests::mix());
    (cluster, settings, delays, phases, core, prop::collection::vec(interval, 0..8)).prop_map(
        |(
            (seed, servers, clients, messages, body),
            (memory, segment, cache, keep, election, spares),
            (pace, latency, work, sync),
            (tick, duration, core_liveness, liveness, service, patience),
            (core, mix),
            faults,
        )| {
            let core = core.into_iter().collect();
            let plan = Plan { seed, servers, clients, messages, body, memory, segment, cache, ..Plan::default() };
            let plan = Plan { pace, keep, spares, latency, work, sync, tick, duration, liveness, faults, ..plan };
            Plan { core, core_liveness, service, patience, mix, election, ..plan }
        },
    )
}

proptest! {
    #[test]
    fn a_plans_text_parses_back_to_the_plan(plan in plan()) {
        prop_assert_eq!(plan.to_string().parse::<Plan>(), Ok(plan));
    }

    #[test]
    fn deleting_any_line_leaves_a_plan(plan in plan(), at in any::<prop::sample::Index>()) {
        let text = plan.to_string();
        let lines: Vec<&str> = text.lines().collect();
        let deleted = at.index(lines.len());
        let rest: Vec<&str> = lines.iter().enumerate().filter(|(i, _)| *i != deleted).map(|(_, line)| *line).collect();
        prop_assert!(rest.join("\n").parse::<Plan>().is_ok());
    }

    #[test]
    fn no_text_makes_the_parser_panic(text in "(at|for|seed|body|hold|loss|delay|one-way|clock-jump|flip|io-errors|read|>|%|a|\\||[0-9.]{1,24}|ms|s|\\.\\.| |\n){0,40}") {
        let _ = text.parse::<Plan>();
    }
}

#[test]
fn a_persons_plan_is_read() {
    let text = "# the leader dies\n\nseed 7\n  at 2.1s for 1.3s crash a\nat 500ms for 2s partition a | b c\nat 1s for 0s power-cut\n";
    let plan: Plan = text.parse().unwrap();
    assert_eq!((plan.seed, plan.clients), (7, Plan::default().clients));
    assert_eq!(
        plan.faults[0],
        Interval { at: Millis(2100), lasts: Millis(1300), fault: Fault::Host(HostFault::Crash("a".into())) }
    );
    assert_eq!(plan.faults[1].to_string(), "at 500ms for 2s partition a | b c");
    assert!(plan.warnings().is_empty());
}

#[test]
fn what_is_no_plan_is_refused_with_its_line() {
    for (text, problem) in [
        ("sead 1", "no setting"),
        ("seed x", "no number"),
        ("seed 1\nseed 2", "twice"),
        ("body 9..3", "ends before"),
        ("latency 1..2", "no time"),
        ("tick 0s", "more than nothing"),
        ("at 1s crash a", "at TIME for TIME"),
        ("at 1s for 1s explode a", "no kind of fault"),
        ("at 1s for 1s crash", "not a name"),
        ("at 1s for 1s partition a b", "at least two"),
        ("at 1s for 1s partition a | a", "twice"),
        ("at 1.2345s for 1s crash a", "no time"),
        ("servers a a", "twice"),
        ("servers a leader", "stands for"),
        ("at 1s for 1s one-way a b", "one-way"),
        ("at 1s for 1s one-way a > a", "twice"),
        ("at 1s for 1s loss 5 a | b", "no share"),
        ("at 1s for 1s loss 101% a | b", "at most 100%"),
        ("at 1s for 1s delay 5ms a | b", "a range"),
        ("at 1s for 1s io-errors a 5%", "WHO read 5%"),
        ("at 1s for 1s io-errors a append 5%", "none of `read`, `write`"),
        ("at 1s for 1s flip a", "WHO log|"),
        ("at 1s for 1s flip a everything", "none of `log`"),
        ("at 1s for 1s full-disk a 1KiB", "no number"),
        ("at 1s for 1s clock-jump a 5s", "ahead"),
        ("at 1s for 1s clock-drift a +51%", "at most 50%"),
    ] {
        let error = text.parse::<Plan>().unwrap_err();
        assert!(error.to_string().contains(problem), "{text:?}: {error}");
        assert_eq!(error.line, text.lines().count());
    }
}

#[test]
fn the_leader_stands_in_one_group_only() {
    let plan: Plan = "at 1s for 1s partition leader | a b c\nat 2s for 1s crash leader".parse().unwrap();
    assert!(plan.warnings().is_empty());
    let with_b: Vec<String> = plan.faults.iter().map(|i| i.fault.with_leader("b").to_string()).collect();
    assert_eq!(with_b, ["partition b | a c", "crash b"]);
}

#[test]
fn what_has_no_effect_is_told() {
    let plan: Plan = "duration 5s\nat 1s for 1s crash z\nat 6s for 1s crash a".parse().unwrap();
    assert_eq!(plan.warnings().len(), 2);
}
