//! What the kernel hands over.

use lustreapi_sys::hal::{ActionList, ItemLength, ListBuilder};
use lustreapi_sys::kuc::{Frame, frame, next_frame};

/// A pipe's bytes come apart into frames, and frames into lists.
pub fn frames(data: &[u8]) {
    let mut rest = data;
    while let Ok(Some((found, used))) = next_frame(rest) {
        assert!(used >= 8 && used <= rest.len());
        if let Frame::ActionList(list) = found {
            action_list(list);
            let again = frame(2, 100, list).unwrap();
            assert_eq!(next_frame(&again), Ok(Some((Frame::ActionList(list), used))));
        }
        // A frame that is cut is not there yet, whatever it holds.
        assert_eq!(next_frame(&rest[..used - 1]), Ok(None));
        rest = &rest[used..];
    }
}

/// A list that is understood says the same when it is built again.
pub fn action_list(data: &[u8]) {
    let Ok(list) = ActionList::parse(data) else { return };
    let mut builder = ListBuilder::new(list.fsname, list.archive_id, list.flags, ItemLength::Exact);
    list.items.iter().for_each(|item| builder.push(item));
    assert_eq!(ActionList::parse(&builder.finish()).unwrap(), list);
}
