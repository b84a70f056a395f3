//! `restante bench`: how fast a cluster is, and whether it keeps everything while it is.

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use restante::limits;
use restante::world::{Instant, RealWorld, World};
use serde_json::{Value, json};

use super::failure::{Exit, Failure};
use super::interrupt::Interrupt;
use super::local::Servers;
use super::output::{self, Output, grouped, span};
use super::reach::Reach;
use super::table::{self, Side};
use super::values::{Ports, Size};
use super::{children, files};
use crate::bench::{self, Cluster, Plan, Progress, Workload, report};

/// Measure a cluster: throughput, latency, backlog, failover, power cut.
///
/// Every workload counts what was lost, doubled, out of order or altered, apart from the time it took; it exits with 8
/// if any of it is not 0. It measures the cluster at --servers, or with --local one of its own: servers that are child
/// processes, with their data in a temporary directory.
///
///   w1  throughput: 64 senders to 64 recipients, 64 sends without a receipt each
///   w2  latency: one sender, one recipient, one message at a time
///   w3  latency under load: 16 senders and a steady load; after w1, again at half of what that reached
///   w4  backlog: messages wait for a recipient that is away, and then comes
///   w5  failover: the leader is killed under the load of w3 (--local only)
///   w6  power cut: all servers are killed under load, and started again (--local only)
///
/// and, if it is asked for,
///
///   names  very many names: registering them, the memory for each, a start with all of them (--local only)
#[derive(Debug, Args)]
#[command(
    verbatim_doc_comment,
    after_long_help = "\
Examples:
  restante bench --local 3                           everything, on three servers of its own
  restante bench --local 3 w1 w2 --runs 5            medians of five runs
  restante bench --servers 10.0.0.1:8080 w1 --seconds 60 --body 4KiB
  restante bench --local 3 w4 --backlog 5000000 --serve-arg=--body-memory=64MiB
  restante bench --local 3 names --names 1000000     a million names
  restante bench --local 3 --json | jq .             an object for each workload

Names that begin with bench- are registered for it, and taken away again."
)]
pub struct Bench {
    /// Which workloads to run: w1 to w6 and names, or several with commas [default: those of w1 to w6 that are possible]
    #[arg(value_name = "WORKLOADS", value_delimiter = ',')]
    workloads: Vec<Workload>,
    /// Run so many servers for it, as processes of their own
    #[arg(long, value_name = "SERVERS", value_parser = clap::value_parser!(u16).range(1..=9))]
    local: Option<u16>,
    /// The ports of --local's servers on 127.0.0.1 [default: some that are free]
    #[arg(long, value_name = "PORTS", requires = "local")]
    ports: Option<Ports>,
    /// Where --local's servers keep their data; must be empty, and is kept [default: a temporary directory, removed at
    /// the end]
    #[arg(long, value_name = "DIR", requires = "local")]
    data: Option<PathBuf>,
    /// One more argument for each of --local's servers, as `restante serve` takes it; may be given several times
    #[arg(long, value_name = "ARGUMENT", requires = "local", allow_hyphen_values = true)]
    serve_arg: Vec<String>,
    /// How often everything is run
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    runs: u32,

    /// How long w1, w3 and w5 go on, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=86_400),
          help_heading = "Load")]
    seconds: u64,
    /// Size of a message's body; at least 16 bytes
    #[arg(long, value_name = "SIZE", default_value_t = Size(256), help_heading = "Load")]
    body: Size,
    /// Senders of w1, w4 and w6
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..),
          help_heading = "Load")]
    senders: u16,
    /// Recipients of w1
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=1_000_000),
          help_heading = "Load")]
    recipients: u32,
    /// Sends without a receipt that each sender of w1, w4 and w6 has on the way
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096),
          help_heading = "Load")]
    window: u32,
    /// Sends after which w1 ends, even if there is time left
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), help_heading = "Load")]
    messages: Option<u64>,
    /// Messages of w2
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = clap::value_parser!(u64).range(1..),
          help_heading = "Load")]
    singles: u64,
    /// Messages a second of w3 and w5
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..=10_000_000),
          help_heading = "Load")]
    rate: u64,
    /// Messages of w4
    #[arg(long, value_name = "N", default_value_t = 200_000, value_parser = clap::value_parser!(u64).range(1..),
          help_heading = "Load")]
    backlog: u64,
    /// Names that the workload of that name registers
    #[arg(long, value_name = "N", default_value_t = 1_000_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000),
          help_heading = "Load")]
    names: u32,
    /// Deliveries that each recipient of w1, w2, w3 and w5 may hold unacknowledged
    #[arg(long, value_name = "N", default_value_t = limits::READER_WINDOW_DEFAULT,
          value_parser = clap::value_parser!(u32).range(1..=i64::from(limits::READER_WINDOW_MAX)), help_heading = "Load")]
    reader_window: u32,

    #[command(flatten)]
    output: Output,
}

/// Bytes that a message takes in an inbox beside its body, at most, for the quotas of --local's servers.
const OVERHEAD: u64 = 64;

impl Bench {
    /// Runs the workloads.
    ///
    /// # Errors
    /// Arguments that do not fit, the servers' troubles, Ctrl-C, or counts that are off.
    pub async fn run(&self, reach: &Reach) -> Result<(), Failure> {
        let mut interrupt = Interrupt::new()?;
        let workloads = self.workloads()?;
        if self.body.0 > limits::BODY_BYTES_MAX as u64 {
            let most = Size(limits::BODY_BYTES_MAX as u64);
            return Err(Failure::new(Exit::Usage, format!("--body {}: a body has at most {most}", self.body)));
        }
        let mut cluster = match self.local {
            Some(count) => Measured::Own(Box::new(self.own_servers(count).await?)),
            None => {
                // Whether there is a cluster is known soon, and not only after all the patience of a benchmark.
                reach.connect(None).await?.close().await;
                Measured::Given(reach.servers.0.clone())
            }
        };
        let measured = tokio::select! {
            biased;
            _ = interrupt.next() => Err(Failure::interrupted()),
            measured = self.measure(&mut cluster, &workloads) => measured,
        };
        if let Measured::Own(own) = &mut cluster {
            tokio::select! {
                biased;
                // Dropping the servers kills them.
                _ = interrupt.next() => {}
                _ = own.servers.stop() => {}
            }
        }
        let results = measured?;
        if !self.output.json {
            output::print(&text(&results))?;
        }
        let faults = report::faults(&results);
        if faults.is_empty() { Ok(()) } else { Err(Failure::new(Exit::CountsOff, faults.join("; "))) }
    }

    fn workloads(&self) -> Result<Vec<Workload>, Failure> {
        let all = Workload::SIX.into_iter().filter(|workload| self.local.is_some() || !workload.kills());
        if self.workloads.is_empty() {
            return Ok(all.collect());
        }
        match self.workloads.iter().find(|workload| workload.kills() && self.local.is_none()) {
            Some(workload) => {
                Err(Failure::new(Exit::Usage, format!("{workload} kills servers: it needs some of its own"))
                    .hint("Give --local 3, or leave w5 and w6 out."))
            }
            None if self.workloads.contains(&Workload::W5) && self.local.is_some_and(|servers| servers < 3) => Err(
                Failure::new(Exit::Usage, "w5 kills the leader: with fewer than three servers nobody can follow it")
                    .hint("Give --local 3."),
            ),
            None => Ok(self.workloads.clone()),
        }
    }

    async fn own_servers(&self, count: u16) -> Result<Own, Failure> {
        let ports = match &self.ports {
            Some(ports) if ports.0.len() == usize::from(count) => ports.clone(),
            Some(ports) => {
                let named = ports.0.len();
                return Err(Failure::new(Exit::Usage, format!("--ports names {named} ports for --local {count}")));
            }
            None => children::free_ports(usize::from(count)).await?,
        };
        children::check_ports(&ports, "bench --local 3").await?;
        let temporary = match &self.data {
            Some(path) => {
                files::create_empty(path)?;
                None
            }
            None => Some(files::temporary("restante-bench-")?),
        };
        let data = match (&self.data, &temporary) {
            (Some(path), _) => path.as_path(),
            (None, Some(temporary)) => temporary.path(),
            (None, None) => Path::new("."),
        };
        let mut servers = Servers::new(&ports, data)?;
        let bytes = self.backlog.saturating_mul(self.body.0 + OVERHEAD);
        let mut arguments = vec![
            format!("--inbox-messages={}", limits::INBOX_MESSAGES_DEFAULT.max(self.backlog + 1)),
            format!("--inbox-bytes={}", limits::INBOX_BYTES_DEFAULT.max(bytes)),
            format!("--clients={}", limits::CLIENTS_DEFAULT.max(u64::from(self.recipients.max(self.names)) * 2)),
        ];
        arguments.extend(self.serve_arg.iter().cloned());
        servers.set_arguments(arguments);
        Ok(Own { servers, _temporary: temporary })
    }

    async fn measure(&self, cluster: &mut Measured, workloads: &[Workload]) -> Result<Vec<Value>, Failure> {
        let began = RealWorld::now();
        if let Measured::Own(own) = cluster {
            own.servers.start_all()?;
            own.servers.leader().await?;
        }
        let start_s = began.elapsed().as_secs_f64();
        let plan = self.plan();
        let mut results = Vec::new();
        for run in 0..self.runs {
            let progress = Arc::new(Progress::default());
            let mut bench = bench::Bench::new(cluster, plan.clone(), Arc::clone(&progress));
            self.tell(&mut results, run, self.start(&plan, start_s))?;
            for workload in workloads {
                let watched = watch(&progress, run, self.runs, bench.run(*workload)).await;
                for result in watched.map_err(|failure| failure.while_doing(workload))? {
                    self.tell(&mut results, run, result)?;
                }
            }
        }
        Ok(results)
    }

    fn plan(&self) -> Plan {
        Plan {
            body_bytes: self.body.0 as usize,
            senders: usize::from(self.senders),
            recipients: self.recipients as usize,
            window: self.window as usize,
            seconds: self.seconds,
            messages: self.messages,
            singles: self.singles,
            rate: self.rate,
            backlog: self.backlog,
            reader_window: self.reader_window,
            names: self.names as usize,
        }
    }

    fn start(&self, plan: &Plan, start_s: f64) -> Value {
        json!({
            "w": "start", "start_s": start_s, "unix": RealWorld::unix_millis() / 1000,
            "config": {
                "version": env!("CARGO_PKG_VERSION"), "servers": self.local, "serve": self.serve_arg,
                "receipt": "synced on a majority", "body_bytes": plan.body_bytes, "senders": plan.senders,
                "recipients": plan.recipients, "window": plan.window, "seconds": plan.seconds,
            },
        })
    }

    /// Keeps a result, and with `--json` prints it at once.
    fn tell(&self, results: &mut Vec<Value>, run: u32, mut result: Value) -> Result<(), Failure> {
        result["target"] = "restante".into();
        result["run"] = run.into();
        if self.output.json {
            output::print(&format!("{result}\n"))?;
        }
        results.push(result);
        Ok(())
    }
}

/// Shows how far it is while `work` goes on: on a terminal a line that changes, elsewhere a line for each stage.
async fn watch<T>(progress: &Progress, run: u32, runs: u32, work: impl Future<Output = T>) -> T {
    const LOOK: Duration = Duration::from_millis(100);
    let bar = io::stderr().is_terminal().then(|| {
        let style =
            ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
        ProgressBar::new_spinner().with_style(style)
    });
    let (mut stage, mut since): (String, Instant) = (String::new(), RealWorld::now());
    let mut work = std::pin::pin!(work);
    loop {
        let look = RealWorld::timeout(LOOK, &mut work).await;
        let (now, receipts, deliveries) = progress.now();
        let changed = now != stage;
        if changed {
            (stage, since) = (now, RealWorld::now());
        }
        let which = if runs > 1 { format!("run {} of {runs}: ", run + 1) } else { String::new() };
        match &bar {
            Some(bar) => bar.set_message(format!(
                "{which}{stage}: {} receipts, {} deliveries, {}",
                grouped(receipts),
                grouped(deliveries),
                span(since.elapsed())
            )),
            None if changed => eprintln!("{which}{stage}"),
            None => {}
        }
        if let Some(bar) = &bar {
            bar.tick();
        }
        if let Ok(done) = look {
            bar.iter().for_each(ProgressBar::finish_and_clear);
            return done;
        }
    }
}

/// The table of all runs.
fn text(results: &[Value]) -> String {
    let lines = report::lines(results);
    let number = |value: f64, unit: report::Unit| {
        let digits = if value.fract().abs() > 1e-9 {
            format!(".{}", (value.fract().abs() * 10.0) as u64)
        } else {
            String::new()
        };
        format!("{}{digits} {}", grouped(value.abs() as u64), unit.suffix()).trim_end().to_owned()
    };
    let mut before = "";
    let mut rows = Vec::new();
    for line in &lines {
        let workload = if line.workload == before { "" } else { &line.workload };
        before = &line.workload;
        let [median, least, most] = line.values;
        let spread = if least < most {
            format!("{} to {}", number(least, line.unit), number(most, line.unit))
        } else {
            String::new()
        };
        rows.push([workload.to_owned(), line.what.to_owned(), number(median, line.unit), spread]);
    }
    let heads = [("", Side::Left), ("MEASURED", Side::Left), ("MEDIAN", Side::Right), ("SPREAD", Side::Left)];
    table::render(heads, &rows)
}

/// The servers of this benchmark: its own, or given ones.
enum Measured {
    Own(Box<Own>),
    Given(Vec<String>),
}

struct Own {
    servers: Servers,
    _temporary: Option<tempfile::TempDir>,
}

impl Measured {
    fn own(&mut self) -> Result<&mut Servers, Failure> {
        match self {
            Self::Own(own) => Ok(&mut own.servers),
            Self::Given(_) => Err(Failure::new(Exit::Usage, "only servers of its own are killed: give --local 3")),
        }
    }
}

impl Cluster for Measured {
    type Error = Failure;

    fn addresses(&self) -> Vec<String> {
        match self {
            Self::Own(own) => own.servers.all().iter().map(children::Server::address).collect(),
            Self::Given(servers) => servers.clone(),
        }
    }

    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Own(own) => own.servers.pids(),
            Self::Given(_) => Vec::new(),
        }
    }

    async fn kill_leader(&mut self) -> Result<String, Failure> {
        let servers = self.own()?;
        let (leader, _) = servers.leader().await?;
        servers.kill(leader).await?;
        Ok(format!("server {}", servers.all()[leader].name))
    }

    async fn kill_all(&mut self) -> Result<(), Failure> {
        self.own()?.kill_all().await
    }

    fn start_again(&mut self) -> Result<(), Failure> {
        self.own()?.start_all()
    }
}
