//! One action: archive, restore, remove, cancel.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use lustreapi_sys::Fid;
use lustreapi_sys::abi::{HP_FLAG_RETRY, HSMA_ARCHIVE, HSMA_CANCEL, HSMA_REMOVE, HSMA_RESTORE};

use crate::hold;
use crate::llapi::{self, Action, Copytool};
use crate::options::Options;
use crate::steps::{self, Step};

/// An item of an action list, its own copy.
#[derive(Debug, Clone)]
pub struct Item {
    /// The item's bytes, as received.
    pub bytes: Vec<u8>,
    /// `HSMA_*`.
    pub action: u32,
    /// The file.
    pub fid: Fid,
    /// The request.
    pub cookie: u64,
    /// Of its list.
    pub archive_id: u32,
    /// First byte.
    pub offset: u64,
    /// Bytes.
    pub length: u64,
    /// What the user passed along.
    pub data: Vec<u8>,
}

/// What all actions share.
#[derive(Debug)]
pub struct Context {
    /// The command line.
    pub options: Options,
    /// The registration.
    pub copytool: Copytool,
    /// The mount's root.
    pub root: OwnedFd,
}

/// Prints a step.
pub fn log(text: &str) {
    let line = format!("lustre-sim-copytool[{}]: {text}\n", std::process::id());
    // Nobody may be listening any more.
    let _ = io::stderr().write_all(line.as_bytes());
}

/// `HSMA_*` in words.
pub fn name(action: u32) -> &'static str {
    match action {
        HSMA_ARCHIVE => "ARCHIVE",
        HSMA_RESTORE => "RESTORE",
        HSMA_REMOVE => "REMOVE",
        HSMA_CANCEL => "CANCEL",
        _ => "UNKNOWN",
    }
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

/// Carries out one action from begin to end.
pub fn process(context: &Context, item: &Item) {
    let what = format!("{} {} cookie={:#x}", name(item.action), item.fid, item.cookie);
    let data = String::from_utf8_lossy(&item.data);
    log(&format!("{what} data='{}'", data.trim_end_matches('\0')));
    note(context, item, Step::Received);
    if let Err(error) = journal(context, item) {
        log(&format!("{what}: journal: {error}"));
    }
    if item.action == HSMA_CANCEL {
        if context.options.ack_cancel {
            end_only(context, item, 0, &what);
        } else {
            log(&format!("{what}: the copy will see it at its next progress"));
        }
        return;
    }
    if context.options.drop_removes && item.action == HSMA_REMOVE {
        log(&format!("{what}: dropped without an end"));
        return note(context, item, Step::Dropped);
    }
    if let Some(errno) = context.options.fail {
        return end_only(context, item, errno, &what);
    }
    let mdt = match item.action {
        HSMA_RESTORE => match llapi::mdt_index(context.root.as_raw_fd(), item.fid)
            .and_then(|mdt| exists(context, item, mdt))
        {
            Ok(mdt) => mdt,
            Err(error) if context.options.early_return_on_missing => {
                log(&format!("{what}: {error}; dropped without an end"));
                note(context, item, Step::Dropped);
                return;
            }
            Err(error) => return end_only(context, item, errno_of(&error), &what),
        },
        _ => -1,
    };
    let action = match context.copytool.begin(&item.bytes, mdt, 0, false) {
        Ok(action) => action,
        Err(error) => {
            log(&format!("{what}: begin: {error}"));
            return end_only(context, item, errno_of(&error), &what);
        }
    };
    note(context, item, Step::Begun);
    if let Some(directory) = &context.options.hold {
        hold::wait(directory, &item.data);
    }
    let result = match item.action {
        HSMA_ARCHIVE => archive(context, item, &action),
        HSMA_RESTORE => restore(context, item, &action),
        HSMA_REMOVE => remove(context, item),
        _ => Err(io::Error::from_raw_os_error(libc::EINVAL)),
    };
    let errno = match &result {
        Ok(()) => 0,
        Err(error) => {
            log(&format!("{what}: {error}"));
            errno_of(error)
        }
    };
    finish(context, item, action, errno, &what);
}

/// Whether the file of a restore can be opened by its FID.
fn exists(context: &Context, item: &Item, mdt: i32) -> io::Result<i32> {
    fs::symlink_metadata(context.options.mount.join(".lustre/fid").join(item.fid.file_name())).map(|_| mdt)
}

fn end_only(context: &Context, item: &Item, errno: i32, what: &str) {
    match context.copytool.begin(&item.bytes, -1, 0, true) {
        Ok(action) => finish(context, item, action, errno, what),
        Err(error) => {
            log(&format!("{what}: begin: {error}"));
            note(context, item, Step::Dropped);
        }
    }
}

fn finish(context: &Context, item: &Item, action: Action, errno: i32, what: &str) {
    let flags = if errno != 0 && context.options.retry { i32::from(HP_FLAG_RETRY) } else { 0 };
    note(context, item, Step::Ending);
    match action.end(item.offset, item.length, flags, errno) {
        Ok(()) => {
            log(&format!("{what}: ended with {errno}"));
            note(context, item, Step::Ended(errno));
        }
        Err(error) => {
            log(&format!("{what}: end ({errno}): {error}"));
            note(context, item, Step::Ended(errno_of(&error)));
        }
    }
}

fn journal(context: &Context, item: &Item) -> io::Result<()> {
    let Some(path) = &context.options.journal else { return Ok(()) };
    let mut file = File::options().append(true).create(true).open(path)?;
    let mut line = format!("{} {} {:#x} ", name(item.action), item.fid, item.cookie).into_bytes();
    line.extend_from_slice(&item.data);
    line.push(b'\n');
    // One write: lines of several threads and processes do not mix.
    file.write_all(&line)
}

fn note(context: &Context, item: &Item, step: Step) {
    if let Some(path) = &context.options.steps
        && let Err(error) = steps::add(path, step, item)
    {
        log(&format!("{}: {error}", path.display()));
    }
}

/// Where a file is in the archive.
fn archived(context: &Context, fid: Fid) -> PathBuf {
    context.options.hsm_root.join(fid.file_name())
}

fn archive(context: &Context, item: &Item, action: &Action) -> io::Result<()> {
    let mut from = File::from(action.fd()?);
    let path = archived(context, item.fid);
    let temporary = path.with_file_name(format!("{}_tmp", item.fid.file_name()));
    let mut to = File::create(&temporary)?;
    let copied = copy(context, item, action, &mut from, &mut to)
        .and_then(|()| to.sync_all())
        .and_then(|()| fs::rename(&temporary, &path));
    if copied.is_err() {
        let _ = fs::remove_file(&temporary);
    }
    copied
}

fn restore(context: &Context, item: &Item, action: &Action) -> io::Result<()> {
    let mut from = File::open(archived(context, item.fid))?;
    log(&format!("RESTORE {} into {}", item.fid, action.dfid()?));
    let mut to = File::from(action.fd()?);
    copy(context, item, action, &mut from, &mut to)?;
    to.set_len(from.metadata()?.len())
}

fn remove(context: &Context, item: &Item) -> io::Result<()> {
    fs::remove_file(archived(context, item.fid))
}

/// Copies the item's range in chunks, with the delay and the bandwidth asked for; ends early when progress says so.
fn copy(context: &Context, item: &Item, action: &Action, from: &mut File, to: &mut File) -> io::Result<()> {
    let options = &context.options;
    let size = from.metadata()?.len();
    let mut at = item.offset.min(size);
    let end = if item.length == u64::MAX { size } else { item.offset.saturating_add(item.length).min(size) };
    let mut report = Reports::new(context, action, end - at);
    report.send(at, 0)?;
    report.pause(Duration::from_millis(options.delay_ms), at)?;
    from.seek(SeekFrom::Start(at))?;
    to.seek(SeekFrom::Start(at))?;
    let start = Instant::now();
    let (first, mut reported) = (at, at);
    let mut buffer = vec![0; options.chunk as usize];
    while at < end {
        let want = usize::try_from(end - at).unwrap_or(usize::MAX).min(buffer.len());
        let n = from.read(&mut buffer[..want])?;
        if n == 0 {
            break;
        }
        to.write_all(&buffer[..n])?;
        at += n as u64;
        if options.bandwidth > 0 {
            let due = Duration::from_secs_f64((at - first) as f64 / options.bandwidth as f64);
            report.pause(due.saturating_sub(start.elapsed()), at)?;
        }
        if report.due() {
            report.send(reported, at - reported)?;
            reported = at;
        }
    }
    Ok(())
}

/// Progress reports of one action.
struct Reports<'a> {
    action: &'a Action,
    total: u64,
    interval: Duration,
    enabled: bool,
    last: Instant,
}

impl<'a> Reports<'a> {
    fn new(context: &Context, action: &'a Action, total: u64) -> Self {
        let interval = Duration::from_millis(context.options.progress_interval);
        Self { action, total, interval, enabled: !context.options.no_progress, last: Instant::now() }
    }

    fn due(&self) -> bool {
        self.last.elapsed() >= self.interval
    }

    fn send(&mut self, offset: u64, length: u64) -> io::Result<()> {
        self.last = Instant::now();
        if !self.enabled {
            return Ok(());
        }
        match self.action.progress(offset, length, self.total) {
            // The MDT may not know the request after a restart; the end will tell.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                log(&format!("progress: {error}"));
                Ok(())
            }
            result => result,
        }
    }

    /// Waits, reporting that nothing was copied meanwhile.
    fn pause(&mut self, time: Duration, at: u64) -> io::Result<()> {
        let start = Instant::now();
        loop {
            let left = time.saturating_sub(start.elapsed());
            if left.is_zero() {
                return Ok(());
            }
            std::thread::sleep(
                left.min(self.interval.saturating_sub(self.last.elapsed())).max(Duration::from_millis(1)),
            );
            if self.due() {
                self.send(at, 0)?;
            }
        }
    }
}
