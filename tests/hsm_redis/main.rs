//! The daemon with a real redis server.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod c_reader;
mod early;
mod faulty;
mod outages;
mod rows;
mod store;
mod takeover;
mod wiring;

use harness::{Daemon, Redis, Settings, Testbed, Value, json};

/// Starts the daemon with this redis.
fn start<'bed>(bed: &'bed Testbed, redis: &Redis<'_>, settings: &Settings) -> Daemon<'bed> {
    let arguments = redis.arguments();
    Daemon::start_with(bed, settings, &arguments.each_ref().map(String::as_str))
}

/// Starts it without Lustre.
fn start_alone<'bed>(bed: &'bed Testbed, redis: &Redis<'_>, settings: &Settings) -> Daemon<'bed> {
    let mut arguments: Vec<String> = redis.arguments().into();
    arguments.extend(["--lustre", "none", "--fsname", "testfs0"].map(str::to_owned));
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Daemon::start_with(bed, settings, &arguments)
}

/// A test bed for daemons without Lustre.
fn small_bed(name: &str) -> Testbed {
    harness::TestbedSettings::new(name).mounts(1).start()
}

/// An item as peers send it.
fn item(action: u32, number: u64, data: &str) -> Value {
    let fid = json!({"f_seq": 8589935617_u64, "f_oid": number, "f_ver": 0});
    json!({
        "hai_action": action, "hai_fid": fid, "hai_dfid": fid, "hai_extent_offset": 0, "hai_extent_length": -1,
        "hai_cookie": 1000 + number, "hai_gid": 0, "hal_archive_id": 1, "hal_flags": 0, "hai_data": data
    })
}

/// Queues archives with these numbers; returns the answer.
fn queue(daemon: &Daemon<'_>, numbers: impl IntoIterator<Item = u64>) -> Value {
    let items: Vec<Value> = numbers.into_iter().map(|number| item(20, number, "")).collect();
    daemon.connect().ask(&json!({"command": "queue", "hsm_action_items": items}))
}

/// Takes requests as a mover that has room for `count`, and ends each at once, until there were so many; their cookies in
/// the order in which they were given out.
fn serve_all(daemon: &Daemon<'_>, id: &str, count: usize) -> Vec<u64> {
    let mut mover = daemon.connect();
    mover.ehlo(id);
    let mut cookies = Vec::new();
    let mut unanswered = 0;
    while cookies.len() < count || unanswered > 0 {
        if unanswered == 0 {
            mover.ask_for_work((count - cookies.len()) as i64);
        }
        let answer = mover.receive();
        let Some(list) = answer["hsm_action_list"]["list"].as_array() else {
            assert_eq!(answer, json!({"command": "done"}));
            unanswered -= 1;
            continue;
        };
        for item in list {
            cookies.push(item["hai_cookie"].as_i64().expect("a cookie") as u64);
            mover.done(item, 0);
            unanswered += 1;
        }
    }
    cookies
}
