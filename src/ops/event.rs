//! What happens, as it is told to those who follow it.

use serde::{Deserialize, Serialize};

use super::alerts::Alert;
use super::text::{Cookie, FidText};
use crate::hsm::feed::{Happening, MoverChange, RequestChange, Subject};

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// A request.
    #[default]
    Request,
    /// A mover.
    Mover,
    /// Something that somebody has to know.
    Alert,
    /// The stream itself: it is over.
    End,
}

impl Kind {
    /// What can be asked for.
    pub const ALL: [(&'static str, Self); 3] =
        [("request", Self::Request), ("mover", Self::Mover), ("alert", Self::Alert)];
}

/// Something that happened. Members that do not concern it are left out.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Event {
    /// When, in nanoseconds since the epoch.
    pub at: i64,
    /// What it is about.
    pub kind: Kind,
    /// What happened. Requests: `admitted`, `sent`, `claimed`, `requeued`, `done`, `cancelled`, `dropped`. Movers:
    /// `connected`, `away`, `gone`, `drained`, `undrained`, `limited`, `quarantined`, `trial`, `released`. Alerts:
    /// `raised`, `cleared`. The stream: `slow`, `stopping`.
    pub what: String,
    /// The request's file.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fid: Option<FidText>,
    /// The MDT's cookie of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie: Option<Cookie>,
    /// `ARCHIVE`, `RESTORE`, `REMOVE`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    /// Archive id.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub archive_id: Option<u32>,
    /// The mover, or the one that has or had the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mover: Option<String>,
    /// How a request ended: 0 or a positive errno.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<i32>,
    /// Until when a mover is in quarantine, in nanoseconds since the epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<i64>,
    /// The most requests that an operator lets a mover run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The alert that was raised, or is cleared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alert: Option<Alert>,
    /// Why the stream ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

impl Event {
    /// An alert that is new (`true`), or no longer there.
    pub fn of_alert(at: i64, alert: &Alert, raised: bool) -> Self {
        let what = if raised { "raised" } else { "cleared" };
        Self { at, kind: Kind::Alert, what: what.to_owned(), alert: Some(alert.clone()), ..Self::default() }
    }

    /// The last of a stream.
    pub fn of_end(at: i64, what: &str, text: String) -> Self {
        Self { at, kind: Kind::End, what: what.to_owned(), text: Some(text), ..Self::default() }
    }
}

impl From<&Happening> for Event {
    fn from(of: &Happening) -> Self {
        let at = of.at.0;
        match &of.subject {
            Subject::Request { key, action, archive_id, mover, change } => {
                let (what, status) = match change {
                    RequestChange::Admitted => ("admitted", None),
                    RequestChange::Sent => ("sent", None),
                    RequestChange::Claimed => ("claimed", None),
                    RequestChange::Requeued => ("requeued", None),
                    RequestChange::Ended { outcome, status } => (outcome.name(), Some(*status)),
                };
                Self {
                    at,
                    kind: Kind::Request,
                    what: what.to_owned(),
                    fid: Some(FidText(key.fid)),
                    cookie: Some(Cookie(key.cookie)),
                    action: Some(action.name().to_owned()),
                    archive_id: Some(*archive_id),
                    mover: mover.as_deref().map(str::to_owned),
                    status,
                    ..Self::default()
                }
            }
            Subject::Mover { id, change } => {
                let mut event =
                    Self { at, kind: Kind::Mover, mover: Some(id.to_string()), ..Self::default() };
                let what = match change {
                    MoverChange::Connected => "connected",
                    MoverChange::Away => "away",
                    MoverChange::Gone => "gone",
                    MoverChange::Drained(true) => "drained",
                    MoverChange::Drained(false) => "undrained",
                    MoverChange::Limited(most) => {
                        event.limit = *most;
                        "limited"
                    }
                    MoverChange::Quarantined(until) => {
                        event.until = Some(until.0);
                        "quarantined"
                    }
                    MoverChange::Trial => "trial",
                    MoverChange::Released => "released",
                };
                event.what = what.to_owned();
                event
            }
        }
    }
}
