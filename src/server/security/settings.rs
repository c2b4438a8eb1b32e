//! What is configured about security.

use std::path::{Path, PathBuf};

use super::credentials::Sources;
use super::policy::{Access, Policy};
use crate::config::{Problem, parse_port, parse_switch};
use crate::security::{DEFAULT_TLS_PORT, PREFIX, SOCKETS};
use crate::tls::Paths;

/// Everything that is configured about security.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecuritySettings {
    /// Whether there is a port for TLS.
    pub tls: bool,
    /// Which.
    pub tls_port: String,
    /// Certificates of the authorities that peers' certificates may come from.
    pub ca: Option<PathBuf>,
    /// The daemon's certificate.
    pub certificate: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
    /// The key of movers, of administrators, and of those who only look.
    pub psk: [Option<PathBuf>; 3],
    /// Whether there is a plain port.
    pub plain: bool,
    /// The socket for local administrators.
    pub local: LocalSocket,
    /// Who may do what.
    pub policy: Policy,
    /// Where `tls` and `plain` were set, for what is wrong with them only in the end.
    tls_place: String,
    plain_place: String,
}

/// The socket for local administrators.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct LocalSocket {
    /// There is none.
    pub off: bool,
    /// Where, if told.
    pub path: Option<PathBuf>,
    /// Who may use it besides root.
    pub group: Option<String>,
}

impl LocalSocket {
    /// Where it is for a file system.
    pub fn place(&self, fsname: &str) -> Option<PathBuf> {
        let by_default = || Path::new(SOCKETS).join(format!("{PREFIX}{fsname}.sock"));
        (!self.off).then(|| self.path.clone().unwrap_or_else(by_default))
    }
}

impl Default for SecuritySettings {
    fn default() -> Self {
        Self {
            tls: false,
            tls_port: DEFAULT_TLS_PORT.to_owned(),
            ca: None,
            certificate: None,
            key: None,
            psk: [None, None, None],
            plain: true,
            local: LocalSocket::default(),
            policy: Policy::default(),
            tls_place: String::new(),
            plain_place: String::new(),
        }
    }
}

/// The roles of [`SecuritySettings::psk`].
const PSK_ACCESS: [Access; 3] = [Access::Mover, Access::Admin, Access::ReadOnly];

impl SecuritySettings {
    /// Takes a key's value; `None` for a key that is not about security.
    pub fn set(&mut self, key: &str, value: &str, place: &str) -> Option<Result<(), String>> {
        let result = match key {
            "tls" => parse_switch(value).map(|on| (self.tls, self.tls_place) = (on, place.to_owned())),
            "plain" => parse_switch(value).map(|on| (self.plain, self.plain_place) = (on, place.to_owned())),
            "bind_ids" => parse_switch(value).map(|on| self.policy.bind_ids = on),
            "tls_port" => parse_port(value).map(|port| self.tls_port = port),
            "tls_ca" => path(value).map(|path| self.ca = path),
            "tls_cert" => path(value).map(|path| self.certificate = path),
            "tls_key" => path(value).map(|path| self.key = path),
            "psk_file" => path(value).map(|path| self.psk[0] = path),
            "psk_admin_file" => path(value).map(|path| self.psk[1] = path),
            "psk_read_only_file" => path(value).map(|path| self.psk[2] = path),
            "plain_role" => value.parse().map(|access| self.policy.plain = access),
            "role" => self.role(value),
            "local_socket" => self.local_socket(value),
            "local_group" => {
                self.local.group = Some(value.to_owned()).filter(|name| !name.is_empty());
                Ok(())
            }
            _ => return None,
        };
        Some(result)
    }

    /// `NAME ROLE`.
    fn role(&mut self, value: &str) -> Result<(), String> {
        let words: Vec<&str> = value.split_whitespace().collect();
        let [name, role] = words.as_slice() else {
            return Err(format!("`{value}` is not NAME ROLE, as in `mover0 mover`"));
        };
        let access = if role.eq_ignore_ascii_case("none") {
            None
        } else {
            Some(role.parse().map_err(|error| format!("{error}; `none` bars the name"))?)
        };
        let name = name.to_ascii_lowercase();
        match self.policy.roles.insert(name.clone(), access) {
            Some(before) if before != access => Err(format!("`{name}` was given another role before")),
            _ => Ok(()),
        }
    }

    fn local_socket(&mut self, value: &str) -> Result<(), String> {
        self.local.off = value.eq_ignore_ascii_case("off");
        if self.local.off {
            return Ok(());
        }
        if !value.starts_with('/') {
            return Err(format!("`{value}` is neither an absolute path nor `off`"));
        }
        self.local.path = Some(PathBuf::from(value));
        Ok(())
    }

    /// What is wrong with all of it together.
    pub fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        let parts = [("tls_ca", &self.ca), ("tls_cert", &self.certificate), ("tls_key", &self.key)];
        let missing: Vec<&str> =
            parts.iter().filter(|(_, path)| path.is_none()).map(|(key, _)| *key).collect();
        if self.tls && !missing.is_empty() && missing.len() < 3 {
            let text = format!(
                "tls: a certificate needs tls_ca, tls_cert and tls_key; missing: {}",
                missing.join(", ")
            );
            problems.push(Problem::at(&self.tls_place, text));
        } else if self.tls && missing.len() == 3 && self.psk.iter().all(Option::is_none) {
            let text = "tls: on needs tls_ca, tls_cert and tls_key, or psk_file";
            problems.push(Problem::at(&self.tls_place, text));
        }
        if !self.plain && !self.tls {
            let text = "plain: off without `tls on` leaves movers no way in";
            problems.push(Problem::at(&self.plain_place, text));
        }
        problems
    }

    /// The files of certificates and keys; none without TLS.
    pub fn sources(&self) -> Sources {
        if !self.tls {
            return Sources::default();
        }
        let certificate = match (&self.ca, &self.certificate, &self.key) {
            (Some(authority), Some(certificate), Some(key)) => Some(Paths {
                authority: authority.clone(),
                certificate: certificate.clone(),
                key: key.clone(),
            }),
            _ => None,
        };
        let keys = self.psk.iter().zip(PSK_ACCESS);
        let keys = keys.filter_map(|(path, access)| Some((path.clone()?, access))).collect();
        Sources { certificate, keys }
    }
}

/// An absolute path; empty for none, so that a variable can take back what the file says.
fn path(value: &str) -> Result<Option<PathBuf>, String> {
    if value.is_empty() {
        return Ok(None);
    }
    if value.starts_with('/') {
        Ok(Some(value.into()))
    } else {
        Err(format!("`{value}` is not an absolute path"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(lines: &[&str]) -> Result<SecuritySettings, String> {
        let mut settings = SecuritySettings::default();
        for (index, line) in lines.iter().enumerate() {
            let (key, value) = line.split_once(' ').unwrap();
            settings.set(key, value, &format!("file:{}", index + 1)).unwrap()?;
        }
        match settings.problems().first() {
            None => Ok(settings),
            Some(problem) => Err(problem.to_string()),
        }
    }

    #[test]
    fn nothing_is_secure_unless_told() {
        let settings = read(&[]).unwrap();
        assert!(settings.plain && !settings.tls && settings.policy.plain == Access::Admin);
        assert_eq!(settings.sources(), Sources::default());
        assert_eq!(settings.local.place("lus"), Some("/run/coordinatool/mover-lus.sock".into()));
        assert!(SecuritySettings::default().set("host", "a", "").is_none());
        // Files without `tls on` are the client's.
        assert_eq!(read(&["psk_file /a"]).unwrap().sources(), Sources::default());
    }

    #[test]
    fn what_is_wrong_is_said_with_its_place() {
        for (lines, want) in [
            (&["tls maybe"][..], "`maybe` is neither `on` nor `off`"),
            (&["tls on"], "file:1: tls: on needs tls_ca, tls_cert and tls_key, or psk_file"),
            (
                &["tls_ca /a", "tls on"],
                "file:2: tls: a certificate needs tls_ca, tls_cert and tls_key; missing: tls_cert, tls_key",
            ),
            (&["plain off"], "file:1: plain: off without `tls on` leaves movers no way in"),
            (&["tls_ca a"], "`a` is not an absolute path"),
            (&["role mover0"], "`mover0` is not NAME ROLE, as in `mover0 mover`"),
            (&["role mover0 root"], "`root` is not a role: read_only, mover or admin; `none` bars the name"),
            (&["role m mover", "role M admin"], "`m` was given another role before"),
            (&["plain_role adm"], "`adm` is not a role: read_only, mover or admin"),
            (&["local_socket run"], "`run` is neither an absolute path nor `off`"),
        ] {
            let error = read(lines).unwrap_err();
            assert_eq!(error, want, "{lines:?}");
        }
    }

    #[test]
    fn files_and_roles_are_read() {
        let settings = read(&[
            "tls on",
            "tls_port 6000",
            "tls_ca /ca",
            "tls_cert /crt",
            "tls_key /key",
            "psk_file /psk",
            "psk_admin_file /admin",
            "role Mover0 none",
            "role m1 read-only",
            "bind_ids off",
            "plain off",
            "local_socket off",
        ])
        .unwrap();
        let sources = settings.sources();
        assert_eq!(sources.certificate.unwrap().key, PathBuf::from("/key"));
        assert_eq!(sources.keys, [("/psk".into(), Access::Mover), ("/admin".into(), Access::Admin)]);
        assert_eq!(settings.policy.roles.get("mover0"), Some(&None));
        assert_eq!(settings.policy.roles.get("m1"), Some(&Some(Access::ReadOnly)));
        assert!(!settings.policy.bind_ids && !settings.plain && settings.tls_port == "6000");
        assert_eq!(settings.local.place("lus"), None);
    }
}
