//! How `restante cluster restart` talks to the `restante cluster` that runs: through a socket in its data directory, to
//! which one request is written, and from which lines come that say how far it is.
#![expect(clippy::disallowed_methods, reason = "the person's side: no server and no simulation has it")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use restante::world::{RealWorld, World};
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};

use super::super::failure::{Exit, Failure};
use super::rolling;
use super::supervisor::Supervisor;

/// What is asked for.
const ROLLING: &str = "restart-rolling";
/// The longest request.
const REQUEST_BYTES_MAX: u64 = 64;

/// What is answered, a line of JSON each.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Told {
    /// How far it is.
    Progress(String),
    /// It is done.
    Done,
    /// It is not: why.
    Failed(String),
}

fn path(data: &Path) -> PathBuf {
    data.join("control")
}

/// Serves requests as long as the value lives.
pub struct Control {
    path: PathBuf,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        // It may have been taken away by hand.
        drop(std::fs::remove_file(&self.path));
    }
}

impl Control {
    /// Begins to serve. `data` is ours alone: our servers' ports are.
    ///
    /// # Errors
    /// The system's; a path that is too long for a socket.
    pub fn serve(data: &Path, supervisor: Arc<Supervisor>) -> io::Result<Self> {
        let path = path(data);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(&path)?;
        let task = RealWorld::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                // Whoever asks may go away; what was begun is brought to its end.
                drop(RealWorld::spawn(answer(stream, supervisor.clone())));
            }
        });
        Ok(Self { path, task })
    }
}

async fn answer(stream: UnixStream, supervisor: Arc<Supervisor>) {
    let (reader, mut writer) = stream.into_split();
    let mut request = String::new();
    if BufReader::new(reader.take(REQUEST_BYTES_MAX)).read_line(&mut request).await.is_err() {
        return;
    }
    let (progress, mut told) = tokio::sync::mpsc::unbounded_channel();
    let work = async {
        match request.trim() {
            ROLLING => rolling::restart(&supervisor, &progress).await,
            other => Err(Failure::new(Exit::Usage, format!("{other:?} is nothing that can be asked for"))),
        }
    };
    let mut work = std::pin::pin!(work);
    loop {
        let (line, is_last) = tokio::select! {
            biased;
            Some(text) = told.recv() => (Told::Progress(text), false),
            done = &mut work => match done {
                Ok(()) => (Told::Done, true),
                Err(failure) => (Told::Failed(failure.text), true),
            },
        };
        let line = super::super::output::json(&line) + "\n";
        // Whoever asked may be gone.
        drop(writer.write_all(line.as_bytes()).await);
        if is_last {
            return;
        }
    }
}

/// Asks the `restante cluster` whose data is there to restart its servers one by one.
///
/// # Errors
/// Nobody is there, or why it could not.
pub async fn ask(data: &Path, mut progress: impl FnMut(&str)) -> Result<(), Failure> {
    let gone = |error: io::Error| {
        Failure::new(
            Exit::Unavailable,
            format!("no `restante cluster` runs with its data in {}: {error}", data.display()),
        )
        .hint("--data names another directory. Servers that were started one by one: see `restante server --help`.")
    };
    let mut stream = UnixStream::connect(path(data)).await.map_err(gone)?;
    stream.write_all(format!("{ROLLING}\n").as_bytes()).await.map_err(gone)?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(line) = lines.next_line().await.map_err(gone)? {
        match serde_json::from_str(&line) {
            Ok(Told::Progress(text)) => progress(&text),
            Ok(Told::Done) => return Ok(()),
            Ok(Told::Failed(text)) => return Err(Failure::new(Exit::Failed, text)),
            Err(error) => return Err(Failure::new(Exit::Failed, format!("it answers in another way: {error}"))),
        }
    }
    Err(Failure::new(Exit::Failed, "the `restante cluster` ended before it was done"))
}
