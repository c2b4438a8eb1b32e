//! The side of movers and of `coordinatool-client`: writes requests with the members and the order of the C client, reads
//! answers of both servers.

use lustreapi_sys::Fid;
use lustreapi_sys::abi::HAL_VERSION;
use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess};

use super::EXTENSION_VERSION;
use super::item::{Accept, ItemError, ItemSeed, ItemStyle, next_fid, write_fid, write_item};
use super::text::{ObjectWriter, push_int};
use super::value::{AnyArray, AnyNumber, AnyObject, AnyString, Element, Member, Number};
use crate::hsm::effect::EhloReply;
use crate::hsm::event::{Ehlo, Features, Lock};
use crate::hsm::{ActionItem, RequestKey};

/// Appends `ehlo`. Names and lists that are empty are left out, as are the extensions when no feature is set.
pub fn write_ehlo(ehlo: &Ehlo, out: &mut Vec<u8>) {
    let mut object = ObjectWriter::new(out, true);
    object
        .string("command", b"ehlo")
        .string_or_nothing("fsname", ehlo.fsname.as_deref().unwrap_or_default().as_bytes());
    if let Some(items) = ehlo.hai_list.as_deref().filter(|items| !items.is_empty()) {
        write_items(items, object.key("hai_list"));
    }
    if !ehlo.archive_ids.is_empty() {
        let out = object.key("archive_ids");
        for (i, id) in ehlo.archive_ids.iter().enumerate() {
            out.extend_from_slice(if i == 0 { b"[" } else { b", " });
            push_int(out, i64::from(*id));
        }
        out.push(b']');
    }
    object.string_or_nothing("id", ehlo.id.as_deref().unwrap_or_default().as_bytes());
    if ehlo.features != Features::default() {
        let mut ours = ObjectWriter::new(object.key("coordinatool"), true);
        ours.int("version", EXTENSION_VERSION);
        for (name, set) in [("binary_data", ehlo.features.binary_data), ("lease", ehlo.features.lease)] {
            if set {
                ours.key(name).extend_from_slice(b"true");
            }
        }
        ours.end();
    }
    object.end();
}

fn write_items(items: &[ActionItem], out: &mut Vec<u8>) {
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.extend_from_slice(b", ");
        }
        write_item(item, ItemStyle::WIRE_EXACT, out);
    }
    out.push(b']');
}

/// Appends `recv`. Limits of -1 mean none.
pub fn write_recv(max_archive: i32, max_restore: i32, max_remove: i32, max_bytes: u32, out: &mut Vec<u8>) {
    ObjectWriter::new(out, true)
        .string("command", b"recv")
        .int("max_archive", i64::from(max_archive))
        .int("max_restore", i64::from(max_restore))
        .int("max_remove", i64::from(max_remove))
        .int("max_bytes", i64::from(max_bytes))
        .end();
}

fn begin_done(cookie: u64, dfid: Fid, status: i32, out: &mut Vec<u8>) -> ObjectWriter<'_> {
    let mut object = ObjectWriter::new(out, true);
    write_fid(dfid, true, object.string("command", b"done").wide("hai_cookie", cookie).key("hai_dfid"));
    object.int("status", i64::from(status));
    object
}

/// Appends `done`, with all 64 bits of the cookie (C movers cut it to 32).
pub fn write_done(cookie: u64, dfid: Fid, status: i32, out: &mut Vec<u8>) {
    begin_done(cookie, dfid, status, out).end();
}

/// Appends `done` of a mover that cannot cancel what it was told to cancel: it goes on with that. A C server takes it for
/// the end, as from a C mover; ours knows by the extra member that it is none.
pub fn write_goes_on(cookie: u64, dfid: Fid, status: i32, out: &mut Vec<u8>) {
    begin_done(cookie, dfid, status, out).int("goes_on", 1).end();
}

/// Appends `done` of a copytool that succeeded while the MDT did not take its end: `status` is what the MDT said. A C server
/// takes it for any failure; ours knows by the extra member that the work is done.
pub fn write_unheard(cookie: u64, dfid: Fid, status: i32, out: &mut Vec<u8>) {
    begin_done(cookie, dfid, status, out).int("unheard", 1).end();
}

/// Appends `lock`.
pub fn write_lock(lock: Lock, out: &mut Vec<u8>) {
    let value = match lock {
        Lock::Unlocked => 0,
        Lock::Locked => 1,
        Lock::LockedQuit => 2,
    };
    ObjectWriter::new(out, true).string("command", b"lock").int("locked", value).end();
}

/// Appends `status`.
pub fn write_status(verbose: i64, out: &mut Vec<u8>) {
    ObjectWriter::new(out, true).string("command", b"status").int("verbose", verbose).end();
}

/// Appends `lease`, which only servers that granted one in `ehlo` understand (C closes the connection).
pub fn write_lease(serial: u64, out: &mut Vec<u8>) {
    ObjectWriter::new(out, true).string("command", b"lease").wide("serial", serial).end();
}

/// Writes one `queue` bit by bit: the caller may send and empty the buffer between any two calls.
#[derive(Debug)]
pub struct QueueWriter {
    items: usize,
}

impl QueueWriter {
    /// Begins the message. With a file system the server refuses the items if it serves another one.
    ///
    /// The name is sent as `fsname`, which servers check. The C client sends it as `hal_fsname`, which none reads.
    pub fn begin(fsname: Option<&str>, out: &mut Vec<u8>) -> Self {
        ObjectWriter::new(out, true)
            .string_or_nothing("fsname", fsname.unwrap_or_default().as_bytes())
            .key("hsm_action_items")
            .push(b'[');
        Self { items: 0 }
    }

    /// Adds an item.
    pub fn item(&mut self, item: &ActionItem, out: &mut Vec<u8>) {
        if self.items > 0 {
            out.extend_from_slice(b", ");
        }
        self.items += 1;
        write_item(item, ItemStyle::WIRE_EXACT, out);
    }

    /// Items so far.
    pub fn len(&self) -> usize {
        self.items
    }

    /// Whether there is no item yet.
    pub fn is_empty(&self) -> bool {
        self.items == 0
    }

    /// Ends the message. The server acts only now.
    pub fn end(self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"], \"command\": \"queue\"}");
    }
}

/// A server's refusal.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{} (status {status})", if error.is_empty() { "no detail" } else { error })]
pub struct Failure {
    /// Never 0. An errno, of either sign.
    pub status: i64,
    /// What the server said, may be empty.
    pub error: String,
}

/// A list of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceivedList {
    /// Archive id of all items.
    pub archive_id: u32,
    /// Flags of all items.
    pub flags: u64,
    /// Name of the file system.
    pub fsname: String,
    /// In the order of the server; cancels among them.
    pub items: Vec<ActionItem>,
}

/// An answer of a server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerMessage {
    /// To `ehlo`. A server that grants no lease gives 0 for it: C, and ours where the peer announced no feature.
    Ehlo(Result<EhloReply, Failure>),
    /// To `recv`.
    Recv(Result<ReceivedList, Failure>),
    /// To `done`. C also answers an `ehlo` with bad archive ids so.
    Done(Result<(), Failure>),
    /// To `queue`. Even with a failure some items may have been taken.
    Queue {
        /// How many were queued.
        enqueued: u64,
        /// How many the server knew already.
        skipped: u64,
        /// What went wrong.
        failure: Option<Failure>,
    },
    /// To `lock`.
    Lock(Result<(), Failure>),
    /// To `status`: what it says is read from, or shown as, the object itself.
    Status(Result<(), Failure>),
    /// To `lease`.
    Lease(Result<LeaseReply, Failure>),
}

/// A prolonged lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaseReply {
    /// Of the request.
    pub serial: u64,
    /// Milliseconds from when that request was sent.
    pub lease_ms: u64,
}

/// Why an answer is none. The connection is out of step and must be closed.
#[derive(Debug, thiserror::Error)]
pub enum ReplyError {
    /// No JSON after all.
    #[error("invalid JSON from the server: {0}")]
    Json(#[from] serde_json::Error),
    /// No object, no `command`, or none that we know.
    #[error("answer of the server with unknown command `{0}`")]
    UnknownCommand(String),
    /// The answer to `recv` has no list, and no error either.
    #[error("answer to recv without `{0}`")]
    NoList(&'static str),
    /// A list of another version.
    #[error("list of version {0}, only {HAL_VERSION} is known")]
    ListVersion(i64),
    /// An item that cannot be understood. As a mover cannot tell the server which one, it takes none of the list.
    #[error("item {index} of the list: {error}")]
    Item {
        /// Which.
        index: usize,
        /// Why.
        error: ItemError,
    },
}

/// Reads one answer of a server.
pub fn parse_reply(object: &[u8]) -> Result<ServerMessage, ReplyError> {
    let mut d = serde_json::Deserializer::from_slice(object);
    let fields = AnyObject(Fields::default()).deserialize(&mut d)?;
    d.end()?;
    fields.ok_or_else(|| ReplyError::UnknownCommand(String::new()))?.message()
}

#[derive(Default)]
struct Fields {
    command: Option<Box<str>>,
    status: i64,
    error: Option<Box<str>>,
    list: Option<ListFields>,
    enqueued: u64,
    skipped: u64,
    serial: u64,
    lease_ms: u64,
    extensions: Extensions,
}

fn int(number: Number) -> i64 {
    number.signed().unwrap_or(0)
}

fn count(number: Number) -> u64 {
    u64::try_from(int(number)).unwrap_or(0)
}

impl<'de> Member<'de> for Fields {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "command" => self.command = map.next_value_seed(AnyString)?,
            "status" => self.status = int(map.next_value_seed(AnyNumber)?),
            "error" => self.error = map.next_value_seed(AnyString)?,
            "hsm_action_list" => self.list = map.next_value_seed(AnyObject(ListFields::default()))?,
            "enqueued" => self.enqueued = count(map.next_value_seed(AnyNumber)?),
            "skipped" => self.skipped = count(map.next_value_seed(AnyNumber)?),
            "serial" => self.serial = map.next_value_seed(AnyNumber)?.wide().unwrap_or(0),
            "lease_ms" => self.lease_ms = count(map.next_value_seed(AnyNumber)?),
            "coordinatool" => {
                let ours = map.next_value_seed(AnyObject(Extensions::default()))?;
                self.extensions = ours.unwrap_or_default();
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl Fields {
    fn message(self) -> Result<ServerMessage, ReplyError> {
        let failure = (self.status != 0)
            .then(|| Failure { status: self.status, error: self.error.unwrap_or_default().into() });
        fn result<T>(failure: Option<Failure>, value: T) -> Result<T, Failure> {
            failure.map_or(Ok(value), Err)
        }
        let command = self.command.unwrap_or_default();
        Ok(match &*command {
            "ehlo" => {
                let Extensions { lease_ms, refused } = self.extensions;
                ServerMessage::Ehlo(result(failure, EhloReply { lease_ms, refused: refused.keys }))
            }
            "recv" => ServerMessage::Recv(match failure {
                Some(failure) => Err(failure),
                None => Ok(self.list.ok_or(ReplyError::NoList("hsm_action_list"))?.list()?),
            }),
            "done" => ServerMessage::Done(result(failure, ())),
            "queue" => ServerMessage::Queue { enqueued: self.enqueued, skipped: self.skipped, failure },
            "lock" => ServerMessage::Lock(result(failure, ())),
            "status" => ServerMessage::Status(result(failure, ())),
            "lease" => {
                let lease = LeaseReply { serial: self.serial, lease_ms: self.lease_ms };
                ServerMessage::Lease(result(failure, lease))
            }
            unknown => return Err(ReplyError::UnknownCommand(unknown.chars().take(64).collect())),
        })
    }
}

/// Members of `hsm_action_list`.
#[derive(Default)]
struct ListFields {
    version: i64,
    archive_id: u32,
    flags: u64,
    fsname: Option<Box<str>>,
    items: Option<ListItems>,
}

impl<'de> Member<'de> for ListFields {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "hal_version" => self.version = int(map.next_value_seed(AnyNumber)?),
            "hal_archive_id" => self.archive_id = map.next_value_seed(AnyNumber)?.narrow().unwrap_or(0),
            "hal_flags" => self.flags = map.next_value_seed(AnyNumber)?.wide().unwrap_or(0),
            "hal_fsname" => self.fsname = map.next_value_seed(AnyString)?,
            "list" => self.items = map.next_value_seed(AnyArray(ListItems::default()))?,
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl ListFields {
    fn list(self) -> Result<ReceivedList, ReplyError> {
        if self.version != i64::from(HAL_VERSION) {
            return Err(ReplyError::ListVersion(self.version));
        }
        let fsname = self.fsname.ok_or(ReplyError::NoList("hal_fsname"))?.into();
        let items = self.items.ok_or(ReplyError::NoList("list"))?;
        if let Some((index, error)) = items.bad {
            return Err(ReplyError::Item { index, error });
        }
        Ok(ReceivedList { archive_id: self.archive_id, flags: self.flags, fsname, items: items.good })
    }
}

/// Items of a list, and the first bad one.
#[derive(Default)]
struct ListItems {
    good: Vec<ActionItem>,
    bad: Option<(usize, ItemError)>,
}

impl<'de> Element<'de> for ListItems {
    fn element<A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<bool, A::Error> {
        match seq.next_element_seed(ItemSeed(Accept::Anything))? {
            None => return Ok(false),
            Some(Ok(item)) => self.good.push(item),
            Some(Err(error)) => {
                let index = self.good.len();
                self.bad.get_or_insert((index, error));
            }
        }
        Ok(true)
    }
}

/// What a server of ours adds to its answer to `ehlo`.
#[derive(Default)]
struct Extensions {
    lease_ms: u64,
    refused: Refused,
}

#[derive(Default)]
struct Refused {
    keys: Vec<RequestKey>,
}

impl<'de> Member<'de> for Extensions {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "lease_ms" => self.lease_ms = count(map.next_value_seed(AnyNumber)?),
            "refused" => {
                self.refused = map.next_value_seed(AnyArray(Refused::default()))?.unwrap_or_default()
            }
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

#[derive(Default)]
struct RefusedKey {
    cookie: Option<u64>,
    fid: Option<Fid>,
}

impl<'de> Member<'de> for RefusedKey {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "hai_cookie" => self.cookie = map.next_value_seed(AnyNumber)?.wide(),
            "hai_fid" => self.fid = next_fid(map)?,
            _ => {
                map.next_value::<IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

impl<'de> Element<'de> for Refused {
    fn element<A: SeqAccess<'de>>(&mut self, seq: &mut A) -> Result<bool, A::Error> {
        let Some(key) = seq.next_element_seed(AnyObject(RefusedKey::default()))? else { return Ok(false) };
        if let Some(RefusedKey { cookie: Some(cookie), fid: Some(fid) }) = key {
            self.keys.push(RequestKey { cookie, fid });
        }
        Ok(true)
    }
}
