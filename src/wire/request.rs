//! What peers ask the daemon.

use lustreapi_sys::Fid;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess};

use super::decoder::Decoder;
use super::item::{Accept, ItemError, ItemSeed, next_fid};
use super::quick;
use super::value::{AnyArray, AnyBool, AnyNumber, AnyObject, AnyString, Element, Member, Number};
use crate::hsm::ActionItem;
use crate::hsm::event::{Done, Ehlo, Features, Lock, Message, Queue, Recv};

/// Bytes of an id or of a file system's name. C knows no limit; host names have at most 64 characters.
pub(super) const NAME_BYTES: usize = 1024;
/// Archive ids in one `ehlo`: as many as Lustre allows for one agent (`LL_HSM_MAX_ARCHIVES_PER_AGENT`).
const ARCHIVE_IDS: usize = 1024;
/// `max_bytes` when it is not given (C 0.4).
const DEFAULT_MAX_BYTES: u64 = 1 << 20;
/// `verbose` when it is not given: `LLAPI_MSG_NORMAL`.
const DEFAULT_VERBOSE: i64 = 4;

/// Why a message cannot be answered: the connection is closed, as C does.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// No JSON after all.
    #[error("invalid JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// Another JSON value than an object.
    #[error("the message is not a JSON object")]
    NotAnObject,
    /// No `command`.
    #[error("the message has no `command`")]
    NoCommand,
    /// `command` is a number or the like.
    #[error("`command` is not a string")]
    CommandNotString,
    /// A command that nobody knows.
    #[error("unknown command `{0}`")]
    UnknownCommand(String),
    /// An id or file system name of more than 1024 bytes.
    #[error("`{0}` is longer than 1024 bytes")]
    NameTooLong(&'static str),
    /// More than 1024 archive ids.
    #[error("`archive_ids` has more than 1024 elements")]
    TooManyArchiveIds,
}

/// Reads one message of a peer.
pub fn parse_message(object: &[u8]) -> Result<Message, RequestError> {
    parse_message_with(object, |_, _, _| ())
}

/// The same, telling `bad_item` of each request in it that could not be read: the member it was in
/// (`hsm_action_items` or `hai_list`), its index there, and why. Good items are kept all the same, as C does.
pub fn parse_message_with(
    object: &[u8],
    bad_item: impl FnMut(&'static str, usize, &ItemError),
) -> Result<Message, RequestError> {
    match quick::message(object) {
        Some(message) => Ok(message),
        None => parse_any(object, bad_item),
    }
}

/// The next message, where it is one of those that come over and over, written as usual. [`Decoder::next_object`] has any.
pub fn next_known(decoder: &mut Decoder) -> Option<Message> {
    decoder.next_known(quick::front)
}

/// Reads any message.
pub(super) fn parse_any(
    object: &[u8],
    bad_item: impl FnMut(&'static str, usize, &ItemError),
) -> Result<Message, RequestError> {
    let mut d = serde_json::Deserializer::from_slice(object);
    let fields = AnyObject(Fields::new(bad_item)).deserialize(&mut d)?;
    d.end()?;
    fields.ok_or(RequestError::NotAnObject)?.message()
}

/// Archive ids of a list: C takes what is no array for an empty one.
#[derive(Debug, Default)]
struct ArchiveIds {
    ids: Vec<u32>,
    bad: bool,
    too_many: bool,
}

impl<'de> Element<'de> for ArchiveIds {
    fn element<A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<bool, A::Error> {
        let Some(number) = seq.next_element_seed(AnyNumber)? else { return Ok(false) };
        // As C: whatever is no integer counts as 0, which is no id.
        match number.signed().and_then(|id| i32::try_from(id).ok()) {
            Some(id) if id > 0 && self.ids.len() < ARCHIVE_IDS => self.ids.push(id as u32),
            Some(id) if id > 0 => self.too_many = true,
            _ => self.bad = true,
        }
        Ok(true)
    }
}

/// Items of a list, good and bad.
struct Items<'f, F> {
    member: &'static str,
    accept: Accept,
    good: Vec<ActionItem>,
    bad: usize,
    bad_item: &'f mut F,
}

impl<'de, F: FnMut(&'static str, usize, &ItemError)> Element<'de> for Items<'_, F> {
    fn element<A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<bool, A::Error> {
        match seq.next_element_seed(ItemSeed(self.accept))? {
            None => return Ok(false),
            Some(Ok(item)) => self.good.push(item),
            Some(Err(error)) => {
                (self.bad_item)(self.member, self.good.len() + self.bad, &error);
                self.bad += 1;
            }
        }
        Ok(true)
    }
}

/// Our extensions in `ehlo`.
#[derive(Default)]
struct Extensions {
    features: Features,
}

impl<'de> Member<'de> for Extensions {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let flag = match key {
            "binary_data" => &mut self.features.binary_data,
            "lease" => &mut self.features.lease,
            // Versions only ever add members, so there is nothing to compare.
            _ => {
                map.next_value::<IgnoredAny>()?;
                return Ok(());
            }
        };
        *flag = map.next_value_seed(AnyBool)?.unwrap_or(false);
        Ok(())
    }
}

/// All members that any command has: the command itself may come last, as in the C client's `queue`.
struct Fields<F> {
    bad_item: F,
    command: Option<Option<Box<str>>>,
    id: Option<Box<str>>,
    fsname: Option<Box<str>>,
    archive_ids: ArchiveIds,
    hai_list: Option<Vec<ActionItem>>,
    features: Features,
    max_archive: Option<Number>,
    max_restore: Option<Number>,
    max_remove: Option<Number>,
    max_bytes: Option<Number>,
    cookie: Option<Number>,
    dfid: Option<Fid>,
    status: Option<Number>,
    goes_on: Option<Number>,
    unheard: Option<Number>,
    items: Option<(Vec<ActionItem>, usize)>,
    locked: Option<Number>,
    verbose: Option<Number>,
    serial: Option<Number>,
}

impl<F> Fields<F> {
    fn new(bad_item: F) -> Self {
        Self {
            bad_item,
            command: None,
            id: None,
            fsname: None,
            archive_ids: ArchiveIds::default(),
            hai_list: None,
            features: Features::default(),
            max_archive: None,
            max_restore: None,
            max_remove: None,
            max_bytes: None,
            cookie: None,
            dfid: None,
            status: None,
            goes_on: None,
            unheard: None,
            items: None,
            locked: None,
            verbose: None,
            serial: None,
        }
    }
}

impl<'de, F: FnMut(&'static str, usize, &ItemError)> Member<'de> for Fields<F> {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let number = match key {
            "max_archive" => &mut self.max_archive,
            "max_restore" => &mut self.max_restore,
            "max_remove" => &mut self.max_remove,
            "max_bytes" => &mut self.max_bytes,
            "hai_cookie" => &mut self.cookie,
            "status" => &mut self.status,
            "goes_on" => &mut self.goes_on,
            "unheard" => &mut self.unheard,
            "locked" => &mut self.locked,
            "verbose" => &mut self.verbose,
            "serial" => &mut self.serial,
            _ => return self.other(key, map),
        };
        *number = Some(map.next_value_seed(AnyNumber)?);
        Ok(())
    }
}

impl<F: FnMut(&'static str, usize, &ItemError)> Fields<F> {
    fn other<'de, A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "command" => self.command = Some(map.next_value_seed(AnyString)?),
            "id" => self.id = map.next_value_seed(AnyString)?,
            "fsname" => self.fsname = map.next_value_seed(AnyString)?,
            "archive_ids" => {
                self.archive_ids = map.next_value_seed(AnyArray(ArchiveIds::default()))?.unwrap_or_default();
            }
            "hai_list" => self.hai_list = Some(self.items(map, "hai_list", Accept::Anything)?.0),
            "hsm_action_items" => {
                self.items = Some(self.items(map, "hsm_action_items", Accept::Requests)?);
            }
            "hai_dfid" => self.dfid = next_fid(map)?,
            "coordinatool" => {
                let extensions = map.next_value_seed(AnyObject(Extensions::default()))?;
                self.features = extensions.unwrap_or_default().features;
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }

    /// A list of items; as in C, what is no array counts as an empty one.
    fn items<'de, A: MapAccess<'de>>(
        &mut self,
        map: &mut A,
        member: &'static str,
        accept: Accept,
    ) -> Result<(Vec<ActionItem>, usize), A::Error> {
        let items = Items { member, accept, good: Vec::new(), bad: 0, bad_item: &mut self.bad_item };
        let items = map.next_value_seed(AnyArray(items))?;
        Ok(items.map(|items| (items.good, items.bad)).unwrap_or_default())
    }

    fn message(self) -> Result<Message, RequestError> {
        let command = self.command.as_ref().ok_or(RequestError::NoCommand)?;
        let command = command.as_deref().ok_or(RequestError::CommandNotString)?;
        match command {
            "ehlo" => self.ehlo(),
            "recv" => Ok(Message::Recv(self.recv())),
            "done" => Ok(self.done()),
            "queue" => {
                let fsname = name(self.fsname, "fsname")?;
                let (items, bad_items) = match self.items {
                    Some((items, bad)) => (Some(items), bad),
                    None => (None, 0),
                };
                Ok(Message::Queue(Queue { fsname, items, bad_items }))
            }
            // Absent and of another type both count as 0, which unlocks.
            "lock" => Ok(Message::Lock(match signed(self.locked, 0) {
                0 => Some(Lock::Unlocked),
                1 => Some(Lock::Locked),
                2 => Some(Lock::LockedQuit),
                _ => None,
            })),
            "status" => Ok(Message::Status { verbose: signed(self.verbose, DEFAULT_VERBOSE) }),
            "lease" => Ok(Message::Lease { serial: self.serial.and_then(Number::wide).unwrap_or(0) }),
            unknown => Err(RequestError::UnknownCommand(unknown.chars().take(64).collect())),
        }
    }

    fn ehlo(self) -> Result<Message, RequestError> {
        if self.archive_ids.bad {
            return Ok(Message::EhloBadArchiveId);
        }
        if self.archive_ids.too_many {
            return Err(RequestError::TooManyArchiveIds);
        }
        Ok(Message::Ehlo(Ehlo {
            id: name(self.id, "id")?.filter(|id| !id.is_empty()),
            fsname: name(self.fsname, "fsname")?,
            archive_ids: self.archive_ids.ids,
            hai_list: self.hai_list,
            features: self.features,
        }))
    }

    fn recv(&self) -> Recv {
        // Negative, absent and no integer all mean no limit.
        let limit = |value| u32::try_from(signed(value, -1).min(i64::from(u32::MAX))).ok();
        let max_bytes = match self.max_bytes {
            Some(number) if number.is_integer() => number.wide().unwrap_or(DEFAULT_MAX_BYTES),
            _ => DEFAULT_MAX_BYTES,
        };
        Recv {
            max_archive: limit(self.max_archive),
            max_restore: limit(self.max_restore),
            max_remove: limit(self.max_remove),
            max_bytes,
        }
    }

    fn done(&self) -> Message {
        let (Some(cookie), Some(dfid)) = (self.cookie.and_then(Number::wide), self.dfid) else {
            return Message::DoneIncomplete;
        };
        let status = signed(self.status, 0);
        let is_set = |number: Option<Number>| number.is_some_and(|number| signed(Some(number), 0) != 0);
        if is_set(self.goes_on) {
            return Message::GoesOn;
        }
        // No error may become a success by being cut to 32 bits.
        let status = status.clamp(i64::from(i32::MIN), i64::from(i32::MAX)) as i32;
        let done = Done { cookie, dfid, status };
        if status != 0 && is_set(self.unheard) { Message::Unheard(done) } else { Message::Done(done) }
    }
}

fn signed(number: Option<Number>, default: i64) -> i64 {
    match number {
        Some(Number::Signed(value)) => value,
        // Above i64: C would have read it as negative, if at all.
        Some(Number::Unsigned(value)) => value as i64,
        Some(Number::Other) | None => default,
    }
}

/// A name as C sees it: up to the first NUL.
fn name(text: Option<Box<str>>, member: &'static str) -> Result<Option<String>, RequestError> {
    let Some(text) = text else { return Ok(None) };
    let text = text.split('\0').next().unwrap_or_default();
    if text.len() > NAME_BYTES {
        return Err(RequestError::NameTooLong(member));
    }
    Ok(Some(text.to_owned()))
}
