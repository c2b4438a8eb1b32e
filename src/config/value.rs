//! Values: numbers, sizes, verbosity.

use std::fmt;
use std::str::FromStr;

/// How much is logged. Options `-v` and `-q` move it by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Verbosity {
    /// Nothing.
    Off,
    /// What ends the program.
    Fatal,
    /// What went wrong.
    Error,
    /// What looks wrong.
    Warn,
    /// What everybody should see once.
    #[default]
    Normal,
    /// What happens to requests.
    Info,
    /// Everything.
    Debug,
}

impl Verbosity {
    /// All levels, from least to most.
    pub const ALL: [Self; 7] =
        [Self::Off, Self::Fatal, Self::Error, Self::Warn, Self::Normal, Self::Info, Self::Debug];

    /// The name in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Fatal => "fatal",
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Normal => "normal",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// Moved by so many levels, at most to the ends.
    pub fn moved(self, steps: i32) -> Self {
        let last = Self::ALL.len() as i32 - 1;
        let index = (self as i32).saturating_add(steps).clamp(0, last);
        Self::ALL[index as usize]
    }
}

impl fmt::Display for Verbosity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Verbosity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|level| level.name().eq_ignore_ascii_case(text));
        found.ok_or_else(|| {
            let near = super::keys::nearest_of(text, Self::ALL.map(Self::name));
            let hint = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            format!("`{text}` is not a level: off, fatal, error, warn, normal, info or debug{hint}")
        })
    }
}

/// Splits a number as `strtol` with base 0 reads it: blanks, sign, `0x` for hexadecimal, a leading `0` for octal. Returns
/// the number and what follows; `None` when there is no digit or it is beyond 64 bits.
fn strtol(text: &str) -> Option<(i128, &str)> {
    let text = text.trim_start();
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let hexadecimal = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X"));
    let (radix, digits) = match hexadecimal {
        Some(rest) if rest.starts_with(|c: char| c.is_ascii_hexdigit()) => (16, rest),
        _ if digits.starts_with('0') => (8, digits),
        _ => (10, digits),
    };
    let end = digits.find(|c: char| !c.is_digit(radix)).unwrap_or(digits.len());
    let number = u64::from_str_radix(digits.get(..end)?, radix).ok()?;
    let number = i128::from(number);
    Some((if negative { -number } else { number }, &digits[end..]))
}

/// A whole number from `min` to `max`, in decimal, `0x` hexadecimal or octal as C reads it.
pub fn parse_int(text: &str, min: u64, max: u64) -> Result<u64, String> {
    let range = || format!("`{text}` is not a whole number from {min} to {max}");
    let (number, rest) = strtol(text).ok_or_else(range)?;
    if !rest.trim().is_empty() {
        return Err(format!("{}: what does `{}` mean?", range(), rest.trim()));
    }
    let number = u64::try_from(number).map_err(|_| range())?;
    if (min..=max).contains(&number) { Ok(number) } else { Err(range()) }
}

/// A port or the name of a service, which is looked up later. The C library cuts numbers beyond 16 bits to another port.
pub fn parse_port(text: &str) -> Result<String, String> {
    let number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else if number && text.parse::<u16>().is_err() {
        Err(format!("`{text}` is not a port: 1 to 65535, or the name of a service"))
    } else {
        Ok(text.to_owned())
    }
}

/// A size below 4 GiB: a number with K, M or G (of 1024) behind it, or none.
pub fn parse_size(text: &str) -> Result<u32, String> {
    let wrong = || format!("`{text}` is not a size: a number with or without K, M or G, below 4G");
    match parse_scaled(text) {
        Some(bytes) => u32::try_from(bytes).map_err(|_| wrong()),
        None => Err(wrong()),
    }
}

/// `on` or `off`, in any of the words that people use for them.
pub fn parse_switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "yes" | "true" | "1" => Ok(true),
        "off" | "no" | "false" | "0" => Ok(false),
        _ => Err(format!("`{text}` is neither `on` nor `off`")),
    }
}

/// A limit as `max_archive` has it: a number as [`parse_size`] reads it, or -1 for none.
pub fn parse_limit(text: &str) -> Result<Option<u32>, String> {
    let wrong = || format!("`{text}` is not a limit: a number with or without K, M or G, or -1 for no limit");
    match parse_scaled(text) {
        Some(-1) => Ok(None),
        // C's way to say -1 in 32 bits.
        Some(number) => match u32::try_from(number) {
            Ok(u32::MAX) => Ok(None),
            Ok(number) => Ok(Some(number)),
            Err(_) => Err(wrong()),
        },
        None => Err(wrong()),
    }
}

fn parse_scaled(text: &str) -> Option<i128> {
    let (number, rest) = strtol(text)?;
    let scale = match rest.trim() {
        "" => 1,
        "k" | "K" => 1 << 10,
        "m" | "M" => 1 << 20,
        "g" | "G" => 1 << 30,
        _ => return None,
    };
    Some(if number == -1 { -1 } else { number * scale })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_read_as_strtol_does() {
        let cases = [
            ("0", Some(0)),
            ("5123", Some(5123)),
            (" 12 ", Some(12)),
            ("0x10", Some(16)),
            ("010", Some(8)),
            ("+7", Some(7)),
            ("65535", Some(65535)),
            ("65536", None),
            ("-1", None),
            ("09", None),
            ("0x", None),
            ("12x", None),
            ("", None),
            ("x", None),
            ("99999999999999999999", None),
        ];
        for (text, want) in cases {
            assert_eq!(parse_int(text, 0, 65535).ok(), want, "{text}");
        }
        assert_eq!(
            parse_int("600 000", 0, 10).unwrap_err(),
            "`600 000` is not a whole number from 0 to 10: what does `000` mean?"
        );
    }

    #[test]
    fn sizes_and_limits_have_suffixes() {
        let sizes =
            [("1M", Some(1 << 20)), ("4k", Some(4096)), ("1 G", Some(1 << 30)), ("4G", None), ("-1", None)];
        for (text, want) in sizes {
            assert_eq!(parse_size(text).ok(), want, "{text}");
        }
        let limits = [("-1", Some(None)), ("4294967295", Some(None)), ("2k", Some(Some(2048))), ("-2", None)];
        for (text, want) in limits {
            assert_eq!(parse_limit(text).ok(), want, "{text}");
        }
        assert!(parse_size("10kB").is_err());
    }

    #[test]
    fn a_port_is_never_cut_to_another_one() {
        for (text, good) in [("5123", true), ("65535", true), ("0", true), ("http", true), ("http2", true)]
            .into_iter()
            .chain([("65536", false), ("99999999", false), ("", false)])
        {
            assert_eq!(parse_port(text).is_ok(), good, "{text}");
        }
    }

    #[test]
    fn verbosity_has_names_and_moves_between_its_ends() {
        assert_eq!("INFO".parse(), Ok(Verbosity::Info));
        assert_eq!(Verbosity::Normal.moved(2), Verbosity::Debug);
        assert_eq!(Verbosity::Normal.moved(9), Verbosity::Debug);
        assert_eq!(Verbosity::Normal.moved(-9), Verbosity::Off);
        assert!("inof".parse::<Verbosity>().unwrap_err().contains("did you mean `info`?"));
    }
}
