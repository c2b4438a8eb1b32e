//! What we keep about a namespace: for which file system it is, who wrote last, and how that ended.

use std::collections::HashMap;
use std::fmt;

use redis::{Pipeline, RedisError, Value, from_redis_value};

use super::link::{Link, Server};
use super::names::{CANARY, Hash, Names};
use crate::store::StoreError;

/// Version of our keys.
const VERSION: u64 = 1;

const FIELD_VERSION: &str = "version";
const FIELD_FSNAME: &str = "fsname";
const FIELD_STAMP: &str = "stamp";
const FIELD_CLEAN: &str = "clean";
const FIELD_CLEAN_ON: &str = "clean_on";

/// Which commit of which run was the last one.
///
/// It is read and replaced in each transaction, so that a server that lost something is noticed at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stamp {
    /// Counts the runs on this namespace.
    pub generation: u64,
    /// A random number for each run.
    pub run: u64,
    /// Counts the commits of a run.
    pub sequence: u64,
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:016x} {}", self.generation, self.run, self.sequence)
    }
}

impl Stamp {
    /// Reads what [`fmt::Display`] wrote.
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.split(' ');
        let generation = words.next()?.parse().ok()?;
        let run = u64::from_str_radix(words.next()?, 16).ok()?;
        let sequence = words.next()?.parse().ok()?;
        words.next().is_none().then_some(Self { generation, run, sequence })
    }

    /// Whether it is of another daemon than `ours`, one that began when or after we did: what it wrote is not ours to replace.
    pub fn is_strange_to(self, ours: Self) -> bool {
        self.generation > ours.generation || self.generation == ours.generation && self.run != ours.run
    }

    /// The same run at another commit.
    #[must_use]
    pub fn at(self, sequence: u64) -> Self {
        Self { sequence, ..self }
    }
}

/// What the server says.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Meta {
    /// Version of our keys, if there are any.
    pub version: Option<String>,
    /// Name of the file system.
    pub fsname: Option<String>,
    /// The last commit.
    pub stamp: Option<Stamp>,
    /// The last commit at a clean stop.
    pub clean: Option<Stamp>,
    /// The server's process at that time.
    pub clean_on: Option<String>,
    /// Whether [`CANARY`] is among C's assignments.
    pub canary: bool,
}

impl Meta {
    /// Asks the server.
    ///
    /// # Errors
    /// Of the connection, or where a key has another type.
    pub fn read(link: &mut Link, names: &Names) -> Result<Self, RedisError> {
        let mut pipe = redis::pipe();
        pipe.cmd("HGETALL").arg(names.meta());
        pipe.cmd("HEXISTS").arg(names.hash(Hash::Assigned)).arg(CANARY);
        let mut results = link.send(&pipe)?.into_iter();
        let mut next = || results.next().unwrap_or(Value::Nil);
        let fields: HashMap<String, String> = from_redis_value(next())?;
        let canary: bool = from_redis_value(next())?;
        let stamp = |field| fields.get(field).and_then(|text: &String| Stamp::parse(text));
        Ok(Self {
            version: fields.get(FIELD_VERSION).cloned(),
            fsname: fields.get(FIELD_FSNAME).cloned(),
            stamp: stamp(FIELD_STAMP),
            clean: stamp(FIELD_CLEAN),
            clean_on: fields.get(FIELD_CLEAN_ON).cloned(),
            canary,
        })
    }

    /// The last commit, of a server that has all that came before it. One that was emptied lacks what is written only when a
    /// run begins, also when a commit came to it afterwards.
    pub fn stamp_of_all(&self) -> Option<Stamp> {
        self.stamp.filter(|_| self.version.is_some() && self.fsname.is_some())
    }

    /// Whether we may use the namespace.
    ///
    /// # Errors
    /// Says why not.
    pub fn check(&self, server: &Server, names: &Names, fsname: &str) -> Result<(), StoreError> {
        let no = |reason: String| Err(StoreError::Incompatible { store: server.to_string(), reason });
        if let Some(version) = &self.version
            && version.parse::<u64>().map_or(true, |version| version > VERSION)
        {
            return no(format!(
                "`{}` has version {version}, this program knows up to {VERSION}: use the newer program",
                names.meta()
            ));
        }
        match &self.fsname {
            Some(other) if other != fsname => no(format!(
                "the keys `{}_...` hold requests of the file system `{other}`, not of `{fsname}`: give each its own \
                 `redis_namespace` (or, if it was renamed, `HDEL {} fsname`)",
                names.namespace(),
                names.meta()
            )),
            _ => Ok(()),
        }
    }

    /// Whether the last run was ours and stopped cleanly, and no C version ran since. `process`: the server's, as
    /// [`process`] says. Another one than then may have lost all that was written since, and with it that a run began.
    pub fn is_clean(&self, process: Option<&str>) -> bool {
        let same = process.is_some() && self.clean_on.as_deref() == process;
        self.canary && self.clean.is_some() && self.clean == self.stamp && same
    }
}

/// What the server's process calls itself: a name that each start of a server draws anew. `None` if we may not ask.
///
/// # Errors
/// Of the connection.
pub fn process(link: &mut Link) -> Result<Option<String>, RedisError> {
    match link.ask::<String>(redis::cmd("INFO").arg("server")) {
        Ok(info) => Ok(run_id(&info)),
        Err(error) if error.is_io_error() => Err(error),
        Err(_) => Ok(None),
    }
}

fn run_id(info: &str) -> Option<String> {
    let id = info.lines().find_map(|line| line.trim_end().strip_prefix("run_id:"))?;
    (!id.is_empty()).then(|| id.to_owned())
}

/// Adds the command that reads the stamp.
pub fn read_stamp(names: &Names, pipe: &mut Pipeline) {
    pipe.cmd("HGET").arg(names.meta()).arg(FIELD_STAMP);
}

/// The stamp that the first command of a transaction read.
pub fn stamp_read(results: Vec<Value>) -> Option<Stamp> {
    let text: Option<String> = from_redis_value(results.into_iter().next()?).ok()?;
    Stamp::parse(&text?)
}

/// Adds the commands that read [`Meta::stamp_of_all`].
pub fn read_stamp_of_all(names: &Names, pipe: &mut Pipeline) {
    read_stamp(names, pipe);
    for field in [FIELD_VERSION, FIELD_FSNAME] {
        pipe.cmd("HEXISTS").arg(names.meta()).arg(field);
    }
}

/// What these commands read.
pub fn stamp_of_all_read(results: Vec<Value>) -> Option<Stamp> {
    let is_there = |value: &Value| matches!(value, Value::Int(1));
    let all = results.get(1..3).is_some_and(|fields| fields.iter().all(is_there));
    stamp_read(results).filter(|_| all)
}

/// Adds the command that writes the stamp.
pub fn write_stamp(names: &Names, stamp: Stamp, pipe: &mut Pipeline) {
    pipe.cmd("HSET").arg(names.meta()).arg(FIELD_STAMP).arg(stamp.to_string());
}

/// Adds the commands that take the namespace over.
pub fn write_all(names: &Names, fsname: &str, stamp: Stamp, pipe: &mut Pipeline) {
    pipe.cmd("HSET").arg(names.meta());
    pipe.arg(FIELD_VERSION).arg(VERSION).arg(FIELD_FSNAME).arg(fsname);
    pipe.arg(FIELD_STAMP).arg(stamp.to_string());
    pipe.cmd("HDEL").arg(names.meta()).arg(FIELD_CLEAN).arg(FIELD_CLEAN_ON);
    pipe.cmd("HDEL").arg(names.hash(Hash::Assigned)).arg(CANARY);
}

/// Adds the commands that note a clean stop, on this process of the server.
pub fn write_clean(names: &Names, stamp: Stamp, process: Option<&str>, pipe: &mut Pipeline) {
    pipe.cmd("HSET").arg(names.meta()).arg(FIELD_CLEAN).arg(stamp.to_string());
    if let Some(process) = process {
        pipe.arg(FIELD_CLEAN_ON).arg(process);
    }
    let value = format!("coordinatool-{:016x}", stamp.run);
    pipe.cmd("HSET").arg(names.hash(Hash::Assigned)).arg(CANARY).arg(value);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_round_trip() {
        let stamp = Stamp { generation: 3, run: u64::MAX - 1, sequence: 77 };
        assert_eq!(Stamp::parse(&stamp.to_string()), Some(stamp));
        for bad in ["", "1", "1 2", "1 g 3", "1 2 3 4", "-1 2 3", "1  2 3"] {
            assert_eq!(Stamp::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn other_file_systems_and_newer_versions_are_refused() {
        let server = Server { host: "h".into(), port: 1, user: None, password: None };
        let names = Names::new("coordinatool");
        let meta = |version: Option<&str>, fsname: Option<&str>| Meta {
            version: version.map(str::to_owned),
            fsname: fsname.map(str::to_owned),
            ..Meta::default()
        };
        let cases = [
            (meta(None, None), None),
            (meta(Some("1"), Some("lus")), None),
            (meta(Some("2"), Some("lus")), Some("version 2")),
            (meta(Some("x"), None), Some("version x")),
            (meta(Some("1"), Some("other")), Some("`redis_namespace`")),
        ];
        for (meta, want) in cases {
            let got = meta.check(&server, &names, "lus").err().map(|error| error.to_string());
            assert_eq!(got.is_some(), want.is_some(), "{got:?}");
            assert!(want.is_none_or(|want| got.unwrap_or_default().contains(want)));
        }
    }

    #[test]
    fn a_stamp_on_a_server_that_was_emptied_stands_for_nothing() {
        let stamp = Stamp { generation: 1, run: 2, sequence: 3 };
        let (version, fsname) = (Some("1".to_owned()), Some("lus".to_owned()));
        let meta = Meta { version, fsname, stamp: Some(stamp), ..Meta::default() };
        assert_eq!(meta.stamp_of_all(), Some(stamp));
        assert_eq!(Meta { version: None, ..meta.clone() }.stamp_of_all(), None);
        assert_eq!(Meta { fsname: None, ..meta }.stamp_of_all(), None);
        let read = |version, fsname| {
            let text = Value::BulkString(stamp.to_string().into_bytes());
            stamp_of_all_read(vec![text, Value::Int(version), Value::Int(fsname)])
        };
        assert_eq!((read(1, 1), read(1, 0), read(0, 1)), (Some(stamp), None, None));
    }

    #[test]
    fn a_stop_is_clean_only_as_long_as_nobody_else_wrote() {
        let stamp = Stamp { generation: 1, run: 2, sequence: 3 };
        let process = Some("a1");
        let clean = Meta {
            stamp: Some(stamp),
            clean: Some(stamp),
            clean_on: Some("a1".into()),
            canary: true,
            ..Meta::default()
        };
        assert!(clean.is_clean(process));
        assert!(!Meta { canary: false, ..clean.clone() }.is_clean(process), "C removes it when it starts");
        assert!(!Meta { stamp: Some(stamp.at(4)), ..clean.clone() }.is_clean(process));
        assert!(!Meta { stamp: None, clean: None, ..clean.clone() }.is_clean(process));
        // It may have forgotten what was written since.
        assert!(!clean.is_clean(Some("b2")), "another process of the server");
        assert!(!clean.is_clean(None) && !Meta { clean_on: None, ..clean }.is_clean(None), "nobody knows");
    }

    #[test]
    fn the_servers_process_is_read_from_what_it_says_of_itself() {
        assert_eq!(
            run_id("# Server\r\nredis_version:7.0.15\r\nrun_id:0f3a\r\ntcp_port:1\r\n"),
            Some("0f3a".into())
        );
        assert_eq!(run_id("# Server\r\nrun_id:\r\n"), None);
        assert_eq!(run_id(""), None);
    }
}
