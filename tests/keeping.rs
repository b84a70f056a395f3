//! What is to come later, inboxes that drop their oldest, what they keep, and who comes and goes: over real ports, by the
//! library, the command line and HTTP.

mod support;

use std::io::{BufRead as _, BufReader};
use std::time::Duration;

use restante::client::{Client, InboxSettings, Message, Overflow, PresenceChange, Tracked};
use restante::wire::sharing::Fate;
use restante::wire::{Position, SendRefusal, Time};
use serde_json::{Value, json};
use support::Cluster;
use support::http::{Http, ask};
use support::mail::{alone, bodies, registered, take};
use support::traffic::{client, name, within};

async fn cluster_time(client: &Client) -> Time {
    client.status().await.expect("the server answers").time
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_later_comes_in_its_time_though_all_servers_are_killed_meanwhile() {
    let mut cluster = Cluster::start(3);
    let sender = registered(&cluster, &["alice", "bob", "carol", "dave"]).await;
    sender.create_channel(&name("news")).await.unwrap();
    sender.join(&name("bob"), &name("news")).await.unwrap();
    let stream = sender.open_stream(&name("alice")).await.unwrap();
    let later = |body: &str, ms| Message::from(body).deliver_after(Duration::from_millis(ms));
    // The last one first, so that the order is that of their times.
    let Tracked { accepted, delivered } =
        stream.post_with_receipt(vec![name("bob"), name("dave")], later("third", 4500)).await.unwrap();
    let third = accepted.await.unwrap();
    assert_eq!((third.position, third.inboxes), (Position(0), 0));
    let news = restante::client::Recipients::Channel(name("news"));
    let second = stream.post(news, later("second", 4000)).await.unwrap().await.unwrap();
    let first = stream.send(&name("bob"), "first").await.unwrap().await.unwrap();
    assert_eq!((first.position, first.scheduled), (Position(1), None));
    let (second, third) = (second.scheduled.expect("a time"), third.scheduled.expect("a time"));
    assert!(second < third);
    // Whoever is in the channel by then gets it.
    sender.join(&name("carol"), &name("news")).await.unwrap();
    cluster.kill_all();
    cluster.start_all();
    cluster.wait_for_leader();
    let client = client(&cluster.addresses(), None).await;
    let mut inbox = client.listen(&name("bob"), 10).await.unwrap();
    let taken = take(&mut inbox, 3).await;
    assert_eq!(bodies(&taken), ["first", "second", "third"]);
    assert!(cluster_time(&client).await >= third, "nothing comes before its time");
    assert_eq!(taken[1].channel, Some(name("news")));
    inbox.acknowledge(Position(3));
    inbox.flush().await.unwrap();
    let mut inbox = client.listen(&name("carol"), 10).await.unwrap();
    assert_eq!(bodies(&take(&mut inbox, 1).await), ["second"]);
    // One of two has it, and the other one has gone.
    client.deregister(&name("dave")).await.unwrap();
    let fate = within("a delivered receipt", delivered).await.unwrap();
    assert_eq!(fate, Fate { acknowledged: 1, ended: 1, ..Fate::default() });
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_for_later_has_its_room_kept_and_expires_after_it_has_come() {
    let cluster = alone(&["--inbox-messages", "2"]);
    let client = registered(&cluster, &["alice", "bob"]).await;
    let stream = client.open_stream(&name("alice")).await.unwrap();
    let later = Message::from("later").deliver_after(Duration::from_millis(1200));
    let Tracked { accepted, delivered } =
        stream.post_with_receipt(&name("bob"), later.expires_after(Duration::from_millis(300))).await.unwrap();
    let due = accepted.await.unwrap().scheduled.expect("a time");
    stream.send(&name("bob"), "now").await.unwrap().await.unwrap();
    let full = stream.send(&name("bob"), "no room").await.unwrap().await;
    assert_eq!(full, Err(SendRefusal::InboxFull.into()), "one waits, and room is kept for the other");
    let fate = within("a delivered receipt", delivered).await.unwrap();
    assert_eq!(fate, Fate { expired: 1, ..Fate::default() });
    assert!(cluster_time(&client).await.0 >= due.0 + 300, "its time is counted from when it came");
    stream.send(&name("bob"), "room").await.unwrap().await.unwrap();
    let mut inbox = client.listen(&name("bob"), 10).await.unwrap();
    assert_eq!(bodies(&take(&mut inbox, 2).await), ["now", "room"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inbox_that_drops_its_oldest_has_the_latest_and_says_what_it_dropped() {
    let cluster = alone(&["--inbox-messages", "2"]);
    let client = registered(&cluster, &["alice", "bob"]).await;
    let drops = InboxSettings { overflow: Overflow::DropOldest, ..InboxSettings::default() };
    client.set_inbox(&name("bob"), drops).await.unwrap();
    assert_eq!(client.inbox_settings(&name("bob")).await.unwrap(), (drops, 0));
    let stream = client.open_stream(&name("alice")).await.unwrap();
    let mut inbox = client.listen(&name("bob"), 1).await.unwrap();
    let Tracked { accepted, delivered } = stream.post_with_receipt(&name("bob"), "one").await.unwrap();
    accepted.await.unwrap();
    // It is with the reader when it has to make room, which is told so: the next one comes.
    assert_eq!(bodies(&take(&mut inbox, 1).await), ["one"]);
    for (body, position) in [("two", 2), ("three", 3), ("four", 4)] {
        assert_eq!(stream.send(&name("bob"), body).await.unwrap().await.unwrap().position, Position(position));
    }
    let fate = within("a delivered receipt", delivered).await.unwrap();
    assert_eq!((fate, fate.is_delivered()), (Fate { dropped: 1, ..Fate::default() }, false));
    inbox.acknowledge(Position(1));
    assert_eq!(bodies(&take(&mut inbox, 1).await), ["three"]);
    inbox.acknowledge(Position(3));
    assert_eq!(bodies(&take(&mut inbox, 1).await), ["four"]);
    client.set_inbox(&name("bob"), InboxSettings::default()).await.unwrap();
    stream.send(&name("bob"), "five").await.unwrap().await.unwrap();
    let full = stream.send(&name("bob"), "six").await.unwrap().await;
    assert_eq!(full, Err(SendRefusal::InboxFull.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_is_kept_as_its_owner_wants_through_restarts() {
    let mut cluster = Cluster::start(3);
    let sender = registered(&cluster, &["alice", "bob"]).await;
    let keeps = InboxSettings { keep_messages: 3, ..InboxSettings::default() };
    sender.set_inbox(&name("bob"), keeps).await.unwrap();
    let stream = sender.open_stream(&name("alice")).await.unwrap();
    for body in ["1", "2", "3", "4", "5"] {
        stream.send(&name("bob"), body).await.unwrap().await.unwrap();
    }
    let mut inbox = sender.listen(&name("bob"), 10).await.unwrap();
    take(&mut inbox, 5).await;
    assert!(sender.history(&name("bob"), Position(1), 10).await.unwrap().messages.is_empty(), "all of it waits");
    inbox.acknowledge(Position(4));
    inbox.flush().await.unwrap();
    cluster.kill_all();
    cluster.start_all();
    cluster.wait_for_leader();
    let client = client(&cluster.addresses(), None).await;
    let kept = client.history(&name("bob"), Position(1), 2).await.unwrap();
    assert_eq!((bodies(&kept.messages), kept.next), (vec!["2", "3"], Some(Position(4))));
    let rest = client.history(&name("bob"), Position(4), 2).await.unwrap();
    assert_eq!((bodies(&rest.messages), rest.next), (vec!["4"], None));
    assert_eq!((&rest.messages[0].from, rest.messages[0].position), (&name("alice"), Position(4)));
    // It disturbs no reader, and ends with what is wanted of it.
    client.set_inbox(&name("bob"), InboxSettings { keep_messages: 1, ..keeps }).await.unwrap();
    assert_eq!(client.inbox_settings(&name("bob")).await.unwrap().1, 1);
    client.set_inbox(&name("bob"), InboxSettings { keep_ms: 200, ..keeps }).await.unwrap();
    let mut inbox = client.listen(&name("bob"), 10).await.unwrap();
    take(&mut inbox, 1).await;
    inbox.acknowledge(Position(5));
    inbox.flush().await.unwrap();
    let gone = async {
        // What was kept without a bound stays.
        while bodies(&client.history(&name("bob"), Position(1), 10).await.unwrap().messages) != ["4"] {
            tokio::task::yield_now().await;
        }
    };
    within("the end of what is kept for a time", gone).await;
    cluster.wait_until_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn presence_tells_also_what_comes_and_goes_at_once_and_goes_on_elsewhere() {
    let mut cluster = Cluster::start(3);
    let watcher = client(&cluster.addresses(), Some(name("a"))).await;
    let other = client(&cluster.addresses(), Some(name("b"))).await;
    let mut presence = watcher.presence();
    other.register(&name("bob")).await.unwrap();
    let mut next = async || within("a change", presence.next()).await.unwrap();
    assert!(matches!(next().await, PresenceChange::Registered(row) if &*row.name == "bob" && !row.online));
    for _ in 0..3 {
        let registration = other.register(&name("carol")).await.unwrap();
        other.deregister_exactly(&registration).await.unwrap();
        assert!(matches!(next().await, PresenceChange::Registered(row) if row.registration == registration.id));
        assert!(matches!(next().await, PresenceChange::Deregistered(row) if row.registration == registration.id));
    }
    let inbox = other.listen(&name("bob"), 1).await.unwrap();
    // It was registered through the server where it is online.
    assert!(matches!(next().await, PresenceChange::Online(row) if &*row.home == "b"));
    // The server that is asked dies, and so does bob's: both go on at others.
    cluster.kill(0);
    inbox.close().await.unwrap();
    assert!(matches!(next().await, PresenceChange::Offline(row) if &*row.name == "bob"));
    let _inbox = other.listen(&name("bob"), 1).await.unwrap();
    assert!(matches!(next().await, PresenceChange::Online(_)));
}

#[test]
fn the_command_line_sends_for_later_sets_up_inboxes_and_replays() {
    let cluster = alone(&[]);
    for who in ["alice", "bob"] {
        cluster.run(&["register", who]).ok();
    }
    let shown = cluster.run(&["inbox", "show", "bob"]).ok();
    assert!(shown.contains("refuses messages when it is full") && shown.contains("keeps nothing"), "{shown}");
    let set = cluster.run(&["inbox", "set", "bob", "--keep", "2", "--keep-for", "24h", "--json"]).json();
    assert_eq!(
        set,
        json!({ "name": "bob", "overflow": "refuse", "keep_messages": 2, "keep_ms": 86_400_000, "kept": 0 })
    );
    let set =
        cluster.run(&["inbox", "set", "bob", "--overflow", "drop-oldest", "--keep-for", "forever", "--json"]).json();
    assert_eq!(
        (&set["overflow"], &set["keep_messages"], &set["keep_ms"]),
        (&"drop-oldest".into(), &2.into(), &0.into())
    );
    cluster.run(&["inbox", "set", "bob"]).fails(2, "--overflow");
    cluster.run(&["inbox", "set", "bob", "--keep", "100001"]).fails(2, "100001");
    cluster.run(&["inbox", "show", "nobody"]).fails(3, "no client of that name is registered");
    let sent = cluster.run(&["send", "--from", "alice", "--to", "bob", "--deliver-after", "300ms", "later"]).ok();
    assert_eq!(sent, "accepted: comes to bob in 0.30 s\n");
    let sent =
        cluster.run(&["send", "--from", "alice", "--to", "bob", "--deliver-after", "300ms", "--json", "also"]).json();
    assert!(sent["deliver_at_ms"].as_u64() > Some(0) && sent["to"] == "bob" && sent["inboxes"].is_null(), "{sent}");
    for body in ["one", "two"] {
        cluster.run(&["send", "--from", "alice", "--to", "bob", body]).ok();
    }
    let listened = cluster.run(&["listen", "bob", "--count", "4"]).ok();
    let order: Vec<&str> = listened.lines().filter_map(|line| line.rsplit(' ').next()).collect();
    assert_eq!(order.len(), 4, "{listened}");
    assert!(order.contains(&"later") && order.contains(&"also"), "{listened}");
    let replayed = cluster.run(&["replay", "bob"]).ok();
    assert_eq!(replayed.lines().count(), 2, "{replayed}");
    assert_eq!(replayed.lines().last(), listened.lines().last());
    let last = cluster.run(&["replay", "bob", "--last", "1", "--json"]).json();
    assert_eq!(last["position"], 4);
    assert_eq!(cluster.run(&["replay", "bob", "--from", "5"]).ok(), "");
    cluster.run(&["replay", "nobody"]).fails(3, "no client of that name is registered");
}

#[test]
fn http_sends_for_later_sets_up_inboxes_and_tells_who_comes_and_goes() {
    let cluster = alone(&[]);
    let address = cluster.address(0);
    let call = |method: &str, target: &str, body: Option<Value>| {
        ask(&address, method, &format!("/v1{target}"), body.map(|body| body.to_string()).as_deref())
    };
    let begun = call("GET", "/presence", None).is(200);
    assert!(begun["events"].is_null(), "{begun}");
    for who in ["alice", "bob"] {
        call("POST", "/clients", Some(json!({ "name": who }))).is(201);
    }
    let since = begun["up_to"].as_u64().expect("a number");
    let came = call("GET", &format!("/presence?since={since}&wait=10"), None).is(200);
    assert_eq!(came["events"][0]["change"], "registered");
    assert_eq!(came["events"][0]["client"]["name"], "alice");
    let settings = "/clients/bob/inbox/settings";
    let first = call("GET", settings, None).is(200);
    assert_eq!(first, json!({ "overflow": "refuse", "keep_messages": 0, "keep_ms": 0, "kept": 0 }));
    let set = call("PUT", settings, Some(json!({ "overflow": "drop-oldest", "keep_messages": 10 }))).is(200);
    assert_eq!(set, json!({ "overflow": "drop-oldest", "keep_messages": 10, "keep_ms": 0, "kept": 0 }));
    for bad in [json!({ "keep_messages": 100_001 }), json!({ "overflow": "explode" }), json!({ "more": 1 })] {
        assert_eq!(call("PUT", settings, Some(bad)).status, 400);
    }
    assert_eq!(call("PUT", "/clients/nobody/inbox/settings", Some(json!({}))).status, 404);
    let later = json!({ "from": "alice", "to": "bob", "text": "later", "deliver_after_ms": 300 });
    let receipt = call("POST", "/messages", Some(later)).is(201);
    assert!(receipt["deliver_at_ms"].as_u64() > Some(0) && receipt["inboxes"] == 0, "{receipt}");
    let sent = json!({ "from": "alice", "to": "bob", "text": "now" });
    let sent = call("POST", "/messages?receipt=delivered", Some(sent)).is(201);
    assert!(sent["deliver_at_ms"].is_null() && sent["number"] == 1, "{sent}");
    let seen = call("GET", "/clients/bob/inbox?after=1&wait=20", None).is(200);
    assert_eq!(seen["messages"][0]["text"], "later");
    let seen = call("GET", "/clients/bob/inbox", None).is(200);
    call("POST", "/clients/bob/inbox/acknowledgements", Some(seen["acknowledge"].clone())).is(200);
    // What became of the one comes to its sender.
    let told = call("GET", "/clients/alice/inbox?wait=20", None).is(200);
    let notice = &told["messages"][0]["notice"];
    assert_eq!(
        (&notice["stream"], &notice["number"], &notice["fate"]["delivered"]),
        (&sent["stream"], &1.into(), &true.into())
    );
    let kept = call("GET", "/clients/bob/inbox/history?limit=1", None).is(200);
    assert_eq!((&kept["messages"][0]["text"], &kept["next"]), (&"now".into(), &2.into()));
    let kept = call("GET", "/clients/bob/inbox/history?from=2", None).is(200);
    assert_eq!((&kept["messages"][0]["text"], &kept["next"]), (&"later".into(), &Value::Null));
    // As server-sent events, from where the last answer ended.
    let mut events = Http::connect(&address);
    let up_to = came["up_to"].as_u64().expect("a number");
    events.write(format!("GET /v1/presence/events?since={up_to} HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n").as_bytes());
    call("POST", "/clients", Some(json!({ "name": "carol" }))).is(201);
    let mut lines = BufReader::new(events.into_stream()).lines().map_while(Result::ok);
    let event = lines.find(|line| line.starts_with("data: ") && line.contains("carol")).expect("an event");
    let event: Value = serde_json::from_str(&event["data: ".len()..]).expect("JSON");
    assert_eq!((&event["change"], &event["client"]["online"]), (&"registered".into(), &false.into()));
}
