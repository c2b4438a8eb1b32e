use std::fs;
use std::os::unix::fs::PermissionsExt;

use super::*;

fn key(bytes: impl AsRef<[u8]>) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

fn random(length: u8) -> Vec<u8> {
    (0..length).map(|i| i.wrapping_mul(91).wrapping_add(17)).collect()
}

#[test]
fn keys_are_32_random_bytes_or_more() {
    let good = key(random(32));
    let psk = Psk::parse(&format!("# a comment\n\n  {good}\n")).unwrap();
    assert_eq!(psk.id(), Psk::parse(&good).unwrap().id(), "the same key has the same id");
    assert_ne!(psk.id(), Psk::parse(&key(random(33))).unwrap().id());
    assert_eq!(psk.alpn(), format!("coordinatool-psk/1:{}", psk.id()).into_bytes());
    for (text, expected) in [
        (String::new(), "holds no key; `coordinatool-client psk new FILE` makes one"),
        ("# only this".to_owned(), "holds no key"),
        (key(random(31)), "holds 31 bytes; a key has 32 to 1024"),
        (key([7; 64]), "is not random"),
        (key(b"aaaabbbbccccddddeeeeffffgggghhhh"), "is not random"),
        ("correct horse battery staple".to_owned(), "is not one line of base64"),
        (format!("{good}\n{good}"), "holds more than one key"),
    ] {
        let error = Psk::parse(&text).unwrap_err();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
}

/// The keys belong to the protocol: a version that derives others cannot talk to this one.
#[test]
fn what_is_derived_never_changes() {
    let psk = Psk::parse(&key(random(32))).unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert_eq!(psk.id(), ID);
    let public = psk.client_public().unwrap();
    // The last 32 bytes of an Ed25519 SPKI are the key itself.
    assert_eq!(hex(&public.as_ref()[12..]), CLIENT);
    assert_eq!(hex(&psk.server_public().unwrap().as_ref()[12..]), SERVER);
    assert!(!format!("{psk:?}").contains(&key(random(32))), "no secret in logs");
}

// Computed with another HKDF and another Ed25519 (Python's hmac, openssl pkey).
const ID: &str = "33d6e7e22dc6ad67";
const CLIENT: &str = "a506d92a28de57b8ad1da47f2e83b3e1aafe154806b756376d3198ffed427a01";
const SERVER: &str = "6d22109c6c62a584adfb6679add5ce90664df530f6751c4bf82ab1bd39fe38ef";

#[test]
fn a_new_key_is_for_its_owner_only_and_overwrites_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("psk");
    let id = psk::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(Psk::read(&path).unwrap().id(), id);
    assert!(psk::create(&path).unwrap_err().to_string().contains("File exists"));
    for mode in [0o640, 0o604, 0o620] {
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let error = Psk::read(&path).unwrap_err().to_string();
        assert!(
            error.contains(&format!("others may use this key (mode {mode:04o}); chmod 600 /")),
            "{error}"
        );
    }
    // Nothing secret in errors.
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, format!("{text}{text}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let error = Psk::read(&path).unwrap_err().to_string();
    assert!(error.ends_with("holds more than one key"), "{error}");
}

#[test]
fn names_of_servers() {
    for (host, good) in [
        ("mgmt1", true),
        ("mgmt1.example.org", true),
        ("mgmt1.example.org.", true),
        ("192.0.2.1", true),
        ("2001:db8::1", true),
        ("a b", false),
        ("", false),
    ] {
        assert_eq!(server_name(host).is_ok(), good, "{host:?}");
    }
}

#[test]
fn clients_settings_are_complete_or_wrong() {
    let read = |lines: &[(&str, &str)], asking| {
        let mut settings = ClientSettings::default();
        for (key, value) in lines {
            settings.set(key, value).unwrap()?;
        }
        settings.credentials(asking)
    };
    let on = ("tls", "on");
    let trio = [("tls_ca", "/ca"), ("tls_cert", "/crt"), ("tls_key", "/key")];
    let certificate =
        Credentials::Certificate { authority: "/ca".into(), certificate: "/crt".into(), key: "/key".into() };
    let key = |path: &str| Credentials::Key(path.into());
    assert!(ClientSettings::default().set("host", "a").is_none());
    assert_eq!(read(&trio, Asking::Mover), Ok(None), "off is the default");
    let all = [on, trio[0], trio[1], trio[2], ("psk_file", "/psk")];
    assert_eq!(read(&all, Asking::Mover), Ok(Some(certificate)));
    assert_eq!(read(&[on, ("psk_file", "/psk")], Asking::Mover), Ok(Some(key("/psk"))));
    let directory = tempfile::tempdir().unwrap();
    let admin = directory.path().join("admin").display().to_string();
    let keys = [on, ("psk_file", "/psk"), ("psk_admin_file", admin.as_str())];
    assert_eq!(read(&keys, Asking::Mover), Ok(Some(key("/psk"))));
    assert_eq!(read(&keys, Asking::Anybody), Ok(Some(key(&admin))), "to be complained about");
    let there = directory.path().join("psk").display().to_string();
    fs::write(&there, "").unwrap();
    let keys = [on, ("psk_file", there.as_str()), ("psk_admin_file", admin.as_str())];
    assert_eq!(read(&keys, Asking::Anybody), Ok(Some(key(&there))), "the other cannot be read");
    for (lines, want) in [
        (&[on][..], "`tls on` needs tls_ca, tls_cert and tls_key, or psk_file"),
        (&[on, ("psk_admin_file", "/a")], "`tls on` needs tls_ca"),
        (&[on, ("tls_ca", "/a"), ("psk_file", "/p")], "missing: tls_cert, tls_key"),
        (&[("tls", "1")], "`1` is neither `on` nor `off`"),
        (&[("tls_ca", "a")], "`a` is not an absolute path"),
        (&[("tls_server_name", "a b")], "`a b` is neither a name nor an address"),
    ] {
        let error = read(lines, Asking::Mover).unwrap_err();
        assert!(error.contains(want), "{lines:?}: {error}");
    }
}
