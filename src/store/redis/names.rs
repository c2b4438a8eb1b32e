//! Names of keys and of the fields in them.
//!
//! Two hashes are C's (coordinatool C 0.4, `copytool/redis.c`): `coordinatool_requests` and `coordinatool_assigned`, with
//! the cookie and the data FID of a request as field. Everything that C does not know is in keys that begin with
//! `coordinatool_rs_`. Another namespace replaces the first word.

use lustreapi_sys::Fid;

use crate::hsm::RequestKey;

/// The namespace that C uses.
pub const C_NAMESPACE: &str = "coordinatool";

/// A field of C's assignments that belongs to no request. C removes it when it starts, as it does with any assignment
/// without a request; where it is missing after a clean stop of ours, a C version ran in between.
pub const CANARY: &str = "ffffffffffffffffffffffffffffffffffffffffffffffff";

/// The hashes that hold requests, assignments and notes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hash {
    /// C's requests: JSON items.
    Requests,
    /// C's assignments: ids of movers.
    Assigned,
    /// Requests that C cannot read.
    OwnRequests,
    /// Assignments that C cannot read.
    OwnAssigned,
    /// Notes of the coordinator.
    Notes,
}

impl Hash {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Requests, Self::Assigned, Self::OwnRequests, Self::OwnAssigned, Self::Notes];
}

/// The keys of one namespace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    namespace: String,
}

impl Names {
    /// The keys of a namespace that [`check_namespace`] found good.
    pub fn new(namespace: &str) -> Self {
        Self { namespace: namespace.to_owned() }
    }

    /// The first word of all keys.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Where a hash is.
    pub fn hash(&self, hash: Hash) -> String {
        let rest = match hash {
            Hash::Requests => "requests",
            Hash::Assigned => "assigned",
            Hash::OwnRequests => "rs_requests",
            Hash::OwnAssigned => "rs_assigned",
            Hash::Notes => "rs_notes",
        };
        format!("{}_{rest}", self.namespace)
    }

    /// Where a hash is put together before it takes the place of the other one.
    pub fn hash_in_the_making(&self, hash: Hash) -> String {
        let rest = match hash {
            Hash::Requests => "requests",
            Hash::Assigned => "assigned",
            Hash::OwnRequests => "own_requests",
            Hash::OwnAssigned => "own_assigned",
            Hash::Notes => "notes",
        };
        format!("{}_rs_new_{rest}", self.namespace)
    }

    /// Who wrote last, for which file system, and how it ended.
    pub fn meta(&self) -> String {
        format!("{}_rs_meta", self.namespace)
    }

    /// What could not be read, set aside.
    pub fn quarantine(&self) -> String {
        format!("{}_rs_quarantine", self.namespace)
    }
}

/// Whether a word can be the first of all keys.
///
/// # Errors
/// Says what is wrong.
pub fn check_namespace(name: &str) -> Result<(), String> {
    const MOST: usize = 64;
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.' | ':');
    if name.is_empty() || name.len() > MOST || !name.chars().all(good) {
        return Err(format!(
            "`{name}` is not a namespace: 1 to {MOST} letters, digits, `_`, `-`, `.` or `:`; unset is `{C_NAMESPACE}`, \
             which the C version uses"
        ));
    }
    // Its requests would be where another namespace keeps what C cannot read.
    if name.ends_with("_rs") || name.contains("_rs_") {
        return Err(format!("`{name}` is not a namespace: `_rs` is used inside of namespaces"));
    }
    Ok(())
}

/// Bytes of a field that is named for a request.
pub const FIELD_BYTES: usize = 48;

/// A field: cookie and FID in hexadecimal digits, as C writes it (`%016x%016x%08x%08x`).
pub fn field_bytes(cookie: u64, fid: Fid) -> [u8; FIELD_BYTES] {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let mut text = [0; FIELD_BYTES];
    let tail = u64::from(fid.oid) << 32 | u64::from(fid.ver);
    for (digits, value) in text.chunks_exact_mut(16).zip([cookie, fid.seq, tail]) {
        for (two, byte) in digits.chunks_exact_mut(2).zip(value.to_be_bytes()) {
            two[0] = DIGITS[usize::from(byte >> 4)];
            two[1] = DIGITS[usize::from(byte & 15)];
        }
    }
    text
}

/// The same as text.
pub fn field(cookie: u64, fid: Fid) -> String {
    field_bytes(cookie, fid).into_iter().map(char::from).collect()
}

/// What a field says: cookie and FID.
pub fn parse_field(field: &[u8]) -> Option<(u64, Fid)> {
    let field: &[u8; FIELD_BYTES] = field.try_into().ok()?;
    // `from_str_radix` would take signs.
    let number = |digits: &[u8]| {
        let mut value = 0_u64;
        for byte in digits {
            let digit = match byte {
                b'0'..=b'9' => byte - b'0',
                b'a'..=b'f' => byte - b'a' + 10,
                _ => return None,
            };
            value = value << 4 | u64::from(digit);
        }
        Some(value)
    };
    let tail = number(&field[32..])?;
    Some((number(&field[..16])?, Fid::new(number(&field[16..32])?, (tail >> 32) as u32, tail as u32)))
}

/// The field of a request that C cannot read: its own identity.
pub fn own_field(key: &RequestKey) -> String {
    field(key.cookie, key.fid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_what_c_writes() {
        // From a real redis, written by C 0.4.
        let fid = Fid::new(0x2_0000_0402, 6, 0);
        let text = "000000006b00d66600000002000004020000000600000000";
        assert_eq!(field(0x6b00_d666, fid), text);
        assert_eq!(parse_field(text.as_bytes()), Some((0x6b00_d666, fid)));
        let all = Fid::new(u64::MAX, u32::MAX, u32::MAX);
        assert_eq!(field(u64::MAX, all), CANARY);
        assert_eq!(parse_field(CANARY.as_bytes()), Some((u64::MAX, all)));
        for bad in ["", "x", &text[1..], &text.replace('6', "F"), &text.replace("0000", "+000")] {
            assert_eq!(parse_field(bad.as_bytes()), None, "{bad}");
        }
    }

    #[test]
    fn namespaces_do_not_overlap() {
        let all = |names: &Names| {
            let mut keys: Vec<_> = Hash::ALL.iter().map(|hash| names.hash(*hash)).collect();
            keys.extend(Hash::ALL.iter().map(|hash| names.hash_in_the_making(*hash)));
            keys.extend([names.meta(), names.quarantine()]);
            keys
        };
        let c = Names::new(C_NAMESPACE);
        let keys = all(&c);
        assert_eq!(keys[..2], ["coordinatool_requests", "coordinatool_assigned"]);
        assert!(keys[2..].iter().all(|key| key.starts_with("coordinatool_rs_")), "{keys:?}");
        let other = all(&Names::new("scratch"));
        let mut both: Vec<_> = keys.iter().chain(&other).collect();
        both.sort();
        both.dedup();
        assert_eq!(both.len(), 24);
        for good in ["coordinatool", "a", "fs:scratch.1-x_y", "x_rsync"] {
            assert_eq!(check_namespace(good), Ok(()), "{good}");
        }
        for bad in ["", "a b", "coordinatool_rs", "a_rs_new", "\u{e9}", &"x".repeat(65)] {
            assert!(check_namespace(bad).is_err(), "{bad}");
        }
    }
}
