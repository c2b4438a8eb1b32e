//! A scripted server and ways to run the client against it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)] // Each test program uses its own part.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use coordinatool::wire::decoder::{Decoder, Limits};
use serde_json::{Value, json};

/// What the server does with a message.
pub enum Act {
    Reply(String),
    Silent,
    Close,
}

pub fn reply(value: &Value) -> Act {
    Act::Reply(value.to_string())
}

/// A server on a port of its own. It lives until the test program ends.
pub struct Server {
    pub port: u16,
    messages: Receiver<Value>,
}

impl Server {
    /// Answers each message as `script` says; it gets the message and how many came before on this connection.
    pub fn start(script: impl Fn(&Value, usize) -> Act + Send + Sync + Clone + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, messages) = mpsc::channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (script, sender) = (script.clone(), sender.clone());
                thread::spawn(move || serve(stream.unwrap(), &script, &sender));
            }
        });
        Self { port, messages }
    }

    /// Greets, and answers everything else with what is given for its command, silence for what is not.
    pub fn answering(replies: Value) -> Self {
        Self::start(move |message, _| {
            let command = message["command"].as_str().unwrap();
            match replies.get(command) {
                Some(answer) => reply(answer),
                None if command == "ehlo" => reply(&json!({"command": "ehlo"})),
                None => Act::Silent,
            }
        })
    }

    /// Greets, and counts what comes in `queue`.
    pub fn counting() -> Self {
        Self::start(|message, _| match message["command"].as_str().unwrap() {
            "queue" => reply(&json!({"command": "queue", "enqueued": items(message).len()})),
            command => reply(&json!({"command": command})),
        })
    }

    /// The next message that any client sent.
    pub fn next(&self) -> Value {
        self.messages.recv().unwrap()
    }

    /// All messages that have come so far.
    pub fn received(&self) -> Vec<Value> {
        self.messages.try_iter().collect()
    }

    /// All items that came in `queue` so far.
    pub fn items(&self) -> Vec<Value> {
        let queues = self.received().into_iter().filter(|message| message["command"] == "queue");
        queues.flat_map(|message| items(&message).clone()).collect()
    }
}

pub fn items(message: &Value) -> &Vec<Value> {
    message["hsm_action_items"].as_array().unwrap()
}

fn serve(mut stream: TcpStream, script: &impl Fn(&Value, usize) -> Act, sender: &Sender<Value>) {
    let mut decoder = Decoder::new(Limits::default());
    let mut buffer = vec![0; 1 << 16];
    let mut count = 0;
    loop {
        while let Some(object) = decoder.next_object().unwrap() {
            let message: Value = serde_json::from_slice(object).unwrap();
            let act = script(&message, count);
            count += 1;
            // The test may be over.
            let _ = sender.send(message);
            match act {
                Act::Reply(reply) => drop(stream.write_all(reply.as_bytes())),
                Act::Silent => {}
                Act::Close => return drop(stream.shutdown(Shutdown::Both)),
            }
        }
        match stream.read(&mut buffer) {
            Ok(length) if length > 0 => {
                // A single byte between two messages blocks the C server.
                assert!(!buffer[..length].contains(&b'\n'), "a separator");
                decoder.push(&buffer[..length]);
            }
            _ => return,
        }
    }
}

/// What a run came to.
#[derive(Debug, PartialEq, Eq)]
pub struct Run {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// The client with an empty configuration.
pub fn client(port: u16, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_coordinatool-client"));
    command.env_clear().args(["-c", "/dev/null", "-H", "127.0.0.1", "-p"]).arg(port.to_string()).args(args);
    command
}

pub fn spawn(port: u16, args: &[&str]) -> Child {
    let mut command = client(port, args);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

/// Waits for the end of a client and collects what it printed.
pub fn finish(child: Child) -> Run {
    let output = child.wait_with_output().unwrap();
    Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// Runs the client with standard output to a pipe.
pub fn run(port: u16, args: &[&str], input: &[u8]) -> Run {
    let mut child = spawn(port, args);
    // A client that has failed no longer reads.
    let _ = child.stdin.take().unwrap().write_all(input);
    finish(child)
}

/// Runs the client with standard output to a terminal, standard error elsewhere.
pub fn run_on_terminal(port: u16, args: &[&str], input: &str) -> Run {
    let command = client(port, args);
    let words: Vec<&str> = std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_str().unwrap())
        .collect();
    let line = format!("printf '%s' '{input}' | env -i '{}' 2>/dev/null", words.join("' '"));
    let output = Command::new("script")
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .stdin(Stdio::null())
        .output()
        .expect("`script` of util-linux");
    Run {
        code: output.status.code(),
        // The terminal's own doing.
        stdout: String::from_utf8(output.stdout).unwrap().replace("\r\n", "\n"),
        stderr: String::new(),
    }
}
