//! `discover`: looks at servers over ssh and writes a configuration for what they run.

pub mod layout;
pub mod parse;
pub mod yaml;

use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::sync::Semaphore;

use self::parse::Found;
use super::text::{hosts, one_line};
use super::{Outcome, complain, print};

/// How many hosts are asked at a time.
const AT_ONCE: usize = 16;
/// No answer is longer.
const MAX_ANSWER: u64 = 16 << 20;

/// `discover`.
#[derive(Debug, Args)]
pub struct DiscoverOptions {
    /// Hosts: oss1, oss[1-4]
    #[arg(value_name = "HOST", required_unless_present = "ldev")]
    pub hosts: Vec<String>,
    /// Also use this ldev.conf, for targets, homes and partners
    #[arg(long, value_name = "FILE")]
    pub ldev: Option<PathBuf>,
    /// Where targets are mounted whose mount point cannot be seen
    #[arg(long, value_name = "DIR", default_value = "/mnt/lustre/local")]
    pub mountpoints: String,
    /// What is run to reach a host; options, the host and `sh -s` are appended
    #[arg(long, value_name = "COMMAND", default_value = "ssh")]
    pub ssh_command: String,
    /// How many seconds one host may take
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
}

/// Asks the hosts and prints the configuration. Fails if a host cannot be asked, but prints what the others say.
pub async fn run(options: &DiscoverOptions, verbose: bool) -> Outcome {
    let names = match hosts(&options.hosts) {
        Ok(names) => names,
        Err(error) => return Outcome::usage(&error),
    };
    if let Some(name) = names.iter().find(|name| name.starts_with('-')) {
        return Outcome::usage(&format!("{name:?} is not the name of a host"));
    }
    let mut outcome = Outcome::Done;
    let mut lines = Vec::new();
    if let Some(file) = &options.ldev {
        let shown = file.display().to_string();
        match std::fs::read_to_string(file) {
            Ok(text) => {
                let (found, warnings) = parse::ldev_conf(&text, &shown);
                lines = found;
                for warning in warnings {
                    complain(&warning);
                }
            }
            Err(error) => {
                complain(&format!("{shown}: {error}"));
                return Outcome::Failed;
            }
        }
    }
    let slots = Arc::new(Semaphore::new(AT_ONCE));
    let tasks: Vec<_> = names
        .iter()
        .map(|host| {
            let (slots, host, ssh) = (slots.clone(), host.clone(), options.ssh_command.clone());
            let patience = Duration::from_secs(options.timeout);
            tokio::spawn(async move {
                let _slot = slots.acquire().await;
                match tokio::time::timeout(patience, ask(&ssh, &host)).await {
                    Ok(result) => result,
                    Err(_) => Err(format!("no answer within {} s", patience.as_secs())),
                }
            })
        })
        .collect();
    let mut found: Vec<(String, Found)> = Vec::new();
    for (host, task) in names.iter().zip(tasks) {
        match task.await.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(seen) => {
                if verbose {
                    complain(&format!(
                        "{host}: {} mounted targets, {} pools",
                        seen.mounts.len(),
                        seen.pools.len()
                    ));
                }
                found.push((host.clone(), seen));
            }
            Err(error) => {
                complain(&format!("{host}: {error}"));
                outcome = Outcome::Failed;
            }
        }
    }
    let (groups, warnings) = layout::groups(&found, &lines, options.mountpoints.trim_end_matches('/'));
    for warning in warnings {
        complain(&warning);
    }
    if groups.is_empty() {
        complain("no Lustre target was found");
    }
    let asked: Vec<String> = found.into_iter().map(|(host, _)| host).collect();
    print(&yaml::render(&asked, &groups));
    outcome
}

/// Runs the script on one host.
async fn ask(ssh: &str, host: &str) -> Result<Found, String> {
    let mut words = ssh.split_whitespace();
    let program = words.next().unwrap_or("ssh");
    let mut command = Command::new(program);
    command.args(words);
    command.args(["-o", "BatchMode=yes", "-o", "ConnectTimeout=15", host, "sh", "-s"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| format!("cannot run {program}: {error}"))?;
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let send = async {
        if let Some(mut stdin) = stdin {
            // If the other side is gone, its exit code and what it said tell more.
            let _ = stdin.write_all(parse::SCRIPT.as_bytes()).await;
        }
    };
    let ((), out, err) = tokio::join!(send, read(stdout), read(stderr));
    let status = child.wait().await.map_err(|error| error.to_string())?;
    let said = one_line(&err?);
    let said = if said.is_empty() { said } else { format!(": {said}") };
    if !status.success() {
        return Err(format!("{program} failed ({status}){said}"));
    }
    parse::output(&out?).map_err(|error| format!("{error}{said}"))
}

async fn read(pipe: Option<impl AsyncRead + Unpin>) -> Result<String, String> {
    let Some(pipe) = pipe else { return Ok(String::new()) };
    let mut bytes = Vec::new();
    pipe.take(MAX_ANSWER + 1).read_to_end(&mut bytes).await.map_err(|error| error.to_string())?;
    if bytes.len() as u64 > MAX_ANSWER {
        return Err(format!("it says more than {MAX_ANSWER} bytes"));
    }
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}
