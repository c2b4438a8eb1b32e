//! Fence agents of the distribution, with simulated devices.

use std::fs;
use std::net::{TcpListener, UdpSocket};
use std::process::Command;

use coordinatool::ha::config::{FenceDevice, Parameter, Secret};
use coordinatool::ha::fencing::{
    DeviceAction, DeviceAnswer, Goal, Metadata, Unfencing, Verdict, same_machine,
};
use coordinatool::system::fence_path::AgentPath;
use harness::{Process, Programs, TestDirectory, patience, poll};

use crate::support::*;

/// Whether all of these are installed; if not, the test is skipped.
fn have(test: &str, programs: &[&str]) -> bool {
    let path = agents(&TestDirectory::new("have"));
    match programs.iter().find_map(|program| path.find(program).err()) {
        Some(missing) => {
            harness::skip(test, &missing);
            false
        }
        None => true,
    }
}

#[test]
fn fence_dummy() {
    if !have("distribution::fence_dummy", &["fence_dummy"]) {
        return;
    }
    let directory = TestDirectory::new("dummy");
    let path = agents(&directory);
    let status = directory.join("status");
    let dummy = || device("fence_dummy", &[("status_file", status.to_str().unwrap())]);
    fs::write(&status, "on").unwrap();
    assert_eq!(ask(&path, &dummy(), DeviceAction::Monitor), DeviceAnswer::Done);
    assert_eq!(change(&path, &[&[dummy()]], Goal::Off), Verdict::Off { acted: true });
    assert_eq!(fs::read_to_string(&status).unwrap(), "off");
    assert_eq!(change(&path, &[&[dummy()]], Goal::Off), Verdict::Off { acted: false });
    assert_eq!(change(&path, &[&[dummy()]], Goal::On), Verdict::On);
    // It calls a host off of which it knows nothing, which makes it useless for anything but tests.
    fs::remove_file(&status).unwrap();
    assert_eq!(ask(&path, &dummy(), DeviceAction::Status), DeviceAnswer::Off);
    // A file that cannot be written: off fails, and is not believed.
    fs::write(&status, "on").unwrap();
    let failing = || device("fence_dummy", &[("type", "fail"), ("plug", "1"), ("power_timeout", "1")]);
    match change(&path, &[&[failing()]], Goal::Off) {
        Verdict::Failed(words) => {
            assert!(words.starts_with("fence_dummy(h1): off: failed (exit code 1"), "{words}")
        }
        verdict => panic!("{verdict:?}"),
    }
}

#[test]
fn meta_data_of_all_installed_agents() {
    if !have(
        "distribution::meta_data_of_all_installed_agents",
        &["fence_scsi", "fence_brocade", "fence_ipmilan"],
    ) {
        return;
    }
    for (agent, unfencing) in [
        ("fence_scsi", Unfencing::NeededOnTarget),
        ("fence_brocade", Unfencing::Needed),
        ("fence_ipmilan", Unfencing::NotNeeded),
        ("fence_powerman", Unfencing::NotNeeded),
        ("fence_redfish", Unfencing::NotNeeded),
    ] {
        let output = Command::new(format!("/usr/sbin/{agent}")).args(["-o", "metadata"]).output().unwrap();
        let metadata = Metadata::parse(&String::from_utf8_lossy(&output.stdout));
        let metadata = metadata.unwrap_or_else(|error| panic!("{agent}: {error}"));
        assert_eq!((metadata.name.as_str(), metadata.unfencing()), (agent, unfencing));
        assert!(
            metadata.supports("off") && metadata.supports("monitor") && metadata.knows("power-timeout"),
            "{agent}"
        );
    }
    let directory = TestDirectory::new("unfencing");
    let ipmi = device("fence_ipmilan", &[]);
    assert_eq!(ask(&agents(&directory), &ipmi, DeviceAction::Unfence), DeviceAnswer::Unsupported);
    let scsi = device("fence_scsi", &[]);
    assert!(matches!(ask(&agents(&directory), &scsi, DeviceAction::Unfence), DeviceAnswer::Failed(_)));
}

/// OpenIPMI's simulated BMC. The machine behind it is on while the file `power` holds 1.
struct Bmc {
    directory: TestDirectory,
    port: u16,
    password: &'static str,
    _process: Process,
}

impl Bmc {
    /// `obeys`: it does what it says.
    fn start(password: &'static str, obeys: bool) -> Self {
        let directory = TestDirectory::new("bmc");
        let path = directory.path().display();
        let act = if obeys { "echo \"$3\" >power" } else { ":" };
        let chassis = format!(
            "#!/bin/sh\ncd {path}\necho \"$*\" >>asked\ncase \"$1 $2\" in\n\
             'set power') {act} ;;\n'get power') echo power:$(cat power) ;;\nesac\n"
        );
        harness::write_program(&directory.join("chassis"), &chassis);
        fs::write(directory.join("power"), "1\n").unwrap();
        directory.subdirectory("state");
        fs::write(
            directory.join("commands"),
            "mc_setbmc 0x20\nmc_add 0x20 0 no-device-sdrs 0x23 9 8 0x9f 0x1291 0xf02 persist_sdr\n\
             sel_enable 0x20 1000 0x0a\nmc_enable 0x20\n",
        )
        .unwrap();
        // The port may be taken by somebody else in between; then the simulator says so and ends.
        for _ in 0..10 {
            let port = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            let lan = format!(
                "name \"bmc{port}\"\nset_working_mc 0x20\n startlan 1\n  addr 127.0.0.1 {port}\n  priv_limit admin\n\
                 \x20 allowed_auths_admin md5\n  guid 00112233445566778899aabbccddeeff\n endlan\n\
                 \x20chassis_control \"{path}/chassis\"\n user 1 false \"\" \"\" user 10 md5\n\
                 \x20user 2 true \"admin\" \"{password}\" admin 10 md5\n"
            );
            fs::write(directory.join("lan.conf"), lan).unwrap();
            let mut command = Command::new("ipmi_sim");
            command.arg("-n").arg("-c").arg(directory.join("lan.conf"));
            command.arg("-f").arg(directory.join("commands")).arg("-s").arg(directory.join("state"));
            let mut process = Process::spawn("ipmi_sim", command, &directory.join("log"));
            let is_open = || {
                let sockets = fs::read_to_string("/proc/net/udp").unwrap();
                sockets.contains(&format!(" 0100007F:{port:04X} ")).then_some(())
            };
            if poll(patience(), || is_open().or_else(|| process.status().map(|_| ()))).is_some()
                && process.is_running()
            {
                return Self { directory, port, password, _process: process };
            }
        }
        panic!("ipmi_sim does not start: {}", fs::read_to_string(directory.join("log")).unwrap_or_default());
    }

    fn device(&self) -> FenceDevice {
        self.device_with(self.password)
    }

    fn device_with(&self, password: &str) -> FenceDevice {
        let port = self.port.to_string();
        device(
            "fence_ipmilan",
            &[
                ("ip", "127.0.0.1"),
                ("ipport", &port),
                ("lanplus", "1"),
                ("cipher", "3"),
                ("username", "admin"),
                ("password", password),
                // Not what is tested here: our own verification.
                ("power_timeout", "1"),
                ("power_wait", "0"),
            ],
        )
    }

    fn agents(&self) -> AgentPath {
        agents(&self.directory).with_stand_in(Programs::find().path("coordinatool"))
    }
}

const IPMI: [&str; 3] = ["fence_ipmilan", "ipmitool", "ipmi_sim"];

#[test]
fn fence_ipmilan() {
    if !have("distribution::fence_ipmilan", &IPMI) {
        return;
    }
    let bmc = Bmc::start("5ecret", true);
    // With and without our program in ipmitool's place.
    for path in [bmc.agents(), agents(&bmc.directory)] {
        let good = bmc.device();
        assert_eq!(ask(&path, &good, DeviceAction::Monitor), DeviceAnswer::Done);
        assert_eq!(ask(&path, &good, DeviceAction::Status), DeviceAnswer::On);
        assert_eq!(change(&path, &[std::slice::from_ref(&good)], Goal::Off), Verdict::Off { acted: true });
        assert_eq!(fs::read_to_string(bmc.directory.join("power")).unwrap(), "0\n");
        assert_eq!(change(&path, &[std::slice::from_ref(&good)], Goal::Off), Verdict::Off { acted: false });
        assert_eq!(change(&path, &[std::slice::from_ref(&good)], Goal::On), Verdict::On);
        assert_eq!(fs::read_to_string(bmc.directory.join("power")).unwrap(), "1\n");
        match ask(&path, &good, DeviceAction::Identify) {
            DeviceAnswer::Uuid(uuid) => {
                assert_eq!(same_machine(&uuid, "00112233-4455-6677-8899-AABBCCDDEEFF"), Some(true), "{uuid}");
                assert_eq!(
                    same_machine(&uuid, "10112233-4455-6677-8899-AABBCCDDEEFF"),
                    Some(false),
                    "{uuid}"
                );
            }
            answer => panic!("{answer:?}"),
        }
        match ask(&path, &bmc.device_with("wrong-5ecret"), DeviceAction::Status) {
            DeviceAnswer::Failed(words) => assert!(!words.contains("5ecret"), "{words}"),
            answer => panic!("{answer:?}"),
        }
        let mut secretive = good.clone();
        secretive.parameters.insert("username".to_owned(), Parameter::Secret(Secret("admin".to_owned())));
        assert_eq!(ask(&path, &secretive, DeviceAction::Identify), DeviceAnswer::Unsupported);
    }
}

#[test]
fn a_bmc_that_only_says_yes_is_not_believed() {
    if !have("distribution::a_bmc_that_only_says_yes_is_not_believed", &IPMI) {
        return;
    }
    let bmc = Bmc::start("5ecret-of-a-liar", false);
    match change(&bmc.agents(), &[&[bmc.device()]], Goal::Off) {
        Verdict::Failed(words) => assert!(words.ends_with("status: on"), "{words}"),
        verdict => panic!("{verdict:?}"),
    }
    assert!(fs::read_to_string(bmc.directory.join("asked")).unwrap().contains("set power 0"));
}

#[test]
fn a_bmc_password_is_in_no_process_list() {
    if !have("distribution::a_bmc_password_is_in_no_process_list", &IPMI) {
        return;
    }
    let bmc = Bmc::start("vErY-5ecret-bmc", true);
    let path = bmc.agents();
    let good = bmc.device();
    std::thread::scope(|scope| {
        let asked = scope.spawn(|| {
            for action in
                [DeviceAction::Status, DeviceAction::Off, DeviceAction::Identify, DeviceAction::Status]
            {
                let answer = ask(&path, &good, action);
                assert!(!matches!(answer, DeviceAnswer::Failed(_) | DeviceAnswer::TimedOut), "{answer:?}");
            }
        });
        let mut seen_ipmitool = false;
        while !asked.is_finished() {
            assert_eq!(who_shows(bmc.password), Vec::<String>::new());
            seen_ipmitool |=
                who_shows(&format!("127.0.0.1 -p {}", bmc.port)).iter().any(|line| line.contains("-U admin"));
        }
        assert!(seen_ipmitool, "the search never met what it was to find");
    });
}

#[test]
fn fence_powerman() {
    if !have("distribution::fence_powerman", &["fence_powerman", "powermand", "powerman", "vpcd"]) {
        return;
    }
    let directory = TestDirectory::new("powerman");
    let mut started = None;
    for _ in 0..10 {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        fs::write(
            directory.join("powerman.conf"),
            format!(
                "include \"/etc/powerman/vpc.dev\"\nlisten \"127.0.0.1:{port}\"\n\
                 device \"pdu\" \"vpc\" \"/usr/sbin/vpcd |&\"\nnode \"h[0-3]\" \"pdu\" \"[0-3]\"\n"
            ),
        )
        .unwrap();
        let mut command = Command::new("/usr/sbin/powermand");
        command.arg("-f").arg("-c").arg(directory.join("powerman.conf"));
        let mut process = Process::spawn("powermand", command, &directory.join("log"));
        let answers = || {
            let target = format!("127.0.0.1:{port}");
            let output = Command::new("powerman").args(["-h", &target, "-Q", "h[0-3]"]).output().unwrap();
            String::from_utf8_lossy(&output.stdout).contains("h[0-3]").then_some(())
        };
        if poll(patience(), || answers().or_else(|| process.status().map(|_| ()))).is_some()
            && process.is_running()
        {
            started = Some((port.to_string(), process));
            break;
        }
    }
    let (port, _powermand) = started.expect("powermand starts");
    let path = agents(&directory);
    let plug = |plug: &str| {
        let parameters =
            [("ip", "127.0.0.1"), ("ipport", &port), ("plug", plug), ("delay", "0"), ("power_wait", "0")];
        device("fence_powerman", &parameters)
    };
    assert_eq!(ask(&path, &plug("h1"), DeviceAction::Monitor), DeviceAnswer::Done);
    assert_eq!(change(&path, &[&[plug("h1"), plug("h2")]], Goal::On), Verdict::On);
    assert_eq!(change(&path, &[&[plug("h1"), plug("h2")]], Goal::Off), Verdict::Off { acted: true });
    assert_eq!(change(&path, &[&[plug("h1"), plug("h2")]], Goal::Off), Verdict::Off { acted: false });
    assert_eq!(change(&path, &[&[plug("h2")]], Goal::On), Verdict::On);
    assert_eq!(change(&path, &[&[plug("h1"), plug("h2")]], Goal::Status), Verdict::On, "one is on");
    assert_eq!(
        ask(&path, &plug("h1"), DeviceAction::Status),
        DeviceAnswer::Off,
        "the other one is not touched"
    );
    assert!(matches!(ask(&path, &plug("none"), DeviceAction::Status), DeviceAnswer::Failed(_)));
    assert_eq!(ask(&path, &plug("h1"), DeviceAction::Identify), DeviceAnswer::Unsupported);
}
