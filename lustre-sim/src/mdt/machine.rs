//! One MDT.

use std::collections::BTreeMap;

use lustreapi_sys::Fid;

use super::{Agent, CdtState, Effect, Event, File, Ledger, MdtConfig, Params, Record, Running, Time};

/// One metadata target: files, log, agents and coordinator.
///
/// Feed it events with the time; carry out the effects; call again at [`Mdt::next_deadline`] at the latest.
#[derive(Debug, Clone)]
pub struct Mdt {
    config: MdtConfig,
    files: BTreeMap<Fid, File>,
}

impl Mdt {
    /// An MDT that has just been started for the first time: its first cookie is the wall clock's seconds and one.
    pub fn new(config: MdtConfig, now: Time) -> Self {
        let _ = now;
        Mdt { config, files: BTreeMap::new() }
    }

    /// Takes one event and appends what is to be done. `now` never goes back (its monotonic part).
    pub fn handle(&mut self, now: Time, event: Event, effects: &mut Vec<Effect>) {
        let _ = (now, event, effects);
        todo!()
    }

    /// When [`Event::Tick`] should be given at the latest (monotonic nanoseconds). `None` while nothing is planned.
    pub fn next_deadline(&self) -> Option<u64> {
        todo!()
    }

    /// Its name: `testfs0-MDT0000`.
    pub fn name(&self) -> String {
        format!("{}-MDT{:04x}", self.config.fsname, self.config.index)
    }

    /// What it was made with.
    pub fn config(&self) -> &MdtConfig {
        &self.config
    }

    /// Whether it is up.
    pub fn is_up(&self) -> bool {
        todo!()
    }

    /// State of the coordinator.
    pub fn cdt_state(&self) -> CdtState {
        todo!()
    }

    /// Parameters.
    pub fn params(&self) -> &Params {
        todo!()
    }

    /// A file.
    pub fn file(&self, fid: Fid) -> Option<&File> {
        self.files.get(&fid)
    }

    /// All files in order of their FIDs.
    pub fn files(&self) -> impl Iterator<Item = (Fid, &File)> {
        self.files.iter().map(|(fid, file)| (*fid, file))
    }

    /// The log in order.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        std::iter::empty()
    }

    /// The requests in memory, in the order in which they were sent.
    pub fn running(&self) -> impl Iterator<Item = &Running> {
        std::iter::empty()
    }

    /// The agents in the order in which they registered.
    pub fn agents(&self) -> &[Agent] {
        todo!()
    }

    /// What really happened.
    pub fn ledger(&self) -> &Ledger {
        todo!()
    }

    /// Whether a restore of this file is registered: readers of it block.
    pub fn restoring(&self, fid: Fid) -> bool {
        let _ = fid;
        todo!()
    }

    /// `hsm/NAME` or `hsm_control` as the file reads, newlines included. `None` for names that do not exist.
    pub fn param(&self, name: &str) -> Option<String> {
        let _ = name;
        todo!()
    }
}
