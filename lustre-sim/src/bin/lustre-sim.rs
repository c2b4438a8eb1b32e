//! Serves an embedded Lustre, and asks of one what `lfs` and `lctl` ask of a real one.

use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::Duration;

use clap::{Parser, Subcommand};
use lustre_sim::client::{Client, ClientError};
use lustre_sim::control::{Command, Faults, Until};
use lustre_sim::library;
use lustre_sim::mdt::{Action, Behaviour, CurrentAction, Extent, HsmState, lfs_hsm_action, lfs_hsm_state};
use lustre_sim::server::{Options, Server};
use lustreapi_sys::Fid;
use lustreapi_sys::abi;

type Failure = Box<dyn std::error::Error>;

/// The embedded Lustre: a directory that HSM programs take for a Lustre file system.
#[derive(Parser)]
#[command(name = "lustre-sim", version)]
struct Arguments {
    /// Any path in the file system, where the command names no file.
    #[arg(
        short = 'C',
        long,
        global = true,
        value_name = "PATH",
        env = "LUSTRE_SIM_ROOT",
        default_value = "."
    )]
    at: PathBuf,
    #[command(subcommand)]
    command: Verb,
}

#[derive(clap::Args)]
struct RequestArguments {
    /// Archive id, 0 for the file's or the default one.
    #[arg(short, long, default_value_t = 0)]
    archive: u32,
    /// Data for the copytool.
    #[arg(short = 'D', long, default_value = "")]
    data: std::ffi::OsString,
    /// Even if it is not needed.
    #[arg(short, long)]
    force: bool,
    /// One request for each file, not one for all.
    #[arg(long)]
    each: bool,
    /// Files, or FIDs in brackets.
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

#[derive(Subcommand)]
enum Verb {
    /// Serve a directory until SIGINT, SIGTERM or `shutdown`.
    Serve {
        /// The directory that becomes the root.
        #[arg(long)]
        root: PathBuf,
        /// Name of the file system.
        #[arg(long, default_value = "testfs0")]
        fsname: String,
        /// How many MDTs.
        #[arg(long, default_value_t = 2)]
        mdts: u32,
        /// A further mount point.
        #[arg(long)]
        mount: Vec<PathBuf>,
        /// A parameter to set whenever an MDT starts, `max_requests=3` or `mdt.testfs0-MDT0000.hsm.loop_period=1`.
        #[arg(long, value_name = "NAME=VALUE")]
        param: Vec<String>,
        /// Behave like Lustre 2.12 to 2.16.
        #[arg(long)]
        old: bool,
        /// What the wall clock shows at the start, in seconds since 1970. The first cookie is one more.
        #[arg(long)]
        wall: Option<i64>,
        /// How many times faster than real time the clock runs.
        #[arg(long, default_value_t = 1.0)]
        time_scale: f64,
        /// A file to create once the file system can be used.
        #[arg(long)]
        ready_file: Option<PathBuf>,
    },
    /// Make a directory with liblustreapi.so.1, for LD_LIBRARY_PATH, and print it.
    LibDir {
        /// Which, `.lustre/lib` of the file system if not given.
        dir: Option<PathBuf>,
    },
    /// Ask for archiving.
    Archive(RequestArguments),
    /// Ask for restoring.
    Restore(RequestArguments),
    /// Ask for removal of the archived copies.
    Remove(RequestArguments),
    /// Release files.
    Release(RequestArguments),
    /// Cancel what is being done to files.
    Cancel(RequestArguments),
    /// Show HSM states as `lfs hsm_state`.
    State {
        /// Files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Show current actions as `lfs hsm_action`.
    Action {
        /// Files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Set or clear HSM flags as `lfs hsm_set` and `hsm_clear`.
    SetState {
        /// Flags to set: exists, dirty, archived, norelease, noarchive, lost, released.
        #[arg(long, value_delimiter = ',')]
        set: Vec<String>,
        /// Flags to clear.
        #[arg(long, value_delimiter = ',')]
        clear: Vec<String>,
        /// New archive id.
        #[arg(long, default_value_t = 0)]
        archive: u32,
        /// Files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Make an existing, empty file a released one of that size.
    Import {
        /// Archive id.
        #[arg(long, default_value_t = 1)]
        archive: u32,
        /// Size in bytes.
        #[arg(long)]
        size: u64,
        /// The file.
        file: PathBuf,
    },
    /// Read a file as a process on a Lustre would, waiting for its restore, and print it.
    Read {
        /// The file.
        file: PathBuf,
    },
    /// Print the FIDs of files.
    Path2fid {
        /// Files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Give a new file this FID.
    SetFid {
        /// The FID.
        fid: Fid,
        /// The file.
        file: PathBuf,
    },
    /// Make a directory whose files are on an MDT.
    Mkdir {
        /// Index of the MDT.
        #[arg(long, default_value_t = 0)]
        mdt: u32,
        /// The directory.
        dir: PathBuf,
    },
    /// Print parameters as `lctl get_param`.
    GetParam {
        /// Without the names.
        #[arg(short = 'n')]
        values_only: bool,
        /// `mdt.*.hsm.actions` and the like.
        #[arg(required = true)]
        patterns: Vec<String>,
    },
    /// Set parameters as `lctl set_param`.
    SetParam {
        /// `mdt.*.hsm.max_requests=10` and the like.
        #[arg(required = true)]
        settings: Vec<String>,
    },
    /// Stop, start or restart an MDT.
    Mdt {
        /// stop, start or restart.
        #[arg(value_parser = ["stop", "start", "restart"])]
        what: String,
        /// Its index.
        index: u32,
    },
    /// Write the last list of each copytool into its pipe once more.
    Redeliver,
    /// Evict a client.
    Evict {
        /// By this MDT only.
        #[arg(long)]
        mdt: Option<u32>,
        /// The uuid as in hsm.agents.
        uuid: String,
    },
    /// Unmount a client: its copytool gets a shutdown message.
    Unmount {
        /// The uuid as in hsm.agents.
        uuid: String,
    },
    /// Replace the fault settings; without options there are none.
    Faults {
        /// Deliver so many of the next lists twice.
        #[arg(long, default_value_t = 0)]
        deliver_twice: u32,
        /// Lose so many of the next lists.
        #[arg(long, default_value_t = 0)]
        fail_deliveries: u32,
        /// Write every list so many milliseconds late.
        #[arg(long, default_value_t = 0)]
        delay_ms: u64,
    },
    /// Set the clock forward.
    Advance {
        /// By so many seconds.
        seconds: u64,
    },
    /// Wait until something holds; fails after the timeout.
    Wait {
        /// Give up after so many seconds.
        #[arg(long, default_value_t = 30.0)]
        timeout: f64,
        #[command(subcommand)]
        until: WaitFor,
    },
    /// Print every request that ever was and how it ended.
    Ledger {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the calls that were made.
    Calls {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
    /// Print the server's state as JSON.
    Status,
    /// End the server.
    Shutdown,
}

#[derive(Subcommand)]
enum WaitFor {
    /// All of these files have and lack these flags.
    State {
        /// Flags that must be set.
        #[arg(long, value_delimiter = ',')]
        set: Vec<String>,
        /// Flags that must not be set.
        #[arg(long, value_delimiter = ',')]
        clear: Vec<String>,
        /// Files.
        #[arg(required = true)]
        files: Vec<PathBuf>,
    },
    /// Every request has ended, and there were at least so many.
    Ended {
        /// How many.
        #[arg(default_value_t = 0)]
        at_least: usize,
    },
    /// At least so many requests are started.
    Started {
        /// How many.
        at_least: usize,
    },
    /// At least so many copytools are registered.
    Agents {
        /// How many.
        at_least: usize,
    },
    /// No copytool is registered.
    NoAgents,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_env("LUSTRE_SIM_LOG").unwrap_or_else(|_| "warn".into()),
        )
        .with_writer(std::io::stderr)
        .init();
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("lustre-sim: {error}");
            let errno = error.downcast_ref::<ClientError>().and_then(ClientError::errno);
            ExitCode::from(errno.and_then(|e| u8::try_from(e).ok()).unwrap_or(1))
        }
    }
}

fn run(arguments: Arguments) -> Result<ExitCode, Failure> {
    let here = || Client::of(&arguments.at);
    let mut out = std::io::stdout().lock();
    match arguments.command {
        Verb::Serve { root, fsname, mdts, mount, param, old, wall, time_scale, ready_file } => {
            let mut options = Options::new(root);
            options.fsname = fsname;
            options.mdts = mdts;
            options.mounts = mount;
            options.wall = wall;
            options.rate = time_scale;
            if old {
                options.behaviour = Behaviour::V2_16;
            }
            for setting in &param {
                options.params.push(split_setting(setting)?);
            }
            serve(options, ready_file.as_deref())?;
        }
        Verb::LibDir { dir } => {
            let dir = match dir {
                Some(dir) => dir,
                None => here()?.root().join(".lustre/lib"),
            };
            library::make_dir(&dir)?;
            writeln!(out, "{}", dir.display())?;
        }
        Verb::Archive(r) => return request(abi::HUA_ARCHIVE, &r, &arguments.at),
        Verb::Restore(r) => return request(abi::HUA_RESTORE, &r, &arguments.at),
        Verb::Remove(r) => return request(abi::HUA_REMOVE, &r, &arguments.at),
        Verb::Release(r) => return request(abi::HUA_RELEASE, &r, &arguments.at),
        Verb::Cancel(r) => return request(abi::HUA_CANCEL, &r, &arguments.at),
        Verb::State { files } => {
            return for_each(&files, |client, file| {
                let state = client.state(file)?;
                let state = HsmState { flags: state.flags, archive_id: state.archive_id };
                println!("{}", lfs_hsm_state(&file.to_string_lossy(), state));
                Ok(())
            });
        }
        Verb::Action { files } => {
            return for_each(&files, |client, file| {
                let (state, hua, offset, length) = client.action(file)?;
                let current = CurrentAction {
                    action: if state == abi::HPS_NONE { None } else { Action::from_hua(hua) },
                    running: state == abi::HPS_RUNNING,
                    location: Extent { offset, length },
                };
                println!("{}", lfs_hsm_action(&file.to_string_lossy(), current));
                Ok(())
            });
        }
        Verb::SetState { set, clear, archive, files } => {
            let (set, clear) = (flags(&set)?, flags(&clear)?);
            return for_each(&files, |client, file| {
                client.set_state(file, set.into(), clear.into(), archive)
            });
        }
        Verb::Import { archive, size, file } => import(&file, archive, size)?,
        Verb::Read { file } => out.write_all(&Client::of(&file)?.read(&file)?)?,
        Verb::Path2fid { files } => {
            return for_each(&files, |client, file| {
                println!("{}", client.fid(file)?);
                Ok(())
            });
        }
        Verb::SetFid { fid, file } => Client::of(&file)?.adopt(&file, fid)?,
        Verb::Mkdir { mdt, dir } => Client::of(&dir)?.mkdir(&dir, mdt)?,
        Verb::GetParam { values_only, patterns } => {
            for pattern in &patterns {
                let text = here()?.get_param(pattern)?;
                if values_only {
                    write!(out, "{}", without_names(&text))?;
                } else {
                    write!(out, "{text}")?;
                }
            }
        }
        Verb::SetParam { settings } => {
            for setting in &settings {
                let (name, value) = split_setting(setting)?;
                here()?.set_param(&name, &value)?;
                writeln!(out, "{name}={value}")?;
            }
        }
        Verb::Mdt { what, index } => {
            let client = here()?;
            if what != "start" {
                client.command(&Command::StopMdt { index }, &[])?;
            }
            if what != "stop" {
                client.command(&Command::StartMdt { index }, &[])?;
            }
        }
        Verb::Redeliver => drop(here()?.command(&Command::Redeliver, &[])?),
        Verb::Evict { mdt, uuid } => drop(here()?.command(&Command::Evict { uuid, mdt }, &[])?),
        Verb::Unmount { uuid } => drop(here()?.command(&Command::Unmount { uuid }, &[])?),
        Verb::Faults { deliver_twice, fail_deliveries, delay_ms } => {
            let faults = Faults { deliver_twice, fail_deliveries, delay_ms };
            here()?.command(&Command::Faults(faults), &[])?;
        }
        Verb::Advance { seconds } => drop(here()?.command(&Command::Advance { seconds }, &[])?),
        Verb::Wait { timeout, until } => {
            let (client, until) = match until {
                WaitFor::State { set, clear, files } => {
                    let client = Client::of(&files[0])?;
                    let mut fids = Vec::new();
                    for file in &files {
                        fids.push(client.fid(file)?.to_string());
                    }
                    (client, Until::State { fids, set: flags(&set)?, clear: flags(&clear)? })
                }
                WaitFor::Ended { at_least } => (here()?, Until::Ended { at_least }),
                WaitFor::Started { at_least } => (here()?, Until::Started { at_least }),
                WaitFor::Agents { at_least } => (here()?, Until::Agents { at_least }),
                WaitFor::NoAgents => (here()?, Until::NoAgents),
            };
            client.wait(until, Duration::try_from_secs_f64(timeout)?)?;
        }
        Verb::Ledger { json } => {
            let ledger = here()?.ledger()?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&ledger)?)?;
            } else {
                print_ledger(&mut out, &ledger)?;
            }
        }
        Verb::Calls { json } => {
            let calls = here()?.calls()?;
            if json {
                writeln!(out, "{}", serde_json::to_string_pretty(&calls)?)?;
            } else {
                for call in calls {
                    let fid = call.fid.unwrap_or_default();
                    let cookie = call.cookie.map(|c| format!("{c:#x}")).unwrap_or_default();
                    writeln!(out, "{} {} {fid} {cookie} = {}", call.pid, call.name, call.result)?;
                }
            }
        }
        Verb::Status => writeln!(out, "{}", serde_json::to_string_pretty(&here()?.status()?)?)?,
        Verb::Shutdown => drop(here()?.command(&Command::Shutdown, &[])?),
    }
    Ok(ExitCode::SUCCESS)
}

fn serve(options: Options, ready_file: Option<&Path>) -> Result<(), Failure> {
    // A thread waits for signals: no handler runs, so anything may be done when one comes.
    let signals = lustre_sim::server::block_stop_signals()?;
    let server = Server::start(options)?;
    if let Err(error) = library::make_dir(&server.root().join(".lustre/lib")) {
        tracing::info!(%error, "no library directory");
    }
    if let Some(path) = ready_file {
        std::fs::write(path, "")?;
    }
    let stop = server.stop_handle();
    std::thread::spawn(move || {
        signals.wait();
        stop.store(true, Ordering::Release);
    });
    server.wait();
    Ok(())
}

fn split_setting(text: &str) -> Result<(String, String), Failure> {
    let (name, value) = text.split_once('=').ok_or_else(|| format!("`{text}`: expected NAME=VALUE"))?;
    Ok((name.to_owned(), value.to_owned()))
}

fn flags(names: &[String]) -> Result<u32, Failure> {
    let mut out = 0;
    for name in names {
        out |= match name.as_str() {
            "exists" => abi::HS_EXISTS,
            "dirty" => abi::HS_DIRTY,
            "released" => abi::HS_RELEASED,
            "archived" => abi::HS_ARCHIVED,
            "norelease" => abi::HS_NORELEASE,
            "noarchive" => abi::HS_NOARCHIVE,
            "lost" => abi::HS_LOST,
            other => return Err(format!("`{other}` is no HSM flag").into()),
        };
    }
    Ok(out)
}

/// Does something with each file; like `lfs`, goes on after an error and ends with the last one.
fn for_each(
    files: &[PathBuf],
    mut f: impl FnMut(&Client, &Path) -> Result<(), ClientError>,
) -> Result<ExitCode, Failure> {
    let mut code = ExitCode::SUCCESS;
    for file in files {
        if let Err(error) = Client::of(file).and_then(|client| f(&client, file)) {
            eprintln!("lustre-sim: {error}");
            code = ExitCode::from(error.errno().and_then(|e| u8::try_from(e).ok()).unwrap_or(1));
        }
    }
    Ok(code)
}

/// The FID that a name like `[0x200000402:0x1:0x0]` is.
fn as_fid(name: &Path) -> Option<Fid> {
    let text = name.to_str()?;
    if text.starts_with('[') { text.parse().ok() } else { None }
}

fn request(hua: u32, r: &RequestArguments, at: &Path) -> Result<ExitCode, Failure> {
    let first = &r.files[0];
    let client = if as_fid(first).is_some() { Client::of(at)? } else { Client::of(first)? };
    let mut fids = Vec::new();
    for file in &r.files {
        fids.push(match as_fid(file) {
            Some(fid) => fid,
            None => client.fid(file)?,
        });
    }
    let data = r.data.clone().into_vec();
    let flags = if r.force { abi::HSM_FORCE_ACTION } else { 0 };
    let chunk = if r.each { 1 } else { fids.len() };
    for fids in fids.chunks(chunk) {
        client.request_fids(hua, r.archive, flags, fids, &data)?;
    }
    Ok(ExitCode::SUCCESS)
}

fn import(file: &Path, archive: u32, size: u64) -> Result<(), Failure> {
    use std::os::fd::AsFd;
    use std::os::unix::fs::MetadataExt;
    let client = Client::of(file)?;
    client.fid(file)?;
    let handle = std::fs::File::options().read(true).write(true).open(file)?;
    let m = handle.metadata()?;
    let mut body = Vec::with_capacity(48);
    for word in [size, m.atime() as u64, m.mtime() as u64] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    for word in [m.atime_nsec() as u32, m.mtime_nsec() as u32, m.uid(), m.gid(), m.mode(), archive] {
        body.extend_from_slice(&word.to_ne_bytes());
    }
    client.ioctl(&file.display().to_string(), lustreapi_sys::ioctl::HSM_IMPORT, &body, handle.as_fd())?;
    Ok(())
}

/// Drops the `name=` at the start of each parameter, as `lctl get_param -n`.
fn without_names(text: &str) -> String {
    let mut out = String::new();
    for line in text.split_inclusive('\n') {
        let is_name = |name: &str| name.starts_with("mdt.") && !name.contains([' ', '[']);
        match line.split_once('=') {
            Some((name, value)) if is_name(name) => {
                if value != "\n" {
                    out.push_str(value);
                }
            }
            _ => out.push_str(line),
        }
    }
    out
}

fn print_ledger(out: &mut impl Write, ledger: &serde_json::Value) -> std::io::Result<()> {
    let empty = Vec::new();
    for entry in ledger["entries"].as_array().unwrap_or(&empty) {
        let text = |name: &str| entry[name].as_str().unwrap_or_default().to_owned();
        let end = &entry["end"];
        let errno = end["errno"].as_i64().map(|e| format!(" errno {e}")).unwrap_or_default();
        writeln!(
            out,
            "MDT{:04x} {:#x} {} {} archive {}: {}{errno}, sent {} times, {} ends accepted",
            entry["mdt"].as_u64().unwrap_or(0),
            entry["cookie"].as_u64().unwrap_or(0),
            text("fid"),
            text("action"),
            entry["archive_id"],
            text("status"),
            entry["sent"].as_array().map_or(0, Vec::len),
            entry["accepted_ends"],
        )?;
    }
    for stray in ledger["strays"].as_array().unwrap_or(&empty) {
        writeln!(out, "refused: {stray}")?;
    }
    Ok(())
}
