//! A locator that is a program: lines in, lines out.

use std::io::{self, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// The most that an answer may have.
const MAX_ANSWER: u64 = 4 << 20;

/// Runs the program with this input and gives what it prints, and its exit code if it had one. It is killed, with all that it
/// started, when it takes too long.
pub fn run(argv: &[String], input: String, timeout: Duration) -> io::Result<(String, Option<i32>)> {
    let (program, arguments) = argv.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::inherit())
        // Its own group, so that nothing of it survives.
        .process_group(0)
        .spawn()?;
    let (Some(mut stdin), Some(stdout)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(io::ErrorKind::BrokenPipe.into());
    };
    let deadline = Instant::now() + timeout;
    let (done, result) = channel();
    let reader = done.clone();
    std::thread::Builder::new().name("locator-in".into()).spawn(move || {
        // A program that knows enough may end without reading all.
        let _ = stdin.write_all(input.as_bytes());
    })?;
    std::thread::Builder::new().name("locator-out".into()).spawn(move || {
        let mut text = Vec::new();
        let read = stdout.take(MAX_ANSWER + 1).read_to_end(&mut text).map(|_| text);
        let _ = reader.send(read);
    })?;
    let answer = match result.recv_timeout(timeout) {
        Ok(answer) => answer,
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
            Err(io::ErrorKind::TimedOut.into())
        }
    };
    let answer = answer.and_then(|text| {
        if text.len() as u64 > MAX_ANSWER {
            return Err(io::Error::other(format!("it prints more than {MAX_ANSWER} bytes")));
        }
        String::from_utf8(text).map_err(io::Error::other)
    });
    let status = end(&mut child, answer.is_ok().then_some(deadline))?;
    let text = answer?;
    if !status.is_some_and(|status| status.success()) {
        // What it found before it failed is as good as any.
        let status = status.map_or("killed".to_owned(), |status| status.to_string());
        tracing::warn!(program, status, "the locator failed");
    }
    Ok((text, status.and_then(|status| status.code())))
}

/// Waits for the end of a program until `deadline`, and kills it then, or at once.
fn end(child: &mut Child, deadline: Option<Instant>) -> io::Result<Option<std::process::ExitStatus>> {
    while deadline.is_some_and(|deadline| Instant::now() < deadline) {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    if let Ok(id) = i32::try_from(child.id())
        && let Some(group) = rustix::process::Pid::from_raw(id)
    {
        let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
    }
    child.wait()?;
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str, input: &str, timeout: u64) -> io::Result<String> {
        let argv = ["/bin/sh", "-c", script].map(str::to_owned);
        run(&argv, input.to_owned(), Duration::from_millis(timeout)).map(|(text, _)| text)
    }

    #[test]
    fn input_goes_in_and_output_comes_out() {
        assert_eq!(sh("cat", "a\nb\n", 60_000).unwrap(), "a\nb\n");
        assert_eq!(sh("echo found; exit 3", "", 60_000).unwrap(), "found\n", "a failure loses nothing");
        // More than pipes hold, both ways and unread.
        let long = "x".repeat(1 << 20);
        assert_eq!(sh("cat", &long, 60_000).unwrap(), long);
        assert_eq!(sh("echo no", &long, 60_000).unwrap(), "no\n");
    }

    #[test]
    fn what_takes_too_long_is_killed_with_its_children() {
        let error = sh("sleep 1000 & sleep 1000", "", 50).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_cannot_be_used_is_an_error() {
        assert!(sh("head -c 5000000 /dev/zero", "", 60_000).is_err(), "too much");
        assert!(sh("printf '\\377'", "", 60_000).is_err(), "not text");
        assert!(run(&["/nonexistent".into()], String::new(), Duration::from_secs(1)).is_err());
        assert!(run(&[], String::new(), Duration::from_secs(1)).is_err());
    }
}
