//! Which store is used, and what it hands over at start.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::config::{self, Redis, RedisServer, Settings, StoreKind};
use crate::hsm::Event;
use crate::hsm::effect::StoreOp;
use crate::store::redis::{self, RedisStore, Server};
use crate::store::{EmbeddedStore, PART, Recovered, Store, StoreError};

/// Longest password, in bytes.
const PASSWORD: u64 = 4096;
/// Where changes wait for redis, below the state directory.
const SPILL: &str = "redis-spill";
/// In there: which server an earlier run used.
const USED: &str = "used";

/// Why there is no store.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The embedded store, or what redis holds.
    #[error("{0} (`--state-dir DIR` puts files elsewhere, `--store none` does without a store)")]
    Store(#[from] StoreError),
    /// The server cannot be reached, or refuses us.
    #[error("{server}: {reason}; {advice}")]
    Redis {
        /// Which server.
        server: String,
        /// What it says.
        reason: String,
        /// What can be done.
        advice: &'static str,
    },
    /// The file with its password.
    #[error("redis_password_file {path}: {reason}")]
    Password {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
}

/// Where the embedded store is, and the spill of redis.
fn state_dir(settings: &Settings, fsname: &str) -> PathBuf {
    if let Some(dir) = &settings.state_dir {
        return dir.clone();
    }
    // Of several directories the service manager made, the first is ours.
    let given = std::env::var_os("STATE_DIRECTORY")
        .and_then(|dirs| std::env::split_paths(&dirs).next())
        .filter(|dir| dir.is_absolute());
    given.unwrap_or_else(|| {
        Path::new("/var/lib/coordinatool").join(config::instance(&settings.lustre, fsname))
    })
}

/// An open store that was not read yet.
pub struct Opened {
    /// The store.
    pub store: Box<dyn Store>,
    /// The directory of an embedded store whose requests are to be moved into it.
    pub embedded: Option<PathBuf>,
}

impl std::fmt::Debug for Opened {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Opened").field("store", &self.store.describe()).finish_non_exhaustive()
    }
}

/// Opens the store that the settings ask for; `None` for none.
///
/// # Errors
/// When it cannot be used.
pub fn open(settings: &Settings, fsname: &str) -> Result<Option<Opened>, OpenError> {
    let state = state_dir(settings, fsname);
    let embedded = || -> Result<_, OpenError> {
        forget_redis(&state);
        let store = EmbeddedStore::open(&state)?;
        Ok(Some(Opened { store: Box::new(store), embedded: None }))
    };
    match (settings.store, settings.redis) {
        (StoreKind::None, _) => Ok(None),
        (StoreKind::Embedded, _) | (StoreKind::Auto, Redis::Disabled) => embedded(),
        (StoreKind::Redis, _) | (StoreKind::Auto, Redis::Configured) => {
            open_redis(settings, fsname, &state)?.map(Some).map_err(|error| {
                let advice =
                    "start it, or set `redis_host` to nothing to keep requests in files of this node";
                refused(settings, &error, advice)
            })
        }
        (StoreKind::Auto, Redis::Unset) => match open_redis(settings, fsname, &state)? {
            Ok(opened) => Ok(Some(opened)),
            Err(error) if !redis::nobody_listens(&error) => {
                let advice = "set `redis_user` and `redis_password_file`, or set `redis_host` to nothing to do without";
                Err(refused(settings, &error, advice))
            }
            Err(error) if state.join(SPILL).join(USED).exists() => {
                let advice = "an earlier run kept requests there: start it, or set `redis_host` to nothing to leave \
                              them where they are";
                Err(refused(settings, &error, advice))
            }
            Err(error) => {
                tracing::warn!(
                    "no redis at {}:{} ({error}), and `redis_host` is not set: requests are kept in files of this node \
                     (set `redis_host` to nothing to silence this)",
                    settings.redis_server.host,
                    settings.redis_server.port
                );
                embedded()
            }
        },
    }
}

fn refused(settings: &Settings, error: &::redis::RedisError, advice: &'static str) -> OpenError {
    let RedisServer { host, port, .. } = &settings.redis_server;
    let server = if host.starts_with('/') { host.clone() } else { format!("{host}:{port}") };
    OpenError::Redis { server: format!("redis at {server}"), reason: error.to_string(), advice }
}

fn open_redis(
    settings: &Settings,
    fsname: &str,
    state: &Path,
) -> Result<Result<Opened, ::redis::RedisError>, OpenError> {
    let RedisServer { host, port, user, password_file, namespace } = settings.redis_server.clone();
    let password = password_file.as_deref().map(read_password).transpose()?;
    let server = Server { host, port, user, password };
    let shown = server.to_string();
    let run = crate::system::random().map_err(|source| StoreError::Io {
        store: shown.clone(),
        context: "no random number".to_owned(),
        source,
    })?;
    let options = redis::Options { server, namespace, fsname: fsname.to_owned(), run };
    let spill = state.join(SPILL);
    Ok(RedisStore::open(options, &spill)?.map(|store| {
        if let Err(error) = std::fs::write(spill.join(USED), format!("{shown}\n")) {
            tracing::debug!("{}: {error}", spill.display());
        }
        Opened { store: Box::new(store), embedded: Some(state.to_owned()) }
    }))
}

/// Says once that requests may be left in a redis that is not used any more.
fn forget_redis(state: &Path) {
    let used = state.join(SPILL).join(USED);
    let Ok(server) = std::fs::read_to_string(&used) else { return };
    tracing::warn!(
        "an earlier run kept requests in {}: they are not read now; to move them, start with `store redis` once, lock, and \
         let them end",
        server.trim_end()
    );
    let _ = std::fs::remove_file(used);
}

/// The first line of a file that nobody else may read.
fn read_password(path: &Path) -> Result<String, OpenError> {
    let wrong = |reason: String| OpenError::Password { path: path.to_owned(), reason };
    let read = || -> io::Result<(u32, u64, String)> {
        use std::io::Read as _;

        let file = std::fs::File::open(path)?;
        let about = file.metadata()?;
        let mut text = String::new();
        file.take(PASSWORD).read_to_string(&mut text)?;
        Ok((about.mode(), about.len(), text))
    };
    let (mode, len, text) = read().map_err(|error| wrong(error.to_string()))?;
    if mode & 0o077 != 0 {
        return Err(wrong(format!("others may read it (mode {:o}): chmod 600", mode & 0o777)));
    }
    if len >= PASSWORD {
        return Err(wrong(format!("longer than {PASSWORD} bytes")));
    }
    match text.lines().next() {
        Some(password) if !password.is_empty() => Ok(password.to_owned()),
        _ => Err(wrong("its first line is empty".to_owned())),
    }
}

/// Reads what an earlier run left and hands it over in parts, [`Event::RecoveryEnded`] at the end. `take` says whether it goes on.
///
/// # Errors
/// Of the store.
pub fn read(
    store: &mut dyn Store,
    embedded: Option<&Path>,
    take: &mut dyn FnMut(Event) -> bool,
) -> Result<(), StoreError> {
    let adopt = embedded.filter(|directory| EmbeddedStore::is_at(directory));
    let (mut wanted, mut kept) = (true, Vec::new());
    let found = store.recover_in_parts(&mut |requests, suspect| {
        if adopt.is_some() {
            kept.extend(requests);
        } else {
            wanted = take(Event::Recovered { requests, suspect });
        }
        wanted
    })?;
    for place in &found.quarantined {
        tracing::error!("{}: a damaged record was set aside: {place}", store.describe());
    }
    if found.requests > 0 || !found.quarantined.is_empty() {
        tracing::warn!(
            "{}: {} requests recovered, {} records set aside",
            store.describe(),
            found.requests,
            found.quarantined.len()
        );
    }
    let mut notes = store.take_notes();
    if let Some(directory) = adopt {
        adopt_embedded(directory, store, &mut kept, &mut notes)?;
        let mut kept = kept.into_iter();
        while wanted && kept.len() > 0 {
            let requests = kept.by_ref().take(PART).collect();
            wanted = take(Event::Recovered { requests, suspect: found.suspect });
        }
    }
    if !wanted {
        return Ok(());
    }
    let _ = (notes.is_empty() || take(Event::RecoveredNotes(notes))) && take(Event::RecoveryEnded);
    Ok(())
}

/// Moves what an embedded store has into `store`: an earlier run had no redis.
fn adopt_embedded(
    directory: &Path,
    store: &mut dyn Store,
    requests: &mut Vec<Recovered>,
    notes: &mut Vec<(String, String)>,
) -> Result<(), StoreError> {
    let mut embedded = EmbeddedStore::open(directory)?;
    let mut left = Vec::new();
    embedded.recover(&mut |item, mover| left.push((item, mover)))?;
    let left_notes = embedded.take_notes();
    if !left.is_empty() || !left_notes.is_empty() {
        let known: BTreeSet<_> = requests.iter().map(|(item, _)| item.key()).collect();
        let known_notes: BTreeSet<_> = notes.iter().map(|(name, _)| name.clone()).collect();
        tracing::warn!("{}: {} requests go to {}", embedded.describe(), left.len(), store.describe());
        let (mut put, mut remove) = (Vec::new(), Vec::new());
        for (item, mover) in left {
            let key = item.key();
            remove.push(StoreOp::Remove { key });
            if known.contains(&key) {
                continue;
            }
            put.push(StoreOp::Put(item.clone()));
            put.extend(mover.clone().map(|mover| StoreOp::Assign { key, mover }));
            requests.push((item, mover));
        }
        for (name, value) in left_notes {
            remove.push(StoreOp::Note { name: name.clone(), value: None });
            if !known_notes.contains(&name) {
                put.push(StoreOp::Note { name: name.clone(), value: Some(value.clone()) });
                notes.push((name, value));
            }
        }
        requests.sort_by_key(|(item, _)| item.timestamp);
        store.append(&put)?;
        store.sync()?;
        embedded.append(&remove)?;
        embedded.sync()?;
    }
    embedded.close()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_password_is_read_only_from_a_file_that_nobody_else_may_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("password");
        let read = |text: &str, mode: u32| {
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, PermissionsExt::from_mode(mode)).unwrap();
            read_password(&path).map_err(|error| error.to_string())
        };
        assert_eq!(read("secret word\nmore\n", 0o600), Ok("secret word".to_owned()));
        assert_eq!(read("x", 0o400), Ok("x".to_owned()));
        for (text, mode, want) in
            [("x", 0o640, "chmod 600"), ("\nx", 0o600, "empty"), (&"x".repeat(5000), 0o600, "longer")]
        {
            let error = read(text, mode).unwrap_err();
            assert!(error.contains(want) && !error.contains("xx"), "{error}");
        }
        assert!(read_password(&directory.path().join("missing")).is_err());
    }
}
