//! A listing of the MDTs' requests as steps of a reconciliation.

use super::active_requests::{Data, LogStatus, Record, State};
use super::listing::{Reader, Summary};
use crate::hsm::reconcile::{Listed, ListedStatus, Reconcile};

/// Records in one step: the loop has other things to do.
const SLICE: usize = 256;
/// Bytes that are read for one step, which cannot hold many more records.
const BYTES: usize = 64 << 10;

/// Makes steps of the bytes of a listing.
#[derive(Debug)]
pub struct Feed {
    reader: Reader,
    records: Vec<Record>,
}

impl Feed {
    /// A listing of the MDTs of this file system.
    pub fn new(fsname: &str) -> Self {
        Self { reader: Reader::new(fsname), records: Vec::new() }
    }

    /// Takes the next bytes, of any number, and hands out the steps that follow from them.
    pub fn push(&mut self, bytes: &[u8]) -> Vec<Reconcile> {
        let mut steps = Vec::new();
        for part in bytes.chunks(BYTES) {
            self.reader.push(part, &mut self.records);
            self.hand_out(SLICE, &mut steps);
        }
        steps
    }

    /// That was all of it. The last step is [`Reconcile::End`], or [`Reconcile::Abort`] if it was no whole listing.
    pub fn finish(mut self) -> (Vec<Reconcile>, Summary) {
        let (summary, whole) = self.reader.finish(&mut self.records);
        self.reader = Reader::new("");
        let mut steps = Vec::new();
        self.hand_out(1, &mut steps);
        let first = || {
            let (line, what) =
                summary.complaints.first().map_or((0, ""), |(line, what)| (*line, what.as_str()));
            format!("line {line}: {what}")
        };
        steps.push(if !whole {
            Reconcile::Abort(format!(
                "the listing is cut off: {} lines, in the last one {}",
                summary.lines,
                last(&summary)
            ))
        } else if summary.bad > 0 && summary.records == 0 {
            Reconcile::Abort(format!("no line of the listing is one of a request: {}", first()))
        } else {
            Reconcile::End
        });
        if summary.bad > 0 {
            tracing::warn!(lines = summary.bad, "lines of a listing that cannot be read: {}", first());
        }
        (steps, summary)
    }

    fn hand_out(&mut self, at_least: usize, steps: &mut Vec<Reconcile>) {
        if self.records.len() < at_least {
            return;
        }
        let mut records = std::mem::take(&mut self.records).into_iter().peekable();
        while records.peek().is_some() {
            steps.push(Reconcile::Part(records.by_ref().take(SLICE).map(listed).collect()));
        }
    }
}

fn last(summary: &Summary) -> &str {
    summary.complaints.last().map_or("the end is missing", |(_, what)| what.as_str())
}

fn listed(record: Record) -> Listed {
    let (status, agent) = match record.state {
        State::Active { uuid, .. } => (ListedStatus::Started, uuid),
        State::Logged(LogStatus::Waiting) => (ListedStatus::Waiting, Box::default()),
        State::Logged(LogStatus::Started) => (ListedStatus::Started, Box::default()),
        State::Logged(LogStatus::Failed | LogStatus::Canceled | LogStatus::Succeed) => {
            (ListedStatus::Ended, Box::default())
        }
    };
    Listed { item: record.item, truncated: record.data != Data::Whole, status, agent }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn active(oid: u64, data: &str) -> String {
        format!(
            "fid=[0x200000401:{oid:#x}:0x0] dfid=[0x200000401:{oid:#x}:0x0] compound/cookie=0x0/{oid:#x} action=ARCHIVE \
             archive#=1 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 data=[{data}] canceled=0 uuid=a-b done=0\n"
        )
    }

    fn logged(oid: u64, status: &str) -> String {
        format!(
            "lrh=[type=10680000 len=136 idx=1/3] fid=[0x200000401:{oid:#x}:0x0] dfid=[0x200000401:{oid:#x}:0x0] \
             compound/cookie=0x0/{oid:#x} action=ARCHIVE archive#=1 flags=0x0 extent=0x0-0xffffffffffffffff gid=0x0 \
             datalen=5 status={status} data=[7461673D61]\n"
        )
    }

    fn feed(text: &str) -> (Vec<Listed>, Reconcile) {
        let mut feed = Feed::new("lus");
        let mut steps = feed.push(text.as_bytes());
        steps.extend(feed.finish().0);
        let last = steps.pop().unwrap();
        let parts = steps.into_iter().flat_map(|step| match step {
            Reconcile::Part(records) if records.len() <= SLICE => records,
            other => panic!("{other:?}"),
        });
        (parts.collect(), last)
    }

    #[test]
    fn records_say_how_far_they_are_and_whose() {
        let (listed, last) = feed(&format!("{}{}", active(1, "74616700"), active(2, "7461673D61")));
        assert_eq!(last, Reconcile::End);
        let short: Vec<_> = listed.iter().map(|l| (l.status, l.truncated, &*l.agent)).collect();
        assert_eq!(short, [(ListedStatus::Started, false, "a-b"), (ListedStatus::Started, true, "a-b")]);
        let states = ["WAITING", "STARTED", "FAILED", "CANCELED", "SUCCEED"];
        let text: String = states.iter().map(|status| logged(1, status)).collect();
        let found: Vec<_> = feed(&text).0.iter().map(|l| (l.status, l.truncated)).collect();
        let ended = (ListedStatus::Ended, false);
        let wanted = [(ListedStatus::Waiting, false), (ListedStatus::Started, false), ended, ended, ended];
        assert_eq!(found, wanted);
    }

    #[test]
    fn many_records_come_in_slices_and_in_order() {
        let text: String = (1..=2000).map(|oid| active(oid, "")).collect();
        let (listed, last) = feed(&text);
        assert_eq!(last, Reconcile::End);
        assert!(listed.iter().map(|l| u64::from(l.item.fid.oid)).eq(1..=2000));
    }

    /// What is not listed is taken for gone, so half a listing must not pass for a whole one.
    #[test]
    fn what_is_no_whole_listing_comes_to_nothing() {
        let whole = format!("{}{}", active(1, ""), active(2, ""));
        for text in [&whole[..whole.len() - 30], "bash: lctl: command not found\n", "\x01"] {
            assert!(matches!(feed(text).1, Reconcile::Abort(_)), "{text:?}");
        }
        let warned = format!("Warning: something\n{whole}");
        let (listed, last) = feed(&warned);
        assert_eq!((listed.len(), last), (2, Reconcile::End));
        assert_eq!(feed("").1, Reconcile::End);
    }
}
