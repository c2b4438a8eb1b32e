//! Commands of `lustre-sim`.

use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use lustreapi_sys::Fid;
use serde_json::{Value, json};

use super::calls::Server;
use super::state::{Shared, State};
use super::tree::metadata_of;
use crate::control::{ClientStatus, Command, MdtStatus, Status, Until};
use crate::mdt::{Action, Answer, Call, ClientId, Errno, FsEvent, RecordStatus};
use std::os::fd::AsFd;

/// What a command answers: JSON, or an error and what was wrong.
pub type Reply = Result<Value, (Errno, String)>;

fn wrong(error: Errno, text: impl Into<String>) -> (Errno, String) {
    (error, text.into())
}

fn parse_fid(text: &str) -> Result<Fid, (Errno, String)> {
    text.parse().map_err(|e: lustreapi_sys::ParseFidError| wrong(Errno::INVAL, e.to_string()))
}

fn client_of_uuid(state: &State, uuid: &str) -> Result<ClientId, (Errno, String)> {
    let found = state.clients.iter().find(|(_, client)| client.uuid == uuid);
    found.map(|(id, _)| *id).ok_or_else(|| wrong(Errno::NOENT, format!("no client has the uuid `{uuid}`")))
}

/// Carries out a command. `number` is the client number of who sent it.
pub fn execute(
    shared: &Shared,
    server: &Server<'_>,
    command: Command,
    number: u32,
    fds: &[OwnedFd],
) -> Reply {
    let target = || fds.first().ok_or_else(|| wrong(Errno(libc::EBADF as u16), "the command needs a file"));
    match command {
        Command::Status => Ok(to_value(&status(&shared.lock()))?),
        Command::Ledger => {
            let mut state = shared.lock();
            state.sync();
            let entries: Vec<_> = state.fs.ledger().collect();
            let strays: Vec<_> = state.fs.mdts().iter().flat_map(|mdt| &mdt.ledger().strays).collect();
            Ok(json!({ "entries": entries, "strays": strays }))
        }
        Command::Calls => Ok(to_value(&shared.lock().calls)?),
        Command::GetParam { pattern } => {
            let mut state = shared.lock();
            state.feed(FsEvent::Tick);
            let text = state.fs.get_param(&pattern);
            text.map(Value::String).map_err(|e| wrong(e, format!("param_path '{pattern}': {e}")))
        }
        Command::SetParam { pattern, value } => {
            let result = shared.lock().set_param(&pattern, &value);
            result.map(|()| Value::Null).map_err(|e| wrong(e, format!("setting {pattern}={value}: {e}")))
        }
        Command::StopMdt { index } => mdt_event(shared, index, FsEvent::StopMdt(index)),
        Command::StartMdt { index } => mdt_event(shared, index, FsEvent::StartMdt(index)),
        Command::DirectoryMdt { index } => {
            let metadata = metadata_of(target()?.as_fd()).map_err(|e| wrong(Errno::IO, e.to_string()))?;
            let mut state = shared.lock();
            if index as usize >= state.fs.mdts().len() {
                return Err(wrong(Errno::INVAL, format!("there is no MDT {index}")));
            }
            if !metadata.is_dir() {
                return Err(wrong(Errno(libc::ENOTDIR as u16), "not a directory"));
            }
            state.tree.set_directory_mdt(&metadata, index);
            Ok(Value::Null)
        }
        Command::Adopt { fid } => {
            let wanted = fid.as_deref().map(parse_fid).transpose()?;
            let fid = shared.lock().fid_of(target()?.as_fd(), wanted);
            fid.map(|fid| Value::String(fid.to_string())).map_err(|e| wrong(e, e.to_string()))
        }
        Command::Access => {
            let fd = target()?.as_fd();
            let pending = {
                let mut state = shared.lock();
                let client = state.client_of(number, Some(fd));
                let fid = state.fid_of(fd, None).map_err(|e| wrong(e, e.to_string()))?;
                state.begin_call(client, &crate::mdt::Cred::root(), Call::Access { fid })
            };
            match server.finish(pending) {
                Ok(Answer::Done | Answer::DataVersion(_)) => Ok(Value::Null),
                Ok(_) => Err(wrong(Errno::PROTO, "unexpected answer")),
                Err(e) => Err(wrong(e, e.to_string())),
            }
        }
        Command::Wait { until, timeout_ms } => wait(shared, &until, Duration::from_millis(timeout_ms)),
        Command::Redeliver => Ok(json!(shared.lock().redeliver())),
        Command::Evict { uuid, mdt } => {
            let mut state = shared.lock();
            let client = client_of_uuid(&state, &uuid)?;
            state.feed(FsEvent::Evict { client, mdt });
            Ok(Value::Null)
        }
        Command::Unmount { uuid } => {
            let mut state = shared.lock();
            let client = client_of_uuid(&state, &uuid)?;
            state.feed(FsEvent::Unmount { client });
            // It may be mounted again; whoever asks next finds it so.
            state.clients.remove(&client);
            Ok(Value::Null)
        }
        Command::Advance { seconds } => {
            let mut state = shared.lock();
            state.clock.advance(Duration::from_secs(seconds));
            state.feed(FsEvent::Tick);
            Ok(Value::Null)
        }
        Command::Faults(faults) => {
            shared.lock().faults = faults;
            Ok(Value::Null)
        }
        Command::Sync => {
            let mut state = shared.lock();
            state.sync();
            state.feed(FsEvent::Tick);
            Ok(Value::Null)
        }
        // Carried out by the connection's thread after the answer.
        Command::Shutdown => Ok(Value::Null),
    }
}

fn to_value<T: serde::Serialize>(value: &T) -> Reply {
    serde_json::to_value(value).map_err(|e| wrong(Errno::IO, e.to_string()))
}

fn mdt_event(shared: &Shared, index: u32, event: FsEvent) -> Reply {
    let mut state = shared.lock();
    if index as usize >= state.fs.mdts().len() {
        return Err(wrong(Errno::INVAL, format!("there is no MDT {index}")));
    }
    state.feed(event);
    Ok(Value::Null)
}

fn status(state: &State) -> Status {
    let clients = state.clients.iter().map(|(id, client)| {
        let (queued_lists, pipe_full) = client.pipe.as_ref().map_or((0, false), |pipe| pipe.backlog());
        ClientStatus {
            client: id.0,
            uuid: client.uuid.clone(),
            mount: client.mount.as_ref().map(|m| m.display().to_string()),
            registered: client.pipe.is_some(),
            queued_lists,
            pipe_full,
        }
    });
    let mdts = state.fs.mdts().iter().map(|mdt| MdtStatus {
        name: mdt.name(),
        up: mdt.is_up(),
        coordinator: mdt.cdt_state().name().to_owned(),
    });
    Status {
        fsname: state.fs.mdts().first().map(|mdt| mdt.config().fsname.clone()).unwrap_or_default(),
        mdts: mdts.collect(),
        clients: clients.collect(),
        files: state.tree.len(),
        blocked_calls: state.blocked(),
        wall: state.clock.now().wall,
        faults: state.faults.clone(),
    }
}

fn wait(shared: &Shared, until: &Until, timeout: Duration) -> Reply {
    let fids = match until {
        Until::State { fids, .. } => fids.iter().map(|fid| parse_fid(fid)).collect::<Result<Vec<_>, _>>()?,
        _ => Vec::new(),
    };
    let start = Instant::now();
    let mut state = shared.lock();
    loop {
        state.sync();
        if holds(&state, until, &fids) {
            return Ok(Value::Null);
        }
        let left = timeout.saturating_sub(start.elapsed());
        if left.is_zero() {
            return Err(wrong(Errno(libc::ETIMEDOUT as u16), "timed out"));
        }
        state = shared.wait(state, left.min(Duration::from_millis(50)));
    }
}

fn holds(state: &State, until: &Until, fids: &[Fid]) -> bool {
    match until {
        Until::State { set, clear, .. } => fids.iter().all(|fid| {
            state
                .fs
                .file(*fid)
                .is_some_and(|file| file.hsm.flags & set == *set && file.hsm.flags & clear == 0)
        }),
        Until::Ended { at_least } => {
            let mut count = 0;
            let all = state.fs.ledger().inspect(|_| count += 1).all(|entry| entry.end.is_some());
            all && count >= *at_least
        }
        Until::Started { at_least } => {
            let started =
                state.fs.ledger().filter(|e| e.status == RecordStatus::Started && e.action != Action::Cancel);
            started.count() >= *at_least
        }
        Until::Agents { at_least } => {
            let attached = state.clients.values().filter(|client| client.pipe.is_some()).count();
            attached >= *at_least
                && state.fs.mdts().first().is_some_and(|mdt| mdt.agents().len() >= *at_least)
        }
        Until::NoAgents => state.clients.values().all(|client| client.pipe.is_none()),
        Until::Calls { name, at_least } => {
            state.calls.iter().filter(|call| call.name == *name).count() >= *at_least
        }
    }
}
