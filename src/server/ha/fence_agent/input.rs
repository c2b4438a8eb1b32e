//! What a fence agent is told, and what of it must not be told further.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use crate::ha::config::{FenceDevice, Parameter};
use crate::ha::ids::HostId;

use super::process::Tail;

/// A secret may be this long.
const LONGEST_SECRET: usize = 4096;

/// The parameters of a device, with its secrets read. It has no `Debug`, so that it cannot be logged.
pub struct Values(BTreeMap<String, Value>);

struct Value {
    text: String,
    secret: bool,
}

impl Values {
    /// Reads the secrets of a device from their files. The error says what is wrong, without the secret.
    pub fn read(device: &FenceDevice) -> Result<Self, String> {
        let mut values = BTreeMap::new();
        for (name, parameter) in &device.parameters {
            let (text, secret) = match parameter {
                Parameter::Plain(text) => (text.clone(), false),
                Parameter::Secret(secret) => (secret.0.clone(), true),
                Parameter::File(file) => {
                    let secret =
                        read_secret(Path::new(file)).map_err(|reason| format!("{name}: {file}: {reason}"))?;
                    (secret, true)
                }
            };
            if name.is_empty() || name.contains(['=', '\n', '\r', '\0']) {
                return Err(format!("{name:?} is not the name of a parameter"));
            }
            if text.contains(['\n', '\r', '\0']) {
                return Err(format!("the value of {name} holds a line break or a null byte"));
            }
            values.insert(name.clone(), Value { text, secret });
        }
        Ok(Self(values))
    }

    /// What an agent reads. Of equal keys the last one counts, so what is ours comes last. `instead` are values that replace
    /// or add to what is configured.
    pub fn lines(&self, host: &HostId, action: &str, instead: &BTreeMap<String, String>) -> Vec<u8> {
        let mut lines = String::new();
        let mut all: BTreeMap<&str, &str> =
            self.0.iter().map(|(name, value)| (&**name, &*value.text)).collect();
        all.extend(instead.iter().map(|(name, text)| (&**name, &**text)));
        for (name, text) in all {
            // The library of fence-agents strips white space around a line, then one pair of quotes around the value.
            let quote = text.trim() != text || text.len() > 1 && text.starts_with('"') && text.ends_with('"');
            let quote = if quote { "\"" } else { "" };
            lines += &format!("{name}={quote}{text}{quote}\n");
        }
        lines += &format!("nodename={host}\naction={action}\n");
        lines.into_bytes()
    }

    /// The value of the first of these parameters that is given, and whether it is a secret. `-` and `_` are the same.
    pub fn get(&self, names: &[&str]) -> Option<(&str, bool)> {
        let same = |name: &str, other: &str| name.replace('-', "_") == other;
        names.iter().find_map(|wanted| {
            let (_, value) = self.0.iter().find(|(name, _)| same(name, wanted))?;
            Some((value.text.as_str(), value.secret))
        })
    }

    /// The names under which these parameters are given.
    pub fn names<'a>(&'a self, names: &'a [&str]) -> impl Iterator<Item = &'a str> {
        let wanted = move |name: &&str| names.contains(&name.replace('-', "_").as_str());
        self.0.keys().map(String::as_str).filter(wanted)
    }

    /// An agent's output with each secret replaced by `***`.
    pub fn without_secrets(&self, output: &Tail) -> String {
        let mut secrets: Vec<&str> =
            self.0.values().filter(|value| value.secret).map(|value| &*value.text).collect();
        secrets.retain(|secret| !secret.is_empty());
        // A secret may be part of another one.
        secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
        let mut text = output.text();
        if output.is_cut() {
            // What is left of a secret that was cut in two is not recognised below.
            let longest = secrets.first().map_or(0, |secret| secret.len());
            text = text
                .char_indices()
                .find(|(at, _)| *at >= longest)
                .map_or(String::new(), |(at, _)| text[at..].to_owned());
        }
        for secret in secrets {
            text = text.replace(secret, "***");
        }
        text
    }
}

/// The first line of a file that nobody but its owner, root or ourselves, may read.
fn read_secret(path: &Path) -> Result<String, String> {
    // A pipe must not be waited for.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = file.map_err(|error| error.to_string())?;
    let found = file.metadata().map_err(|error| error.to_string())?;
    if !found.is_file() {
        return Err("is not a regular file".to_owned());
    }
    if found.uid() != 0 && found.uid() != rustix::process::geteuid().as_raw() {
        return Err(format!("belongs to user {}; root must own it", found.uid()));
    }
    if found.mode() & 0o077 != 0 {
        return Err(format!(
            "others may use it (mode {:04o}); chmod 600 {}",
            found.mode() & 0o7777,
            path.display()
        ));
    }
    first_line(file)
}

fn first_line(file: File) -> Result<String, String> {
    let limit = u64::try_from(LONGEST_SECRET + 2).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let line = bytes.split(|&byte| byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    if line.is_empty() {
        return Err("its first line is empty".to_owned());
    }
    if line.len() > LONGEST_SECRET {
        return Err(format!("its first line is longer than {LONGEST_SECRET} bytes"));
    }
    String::from_utf8(line.to_vec()).map_err(|_| "its first line is not UTF-8".to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;
    use crate::ha::config::Secret;

    fn device(parameters: &[(&str, Parameter)]) -> FenceDevice {
        FenceDevice {
            name: "fence_x(h1)".to_owned(),
            agent: "fence_x".to_owned(),
            parameters: parameters.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect(),
            timeout: Duration::from_secs(1),
            delay: Duration::ZERO,
            attempts: 1,
        }
    }

    fn plain(text: &str) -> Parameter {
        Parameter::Plain(text.to_owned())
    }

    fn secret(text: &str) -> Parameter {
        Parameter::Secret(Secret(text.to_owned()))
    }

    #[test]
    fn lines_are_what_the_library_reads() {
        let values = Values::read(&device(&[
            ("action", plain("reboot")),
            ("ip", plain("bmc1")),
            ("a", plain("")),
            ("b", plain(" x ")),
            ("c", plain("\"x\"")),
            ("d", plain("\"")),
            ("e", plain("a=b")),
            ("password", secret("p w")),
        ]))
        .ok()
        .unwrap();
        assert_eq!(
            String::from_utf8(values.lines(&"h1".into(), "off", &BTreeMap::new())).unwrap(),
            "a=\naction=reboot\nb=\" x \"\nc=\"\"x\"\"\nd=\"\ne=a=b\nip=bmc1\npassword=p w\nnodename=h1\naction=off\n"
        );
        let instead =
            BTreeMap::from([("password".to_owned(), "x".to_owned()), ("z".to_owned(), "y".to_owned())]);
        let lines = String::from_utf8(values.lines(&"h1".into(), "off", &instead)).unwrap();
        assert!(lines.ends_with("ip=bmc1\npassword=x\nz=y\nnodename=h1\naction=off\n"), "{lines}");
        assert_eq!(values.names(&["passwd", "password", "e"]).collect::<Vec<_>>(), ["e", "password"]);
        assert_eq!(values.get(&["ipaddr", "ip"]), Some(("bmc1", false)));
        assert_eq!(values.get(&["passwd", "password"]), Some(("p w", true)));
        assert_eq!(values.get(&["port"]), None);
    }

    #[test]
    fn a_line_cannot_be_smuggled_in() {
        for (name, value) in [
            ("ip", "x\naction=status"),
            ("ip", "x\raction=status"),
            ("ip", "\0"),
            ("a=b", "x"),
            ("", "x"),
            ("a\nb", "x"),
        ] {
            assert!(Values::read(&device(&[(name, plain(value))])).is_err(), "{name:?} {value:?}");
        }
    }

    #[test]
    fn secrets_are_taken_out_of_what_is_shown() {
        let values = Values::read(&device(&[
            ("password", secret("geheim")),
            ("snmp", secret("geheimnis")),
            ("none", secret("")),
            ("ip", plain("bmc1")),
        ]))
        .ok()
        .unwrap();
        for (output, shown) in [
            ("login geheim at bmc1 failed", "login *** at bmc1 failed"),
            ("geheimnis, geheim", "***, ***"),
            ("", ""),
        ] {
            let mut tail = Tail::new(100);
            tail.add(output.as_bytes());
            assert_eq!(values.without_secrets(&tail), shown);
        }
        let mut tail = Tail::new(20);
        tail.add("0123456789geheimnis 23456789012345".as_bytes());
        assert_eq!(values.without_secrets(&tail), "56789012345", "half a secret");
    }

    #[test]
    fn secrets_come_from_files_that_only_root_may_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let long = "x".repeat(LONGEST_SECRET);
        let longer = "x".repeat(LONGEST_SECRET + 1);
        for (content, mode, expected) in [
            ("geheim\n", 0o600, Ok("geheim")),
            ("geheim", 0o400, Ok("geheim")),
            ("geheim\r\nmore\n", 0o600, Ok("geheim")),
            (&*long, 0o600, Ok(&*long)),
            (&*longer, 0o600, Err("longer than")),
            ("geheim\n", 0o640, Err("(mode 0640); chmod 600 /")),
            ("geheim\n", 0o604, Err("others may use it")),
            ("", 0o600, Err("empty")),
            ("\ngeheim", 0o600, Err("empty")),
        ] {
            let _ = fs::remove_file(&path);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            let read = Values::read(&device(&[("password", Parameter::File(path.display().to_string()))]));
            match (read, expected) {
                (Ok(values), Ok(secret)) => assert_eq!(values.get(&["password"]), Some((secret, true))),
                (Err(reason), Err(part)) => {
                    assert!(reason.contains(part) && reason.starts_with("password: /"), "{reason}");
                    assert!(!reason.contains("geheim"), "{reason}");
                }
                (read, _) => panic!("{content:?} {mode:o}: {:?}", read.err()),
            }
        }
        fs::write(&path, b"\xff\xfe").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(read_secret(&path).is_err_and(|reason| reason.contains("UTF-8")));
        assert!(read_secret(directory.path()).is_err_and(|reason| reason.contains("regular file")));
        assert!(
            read_secret(&directory.path().join("none")).is_err_and(|reason| reason.contains("No such file"))
        );
        let pipe = directory.path().join("pipe");
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        assert!(read_secret(&pipe).is_err_and(|reason| reason.contains("regular file")));
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(1234), None).unwrap();
            assert!(read_secret(&path).is_err_and(|reason| reason.contains("belongs to user 1234")));
        }
    }
}
