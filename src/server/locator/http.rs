//! A locator that is asked over HTTP.

use std::io;
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, Uri, header};
use hyper_util::rt::TokioIo;

/// The most that an answer may have.
const MAX_ANSWER: usize = 4 << 20;

/// Sends a POST with this JSON and gives the body of the answer. Blocks; for a thread of its own.
pub fn post(url: &str, body: Vec<u8>, timeout: Duration) -> io::Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        match tokio::time::timeout(timeout, exchange(url, body)).await {
            Ok(answer) => answer,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    })
}

async fn exchange(url: &str, body: Vec<u8>) -> io::Result<Vec<u8>> {
    let uri: Uri = url.parse().map_err(io::Error::other)?;
    let authority = uri.authority().ok_or_else(|| io::Error::other("the URL names no host"))?;
    let host = authority.host().trim_matches(['[', ']']);
    let stream = tokio::net::TcpStream::connect((host, authority.port_u16().unwrap_or(80))).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
    let connection = tokio::spawn(connection);
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::builder()
        .method(Method::POST)
        .uri(path)
        .header(header::HOST, authority.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(io::Error::other)?;
    let response = sender.send_request(request).await.map_err(io::Error::other)?;
    let status = response.status();
    let answer = Limited::new(response.into_body(), MAX_ANSWER).collect().await.map_err(io::Error::other)?;
    connection.abort();
    if !status.is_success() {
        return Err(io::Error::other(format!("it answers {status}")));
    }
    Ok(answer.to_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// Answers one request with this text; gives what it was sent.
    fn serve(answer: &'static str) -> (String, std::thread::JoinHandle<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/locate?x=1", listener.local_addr().unwrap());
        let thread = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = Vec::new();
            let mut part = [0; 4096];
            while !seen.ends_with(b"BODY") {
                let len = stream.read(&mut part).unwrap();
                if len == 0 {
                    break;
                }
                seen.extend_from_slice(&part[..len]);
            }
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8(seen).unwrap()
        });
        (url, thread)
    }

    #[test]
    fn a_question_is_posted() {
        let (url, server) = serve("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}");
        assert_eq!(post(&url, b"BODY".to_vec(), Duration::from_secs(60)).unwrap(), b"{}");
        let seen = server.join().unwrap();
        assert!(seen.starts_with("POST /locate?x=1 HTTP/1.1\r\n"), "{seen}");
        assert!(seen.to_ascii_lowercase().contains("content-type: application/json"), "{seen}");
    }

    #[test]
    fn what_is_no_answer_is_an_error() {
        let (url, _) = serve("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n");
        let error = post(&url, b"BODY".to_vec(), Duration::from_secs(60)).unwrap_err();
        assert!(error.to_string().contains("500"), "{error}");
        // Nobody accepts: the connection is made by the kernel, and then nothing comes.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let error = post(&url, Vec::new(), Duration::from_millis(50)).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(post("http://", Vec::new(), Duration::from_secs(1)).is_err());
    }
}
