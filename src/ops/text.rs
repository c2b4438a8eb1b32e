//! How identities and data of requests stand in JSON.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use lustreapi_sys::Fid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A FID as Lustre prints it in brackets; read with or without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FidText(pub Fid);

impl fmt::Display for FidText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for FidText {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.parse().map(Self).map_err(|error: lustreapi_sys::fid::ParseFidError| error.to_string())
    }
}

/// A cookie: hexadecimal with `0x` as Lustre prints it, read in decimal as well. As text, since not every reader of JSON
/// can hold 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cookie(pub u64);

impl fmt::Display for Cookie {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl FromStr for Cookie {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let digits = text.strip_prefix("0x").or_else(|| text.strip_prefix("0X"));
        let number = match digits {
            Some(digits) if digits.starts_with(|c: char| c.is_ascii_hexdigit()) => {
                u64::from_str_radix(digits, 16).ok()
            }
            None if text.starts_with(|c: char| c.is_ascii_digit()) => text.parse().ok(),
            _ => None,
        };
        number.map(Self).ok_or_else(|| format!("{text:?} is not a cookie: 0x5f0c9b02"))
    }
}

macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}

as_text!(FidText, Cookie);

/// What a user passed with a request.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Data {
    /// As text up to the first NUL; what is not UTF-8 is replaced.
    pub text: String,
    /// All of it in base 64, where the text does not say all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

impl From<&[u8]> for Data {
    fn from(bytes: &[u8]) -> Self {
        let end = memchr::memchr(0, bytes).unwrap_or(bytes.len());
        let whole = bytes[end..].iter().all(|byte| *byte == 0) && std::str::from_utf8(&bytes[..end]).is_ok();
        Self {
            text: String::from_utf8_lossy(&bytes[..end]).into_owned(),
            base64: (!whole).then(|| STANDARD.encode(bytes)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fids_are_as_lustre_prints_them() {
        let fid = FidText(Fid::new(0x2_0000_0401, 0x1f, 0));
        assert_eq!(serde_json::to_string(&fid).unwrap(), "\"[0x200000401:0x1f:0x0]\"");
        assert_eq!(serde_json::from_str::<FidText>("\"0x200000401:0x1f:0x0\"").unwrap(), fid);
        assert!("0x1:0x2".parse::<FidText>().unwrap_err().contains("0x1:0x2"));
    }

    #[test]
    fn cookies_are_text_in_json() {
        assert_eq!(serde_json::to_string(&Cookie(0x5f0c_9b02)).unwrap(), "\"0x5f0c9b02\"");
        assert_eq!("1594661634".parse(), Ok(Cookie(0x5f0c_9b02)));
        assert_eq!("0xffffffffffffffff".parse(), Ok(Cookie(u64::MAX)));
        for wrong in ["", "0x", "x", "-1", "+1", "0x1ffffffffffffffff"] {
            assert!(wrong.parse::<Cookie>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn data_is_text_where_it_can_be() {
        let text = |bytes: &[u8]| Data::from(bytes);
        assert_eq!(text(b"tag=a"), Data { text: "tag=a".into(), base64: None });
        assert_eq!(text(b"tag=a\0\0"), Data { text: "tag=a".into(), base64: None });
        assert_eq!(text(b"a\0b"), Data { text: "a".into(), base64: Some("YQBi".into()) });
        assert_eq!(text(b"\xff"), Data { text: "\u{fffd}".into(), base64: Some("/w==".into()) });
    }
}
