//! The report's page in a real browser: it loads without an error, shows the violation, and a click on a message shows
//! what it says.
//!
//! The page looks at itself when it is opened with `#selfcheck` (the end of `page.js`) and writes what it sees into
//! itself; the browser prints the page, and nothing listens on any port.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::{env, fs};

use restante_sim::cluster::Cluster;
use restante_sim::plan::Plan;
use restante_sim::record::record;
use restante_sim::report;
use restante_sim::run::Verdict;
use restante_sim::scenario::Scenario;
use restante_sim::story::Story;
use restante_sim::toy::{Flaw, Toy};
use serde_json::Value;

const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// The browser; `None` if the environment says that there is none.
fn browser() -> Option<PathBuf> {
    if env::var("RESTANTE_NO_BROWSER").is_ok_and(|value| value == "1") {
        return None;
    }
    let paths = env::var_os("PATH").unwrap_or_default();
    let found =
        env::split_paths(&paths).flat_map(|path| BROWSERS.map(|name| path.join(name))).find(|path| path.is_file());
    assert!(
        found.is_some(),
        "no browser is here: install one (Debian: apt-get install -y chromium), or go without: RESTANTE_NO_BROWSER=1"
    );
    found
}

fn page_of(plan: &Plan, scenario: &dyn Scenario) -> (Verdict, String) {
    let (outcome, record) = record(plan, scenario);
    let story = Story::new(plan, &outcome, &record);
    let page = report::page(plan, &outcome, &record, &story, "restante-sim replay a.plan").expect("a page");
    (outcome.verdict, page)
}

#[expect(clippy::disallowed_methods, reason = "the browser is on the real machine")]
fn write(file: &Path, page: &str) {
    fs::write(file, page).expect("the page");
}

/// What the page sees of itself in a window of that size.
fn seen(browser: &Path, page: &str, size: &str) -> Value {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("page.html");
    write(&file, page);
    let printed = Command::new(browser)
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"])
        .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
        .arg(format!("--user-data-dir={}", directory.path().join("profile").display()))
        .arg(format!("--window-size={size}"))
        .args(["--virtual-time-budget=20000", "--dump-dom"])
        .arg(format!("file://{}#selfcheck", file.display()))
        .stderr(Stdio::null())
        .output()
        .expect("the browser runs");
    let dom = String::from_utf8_lossy(&printed.stdout);
    let (_, rest) = dom.split_once(r#"<pre id="seen" hidden="">"#).expect("the page looked at itself");
    let (json, _) = rest.split_once("</pre>").expect("all of it");
    let json = json.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&");
    serde_json::from_str(&json).expect("what it saw")
}

fn check_click(seen: &Value) {
    let click = &seen["click"];
    assert_eq!(seen["problems"], Value::Array(Vec::new()), "{seen:#}");
    assert_eq!(click["isVisible"], true, "{seen:#}");
    assert_eq!(click["content"], click["expected"], "{seen:#}");
    assert!(click["line"].as_str().is_some_and(|line| line.contains("net.write")), "{seen:#}");
}

#[test]
fn a_violation_is_shown_and_a_message_that_is_clicked_shows_its_content() {
    let Some(browser) = browser() else { return };
    let plan: Plan = "seed 3\nclients 4\nmessages 20\nduration 3s\nat 1s for 600ms crash a".parse().expect("a plan");
    let (verdict, page) = page_of(&plan, &Toy { flaw: Some(Flaw::NoOrder) });
    let Verdict::Safety(violations) = &verdict else { panic!("{verdict}") };
    for size in ["1280,800", "500,844"] {
        let seen = seen(&browser, &page, size);
        check_click(&seen);
        assert_eq!(seen["verdict"], "safety", "{seen:#}");
        assert_eq!(seen["focuses"], violations.len(), "{seen:#}");
        let violation = &seen["violation"];
        for what in ["isInPlot", "isInWindow", "isMarked"] {
            assert_eq!(violation[what], true, "{size}: {what}: {seen:#}");
        }
        assert_eq!(violation["sentence"], violations[0].to_string(), "{seen:#}");
    }
}

#[test]
fn a_run_of_the_cluster_that_passes_is_shown() {
    let Some(browser) = browser() else { return };
    let plan =
        "seed 7\nclients 3\nmessages 15\nduration 3s\nat 1.5s for 500ms crash leader\nat 2.2s for 300ms isolate b";
    let (verdict, page) = page_of(&plan.parse().expect("a plan"), &Cluster);
    assert_eq!(verdict, Verdict::Passed);
    let seen = seen(&browser, &page, "1280,800");
    assert_eq!(seen["verdict"], "passed");
    assert_eq!(seen["focuses"], 0);
    check_click(&seen);
}
