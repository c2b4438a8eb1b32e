//! Comparing with what the MDTs list.

use super::keepalive::{kept, watched};
use super::*;
use crate::hsm::reconcile::{Adopt, Listed, ListedStatus, Listing, Reconcile, Reconciled};
use ListedStatus::{Ended, Started, Waiting};

const ENOENT: i32 = 2;
const ECANCELED: i32 = 125;

fn listed(item: ActionItem, status: ListedStatus) -> Listed {
    Listed { item, truncated: false, status, agent: Box::default() }
}

impl Session {
    fn step(&mut self, ask: u64, step: Reconcile) -> Vec<Effect> {
        self.event(Event::Reconcile { ask: AskId(ask), step })
    }

    fn begin(&mut self, all_mdts: bool, adopt: Adopt) {
        self.pass_ms(1);
        let listing = Listing { source: "a test".into(), all_mdts, adopt };
        assert_eq!(self.step(1, Reconcile::Begin(listing)), []);
    }

    /// A whole listing of all MDTs, in parts of one. Returns what follows.
    fn compare(&mut self, records: Vec<Listed>) -> Vec<Effect> {
        self.begin(true, Adopt::All);
        for record in records {
            assert_eq!(self.step(1, Reconcile::Part(vec![record])), [], "nothing happens before the end");
        }
        self.end()
    }

    /// The end of the listing; all requests are looked through, in slices.
    fn end(&mut self) -> Vec<Effect> {
        let mut effects = self.step(1, Reconcile::End);
        effects.extend(self.pass_ms(1));
        effects
    }
}

fn reports(effects: &[Effect]) -> Vec<Reconciled> {
    let report = |effect: &Effect| match effect {
        Effect::Operator { reply: OperatorReply::Reconciled(report), .. } => Some((**report).clone()),
        _ => None,
    };
    effects.iter().filter_map(report).collect()
}

fn refused(effects: &[Effect]) -> usize {
    let refused =
        |effect: &&Effect| matches!(effect, Effect::Operator { reply: OperatorReply::Refused(_), .. });
    effects.iter().filter(refused).count()
}

/// The daemon died between the pipe and the store.
#[test]
fn what_is_missing_is_adopted_if_the_mdt_knows_it() {
    // Its status, the MDT's answer; whether it is asked about, adopted, and ended as cancelled.
    let cases = [
        (Started, 0, true, true, false),
        (Started, ECANCELED, true, true, true),
        (Started, ENOENT, true, false, false),
        (Started, 11, true, false, false),
        (Waiting, 0, false, false, false),
        (Ended, 0, false, false, false),
    ];
    for (status, errno, asked, adopted, cancelled) in cases {
        let mut s = Session::new(watched());
        s.mover(1, "m0");
        assert_eq!(s.work(1, ANY), [0; 0]);
        let record = Listed { truncated: true, ..listed(archive(1, "tag=a"), status) };
        let mut effects = s.compare(vec![record]);
        assert_eq!(kept(&effects), if asked { vec![1] } else { vec![] }, "{status:?}");
        if asked {
            effects = s.alive(1, errno);
        }
        let report = &reports(&effects)[0];
        assert_eq!((report.listed, report.adopted), (1, u64::from(adopted)), "{status:?} {errno}");
        assert_eq!(report.stale, u64::from(errno == ENOENT));
        assert_eq!(report.undecided, u64::from(errno == 11));
        assert_eq!(report.waiting, u64::from(status == Waiting));
        assert_eq!(s.core.counters().adopted, u64::from(adopted));
        assert_eq!(!endings(&effects).is_empty(), cancelled, "{status:?} {errno}");
        if adopted && !cancelled {
            let work = list(&effects, 1).unwrap();
            assert_eq!(&*work.items[0].extra, r#""hai_data_truncated":true"#);
            let put = |op: &StoreOp| matches!(op, StoreOp::Put(item) if item.key() == key(1));
            assert!(s.store.iter().any(put), "it is durable");
        }
    }
}

#[test]
fn what_is_here_keeps_its_data() {
    let mut s = Session::new(watched());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "tag=a long text")]);
    let effects = s.compare(vec![Listed { truncated: true, ..listed(archive(1, "tag=a"), Started) }]);
    assert_eq!(reports(&effects)[0].known, 1);
    assert_eq!(kept(&effects), [0; 0]);
    let effects = s.recv(1, ANY);
    assert_eq!(*list(&effects, 1).unwrap().items[0].data, *b"tag=a long text");
}

#[test]
fn nobody_elses_requests_are_adopted() {
    // What may be adopted, whose it is, and whether it is asked about.
    let ours = || Adopt::Agent("ours".into());
    let cases = [
        (ours(), "ours", 1, 0),
        (ours(), "other", 0, 1),
        (ours(), "", 1, 0),
        (Adopt::All, "other", 1, 0),
        (Adopt::Nothing, "ours", 0, 0),
    ];
    for (adopt, agent, asked, elsewhere) in cases {
        let mut s = Session::new(watched());
        s.begin(true, adopt.clone());
        s.step(1, Reconcile::Part(vec![Listed { agent: agent.into(), ..listed(archive(1, ""), Started) }]));
        let mut effects = s.end();
        assert_eq!(kept(&effects).len(), asked, "{adopt:?} {agent}");
        effects.extend(s.alive(1, ENOENT));
        assert_eq!(reports(&effects)[0].elsewhere, elsewhere, "{adopt:?} {agent}");
    }
}

#[test]
fn what_ended_meanwhile_is_not_adopted() {
    let mut s = Session::new(watched());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "")]);
    s.work(1, ANY);
    s.begin(true, Adopt::All);
    s.done(1, 1, 1, 0);
    // The list is older than that.
    s.step(1, Reconcile::Part(vec![listed(archive(1, ""), Started)]));
    let effects = s.end();
    assert_eq!((kept(&effects).len(), reports(&effects).len()), (0, 1));
}

#[test]
fn what_is_gone_there_is_looked_into_before_it_is_dropped() {
    // Listed as ended, or not at all; the MDT's answer; what becomes of it: (waiting, in doubt, dropped).
    let cases = [
        (true, ENOENT, (0, 0, 1)),
        (true, 0, (1, 0, 0)),
        (true, 11, (1, 0, 0)),
        (false, ENOENT, (1, 1, 0)),
        (false, 0, (1, 0, 0)),
        (false, 11, (1, 0, 0)),
    ];
    for (ended, errno, want) in cases {
        let mut s = Session::new(watched());
        s.lustre(vec![archive(1, "")]);
        let effects = s.compare(if ended { vec![listed(archive(1, ""), Ended)] } else { Vec::new() });
        assert_eq!(kept(&effects), [1], "{ended} {errno}");
        let effects = s.alive(1, errno);
        let report = &reports(&effects)[0];
        let counters = s.core.counters();
        let got = (counters.pending[2], counters.doubtful, report.dropped);
        assert_eq!(got, want, "{ended} {errno}");
        assert_eq!(report.alive, u64::from(errno == 0));
        assert_eq!(report.undecided, u64::from(errno == 11));
        let differs = errno == ENOENT;
        assert_eq!(report.examples.len(), usize::from(differs), "{:?}", report.examples);
    }
    // What runs stays with its mover, whose end tells.
    let mut s = Session::new(watched());
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "")]);
    s.work(1, ANY);
    s.compare(vec![listed(archive(1, ""), Ended)]);
    s.alive(1, ENOENT);
    assert_eq!(s.core.counters().running[2], 1);
}

#[test]
fn only_what_the_list_could_show_is_missed() {
    let other = ActionItem { fid: Fid::new(0x2_4000_0401, 2, 0), ..archive(2, "") };
    // Whether the list shows all MDTs, and who is asked about.
    for (all_mdts, want) in [(true, vec![2, 3]), (false, vec![3])] {
        let mut s = Session::new(watched());
        s.lustre(vec![archive(1, ""), other.clone(), archive(3, "")]);
        s.begin(all_mdts, Adopt::All);
        // It came after the list was made.
        s.lustre(vec![archive(4, "")]);
        s.step(1, Reconcile::Part(vec![listed(archive(1, ""), Started)]));
        assert_eq!(kept(&s.end()), want, "{all_mdts}");
    }
}

#[test]
fn a_listing_that_is_cut_off_changes_nothing() {
    for aborted in [true, false] {
        let mut s = Session::new(watched());
        s.lustre(vec![archive(1, "")]);
        let before = s.core.counters();
        s.begin(true, Adopt::All);
        s.step(1, Reconcile::Part(vec![listed(archive(1, ""), Ended), listed(archive(2, ""), Started)]));
        if aborted {
            assert_eq!(refused(&s.step(1, Reconcile::Abort("killed".into()))), 1);
            assert_eq!(s.step(1, Reconcile::End), [], "it is over");
        } else {
            // The shell died; another listing begins.
            let listing = Listing { source: "again".into(), all_mdts: true, adopt: Adopt::All };
            assert_eq!(refused(&s.step(2, Reconcile::Begin(listing))), 1);
            assert_eq!(s.step(1, Reconcile::End), []);
        }
        assert_eq!(s.core.counters(), before);
    }
}

#[test]
fn one_listing_at_a_time() {
    let mut s = Session::new(watched());
    s.lustre(vec![archive(1, "")]);
    assert_eq!(kept(&s.compare(Vec::new())), [1]);
    let listing = Listing { source: "again".into(), all_mdts: true, adopt: Adopt::All };
    assert_eq!(refused(&s.step(2, Reconcile::Begin(listing.clone()))), 1);
    assert_eq!(reports(&s.alive(1, 0)).len(), 1, "the first goes on");
    assert_eq!(refused(&s.step(2, Reconcile::Begin(listing))), 0);
}

#[test]
fn differences_are_told() {
    let mut s = Session::new(watched());
    s.lustre(vec![archive(1, "")]);
    let effects = s.compare(vec![listed(ActionItem { archive_id: 9, ..archive(1, "") }, Started)]);
    let report = &reports(&effects)[0];
    assert_eq!((report.known, report.different), (1, 1));
    assert!(report.examples[0].contains("ARCHIVE of archive 9"), "{:?}", report.examples);
}

/// More than can be asked about, or told, at a time.
#[test]
fn a_long_listing_is_worked_off_bit_by_bit() {
    let mut s = Session::new(watched());
    let records: Vec<_> = (1..=500).map(|oid| listed(archive(oid, ""), Started)).collect();
    s.begin(true, Adopt::All);
    s.step(1, Reconcile::Part(records));
    let mut open = kept(&s.end());
    let mut reported = Vec::new();
    let mut most = 0;
    while let Some(cookie) = open.pop() {
        most = most.max(open.len());
        let effects = s.alive(cookie as u32, 0);
        open.extend(kept(&effects));
        reported.extend(reports(&effects));
    }
    assert!(most <= 128, "{most}");
    assert_eq!((reported.len(), reported[0].adopted, reported[0].examples.len()), (1, 500, 20));
    assert_eq!(s.core.counters().pending[2], 500);
}
