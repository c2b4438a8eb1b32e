//! From `queue` of one request to a mover that waits for it.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use crate::baselines::{self, Raw};
use crate::bench::Bench;
use crate::load::mover;
use crate::messages::{self, Reader, ten_bytes};
use crate::server::Store;
use crate::table::{Aim, Line};

/// With each store.
pub fn measure(bench: &mut Bench) -> Result<(), String> {
    let count = if bench.quick { 100 } else { 5000 };
    let mut lines: Vec<(Store, [Vec<f64>; 4])> =
        bench.stores().into_iter().map(|store| (store, Default::default())).collect();
    let mut bare: [Vec<f64>; 6] = Default::default();
    for _ in 0..bench.runs {
        for (store, runs) in &mut lines {
            // A bare echo next to each, and what the store has to wait for.
            let echo = Raw::start(&bench.directory, 64, 64).round_trips(count);
            let waits = match store {
                Store::None => Vec::new(),
                Store::Embedded => baselines::fdatasync(bench.directory.path(), count.min(1000)),
                Store::Redis => redis_round_trips(bench, count),
            };
            let server = bench.server(*store, "");
            let took = from_queue(server.address(), count)?;
            for (at, part) in [0.5, 0.99].into_iter().enumerate() {
                runs[at].push(micros(percentile(&took, part)));
                bare[at].push(micros(percentile(&echo, part)));
                let waited = percentile(&waits, part);
                let aim = percentile(&echo, part) * if at == 0 { 3 } else { 10 } / 2 + waited;
                runs[at + 2].push(percentile(&took, part).as_secs_f64() / aim.as_secs_f64());
                match store {
                    Store::None => {}
                    Store::Embedded => bare[at + 2].push(micros(waited)),
                    Store::Redis => bare[at + 4].push(micros(waited)),
                }
            }
        }
    }
    let names = [
        "echo p50",
        "echo p99",
        "fdatasync p50",
        "fdatasync p99",
        "redis round trip p50",
        "redis round trip p99",
    ];
    for (name, runs) in names.into_iter().zip(bare) {
        bench.add(Line::new(format!("latency, bare {name}"), "us", runs));
    }
    for (store, [p50, p99, of_p50, of_p99]) in lines {
        let store = store.name();
        bench.add(Line::new(format!("from queue to an idle mover, {store}, p50"), "us", p50).c("never"));
        bench.add(Line::new(format!("from queue to an idle mover, {store}, p99"), "us", p99).c("never"));
        let against = "of 1.5 echoes and what the store waits for, p50";
        bench.add(Line::new(format!("the same, {store}, {against}"), "", of_p50).aim(Aim::AtMost(1.0)));
        let against = "of 5 echoes and what the store waits for, p99";
        bench.add(
            Line::new(format!("the same, {store}, {against}"), "", of_p99)
                .aim(Aim::AtMost(0.7))
                .raised_from(1.0),
        );
    }
    Ok(())
}

/// As a number.
pub fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

/// Of sorted times.
pub fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let at = (sorted.len() as f64 * part) as usize;
    sorted.get(at.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default()
}

/// One request after the other; sorted.
fn from_queue(address: SocketAddr, count: usize) -> Result<Vec<Duration>, String> {
    let mut sender = TcpStream::connect(address).map_err(|error| error.to_string())?;
    sender.set_nodelay(true).map_err(|error| error.to_string())?;
    let mut mover = mover(address, "mover0");
    let (mut reader, mut numbers, mut buffer) = (Reader::new(), Vec::new(), vec![0; 64 << 10]);
    let (mut out, mut took) = (Vec::new(), Vec::new());
    let queued = b"{\"command\": \"queue\", \"enqueued\": 1}";
    for number in 0..u32::try_from(count).unwrap_or(u32::MAX) {
        out.clear();
        messages::recv(16, &mut out);
        mover.write_all(&out).map_err(|error| error.to_string())?;
        // It must wait before the request comes: a question that is answered after it has been read shows that.
        settle(&mut sender)?;
        let message = messages::queue(number..number + 1, ten_bytes);
        let begun = Instant::now();
        sender.write_all(&message).map_err(|error| error.to_string())?;
        let mut got = false;
        while !got {
            let read = mover.read(&mut buffer).map_err(|error| error.to_string())?;
            got = reader.push(&buffer[..read], &mut numbers).recvs > 0;
        }
        took.push(begun.elapsed());
        if numbers != [number] {
            return Err(format!("the mover was given {numbers:?} instead of {number}"));
        }
        numbers.clear();
        sender.read_exact(&mut buffer[..queued.len()]).map_err(|error| error.to_string())?;
        if buffer[..queued.len()] != *queued {
            return Err(format!("queue was answered {:?}", String::from_utf8_lossy(&buffer[..queued.len()])));
        }
        out.clear();
        messages::done(number, &mut out);
        mover.write_all(&out).map_err(|error| error.to_string())?;
        let mut ended = false;
        while !ended {
            let read = mover.read(&mut buffer).map_err(|error| error.to_string())?;
            ended = reader.push(&buffer[..read], &mut numbers).dones > 0;
        }
    }
    took.sort_unstable();
    Ok(took)
}

/// Returns once the daemon has read what another peer sent before: loopback delivers at once, so it finds that in the same
/// round as the first of these questions, and handles it before it answers the second.
pub fn settle(sender: &mut TcpStream) -> Result<(), String> {
    let empty = b"{\"hsm_action_items\": [], \"command\": \"queue\"}";
    let answer = b"{\"command\": \"queue\"}";
    let mut buffer = [0; 20];
    for _ in 0..2 {
        sender.write_all(empty).map_err(|error| error.to_string())?;
        sender.read_exact(&mut buffer[..answer.len()]).map_err(|error| error.to_string())?;
    }
    Ok(())
}

/// One field set after the other; sorted.
fn redis_round_trips(bench: &mut Bench, count: usize) -> Vec<Duration> {
    let mut stream = TcpStream::connect(bench.redis().address()).expect("redis listens");
    stream.set_nodelay(true).expect("nodelay");
    let value = String::from_utf8(messages::stored_item(0)).expect("text");
    let command = format!("*4\r\n$4\r\nHSET\r\n$1\r\na\r\n$1\r\nb\r\n${}\r\n{value}\r\n", value.len());
    let mut answer = [0; 4];
    let mut took: Vec<Duration> = (0..count)
        .map(|_| {
            let begun = Instant::now();
            stream.write_all(command.as_bytes()).expect("redis reads");
            stream.read_exact(&mut answer).expect("redis answers");
            begun.elapsed()
        })
        .collect();
    took.sort_unstable();
    took
}
