//! The faults do what they say, as the trace shows, and the runner tells how a run failed.

use restante::world::{BoxFuture, World};
use restante_sim::plan::Plan;
use restante_sim::record::Interpreter;
use restante_sim::run::{Outcome, Verdict, run};
use restante_sim::scenario::{ClientSeat, Ending, Scenario, ServerSeat, Stage};
use restante_sim::toy::Toy;
use restante_sim::trace::Lines;
use restante_sim::world::SimWorld;

fn run_toy(plan: &str) -> Outcome {
    let outcome = run(&plan.parse().unwrap(), &Toy::default(), Lines::ring(usize::MAX));
    assert_eq!(outcome.verdict, Verdict::Passed);
    outcome
}

/// Time, host, kind and the rest of a line.
fn parts(line: &str) -> (f64, &str, &str, &str) {
    let mut words = line.split_whitespace();
    let mut next = || words.next().unwrap_or("");
    let (_, at, host, kind) = (next(), next(), next(), next());
    let rest = line.split_once(kind).map_or("", |(_, rest)| rest);
    (at.parse().unwrap(), host, kind, rest)
}

fn count(outcome: &Outcome, from: f64, to: f64, f: impl Fn(&str, &str, &str) -> bool) -> usize {
    let lines = outcome.lines.iter().map(|line| parts(line));
    lines.filter(|(at, host, kind, rest)| (from..to).contains(at) && f(host, kind, rest)).count()
}

#[test]
fn a_paused_server_does_nothing_and_then_goes_on() {
    let outcome = run_toy("messages 100\nat 1s for 1s pause b\nat 2.5s for 1s pause b");
    let of_b = |host: &str, _: &str, _: &str| host == "b";
    for (paused, resumed) in [(1.0, 2.0), (2.5, 3.5)] {
        assert!(count(&outcome, paused - 0.3, paused, of_b) > 10);
        assert_eq!(count(&outcome, paused, resumed, of_b), 0);
        assert!(count(&outcome, resumed, resumed + 0.3, of_b) > 10);
    }
    // The same process: it was started once.
    assert_eq!(count(&outcome, 0.0, 1e9, |host, kind, _| host == "b" && kind == "host.start"), 1);
}

#[test]
fn a_server_that_is_down_does_nothing_and_starts_again() {
    for fault in ["crash a", "bounce a", "power-cut", "lost-disk a"] {
        let plan = format!("messages 0\nclients 1\nat 1s for 1s {fault}");
        let outcome = run(&plan.parse().unwrap(), &Toy::default(), Lines::ring(usize::MAX));
        // A fuse may burn for 50 ms.
        assert_eq!(count(&outcome, 1.06, 2.0, |host, _, _| host == "a"), 0, "{fault}");
        assert_eq!(count(&outcome, 2.0, 2.01, |host, kind, _| host == "a" && kind == "host.start"), 1, "{fault}");
        assert_eq!(outcome.faults.values().sum::<u32>(), 1);
    }
}

#[test]
fn a_power_cut_is_silent_and_a_killed_process_is_not() {
    // What the clients hear while the server is down: the end of a connection, or nothing.
    let hears = |plan: &str| {
        let outcome = run(&plan.parse().unwrap(), &Toy::default(), Lines::ring(usize::MAX));
        count(&outcome, 1.0, 1.9, |host, kind, rest| {
            host.starts_with("client") && matches!(kind, "net.end" | "net.reset") && rest.contains(">a:8080")
        })
    };
    assert!(hears("messages 100\nat 1s for 1s bounce a") > 0);
    assert_eq!(hears("messages 100\nat 1s for 1s power-cut"), 0);
}

#[test]
fn nothing_crosses_a_partition_and_what_is_held_arrives_late() {
    let crosses = |outcome: &Outcome, from: f64, to: f64| {
        count(outcome, from, to, |_, kind, rest| kind == "net.read" && rest.contains(">a:8080"))
    };
    let cut = run_toy("messages 100\nlatency 1ms..5ms\nat 1s for 1s partition a | b c client1 client2 client3 client4");
    assert!(crosses(&cut, 0.5, 1.0) > 10);
    assert_eq!(crosses(&cut, 1.02, 2.0), 0);
    assert!(crosses(&cut, 2.0, 4.0) > 10);

    let held = run_toy("messages 100\nlatency 1ms..5ms\nat 1s for 300ms hold a | client1 client2 client3 client4");
    assert_eq!(crosses(&held, 1.02, 1.3), 0);
    assert!(crosses(&held, 1.3, 1.31) > 0, "what was held arrives at once");
}

const CLIENTS: &str = "client1 client2 client3 client4";

/// How many pieces arrived from `from` at hosts that `to` accepts.
fn arrived(outcome: &Outcome, between: (f64, f64), way: impl Fn(&str, &str) -> bool) -> usize {
    count(outcome, between.0, between.1, |host, kind, rest| {
        // CLIENT:PORT>SERVER:PORT, read by either end.
        let label = rest.split_whitespace().next().unwrap_or("");
        let names: Vec<&str> = label.split('>').filter_map(|end| end.split(':').next()).collect();
        let from = names.iter().find(|name| **name != host).copied().unwrap_or("");
        kind == "net.read" && way(from, host)
    })
}

#[test]
fn a_link_that_is_cut_in_one_direction_carries_the_other_one() {
    let from_a = |from: &str, _: &str| from == "a";
    let to_a = |_: &str, to: &str| to == "a";
    let plan = format!("messages 100\npace 0s..10ms\nlatency 1ms..5ms\nat 1s for 1s one-way a > {CLIENTS}");
    let outcome = run_toy(&plan);
    assert!(arrived(&outcome, (0.5, 1.0), from_a) > 10);
    assert_eq!(arrived(&outcome, (1.01, 2.0), from_a), 0);
    assert!(arrived(&outcome, (1.01, 2.0), to_a) > 0, "the other direction is open");
    assert!(arrived(&outcome, (2.0, 4.0), from_a) > 10);
}

#[test]
fn an_isolated_host_hears_nobody_and_a_bridge_hears_both_sides() {
    let outcome = run_toy("messages 100\nlatency 1ms..5ms\nat 1s for 1s isolate a");
    assert_eq!(arrived(&outcome, (1.01, 2.0), |from, to| from == "a" || to == "a"), 0);
    assert!(arrived(&outcome, (1.01, 2.0), |from, to| from != "a" && to != "a") > 10);
    let outcome = run_toy("messages 100\nlatency 1ms..5ms\nat 1s for 1s bridge a | client1 client2");
    let between = |one: &'static str, other: &'static str| {
        arrived(&outcome, (1.01, 2.0), move |from, to| (from, to) == (one, other) || (from, to) == (other, one))
    };
    assert_eq!(between("a", "client1") + between("a", "client2"), 0);
    assert!(between("a", "client3") + between("a", "client4") > 10);
}

#[test]
fn slow_links_are_slow_and_lossy_ones_lose() {
    // Without the fault nothing takes more than 2 ms.
    let slow = run_toy(&format!("messages 100\nlatency 1ms..2ms\nat 1s for 1s delay 300ms..400ms a b c | {CLIENTS}"));
    let any = |_: &str, _: &str| true;
    assert!(arrived(&slow, (0.5, 1.0), any) > 10);
    assert_eq!(arrived(&slow, (1.01, 1.29), any), 0);
    assert!(arrived(&slow, (1.3, 2.0), any) > 0);
    assert!(arrived(&slow, (2.5, 3.5), any) > 10, "it is as quick as before");

    let lossy = run_toy(&format!("messages 100\nat 1s for 1s loss 50% a b c | {CLIENTS}"));
    let timed_out = count(&lossy, 1.0, 2.5, |_, kind, _| kind == "net.connect");
    assert!(timed_out > 5, "who gets no answer connects again");
}

#[test]
fn a_reset_is_seen_at_both_ends() {
    let outcome = run_toy(&format!("messages 100\nat 1s for 500ms reset a b c | {CLIENTS}"));
    for (from, to) in [(1.0, 1.01), (1.5, 1.51)] {
        let resets = |who: fn(&str) -> bool| {
            count(&outcome, from, to, |host, kind, _| matches!(kind, "net.reset" | "net.broken") && who(host))
        };
        assert!(resets(|host| host.starts_with("client")) > 0 && resets(|host| host.len() == 1) > 0);
    }
    assert_eq!(count(&outcome, 1.1, 1.5, |_, kind, _| kind == "net.cut"), 0);
}

#[test]
fn a_disk_is_used_inside_of_blocking_only() {
    assert_eq!(run_toy("messages 20").operations_outside_blocking, 0);
}

/// A scenario of two closures.
struct Two<S, C>(S, C);

impl<S, C> Scenario for Two<S, C>
where
    S: Fn(ServerSeat) -> BoxFuture<'static, Result<(), String>>,
    C: Fn(ClientSeat) -> BoxFuture<'static, Result<(), String>>,
{
    fn server(&self, seat: ServerSeat) -> BoxFuture<'static, Result<(), Ending>> {
        let life = (self.0)(seat);
        Box::pin(async { life.await.map_err(Ending::Other) })
    }

    fn client(&self, seat: ClientSeat) -> BoxFuture<'static, Result<(), String>> {
        (self.1)(seat)
    }

    fn interpreter(&self) -> Box<dyn Interpreter> {
        Toy::default().interpreter()
    }
}

fn idle_server(_: ServerSeat) -> BoxFuture<'static, Result<(), String>> {
    Box::pin(std::future::pending())
}

fn idle_client(seat: ClientSeat) -> BoxFuture<'static, Result<(), String>> {
    Box::pin(async move {
        seat.journal.write(&seat.process, restante_sim::history::What::Rested { stage: Stage::Calm });
        seat.stages.reached(Stage::Stop).await;
        Ok(())
    })
}

fn verdict(scenario: &dyn Scenario) -> Verdict {
    let plan: Plan = "clients 2\nduration 1s\nliveness 1s".parse().unwrap();
    run(&plan, scenario, Lines::Discard).verdict
}

#[test]
fn hosts_that_do_nothing_pass() {
    assert_eq!(verdict(&Two(idle_server, idle_client)), Verdict::Passed);
}

#[test]
fn a_core_heals_before_the_others_do() {
    let plan: Plan = "core a b\nclients 1\nduration 2s\nat 1s for 9s crash a\nat 1s for 9s pause c\n\
                      at 1s for 9s partition a c | b\nat 1.5s for 9s power-cut\nat 1s for 9s pause client1"
        .parse()
        .unwrap();
    let outcome = run(&plan, &Two(idle_server, idle_client), Lines::ring(usize::MAX));
    assert_eq!(outcome.verdict, Verdict::Passed);
    let find = |text: &str| outcome.lines.iter().position(|line| line.contains(text)).expect(text);
    let ends = |fault: &str| {
        let end = |line: &String| parts(line).2 == "fault.end" && line.ends_with(fault);
        outcome.lines.iter().position(end).expect(fault)
    };
    let starts = |host: &str| {
        let start = |line: &String| (parts(line).1, parts(line).2) == (host, "host.start");
        outcome.lines.iter().rposition(start).expect(host)
    };
    // The phase's line stands behind what begins it.
    let (core, serve, all) =
        (find("the core has healed"), find("the core is asked to serve"), find("the faults have ended"));
    assert!(core < serve && serve < all);
    for healed in [ends("at 1s for 9s crash a"), ends("at 1s for 9s pause client1"), starts("a"), starts("b")] {
        assert!(healed < serve, "{}", outcome.lines[healed]);
    }
    for healed in [ends("at 1s for 9s pause c"), ends("at 1s for 9s partition a c | b"), starts("c")] {
        assert!(serve < healed, "{}", outcome.lines[healed]);
    }
    // Without a core that can stand, everything heals at once.
    let plan: Plan = "core a\nclients 1\nduration 2s\nat 1s for 9s crash a".parse().unwrap();
    assert_eq!(plan.warnings().len(), 1);
    let outcome = run(&plan, &Two(idle_server, idle_client), Lines::ring(usize::MAX));
    assert!(!outcome.lines.iter().any(|line| line.contains("the core has healed")));
}

#[test]
fn a_server_that_ends_by_itself_fails_the_run() {
    let ends = |result: Result<(), String>| {
        move |_| -> BoxFuture<'static, Result<(), String>> { Box::pin(std::future::ready(result.clone())) }
    };
    let failed = verdict(&Two(ends(Err("the log is damaged".into())), idle_client));
    assert_eq!(failed, Verdict::Crash("a ended: the log is damaged".into()));
    assert!(matches!(verdict(&Two(ends(Ok(())), idle_client)), Verdict::Crash(_)));
}

#[test]
fn a_panic_in_a_task_that_nobody_joins_fails_the_run() {
    let panics = |_| -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async {
            drop(SimWorld::spawn(async { panic!("nobody looks") }));
            std::future::pending().await
        })
    };
    assert_eq!(verdict(&Two(panics, idle_client)), Verdict::Crash("a task of a panicked: nobody looks".into()));
}

#[test]
fn a_client_that_does_not_finish_is_missed() {
    let silent = |seat: ClientSeat| -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async move {
            seat.stages.reached(Stage::Stop).await;
            Ok(())
        })
    };
    let Verdict::Liveness(text) = verdict(&Two(idle_server, silent)) else { panic!("it passed") };
    assert!(text.contains("2 clients have more to send, client1 among them"), "{text}");
    let lingers = |seat: ClientSeat| -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async move {
            seat.journal.write(&seat.process, restante_sim::history::What::Rested { stage: Stage::Calm });
            std::future::pending().await
        })
    };
    let Verdict::Liveness(text) = verdict(&Two(idle_server, lingers)) else { panic!("it passed") };
    assert!(text.contains("client1, client2 have not closed"), "{text}");
}

#[test]
fn the_wall_clock_is_the_plans_and_moves_with_simulated_time() {
    let reads = |_| -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async {
            assert_eq!(SimWorld::unix_millis() / 1000, 1_767_225_600);
            let before = SimWorld::unix_millis();
            SimWorld::sleep(std::time::Duration::from_millis(250)).await;
            assert_eq!(SimWorld::unix_millis() - before, 250);
            std::future::pending().await
        })
    };
    assert_eq!(verdict(&Two(reads, idle_client)), Verdict::Passed);
}

#[test]
fn clocks_jump_and_drift_and_are_right_again() {
    let tells = |seat: ServerSeat| -> BoxFuture<'static, Result<(), String>> {
        Box::pin(async move {
            let start = SimWorld::now();
            for n in 1..=12 {
                SimWorld::sleep_until(start + std::time::Duration::from_millis(250) * n).await;
                let (wall, own) = (SimWorld::unix_millis() as i64 - 1_767_225_600_000, SimWorld::now() - start);
                let detail = format!("wall={wall} own={}", own.as_millis());
                SimWorld::observe(|| restante::world::Event { kind: "clock", who: None, detail });
            }
            drop(seat);
            std::future::pending().await
        })
    };
    let plan = "servers a b c\nclients 0\nduration 4s\n\
        at 1s for 1s clock-jump a -100s\nat 600ms for 300ms clock-jump a +7s\nat 1s for 1s clock-drift b +50%";
    let outcome = run(&plan.parse().unwrap(), &Two(tells, idle_client), Lines::ring(usize::MAX));
    assert_eq!(outcome.verdict, Verdict::Passed);
    // The simulation's time at which a host saw a reading of its clocks.
    let at = |host: &str, reading: &str| {
        let mut lines = outcome.lines.iter().map(|line| parts(line));
        let found = lines.find(|(_, who, kind, rest)| *who == host && *kind == "clock" && rest.trim() == reading);
        found.map(|(at, ..)| (at * 1000.0).round() as u64)
    };
    assert_eq!(at("c", "wall=2000 own=2000"), Some(2000));
    assert_eq!(at("a", "wall=7750 own=750"), Some(750));
    assert_eq!(at("a", "wall=-98750 own=1250"), Some(1250));
    assert_eq!(at("a", "wall=2250 own=2250"), Some(2250));
    // Half as fast again from 1 s to 2 s: what it took for 2.5 s was 2 s.
    let b = |own: u64| outcome.lines.iter().find(|l| parts(l).1 == "b" && l.ends_with(&format!("own={own}")));
    let when = |own| b(own).map(|line| (parts(line).0 * 1000.0).round() as u64);
    assert!(when(1750).is_some_and(|at| (1499..=1502).contains(&at)), "{:?}", when(1750));
    assert!(when(2500).is_some_and(|at| (1999..=2002).contains(&at)), "{:?}", when(2500));
}
