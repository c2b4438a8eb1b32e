//! Reporting files: what users read about their requests. The lines and the life of a file are those of C 0.4.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Coordinator;
use super::effect::{Effect, Effects};
use super::event::Done;
use super::hints::report_name;
use super::index::NIL;
use super::queues::Place;
use super::requests::{BOOKMARKED, Handle, Kind, REPORTED};
use super::timers::Timer;

/// A reporting file in use.
#[derive(Debug, Default)]
struct File {
    name: String,
    /// Requests that report to it.
    refs: u64,
    /// Intervals until it is removed, once no request reports to it.
    left: u8,
    serial: u32,
}

/// Requests whose progress is being reported.
#[derive(Debug, Default)]
struct Walk {
    /// Queues still to come: class and the name to give.
    classes: VecDeque<(u32, String)>,
    name: String,
    at: Handle,
    position: u64,
    totals: BTreeMap<String, u64>,
    /// Requests that came later are left out.
    up_to: u64,
    found: bool,
}

/// All reporting files.
#[derive(Debug, Default)]
pub(super) struct Reports {
    files: Vec<File>,
    free: Vec<u32>,
    names: BTreeMap<String, u32>,
    /// Files that no request reports to.
    ended: BTreeSet<u32>,
    /// Files that some do.
    in_use: u64,
    serial: u32,
    walk: Option<Walk>,
}

/// No reporting file.
pub(super) const NO_REPORT: u64 = u64::MAX;

impl Reports {
    fn intern(&mut self, name: &str) -> u64 {
        let id = match self.names.get(name) {
            Some(&id) => id,
            None => {
                self.serial = self.serial.wrapping_add(1);
                let file = File { name: name.to_owned(), serial: self.serial, ..File::default() };
                let id = match self.free.pop() {
                    Some(id) => {
                        self.files[id as usize] = file;
                        id
                    }
                    None => {
                        self.files.push(file);
                        self.files.len() as u32 - 1
                    }
                };
                self.names.insert(name.to_owned(), id);
                id
            }
        };
        u64::from(id) << 32 | u64::from(self.files[id as usize].serial)
    }

    fn get(&mut self, report: u64) -> Option<(u32, &mut File)> {
        if report == NO_REPORT {
            return None;
        }
        let id = (report >> 32) as u32;
        let file = self.files.get_mut(id as usize)?;
        (file.serial == report as u32).then_some((id, file))
    }

    fn forget(&mut self, id: u32) -> String {
        let file = std::mem::take(&mut self.files[id as usize]);
        self.names.remove(&file.name);
        self.ended.remove(&id);
        self.free.push(id);
        file.name
    }

    /// The request under the walk's cursor leaves its list. Returns whether the cursor went on to `next`.
    pub(super) fn move_bookmark(&mut self, handle: Handle, next: Handle) -> bool {
        match &mut self.walk {
            Some(walk) if walk.at == handle => {
                walk.at = next;
                true
            }
            _ => false,
        }
    }
}

impl Coordinator {
    /// Counts a new request in its reporting file, if it has one.
    pub(super) fn report_join(&mut self, handle: Handle) {
        let Some(prefix) = &self.config.reporting_hint else {
            return;
        };
        let data = self.requests.at(handle).data;
        let mut report = self.data.at(data).report;
        if self.reports.get(report).is_none() {
            let Some(name) = report_name(&self.data.at(data).bytes, prefix) else {
                return;
            };
            report = self.reports.intern(name);
            self.data.at_mut(data).report = report;
        }
        let Some((id, file)) = self.reports.get(report) else {
            return;
        };
        file.refs += 1;
        if file.refs == 1 {
            self.reports.in_use += 1;
            self.reports.ended.remove(&id);
        }
        self.requests.at_mut(handle).set(REPORTED, true);
        self.arm_report();
    }

    fn arm_report(&mut self) {
        if !self.config.reporting_interval.is_zero()
            && !self.timers.is_set(Timer::Report)
            && self.reports.walk.is_none()
        {
            self.timers.set(Timer::Report, self.now.mono + self.config.reporting_interval);
        }
    }

    /// A request with this data has ended.
    pub(super) fn report_ended(&mut self, data: u32) {
        let report = self.data.at(data).report;
        let Some((id, file)) = self.reports.get(report) else {
            return;
        };
        file.refs -= 1;
        if file.refs > 0 {
            return;
        }
        file.left = 2;
        self.reports.in_use -= 1;
        if self.config.reporting_interval.is_zero() {
            self.reports.forget(id);
        } else {
            self.reports.ended.insert(id);
            self.arm_report();
        }
    }

    fn report(&mut self, handle: Handle, line: impl FnOnce(&Self) -> String, effects: &mut Effects) {
        if !self.requests.at(handle).has(REPORTED) {
            return;
        }
        let report = self.data.at(self.requests.at(handle).data).report;
        let line = line(self);
        if let Some((_, file)) = self.reports.get(report) {
            effects.visible.push(Effect::Report { name: file.name.clone(), line });
        }
    }

    pub(super) fn report_new(&mut self, handle: Handle, effects: &mut Effects) {
        self.report(handle, |core| format!("new {}", core.requests.dfid(handle)), effects);
    }

    /// `assign`: placed in the queue of one mover.
    pub(super) fn report_assign(&mut self, handle: Handle, effects: &mut Effects) {
        let class = self.requests.at(handle).class;
        if let Place::Host(host) = self.classes.at(class).key.place {
            let line =
                |core: &Self| format!("assign {} {}", core.requests.dfid(handle), core.hosts.at(host).name);
            self.report(handle, line, effects);
        }
    }

    /// `sent`, after `assign` for what any mover of a mapping could have taken.
    pub(super) fn report_sent(&mut self, handle: Handle, mover: u32, effects: &mut Effects) {
        let class = self.requests.at(handle).class;
        if let Place::Set(_) = self.classes.at(class).key.place {
            let line =
                |core: &Self| format!("assign {} {}", core.requests.dfid(handle), core.movers.at(mover).id);
            self.report(handle, line, effects);
        }
        let line = |core: &Self| format!("sent {} {}", core.requests.dfid(handle), core.movers.at(mover).id);
        self.report(handle, line, effects);
    }

    pub(super) fn report_done(&mut self, handle: Handle, done: &Done, effects: &mut Effects) {
        self.report(handle, |_| format!("done {} {}", done.dfid, done.status), effects);
    }

    pub(super) fn report_cancel(&mut self, handle: Handle, effects: &mut Effects) {
        self.report(handle, |core| format!("cancel {}", core.requests.dfid(handle)), effects);
    }

    /// An interval is over: reports on the restores that wait and removes files without requests.
    pub(super) fn report_interval(&mut self, effects: &mut Effects) {
        for id in self.reports.ended.clone() {
            let file = &mut self.reports.files[id as usize];
            file.left -= 1;
            if file.left == 0 {
                let name = self.reports.forget(id);
                effects.visible.push(Effect::RemoveReport { name });
            }
        }
        let mut walk = Walk {
            at: NIL,
            up_to: self.sequence(),
            found: !self.reports.ended.is_empty(),
            ..Walk::default()
        };
        if self.reports.in_use > 0 {
            for &(place, kind, class) in &self.shown {
                if kind != Kind::Restore as u8 {
                    continue;
                }
                let name = match place {
                    Place::Host(host) => self.hosts.at(host).name.to_string(),
                    Place::Any | Place::Set(_) => "global_queue".to_owned(),
                };
                *walk.totals.entry(name.clone()).or_insert(0) += u64::from(self.classes.at(class).list.len);
                walk.classes.push_back((class, name));
            }
        }
        self.reports.walk = Some(walk);
    }

    /// Goes on reporting progress.
    pub(super) fn report_slice(&mut self, left: &mut usize, effects: &mut Effects) {
        let Some(mut walk) = self.reports.walk.take() else {
            return;
        };
        while *left > 0 {
            if walk.at == NIL {
                let Some((class, name)) = walk.classes.pop_front() else {
                    if walk.found {
                        self.arm_report();
                    }
                    return;
                };
                if name != walk.name {
                    walk.position = 0;
                    walk.name = name;
                }
                if self.classes.in_use(class) && self.classes.at(class).key.kind == Kind::Restore {
                    walk.at = self.classes.at(class).list.head;
                }
                continue;
            }
            *left -= 1;
            let handle = walk.at;
            let request = self.requests.at(handle);
            walk.at = request.next;
            if request.linked > walk.up_to {
                continue;
            }
            walk.position += 1;
            if request.has(REPORTED) {
                walk.found = true;
                let total = walk.totals.get(&walk.name).copied().unwrap_or(0);
                let (name, position) = (walk.name.clone(), walk.position);
                let line = |core: &Self| {
                    format!("progress {} {name} {position}/{total}", core.requests.dfid(handle))
                };
                self.report(handle, line, effects);
            }
        }
        if walk.at != NIL {
            self.requests.at_mut(walk.at).set(BOOKMARKED, true);
        }
        self.reports.walk = Some(walk);
    }
}
