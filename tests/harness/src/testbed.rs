//! One test's world: an embedded Lustre with its mounts, an address for the daemon, a configuration, and logs.

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::daemon::Settings;
use crate::directory::TestDirectory;
use crate::lustre::Lustre;
use crate::peer::Peer;
use crate::process::{TEST_VARIABLE, kill_processes_of, read_log};
use crate::programs::Programs;
use crate::wait::{patience, poll};

/// How a test bed is set up.
#[derive(Debug, Clone)]
pub struct TestbedSettings {
    name: String,
    mounts: usize,
    mdts: usize,
    parameters: Vec<String>,
    arguments: Vec<String>,
}

impl TestbedSettings {
    /// Five mounts and two MDTs like the original's suite; the MDTs hand out up to 1000 requests at a time.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            mounts: 5,
            mdts: 2,
            parameters: vec!["max_requests=1000".to_owned(), "loop_period=1".to_owned()],
            arguments: Vec::new(),
        }
    }

    /// A parameter of all MDTs, like `active_request_timeout=5`.
    #[must_use]
    pub fn parameter(mut self, assignment: &str) -> Self {
        self.parameters.push(assignment.to_owned());
        self
    }

    /// One more argument of `lustre-sim serve`.
    #[must_use]
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.to_owned());
        self
    }

    /// The first cookie that the MDTs hand out: they count from the seconds of the wall clock.
    #[must_use]
    pub fn first_cookie(self, cookie: u64) -> Self {
        self.argument("--wall").argument(&(cookie - 1).to_string())
    }

    /// So many mounts.
    #[must_use]
    pub fn mounts(mut self, count: usize) -> Self {
        self.mounts = count;
        self
    }

    /// Starts the embedded Lustre.
    pub fn start(&self) -> Testbed {
        let programs = Programs::find();
        let directory = TestDirectory::new(&self.name);
        let libraries = directory.subdirectory("lib");
        let library = programs.provide_liblustreapi(&libraries);
        directory.subdirectory("logs");
        let lustre =
            Lustre::start(&programs, &directory, self.mdts, self.mounts, &self.parameters, &self.arguments);
        let (address, reservation) = reserve_address();
        Testbed {
            programs,
            library,
            address,
            _reservation: reservation,
            mdts: self.mdts,
            lustre: Some(lustre),
            directory,
            preloaded: Vec::new(),
        }
    }
}

/// One test's world. Everything in it is gone when this goes out of scope.
#[derive(Debug)]
pub struct Testbed {
    programs: Programs,
    library: PathBuf,
    address: SocketAddr,
    _reservation: UdpSocket,
    mdts: usize,
    lustre: Option<Lustre>,
    directory: TestDirectory,
    preloaded: Vec<(PathBuf, String, PathBuf)>,
}

impl Testbed {
    /// A test bed with the usual settings.
    pub fn start(name: &str) -> Self {
        TestbedSettings::new(name).start()
    }

    /// The programs under test.
    pub fn programs(&self) -> &Programs {
        &self.programs
    }

    /// The embedded Lustre's `liblustreapi.so.1`.
    pub fn liblustreapi(&self) -> &Path {
        &self.library
    }

    /// Has the daemon and movers load one more library, which is told a file by a variable.
    pub fn preload(&mut self, library: &Path, variable: &str, file: &Path) {
        self.preloaded.push((library.to_owned(), variable.to_owned(), file.to_owned()));
    }

    /// Sets `LD_PRELOAD` to the library given, if any, and those of the test.
    pub(crate) fn set_preload(&self, command: &mut Command, library: Option<&Path>) {
        let libraries =
            library.into_iter().chain(self.preloaded.iter().map(|(library, ..)| library.as_path()));
        let libraries: Vec<String> = libraries.map(|path| path.display().to_string()).collect();
        if !libraries.is_empty() {
            command.env("LD_PRELOAD", libraries.join(":"));
        }
        command.envs(self.preloaded.iter().map(|(_, variable, file)| (variable, file)));
    }

    /// The test's directory.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The embedded Lustre.
    pub fn lustre(&self) -> &Lustre {
        self.lustre.as_ref().expect("the embedded Lustre lives as long as the test bed")
    }

    /// How many MDTs there are.
    pub fn mdts(&self) -> usize {
        self.mdts
    }

    /// The path of a mount.
    pub fn mount(&self, number: usize) -> &Path {
        self.lustre().mount(number)
    }

    /// Where the daemon listens: a loopback address that no other test uses.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Has the daemon listen on another address.
    pub fn listen_on(&mut self, address: IpAddr) {
        self.address.set_ip(address);
    }

    /// The configuration file of daemon, movers and client.
    pub fn configuration(&self) -> PathBuf {
        self.directory.join("coordinatool.conf")
    }

    /// The daemon's socket for administrators of its host, which speaks the mover protocol.
    pub fn local_socket(&self) -> PathBuf {
        self.directory.join("mover.sock")
    }

    /// Where the daemon's API is.
    pub fn api_socket(&self) -> PathBuf {
        self.directory.join("hsm.sock")
    }

    /// Writes the configuration file.
    pub fn configure(&self, settings: &Settings) {
        let text = format!(
            "host {}\nport {}\nstate_dir {}\napi_socket {}\nlocal_socket {}\n{}",
            self.address.ip(),
            self.address.port(),
            self.directory.join("state").display(),
            self.api_socket().display(),
            self.local_socket().display(),
            settings.text()
        );
        std::fs::write(self.configuration(), text).expect("the configuration can be written");
    }

    /// Where the log of a program goes.
    pub fn log_path(&self, name: &str) -> PathBuf {
        self.directory.join("logs").join(format!("{name}.log"))
    }

    /// Runs `coordinatool-client` with these arguments and this standard input.
    pub fn client(&self, arguments: &[&str], input: &str) -> Output {
        use std::io::Write as _;

        let mut child = Command::new(self.programs.path("coordinatool-client"))
            .args(arguments)
            .env("COORDINATOOL_CONF", self.configuration())
            .env(TEST_VARIABLE, self.directory())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("coordinatool-client starts");
        let mut pipe = child.stdin.take().expect("standard input is a pipe");
        let bytes = input.as_bytes().to_vec();
        let writer = std::thread::spawn(move || {
            // The client may end without reading all.
            let _ = pipe.write_all(&bytes);
        });
        let output = child.wait_with_output().expect("coordinatool-client ends");
        writer.join().expect("the writer does not panic");
        output
    }

    /// The daemon's status with every request, or `None` when it does not answer.
    pub fn status(&self) -> Option<Value> {
        self.ask_status(6)
    }

    /// Whether the daemon serves and has read its store. Quick also where it has much.
    pub fn is_serving(&self) -> bool {
        self.ask_status(4).is_some_and(|status| status["recovering"].is_null())
    }

    fn ask_status(&self, verbose: u8) -> Option<Value> {
        let mut peer = Peer::connect(self.address).ok()?;
        peer.send_bytes(json!({"command": "status", "verbose": verbose}).to_string().as_bytes()).ok()?;
        peer.receive_within(Duration::from_secs(10))
    }

    /// Waits until `condition` holds.
    ///
    /// # Panics
    /// When it does not in time; prints what everybody thinks first.
    pub fn wait(&self, what: &str, mut condition: impl FnMut() -> bool) {
        self.wait_for(what, || condition().then_some(()));
    }

    /// Waits until `probe` gives something.
    ///
    /// # Panics
    /// When it does not in time; prints what everybody thinks first.
    pub fn wait_for<T>(&self, what: &str, probe: impl FnMut() -> Option<T>) -> T {
        match poll(patience(), probe) {
            Some(found) => found,
            None => self.fail(&format!("waited in vain: {what}")),
        }
    }

    /// Ends the test, and prints what everybody thinks.
    pub fn fail(&self, why: &str) -> ! {
        let status = match self.status() {
            Some(status) => serde_json::to_string_pretty(&status).unwrap_or_default(),
            None => "no answer".to_owned(),
        };
        panic!("{why}\n== status\n{status}\n{}", self.report());
    }

    /// The MDTs' view and the ends of all logs.
    fn report(&self) -> String {
        let mut report = String::new();
        if let Some(lustre) = &self.lustre {
            let _ = writeln!(report, "== ledger\n{}", lustre.ledger_text());
            let _ = writeln!(report, "== actions\n{}", lustre.parameter_text("hsm.actions"));
        }
        let logs = std::fs::read_dir(self.directory.join("logs")).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = logs.map(|entry| entry.path()).collect();
        paths.sort();
        for path in paths {
            let text = read_log(&path);
            let lines: Vec<&str> = text.lines().collect();
            let shown = &lines[lines.len().saturating_sub(40)..];
            let _ =
                writeln!(report, "== {} (the last {} of {} lines)", path.display(), shown.len(), lines.len());
            for line in shown {
                let _ = writeln!(report, "{line}");
            }
        }
        report
    }
}

impl Drop for Testbed {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.report());
        }
        self.lustre = None;
        kill_processes_of(self.directory.path());
    }
}

/// A loopback address of its own in 127.0.0.0/8 for each test, so that ports are never contended for. It is ours as long as
/// the socket lives, which nobody talks to: the daemon binds the TCP port of the same number.
fn reserve_address() -> (SocketAddr, UdpSocket) {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    const PORT: u16 = 5123;
    for _ in 0..10_000 {
        let number = std::process::id().wrapping_mul(64).wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed));
        // 127.1.0.1 to 127.254.255.254
        let part = |divisor: u32, count: u32| u8::try_from(number / divisor % count).unwrap_or(0);
        let address = Ipv4Addr::new(127, part(254 * 256, 254) + 1, part(254, 256), part(1, 254) + 1);
        let address = SocketAddr::new(IpAddr::V4(address), PORT);
        if let Ok(reservation) = UdpSocket::bind(address)
            && TcpListener::bind(address).is_ok()
        {
            return (address, reservation);
        }
    }
    panic!("no free loopback address");
}
