//! Requests as they are found, put in order on the way.

use crate::hsm::ActionItem;

/// So many are put in order at a time, while redis looks for the next ones.
const SORTED: usize = 1 << 16;
/// What there is room for at once; what is too little grows.
const MOST: usize = 1 << 24;

/// What the order goes by, and where the request is. C gives all requests of one list the same timestamp; their cookies rise.
#[derive(Debug, Clone, Copy)]
struct Key {
    timestamp: i64,
    cookie: u64,
    at: u32,
}

/// All requests, in whatever order they come.
#[derive(Debug, Default)]
pub(super) struct Requests {
    items: Vec<ActionItem>,
    /// Short keys are sorted much faster than requests.
    keys: Vec<Key>,
}

fn by_age<'a>(items: &'a [ActionItem]) -> impl Fn(&Key, &Key) -> std::cmp::Ordering + 'a {
    let files = |key: &Key| (items[key.at as usize].fid, items[key.at as usize].dfid);
    move |a, b| (a.timestamp, a.cookie).cmp(&(b.timestamp, b.cookie)).then_with(|| files(a).cmp(&files(b)))
}

impl Requests {
    /// So many more will come.
    pub fn expect(&mut self, count: usize) {
        self.items.reserve(count.min(MOST));
        self.keys.reserve(count.min(MOST));
    }

    /// One more.
    pub fn push(&mut self, item: ActionItem) {
        let at = u32::try_from(self.items.len()).unwrap_or(u32::MAX);
        self.keys.push(Key { timestamp: item.timestamp, cookie: item.cookie, at });
        self.items.push(item);
        if self.keys.len().is_multiple_of(SORTED) {
            let first = self.keys.len() - SORTED;
            self.keys[first..].sort_unstable_by(by_age(&self.items));
        }
    }

    /// All of them, in the order in which they came to the coordinator first.
    pub fn in_order(mut self) -> impl Iterator<Item = ActionItem> {
        // This sort finds what is in order already.
        self.keys.sort_by(by_age(&self.items));
        let mut items: Vec<_> = self.items.into_iter().map(Some).collect();
        self.keys.into_iter().filter_map(move |key| items.get_mut(key.at as usize)?.take())
    }
}

#[cfg(test)]
mod tests {
    use lustreapi_sys::Fid;

    use super::*;
    use crate::hsm::Action;

    #[test]
    fn requests_come_in_order_however_they_were_found() {
        let item = |timestamp: i64, cookie: u64, oid: u32| ActionItem {
            timestamp,
            ..ActionItem::new(Action::Archive, Fid::new(1, oid, 0), cookie, 1)
        };
        // More than are put in order at a time, strewn about.
        let count = SORTED as u64 * 2 + 100;
        let mut requests = Requests::default();
        requests.expect(10);
        for number in 0..count {
            let strewn = number * 7919 % count;
            requests.push(item((strewn / 1000) as i64, strewn, 5));
        }
        // The same cookie at the same time, of two MDTs, and one that comes twice.
        for oid in [9, 3, 9] {
            requests.push(item(0, 0, oid));
        }
        let found: Vec<_> =
            requests.in_order().map(|item| (item.timestamp, item.cookie, item.fid.oid)).collect();
        assert_eq!(found[..5], [(0, 0, 3), (0, 0, 5), (0, 0, 9), (0, 0, 9), (0, 1, 5)]);
        assert_eq!(found.len() as u64, count + 3);
        assert!(found.is_sorted());
    }
}
