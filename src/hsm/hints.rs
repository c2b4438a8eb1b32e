//! Hints in the data of a request: `tag=n0,grouping=7`.

use super::config::{HostChoice, HostMapping};

/// djb2, as C 0.4 computes it: signed characters, 64 bits.
pub(super) fn djb2(bytes: &[u8]) -> u64 {
    bytes.iter().fold(5381u64, |hash, &byte| hash.wrapping_mul(33).wrapping_add(i64::from(byte as i8) as u64))
}

/// Data without the NULs at its end: robinhood sends one, C's client pads with them.
pub(super) fn without_nuls(data: &[u8]) -> &[u8] {
    let end = data.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
    &data[..end]
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

/// Where `tag` stands in `data` as a hint of its own: the characters next to it belong to no word, and a tag that ends
/// in `=` may be followed by anything. C 0.4 takes any match, so that `tag=n0` also finds `xtag=n0`.
pub(super) fn find_tag(data: &[u8], tag: &[u8]) -> Option<usize> {
    if tag.is_empty() {
        return None;
    }
    memchr::memmem::find_iter(data, tag).find(|&at| {
        let left = at == 0 || !is_word(data[at - 1]);
        let right = tag.ends_with(b"=") || data.get(at + tag.len()).is_none_or(|&byte| !is_word(byte));
        left && right
    })
}

/// The value of the hint `prefix` (`cr=`): at the start of the data or after a comma, up to the next comma.
pub(super) fn hint_value<'a>(data: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let at = memchr::memmem::find_iter(data, prefix).find(|&at| at == 0 || data[at - 1] == b',')?;
    let value = &data[at + prefix.len()..];
    Some(&value[..memchr::memchr(b',', value).unwrap_or(value.len())])
}

/// The name of the reporting file: a hint value of 1 to 64 characters of `[A-Za-z0-9_-]`.
pub(super) fn report_name<'a>(data: &'a [u8], prefix: &str) -> Option<&'a str> {
    let value = hint_value(without_nuls(data), prefix.as_bytes())?;
    if value.is_empty() || value.len() > 64 || !value.iter().all(|&byte| is_word(byte)) {
        return None;
    }
    std::str::from_utf8(value).ok()
}

/// What a mapping makes of the data of an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mapped {
    /// No mapping is for it.
    No,
    /// Any host of this mapping, by its index.
    Any(usize),
    /// This host of this mapping, and the data that the mover sees if it is not the original.
    Host { mapping: usize, host: usize, sent: Option<Box<[u8]>> },
}

/// Applies `mappings`, the last first. Nothing is hashed or rewritten when the data is known to be cut short
/// (`truncated`): the hash of half a value would send it to the wrong host.
pub(super) fn map_hosts(mappings: &[HostMapping], data: &[u8], truncated: bool) -> Mapped {
    let text = without_nuls(data);
    for (index, mapping) in mappings.iter().enumerate().rev() {
        if mapping.hosts.is_empty() {
            continue;
        }
        let Some(at) = find_tag(text, mapping.tag.as_bytes()) else {
            continue;
        };
        match mapping.choice {
            HostChoice::Any if mapping.hosts.len() == 1 => {
                return Mapped::Host { mapping: index, host: 0, sent: None };
            }
            HostChoice::Any => return Mapped::Any(index),
            HostChoice::Hash { modulus } => {
                let start = at + mapping.tag.len();
                let len = memchr::memchr(b',', &text[start..]).unwrap_or(text.len() - start);
                if truncated && start + len == text.len() {
                    return Mapped::Any(index);
                }
                let value = &text[start..start + len];
                let hosts = mapping.hosts.len() as u64;
                let (sent, hash) = match modulus.filter(|&modulus| modulus > 0) {
                    None => (None, djb2(value)),
                    Some(modulus) => {
                        let new = (djb2(value) % modulus).to_string();
                        let mut sent = Vec::with_capacity(data.len() + new.len());
                        sent.extend_from_slice(&data[..start]);
                        sent.extend_from_slice(new.as_bytes());
                        sent.extend_from_slice(&data[start + len..]);
                        (Some(sent.into_boxed_slice()), djb2(new.as_bytes()))
                    }
                };
                return Mapped::Host { mapping: index, host: (hash % hosts) as usize, sent };
            }
        }
    }
    Mapped::No
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn djb2_is_that_of_the_c_version() {
        let hosts = [("test0", 0, "7", 1), ("test1", 1, "8", 2), ("test2", 2, "9", 0)];
        for (value, direct, reduced, host) in hosts {
            assert_eq!(djb2(value.as_bytes()) % 3, direct);
            assert_eq!((djb2(value.as_bytes()) % 10).to_string(), reduced);
            assert_eq!(djb2(reduced.as_bytes()) % 3, host);
        }
        assert_eq!(djb2(b""), 5381);
        // Characters are signed in C: 0xff adds -1.
        assert_eq!(djb2(b"\xff"), 5381 * 33 - 1);
    }

    /// C: "xtag=n0" was queued for the host of "tag=n0" (strstr), `t1` matches `t10`.
    #[test]
    fn tags_match_whole_hints() {
        let cases = [
            ("tag=n0", "tag=n0", Some(0)),
            ("xtag=n0", "tag=n0", None),
            ("xtag=n0,tag=n0", "tag=n0", Some(8)),
            ("tag=n01", "tag=n0", None),
            ("t10", "t1", None),
            ("t1", "t1", Some(0)),
            ("a,t1,b", "t1", Some(2)),
            ("tag=n0", "n0", Some(4)),
            ("a;grouping=test0", "grouping=", Some(2)),
            ("my-grouping=x", "grouping=", None),
            ("", "x", None),
            ("x", "", None),
        ];
        for (data, tag, want) in cases {
            assert_eq!(find_tag(data.as_bytes(), tag.as_bytes()), want, "{tag} in {data}");
        }
    }

    #[test]
    fn reporting_names() {
        let cases: [(&[u8], Option<&str>); 9] = [
            (b"cr=job1", Some("job1")),
            (b"tag=n0,cr=job1", Some("job1")),
            (b"cr=job1,tag=n0", Some("job1")),
            (b"cr=job1\0", Some("job1")),
            (b"xcr=job1", None),
            (b"xcr=no,cr=yes", Some("yes")),
            (b"cr=", None),
            (b"cr=../x", None),
            (b"cr=a.b", None),
        ];
        for (data, want) in cases {
            assert_eq!(report_name(data, "cr="), want, "{data:?}");
        }
        let long = format!("cr={}", "a".repeat(64));
        assert_eq!(report_name(long.as_bytes(), "cr=").map(str::len), Some(64));
        assert_eq!(report_name(format!("{long}a").as_bytes(), "cr="), None);
    }

    fn mapping(tag: &str, hosts: &[&str], choice: HostChoice) -> HostMapping {
        HostMapping { tag: tag.into(), hosts: hosts.iter().map(|&host| host.into()).collect(), choice }
    }

    #[test]
    fn the_last_mapping_wins_and_hashes_the_original_value() {
        let mappings = [
            mapping("tag=n0", &["m0"], HostChoice::Any),
            mapping("tag=n0", &["m1", "m2"], HostChoice::Any),
            mapping("grouping=", &["a0", "a1", "a2"], HostChoice::Hash { modulus: Some(10) }),
            mapping("g2=", &["a0", "a1", "a2"], HostChoice::Hash { modulus: None }),
            mapping("tag=none", &[], HostChoice::Any),
        ];
        assert_eq!(map_hosts(&mappings, b"tag=n0", false), Mapped::Any(1));
        assert_eq!(map_hosts(&mappings, b"tag=none", false), Mapped::No);
        assert_eq!(
            map_hosts(&mappings, b"a,grouping=test0,b", false),
            Mapped::Host { mapping: 2, host: 1, sent: Some((*b"a,grouping=7,b").into()) }
        );
        // A NUL of robinhood's changed the hash in C.
        assert_eq!(
            map_hosts(&mappings, b"grouping=test1\0", false),
            Mapped::Host { mapping: 2, host: 2, sent: Some((*b"grouping=8\0").into()) }
        );
        assert_eq!(
            map_hosts(&mappings, b"g2=test2", false),
            Mapped::Host { mapping: 3, host: 2, sent: None }
        );
        assert_eq!(map_hosts(&mappings, b"g2=te", true), Mapped::Any(3));
        assert_eq!(
            map_hosts(&mappings, b"g2=test2,x", true),
            Mapped::Host { mapping: 3, host: 2, sent: None }
        );
    }
}
