use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::authority::Request;
use super::*;

const DAY: Duration = Duration::from_secs(86_400);

/// A directory with an authority and certificates for agent oss1 and manager mgs.
fn site() -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::create(directory.path(), "lustre").unwrap();
    authority.issue(&Request::new("oss1", Role::Agent)).unwrap();
    authority.issue(&Request::new("mgs", Role::Manager)).unwrap();
    directory
}

fn issue(directory: &Path, request: Request) {
    Authority::open(directory).unwrap().issue(&request).unwrap();
}

fn endpoint(role: Role, directory: &Path, name: &str) -> Endpoint {
    Endpoint::open(role, Paths::in_directory(directory, name), Trust::default()).unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Lets a manager connect to an agent and each send the other a byte. Gives what the agent and the manager say.
fn talk(agent: &Endpoint, manager: &Endpoint, expected: &[&str]) -> (io::Result<Peer>, io::Result<()>) {
    let (near, far) = tokio::io::duplex(1 << 16);
    let listen = async {
        let (mut stream, peer) = agent.accept(far).await?;
        stream.write_all(b"a").await?;
        assert_eq!(stream.read_u8().await?, b'm');
        Ok(peer)
    };
    let dial = async {
        let mut stream = manager.connect(expected, near).await?;
        stream.write_all(b"m").await?;
        assert_eq!(stream.read_u8().await?, b'a');
        Ok(())
    };
    run(async { tokio::join!(listen, dial) })
}

/// Both sides must refuse, each in its own words.
fn assert_refused(talked: (io::Result<Peer>, io::Result<()>), agent_says: &str, manager_says: &str) {
    let (at_agent, at_manager) = (talked.0.unwrap_err(), talked.1.unwrap_err());
    assert!(at_agent.to_string().contains(agent_says), "agent: {at_agent}");
    assert!(at_manager.to_string().contains(manager_says), "manager: {at_manager}");
    assert!(is_distrust(&at_agent) && is_distrust(&at_manager), "{at_agent:?} {at_manager:?}");
}

#[test]
fn a_manager_talks_to_the_agent_that_it_wants() {
    let site = site();
    let (agent, manager) =
        (endpoint(Role::Agent, site.path(), "oss1"), endpoint(Role::Manager, site.path(), "mgs"));
    for expected in [&["oss1"][..], &["OSS1"], &["192.0.2.1", "oss1"]] {
        let (peer, talked) = talk(&agent, &manager, expected);
        assert_eq!((peer.unwrap().to_string(), talked.unwrap()), ("mgs".to_owned(), ()), "{expected:?}");
    }
    for expected in [&["oss2"][..], &["oss1.example.org", "oss"], &["192.0.2.1"], &["*"], &[""], &[]] {
        assert_refused(
            talk(&agent, &manager, expected),
            "CertificateUnknown",
            "the certificate is for oss1, not",
        );
    }
}

#[test]
fn more_names_and_addresses() {
    let site = site();
    let request = Request {
        other_names: vec!["oss2.example.org".to_owned(), "*.example.net".to_owned()],
        addresses: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
        ..Request::new("oss2", Role::Agent)
    };
    let wildcard = Authority::open(site.path()).unwrap().issue(&request);
    assert!(matches!(wildcard, Err(Error::Name(_))), "patterns are not issued");
    let other_names = vec!["oss2.example.org".to_owned()];
    issue(site.path(), Request { other_names, ..request });
    let (agent, manager) =
        (endpoint(Role::Agent, site.path(), "oss2"), endpoint(Role::Manager, site.path(), "mgs"));
    for expected in ["oss2", "oss2.example.org", "192.0.2.7", "2001:db8:0::7"] {
        talk(&agent, &manager, &[expected]).1.unwrap();
    }
    let refused = talk(&agent, &manager, &["192.0.2.8"]);
    assert_refused(refused, "alert", "not for 192.0.2.8");
}

#[test]
fn nobody_commands_with_an_agents_certificate() {
    let site = site();
    issue(site.path(), Request::new("oss2", Role::Agent));
    let agent = endpoint(Role::Agent, site.path(), "oss1");
    // The shell would not even begin, so take the certificate as it is.
    let open = |role, name| Endpoint::open(role, Paths::in_directory(site.path(), name), Trust::default());
    let error = open(Role::Manager, "oss2").unwrap_err().to_string();
    assert!(error.ends_with("oss2.crt: is for the role agent, not for manager"), "{error}");
    assert!(open(Role::Agent, "mgs").is_err());
    let thief = open(Role::Agent, "oss2").unwrap();
    assert_refused(talk(&agent, &thief, &["oss1"]), "extended key usage", "alert");
    // Nor does anybody pose as an agent with a manager's.
    let poser = open(Role::Manager, "mgs").unwrap();
    let manager = open(Role::Manager, "mgs").unwrap();
    assert_refused(talk(&poser, &manager, &["mgs"]), "alert", "extended key usage");
}

#[test]
fn nobody_gets_in_without_a_certificate() {
    let site = site();
    let agent = endpoint(Role::Agent, site.path(), "oss1");
    let paths = Paths::in_directory(site.path(), "mgs");
    let authority = fs::read(&paths.authority).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    for certificate in rustls::pki_types::pem::PemObject::pem_slice_iter(&authority) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    for version in [&rustls::version::TLS13, &rustls::version::TLS12] {
        let config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots.clone())
            .with_no_client_auth();
        let (near, far) = tokio::io::duplex(1 << 16);
        let dial = async {
            let name = rustls::pki_types::ServerName::try_from("oss1").unwrap();
            let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
            connector.connect(name, near).await?.read_u8().await
        };
        let (accepted, answer) = run(async { tokio::join!(agent.accept(far), dial) });
        assert!(is_distrust(&accepted.unwrap_err()) && is_distrust(&answer.unwrap_err()), "{version:?}");
    }
}

#[test]
fn what_is_no_tls_is_not_trusted_but_silence_is_no_lie() {
    let site = site();
    let manager = endpoint(Role::Manager, site.path(), "mgs");
    for (says, distrust) in [(&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], true), (b"", false)] {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let speak = async {
            far.write_all(says).await.unwrap();
            (!says.is_empty()).then_some(far)
        };
        let (connected, _far) = run(async { tokio::join!(manager.connect(&["oss1"], near), speak) });
        assert_eq!(is_distrust(&connected.unwrap_err()), distrust, "{says:?}");
    }
}

#[test]
fn another_authority_proves_nothing() {
    let (ours, theirs) = (site(), site());
    let (agent, manager) =
        (endpoint(Role::Agent, ours.path(), "oss1"), endpoint(Role::Manager, theirs.path(), "mgs"));
    assert_refused(talk(&agent, &manager, &["oss1"]), "alert", "certificate");
    // Even if the stranger believes us.
    let mixed = Paths { authority: ours.path().join("ca.crt"), ..Paths::in_directory(theirs.path(), "mgs") };
    let manager = Endpoint::open(Role::Manager, mixed, Trust::default()).unwrap();
    assert_refused(talk(&agent, &manager, &["oss1"]), "certificate", "alert");
}

#[test]
fn certificates_end() {
    let site = site();
    let past = |name: &str, role, ago: u32, valid: u32| {
        let request =
            Request { from: SystemTime::now() - ago * DAY, valid: valid * DAY, ..Request::new(name, role) };
        issue(site.path(), request);
    };
    past("old", Role::Agent, 3, 2);
    past("oldm", Role::Manager, 3, 2);
    past("soon", Role::Agent, 3, 32);
    let future = Request { from: SystemTime::now() + DAY, ..Request::new("early", Role::Agent) };
    issue(site.path(), future);
    let agent = |name| endpoint(Role::Agent, site.path(), name);
    let manager = endpoint(Role::Manager, site.path(), "mgs");
    assert_refused(talk(&agent("old"), &manager, &["old"]), "alert", "expired");
    assert_refused(talk(&agent("early"), &manager, &["early"]), "alert", "not valid yet");
    let old_manager = endpoint(Role::Manager, site.path(), "oldm");
    assert_refused(talk(&agent("oss1"), &old_manager, &["oss1"]), "expired", "alert");
    talk(&agent("soon"), &manager, &["soon"]).1.unwrap();
    for (name, warning) in [("old", "old.crt expired on 2"), ("soon", "soon.crt expires on 2"), ("oss1", "")]
    {
        let warnings = agent(name).warnings().join("; ");
        assert!(
            warnings.contains(warning) && warnings.is_empty() == warning.is_empty(),
            "{name}: {warnings}"
        );
    }
    let late = SystemTime::now() + 3651 * DAY;
    let warnings = agent("oss1").identity().warnings(late).join("; ");
    assert!(warnings.contains("ca.crt expires") && warnings.contains("oss1.crt expired"), "{warnings}");
}

/// Certificates as an authority that knows nothing of us issues them.
mod foreign {
    use rcgen::{CertificateParams, DnType, Issuer, KeyPair};

    use super::*;

    fn issue_foreign(directory: &Path, file: &str, common: &str, names: &[&str], uri: Option<&str>) {
        let key = KeyPair::from_pem(&fs::read_to_string(directory.join("ca.key")).unwrap()).unwrap();
        let authority = fs::read_to_string(directory.join("ca.crt")).unwrap();
        let issuer = Issuer::from_ca_cert_pem(&authority, key).unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, common);
        if let Some(uri) = uri {
            params.subject_alt_names.push(rcgen::SanType::URI(uri.try_into().unwrap()));
        }
        let key = KeyPair::generate().unwrap();
        let paths = Paths::in_directory(directory, file);
        fs::write(&paths.certificate, params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
        fs::write(&paths.key, key.serialize_pem()).unwrap();
        fs::set_permissions(&paths.key, fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn trusting(role: Role, directory: &Path, file: &str, names: &[&str], server: Option<&str>) -> Endpoint {
        let trust = Trust {
            allowed_names: names.iter().map(|name| (*name).to_owned()).collect(),
            server_name: server.map(str::to_owned),
        };
        Endpoint::open(role, Paths::in_directory(directory, file), trust).unwrap()
    }

    #[test]
    fn are_accepted_where_they_are_named() {
        let site = site();
        issue_foreign(site.path(), "fagent", "x", &["oss7.example.org"], None);
        issue_foreign(site.path(), "fmanager", "mgs7", &["mgs7.example.org"], None);
        issue_foreign(site.path(), "strange", "mgs7", &["mgs7.example.org"], Some("urn:coordinatool:other"));
        let agent = |names: &[&str]| trusting(Role::Agent, site.path(), "oss1", names, None);
        let manager = trusting(Role::Manager, site.path(), "fmanager", &[], None);
        assert_refused(
            talk(&agent(&[]), &manager, &["oss1"]),
            "does not say that it is a manager's",
            "alert",
        );
        assert_refused(talk(&agent(&["mgs8"]), &manager, &["oss1"]), "does not say", "alert");
        talk(&agent(&["mgs7"]), &manager, &["oss1"]).1.unwrap();
        talk(&agent(&["mgs7.example.org"]), &manager, &["oss1"]).1.unwrap();
        let strange = trusting(Role::Manager, site.path(), "strange", &[], None);
        assert_refused(talk(&agent(&["mgs7"]), &strange, &["oss1"]), "does not say", "alert");
        // An agent's certificate does not become a manager's because its name is on the list.
        issue(site.path(), Request::new("oss2", Role::Agent));
        let thief = endpoint(Role::Agent, site.path(), "oss2");
        assert_refused(talk(&agent(&["oss2"]), &thief, &["oss1"]), "extended key usage", "alert");

        let agent = trusting(Role::Agent, site.path(), "fagent", &["mgs"], None);
        let manager = |names: &[&str]| trusting(Role::Manager, site.path(), "mgs", names, None);
        let name = "oss7.example.org";
        assert_refused(talk(&agent, &manager(&[]), &[name]), "alert", "does not say that it is an agent's");
        talk(&agent, &manager(&[name]), &[name]).1.unwrap();
        assert_refused(talk(&agent, &manager(&[name]), &["oss1"]), "alert", "not for oss1");
        assert_refused(talk(&agent, &manager(&["x"]), &["x"]), "alert", "does not say");
    }

    #[test]
    fn roles_are_kept_apart_without_extended_key_usage() {
        let site = site();
        issue_foreign(site.path(), "fagent", "oss7", &["oss7"], Some(Role::Agent.uri()));
        issue_foreign(site.path(), "fmanager", "mgs7", &["mgs7"], Some(Role::Manager.uri()));
        let all = &["oss7", "mgs7"];
        let thief = trusting(Role::Agent, site.path(), "fagent", all, None);
        let agent = trusting(Role::Agent, site.path(), "oss1", all, None);
        assert_refused(talk(&agent, &thief, &["oss1"]), "is an agent's, not a manager's", "alert");
        let manager = trusting(Role::Manager, site.path(), "fmanager", all, Some("mgs7"));
        let poser = trusting(Role::Manager, site.path(), "fmanager", all, None);
        assert_refused(talk(&poser, &manager, &["mgs7"]), "alert", "is a manager's, not an agent's");
        talk(&thief, &manager, &["oss7"]).1.unwrap();
    }

    #[test]
    fn halos_agents_share_one_name() {
        let site = site();
        issue_foreign(site.path(), "server", "halo", &["halo.example.org"], None);
        issue_foreign(site.path(), "client", "halo-manager", &[], None);
        let agent = trusting(Role::Agent, site.path(), "server", &["halo-manager"], None);
        let manager = |server| trusting(Role::Manager, site.path(), "client", &[], server);
        talk(&agent, &manager(Some("halo.example.org")), &["oss1"]).1.unwrap();
        assert_refused(talk(&agent, &manager(Some("other")), &["oss1"]), "alert", "does not say");
        assert_refused(talk(&agent, &manager(None), &["oss1"]), "alert", "does not say");
        // Certificates of ours go on being held to their names.
        let ours = endpoint(Role::Agent, site.path(), "oss1");
        let manager = trusting(Role::Manager, site.path(), "mgs", &[], Some("oss1"));
        assert_refused(talk(&ours, &manager, &["oss2"]), "alert", "not for oss2");
    }
}

#[test]
fn files_are_read_again_when_they_change() {
    let site = site();
    let (agent, manager) =
        (endpoint(Role::Agent, site.path(), "oss1"), endpoint(Role::Manager, site.path(), "mgs"));
    let begin = agent.identity().expires();
    let renew = |name: &str, days: u32| {
        let request = Request { renew: true, valid: days * DAY, ..Request::new(name, Role::Agent) };
        issue(site.path(), request);
    };
    renew("oss1", 300);
    talk(&agent, &manager, &["oss1"]).1.unwrap();
    assert!(agent.identity().expires() < begin, "the new one is in use");
    assert_eq!(agent.warnings(), Vec::<String>::new());

    // In the middle of a renewal: the new key is there, the certificate is not.
    let paths = Paths::in_directory(site.path(), "oss1");
    issue(site.path(), Request::new("oss2", Role::Agent));
    let other = Paths::in_directory(site.path(), "oss2");
    let good = fs::read(&paths.key).unwrap();
    fs::copy(&other.key, &paths.key).unwrap();
    talk(&agent, &manager, &["oss1"]).1.unwrap();
    let warnings = agent.warnings().join("; ");
    assert!(warnings.contains("oss1.key: is not the key of"), "{warnings}");
    fs::remove_file(&paths.certificate).unwrap();
    talk(&agent, &manager, &["oss1"]).1.unwrap();
    assert!(agent.warnings().join("; ").contains("oss1.crt: No such file"), "{:?}", agent.warnings());
    fs::copy(&other.certificate, &paths.certificate).unwrap();
    assert_refused(talk(&agent, &manager, &["oss1"]), "alert", "the certificate is for oss2, not for oss1");
    assert_eq!(agent.warnings(), Vec::<String>::new());

    // Our own authority is replaced at one side only.
    fs::write(&paths.key, good).unwrap();
    renew("oss1", 300);
    talk(&agent, &manager, &["oss1"]).1.unwrap();
    let stranger = self::site();
    fs::copy(stranger.path().join("ca.crt"), site.path().join("new")).unwrap();
    fs::rename(site.path().join("new"), site.path().join("ca.crt")).unwrap();
    assert!(talk(&agent, &manager, &["oss1"]).1.is_err());
}

#[test]
fn files_that_are_no_good_are_named() {
    let site = site();
    let paths = Paths::in_directory(site.path(), "oss1");
    let error = |paths: &Paths| Identity::load(paths).unwrap_err().to_string();
    let file = |name: &str, content: &str, mode| {
        let path = site.path().join(name);
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        path
    };
    let key = fs::read_to_string(&paths.key).unwrap();
    for (paths, expected) in [
        (Paths::in_directory(site.path(), "none"), "none.crt: No such file"),
        (Paths { key: file("e", "", 0o600), ..paths.clone() }, "e: is not a private key"),
        (
            Paths { key: file("k", &key, 0o644), ..paths.clone() },
            "k: others may use this key (mode 0644); chmod 600 /",
        ),
        (Paths { key: file("w", &key, 0o660), ..paths.clone() }, "w: others may use this key (mode 0660)"),
        (Paths { key: site.path().join("mgs.key"), ..paths.clone() }, "mgs.key: is not the key of /"),
        (Paths { certificate: file("c", "x", 0o644), ..paths.clone() }, "c: holds no certificate"),
        (Paths { certificate: paths.key.clone(), ..paths.clone() }, "oss1.key: holds no certificate"),
        (Paths { authority: site.path().to_owned(), ..paths.clone() }, "directory"),
        (
            Paths {
                authority: file("b", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o644),
                ..paths.clone()
            },
            "b: ",
        ),
        (Paths { authority: file("l", &"x".repeat(2 << 20), 0o644), ..paths.clone() }, "l: is longer than"),
    ] {
        let error = error(&paths);
        assert!(error.contains(expected), "{error}");
        assert!(!error.contains(key.lines().nth(1).unwrap()), "{error}");
    }
    // A group may read a key.
    Identity::load(&Paths { key: file("g", &key, 0o640), ..paths }).unwrap();
}

#[test]
fn an_authority_overwrites_nothing() {
    let site = site();
    let mode = |name: &str| fs::metadata(site.path().join(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode("ca.key"), mode("oss1.key"), mode("oss1.crt")), (0o600, 0o600, 0o644));
    let before = fs::read(site.path().join("ca.key")).unwrap();
    assert!(matches!(Authority::create(site.path(), "lustre"), Err(Error::Exists(_))));
    assert_eq!(fs::read(site.path().join("ca.key")).unwrap(), before);
    let authority = Authority::open(site.path()).unwrap();
    assert!(matches!(authority.issue(&Request::new("oss1", Role::Agent)), Err(Error::Exists(_))));
    let mut files: Vec<_> =
        fs::read_dir(site.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    assert_eq!(files, ["ca.crt", "ca.key", "mgs.crt", "mgs.key", "oss1.crt", "oss1.key"]);
    for name in ["", "ca", ".", "..", "../oss3", "a/b", "-x", "a b", "*", "x\0", "oss.", &"x".repeat(300)] {
        assert!(matches!(authority.issue(&Request::new(name, Role::Agent)), Err(Error::Name(_))), "{name:?}");
    }
    fs::copy(site.path().join("oss1.key"), site.path().join("ca.key")).unwrap();
    assert!(Authority::open(site.path()).unwrap_err().to_string().contains("is not the key of"));
}

#[test]
fn roles_have_names() {
    for role in Role::ALL {
        assert_eq!(role.to_string().parse(), Ok(role));
        assert!(role.uri().starts_with(OUR_URIS));
    }
    assert!("root".parse::<Role>().is_err());
}
