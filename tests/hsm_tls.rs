//! Unmodified copytools whose library speaks TLS, against the embedded Lustre, beside movers that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};

use coordinatool::security::psk;
use coordinatool::tls::authority::Request as CertificateRequest;
use coordinatool::tls::{Authority, Role};
use harness::{Daemon, FileSet, Gate, MoverSettings, Request, Settings, Testbed, copies};
use serde_json::json;

const MOVER_1: usize = 1;
const MOVER_2: usize = 2;

/// An authority, and a certificate for the daemon at the test bed's address.
fn site(bed: &Testbed) -> PathBuf {
    let dir = bed.directory().join("tls");
    let authority = Authority::create(&dir, "lustre").unwrap();
    let addresses = vec![bed.address().ip()];
    authority
        .issue(&CertificateRequest { addresses, ..CertificateRequest::new("mgmt", Role::Server) })
        .unwrap();
    dir
}

/// The daemon's certificate. Movers and clients read the same file: they have their own in variables.
fn with_certificate(settings: Settings, dir: &Path) -> Settings {
    let at = |name: &str| dir.join(name).display().to_string();
    settings
        .line("tls on")
        .line(format!("tls_ca {}", at("ca.crt")))
        .line(format!("tls_cert {}", at("mgmt.crt")))
        .line(format!("tls_key {}", at("mgmt.key")))
}

/// A mover with a certificate of its own name.
fn certified(bed: &Testbed, dir: &Path, id: &str, mount: usize) -> MoverSettings {
    let request = CertificateRequest::new(id, Role::Mover);
    let paths = Authority::open(dir).unwrap().issue(&request).unwrap();
    MoverSettings::new(bed, id, mount)
        .variable("COORDINATOOL_TLS_CERT", paths.certificate)
        .variable("COORDINATOOL_TLS_KEY", paths.key)
}

/// Archives, restores and removes.
fn all_kinds(files: &FileSet<'_>, request: &Request) {
    files.archive(request);
    files.wait_archived();
    files.release();
    files.restore(request);
    files.wait_restored();
    files.remove(request);
    files.wait_removed();
    files.wait_ended();
    for action in ["ARCHIVE", "RESTORE", "REMOVE"] {
        files.check_each_done_once(action);
    }
}

/// During a migration: movers with TLS, movers without, and a C mover, each served.
#[test]
fn movers_with_tls_and_without_work_side_by_side() {
    let bed = Testbed::start("tls-both");
    let dir = site(&bed);
    let mut daemon = Daemon::start(&bed, &with_certificate(Settings::new(), &dir));
    let secure = certified(&bed, &dir, "agent_1", MOVER_1).archives(&[1]).own_archive(&bed).start(&bed);
    let plain = MoverSettings::new(&bed, "agent_2", MOVER_2).archives(&[2]).own_archive(&bed);
    let plain = plain.variable("COORDINATOOL_TLS", "off").start(&bed);
    let mut c = daemon.connect();
    c.send(&json!({"command": "ehlo", "fsname": "testfs0", "id": "c_mover", "archive_ids": [3]}));
    assert_eq!(c.receive(), json!({"command": "ehlo"}), "the bytes that C knows");

    let files = FileSet::create(&bed, 0..30);
    let (first, second) = (files.part(0..20), files.part(20..30));
    first.archive(&Request::archive(1));
    second.archive(&Request::archive(2));
    files.wait_archived();
    assert_eq!((copies(secure.archive()), copies(plain.archive())), (20, 10));
    files.release();
    files.restore(&Request::default());
    files.wait_restored();
    files.wait_ended();
    files.check_contents();
    bed.wait("TLS was spoken", || daemon.log().contains("has shown itself: certificate of agent_1"));
    assert!(!daemon.log().contains("certificate of agent_2"));
    daemon.stop();
}

/// The plain port is only for looking: what is done is done through TLS, also after the daemon crashed, and copytools that
/// fork a child for each action are no different.
#[test]
fn a_pre_shared_key_is_enough() {
    let bed = Testbed::start("tls-psk");
    let key = bed.directory().join("psk");
    psk::create(&key).unwrap();
    let settings = Settings::three_at_a_time()
        .line("tls on")
        .line(format!("psk_file {}", key.display()))
        .line("plain_role read_only");
    let mut daemon = Daemon::start(&bed, &settings);
    let gate = Gate::closed_for_all(&bed, "work");
    let mut first = MoverSettings::new(&bed, "agent_1", MOVER_1).behind(&gate).start(&bed);
    let forking = MoverSettings::new(&bed, "agent_2", MOVER_2).argument("--fork-per-action").behind(&gate);
    let mut second = forking.start(&bed);
    let files = FileSet::create(&bed, 0..12);
    files.archive(&Request::default());
    bed.wait("all movers work", || daemon.status()["running_archive"].as_u64() == Some(6));
    daemon.crash_and_restart();
    // What ends while there is no daemon, and what is claimed again over a new connection.
    gate.open();
    files.wait_archived();
    files.wait_ended();
    files.check_each_done_once("ARCHIVE");
    all_kinds(&FileSet::create(&bed, 12..20), &Request::default());
    assert!(first.is_running() && second.is_running());

    // A mover without the key is told why, and goes on trying without filling its log.
    let refused = MoverSettings::new(&bed, "agent_3", 3).variable("COORDINATOOL_TLS", "off").start(&bed);
    bed.wait("the refusal is in both logs", || {
        refused
            .log()
            .contains("WARN: cannot connect: the server refuses us: not permitted for the role read_only")
            && daemon.log().contains("ehlo as \"agent_3\" refused: not permitted for the role read_only")
    });
    daemon.stop();
}

/// A certificate is good for one mover: the library is refused with another id, comes in when that is corrected, and what
/// is wrong with a certificate is in the logs of both.
#[test]
fn a_mover_is_who_its_certificate_says() {
    let bed = Testbed::start("tls-ids");
    let dir = site(&bed);
    let mut daemon = Daemon::start(&bed, &with_certificate(Settings::new(), &dir));
    let mover = certified(&bed, &dir, "agent_1", MOVER_1);
    let posing = mover.clone().variable("COORDINATOOL_CLIENT_ID", "agent_2").start(&bed);
    bed.wait("the id is refused in both logs", || {
        posing.log().contains("the server refuses us: the certificate is for another id")
            && daemon.log().contains("ehlo as \"agent_2\" refused: the certificate is for another id")
    });
    assert!(daemon.mover_status("agent_2").is_none());
    drop(posing);

    // A certificate that has ended: the copytool starts, is refused, and works when the file is renewed.
    let day = std::time::Duration::from_secs(86_400);
    let old = CertificateRequest {
        from: std::time::SystemTime::now() - 3 * day,
        valid: day,
        renew: true,
        ..CertificateRequest::new("agent_1", Role::Mover)
    };
    let authority = Authority::open(&dir).unwrap();
    authority.issue(&old).unwrap();
    let mut running = mover.start(&bed);
    bed.wait("the certificate is refused in both logs", || {
        running.log().contains("the server does not accept our certificate or key")
            && daemon.log().contains("refused: its certificate: ")
    });
    let files = FileSet::create(&bed, 0..3);
    files.archive(&Request::default());
    authority
        .issue(&CertificateRequest { renew: true, ..CertificateRequest::new("agent_1", Role::Mover) })
        .unwrap();
    files.wait_archived();
    assert!(running.is_running());
    daemon.stop();
}

/// What cannot work is said when the copytool starts, with the key that is wrong.
#[test]
fn a_copytool_does_not_start_without_its_files() {
    let bed = Testbed::start("tls-files");
    let _daemon = Daemon::start(&bed, &Settings::new());
    for (variables, want) in [
        (&[("COORDINATOOL_TLS", "on")][..], "tls: `tls on` needs tls_ca, tls_cert and tls_key, or psk_file"),
        (
            &[("COORDINATOOL_TLS", "on"), ("COORDINATOOL_PSK_FILE", "/no/such")],
            "ERROR: tls: /no/such: No such file",
        ),
        (&[("COORDINATOOL_TLS", "maybe")], "COORDINATOOL_TLS: `maybe` is neither `on` nor `off`"),
    ] {
        let mut mover = MoverSettings::new(&bed, "agent_1", MOVER_1);
        for (name, value) in variables {
            mover = mover.variable(name, *value);
        }
        let mut mover = mover.start(&bed);
        assert!(!mover.wait_end().success());
        assert!(mover.log().contains(want), "{}", mover.log());
    }
}
