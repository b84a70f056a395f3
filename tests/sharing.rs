//! Channels, sends to many, delivered receipts: over real ports, from the library and the command line.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

mod support;

use std::time::Duration;

use restante::client::{
    Error, Message, NoDelivery, PresenceChange, Recipients, RequestError, Requester, SendError, Tracked,
};
use restante::wire::sharing::{Fate, Unreached};
use restante::wire::{Name, Position, Refusal, SendRefusal};
use support::http::ask;
use support::mail::{alone, bodies, registered, take};
use support::traffic::{name, within};
use support::{Cluster, PATIENCE, run};

fn names(texts: &[&str]) -> Vec<Name> {
    texts.iter().map(|text| name(text)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_channel_reaches_every_member_once_in_its_order_while_servers_die() {
    let mut cluster = Cluster::start(3);
    let client = registered(&cluster, &["alice", "bob", "carol", "dave", "erin"]).await;
    let orders = name("orders.new.eu");
    client.create_channel(&orders).await.unwrap();
    assert_eq!(client.create_channel(&orders).await, Err(Error::Refused(Refusal::ChannelExists)));
    for member in ["alice", "bob", "carol"] {
        client.join(&name(member), &orders).await.unwrap();
    }
    client.subscribe(&name("carol"), "orders.>").await.unwrap();
    client.subscribe(&name("dave"), "orders.*.eu").await.unwrap();
    client.subscribe(&name("erin"), "orders.*.us").await.unwrap();
    let (alice, frank) = (client.open_stream(&name("alice")).await.unwrap(), Recipients::Channel(orders.clone()));
    let bobs = client.open_stream(&name("bob")).await.unwrap();
    let mut pending = Vec::new();
    for n in 0..60 {
        pending.push(alice.post(frank.clone(), format!("a{n}")).await.unwrap());
        pending.push(bobs.post(frank.clone(), format!("b{n}")).await.unwrap());
        if n == 30 {
            let leader = cluster.wait_for_leader();
            cluster.kill(leader);
        }
    }
    for receipt in pending {
        let receipt = within("a receipt", receipt).await.unwrap();
        assert_eq!((receipt.inboxes, receipt.full, receipt.position), (4, 0, Position(0)));
    }
    client.leave(&name("bob"), &orders).await.unwrap();
    let last = alice.post(frank.clone(), "last").await.unwrap().await.unwrap();
    assert_eq!(last.inboxes, 3);
    let mut seen: Vec<Vec<String>> = Vec::new();
    for (member, count) in [("alice", 121), ("bob", 120), ("carol", 121), ("dave", 121)] {
        let mut inbox = client.listen(&name(member), 1000).await.unwrap();
        let taken = take(&mut inbox, count).await;
        assert!(taken.iter().all(|delivery| delivery.channel.as_ref() == Some(&orders)));
        seen.push(bodies(&taken[..120]).into_iter().map(str::to_owned).collect());
    }
    assert!(seen.windows(2).all(|two| two[0] == two[1]), "all see the same order");
    let of = |who: char| seen[0].iter().filter(|body| body.starts_with(who)).cloned().collect::<Vec<_>>();
    assert_eq!(of('a'), (0..60).map(|n| format!("a{n}")).collect::<Vec<_>>());
    assert_eq!(of('b'), (0..60).map(|n| format!("b{n}")).collect::<Vec<_>>());
    let rows = client.who().await.unwrap();
    assert_eq!(rows.iter().find(|row| &*row.name == "erin").map(|row| row.waiting), Some(0));
    let members = client.members(&orders).await.unwrap();
    assert_eq!(members.iter().map(|member| &*member.name).collect::<Vec<_>>(), ["alice", "carol"]);
    client.delete_channel(&orders).await.unwrap();
    let refused = alice.post(frank, "x").await.unwrap().await;
    assert_eq!(refused, Err(SendError::Refused(SendRefusal::NoSuchChannel)));
    assert!(client.channels().await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_recipients_get_it_all_or_none_and_everybody_means_everybody() {
    let cluster = alone(&["--inbox-messages", "3"]);
    let client = registered(&cluster, &["alice", "bob", "carol"]).await;
    let stream = client.open_stream(&name("alice")).await.unwrap();
    let send = async |to: Recipients| stream.post(to, "x").await.unwrap().await;
    let both = send(names(&["bob", "carol", "bob"]).into()).await.unwrap();
    assert_eq!((both.inboxes, both.full), (2, 0));
    let missing = Unreached { unknown: 0b010, full: 0 };
    let refused = send(names(&["bob", "nobody", "carol"]).into()).await;
    assert_eq!(refused, Err(SendError::Refused(SendRefusal::Recipients(missing))));
    assert_eq!(stream.post(Vec::new(), "x").await.map(drop), Err(Error::BadRecipients { named: 0 }));
    // Bob's inbox fills up; whoever is in no list of names does without.
    assert_eq!(send(name("bob").into()).await.unwrap().position, Position(2));
    assert_eq!(send(name("bob").into()).await.unwrap().position, Position(3));
    let full = Unreached { unknown: 0, full: 0b01 };
    let refused = send(names(&["bob", "carol"]).into()).await;
    assert_eq!(refused, Err(SendError::Refused(SendRefusal::Recipients(full))));
    let everybody = send(Recipients::Everybody).await.unwrap();
    assert_eq!((everybody.inboxes, everybody.full), (2, 1));
    let waiting = |rows: Vec<restante::client::ClientRow>| rows.into_iter().map(|row| row.waiting).collect::<Vec<_>>();
    assert_eq!(waiting(client.who().await.unwrap()), [1, 3, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delivered_receipt_comes_once_through_failures_and_the_senders_absence() {
    let mut cluster = Cluster::start(3);
    let client = registered(&cluster, &["alice", "bob"]).await;
    let stream = client.open_stream(&name("alice")).await.unwrap();
    let Tracked { accepted, delivered } = stream.post_with_receipt(&name("bob"), "first").await.unwrap();
    assert_eq!(accepted.await.unwrap().position, Position(1));
    let second = stream.post_with_receipt(&name("bob"), "second").await.unwrap();
    second.accepted.await.unwrap();
    let mut inbox = client.listen(&name("bob"), 10).await.unwrap();
    let taken = take(&mut inbox, 2).await;
    inbox.acknowledge(taken[0].position);
    let leader = cluster.wait_for_leader();
    cluster.kill(leader);
    let fate = within("a delivered receipt", delivered).await.unwrap();
    assert!(fate.is_delivered());
    assert_eq!(fate, Fate { acknowledged: 1, ..Fate::default() });
    // The stream is closed before bob acknowledges the second one: alice finds the receipt in her inbox.
    let number = taken[1].number;
    within("the stream to close", stream.close()).await.unwrap();
    assert_eq!(second.delivered.await, Err(NoDelivery::StreamClosed));
    inbox.acknowledge(taken[1].position);
    inbox.flush().await.unwrap();
    client.close().await;
    cluster.start_server(leader);
    let client = support::traffic::client(&cluster.addresses(), None).await;
    let mut own = client.listen(&name("alice"), 10).await.unwrap();
    let receipt = take(&mut own, 1).await.remove(0);
    let notice = receipt.notice.expect("a receipt");
    assert_eq!((notice.stream, notice.number), (taken[1].stream, number));
    assert_eq!(notice.fate, Fate { acknowledged: 1, ..Fate::default() });
    own.acknowledge(receipt.position);
    own.flush().await.unwrap();
    let rows = client.who().await.unwrap();
    assert!(rows.iter().all(|row| row.waiting == 0), "it came once: {rows:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_says_who_was_gone_and_has_its_room() {
    let cluster = alone(&["--inbox-messages", "2"]);
    let client = registered(&cluster, &["alice", "bob", "carol"]).await;
    let stream = client.open_stream(&name("alice")).await.unwrap();
    let both = stream.post_with_receipt(names(&["bob", "carol"]), "x").await.unwrap();
    assert_eq!(both.accepted.await.unwrap().inboxes, 2);
    // One place is kept for that receipt, one is for this one, and there is none for a third.
    let second = stream.post_with_receipt(&name("bob"), "y").await.unwrap();
    second.accepted.await.unwrap();
    let third = stream.post_with_receipt(&name("carol"), "z").await.unwrap();
    let refused = SendError::Refused(SendRefusal::NoRoomForReceipt);
    assert_eq!(third.accepted.await, Err(refused.clone()));
    assert_eq!(third.delivered.await, Err(NoDelivery::NotAccepted(refused)));
    let full = stream.send(&name("alice"), "to myself").await.unwrap().await;
    assert_eq!(full, Err(SendError::Refused(SendRefusal::InboxFull)));
    client.deregister(&name("carol")).await.unwrap();
    let mut inbox = client.listen(&name("bob"), 10).await.unwrap();
    let taken = take(&mut inbox, 2).await;
    inbox.acknowledge(taken[1].position);
    let fate = within("a delivered receipt", both.delivered).await.unwrap();
    assert_eq!(fate, Fate { acknowledged: 1, ended: 1, ..Fate::default() });
    assert!(!fate.is_delivered());
    assert!(within("a delivered receipt", second.delivered).await.unwrap().is_delivered());
}

#[test]
fn the_command_line_shares() {
    let cluster = alone(&[]);
    for client in ["alice", "bob", "carol"] {
        cluster.run(&["register", client]).ok();
    }
    assert_eq!(cluster.run(&["channel", "create", "orders.new"]).ok(), "created channel orders.new\n");
    cluster.run(&["channel", "create", "orders.new"]).fails(3, "there is a channel of that name already");
    cluster.run(&["channel", "join", "bob", "orders.new"]).ok();
    cluster.run(&["channel", "subscribe", "carol", "orders.>"]).ok();
    cluster.run(&["channel", "subscribe", "carol", "or>"]).fails(2, "orders.*.eu");
    let sent = cluster.run(&["send", "--from", "alice", "--channel", "orders.new", "3 chairs"]).ok();
    assert_eq!(sent, "accepted: in 2 inboxes\n");
    let listed = cluster.run(&["channel", "list", "--json"]).json();
    assert_eq!(listed["channels"][0]["members"], 1);
    let members = cluster.run(&["channel", "members", "orders.new"]).ok();
    assert_eq!(members, "bob\n");
    let to_two = ["send", "--from", "alice", "--to", "bob", "--to", "nobody", "x"];
    cluster.run(&to_two).fails(3, "went to none of them; not registered: nobody");
    let typed = ["send", "--from", "alice", "--to", "bob", "--content-type", "application/json", "{}"];
    cluster.run(&typed).ok();
    let mut waits = cluster.restante(&["send", "--from", "alice", "--to", "bob", "--receipt", "delivered", "sign"]);
    let waiting = std::thread::spawn(move || run(&mut waits));
    let heard = cluster.run(&["listen", "bob", "--count", "3"]).ok();
    assert!(heard.contains("alice in orders.new: 3 chairs"), "{heard}");
    assert!(heard.contains("[content-type=application/json] {}"), "{heard}");
    let told = waiting.join().expect("it ends").ok();
    assert!(told.ends_with("delivered: acknowledged by its recipient\n"), "{told}");
    let heard = cluster.run(&["listen", "carol", "--count", "1", "--json"]).json();
    assert_eq!(heard["channel"], "orders.new");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_has_one_reply_in_time_or_fails() {
    let cluster = alone(&[]);
    let client = registered(&cluster, &["alice", "bob"]).await;
    let mut requester = Requester::open(&client, &name("alice")).await.unwrap();
    let asked = requester.request(&name("nobody"), "x", PATIENCE).await;
    assert_eq!(asked.map(drop), Err(RequestError::NotAsked(SendError::Refused(SendRefusal::NoSuchClient))));
    // Nobody answers in time; the answer that comes late is no answer to the next question.
    let short = Duration::from_millis(50);
    let asked = requester.request(&name("bob"), "first", short).await;
    assert_eq!(asked.map(drop), Err(RequestError::NoReply { after: short }));
    let mut inbox = client.listen(&name("bob"), 10).await.unwrap();
    let stream = client.open_stream(&name("bob")).await.unwrap();
    let answers = async {
        for answer in ["late", "in time"] {
            let request = take(&mut inbox, 1).await.remove(0);
            let to = request.reply_to().expect("it asks for a reply");
            stream.send(&to, request.reply(answer)).await.unwrap().await.unwrap();
            inbox.acknowledge(request.position);
        }
    };
    let bob = name("bob");
    let asking = requester.request(&bob, "second", PATIENCE);
    let (reply, ()) = tokio::join!(asking, answers);
    assert_eq!(&reply.unwrap().body[..], b"in time");
    requester.close().await.unwrap();
    let names: Vec<_> = client.who().await.unwrap().into_iter().map(|row| row.name.to_string()).collect();
    assert_eq!(names, ["alice", "bob"], "the inbox for replies is gone");
    cluster.run(&["request", "--from", "alice", "--to", "nobody", "x"]).fails(3, "no client of that name");
    drop(inbox);
    let mut answers = cluster.restante(&["reply", "bob", "--exec", "cat", "--count", "1"]);
    let answering = std::thread::spawn(move || run(&mut answers));
    let reply = cluster.run(&["request", "--from", "alice", "--to", "bob", "--json", "mirror"]).json();
    assert_eq!((&reply["body"], &reply["from"]), (&"mirror".into(), &"bob".into()));
    answering.join().expect("it ends").ok();
}

#[test]
fn a_request_by_http_has_one_reply_in_time_or_fails_and_leaves_nothing_behind() {
    let cluster = alone(&[]);
    for who in ["alice", "bob"] {
        cluster.run(&["register", who]).ok();
    }
    let address = cluster.address(0);
    let request = |to: &str, wait: u32| {
        let body = format!(r#"{{"from": "alice", "to": {to}, "text": "mirror", "headers": {{"a": "b"}}}}"#);
        ask(&address, "POST", &format!("/v1/requests?wait={wait}"), Some(&body))
    };
    assert_eq!(request(r#""nobody""#, 20).status, 404, "at once");
    assert_eq!(request(r#"["bob", "alice"]"#, 20).status, 409);
    let late = request(r#""bob""#, 0);
    assert!(late.status == 504 && late.text.contains("no_reply"), "{late:?}");
    // Nobody waits for an answer to that one any more.
    assert!(cluster.run(&["listen", "bob", "--count", "1"]).ok().contains("mirror"));
    let mut answers = cluster.restante(&["reply", "bob", "--exec", "cat", "--count", "1"]);
    let answering = std::thread::spawn(move || run(&mut answers));
    let reply = request(r#""bob""#, 20);
    assert!(reply.status == 200 && reply.text.contains(r#""text":"mirror""#), "{reply:?}");
    answering.join().expect("it ends").ok();
    let who = cluster.run(&["who", "--json"]).json();
    let names: Vec<&str> =
        who["clients"].as_array().expect("a list").iter().filter_map(|c| c["name"].as_str()).collect();
    assert_eq!(names, ["alice", "bob"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_watches_sees_who_comes_and_goes() {
    let cluster = alone(&[]);
    let client = registered(&cluster, &["bob"]).await;
    let mut presence = client.presence();
    let mut next = async || within("a change", presence.next()).await.unwrap();
    assert!(matches!(next().await, PresenceChange::Registered(row) if &*row.name == "bob" && !row.online));
    let inbox = client.listen(&name("bob"), 1).await.unwrap();
    assert!(matches!(next().await, PresenceChange::Online(row) if &*row.name == "bob"));
    inbox.close().await.unwrap();
    assert!(matches!(next().await, PresenceChange::Offline(_)));
    client.deregister(&name("bob")).await.unwrap();
    assert!(matches!(next().await, PresenceChange::Deregistered(_)));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expires_frees_its_place_is_delivered_to_nobody_and_its_sender_is_told() {
    let mut cluster = Cluster::prepare(3).with_arguments(&["--inbox-messages", "2"]);
    cluster.start_all();
    let leader = cluster.wait_for_leader();
    let client = registered(&cluster, &["alice", "bob"]).await;
    let stream = client.open_stream(&name("alice")).await.unwrap();
    let short = Message::from("too late").expires_after(Duration::from_millis(700));
    let Tracked { accepted, delivered } = stream.post_with_receipt(&name("bob"), short).await.unwrap();
    accepted.await.unwrap();
    let long = Message::from("in time").expires_after(Duration::from_secs(600));
    assert_eq!(stream.send(&name("bob"), long).await.unwrap().await.unwrap().position, Position(2));
    // Whoever leads by then, it expires.
    cluster.kill(leader);
    let fate = within("a delivered receipt", delivered).await.unwrap();
    assert_eq!(fate, Fate { expired: 1, ..Fate::default() });
    assert!(!fate.is_delivered());
    assert_eq!(stream.send(&name("bob"), "another one").await.unwrap().await.unwrap().position, Position(3));
    let mut inbox = client.listen(&name("bob"), 10).await.unwrap();
    assert_eq!(bodies(&take(&mut inbox, 2).await), ["in time", "another one"]);
}
