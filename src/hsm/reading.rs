//! While the store is still being read: peers are taken in and told so, and nothing is judged before all is known.
//!
//! A mover that comes now sees a slow server, never a refusal: its `ehlo` is answered, its `recv` waits. What it says that it
//! still runs is remembered and judged when the last request was handed over, before anything is given out.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::Coordinator;
use super::coordinator::reply_error;
use super::effect::{Effect, Effects, EhloReply, Reply};
use super::event::{ConnId, Ehlo, Event, Message};

/// What waits for the end of reading.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// Requests handed over so far.
    requests: u64,
    /// What peers said, in order.
    said: VecDeque<Said>,
    /// Whose `ehlo` is among that.
    introduced: BTreeSet<ConnId>,
    /// How many connections claim each id.
    claimed: BTreeMap<String, usize>,
}

/// Something that a peer said too early.
#[derive(Debug)]
struct Said {
    conn: ConnId,
    message: Message,
    /// An `ehlo` that was answered already.
    answered: bool,
}

impl Reading {
    fn push(&mut self, said: Said) {
        if let Message::Ehlo(ehlo) = &said.message {
            self.introduced.insert(said.conn);
            if let Some(id) = &ehlo.id {
                *self.claimed.entry(id.clone()).or_default() += 1;
            }
        }
        self.said.push_back(said);
    }

    fn forget(&mut self, conn: ConnId) {
        if let Some(said) = self.said.iter().find(|said| said.conn == conn)
            && let Message::Ehlo(Ehlo { id: Some(id), .. }) = &said.message
            && let Some(count) = self.claimed.get_mut(id)
        {
            *count -= 1;
        }
        self.introduced.remove(&conn);
        self.said.retain(|said| said.conn != conn);
    }
}

/// Whether the answer to an `ehlo` says nothing that depends on what the store holds. A mover of ours is told which of its
/// requests are another's by now.
fn can_be_answered(ehlo: &Ehlo) -> bool {
    !ehlo.features.lease || ehlo.hai_list.as_ref().is_none_or(Vec::is_empty)
}

impl Coordinator {
    /// [`Event::Recovered`] and [`Event::RecoveredNotes`] will come in parts among other events, until
    /// [`Event::RecoveryEnded`]. To be called before the first event.
    pub fn read_store_first(&mut self) {
        self.reading = Some(Box::default());
    }

    /// How many requests the store handed over so far, while it is being read.
    pub fn read_so_far(&self) -> Option<u64> {
        self.reading.as_ref().map(|reading| reading.requests)
    }

    /// Whether this would be dealt with now. Otherwise it is kept until the store was read, so that whoever reads peers had
    /// better read no more of this one until then.
    pub fn takes_now(&self, message: &Message) -> bool {
        self.reading.is_none()
            || matches!(
                message,
                Message::Ehlo(_) | Message::EhloBadArchiveId | Message::Status { .. } | Message::Lease { .. }
            )
    }

    /// Deals with what happens while the store is read. Gives back what is to be handled as always.
    pub(super) fn while_reading(&mut self, event: Event, effects: &mut Effects) -> Option<Event> {
        match event {
            Event::Recovered { requests, suspect } => {
                if let Some(reading) = &mut self.reading {
                    reading.requests += requests.len() as u64;
                }
                let seen = effects.visible.len();
                self.recovered(requests, suspect, effects);
                // Calls on the MDTs come back with their timers, and reports were written by the run before.
                effects.visible.truncate(seen);
            }
            Event::RecoveredNotes(notes) => self.recovered_notes(notes),
            Event::Connected { conn, peer } => self.connected(conn, peer),
            Event::PeerNamed { conn, peer } => self.peer_named(conn, peer),
            Event::Disconnected { conn } => {
                if let Some(reading) = &mut self.reading {
                    reading.forget(conn);
                }
                self.disconnected(conn, effects);
            }
            Event::Message { conn, message } => self.early_message(conn, message, effects),
            Event::StoreFull(full) => self.set_store_full(full),
            Event::RequestTimeout(timeout) => self.told_timeout(timeout),
            Event::Reconfigured(config) => self.reconfigure(*config),
            Event::Tick => {}
            Event::RecoveryEnded => {
                self.judge_what_was_said(effects);
                return Some(Event::RecoveryEnded);
            }
            other => {
                tracing::error!("something happened that should have waited until the store was read");
                return Some(other);
            }
        }
        None
    }

    fn early_message(&mut self, conn: ConnId, message: Message, effects: &mut Effects) {
        let (Some(&mover), Some(reading)) = (self.conns.get(&conn), &mut self.reading) else { return };
        let mut answered = false;
        match &message {
            Message::Status { verbose } => return self.start_status(conn, *verbose, effects),
            Message::Lease { serial } => return self.renew_lease(conn, mover, *serial, effects),
            Message::EhloBadArchiveId => return self.ehlo_bad_archive_id(conn, mover, effects),
            Message::Ehlo(_) if reading.introduced.contains(&conn) => {
                effects.visible.push(reply_error(conn, "ehlo", 22, "Client cannot send EHLO twice"));
                return;
            }
            Message::Ehlo(ehlo) => {
                // Of two with one id the second waits: the first may prove dead.
                let unique =
                    ehlo.id.as_ref().is_none_or(|id| reading.claimed.get(id).is_none_or(|&count| count == 0));
                if unique && can_be_answered(ehlo) {
                    answered = true;
                    self.movers.at_mut(mover).features = ehlo.features;
                    let lease_ms = self.grant_lease(mover);
                    let reply = Reply::Ehlo(EhloReply { lease_ms, refused: Vec::new() });
                    effects.visible.push(Effect::Reply { conn, reply });
                }
            }
            _ => {}
        }
        if let Some(reading) = &mut self.reading {
            reading.push(Said { conn, message, answered });
        }
    }

    /// All is known: what peers said meanwhile is dealt with, in order.
    fn judge_what_was_said(&mut self, effects: &mut Effects) {
        let Some(reading) = self.reading.take() else { return };
        for Said { conn, message, answered } in reading.said {
            let seen = effects.visible.len();
            self.message(conn, message, effects);
            // What one mover does not name is nobody's when the next one names it.
            self.work_slice(effects);
            if answered {
                let is_answer = |effect: &Effect| matches!(effect, Effect::Reply { conn: to, reply: Reply::Ehlo(_) } if *to == conn);
                let new = effects.visible.split_off(seen);
                effects.visible.extend(new.into_iter().filter(|effect| !is_answer(effect)));
            }
        }
    }
}
