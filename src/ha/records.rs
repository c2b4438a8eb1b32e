//! Lines of records on disk: a checksum (CRC-32, eight hexadecimal digits), a space, JSON, a newline.
//!
//! A crash in the middle of an append leaves a torn last line, which is normal: what it held was never promised. A line that
//! is damaged in the middle is told.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a file of records holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Read<T> {
    /// The records that could be read, in order.
    pub records: Vec<T>,
    /// Length of the file up to the end of the last good line, in bytes: what follows may be cut off.
    pub good: u64,
    /// The last line is torn.
    pub torn: bool,
    /// Which lines before the last are damaged, and how.
    pub damaged: Vec<String>,
}

/// A record as a line.
///
/// # Errors
/// When it cannot be written as JSON, which no record of ours is.
pub fn line<T: Serialize>(record: &T) -> Result<Vec<u8>, serde_json::Error> {
    let json = serde_json::to_vec(record)?;
    let mut line = format!("{:08x} ", crc32fast::hash(&json)).into_bytes();
    line.extend(json);
    line.push(b'\n');
    Ok(line)
}

/// Reads what [`line()`] wrote.
pub fn read<T: DeserializeOwned>(bytes: &[u8]) -> Read<T> {
    let mut found = Read { records: Vec::new(), good: 0, torn: false, damaged: Vec::new() };
    // A damaged line counts as torn as long as no good one follows it.
    let mut doubtful = Vec::new();
    let mut start = 0;
    for (number, text) in bytes.split_inclusive(|byte| *byte == b'\n').enumerate() {
        start += text.len();
        match parse(text) {
            Ok(record) => {
                found.damaged.append(&mut doubtful);
                found.records.push(record);
                found.good = start as u64;
            }
            Err(why) => doubtful.push(format!("line {}: {why}", number + 1)),
        }
    }
    found.torn = !doubtful.is_empty();
    // A torn append has no newline at its end, and there is only one.
    if doubtful.len() > 1 || bytes.ends_with(b"\n") {
        found.damaged.append(&mut doubtful);
    }
    found
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, String> {
    let text = text.strip_suffix(b"\n").ok_or("no newline at its end")?;
    let (sum, rest) = text.split_at_checked(8).ok_or("too short")?;
    let json = rest.strip_prefix(b" ").ok_or("no space after the checksum")?;
    let sum = std::str::from_utf8(sum)
        .ok()
        .and_then(|sum| u32::from_str_radix(sum, 16).ok())
        .ok_or("no checksum")?;
    if sum != crc32fast::hash(json) {
        return Err("wrong checksum".to_owned());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file() -> Vec<u8> {
        ["one", "two", "three"].iter().flat_map(|record| line(record).unwrap()).collect()
    }

    #[test]
    fn records_come_back() {
        let read = read::<String>(&file());
        assert_eq!(read.records, ["one", "two", "three"]);
        assert_eq!((read.good, read.torn, read.damaged.len()), (file().len() as u64, false, 0));
        assert_eq!(super::read::<String>(b"").records.len(), 0);
    }

    #[test]
    fn every_cut_loses_the_torn_line_only() {
        let whole = file();
        for cut in 0..whole.len() {
            let lines = whole[..cut].iter().filter(|byte| **byte == b'\n').count();
            let read = read::<String>(&whole[..cut]);
            assert_eq!(read.records.len(), lines, "cut at {cut}");
            assert!(read.damaged.is_empty());
            assert_eq!(read.torn, !whole[..cut].is_empty() && !whole[..cut].ends_with(b"\n"));
        }
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let whole = file();
        for at in 0..whole.len() {
            for bit in 0..8 {
                let mut bytes = whole.clone();
                bytes[at] ^= 1 << bit;
                let read = read::<String>(&bytes);
                let right = ["one", "two", "three"];
                // The case of the checksum's digits is all that may differ unnoticed.
                let same = bytes[at].eq_ignore_ascii_case(&whole[at]);
                assert!(read.records.iter().all(|record| right.contains(&record.as_str())));
                assert!(same || read.torn || !read.damaged.is_empty(), "byte {at} bit {bit}");
            }
        }
    }
}
