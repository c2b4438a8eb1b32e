//! A start with a redis that can be read and takes nothing, as one whose memory is full, while an earlier run left changes for
//! it: all is known nevertheless, and redis is caught up with when it takes something again.

use std::collections::BTreeMap;

use super::recovery::not_connected;
use super::replay::{Plan, Refused};
use super::requests::Requests;
use super::store::RedisStore;
use crate::hsm::effect::StoreOp;
use crate::hsm::{ActionItem, RequestKey};
use crate::store::{Recovery, StoreError};

/// Requests, and who has them.
#[derive(Debug, Default)]
struct Known {
    requests: BTreeMap<RequestKey, (ActionItem, Option<String>)>,
}

impl Known {
    fn apply(&mut self, op: StoreOp) {
        match op {
            StoreOp::Put(item) => {
                let key = item.key();
                let mover = self.requests.remove(&key).and_then(|(_, mover)| mover);
                self.requests.insert(key, (item, mover));
            }
            StoreOp::Assign { key, mover } => self.assign(key, Some(mover)),
            StoreOp::Unassign { key } => self.assign(key, None),
            StoreOp::Remove { key } => drop(self.requests.remove(&key)),
            StoreOp::Note { .. } => {}
        }
    }

    fn assign(&mut self, key: RequestKey, mover: Option<String>) {
        if let Some((_, assigned)) = self.requests.get_mut(&key) {
            *assigned = mover;
        }
    }
}

impl RedisStore {
    /// Hands out what redis holds with the changes that it lacks, and falls behind at once.
    pub(super) fn start_beside(
        &mut self,
        refused: &Refused,
        recovery: &mut Recovery,
        found: &mut dyn FnMut(ActionItem, Option<String>),
    ) -> Result<(), StoreError> {
        let Refused { about, numbers, plan, reason } = refused;
        let mut known = Known::default();
        if !matches!(plan, Plan::Anew(_)) {
            let Some(mut link) = self.link.take() else {
                return Err(self.error("cannot be read", not_connected()));
            };
            let take =
                &mut |item: ActionItem, mover, _| drop(known.requests.insert(item.key(), (item, mover)));
            let handed = self.hand_out(&mut link, false, recovery, take);
            handed.map_err(|error| self.error("cannot be read", error))?;
        }
        for number in &numbers[plan.skip()..] {
            let file = self.spill.read(*number).map_err(|error| self.spill_error(error))?;
            for op in (0..file.len()).filter_map(|frame| file.op(frame)) {
                if let StoreOp::Note { name, value } = &op {
                    self.remember_note(name, value.as_deref());
                }
                known.apply(op);
            }
        }
        if plan.skip() > 0 {
            self.spill.drop_before(numbers[plan.skip()]);
        }

        recovery.requests = known.requests.len() as u64;
        let mut movers = BTreeMap::new();
        let mut requests = Requests::default();
        for (key, (item, mover)) in known.requests {
            requests.push(item);
            movers.extend(mover.map(|mover| (key, mover)));
        }
        for item in requests.in_order() {
            let mover = movers.remove(&item.key());
            found(item, mover);
        }
        // We go on as the run that left the changes, so that they still follow what redis says.
        (self.confirmed, self.attempted) = (about.confirmed, about.attempted);
        self.fall_behind_from_the_start(reason, *plan);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use lustreapi_sys::Fid;

    use super::*;
    use crate::hsm::Action;

    #[test]
    fn changes_are_applied_to_what_is_known() {
        let item = |cookie: u64, archive_id| {
            let fid = Fid::new(1, 1, 0);
            ActionItem { timestamp: 1, ..ActionItem::new(Action::Archive, fid, cookie, archive_id) }
        };
        let mut known = Known::default();
        let key = |cookie| item(cookie, 1).key();
        let mover = |name: &str| name.to_owned();
        for op in [
            StoreOp::Put(item(1, 1)),
            StoreOp::Put(item(2, 1)),
            StoreOp::Put(item(3, 1)),
            StoreOp::Assign { key: key(1), mover: mover("a") },
            StoreOp::Assign { key: key(2), mover: mover("a") },
            StoreOp::Assign { key: key(9), mover: mover("nobody's") },
            StoreOp::Put(item(1, 7)),
            StoreOp::Unassign { key: key(2) },
            StoreOp::Remove { key: key(3) },
        ] {
            known.apply(op);
        }
        let mut left: Vec<_> = known.requests.into_values().collect();
        left.sort_by_key(|(item, _)| item.cookie);
        assert_eq!(left, [(item(1, 7), Some(mover("a"))), (item(2, 1), None)]);
    }
}
