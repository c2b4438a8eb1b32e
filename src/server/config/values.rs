//! Values that take more than one word to check.

use std::path::PathBuf;
use std::time::Duration;

use super::StoreKind;
use crate::config::{keys, parse_int};
use crate::hsm::config::{HostChoice, HostMapping};
use crate::server::{api, reconcile};

/// The largest `int` of C.
pub(super) const INT_MAX: u64 = i32::MAX as u64;

pub(super) fn text(value: &str) -> Result<String, String> {
    if value.is_empty() { Err("must not be empty".to_owned()) } else { Ok(value.to_owned()) }
}

/// Whole seconds, at most 68 years.
pub(super) fn seconds(value: &str) -> Result<Duration, String> {
    parse_int(value, 0, INT_MAX).map(Duration::from_secs)
}

pub(super) fn at_least(value: u32, min: u32) -> Result<usize, String> {
    if value < min { Err(format!("`{value}` is less than {min}")) } else { Ok(value as usize) }
}

pub(super) fn adopt(value: &str) -> Result<reconcile::Whose, String> {
    match value.to_ascii_lowercase().as_str() {
        "own" => Ok(reconcile::Whose::Own),
        "all" => Ok(reconcile::Whose::All),
        "none" => Ok(reconcile::Whose::None),
        _ => Err(format!("`{value}` is not one of own, all, none")),
    }
}

/// Words of a command that is run without a shell, quoted as in one. None for nothing.
pub(super) fn command(value: &str) -> Result<Vec<String>, String> {
    shlex::split(value).ok_or_else(|| format!("`{value}` has a quote that is not closed"))
}

pub(super) fn api_socket(value: &str) -> Result<api::Place, String> {
    if value.eq_ignore_ascii_case("none") {
        return Ok(api::Place::Off);
    }
    if !value.starts_with('/') {
        return Err(format!("`{value}` is neither `none` nor an absolute path"));
    }
    Ok(api::Place::Path(PathBuf::from(value)))
}

/// `PORT` is that port of the loopback address; anybody else's must be told. `None` for `none`.
pub(super) fn metrics_listen(value: &str) -> Result<Option<String>, String> {
    let wrong = || format!("`{value}` is not `none`, PORT or ADDRESS:PORT ([ADDRESS]:PORT for IPv6)");
    if value.eq_ignore_ascii_case("none") {
        return Ok(None);
    }
    if let Ok(port) = value.parse::<u16>() {
        return Ok(Some(format!("127.0.0.1:{port}")));
    }
    let (host, port) = value.rsplit_once(':').ok_or_else(wrong)?;
    let bracketed = host.starts_with('[') && host.ends_with(']');
    if host.is_empty() || port.parse::<u16>().is_err() || (host.contains(':') && !bracketed) {
        return Err(wrong());
    }
    Ok(Some(value.to_owned()))
}

pub(super) fn store(value: &str) -> Result<StoreKind, String> {
    match value.to_ascii_lowercase().as_str() {
        "redis" => Ok(StoreKind::Redis),
        "embedded" => Ok(StoreKind::Embedded),
        "none" => Ok(StoreKind::None),
        other => {
            let near = keys::nearest_of(other, ["redis", "embedded", "none"]);
            let hint = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            Err(format!("`{value}` is not a store: redis, embedded or none{hint}"))
        }
    }
}

pub(super) fn fsname(value: &str) -> Result<String, String> {
    let max = lustreapi_sys::abi::LUSTRE_MAXFSNAME;
    let good = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if value.is_empty() || value.len() > max || !value.chars().all(good) {
        return Err(format!(
            "`{value}` is not the name of a file system: 1 to {max} letters, digits, `_` or `-`"
        ));
    }
    Ok(value.to_owned())
}

/// `TAG HOST...`, or `TAG N HOST...` when hashed. `None` when there is no host, which C skips.
pub(super) fn host_mapping(value: &str, hashed: bool) -> Result<Option<HostMapping>, String> {
    let mut words = value.split_whitespace();
    let tag = words.next().ok_or("must not be empty")?.to_owned();
    let choice = if hashed {
        let count = words.next().ok_or_else(|| format!("`{value}` lacks the hash count: TAG N HOST..."))?;
        let text = |error| format!("hash count: {error} (0 keeps the value): TAG N HOST...");
        let count = parse_int(count, 0, INT_MAX).map_err(text)?;
        HostChoice::Hash { modulus: (count > 0).then_some(count) }
    } else {
        HostChoice::Any
    };
    let mut hosts: Vec<String> = Vec::new();
    for host in words {
        // A host named twice would only weigh double in C's random start.
        if hashed || !hosts.iter().any(|known| known == host) {
            hosts.push(host.to_owned());
        }
    }
    Ok((!hosts.is_empty()).then_some(HostMapping { tag, hosts, choice }))
}
