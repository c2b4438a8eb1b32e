//! All requests, part by part, for whoever wants to see them.
//!
//! A request keeps its place in the slab from admission to its end, so a walk over the places shows each request at most
//! once, and every one that is there all the time. Nothing is kept here between two parts.

use super::Coordinator;
use super::requests::{Handle, State};
use super::views::{RequestView, Select};

/// Where a walk over all requests stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ListCursor(Handle);

/// A part of a walk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListPart {
    /// What was found, in no order.
    pub requests: Vec<RequestView>,
    /// Where to go on; `None` at the end.
    pub next: Option<ListCursor>,
}

/// Places looked at for one part.
const LOOK: u32 = 8192;

impl Coordinator {
    /// The next part of all requests that are selected: at most `most` of them.
    pub fn list_requests(&self, from: ListCursor, select: &Select, most: usize) -> ListPart {
        let end = self.requests.slab.capacity();
        let stop = end.min(from.0.saturating_add(LOOK));
        let mut requests = Vec::new();
        let mut at = from.0;
        while at < stop && requests.len() < most {
            if self.requests.at(at).state != State::Free && self.selected(at, select) {
                requests.push(self.request_view(at));
            }
            at += 1;
        }
        ListPart { requests, next: (at < end).then_some(ListCursor(at)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::action::Action;
    use super::super::tests::{Session, archive, config, fid, item};
    use super::*;

    /// All parts of a walk, the first `change` times with something done in between.
    fn walk(session: &mut Session, select: &Select, mut between: impl FnMut(&mut Session)) -> Vec<u32> {
        let (mut found, mut next) = (Vec::new(), Some(ListCursor::default()));
        while let Some(from) = next {
            let part = session.core.list_requests(from, select, 7);
            found.extend(part.requests.iter().map(|request| request.key.fid.oid));
            next = part.next;
            between(session);
        }
        found
    }

    #[test]
    fn each_request_is_listed_once_while_others_come_and_go() {
        let mut session = Session::new(config());
        session.lustre((1..=100).map(|oid| archive(oid, "")).collect());
        let all = Select::default();
        let mut found = walk(&mut session, &all, |_| ());
        found.sort_unstable();
        assert_eq!(found, (1..=100).collect::<Vec<_>>());
        // Some are cancelled and others come while the list is read.
        let (mut victim, mut fresh) = (50, 200);
        let mut found = walk(&mut session, &all, |session| {
            if victim < 60 {
                let cancel = item(Action::Cancel, victim, u64::from(victim), "");
                session.lustre(vec![cancel]);
                session.lustre(vec![archive(fresh, "")]);
                (victim, fresh) = (victim + 1, fresh + 1);
            }
        });
        found.sort_unstable();
        let count = found.len();
        found.dedup();
        assert_eq!(found.len(), count, "none is listed twice");
        for oid in (1..50).chain(60..=100) {
            assert!(found.contains(&oid), "{oid} was there all the time");
        }
    }

    #[test]
    fn only_what_is_selected_is_listed() {
        let mut session = Session::new(config());
        session
            .lustre((1..=20).map(|oid| archive(oid, if oid % 2 == 0 { "tag=a" } else { "tag=b" })).collect());
        let select = Select { hint: Some("tag=a".into()), ..Select::default() };
        assert_eq!(walk(&mut session, &select, |_| ()).len(), 10);
        let select = Select { fids: vec![fid(3), fid(4)], ..select };
        assert_eq!(walk(&mut session, &select, |_| ()), [4]);
    }
}
