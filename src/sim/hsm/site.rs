//! What a site has configured beyond movers: shares, priorities, tapes; and who answers the questions that come of them.
//!
//! All of it has random streams of its own.

use std::time::Duration;

use lustreapi_sys::Fid;

use super::scenario::{MILLI, SECOND, Scenario};
use super::world::{Task, World};
use crate::hsm::config::{HostRule, Locating, Priorities, ShareBy, TapeRules};
use crate::hsm::{Attributes, Located, Location, RequestKey, Sought, Wanted};
use crate::sim::rng::Rng;

/// Draws this part of a run.
pub(super) fn draw(seed: u64, scenario: &mut Scenario) {
    let mut rng = Rng::stream(seed, "site");
    let config = &mut scenario.config;
    if rng.one_in(3) {
        let by =
            [ShareBy::User, ShareBy::Group, ShareBy::Project, ShareBy::Job, ShareBy::Hint("t".to_owned())];
        config.fair_share = rng.pick(&by).cloned();
        config.share_weights = [("1".to_owned(), 3), ("unknown".to_owned(), 2)].into();
    }
    if rng.one_in(3) {
        config.priorities = Some(Priorities {
            restore: Duration::from_secs(rng.between(1, 60)),
            bulk: Duration::from_secs(rng.between(1, 300)),
            blocked_without_data: rng.one_in(2),
            bulk_restores: rng.below(3) as u32,
            bulk_hint: rng.one_in(2).then(|| "t=a".to_owned()),
            weights: if rng.one_in(2) { [0, 0, 10, 10, 30] } else { [0; 5] },
        });
    }
    if rng.one_in(3) {
        config.archives_first_when_full = Some(90);
    }
    if rng.one_in(3) {
        config.locating = Some(Locating {
            tapes: TapeRules {
                wait: Duration::from_secs(rng.below(5)),
                wait_most: rng.between(1, 10) as u32,
                max: Duration::from_secs(rng.between(1, 60)),
                per_mover: rng.below(3) as u32,
            },
            wait: Duration::from_secs(rng.between(1, 20)),
            removes: rng.one_in(2),
            host: *rng.pick(&[HostRule::Ignore, HostRule::Soft, HostRule::Strict]).unwrap_or(&HostRule::Soft),
            retry: rng.one_in(2),
        });
        if config.locating.as_ref().is_some_and(|locating| locating.host == HostRule::Strict) {
            // Archives that are blocked reading a released file would fill a mover's limit for ever, where their restores may
            // go to no other mover. That is what an administrator asked for.
            config.limits.movers.clear();
        }
    }
}

/// The tape of a file.
fn tape_of(fid: Fid) -> Option<u32> {
    (!fid.oid.is_multiple_of(5)).then_some(fid.oid % 3)
}

impl World {
    /// The daemon wants to know whose files these are. Some answers come late, in another order, or not as hoped.
    pub(super) fn look_up(&mut self, boot: u64, keys: Vec<RequestKey>, wanted: Wanted) {
        for key in keys {
            let fails = self.fs.file(key.fid).is_none() || self.site_rng.one_in(8);
            let found = (!fails).then(|| Attributes {
                uid: key.fid.oid % 3,
                gid: key.fid.oid % 2,
                project: if wanted.project { key.fid.oid % 4 } else { 0 },
                size: u64::from(key.fid.oid) << 20,
                job: wanted.job.then(|| format!("job{}", key.fid.oid % 3).into()),
            });
            self.report.looked_up += u64::from(found.is_some());
            let delay = self.site_delay(2 * SECOND);
            self.after(delay, Task::LookedUp { boot, found: (key, found) });
        }
    }

    /// The daemon wants to know where these lie.
    pub(super) fn locate(&mut self, boot: u64, sought: Vec<Sought>) {
        for Sought { key, focus, .. } in sought {
            // While nothing goes wrong the locator answers, so that everything can end.
            let located = if !self.calm && self.site_rng.one_in(5) {
                self.report.locator_failures += 1;
                Located::Failed
            } else {
                self.report.located += u64::from(tape_of(key.fid).is_some());
                Located::At(Location {
                    tape: tape_of(key.fid).map(|number| format!("tape{number}")),
                    // The first mover serves everything.
                    host: if self.site_rng.one_in(2) { focus } else { Some("mover0".to_owned()) }
                        .filter(|host| self.serves_all(host)),
                    position: self.site_rng.one_in(2).then_some(u64::from(key.fid.oid)),
                })
            };
            let delay = self.site_delay(30 * SECOND);
            self.after(delay, Task::Located { boot, found: (key, located) });
        }
    }

    fn serves_all(&self, host: &str) -> bool {
        self.movers.iter().any(|mover| mover.plan.id == host && mover.plan.archives.is_empty())
    }

    fn site_delay(&mut self, longest: u64) -> u64 {
        if self.site_rng.one_in(10) { self.site_rng.below(longest) } else { self.site_rng.below(50 * MILLI) }
    }

    /// The file system fills up or is emptied.
    pub(super) fn measure_space(&mut self) -> Result<(), String> {
        let percent = if self.calm { 50 } else { self.site_rng.between(80, 100) as u8 };
        let clock = self.clock();
        if let Some(daemon) = &mut self.daemon {
            daemon.space_used(clock, percent)?;
            self.note(format_args!("daemon: the file system is {percent} % full"));
        }
        if !self.calm {
            self.after(20 * SECOND, Task::Space);
        }
        Ok(())
    }
}
