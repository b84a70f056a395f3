//! Channels: what a client asks about them.

use super::api::{Client, unexpected};
use super::session::{Answer, Change, Sharing};
use super::{ChannelRow, Error, Member};
use crate::wire::Name;
use crate::wire::sharing::is_pattern;
use crate::world::World;

/// How many rows are asked for at once.
const PAGE: u32 = 1000;

impl<W: World> Client<W> {
    /// Makes a channel. Its name may have parts with `.` between them: `orders.new.eu`.
    ///
    /// # Errors
    /// [`Error::Refused`], e.g. with [`crate::wire::Refusal::ChannelExists`]; no answer in time.
    pub async fn create_channel(&self, channel: &Name) -> Result<(), Error> {
        self.share(Sharing::Create(channel.clone())).await
    }

    /// Ends a channel. What was sent to it is in its members' inboxes and stays there.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`crate::wire::Refusal::NoSuchChannel`]; [`Error::Unknown`] if the connection died
    /// meanwhile: asked again, it could end a newer channel of that name; no answer in time.
    pub async fn delete_channel(&self, channel: &Name) -> Result<(), Error> {
        self.share(Sharing::Delete(channel.clone())).await
    }

    /// Lets a client join a channel: everything that is sent to it from now on comes into its inbox, also while it is
    /// offline. Joining again changes nothing.
    ///
    /// # Errors
    /// [`Error::Refused`], e.g. with [`crate::wire::Refusal::NoSuchChannel`]; no answer in time.
    pub async fn join(&self, name: &Name, channel: &Name) -> Result<(), Error> {
        self.enlist(name, Change::Join(channel.clone())).await
    }

    /// Lets a client leave a channel. Leaving again changes nothing.
    ///
    /// # Errors
    /// [`Error::Refused`], e.g. with [`crate::wire::Refusal::NoSuchChannel`]; no answer in time.
    pub async fn leave(&self, name: &Name, channel: &Name) -> Result<(), Error> {
        self.enlist(name, Change::Leave(channel.clone())).await
    }

    /// Lets a client get what is sent to any channel whose name fits the pattern, also one that is created later: `*` stands
    /// for one part of a name, `>` at the end for one or more. What reaches it by several ways comes once.
    ///
    /// # Errors
    /// [`Error::BadPattern`]; [`Error::Refused`]; no answer in time.
    pub async fn subscribe(&self, name: &Name, pattern: &str) -> Result<(), Error> {
        self.enlist(name, Change::Subscribe(checked(pattern)?)).await
    }

    /// Ends what [`Client::subscribe`] began. Ending it again changes nothing.
    ///
    /// # Errors
    /// [`Error::BadPattern`]; [`Error::Refused`]; no answer in time.
    pub async fn unsubscribe(&self, name: &Name, pattern: &str) -> Result<(), Error> {
        self.enlist(name, Change::Unsubscribe(checked(pattern)?)).await
    }

    /// All channels, names ascending.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn channels(&self) -> Result<Vec<ChannelRow>, Error> {
        let mut all: Vec<ChannelRow> = Vec::new();
        loop {
            let after = all.last().map(|row| row.name.clone());
            match self.ask(|session, now, token| session.channels(now, after, PAGE, token)).await? {
                Answer::Channels { channels, more } => {
                    // A page that does not go on would never end.
                    let more = more && !channels.is_empty();
                    all.extend(channels);
                    if !more {
                        return Ok(all);
                    }
                }
                other => return unexpected(&other),
            }
        }
    }

    /// All who have joined a channel, in the order in which they registered. Those who subscribe to a pattern are not among
    /// them.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`crate::wire::Refusal::NoSuchChannel`]; no answer in time.
    pub async fn members(&self, channel: &Name) -> Result<Vec<Member>, Error> {
        let mut all: Vec<Member> = Vec::new();
        loop {
            let (channel, after) = (channel.clone(), all.last().map(|row| row.registration));
            match self.ask(|session, now, token| session.members(now, channel, after, PAGE, token)).await? {
                Answer::Members { members, more } => {
                    let more = more && !members.is_empty();
                    all.extend(members);
                    if !more {
                        return Ok(all);
                    }
                }
                other => return unexpected(&other),
            }
        }
    }

    pub(super) async fn enlist(&self, name: &Name, change: Change) -> Result<(), Error> {
        self.share(Sharing::Enlist { name: name.clone(), change, expected: 0, attempts: 0 }).await
    }

    async fn share(&self, sharing: Sharing) -> Result<(), Error> {
        self.ask(|session, now, token| session.share(now, sharing, token)).await.map(drop)
    }
}

fn checked(pattern: &str) -> Result<String, Error> {
    if is_pattern(pattern) {
        Ok(pattern.to_owned())
    } else {
        Err(Error::BadPattern { given: pattern.chars().take(80).collect() })
    }
}
