//! How client commands find the cluster.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use restante::client::{Client, ClientSettings};
use restante::wire::Name;
use restante::world::{Host, RealNetwork};

use super::failure::Failure;
use super::values::{self, Servers};

/// Where the servers are and how long to wait for them.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Reaching the cluster (client commands)")]
pub struct Reach {
    /// Servers to try, as HOST:PORT,…: any live one of them will do
    #[arg(
        long,
        value_name = "ADDRESSES",
        env = "RESTANTE_SERVERS",
        default_value = "127.0.0.1:8080,127.0.0.1:8081,127.0.0.1:8082",
        global = true
    )]
    pub servers: Servers,
    /// How long to go on trying before giving up, e.g. 500ms or 10s
    #[arg(long, value_name = "DURATION", env = "RESTANTE_TIMEOUT", default_value = "10s",
          value_parser = values::duration, global = true)]
    pub timeout: Duration,
}

impl Reach {
    /// Connects to whichever server is live, to the one named `home` if that is.
    ///
    /// # Errors
    /// No server answered in time.
    pub async fn connect(&self, home: Option<Name>) -> Result<Client, Failure> {
        let mut settings = settings(self.servers.0.clone(), home, self.timeout);
        // A person waits for so long and then wants to know where they stand.
        settings.send_timeout = Some(self.timeout);
        Ok(connect(settings).await?)
    }
}

/// Settings of a client of this program. A send is tried again until it is answered.
pub fn settings(servers: Vec<String>, home: Option<Name>, timeout: Duration) -> ClientSettings {
    let mut settings = ClientSettings::new(servers);
    settings.home = home;
    settings.timeout = timeout;
    settings.agent = concat!("restante-cli/", env!("CARGO_PKG_VERSION")).to_owned();
    settings
}

/// Connects with these settings.
///
/// # Errors
/// No server answered in time.
pub async fn connect(settings: ClientSettings) -> Result<Client, restante::client::Error> {
    Client::start(settings, Host { network: Arc::new(RealNetwork), disk: None }).await
}
