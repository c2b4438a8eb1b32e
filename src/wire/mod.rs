//! The mover protocol: JSON objects over TCP, without any separator, as the C coordinatool speaks it.
//!
//! - [`decoder`] takes a stream apart into objects, whatever way it was cut;
//! - [`request`] and [`reply`] are the daemon's side, [`client`] is the side of movers and of `coordinatool-client`;
//! - [`item`] is a request inside of messages and in stores;
//! - [`outbox`] keeps what a peer is to be sent until it may be seen;
//! - [`text`] and [`layout`] write JSON as jansson does.
//!
//! Our extensions are optional members, announced in `ehlo` as
//! `"coordinatool": {"version": 1, "binary_data": true, "lease": true}`. Nothing here does I/O.

pub mod client;
pub mod decoder;
pub mod item;
pub mod layout;
pub mod outbox;
pub(crate) mod plain;
mod quick;
mod quick_queue;
pub mod reply;
pub mod request;
mod scan;
pub mod text;
mod value;

pub use client::{Failure, ReceivedList, ReplyError, ServerMessage, parse_reply};
pub use decoder::{DecodeError, Decoder, Limits};
pub use item::{Accept, ItemError, ItemStyle, parse_item, write_item};
pub use reply::{write_reply, write_work};
pub use request::{RequestError, next_known, parse_message, parse_message_with};

/// Version of our extensions of the protocol.
pub const EXTENSION_VERSION: i64 = 1;
