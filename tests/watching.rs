//! What watches a server: metrics, health, the pages, `restante top`.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

mod support;

use std::collections::BTreeMap;

use serde_json::json;
use support::http::{Http, ask, post};
use support::traffic::{client, name, within};
use support::{Cluster, wait_for};

/// Name with labels, and value.
type Samples = BTreeMap<String, f64>;

fn page(address: &str) -> String {
    let response = ask(address, "GET", "/metrics", None);
    assert_eq!(response.status, 200, "{response:?}");
    assert!(
        response.header("content-type").is_some_and(|kind| kind.starts_with("text/plain; version=0.0.4")),
        "{response:?}"
    );
    response.text
}

fn samples(page: &str) -> Samples {
    let lines = page.lines().filter(|line| !line.starts_with('#'));
    let sample = |line: &str| {
        let (name, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line:?}"));
        (name.to_owned(), value.parse().unwrap_or_else(|_| panic!("no number: {line:?}")))
    };
    lines.map(sample).collect()
}

/// Names and types, as the page declares them.
fn families(page: &str) -> BTreeMap<String, String> {
    let declared = page.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    declared.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

fn serving(servers: usize, arguments: &[&str]) -> Cluster {
    let mut cluster = Cluster::prepare(servers).with_arguments(arguments);
    cluster.start_all();
    cluster.wait_for_leader();
    for address in cluster.addresses() {
        wait_for("a server that serves", || (ask(&address, "GET", "/health/ready", None).status == 200).then_some(()));
    }
    cluster
}

fn register(address: &str, name: &str) {
    let port: u16 = address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
    post(address, "/register", &json!({ "client_id": name, "port": port })).is(200);
}

#[test]
fn the_page_of_the_metrics_lists_what_there_is() {
    let cluster = serving(3, &[]);
    let leader = cluster.wait_for_leader();
    let declared = families(&page(&cluster.address(leader)));
    assert!(declared.len() > 30, "{declared:?}");
    let document = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/metrics.md")).expect("the page");
    let listed: BTreeMap<String, String> = document
        .lines()
        .filter_map(|line| {
            let mut cells = line.strip_prefix("| `restante_")?.split('|').map(str::trim);
            let name = cells.next()?.trim_end_matches('`');
            Some((format!("restante_{name}"), cells.next()?.to_owned()))
        })
        .collect();
    if listed != declared {
        let text = page(&cluster.address(leader));
        let help = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(&format!("# HELP {name} ")));
            line.unwrap_or_default().to_owned()
        };
        let rows: Vec<String> =
            declared.iter().map(|(name, kind)| format!("| `{name}` | {kind} | {} |", help(name))).collect();
        panic!("docs/metrics.md lists others than there are. They are:\n{}", rows.join("\n"));
    }
    // Whoever reads it by a machine finds each family declared before its samples, and nothing else.
    for (name, value) in samples(&page(&cluster.address(leader))) {
        let base = name.split('{').next().unwrap_or_default();
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| base.strip_suffix(end)).unwrap_or(base);
        assert!(declared.contains_key(base) || declared.contains_key(family), "{name} is declared nowhere");
        assert!(value >= 0.0, "{name} {value}");
    }
}

#[test]
fn what_passes_is_counted_where_it_passes() {
    let cluster = serving(3, &[]);
    let leader = cluster.wait_for_leader();
    let (here, there) = (cluster.address(leader), cluster.address((leader + 1) % 3));
    register(&here, "alice");
    register(&here, "bob");
    let before = samples(&page(&there));
    for n in 0..10 {
        post(&there, "/share", &json!({ "sender_id": "alice", "receiver_id": "bob", "message": n })).is(200);
    }
    post(&there, "/share", &json!({ "sender_id": "alice", "receiver_id": "nobody", "message": "x" }))
        .says(400, "Invalid data");
    let after = samples(&page(&there));
    let grew = |name: &str| after[name] - before.get(name).copied().unwrap_or(0.0);
    assert_eq!(grew("restante_messages_accepted_total"), 10.0);
    assert_eq!(grew("restante_messages_refused_total"), 1.0);
    assert!(grew("restante_receipt_latency_seconds_count") >= 10.0);
    assert!(after["restante_receipt_latency_seconds_sum"] > 0.0);
    assert!(grew("restante_log_sync_seconds_count") >= 1.0);
    assert_eq!(grew("restante_http_requests_total{status=\"4xx\"}"), 1.0);
    assert_eq!(after["restante_inbox_messages"], 10.0);
    assert!(grew("restante_network_bytes_total{connections=\"accepted\",direction=\"received\"}") > 1000.0);
    let to_leader =
        format!("restante_network_bytes_total{{connections=\"{}\",direction=\"sent\"}}", cluster.name(leader));
    assert!(grew(&to_leader) > 0.0, "batches go to the leader: {after:?}");
    assert_eq!(samples(&page(&here))["restante_messages_accepted_total"], 0.0, "they came in elsewhere");
    // A session reads, at whatever server it is.
    cluster.run(&["listen", "bob", "--count", "10"]).ok();
    wait_for("the acknowledgements to be counted", || {
        let pages: Vec<Samples> = cluster.addresses().iter().map(|address| samples(&page(address))).collect();
        let sum = |name: &str| pages.iter().map(|page| page[name]).sum::<f64>();
        assert!(sum("restante_messages_delivered_total") >= 10.0);
        (sum("restante_messages_acknowledged_total") == 10.0).then_some(())
    });
    let led = samples(&page(&here));
    assert_eq!((led["restante_role{role=\"leader\"}"], led["restante_role{role=\"follower\"}"]), (1.0, 0.0));
    assert!(led["restante_elections_won_total"] >= 1.0);
    let lag = format!("restante_replication_lag_entries{{server=\"{}\"}}", cluster.name((leader + 1) % 3));
    assert!(led.contains_key(&lag), "{led:?}");
}

#[test]
fn each_limit_that_is_hit_is_counted() {
    let cluster = serving(1, &["--connections", "12", "--clients", "2", "--inbox-messages", "3"]);
    let address = cluster.address(0);
    register(&address, "alice");
    register(&address, "bob");
    let third = post(&address, "/v1/clients", &json!({ "name": "carol" }));
    assert_eq!(third.status, 429, "{third:?}");
    let share =
        || post(&address, "/share", &json!({ "sender_id": "alice", "receiver_id": "bob", "message": "x" })).status;
    assert_eq!([share(), share(), share(), share()], [200, 200, 200, 422]);
    let large = "x".repeat((2 << 20) + 1);
    assert_eq!(ask(&address, "POST", "/share", Some(&large)).status, 413);
    let held: Vec<Http> = (0..12)
        .map(|_| {
            let mut http = Http::connect(&address);
            http.send("GET", "/health/live", None);
            http.read(true);
            http
        })
        .collect();
    wait_for("a connection to be refused", || {
        let mut http = Http::connect(&address);
        http.send("GET", "/health/live", None);
        http.read(true).filter(|response| response.status == 503).map(drop)
    });
    drop(held);
    let hits = wait_for("a place", || {
        let mut http = Http::connect(&address);
        http.send("GET", "/metrics", None);
        let response = http.read(true).filter(|response| response.status == 200)?;
        Some(samples(&response.text))
    });
    for (limit, least) in [("clients", 1.0), ("inbox", 1.0), ("http_body_bytes", 1.0), ("connections", 1.0)] {
        let counted = hits[&format!("restante_limit_hits_total{{limit=\"{limit}\"}}")];
        assert!(counted >= least, "{limit}: {counted}");
    }
    assert_eq!(hits["restante_limit_hits_total{limit=\"backups\"}"], 0.0);
}

#[test]
fn a_server_is_ready_while_it_serves_and_lives_as_long_as_it_answers() {
    let mut cluster = serving(3, &[]);
    let left = cluster.wait_for_leader();
    let address = cluster.address(left);
    assert_eq!(ask(&address, "GET", "/health/live", None).text, "alive\n");
    assert_eq!(ask(&address, "GET", "/health/ready", None).text, "ready\n");
    (0..3).filter(|number| *number != left).for_each(|number| cluster.kill(number));
    let unready =
        wait_for("it to notice", || Some(ask(&address, "GET", "/health/ready", None)).filter(|r| r.status == 503));
    assert!(unready.text.starts_with("not ready: "), "{unready:?}");
    assert_eq!(ask(&address, "GET", "/health/live", None).status, 200);
    assert_eq!(samples(&page(&address))["restante_serves"], 0.0);
    cluster.start_all();
    wait_for("it to be ready", || (ask(&address, "GET", "/health/ready", None).status == 200).then_some(()));
}

#[test]
fn the_pages_come_out_of_the_program() {
    let cluster = serving(1, &[]);
    let address = cluster.address(0);
    let index = ask(&address, "GET", "/", None);
    assert_eq!((index.status, index.header("content-type")), (200, Some("text/html; charset=utf-8")));
    assert!(index.header("content-security-policy").is_some_and(|policy| policy.starts_with("default-src 'none'")));
    // Everything that it names is there.
    let named = index.text.split('"').filter(|text| text.starts_with("/console/") || *text == "/v1/docs");
    let named: Vec<&str> = named.collect();
    assert!(named.len() >= 3, "{named:?}");
    for path in named.into_iter().chain([
        "/console/store.js",
        "/console/cluster.js",
        "/console/picture.js",
        "/console/clients.js",
        "/console/client.js",
        "/console/docs.js",
    ]) {
        let file = ask(&address, "GET", path, None);
        assert_eq!(file.status, 200, "{path}");
        assert!(!file.text.contains("https://"), "{path} would load something from the network");
    }
    assert_eq!(ask(&address, "POST", "/", Some("{}")).status, 405);
    assert_eq!(ask(&address, "GET", "/console/nothing.js", None).status, 404);
}

#[test]
fn top_shows_the_cluster_without_a_terminal() {
    let cluster = serving(3, &[]);
    let leader = cluster.wait_for_leader();
    let shown = cluster.run(&["top", "--once", "--interval", "100ms"]).ok();
    assert!(shown.contains(&format!("{} leads, in term", cluster.name(leader))), "{shown}");
    for number in 0..3 {
        assert!(shown.contains(&cluster.address(number)), "{shown}");
    }
    let nobody = support::run(support::restante().args(["top", "--once", "--servers", "127.0.0.1:1"]));
    nobody.fails(4, "no server answers");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_is_followed_through_the_logs_of_all_servers_that_it_passes() {
    let mut cluster = Cluster::prepare(3);
    cluster.set_environment("RESTANTE_LOG", "restante=debug");
    cluster.start_all();
    let leader = cluster.wait_for_leader();
    for address in cluster.addresses() {
        wait_for("a server that serves", || (ask(&address, "GET", "/health/ready", None).status == 200).then_some(()));
    }
    let homes: Vec<usize> = (0..3).filter(|number| *number != leader).collect();
    let reader = client(&cluster.addresses(), Some(name(&cluster.name(homes[0])))).await;
    for who in ["alice", "bob"] {
        reader.register(&name(who)).await.unwrap();
    }
    let mut inbox = reader.listen(&name("bob"), 10).await.unwrap();
    let body = r#"{"from": "alice", "to": "bob", "text": "hello"}"#;
    let address = cluster.address(homes[1]);
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: {address}\r\nX-Request-Id: order-17\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let mut http = Http::connect(&address);
    http.write(format!("{head}{body}").as_bytes());
    assert_eq!(http.read(true).expect("an answer").status, 201);
    within("a delivery", inbox.next()).await.expect("the reader goes on").expect("a delivery");
    let line = |number: usize, words: &[&str]| {
        wait_for("a line in the log", || {
            let log = cluster.log(number);
            log.lines().find(|line| words.iter().all(|word| line.contains(word))).map(str::to_owned)
        })
    };
    let judged = line(homes[1], &["order-17", "judged", "send="]);
    let send = judged.split_whitespace().find(|word| word.starts_with("send=")).expect("its name");
    line(leader, &[send, "proposed"]);
    line(homes[0], &[send, "handed to its reader", "position=1"]);
}
