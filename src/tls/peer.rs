//! What a certificate says, and who may be talked to.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, SystemTime};

use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use super::{OUR_URIS, Role};

/// The subject of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Peer {
    /// Its DNS names and its common name, in lower case.
    pub names: BTreeSet<String>,
    /// Its DNS names only.
    pub dns_names: BTreeSet<String>,
    /// Its addresses.
    pub addresses: BTreeSet<IpAddr>,
    /// What it may be used for, if it says so.
    pub role: Option<Role>,
    /// It has a URI of ours, whether that is a role or not.
    pub is_ours: bool,
}

/// Whom to talk to besides the holders of certificates with our roles.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Trust {
    /// Names in certificates without any of our URIs that are accepted all the same: of managers at an agent, of agents at a
    /// manager (which must still be the one that is wanted). Exact names, in lower case, no patterns.
    pub allowed_names: BTreeSet<String>,
    /// At a manager: all agents share a certificate for this name, as HALO's do (`HALO_SERVER_DOMAIN_NAME`). It is
    /// accepted without a role, in place of the host's own name.
    pub server_name: Option<String>,
}

/// What is read from a certificate.
pub(crate) struct Facts {
    pub peer: Peer,
    pub until: SystemTime,
    /// The day of `until`.
    pub until_text: String,
}

impl Facts {
    pub fn of(certificate: &[u8]) -> Result<Self, String> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|error| format!("unreadable certificate: {error}"))?;
        let mut peer = Peer::default();
        let common = parsed.subject().iter_common_name().filter_map(|name| name.as_str().ok());
        peer.names.extend(common.map(str::to_ascii_lowercase));
        let alternative = parsed
            .subject_alternative_name()
            .map_err(|error| format!("unreadable alternative names: {error}"))?;
        let mut roles = BTreeSet::new();
        for name in alternative.iter().flat_map(|names| &names.value.general_names) {
            match name {
                GeneralName::DNSName(name) => {
                    peer.dns_names.insert(name.to_ascii_lowercase());
                }
                GeneralName::IPAddress(bytes) => peer.addresses.extend(address(bytes)),
                GeneralName::URI(uri) if uri.starts_with(OUR_URIS) => {
                    peer.is_ours = true;
                    roles.extend(Role::ALL.into_iter().filter(|role| role.uri() == *uri));
                }
                _ => {}
            }
        }
        peer.names.extend(peer.dns_names.iter().cloned());
        // Several roles in one certificate would undo the separation.
        peer.role = if roles.len() == 1 { roles.first().copied() } else { None };
        let until = parsed.validity().not_after;
        Ok(Self {
            peer,
            until: SystemTime::UNIX_EPOCH
                + Duration::from_secs(u64::try_from(until.timestamp()).unwrap_or(0)),
            until_text: until.to_datetime().date().to_string(),
        })
    }
}

impl Peer {
    /// What a certificate (DER) says of its holder. Nothing is verified.
    ///
    /// # Errors
    /// Says what cannot be read.
    pub fn of(certificate: &[u8]) -> Result<Self, String> {
        Facts::of(certificate).map(|facts| facts.peer)
    }

    /// Whether an agent may obey this. The error says why not.
    pub(super) fn may_command(&self, trust: &Trust) -> Result<(), String> {
        match self.role {
            Some(Role::Manager) => Ok(()),
            Some(Role::Agent) => Err(format!("the certificate of {self} is an agent's, not a manager's")),
            Some(role) => Err(format!("the certificate of {self} is for the role {role}, not a manager's")),
            None if !self.is_ours && self.names.iter().any(|name| trust.allowed_names.contains(name)) => {
                Ok(())
            }
            None => Err(format!("the certificate of {self} does not say that it is a manager's")),
        }
    }

    /// Whether this is the agent with one of the expected names. The error says why not.
    pub(super) fn may_obey(&self, expected: &[String], trust: &Trust) -> Result<(), String> {
        let is_expected = expected.iter().any(|name| self.is_called(name));
        match self.role {
            Some(Role::Manager) => {
                return Err(format!("the certificate of {self} is a manager's, not an agent's"));
            }
            Some(Role::Agent) => {}
            Some(role) => {
                return Err(format!("the certificate of {self} is for the role {role}, not an agent's"));
            }
            None => {
                if self.is_ours {
                    return Err(format!("the certificate of {self} gives no role"));
                }
                if trust.server_name.as_ref().is_some_and(|shared| self.is_called(shared)) {
                    return Ok(());
                }
                if !self.dns_names.iter().any(|name| trust.allowed_names.contains(name)) {
                    return Err(format!("the certificate of {self} does not say that it is an agent's"));
                }
            }
        }
        if is_expected {
            return Ok(());
        }
        Err(format!("the certificate is for {self}, not for {}", expected.join(" or ")))
    }

    /// Exactly, without patterns, and not by its common name.
    fn is_called(&self, name: &str) -> bool {
        match name.parse::<IpAddr>() {
            Ok(address) => self.addresses.contains(&address),
            Err(_) => self.dns_names.contains(&name.to_ascii_lowercase()),
        }
    }
}

/// Names that are shown of one certificate: a stranger's may have thousands.
const SHOWN: usize = 8;
/// Characters that are shown of one name.
const SHOWN_CHARACTERS: usize = 64;

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.addresses.iter().map(ToString::to_string);
        let count = self.names.len() + self.addresses.len();
        let shown: Vec<String> =
            self.names.iter().map(|name| printable(name)).chain(addresses).take(SHOWN).collect();
        match count {
            0 => f.write_str("nobody"),
            _ if count > SHOWN => write!(f, "{} and {} more", shown.join(", "), count - SHOWN),
            _ => f.write_str(&shown.join(", ")),
        }
    }
}

/// A name as it can stand in a line of a log.
fn printable(name: &str) -> String {
    name.chars().take(SHOWN_CHARACTERS).map(|c| if c.is_control() { '?' } else { c }).collect()
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    let sixteen = || <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into());
    four.or_else(|_| sixteen()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_calls_himself_fits_into_a_line() {
        let names = |names: Vec<String>| Peer { names: names.into_iter().collect(), ..Peer::default() };
        assert_eq!(names(vec![]).to_string(), "nobody");
        assert_eq!(names(vec!["a\nERROR b\x1b[0m".into()]).to_string(), "a?ERROR b?[0m");
        assert_eq!(names(vec!["x".repeat(70_000)]).to_string(), "x".repeat(64));
        let many = names((0..2000).map(|number| format!("n{number:04}")).collect()).to_string();
        assert_eq!(many, "n0000, n0001, n0002, n0003, n0004, n0005, n0006, n0007 and 1992 more");
    }
}
