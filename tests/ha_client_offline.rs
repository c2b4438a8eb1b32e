//! Commands of `coordinatool-client ha` and `halo` that need no manager: validate, discover, certificates.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod ha_client_support;

use std::path::Path;

use ha_client_support::{Ran, program, run, script};
use tempfile::tempdir;

fn ha(arguments: &[&str]) -> Ran {
    let mut command = program("coordinatool-client");
    command.arg("ha").args(arguments);
    run(command)
}

fn halo(arguments: &[&str]) -> Ran {
    let mut command = program("halo");
    command.args(arguments);
    run(command)
}

const GOOD: &str = "\
hosts:
- {hostname: oss1, fence_agent: powerman}
- {hostname: oss2, fence_agent: powerman}
resources:
- {name: pool1, kind: heartbeat/ZFS, parameters: {pool: pool1}, dependents: [ost1]}
- {name: ost1, kind: lustre/Lustre, parameters: {target: pool1/ost1, mountpoint: /mnt/ost1}, dependents: []}
resource_groups:
- {root: pool1, home_host: oss1, failover_hosts: [oss2]}
";

#[test]
fn a_good_configuration_is_summed_up() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("halo.conf");
    std::fs::write(&file, GOOD).unwrap();
    let file = file.to_str().unwrap();
    let ran = ha(&["validate", file]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{ran:?}");
    assert!(ran.out.starts_with("cluster lustre: 2 hosts, 1 group, 2 resources\n"), "{ran:?}");
    assert!(
        ran.out.ends_with("GROUP  HOME  FAILOVER  RESOURCES\npool1  oss1  oss2      pool1 ost1\n"),
        "{ran:?}"
    );
    assert_eq!(halo(&["validate", "--config", file]), ran);
    assert_eq!(halo(&["--config", file, "validate"]), ran);
}

#[test]
fn all_that_is_wrong_is_told_with_its_place() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("halo.conf");
    std::fs::write(
        &file,
        GOOD.replace("fence_agent: powerman}", "fence_agnt: x}").replace("[ost1]", "[ost2]"),
    )
    .unwrap();
    let file = file.to_str().unwrap();
    for (ran, name) in
        [(ha(&["validate", file]), "coordinatool-client"), (halo(&["validate", "--config", file]), "halo")]
    {
        assert_eq!((ran.code, ran.out.as_str()), (Some(64), ""), "{ran:?}");
        for (line, word) in [(2, "fence_agent"), (3, "fence_agent"), (5, "ost2")] {
            let place = format!("{name}: {file}:{line}: ");
            assert!(
                ran.err.lines().any(|text| text.starts_with(&place) && text.contains(word)),
                "{line}: {ran:?}"
            );
        }
    }
    let ran = ha(&["validate", "/no/such/file"]);
    assert_eq!(ran.code, Some(64));
    assert!(ran.err.contains("/no/such/file"), "{ran:?}");
    let ran = halo(&["validate"]);
    assert_eq!((ran.code, ran.err.as_str()), (Some(1), "Must specify config file using --config.\n"));
}

#[test]
fn what_is_not_installed_here_is_told() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("ha.yaml");
    std::fs::write(&file, GOOD.replace("fence_agent: powerman", "fencing: [{agent: fence_nowhere}]"))
        .unwrap();
    let root = directory.path().join("ocf");
    std::fs::create_dir_all(root.join("resource.d/heartbeat")).unwrap();
    script(&root.join("resource.d/heartbeat"), "ZFS", "exit 0\n");
    let mut command = program("coordinatool-client");
    command
        .args(["ha", "validate", "--host-checks"])
        .arg(&file)
        .arg("--ocf-root")
        .arg(&root)
        .env("PATH", "/nowhere");
    let ran = run(command);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("fence_nowhere is not installed: not in"), "{ran:?}");
    assert!(ran.err.contains("resource.d/lustre/Lustre"), "{ran:?}");
    assert!(!ran.err.contains("ZFS"), "{ran:?}");
}

/// HALO's own test: whatever is malformed is said to be so.
#[test]
fn malformed_nodesets_are_refused() {
    for set in ["node[", "node]", "node[1-", "node[a-b]"] {
        for ran in [halo(&["discover", set]), ha(&["discover", set])] {
            assert_eq!((ran.code, ran.out.as_str()), (Some(2), ""), "{set}: {ran:?}");
            assert!(ran.err.contains("nodeset syntax error: unable to parse"), "{set}: {ran:?}");
        }
    }
}

/// Stands for `ssh`: each host is a directory of programs.
fn fake_ssh(directory: &Path) -> String {
    for (host, tool, says) in [
        ("oss1", "mount", "echo 'a/ost0 on /mnt/ost0 type lustre (ro,svname=lab-OST0000,osd=osd-zfs)'"),
        ("oss1", "zpool", "printf 'a\\nrpool\\n'"),
        (
            "oss2",
            "mount",
            "echo '/dev/mapper/ost1 on /mnt/ost1 type lustre (ro,svname=lab-OST0001,osd=osd-ldiskfs)'",
        ),
        ("oss2", "blkid", "echo '/dev/sdc: LABEL=\"lab-OST0002\" TYPE=\"ext4\"'"),
    ] {
        std::fs::create_dir_all(directory.join(host)).unwrap();
        script(&directory.join(host), tool, &format!("{says}\n"));
    }
    let here = directory.display();
    // The options and the host come first: -o X -o Y HOST sh -s.
    let text = format!(
        "[ \"$1 $3 $6 $7\" = '-o -o sh -s' ] || exit 99\n\
         [ -d {here}/$5 ] || {{ echo \"ssh: no such host $5\" >&2; exit 255; }}\n\
         PATH={here}/$5:$PATH exec sh -s\n"
    );
    script(directory, "ssh", &text).display().to_string()
}

#[test]
fn servers_are_looked_at() {
    let directory = tempdir().unwrap();
    let ssh = fake_ssh(directory.path());
    let ran = ha(&["discover", "oss[1-2]", "--ssh-command", &ssh]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert_eq!(ran.err, "coordinatool-client: pool rpool on oss1 holds no Lustre target; it is left out\n");
    for part in [
        "  - name: a\n    kind: heartbeat/ZFS\n    parameters:\n      pool: a\n    dependents: [lab-OST0000]\n",
        "      target: /dev/mapper/ost1\n      mountpoint: /mnt/ost1\n",
        "  # lab-OST0002 was not mounted on any host that was asked\n",
        "  - root: lab-OST0001\n    home_host: oss2\n",
    ] {
        assert!(ran.out.contains(part), "{part}: {}", ran.out);
    }
    let file = directory.path().join("ha.yaml");
    std::fs::write(&file, &ran.out).unwrap();
    let valid = ha(&["validate", file.to_str().unwrap()]);
    assert_eq!(valid.code, Some(0), "{valid:?}");
    assert_eq!(halo(&["discover", "oss1", "oss2", "--ssh-command", &ssh]).out, ran.out);
}

#[test]
fn a_host_that_cannot_be_asked_is_named_and_the_others_are_shown() {
    let directory = tempdir().unwrap();
    let ssh = fake_ssh(directory.path());
    let ran = ha(&["discover", "oss[2-3]", "--ssh-command", &ssh]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("oss3: ") && ran.err.contains("ssh: no such host oss3"), "{ran:?}");
    assert!(ran.out.contains("lab-OST0001"), "{ran:?}");
    let ran = ha(&["discover", "oss1", "--ssh-command", "/no/such/ssh"]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("oss1: cannot run /no/such/ssh: "), "{ran:?}");
    let silent = script(directory.path(), "silent", "exec sleep 600\n");
    let ran = ha(&["discover", "oss1", "--timeout", "1", "--ssh-command", silent.to_str().unwrap()]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("oss1: no answer within 1 s"), "{ran:?}");
}

#[test]
fn an_ldev_conf_is_enough() {
    let directory = tempdir().unwrap();
    let file = directory.path().join("ldev.conf");
    std::fs::write(&file, "mds1 mds2 MGS /dev/mgs\nbad line\noss1 oss2 lab-OST0000 zfs:a/ost0\n").unwrap();
    let ran = ha(&["discover", "--ldev", file.to_str().unwrap()]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(ran.err.contains("ldev.conf:2: not four fields"), "{ran:?}");
    assert!(
        ran.out.contains("  - root: a\n    home_host: oss1\n    failover_hosts: [oss2]\n"),
        "{}",
        ran.out
    );
}

#[test]
fn certificates_are_issued_and_shown() {
    let directory = tempdir().unwrap();
    let dir = directory.path().join("ca");
    let dir = dir.to_str().unwrap();
    let ran = ha(&["ca", "issue", "oss1", "--dir", dir]);
    assert_eq!(ran.code, Some(1));
    assert!(ran.err.contains("ca init"), "{ran:?}");
    assert_eq!(ha(&["ca", "init", "--dir", dir, "--name", "lab"]).code, Some(0));
    let ran = ha(&["ca", "init", "--dir", dir, "--name", "lab"]);
    assert_eq!(ran.code, Some(1), "an authority is not overwritten: {ran:?}");
    assert_eq!(ha(&["ca", "issue", "oss[1-2]", "--dir", dir]).code, Some(0));
    assert_eq!(ha(&["ca", "issue", "oss1", "--dir", dir]).code, Some(1));
    assert_eq!(ha(&["ca", "issue", "oss1", "--dir", dir, "--renew", "--also", "10.0.0.1"]).code, Some(0));
    // A mistyped name is no new certificate.
    let ran = ha(&["ca", "issue", "osss1", "--dir", dir, "--renew"]);
    assert_eq!(ran.code, Some(1), "{ran:?}");
    assert!(ran.err.contains("osss1.crt") && ran.err.contains("nothing to renew"), "{ran:?}");
    assert_eq!(ha(&["ca", "issue", "mgmt", "--dir", dir, "--role", "manager"]).code, Some(0));
    assert_eq!(ha(&["ca", "issue", "oss[1-2]", "--dir", dir, "--renew", "--also", "x"]).code, Some(2));
    let ran = ha(&["ca", "show", "--dir", dir]);
    assert_eq!(ran.code, Some(0), "{ran:?}");
    let rows: Vec<Vec<&str>> = ran.out.lines().map(|line| line.split_whitespace().collect()).collect();
    let roles: Vec<_> = rows.iter().skip(1).map(|row| (row[0], row[1])).collect();
    assert_eq!(roles, [("ca", "authority"), ("mgmt", "manager"), ("oss1", "agent"), ("oss2", "agent")]);
    assert_eq!(rows[3].last(), Some(&"10.0.0.1"));
    // On a server, where the authority's key is not.
    std::fs::remove_file(Path::new(dir).join("ca.key")).unwrap();
    assert_eq!(ha(&["ca", "show", "--dir", dir]).code, Some(0));
}

#[test]
fn shells_can_complete() {
    for shell in ["bash", "zsh", "fish"] {
        for (arguments, word) in
            [(&["completion", shell][..], "confirm-off"), (&["completion", shell, "--halo"], "failback")]
        {
            let ran = ha(arguments);
            assert_eq!((ran.code, ran.err.as_str()), (Some(0), ""), "{arguments:?}");
            assert!(ran.out.contains(word), "{arguments:?}");
        }
    }
    let directory = tempdir().unwrap();
    let file = directory.path().join("completion");
    std::fs::write(&file, ha(&["completion", "bash"]).out).unwrap();
    for (words, wanted) in [
        ("coordinatool-client h", "history\nha\n"),
        ("coordinatool-client ha fe", "fence\n"),
        ("coordinatool-client ha confirm-off --y", "--yes-it-is-off\n"),
        ("coordinatool-client ha ca is", "issue\n"),
    ] {
        let text = format!(
            "source {}; COMP_WORDS=({words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1))\n\
             _coordinatool__client coordinatool-client \"${{COMP_WORDS[-1]}}\" x\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"",
            file.display()
        );
        let mut bash = std::process::Command::new("bash");
        bash.args(["-c", &text]);
        assert_eq!(run(bash).out, wanted, "{words}");
    }
}

/// Words as a shell makes them, as far as documents need it; ends where a command does.
fn words(text: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in text.chars() {
        let Some(word) = words.last_mut() else { break };
        match (c, quote) {
            (c, Some(open)) if c == open => quote = None,
            (c, Some(_)) => word.push(c),
            ('\'' | '"', None) => quote = Some(c),
            ('`' | '#' | '>' | '|' | '&' | ';' | '\n', None) => break,
            (' ', None) if word.is_empty() => {}
            (' ', None) => words.push(String::new()),
            (c, None) => word.push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

/// What the documents tell to type can be typed.
#[test]
fn the_commands_in_the_documents_exist() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs");
    let mut checked = 0;
    for file in std::fs::read_dir(docs).unwrap().map(|entry| entry.unwrap().path()) {
        if file.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = std::fs::read_to_string(&file).unwrap();
        for (at, name) in text.match_indices("coordinatool-client ha ") {
            let words = words(&text[at + name.len()..]);
            // A pattern, not a command: `ha COMMAND`, `ha fence HOST ...`.
            let is_pattern =
                |word: &String| word.starts_with('[') || word.contains("...") || word.contains('…');
            let upper = |word: &String| word.len() > 1 && word.bytes().all(|byte| byte.is_ascii_uppercase());
            if words.iter().any(|word| is_pattern(word) || upper(word)) {
                continue;
            }
            let called = std::iter::once("ha".to_owned()).chain(words.iter().cloned());
            let parsed = <coordinatool::client::ha::options::Options as clap::Parser>::try_parse_from(called);
            assert!(parsed.is_ok(), "{}: {words:?}: {}", file.display(), parsed.unwrap_err());
            checked += 1;
        }
    }
    assert!(checked > 0);
}
