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

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = self.addresses.iter().map(ToString::to_string);
        let all: Vec<String> = self.names.iter().cloned().chain(addresses).collect();
        if all.is_empty() { f.write_str("nobody") } else { f.write_str(&all.join(", ")) }
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    let four = <[u8; 4]>::try_from(bytes).map(|bytes| Ipv4Addr::from(bytes).into());
    let sixteen = || <[u8; 16]>::try_from(bytes).map(|bytes| Ipv6Addr::from(bytes).into());
    four.or_else(|_| sixteen()).ok()
}
