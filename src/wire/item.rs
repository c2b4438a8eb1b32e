//! `hsm_action_item` objects: one request as it stands in `queue`, `ehlo`, the answer to `recv`, and in redis.
//!
//! Written items always carry every field, in the order in which the C server writes the ones that Lustre handed to it.
//! (C echoes an item that came through `queue` in the order of its sender. Readers do not look at the order.)

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use lustreapi_sys::Fid;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::layout;
use super::text::{ObjectWriter, push_int, push_string};
use super::value::{AnyNumber, AnyObject, AnyString, Member, Number, any_seed, other_scalars};
use crate::hsm::{Action, ActionItem};

/// Which items a reader takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accept {
    /// Requests handed in by peers: archive, restore, remove, with an archive id. `REMOVE` may have 0, if it says so.
    Requests,
    /// All that a server may send, cancels included; `hal_archive_id` and `hal_flags` may be missing.
    Anything,
}

/// Why an item is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ItemError {
    /// Something else than an object.
    #[error("the item is not an object")]
    NotAnObject,
    /// A field that must be there is not.
    #[error("`{0}` is missing")]
    Missing(&'static str),
    /// A field has another type.
    #[error("`{field}` is not {expected}")]
    WrongType {
        /// Which.
        field: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// An action that cannot be asked for.
    #[error("`hai_action` {0} is none that can be queued")]
    BadAction(u32),
    /// A member that we do not know holds what no C program would read (an integer beyond 64 bits, say). Echoed to a C
    /// mover it would cost that its connection.
    #[error("the unknown member `{0}` holds what the C programs cannot read")]
    Unreadable(String),
    /// Archive id 0 for anything but a `REMOVE`.
    #[error("`hal_archive_id` is missing or zero")]
    NoArchiveId,
}

/// How an item is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemStyle {
    /// `", "` and `": "` as on the wire; otherwise `","` and `":"` as C stores items in redis.
    pub spaced: bool,
    /// Add `hai_data_b64` with the exact data where it is not UTF-8 and `hai_data` cannot hold it.
    pub binary_data: bool,
}

impl ItemStyle {
    /// On the wire, to a peer that may not know our extensions.
    pub const WIRE: Self = Self { spaced: true, binary_data: false };
    /// On the wire, between programs of ours. Harmless towards C, which keeps and echoes members it does not know.
    pub const WIRE_EXACT: Self = Self { spaced: true, binary_data: true };
    /// As in C's redis.
    pub const STORED: Self = Self { spaced: false, binary_data: false };
}

/// Appends `{"f_seq":..,"f_oid":..,"f_ver":..}`, signed as C packs it.
pub(super) fn write_fid(fid: Fid, spaced: bool, out: &mut Vec<u8>) {
    ObjectWriter::new(out, spaced)
        .wide("f_seq", fid.seq)
        .int("f_oid", i64::from(fid.oid as i32))
        .int("f_ver", i64::from(fid.ver as i32))
        .end();
}

#[inline(always)]
fn number(label: &str, value: i64, out: &mut Vec<u8>) {
    out.extend_from_slice(label.as_bytes());
    push_int(out, value);
}

/// Defines what appends the numbers of an item. Most of what the daemon writes are items: labels are constants with their
/// separators, and the second FID is copied where it is the first.
macro_rules! define_numbers {
    ($name:ident, $comma:literal, $colon:literal) => {
        fn $name(item: &ActionItem, out: &mut Vec<u8>) {
            let fid = |fid: Fid, out: &mut Vec<u8>| {
                number(concat!("{\"f_seq\"", $colon), fid.seq as i64, out);
                number(concat!($comma, "\"f_oid\"", $colon), i64::from(fid.oid as i32), out);
                number(concat!($comma, "\"f_ver\"", $colon), i64::from(fid.ver as i32), out);
            };
            number(concat!("{\"hai_action\"", $colon), i64::from(item.action.hsma()), out);
            out.extend_from_slice(concat!($comma, "\"hai_fid\"", $colon).as_bytes());
            let first = out.len();
            fid(item.fid, out);
            let end = out.len();
            out.extend_from_slice(concat!("}", $comma, "\"hai_dfid\"", $colon).as_bytes());
            if item.dfid == item.fid {
                out.extend_from_within(first..end);
            } else {
                fid(item.dfid, out);
            }
            let offset = concat!("}", $comma, "\"hai_extent_offset\"", $colon);
            number(offset, item.extent_offset as i64, out);
            let length = concat!($comma, "\"hai_extent_length\"", $colon);
            number(length, item.extent_length as i64, out);
            number(concat!($comma, "\"hai_cookie\"", $colon), item.cookie as i64, out);
            number(concat!($comma, "\"hai_gid\"", $colon), item.gid as i64, out);
            number(concat!($comma, "\"hal_archive_id\"", $colon), i64::from(item.archive_id), out);
            number(concat!($comma, "\"hal_flags\"", $colon), item.flags as i64, out);
        }
    };
}
define_numbers!(spaced_numbers, ", ", ": ");
define_numbers!(compact_numbers, ",", ":");

/// Appends an item. `timestamp` is left out when it is 0.
pub fn write_item(item: &ActionItem, style: ItemStyle, out: &mut Vec<u8>) {
    if style.spaced {
        spaced_numbers(item, out)
    } else {
        compact_numbers(item, out)
    }
    let mut object = ObjectWriter::inside(out, style.spaced);
    object.string("hai_data", &item.data);
    if style.binary_data && std::str::from_utf8(&item.data).is_err() {
        object.string("hai_data_b64", BASE64.encode(&item.data).as_bytes());
    }
    if !item.extra.is_empty() {
        let layout = if style.spaced { layout::spaced } else { layout::compact };
        layout(item.extra.as_bytes(), object.separate());
    }
    object.int_or_nothing("timestamp", item.timestamp).end();
}

/// Reads one item from its JSON text, as C keeps it in redis.
///
/// The outer error says that it is no JSON, the inner one what is wrong with the item.
pub fn parse_item(json: &[u8], accept: Accept) -> Result<Result<ActionItem, ItemError>, serde_json::Error> {
    let mut d = serde_json::Deserializer::from_slice(json);
    let item = ItemSeed(accept).deserialize(&mut d)?;
    d.end()?;
    Ok(item)
}

/// A FID that may be damaged.
#[derive(Debug, Default)]
pub(super) struct FidFields {
    seq: Option<Number>,
    oid: Option<Number>,
    ver: Option<Number>,
    unknown: bool,
}

impl<'de> Member<'de> for FidFields {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        let field = match key {
            "f_seq" => &mut self.seq,
            "f_oid" => &mut self.oid,
            "f_ver" => &mut self.ver,
            _ => {
                self.unknown = true;
                map.next_value::<IgnoredAny>()?;
                return Ok(());
            }
        };
        *field = Some(map.next_value_seed(AnyNumber)?);
        Ok(())
    }
}

impl FidFields {
    /// C demands exactly these three members. Numbers that need more than their 32 bits are refused, where C cuts them
    /// and ends up with another file.
    pub(super) fn fid(self) -> Option<Fid> {
        if self.unknown {
            return None;
        }
        Some(Fid::new(self.seq?.wide()?, self.oid?.narrow()?, self.ver?.narrow()?))
    }
}

/// Reads a FID; `None` for whatever is none.
pub(super) fn next_fid<'de, A: MapAccess<'de>>(map: &mut A) -> Result<Option<Fid>, A::Error> {
    Ok(map.next_value_seed(AnyObject(FidFields::default()))?.and_then(FidFields::fid))
}

/// The text of `hai_data`.
struct DataSeed;

impl<'de> Visitor<'de> for DataSeed {
    type Value = Option<Box<[u8]>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_str<E>(self, value: &str) -> Result<Self::Value, E> {
        Ok(Some(value.as_bytes().into()))
    }

    other_scalars!(None, scalars numbers seq map);
}
any_seed!(DataSeed);

/// A field: missing, or there with a good or bad value.
type Field<T> = Option<Option<T>>;

/// What was found of an item so far. Of a member that comes twice the last counts, as with jansson.
#[derive(Debug, Default)]
struct ItemFields {
    action: Field<u32>,
    fid: Field<Fid>,
    dfid: Field<Fid>,
    extent_offset: Field<u64>,
    extent_length: Field<u64>,
    cookie: Field<u64>,
    gid: Field<u64>,
    data: Field<Box<[u8]>>,
    exact_data: Field<Box<[u8]>>,
    archive_id: Field<u32>,
    flags: u64,
    timestamp: i64,
    extra: String,
    unreadable: Option<String>,
}

impl<'de> Member<'de> for ItemFields {
    fn member<A: MapAccess<'de>>(&mut self, key: &str, map: &mut A) -> Result<(), A::Error> {
        match key {
            "hai_action" => self.action = Some(map.next_value_seed(AnyNumber)?.narrow()),
            "hai_fid" => self.fid = Some(next_fid(map)?),
            "hai_dfid" => self.dfid = Some(next_fid(map)?),
            "hai_extent_offset" => self.extent_offset = Some(map.next_value_seed(AnyNumber)?.wide()),
            "hai_extent_length" => self.extent_length = Some(map.next_value_seed(AnyNumber)?.wide()),
            "hai_cookie" => self.cookie = Some(map.next_value_seed(AnyNumber)?.wide()),
            "hai_gid" => self.gid = Some(map.next_value_seed(AnyNumber)?.wide()),
            "hai_data" => self.data = Some(map.next_value_seed(DataSeed)?),
            "hai_data_b64" => {
                let text = map.next_value_seed(AnyString)?;
                self.exact_data = Some(text.and_then(|t| BASE64.decode(t.as_bytes()).ok()).map(Vec::into));
            }
            // C takes anything that is no integer for 0 in these three.
            "hal_archive_id" => {
                let number = map.next_value_seed(AnyNumber)?;
                let id = number.signed().map(|id| u32::try_from(id).ok());
                self.archive_id = if number.is_integer() { Some(id.flatten()) } else { Some(Some(0)) };
            }
            "hal_flags" => self.flags = map.next_value_seed(AnyNumber)?.wide().unwrap_or(0),
            "timestamp" => self.timestamp = map.next_value_seed(AnyNumber)?.signed().unwrap_or(0).max(0),
            _ => {
                let value = map.next_value::<&RawValue>()?;
                if key.contains('\0') || !layout::readable_by_c(value.get()) {
                    self.unreadable = Some(key.chars().take(64).collect());
                    return Ok(());
                }
                let mut text = std::mem::take(&mut self.extra).into_bytes();
                if !text.is_empty() {
                    text.push(b',');
                }
                push_string(&mut text, key.as_bytes());
                text.push(b':');
                layout::compact(value.get().as_bytes(), &mut text);
                // Only UTF-8 was put together.
                self.extra = String::from_utf8(text).unwrap_or_default();
            }
        }
        Ok(())
    }
}

fn need<T>(value: Field<T>, field: &'static str, expected: &'static str) -> Result<T, ItemError> {
    value.ok_or(ItemError::Missing(field))?.ok_or(ItemError::WrongType { field, expected })
}

impl ItemFields {
    fn item(self, accept: Accept) -> Result<ActionItem, ItemError> {
        if let Some(key) = self.unreadable {
            return Err(ItemError::Unreadable(key));
        }
        const FID: &str = "an object of f_seq, f_oid and f_ver";
        const INT: &str = "an integer";
        let number = need(self.action, "hai_action", INT)?;
        let action = Action::from_hsma(number).ok_or(ItemError::BadAction(number))?;
        let fid = need(self.fid, "hai_fid", FID)?;
        let dfid = need(self.dfid, "hai_dfid", FID)?;
        let extent_offset = need(self.extent_offset, "hai_extent_offset", INT)?;
        let extent_length = need(self.extent_length, "hai_extent_length", INT)?;
        let cookie = need(self.cookie, "hai_cookie", INT)?;
        let gid = need(self.gid, "hai_gid", INT)?;
        let text = need(self.data, "hai_data", "a string")?;
        let data = match self.exact_data {
            None => text,
            exact => need(exact, "hai_data_b64", "base64")?,
        };
        let archive_id = match self.archive_id {
            None => None,
            id => Some(need(id, "hal_archive_id", "an archive id")?),
        };
        if accept == Accept::Requests {
            if action == Action::Cancel {
                return Err(ItemError::BadAction(number));
            }
            // A REMOVE of an unlinked file has archive id 0 at the MDT.
            if archive_id.is_none() || archive_id == Some(0) && action != Action::Remove {
                return Err(ItemError::NoArchiveId);
            }
        }
        Ok(ActionItem {
            action,
            fid,
            dfid,
            extent_offset,
            extent_length,
            cookie,
            gid,
            archive_id: archive_id.unwrap_or(0),
            flags: self.flags,
            data,
            timestamp: self.timestamp,
            extra: self.extra.into(),
        })
    }
}

/// Reads an item as part of a message.
#[derive(Clone, Copy)]
pub(super) struct ItemSeed(pub(super) Accept);

impl<'de> DeserializeSeed<'de> for ItemSeed {
    type Value = Result<ActionItem, ItemError>;

    fn deserialize<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
        let fields = AnyObject(ItemFields::default()).deserialize(d)?;
        Ok(fields.ok_or(ItemError::NotAnObject).and_then(|fields| fields.item(self.0)))
    }
}
