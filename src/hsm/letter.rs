//! A failed request, as it is kept, stored and shown.

use std::collections::VecDeque;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};

use super::action::{Action, ActionItem};
use super::attempts::{MOST_ATTEMPTS, Target};
use super::mover_views::DeadLetter;
use super::requests::Kind;
use super::select::fits_data;
use super::time::{Mono, Now, Wall};
use super::views::{Attempt, Select};

const PREFIX: &str = "letter/";

/// What is being done about a failed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The MDT is asked for it then.
    Waiting(Mono),
    /// The MDT is being asked.
    Asking,
    /// There is, or soon will be, a request for it again.
    Alive,
    /// Nothing: it failed too often, or cannot be asked for.
    Dead,
}

/// A failed request.
#[derive(Debug)]
pub(super) struct Letter {
    /// The last one, with its original data.
    pub(super) item: ActionItem,
    /// Only the beginning of its data is known, so that it cannot be asked for.
    pub(super) truncated: bool,
    /// The last attempts, the oldest first.
    pub(super) attempts: VecDeque<Attempt>,
    pub(super) failures: u32,
    /// Failures that do not count against the limit.
    pub(super) spared: u32,
    /// How often the MDT was asked since it last took a request.
    pub(super) asks: u32,
    /// What it answered last.
    pub(super) refused: Option<i32>,
    pub(super) stage: Stage,
    /// Its place among all.
    pub(super) order: u64,
}

/// A letter in the store.
#[derive(Serialize, Deserialize)]
struct Note {
    version: u32,
    action: u32,
    fid: String,
    dfid: String,
    cookie: u64,
    archive_id: u32,
    flags: u64,
    offset: u64,
    length: u64,
    gid: u64,
    timestamp: i64,
    data: String,
    extra: String,
    truncated: bool,
    failures: u32,
    spared: u32,
    refused: Option<i32>,
    /// `waiting`, `alive` or `dead`.
    stage: String,
    /// When it is asked for again, for `waiting`.
    due: i64,
    attempts: Vec<(u64, String, i32, i64, i64)>,
}

impl Letter {
    pub(super) fn new(item: ActionItem, truncated: bool) -> Self {
        Self {
            item,
            truncated,
            attempts: VecDeque::new(),
            failures: 0,
            spared: 0,
            asks: 0,
            refused: None,
            stage: Stage::Dead,
            order: 0,
        }
    }

    /// Another attempt failed.
    pub(super) fn failed(&mut self, item: ActionItem, truncated: bool, attempt: Attempt) {
        // Full data that an earlier attempt had is worth more than the beginning of it.
        if !truncated || self.truncated {
            self.item = item;
            self.truncated = truncated;
        }
        if self.attempts.len() >= MOST_ATTEMPTS {
            self.attempts.pop_front();
        }
        self.attempts.push_back(attempt);
        self.failures += 1;
        self.refused = None;
    }

    /// Whether an order is about it.
    pub(super) fn fits(&self, target: &Target, select: &Select) -> bool {
        let (fid, kind, archive_id) = target;
        let last = self.attempts.back().map(|attempt| attempt.mover.as_str());
        (select.fids.is_empty() || select.fids.contains(fid))
            && select.cookie.is_none_or(|cookie| cookie == self.item.cookie)
            && select.action.is_none_or(|action| action == kind.action())
            && select.archive_id.is_none_or(|id| id == *archive_id)
            && select.mover.as_deref().is_none_or(|mover| last == Some(mover))
            && select.hint.as_deref().is_none_or(|hint| fits_data(&self.item.data, hint))
    }

    pub(super) fn view(&self, now: Now) -> DeadLetter {
        let last = self.attempts.back();
        DeadLetter {
            key: self.item.key(),
            action: self.item.action,
            archive_id: self.item.archive_id,
            data: self.item.data.clone(),
            failed: last.map_or(Wall(0), |attempt| attempt.failed),
            failures: self.failures,
            errno: last.map_or(0, |attempt| attempt.errno),
            mover: last.map_or_else(String::new, |attempt| attempt.mover.clone()),
            retry: if let Stage::Waiting(due) = self.stage { Some(now.wall_at(due)) } else { None },
            asking: self.stage == Stage::Asking,
            trying: self.stage == Stage::Alive,
            refused: self.refused,
            attempts: self.attempts.iter().cloned().collect(),
        }
    }

    pub(super) fn is_note(name: &str) -> bool {
        name.starts_with(PREFIX)
    }

    pub(super) fn note_name((fid, kind, archive_id): &Target) -> String {
        format!("{PREFIX}{fid}/{}/{archive_id}", kind.action())
    }

    pub(super) fn to_note(&self, now: Now) -> String {
        let item = &self.item;
        let (stage, due) = match self.stage {
            Stage::Waiting(due) => ("waiting", now.wall_at(due).0),
            // Whether it was asked is not known after a crash: it is looked at again.
            Stage::Asking => ("waiting", now.wall.0),
            Stage::Alive => ("alive", 0),
            Stage::Dead => ("dead", 0),
        };
        let attempt = |attempt: &Attempt| {
            let mover = attempt.mover.clone();
            (attempt.cookie, mover, attempt.errno, attempt.sent.0, attempt.failed.0)
        };
        let note = Note {
            version: 1,
            action: item.action.hsma(),
            fid: item.fid.to_string(),
            dfid: item.dfid.to_string(),
            cookie: item.cookie,
            archive_id: item.archive_id,
            flags: item.flags,
            offset: item.extent_offset,
            length: item.extent_length,
            gid: item.gid,
            timestamp: item.timestamp,
            data: BASE64.encode(&item.data),
            extra: item.extra.to_string(),
            truncated: self.truncated,
            failures: self.failures,
            spared: self.spared,
            refused: self.refused,
            stage: stage.to_owned(),
            due,
            attempts: self.attempts.iter().map(attempt).collect(),
        };
        // Plain members of plain types: this cannot fail.
        serde_json::to_string(&note).unwrap_or_default()
    }

    pub(super) fn from_note(value: &str, now: Now) -> Result<(Target, Self), String> {
        let note: Note = serde_json::from_str(value).map_err(|error| error.to_string())?;
        if note.version != 1 {
            return Err(format!("version {} is not known", note.version));
        }
        let action = Action::from_hsma(note.action);
        let (Some(action), Some(kind)) = (action, action.and_then(Kind::of)) else {
            return Err(format!("{} is no action", note.action));
        };
        let fid = |text: &str| text.parse().map_err(|_| format!("`{text}` is no FID"));
        let data = BASE64.decode(&note.data).map_err(|error| format!("data: {error}"))?;
        let item = ActionItem {
            action,
            fid: fid(&note.fid)?,
            dfid: fid(&note.dfid)?,
            extent_offset: note.offset,
            extent_length: note.length,
            cookie: note.cookie,
            gid: note.gid,
            archive_id: note.archive_id,
            flags: note.flags,
            data: data.into(),
            timestamp: note.timestamp,
            extra: note.extra.into(),
        };
        let left = u64::try_from(note.due.saturating_sub(now.wall.0)).unwrap_or(0);
        let stage = match note.stage.as_str() {
            "waiting" => Stage::Waiting(Mono(now.mono.0.saturating_add(left))),
            "alive" => Stage::Alive,
            "dead" => Stage::Dead,
            other => return Err(format!("`{other}` is no stage")),
        };
        let attempts = note.attempts.into_iter().map(|(cookie, mover, errno, sent, failed)| Attempt {
            cookie,
            mover,
            errno,
            sent: Wall(sent),
            failed: Wall(failed),
        });
        let letter = Self {
            truncated: note.truncated,
            attempts: attempts.take(MOST_ATTEMPTS).collect(),
            failures: note.failures,
            spared: note.spared.min(note.failures),
            asks: 0,
            refused: note.refused,
            stage,
            order: 0,
            item,
        };
        Ok(((letter.item.fid, kind, letter.item.archive_id), letter))
    }
}
