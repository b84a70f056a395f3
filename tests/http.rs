//! The HTTP face over real ports: the contract of `docs/http.md`, by a plain client.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

mod support;

use restante::limits;
use serde_json::{Value, json};
use support::http::{Http, Response, ask, post};
use support::{Cluster, signal, wait_for};

fn port(cluster: &Cluster, number: usize) -> u16 {
    let address = cluster.address(number);
    address.rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("an address has a port")
}

/// Asks until the answer is another one than that the server cannot serve now.
fn again(what: &str, mut ask: impl FnMut() -> Option<Response>) -> Response {
    wait_for(what, || ask().filter(|response| response.status != 503))
}

#[track_caller]
fn register(cluster: &Cluster, at: usize, id: &Value, home: usize) -> Response {
    post(&cluster.address(at), "/register", &json!({ "client_id": id, "port": port(cluster, home) }))
}

#[track_caller]
fn registered(cluster: &Cluster, names: &[&str]) {
    for name in names {
        let response = again("a registration", || Some(register(cluster, 0, &json!(name), 0)));
        response.says(200, &format!("Client {name} registered on port {}", port(cluster, 0)));
    }
}

#[track_caller]
fn share(address: &str, from: &str, to: &str, text: &str) -> Response {
    post(address, "/share", &json!({ "sender_id": from, "receiver_id": to, "message": text }))
}

#[track_caller]
fn inbox(address: &str, query: &str) -> Value {
    ask(address, "GET", &format!("/inbox/{query}"), None).is(200)
}

fn texts(inbox: &Value) -> Vec<&str> {
    let messages = inbox["messages"].as_array().expect("a list");
    messages.iter().map(|message| message["message"].as_str().expect("a text")).collect()
}

/// A cluster of which every server serves: a follower that was not heard of yet answers that it does not.
fn serving(servers: usize) -> Cluster {
    let cluster = Cluster::start(servers);
    for address in cluster.addresses() {
        again("a server that serves", || Some(ask(&address, "GET", "/inbox/nobody", None)));
    }
    cluster
}

fn alone(arguments: &[&str]) -> Cluster {
    let mut cluster = Cluster::prepare(1).with_arguments(arguments);
    cluster.start_all();
    cluster.wait_for_leader();
    cluster
}

#[test]
fn the_three_servers_clients_find_what_they_know() {
    let cluster = serving(3);
    // Any server answers for any client, and an id is a text or a number.
    register(&cluster, 1, &json!("A"), 0).says(200, &format!("Client A registered on port {}", port(&cluster, 0)));
    register(&cluster, 2, &json!(7), 1).says(200, &format!("Client 7 registered on port {}", port(&cluster, 1)));
    // Again is a change of port, and the inbox stays.
    share(&cluster.address(0), "7", "A", "stays").says(200, "Message from 7 to A: stays");
    register(&cluster, 0, &json!("A"), 2).says(200, &format!("Client A registered on port {}", port(&cluster, 2)));
    assert_eq!(texts(&inbox(&cluster.address(1), "A")), ["stays"]);
    let shared = share(&cluster.address(1), "7", "7", "itself");
    assert_eq!(
        (shared.json(), shared.header("restante-position")),
        (json!({ "message": "Message from 7 to 7: itself" }), Some("1"))
    );
    for number in 0..3 {
        let text = format!("grüße {number} 😀 \"\\\n");
        let shared = json!({ "sender_id": 7, "receiver_id": "A", "message": text });
        post(&cluster.address(number), "/share", &shared).says(200, &format!("Message from 7 to A: {text}"));
    }
    let seen = inbox(&cluster.address(0), "A");
    assert_eq!(texts(&seen)[1..], [0, 1, 2].map(|n| format!("grüße {n} 😀 \"\\\n")));
    assert_eq!(seen["messages"][0]["sender_id"], "7");
    assert_eq!(seen["messages"][3]["position"], 4);
    for (path, body) in [
        ("/register", json!({ "client_id": "A" })),
        ("/register", json!({ "port": 8080 })),
        ("/register", json!({ "client_id": "A", "port": 1 })),
        ("/register", json!({ "client_id": "no name", "port": port(&cluster, 0) })),
        ("/register", json!({ "client_id": true, "port": port(&cluster, 0) })),
        ("/register", json!({ "client_id": "A", "port": 0 })),
        ("/register", json!({ "client_id": "A", "port": 65_536 })),
        ("/share", json!({ "sender_id": "A", "receiver_id": "7" })),
        ("/share", json!({ "sender_id": "A", "message": "x" })),
        ("/share", json!({ "receiver_id": "A", "message": "x" })),
        ("/share", json!({ "sender_id": "A", "receiver_id": "nobody", "message": "x" })),
        ("/share", json!({ "sender_id": "nobody", "receiver_id": "A", "message": "x" })),
        ("/share", json!([])),
    ] {
        post(&cluster.address(1), path, &body).says(400, "Invalid data");
    }
    for body in [
        "{",
        r#"{"sender_id": "A", "sender_id": "7", "receiver_id": "A", "message": "twice"}"#,
        // What would be read as another number is no message.
        r#"{"sender_id": "A", "receiver_id": "A", "message": 123456789012345678901234567890}"#,
    ] {
        ask(&cluster.address(1), "POST", "/share", Some(body)).says(400, "Invalid data");
    }
    let check = |id: Value| json!({ "client_id": id, "new_port": port(&cluster, 1) });
    post(&cluster.address(0), "/check_and_move", &check(json!("A"))).says(200, "Port is working");
    post(&cluster.address(1), "/check_and_move", &check(json!(7))).says(200, "Port is working");
    post(&cluster.address(0), "/check_and_move", &check(json!("nobody"))).says(400, "Invalid client_id");
    post(&cluster.address(0), "/check_and_move", &json!({ "new_port": 1 })).says(400, "Invalid client_id");
}

#[test]
fn a_killed_servers_clients_are_moved_and_lose_nothing() {
    let mut cluster = serving(3);
    let leader = cluster.wait_for_leader();
    let (dead, here, there) = ((leader + 1) % 3, leader, (leader + 2) % 3);
    let home = |cluster: &Cluster, name: &str| {
        let rows = cluster.run(&["who", "--json"]).json();
        let rows = rows.as_array().cloned().or_else(|| rows["clients"].as_array().cloned()).expect("rows");
        rows.iter().find(|row| row["client"] == name || row["name"] == name).map(|row| row["home"].clone())
    };
    for name in ["asks", "waits"] {
        register(&cluster, here, &json!(name), dead).is(200);
    }
    share(&cluster.address(dead), "asks", "waits", "before").is(200);
    cluster.kill(dead);
    // Not to a server that is down as well, be it the same.
    let to_dead = json!({ "client_id": "asks", "new_port": port(&cluster, dead) });
    let answer = post(&cluster.address(here), "/check_and_move", &to_dead);
    match answer.status {
        503 => assert_eq!(answer.json()["outcome"], "nothing was done"),
        _ => answer.says(200, "Port is working"),
    }
    // It asks as soon as it likes: at once, or after it was moved without asking.
    let check = json!({ "client_id": "asks", "new_port": port(&cluster, there) });
    let answer = again("an answer", || Some(post(&cluster.address(there), "/check_and_move", &check)));
    let message = answer.is(200)["message"].as_str().unwrap_or_default().to_owned();
    let moved = format!("Client asks moved to port {}", port(&cluster, there));
    assert!(message == moved || message == "Port is working", "{message}");
    wait_for("everybody to be moved", || {
        let dead = json!(cluster.name(dead));
        (home(&cluster, "waits")? != dead && home(&cluster, "asks")? != dead).then_some(())
    });
    post(&cluster.address(here), "/check_and_move", &check).says(200, "Port is working");
    let shared = again("a send", || Some(share(&cluster.address(there), "asks", "waits", "after")));
    shared.says(200, "Message from asks to waits: after");
    assert_eq!(texts(&inbox(&cluster.address(here), "waits")), ["before", "after"]);
    // Back again, it takes nobody back.
    let before = home(&cluster, "waits");
    cluster.start_server(dead);
    cluster.wait_until_equal();
    assert_eq!(home(&cluster, "waits"), before);
    assert_eq!(texts(&inbox(&cluster.address(dead), "waits")), ["before", "after"]);
}

#[test]
fn without_a_leader_nothing_is_refused_for_good() {
    let mut cluster = serving(3);
    registered(&cluster, &["alice", "bob"]);
    let left = cluster.wait_for_leader();
    (0..3).filter(|number| *number != left).for_each(|number| cluster.kill(number));
    let address = cluster.address(left);
    // A send that is on its way by then may be unknown; what comes after is refused for now.
    let refused = wait_for("the server to notice", || {
        let response = share(&address, "alice", "nobody", "x");
        assert!(response.status == 503 || response.status == 504, "{response:?}");
        (response.status == 503).then_some(response)
    });
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["outcome"], "nothing was done");
    for (method, path, body) in [
        ("POST", "/register", Some(r#"{"client_id": "c", "port": 8080}"#)),
        ("POST", "/check_and_move", Some(r#"{"client_id": "nobody", "new_port": 8080}"#)),
        ("GET", "/inbox/nobody", None),
        ("POST", "/streams", Some(r#"{"client_id": "nobody"}"#)),
        ("PUT", "/streams/1/1", Some(r#"{"receiver_id": "nobody", "message": ""}"#)),
    ] {
        let response = ask(&address, method, path, body);
        assert_eq!(response.is(503)["message"], "Service unavailable", "{path}");
        assert_eq!(response.header("retry-after"), Some("1"), "{path}");
    }
    cluster.start_all();
    cluster.wait_for_leader();
    again("a send", || Some(share(&address, "alice", "bob", "x"))).says(200, "Message from alice to bob: x");
}

#[test]
fn a_number_is_one_message_however_often_and_wherever_it_is_put() {
    let mut cluster = serving(3);
    registered(&cluster, &["alice", "bob"]);
    let nonce = json!({ "client_id": "alice", "nonce": "6ba7b810-9dad-11d1-80b4-00c04fd430c8" });
    let opened = post(&cluster.address(0), "/streams", &nonce).is(200);
    assert_eq!(post(&cluster.address(1), "/streams", &nonce).is(200)["stream"], opened["stream"]);
    let stream = opened["stream"].as_u64().expect("a number");
    let put = |address: &str, number: u64, body: Value| {
        ask(address, "PUT", &format!("/streams/{stream}/{number}"), Some(&body.to_string()))
    };
    let to_bob = |text: &str| json!({ "receiver_id": "bob", "message": text });
    assert_eq!(put(&cluster.address(0), 1, to_bob("one")).is(200)["position"], 1);
    let gap = put(&cluster.address(1), 3, to_bob("three")).is(409);
    assert_eq!((&gap["reason"], &gap["expected"]), (&json!("gap"), &json!(2)));
    assert_eq!(put(&cluster.address(2), 1, to_bob("another")).is(409)["reason"], "other_content");
    let refused = put(&cluster.address(1), 2, json!({ "receiver_id": "nobody", "message": "x" })).is(422);
    assert_eq!(refused["reason"], "no_such_client");
    assert_eq!(put(&cluster.address(2), 2, json!({ "receiver_id": "nobody", "message": "x" })).is(422), refused);
    let again_opened = post(&cluster.address(1), "/streams", &nonce).is(200);
    assert_eq!((&again_opened["stream"], &again_opened["next"]), (&opened["stream"], &json!(3)));
    // Through the death of any server, the first outcome stays.
    let leader = cluster.wait_for_leader();
    assert_eq!(put(&cluster.address(leader), 3, to_bob("three")).is(200)["position"], 2);
    cluster.kill(leader);
    let other = cluster.address((leader + 1) % 3);
    for number in [3, 1] {
        let text = if number == 3 { "three" } else { "one" };
        let repeated = again("an answer", || Some(put(&other, number, to_bob(text)))).is(200);
        assert_eq!(repeated["position"], number.div_ceil(2));
    }
    let binary = json!({ "receiver_id": "bob", "message_base64": "/wA=", "confirmed": 3 });
    assert_eq!(put(&other, 4, binary).is(200)["position"], 3);
    assert_eq!(put(&other, 3, to_bob("three")).is(409)["reason"], "already_answered");
    let seen = inbox(&other, "bob");
    assert_eq!(seen["messages"][2]["message_base64"], "/wA=");
    assert_eq!(seen["messages"].as_array().map(Vec::len), Some(3));
    ask(&other, "DELETE", &format!("/streams/{stream}"), None).is(200);
    assert_eq!(put(&other, 5, to_bob("five")).is(410)["reason"], "stream_closed");
    assert_eq!(post(&other, "/streams", &json!({ "client_id": "nobody" })).is(404)["message"], "Invalid client_id");
}

#[test]
fn what_nobody_reads_is_acknowledged_by_what_a_look_returns() {
    let cluster = serving(3);
    registered(&cluster, &["alice", "bob"]);
    assert_eq!(ask(&cluster.address(0), "GET", "/inbox/nobody", None).is(404)["message"], "Invalid client_id");
    assert_eq!(inbox(&cluster.address(1), "bob")["acknowledge"], Value::Null);
    for text in ["1", "2", "3"] {
        share(&cluster.address(0), "alice", "bob", text).is(200);
    }
    let seen = inbox(&cluster.address(1), "bob?limit=2");
    assert_eq!((texts(&seen), &seen["waiting"], &seen["reader"]), (vec!["1", "2"], &json!(3), &Value::Null));
    // A look takes nothing.
    assert_eq!(texts(&inbox(&cluster.address(2), "bob")), ["1", "2", "3"]);
    let done = post(&cluster.address(2), "/inbox/bob/acknowledge", &seen["acknowledge"]).is(200);
    assert_eq!(done["acknowledged"], 2);
    assert_eq!(post(&cluster.address(0), "/inbox/bob/acknowledge", &seen["acknowledge"]).is(200), done);
    assert_eq!(texts(&inbox(&cluster.address(0), "bob")), ["3"]);
    // What waits before what was asked for is not acknowledged with it.
    share(&cluster.address(0), "alice", "bob", "4").is(200);
    let behind = inbox(&cluster.address(0), "bob?after=3");
    assert_eq!(texts(&behind), ["4"]);
    post(&cluster.address(1), "/inbox/bob/acknowledge", &behind["acknowledge"]).is(200);
    assert_eq!(texts(&inbox(&cluster.address(1), "bob")), ["3"]);
    for bad in [json!({}), json!({ "registration": 1, "epoch": 0 }), json!({ "epoch": 0, "up_to": 1 })] {
        post(&cluster.address(0), "/inbox/bob/acknowledge", &bad).says(400, "Invalid data");
    }
    // Nobody can have seen what is not there, and what comes later stays.
    for beyond in [json!({ "up_to": 5 }), json!({ "up_to": 3, "ranges": [[5, 9]] })] {
        let mut token = seen["acknowledge"].clone();
        token.as_object_mut().expect("an object").extend(beyond.as_object().cloned().expect("an object"));
        post(&cluster.address(2), "/inbox/bob/acknowledge", &token).says(400, "Invalid data");
    }
    share(&cluster.address(0), "alice", "bob", "5").is(200);
    assert_eq!(texts(&inbox(&cluster.address(1), "bob")), ["3", "5"]);
    // Of another registration of the name it never counts.
    cluster.run(&["deregister", "bob"]).ok();
    registered(&cluster, &["bob"]);
    share(&cluster.address(0), "alice", "bob", "anew").is(200);
    let stale = post(&cluster.address(0), "/inbox/bob/acknowledge", &seen["acknowledge"]).is(409);
    assert_eq!(stale["reason"], "registration_ended");
    assert_eq!(texts(&inbox(&cluster.address(1), "bob")), ["anew"]);
}

#[test]
fn a_reader_that_is_replaced_is_told_so_and_repeats_are_marked() {
    let cluster = serving(3);
    registered(&cluster, &["alice", "bob"]);
    for text in ["1", "2", "3", "4"] {
        share(&cluster.address(0), "alice", "bob", text).is(200);
    }
    let attach = |number: usize, body: Value| post(&cluster.address(number), "/inbox/bob/attach", &body);
    let first = attach(0, json!({ "window": 2, "nonce": "1" })).is(200);
    assert_eq!(first["epoch"], 1);
    assert_eq!(attach(1, json!({ "window": 2, "nonce": "1" })).is(200), first, "the same request is the same reader");
    let as_reader = |reader: &Value| format!("bob?registration={}&epoch={}", reader["registration"], reader["epoch"]);
    let seen = inbox(&cluster.address(1), &as_reader(&first));
    assert_eq!((texts(&seen), &seen["reader"]), (vec!["1", "2"], &json!("http")), "no more than its window");
    // Whoever only looks is not given what it takes to acknowledge for the reader.
    assert_eq!(inbox(&cluster.address(1), "bob")["acknowledge"], Value::Null);
    let one = json!({ "registration": first["registration"], "epoch": 1, "up_to": 1 });
    post(&cluster.address(2), "/inbox/bob/acknowledge", &one).is(200);
    assert_eq!(texts(&inbox(&cluster.address(2), &as_reader(&first))), ["2", "3"]);
    // Somebody waits for more than there is, and is replaced.
    let waiting = {
        let target = format!("/inbox/{}&after=4&wait=60", as_reader(&first));
        let mut waiting = Http::connect(&cluster.address(0));
        waiting.send("GET", &target, None);
        waiting
    };
    let second = attach(2, json!({ "window": 100 })).is(200);
    assert_eq!((&second["epoch"], &second["acknowledged"]), (&json!(2), &json!(1)));
    let mut waiting = waiting;
    let fenced = waiting.read(true).expect("an answer").is(409);
    assert_eq!((&fenced["reason"], &fenced["epoch"]), (&json!("fenced"), &json!(2)));
    assert_eq!(post(&cluster.address(0), "/inbox/bob/acknowledge", &seen["acknowledge"]).is(409)["reason"], "fenced");
    assert_eq!(ask(&cluster.address(0), "GET", &format!("/inbox/{}", as_reader(&first)), None).is(409)["epoch"], 2);
    let seen = inbox(&cluster.address(0), &as_reader(&second));
    let marks: Vec<&Value> = seen["messages"].as_array().expect("a list").iter().map(|m| &m["redelivered"]).collect();
    assert_eq!((texts(&seen), marks), (vec!["2", "3", "4"], vec![&json!(true), &json!(true), &json!(false)]));
    assert_eq!(attach(0, json!({ "epoch": 1 })).is(409)["epoch"], 2, "whoever names the epoch replaces no other");
    // A session takes the inbox over, and the one before is told.
    let listening = cluster.run(&["listen", "bob", "--count", "3", "--json"]).ok();
    assert_eq!(listening.lines().count(), 3, "{listening}");
    assert_eq!(post(&cluster.address(1), "/inbox/bob/acknowledge", &seen["acknowledge"]).is(409)["reason"], "fenced");
    assert_eq!(inbox(&cluster.address(1), "bob")["waiting"], 0);
    let detached = json!({ "registration": second["registration"], "epoch": second["epoch"] });
    assert_eq!(post(&cluster.address(1), "/inbox/bob/detach", &detached).is(409)["reason"], "fenced");
}

#[test]
fn a_look_waits_for_what_comes() {
    let cluster = serving(3);
    registered(&cluster, &["alice", "bob"]);
    let mut waiting: Vec<Http> = (0..3).map(|number| Http::connect(&cluster.address(number))).collect();
    waiting.iter_mut().for_each(|one| one.send("GET", "/inbox/bob?wait=60", None));
    // Whoever goes away is forgotten.
    let mut gone = Http::connect(&cluster.address(0));
    gone.send("GET", "/inbox/bob?wait=60", None);
    drop(gone);
    share(&cluster.address(1), "alice", "bob", "at last").is(200);
    for one in &mut waiting {
        assert_eq!(texts(&one.read(true).expect("an answer").is(200)), ["at last"]);
        assert_eq!(texts(&one.ask("GET", "/inbox/bob?wait=0.01", None).is(200)), ["at last"], "on the same connection");
    }
    assert_eq!(texts(&inbox(&cluster.address(2), "bob?after=1&wait=0.05")), [""; 0]);
}

#[test]
fn what_is_wrong_is_said_in_json() {
    let cluster = alone(&[]);
    registered(&cluster, &["alice", "bob"]);
    let address = cluster.address(0);
    for (method, path, status, allow) in [
        ("GET", "/registers", 404, None),
        ("GET", "/register", 405, Some("POST")),
        ("DELETE", "/share", 405, Some("POST")),
        ("POST", "/inbox/bob", 405, Some("GET, HEAD")),
        ("get", "/inbox/bob", 405, Some("GET, HEAD")),
        ("OPTIONS", "/streams/1/1", 405, Some("PUT")),
        ("PUT", "/streams/1/0", 400, None),
        ("GET", "/inbox/bob?after=x", 400, None),
        ("GET", "/inbox/no%20name", 404, None),
    ] {
        let response = ask(&address, method, path, None);
        response.is(status);
        assert_eq!(response.header("allow"), allow, "{method} {path}");
    }
    let head = ask(&address, "HEAD", "/inbox/bob", None);
    assert!(head.status == 200 && head.header("content-length").is_some_and(|length| length != "0"), "{head:?}");
    let send = |headers: &str, body: &str| {
        let mut http = Http::connect(&address);
        let length = body.len();
        http.write(format!("POST /share HTTP/1.1\r\n{headers}Content-Length: {length}\r\n\r\n{body}").as_bytes());
        http.read(true).expect("an answer")
    };
    let body = r#"{"sender_id": "alice", "receiver_id": "bob", "message": "x"}"#;
    send("Host: localhost:1\r\n", body).is(200);
    send("", body).is(200);
    send("Host: localhost\r\nContent-Type: application/json; charset=utf-8\r\n", body).is(200);
    send("Host: localhost\r\nContent-Type: text/plain\r\n", body).is(415);
    // What a browser sends for somebody else's page.
    send("Host: 127.0.0.1\r\nOrigin: http://evil.example\r\n", body).is(403);
    send("Host: evil.example\r\nOrigin: http://evil.example\r\n", body).is(403);
    send("Host: 127.0.0.1:80\r\nOrigin: http://127.0.0.1:80\r\n", body).is(200);
    // What is no HTTP at all.
    for garbage in ["GET / HTTP/9.9\r\n\r\n", "GET  /\r\n\r\n", "RSTX\r\n\r\n", "GET / HTTP/1.1\r\nbad header\r\n\r\n"]
    {
        let mut http = Http::connect(&address);
        http.write(garbage.as_bytes());
        http.read(true).expect("an answer").says(400, "Invalid data");
        assert!(http.is_closed(), "{garbage:?}");
    }
    let mut http = Http::connect(&address);
    http.write(format!("GET / HTTP/1.1\r\nX: {}\r\n\r\n", "x".repeat(limits::HTTP_HEAD_BYTES_MAX)).as_bytes());
    http.read(true).expect("an answer").says(431, "Request header fields too large");
    assert_eq!(texts(&inbox(&address, "bob")).len(), 4);
}

#[test]
fn bodies_have_their_limits_and_come_as_http_allows() {
    let cluster = alone(&[]);
    registered(&cluster, &["alice", "bob"]);
    let address = cluster.address(0);
    let large = "x".repeat(limits::BODY_BYTES_MAX);
    share(&address, "alice", "bob", &large).is(200);
    share(&address, "alice", "bob", &format!("{large}x")).is(413);
    let mut http = Http::connect(&address);
    http.send("POST", "/share", Some(&"x".repeat(limits::HTTP_BODY_BYTES_MAX + 1)));
    http.read(true).expect("an answer").says(413, "Payload too large");
    assert!(http.is_closed());
    // Announced as larger than anything, it is refused before it comes.
    let mut http = Http::connect(&address);
    http.write(b"POST /share HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n");
    http.read(true).expect("an answer").is(413);
    let body = r#"{"sender_id": "alice", "receiver_id": "bob", "message": "in pieces"}"#;
    let (front, back) = body.split_at(20);
    let mut http = Http::connect(&address);
    http.write(b"POST /share HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n");
    http.write(format!("{:x}\r\n{front}\r\n{:x}\r\n{back}\r\n0\r\n\r\n", front.len(), back.len()).as_bytes());
    http.read(true).expect("an answer").says(200, "Message from alice to bob: in pieces");
    // On the same connection, with the server's leave.
    http.write(
        format!("POST /share HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: {}\r\n\r\n", body.len()).as_bytes(),
    );
    http.write(body.as_bytes());
    http.read(true).expect("an answer").is(200);
    // Several at once are answered in their order.
    for text in ["first", "second", "third"] {
        http.send(
            "POST",
            "/share",
            Some(&format!(r#"{{"sender_id": "alice", "receiver_id": "bob", "message": "{text}"}}"#)),
        );
    }
    for text in ["first", "second", "third"] {
        http.read(true).expect("an answer").says(200, &format!("Message from alice to bob: {text}"));
    }
    http.write(b"GET /inbox/bob?limit=1 HTTP/1.1\r\nConnection: close\r\n\r\n");
    http.read(true).expect("an answer").is(200);
    assert!(http.is_closed());
    assert_eq!(inbox(&address, "bob?after=1")["messages"].as_array().map(Vec::len), Some(5));
}

#[test]
fn whoever_is_slow_or_goes_away_holds_up_nobody() {
    let cluster = alone(&["--connections", "20"]);
    registered(&cluster, &["alice", "bob"]);
    let address = cluster.address(0);
    // Heads and bodies that never end, and connections that were half closed.
    let mut slow: Vec<Http> = (0..12).map(|_| Http::connect(&address)).collect();
    for (n, http) in slow.iter_mut().enumerate() {
        match n % 3 {
            0 => http.write(b"POST /share HTTP/1.1\r\nX-Slow"),
            1 => http.write(b"POST /share HTTP/1.1\r\nContent-Length: 1000\r\n\r\n{"),
            _ => {
                http.write(b"POST /share HTTP/1.1\r\nContent-Length: 10\r\n\r\n{");
                http.half_close();
            }
        }
    }
    share(&address, "alice", "bob", "through").is(200);
    // Those that were half closed are over; the head that never ends is given up.
    for n in [2, 5, 8, 11] {
        assert!(slow[n].read(true).is_none_or(|response| response.status == 400));
    }
    assert!(slow[0].is_closed(), "the head took too long");
    // As many as there may be, and one more, which is told so.
    let mut many: Vec<Http> = (0..20).map(|_| Http::connect(&address)).collect();
    let refused = wait_for("a refusal", || {
        many.push(Http::connect(&address));
        let http = many.last_mut()?;
        http.send("GET", "/inbox/bob", None);
        http.read(true).filter(|response| response.status == 503)
    });
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.contains("limit of 20")), "{refused:?}");
    drop(many);
    again("a place", || Some(share(&address, "alice", "bob", "again"))).is(200);
}

#[test]
fn large_bodies_that_are_slow_make_others_wait_and_small_ones_come_through() {
    let cluster = alone(&[]);
    registered(&cluster, &["alice", "bob"]);
    let address = cluster.address(0);
    // As many as there is room for, each lacking its last byte.
    let text = " ".repeat(limits::HTTP_BODY_BYTES_MAX);
    let slow = || {
        let mut http = Http::connect(&address);
        http.write(format!("POST /share HTTP/1.1\r\nContent-Length: {}\r\n\r\n", text.len()).as_bytes());
        http.write(&text.as_bytes()[1..]);
        http
    };
    let mut many: Vec<Http> = (0..limits::HTTP_BODIES_BYTES_MAX / text.len()).map(|_| slow()).collect();
    let large = "x".repeat(limits::BODY_BYTES_MAX);
    let refused = wait_for("a refusal", || {
        let response = share(&address, "alice", "bob", &large);
        // On a slow machine some may be given up by now.
        many.push(slow());
        (response.status == 503).then_some(response)
    });
    assert_eq!(refused.header("retry-after"), Some("1"));
    assert_eq!(refused.json()["outcome"], "nothing was done");
    share(&address, "alice", "bob", "small").is(200);
    drop(many);
    again("room", || Some(share(&address, "alice", "bob", &large))).is(200);
}

#[test]
fn a_server_that_stops_answers_what_is_under_way() {
    let mut cluster = serving(3);
    registered(&cluster, &["alice", "bob"]);
    let mut waiting = Http::connect(&cluster.address(1));
    waiting.send("GET", "/inbox/bob?wait=60", None);
    let mut idle = Http::connect(&cluster.address(1));
    idle.ask("GET", "/inbox/bob", None).is(200);
    assert!(cluster.stop(1).success());
    assert_eq!(waiting.read(true).expect("an answer").is(200)["messages"], json!([]));
    assert!(waiting.is_closed() && idle.is_closed());
    share(&cluster.address(2), "alice", "bob", "elsewhere").is(200);
}

#[test]
fn a_server_that_stops_waits_until_its_answers_are_taken() {
    let mut cluster = serving(3);
    registered(&cluster, &["alice", "bob"]);
    // As JSON it is six times as large, more than the system takes in one's stead.
    let text = "\u{1}".repeat(limits::HTTP_INBOX_BYTES_MAX / 4 - 64);
    (0..4).for_each(|_| drop(share(&cluster.address(0), "alice", "bob", &text).is(200)));
    let mut http = Http::connect(&cluster.address(1));
    http.send("GET", "/inbox/bob", None);
    http.wait();
    signal(cluster.pid(1), "TERM");
    wait_for("the server to begin to stop", || cluster.log(1).contains("stopping").then_some(()));
    let seen = http.read(true).expect("an answer").is(200);
    assert_eq!(texts(&seen), [&text; 4]);
    assert!(http.is_closed() && cluster.ends(1).success());
}

#[test]
fn many_senders_at_once_lose_and_double_nothing() {
    let cluster = serving(3);
    registered(&cluster, &["alice", "bob", "carol"]);
    let senders: Vec<_> = (0..6)
        .map(|n| {
            let address = cluster.address(n % 3);
            let from = if n % 2 == 0 { "alice" } else { "bob" };
            std::thread::spawn(move || {
                let mut http = Http::connect(&address);
                for i in 0..30 {
                    let body = json!({ "sender_id": from, "receiver_id": "carol", "message": format!("{n}.{i}") });
                    http.post("/share", &body).is(200);
                }
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().expect("it ends well"));
    let seen = inbox(&cluster.address(0), "carol");
    let all = texts(&seen);
    assert_eq!(all.len(), 180);
    for n in 0..6 {
        let prefix = format!("{n}.");
        let own: Vec<&str> = all.iter().copied().filter(|text| text.starts_with(&prefix)).collect();
        assert_eq!(own, (0..30).map(|i| format!("{n}.{i}")).collect::<Vec<_>>());
    }
}
