//! A copytool under the library, a server that says what the test wants, and a liblustreapi that writes down what it is
//! asked.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};

use coordinatool::wire::{Decoder, Limits};
use harness::{patience, poll};
use serde_json::{Value, json};

fn programs() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        // One directory for each run, so that two do not overwrite each other's programs while they execute.
        let dir = Path::new(env!("CARGO_TARGET_TMPDIR")).join("puppet").join(std::process::id().to_string());
        std::fs::create_dir_all(&dir).unwrap();
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/puppet");
        let cc = |args: &[&str]| {
            let status = Command::new(std::env::var_os("CC").unwrap_or("cc".into()))
                .args(["-Wall", "-Wextra", "-Werror", "-O1"])
                .args(args)
                .current_dir(&dir)
                .status()
                .expect("a C compiler");
            assert!(status.success());
        };
        let path = |name: &str| source.join(name).to_str().unwrap().to_owned();
        let library = ["-shared", "-fPIC", "-Wl,-soname,liblustreapi.so.1", "-o", "liblustreapi.so.1"];
        cc(&[&library[..], &[&path("lustreapi.c")]].concat());
        cc(&["-o", "puppet", &path("puppet.c"), "./liblustreapi.so.1", "-lpthread", "-ldl"]);
        dir
    })
}

fn library() -> PathBuf {
    let deps = std::env::current_exe().unwrap();
    let library = deps.parent().unwrap().join("libcoordinatool_client.so");
    assert!(library.exists(), "{} is not built", library.display());
    library
}

/// A copytool, its standard streams, and what the real library was asked.
pub struct Puppet {
    child: Child,
    input: Option<ChildStdin>,
    lines: Receiver<String>,
    pending: VecDeque<String>,
    dir: tempfile::TempDir,
    seen: usize,
    /// The other end of its standard error.
    #[allow(dead_code)]
    reader: Option<std::io::PipeReader>,
}

impl Puppet {
    /// Starts a copytool whose servers are at these ports. It has not registered yet.
    pub fn start(hosts: &str, env: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let errors = std::fs::File::create(dir.path().join("errors")).unwrap();
        Self::start_in(dir, hosts, env, errors.into())
    }

    /// The same with a standard error that is a pipe, which nobody reads, or which nobody can read any more.
    pub fn start_mute(hosts: &str, env: &[(&str, &str)], reader_is_there: bool) -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        let mut puppet = Self::start_in(tempfile::tempdir().unwrap(), hosts, env, writer.into());
        puppet.reader = Some(reader).filter(|_| reader_is_there);
        puppet
    }

    fn start_in(dir: tempfile::TempDir, hosts: &str, env: &[(&str, &str)], errors: Stdio) -> Self {
        std::fs::create_dir_all(dir.path().join("mnt/.lustre/fid")).unwrap();
        let mut command = match std::env::var("PUPPET_WRAPPER") {
            // For instance `valgrind -q --error-exitcode=99`.
            Ok(wrapper) => {
                let mut words = wrapper.split_whitespace();
                let mut command = Command::new(words.next().unwrap());
                command.args(words).arg(programs().join("puppet"));
                command
            }
            Err(_) => Command::new(programs().join("puppet")),
        };
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COORDINATOOL_")) {
            command.env_remove(name);
        }
        std::fs::write(dir.path().join("conf"), "").unwrap();
        command
            .env("LD_LIBRARY_PATH", programs())
            .env("LD_PRELOAD", library())
            .env("PUPPET_LOG", dir.path().join("log"))
            .env("COORDINATOOL_CONF", dir.path().join("conf"))
            .env("COORDINATOOL_HOST", hosts)
            .env("COORDINATOOL_CLIENT_ID", "m0")
            .envs(env.iter().copied());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(errors).spawn().unwrap();
        let (sender, lines) = channel();
        let output = BufReader::new(child.stdout.take().unwrap());
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let input = child.stdin.take();
        Self { child, input, lines, pending: VecDeque::new(), dir, seen: 0, reader: None }
    }

    /// The directory that stands for the file system.
    pub fn mnt(&self) -> PathBuf {
        self.dir.path().join("mnt")
    }

    /// Gives an order without waiting for the answer.
    pub fn order(&mut self, line: &str) {
        writeln!(self.input.as_mut().unwrap(), "{line}").unwrap();
    }

    /// The next line whose first word is this.
    pub fn line(&mut self, word: &str) -> String {
        let is = |line: &String| line.split(' ').next() == Some(word);
        if let Some(at) = self.pending.iter().position(is) {
            return self.pending.remove(at).unwrap();
        }
        loop {
            let line = self.lines.recv_timeout(patience()).unwrap_or_else(|error| {
                panic!("no `{word}` from the copytool ({error}); log:\n{}\n{}", self.log(), self.errors())
            });
            if is(&line) {
                return line;
            }
            self.pending.push_back(line);
        }
    }

    /// Gives an order and waits for its result.
    pub fn call(&mut self, line: &str) -> i32 {
        self.order(line);
        let word = line.split(' ').next().unwrap();
        let answer = self.line(word);
        answer.split(' ').nth(1).unwrap().parse().unwrap()
    }

    /// Registers for these archives, and checks that it worked.
    pub fn register(&mut self, flags: i32, archives: &str) {
        let line = format!("register {} {flags} {archives}", self.mnt().display());
        assert_eq!(self.call(&line), 0);
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// What it wrote to standard error.
    fn errors(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("errors")).unwrap_or_default()
    }

    /// Waits until it has said something with this text on standard error.
    pub fn wait_error(&self, text: &str) {
        let said = poll(patience(), || self.errors().contains(text).then_some(()));
        assert!(said.is_some(), "`{text}` was not said, but: {}", self.errors());
    }

    /// What the real library was asked since this was last called.
    pub fn asked(&mut self) -> Vec<String> {
        let log = self.log();
        let lines = log.lines().skip(self.seen).map(str::to_owned).collect::<Vec<_>>();
        self.seen += lines.len();
        lines
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.child.id() as i32
    }

    /// Waits for its end: the exit code, or none after a signal.
    pub fn exit(&mut self) -> Option<i32> {
        let status = poll(patience(), || self.child.try_wait().unwrap());
        status.expect("the copytool does not end").code()
    }

    /// Checks that it is alive and did nothing wrong, and ends it.
    pub fn finish(mut self) {
        self.input = None;
        let code = self.exit();
        assert_eq!(code, Some(0), "{}", self.errors());
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A listening server.
pub struct Server {
    listener: TcpListener,
}

impl Server {
    pub fn start() -> Self {
        Self { listener: TcpListener::bind("127.0.0.1:0").unwrap() }
    }

    /// A server where one was before.
    pub fn at(host: &str) -> Self {
        Self { listener: TcpListener::bind(host).unwrap() }
    }

    /// What a copytool is to be told.
    pub fn host(&self) -> String {
        self.listener.local_addr().unwrap().to_string()
    }

    /// The next connection.
    pub fn accept(&self) -> Peer {
        self.listener.set_nonblocking(true).unwrap();
        let accepted = poll(patience(), || match self.listener.accept() {
            Ok((stream, _)) => Some(stream),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("{error}"),
        });
        let stream = accepted.expect("nobody connects");
        stream.set_nonblocking(false).unwrap();
        stream.set_read_timeout(Some(patience())).unwrap();
        stream.set_nodelay(true).unwrap();
        Peer { stream, decoder: Decoder::new(Limits::default()), pending: VecDeque::new() }
    }

    /// A copytool that is about to register here with the flags 0, and its connection.
    pub fn puppet(&self, env: &[(&str, &str)]) -> (Puppet, Peer) {
        let mut puppet = Puppet::start(&self.host(), env);
        puppet.order(&format!("register {} 0", puppet.mnt().display()));
        let (peer, _) = self.welcome();
        (puppet, peer)
    }

    /// The next connection, its `ehlo` answered without extensions, as C does. Returns the `ehlo` as well.
    pub fn welcome(&self) -> (Peer, Value) {
        let mut peer = self.accept();
        let ehlo = peer.expect("ehlo");
        peer.send(&json!({"command": "ehlo"}));
        (peer, ehlo)
    }

    /// The same with a lease.
    pub fn welcome_with(&self, lease_ms: u64, refused: &[Value]) -> (Peer, Value) {
        let mut peer = self.accept();
        let ehlo = peer.expect("ehlo");
        peer.send(&json!({"command": "ehlo", "coordinatool": {"lease_ms": lease_ms, "refused": refused}}));
        (peer, ehlo)
    }
}

/// One connection, as the server has it.
pub struct Peer {
    stream: TcpStream,
    decoder: Decoder,
    /// Read while something else was expected.
    pending: VecDeque<Value>,
}

impl Peer {
    /// The next message.
    pub fn receive(&mut self) -> Value {
        loop {
            if let Some(object) = self.decoder.next_object().unwrap() {
                return serde_json::from_slice(object).unwrap();
            }
            let mut buffer = [0; 4096];
            let n = self.stream.read(&mut buffer).expect("a message of the copytool");
            assert!(n > 0, "the copytool closed the connection");
            self.decoder.push(&buffer[..n]);
        }
    }

    /// Whether [`Self::try_receive`] may find nothing.
    pub fn nonblocking(&mut self, on: bool) {
        self.stream.set_nonblocking(on).unwrap();
    }

    /// The next message, if there is one.
    pub fn try_receive(&mut self) -> Option<Value> {
        let mut buffer = [0; 4096];
        match self.stream.read(&mut buffer) {
            Ok(n) => self.decoder.push(&buffer[..n]),
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
        self.decoder.next_object().unwrap().map(|object| serde_json::from_slice(object).unwrap())
    }

    /// The next message with this command: the order of a `recv` and a `done` is nobody's promise. Renewals of the lease are
    /// not answered.
    pub fn expect(&mut self, command: &str) -> Value {
        self.expect_renewing(command, 0)
    }

    /// The same, answering renewals with this lease.
    pub fn expect_renewing(&mut self, command: &str, lease_ms: u64) -> Value {
        if let Some(at) = self.pending.iter().position(|message| message["command"] == command) {
            return self.pending.remove(at).unwrap();
        }
        loop {
            let message = self.receive();
            if message["command"] == command {
                return message;
            }
            if message["command"] != "lease" {
                self.pending.push_back(message);
            } else if lease_ms > 0 {
                self.send(&json!({"command": "lease", "serial": message["serial"], "lease_ms": lease_ms}));
            }
        }
    }

    /// Whether the copytool closed the connection, reading all that it sent before.
    pub fn wait_closed(&mut self) {
        let mut buffer = [0; 4096];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(0) => return,
                Ok(_) => {}
                // It was closed before all that was sent had been read.
                Err(error) if error.kind() == ErrorKind::ConnectionReset => return,
                Err(error) => panic!("the copytool does not close the connection: {error}"),
            }
        }
    }

    pub fn send(&mut self, message: &Value) {
        self.stream.write_all(message.to_string().as_bytes()).unwrap();
    }

    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// The same to one that may not listen any more.
    pub fn try_send_raw(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// Answers a `recv` with this work.
    pub fn work(&mut self, archive_id: u32, items: &[Value]) {
        self.send(&json!({
            "hsm_action_list": {"hal_version": 1, "hal_archive_id": archive_id, "hal_fsname": "testfs0", "list": items},
            "command": "recv",
        }));
    }

    pub fn close(self) {
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

/// Numbers of `HSMA_*`.
pub const ARCHIVE: u32 = 20;
pub const RESTORE: u32 = 21;
pub const REMOVE: u32 = 22;
pub const CANCEL: u32 = 23;

pub fn fid(oid: u32) -> Value {
    json!({"f_seq": 0x2_0000_0402u64, "f_oid": oid, "f_ver": 0})
}

/// An item with all that C sends.
pub fn item(action: u32, cookie: u64, oid: u32, data: &str) -> Value {
    json!({
        "hai_action": action, "hai_fid": fid(oid), "hai_dfid": fid(oid), "hai_extent_offset": 0, "hai_extent_length": -1,
        "hai_cookie": cookie as i64, "hai_gid": 0, "hal_archive_id": 1, "hal_flags": 0, "hai_data": data,
        "timestamp": 1,
    })
}

/// Cookies of a message's `hai_list`.
pub fn claimed(ehlo: &Value) -> Vec<u64> {
    let list = ehlo["hai_list"].as_array().map(Vec::as_slice).unwrap_or_default();
    list.iter().map(|item| item["hai_cookie"].as_u64().unwrap()).collect()
}
