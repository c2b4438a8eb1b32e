//! What administrators write for the daemon and its movers: configuration, keys, certificates.

use std::cell::Cell;
use std::ffi::OsString;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use coordinatool::client::args::Options as ClientOptions;
use coordinatool::client::settings::{Settings, Surroundings};
use coordinatool::security::psk::Psk;
use coordinatool::server::config::{Note, Sources, load};
use coordinatool::server::options::Options;
use coordinatool::tls::{Identity, Paths, Peer, Trust};

struct OneFile<'a> {
    text: &'a [u8],
    opened: Cell<usize>,
}

impl Sources for OneFile<'_> {
    fn env(&self, _: &str) -> Option<OsString> {
        None
    }

    fn file(&self, path: &Path) -> io::Result<Vec<u8>> {
        assert_eq!(path, Path::new("/f.conf"), "nothing else is opened");
        self.opened.set(self.opened.get() + 1);
        Ok(self.text.to_vec())
    }
}

impl Surroundings for OneFile<'_> {
    fn variable(&self, _: &str) -> Option<OsString> {
        None
    }

    fn file(&self, path: &str) -> io::Result<Vec<u8>> {
        Sources::file(self, Path::new(path))
    }
}

/// The same file, as the command line reads it.
pub fn client(data: &[u8]) {
    let around = OneFile { text: data, opened: Cell::new(0) };
    let options = ClientOptions { config: Some("/f.conf".into()), ..ClientOptions::default() };
    let mut problems = Vec::new();
    if let Err(problem) = Settings::resolve(&options, &around, &mut problems) {
        problems.push(problem);
    }
    let lines = data.split(|byte| *byte == b'\n').count();
    assert!(around.opened.get() == 1 && problems.len() <= lines + 1);
    assert!(problems.iter().all(|problem| !problem.to_string().contains('\n')));
}

/// A configuration is taken, or refused with places that exist, each in one line of the log.
pub fn config(data: &[u8]) {
    let sources = OneFile { text: data, opened: Cell::new(0) };
    let options = Options {
        config: Some(PathBuf::from("/f.conf")),
        lustre: Some("none".into()),
        fsname: Some("testfs0".into()),
        ..Options::default()
    };
    let lines = data.split(|byte| *byte == b'\n').count();
    let place = |text: &str| {
        let Some(rest) = text.strip_prefix("/f.conf:") else { return };
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let line: usize = rest[..end].parse().unwrap();
        assert!((1..=lines).contains(&line), "line {line} of {lines}");
    };
    match load(&options, &sources) {
        Ok(loaded) => {
            for note in &loaded.notes {
                let (Note::Info(text) | Note::Warn(text)) = note;
                place(text);
                assert!(!text.contains('\n'));
            }
            let again = load(&options, &sources).unwrap();
            assert_eq!(format!("{loaded:?}"), format!("{again:?}"));
        }
        Err(problems) => {
            assert!(!problems.0.is_empty());
            problems.to_string().lines().for_each(place);
        }
    }
}

/// A key file is taken, or refused without a word of what is in it.
pub fn key(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    match Psk::parse(&text) {
        Ok(key) => {
            assert_eq!(key.id().len(), 16);
            assert!(key.server().is_ok() && key.client().is_ok());
            assert_eq!(Psk::parse(&text).unwrap().id(), key.id());
            let shown = format!("{key:?}");
            assert!(text.split_whitespace().all(|word| word.len() < 40 || !shown.contains(word)));
        }
        Err(why) => {
            let secret = |word: &&str| word.len() >= 16 && word.chars().all(|c| c.is_ascii_alphanumeric());
            let word = text.split_whitespace().filter(secret).find(|word| why.contains(word));
            assert_eq!(word, None, "{why}");
        }
    }
}

/// What a stranger may show as its certificate: reading ends, and what is shown of it is bounded by what it is.
pub fn certificate(data: &[u8]) {
    if let Ok(peer) = Peer::of(data) {
        let shown = format!("{peer:?}");
        assert!(shown.len() < 1024 + 40 * data.len());
    }
}

/// A file with certificates and a key, as what each of the three files holds: it is taken, or refused in one line that names a
/// file. A refusal never shows the key.
pub fn tls(data: &[u8]) {
    thread_local! {
        static FILE: (tempfile::TempDir, PathBuf) = {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("all.pem");
            (directory, path)
        };
    }
    FILE.with(|(_, path)| {
        let mut file = OpenOptions::new();
        let mut file = file.write(true).create(true).truncate(true).mode(0o600).open(path).unwrap();
        file.write_all(data).unwrap();
        let paths = Paths { authority: path.clone(), certificate: path.clone(), key: path.clone() };
        match Identity::load(&paths) {
            Ok(identity) => {
                identity.expires().unwrap();
                assert!(
                    identity.warnings(SystemTime::now()).iter().all(|line| !line.contains(char::is_control))
                );
                let _ = identity.server_config(&Trust::default());
                identity.client_config(&["host"], &Trust::default()).unwrap();
            }
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("all.pem") && !text.contains('\n'), "{text:?}");
                let lines = data
                    .split(|byte| *byte == b'\n')
                    .filter(|line| line.len() > 20 && !line.starts_with(b"-"));
                let shown =
                    |line: &[u8]| std::str::from_utf8(line).is_ok_and(|line| text.contains(line.trim()));
                assert!(!lines.into_iter().any(shown), "{text:?}");
            }
        }
    });
}
