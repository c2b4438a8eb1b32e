//! The command line, read as the C client's `getopt_long` reads it: options and other words in any order, short options
//! together (`-vvQ`), values behind `=`, a blank or nothing (`-Hhost`), long names cut short where no other begins so.
//!
//! Options count in the order in which they come: `-R` sets the number of answers back, `--fsname` wants `-Q` before it.

use std::ffi::OsString;

use crate::config::{parse_int, parse_port};
use crate::hsm::event::Lock;

/// What the command line asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// `--help`, `help`.
    Help,
    /// `--version`.
    Version,
    /// Talk to the server.
    Run(Options),
}

/// What to do with the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Show its status, the default.
    Status,
    /// `--queue`: hand in requests from standard input.
    Queue,
    /// `--recv`: take work and show it.
    Recv,
    /// `--drain`: take work and call it done.
    Drain,
    /// `--lock`, `--unlock`, `--lock-quit`.
    Lock(Lock),
}

/// Options as given; what is `None` comes from the environment or the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Options {
    /// What to do.
    pub mode: Mode,
    /// `-c`.
    pub config: Option<String>,
    /// `-H`.
    pub host: Option<String>,
    /// `-p`.
    pub port: Option<String>,
    /// `-I`. The variable and the key of that name are for movers.
    pub client_id: Option<String>,
    /// `-A`, repeatable.
    pub archive_ids: Vec<u32>,
    /// `-i`: how many answers to wait for; `None` for any number of them.
    pub iterations: Option<u32>,
    /// `--fsname`.
    pub fsname: Option<String>,
    /// `-v` minus `-q`.
    pub verbosity: i32,
    /// `--timeout` in seconds: how long to try to reach the server; `None` for ever, as C does.
    pub timeout: Option<u32>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            mode: Mode::Status,
            config: None,
            host: None,
            port: None,
            client_id: None,
            archive_ids: Vec::new(),
            iterations: Some(1),
            fsname: None,
            verbosity: 0,
            timeout: None,
        }
    }
}

/// What is wrong with the command line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UsageError {
    /// No such option.
    #[error("unknown option `{0}`")]
    Unknown(String),
    /// A cut name that could be several.
    #[error("`--{name}` could be {candidates}")]
    Ambiguous {
        /// As given.
        name: String,
        /// What it could be.
        candidates: String,
    },
    /// An option without its value.
    #[error("`{0}` needs a value")]
    NoValue(String),
    /// A value for an option that takes none.
    #[error("`--{0}` takes no value")]
    UnwantedValue(&'static str),
    /// A value that cannot be.
    #[error("`--{option}`: {problem}")]
    BadValue {
        /// Which option.
        option: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// `--fsname` before or without `-Q`.
    #[error("`--fsname` can only come after `-Q`")]
    FsnameWithoutQueue,
    /// A word that is no subcommand.
    #[error("extra argument `{0}`: there is no such subcommand (see `coordinatool-client help`)")]
    UnknownSubcommand(String),
    /// A subcommand behind options that are not its own.
    #[error(
        "extra argument `{0}`: a subcommand comes first, its options behind it (see `coordinatool-client {0} --help`)"
    )]
    SubcommandNotFirst(String),
    /// Words after a subcommand that takes none.
    #[error("extra argument `{0}`")]
    ExtraArgument(String),
    /// An argument that is not UTF-8.
    #[error("argument {0:?} is not UTF-8")]
    NotText(OsString),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Opt {
    Verbose,
    Version,
    Help,
    Quiet,
    Port,
    Host,
    Lock,
    LockQuit,
    Unlock,
    Queue,
    Fsname,
    Drain,
    Recv,
    Archive,
    Iters,
    ClientId,
    Config,
    Timeout,
}

struct Known {
    opt: Opt,
    short: Option<char>,
    long: &'static str,
    value: bool,
    /// Whether C 0.4 has the long name. Others must be written out, so that every name that could be cut short still can.
    in_c: bool,
}

const fn known(opt: Opt, short: Option<char>, long: &'static str, value: bool) -> Known {
    Known { opt, short, long, value, in_c: true }
}

const OPTIONS: &[Known] = &[
    known(Opt::Verbose, Some('v'), "verbose", false),
    known(Opt::Version, Some('V'), "version", false),
    known(Opt::Help, Some('h'), "help", false),
    known(Opt::Quiet, Some('q'), "quiet", false),
    known(Opt::Port, Some('p'), "port", true),
    known(Opt::Host, Some('H'), "host", true),
    known(Opt::Lock, None, "lock", false),
    known(Opt::LockQuit, None, "lock-quit", false),
    known(Opt::Unlock, None, "unlock", false),
    known(Opt::Queue, Some('Q'), "queue", false),
    known(Opt::Fsname, None, "fsname", true),
    known(Opt::Drain, None, "drain", false),
    known(Opt::Recv, Some('R'), "recv", false),
    known(Opt::Archive, Some('A'), "archive", true),
    known(Opt::Iters, Some('i'), "iters", true),
    known(Opt::ClientId, Some('I'), "client-id", true),
    // C has the short form only.
    Known { opt: Opt::Config, short: Some('c'), long: "config", value: true, in_c: false },
    Known { opt: Opt::Timeout, short: None, long: "timeout", value: true, in_c: false },
];

fn find_long(name: &str) -> Result<&'static Known, UsageError> {
    if let Some(exact) = OPTIONS.iter().find(|known| known.long == name) {
        return Ok(exact);
    }
    let mut fits = OPTIONS.iter().filter(|known| known.in_c && known.long.starts_with(name));
    match (fits.next(), fits.next()) {
        (Some(only), None) if !name.is_empty() => Ok(only),
        (Some(_), Some(_)) => {
            let all = OPTIONS.iter().filter(|known| known.in_c && known.long.starts_with(name));
            let candidates = all.map(|known| format!("`--{}`", known.long)).collect::<Vec<_>>().join(" or ");
            Err(UsageError::Ambiguous { name: name.to_owned(), candidates })
        }
        _ => Err(UsageError::Unknown(format!("--{name}"))),
    }
}

/// Reads the arguments, without the program's name.
///
/// `--help` and `--version` end the reading, so that what comes after them does not matter.
///
/// # Errors
/// Says which argument is wrong, the first one only.
pub fn parse(args: impl IntoIterator<Item = OsString>) -> Result<Command, UsageError> {
    let mut args = args.into_iter();
    let mut next = move || args.next().map(|arg| arg.into_string().map_err(UsageError::NotText)).transpose();
    let mut options = Options::default();
    let mut words = Vec::new();
    while let Some(arg) = next()? {
        if arg == "--" {
            while let Some(word) = next()? {
                words.push(word);
            }
        } else if let Some(long) = arg.strip_prefix("--") {
            let (name, value) = match long.split_once('=') {
                Some((name, value)) => (name, Some(value.to_owned())),
                None => (long, None),
            };
            let known = find_long(name)?;
            let value = match (known.value, value) {
                (true, None) => Some(next()?.ok_or_else(|| UsageError::NoValue(arg.clone()))?),
                (false, Some(_)) => return Err(UsageError::UnwantedValue(known.long)),
                (_, value) => value,
            };
            if let Some(command) = options.take(known, value.unwrap_or_default())? {
                return Ok(command);
            }
        } else if arg.len() > 1 && arg.starts_with('-') {
            let mut letters = arg[1..].chars();
            while let Some(letter) = letters.next() {
                let known = OPTIONS.iter().find(|known| known.short == Some(letter));
                let known = known.ok_or_else(|| UsageError::Unknown(format!("-{letter}")))?;
                let value = match (known.value, letters.as_str()) {
                    (false, _) => String::new(),
                    (true, "") => next()?.ok_or_else(|| UsageError::NoValue(format!("-{letter}")))?,
                    (true, rest) => {
                        let rest = rest.to_owned();
                        letters = "".chars();
                        rest
                    }
                };
                if let Some(command) = options.take(known, value)? {
                    return Ok(command);
                }
            }
        } else {
            words.push(arg);
        }
    }
    let mut words = words.into_iter();
    match (words.next(), words.next()) {
        (None, _) => Ok(Command::Run(options)),
        (Some(word), None) if word == "help" => Ok(Command::Help),
        (Some(word), Some(extra)) if word == "help" => Err(UsageError::ExtraArgument(extra)),
        (Some(word), _) if crate::client::hsm::is_subcommand(word.as_ref()) => {
            Err(UsageError::SubcommandNotFirst(word))
        }
        (Some(word), _) => Err(UsageError::UnknownSubcommand(word)),
    }
}

impl Options {
    /// Takes one option; returns a command if that is all there is to do.
    fn take(&mut self, known: &Known, value: String) -> Result<Option<Command>, UsageError> {
        let number = |max: u32| {
            let parsed = parse_int(&value, 0, u64::from(max));
            // The bound is below 2^32.
            let parsed = parsed.map(|number| u32::try_from(number).unwrap_or(max));
            parsed.map_err(|problem| UsageError::BadValue { option: known.long, problem })
        };
        const INT_MAX: u32 = i32::MAX.unsigned_abs();
        match known.opt {
            Opt::Help => return Ok(Some(Command::Help)),
            Opt::Version => return Ok(Some(Command::Version)),
            Opt::Verbose => self.verbosity = self.verbosity.saturating_add(1),
            Opt::Quiet => self.verbosity = self.verbosity.saturating_sub(1),
            Opt::Config => self.config = Some(value),
            Opt::Host => self.host = Some(value),
            Opt::Port => {
                let checked = parse_port(&value);
                let problem = |problem| UsageError::BadValue { option: known.long, problem };
                self.port = Some(checked.map_err(problem)?);
            }
            Opt::ClientId => self.client_id = Some(value),
            Opt::Archive => self.archive_ids.push(number(INT_MAX)?),
            Opt::Iters => self.iterations = Some(number(INT_MAX)?),
            Opt::Timeout => self.timeout = Some(number(INT_MAX)?),
            Opt::Lock => self.mode = Mode::Lock(Lock::Locked),
            Opt::Unlock => self.mode = Mode::Lock(Lock::Unlocked),
            Opt::LockQuit => self.mode = Mode::Lock(Lock::LockedQuit),
            Opt::Queue => self.mode = Mode::Queue,
            Opt::Recv => {
                self.mode = Mode::Recv;
                self.iterations = None;
            }
            Opt::Drain => {
                self.mode = Mode::Drain;
                self.iterations = None;
            }
            Opt::Fsname if self.mode == Mode::Queue => self.fsname = Some(value),
            Opt::Fsname => return Err(UsageError::FsnameWithoutQueue),
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(line: &str) -> Result<Command, UsageError> {
        parse(line.split_whitespace().map(OsString::from))
    }

    fn options(line: &str) -> Options {
        match read(line) {
            Ok(Command::Run(options)) => options,
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn modes_are_chosen_by_the_last_option_that_names_one() {
        let cases = [
            ("", Mode::Status),
            ("-Q", Mode::Queue),
            ("--queue", Mode::Queue),
            ("-R", Mode::Recv),
            ("--recv", Mode::Recv),
            ("--drain", Mode::Drain),
            ("--lock", Mode::Lock(Lock::Locked)),
            ("--unlock", Mode::Lock(Lock::Unlocked)),
            ("--lock-quit", Mode::Lock(Lock::LockedQuit)),
            ("--lock -Q", Mode::Queue),
            ("-Q --unlock", Mode::Lock(Lock::Unlocked)),
        ];
        for (line, mode) in cases {
            assert_eq!(options(line).mode, mode, "{line}");
        }
    }

    #[test]
    fn words_are_split_as_getopt_long_does() {
        let want = Options {
            mode: Mode::Queue,
            host: Some("h".into()),
            port: Some("1".into()),
            verbosity: 2,
            ..Options::default()
        };
        for line in [
            "-v -v -Q -H h -p 1",
            "-vvQHh -p1",
            "--host=h --port 1 --verbose --verbose --queue",
            "--ho h --po=1 --verb --qui -vv --que",
            "-H x -H h -p 1 -qvvvQ --",
        ] {
            assert_eq!(options(line), want, "{line}");
        }
        assert_eq!(
            options("--c me").client_id.as_deref(),
            Some("me"),
            "as in C, where `--config` is missing"
        );
        assert_eq!(options("--config f").config.as_deref(), Some("f"));
        assert_eq!(options("-cf").config.as_deref(), Some("f"));
        assert_eq!(options("-H -Q").host.as_deref(), Some("-Q"));
        assert_eq!(options("--host= ").host.as_deref(), Some(""));
        assert_eq!(options("-A 1 -A2 --archive 0x10").archive_ids, [1, 2, 16]);
        assert_eq!(options("-I m1").client_id.as_deref(), Some("m1"));
        assert_eq!(options("-Q --fsname testfs0").fsname.as_deref(), Some("testfs0"));
        assert_eq!(options("--timeout 5").timeout, Some(5));
    }

    #[test]
    fn the_number_of_answers_starts_again_with_the_mode() {
        let cases = [("", Some(1)), ("-R", None), ("-R -i 3", Some(3)), ("-i 3 -R", None), ("-i 0", Some(0))];
        for (line, want) in cases {
            assert_eq!(options(line).iterations, want, "{line}");
        }
    }

    #[test]
    fn help_and_version_end_the_reading() {
        let cases = [
            ("-h", Command::Help),
            ("--help --nonsense", Command::Help),
            ("help", Command::Help),
            ("-v help", Command::Help),
            ("-V", Command::Version),
            ("-Q --version extra", Command::Version),
        ];
        for (line, want) in cases {
            assert_eq!(read(line), Ok(want), "{line}");
        }
    }

    #[test]
    fn errors_name_the_argument() {
        let cases = [
            ("--nonsense", "unknown option `--nonsense`"),
            ("-x", "unknown option `-x`"),
            ("-vx", "unknown option `-x`"),
            ("-H", "`-H` needs a value"),
            ("--host", "`--host` needs a value"),
            ("--lock=1", "`--lock` takes no value"),
            ("--ver", "`--ver` could be `--verbose` or `--version`"),
            ("--time 5", "unknown option `--time`"),
            ("--fsname f -Q", "`--fsname` can only come after `-Q`"),
            ("-A x", "`--archive`: `x` is not a whole number from 0 to 2147483647"),
            ("-A 2147483648", "`--archive`: `2147483648` is not a whole number from 0 to 2147483647"),
            ("-i -1", "`--iters`: `-1` is not a whole number from 0 to 2147483647"),
            (
                "-Q file",
                "extra argument `file`: there is no such subcommand (see `coordinatool-client help`)",
            ),
            ("-Q -- -v", "extra argument `-v`: there is no such subcommand (see `coordinatool-client help`)"),
            ("help me", "extra argument `me`"),
            (
                "-v explain x",
                "extra argument `explain`: a subcommand comes first, its options behind it (see `coordinatool-client \
                 explain --help`)",
            ),
            ("-", "extra argument `-`: there is no such subcommand (see `coordinatool-client help`)"),
        ];
        for (line, want) in cases {
            assert_eq!(read(line).unwrap_err().to_string(), want, "{line}");
        }
        use std::os::unix::ffi::OsStringExt;
        assert!(matches!(parse([OsString::from_vec(vec![0xff])]), Err(UsageError::NotText(_))));
    }
}
