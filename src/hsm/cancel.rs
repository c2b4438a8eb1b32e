//! Cancels from the MDT.
//!
//! A cancel of a request that waits ends both at once. One of a running request goes to its mover, ahead of everything else;
//! whatever the mover then says ends both, unless it says that it cannot cancel.

use super::Coordinator;
use super::action::ActionItem;
use super::effect::Effects;
use super::requests::{CANCELLING, Handle, Kind, State};
use super::verdict::EALREADY;
use super::views::Outcome;

/// `errno` values that mean something here.
pub(super) const ENOENT: i32 = 2;
pub(super) const ENOSYS: i32 = 38;
pub(super) const ECANCELED: i32 = 125;

/// Those with which the MDT may take the same end later: EINTR, EIO, EAGAIN, EBUSY, ENODEV, ENOTCONN, ESHUTDOWN,
/// ETIMEDOUT, EHOSTUNREACH, EINPROGRESS.
pub(super) const LATER: [i32; 10] = [4, 5, 11, 16, 19, 107, 108, 110, 113, 115];

/// A cancel for a running request.
#[derive(Debug)]
pub(super) struct Cancel {
    /// As the mover is to see it.
    pub(super) item: ActionItem,
    pub(super) sent: bool,
    /// No user has asked the MDT for it.
    pub(super) by_operator: bool,
}

impl Coordinator {
    /// A cancel in a KUC list. Its cookie and FID are those of its victim.
    pub(super) fn cancel(&mut self, mut item: ActionItem, effects: &mut Effects) {
        let key = item.key();
        let known = self
            .requests
            .find_any(key.cookie, key.fid)
            .or_else(|| self.requests.find_alias(key.cookie, item.dfid));
        let Some(handle) = known else {
            tracing::info!(%key, "cancel of a request that is not here");
            self.counts.unknown_cancels += 1;
            // It may be an ARCHIVE, whose file was archived and released since: see `harmless_error`.
            let errno = if self.config.ask_lustre { EALREADY } else { ECANCELED };
            self.owe(&item, errno, effects);
            self.end_at_lustre(item, errno, true, effects);
            return;
        };
        if self.cancels.contains_key(&handle) {
            tracing::info!(%key, "the same cancel again");
            return;
        }
        self.report_cancel(handle, effects);
        let request = self.requests.at(handle);
        let (state, owner) = (request.state, request.owner);
        if state == State::Running {
            item.timestamp = self.next_timestamp();
            tracing::info!(%key, mover = %self.movers.at(owner).id, "cancel goes to the mover");
            self.requests.at_mut(handle).set(CANCELLING, true);
            self.cancels.insert(handle, Cancel { item, sent: false, by_operator: false });
            self.counts.pending_cancel += 1;
            self.movers.at_mut(owner).cancels.push_back(handle);
            self.fresh_movers.insert(owner);
            return;
        }
        tracing::info!(%key, "cancelled while it waited");
        self.end_waiting(handle, item, false, effects);
    }

    /// A request that waits is cancelled, by a user or an operator: the MDT is told at once, under the names of `item`.
    pub(super) fn end_waiting(
        &mut self,
        handle: Handle,
        item: ActionItem,
        by_operator: bool,
        effects: &mut Effects,
    ) {
        if self.is_removed(handle) {
            tracing::info!(key = %item.key(), "the cancel comes too late: the copy is gone");
            return;
        }
        let class = self.requests.at(handle).class;
        let errno = self.cancel_error(handle, by_operator);
        self.unqueue(handle);
        self.refresh_class(class);
        self.end_loose(handle, item, errno, effects);
    }

    /// With which error a cancelled request is ended. Where a user has cancelled it, the MDT has a record of that, which
    /// ECANCELED completes. Without such a record ECANCELED would make the request itself a success in `hsm/actions`, though
    /// nothing was done; ENOSYS makes it FAILED, and ECANCELED for the readers of the changelog. An ARCHIVE gets the one error
    /// that never makes a file dirty (Lustre `hsm_cdt_request_completed`).
    fn cancel_error(&self, handle: Handle, by_operator: bool) -> i32 {
        if !by_operator {
            self.harmless_error(handle, ECANCELED)
        } else if self.requests.at(handle).kind == Kind::Archive {
            EALREADY
        } else {
            ENOSYS
        }
    }

    /// A loose request has ended by a cancel.
    fn end_loose(&mut self, handle: Handle, item: ActionItem, errno: i32, effects: &mut Effects) {
        let fid = self.requests.at(handle).fid;
        self.note_fate(handle, Outcome::Cancelled, ECANCELED);
        self.note_settled(self.target(handle), effects);
        self.owe(&item, errno, effects);
        self.forget(handle, effects);
        let key = item.key();
        self.end_at_lustre(item, errno, true, effects);
        self.endings.count_as_cancel(&key);
        self.release_held(fid);
    }

    /// A mover came back and still runs a request whose cancel it was sent: it is sent again.
    pub(super) fn resend_cancel(&mut self, handle: Handle, mover: u32) {
        if let Some(cancel) = self.cancels.get_mut(&handle)
            && cancel.sent
        {
            cancel.sent = false;
            self.counts.pending_cancel += 1;
            self.movers.at_mut(mover).cancels.push_back(handle);
        }
    }

    /// Forgets the cancel of a running request, if there is one. Returns it.
    pub(super) fn drop_cancel(&mut self, handle: Handle) -> Option<Cancel> {
        let cancel = self.cancels.remove(&handle)?;
        let owner = self.requests.at(handle).owner;
        self.requests.at_mut(handle).set(CANCELLING, false);
        if !cancel.sent {
            self.counts.pending_cancel -= 1;
            self.movers.at_mut(owner).cancels.retain(|&other| other != handle);
        }
        Some(cancel)
    }

    /// A running request with a cancel has lost its mover: nobody else gets it.
    pub(super) fn end_cancelled(&mut self, handle: Handle, effects: &mut Effects) {
        let cancel = self.drop_cancel(handle);
        let by_operator = cancel.as_ref().is_some_and(|cancel| cancel.by_operator);
        let item = cancel.map_or_else(|| self.item(handle, true), |cancel| cancel.item);
        let errno = self.cancel_error(handle, by_operator);
        self.stop(handle);
        self.end_loose(handle, item, errno, effects);
    }
}
