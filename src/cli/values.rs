//! What arguments are made of: lists of servers and ports, durations, sizes.

use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use restante::limits;
use restante::wire::{Name, ServerAddress};

/// Addresses of servers, `HOST:PORT,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Servers(pub Vec<String>);

impl FromStr for Servers {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let servers = text.split(',').map(|s| address(s.trim())).collect::<Result<Vec<_>, _>>()?;
        Ok(Self(servers))
    }
}

/// All servers of a cluster, `NAME=HOST:PORT,…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterList(pub Vec<ServerAddress>);

impl FromStr for ClusterList {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut servers = Vec::new();
        let (mut names, mut addresses) = (BTreeSet::new(), BTreeSet::new());
        for part in text.split(',') {
            let ServerAddress { name, address } = server(part)?;
            if !names.insert(name.clone()) {
                return Err(format!("two servers are named {name}"));
            }
            if !addresses.insert(address.clone()) {
                return Err(format!("two servers have the address {address}"));
            }
            servers.push(ServerAddress { name, address });
        }
        Ok(Self(servers))
    }
}

/// A server of a cluster, `NAME=HOST:PORT`.
///
/// # Errors
/// What is wrong with it.
pub fn server(text: &str) -> Result<ServerAddress, String> {
    let (name, at) =
        text.trim().split_once('=').ok_or_else(|| format!("{text:?} is not NAME=HOST:PORT, e.g. a=127.0.0.1:8080"))?;
    Ok(ServerAddress { name: Name::new(name).map_err(|e| e.to_string())?, address: address(at)? })
}

/// Ports of this machine, `8080,8081,…`: each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ports(pub Vec<u16>);

impl FromStr for Ports {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let mut ports = Vec::new();
        for part in text.split(',') {
            let port = port(part.trim())?;
            if ports.contains(&port) {
                return Err(format!("port {port} is there twice"));
            }
            ports.push(port);
        }
        Ok(Self(ports))
    }
}

fn port(text: &str) -> Result<u16, String> {
    text.parse().ok().filter(|p| *p != 0).ok_or_else(|| format!("{text:?} is not a port: use 1 to 65535"))
}

/// Checks that `text` is `HOST:PORT`.
///
/// # Errors
/// What is wrong with it.
pub fn address(text: &str) -> Result<String, String> {
    let (host, port_text) =
        text.rsplit_once(':').ok_or_else(|| format!("{text:?} is not HOST:PORT, e.g. 127.0.0.1:8080"))?;
    port(port_text)?;
    let bare_ipv6 = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    if host.is_empty() || bare_ipv6 || host.contains(char::is_whitespace) {
        return Err(format!("{text:?} is not HOST:PORT, e.g. 127.0.0.1:8080 or [::1]:8080"));
    }
    if text.len() > limits::ADDRESS_BYTES_MAX {
        return Err(format!("an address has at most {} bytes, not {}", limits::ADDRESS_BYTES_MAX, text.len()));
    }
    Ok(text.to_owned())
}

/// Whether `address` (`HOST:PORT`) can be reached from this machine alone.
pub fn is_loopback(address: &str) -> bool {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host.eq_ignore_ascii_case("localhost") || host.parse::<IpAddr>().is_ok_and(|ip| ip.to_canonical().is_loopback())
}

/// A duration with its unit.
///
/// # Errors
/// What is wrong with it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let duration =
        humantime::parse_duration(text).map_err(|e| format!("{e}; give it with its unit: 50ms, 10s, 5min"))?;
    if duration.is_zero() { Err("it must be longer than nothing".to_owned()) } else { Ok(duration) }
}

/// Two durations, `150ms..300ms`.
///
/// # Errors
/// What is wrong with them.
pub fn durations(text: &str) -> Result<(Duration, Duration), String> {
    let (from, to) = text.split_once("..").ok_or("give the shortest and the longest, e.g. 150ms..300ms")?;
    let (from, to) = (duration(from.trim())?, duration(to.trim())?);
    if from < to { Ok((from, to)) } else { Err("the second must be longer than the first".to_owned()) }
}

/// A number of bytes, as an argument and as its default is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size(pub u64);

impl FromStr for Size {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        bytes(text).map(Self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, bytes) in [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
            if self.0 > 0 && self.0.is_multiple_of(bytes) {
                return write!(f, "{}{unit}", self.0 / bytes);
            }
        }
        write!(f, "{}B", self.0)
    }
}

/// A number of bytes: `65536`, `64KiB`, `1.5GiB`, `100MB`.
///
/// # Errors
/// What is wrong with it.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a size: give bytes, or a number with KiB, MiB, GiB, kB, MB or GB");
    let unit_at = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let unit = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1_u64,
        "kib" | "k" => 1 << 10,
        "mib" | "m" => 1 << 20,
        "gib" | "g" => 1 << 30,
        "tib" | "t" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    if let Ok(whole) = number.parse::<u64>() {
        return whole.checked_mul(unit).ok_or_else(wrong);
    }
    let bytes = number.parse::<f64>().map_err(|_| wrong())? * unit as f64;
    // Beyond 2^53 a fraction of a size means nothing.
    if bytes < (1_u64 << 53) as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// A header, `NAME=VALUE`.
///
/// # Errors
/// What is wrong with it.
pub fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("give it as NAME=VALUE, e.g. --header kind=greeting".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_host_and_a_port() {
        for good in ["127.0.0.1:8080", "localhost:1", "[::1]:8080", "server-1.example:65535"] {
            assert_eq!(address(good).as_deref(), Ok(good));
        }
        for bad in ["", "8080", "127.0.0.1", ":8080", "host:0", "host:65536", "host:http", "::1:8080", "a b:1"] {
            assert!(address(bad).is_err(), "{bad}");
        }
        assert!(address(&format!("{}:1", "h".repeat(300))).is_err());
    }

    #[test]
    fn loopback_is_told_from_the_rest() {
        for inside in ["127.0.0.1:1", "127.8.9.1:1", "localhost:1", "[::1]:1", "[::ffff:127.0.0.1]:1"] {
            assert!(is_loopback(inside), "{inside}");
        }
        for outside in ["0.0.0.0:1", "10.0.0.1:1", "[::]:1", "example.org:1", "localhost.example.org:1"] {
            assert!(!is_loopback(outside), "{outside}");
        }
    }

    #[test]
    fn a_cluster_lists_each_server_once() {
        let list: ClusterList = "a=127.0.0.1:1, b=127.0.0.1:2".parse().unwrap();
        assert_eq!(list.0.len(), 2);
        assert_eq!(list.0[1].name.as_str(), "b");
        for bad in ["", "a", "a=1", "a=h:1,a=h:2", "a=h:1,b=h:1", "a=h:1,", "ä=h:1"] {
            assert!(bad.parse::<ClusterList>().is_err(), "{bad}");
        }
    }

    #[test]
    fn ports_are_given_once_each() {
        assert_eq!("1, 2,65535".parse(), Ok(Ports(vec![1, 2, 65535])));
        for bad in ["", "0", "1,1", "1,,2", "65536", "-1"] {
            assert!(bad.parse::<Ports>().is_err(), "{bad}");
        }
    }

    #[test]
    fn durations_need_a_unit_and_an_order() {
        assert_eq!(duration("50ms"), Ok(Duration::from_millis(50)));
        assert!(duration("50").is_err());
        assert!(duration("0s").is_err());
        assert_eq!(durations("150ms..300ms"), Ok((Duration::from_millis(150), Duration::from_millis(300))));
        for bad in ["150ms", "300ms..150ms", "1s..1s", "..", "1..2"] {
            assert!(durations(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn sizes_have_units_of_both_kinds() {
        assert_eq!(bytes("0"), Ok(0));
        assert_eq!(bytes("64KiB"), Ok(65536));
        assert_eq!(bytes("1.5 GiB"), Ok(3 << 29));
        assert_eq!(bytes("100MB"), Ok(100_000_000));
        for size in [0, 1, 1000, 1 << 10, 3 << 20, 1 << 30, (1 << 30) + 1] {
            assert_eq!(Size(size).to_string().parse(), Ok(Size(size)), "a default is shown as it may be given");
        }
        for bad in ["", "MiB", "1 parsec", "-1", "1e9", "1.2.3", "99999999999999999999", "18014398509481984TiB"] {
            assert!(bytes(bad).is_err(), "{bad}");
        }
    }
}
