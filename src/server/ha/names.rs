//! Addresses of hosts. A name service that hangs, perhaps since its server is on the host that failed, must hold up nobody: what
//! it said before is good enough, and only so many threads wait for it.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;

/// Names that are looked up at once.
const AT_ONCE: usize = 16;
/// How long a known name may take, before what was known is used.
const PATIENCE: Duration = Duration::from_secs(1);

static LOOKUPS: LazyLock<Arc<Semaphore>> = LazyLock::new(|| Arc::new(Semaphore::new(AT_ONCE)));
static KNOWN: LazyLock<Mutex<HashMap<String, Vec<IpAddr>>>> = LazyLock::new(Mutex::default);

/// All addresses of a name.
///
/// # Errors
/// When the name service says that there is none, or cannot say anything, and there was none before.
pub async fn addresses(name: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    addresses_by(name, port, |name| {
        (name, 0).to_socket_addrs().map(|found| found.map(|address| address.ip()).collect())
    })
    .await
}

async fn addresses_by(
    name: &str,
    port: u16,
    look: impl FnOnce(&str) -> io::Result<Vec<IpAddr>> + Send + 'static,
) -> io::Result<Vec<SocketAddr>> {
    let with_port = |found: Vec<IpAddr>| found.into_iter().map(|ip| SocketAddr::new(ip, port)).collect();
    if let Ok(address) = name.trim_start_matches('[').trim_end_matches(']').parse() {
        return Ok(with_port(vec![address]));
    }
    let known = known().get(name).cloned();
    let looking = look_up(name.to_owned(), look);
    let Some(known) = known else { return looking.await.map(with_port) };
    match tokio::time::timeout(PATIENCE, looking).await {
        Ok(Ok(found)) => Ok(with_port(found)),
        Ok(Err(error)) => {
            tracing::debug!("{name}: {error}: what was known before is used");
            Ok(with_port(known))
        }
        Err(_) => Ok(with_port(known)),
    }
}

async fn look_up(
    name: String,
    look: impl FnOnce(&str) -> io::Result<Vec<IpAddr>> + Send + 'static,
) -> io::Result<Vec<IpAddr>> {
    let permit = Arc::clone(&LOOKUPS).acquire_owned().await.map_err(io::Error::other)?;
    let looking = tokio::task::spawn_blocking(move || {
        // Held until the name service has answered, whether anybody still waits for it or not.
        let _permit = permit;
        let mut found = look(&name)?;
        found.dedup();
        if !found.is_empty() {
            known().insert(name, found.clone());
        }
        Ok(found)
    });
    looking.await.map_err(io::Error::other)?
}

fn known() -> std::sync::MutexGuard<'static, HashMap<String, Vec<IpAddr>>> {
    KNOWN.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_known_is_used_when_the_name_service_fails_or_hangs() {
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let expected = [SocketAddr::new(ip, 7)];
        assert!(addresses_by("a.test", 7, |_| Err(io::Error::other("down"))).await.is_err());
        assert_eq!(addresses_by("a.test", 7, move |_| Ok(vec![ip, ip])).await.unwrap(), expected);
        assert_eq!(addresses_by("a.test", 7, |_| Err(io::Error::other("down"))).await.unwrap(), expected);
        let (release, hanging) = std::sync::mpsc::channel::<()>();
        let hang = move |_: &str| {
            let _ = hanging.recv();
            Err(io::Error::other("down"))
        };
        assert_eq!(addresses_by("a.test", 7, hang).await.unwrap(), expected);
        drop(release);
    }

    #[tokio::test]
    async fn addresses_need_no_name_service() {
        for (name, address) in
            [("192.0.2.1", "192.0.2.1:7"), ("::1", "[::1]:7"), ("[fd00::1]", "[fd00::1]:7")]
        {
            let nobody = |_: &str| Err(io::Error::other("asked"));
            assert_eq!(addresses_by(name, 7, nobody).await.unwrap(), [address.parse().unwrap()]);
        }
    }
}
