//! Fence agents that do what they should not.

use std::fs;
use std::process::Command;
use std::time::Duration;

use coordinatool::ha::config::{FenceDevice, Parameter};
use coordinatool::ha::fencing::{DeviceAction, DeviceAnswer, Goal, Verdict};
use coordinatool::server::ha::fence_agent::call;
use harness::{Process, Signal, TestDirectory, patience, poll};

use crate::support::*;

/// Waits for a file that an agent writes and gives its content.
fn written(directory: &TestDirectory, name: &str) -> String {
    let read = || fs::read_to_string(directory.join(name)).ok().filter(|text| text.ends_with('\n'));
    poll(patience(), read).unwrap_or_else(|| panic!("{name} is never written")).trim().to_owned()
}

/// Waits until no process with this id is left.
fn wait_until_gone(id: &str) {
    let gone = || {
        let status = fs::read_to_string(format!("/proc/{id}/stat")).unwrap_or_default();
        // A zombie that nobody has waited for yet does no harm.
        (status.is_empty() || status.contains(") Z ")).then_some(())
    };
    assert!(poll(patience(), gone).is_some(), "process {id} is still there");
}

#[test]
fn exit_codes_mean_what_the_api_says() {
    let directory = TestDirectory::new("codes");
    write_agent(&directory, "fence_codes", "echo \"$action of $nodename says no\" >&2\nexit $code");
    let path = agents(&directory);
    let failed = |text: &str| DeviceAnswer::Failed(text.to_owned());
    use DeviceAction::{Monitor, Off, On, Status};
    for (action, code, answer) in [
        (Status, "0", DeviceAnswer::On),
        (Status, "2", DeviceAnswer::Off),
        (Status, "1", failed("exit code 1: status of h1 says no")),
        (Status, "3", failed("exit code 3: status of h1 says no")),
        (Off, "0", DeviceAnswer::Done),
        (Off, "2", failed("exit code 2: off of h1 says no")),
        (On, "0", DeviceAnswer::Done),
        (On, "1", failed("exit code 1: on of h1 says no")),
        (Monitor, "0", DeviceAnswer::Done),
        (Monitor, "255", failed("exit code 255: monitor of h1 says no")),
    ] {
        assert_eq!(
            ask(&path, &device("fence_codes", &[("code", code)]), action),
            answer,
            "{action:?} {code}"
        );
    }
    write_agent(&directory, "fence_killed", "kill -9 $$");
    assert_eq!(ask(&path, &device("fence_killed", &[]), Status), failed("killed by signal 9"));
    match ask(&path, &device("fence_none", &[]), Status) {
        DeviceAnswer::Failed(text) => assert!(text.contains("fence_none is not installed"), "{text}"),
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn a_liar_is_not_believed() {
    let directory = TestDirectory::new("liar");
    write_agent(
        &directory,
        "fence_liar",
        "echo $action >>calls\n[ $action = status ] && exit $status\nexit 0",
    );
    let liar = |status| device("fence_liar", &[("status", status)]);
    let path = agents(&directory);
    assert_eq!(
        change(&path, &[&[liar("0")]], Goal::Off),
        Verdict::Failed("fence_liar(h1): off: done, status: on".to_owned())
    );
    assert!(
        fs::read_to_string(directory.join("calls")).unwrap().starts_with("status\noff\nstatus\nstatus\n")
    );
    assert_eq!(
        change(&path, &[&[liar("1")]], Goal::Off),
        Verdict::Failed("fence_liar(h1): off: done, status: failed (exit code 1)".to_owned())
    );
    assert_eq!(change(&path, &[&[liar("0")], &[liar("2")]], Goal::Off), Verdict::Off { acted: true });
}

#[test]
fn who_hangs_is_killed_with_its_children() {
    let directory = TestDirectory::new("hang");
    write_agent(
        &directory,
        "fence_hang",
        "trap '' TERM\nsleep 1000 & echo $! >child\necho $$ >parent\nwait; sleep 1000",
    );
    let path = agents(&directory);
    let hanging = FenceDevice { timeout: Duration::from_secs(2), ..device("fence_hang", &[]) };
    assert_eq!(ask(&path, &hanging, DeviceAction::Off), DeviceAnswer::TimedOut);
    wait_until_gone(&written(&directory, "parent"));
    wait_until_gone(&written(&directory, "child"));
}

#[test]
fn a_call_that_is_dropped_is_killed() {
    let directory = TestDirectory::new("drop");
    write_agent(&directory, "fence_hang", "echo $$ >parent\nsleep 1000");
    let path = agents(&directory);
    block_on(async {
        let hanging = device("fence_hang", &[]);
        let host = "h1".into();
        let call = call(&path, &hanging, &host, DeviceAction::Off, hanging.timeout);
        let written = async {
            while !fs::read_to_string(directory.join("parent")).is_ok_and(|text| text.ends_with('\n')) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::select! {
            answer = call => panic!("{answer:?}"),
            () = written => {}
        }
    });
    wait_until_gone(&written(&directory, "parent"));
}

/// The test starts itself as the process that is killed.
#[test]
fn a_call_does_not_outlive_a_killed_caller_for_long() {
    const HELPER: &str = "COORDINATOOL_TEST_FENCE_HELPER";
    if let Some(directory) = std::env::var_os(HELPER) {
        let path = coordinatool::system::fence_path::AgentPath::new(&directory, "/bin".as_ref());
        let hanging = FenceDevice { timeout: Duration::from_secs(1), ..device("fence_hang", &[]) };
        ask(&path, &hanging, DeviceAction::Off);
        return;
    }
    let directory = TestDirectory::new("killed");
    write_agent(&directory, "fence_hang", "echo $PPID >parent\necho $$ >child\nsleep 1000");
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "misbehaving::a_call_does_not_outlive_a_killed_caller_for_long"])
        .env(HELPER, directory.path());
    let mut caller = Process::spawn("caller", command, &directory.join("log"));
    let child = written(&directory, "child");
    // Stopped first, so that it cannot kill the agent by itself.
    caller.signal(Signal::STOP);
    caller.kill();
    wait_until_gone(&written(&directory, "parent"));
    wait_until_gone(&child);
}

#[test]
fn output_of_any_length_is_read() {
    let directory = TestDirectory::new("output");
    write_agent(
        &directory,
        "fence_loud",
        "head -c $bytes /dev/zero >&2 & head -c $bytes /dev/zero\nwait\necho the end >&2\nexit $code",
    );
    let path = agents(&directory);
    let loud = |bytes, code| device("fence_loud", &[("bytes", bytes), ("code", code)]);
    assert_eq!(ask(&path, &loud("200000", "0"), DeviceAction::Off), DeviceAnswer::Done);
    assert_eq!(ask(&path, &loud("500000000", "2"), DeviceAction::Status), DeviceAnswer::Off);
    match ask(&path, &loud("200000", "1"), DeviceAction::Off) {
        DeviceAnswer::Failed(text) => assert!(text.len() < 1000, "{}", text.len()),
        answer => panic!("{answer:?}"),
    }
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 300_000, "{peak} kB");
}

#[test]
fn an_agent_need_not_read_what_it_is_told() {
    let directory = TestDirectory::new("deaf");
    write_agent(&directory, "fence_deaf", "");
    fs::write(directory.join("fence_deaf"), "#!/bin/sh\nexit 0\n").unwrap();
    let long = "x".repeat(1 << 20);
    assert_eq!(
        ask(&agents(&directory), &device("fence_deaf", &[("ip", &long)]), DeviceAction::Off),
        DeviceAnswer::Done
    );
}

#[test]
fn what_an_agent_leaves_behind_is_killed() {
    let directory = TestDirectory::new("fork");
    let path = agents(&directory);
    for (name, fork) in [
        ("fence_child", "sleep 1000 &"),
        ("fence_daemon", "setsid sleep 1000 &"),
        ("fence_quiet", "setsid sleep 1000 >/dev/null 2>&1 </dev/null &"),
    ] {
        write_agent(&directory, name, &format!("{fork}\necho $! >{name}.id\nexit 0"));
        assert_eq!(ask(&path, &device(name, &[]), DeviceAction::Off), DeviceAnswer::Done, "{name}");
        wait_until_gone(&written(&directory, &format!("{name}.id")));
    }
}

#[test]
fn secrets_are_shown_to_nobody_but_the_agent() {
    const SECRETS: [&str; 2] = ["vErY-5ecret-one", "vErY-5ecret-two"];
    let directory = TestDirectory::new("secret");
    write_agent(
        &directory,
        "fence_secret",
        "echo $password $snmp_priv_passwd >got\nwhile [ ! -e go ]; do sleep 0.02; done\n\
         echo \"cannot log in with $password or $snmp_priv_passwd\" >&2\nexit 1",
    );
    let path = agents(&directory);
    let mut secretive = device("fence_secret", &[("password", SECRETS[0])]);
    let file = directory.join("password");
    fs::write(&file, format!("{}\n", SECRETS[1])).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    secretive.parameters.insert("snmp_priv_passwd".to_owned(), Parameter::File(file.display().to_string()));
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| ask(&path, &secretive, DeviceAction::Off));
        assert_eq!(written(&directory, "got"), SECRETS.join(" "));
        for secret in SECRETS {
            assert_eq!(who_shows(secret), Vec::<String>::new());
        }
        // The search would have found what is there.
        assert!(!who_shows("fence_secret").is_empty());
        fs::write(directory.join("go"), "").unwrap();
        assert_eq!(
            asked.join().unwrap(),
            DeviceAnswer::Failed("exit code 1: cannot log in with *** or ***".to_owned())
        );
    });
    assert!(!format!("{secretive:?}").contains("vErY"));
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    match ask(&path, &secretive, DeviceAction::Status) {
        DeviceAnswer::Failed(text) => assert!(text.contains("chmod 600"), "{text}"),
        answer => panic!("{answer:?}"),
    }
}

#[test]
fn hosts_are_let_in_where_the_meta_data_asks_for_it() {
    let directory = TestDirectory::new("unfence");
    write_agent(
        &directory,
        "fence_switch",
        "echo $action >>calls\n[ $action = metadata ] || exit 0\n\
         echo '<resource-agent name=\"fence_switch\"><actions><action name=\"on\" '\"$(cat flags)\"'/></actions></resource-agent>'",
    );
    let path = agents(&directory);
    for (flags, answer, calls) in [
        ("automatic=\"1\"", DeviceAnswer::Done, "metadata\non\n"),
        ("automatic=\"0\"", DeviceAnswer::Unsupported, "metadata\n"),
        ("<", DeviceAnswer::Unsupported, "metadata\n"),
    ] {
        let _ = fs::remove_file(directory.join("calls"));
        fs::write(directory.join("flags"), flags).unwrap();
        assert_eq!(ask(&path, &device("fence_switch", &[]), DeviceAction::Unfence), answer, "{flags}");
        assert_eq!(fs::read_to_string(directory.join("calls")).unwrap(), calls, "{flags}");
    }
    fs::write(directory.join("flags"), "on_target=\"1\" automatic=\"1\"").unwrap();
    let answer = ask(&path, &device("fence_switch", &[]), DeviceAction::Unfence);
    assert!(matches!(answer, DeviceAnswer::Failed(_)), "{answer:?}");
    write_agent(&directory, "fence_plain", "exit 1");
    assert_eq!(ask(&path, &device("fence_plain", &[]), DeviceAction::Unfence), DeviceAnswer::Unsupported);
}
