//! Who calls, and what that lets them do.

use std::fmt;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use axum::http::{Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use nix::unistd::{Gid, Uid, User, getgrouplist};
use tokio::net::UnixStream;

use super::envelope::Problem;
use crate::server::security::Access;

/// Time to find the name and the groups of a user, which may be asked of a server.
const NAME: Duration = Duration::from_secs(1);

/// What is read of a body that nobody looks at, in bytes.
const MAX_IGNORED: usize = 64 * 1024;

/// Whose a socket is, besides root's and the daemon's own user's.
#[derive(Debug, Clone, Copy, Default)]
pub struct Groups {
    /// Its members may do everything.
    pub admin: Option<Gid>,
    /// Its members may look.
    pub read_only: Option<Gid>,
}

/// The user at the other end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller {
    name: String,
    /// `None`: nothing.
    access: Option<Access>,
}

impl Caller {
    /// The kernel's word, not the caller's.
    pub async fn of(stream: &UnixStream, groups: Groups) -> Self {
        let Ok(peer) = stream.peer_cred() else {
            return Self { name: "unknown".to_owned(), access: None };
        };
        let uid = Uid::from_raw(peer.uid());
        if uid.is_root() {
            return Self { name: "root (uid 0)".to_owned(), access: Some(Access::Admin) };
        }
        let primary = Gid::from_raw(peer.gid());
        let found = tokio::task::spawn_blocking(move || known(uid));
        let (name, mut member_of) = match tokio::time::timeout(NAME, found).await {
            Ok(Ok(Some((name, groups)))) => (format!("{name} (uid {uid})"), groups),
            _ => (format!("uid {uid}"), Vec::new()),
        };
        member_of.push(primary);
        let owns = uid == Uid::effective();
        Self { name, access: access(owns, &member_of, groups) }
    }

    /// For who is not asked.
    #[cfg(test)]
    fn with(access: Option<Access>) -> Self {
        Self { name: "somebody".to_owned(), access }
    }
}

/// Name and groups of a user.
fn known(uid: Uid) -> Option<(String, Vec<Gid>)> {
    let user = User::from_uid(uid).ok().flatten()?;
    let name = std::ffi::CString::new(user.name.clone()).ok()?;
    Some((user.name, getgrouplist(&name, user.gid).unwrap_or_default()))
}

/// What a member of these groups may do.
fn access(owns: bool, member_of: &[Gid], groups: Groups) -> Option<Access> {
    if groups.read_only.is_none() {
        // The socket is its owner's and its group's: the kernel let in nobody else.
        return Some(Access::Admin);
    }
    let is_in = |group: Option<Gid>| group.is_some_and(|group| member_of.contains(&group));
    if owns || is_in(groups.admin) {
        Some(Access::Admin)
    } else {
        is_in(groups.read_only).then_some(Access::ReadOnly)
    }
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.name)
    }
}

/// Lets through what the caller may do: whoever may only look gets what is read.
pub async fn guard(ConnectInfo(caller): ConnectInfo<Caller>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match caller.access {
        Some(Access::Admin) => next.run(request).await,
        Some(_) if reads => next.run(request).await,
        _ => {
            let (method, path) = (request.method(), request.uri().path());
            let why = match caller.access {
                Some(_) => "may only look",
                None => "is in no group that may use this socket",
            };
            tracing::warn!(%caller, %method, path, "refused: the caller {why}");
            // Read, so that a client that is still writing gets the answer instead of a broken pipe.
            let body = axum::body::to_bytes(request.into_body(), MAX_IGNORED);
            let _ = tokio::time::timeout(NAME, body).await;
            Problem::new(StatusCode::FORBIDDEN, format!("{caller} {why}")).into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::routing::get;
    use hyper::service::Service;
    use hyper_util::service::TowerToHyperService;

    use super::*;

    #[test]
    fn groups_say_what_their_members_may() {
        let (admin, reader, other) = (Gid::from_raw(10), Gid::from_raw(11), Gid::from_raw(12));
        let groups = Groups { admin: Some(admin), read_only: Some(reader) };
        assert_eq!(access(true, &[other], groups), Some(Access::Admin), "whoever runs the daemon");
        assert_eq!(access(false, &[other, admin, reader], groups), Some(Access::Admin));
        assert_eq!(access(false, &[other, reader], groups), Some(Access::ReadOnly));
        assert_eq!(access(false, &[other], groups), None);
        assert_eq!(access(false, &[other], Groups { admin: None, ..groups }), None);
        assert_eq!(access(false, &[other], Groups { read_only: None, ..groups }), Some(Access::Admin));
    }

    #[tokio::test]
    async fn who_may_look_reads_and_nothing_else() {
        for (access, reads, acts) in
            [(Some(Access::Admin), 200, 200), (Some(Access::ReadOnly), 200, 403), (None, 403, 403)]
        {
            let router = Router::new().route("/", get(async || "").post(async || ""));
            let router = router.layer(axum::middleware::from_fn(guard));
            let service =
                TowerToHyperService::new(router.layer(axum::Extension(ConnectInfo(Caller::with(access)))));
            for (method, want) in [(Method::GET, reads), (Method::POST, acts), (Method::PATCH, acts)] {
                let request = Request::builder().method(method.clone()).uri("/").body(Body::empty()).unwrap();
                let code = service.call(request).await.unwrap().status().as_u16();
                // Nobody has a PATCH here; it is refused before that is found out.
                let want = if method == Method::PATCH && want == 200 { 405 } else { want };
                assert_eq!(code, want, "{access:?} {method}");
            }
        }
    }
}
