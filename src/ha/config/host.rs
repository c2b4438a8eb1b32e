//! Reading `hosts`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv6Addr;
use std::sync::Arc;
use std::time::Duration;

use super::fencing;
use super::keys;
use super::model::Host;
use super::read::{Fields, Reader, below};
use super::yaml::{Node, Place};
use crate::ha::ids::HostId;

/// HALO's.
pub(super) const DEFAULT_PORT: u16 = 8000;

/// The hosts that were read, and how groups may call them.
#[derive(Default)]
pub(super) struct Hosts {
    pub all: BTreeMap<HostId, Arc<Host>>,
    /// Where each was written.
    pub places: BTreeMap<HostId, Place>,
    spelled: BTreeMap<String, HostId>,
    /// By the name without the port.
    short: BTreeMap<String, Vec<HostId>>,
    /// Names of hosts with which something is wrong, which was told already.
    refused: BTreeSet<String>,
}

impl Hosts {
    /// All names by which a host can be called.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.spelled.keys().chain(self.short.keys()).map(String::as_str)
    }

    /// The host that is called so: as in `hosts`, or without the port. `None`: it is there, but wrong.
    ///
    /// # Errors
    /// What is wrong with the name.
    pub fn find(&self, name: &str) -> Result<Option<&HostId>, String> {
        if self.refused.contains(name) {
            return Ok(None);
        }
        if let Some(id) = self.spelled.get(name).or_else(|| self.all.get_key_value(name).map(|(id, _)| id)) {
            return Ok(Some(id));
        }
        match self.short.get(name).map(Vec::as_slice) {
            Some([id]) => Ok(Some(id)),
            Some(several) => Err(format!("{} hosts are called {name:?}; add the port", several.len())),
            None => Err(format!("there is no host {name:?} in hosts")),
        }
    }
}

/// Reads all hosts.
pub(super) fn read(reader: &mut Reader, node: &Node) -> Hosts {
    let mut hosts = Hosts::default();
    // An agent obeys one manager as one host.
    let mut listeners: BTreeMap<(String, u16), (HostId, usize)> = BTreeMap::new();
    let items = reader.list(node, "hosts").unwrap_or_default();
    if items.is_empty() {
        reader.error(node.place, "hosts", "there are no hosts");
    }
    for (position, node) in items.iter().enumerate() {
        let path = format!("hosts[{position}]");
        let (spelled, found) = host(reader, node, &path, position);
        let Some((host, name)) = found else {
            hosts.refused.extend(spelled);
            continue;
        };
        let spelled = spelled.unwrap_or_default();
        let id = host.id.clone();
        if let Some(place) = hosts.places.get(&id) {
            let message = format!("host {id} is there already, in line {}", place.line);
            let hint = if hosts.spelled.contains_key(&spelled) {
                None
            } else {
                Some("the port does not tell hosts apart: use two names, with the same `address`".to_owned())
            };
            reader.error_with_hint(node.place, &below(&path, "hostname"), message, hint);
            if !hosts.spelled.contains_key(&spelled) {
                hosts.refused.insert(spelled);
            }
            continue;
        }
        let listener = (host.address.clone(), host.port);
        if let Some((other, line)) = listeners.get(&listener) {
            let message = format!(
                "the agent at {} port {} is that of host {other} already, in line {line}",
                host.address, host.port
            );
            reader.error(node.place, &path, message);
        }
        listeners.insert(listener, (id.clone(), node.place.line));
        hosts.places.insert(id.clone(), node.place);
        hosts.spelled.insert(spelled, id.clone());
        hosts.short.entry(name).or_default().push(id.clone());
        hosts.all.insert(id, Arc::new(host));
    }
    hosts
}

/// The name of a host as it is written, and the host with its name without the port.
fn host(
    reader: &mut Reader,
    node: &Node,
    path: &str,
    position: usize,
) -> (Option<String>, Option<(Host, String)>) {
    let Some(fields) = reader.fields(node, path, &keys::HOST) else { return (None, None) };
    let at = below(path, "hostname");
    let spelled = reader.name(&fields, path, "hostname");
    let (name, in_name) = match spelled.map(split) {
        Some(Ok((name, port))) => (name, port),
        Some(Err(message)) => {
            let place = fields.get("hostname").map_or(node.place, |node| node.place);
            reader.error(place, &at, message);
            ("", None)
        }
        None => ("", None),
    };
    let name = name.to_owned();
    let address = address(reader, &fields, path).unwrap_or_else(|| name.clone());
    let port = port(reader, &fields, path, in_name);
    let (fencing, called) = fencing::of_host(reader, &fields, path, &name);
    let self_protection = fields
        .get("self_protection")
        .and_then(|node| reader.duration(node, &below(path, "self_protection"), Duration::from_secs(1)));
    let spelled = spelled.map(str::to_owned);
    if name.is_empty() {
        return (spelled, None);
    }
    let id = HostId::from(called.unwrap_or_else(|| name.clone()));
    (spelled, Some((Host { id, address, port, fencing, self_protection, position }, name)))
}

fn address(reader: &mut Reader, fields: &Fields<'_>, path: &str) -> Option<String> {
    fields.get("address")?;
    let at = below(path, "address");
    let text = reader.name(fields, path, "address")?;
    let place = fields.get("address").map_or(fields.place, |node| node.place);
    match split(text) {
        Ok((name, None)) => Some(name.to_owned()),
        Ok((_, Some(_))) => {
            reader.error_with_hint(place, &at, "an address has no port", "the key `port` says it".to_owned());
            None
        }
        Err(message) => {
            reader.error(place, &at, message);
            None
        }
    }
}

fn port(reader: &mut Reader, fields: &Fields<'_>, path: &str, in_name: Option<u16>) -> u16 {
    let Some(node) = fields.get("port") else { return in_name.unwrap_or(DEFAULT_PORT) };
    let at = below(path, "port");
    let port = reader.whole(node, &at, 1..=65535).and_then(|port| u16::try_from(port).ok());
    if let (Some(port), Some(in_name)) = (port, in_name)
        && port != in_name
    {
        reader.error(node.place, &at, format!("the port is {in_name} in `hostname` and {port} here"));
    }
    port.or(in_name).unwrap_or(DEFAULT_PORT)
}

/// `name`, `name:port`, `[::1]:port`, `::1`.
fn split(text: &str) -> Result<(&str, Option<u16>), String> {
    let (name, port) = if let Some(rest) = text.strip_prefix('[') {
        let (name, rest) = rest.split_once(']').ok_or("[ without ]")?;
        if name.parse::<Ipv6Addr>().is_err() {
            return Err(format!("{name:?} is not an IPv6 address"));
        }
        match rest.strip_prefix(':') {
            Some(port) => (name, Some(port)),
            None if rest.is_empty() => (name, None),
            None => return Err(format!("{rest:?} after the address is not :PORT")),
        }
    } else if text.parse::<Ipv6Addr>().is_ok() {
        (text, None)
    } else if text.matches(':').count() > 1 {
        return Err(format!("{text:?} is neither NAME:PORT nor an IPv6 address; write [ADDRESS]:PORT"));
    } else {
        match text.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (text, None),
        }
    };
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '%');
    if name.is_empty() || name.starts_with(['-', '.']) || !name.chars().all(fine) {
        return Err(format!("{name:?} is not a host name"));
    }
    let port = match port {
        None => None,
        Some(port) => match port.parse() {
            Ok(0) | Err(_) => return Err(format!("{port:?} is not a port; it is a number from 1 to 65535")),
            Ok(port) => Some(port),
        },
    };
    Ok((name, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_ports() {
        let table = [
            ("oss1", Ok(("oss1", None))),
            ("oss1:8001", Ok(("oss1", Some(8001)))),
            ("10.0.0.1:1", Ok(("10.0.0.1", Some(1)))),
            ("[::1]:8000", Ok(("::1", Some(8000)))),
            ("[fe80::1]", Ok(("fe80::1", None))),
            ("fe80::1", Ok(("fe80::1", None))),
            ("oss1:", Err("port")),
            ("oss1:x", Err("port")),
            ("oss1:65536", Err("port")),
            ("oss1:0", Err("port")),
            ("a:b:c", Err("IPv6")),
            ("[::1", Err("[ without ]")),
            ("[oss1]:8000", Err("IPv6")),
            ("[::1]8000", Err("PORT")),
            (":8000", Err("host name")),
            ("a b", Err("host name")),
            ("../x", Err("host name")),
        ];
        for (text, expected) in table {
            match (split(text), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected, "{text}"),
                (Err(message), Err(says)) => assert!(message.contains(says), "{text}: {message}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }
}
