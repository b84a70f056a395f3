//! The examples of `examples/api` are run as they stand.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

#[path = "support/browser.rs"]
mod browser;
mod support;

use std::process::Command;

use browser::Browser;
use support::http::ask;
use support::{Cluster, run_briefly, wait_for};

fn serving(servers: usize) -> Cluster {
    let cluster = Cluster::start(servers);
    for address in cluster.addresses() {
        wait_for("a server that serves", || (ask(&address, "GET", "/health/ready", None).status == 200).then_some(()));
    }
    cluster
}

fn example(name: &str) -> String {
    format!("{}/examples/api/{name}", env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_python_example_sends_each_message_once_although_a_server_is_down() {
    let has_requests = Command::new("python3").args(["-c", "import requests"]).output();
    if !has_requests.is_ok_and(|output| output.status.success()) {
        eprintln!("python3 with requests is not here: examples/api/chat.py is not run");
        return;
    }
    let mut cluster = serving(3);
    let leader = cluster.wait_for_leader();
    cluster.kill((leader + 1) % 3);
    let servers = cluster.addresses().into_iter().map(|address| format!("http://{address}"));
    let said = run_briefly(Command::new("python3").arg(example("chat.py")).args(servers)).ok();
    let texts: Vec<&str> =
        said.lines().filter_map(|line| line.split_once("py-alice: ").map(|(_, text)| text)).collect();
    let mut expected: Vec<String> = (1..=10).map(|n| format!("message {n}")).collect();
    expected.extend(["by key".to_owned(), "AP8=".to_owned()]);
    assert_eq!(texts, expected, "{said}");
    assert!(said.contains("12 messages, acknowledged up to 12"), "{said}");
}

#[test]
fn the_curl_example_sends_reads_and_acknowledges() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("curl is not here: examples/api/chat.sh is not run");
        return;
    }
    let cluster = serving(1);
    let said =
        run_briefly(Command::new("bash").args([example("chat.sh"), format!("http://{}", cluster.address(0))])).ok();
    assert!(said.contains(r#"{"acknowledged":2}"#) && said.contains(r#"{"acknowledged":3}"#), "{said}");
    let history = said.lines().last().unwrap_or_default();
    assert!(history.contains("\"channel\":\"sh.news\""), "{said}");
    assert_eq!(said.matches(r#"{"position":1,"inboxes":1}"#).count(), 2, "{said}");
}

#[test]
fn the_script_of_the_browser_example_runs_in_a_page_of_the_cluster() {
    let cluster = serving(3);
    let Some(mut browser) = Browser::start() else { return };
    let text = std::fs::read_to_string(example("browser.html")).expect("the example");
    let (_, script) = text.split_once("<script>").expect("a script");
    let (script, _) = script.split_once("</script>").expect("its end");
    let page = browser.open(&format!("http://{}/v1/docs", cluster.address(0)), (800, 600), false);
    browser.wait(&page, "the page", "document.querySelectorAll('.operation').length > 30");
    // At another server than the page came from.
    let script = script.replace("location.hash.slice(1)", &format!("'http://{}'", cluster.address(1)));
    browser.value(&page, "document.body.append(Object.assign(document.createElement('pre'), { id: 'out' })); 0");
    browser.value(&page, &format!("(() => {{ {script} }})()"));
    browser.wait(
        &page,
        "it to be done",
        "document.getElementById('out').innerText.includes('done: acknowledged up to 3')",
    );
    let out = browser.value(&page, "document.getElementById('out').innerText");
    let out = out.as_str().expect("a text");
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines[..3], ["1 js-alice: message 1", "2 js-alice: message 2", "3 js-alice: message 3"], "{out}");
}
