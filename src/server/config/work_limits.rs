//! Limits on what runs, as lines of the configuration: `limit_mover ID max=N bytes=SIZE rate=N/s`.

use std::time::Duration;

use crate::hsm::config::{Limit, Limits, Rate};

use crate::config::parse_int;

/// Lines of each kind.
const MOST: usize = 10_000;

const SYNTAX: &str = "max=N, bytes=SIZE (with K, M, G or T) or rate=N/s (or N/min, N/h)";

/// Bytes, with K, M, G or T (of 1024) behind the number.
fn bytes(text: &str) -> Result<u64, String> {
    let wrong = || format!("`{text}` is not a size: a number with or without K, M, G or T");
    let digits = text.trim_end_matches(|c: char| !c.is_ascii_digit());
    let shift = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" => 0,
        "K" => 10,
        "M" => 20,
        "G" => 30,
        "T" => 40,
        _ => return Err(wrong()),
    };
    let plain = !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    number.checked_mul(1 << shift).filter(|_| plain).ok_or_else(wrong)
}

/// `N/s`, `N/min` or `N/h`.
fn rate(text: &str) -> Result<Rate, String> {
    let wrong = || format!("`{text}` is not a rate: N/s, N/min or N/h");
    let (count, unit) = text.split_once('/').ok_or_else(wrong)?;
    let seconds = match unit {
        "s" => 1,
        "min" => 60,
        "h" => 3600,
        _ => return Err(wrong()),
    };
    let count = parse_int(count, 1, 1_000_000).map_err(|error| format!("{}: {error}", wrong()))?;
    Ok(Rate { count: count as u32, per: Duration::from_secs(seconds) })
}

/// What follows the name in a line.
fn limit<'a>(words: impl Iterator<Item = &'a str>) -> Result<Limit, String> {
    let mut limit = Limit::default();
    for word in words {
        let (name, value) =
            word.split_once('=').ok_or_else(|| format!("what does `{word}` mean? {SYNTAX}"))?;
        let twice = match name {
            "max" => limit.max.replace(parse_int(value, 0, u64::from(u32::MAX))? as u32).is_some(),
            "bytes" => limit.bytes.replace(bytes(value)?).is_some(),
            "rate" => limit.rate.replace(rate(value)?).is_some(),
            _ => return Err(format!("what does `{word}` mean? {SYNTAX}")),
        };
        if twice {
            return Err(format!("`{name}` is given twice"));
        }
    }
    if limit == Limit::default() {
        return Err(format!("there is no limit in this line: {SYNTAX}"));
    }
    Ok(limit)
}

fn room(lines: usize) -> Result<(), String> {
    if lines < MOST { Ok(()) } else { Err(format!("more than {MOST} lines of this kind")) }
}

/// `limit_mover ID ...`.
pub fn mover(value: &str, limits: &mut Limits) -> Result<(), String> {
    let mut words = value.split_whitespace();
    let id = words.next().ok_or("must not be empty")?;
    let limit = limit(words)?;
    if limits.movers.iter().any(|(other, _)| other == id) {
        return Err(format!("there is a limit for mover {id} already"));
    }
    room(limits.movers.len())?;
    limits.movers.push((id.to_owned(), limit));
    Ok(())
}

/// `limit_hint NAME=VALUE ...`.
pub fn hint(value: &str, limits: &mut Limits) -> Result<(), String> {
    let mut words = value.split_whitespace();
    let hint = words.next().ok_or("must not be empty")?;
    let (name, of) = hint
        .split_once('=')
        .filter(|(name, of)| !name.is_empty() && !of.is_empty() && !hint.contains(','))
        .ok_or_else(|| format!("`{hint}` is not a hint: NAME=VALUE, or NAME=* for each value"))?;
    let limit = limit(words)?;
    let of = (of != "*").then(|| of.to_owned());
    let name = format!("{name}=");
    if limits.hints.iter().any(|(other, value, _)| *other == name && *value == of) {
        return Err(format!("there is a limit for `{hint}` already"));
    }
    room(limits.hints.len())?;
    limits.hints.push((name, of, limit));
    Ok(())
}

/// `limit_user UID ...`.
pub fn user(value: &str, limits: &mut Limits) -> Result<(), String> {
    let mut words = value.split_whitespace();
    let uid = words.next().ok_or("must not be empty")?;
    let of = match uid {
        "*" => None,
        uid => {
            let text = |error| format!("{error}: the number of a user, or * for each");
            Some(parse_int(uid, 0, u64::from(u32::MAX)).map_err(text)? as u32)
        }
    };
    let limit = limit(words)?;
    if limits.users.iter().any(|(other, _)| *other == of) {
        return Err(format!("there is a limit for user {uid} already"));
    }
    room(limits.users.len())?;
    limits.users.push((of, limit));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read() {
        let per = |count, seconds| Some(Rate { count, per: Duration::from_secs(seconds) });
        let none = Limit::default();
        let cases = [
            ("m0 max=3", Limit { max: Some(3), ..none }),
            ("m0 max=0", Limit { max: Some(0), ..none }),
            ("m0 bytes=5", Limit { bytes: Some(5), ..none }),
            ("m0  bytes=2T rate=10/s", Limit { bytes: Some(2 << 40), rate: per(10, 1), ..none }),
            ("* rate=3/min max=4", Limit { max: Some(4), rate: per(3, 60), bytes: None }),
            ("m0 rate=1/h", Limit { rate: per(1, 3600), ..none }),
        ];
        for (line, want) in cases {
            let mut limits = Limits::default();
            mover(line, &mut limits).unwrap();
            assert_eq!(limits.movers, [(line[..2].trim().to_owned(), want)], "{line}");
        }
        let mut limits = Limits::default();
        hint("project=a max=1", &mut limits).unwrap();
        hint("project=* max=2", &mut limits).unwrap();
        user("1000 max=3", &mut limits).unwrap();
        user("* max=4", &mut limits).unwrap();
        let max = |max| Limit { max: Some(max), ..none };
        let hints =
            [("project=".to_owned(), Some("a".to_owned()), max(1)), ("project=".to_owned(), None, max(2))];
        assert_eq!(limits.hints, hints);
        assert_eq!(limits.users, [(Some(1000), max(3)), (None, max(4))]);
    }

    #[test]
    fn what_is_wrong_is_said() {
        type Read = fn(&str, &mut Limits) -> Result<(), String>;
        let cases: [(Read, &str, &str); 16] = [
            (mover, "", "empty"),
            (mover, "m0", "no limit in this line"),
            (mover, "m0 3", "what does `3` mean"),
            (mover, "m0 most=3", "what does `most=3` mean"),
            (mover, "m0 max=-1", "-1"),
            (mover, "m0 max=1 max=2", "twice"),
            (mover, "m0 bytes=1X", "1X"),
            (mover, "m0 bytes=K", "not a size"),
            (mover, "m0 bytes=99999999999T", "not a size"),
            (mover, "m0 rate=5", "not a rate"),
            (mover, "m0 rate=0/s", "not a rate"),
            (mover, "m0 rate=5/day", "not a rate"),
            (hint, "project max=1", "NAME=VALUE"),
            (hint, "project= max=1", "NAME=VALUE"),
            (hint, "a=b,c=d max=1", "NAME=VALUE"),
            (user, "root max=1", "number of a user"),
        ];
        for (read, line, want) in cases {
            let error = read(line, &mut Limits::default()).unwrap_err();
            assert!(error.contains(want), "{line}: {error}");
        }
        for (read, line) in [(mover as Read, "m0 max=1"), (hint, "a=b max=1"), (user, "7 max=1")] {
            let mut limits = Limits::default();
            read(line, &mut limits).unwrap();
            assert!(read(line, &mut limits).unwrap_err().contains("already"), "{line}");
        }
    }
}
