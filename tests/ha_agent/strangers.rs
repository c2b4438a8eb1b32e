//! Who connects without being a manager.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;
use std::time::Duration;

use coordinatool::ha::protocol::Action;
use coordinatool::tls::authority::Request;
use coordinatool::tls::{Authority, Role};
use harness::{Programs, TestDirectory, patience, poll};

use super::player::{Agent, DONE, host};

fn is_closed(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(patience())).unwrap();
    let mut bytes = [0; 64];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
        }
    }
}

#[test]
fn garbage_ends_only_its_own_connection() {
    let agent = Agent::start("garbage");
    let mut manager = agent.manager(1);
    for garbage in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0xff; 64],
        b"\0\0\0\x02{}",
        b"\0\0\0\x16{\"type\":\"acknowledge\"}}",
        // Orders before it said who it is.
        b"\0\0\0\x1d{\"type\":\"forget\",\"orders\":[]}",
    ] {
        let mut stream = agent.connect();
        stream.write_all(garbage).unwrap();
        assert!(is_closed(&mut stream), "{garbage:?}");
    }
    assert_eq!(manager.does("a", Action::Probe, "exit 0").outcome, DONE);
}

#[test]
fn silent_connections_are_limited() {
    let agent = Agent::start("flood");
    let mut manager = agent.manager(1);
    let held: Vec<TcpStream> = (0..40).map(|_| agent.connect()).collect();
    assert_eq!(manager.does("a", Action::Probe, "exit 0").outcome, DONE);
    drop(held);
    // There is room again.
    poll(patience(), || {
        let mut stream = agent.connect();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut bytes = [0; 1];
        // Closed at once when there is no room; left open when there is.
        stream
            .read(&mut bytes)
            .is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
            .then_some(())
    })
    .unwrap();
}

#[test]
fn without_certificates_only_loopback_is_served() {
    let directory = TestDirectory::new("options");
    let run = |options: &[&str]| {
        let mut command = Command::new(Programs::find().path("coordinatool-agent"));
        command.arg("--state-dir").arg(directory.join("state")).args(["--port", "0"]).args(options);
        command.env_remove("HALO_NET").env_remove("HALO_PORT");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (options, error) in [
        (&["--insecure-loopback"][..], "not a loopback address"),
        (&["--insecure-loopback", "--listen", "0.0.0.0"][..], "not a loopback address"),
        (&["--listen", "127.0.0.1", "--tls-dir", "/nonexistent"][..], "ca issue"),
        (&["--network", "everything"][..], "is not a network"),
        (&["--bogus"][..], "--bogus"),
        (
            &["--insecure-loopback", "--listen", "127.0.0.1", "--watchdog", "/dev/none"][..],
            "/sys/class/watchdog/none",
        ),
    ] {
        let (code, said) = run(options);
        assert_eq!(code, Some(64), "{options:?}: {said}");
        assert!(said.contains(error), "{options:?}: {said}");
    }
}

#[test]
fn with_certificates_nobody_gets_in_without_one() {
    let certificates = TestDirectory::new("tls");
    let authority = Authority::create(certificates.path(), "test").unwrap();
    // The agent's name is that of its directory, which is made with it: any name of a certificate can be given.
    authority.issue(&Request::new("h0", Role::Agent)).unwrap();
    let file = |name: &str| certificates.path().join(name).display().to_string();
    let directory = certificates.path().display().to_string();
    let agent = Agent::with(
        "secure",
        &[
            "--tls-dir",
            &directory,
            "--listen",
            "127.0.0.1",
            "--cert",
            &file("h0.crt"),
            "--key",
            &file("h0.key"),
        ],
    );
    let mut stream = agent.connect();
    let hello = format!("{{\"type\":\"hello\",\"host\":\"{}\"}}", host(&agent.directory));
    stream.write_all(&(hello.len() as u32).to_be_bytes()).unwrap();
    stream.write_all(hello.as_bytes()).unwrap();
    assert!(is_closed(&mut stream));
    poll(patience(), || agent.process.log().contains("refused").then_some(())).unwrap();
}

#[test]
fn who_knocks_all_the_time_is_refused_before_others_are() {
    let certificates = TestDirectory::new("knocks-tls");
    Authority::create(certificates.path(), "test").unwrap().issue(&Request::new("h0", Role::Agent)).unwrap();
    let file = |name: &str| certificates.path().join(name).display().to_string();
    let (directory, certificate, key) = (file(""), file("h0.crt"), file("h0.key"));
    let options = ["--tls-dir", &directory, "--listen", "127.0.0.1", "--cert", &certificate, "--key", &key];
    let agent = Agent::with("knocks", &options);
    let mut knocking: Vec<TcpStream> = (0..30).map(|_| agent.connect()).collect();
    assert!(is_closed(knocking.last_mut().unwrap()));
    // The first still has time to prove who it is.
    knocking[0].set_nonblocking(true).unwrap();
    let still = knocking[0].read(&mut [0; 1]);
    assert!(still.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock), "{still:?}");
}
