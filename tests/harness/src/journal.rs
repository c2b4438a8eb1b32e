//! What a copytool wrote about each thing it did (`lustre-sim-copytool --steps`).

use std::path::Path;

use serde::Deserialize;

/// One step of one action.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Step {
    /// What happened: `received`, `begun`, `dropped`, `ended`.
    pub step: String,
    /// `ARCHIVE`, `RESTORE`, `REMOVE`, `CANCEL`.
    pub action: String,
    /// `0x200000402:0x1:0x0`.
    pub fid: String,
    /// As the copytool saw it.
    pub cookie: u64,
    /// Of the list it came in.
    #[serde(default)]
    pub archive_id: u32,
    /// As the copytool saw it: 72 and the data.
    #[serde(default)]
    pub hai_len: u32,
    /// The data in hexadecimal digits, as long as `hai_len` says.
    #[serde(default)]
    pub data: String,
    /// What the call returned, or the errno it reported: 0 or positive.
    #[serde(default)]
    pub errno: i32,
}

impl Step {
    /// The data without the zeros it was padded with.
    pub fn text(&self) -> String {
        let bytes: Vec<u8> = self.bytes();
        let end = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |last| last + 1);
        String::from_utf8_lossy(&bytes[..end]).into_owned()
    }

    /// The data as the copytool saw it.
    pub fn bytes(&self) -> Vec<u8> {
        self.data
            .as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(&String::from_utf8_lossy(pair), 16).expect("data is hexadecimal"))
            .collect()
    }
}

/// All whole lines of a journal; none if there is no such file yet.
pub fn read_journal(path: &Path) -> Vec<Step> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .map(|line| {
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{}: {error}: {line}", path.display()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_loses_its_padding_only() {
        let line =
            r#"{"step":"begun","action":"ARCHIVE","fid":"0x1:0x2:0x0","cookie":7,"data":"61006200000000"}"#;
        let step: Step = serde_json::from_str(line).unwrap();
        assert_eq!(step.text(), "a\0b");
        assert_eq!(step.bytes().len(), 7);
    }
}
