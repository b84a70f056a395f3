//! What a request's headers must say: nothing that a browser would send for a page of somebody else's.
//!
//! There is no authentication, and a server listens on the loopback by default, so a page in a browser on the same machine
//! must not be able to use it. A browser names the page's origin with what it sends across origins, and the name that it
//! looked up in `Host`: a page whose name was made to point at this machine is found out by that.

use std::net::IpAddr;

use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_TYPE, HOST,
    HeaderValue, ORIGIN, VARY,
};
use hyper::http::request::Parts;
use hyper::{Method, Response};

/// A request that is not taken because of its headers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadHead {
    /// A page from elsewhere sent it.
    #[error("the request comes from a page of another origin ({0:?})")]
    Origin(String),
    /// It was sent to a name that is none of the cluster's.
    #[error(
        "{0:?} is no name of this cluster's servers: use an address from the cluster's list, an IP address, or localhost"
    )]
    Host(String),
    /// The body is of another type.
    #[error("{0:?} is no JSON: send application/json")]
    ContentType(String),
}

/// Refuses what a browser sends for somebody else's page.
pub(super) fn check_origin(head: &Parts, is_ours: impl Fn(&str) -> bool) -> Result<(), BadHead> {
    match foreign_origin(head, is_ours)? {
        Some(origin) => Err(BadHead::Origin(origin)),
        None => Ok(()),
    }
}

/// The same, but lets in what comes from a page of another server of the cluster, as which `is_server` knows its `host:port`:
/// the console goes on at another server when the one that it came from dies. Returns the origin that is to be told so.
pub(super) fn check_origin_of_cluster(
    head: &Parts,
    is_ours: impl Fn(&str) -> bool,
    is_server: impl Fn(&str) -> bool,
) -> Result<Option<HeaderValue>, BadHead> {
    let Some(origin) = foreign_origin(head, is_ours)? else { return Ok(None) };
    match origin.split_once("://") {
        Some((_, authority)) if is_server(authority) => Ok(head.headers.get(ORIGIN).cloned()),
        _ => Err(BadHead::Origin(origin)),
    }
}

/// Checks where a request was sent to, and gives the origin of the page that sent it if that is another one.
fn foreign_origin(head: &Parts, is_ours: impl Fn(&str) -> bool) -> Result<Option<String>, BadHead> {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    // A request may name it in its first line, too; and it may come through somebody who looks at another one than this.
    let hosts: Vec<String> = head.headers.get_all(HOST).iter().map(text).collect();
    let authority = head.uri.authority().map(|authority| authority.as_str());
    for named in hosts.iter().map(String::as_str).chain(authority) {
        if !is_known(without_port(named), &is_ours) {
            return Err(BadHead::Host(named.to_owned()));
        }
    }
    let named = hosts.first().map(String::as_str).or(authority);
    if let Some(origin) = head.headers.get(ORIGIN).map(text) {
        let own = origin.split_once("://").map(|(_, host)| host);
        if own.is_none() || !own.zip(named).is_some_and(|(own, named)| own.eq_ignore_ascii_case(named)) {
            return Ok(Some(origin));
        }
    }
    Ok(None)
}

/// Whether it asks what a page may send: browsers do so before they send anything that a form could not.
pub(super) fn is_preflight(head: &Parts) -> bool {
    head.method == Method::OPTIONS && head.headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD)
}

/// Lets a page of another server of the cluster read an answer.
pub(super) fn allow<B>(response: &mut Response<B>, origin: HeaderValue) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    headers.insert(VARY, HeaderValue::from_static("Origin"));
    headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("Retry-After, Restante-From"));
}

/// Says what a page of another server of the cluster may send.
pub(super) fn allow_requests<B>(response: &mut Response<B>) {
    let headers = response.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST, PUT, DELETE"));
    let names = HeaderValue::from_static("Content-Type, Idempotency-Key, Last-Event-ID");
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, names);
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
}

fn is_known(host: &str, is_ours: &impl Fn(&str) -> bool) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    bare.parse::<IpAddr>().is_ok() || host.eq_ignore_ascii_case("localhost") || is_ours(host)
}

fn without_port(host: &str) -> &str {
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) && !name.ends_with(':') => name,
        _ => host,
    }
}

/// Old clients may send no type. Of another type nothing is taken.
pub(super) fn check_content_type(head: &Parts) -> Result<(), BadHead> {
    let Some(value) = head.headers.get(CONTENT_TYPE) else { return Ok(()) };
    let text = String::from_utf8_lossy(value.as_bytes());
    let kind = text.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let json = kind.is_empty() || kind.ends_with("/json") || kind.ends_with("+json");
    if json { Ok(()) } else { Err(BadHead::ContentType(text.chars().take(80).collect())) }
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn head(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/share");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }

    fn origin(host: &str, origin: Option<&str>) -> Result<(), BadHead> {
        let mut headers = vec![("host", host)];
        headers.extend(origin.map(|origin| ("origin", origin)));
        check_origin(&head(&headers), |name| name == "mail.example")
    }

    #[test]
    fn a_page_of_somebody_elses_gets_nothing() {
        for good in
            ["127.0.0.1:8080", "127.0.0.1", "[::1]:8080", "[::1]", "localhost:8080", "LOCALHOST", "mail.example:1"]
        {
            assert_eq!(origin(good, None), Ok(()), "{good}");
            assert_eq!(origin(good, Some(&format!("http://{good}"))), Ok(()), "{good}");
            assert!(matches!(origin(good, Some("http://evil.example")), Err(BadHead::Origin(_))));
            assert!(matches!(origin(good, Some("null")), Err(BadHead::Origin(_))));
        }
        // Its name points at this machine.
        assert!(matches!(origin("evil.example:8080", Some("http://evil.example:8080")), Err(BadHead::Host(_))));
        assert!(matches!(origin("localhost.evil.example", None), Err(BadHead::Host(_))));
        assert_eq!(check_origin(&head(&[]), |_| false), Ok(()), "no browser leaves it out");
        let twice = head(&[("host", "localhost"), ("host", "evil.example")]);
        assert!(matches!(check_origin(&twice, |_| false), Err(BadHead::Host(_))));
        let request = Request::builder().uri("http://evil.example/share").header("host", "localhost");
        let (line, ()) = request.body(()).expect("a request").into_parts();
        assert!(matches!(check_origin(&line, |_| false), Err(BadHead::Host(_))));
    }

    #[test]
    fn a_page_of_another_server_is_let_in_where_that_is_asked_for() {
        let of = |origin: &str| {
            let head = head(&[("host", "127.0.0.1:8081"), ("origin", origin)]);
            check_origin_of_cluster(&head, |_| false, |authority| authority == "127.0.0.1:8080")
        };
        assert_eq!(of("http://127.0.0.1:8080"), Ok(Some(HeaderValue::from_static("http://127.0.0.1:8080"))));
        assert_eq!(of("http://127.0.0.1:8081"), Ok(None), "its own page");
        for bad in ["http://127.0.0.1:9999", "null", "http://evil.example", "127.0.0.1:8080"] {
            assert!(matches!(of(bad), Err(BadHead::Origin(_))), "{bad}");
        }
        let elsewhere = head(&[("host", "evil.example"), ("origin", "http://127.0.0.1:8080")]);
        assert!(matches!(check_origin_of_cluster(&elsewhere, |_| false, |_| true), Err(BadHead::Host(_))));
    }

    #[test]
    fn a_body_is_json_or_says_nothing() {
        for good in ["application/json", "application/json; charset=utf-8", "TEXT/JSON", "application/x.y+json", ""] {
            assert_eq!(check_content_type(&head(&[("content-type", good)])), Ok(()), "{good}");
        }
        assert_eq!(check_content_type(&head(&[])), Ok(()));
        for bad in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=json"] {
            assert!(
                matches!(check_content_type(&head(&[("content-type", bad)])), Err(BadHead::ContentType(_))),
                "{bad}"
            );
        }
    }
}
