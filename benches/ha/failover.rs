//! How long a group is down when its host fails: two hosts, real agents, the real manager. The times are those of the marker
//! files that the resource agents leave, not what the manager says.

use std::fs;
use std::time::{Duration, SystemTime};

use harness::ha::{Cluster, GroupShape, Shape};

use crate::figures::Figure;

/// How the host fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Failure {
    /// Its agent and all that it started are gone, its kernel refuses connections, and its fence device says off at once.
    Off,
    /// Its agent is killed; what it started goes on. The host must be powered off.
    AgentKilled,
    /// SIGSTOP of the agent: its kernel takes connections, but nobody answers. The host must be powered off.
    Silent,
}

/// One thing to measure.
struct Case {
    name: &'static str,
    failure: Failure,
    settings: &'static [(&'static str, &'static str)],
    /// Children of the root, which is a pool.
    targets: usize,
    /// What each start takes.
    start: Duration,
    halo: &'static str,
    aim: &'static str,
}

const NO_TIME: Duration = Duration::ZERO;
/// Which hosts are lost at once when their agent is gone, as with HALO's --fence-on-connection-close.
const NO_GRACE: (&str, &str) = ("agent_grace", "0");
/// A host that is lost is fenced one heartbeat later: by then it is known whether others are lost as well.
const SHORT_HEARTBEAT: (&str, &str) = ("heartbeat_interval", "100ms");
const HALO_CYCLE: (&str, &str) = ("monitor_interval", "5s");
const HALO_TEST_CYCLE: (&str, &str) = ("monitor_interval", "500ms");

/// Failover of a host that is declared dead.
pub fn declared_dead(runs: usize, quick: bool) -> (Vec<Figure>, Vec<String>) {
    let mut cases = vec![Case {
        name: "host off, agent gone, 5 s cycle",
        failure: Failure::Off,
        settings: &[NO_GRACE, HALO_CYCLE],
        targets: 1,
        start: NO_TIME,
        halo: "2.62 (0.52-4.12)",
        aim: "< HALO",
    }];
    if !quick {
        cases.push(Case {
            name: "host on, agent gone, powered off, 5 s cycle",
            failure: Failure::AgentKilled,
            ..case(&cases[0])
        });
        cases.push(Case {
            name: "host off, agent gone, 0.5 s cycle",
            settings: &[NO_GRACE, HALO_TEST_CYCLE],
            halo: "0.31 (0.12-0.49)",
            ..case(&cases[0])
        });
        cases.push(Case {
            name: "host off, agent gone, 0.5 s cycle, heartbeat 0.1 s",
            settings: &[NO_GRACE, HALO_TEST_CYCLE, SHORT_HEARTBEAT],
            halo: "0.31 (0.12-0.49)",
            ..case(&cases[0])
        });
    }
    measure(&cases, runs)
}

/// The same with default settings: an agent that is gone may come back within 30 s.
pub fn with_grace(runs: usize) -> (Vec<Figure>, Vec<String>) {
    let case = Case {
        name: "host off, agent gone, default settings (30 s grace)",
        failure: Failure::Off,
        settings: &[],
        targets: 1,
        start: NO_TIME,
        halo: "never",
        aim: "-",
    };
    measure(&[case], runs)
}

/// A silent host with default settings.
pub fn silent(runs: usize) -> (Vec<Figure>, Vec<String>) {
    let case = Case {
        name: "silent host, default settings",
        failure: Failure::Silent,
        settings: &[],
        targets: 1,
        start: NO_TIME,
        halo: "never",
        aim: "15",
    };
    measure(&[case], runs)
}

/// A pool with eight targets on it that take a second each to start.
pub fn parallel_starts(runs: usize, quick: bool) -> (Vec<Figure>, Vec<String>) {
    let mut cases = vec![Case {
        name: "pool and 8 OSTs of 1 s each, host off, heartbeat 0.1 s",
        failure: Failure::Off,
        settings: &[NO_GRACE, HALO_TEST_CYCLE, SHORT_HEARTBEAT],
        targets: 8,
        start: Duration::from_secs(1),
        halo: "9.9",
        aim: "2.2",
    }];
    if !quick {
        cases.push(Case {
            name: "pool and 8 OSTs of 1 s each, host off",
            settings: &[NO_GRACE],
            ..case(&cases[0])
        });
    }
    measure(&cases, runs)
}

fn case(of: &Case) -> Case {
    Case { ..*of }
}

/// The device says off at once; once the manager has asked it, nothing is heard of the host any more. (Power that is off takes
/// the kernel with it; here the kernel is the one of this machine, which goes on to refuse connections until then.)
fn switch_off(cluster: &mut Cluster) {
    let directory = cluster.directory().to_owned();
    let write = |name: &str| fs::write(directory.join(name), "off\n").expect("a file can be written");
    write("says/h0");
    cluster.kill_agent("h0");
    for member in cluster.members("pool") {
        cluster.stop_by_hand(&member);
    }
    cluster.wait_until("the fence device is asked", |_| {
        fs::read_to_string(directory.join("fencing")).is_ok_and(|asked| asked.contains("h0 "))
    });
    write("power/h0");
}

/// What a run took: from the failure to the first start on the other host, and from there until all of the group runs.
struct Took {
    noticed: Duration,
    started: Duration,
}

fn measure(cases: &[Case], runs: usize) -> (Vec<Figure>, Vec<String>) {
    let (mut figures, mut wrong) = (Vec::new(), Vec::new());
    for case in cases {
        let mut all = Vec::new();
        for number in 0..runs {
            match run(case, number) {
                Ok(took) => all.push(took),
                Err(why) => wrong.push(format!("{}: {why}", case.name)),
            }
        }
        let figure = |what: &str, of: &dyn Fn(&Took) -> Duration| {
            let runs: Vec<Duration> = all.iter().map(of).collect();
            Figure::seconds(format!("{}{what}", case.name), &runs)
        };
        figures.push(figure("", &|took| took.noticed + took.started).against(case.halo, case.aim));
        figures.push(figure(": until the first start", &|took| took.noticed));
        figures.push(figure(": from there until all runs", &|took| took.started));
    }
    (figures, wrong)
}

fn run(case: &Case, number: usize) -> Result<Took, String> {
    let mut group = GroupShape::new("pool", "h0", &["h1"]);
    group.children = (0..case.targets).map(|target| format!("ost{target}")).collect();
    let mut shape = Shape::hosts(2).group(group);
    shape.settings.clear();
    for (key, value) in case.settings {
        shape = shape.set(key, value);
    }
    let mut cluster = Cluster::start(shape);
    cluster.wait_placed(&[("pool", "h0")]);
    let delay = format!("delay {}", case.start.as_secs_f64());
    for member in cluster.members("pool").into_iter().filter(|_| !case.start.is_zero()) {
        cluster.behave(&format!("{member}.start.h1"), &[&delay]);
    }
    // Somewhere in the cycle, another place in each run.
    std::thread::sleep(Duration::from_millis(1500 + (number as u64 * 1700) % 5000));
    let failed = SystemTime::now();
    match case.failure {
        Failure::Off => switch_off(&mut cluster),
        Failure::AgentKilled => cluster.kill_agent("h0"),
        Failure::Silent => cluster.pause_agent("h0"),
    }
    cluster.wait_until("the group runs on h1", |cluster| cluster.is_placed("pool", "h1"));
    let doubles = cluster.doubles();
    if !doubles.is_empty() {
        return Err(format!("started twice: {doubles:?}"));
    }
    // A root takes `start`, and its marker appears at the end of that.
    let active = |member: &str| {
        let marker = cluster.directory().join("active").join(format!("{member}.h1"));
        let modified = fs::metadata(&marker).and_then(|file| file.modified());
        modified.map_err(|error| format!("{}: {error}", marker.display()))
    };
    let since = |from: SystemTime, to: SystemTime| to.duration_since(from).unwrap_or_default();
    let root = active("pool")?;
    let mut last = root;
    for member in cluster.members("pool") {
        last = last.max(active(&member)?);
    }
    let noticed = since(failed, root).saturating_sub(case.start);
    Ok(Took { noticed, started: since(failed, last).saturating_sub(noticed) })
}
