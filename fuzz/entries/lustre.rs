//! What the kernel hands over.

use coordinatool::hsm::reconcile::Reconcile;
use coordinatool::lustre::active_requests::Record;
use coordinatool::lustre::feed::Feed;
use coordinatool::lustre::listing::{Reader, Summary};
use coordinatool::lustre::tunables::Tunables;
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

/// The requests of a list that is damaged anywhere are those before the damage; another file system's are taken all the same.
pub fn list(data: &[u8]) {
    let items = coordinatool::lustre::list::read(data, "testfs0");
    assert!(items.len() <= data.len() / 72);
    if let Ok(list) = ActionList::parse(data) {
        assert!(items.len() <= list.items.len());
        assert!(items.iter().all(|item| u64::from(item.archive_id) == u64::from(list.archive_id)));
    }
}

fn read(data: &[u8], piece: usize) -> (Vec<Record>, Summary, bool) {
    let mut reader = Reader::new("testfs0");
    let mut records = Vec::new();
    data.chunks(piece).for_each(|piece| reader.push(piece, &mut records));
    let (summary, whole) = reader.finish(&mut records);
    (records, summary, whole)
}

/// A listing of `hsm/actions` or `active_requests` says the same in whatever pieces it comes, and as steps of a
/// reconciliation it ends once. The first byte is the size of the pieces.
pub fn listing(data: &[u8]) {
    let Some((piece, text)) = data.split_first() else { return };
    let piece = usize::from(*piece).max(1);
    let all = read(text, text.len().max(1));
    assert_eq!(read(text, piece), all);
    let (records, summary, _) = all;
    assert_eq!(summary.records as usize, records.len());
    assert!(
        summary.lines >= summary.records + summary.bad && summary.complaints.len() <= summary.bad as usize
    );
    assert!(summary.complaints.iter().all(|(line, why)| *line <= summary.lines && why.len() < 1024));

    let mut feed = Feed::new("testfs0");
    let mut steps: Vec<Reconcile> = text.chunks(piece).flat_map(|piece| feed.push(piece)).collect();
    let (last, again) = feed.finish();
    assert_eq!(again, summary);
    steps.extend(last);
    let (end, parts) = steps.split_last().unwrap();
    assert!(matches!(end, Reconcile::End | Reconcile::Abort(_)));
    assert!(parts.iter().all(|step| matches!(step, Reconcile::Part(_))));
}

/// Settings of MDTs, as `lctl get_param` prints them.
pub fn tunables(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let mut tunables = Tunables::default();
    let known = text.lines().filter(|line| tunables.line(line, "testfs0")).count();
    assert!(tunables.mdts().len() <= known);
    assert!(tunables.mdts().keys().all(|mdt| mdt.starts_with("testfs0-MDT")));
    for remark in tunables.remarks(&Tunables::default()) {
        assert!(!remark.to_string().contains('\n'));
    }
    let shortest = tunables.shortest_timeout();
    let mut merged = tunables.clone();
    merged.merge(&tunables);
    assert_eq!((&merged, merged.shortest_timeout()), (&tunables, shortest));
    assert_eq!(tunables.remarks(&tunables), Vec::new());
}
