//! `restante register`.

use clap::Args;
use restante::wire::Name;
use serde::Serialize;

use super::failure::Failure;
use super::output::Output;
use super::reach::Reach;

/// Register a client, which gives it an inbox.
///
/// From then on messages to it are accepted and wait until it listens, from whichever server. A name can be registered
/// once at a time; `deregister` frees it.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Examples:
  restante register alice
  restante register bob --home b      at server b, if that is live")]
pub struct Register {
    /// The client's name: 1 to 64 of A-Z a-z 0-9 . _ -
    name: Name,
    /// The server to register at, by its name; another one if that is not live
    #[arg(long, value_name = "SERVER")]
    home: Option<Name>,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Registered<'a> {
    name: &'a str,
    /// Too large for a number of JavaScript.
    registration: String,
    home: &'a str,
}

impl Register {
    /// Registers.
    ///
    /// # Errors
    /// The name is taken, or the cluster did not answer.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let client = reach.connect(self.home.clone()).await?;
        let registration = client
            .register(&self.name)
            .await
            .map_err(|error| Failure::from(error).while_doing(format_args!("cannot register {}", self.name)))?;
        client.close().await;
        let registered = Registered {
            name: &registration.name,
            registration: registration.id.to_string(),
            home: &registration.home,
        };
        self.output.print(&registered, |r| format!("registered {} at server {}", r.name, r.home))
    }
}
