//! Command line, environment, file and defaults of the daemon put together.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use coordinatool::config::Verbosity;
use coordinatool::hsm::config::{BatchConfig, HostChoice, HostMapping};
use coordinatool::server::config::{
    Loaded, Lustre, Note, Redis, Settings, Sources, StoreKind, instance, load,
};
use coordinatool::server::options::{Command, parse};
use coordinatool::server::reconcile;

#[derive(Default)]
struct Fake {
    env: BTreeMap<&'static str, &'static str>,
    files: BTreeMap<&'static str, &'static str>,
}

impl Sources for Fake {
    fn env(&self, name: &str) -> Option<OsString> {
        self.env.get(name).map(OsString::from)
    }

    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        let found = path.to_str().and_then(|path| self.files.get(path));
        found.map(|text| text.as_bytes().to_vec()).ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

const CONF: &str = "/etc/coordinatool.conf";

fn try_load(
    args: &[&str],
    env: &[(&'static str, &'static str)],
    file: Option<&'static str>,
) -> Result<Loaded, String> {
    let words = std::iter::once("coordinatool").chain(args.iter().copied());
    let options = match parse(words) {
        Command::Run(options) => options,
        other => panic!("{args:?}: {other:?}"),
    };
    let fake = Fake {
        env: env.iter().copied().collect(),
        files: file.map(|text| (CONF, text)).into_iter().collect(),
    };
    load(&options, &fake).map_err(|problems| problems.to_string())
}

fn settings(args: &[&str], env: &[(&'static str, &'static str)], file: &'static str) -> Settings {
    try_load(args, env, Some(file)).unwrap().settings
}

fn error(args: &[&str], env: &[(&'static str, &'static str)], file: &'static str) -> String {
    try_load(args, env, Some(file)).unwrap_err()
}

fn warnings(file: &'static str) -> Vec<String> {
    let notes = try_load(&["/mnt"], &[], Some(file)).unwrap().notes;
    let warning = |note| match note {
        Note::Warn(text) => Some(text),
        Note::Info(_) => None,
    };
    notes.into_iter().filter_map(warning).collect()
}

#[test]
fn defaults_are_those_of_c() {
    let s = try_load(&["/mnt/lustre"], &[], None).unwrap().settings;
    assert_eq!((s.host.as_str(), s.port.as_str()), ("coordinatool", "5123"));
    assert_eq!(s.verbose, Verbosity::Normal);
    assert_eq!(s.lustre, Lustre::Mount("/mnt/lustre".into()));
    assert_eq!(s.hsm.client_grace, Duration::from_millis(600_000));
    assert_eq!(s.hsm.reporting_interval, Duration::from_secs(60));
    assert_eq!((s.hsm.archive_ids.len(), s.hsm.batch, s.hsm.reporting_hint), (0, None, None));
    assert_eq!((s.store, s.redis), (StoreKind::Auto, Redis::Unset));
}

#[test]
fn the_command_line_wins_over_the_environment_over_the_file() {
    let file = "host f\nport 1\nclient_grace_ms 1\nredis_host f\nverbose error\n";
    let env = [
        ("COORDINATOOL_HOST", "e"),
        ("COORDINATOOL_PORT", "2"),
        ("COORDINATOOL_CLIENT_GRACE", "2"),
        ("COORDINATOOL_REDIS_HOST", ""),
        ("COORDINATOOL_VERBOSE", "info"),
    ];
    let s = settings(&["/mnt"], &[], file);
    assert_eq!((s.host.as_str(), s.port.as_str(), s.redis), ("f", "1", Redis::Configured));
    assert_eq!((s.hsm.client_grace, s.verbose), (Duration::from_millis(1), Verbosity::Error));
    let s = settings(&["/mnt"], &env, file);
    assert_eq!((s.host.as_str(), s.port.as_str(), s.redis), ("e", "2", Redis::Disabled));
    assert_eq!((s.hsm.client_grace, s.verbose), (Duration::from_millis(2), Verbosity::Info));
    let args = ["/mnt", "-H", "c", "-p", "3", "--client-grace", "3", "--redis-host", "c", "-q", "-q", "-v"];
    let s = settings(&args, &env, file);
    assert_eq!((s.host.as_str(), s.port.as_str(), s.redis), ("c", "3", Redis::Configured));
    assert_eq!((s.hsm.client_grace, s.verbose), (Duration::from_millis(3), Verbosity::Normal));
}

#[test]
fn archive_ids_of_the_command_line_replace_those_of_the_file() {
    let file = "archive_id 1\nARCHIVE_ID 2\n";
    assert_eq!(settings(&["/mnt"], &[], file).hsm.archive_ids, [1, 2]);
    assert_eq!(settings(&["/mnt", "-A", "3", "--archive", "4"], &[], file).hsm.archive_ids, [3, 4]);
    assert!(error(&["/mnt"], &[], "archive_id 0\n").contains("/etc/coordinatool.conf:1: archive_id: `0`"));
    assert!(error(&["/mnt", "-A", "x"], &[], "").contains("--archive: `x`"));
}

#[test]
fn all_keys_of_c_are_read() {
    let file = "
        # indented lines fail in C
        archive_on_hosts tag=n0 m0
        archive_on_hosts tag=n1  m1\tm2
        archive_on_hosts tag=none
        archive_on_hosts_CH grouping= 0 m0 m1 m2
        archive_on_hosts_ch group2= 10 m0
        batch_archives_slices_sec 300  3600
        batch_archives_slots_per_client 2
        reporting_dir .reporting
        reporting_hint cr
        reporting_schedule_interval_ms 1000\r
        redis_port 6380
        client_id ignored
        max_archive nonsense is the client's business
    ";
    let loaded = try_load(&["/mnt"], &[], Some(file)).unwrap();
    let s = loaded.settings;
    let hosts = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    let mapping =
        |tag: &str, names: &[&str], choice| HostMapping { tag: tag.into(), hosts: hosts(names), choice };
    let want = [
        mapping("tag=n0", &["m0"], HostChoice::Any),
        mapping("tag=n1", &["m1", "m2"], HostChoice::Any),
        mapping("grouping=", &["m0", "m1", "m2"], HostChoice::Hash { modulus: None }),
        mapping("group2=", &["m0"], HostChoice::Hash { modulus: Some(10) }),
    ];
    assert_eq!(s.hsm.host_mappings, want);
    let batch =
        BatchConfig { idle: Duration::from_secs(300), max: Some(Duration::from_secs(3600)), slots: 2 };
    assert_eq!(s.hsm.batch, Some(batch));
    assert_eq!(s.reporting_dir.as_deref(), Some(".reporting"));
    assert_eq!(s.hsm.reporting_hint.as_deref(), Some("cr="));
    assert_eq!(s.hsm.reporting_interval, Duration::from_secs(1));
    assert!(loaded.notes.iter().all(|note| matches!(note, Note::Info(_))), "{:?}", loaded.notes);
}

#[test]
fn what_is_kept_alive_and_what_is_given_up_can_be_set() {
    let file = "request_timeout_sec 600\nkeepalive_running_max_sec 3600\nkeepalive_rate 0\n\
        stranded_max 10\nstranded_timeout_sec 0\n";
    let hsm = settings(&["/mnt"], &[], file).hsm;
    assert_eq!(hsm.request_timeout, Duration::from_secs(600));
    assert_eq!(hsm.keepalive_running_max, Duration::from_secs(3600));
    assert_eq!((hsm.keepalive_rate, hsm.stranded_max, hsm.stranded_timeout), (0, 10, Duration::ZERO));
    let hsm = settings(&["/mnt"], &[], "").hsm;
    assert_eq!(hsm.request_timeout, Duration::from_secs(3600));
    assert_eq!(hsm.stranded_timeout, Duration::from_secs(3 * 86_400));
    // There is no MDT to keep anything alive at.
    let none = settings(&["--lustre", "none", "--fsname", "lus"], &[], file).hsm;
    assert_eq!(none.request_timeout, Duration::ZERO);
    assert!(error(&["/mnt"], &[], "request_timeout_sec 1h\n").contains(":1: request_timeout_sec: `1h`"));
}

#[test]
fn batching_is_off_without_slices_or_slots() {
    let slots = |file| settings(&["/mnt"], &[], file).hsm.batch.map(|batch| (batch.slots, batch.max));
    assert_eq!(slots("batch_archives_slots_per_client 4\n"), None);
    assert_eq!(slots("batch_archives_slices_sec 0 10\n"), None);
    assert_eq!(slots("batch_archives_slices_sec 5\nbatch_archives_slots_per_client 0\n"), None);
    assert_eq!(slots("batch_archives_slices_sec 5\n"), Some((1, None)));
    assert_eq!(slots("batch_archives_slices_sec 5 0\n"), Some((1, None)));
}

/// C turns `reporting_hint cr=` into `cr==`, which nothing matches.
#[test]
fn a_reporting_hint_may_have_its_equals_sign() {
    let hint = |file| settings(&["/mnt"], &[], file).hsm.reporting_hint;
    assert_eq!(hint("reporting_dir r\nreporting_hint cr=\n").as_deref(), Some("cr="));
    assert_eq!(hint("reporting_hint cr=\n"), None);
    assert!(warnings("reporting_hint cr\n")[0].contains("without reporting_dir"));
    assert!(error(&["/mnt"], &[], "reporting_hint a=b\n").contains("`a=b`"));
}

/// C takes a hash count that it cannot read for 0.
#[test]
fn bad_values_name_file_line_key_and_what_would_be_right() {
    let cases: &[(&'static str, &str)] = &[
        (
            "host h\narchive_on_hosts_ch grouping= m0 m1\n",
            "/etc/coordinatool.conf:2: archive_on_hosts_ch: hash count",
        ),
        ("archive_on_hosts_ch grouping=\n", "TAG N HOST"),
        ("verbose inof\n", "did you mean `info`?"),
        ("client_grace_ms 10s\n", ":1: client_grace_ms: `10s` is not a whole number"),
        ("client_grace_ms -1\n", "client_grace_ms: `-1`"),
        ("redis_port 70000\n", "from 0 to 65535"),
        ("batch_archives_slices_sec 1 2 3\n", "IDLE [MAX]"),
        ("batch_archives_slices_sec 1 x\n", "maximum time: `x`"),
        ("store embeded\n", "did you mean `embedded`?"),
        ("fsname waytoolong\n", "`waytoolong`"),
        ("lustre /mnt\nlustre nope\n", ":2: lustre: `nope` is neither"),
        ("max_message_size 1T\n", "`1T` is not a size"),
        ("max_message_size 10\n", "less than 4096"),
        ("state_dir here\n", "not an absolute path"),
        ("port 70000\n", "port: `70000` is not a port"),
        ("tls_port 70000\n", "tls_port: `70000` is not a port"),
        ("redis_host 10.0.0.1:6380\n", "set `10.0.0.1` here and `redis_port 6380`"),
    ];
    for (file, want) in cases {
        let got = error(&["/mnt"], &[], file);
        assert!(got.contains(want), "{file}: {got}");
    }
    assert_eq!(settings(&["/mnt"], &[], "redis_host ::1\n").redis_server.host, "::1");
    let two = error(&["/mnt"], &[("COORDINATOOL_CLIENT_GRACE", "x")], "verbose a\nredis_port b\n");
    assert_eq!(two.lines().count(), 3, "{two}");
    assert!(two.contains("COORDINATOOL_CLIENT_GRACE: `x`"), "{two}");
}

#[test]
fn unknown_keys_and_keys_without_value_are_warnings() {
    let got = warnings("client_grace 5\nport\nblah blub\nredis_host\n");
    assert_eq!(got.len(), 3, "{got:?}");
    assert!(
        got[0].contains(":1: skipping unknown key `client_grace`: did you mean `client_grace_ms`?"),
        "{got:?}"
    );
    assert!(got[1].contains(":2: skipping `port`"), "{got:?}");
    assert!(got[2].contains("`blah`"), "{got:?}");
    assert_eq!(settings(&["/mnt"], &[], "redis_host\n").redis, Redis::Disabled);
}

#[test]
fn a_named_file_must_exist() {
    assert!(try_load(&["/mnt"], &[], None).is_ok());
    assert!(try_load(&["/mnt", "-c", "/nowhere"], &[], None).unwrap_err().contains("/nowhere: cannot read"));
    assert!(
        try_load(&["/mnt"], &[("COORDINATOOL_CONF", "/nowhere2")], None).unwrap_err().contains("/nowhere2")
    );
    // -c wins over the variable.
    let loaded = try_load(&["/mnt", "-c", CONF], &[("COORDINATOOL_CONF", "/nowhere2")], Some("port 9\n"));
    assert_eq!(loaded.unwrap().settings.port, "9");
}

#[test]
fn there_is_one_mount_point_or_none_is_wanted() {
    assert!(try_load(&[], &[], None).unwrap_err().contains("no mount point specified"));
    assert!(try_load(&["/a", "/b"], &[], None).unwrap_err().contains("what is `/b`?"));
    assert!(try_load(&["--lustre", "none"], &[], None).unwrap_err().contains("--fsname NAME"));
    assert!(
        try_load(&["--lustre", "none", "--fsname", "f", "/a"], &[], None).unwrap_err().contains("contradict")
    );
    let s = try_load(&["--lustre", "none", "--fsname", "testfs0"], &[], None).unwrap().settings;
    assert_eq!((s.lustre, s.fsname.as_deref()), (Lustre::None, Some("testfs0")));
    let s = settings(&[], &[], "lustre none\nfsname testfs0\n");
    assert_eq!(s.lustre, Lustre::None);
    let s = settings(&["/mnt"], &[], "lustre none\nfsname testfs0\n");
    assert_eq!(s.lustre, Lustre::Mount("/mnt".into()));
    let s = settings(&[], &[], "lustre /mnt/lustre\n");
    assert_eq!(s.lustre, Lustre::Mount("/mnt/lustre".into()));
}

#[test]
fn our_own_keys_are_read() {
    let file = "store none\nstate_dir /srv/state\nlease_ms 500\nageing_remove_ms 1\nageing_archive_ms 2\n\
        settle_ms 3\nmax_message_size 1M\nmax_message_depth 16\nmax_client_buffer 2M\nmax_input_buffers 3M\nmax_connections 7\n\
        handshake_timeout_ms 0\nretry_limit 3\nretry_backoff_ms 4\ndead_letters 5\nquarantine_errors 6\n\
        quarantine_window_ms 7000\nquarantine_ms 8\nhistory_size 9\nlimit_mover m0 max=1\n\
        limit_hint project=a bytes=1T\nlimit_user 1000 rate=5/min\ncount_bytes on\n";
    let s = settings(&["/mnt"], &[], file);
    let q = s.hsm.quarantine;
    assert_eq!((s.hsm.retry_limit, s.hsm.retry_backoff.as_millis(), s.hsm.dead_letters), (3, 4, 5));
    assert_eq!((q.errors, q.window.as_millis(), q.time.as_millis(), s.hsm.history_size), (6, 7000, 8, 9));
    assert!(s.hsm.count_bytes);
    let limits = &s.hsm.limits;
    assert_eq!((limits.movers.len(), limits.hints.len(), limits.users.len()), (1, 1, 1));
    assert_eq!((s.store, s.state_dir), (StoreKind::None, Some(PathBuf::from("/srv/state"))));
    assert_eq!(s.hsm.lease, Duration::from_millis(500));
    assert_eq!((s.hsm.ageing.remove.as_millis(), s.hsm.ageing.archive.as_millis()), (1, 2));
    assert_eq!(s.hsm.settle, Duration::from_millis(3));
    let l = s.limits;
    assert_eq!((l.message_bytes, l.depth, l.client_buffer), (1 << 20, 16, 2 << 20));
    assert_eq!((l.inputs, l.connections, l.handshake), (3 << 20, 7, Duration::ZERO));
    let s = settings(&["/mnt", "--store", "embedded", "--state-dir", "rel"], &[], file);
    assert_eq!((s.store, s.state_dir), (StoreKind::Embedded, Some(PathBuf::from("rel"))));
    // A lease never outlives the grace.
    assert_eq!(settings(&["/mnt"], &[], "client_grace_ms 50\n").hsm.lease, Duration::from_millis(50));
}

#[test]
fn keys_of_reconciliation_are_read() {
    let s = settings(&["/mnt"], &[], "");
    assert_eq!(s.reconcile, reconcile::Settings::default());
    assert!(s.reconcile.command.is_empty());
    let file = "reconcile_command ssh 'mds 0' lctl get_param \"mdt.*.hsm.actions\"\nreconcile_interval_sec 60\n\
        reconcile_timeout_sec 5\nreconcile_adopt All\n";
    let s = settings(&["/mnt"], &[], file).reconcile;
    assert_eq!(s.command, ["ssh", "mds 0", "lctl", "get_param", "mdt.*.hsm.actions"]);
    assert_eq!((s.interval.as_secs(), s.timeout.as_secs()), (60, 5));
    assert_eq!(s.adopt, reconcile::Whose::All);
    for (bad, said) in [
        ("reconcile_command ssh 'mds", "quote"),
        ("reconcile_timeout_sec 0", "0"),
        ("reconcile_adopt mine", "own, all, none"),
    ] {
        let problems = try_load(&["/mnt"], &[], Some(bad)).unwrap_err().to_string();
        assert!(problems.contains(said) && problems.contains(":1"), "{bad}: {problems}");
    }
}

#[test]
fn instances_are_named_as_systemd_names_them() {
    let cases = [
        ("/mnt/lustre", "mnt-lustre"),
        ("/mnt//lustre/", "mnt-lustre"),
        ("/fs/a-b c", "fs-a\\x2db\\x20c"),
        ("/.x/.y", "\\x2ex-.y"),
        ("/", "-"),
    ];
    for (path, want) in cases {
        assert_eq!(instance(&Lustre::Mount(path.into()), "fs"), want, "{path}");
    }
    assert_eq!(instance(&Lustre::None, "testfs0"), "testfs0");
}

#[test]
fn redis_is_described_by_its_keys() {
    let file = "redis_host /run/redis.sock\nredis_port 7000\nredis_user u\nredis_password_file /etc/p\nredis_namespace scratch\n";
    let s = settings(&["/mnt"], &[], file);
    let redis = &s.redis_server;
    assert_eq!(
        (redis.host.as_str(), redis.port, redis.namespace.as_str()),
        ("/run/redis.sock", 7000, "scratch")
    );
    assert_eq!(
        (redis.user.as_deref(), redis.password_file.as_deref()),
        (Some("u"), Some(Path::new("/etc/p")))
    );
    let s = settings(&["/mnt"], &[], "");
    assert_eq!((s.redis_server.host.as_str(), s.redis_server.port), ("localhost", 6379));
    assert_eq!((s.redis_server.namespace.as_str(), s.hsm.settle), ("coordinatool", Duration::from_secs(12)));
    assert_eq!(settings(&["/mnt"], &[], "store REDIS\n").store, StoreKind::Redis);
    let cases = [
        (
            "redis_password_file p\n",
            "/etc/coordinatool.conf:1: redis_password_file: `p` is not an absolute path",
        ),
        ("redis_namespace a b\n", "is not a namespace"),
        ("redis_namespace x_rs\n", "is not a namespace"),
        ("store redis\nredis_host\n", "`store redis` needs a redis"),
        ("store reddis\n", "did you mean `redis`?"),
    ];
    for (file, want) in cases {
        let said = error(&["/mnt"], &[], file);
        assert!(said.contains(want), "{said}");
    }
}
