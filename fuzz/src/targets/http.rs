//! What the HTTP face reads: a request's method and target in the first line, its body behind it.

use restante::http::fields::Fields;
use restante::http::route::Route;
use restante::limits;
use restante::wire::{Name, Position};

/// Takes `data` for a request.
pub fn http(data: &[u8]) {
    let line = data.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let body = data.get(line.len() + 1..).unwrap_or_default();
    if let Ok(line) = std::str::from_utf8(line) {
        target(line);
    }
    fields(body);
}

fn target(line: &str) {
    let (method, target) = line.split_once(' ').unwrap_or(("GET", line));
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let Ok(route) = Route::parse(method, path, query) else { return };
    match &route {
        Route::Inbox { name, look } => {
            assert!(look.wait <= limits::HTTP_WAIT_MAX);
            let plain = format!("/inbox/{name}");
            assert_eq!(Route::parse(method, &plain, query).as_ref(), Ok(&route), "a name needs no encoding");
        }
        Route::Send { number, .. } => assert!(number.0 > 0, "numbers count from 1"),
        _ => {}
    }
}

fn fields(body: &[u8]) {
    let Ok(fields) = Fields::read(body) else { return };
    for name in [fields.client(), fields.sender(), fields.receiver()].into_iter().flatten() {
        assert!(Name::is_valid(&name));
    }
    if let Ok(message) = fields.message() {
        assert!(message.len() <= limits::BODY_BYTES_MAX);
    }
    let _ = (fields.home(), fields.new_home(), fields.nonce());
    for field in ["registration", "epoch", "up_to", "confirmed", "delivered", "window"] {
        assert_eq!(fields.needed(field).ok(), fields.whole(field).ok().flatten());
    }
    let up_to = Position(fields.whole("up_to").ok().flatten().unwrap_or(0));
    if let Ok(ranges) = fields.ranges(up_to) {
        assert!(ranges.len() <= limits::ACKNOWLEDGE_RANGES_MAX);
        let all: Vec<u64> = ranges.iter().flat_map(|(from, to)| [from.0, to.0]).collect();
        assert!(all.is_sorted() && all.first().is_none_or(|first| *first > up_to.0), "{all:?}");
    }
}
