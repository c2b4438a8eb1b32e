//! A little HTTP/1.1 over a unix socket.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

/// What came back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The code.
    pub code: u16,
    /// The body.
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// What is in the envelope of our API.
    pub fn response<T: DeserializeOwned>(&self) -> T {
        let response = self.json()["response"].take();
        serde_json::from_value(response).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }

    /// All errors in the envelope of our API, one a line.
    pub fn errors(&self) -> String {
        let json = self.json();
        let errors = json["errors"].as_array().into_iter().flatten();
        errors.filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
    }
}

/// Asks, and reads the whole answer.
///
/// # Errors
/// When there is nobody to ask, or the answer is cut off.
pub fn ask(socket: &Path, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(Duration::from_secs(90)))?;
    ask_on(stream, method, path, body)
}

/// The same over a connection of any kind.
///
/// # Errors
/// When the answer is cut off.
pub fn ask_on(mut stream: impl Read + Write, method: &str, path: &str, body: &str) -> io::Result<Answer> {
    let kind = if body.is_empty() { "" } else { "content-type: application/json\r\n" };
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{kind}content-length: {length}\r\n\r\n{body}"
    )?;
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let wrong = || io::Error::new(io::ErrorKind::InvalidData, format!("no answer: {text:?}"));
    let (head, body) = text.split_once("\r\n\r\n").ok_or_else(wrong)?;
    let code = head.split(' ').nth(1).and_then(|code| code.parse().ok()).ok_or_else(wrong)?;
    let said = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        if name.eq_ignore_ascii_case("content-length") { value.trim().parse::<usize>().ok() } else { None }
    });
    if said.is_some_and(|said| said != body.len()) {
        return Err(wrong());
    }
    let head = head.to_ascii_lowercase();
    let body = if head.contains("transfer-encoding: chunked") {
        unchunk(body).ok_or_else(wrong)?
    } else {
        body.to_owned()
    };
    Ok(Answer { code, body })
}

/// A body that came in chunks; `None` for one that is cut off.
fn unchunk(mut rest: &str) -> Option<String> {
    let mut body = String::new();
    loop {
        let (size, behind) = rest.split_once("\r\n")?;
        let size = usize::from_str_radix(size, 16).ok()?;
        if size == 0 {
            return Some(body);
        }
        body.push_str(behind.get(..size)?);
        rest = behind.get(size..)?.strip_prefix("\r\n")?;
    }
}
