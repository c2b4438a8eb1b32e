//! Files, users and other words that say which requests are meant.

use std::path::Path;

use super::Stop;
use super::options::Selection;
use crate::client::ha::api::segment;
use crate::lustre::path::fid_of;
use crate::ops::{FidText, Select};

/// The file that a word names: a FID, or a path in a mounted file system.
///
/// # Errors
/// Says what is wrong with it.
pub fn file(word: &str) -> Result<FidText, Stop> {
    if let Ok(fid) = word.parse::<FidText>() {
        return Ok(fid);
    }
    if word.starts_with('[') && !Path::new(word).exists() {
        // A path of that name is unlikely; a FID with a mistake is not.
        return Err(Stop::Usage(word.parse::<FidText>().err().unwrap_or_default()));
    }
    fid_of(Path::new(word)).map(FidText).map_err(|error| Stop::Failed(error.to_string()))
}

/// A user by number or name.
fn user(word: &str) -> Result<u32, Stop> {
    if let Ok(number) = word.parse() {
        return Ok(number);
    }
    match nix::unistd::User::from_name(word) {
        Ok(Some(user)) => Ok(user.uid.as_raw()),
        Ok(None) => Err(Stop::Usage(format!("--user: this host knows no user {word:?}; give the number"))),
        Err(error) => Err(Stop::Failed(format!("--user: {word}: {error}"))),
    }
}

impl Selection {
    /// As the API takes it.
    ///
    /// # Errors
    /// Says which word is wrong.
    pub fn resolve(&self) -> Result<Select, Stop> {
        let cookie = self.cookie.as_deref().map(str::parse).transpose();
        Ok(Select {
            fids: self.files.iter().map(|word| file(word)).collect::<Result<_, _>>()?,
            cookie: cookie.map_err(|error: String| Stop::Usage(format!("--cookie: {error}")))?,
            hint: self.hint.clone(),
            user: self.user.as_deref().map(user).transpose()?,
            mover: self.mover.clone(),
            archive_id: self.archive,
            action: self.action.clone(),
            running: None,
            all: false,
        })
    }
}

/// A selection as the query of a URL, with `?` unless it is empty.
pub fn query(select: &Select, more: &[(&str, String)]) -> String {
    let mut pairs: Vec<(&str, String)> = Vec::new();
    if !select.fids.is_empty() {
        let fids: Vec<String> = select.fids.iter().map(ToString::to_string).collect();
        pairs.push(("fid", fids.join(",")));
    }
    let mut add = |name, value: Option<String>| pairs.extend(value.map(|value| (name, value)));
    add("cookie", select.cookie.map(|cookie| cookie.to_string()));
    add("hint", select.hint.clone());
    add("user", select.user.map(|user| user.to_string()));
    add("mover", select.mover.clone());
    add("archive_id", select.archive_id.map(|id| id.to_string()));
    add("action", select.action.clone());
    add("running", select.running.map(|running| running.to_string()));
    pairs.extend(more.iter().cloned());
    let text: Vec<String> = pairs.iter().map(|(name, value)| format!("{name}={}", segment(value))).collect();
    if text.is_empty() { String::new() } else { format!("?{}", text.join("&")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_files() {
        assert_eq!(file("0x200000401:0x1:0x0").unwrap().to_string(), "[0x200000401:0x1:0x0]");
        assert!(matches!(file("[0x200000401:0x1]"), Err(Stop::Usage(_))));
        assert!(matches!(file("/etc/hostname.missing"), Err(Stop::Failed(_))));
        assert_eq!(user("12").unwrap(), 12);
        assert_eq!(user("root").unwrap(), 0);
        assert!(matches!(user("nobody-of-that-name"), Err(Stop::Usage(_))));
    }

    #[test]
    fn selections_are_queries() {
        let select = Select {
            fids: vec!["0x1:0x2:0x3".parse().unwrap(), "0x1:0x2:0x4".parse().unwrap()],
            hint: Some("tag=a b".into()),
            running: Some(true),
            ..Select::default()
        };
        let want = "?fid=%5B0x1%3A0x2%3A0x3%5D%2C%5B0x1%3A0x2%3A0x4%5D&hint=tag%3Da%20b&running=true&limit=5";
        assert_eq!(query(&select, &[("limit", "5".into())]), want);
        assert_eq!(query(&Select::default(), &[]), "");
    }
}
