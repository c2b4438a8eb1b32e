//! What each role may do, over each way in.

use std::process::Command;

use coordinatool::security::Credentials;
use coordinatool::tls::Role;
use rustix::process::Signal;
use serde_json::Value;

use crate::daemon_support::{self, EHLO, item};
use crate::site::{Peer, Site, status, tls_port, without_role};

const STATUS: &str = r#"{"command": "status"}"#;
const LOCK: &str = r#"{"command": "lock", "locked": 1}"#;
const UNLOCK: &str = r#"{"command": "lock", "locked": 0}"#;

fn ehlo(id: &str) -> String {
    format!(r#"{{"command": "ehlo", "fsname": "testfs0", "id": "{id}"}}"#)
}

fn queue() -> String {
    format!(r#"{{"command": "queue", "hsm_action_items": [{}]}}"#, item(20, 1, 1, ""))
}

/// What may be done: status, ehlo as `id`, lock, queue.
fn may(mut peer: Peer, id: &str) -> [bool; 4] {
    [STATUS.to_owned(), ehlo(id), LOCK.to_owned(), queue()].map(|message| {
        let answer = peer.ask(&message).unwrap();
        let command: Value = serde_json::from_str(&message).unwrap();
        // A client can tell which of its messages was refused.
        assert_eq!(answer["command"], command["command"], "{answer}");
        let refused = answer["status"].as_i64() == Some(if answer["command"] == "queue" { -1 } else { 1 });
        assert_eq!(refused, answer.get("error").is_some(), "{answer}");
        !refused
    })
}

#[test]
fn certificates_and_keys_have_roles() {
    let site = Site::new();
    let daemon = site.daemon("role boss admin\nrole stolen none\nrole mgs2 read_only\n");
    let port = tls_port(&daemon);
    let foreign = |name: &str| without_role(&site, name, &[name.to_owned()]);
    let table: Vec<(&str, Credentials, &str, [bool; 4])> = vec![
        ("mover", site.certificate("m0", Role::Mover), "m0", [true, true, false, false]),
        (
            "mover, full name",
            site.certificate("m1.example.org", Role::Mover),
            "m1",
            [true, true, false, false],
        ),
        ("mover, another's id", site.certificate("m2", Role::Mover), "m0", [true, false, false, false]),
        ("admin", site.certificate("root", Role::Admin), "m3", [true, true, true, true]),
        ("server", site.certificate("mgmt2", Role::Server), "m4", [true, true, true, true]),
        ("read-only", site.certificate("guest", Role::ReadOnly), "guest", [true, false, false, false]),
        ("by its name", foreign("boss"), "m5", [true, true, true, true]),
        (
            "a manager's, by its name",
            site.certificate("mgs2", Role::Manager),
            "x",
            [true, false, false, false],
        ),
        ("mover's key", site.key("psk"), "m6", [true, true, false, false]),
        ("admin's key", site.key("admin.psk"), "m7", [true, true, true, true]),
    ];
    for (what, credentials, id, want) in table {
        let peer = Peer::connect(port, &credentials).unwrap_or_else(|error| panic!("{what}: {error}"));
        assert_eq!(may(peer, id), want, "{what}");
    }
    daemon.wait_for_log("ehlo as \"m0\" refused: the certificate is for another id (certificate of m2)");
    // A C mover on the plain port beside all this.
    let mut plain = daemon.peer();
    assert_eq!(plain.ask(&ehlo("c0")), EHLO);
    assert_eq!(plain.ask(UNLOCK), r#"{"command": "lock"}"#);

    // None gets in that has no role, and it learns why as far as TLS can say.
    for (what, credentials) in [
        ("manager", site.certificate("mgs", Role::Manager)),
        ("agent", site.certificate("oss1", Role::Agent)),
        ("no role", foreign("nobody")),
        ("barred", site.certificate("stolen", Role::Admin)),
    ] {
        let error = status(port, &credentials).unwrap_err();
        assert!(error.contains("the server does not accept our certificate"), "{what}: {error}");
    }
    // The first is logged with its reason; the others only counted, for ten seconds.
    let line = daemon.wait_for_log("refused: the certificate of mgs is for the role manager");
    assert!(line.contains("WARN TLS: 127.0.0.1:"), "{line}");
}

#[test]
fn ids_are_free_when_they_are_not_bound() {
    let site = Site::new();
    let daemon = site.daemon("bind_ids off\n");
    let peer = Peer::connect(tls_port(&daemon), &site.certificate("m2", Role::Mover)).unwrap();
    assert_eq!(may(peer, "m0"), [true, true, false, false]);
}

#[test]
fn the_plain_port_is_limited_or_closed() {
    let site = Site::new();
    let daemon = site.daemon("plain_role read_only\n");
    let mut plain = daemon.peer();
    assert_eq!(
        plain.ask(&ehlo("c0")),
        r#"{"command": "ehlo", "status": 1, "error": "not permitted for the role read_only"}"#
    );
    assert!(plain.ask(STATUS).contains("\"command\": \"status\""));
    assert!(plain.ask(r#"{"command": "recv", "max_bytes": 1048576}"#).contains("not permitted"));
    let mut mover = Peer::connect(tls_port(&daemon), &site.key("psk")).unwrap();
    assert_eq!(mover.ask(&ehlo("m0")).unwrap()["command"], "ehlo");
    drop(daemon);

    let socket = site.path("hsm.sock");
    let mut setup = crate::daemon_support::Setup::conf(&site.conf("plain off\n"));
    setup.env = vec![("COORDINATOOL_LOCAL_SOCKET".into(), socket.display().to_string())];
    let daemon = setup.start();
    assert!(!daemon.log().contains("Listening on 127.0.0.1"), "{}", daemon.log());
    assert!(status(tls_port(&daemon), &site.key("psk")).is_ok());
    // The local administrator goes on as before.
    let client = |args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coordinatool-client"));
        command.env_clear().args(["-c", "/dev/null", "-H"]).arg(&socket).args(args).output().unwrap()
    };
    let locked = client(&["--lock"]);
    assert_eq!(String::from_utf8_lossy(&locked.stdout), "ok\n", "{locked:?}");
    let shown = String::from_utf8_lossy(&client(&["-v", "-v"]).stdout).into_owned();
    assert!(shown.contains("\"client_id\": \"local:"), "{shown}");
    use std::os::unix::fs::PermissionsExt;
    assert_eq!(std::fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o600);
    let mut daemon = daemon;
    daemon.signal(Signal::TERM);
    assert!(daemon.wait().success());
    assert!(!socket.exists(), "the socket goes with the daemon");
}

#[test]
fn what_is_configured_wrong_is_said_with_its_place() {
    let site = Site::new();
    let end = |conf: String| {
        let (code, said) = daemon_support::Daemon::run_to_end(&daemon_support::Setup::conf(&conf));
        assert_eq!(code, Some(1), "{said}");
        said
    };
    let said = end("port 0\ntls on\n".to_owned());
    assert!(
        said.contains("coordinatool.conf:2: tls: on needs tls_ca, tls_cert and tls_key, or psk_file"),
        "{said}"
    );
    let said = end("plain off\n".to_owned());
    assert!(said.contains("coordinatool.conf:1: plain: off without `tls on`"), "{said}");
    let said = end("role a b c\n".to_owned());
    assert!(said.contains("coordinatool.conf:1: role: `a b c` is not NAME ROLE"), "{said}");
    let said = end(site.conf("psk_read_only_file /no/such\n"));
    assert!(said.contains("TLS: /no/such: No such file"), "{said}");
    std::fs::copy(site.path("psk"), site.path("again")).unwrap();
    let said = end(site.conf(&format!("psk_read_only_file {}\n", site.path("again").display())));
    assert!(said.contains("again: holds the same key as the file of another role"), "{said}");
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(site.path("psk"), std::fs::Permissions::from_mode(0o640)).unwrap();
    let said = end(site.conf(""));
    assert!(said.contains("psk: others may use this key (mode 0640); chmod 600 "), "{said}");
    let secret = std::fs::read_to_string(site.path("psk")).unwrap();
    assert!(!said.contains(secret.lines().last().unwrap()), "no key in logs");
}

#[test]
fn a_reload_takes_effect_on_those_who_are_in() {
    let site = Site::new();
    let daemon = site.daemon("");
    let port = tls_port(&daemon);
    let credentials = site.certificate("m0", Role::Mover);
    let mut mover = Peer::connect(port, &credentials).unwrap();
    let mut keyed = Peer::connect(port, &site.key("psk")).unwrap();
    let mut plain = daemon.peer();
    assert_eq!(mover.ask(&ehlo("m0")).unwrap()["command"], "ehlo");
    assert_eq!(keyed.ask(&ehlo("m1")).unwrap()["command"], "ehlo");
    assert_eq!(plain.ask(LOCK), r#"{"command": "lock"}"#);

    // The key is replaced, a certificate is barred, the plain port is limited.
    std::fs::remove_file(site.path("psk")).unwrap();
    let old = site.path("admin.psk");
    coordinatool::security::psk::create(&site.path("psk")).unwrap();
    std::fs::write(daemon.dir().join("coordinatool.conf"), site.conf("role m0 none\nplain_role read_only\n"))
        .unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("configuration loaded again");
    assert_eq!(mover.receive().unwrap_err(), "closed");
    assert_eq!(keyed.receive().unwrap_err(), "closed");
    daemon.wait_for_log("m0 has the role none: closing");
    assert!(plain.ask(UNLOCK).contains("not permitted for the role read_only"));
    assert!(status(port, &credentials).is_err());
    assert!(status(port, &site.key("psk")).is_ok(), "the new key");
    assert!(status(port, &Credentials::Key(old)).is_ok(), "the other one stays");

    // Something that is no good changes nothing.
    std::fs::remove_file(site.path("psk")).unwrap();
    daemon.signal(Signal::HUP);
    daemon.wait_for_log("TLS: roles, certificates and keys stay as they were: ");
    assert!(status(port, &site.key("admin.psk")).is_ok());
}

#[test]
fn renewed_files_are_used_without_being_told() {
    let site = Site::new();
    let daemon = site.daemon("");
    let port = tls_port(&daemon);
    let before = site.certificate("m0", Role::Mover);
    let mut inside = Peer::connect(port, &before).unwrap();
    assert!(inside.ask(STATUS).is_ok());
    // Another authority, and everything that it has signed.
    let other = crate::site::foreign();
    let theirs = other.certificate("m0", Role::Mover);
    assert!(status(port, &theirs).is_err());
    // In the middle of it the old files stay in use.
    std::fs::copy(other.path("mgmt.key"), site.path("mgmt.key")).unwrap();
    assert!(status(port, &before).is_ok());
    daemon.wait_for_log("TLS: changed, but not in use: ");
    std::fs::copy(other.path("mgmt.crt"), site.path("mgmt.crt")).unwrap();
    std::fs::copy(other.path("ca.crt"), site.path("ca.crt")).unwrap();
    assert!(status(port, &theirs).is_ok(), "{}", daemon.log());
    daemon.wait_for_log("certificates and keys were read again");
    assert!(status(port, &before).is_err(), "signed by the old authority");
    assert!(inside.ask(STATUS).is_ok(), "who is in stays in");
}

/// The C client's commands through the command line, over TLS.
#[test]
fn the_command_line_speaks_tls() {
    let site = Site::new();
    let daemon = site.daemon("");
    let port = tls_port(&daemon).to_string();
    let client = |credentials: &Credentials, args: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_coordinatool-client"));
        command.env_clear().args(["-c", "/dev/null", "-H", "127.0.0.1"]).args(args);
        command.env("COORDINATOOL_TLS", "on").env("COORDINATOOL_TLS_PORT", &port);
        match credentials {
            Credentials::Key(path) => {
                command.env("COORDINATOOL_PSK_FILE", path);
            }
            Credentials::Certificate { authority, certificate, key } => {
                command.env("COORDINATOOL_TLS_CA", authority);
                command.env("COORDINATOOL_TLS_CERT", certificate).env("COORDINATOOL_TLS_KEY", key);
            }
        }
        let output = command.output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let admin = site.certificate("root", Role::Admin);
    let guest = site.certificate("guest", Role::ReadOnly);
    assert_eq!(client(&admin, &["--lock"]), (Some(0), "ok\n".to_owned(), String::new()));
    let (code, shown, _) = client(&guest, &[]);
    assert!(code == Some(0) && shown.ends_with("Got status reply:\n\n"), "{shown}");
    let refused = "error locking: not permitted for the role read_only\n";
    assert_eq!(client(&guest, &["--unlock"]), (Some(0), refused.to_owned(), String::new()));
    assert_eq!(client(&site.key("admin.psk"), &["--unlock"]).1, "ok\n");

    // It ends at once when the two do not trust each other, and says why.
    let foreign = crate::site::foreign();
    for (what, credentials, want) in [
        ("a stranger", foreign.certificate("root", Role::Admin), "the server's certificate: "),
        ("an agent", site.certificate("oss1", Role::Agent), "does not accept our certificate or key"),
        ("a key of nobody", foreign.key("psk"), "does not know our pre-shared key"),
    ] {
        let (code, out, said) = client(&credentials, &[]);
        assert!(code == Some(1) && out.is_empty() && said.contains(want), "{what}: {said}");
    }
    // The plain port: it may be restarting, so the client tries again, and says what it thinks.
    let (code, _, said) = client(&admin, &["-p", &daemon.port().to_string(), "--timeout", "1"]);
    assert!(code == Some(1) && said.contains("is this its port for TLS?"), "{said}");
    daemon.wait_for_log("speaks TLS to the plain port");
}
