//! The id of a request, by which its lines in the logs are found: `X-Request-Id`, or the trace of a `traceparent`, or else
//! one of the server's own. The answer has it, too. Pure.

use hyper::header::{HeaderMap, HeaderValue};

/// The header.
pub(super) const HEADER: &str = "x-request-id";
/// Longest id that is taken over, in bytes.
const BYTES_MAX: usize = 128;

/// The id that a request came with.
pub(super) fn given(headers: &HeaderMap) -> Option<String> {
    let own = headers.get(HEADER).and_then(|value| value.to_str().ok());
    let own = own.filter(|text| (1..=BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic()));
    own.map(str::to_owned).or_else(|| trace_of(headers.get("traceparent")?))
}

/// `VERSION-TRACE-PARENT-FLAGS`, as W3C's Trace Context has it.
fn trace_of(value: &HeaderValue) -> Option<String> {
    let mut parts = value.to_str().ok()?.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit());
    let good =
        version.len() == 2 && trace.len() == 32 && hex(version) && hex(trace) && trace.bytes().any(|b| b != b'0');
    good.then(|| trace.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(name: &'static str, value: &str) -> Option<String> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        given(&headers)
    }

    #[test]
    fn an_id_is_taken_over_if_it_is_one() {
        assert_eq!(of(HEADER, "order-17"), Some("order-17".to_owned()));
        for bad in ["", "two words", &"x".repeat(BYTES_MAX + 1)] {
            assert_eq!(of(HEADER, bad), None, "{bad}");
        }
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        assert_eq!(of("traceparent", &format!("00-{trace}-00f067aa0ba902b7-01")), Some(trace.to_owned()));
        for bad in ["00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-short-00f067aa0ba902b7-01", "x"] {
            assert_eq!(of("traceparent", bad), None, "{bad}");
        }
    }
}
