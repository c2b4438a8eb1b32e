//! What `--check-config` says: what was set where, and what follows from it, in words of the configuration file.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use crate::hsm::config::{HostChoice, HostMapping};
use crate::security::FileError;

use super::api;
use super::config::{Loaded, Lustre, Note, Redis, Settings, StoreKind};
use super::security::Credentials;

/// The report for an administrator.
pub fn report(loaded: &Loaded) -> String {
    let mut out = String::new();
    for note in &loaded.notes {
        let (kind, text) = match note {
            Note::Warn(text) => ("warning: ", text),
            Note::Info(text) => ("", text),
        };
        let _ = writeln!(out, "{kind}{text}");
    }
    if !out.is_empty() {
        out.push('\n');
    }
    for (what, says) in facts(&loaded.settings) {
        let _ = writeln!(out, "{what:<22} {says}");
    }
    out
}

/// Reads the files that the configuration names: certificates and keys. Gives what an operator should know about them.
///
/// # Errors
/// Names the file.
pub fn files(settings: &Settings, now: SystemTime) -> Result<Vec<String>, FileError> {
    let security = &settings.security;
    Ok(Credentials::open(security.sources(), security.policy.clone())?.warnings(now))
}

fn facts(settings: &Settings) -> Vec<(&'static str, String)> {
    let hsm = &settings.hsm;
    let mut facts = vec![
        ("file system", file_system(settings)),
        ("listens on", listens(settings)),
        ("API for administrators", api_socket(settings)),
        ("keeps requests in", store(settings)),
        ("archive ids", list(&hsm.archive_ids, "any")),
        ("client grace", span(hsm.client_grace)),
        ("lease of movers", span(hsm.lease)),
        ("logs", settings.verbose.to_string()),
    ];
    facts.extend(hsm.host_mappings.iter().map(|mapping| ("archives", placed(mapping))));
    if let Some(batch) = &hsm.batch {
        let most = batch.max.map_or("for as long as there is work".to_owned(), |max| {
            format!("for {} if others wait", span(max))
        });
        let (slots, idle) = (batch.slots, span(batch.idle));
        let plural = if slots == 1 { "" } else { "s" };
        let text = format!("{slots} slot{plural} for each mover, kept {idle} without work, {most}");
        facts.push(("batches", text));
    }
    if let (Some(dir), Some(hint)) = (&settings.reporting_dir, &hsm.reporting_hint) {
        let text = format!("in {dir}, by `{hint}`, every {}", span(hsm.reporting_interval));
        facts.push(("reports", text));
    }
    if let Some(address) = &settings.metrics_listen {
        facts.push(("metrics", address.clone()));
    }
    if !settings.reconcile.command.is_empty() {
        let text =
            format!("every {}: {}", span(settings.reconcile.interval), settings.reconcile.command.join(" "));
        facts.push(("compares with MDTs", text));
    }
    facts
}

fn file_system(settings: &Settings) -> String {
    let name = settings.fsname.as_deref();
    match &settings.lustre {
        Lustre::Mount(path) => match name {
            Some(name) => format!("{name}, mounted on {}", path.display()),
            None => format!("what is mounted on {}", path.display()),
        },
        Lustre::None => format!("{}, without a Lustre: requests come from clients only", name.unwrap_or("?")),
    }
}

fn listens(settings: &Settings) -> String {
    let security = &settings.security;
    let mut ports = Vec::new();
    if security.plain {
        ports.push(format!("port {} (no TLS)", settings.port));
    }
    if security.tls {
        ports.push(format!("port {} (TLS)", security.tls_port));
    }
    format!("{}, {}", settings.host, ports.join(" and "))
}

fn api_socket(settings: &Settings) -> String {
    match &settings.api {
        api::Place::Off => "none".to_owned(),
        api::Place::Path(path) => path.display().to_string(),
        api::Place::Usual => {
            api::usual_socket(settings.fsname.as_deref().unwrap_or("FSNAME")).display().to_string()
        }
    }
}

fn store(settings: &Settings) -> String {
    let server = &settings.redis_server;
    let port = if server.host.starts_with('/') { String::new() } else { format!(":{}", server.port) };
    let redis = || format!("the redis at {}{port} (keys `{}_...`)", server.host, server.namespace);
    let state = || match &settings.state_dir {
        Some(dir) => format!("files in {}", dir.display()),
        None => "files of this node".to_owned(),
    };
    match (settings.store, settings.redis) {
        (StoreKind::None, _) => "memory only: a restart forgets them".to_owned(),
        (StoreKind::Embedded, _) | (StoreKind::Auto, Redis::Disabled) => state(),
        (StoreKind::Redis, _) | (StoreKind::Auto, Redis::Configured) => redis(),
        (StoreKind::Auto, Redis::Unset) => format!("{}, or {} if nobody listens there", redis(), state()),
    }
}

fn placed(mapping: &HostMapping) -> String {
    let hosts = mapping.hosts.join(" ");
    match mapping.choice {
        HostChoice::Any => format!("with `{}` go to {hosts}", mapping.tag),
        HostChoice::Hash { modulus: None } => format!("go by the value of `{}` to {hosts}", mapping.tag),
        HostChoice::Hash { modulus: Some(n) } => {
            format!("go by the value of `{}`, hashed to 0 to {}, to {hosts}", mapping.tag, n - 1)
        }
    }
}

fn list(ids: &[u32], none: &str) -> String {
    if ids.is_empty() {
        return none.to_owned();
    }
    ids.iter().map(u32::to_string).collect::<Vec<_>>().join(" ")
}

/// Seconds, as people say them.
fn span(time: Duration) -> String {
    format!("{} s", time.as_millis() as f64 / 1000.0)
}

#[cfg(test)]
mod tests {
    use super::super::config::{Sources, load};
    use super::super::options::Options;
    use super::*;
    use clap::Parser as _;
    use std::ffi::OsString;
    use std::path::Path;

    struct File(&'static str);

    impl Sources for File {
        fn env(&self, name: &str) -> Option<OsString> {
            (name == "COORDINATOOL_PORT").then(|| "6000".into())
        }

        fn file(&self, _: &Path) -> std::io::Result<Vec<u8>> {
            Ok(self.0.into())
        }
    }

    #[test]
    fn what_was_set_and_what_follows_is_told_in_the_files_words() {
        let file = File(
            "host localhost\nredis_host 10.0.0.1\nclient_grace_ms 5000\narchive_on_hosts tag=n0 mover0 mover1\n\
             archive_on_hosts_ch grouping= 10 mover0\nbatch_archives_slices_sec 300 3600\nblah 1\n",
        );
        let options = Options::parse_from(["coordinatool", "-c", "/x", "--archive", "2", "/mnt/lustre"]);
        let text = report(&load(&options, &file).unwrap());
        for line in [
            "/x:2: redis_host set to '10.0.0.1'",
            "environment: COORDINATOOL_PORT set to '6000'",
            "file system            what is mounted on /mnt/lustre",
            "listens on             localhost, port 6000 (no TLS)",
            "keeps requests in      the redis at 10.0.0.1:6379 (keys `coordinatool_...`)",
            "archive ids            2",
            "client grace           5 s",
            "archives               with `tag=n0` go to mover0 mover1",
            "archives               go by the value of `grouping=`, hashed to 0 to 9, to mover0",
            "batches                1 slot for each mover, kept 300 s without work, for 3600 s if others wait",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\nin\n{text}");
        }
        assert!(text.starts_with("/x:1: host set"), "{text}");
        assert!(text.contains("\nwarning: /x:7: "), "{text}");
    }

    #[test]
    fn files_that_cannot_be_read_are_named() {
        let file = File("tls on\ntls_ca /no/ca\ntls_cert /no/cert\ntls_key /no/key\n");
        let loaded = load(&Options::parse_from(["coordinatool", "/mnt"]), &file).unwrap();
        let error = files(&loaded.settings, SystemTime::UNIX_EPOCH).unwrap_err().to_string();
        assert!(error.contains("/no/"), "{error}");
        assert!(files(&Settings::default(), SystemTime::UNIX_EPOCH).unwrap().is_empty());
    }

    #[test]
    fn each_store_is_told() {
        for (arguments, file, want) in [
            (&["--store", "none"][..], "", "memory only: a restart forgets them"),
            (&["--redis-host", "", "--state-dir", "/s"], "", "files in /s"),
            (&["--store", "redis"], "", "the redis at localhost:6379 (keys `coordinatool_...`)"),
            (
                &[],
                "",
                "the redis at localhost:6379 (keys `coordinatool_...`), or files of this node if nobody listens there",
            ),
            (&[], "redis_host", "files of this node"),
        ] {
            let options = ["coordinatool"].iter().chain(arguments).chain(&["/mnt"]);
            let loaded = load(&Options::parse_from(options), &File(file)).unwrap();
            assert_eq!(store(&loaded.settings), want);
        }
    }

    #[test]
    fn a_redis_behind_a_socket_has_no_port() {
        let file = File("redis_host /run/redis.sock\n");
        let loaded = load(&Options::parse_from(["coordinatool", "-c", "/x", "/mnt/lustre"]), &file).unwrap();
        let text = report(&loaded);
        assert!(text.contains("the redis at /run/redis.sock (keys"), "{text}");
    }

    #[test]
    fn a_file_without_end_is_refused() {
        let options = Options::parse_from(["coordinatool", "-c", "/dev/zero", "/mnt/lustre"]);
        let error = load(&options, &super::super::config::System).unwrap_err().to_string();
        assert!(error.contains("more than"), "{error}");
    }
}
