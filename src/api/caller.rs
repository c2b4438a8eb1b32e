//! Who calls.

use std::fmt;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use nix::unistd::{Uid, User};
use tokio::net::UnixListener;

/// The user at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(String);

impl Connected<IncomingStream<'_, UnixListener>> for Caller {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        // The kernel's word, not the caller's.
        match stream.io().peer_cred() {
            Ok(credentials) => Self(name(credentials.uid())),
            Err(_) => Self("unknown".to_owned()),
        }
    }
}

fn name(uid: u32) -> String {
    match User::from_uid(Uid::from_raw(uid)) {
        Ok(Some(user)) => format!("{} (uid {uid})", user.name),
        _ => format!("uid {uid}"),
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
