//! File identifiers.

use std::fmt;
use std::str::FromStr;

use crate::abi::lu_fid;

/// A Lustre file identifier: sequence, object id within it, version.
///
/// Displays as Lustre's `DFID`, `[0x200000402:0x1:0x0]`, and parses with or without the brackets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Fid {
    /// Sequence (`f_seq`).
    pub seq: u64,
    /// Object id (`f_oid`).
    pub oid: u32,
    /// Version (`f_ver`).
    pub ver: u32,
}

impl Fid {
    /// A FID from its parts.
    pub const fn new(seq: u64, oid: u32, ver: u32) -> Self {
        Self { seq, oid, ver }
    }

    /// The name of this file under `.lustre/fid`: the FID without brackets.
    pub fn file_name(&self) -> String {
        format!("{:#x}:{:#x}:{:#x}", self.seq, self.oid, self.ver)
    }

    /// Whether all parts are zero, which no file has.
    pub const fn is_zero(&self) -> bool {
        self.seq == 0 && self.oid == 0 && self.ver == 0
    }
}

impl From<lu_fid> for Fid {
    fn from(f: lu_fid) -> Self {
        Self { seq: f.f_seq, oid: f.f_oid, ver: f.f_ver }
    }
}

impl From<Fid> for lu_fid {
    fn from(f: Fid) -> Self {
        Self { f_seq: f.seq, f_oid: f.oid, f_ver: f.ver }
    }
}

impl fmt::Display for Fid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{:#x}:{:#x}:{:#x}]", self.seq, self.oid, self.ver)
    }
}

impl fmt::Debug for Fid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Why a text is not a FID.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a FID: expected [0xSEQ:0xOID:0xVER]")]
pub struct ParseFidError(String);

impl FromStr for Fid {
    type Err = ParseFidError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let error = || ParseFidError(text.chars().take(64).collect());
        let bare = match text.strip_prefix('[') {
            Some(rest) => rest.strip_suffix(']').ok_or_else(error)?,
            None => text,
        };
        let mut parts = bare.split(':').map(|part| {
            let digits = part.strip_prefix("0x").or_else(|| part.strip_prefix("0X"));
            match digits {
                Some(hex) if !hex.starts_with('+') => u64::from_str_radix(hex, 16).ok(),
                // glibc prints a zero of `%#x` as `0`.
                None if part == "0" => Some(0),
                _ => None,
            }
        });
        let mut next = || parts.next().flatten();
        let (seq, oid, ver) = match (next(), next(), next()) {
            (Some(seq), Some(oid), Some(ver)) => (seq, oid, ver),
            _ => return Err(error()),
        };
        if parts.next().is_some() {
            return Err(error());
        }
        let small = |v: u64| u32::try_from(v).map_err(|_| error());
        Ok(Self { seq, oid: small(oid)?, ver: small(ver)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_parses_as_lustre_does() {
        let cases = [
            ("[0x200000402:0x1:0x0]", Some(Fid::new(0x2_0000_0402, 1, 0))),
            ("0x200000402:0x80000001:0x0", Some(Fid::new(0x2_0000_0402, 0x8000_0001, 0))),
            ("[0x200000402:0x1:0]", Some(Fid::new(0x2_0000_0402, 1, 0))),
            ("[0x200000402:0x1:0x0", None),
            ("[0x200000402:0x1]", None),
            ("[0x200000402:0x1:0x0:0x0]", None),
            ("[0x200000402:0x100000000:0x0]", None),
            ("[0x+1:0x1:0x0]", None),
            ("[200000402:1:0]", None),
            ("", None),
        ];
        for (text, want) in cases {
            assert_eq!(text.parse::<Fid>().ok(), want, "{text}");
        }
        assert_eq!(Fid::new(0x2_0000_0402, 1, 0).to_string(), "[0x200000402:0x1:0x0]");
        assert_eq!(Fid::new(0x2_0000_0402, 1, 0).file_name(), "0x200000402:0x1:0x0");
    }
}
