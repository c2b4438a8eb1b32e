//! From an event of Lustre to a mover that waits for it, and what more MDTs cost.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::mpsc::channel;
use std::time::Duration;

use harness::Value;

use crate::baselines::Raw;
use crate::bench::{Bench, Cpu};
use crate::latency::{micros, percentile, settle};
use crate::load::mover;
use crate::messages::{self, Reader};
use crate::server::Server;
use crate::site::{BareCopytool, Site, now};
use crate::table::{Aim, Line};

/// One archive after the other, with no store: an MDT that hands out one at a time sends the next as soon as one has ended.
/// Once to a copytool that does nothing, once through the daemon to a mover. The difference is what the daemon adds.
pub fn latency(bench: &mut Bench) -> Result<(), String> {
    let count = if bench.quick { 20 } else { 1000 };
    let mut runs: [Vec<f64>; 6] = Default::default();
    for _ in 0..bench.runs {
        let echo = Raw::start(&bench.directory, 64, 64).round_trips(1000);
        let bare = to_a_copytool(count)?;
        let took = to_a_mover(bench, count)?;
        let added = |part| percentile(&took, part).saturating_sub(percentile(&bare, 0.5));
        let against = |part, echoes: u32| {
            added(part).as_secs_f64() / (percentile(&echo, part) * echoes / 2).as_secs_f64()
        };
        let values = [
            micros(percentile(&bare, 0.5)),
            micros(percentile(&bare, 0.99)),
            micros(percentile(&took, 0.5)),
            micros(percentile(&took, 0.99)),
            against(0.5, 3),
            against(0.99, 10),
        ];
        runs.iter_mut().zip(values).for_each(|(runs, value)| runs.push(value));
    }
    let [bare_p50, bare_p99, p50, p99, of_p50, of_p99] = runs;
    let from = "embedded Lustre, from an end to the next request";
    bench.add(Line::new(format!("{from}: a bare copytool, p50"), "us", bare_p50));
    bench.add(Line::new(format!("{from}: a bare copytool, p99"), "us", bare_p99));
    bench.add(Line::new(format!("{from}: an idle mover, no store, p50"), "us", p50));
    bench.add(Line::new(format!("{from}: an idle mover, no store, p99"), "us", p99));
    let added = "from an event of Lustre to an idle mover (the difference of the two)";
    bench.add(Line::new(format!("{added}, of 1.5 echoes, p50"), "", of_p50).c("43 ms").aim(Aim::AtMost(1.0)));
    bench.add(Line::new(format!("{added}, of 5 echoes, p99"), "", of_p99).aim(Aim::AtMost(1.0)));
    Ok(())
}

/// Sorted.
fn to_a_copytool(count: u32) -> Result<Vec<Duration>, String> {
    let site = Site::start(1, count, 1)?;
    let mut copytool = BareCopytool::start(&site);
    site.archive_all()?;
    copytool.next()?;
    let mut took = Vec::new();
    for number in 0..count - 1 {
        let begun = now();
        site.end(number)?;
        took.push(copytool.next()?.checked_sub(begun).ok_or("a request came before there was room")?);
    }
    took.sort_unstable();
    Ok(took)
}

/// Sorted.
fn to_a_mover(bench: &mut Bench, count: u32) -> Result<Vec<Duration>, String> {
    let site = Site::start(1, count, 1)?;
    let server = Server::on_lustre(&bench.directory, &site);
    site.wait_agents(1);
    let said = |error: std::io::Error| error.to_string();
    let mut sender = TcpStream::connect(server.address()).map_err(said)?;
    sender.set_nodelay(true).map_err(said)?;
    let mut mover = mover(server.address(), "mover0");
    let (mut reader, mut numbers, mut buffer) = (Reader::new(), Vec::new(), vec![0; 64 << 10]);
    let (mut out, mut took) = (Vec::new(), Vec::new());
    let (ask, asked) = channel::<u32>();
    let (tell, told) = channel();
    messages::recv(16, &mut out);
    mover.write_all(&out).map_err(said)?;
    site.archive_all()?;
    std::thread::scope(|scope| {
        // The call may return after the mover has the next request.
        let site = &site;
        scope.spawn(move || {
            for number in asked {
                let begun = now();
                if tell.send(site.end(number).map(|()| begun)).is_err() {
                    return;
                }
            }
        });
        // It ends when there is nobody left who asks.
        let ask = ask;
        for number in 0..count {
            let mut got = false;
            while !got {
                let read = mover.read(&mut buffer).map_err(said)?;
                got = reader.push(&buffer[..read], &mut numbers).recvs > 0;
            }
            let came = now();
            if number > 0 {
                took.push(came.saturating_sub(told.recv().map_err(|error| error.to_string())??));
            }
            if numbers != [number] {
                return Err(format!("the mover was given {numbers:?} instead of {number}"));
            }
            numbers.clear();
            out.clear();
            messages::done(number, &mut out);
            mover.write_all(&out).map_err(said)?;
            let mut ended = false;
            while !ended {
                let read = mover.read(&mut buffer).map_err(said)?;
                ended = reader.push(&buffer[..read], &mut numbers).dones > 0;
            }
            out.clear();
            messages::recv(16, &mut out);
            mover.write_all(&out).map_err(said)?;
            settle(&mut sender)?;
            ask.send(number).map_err(|error| error.to_string())?;
        }
        Ok(())
    })?;
    site.check(count as usize, true)?;
    took.sort_unstable();
    Ok(took)
}

/// The same work on ever more MDTs: events of all of them, for one mover.
pub fn mdts(bench: &mut Bench) -> Result<(), String> {
    let (counts, files): (&[usize], u32) = if bench.quick { (&[1, 3], 60) } else { (&[1, 4, 16], 8000) };
    for &mdts in counts {
        let mut cpu = Vec::new();
        for _ in 0..bench.runs.min(2) {
            let site = Site::start(mdts, files, 1_000_000)?;
            let server = Server::on_lustre(&bench.directory, &site);
            site.wait_agents(1);
            let used = Cpu::of(server.watched());
            let mut mover = server.peer();
            mover.ehlo("mover0");
            site.archive_all()?;
            let mut left = files as usize;
            while left > 0 {
                mover.ask_for_work(200);
                // The answers to `done` come before.
                let list = std::iter::repeat_with(|| mover.receive())
                    .find_map(|answer| answer.get("hsm_action_list").map(|list| list["list"].clone()));
                let items = list.as_ref().and_then(Value::as_array).ok_or("an answer without work")?;
                left = left.checked_sub(items.len()).ok_or("more requests than files")?;
                items.iter().for_each(|item| mover.done(item, 0));
            }
            site.check(files as usize, false)?;
            cpu.push(used.each(files));
        }
        let plural = if mdts == 1 { "" } else { "s" };
        bench.add(Line::new(format!("{mdts} MDT{plural}: from an event to `done`: CPU for each"), "us", cpu));
    }
    Ok(())
}
