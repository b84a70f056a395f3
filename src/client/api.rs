//! The client's handle.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use rand::Rng;

use super::session::{Answer, Operation, Session};
use super::shared::{Asking, Handle, Shared};
use super::{ClientSettings, Error, Inbox, Registration, SendStream, driver};
use crate::limits;
use crate::wire::client::{ClientRow, Status, StatusDetail};
use crate::wire::{Name, ServerAddress};
use crate::world::{Host, RealNetwork, RealWorld, WatchReceiver, World, watch};

/// A client: one connection to the cluster, which moves by itself to a live server. Cloning shares it.
///
/// When its last handle (client, send stream or inbox) is dropped it closes as [`Client::close`] does, in the
/// background.
///
/// ```no_run
/// # use restante::{client::{Client, Error}, wire::Name};
/// # async fn example() -> Result<(), Error> {
/// let client = Client::connect(["127.0.0.1:8080", "127.0.0.1:8081"]).await?;
/// let (alice, bob) = (Name::new("alice")?, Name::new("bob")?);
/// client.register(&alice).await?;
/// client.register(&bob).await?;
/// let mut inbox = client.listen(&bob, 100).await?;
/// let stream = client.open_stream(&alice).await?;
/// let receipt = stream.send(&bob, "hello").await?; // it is on its way
/// println!("accepted at position {}", receipt.await.expect("bob is registered").position);
/// while let Some(delivery) = inbox.next().await {
///     let delivery = delivery?;
///     println!("{} says {:?}", delivery.from, delivery.body);
///     inbox.acknowledge(delivery.position);
/// }
/// # Ok(())
/// # }
/// ```
pub struct Client<W: World = RealWorld> {
    pub(super) handle: Arc<Handle>,
    server: WatchReceiver<Option<ServerAddress>>,
    timeout: Duration,
    close_timeout: Duration,
    world: PhantomData<W>,
}

impl<W: World> Clone for Client<W> {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle), server: self.server.clone(), ..*self }
    }
}

impl<W: World> std::fmt::Debug for Client<W> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// How many clients are asked for at once.
const WHO_PAGE: u32 = 1000;

impl Client {
    /// Connects to the cluster of which these are some servers (`host:port`), with the default settings.
    ///
    /// # Errors
    /// [`Error::Unreachable`] if none serves within ten seconds.
    pub async fn connect(servers: impl IntoIterator<Item = impl Into<String>>) -> Result<Client, Error> {
        Self::start(ClientSettings::new(servers), Host { network: Arc::new(RealNetwork), disk: None }).await
    }
}

impl<W: World> Client<W> {
    /// Connects with these settings.
    ///
    /// # Errors
    /// [`Error::NoServers`]; [`Error::Unreachable`] if none serves within the settings' `timeout`;
    /// [`Error::NoSuchHome`]; [`Error::WrongCluster`].
    pub async fn start(settings: ClientSettings, host: Host) -> Result<Self, Error> {
        if settings.servers.is_empty() {
            return Err(Error::NoServers);
        }
        let mut seed = [0; 32];
        W::rng().fill_bytes(&mut seed);
        let (timeout, close_timeout) = (settings.timeout, settings.close_timeout);
        let shared = Arc::new(Shared::new(Session::new(settings, seed), W::now));
        let (sender, server) = watch(None);
        drop(W::spawn(driver::drive::<W>(Arc::clone(&shared), host, sender)));
        let client = Self { handle: Arc::new(Handle(shared)), server, timeout, close_timeout, world: PhantomData };
        client.ask(Session::start).await?;
        Ok(client)
    }

    /// For how long a request is waited for.
    pub(super) fn timeout(&self) -> Duration {
        self.timeout
    }

    pub(super) fn ask(&self, work: impl FnOnce(&mut Session, Duration, usize)) -> Asking {
        self.handle.0.request(|session, now, token| work(session, now, token))
    }

    /// Registers a name. A lost reply is asked for again under the same nonce, so it is no takeover.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`crate::wire::Refusal::AlreadyRegistered`] if the name is taken; no answer in time.
    pub async fn register(&self, name: &Name) -> Result<Registration, Error> {
        match self.ask(|session, now, token| session.register(now, name, token)).await? {
            Answer::Registered(registration) => Ok(registration),
            other => unexpected(&other),
        }
    }

    /// Ends whichever registration holds the name: what waits for it is dropped.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`crate::wire::Refusal::NotRegistered`]; [`Error::Unknown`] if the connection died
    /// meanwhile: asked again, it could end a newer registration (see [`Client::deregister_exactly`]).
    pub async fn deregister(&self, name: &Name) -> Result<(), Error> {
        self.ask(|session, now, token| session.deregister(now, name, None, token)).await.map(drop)
    }

    /// Ends that registration, and no newer one of the same name.
    ///
    /// # Errors
    /// [`Error::Refused`] if it has ended already; no answer in time.
    pub async fn deregister_exactly(&self, registration: &Registration) -> Result<(), Error> {
        let Registration { name, id, .. } = registration;
        self.ask(|session, now, token| session.deregister(now, name, Some(*id), token)).await.map(drop)
    }

    /// Opens a send stream of that name: messages sent through it arrive in the order sent.
    ///
    /// # Errors
    /// [`Error::Refused`] if the name is not registered or has too many streams open; no answer in time.
    pub async fn open_stream(&self, name: &Name) -> Result<SendStream<W>, Error> {
        match self.ask(|session, now, token| session.open_stream(now, name, token)).await? {
            Answer::StreamOpened(key) => Ok(SendStream::new(self.clone(), name.clone(), key)),
            other => unexpected(&other),
        }
    }

    /// Becomes the reader of an inbox, in place of one that may be there. At most `window` deliveries are held
    /// unacknowledged at a time.
    ///
    /// # Errors
    /// [`Error::Refused`] if the name is not registered; [`Error::BadWindow`]; no answer in time.
    pub async fn listen(&self, name: &Name, window: u32) -> Result<Inbox<W>, Error> {
        if window == 0 || window > limits::READER_WINDOW_MAX {
            return Err(Error::BadWindow { asked: window });
        }
        match self.ask(|session, now, token| session.attach(now, name, window, token)).await? {
            Answer::Listening(key) => Ok(Inbox::new(self.clone(), name.clone(), key)),
            other => unexpected(&other),
        }
    }

    /// All registered clients, names ascending, as the server at hand has them.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn who(&self) -> Result<Vec<ClientRow>, Error> {
        let mut all: Vec<ClientRow> = Vec::new();
        loop {
            let after = all.last().map(|row| row.name.clone());
            match self.ask(|session, now, token| session.who(now, after, WHO_PAGE, token)).await? {
                Answer::Who { clients, more } => {
                    // A page that does not go on would never end.
                    let more = more && !clients.is_empty();
                    all.extend(clients);
                    if !more {
                        return Ok(all);
                    }
                }
                other => return unexpected(&other),
            }
        }
    }

    /// The cluster as the server at hand sees it.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn status(&self) -> Result<Status, Error> {
        self.status_with(StatusDetail::default()).await
    }

    /// [`Client::status`] with what takes time to find out.
    ///
    /// # Errors
    /// No answer in time.
    pub async fn status_with(&self, detail: StatusDetail) -> Result<Status, Error> {
        match self.ask(|session, now, token| session.status(now, detail, token)).await? {
            Answer::Status(status) => Ok(*status),
            other => unexpected(&other),
        }
    }

    /// Lets a server belong to the cluster from now on. Started with an empty disk and a list of servers that names
    /// members, it is then taken in, and votes once it has caught up; [`Client::status`] shows how far it is. Adding it
    /// again changes nothing.
    ///
    /// # Errors
    /// [`Error::Refused`], e.g. with [`crate::wire::Refusal::ServerElsewhere`]; no answer in time.
    pub async fn add_server(&self, name: &Name, address: impl Into<String>) -> Result<(), Error> {
        self.operate(Operation::Add(ServerAddress { name: name.clone(), address: address.into() })).await
    }

    /// Lets a server belong to the cluster no more. When this returns well, it has no vote any more and may be switched
    /// off; it ends by itself, and its data is kept. Removing it again changes nothing.
    ///
    /// # Errors
    /// [`Error::Refused`], e.g. with [`crate::wire::Refusal::WouldLoseQuorum`]; no answer in time.
    pub async fn remove_server(&self, name: &Name) -> Result<(), Error> {
        self.operate(Operation::Remove { server: name.clone(), force: false }).await
    }

    /// [`Client::remove_server`] even if too few of the others can be reached: then nothing may be accepted or delivered
    /// until enough of them are back. The server is off the list when this returns; its vote is taken once those that
    /// are up are a majority of what is left.
    ///
    /// # Errors
    /// The same, apart from that refusal.
    pub async fn remove_server_by_force(&self, name: &Name) -> Result<(), Error> {
        self.operate(Operation::Remove { server: name.clone(), force: true }).await
    }

    /// Lets that server lead. Asking again changes nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`crate::wire::Refusal::NoSuchServer`] or [`crate::wire::Refusal::CannotLead`]; no answer
    /// in time.
    pub async fn transfer_leadership(&self, name: &Name) -> Result<(), Error> {
        self.operate(Operation::Transfer(name.clone())).await
    }

    /// Drains a server: when this returns well it does not lead, and sends its clients elsewhere. It stays a member with
    /// a vote, so that it may be stopped without anybody noticing, and stays drained until [`Client::undrain_server`],
    /// also when it is started again. Asking again changes nothing.
    ///
    /// # Errors
    /// [`Error::Refused`], e.g. with [`crate::wire::Refusal::NobodyElseServes`]; no answer in time.
    pub async fn drain_server(&self, name: &Name) -> Result<(), Error> {
        self.operate(Operation::Drain { server: name.clone(), drained: true }).await
    }

    /// Lets a server that was drained serve and lead again. Asking again changes nothing.
    ///
    /// # Errors
    /// [`Error::Refused`] with [`crate::wire::Refusal::NoSuchServer`]; no answer in time.
    pub async fn undrain_server(&self, name: &Name) -> Result<(), Error> {
        self.operate(Operation::Drain { server: name.clone(), drained: false }).await
    }

    async fn operate(&self, operation: Operation) -> Result<(), Error> {
        self.ask(|session, now, token| session.operate(now, operation, token)).await.map(drop)
    }

    /// The server that the client is attached to at any time: `None` while it moves.
    pub fn server(&self) -> WatchReceiver<Option<ServerAddress>> {
        self.server.clone()
    }

    /// Closes the client, also for its streams and inboxes: waits for receipts that are on their way, makes
    /// acknowledgements durable and detaches its readers, for as long as the settings' `close_timeout` at most.
    pub async fn close(self) {
        use openraft_rt::watch::WatchReceiver as _;
        self.handle.0.ask(|state, now| state.session.close(now));
        let mut server = self.server.clone();
        // The driver's end of the channel is dropped when it has said Goodbye. The session bounds that; this bound
        // only guards against a driver that is gone.
        let bound = self.close_timeout + Duration::from_secs(1);
        let _ = W::timeout(bound, async { while server.changed().await.is_ok() {} }).await;
    }

    /// Gives a request that the session puts no end to the settings' patience.
    pub(super) async fn patiently(&self, asking: Asking, what: &'static str) -> Result<(), Error> {
        match W::timeout(self.timeout, asking).await {
            Ok(answer) => answer.map(drop),
            Err(_) => Err(self.handle.0.with(|state, _| state.session.impatience_with(what))),
        }
    }
}

/// The session answers each request in kind.
pub(super) fn unexpected<T>(answer: &Answer) -> T {
    unreachable!("an answer of another kind: {answer:?}")
}
