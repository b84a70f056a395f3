//! `/v1` over real ports: what `docs/api.md` says, by plain clients.
#![expect(clippy::disallowed_methods, reason = "tests watch real processes from outside, on real time")]

mod support;

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;

use serde_json::{Value, json};
use support::http::{Http, Response};
use support::{Cluster, PATIENCE, wait_for};
use tungstenite::{Message, WebSocket};

fn request(address: &str, method: &str, target: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Response {
    let mut http = Http::connect(address);
    let mut head = format!("{method} {target} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head += &format!("{name}: {value}\r\n");
    }
    if let Some(body) = body {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    http.write(format!("{head}\r\n").as_bytes());
    http.write(body.unwrap_or_default());
    http.read(method != "HEAD").expect("an answer")
}

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[track_caller]
fn call(address: &str, method: &str, target: &str, body: Option<Value>) -> Response {
    let text = body.map(|body| body.to_string());
    request(address, method, &format!("/v1{target}"), &[JSON], text.as_ref().map(|text| text.as_bytes()))
}

/// Asserts the status, and returns the JSON, whether it is an answer or a problem.
#[track_caller]
fn is(response: &Response, status: u16) -> Value {
    assert_eq!(response.status, status, "{response:?}");
    if status == 204 {
        return Value::Null;
    }
    let kind = if status >= 400 { "application/problem+json" } else { "application/json" };
    assert_eq!(response.header("content-type"), Some(kind), "{response:?}");
    let value: Value = serde_json::from_str(&response.text).unwrap_or_else(|error| panic!("{error} in {response:?}"));
    if status >= 400 {
        assert_eq!(value["status"], status, "{value}");
        assert!(value["detail"].is_string() && value["type"].is_string() && value["outcome"].is_string(), "{value}");
    }
    value
}

/// A cluster of which every server serves, and where these are registered.
fn serving(servers: usize, names: &[&str], arguments: &[&str]) -> Cluster {
    let mut cluster = Cluster::prepare(servers).with_arguments(arguments);
    cluster.start_all();
    cluster.wait_for_leader();
    for address in cluster.addresses() {
        wait_for("a server that serves", || {
            (request(&address, "GET", "/health/ready", &[], None).status == 200).then_some(())
        });
    }
    for name in names {
        is(&call(&cluster.address(0), "POST", "/clients", Some(json!({ "name": name }))), 201);
    }
    cluster
}

fn message(from: &str, to: &str, text: &str) -> Option<Value> {
    Some(json!({ "from": from, "to": to, "text": text }))
}

fn texts(inbox: &Value) -> Vec<&str> {
    inbox["messages"].as_array().expect("a list").iter().filter_map(|message| message["text"].as_str()).collect()
}

#[test]
fn clients_are_registered_listed_and_deregistered_at_any_server() {
    let cluster = serving(3, &["alice", "bob", "carol"], &[]);
    let (a, b, c) = (cluster.address(0), cluster.address(1), cluster.address(2));
    let again = is(&call(&b, "POST", "/clients", Some(json!({ "name": "alice" }))), 200);
    assert_eq!(again["home"], cluster.name(0));
    let moved = json!({ "name": "alice", "home": cluster.name(2) });
    assert_eq!(is(&call(&b, "POST", "/clients", Some(moved)), 200)["home"], cluster.name(2));
    let unknown = json!({ "name": "alice", "home": "nowhere" });
    assert_eq!(is(&call(&b, "POST", "/clients", Some(unknown)), 404)["code"], "no_such_server");
    let page = is(&call(&c, "GET", "/clients?limit=2", None), 200);
    let names = |page: &Value| -> Vec<String> {
        let clients = page["clients"].as_array().expect("a list").iter();
        clients.filter_map(|client| client["name"].as_str().map(str::to_owned)).collect()
    };
    assert_eq!((names(&page), &page["more"]), (vec!["alice".to_owned(), "bob".to_owned()], &json!(true)));
    let rest = is(&call(&c, "GET", "/clients?after=bob&local=true", None), 200);
    assert_eq!((names(&rest), &rest["more"]), (vec!["carol".to_owned()], &json!(false)));
    let bob = is(&call(&a, "GET", "/clients/bob", None), 200);
    assert_eq!((&bob["online"], &bob["waiting"]), (&json!(false), &json!(0)));
    let other = format!("/clients/bob?registration={}", bob["registration"].as_u64().expect("a number") + 1);
    assert_eq!(is(&call(&b, "DELETE", &other, None), 409)["code"], "registration_ended");
    is(&call(&b, "DELETE", "/clients/bob", None), 204);
    assert_eq!(is(&call(&c, "GET", "/clients/bob", None), 404)["code"], "not_registered");
    assert_eq!(is(&call(&c, "DELETE", "/clients/bob", None), 404)["code"], "not_registered");
}

#[test]
fn a_body_is_text_or_any_bytes_and_comes_back_as_it_was() {
    let cluster = serving(3, &["alice", "bob"], &[]);
    let (a, b) = (cluster.address(0), cluster.address(1));
    let text = json!({ "from": "alice", "to": "bob", "text": "grüße", "headers": { "thread": "7" } });
    assert_eq!(is(&call(&a, "POST", "/messages", Some(text)), 201)["position"], 1);
    let bytes = json!({ "from": "alice", "to": "bob", "base64": "/wA=", "content_type": "image/x-two" });
    assert_eq!(is(&call(&b, "POST", "/messages", Some(bytes)), 201)["position"], 2);
    let raw =
        request(&a, "POST", "/v1/messages?from=alice&to=bob", &[("Content-Type", "text/x-raw")], Some(b"as it is"));
    assert_eq!(is(&raw, 201)["position"], 3);
    let seen = is(&call(&b, "GET", "/clients/bob/inbox", None), 200);
    assert_eq!(texts(&seen), ["grüße", "as it is"]);
    assert_eq!(seen["messages"][0]["headers"], json!([["thread", "7"]]));
    assert_eq!(seen["messages"][1]["base64"], "/wA=");
    assert_eq!(seen["messages"][2]["headers"], json!([["content-type", "text/x-raw"]]));
    let third = request(&b, "GET", "/v1/clients/bob/messages/3", &[], None);
    assert_eq!(
        (third.status, third.header("content-type"), third.text.as_str()),
        (200, Some("text/x-raw"), "as it is")
    );
    assert_eq!(third.header("restante-from"), Some("alice"));
    assert_eq!(is(&call(&b, "GET", "/clients/bob/messages/4", None), 404)["code"], "no_such_message");
    // What was seen is acknowledged by giving it back.
    let token = seen["acknowledge"].clone();
    assert_eq!(is(&call(&a, "POST", "/clients/bob/inbox/acknowledgements", Some(token)), 200)["acknowledged"], 3);
    assert_eq!(is(&call(&b, "GET", "/clients/bob/inbox", None), 200)["waiting"], 0);
    for (body, status, code) in [
        (json!({ "from": "alice", "to": "nobody", "text": "x" }), 404, "no_such_client"),
        (json!({ "from": "nobody", "to": "bob", "text": "x" }), 404, "not_registered"),
        (json!({ "from": "alice", "to": "bob" }), 400, "invalid"),
        (json!({ "from": "alice", "to": "bob", "text": "x", "base64": "eA==" }), 400, "invalid"),
        (json!({ "from": "alice", "to": "bob", "text": "x", "typo": 1 }), 400, "invalid"),
        (json!([]), 400, "invalid"),
        (json!({ "from": "alice", "to": "bob", "text": "x".repeat((1 << 20) + 1) }), 413, "too_large"),
    ] {
        assert_eq!(is(&call(&a, "POST", "/messages", Some(body)), status)["code"], code);
    }
    let form =
        request(&a, "POST", "/v1/messages", &[("Content-Type", "application/x-www-form-urlencoded")], Some(b"a=b"));
    assert_eq!(is(&form, 415)["code"], "unsupported_media_type");
}

#[test]
fn a_batch_keeps_its_order_and_tells_of_each() {
    let cluster = serving(3, &["alice", "bob"], &[]);
    let parts: Vec<Value> =
        (0..50).map(|n| json!({ "to": if n == 7 { "nobody" } else { "bob" }, "text": n.to_string() })).collect();
    let batch = json!({ "from": "alice", "messages": parts });
    let keyed = |address: &str| {
        let text = batch.to_string();
        request(address, "POST", "/v1/messages/batch", &[JSON, ("Idempotency-Key", "batch-1")], Some(text.as_bytes()))
    };
    let outcome = is(&keyed(&cluster.address(1)), 200);
    assert_eq!(outcome["accepted"], 49);
    assert_eq!(outcome["outcomes"][7]["problem"]["code"], "no_such_client");
    assert_eq!(outcome["outcomes"][8]["position"], 8);
    assert_eq!(is(&keyed(&cluster.address(2)), 200), outcome, "the same key is the same batch");
    let seen = is(&call(&cluster.address(0), "GET", "/clients/bob/inbox", None), 200);
    let expected: Vec<String> = (0..50).filter(|n| *n != 7).map(|n| n.to_string()).collect();
    assert_eq!(texts(&seen), expected);
    // Without a key it is another one.
    is(&call(&cluster.address(0), "POST", "/messages/batch", Some(batch.clone())), 200);
    assert_eq!(is(&call(&cluster.address(0), "GET", "/clients/bob", None), 200)["waiting"], 98);
    let none = json!({ "from": "alice", "messages": [] });
    assert_eq!(is(&call(&cluster.address(0), "POST", "/messages/batch", Some(none)), 400)["code"], "invalid");
}

#[test]
fn a_key_makes_one_message_of_many_requests_through_the_death_of_the_leader() {
    let mut cluster = serving(3, &["alice", "bob"], &[]);
    let send = |address: &str, key: &str, text: &str| {
        let body = json!({ "from": "alice", "to": "bob", "text": text }).to_string();
        request(address, "POST", "/v1/messages", &[JSON, ("Idempotency-Key", key)], Some(body.as_bytes()))
    };
    let leader = cluster.wait_for_leader();
    assert_eq!(is(&send(&cluster.address(leader), "k-1", "one"), 201)["position"], 1);
    assert_eq!(is(&send(&cluster.address((leader + 1) % 3), "k-1", "one"), 201)["position"], 1);
    assert_eq!(is(&send(&cluster.address(leader), "k-2", "two"), 201)["position"], 2);
    assert_eq!(is(&send(&cluster.address(leader), "k-1", "another"), 409)["code"], "other_content");
    cluster.kill(leader);
    for number in [1, 2] {
        let address = cluster.address((leader + number) % 3);
        let repeated =
            wait_for("an answer", || Some(send(&address, "k-1", "one")).filter(|answer| answer.status < 500));
        assert_eq!(is(&repeated, 201)["position"], 1);
    }
    let seen = is(&call(&cluster.address((leader + 1) % 3), "GET", "/clients/bob/inbox", None), 200);
    assert_eq!(texts(&seen), ["one", "two"]);
    for bad in ["", "white space", &"x".repeat(256)] {
        assert_eq!(send(&cluster.address((leader + 1) % 3), bad, "x").status, 400, "{bad:?}");
    }
}

#[test]
fn keys_leave_a_sender_half_of_its_streams() {
    let cluster = serving(1, &["alice", "bob"], &["--streams-per-client", "8"]);
    let address = cluster.address(0);
    let send = |key: usize| {
        let body = json!({ "from": "alice", "to": "bob", "text": "x" }).to_string();
        request(&address, "POST", "/v1/messages", &[JSON, ("Idempotency-Key", &key.to_string())], Some(body.as_bytes()))
    };
    (0..4).for_each(|key| drop(is(&send(key), 201)));
    let refused = send(4);
    assert_eq!(is(&refused, 429)["code"], "too_many_keys");
    assert_eq!(refused.header("retry-after"), Some("1"));
    // What is known stays known, and other ways to send stay open.
    assert_eq!(is(&send(0), 201)["position"], 1);
    is(&call(&address, "POST", "/messages", message("alice", "bob", "y")), 201);
    let metrics = request(&address, "GET", "/metrics", &[], None).text;
    assert!(metrics.contains("restante_limit_hits_total{limit=\"idempotency_keys\"} 1\n"), "{metrics}");
}

#[test]
fn a_number_put_to_a_stream_is_one_message_however_often() {
    let cluster = serving(3, &["alice", "bob"], &[]);
    let opening = json!({ "client": "alice", "nonce": "5f0e" });
    let opened = is(&call(&cluster.address(0), "POST", "/streams", Some(opening.clone())), 201);
    let again = is(&call(&cluster.address(1), "POST", "/streams", Some(opening)), 201);
    assert_eq!((&again["stream"], &again["next"]), (&opened["stream"], &json!(1)));
    let stream = format!("/streams/{}", opened["stream"]);
    let part = |text: &str| Some(json!({ "to": "bob", "text": text }));
    let put = |at: usize, number: u64, text: &str| {
        call(&cluster.address(at), "PUT", &format!("{stream}/{number}"), part(text))
    };
    assert_eq!(is(&put(0, 1, "one"), 200)["position"], 1);
    assert_eq!(is(&put(2, 1, "one"), 200)["position"], 1);
    let gap = is(&put(1, 3, "three"), 409);
    assert_eq!((&gap["code"], &gap["expected"], &gap["outcome"]), (&json!("gap"), &json!(2), &json!("nothing_done")));
    assert_eq!(is(&put(1, 1, "another"), 409)["code"], "other_content");
    assert_eq!(is(&call(&cluster.address(1), "GET", &stream, None), 200)["next"], 2);
    let raw = request(
        &cluster.address(1),
        "PUT",
        &format!("/v1{stream}/2?to=bob&confirmed=1"),
        &[("Content-Type", "x/y")],
        Some(b"two"),
    );
    assert_eq!(is(&raw, 200)["position"], 2);
    assert_eq!(is(&put(0, 1, "one"), 409)["outcome"], "answered_before");
    is(&call(&cluster.address(2), "DELETE", &stream, None), 204);
    assert_eq!(is(&put(0, 3, "three"), 410)["code"], "stream_closed");
    assert_eq!(is(&call(&cluster.address(1), "GET", &stream, None), 410)["code"], "stream_closed");
}

#[test]
fn an_inbox_has_one_reader_and_whoever_waits_for_it_is_told() {
    let cluster = serving(3, &["alice", "bob"], &[]);
    let (a, b) = (cluster.address(0), cluster.address(1));
    let attached = is(&call(&a, "POST", "/clients/bob/inbox/reader", Some(json!({ "window": 2 }))), 200);
    let reader = format!("{}:{}", attached["registration"], attached["epoch"]);
    let waiting = std::thread::spawn({
        let (b, reader) = (b.clone(), reader.clone());
        move || call(&b, "GET", &format!("/clients/bob/inbox?wait=20&reader={reader}"), None)
    });
    for n in 0..3 {
        is(&call(&a, "POST", "/messages", message("alice", "bob", &n.to_string())), 201);
    }
    let first = is(&waiting.join().expect("no panic"), 200);
    assert_eq!((texts(&first)[0], &first["reader"]), ("0", &json!("http")));
    let all = is(&call(&b, "GET", &format!("/clients/bob/inbox?reader={reader}"), None), 200);
    assert_eq!(texts(&all), ["0", "1"], "no more than its window");
    assert_eq!(
        is(&call(&a, "GET", "/clients/bob/inbox", None), 200)["acknowledge"],
        Value::Null,
        "it is not the reader"
    );
    let newer = is(&call(&b, "POST", "/clients/bob/inbox/reader", Some(json!({}))), 200);
    let fenced = is(&call(&a, "GET", &format!("/clients/bob/inbox?reader={reader}"), None), 409);
    assert_eq!((&fenced["code"], &fenced["epoch"]), (&json!("epoch_moved"), &newer["epoch"]));
    let stale = all["acknowledge"].clone();
    assert_eq!(is(&call(&a, "POST", "/clients/bob/inbox/acknowledgements", Some(stale)), 409)["code"], "epoch_moved");
    let reader = format!("{}:{}", newer["registration"], newer["epoch"]);
    is(&call(&a, "DELETE", &format!("/clients/bob/inbox/reader?reader={reader}&delivered=0"), None), 204);
    assert_eq!(is(&call(&a, "GET", "/clients/bob/inbox", None), 200)["reader"], "nobody");
}

/// Server-sent events, as they come.
struct Events {
    lines: std::io::Lines<BufReader<TcpStream>>,
}

impl Events {
    fn open(address: &str, target: &str) -> Self {
        let mut stream = TcpStream::connect(address).expect("the server listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream.write_all(format!("GET {target} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes()).expect("it is sent");
        let mut lines = BufReader::new(stream).lines();
        let head = lines.next().expect("an answer").expect("it can be read");
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
        Self { lines }
    }

    /// The next event of that name; `None` when there are no more.
    fn next(&mut self, wanted: &str) -> Option<Value> {
        loop {
            let line = self.lines.next()?.ok()?;
            if line == format!("event: {wanted}") {
                let data = self.lines.next()?.ok()?;
                return serde_json::from_str(data.strip_prefix("data: ")?).ok();
            }
        }
    }
}

#[test]
fn events_tell_of_the_cluster_and_of_an_inbox_as_they_happen() {
    let mut cluster = serving(3, &["alice", "bob"], &[]);
    let leader = cluster.wait_for_leader();
    let left = (leader + 1) % 3;
    let mut watching = Events::open(&cluster.address(left), "/v1/events");
    let happening = watching.next("happening").expect("it has started");
    assert_eq!(happening["kind"], "start");
    let status = watching.next("status").expect("a status");
    assert_eq!((&status["server"], &status["role"]), (&json!(cluster.name(left)), &json!("follower")));
    assert_eq!(status["servers"].as_array().map(Vec::len), Some(3));
    let mut inbox = Events::open(&cluster.address(left), "/v1/clients/bob/inbox/events");
    assert_eq!(inbox.next("inbox").expect("about it")["waiting"], 0);
    is(&call(&cluster.address(left), "POST", "/messages", message("alice", "bob", "hello")), 201);
    assert_eq!(inbox.next("message").expect("a message")["text"], "hello");
    let passing = watching.next("passing").expect("what passes");
    assert_eq!((&passing[0]["from"], &passing[0]["to"]), (&json!("alice"), &json!("bob")));
    cluster.kill(leader);
    // The next election, after those that were told of at the beginning.
    let elected = wait_for("an election", || {
        let happening = watching.next("happening")?;
        let text = happening["text"].as_str().unwrap_or_default().to_owned();
        (happening["kind"] == "election" && text.contains("leads") && !text.starts_with(&cluster.name(leader)))
            .then_some(text)
    });
    assert!(elected.contains("in term"), "{elected}");
    wait_for("a send", || {
        let sent = call(&cluster.address(left), "POST", "/messages", message("alice", "bob", "again"));
        (sent.status == 201).then_some(())
    });
    let again = wait_for("the message", || {
        // Out of touch, the server looks again for it.
        inbox.next("message").or_else(|| {
            inbox = Events::open(&cluster.address(left), "/v1/clients/bob/inbox/events?after=1");
            None
        })
    });
    assert_eq!(again["text"], "again");
    // A server that stops says so, and lets go.
    let mut ending = Events::open(&cluster.address(left), "/v1/events");
    cluster.stop(left);
    assert_eq!(ending.next("end").expect("an end")["code"], "stopping");
}

type Socket = WebSocket<tungstenite::stream::MaybeTlsStream<TcpStream>>;

fn socket(address: &str, target: &str) -> Socket {
    let (socket, response) = tungstenite::connect(format!("ws://{address}/v1{target}")).expect("a WebSocket");
    assert_eq!(response.status(), 101);
    if let tungstenite::stream::MaybeTlsStream::Plain(stream) = socket.get_ref() {
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    }
    socket
}

/// What is said next of that type; `None` when it is closed.
fn said(socket: &mut Socket, wanted: &str) -> Option<Value> {
    loop {
        match socket.read().ok()? {
            Message::Text(text) => {
                let value: Value = serde_json::from_str(&text).expect("JSON");
                if value["type"] == wanted {
                    return Some(value);
                }
            }
            Message::Close(_) => return None,
            _ => {}
        }
    }
}

fn say(socket: &mut Socket, value: &Value) {
    socket.send(Message::text(value.to_string())).expect("it is sent");
}

#[test]
fn a_websocket_brings_messages_and_takes_acknowledgements_and_sends() {
    let cluster = serving(3, &["alice", "bob"], &[]);
    let mut bob = socket(&cluster.address(1), "/clients/bob/inbox/socket?attach=true");
    assert_eq!(said(&mut bob, "inbox").expect("about it")["reader"], "http");
    let mut alice = socket(&cluster.address(2), "/clients/alice/inbox/socket");
    for n in 1..=3 {
        say(&mut alice, &json!({ "type": "send", "id": n, "to": "bob", "text": format!("number {n}") }));
        let sent = said(&mut alice, "sent").expect("a receipt");
        assert_eq!((&sent["id"], &sent["position"]), (&json!(n), &json!(n)));
        assert_eq!(said(&mut bob, "message").expect("a message")["text"], format!("number {n}"));
    }
    say(&mut alice, &json!({ "type": "send", "id": "x", "to": "nobody", "text": "x" }));
    let refused = said(&mut alice, "problem").expect("a problem");
    assert_eq!((&refused["id"], &refused["problem"]["code"]), (&json!("x"), &json!("no_such_client")));
    say(&mut alice, &json!({ "type": "nonsense" }));
    assert_eq!(said(&mut alice, "problem").expect("a problem")["problem"]["code"], "invalid");
    for _ in 0..2 {
        let keyed = json!({ "type": "send", "key": "k", "to": "bob", "text": "once" });
        say(&mut alice, &keyed);
        assert_eq!(said(&mut alice, "sent").expect("a receipt")["position"], 4);
    }
    say(&mut bob, &json!({ "type": "acknowledge", "up_to": 3 }));
    assert_eq!(said(&mut bob, "acknowledged").expect("an answer")["acknowledged"], 3);
    assert_eq!(is(&call(&cluster.address(0), "GET", "/clients/bob", None), 200)["waiting"], 1);
    // Another reader ends this one.
    let mut newer = socket(&cluster.address(0), "/clients/bob/inbox/socket?attach=true");
    assert_eq!(said(&mut newer, "message").expect("what waits")["text"], "once");
    assert_eq!(said(&mut bob, "problem").expect("it is told")["problem"]["code"], "epoch_moved");
    assert!(said(&mut bob, "message").is_none(), "it is closed");
    let plain = call(&cluster.address(0), "GET", "/clients/bob/inbox/socket", None);
    assert_eq!(is(&plain, 426)["code"], "upgrade_required");
}

#[test]
fn what_is_wrong_is_a_problem_with_a_code() {
    let cluster = serving(1, &["bob"], &[]);
    let address = cluster.address(0);
    for (method, target, status, code) in [
        ("GET", "/nothing", 404, "no_such_path"),
        ("GET", "/clients/no%20name", 404, "invalid"),
        ("GET", "/clients?limit=0", 400, "invalid"),
        ("GET", "/clients/bob/inbox?wait=x", 400, "invalid"),
        ("GET", "/clients/bob/inbox?reader=1", 400, "invalid"),
        ("GET", "/streams/x", 400, "invalid"),
        ("PATCH", "/clients", 405, "method_not_allowed"),
    ] {
        let response = call(&address, method, target, None);
        assert_eq!(is(&response, status)["code"], code, "{target}");
        assert_eq!(response.header("allow").is_some(), status == 405, "{target}");
    }
    let large = request(&address, "POST", "/v1/messages", &[JSON], Some(&vec![b' '; (2 << 20) + 1]));
    assert_eq!(is(&large, 413)["code"], "too_large");
    // A request keeps its id, and has one in any case.
    let given = request(&address, "GET", "/v1/status", &[("X-Request-Id", "order-17")], None);
    assert_eq!(given.header("x-request-id"), Some("order-17"));
    let trace = [("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")];
    let traced = request(&address, "GET", "/v1/status", &trace, None);
    assert_eq!(traced.header("x-request-id"), Some("4bf92f3577b34da6a3ce929d0e0e4736"));
    let own = request(&address, "GET", "/v1/status", &[], None);
    assert!(own.header("x-request-id").is_some_and(|id| id.starts_with("a-")), "{own:?}");
    let head = request(&address, "HEAD", "/v1/status", &[], None);
    assert_eq!((head.status, head.text.as_str()), (200, ""));
    let document = is(&call(&address, "GET", "/openapi.json", None), 200);
    assert_eq!(document["openapi"], "3.1.0");
}

#[test]
fn pages_of_the_clusters_servers_may_ask_and_no_others() {
    let cluster = serving(3, &["alice", "bob"], &[]);
    let (a, b) = (cluster.address(0), cluster.address(1));
    let origin = format!("http://{a}");
    let asked = request(&b, "GET", "/v1/status", &[("Origin", &origin)], None);
    assert_eq!((asked.status, asked.header("access-control-allow-origin")), (200, Some(origin.as_str())));
    assert_eq!(asked.header("vary"), Some("Origin"));
    // By another name of the same machine, as a person may have typed it.
    let by_name = format!("http://localhost:{}", a.rsplit_once(':').expect("a port").1);
    let asked = request(&b, "GET", "/v1/status", &[("Origin", &by_name)], None);
    assert_eq!((asked.status, asked.header("access-control-allow-origin")), (200, Some(by_name.as_str())));
    let preflight = [
        ("Origin", origin.as_str()),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "content-type"),
    ];
    let asked = request(&b, "OPTIONS", "/v1/streams/1/1", &preflight, None);
    assert_eq!(asked.status, 204, "{asked:?}");
    assert!(asked.header("access-control-allow-methods").is_some_and(|methods| methods.contains("PUT")), "{asked:?}");
    assert!(
        asked.header("access-control-allow-headers").is_some_and(|names| names.contains("Idempotency-Key")),
        "{asked:?}"
    );
    for bad in ["http://evil.example", "null", "http://127.0.0.1:1"] {
        let refused = request(&b, "GET", "/v1/status", &[("Origin", bad)], None);
        assert_eq!(is(&refused, 403)["code"], "foreign_origin", "{bad}");
        assert_eq!(refused.header("access-control-allow-origin"), None, "{bad}");
    }
    // The routes of before take nothing from any other page, be it the cluster's.
    let legacy = request(&b, "POST", "/share", &[JSON, ("Origin", &origin)], Some(b"{}"));
    assert_eq!(legacy.status, 403);
}

#[test]
fn a_channel_reaches_its_members_and_those_who_subscribe_to_its_name() {
    let cluster = serving(3, &["alice", "bob", "carol", "dave"], &[]);
    let [a, b, c] = [0, 1, 2].map(|server| cluster.addresses()[server].clone());
    assert_eq!(is(&call(&a, "POST", "/channels", Some(json!({ "name": "orders.new" }))), 201)["created"], true);
    assert_eq!(is(&call(&b, "POST", "/channels", Some(json!({ "name": "orders.new" }))), 200)["created"], false);
    is(&call(&b, "PUT", "/channels/orders.new/members/bob", None), 204);
    is(&call(&c, "PUT", "/channels/orders.new/members/bob", None), 204);
    is(&call(&c, "PUT", "/clients/carol/subscriptions/orders.%3E", None), 204);
    let listed = is(&call(&a, "GET", "/channels", None), 200);
    assert_eq!(listed, json!({ "channels": [{ "name": "orders.new", "members": 1 }], "more": false }));
    assert_eq!(is(&call(&a, "GET", "/channels/orders.new/members", None), 200)["members"][0]["client"], "bob");
    let carols = is(&call(&a, "GET", "/clients/carol/subscriptions", None), 200);
    assert_eq!(carols, json!({ "channels": [], "patterns": ["orders.>"] }));

    let to_channel = json!({ "from": "alice", "to": { "channel": "orders.new" }, "text": "3 chairs" });
    let keyed = |address: &str| {
        let body = to_channel.to_string();
        let key = ("Idempotency-Key", "three-chairs");
        request(address, "POST", "/v1/messages", &[JSON, key], Some(body.as_bytes()))
    };
    let receipt = json!({ "inboxes": 2, "full": 0 });
    assert_eq!(is(&keyed(&a), 201), receipt);
    assert_eq!(is(&keyed(&b), 201), receipt, "the same key is the same message");
    for name in ["bob", "carol"] {
        let inbox = is(&call(&c, "GET", &format!("/clients/{name}/inbox"), None), 200);
        assert_eq!((texts(&inbox), &inbox["messages"][0]["channel"]), (vec!["3 chairs"], &json!("orders.new")));
    }
    assert_eq!(is(&call(&c, "GET", "/clients/dave/inbox", None), 200)["waiting"], 0);

    is(&call(&a, "DELETE", "/channels/orders.new/members/bob", None), 204);
    is(&call(&a, "DELETE", "/clients/carol/subscriptions/orders.%3E", None), 204);
    let nobody = is(&call(&a, "POST", "/messages", Some(to_channel.clone())), 201);
    assert_eq!(nobody, json!({ "inboxes": 0, "full": 0 }));
    is(&call(&b, "DELETE", "/channels/orders.new", None), 204);
    let gone = is(&call(&a, "POST", "/messages", Some(to_channel)), 404);
    assert_eq!((&gone["code"], &gone["outcome"]), (&json!("no_such_channel"), &json!("refused")));
    for (method, target, status, code) in [
        ("DELETE", "/channels/orders.new", 404, "no_such_channel"),
        ("PUT", "/channels/orders.new/members/bob", 404, "no_such_channel"),
        ("PUT", "/clients/nobody/subscriptions/a", 404, "not_registered"),
        ("PUT", "/clients/bob/subscriptions/a%3Eb", 400, "invalid"),
    ] {
        assert_eq!(is(&call(&a, method, target, None), status)["code"], code, "{method} {target}");
    }
    assert_eq!(is(&call(&a, "POST", "/channels", Some(json!({ "name": "a..b" }))), 400)["code"], "invalid");
}

#[test]
fn several_get_it_all_or_none_and_everybody_gets_what_is_for_all() {
    let cluster = serving(1, &["alice", "bob", "carol"], &[]);
    let a = &cluster.addresses()[0];
    let send = |to: Value| call(a, "POST", "/messages", Some(json!({ "from": "alice", "to": to, "text": "x" })));
    let refused = is(&send(json!(["bob", "nobody", "carol", "nowhere"])), 409);
    assert_eq!((&refused["code"], &refused["outcome"]), (&json!("recipients"), &json!("refused")));
    let unknown = |name: &str| json!({ "name": name, "code": "no_such_client" });
    assert_eq!(refused["recipients"], json!([unknown("nobody"), unknown("nowhere")]));
    assert_eq!(is(&call(a, "GET", "/clients/bob/inbox", None), 200)["waiting"], 0, "it went to none");
    assert_eq!(is(&send(json!(["bob", "carol"])), 201), json!({ "inboxes": 2, "full": 0 }));
    assert_eq!(is(&send(json!({ "all": "clients" })), 201), json!({ "inboxes": 3, "full": 0 }));
    for (name, waiting) in [("alice", 1), ("bob", 2), ("carol", 2)] {
        assert_eq!(is(&call(a, "GET", &format!("/clients/{name}/inbox"), None), 200)["waiting"], waiting, "{name}");
    }
    let short = json!({ "from": "alice", "to": "bob", "text": "soon gone", "expires_after_ms": 1 });
    assert_eq!(is(&call(a, "POST", "/messages", Some(short)), 201)["position"], 3);
    wait_for("a message that expires", || {
        (is(&call(a, "GET", "/clients/bob/inbox", None), 200)["waiting"] == 2).then_some(())
    });
}

#[test]
fn a_delivered_receipt_waits_for_its_sender_until_it_is_collected() {
    let cluster = serving(3, &["alice", "bob"], &[]);
    let [a, b, c] = [0, 1, 2].map(|server| cluster.addresses()[server].clone());
    let stream = is(&call(&a, "POST", "/streams", Some(json!({ "client": "alice" }))), 201)["stream"].clone();
    let body = json!({ "to": "bob", "text": "please sign" });
    assert_eq!(
        is(&call(&a, "PUT", &format!("/streams/{stream}/1?receipt=delivered"), Some(body.clone())), 200)["position"],
        1
    );
    let receipts = |address: &str, query: &str| {
        is(&call(address, "GET", &format!("/streams/{stream}/receipts{query}"), None), 200)["receipts"].clone()
    };
    assert_eq!(receipts(&b, ""), json!([]));
    let waiting = {
        let (address, target) = (b.clone(), format!("/v1/streams/{stream}/receipts?wait=30"));
        std::thread::spawn(move || request(&address, "GET", &target, &[], None))
    };
    let inbox = is(&call(&c, "GET", "/clients/bob/inbox", None), 200);
    is(&call(&c, "POST", "/clients/bob/inbox/acknowledgements", Some(inbox["acknowledge"].clone())), 200);
    let fate = json!({ "acknowledged": 1, "expired": 0, "ended": 0, "dropped": 0, "delivered": true });
    let receipt = json!([{ "sequence": 1, "number": 1, "fate": fate }]);
    assert_eq!(is(&waiting.join().expect("an answer"), 200)["receipts"], receipt);
    assert_eq!(receipts(&a, ""), receipt, "it is told until it is collected");
    assert_eq!(receipts(&a, "?collected=1"), json!([]));
    wait_for("a receipt that is collected", || (receipts(&b, "") == json!([])).then_some(()));

    let wrong = call(&a, "PUT", &format!("/streams/{stream}/2?receipt=read"), Some(body.clone()));
    assert_eq!(is(&wrong, 400)["code"], "invalid");
    // Of a stream that is closed, receipts come into the inbox.
    is(&call(&a, "PUT", &format!("/streams/{stream}/2?receipt=delivered"), Some(body)), 200);
    is(&call(&a, "DELETE", &format!("/streams/{stream}"), None), 204);
    assert_eq!(is(&call(&b, "GET", &format!("/streams/{stream}/receipts"), None), 410)["code"], "stream_closed");
    let inbox = is(&call(&c, "GET", "/clients/bob/inbox", None), 200);
    is(&call(&c, "POST", "/clients/bob/inbox/acknowledgements", Some(inbox["acknowledge"].clone())), 200);
    let told = is(&call(&a, "GET", "/clients/alice/inbox?wait=10", None), 200)["messages"][0].clone();
    assert_eq!(told["notice"], json!({ "stream": stream, "number": 2, "fate": fate }), "{told}");
    assert!(told.get("text").is_none(), "{told}");
}
