//! Who calls.

use std::fmt;
use std::time::Duration;

use nix::unistd::{Uid, User};
use tokio::net::UnixStream;

/// Time to find the name of a user, which may be asked of a server.
const NAME: Duration = Duration::from_secs(1);

/// The user at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(String);

impl Caller {
    /// The kernel's word, not the caller's.
    pub async fn of(stream: &UnixStream) -> Self {
        let Ok(credentials) = stream.peer_cred() else { return Self("unknown".to_owned()) };
        let uid = credentials.uid();
        if uid == 0 {
            return Self("root (uid 0)".to_owned());
        }
        let found = tokio::task::spawn_blocking(move || User::from_uid(Uid::from_raw(uid)));
        Self(match tokio::time::timeout(NAME, found).await {
            Ok(Ok(Ok(Some(user)))) => format!("{} (uid {uid})", user.name),
            _ => format!("uid {uid}"),
        })
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
