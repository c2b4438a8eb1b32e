//! What those are told who follow what happens.

use super::super::feed::{Happening, MoverChange, RequestChange, Subject};
use super::*;
use crate::hsm::config::QuarantineConfig;

/// What happened since, each in a few words.
fn happened(s: &mut Session) -> Vec<String> {
    let words = |Happening { subject, .. }: Happening| match subject {
        Subject::Request { key, mover, change, .. } => {
            let mover = mover.map(|mover| format!(" {mover}")).unwrap_or_default();
            match change {
                RequestChange::Ended { outcome, status } => {
                    format!("{} {} {status}{mover}", key.cookie, outcome.name())
                }
                other => format!("{} {other:?}{mover}", key.cookie),
            }
        }
        Subject::Mover { id, change: MoverChange::Quarantined(_) } => format!("{id} Quarantined"),
        Subject::Mover { id, change } => format!("{id} {change:?}"),
    };
    s.core.take_happened().map(words).collect()
}

#[test]
fn those_who_follow_are_told_everything_once() {
    let quarantine = QuarantineConfig { errors: 1, ..QuarantineConfig::default() };
    let mut s = Session::new(HsmConfig { quarantine, ..config() });
    s.lustre(vec![archive(1, "")]);
    assert!(happened(&mut s).is_empty(), "nobody follows");
    s.core.watch(true);
    s.mover(1, "m0");
    s.lustre(vec![archive(2, "")]);
    assert_eq!(happened(&mut s), ["m0 Connected", "2 Admitted"]);
    assert_eq!(s.work(1, limits(1, 0, 0)), [1]);
    s.done(1, 1, 1, 0);
    assert_eq!(happened(&mut s), ["1 Sent m0", "1 done 0 m0"]);
    assert_eq!(s.work(1, limits(1, 0, 0)), [2]);
    s.disconnect(1);
    s.mover(2, "m1");
    assert_eq!(happened(&mut s), ["2 Sent m0", "m0 Away", "m1 Connected"]);
    s.pass(700);
    assert_eq!(happened(&mut s), ["2 Requeued m0", "m0 Gone"]);
    s.mover_with(3, "m2", vec![archive(2, ""), archive(3, "")]);
    assert_eq!(happened(&mut s), ["m2 Connected", "2 Claimed m2", "3 Admitted", "3 Claimed m2"]);
    s.done(3, 2, 2, 5);
    assert_eq!(happened(&mut s), ["m2 Quarantined", "2 done 5 m2"]);
    s.pass(900);
    s.order(Order::Release { mover: "m2".into() });
    s.order(Order::Drain { mover: "m2".into(), on: true });
    s.order(Order::Limit { mover: "m1".into(), most: Some(3) });
    let want = ["m2 Trial", "m2 Released", "m2 Drained(true)", "m1 Limited(Some(3))"];
    assert_eq!(happened(&mut s), want);
    s.lustre(vec![archive(4, ""), item(Action::Cancel, 4, 4, "")]);
    assert_eq!(happened(&mut s), ["4 Admitted", "4 cancelled 125"]);
    s.core.watch(false);
    s.lustre(vec![archive(5, "")]);
    assert!(happened(&mut s).is_empty());
}
