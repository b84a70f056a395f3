//! A client's connection, in both directions.

use std::fmt::Debug;

use bytes::{Bytes, BytesMut};
use restante::limits;
use restante::post_office::check_command;
use restante::wire::client::{REPLY_KIND, REQUEST_KIND, Reply, Request};
use restante::wire::command::{self, Command, decode_content, encode_content};
use restante::wire::frame;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Takes `data` for what arrives on a connection.
pub fn wire(data: &[u8]) {
    let mut buffer = BytesMut::from(data);
    while let Ok(Some(frame)) = frame::split(&mut buffer, limits::CLIENT_FRAME_BYTES_MAX) {
        match frame.kind {
            command::KIND => command(&frame.payload),
            REQUEST_KIND => comes_back::<Request>(&frame.payload),
            REPLY_KIND => comes_back::<Reply>(&frame.payload),
            _ => {}
        }
    }
    content(&Bytes::copy_from_slice(data));
}

fn command(payload: &Bytes) {
    let Ok((command, content)) = Command::decode(payload) else { return };
    let checked = check_command(command::KIND, payload);
    if let Ok((checked, behind)) = &checked {
        assert_eq!((checked, *behind), (&command, &content[..]));
    }
    let mut again = BytesMut::new();
    command.put(&mut again, &content);
    let frame = frame::split_bytes(&mut again.freeze()).expect("a frame").expect("a frame");
    assert_eq!(Command::decode(&frame.payload).expect("what was encoded decodes"), (command, content));
}

fn content(bytes: &Bytes) {
    let Ok((headers, body)) = decode_content(bytes) else { return };
    let again = encode_content(&headers, &body);
    assert_eq!(decode_content(&again).expect("what was encoded decodes"), (headers, body));
}

/// What decodes can be encoded, and then decodes as the same.
pub fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(payload: &[u8]) {
    let Ok((value, _)) = frame::take::<T>(payload) else { return };
    let mut again = BytesMut::new();
    frame::put_postcard(&mut again, &value);
    let (decoded, rest) = frame::take::<T>(&again).expect("what was encoded decodes");
    assert!(rest.is_empty());
    assert_eq!(decoded, value);
}
