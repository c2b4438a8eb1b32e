//! `ca`: certificates for agents and managers, and for the HSM daemon, its movers and its clients.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use clap::{Args, Subcommand, ValueEnum};

use super::text::{hosts, moment};
use super::{Outcome, complain, say};
use crate::tls::authority::Request;
use crate::tls::{Authority, Identity, Paths, Role};

/// What to do with certificates.
#[derive(Debug, Subcommand)]
pub enum CaCommand {
    /// Make a certificate authority for the cluster
    Init {
        /// Where it is kept. Its key (ca.key) signs: keep it off the servers
        #[arg(long, value_name = "DIR", default_value = "/etc/coordinatool/ca")]
        dir: PathBuf,
        /// The cluster's name
        #[arg(long, value_name = "CLUSTER")]
        name: String,
    },
    /// Issue certificates: NAME.crt and NAME.key beside the authority's
    Issue(Issue),
    /// Show what is in a directory of certificates
    Show {
        /// Which directory
        #[arg(long, value_name = "DIR", default_value = "/etc/coordinatool/ca")]
        dir: PathBuf,
    },
}

/// `ca issue`.
#[derive(Debug, Args)]
pub struct Issue {
    /// For these hosts: oss1, oss[1-4]
    #[arg(required = true, value_name = "HOST")]
    pub hosts: Vec<String>,
    /// Where the authority is
    #[arg(long, value_name = "DIR", default_value = "/etc/coordinatool/ca")]
    pub dir: PathBuf,
    /// What it may be used for
    #[arg(long, value_enum, default_value = "agent")]
    pub role: RoleName,
    /// Another name or address of the host (one host only); repeatable
    #[arg(long = "also", value_name = "NAME")]
    pub also: Vec<String>,
    /// For how many days
    #[arg(long, value_name = "DAYS", default_value = "730", value_parser = clap::value_parser!(u64).range(1..=36_500))]
    pub days: u64,
    /// Replace a certificate that is there
    #[arg(long)]
    pub renew: bool,
}

/// A role on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum RoleName {
    /// The agent of that host
    Agent,
    /// A manager on that host
    Manager,
    /// The HSM daemon on that host
    Server,
    /// An administrator of the HSM daemon
    Admin,
    /// The mover of that name
    Mover,
    /// Somebody who may look at the HSM daemon's status
    #[value(name = "read_only", alias = "read-only")]
    ReadOnly,
}

/// Does it.
pub fn run(command: &CaCommand) -> Outcome {
    match command {
        CaCommand::Init { dir, name } => match Authority::create(dir, name) {
            Ok(_) => {
                let paths = Authority::paths(dir);
                say(&format!("{}: the authority's certificate, for every host", paths.certificate.display()));
                say(&format!("{}: its key; keep it secret, and off the servers", paths.key.display()));
                say("next: `ca issue manager --role manager`, and `ca issue` with the names of all servers;");
                say(
                    "for HSM: `ca issue HOST --role server`, and `ca issue --role mover` with the ids of all movers",
                );
                Outcome::Done
            }
            Err(error) => {
                complain(&error.to_string());
                Outcome::Failed
            }
        },
        CaCommand::Issue(options) => issue(options),
        CaCommand::Show { dir } => show(dir),
    }
}

fn issue(options: &Issue) -> Outcome {
    let names = match hosts(&options.hosts) {
        Ok(names) => names,
        Err(error) => return Outcome::usage(&error),
    };
    if names.len() > 1 && !options.also.is_empty() {
        return Outcome::usage("--also is for one host at a time");
    }
    let authority = match Authority::open(&options.dir) {
        Ok(authority) => authority,
        Err(error) => {
            complain(&format!("{error}; `coordinatool-client ha ca init` makes an authority"));
            return Outcome::Failed;
        }
    };
    let role = match options.role {
        RoleName::Agent => Role::Agent,
        RoleName::Manager => Role::Manager,
        RoleName::Server => Role::Server,
        RoleName::Admin => Role::Admin,
        RoleName::Mover => Role::Mover,
        RoleName::ReadOnly => Role::ReadOnly,
    };
    let mut outcome = Outcome::Done;
    for name in names {
        let mut request = Request::new(&name, role);
        for other in &options.also {
            match other.parse::<IpAddr>() {
                Ok(address) => request.addresses.push(address),
                Err(_) => request.other_names.push(other.clone()),
            }
        }
        request.valid = Duration::from_secs(options.days * 86_400);
        request.renew = options.renew;
        match authority.issue(&request) {
            Ok(Paths { certificate, key, .. }) => say(&format!(
                "{name} ({role}): {} and {}; copy both and ca.crt to /etc/coordinatool/tls there",
                certificate.display(),
                key.display()
            )),
            Err(error) => {
                complain(&error.to_string());
                outcome = Outcome::Failed;
            }
        }
    }
    outcome
}

fn show(dir: &std::path::Path) -> Outcome {
    let failed = |error: std::io::Error| {
        complain(&format!("{}: {error}", dir.display()));
        Outcome::Failed
    };
    let entries = match std::fs::read_dir(dir).and_then(Iterator::collect::<Result<Vec<_>, _>>) {
        Ok(entries) => entries,
        Err(error) => return failed(error),
    };
    let mut names: Vec<String> = entries
        .iter()
        .filter_map(|entry| entry.file_name().to_str()?.strip_suffix(".crt").map(str::to_owned))
        .collect();
    names.sort();
    if names.is_empty() {
        complain(&format!("{}: no certificates", dir.display()));
        return Outcome::Failed;
    }
    let now = SystemTime::now();
    let mut table = super::text::Table::new(&["NAME", "ROLE", "UNTIL", "ALSO", "NOTES"]);
    let mut outcome = Outcome::Done;
    for name in names {
        let paths = Paths::in_directory(dir, &name);
        if name == "ca" && !paths.key.exists() {
            table.row(vec![
                name,
                "authority".to_owned(),
                String::new(),
                String::new(),
                "no key here".to_owned(),
            ]);
            continue;
        }
        match Identity::load(&paths) {
            Ok(identity) => {
                let peer = identity.peer();
                let role = match (&peer.role, name.as_str()) {
                    (_, "ca") => "authority".to_owned(),
                    (Some(role), _) => role.to_string(),
                    (None, _) => "none of ours".to_owned(),
                };
                let until =
                    identity.expires().and_then(|until| until.duration_since(SystemTime::UNIX_EPOCH).ok());
                let until = until.and_then(|until| i64::try_from(until.as_nanos()).ok());
                let mut also: Vec<String> =
                    peer.dns_names.iter().filter(|other| **other != name).cloned().collect();
                also.extend(peer.addresses.iter().map(ToString::to_string));
                let notes = identity.warnings(now).join("; ");
                table.row(vec![name, role, until.map(moment).unwrap_or_default(), also.join(" "), notes]);
            }
            Err(error) => {
                outcome = Outcome::Failed;
                table.row(vec![name, String::new(), String::new(), String::new(), error.to_string()]);
            }
        }
    }
    let mut out = String::new();
    table.print(&mut out);
    say(out.trim_end());
    outcome
}
