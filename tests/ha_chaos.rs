//! Whatever happens to a cluster, nothing is ever started twice, and once all is well again, everything runs.
//!
//! What happens is drawn from a seed, 1 unless `COORDINATOOL_CHAOS_SEED` gives another one; real processes repeat it only as far
//! as they can. `COORDINATOOL_CHAOS_SECONDS` says how long.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use harness::Signal;
use harness::ha::{Cluster, GroupShape, Shape};
use serde_json::json;

const HOSTS: [&str; 3] = ["h0", "h1", "h2"];
const GROUPS: [&str; 3] = ["g0", "g1", "g2"];

/// Good enough to play with (splitmix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((bits ^ (bits >> 31)) % sides as u64).unwrap()
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.roll(all.len())]
    }
}

fn shape() -> Shape {
    let mut shape =
        Shape::hosts(3).set("fence_attempts", "{count: 1000, window: 1h}").set("unfinished_limit", "1s");
    for (number, root) in GROUPS.iter().enumerate() {
        let others = [HOSTS[(number + 1) % 3], HOSTS[(number + 2) % 3]];
        let group = GroupShape::new(root, HOSTS[number], &others)
            .resource_key("failures: {retries: 100, threshold: 1000}")
            .resource_key("operations: {start: {timeout: 2s}, stop: {timeout: 2s}, monitor: {timeout: 1s}}");
        shape = shape.group(group);
    }
    shape
}

/// One thing happens.
fn happen(cluster: &mut Cluster, dice: &mut Dice, manager: &mut bool) -> String {
    let (host, group) = (dice.one_of(&HOSTS), dice.one_of(&GROUPS));
    let member = if dice.roll(2) == 0 { group.to_owned() } else { format!("{group}c") };
    let what = dice.roll(22);
    match what {
        0 => {
            cluster.kill_agent(host);
            format!("kill {host}")
        }
        1 => {
            cluster.power_off(host);
            format!("power off {host}")
        }
        2..=5 => {
            if !cluster.agent_runs(host) {
                cluster.start_agent(host);
            }
            format!("start {host}")
        }
        6 => {
            cluster.pause_agent(host);
            format!("pause {host}")
        }
        7..=8 => {
            HOSTS.iter().for_each(|host| cluster.resume_agent(host));
            "resume all".to_owned()
        }
        9 => {
            cluster.stop_by_hand(&member);
            format!("stop {member} by hand")
        }
        10 => {
            let action = dice.one_of(&["start", "stop", "monitor", "probe"]);
            let words: &[&str] = dice.one_of(&[
                &["code 1", "once"] as &[&str],
                &["delay 0.7", "once"],
                &["hang", "once"],
                &["hang", "stubborn", "once"],
                &["die", "once"],
                &["fork", "once"],
                &["act", "code 1", "once"],
            ]);
            cluster.behave(&format!("{member}.{action}"), words);
            format!("{member}.{action} {words:?}")
        }
        11 => {
            let words: &[&str] =
                dice.one_of(&[&["code 1", "once"] as &[&str], &["delay 0.5", "once"], &["flood", "once"]]);
            let action = dice.one_of(&["off", "status"]);
            cluster.behave(&format!("fence.{action}"), words);
            format!("fence.{action} {words:?}")
        }
        12 => {
            if *manager {
                cluster.kill_manager();
            }
            *manager = false;
            "kill manager".to_owned()
        }
        20 if *manager => {
            // Longer than it takes to lose a host.
            let pause = Duration::from_millis(100 + dice.roll(2500) as u64);
            cluster.signal_manager(Signal::STOP);
            std::thread::sleep(pause);
            cluster.signal_manager(Signal::CONT);
            format!("pause the manager for {pause:?}")
        }
        21 => {
            cluster.signal_agent(host, Signal::TERM);
            format!("stop the agent of {host}")
        }
        _ if !*manager => {
            cluster.start_manager();
            *manager = true;
            "start manager".to_owned()
        }
        _ => {
            let (order, body) = match what {
                13 => (format!("groups/{group}/move"), json!({"to": host})),
                14 => (format!("hosts/{host}/failback"), json!({})),
                15 => (format!("hosts/{host}/deactivate"), json!({"force": dice.roll(2) == 0})),
                16 => (format!("hosts/{host}/activate"), json!({})),
                17 => (format!("hosts/{host}/fence"), json!({"force": dice.roll(2) == 0})),
                18 => (dice.one_of(&["stop", "start"]).to_owned(), json!({"target": member})),
                _ => (format!("groups/{group}/{}", dice.one_of(&["manage", "unmanage"])), json!({})),
            };
            let answer = cluster.order(&order, &body);
            format!("{order} {body}: {answer:?}")
        }
    }
}

/// Everything is mended.
fn mend(cluster: &mut Cluster, manager: bool) {
    for entry in std::fs::read_dir(cluster.directory().join("control")).unwrap().flatten() {
        let _ = std::fs::remove_file(entry.path());
    }
    for host in HOSTS {
        cluster.resume_agent(host);
        if !cluster.agent_runs(host) {
            cluster.start_agent(host);
        }
    }
    if !manager {
        cluster.start_manager();
    }
}

fn play(seed: u64, time: Duration) {
    eprintln!("COORDINATOOL_CHAOS_SEED={seed}");
    let mut dice = Dice(seed);
    let mut cluster = Cluster::start(shape());
    cluster.wait_placed(&[("g0", "h0"), ("g1", "h1"), ("g2", "h2")]);
    let mut manager = true;
    let begun = Instant::now();
    while begun.elapsed() < time {
        let told = happen(&mut cluster, &mut dice, &mut manager);
        eprintln!("{:6.2} {told}", begun.elapsed().as_secs_f64());
        if manager && let Some(ended) = cluster.manager_ended() {
            cluster.fail(&format!("the manager ended with {ended}"));
        }
        std::thread::sleep(Duration::from_millis(20 + dice.roll(250) as u64));
    }
    eprintln!("{:6.2} all is mended", begun.elapsed().as_secs_f64());
    mend(&mut cluster, manager);
    let placed = |cluster: &Cluster| {
        cluster.try_status("manager").is_some_and(|status| {
            GROUPS.iter().all(|group| {
                HOSTS.iter().any(|host| status.runs_on(group, host) && cluster.is_placed(group, host))
            })
        })
    };
    let deadline = Instant::now() + harness::patience();
    while !placed(&cluster) {
        if Instant::now() > deadline {
            cluster.fail("it never came to this: all groups run");
        }
        for host in HOSTS {
            if !cluster.agent_runs(host) {
                cluster.start_agent(host);
            }
            let _ = cluster.order(&format!("hosts/{host}/activate"), &json!({}));
            if cluster.status().host(host).fenced {
                let _ = cluster.order(&format!("hosts/{host}/reset"), &json!({}));
            }
        }
        for group in GROUPS {
            for (order, body) in [("manage", json!({})), ("start", json!({})), ("clear", json!({}))] {
                let _ = cluster.order(&format!("groups/{group}/{order}"), &body);
            }
            let _ = cluster.order("start", &json!({"target": format!("{group}c")}));
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let starts =
        cluster.history().iter().filter(|record| record.what == "start" && record.code == "0").count();
    let fenced = cluster.fenced().len();
    eprintln!("{:6.2} all is well; {starts} starts, {fenced} fencings", begun.elapsed().as_secs_f64());
}

#[test]
fn nothing_is_started_twice_and_everything_runs_in_the_end() {
    let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    play(
        number("COORDINATOOL_CHAOS_SEED").unwrap_or(1),
        Duration::from_secs(number("COORDINATOOL_CHAOS_SECONDS").unwrap_or(8)),
    );
}
