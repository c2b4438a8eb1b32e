//! An agent that cannot start: the service manager tries again what may be better the next time, and only that.

use std::process::Command;

use harness::{Programs, TestDirectory};

use super::player::Agent;

#[test]
fn only_what_the_user_has_to_change_ends_for_good() {
    let other = Agent::start("exits");
    let taken = other.connect().peer_addr().unwrap().port().to_string();
    let used = other.file("agent");
    let directory = TestDirectory::new("exits-too");
    let state = directory.join("state").display().to_string();
    let loopback = ["--insecure-loopback", "--listen", "127.0.0.1"];
    for (code, options) in [
        (1, &["--network", "203.0.113.0/24"][..]),
        (64, &["--network", "nonsense"]),
        (64, &["--nonsense"]),
        (64, &["--tls-dir", "/nonexistent", "--listen", "127.0.0.1", "--port", "0"]),
        (1, &[&loopback[..], &["--port", &taken]].concat()),
        (1, &[&loopback[..], &["--port", "0", "--state-dir", &used]].concat()),
        (1, &[&loopback[..], &["--port", "0", "--state-dir", "/proc/none"]].concat()),
    ] {
        let mut command = Command::new(Programs::find().path("coordinatool-agent"));
        command.env_remove("HALO_NET").env_remove("HALO_PORT").args(["--state-dir", &state]).args(options);
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{options:?}: {said}");
        assert!(!said.is_empty(), "{options:?}");
    }
}
