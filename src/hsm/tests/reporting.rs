//! Reporting files.

use super::*;

fn reporting(ms: u64) -> HsmConfig {
    HsmConfig {
        reporting_hint: Some("cr=".into()),
        reporting_interval: Duration::from_millis(ms),
        client_grace: Duration::from_secs(5),
        ..config()
    }
}

const F1: &str = "[0x200000401:0x1:0x0]";

#[test]
fn the_lines_of_a_request() {
    let mut s = Session::new(HsmConfig {
        host_mappings: vec![any("one", &["m0"]), any("two", &["m0", "m1"])],
        ..reporting(0)
    });
    s.mover(1, "m0");
    let cases = [
        ("cr=j", vec![format!("j: new {F1}"), format!("j: sent {F1} m0"), format!("j: done {F1} 0")]),
        (
            "one,cr=j",
            vec![
                format!("j: new {F1}"),
                format!("j: assign {F1} m0"),
                format!("j: sent {F1} m0"),
                format!("j: done {F1} 0"),
            ],
        ),
        (
            "two,cr=j",
            vec![
                format!("j: new {F1}"),
                format!("j: assign {F1} m0"),
                format!("j: sent {F1} m0"),
                format!("j: done {F1} 0"),
            ],
        ),
        ("cr=not/safe", vec![]),
        ("", vec![]),
    ];
    for (data, want) in cases {
        s.visible.clear();
        s.lustre(vec![archive(1, data)]);
        s.work(1, ANY);
        s.done(1, 1, 1, 0);
        assert_eq!(reports(&s.visible), want, "{data}");
    }
}

/// run_tests.sh 61: removed 1 to 2 intervals after its last request ended, not while one is there.
#[test]
fn files_are_removed_when_nothing_reports_to_them() {
    let mut s = Session::new(reporting(1000));
    s.mover(1, "m0");
    s.lustre(vec![archive(1, "cr=j")]);
    s.work(1, ANY);
    s.pass_ms(5500);
    s.visible.clear();
    s.done(1, 1, 1, 0);
    s.pass_ms(1900);
    // A new request keeps it.
    s.lustre(vec![archive(2, "cr=j")]);
    s.work(1, ANY);
    s.pass(10);
    assert!(!reports(&s.visible).contains(&"j removed".to_owned()));
    s.done(1, 2, 2, 0);
    assert_eq!(reports(&s.pass_ms(1000)), [""; 0]);
    assert_eq!(reports(&s.pass_ms(1000)), ["j removed"]);
    assert_eq!(s.core.next_deadline(), None, "no timer without a reason");
    let mut never = Session::new(reporting(0));
    never.mover(1, "m0");
    never.lustre(vec![archive(1, "cr=j")]);
    never.work(1, ANY);
    never.done(1, 1, 1, 0);
    assert_eq!(never.core.next_deadline(), None);
}

/// run_tests.sh 62: progress of restores that wait, every interval.
#[test]
fn progress_of_waiting_restores() {
    let mut s = Session::new(reporting(1000));
    s.lustre(vec![restore(1, ""), restore(2, "cr=j"), restore(3, "cr=k"), archive(4, "cr=j")]);
    let want = [
        "j: progress [0x200000401:0x2:0x0] global_queue 2/3",
        "k: progress [0x200000401:0x3:0x0] global_queue 3/3",
    ];
    for _ in 0..3 {
        assert_eq!(reports(&s.pass(1)), want);
    }
    s.mover(1, "m0");
    assert_eq!(s.work(1, limits(0, 2, 0)), [1, 2]);
    assert_eq!(reports(&s.pass(1)), ["k: progress [0x200000401:0x3:0x0] global_queue 1/1"]);
}

/// More than one step's worth of restores is reported on in slices, each once.
#[test]
fn progress_in_slices() {
    let mut s = Session::new(reporting(1000));
    s.mover(1, "m0");
    s.lustre((1..=3000).map(|oid| restore(oid, "cr=j")).collect());
    s.now.mono += Duration::from_secs(1);
    s.visible.clear();
    s.event(Event::Tick);
    let first = reports(&s.visible).len();
    assert!((1..3000).contains(&first), "{first}");
    // The request under the cursor leaves.
    s.lustre(vec![item(Action::Cancel, first as u32 + 1, first as u64 + 1, "")]);
    s.pass_ms(10);
    let lines = reports(&s.visible);
    let progress: Vec<_> = lines.iter().filter(|line| line.starts_with("j: progress")).collect();
    let mut once = progress.clone();
    once.sort_unstable();
    once.dedup();
    assert_eq!(once.len(), progress.len());
    assert!(progress.len() >= 2999, "{}", progress.len());
}
