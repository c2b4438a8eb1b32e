//! The file system in the world: client mounts, calls, and what its MDTs want done.

use lustre_sim::mdt::{self, Call, ClientId, FsEvent, Outcome};
use lustreapi_sys::Fid;
use lustreapi_sys::hal::ActionList;
use lustreapi_sys::kuc::{self, Frame};

use super::scenario::SECOND;
use super::world::{DAEMON, Task, Then, World};
use crate::hsm::ActionItem;

impl World {
    /// A new client mount.
    pub(super) fn mount(&mut self, name: &str) -> ClientId {
        self.clients += 1;
        let client = ClientId(self.clients);
        let time = self.time();
        let uuid = format!("{name}-{}", self.clients);
        self.fs.handle(time, FsEvent::Mount { client, uuid }, &mut self.fs_effects);
        client
    }

    /// A client mount is gone.
    pub(super) fn unmount(&mut self, client: ClientId) {
        let time = self.time();
        self.fs.handle(time, FsEvent::Unmount { client }, &mut self.fs_effects);
    }

    /// Something happens to the file system itself.
    pub(super) fn mdt_event(&mut self, event: FsEvent) {
        let time = self.time();
        self.fs.handle(time, event, &mut self.fs_effects);
    }

    /// Calls an MDT; the call and its answer take their time.
    pub(super) fn call(&mut self, client: ClientId, call: Call, then: Then) {
        let delay = self.rng.below(2_000_000);
        self.after(delay, Task::Call { client, call, then });
    }

    pub(super) fn mdt_effect(&mut self, effect: mdt::Effect) -> Result<(), String> {
        match effect {
            mdt::Effect::Reply { id, result, .. } => {
                let Some(then) = self.waiting.remove(&id) else { return Ok(()) };
                self.note(format_args!("MDT: {then:?}: {result:?}"));
                self.look_at_end(&then)?;
                // What is in a file changes now, not when the user hears of it.
                match (&then, &result) {
                    (Then::Wrote { fid }, Ok(_)) => self.new_content(*fid),
                    (Then::Created { .. }, Ok(mdt::Answer::Fid(fid))) => self.new_content(*fid),
                    _ => {}
                }
                let mut delay = self.rng.below(2_000_000);
                if matches!(then, Then::DaemonAsk { .. }) && self.now < self.slow_until {
                    self.report.slow_answers += 1;
                    delay += self.habit_rng.below(40 * SECOND);
                }
                self.after(delay, Task::Answer { then, result });
            }
            mdt::Effect::Deliver { delivery, client, frame } => {
                let time = self.time();
                let boot = self.daemon.as_ref().filter(|_| client == DAEMON).map(|d| d.boot);
                let outcome = match boot {
                    None => Outcome::Failed(mdt::Errno::PIPE),
                    Some(boot) => {
                        // Now and then the reader is slow, so that something dies in the pipe with it.
                        let slowest = if self.rng.one_in(8) { SECOND } else { 1_000_000 };
                        self.pipe_at = self.pipe_at.max(self.now) + self.rng.below(slowest);
                        let delay = self.pipe_at - self.now;
                        self.after(delay, Task::Pipe { boot, bytes: frame.to_vec() });
                        if std::mem::take(&mut self.deliver_twice) {
                            self.report.delivered_twice += 1;
                            Outcome::AnswerLost
                        } else {
                            Outcome::Accepted
                        }
                    }
                };
                self.note(format_args!("MDT: delivery of {} bytes: {outcome:?}", frame.len()));
                self.fs.handle(time, FsEvent::Delivered { delivery, outcome }, &mut self.fs_effects);
            }
            mdt::Effect::Shutdown { .. } => {}
            mdt::Effect::SwapLayouts { fid, volatile } => {
                let restored = self.contents.remove(&volatile);
                let expected = self.released.remove(&fid);
                if restored.is_none() || restored != expected {
                    return Err(format!("{fid} was restored with {restored:?} instead of {expected:?}"));
                }
                if let Some(content) = restored {
                    self.contents.insert(fid, content);
                }
            }
            mdt::Effect::DropData { fid } => {
                let content = self.contents.remove(&fid);
                let copy = self.backend.get(&fid).copied();
                if copy.is_none() && self.removed.contains(&fid) {
                    self.lost_to_a_release(fid);
                } else if content.is_none() || content != copy {
                    return Err(format!(
                        "{fid} is released with {content:?} while the back end has {copy:?}"
                    ));
                }
                self.released_at.insert(fid, self.now);
                if let Some(content) = content {
                    self.released.insert(fid, content);
                }
            }
            mdt::Effect::Destroyed { fid } => {
                self.contents.remove(&fid);
                self.released.remove(&fid);
            }
        }
        Ok(())
    }

    /// Bytes that the daemon died with before it had read them.
    pub(super) fn lost_in_the_pipe(&mut self, bytes: &[u8]) {
        self.report.frames_lost += 1;
        let Ok(Some((Frame::ActionList(list), _))) = kuc::next_frame(bytes) else { return };
        let Ok(list) = ActionList::parse(list) else { return };
        let items = list.items.iter().filter_map(|item| ActionItem::from_list(&list, item));
        self.given_up.extend(items.map(|item| item.key()));
    }

    fn new_content(&mut self, fid: Fid) {
        self.last_content += 1;
        self.contents.insert(fid, self.last_content);
    }
}
