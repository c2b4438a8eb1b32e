//! Which requests an order is about.

use super::Coordinator;
use super::hints::{find_tag, without_nuls};
use super::index::NIL;
use super::queues::Place;
use super::requests::{Handle, State};
use super::views::{RequestState, RequestView, Select};

/// Whether data has this hint: a whole one, or one up to its `=`.
pub(super) fn fits_data(data: &[u8], hint: &str) -> bool {
    find_tag(without_nuls(data), hint.as_bytes()).is_some()
}

impl Select {
    /// Why this makes no sense, if it does not.
    pub(super) fn problem(&self) -> Option<&'static str> {
        if self.hint.as_deref() == Some("") {
            return Some("an empty hint is in no data");
        }
        if self.mover.as_deref() == Some("") {
            return Some("no mover has an empty id");
        }
        None
    }
}

impl Coordinator {
    /// The host that alone may have the request.
    pub(super) fn only_host(&self, handle: Handle) -> Option<&str> {
        match self.classes.at(self.requests.at(handle).class).key.place {
            Place::Host(host) => Some(&self.hosts.at(host).name),
            _ => None,
        }
    }

    /// Whether an order is about this request.
    pub(super) fn selected(&self, handle: Handle, select: &Select) -> bool {
        let request = self.requests.at(handle);
        let running = request.state == State::Running;
        if select.running.is_some_and(|wanted| wanted != running)
            || !(select.fids.is_empty() || select.fids.contains(&request.fid))
            || select.cookie.is_some_and(|cookie| cookie != request.cookie)
            || select.action.is_some_and(|action| action != request.kind.action())
        {
            return false;
        }
        let class = self.classes.at(request.class).key;
        if select.archive_id.is_some_and(|id| id != class.archive_id) {
            return false;
        }
        if let Some(mover) = &select.mover {
            let owner = (request.owner != NIL).then(|| &*self.movers.at(request.owner).id);
            if owner.or_else(|| self.only_host(handle)) != Some(mover.as_str()) {
                return false;
            }
        }
        select.user.is_none_or(|user| self.user_of(handle) == Some(user))
            && select.hint.as_deref().is_none_or(|hint| fits_data(&self.data.at(request.data).bytes, hint))
    }

    /// What an answer shows of a request.
    pub(super) fn request_view(&self, handle: Handle) -> RequestView {
        let request = self.requests.at(handle);
        let class = self.classes.at(request.class).key;
        let age = self.now.mono.0.saturating_sub(request.queued.0);
        let owner = (request.owner != NIL).then(|| self.movers.at(request.owner).id.to_string());
        RequestView {
            key: request.key(),
            action: request.kind.action(),
            archive_id: class.archive_id,
            flags: class.flags,
            data: self.data.at(request.data).bytes[..].into(),
            queued: super::Wall(request.timestamp),
            age: std::time::Duration::from_nanos(age),
            state: match request.state {
                State::Parked => RequestState::Oversized,
                State::Held => RequestState::Held,
                State::Settling => RequestState::Settling,
                State::Limited => RequestState::Limited,
                State::Doubtful => RequestState::Doubtful,
                State::Vetting => RequestState::Asking,
                State::Bound => RequestState::Bound,
                State::Running => RequestState::Running,
                State::Queued | State::Loose | State::Free => RequestState::Queued,
            },
            mover: owner.or_else(|| self.only_host(handle).map(str::to_owned)),
        }
    }
}
