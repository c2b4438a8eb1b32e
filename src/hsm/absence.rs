//! Movers that are gone: how long their work stays theirs, and how it goes back to the queue.

use super::Coordinator;
use super::effect::Effects;
use super::event::ConnId;
use super::feed::MoverChange;
use super::index::NIL;
use super::requests::Handle;
use super::time::Mono;
use super::timers::Timer;

impl Coordinator {
    pub(super) fn disconnected(&mut self, conn: ConnId, effects: &mut Effects) {
        let Some(mover) = self.conns.remove(&conn) else {
            return;
        };
        let claimed = self
            .timers_probe_hosts()
            .find(|&host| self.hosts.at(host).claim.as_ref().is_some_and(|(claimant, _)| *claimant == conn));
        if let Some(host) = claimed {
            self.hosts.at_mut(host).claim = None;
            self.timers.clear(Timer::Probe(host));
        }
        let left = self.next_sequence();
        let entry = self.movers.at_mut(mover);
        let order = entry.order;
        entry.conn = None;
        entry.waiting = None;
        entry.order = left;
        entry.disconnected_at = self.now.wall;
        let host = entry.host;
        self.movers.connected.remove(&order);
        self.movers.disconnected.insert(left, mover);
        self.review_tapes_of(mover);
        self.refresh_mover(mover);
        self.review_quarantines();
        let leased = self.movers.at(mover).lease_until.unwrap_or(Mono(0));
        if host == NIL {
            let idle = self.movers.at(mover).active.is_empty();
            if idle || leased <= self.now.mono {
                self.grace_ended(mover, effects);
            } else {
                self.timers.set(Timer::Grace(mover), leased);
            }
            return;
        }
        let id = self.movers.at(mover).id.clone();
        tracing::info!(mover = %id, "mover disconnected");
        self.tell_mover(&id, MoverChange::Away);
        let until = (self.now.mono + self.config.client_grace).max(leased);
        self.timers.set(Timer::Grace(mover), until);
        if let Some((second, ehlo)) = self.hosts.at_mut(host).claim.take() {
            self.timers.clear(Timer::Probe(host));
            if let Some(&fresh) = self.conns.get(&second) {
                self.adopt(second, fresh, host, *ehlo, effects);
            }
        }
    }

    /// A mover has been away for too long: others may have its work.
    pub(super) fn grace_ended(&mut self, mover: u32, effects: &mut Effects) {
        if self.movers.at(mover).conn.is_some() {
            return;
        }
        if !self.movers.at(mover).active.is_empty() {
            let up_to = self.sequence();
            self.movers.at_mut(mover).retire_up_to = up_to;
            self.retiring.insert(mover);
            let mut left = super::coordinator::SLICE;
            self.retire_slice(&mut left, effects);
            if left == 0 {
                self.slice_later();
            }
        } else {
            self.let_go(mover, effects);
        }
    }

    /// Forgets a mover that is away and has nothing left, or keeps it as the one whose requests wait for it.
    fn let_go(&mut self, mover: u32, effects: &mut Effects) {
        if self.movers.at(mover).conn.is_some() {
            return;
        }
        let host = self.movers.at(mover).host;
        let stays = host != NIL && self.shows_requests(host);
        self.give_up_slots(mover, stays);
        if stays {
            self.movers.at_mut(mover).disconnected_at = self.now.wall;
            if self.config.locating.is_some() {
                // Where its requests lie is asked again: others may be able to have them now.
                self.replacing = Some(0);
                self.slice_later();
            }
            self.timers.set(Timer::Grace(mover), self.now.mono + self.config.client_grace);
            return;
        }
        for slot in 0..self.movers.at(mover).slots.len() {
            self.timers.clear(Timer::Slot(mover, slot as u32));
        }
        self.timers.clear(Timer::Grace(mover));
        self.forget_movable(mover, effects);
        let order = self.movers.at(mover).order;
        self.movers.disconnected.remove(&order);
        self.drop_tapes(mover);
        self.fresh_movers.remove(&mover);
        self.later_movers.remove(&mover);
        let id = self.movers.at(mover).id.clone();
        if host != NIL {
            self.tell_mover(&id, MoverChange::Gone);
        }
        self.forget_duty(&id);
        self.movers.remove(mover);
        if host != NIL {
            for set in self.hosts.at(host).sets.clone() {
                let entry = self.hosts.set_mut(set);
                if entry.shown_at == host {
                    entry.shown_at = NIL;
                }
            }
            self.hosts.at_mut(host).mover = NIL;
            self.hosts.forget(host);
        }
    }

    /// Puts requests of movers that are gone, or that came back without them, into the queue again.
    pub(super) fn retire_slice(&mut self, left: &mut usize, effects: &mut Effects) {
        while *left > 0 {
            let Some(&mover) = self.retiring.first() else {
                return;
            };
            let entry = self.movers.at(mover);
            let head = entry.active.head;
            if head == NIL || self.requests.at(head).linked > entry.retire_up_to {
                self.retiring.remove(&mover);
                if entry.conn.is_none() && head == NIL && !self.timers.is_set(Timer::Grace(mover)) {
                    self.let_go(mover, effects);
                }
                continue;
            }
            *left -= 1;
            self.retire(head, effects);
        }
    }

    fn retire(&mut self, handle: Handle, effects: &mut Effects) {
        if self.cancels.contains_key(&handle) {
            self.end_cancelled(handle, effects);
        } else if self.may_be_bound(handle) {
            self.unbind(handle, effects);
        } else {
            self.requeue(handle, effects);
        }
    }
}
