//! Benchmarks of the HSM coordinator: `cargo bench --bench hsm`. `-- --quick` only checks, with few requests, that what is
//! measured works and that each request is given out once; nothing here fails because something is slow.
//! `docs/performance.md` says what the figures mean.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "hsm/asking.rs"]
mod asking;
#[path = "hsm/baselines.rs"]
mod baselines;
#[path = "hsm/bench.rs"]
mod bench;
#[path = "hsm/drain.rs"]
mod drain;
#[path = "hsm/events.rs"]
mod events;
#[path = "hsm/features.rs"]
mod features;
#[path = "hsm/latency.rs"]
mod latency;
#[path = "hsm/load.rs"]
mod load;
#[allow(dead_code)]
#[path = "ha/machine.rs"]
mod machine;
#[path = "hsm/messages.rs"]
mod messages;
#[path = "hsm/queue.rs"]
mod queue;
#[path = "hsm/restart.rs"]
mod restart;
#[path = "hsm/scale.rs"]
mod scale;
#[path = "hsm/server.rs"]
mod server;
#[path = "hsm/site.rs"]
mod site;
#[path = "hsm/table.rs"]
mod table;

use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;

use bench::Bench;
use table::Line;

#[derive(Debug, Parser)]
#[command(about = "Measures the HSM coordinator")]
struct Options {
    /// Only check that everything works
    #[arg(long)]
    quick: bool,
    /// How often each thing is measured
    #[arg(long, default_value_t = 3)]
    runs: usize,
    /// Requests in most rows
    #[arg(long, default_value_t = 1_000_000)]
    requests: u32,
    /// Where to make files: the embedded store and fdatasync depend on the disk
    #[arg(long, value_name = "DIR")]
    directory: Option<std::path::PathBuf>,
    /// Only with this store (repeatable)
    #[arg(long = "store")]
    stores: Vec<server::Store>,
    /// Put the table into this document, between the lines that say so
    #[arg(long, value_name = "FILE")]
    document: Option<std::path::PathBuf>,
    /// Rows to measure (default: all)
    names: Vec<String>,
    /// From cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Be the server of the baselines: PORT:BYTES OF A REQUEST:BYTES OF AN ANSWER
    #[arg(long, hide = true)]
    serve: Option<String>,
    /// Be a copytool that does nothing, on this mount
    #[arg(long, hide = true, value_name = "MOUNT")]
    copytool: Option<std::path::PathBuf>,
}

/// A row of the table: its name, and what measures it.
type Row = (&'static str, fn(&mut Bench) -> Result<(), String>);

const ROWS: &[Row] = &[
    ("queue", queue::measure),
    ("drain", drain::single),
    ("drain-many", drain::many),
    ("drain-one", drain::one_mover),
    ("latency", latency::measure),
    ("events", events::latency),
    ("restart", restart::measure),
    ("batching", features::batching),
    ("mappings", features::mappings),
    ("status", asking::status),
    ("list", asking::list),
    ("requests", scale::requests),
    ("movers", scale::movers),
    ("mdts", events::mdts),
];

/// Each mover needs a descriptor here.
fn raise_file_limit() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

fn main() -> ExitCode {
    let options = Options::parse();
    if let Some(what) = &options.serve {
        baselines::serve(what);
        return ExitCode::SUCCESS;
    }
    if let Some(mount) = &options.copytool {
        return match site::be_copytool(mount) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                eprintln!("{}: {error}", mount.display());
                ExitCode::FAILURE
            }
        };
    }
    if let Some(name) = options.names.iter().find(|name| ROWS.iter().all(|(row, _)| row != name)) {
        let known: Vec<&str> = ROWS.iter().map(|(row, _)| *row).collect();
        eprintln!("there is no row {name}; there are {}", known.join(", "));
        return ExitCode::FAILURE;
    }
    if let Some(directory) = &options.directory {
        // Nothing else runs yet. (Temporary files are made there.)
        tempfile::env::override_temp_dir(directory).expect("nothing was made yet");
    }
    println!("{}\n", machine::describe());
    server::keep_to_load_cores();
    raise_file_limit();
    let begun = Instant::now();
    let mut bench = Bench::new(options.quick, options.runs, options.requests, &options.stores);
    let mut wrong = Vec::new();
    for (name, measure) in ROWS {
        if !options.names.is_empty() && !options.names.iter().any(|one| one == name) {
            continue;
        }
        println!("{name}:");
        if let Err(error) = measure(&mut bench) {
            println!("  WRONG: {error}");
            wrong.push(format!("{name}: {error}"));
        }
        println!();
    }
    if !options.quick {
        println!("{}", table::HEAD);
        bench.lines().iter().for_each(|line| println!("{}", line.markdown()));
    }
    if let Some(document) = &options.document {
        let table: Vec<String> = bench.lines().iter().map(Line::markdown).collect();
        let head =
            format!("{} runs at {}; load afterwards {}.", bench.runs, machine::date(), machine::load());
        if let Err(error) =
            table::put_into(document, &format!("{head}\n\n{}\n{}\n", table::HEAD, table.join("\n")))
        {
            wrong.push(error);
        }
    }
    println!("\ntook {:.0} s, load {}", begun.elapsed().as_secs_f64(), machine::load());
    wrong.iter().for_each(|wrong| eprintln!("WRONG: {wrong}"));
    if wrong.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
