//! `liblustreapi.so.1` as programs see it: its symbols, its messages, ioctls that programs make themselves.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Tests fail by panicking.

mod server;

use std::ffi::CString;
use std::process::Command;

use lustreapi_sys::Fid;
use server::Sim;

#[test]
fn every_symbol_that_copytools_import_is_there() {
    let library = server::programs().join("liblustreapi.so");
    let path = CString::new(library.to_str().unwrap()).unwrap();
    // SAFETY: loads our own library, whose symbols stay local to the handle.
    let handle = unsafe { libc::dlopen(path.as_ptr(), libc::RTLD_NOW | libc::RTLD_LOCAL) };
    assert!(!handle.is_null());
    let names = include_str!("data/copytool_symbols.txt").lines().filter(|l| !l.starts_with('#'));
    let missing: Vec<&str> = names
        .filter(|name| {
            let name = CString::new(*name).unwrap();
            // SAFETY: a valid handle and a C string.
            unsafe { libc::dlsym(handle, name.as_ptr()) }.is_null()
        })
        .collect();
    assert_eq!(missing, Vec::<&str>::new());
}

/// A program with ioctls of its own, started with the library preloaded as the daemon is.
#[test]
fn plain_ioctls_reach_the_embedded_lustre_and_others_the_kernel() {
    let sim = Sim::start(&[]);
    let program = sim.dir.path().join("plain_ioctl");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/plain_ioctl.c");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".into());
    assert!(
        Command::new(compiler).args([source, "-o"]).arg(&program).arg("-ldl").status().unwrap().success()
    );
    let file = sim.file("f", b"data");
    sim.client.adopt(&file, Fid::new(0x2_0000_0402, 5, 0)).unwrap();
    let outside = sim.dir.path().join("archive");
    let output = Command::new(&program)
        .env("LD_PRELOAD", sim.path(".lustre/lib/liblustreapi.so.1"))
        .args([sim.client.root(), &file, &outside])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let expected = [
        "name 0 testfs0-clilmv-",
        "fid 0 0x200000402",
        "outside -1 25",
        "closed -1 9",
        "register 0",
        "again -1 17",
        "empty 0 0",
        "child 0 0",
        "unregister 0",
    ];
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(printed.lines().count(), expected.len(), "{printed}");
    for (line, expected) in printed.lines().zip(expected) {
        assert!(line.starts_with(expected), "{line:?} instead of {expected:?}");
    }
    let errors = String::from_utf8(output.stderr).unwrap();
    let expected =
        "plain_ioctl: text 7 1.25 2.5 a b c 8 9.125: No such file or directory (2)\nplain_ioctl: no errno\n";
    assert_eq!(errors, expected);
}

fn run(sim: &Sim, arguments: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lustre-sim"))
        .args(arguments)
        .current_dir(sim.client.root())
        .output()
        .unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Printed as `lfs` and `lctl` of a real Lustre print (real-lustre sessions: `a1: (0x00000009) exists archived,
/// archive_id:1`, `mdt.testfs0-MDT0000.hsm.active_requests=` when there is nothing).
#[test]
fn the_command_line_prints_what_lfs_and_lctl_print() {
    let sim = Sim::start(&[]);
    sim.file("a1", b"data");
    let ok = |arguments: &[&str]| {
        let (code, out, errors) = run(&sim, arguments);
        assert_eq!((code, errors.as_str()), (0, ""), "{arguments:?}");
        out
    };
    assert_eq!(ok(&["state", "a1"]), "a1: (0x00000000)\n");
    assert_eq!(ok(&["action", "a1"]), "a1: NOOP\n");
    assert_eq!(ok(&["archive", "--archive", "1", "--data", "tag=foo", "a1"]), "");
    assert_eq!(ok(&["action", "a1"]), "a1: ARCHIVE waiting (from 0 to EOF)\n");
    let empty = "mdt.testfs0-MDT0000.hsm.active_requests=\nmdt.testfs0-MDT0001.hsm.active_requests=\n";
    assert_eq!(ok(&["get-param", "mdt.*.hsm.active_requests"]), empty);
    assert_eq!(ok(&["get-param", "-n", "mdt.*.hsm.active_requests"]), "");
    assert_eq!(ok(&["get-param", "-n", "mdt.testfs0-MDT0001.hsm.max_requests"]), "3\n");
    let line = ok(&["get-param", "-n", "mdt.testfs0-MDT0000.hsm.actions"]);
    assert!(line.contains("datalen=7 status=WAITING data=[7461673D66]"), "{line}");
    let _copytool = sim.copytool(&[]);
    ok(&["wait", "state", "--set", "archived", "a1"]);
    assert_eq!(ok(&["state", "a1"]), "a1: (0x00000009) exists archived, archive_id:1\n");
    ok(&["release", "a1"]);
    assert_eq!(ok(&["read", "a1"]), "data");
    ok(&["set-state", "--set", "norelease", "a1"]);
    let (code, _, errors) = run(&sim, &["release", "a1"]);
    assert_eq!(code, libc::EPERM, "{errors}");
    let (code, _, errors) = run(&sim, &["state", "missing"]);
    assert_eq!(code, libc::ENOENT, "{errors}");
    let (code, _, _) = run(&sim, &["-C", "/", "status"]);
    assert_eq!(code, libc::ENOTTY);
    assert_eq!(ok(&["set-param", "mdt.*.hsm.max_requests=7"]), "mdt.*.hsm.max_requests=7\n");
    assert_eq!(ok(&["get-param", "-n", "mdt.testfs0-MDT0000.hsm.max_requests"]), "7\n");
    let (code, _, _) = run(&sim, &["wait", "--timeout", "0.1", "started", "5"]);
    assert_eq!(code, libc::ETIMEDOUT);
    assert!(ok(&["ledger"]).contains("ARCHIVE archive 1: SUCCEED"), "the ledger knows");
}

/// Seen on a real Lustre: one request for 50 files works, for 100 it is E2BIG.
#[test]
fn a_request_for_too_many_files_is_refused() {
    let sim = Sim::start(&[]);
    let files: Vec<_> = (0..100).map(|i| sim.file(&format!("f{i}"), b"")).collect();
    let paths: Vec<_> = files.iter().map(std::path::PathBuf::as_path).collect();
    sim.client.request(lustreapi_sys::abi::HUA_ARCHIVE, 0, 0, &paths[..50], b"").unwrap();
    let error = sim.client.request(lustreapi_sys::abi::HUA_ARCHIVE, 0, 0, &paths, b"").unwrap_err();
    assert_eq!(error.errno(), Some(libc::E2BIG));
}

#[test]
fn a_stopped_server_leaves_its_mounts_and_another_may_follow() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = lustre_sim::server::Options::new(dir.path().join("fs"));
    options.mounts = vec![dir.path().join("two")];
    let server = lustre_sim::server::Server::start(options.clone()).unwrap();
    assert!(dir.path().join("two/.lustre/fsname").exists());
    let second = lustre_sim::server::Server::start(options.clone());
    assert_eq!(second.err().unwrap().kind(), std::io::ErrorKind::AddrInUse);
    drop(server);
    assert!(!dir.path().join("two/.lustre").exists());
    options.fsname = "nine-long".into();
    assert_eq!(
        lustre_sim::server::Server::start(options.clone()).err().unwrap().kind(),
        std::io::ErrorKind::InvalidInput
    );
    options.fsname = "eight888".into();
    let server = lustre_sim::server::Server::start(options).unwrap();
    let client = lustre_sim::client::Client::of(server.root()).unwrap();
    assert_eq!(client.status().unwrap().fsname, "eight888");
}
