//! What movers did, by lines that they added to one file: the order of lines is the order of what happened.
//!
//! A copytool adds `received` when it takes up an action, `begun` when its begin has succeeded, and `ending` before its end
//! is called; nothing of the file is touched after that. The test adds `killed` while all processes of the mover stand still.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};

use harness::{Value, json};

/// A request: cookie, FID without brackets, action in words.
pub type Key = (u64, String, String);

/// How far a mover is with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Received,
    Begun,
}

/// Adds lines.
#[derive(Debug, Clone)]
pub struct Marker(PathBuf);

impl Marker {
    /// A step of a mover.
    pub fn add(&self, step: &str, mover: &str, key: &Key) {
        let (cookie, fid, action) = key;
        self.line(&json!({"step": step, "mover": mover, "action": action, "fid": fid, "cookie": cookie}));
    }

    /// The mover stands still and will be killed.
    pub fn killed(&self, mover: &str) {
        self.line(&json!({"step": "killed", "mover": mover}));
    }

    fn line(&self, value: &Value) {
        let mut file = File::options().append(true).create(true).open(&self.0).expect("marks can be written");
        file.write_all(format!("{value}\n").as_bytes()).expect("marks can be written");
    }
}

/// All that was read so far, and what was wrong with it.
#[derive(Debug)]
pub struct Marks {
    path: PathBuf,
    offset: u64,
    rest: Vec<u8>,
    /// Most of each action that a mover may have at the same time.
    limits: BTreeMap<&'static str, usize>,
    open: BTreeMap<(String, Key), Stage>,
    /// Runs that touch nothing any more, and whose end the MDT may not have heard.
    ending: BTreeSet<(String, Key)>,
    /// How often a request was begun.
    begun: BTreeMap<Key, usize>,
    received: BTreeSet<Key>,
    interrupted: BTreeSet<Key>,
    lines: usize,
    by_copytools: usize,
    most: usize,
    wrong: Vec<String>,
}

impl Marks {
    /// Of this file.
    pub fn new(path: &Path, limits: &[(&'static str, usize)]) -> Self {
        Self {
            path: path.to_owned(),
            offset: 0,
            rest: Vec::new(),
            limits: limits.iter().copied().collect(),
            open: BTreeMap::new(),
            ending: BTreeSet::new(),
            begun: BTreeMap::new(),
            received: BTreeSet::new(),
            interrupted: BTreeSet::new(),
            lines: 0,
            by_copytools: 0,
            most: 0,
            wrong: Vec::new(),
        }
    }

    /// Adds lines to the same file.
    pub fn marker(&self) -> Marker {
        Marker(self.path.clone())
    }

    /// Reads what was added.
    pub fn read(&mut self) {
        let Ok(mut file) = File::open(&self.path) else { return };
        file.seek(SeekFrom::Start(self.offset)).expect("the file of marks");
        let mut new = Vec::new();
        file.read_to_end(&mut new).expect("the file of marks");
        self.offset += new.len() as u64;
        self.rest.extend_from_slice(&new);
        let whole = self.rest.iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let lines: Vec<u8> = self.rest.drain(..whole).collect();
        for line in lines.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
            let value = serde_json::from_slice(line).expect("a mark is JSON");
            self.take(&value);
        }
    }

    fn take(&mut self, mark: &Value) {
        self.lines += 1;
        self.by_copytools += usize::from(!mark["pid"].is_null());
        let text = |name: &str| mark[name].as_str().unwrap_or_default().to_owned();
        let (step, mover) = (text("step"), text("mover"));
        if step == "killed" {
            let gone: Vec<_> = self.open.keys().filter(|(of, _)| *of == mover).cloned().collect();
            for run in gone {
                self.open.remove(&run);
                self.interrupted.insert(run.1);
            }
            let unheard = self.ending.iter().filter(|(of, _)| *of == mover).map(|(_, key)| key.clone());
            self.interrupted.extend(unheard);
            self.ending.retain(|(of, _)| *of != mover);
            return;
        }
        let key = (mark["cookie"].as_u64().expect("a cookie"), text("fid"), text("action"));
        let run = (mover.clone(), key.clone());
        match step.as_str() {
            "received" => {
                self.received.insert(key.clone());
                if self.open.insert(run, Stage::Received).is_some() {
                    self.wrong(format!("{mover} has {key:?} twice"));
                }
                let same =
                    self.open.keys().filter(|(of, (_, _, action))| *of == mover && *action == key.2).count();
                self.most = self.most.max(same);
                if self.limits.get(key.2.as_str()).is_some_and(|&limit| same > limit) {
                    self.wrong(format!("{mover} has {same} of {}", key.2));
                }
            }
            "begun" => {
                let others = |(of, other): &(String, Key)| *of != mover && *other == key;
                let also: Vec<_> =
                    self.open.iter().filter(|(run, stage)| others(run) && **stage == Stage::Begun).collect();
                if !also.is_empty() {
                    let text = format!("{key:?} begins on {mover} while {also:?}");
                    self.wrong(text);
                }
                self.open.insert(run, Stage::Begun);
                *self.begun.entry(key).or_default() += 1;
            }
            "ending" | "dropped" => {
                self.open.remove(&run);
                // The mover that is spoken by hand cannot be killed in between.
                if step == "ending" && !mark["pid"].is_null() {
                    self.ending.insert(run);
                }
            }
            "ended" => {
                self.ending.remove(&run);
            }
            other => self.wrong(format!("a mark {other:?}")),
        }
    }

    fn wrong(&mut self, what: String) {
        self.wrong.push(format!("mark {}: {what}", self.lines));
    }

    /// How many things copytools have done: their lines have a process id.
    pub fn done_by_copytools(&self) -> usize {
        self.by_copytools
    }

    /// The most requests of one action that one mover had at the same time.
    pub fn most_at_once(&self) -> usize {
        self.most
    }

    /// What must not have happened.
    pub fn wrong_so_far(&self) -> &[String] {
        &self.wrong
    }

    /// Requests that run, with the mover of each.
    pub fn running(&self) -> impl Iterator<Item = (&str, &Key)> {
        self.open.keys().map(|(mover, key)| (mover.as_str(), key))
    }

    /// Whether some mover was ever given it.
    pub fn was_received(&self, key: &Key) -> bool {
        self.received.contains(key)
    }

    /// How often it was begun.
    pub fn times_begun(&self, key: &Key) -> usize {
        self.begun.get(key).copied().unwrap_or(0)
    }

    /// Whether a mover was killed while it had it.
    pub fn was_interrupted(&self, key: &Key) -> bool {
        self.interrupted.contains(key)
    }
}
