//! A played manager: HTTP/1.1 on a unix socket, answers from a script. And ways to run the programs against it.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)] // Each test uses its own part.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

/// What the manager was asked.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub body: Value,
}

/// What it says.
pub enum Say {
    /// A code and a body.
    Answer(u16, String),
    /// Nothing, for as long as the other side waits.
    Nothing,
    /// The connection breaks.
    Break,
}

/// A good answer in the envelope.
pub fn good(response: Value) -> Say {
    Say::Answer(200, json!({"errors": [], "response": response, "success": true}).to_string())
}

/// A refusal in the envelope.
pub fn refused(code: u16, errors: &[&str]) -> Say {
    Say::Answer(code, json!({"errors": errors, "response": null, "success": false}).to_string())
}

/// A command was accepted.
pub fn accepted(id: u64, consequences: &[&str]) -> Say {
    good(json!({"command": id, "consequences": consequences}))
}

/// How far a command is.
pub fn command(id: u64, progress: Value) -> Say {
    good(json!({"id": id, "what": "x", "by": "root", "reason": null, "at": 0, "progress": progress}))
}

pub fn running(doing: &str) -> Value {
    json!({"state": "running", "doing": doing})
}

pub fn done(result: &str) -> Value {
    json!({"state": "done", "result": result})
}

/// It serves until the test program ends.
pub struct Manager {
    pub directory: TempDir,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Manager {
    /// Answers as `script` says; it gets the question and how many there were before.
    pub fn start(script: impl Fn(&Asked, usize) -> Say + Send + Sync + 'static) -> Self {
        let directory = TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join("ha.sock")).unwrap();
        let asked: Arc<Mutex<Vec<Asked>>> = Arc::default();
        let (known, script) = (asked.clone(), Arc::new(script));
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (known, script) = (known.clone(), script.clone());
                thread::spawn(move || serve(stream.unwrap(), &known, &*script));
            }
        });
        Self { directory, asked }
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("ha.sock")
    }

    /// All questions until now.
    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Those that changed something.
    pub fn posts(&self) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.method != "GET").collect()
    }

    pub fn ha(&self, arguments: &[&str]) -> Ran {
        run(self.ha_command(arguments))
    }

    pub fn ha_command(&self, arguments: &[&str]) -> Command {
        let mut command = program("coordinatool-client");
        command.arg("ha").args(arguments).env("COORDINATOOL_HA_SOCKET", self.socket());
        command
    }

    pub fn halo(&self, arguments: &[&str]) -> Ran {
        let mut command = program("halo");
        command.args(arguments).env("HALO_SOCKET", self.socket());
        run(command)
    }
}

fn serve(
    stream: UnixStream,
    known: &Mutex<Vec<Asked>>,
    script: &(dyn Fn(&Asked, usize) -> Say + Send + Sync),
) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut first = String::new();
    if reader.read_line(&mut first).unwrap_or(0) == 0 {
        return;
    }
    let mut length = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        if line.trim().is_empty() {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap();
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    let mut words = first.split(' ');
    let asked = Asked {
        method: words.next().unwrap().to_owned(),
        path: words.next().unwrap().to_owned(),
        body: serde_json::from_slice(&body).unwrap_or(Value::Null),
    };
    let before = {
        let mut known = known.lock().unwrap();
        known.push(asked.clone());
        known.len() - 1
    };
    let mut stream = stream;
    match script(&asked, before) {
        Say::Answer(code, body) => {
            let head =
                format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            // The other side may have gone.
            let _ = stream.write_all((head + &body).as_bytes());
        }
        Say::Nothing => {
            // Until the other side closes.
            let _ = reader.read(&mut [0]);
        }
        Say::Break => {}
    }
}

/// How a program ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    pub code: Option<i32>,
    pub out: String,
    pub err: String,
}

impl From<Output> for Ran {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            out: String::from_utf8(output.stdout).unwrap(),
            err: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

/// A program of this build, or of the system, in an environment without what would steer it.
pub fn program(name: &str) -> Command {
    let mut command = Command::new(match name {
        "halo" => env!("CARGO_BIN_EXE_halo"),
        "coordinatool-client" => env!("CARGO_BIN_EXE_coordinatool-client"),
        other => other,
    });
    for variable in
        ["COORDINATOOL_HA_SOCKET", "HALO_SOCKET", "HALO_CONFIG", "OCF_ROOT", "COORDINATOOL_FENCE_PATH"]
    {
        command.env_remove(variable);
    }
    command.env("TZ", "UTC").stdin(Stdio::null());
    command
}

pub fn run(mut command: Command) -> Ran {
    command.output().unwrap().into()
}

/// Starts a program whose output is read later.
pub fn start(mut command: Command) -> Child {
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// A program that `sh` runs, in a directory.
pub fn script(directory: &Path, name: &str, text: &str) -> PathBuf {
    let path = directory.join(name);
    harness::write_program(&path, &format!("#!/bin/sh\n{text}"));
    path
}

/// Runs a program whose standard input is a terminal, at which `line` is typed.
pub fn run_at_terminal(mut command: Command, line: &str) -> Ran {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&ours).unwrap();
    unlockpt(&ours).unwrap();
    let name = ptsname(&ours, Vec::new()).unwrap();
    let theirs = std::fs::OpenOptions::new().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    let mut ours = std::fs::File::from(ours);
    ours.write_all(format!("{line}\n").as_bytes()).unwrap();
    run({
        command.stdin(theirs);
        command
    })
}
