//! Looking at the servers of a cluster one by one, each with its own words.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures::future::join_all;
use restante::wire::client::{Status, StatusDetail};
use restante::world::{RealWorld, World};

use super::reach;

/// What came of asking one server.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The address that was asked.
    pub address: String,
    /// Its answer, or why there is none.
    pub answer: Result<Status, String>,
}

/// Asks the server at `address` how it sees the cluster.
pub async fn ask(address: &str, patience: Duration, detail: StatusDetail) -> Asked {
    let asking = async {
        let mut settings = reach::settings(vec![address.to_owned()], None, patience);
        if detail.digest {
            // A server that reads a large state says nothing meanwhile.
            settings.silence = patience;
        }
        let client = reach::connect(settings).await?;
        let status = client.status_with(detail).await;
        client.close().await;
        status
    };
    let answer = match RealWorld::timeout(patience + patience / 4, asking).await {
        Ok(Ok(status)) => Ok(status),
        Ok(Err(restante::client::Error::Unreachable { cause, .. })) => {
            // There is but one address that it can mean.
            Err(cause.strip_prefix(&format!("{address}: ")).unwrap_or(&cause).to_owned())
        }
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err(format!("no answer within {patience:?}")),
    };
    Asked { address: address.to_owned(), answer }
}

/// Asks the servers at `addresses`, and those that these name.
pub async fn survey(addresses: &[String], patience: Duration, detail: StatusDetail) -> Vec<Asked> {
    let mut asked = join_all(addresses.iter().map(|address| ask(address, patience, detail))).await;
    let known: BTreeSet<String> = addresses.iter().cloned().collect();
    let mut others = BTreeSet::new();
    // Two addresses may be one server's: what counts is whether the server was heard, under whichever address.
    let heard: BTreeSet<_> = answers(&asked).map(|status| status.server.clone()).collect();
    for status in answers(&asked) {
        for row in &status.servers {
            if !known.contains(&row.server.address) && !heard.contains(&row.server.name) {
                others.insert(row.server.address.clone());
            }
        }
    }
    asked.extend(join_all(others.iter().map(|address| ask(address, patience, detail))).await);
    one_answer_each(asked)
}

fn answers(asked: &[Asked]) -> impl Iterator<Item = &Status> {
    asked.iter().filter_map(|asked| asked.answer.as_ref().ok())
}

/// Keeps one answer of each server. A client that a server sends away goes on at another one, which then answers in
/// its place: such an answer says nothing about the server that was asked.
fn one_answer_each(asked: Vec<Asked>) -> Vec<Asked> {
    let mut address_of = BTreeMap::new();
    for status in answers(&asked) {
        for row in &status.servers {
            address_of.insert(row.server.name.clone(), row.server.address.clone());
        }
    }
    let listed: BTreeSet<&String> = address_of.values().collect();
    let at_its_own = |asked: &Asked| {
        let status = asked.answer.as_ref().ok()?;
        (address_of.get(&status.server) == Some(&asked.address)).then(|| status.server.clone())
    };
    let mut taken: BTreeSet<_> = asked.iter().filter_map(at_its_own).collect();
    let mut kept = Vec::new();
    for one in &asked {
        let own = at_its_own(one).is_some();
        match &one.answer {
            Ok(_) if own => kept.push(one.clone()),
            Ok(status) if !listed.contains(&one.address) => {
                // Another spelling of some server's address.
                if taken.insert(status.server.clone()) {
                    kept.push(one.clone());
                }
            }
            Ok(status) => {
                let answer = Err(format!("it sends clients away, to {}", status.server));
                kept.push(Asked { address: one.address.clone(), answer });
            }
            Err(_) => kept.push(one.clone()),
        }
    }
    kept
}

/// Hand-made answers for tests.
#[cfg(test)]
pub mod made {
    use restante::wire::client::{ServerRow, Status};
    use restante::wire::{ClusterId, Name, ServerAddress, Time};

    /// A server's name.
    pub fn name(text: &str) -> Name {
        Name::new(text).unwrap()
    }

    /// The address of server `a`, `b` or `c`.
    pub fn address(server: &str) -> String {
        format!("127.0.0.1:{}", 8080 + u16::from(server.as_bytes()[0] - b'a'))
    }

    /// The answer of `server`, which reaches `reaches` of `a`, `b` and `c`.
    pub fn status(server: &str, role: &str, leader: Option<&str>, reaches: &[&str]) -> Status {
        let row = |other: &str| ServerRow {
            server: ServerAddress { name: name(other), address: address(other) },
            incarnation: Some(u64::from(other.as_bytes()[0] - b'a' + 1)),
            voter: true,
            reachable: reaches.contains(&other),
            lag: (role == "leader").then_some(0),
            problem: (!reaches.contains(&other)).then(|| "connection refused".to_owned()),
            drained: false,
        };
        Status {
            server: name(server),
            cluster: Some(ClusterId(7)),
            incarnation: Some(1),
            role: role.to_owned(),
            leader: leader.map(name),
            term: 3,
            last_index: 12,
            committed_index: 11,
            applied_index: 11,
            digest: Some(0xabc),
            time: Time(1000),
            clients: 6,
            waiting: 2,
            checkpoint_index: 5,
            log_bytes: 4096,
            servers: ["a", "b", "c"].map(row).into(),
            problems: Vec::new(),
            sessions: 0,
            serves: true,
            disk: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::made::{address, status};
    use super::*;

    fn answer(at: &str, server: &str) -> Asked {
        Asked { address: at.to_owned(), answer: Ok(status(server, "follower", Some("a"), &["a", "b", "c"])) }
    }

    #[test]
    fn an_answer_in_anothers_place_is_not_that_servers() {
        let kept = one_answer_each(vec![answer(&address("a"), "a"), answer(&address("b"), "a")]);
        assert_eq!(kept.len(), 2);
        assert!(kept[0].answer.is_ok());
        assert_eq!(kept[1].answer.as_ref().unwrap_err(), "it sends clients away, to a");
    }

    #[test]
    fn two_spellings_of_an_address_are_one_server() {
        let kept = one_answer_each(vec![answer("localhost:8080", "a"), answer(&address("a"), "a")]);
        assert_eq!(kept.len(), 1);
        assert_eq!(kept[0].address, address("a"));
        let kept = one_answer_each(vec![answer("localhost:8080", "a"), answer("me:8080", "a")]);
        assert_eq!(kept.len(), 1);
    }
}
