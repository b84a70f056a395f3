//! The console in a real browser: it shows the cluster, two windows chat through two servers, the leader is killed, and the
//! page goes on.
//!
//! `RESTANTE_PICTURES=DIR` keeps pictures of what was seen.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::path::PathBuf;

use browser::{Browser, Page};
use serde_json::{Value, json};
use support::http::{ask, post};
use support::{Cluster, wait_for};

fn serving(servers: usize) -> Cluster {
    let cluster = Cluster::start(servers);
    for address in cluster.addresses() {
        wait_for("a server that serves", || (ask(&address, "GET", "/health/ready", None).status == 200).then_some(()));
    }
    cluster
}

fn register(cluster: &Cluster, name: &str) {
    assert_eq!(post(&cluster.address(0), "/v1/clients", &json!({ "name": name })).status, 201, "{name}");
}

fn keep(browser: &mut Browser, page: &Page, name: &str) {
    if let Some(directory) = std::env::var_os("RESTANTE_PICTURES") {
        let directory = PathBuf::from(directory);
        std::fs::create_dir_all(&directory).expect("a directory");
        browser.picture(page, true, &directory.join(format!("{name}.png")));
    }
}

fn url(cluster: &Cluster, number: usize, hash: &str) -> String {
    format!("http://{}/{hash}", cluster.address(number))
}

fn has_text(selector: &str, text: &str) -> String {
    format!("document.querySelector('{selector}')?.innerText.includes({})", json!(text))
}

fn send(browser: &mut Browser, page: &Page, to: &str, text: &str) {
    browser.type_into(page, "#send-to", to);
    browser.type_into(page, "#send-text", text);
    browser.press(page, "Enter");
}

#[test]
fn two_windows_chat_through_two_servers_and_outlive_the_leader() {
    let mut cluster = serving(3);
    let Some(mut browser) = Browser::start() else { return };
    for name in ["alice", "bob"] {
        register(&cluster, name);
    }
    let leader = cluster.wait_for_leader();
    let (here, there) = (leader, (leader + 1) % 3);
    let watch = browser.open(&url(&cluster, there, ""), (1440, 900), false);
    browser.wait(&watch, "the leader", &has_text("#headline", &format!("{} leads, in term", cluster.name(leader))));
    browser.wait(&watch, "all servers", "document.querySelectorAll('#servers tr').length === 3");
    browser.wait(&watch, "nobody to be missing", "!document.querySelector('#servers').innerText.includes('no answer')");
    browser.wait(
        &watch,
        "one leader in the picture",
        "document.querySelectorAll('#picture .node.leader').length === 1",
    );
    // Alice sits at the leader, and Bob at another server.
    let alice = browser.open(&url(&cluster, here, "#/client/alice"), (720, 900), false);
    let bob = browser.open(&url(&cluster, there, "#/client/bob"), (720, 900), true);
    browser.wait(&alice, "alice's page", &has_text("#client-words", "at home at"));
    browser.wait(&bob, "bob's page", &has_text("#client-words", "at home at"));
    send(&mut browser, &alice, "bob", "hello bob <b>& all</b>");
    browser.wait(&bob, "the message", &has_text("#messages", "hello bob <b>& all</b>"));
    browser.wait(&alice, "the receipt", &has_text("#messages", "accepted at position 1"));
    assert_eq!(browser.value(&bob, "document.querySelector('#send-to').value"), "alice", "an answer goes back");
    send(&mut browser, &bob, "alice", "hello alice");
    browser.wait(&alice, "the answer", &has_text("#messages", "hello alice"));
    browser.wait(&watch, "it to pass", &has_text("#passing", "alice → bob"));
    send(&mut browser, &alice, "nobody", "is anybody there?");
    browser.wait(&alice, "the refusal", &has_text("#messages", "no client of that name is registered"));
    // Bob takes what he has seen out of his inbox.
    browser.wait(&bob, "something to acknowledge", "!document.querySelector('#acknowledge').disabled");
    browser.value(&bob, "document.querySelector('#acknowledge').click()");
    browser.wait(&bob, "it to be gone", &has_text("#waiting-words", "nothing waits"));
    browser.wait(&alice, "the delivered receipt", &has_text("#messages", "acknowledged ✓"));
    keep(&mut browser, &alice, "chat-light");
    keep(&mut browser, &bob, "chat-dark");

    cluster.kill(leader);
    browser.wait(&watch, "the loss", &has_text("#servers", "no answer"));
    let other =
        [(leader + 1) % 3, (leader + 2) % 3].map(|n| format!("text.startsWith('{} leads, in term')", cluster.name(n)));
    let led = format!(
        "(() => {{ const text = document.querySelector('#headline').innerText; return {} }})()",
        other.join(" || ")
    );
    browser.wait(&watch, "another leader", &led);
    browser.wait(&watch, "the election in the log", &has_text("#log", "leads, in term"));
    // Alice's server is gone. Her page goes on by another one, and what she sends arrives once.
    browser.wait(&alice, "alice's page to move", &has_text("#via", &format!("{} is gone: via", cluster.name(here))));
    send(&mut browser, &alice, "bob", "still here");
    browser.wait(&bob, "the message after the failover", &has_text("#messages", "still here"));
    browser.wait(&alice, "the receipt after the failover", &has_text("#messages", "accepted at position 2"));
    send(&mut browser, &bob, "alice", "so am I");
    browser.wait(&alice, "the answer after the failover", &has_text("#messages", "so am I"));
    keep(&mut browser, &watch, "cluster-one-down");
    cluster.start_server(leader);
    browser.wait(&watch, "it to be back", "document.querySelectorAll('#picture .node.down').length === 0");
    browser.wait(&alice, "alice's page to be at a server", "document.querySelector('#via').classList.contains('live')");
    let inbox: Value =
        serde_json::from_str(&ask(&cluster.address(there), "GET", "/v1/clients/bob/inbox", None).text).expect("JSON");
    assert_eq!(inbox["messages"].as_array().map(Vec::len), Some(1), "{inbox}");
    assert_eq!(browser.errors, Vec::<String>::new());
}

#[test]
fn channels_are_made_and_joined_and_what_is_sent_to_one_comes_to_its_members() {
    let cluster = serving(3);
    let Some(mut browser) = Browser::start() else { return };
    for name in ["alice", "bob", "carol"] {
        register(&cluster, name);
    }
    let channels = browser.open(&url(&cluster, 0, "#/channels"), (1440, 900), false);
    browser.wait(&channels, "no channel", &has_text("#channels-words", "There is no channel here"));
    browser.type_into(&channels, "#make-name", "orders.new");
    browser.press(&channels, "Enter");
    browser.wait(&channels, "the channel", &has_text("#channel-rows", "orders.new"));
    let channel = browser.open(&url(&cluster, 1, "#/channel/orders.new"), (390, 844), true);
    browser.wait(&channel, "nobody", &has_text("#channel-words", "nobody has joined"));
    for name in ["bob", "carol"] {
        browser.type_into(&channel, "#join-name", name);
        browser.press(&channel, "Enter");
        browser.wait(&channel, "the member", &has_text("#member-rows", name));
    }
    keep(&mut browser, &channel, "channel-dark");
    let alice = browser.open(&url(&cluster, 2, "#/client/alice"), (720, 900), false);
    let bob = browser.open(&url(&cluster, 0, "#/client/bob"), (720, 900), false);
    browser.wait(&alice, "alice's page", &has_text("#client-words", "at home at"));
    send(&mut browser, &alice, "#orders.new", "3 chairs");
    browser.wait(&alice, "the receipt", &has_text("#messages", "accepted, in 2 inboxes"));
    browser.wait(&bob, "the message", &has_text("#messages", "alice to #orders.new"));
    send(&mut browser, &alice, "bob, nobody", "both of you or neither");
    browser.wait(&alice, "the refusal", &has_text("#messages", "went to none"));
    browser.value(&channel, "document.querySelector('#member-rows button').click()");
    browser.wait(&channel, "one to leave", &has_text("#channel-words", "1 member"));
    send(&mut browser, &alice, "#orders.new", "and a table");
    browser.wait(&alice, "the second receipt", &has_text("#messages", "accepted, in 1 inbox"));
}

#[test]
fn the_console_fits_its_window_and_is_quick_with_ten_thousand_clients() {
    let cluster = serving(3);
    let Some(mut browser) = Browser::start() else { return };
    std::thread::scope(|scope| {
        for part in 0..4 {
            let address = cluster.address(part % 3);
            scope.spawn(move || {
                let mut http = support::http::Http::connect(&address);
                for n in (part..10_000).step_by(4) {
                    http.send("POST", "/v1/clients", Some(&json!({ "name": format!("client-{n:05}") }).to_string()));
                    assert_eq!(http.read(true).expect("an answer").status, 201);
                }
            });
        }
    });
    for (name, size) in [("wide", (1440, 900)), ("narrow", (390, 844))] {
        for dark in [false, true] {
            let tone = if dark { "dark" } else { "light" };
            for (view, hash, ready) in [
                (
                    "cluster",
                    "",
                    "document.querySelectorAll('#picture .node.leader').length === 1 && document.querySelectorAll('#servers tr').length === 3",
                ),
                (
                    "channels",
                    "#/channels",
                    "document.querySelector('#channels-words').innerText.includes('no channel')",
                ),
                ("clients", "#/clients", "document.querySelectorAll('#client-rows tr').length === 50"),
                (
                    "client",
                    "#/client/client-00007",
                    "document.querySelector('#client-words')?.innerText.includes('at home at')",
                ),
            ] {
                let page = browser.open(&url(&cluster, 0, hash), size, dark);
                browser.wait(&page, view, ready);
                let wider = browser.value(&page, "document.documentElement.scrollWidth - innerWidth");
                assert!(wider.as_i64() <= Some(0), "{view} at {size:?} is wider than its window by {wider}");
                keep(&mut browser, &page, &format!("{view}-{name}-{tone}"));
            }
        }
    }
    let page = browser.open(&url(&cluster, 1, "#/clients"), (1440, 900), false);
    browser.wait(&page, "the first page", &has_text("#page-words", "client-00000 to client-00049"));
    browser.value(&page, "document.querySelector('#page-on').click()");
    browser.wait(&page, "the second page", &has_text("#page-words", "client-00050 to client-00099"));
    browser.value(&page, "document.querySelector('#page-back').click()");
    browser.wait(&page, "the first page again", &has_text("#page-words", "client-00000 to client-00049"));
    browser.type_into(&page, "#find-name", "client-09");
    browser.wait(&page, "those from there", &has_text("#page-words", "client-09000 to client-09049"));
    // What a page costs: one answer, and one drawing of fifty rows.
    let spent = browser.value(
        &page,
        "(async () => { const begin = performance.now(); await (await fetch('/v1/clients?local=true&limit=50&after=client-05000')).json(); return performance.now() - begin })()",
    );
    assert!(spent.as_f64() < Some(1000.0), "a page took {spent} ms");
    // By keys alone: from the top to the first link of the navigation, and on.
    let page = browser.open(&url(&cluster, 2, ""), (1440, 900), false);
    browser.wait(&page, "the cluster", "document.querySelectorAll('#servers tr').length === 3");
    let mut seen = Vec::new();
    for _ in 0..4 {
        browser.press(&page, "Tab");
        seen.push(browser.value(&page, "document.activeElement.innerText.trim()"));
    }
    assert_eq!(seen, ["Skip to the content", "Restante", "Cluster", "Clients"], "{seen:?}");
    browser.press(&page, "Enter");
    browser.wait(&page, "the clients", "document.querySelectorAll('#client-rows tr').length === 50");
    // Nothing jumps while numbers change.
    let page = browser.open(&url(&cluster, 2, ""), (1440, 900), false);
    browser.wait(&page, "the cluster", "document.querySelectorAll('#servers tr').length === 3");
    browser.value(&page, "new Promise((done) => setTimeout(done, 1500))");
    browser.value(
        &page,
        "globalThis.jumps = 0; new PerformanceObserver((list) => { for (const e of list.getEntries()) jumps += e.value }).observe({ type: 'layout-shift', buffered: false }); 0",
    );
    for n in 0..20 {
        post(
            &cluster.address(0),
            "/share",
            &json!({ "sender_id": "client-00001", "receiver_id": "client-00002", "message": n }),
        )
        .is(200);
    }
    browser.value(&page, "new Promise((done) => setTimeout(done, 2500))");
    let jumps = browser.value(&page, "jumps");
    assert!(jumps.as_f64() < Some(0.01), "the layout shifts by {jumps}");
    // The page about the API is made of the document.
    let page = browser.open(&url(&cluster, 0, "v1/docs"), (1440, 900), false);
    browser.wait(&page, "the operations", "document.querySelectorAll('.operation').length > 30");
    keep(&mut browser, &page, "docs");
    assert_eq!(browser.errors, Vec::<String>::new());
}

#[test]
fn a_page_that_is_loaded_again_after_its_server_died_goes_on_at_another() {
    let mut cluster = serving(3);
    let Some(mut browser) = Browser::start() else { return };
    let leader = cluster.wait_for_leader();
    let here = (leader + 1) % 3;
    register(&cluster, "alice");
    let page = browser.open(&url(&cluster, here, "#/client/alice"), (1000, 800), false);
    browser.wait(&page, "alice's page", &has_text("#client-words", "at home at"));
    let kept = "caches.open('console').then((kept) => kept.keys()).then((keys) => keys.length >= 10)";
    wait_for("its files to be kept", || (browser.value(&page, kept) == true).then_some(()));
    browser.wait(&page, "the worker", "navigator.serviceWorker.controller");
    cluster.kill(here);
    browser.value(&page, "window.before = true; setTimeout(() => location.reload(), 0)");
    browser.wait(&page, "the page to be loaded again", "window.before === undefined && document.querySelector('#via')");
    browser.wait(&page, "it to go on", &has_text("#via", &format!("{} is gone: via", cluster.name(here))));
    browser.wait(&page, "alice's page again", &has_text("#client-words", "at home at"));
    send(&mut browser, &page, "alice", "to myself");
    browser.wait(&page, "the receipt", &has_text("#messages", "accepted at position 1"));
    browser.value(&page, "location.hash = '#/'");
    browser.wait(&page, "the cluster", &has_text("#servers", "no answer"));
}
