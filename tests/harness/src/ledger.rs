//! What really happened to every request, by the MDTs' own account.

use serde::Deserialize;

/// Where a request stands in the MDT's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Status {
    /// Not handed to a copytool.
    #[serde(alias = "WAITING")]
    Waiting,
    /// Handed to a copytool.
    #[serde(alias = "STARTED")]
    Started,
    /// Ended with an error.
    #[serde(alias = "FAILED")]
    Failed,
    /// Cancelled, or timed out.
    #[serde(alias = "CANCELED", alias = "Canceled")]
    Cancelled,
    /// Ended with success.
    #[serde(alias = "SUCCEED", alias = "Succeed")]
    Succeeded,
}

/// One request that an MDT ever had.
#[derive(Debug, Clone, Deserialize)]
pub struct Entry {
    /// Index of the MDT.
    pub mdt: u32,
    /// Its cookie; a cancel has its victim's.
    pub cookie: u64,
    /// The file, without brackets: `0x200000402:0x1:0x0`.
    #[serde(deserialize_with = "fid_without_brackets")]
    pub fid: String,
    /// `ARCHIVE`, `RESTORE`, `REMOVE`, `CANCEL`.
    pub action: String,
    /// The archive, 0 if unknown.
    pub archive_id: u32,
    /// Flags of the request.
    pub flags: u64,
    /// What the user passed along.
    pub data: Vec<u8>,
    /// Accepted progress reports that did not end it.
    pub progress: u64,
    /// Ends that the MDT accepted.
    pub accepted_ends: u32,
    /// Where it stands.
    pub status: Status,
    /// How it ended.
    pub end: Option<End>,
    /// How many lists carried it to an agent.
    #[serde(deserialize_with = "length", rename = "sent")]
    pub deliveries: usize,
}

impl Entry {
    /// Whether nothing can happen to it any more.
    pub fn has_ended(&self) -> bool {
        !matches!(self.status, Status::Waiting | Status::Started)
    }

    /// The error it ended with; 0 for success or if it has not ended.
    pub fn errno(&self) -> u16 {
        self.end.as_ref().and_then(|end| end.errno).unwrap_or(0)
    }
}

/// How a request ended.
#[derive(Debug, Clone, Deserialize)]
pub struct End {
    /// The error that the copytool or the MDT gave, none for success.
    pub errno: Option<u16>,
    /// Bytes reported as copied.
    pub bytes: u64,
}

/// An end that an MDT refused.
#[derive(Debug, Clone, Deserialize)]
pub struct Stray {
    /// For which cookie.
    pub cookie: u64,
    /// With which FID, without brackets.
    #[serde(deserialize_with = "fid_without_brackets")]
    pub fid: String,
    /// The end's own error, 0 for success.
    pub errval: u16,
    /// Why it was refused.
    pub refused: u16,
}

fn fid_without_brackets<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let text = String::deserialize(deserializer)?;
    Ok(text.trim_matches(['[', ']']).to_owned())
}

fn length<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<usize, D::Error> {
    Ok(Vec::<serde::de::IgnoredAny>::deserialize(deserializer)?.len())
}
