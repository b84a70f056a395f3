//! `restante bench`: each workload runs to its end, and nothing is lost or doubled. How fast it was is no test's
//! business.

mod support;

use serde_json::Value;
use support::{Cluster, restante, run};

/// Runs workloads on three servers of their own, briefly; returns the results.
fn bench(arguments: &[&str]) -> Vec<Value> {
    let few = ["--seconds", "1", "--singles", "50", "--backlog", "3000", "--rate", "500", "--senders", "8"];
    let ran = run(restante().args(["bench", "--local", "3", "--json", "--recipients", "8"]).args(few).args(arguments));
    let results: Vec<Value> =
        ran.ok().lines().map(|line| serde_json::from_str(line).expect("a line of JSON")).collect();
    assert_eq!(results[0]["w"], "start", "{results:?}");
    assert!(results.iter().all(|result| result["target"] == "restante" && result["run"] == 0), "{results:?}");
    results[1..].to_vec()
}

/// Nothing is wrong with a result, and everything that got a receipt was delivered.
fn assert_clean(result: &Value) {
    for count in ["lost", "dups", "disordered", "altered", "errors"] {
        assert_eq!(result[count], 0, "{count} in {result}");
    }
    assert!(result["confirmed"].as_u64() > Some(0), "{result}");
    assert_eq!(result["delivered"], result["confirmed"], "{result}");
    assert_eq!(result["sent"], result["confirmed"], "{result}");
}

#[test]
fn throughput_and_latency_lose_nothing() {
    let results = bench(&["w1", "w2", "w3"]);
    let names: Vec<&Value> = results.iter().map(|result| &result["w"]).collect();
    assert_eq!(names, ["w1", "w2", "w3", "w3-half"]);
    results.iter().for_each(assert_clean);
    let [w1, w2, w3, half] = &results[..] else { unreachable!("four were counted") };
    assert_eq!(w1["empty"]["left"], 0, "{w1}");
    assert!(w1["usage"]["broker_cpu_s"].as_f64() > Some(0.0) && w1["peak_rss_mb"].as_f64() > Some(1.0), "{w1}");
    assert_eq!((&w2["confirm"]["n"], &w2["e2e"]["n"]), (&Value::from(50), &Value::from(50)), "{w2}");
    assert_eq!((&w3["scheduled"], &w3["confirmed"]), (&Value::from(500), &Value::from(500)), "{w3}");
    assert_eq!(half["rate"].as_u64(), w1["acked_per_s"].as_f64().map(|reached| reached as u64 / 2), "{half}");
}

#[test]
fn a_backlog_waits_and_comes() {
    let results = bench(&["w4", "--body", "1KiB"]);
    let [w4] = &results[..] else { panic!("{results:?}") };
    assert_clean(w4);
    for count in ["confirmed", "stored", "drained"] {
        assert_eq!(w4[count], 3000, "{count} in {w4}");
    }
}

#[test]
fn very_many_names_are_registered_and_are_there_after_a_start() {
    let results = bench(&["names", "--names", "3000"]);
    let [names] = &results[..] else { panic!("{results:?}") };
    assert_clean(names);
    assert_eq!(names["names"], 3000, "{names}");
    assert!(names["registered_per_s"].as_f64() > Some(0.0), "{names}");
    assert!(names["meanwhile"]["n"].as_u64() > Some(0), "somebody sent meanwhile: {names}");
}

#[test]
fn a_killed_leader_and_a_power_cut_lose_nothing() {
    let results = bench(&["w5,w6"]);
    results.iter().for_each(assert_clean);
    let [w5, w6] = &results[..] else { panic!("{results:?}") };
    assert!(w5["killed"]["what"].as_str().is_some_and(|what| what.starts_with("server ")), "{w5}");
    assert_eq!((&w5["confirmed"], &w5["confirmed_never_delivered_2of3"]), (&w5["scheduled"], &Value::from(0)), "{w5}");
    assert_eq!(w6["confirmed"], 20_000, "{w6}");
    let (before, first) = (w6["receipts_before_cut"].as_u64(), w6["first_delivery_after_start_ms"].as_f64());
    assert!(before >= Some(15_000) && before < Some(20_000), "the cut comes under load: {w6}");
    assert!(first > Some(0.0), "nothing was delivered while all were dead: {w6}");
}

#[test]
fn a_given_cluster_is_measured_and_left_as_it_was() {
    let cluster = Cluster::start(3);
    let table = cluster.run(&["bench", "w1", "w2", "--seconds", "1", "--singles", "20", "--senders", "4"]).ok();
    for part in ["MEDIAN", "sends receipted", "receipt p99.9", "lost"] {
        assert!(table.contains(part), "{part} is not in {table}");
    }
    let who = cluster.run(&["who", "--json"]).json();
    assert_eq!(who["clients"], serde_json::json!([]), "its names are taken away again");
    cluster.run(&["bench", "w5"]).fails(2, "--local 3");
}

#[test]
fn wrong_arguments_say_what_to_do() {
    run(restante().args(["bench", "w7"])).fails(2, "w1 to w6");
    run(restante().args(["bench", "--local", "1", "w5"])).fails(2, "fewer than three");
    run(restante().args(["bench", "--local", "3", "--ports", "9001"])).fails(2, "--ports names 1 ports for --local 3");
    run(restante().args(["bench", "--body", "1GiB"])).fails(2, "at most");
    run(restante().args(["bench", "--ports", "9001"])).fails(2, "--local");
    run(restante().args(["bench", "--servers", "127.0.0.1:1", "w2", "--timeout", "1s"])).fails(4, "127.0.0.1:1");
}
