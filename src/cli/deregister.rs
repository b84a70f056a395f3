//! `restante deregister`.

use clap::Args;
use restante::wire::Name;
use serde::Serialize;

use super::failure::Failure;
use super::output::Output;
use super::reach::Reach;

/// End a registration: the client's inbox is dropped with what waits in it.
///
/// The name is free from then on. Whoever registers it next starts with an empty inbox.
#[derive(Debug, Args)]
#[command(after_long_help = "\
Example:
  restante deregister alice")]
pub struct Deregister {
    /// The client's name
    name: Name,
    #[command(flatten)]
    output: Output,
}

#[derive(Serialize)]
struct Deregistered<'a> {
    name: &'a str,
    deregistered: bool,
}

impl Deregister {
    /// Deregisters.
    ///
    /// # Errors
    /// No such client, or the cluster did not answer.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let client = reach.connect(None).await?;
        client
            .deregister(&self.name)
            .await
            .map_err(|error| Failure::from(error).while_doing(format_args!("cannot deregister {}", self.name)))?;
        client.close().await;
        let done = Deregistered { name: &self.name, deregistered: true };
        self.output.print(&done, |d| format!("deregistered {}", d.name))
    }
}
