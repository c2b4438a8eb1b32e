//! Which requests are meant.

use serde::{Deserialize, Serialize};

use super::text::{Cookie, FidText};
use crate::hsm::Action;
use crate::hsm::views;

/// The most files in one selection.
const MOST_FIDS: usize = 1000;

/// Everything that is given must fit; nothing given fits everything.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Select {
    /// Of one of these files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub fids: Vec<FidText>,
    /// With this cookie.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
    /// With this hint in the data: `tag=n0`, or `tag=` for any value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// Of files of this user, by number.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<u32>,
    /// That this mover runs, or that wait for it alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover: Option<String>,
    /// Of this archive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_id: Option<u32>,
    /// Of this action: `archive`, `restore`, `remove`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Only those that run, or only those that wait.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub running: Option<bool>,
    /// All of them: must be said where nothing else is.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub all: bool,
}

impl Select {
    /// FIDs with commas between them, as they stand in a query.
    ///
    /// # Errors
    /// Says which is none.
    pub fn fids(text: Option<&str>) -> Result<Vec<FidText>, String> {
        text.iter().flat_map(|fids| fids.split(',')).map(str::parse).collect()
    }

    /// Whether nothing was said that would leave anything out.
    pub fn is_everything(&self) -> bool {
        *self == Self { all: self.all, ..Self::default() }
    }

    /// For the coordinator.
    ///
    /// # Errors
    /// Says what cannot be.
    pub fn to_core(&self) -> Result<views::Select, String> {
        if self.fids.len() > MOST_FIDS {
            return Err(format!("fids: more than {MOST_FIDS}"));
        }
        if self.hint.as_ref().is_some_and(|hint| hint.is_empty() || hint.len() > 4096) {
            return Err("hint: must have 1 to 4096 bytes".to_owned());
        }
        Ok(views::Select {
            fids: self.fids.iter().map(|fid| fid.0).collect(),
            cookie: self.cookie.map(|cookie| cookie.0),
            hint: self.hint.clone(),
            user: self.user,
            mover: self.mover.clone(),
            archive_id: self.archive_id,
            action: self.action.as_deref().map(action).transpose()?,
            running: self.running,
        })
    }
}

/// An action by its name, in any case.
///
/// # Errors
/// Says which there are.
pub fn action(name: &str) -> Result<Action, String> {
    let all = [Action::Archive, Action::Restore, Action::Remove];
    let found = all.into_iter().find(|action| action.name().eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("action: {name:?} is none of archive, restore, remove"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_selected_is_read_and_checked() {
        let read = |text: &str| {
            serde_json::from_str::<Select>(text)
                .map_err(|error| error.to_string())
                .and_then(|select| select.to_core())
        };
        let want = views::Select {
            fids: vec![lustreapi_sys::Fid::new(1, 2, 3)],
            action: Some(Action::Archive),
            running: Some(false),
            ..views::Select::default()
        };
        assert_eq!(read(r#"{"fids": ["0x1:0x2:0x3"], "action": "Archive", "running": false}"#), Ok(want));
        assert!(read(r#"{"fid": "0x1:0x2:0x3"}"#).unwrap_err().contains("unknown field `fid`"));
        assert!(read(r#"{"action": "move"}"#).unwrap_err().contains("archive, restore, remove"));
        assert!(read(r#"{"hint": ""}"#).is_err());
    }

    #[test]
    fn everything_is_nothing_left_out() {
        assert!(Select::default().is_everything());
        assert!(Select { all: true, ..Select::default() }.is_everything());
        assert!(!Select { archive_id: Some(0), ..Select::default() }.is_everything());
    }
}
