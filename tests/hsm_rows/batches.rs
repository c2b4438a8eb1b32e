//! Rows 50, 51 and 52: archives with the same data are batched on slots, in time slices. The original's slices of 10 and
//! 20 s are shorter here, and nothing is timed: orders and states are asserted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use harness::{Daemon, FileSet, Gate, Mover, MoverSettings, Request, Settings, Step, Testbed};

use crate::steps;

/// The five tags of the original's rows.
const TAGS: [&str; 5] =
    ["tag=n0", "ignored,tag=n1", "tag=n2,ignored", "tag=n2,different", "tag=n1,different"];

/// More than the idle slices below: whatever can expire has expired then.
const LONGER_THAN_IDLE: Duration = Duration::from_millis(2500);

fn begun_tags(movers: &[Mover<'_>]) -> BTreeSet<String> {
    movers
        .iter()
        .flat_map(|mover| mover.journal())
        .filter(|step| step.step == "begun" && step.action == "ARCHIVE")
        .map(|step| step.text())
        .collect()
}

/// The most tags that ran on a mover at the same time.
fn most_tags_at_once(journal: &[Step]) -> usize {
    let mut running: BTreeMap<String, usize> = BTreeMap::new();
    let mut most = 0;
    for step in journal.iter().filter(|step| step.action == "ARCHIVE") {
        match step.step.as_str() {
            "begun" => *running.entry(step.text()).or_default() += 1,
            "ended" => {
                let count = running.get_mut(&step.text()).expect("what ends has begun");
                *count -= 1;
                if *count == 0 {
                    running.remove(&step.text());
                }
            }
            _ => {}
        }
        most = most.max(running.len());
    }
    most
}

/// 50: two movers with one slot each.
#[test]
fn row_50_batches() {
    let bed = Testbed::start("50");
    two_slots(&bed, &Settings::new().line("batch_archives_slices_sec 1 600"), &[0, 1]);
}

/// 51: one mover with two slots.
#[test]
fn row_51_batches_with_two_slots() {
    let bed = Testbed::start("51");
    let settings =
        Settings::new().line("batch_archives_slices_sec 1 600").line("batch_archives_slots_per_client 2");
    two_slots(&bed, &settings, &[0]);
}

fn two_slots(bed: &Testbed, settings: &Settings, numbers: &[usize]) {
    let daemon = Daemon::start(bed, settings);
    let gate = Gate::open_for_all(bed, "tags");
    for tag in TAGS {
        gate.close_for(tag);
    }
    let movers: Vec<Mover<'_>> = numbers
        .iter()
        .map(|&number| MoverSettings::new(bed, &format!("agent_{number}"), number).behind(&gate).start(bed))
        .collect();
    let all_wait_for_work = || {
        for number in numbers {
            daemon.wait_mover(&format!("agent_{number}"));
        }
    };
    all_wait_for_work();

    // Two tags take the two slots.
    let files = FileSet::create(bed, 100..601);
    let parts = [100..101, 200..210, 300..310, 400..410, 500..510].map(|numbers| files.part(numbers));
    for (part, tag) in parts.iter().zip(TAGS).take(2) {
        part.archive(&Request::data(tag));
    }
    bed.wait("the first two tags have begun", || begun_tags(&movers).len() == 2);

    // Three more wait, however long the slots are held.
    for (part, tag) in parts.iter().zip(TAGS).skip(2) {
        part.archive(&Request::data(tag));
    }
    daemon.wait_known(41);
    std::thread::sleep(LONGER_THAN_IDLE);
    all_wait_for_work();
    assert_eq!(begun_tags(&movers), BTreeSet::from([TAGS[0].to_owned(), TAGS[1].to_owned()]));
    assert_eq!(files.archived(), 0);

    // The first tag's only request ends: once its slot has expired one more tag gets it, and only one.
    gate.open_for(TAGS[0]);
    parts[0].wait_archived();
    bed.wait("another tag has begun", || begun_tags(&movers).len() == 3);
    std::thread::sleep(LONGER_THAN_IDLE);
    all_wait_for_work();
    assert_eq!(begun_tags(&movers).len(), 3, "exactly one more tag");
    let third = begun_tags(&movers)
        .into_iter()
        .find(|tag| TAGS[2..].contains(&tag.as_str()))
        .expect("one of the others");

    // More of the second tag goes to the slot that it still holds.
    let more = files.part(510..520);
    more.archive(&Request::data(TAGS[1]));
    daemon.wait_known(50);
    gate.open_for(TAGS[1]);
    parts[1].wait_archived();
    more.wait_archived();
    assert!(begun_tags(&movers).contains(&third));

    // In the end everything is done, never more tags at a time than slots.
    for tag in &TAGS[2..] {
        gate.open_for(tag);
    }
    let all = files.part(100..520);
    let asked: Vec<u32> = [100..101, 200..210, 300..310, 400..410, 500..520].into_iter().flatten().collect();
    bed.wait("all archives are made", || all.archived() == asked.len());
    for mover in &movers {
        assert!(most_tags_at_once(&mover.journal()) <= 2 / movers.len(), "{}", mover.id());
    }
    daemon.wait_known(0);
}

/// 50 again: a tag with more work than fits into the longest slice gives its slot up to another one that waits, and gets
/// it back later.
#[test]
fn row_50_a_full_slice_ends() {
    let bed = Testbed::start("50m");
    let settings = Settings::new().line("max_archive 1").line("batch_archives_slices_sec 1 2");
    let daemon = Daemon::start(&bed, &settings);
    let mover = MoverSettings::new(&bed, "agent_1", 1).argument("--delay-ms").argument("150").start(&bed);
    daemon.wait_mover("agent_1");
    let files = FileSet::create(&bed, 0..41);
    let (long, short) = (files.part(0..40), files.part(40..41));
    long.archive(&Request::data("tag=long"));
    bed.wait("the first tag has its slot", || !steps(&mover.journal(), "begun", "ARCHIVE").is_empty());
    short.archive(&Request::data("tag=short"));
    files.wait_archived();
    let journal = mover.journal();
    let order: Vec<String> = steps(&journal, "begun", "ARCHIVE").iter().map(|step| step.text()).collect();
    let place = order.iter().position(|tag| tag == "tag=short").expect("it was begun");
    assert!(
        place > 0 && place < order.len() - 1,
        "the short tag had its turn in between, not at place {place}"
    );
    assert_eq!(most_tags_at_once(&journal), 1);
}

/// 52, which the original leaves out because it does not work there: batches together with host mappings. A tag holds a
/// slot on one of its hosts, other tags keep out of it, and no host idles while a tag that is mapped to it waits.
#[test]
fn row_52_batches_on_hosts() {
    let bed = Testbed::start("52");
    let settings = Settings::new()
        .line("batch_archives_slices_sec 1 600")
        .line("archive_on_hosts tag=n0 agent_0")
        .line("archive_on_hosts tag=n1 agent_1 agent_2")
        .line("archive_on_hosts tag=n2 agent_3 agent_4");
    let daemon = Daemon::start(&bed, &settings);
    let gate = Gate::closed_for_all(&bed, "all");
    let movers: Vec<Mover<'_>> = (0..5)
        .map(|number| MoverSettings::new(&bed, &format!("agent_{number}"), number).behind(&gate).start(&bed))
        .collect();
    for number in 0..5 {
        daemon.wait_mover(&format!("agent_{number}"));
    }
    let tags_of = |number: usize| -> BTreeSet<String> {
        steps(&movers[number].journal(), "begun", "ARCHIVE").iter().map(|step| step.text()).collect()
    };
    let files = FileSet::create(&bed, 0..70);
    for (number, tag) in (0..).zip(TAGS) {
        files.part(number * 10..number * 10 + 10).archive(&Request::data(tag));
    }
    bed.wait("each host has begun one tag", || (0..5).all(|number| tags_of(number).len() == 1));
    // One more tag of hosts 1 and 2: it waits, though others come first nowhere.
    files.part(50..60).archive(&Request::data("tag=n1,third"));
    files.part(60..70).archive(&Request::data("tag=n0,second"));
    daemon.wait_known(70);
    std::thread::sleep(LONGER_THAN_IDLE);
    assert_eq!(tags_of(0), BTreeSet::from([TAGS[0].to_owned()]));
    let pair = |one: usize, other: usize| -> BTreeSet<String> {
        tags_of(one).union(&tags_of(other)).cloned().collect()
    };
    assert_eq!(pair(1, 2), BTreeSet::from([TAGS[1].to_owned(), TAGS[4].to_owned()]));
    assert_eq!(pair(3, 4), BTreeSet::from([TAGS[2].to_owned(), TAGS[3].to_owned()]));

    gate.open();
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    assert_eq!(tags_of(0), BTreeSet::from([TAGS[0].to_owned(), "tag=n0,second".to_owned()]));
    assert!(pair(1, 2).iter().all(|tag| tag.contains("tag=n1")) && pair(1, 2).len() == 3);
    assert!(pair(3, 4).iter().all(|tag| tag.contains("tag=n2")) && pair(3, 4).len() == 2);
    for mover in &movers {
        assert_eq!(most_tags_at_once(&mover.journal()), 1, "one slot on {}", mover.id());
    }
}
