//! Who is at the other end of a connection.

use std::os::fd::BorrowedFd;

use crate::mdt::Cred;

/// `CAP_SYS_ADMIN`.
const SYS_ADMIN: u32 = 21;

/// The rights of the process that connected.
///
/// A server that runs without privileges is its user's own Lustre: that user's processes may do what root may.
pub fn credentials(socket: BorrowedFd<'_>) -> Cred {
    let Ok(peer) = rustix::net::sockopt::socket_peercred(socket) else {
        return Cred::user(u32::MAX, u32::MAX);
    };
    let (uid, gid) = (peer.uid.as_raw(), peer.gid.as_raw());
    let status =
        std::fs::read_to_string(format!("/proc/{}/status", peer.pid.as_raw_nonzero())).unwrap_or_default();
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    let mut gids = vec![gid];
    gids.extend(
        field("Groups:").unwrap_or_default().split_whitespace().filter_map(|g| g.parse::<u32>().ok()),
    );
    let admin = match field("CapEff:").and_then(|caps| u64::from_str_radix(caps, 16).ok()) {
        Some(caps) => caps & (1 << SYS_ADMIN) != 0,
        None => uid == 0,
    };
    let server = rustix::process::geteuid();
    let own = !server.is_root() && uid == server.as_raw();
    Cred { uid, gids, admin: admin || own }
}
