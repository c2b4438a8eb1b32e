//! A peer of the daemon that speaks the mover protocol byte by byte: well behaved, hostile, or like a C mover.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::wait::patience;

/// One TCP connection to the daemon.
#[derive(Debug)]
pub struct Peer {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Peer {
    /// Connects; the daemon must be listening.
    pub fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience())?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, received: Vec::new() })
    }

    /// Sends bytes as they are.
    pub fn send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Sends one object.
    pub fn send(&mut self, object: &Value) {
        self.send_bytes(object.to_string().as_bytes()).expect("the daemon reads what its peers send");
    }

    /// The next object, or `None` when there is none within `patience` or the connection was closed.
    pub fn receive_within(&mut self, patience: Duration) -> Option<Value> {
        let deadline = Instant::now() + patience;
        let mut complete = true;
        loop {
            if complete && let Some(value) = self.take_received() {
                return Some(value);
            }
            let left = deadline.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            self.stream.set_read_timeout(Some(left)).expect("a positive timeout can be set");
            let mut buffer = [0; 64 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return None,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return self.take_received(),
            }
            if Instant::now() >= deadline {
                return self.take_received();
            }
            // Long answers come in many parts: not all of it is read anew with each of them.
            complete = self.received.ends_with(b"}");
        }
    }

    /// The first object of what was received, if it is complete.
    fn take_received(&mut self) -> Option<Value> {
        let mut values = serde_json::Deserializer::from_slice(&self.received).into_iter::<Value>();
        let value = values.next()?.ok()?;
        let used = values.byte_offset();
        self.received.drain(..used);
        Some(value)
    }

    /// The next object.
    ///
    /// # Panics
    /// When there is none in time.
    pub fn receive(&mut self) -> Value {
        match self.receive_within(patience()) {
            Some(value) => value,
            None => {
                panic!("no answer from the daemon; what came: {:?}", String::from_utf8_lossy(&self.received))
            }
        }
    }

    /// Sends an object and gives the answer.
    pub fn ask(&mut self, object: &Value) -> Value {
        self.send(object);
        self.receive()
    }

    /// `ehlo` of a mover with an id, of all archive ids, that holds nothing.
    pub fn ehlo(&mut self, id: &str) {
        let answer = self.ask(&json!({"command": "ehlo", "fsname": "testfs0", "id": id, "archive_ids": []}));
        assert_eq!(answer, json!({"command": "ehlo"}), "the daemon takes the mover {id}");
    }

    /// `recv` with room for `max` requests of each kind at the same time; the answer comes later.
    pub fn ask_for_work(&mut self, max: i64) {
        self.send(&json!({
            "command": "recv", "max_archive": max, "max_restore": max, "max_remove": max, "max_bytes": 1 << 20,
        }));
    }

    /// Sends `done` for an item as it was received.
    pub fn done(&mut self, item: &Value, status: i32) {
        self.send(&json!({
            "command": "done", "hai_cookie": item["hai_cookie"], "hai_dfid": item["hai_dfid"], "status": status,
        }));
    }

    /// Whether the daemon closed the connection, waiting for it.
    pub fn is_closed(&mut self) -> bool {
        let deadline = Instant::now() + patience();
        let mut buffer = [0; 4096];
        while Instant::now() < deadline {
            self.stream
                .set_read_timeout(Some(Duration::from_millis(100)))
                .expect("a positive timeout can be set");
            match self.stream.read(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => self.received.extend_from_slice(&buffer[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(_) => return true,
            }
        }
        false
    }
}
