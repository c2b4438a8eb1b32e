//! Hosts that are off answer nothing, while the kernel of this machine answers for every loopback address. So while a host is
//! off, a listener whose queue is full stands at its agent's port: who calls there gets no answer.

use std::collections::BTreeMap;
use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, listen, socket_with, sockopt};

/// Makes hosts dark for as long as `DIR/power/HOST` says that they are off; `DIR/dark/HOST` is there while they are.
#[derive(Debug)]
pub(super) struct Darkness {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Darkness {
    /// Begins, for these hosts.
    pub(super) fn over(directory: &Path, hosts: BTreeMap<String, SocketAddr>) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, directory) = (Arc::clone(&stop), directory.to_owned());
        let thread = std::thread::spawn(move || {
            let mut dark = BTreeMap::new();
            while !stopped.load(Ordering::Relaxed) {
                for (host, address) in &hosts {
                    look(&directory, host, *address, &mut dark);
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        Self { stop, thread: Some(thread) }
    }
}

impl Drop for Darkness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Where it is said that a host is dark.
pub(super) fn sign(directory: &Path, host: &str) -> PathBuf {
    directory.join("dark").join(host)
}

fn look(directory: &Path, host: &str, address: SocketAddr, dark: &mut BTreeMap<String, Option<Wall>>) {
    let off = fs::read_to_string(directory.join("power").join(host)).is_ok_and(|text| text.trim() == "off");
    match (off, dark.contains_key(host)) {
        (true, false) => match Wall::build(address) {
            Ok(wall) => {
                dark.insert(host.to_owned(), Some(wall));
                let _ = fs::write(sign(directory, host), "");
            }
            // It has a network of its own, which nobody answers for.
            Err(ErrorKind::AddrNotAvailable) => {
                dark.insert(host.to_owned(), None);
                let _ = fs::write(sign(directory, host), "");
            }
            // Its agent is about to die.
            Err(_) => {}
        },
        (false, true) => {
            dark.remove(host);
            let _ = fs::remove_file(sign(directory, host));
        }
        _ => {}
    }
}

/// A port that does not answer.
#[derive(Debug)]
struct Wall {
    _listener: OwnedFd,
    _first: TcpStream,
}

impl Wall {
    fn build(address: SocketAddr) -> Result<Self, ErrorKind> {
        let kind = |error: rustix::io::Errno| std::io::Error::from(error).kind();
        let listener =
            socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::CLOEXEC, None).map_err(kind)?;
        sockopt::set_socket_reuseaddr(&listener, true).map_err(kind)?;
        bind(&listener, &address).map_err(kind)?;
        // The first fills the queue; then the kernel drops whatever comes.
        listen(&listener, 0).map_err(kind)?;
        let first =
            TcpStream::connect_timeout(&address, Duration::from_secs(5)).map_err(|error| error.kind())?;
        Ok(Self { _listener: listener, _first: first })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wall_does_not_answer() {
        // An address that nobody else takes ports of.
        let free = std::net::TcpListener::bind("127.91.82.73:0").unwrap().local_addr().unwrap();
        let wall = Wall::build(free).unwrap();
        let called = TcpStream::connect_timeout(&free, Duration::from_millis(100));
        assert_eq!(called.unwrap_err().kind(), ErrorKind::TimedOut);
        drop(wall);
        assert_eq!(TcpStream::connect(free).unwrap_err().kind(), ErrorKind::ConnectionRefused);
    }
}
