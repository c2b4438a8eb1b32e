//! A small POSIX copytool, linked against `liblustreapi.so.1` like any other.

mod hold;
mod llapi;
mod options;
mod steps;
mod work;

use std::io;
use std::os::fd::OwnedFd;
use std::process::ExitCode;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use lustreapi_sys::hal::ActionList;

use llapi::Copytool;
use options::Options;
use work::{Context, Item, log};

fn main() -> ExitCode {
    let options = Options::parse();
    match run(options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log(&error.to_string());
            ExitCode::from(error.raw_os_error().and_then(|e| u8::try_from(e).ok()).unwrap_or(1))
        }
    }
}

fn run(options: Options) -> io::Result<()> {
    if !options.hsm_root.is_dir() {
        return Err(io::Error::other(format!("{}: not a directory", options.hsm_root.display())));
    }
    let fsname = llapi::fsname(&options.mount)?;
    llapi::set_level(4);
    if options.daemon {
        // SAFETY: no thread was started yet, and nothing is registered.
        if unsafe { libc::daemon(1, 0) } < 0 {
            return Err(io::Error::last_os_error());
        }
    }
    let root = OwnedFd::from(std::fs::File::open(&options.mount)?);
    let copytool = Copytool::register(&options.mount, &options.archives, options.nonblock)?;
    for signal in [libc::SIGINT, libc::SIGTERM] {
        let handler: extern "C" fn(libc::c_int) = llapi::unregister_and_exit;
        // SAFETY: the handler does what copytools do in theirs.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
    log(&format!("registered on {} ({fsname})", options.mount.display()));
    let context = Arc::new(Context { options, copytool, root });
    let queue = Workers::start(&context)?;
    let result = receive(&context, &fsname, &queue);
    llapi::unregister();
    result
}

/// Receives lists until the client is unmounted.
fn receive(context: &Arc<Context>, fsname: &str, queue: &Workers) -> io::Result<()> {
    let fd = if context.options.nonblock { Some(context.copytool.fd()?) } else { None };
    loop {
        if let Some(fd) = fd {
            let mut wait = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
            // SAFETY: one pollfd.
            unsafe { libc::poll(&mut wait, 1, -1) };
        }
        loop {
            match context.copytool.recv() {
                Ok(bytes) => take(context, fsname, &bytes, queue),
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) if fd.is_some() => break,
                    Some(libc::EINTR | libc::EAGAIN) => {}
                    Some(libc::ESHUTDOWN) => {
                        log("the client is being unmounted");
                        return Ok(());
                    }
                    _ => return Err(error),
                },
            }
        }
    }
}

/// Hands out the items of a list.
fn take(context: &Arc<Context>, fsname: &str, bytes: &[u8], queue: &Workers) {
    let list = match ActionList::parse(bytes) {
        Ok(list) => list,
        Err(error) => return log(&format!("bad list: {error}")),
    };
    if list.fsname != fsname.as_bytes() {
        return log(&format!("a list of file system {}", String::from_utf8_lossy(list.fsname)));
    }
    log(&format!("list of {} for archive {}", list.items.len(), list.archive_id));
    let mut at = lustreapi_sys::hal::LIST_HEADER + (list.fsname.len() + 1).next_multiple_of(8);
    for item in &list.items {
        let len = lustreapi_sys::hal::ITEM_HEADER + item.data.len();
        let Some(raw) = bytes.get(at..at + len) else { return log("bad list: an item is cut off") };
        at += len.next_multiple_of(8);
        queue.add(
            context,
            Item {
                bytes: raw.to_vec(),
                action: item.action,
                fid: item.fid,
                cookie: item.cookie,
                archive_id: list.archive_id,
                offset: item.extent_offset,
                length: item.extent_length,
                data: item.data.to_vec(),
            },
        );
    }
}

/// Who carries out actions.
enum Workers {
    /// So many threads.
    Pool(Sender<Item>),
    /// A thread for each action.
    ThreadEach,
    /// A process for each action.
    ProcessEach,
}

impl Workers {
    fn start(context: &Arc<Context>) -> io::Result<Self> {
        if context.options.fork_per_action {
            // Children that have ended are of no interest.
            // SAFETY: sets a disposition.
            unsafe { libc::signal(libc::SIGCHLD, libc::SIG_IGN) };
            return Ok(Workers::ProcessEach);
        }
        if context.options.threads == 0 {
            return Ok(Workers::ThreadEach);
        }
        let (sender, receiver) = channel();
        let receiver = Arc::new(Mutex::new(receiver));
        for _ in 0..context.options.threads {
            let (context, receiver) = (Arc::clone(context), Arc::clone(&receiver));
            std::thread::Builder::new().spawn(move || {
                while let Some(item) = next(&receiver) {
                    work::process(&context, &item);
                }
            })?;
        }
        Ok(Workers::Pool(sender))
    }

    fn add(&self, context: &Arc<Context>, item: Item) {
        match self {
            Workers::Pool(sender) => {
                if sender.send(item).is_err() {
                    log("no thread is left to work");
                }
            }
            Workers::ThreadEach => {
                let context = Arc::clone(context);
                let started = std::thread::Builder::new().spawn(move || work::process(&context, &item));
                if let Err(error) = started {
                    log(&format!("cannot start a thread: {error}"));
                }
            }
            // SAFETY: this process has one thread; the child works and ends.
            Workers::ProcessEach => match unsafe { libc::fork() } {
                0 => {
                    // The registration is the parent's to end.
                    // SAFETY: sets dispositions.
                    unsafe {
                        libc::signal(libc::SIGTERM, libc::SIG_DFL);
                        libc::signal(libc::SIGINT, libc::SIG_DFL);
                    }
                    work::process(context, &item);
                    // SAFETY: ends the child without running what belongs to the parent.
                    unsafe { libc::_exit(0) };
                }
                -1 => log(&format!("cannot fork: {}", io::Error::last_os_error())),
                _ => {}
            },
        }
    }
}

fn next(receiver: &Mutex<Receiver<Item>>) -> Option<Item> {
    receiver.lock().unwrap_or_else(PoisonError::into_inner).recv().ok()
}
