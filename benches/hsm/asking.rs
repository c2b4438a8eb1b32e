//! Long questions: a status with every request, and a list of requests through `coordinatool-client -Q`.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coordinatool::wire::client::write_status;
use harness::known;

use crate::bench::{Bench, rate};
use crate::load::{self, mover};
use crate::machine::Watched;
use crate::messages::{self, FSNAME, Reader, ten_bytes};
use crate::server::{Core, Server, Store};
use crate::table::{Aim, Line, median};

/// What a mover waits while somebody reads a status with every request.
pub fn status(bench: &mut Bench) -> Result<(), String> {
    let (mut alone, mut beside, mut longest, mut took, mut bytes) = (vec![], vec![], vec![], vec![], vec![]);
    for _ in 0..bench.runs {
        let server = bench.server(Store::None, "");
        let requests = bench.requests;
        load::queue(server.address(), requests, ten_bytes)?;
        let mut worker = Worker::connect(server.address());
        let quiet = worker.exchange_until(|count| count == 2000.min(requests as usize / 4))?;
        alone.push(millis(quiet[quiet.len() * 999 / 1000]));
        let ended = AtomicBool::new(false);
        let (waits, read) = std::thread::scope(|scope| {
            let reading = scope.spawn(|| {
                let read = read_status(server.address());
                ended.store(true, Ordering::Relaxed);
                read
            });
            let most = requests as usize / 2;
            let waits = worker.exchange_until(|count| count >= most || ended.load(Ordering::Relaxed));
            (waits, reading.join().expect("it says what is wrong"))
        });
        let (waits, (time, length)) = (waits?, read?);
        beside.push(millis(waits[waits.len() * 999 / 1000]));
        longest.push(millis(waits[waits.len() - 1]));
        took.push(time.as_secs_f64());
        bytes.push(length as f64 / 1e6);
    }
    let requests = bench.requests;
    bench.add(Line::new(format!("verbose status with {requests} requests"), "s", took).c("2.1 s"));
    bench.add(Line::new("verbose status: length", "MB", bytes));
    bench.add(Line::new("a mover's round trip without a status, 99.9 %", "ms", alone));
    bench.add(Line::new("a mover's round trip during verbose status, 99.9 %", "ms", beside));
    let line = Line::new("a mover's round trip during verbose status, longest", "ms", longest);
    bench.add(line.aim(Aim::AtMost(3.0)).raised_from(10.0).c("2100 ms"));
    Ok(())
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Reads a status with every request; how long that took, and how long it was.
fn read_status(address: SocketAddr) -> Result<(Duration, usize), String> {
    let mut stream = TcpStream::connect(address).map_err(|error| error.to_string())?;
    let mut question = Vec::new();
    write_status(6, &mut question);
    let begun = Instant::now();
    stream.write_all(&question).map_err(|error| error.to_string())?;
    // Nothing more is asked, so that the daemon closes the connection when all is sent.
    stream.shutdown(std::net::Shutdown::Write).map_err(|error| error.to_string())?;
    let (mut buffer, mut length, mut last) = (vec![0; 1 << 20], 0, 0);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => {
                length += count;
                last = buffer[count - 1];
            }
            Err(error) => return Err(error.to_string()),
        }
    }
    if last == b'}' { Ok((begun.elapsed(), length)) } else { Err("the status was cut".to_owned()) }
}

/// A mover that runs one request after the other.
struct Worker {
    stream: TcpStream,
    reader: Reader,
    held: Vec<u32>,
}

impl Worker {
    fn connect(address: SocketAddr) -> Self {
        Self { stream: mover(address, "worker"), reader: Reader::new(), held: Vec::new() }
    }

    /// Ends its request and asks for another, again and again. How long each took, sorted.
    fn exchange_until(&mut self, enough: impl Fn(usize) -> bool) -> Result<Vec<Duration>, String> {
        let (mut out, mut buffer, mut took) = (Vec::new(), vec![0; 64 << 10], Vec::new());
        loop {
            out.clear();
            let mut due = usize::from(!self.held.is_empty());
            for number in self.held.drain(..) {
                messages::done(number, &mut out);
            }
            messages::recv(1, &mut out);
            let begun = Instant::now();
            self.stream.write_all(&out).map_err(|error| error.to_string())?;
            while due > 0 || self.held.is_empty() {
                let count = self.stream.read(&mut buffer).map_err(|error| error.to_string())?;
                if count == 0 {
                    return Err("the daemon closed the mover's connection".to_owned());
                }
                due -= self.reader.push(&buffer[..count], &mut self.held).dones;
            }
            took.push(begun.elapsed());
            if enough(took.len()) {
                took.sort_unstable();
                return Ok(took);
            }
        }
    }
}

/// `coordinatool-client -Q`: how fast it is, and whether its memory depends on how long the list is.
pub fn list(bench: &mut Bench) -> Result<(), String> {
    let lines = bench.requests;
    let (mut rates, mut memory, mut small) = (vec![], vec![], vec![]);
    let list = write_list(bench, lines);
    let short = write_list(bench, lines / 100);
    for _ in 0..bench.runs {
        let server = bench.server(Store::None, "");
        small.push(send_list(&server, &short)?.1);
        let (took, most) = send_list(&server, &list)?;
        rates.push(rate(lines - lines / 100, took));
        memory.push(most);
        let known = known(&server.status());
        if known != u64::from(lines) {
            return Err(format!("{known} requests are known of {lines}"));
        }
    }
    let growth = median(&memory) / median(&small);
    bench.add(
        Line::new(format!("coordinatool-client -Q, {lines} lines"), "/s", rates)
            .aim(Aim::AtLeast(1e6))
            .raised_from(500e3),
    );
    bench.add(Line::new("coordinatool-client -Q: its memory", "MiB", memory));
    let line =
        Line::new("coordinatool-client -Q: its memory, of that for a 100th of the lines", "", vec![growth]);
    bench.add(line.aim(Aim::AtMost(1.1)));
    Ok(())
}

fn write_list(bench: &Bench, lines: u32) -> std::path::PathBuf {
    let path = bench.directory.join(format!("active_requests-{lines}"));
    let mut file = BufWriter::new(File::create(&path).expect("a file can be made"));
    for number in 0..lines {
        let fid = messages::fid(number);
        writeln!(
            file,
            "fid={fid} dfid={fid} compound/cookie=0x0/{:#x} action=ARCHIVE archive#=1 flags=0x0 \
             extent=0x0-0xffffffffffffffff gid=0x0 data=[] canceled=0 uuid=u done=0",
            messages::cookie(number)
        )
        .expect("room");
    }
    file.flush().expect("room");
    path
}

/// How long it took, and the most memory of the client in MiB.
fn send_list(server: &Server, list: &std::path::Path) -> Result<(Duration, f64), String> {
    let mut command = Core::Load.command(env!("CARGO_BIN_EXE_coordinatool-client"));
    command.args(["-Q", "-H", "127.0.0.1", "-p"]).arg(server.address().port().to_string());
    command.env("COORDINATOOL_CONF", "/dev/null").env("COORDINATOOL_FSNAME", FSNAME);
    command.stdin(File::open(list).map_err(|error| error.to_string())?);
    let begun = Instant::now();
    let child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut child = child.map_err(|error| error.to_string())?;
    let mut most = 0.0_f64;
    while child.try_wait().map_err(|error| error.to_string())?.is_none() {
        most = most.max(Watched(child.id()).memory().1);
        std::thread::sleep(Duration::from_millis(2));
    }
    let took = begun.elapsed();
    let output = child.wait_with_output().map_err(|error| error.to_string())?;
    if !output.status.success() {
        return Err(format!("coordinatool-client -Q: {}", String::from_utf8_lossy(&output.stderr)));
    }
    Ok((took, most))
}
