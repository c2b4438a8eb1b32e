//! The state on disk: a thread appends what the engine records, so that a hung disk stops neither heartbeats nor status.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use crate::ha::engine::LostState;
use crate::ha::state::{Record, State, log};
use crate::system::records_file::RecordsFile;

/// The file is written anew when it has grown beyond this, in bytes, or to twice the size it had then.
const COMPACT: u64 = 1 << 20;
/// Larger files are not ours.
const MAX_FILE: u64 = 1 << 30;
/// When what could not be written is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Name of the file in the state directory.
pub const FILE: &str = "state";

/// What the thread says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// All batches up to this one are durable.
    Durable(u64),
    /// Nothing can be stored now: why. It is tried again until it can.
    Failing(String),
}

/// The state directory, locked.
#[derive(Debug)]
pub struct Journal {
    file: RecordsFile,
    compact_at: u64,
    /// The sum of what is in the file.
    state: State,
    _lock: File,
}

impl Journal {
    /// Locks the directory, which is made if it is not there, and reads what is in it. A file that is damaged is kept aside.
    /// Where there is none yet, it begins with the records that `earlier` gives.
    ///
    /// # Errors
    /// When another manager uses it, a newer version wrote it, it cannot be used, or `earlier` fails.
    pub fn open(
        directory: &Path,
        earlier: impl FnOnce() -> io::Result<Vec<Record>>,
    ) -> io::Result<(Self, State, LostState)> {
        let at = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(directory);
        made.map_err(|error| at(directory, error))?;
        let lock = lock(directory).map_err(|error| at(directory, error))?;
        let path = directory.join(FILE);
        let (state, lost) = match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let mut state = State::default();
                earlier()?.iter().for_each(|record| state.apply(record));
                (state, LostState::Absent)
            }
            Err(error) => return Err(at(&path, error)),
            Ok(_) => {
                let mut bytes = Vec::new();
                let file = File::open(&path).map_err(|error| at(&path, error))?;
                file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|error| at(&path, error))?;
                let found = log::recover(&bytes).map_err(|error| at(&path, io::Error::other(error)))?;
                if found.damage.is_some() {
                    keep_aside(&path, &bytes).map_err(|error| at(&path, error))?;
                }
                (found.state, found.damage.map_or(LostState::No, LostState::Damaged))
            }
        };
        let file =
            log::file(&state).map_err(io::Error::from).and_then(|bytes| RecordsFile::create(&path, &bytes));
        let file = file.map_err(|error| at(&path, error))?;
        let compact_at = COMPACT.max(2 * file.length());
        let journal = Self { file, compact_at, state: state.clone(), _lock: lock };
        Ok((journal, state, lost))
    }

    fn append(&mut self, records: &[Record]) -> io::Result<()> {
        self.file.append(&log::lines(records)?)?;
        for record in records {
            self.state.apply(record);
        }
        if self.file.length() > self.compact_at {
            if let Err(error) =
                log::file(&self.state).map_err(io::Error::from).and_then(|bytes| self.file.replace(&bytes))
            {
                tracing::warn!("{} is not written anew: {error}", self.file.path().display());
            }
            self.compact_at = COMPACT.max(2 * self.file.length());
        }
        Ok(())
    }

    /// Starts the thread. Batches are made durable in order, several at once where they wait.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(
        mut self,
        report: impl Fn(Report) + Send + 'static,
    ) -> io::Result<mpsc::Sender<(u64, Vec<Record>)>> {
        let (sender, receiver) = mpsc::channel::<(u64, Vec<Record>)>();
        std::thread::Builder::new().name("journal".to_owned()).spawn(move || {
            while let Ok((mut number, mut records)) = receiver.recv() {
                for (next, more) in receiver.try_iter().take(1000) {
                    number = next;
                    records.extend(more);
                }
                while let Err(error) = self.append(&records) {
                    report(Report::Failing(format!("{}: {error}", self.file.path().display())));
                    std::thread::sleep(RETRY);
                }
                report(Report::Durable(number));
            }
        })?;
        Ok(sender)
    }
}

fn lock(directory: &Path) -> io::Result<File> {
    let lock = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .mode(0o600)
        .open(directory.join("lock"))?;
    match rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(lock),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(io::Error::other("another manager uses this directory")),
        Err(error) => Err(error.into()),
    }
}

fn keep_aside(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let aside =
        (0..1000).map(|number| path.with_extension(format!("damaged.{number}"))).find(|path| !path.exists());
    let Some(aside) = aside else { return Ok(()) };
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&aside)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    tracing::error!("{} is damaged: it is kept as {}", path.display(), aside.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::ids::{Epoch, ManagerId};

    fn nothing() -> io::Result<Vec<Record>> {
        Ok(Vec::new())
    }

    #[test]
    fn what_was_before_is_read_once_and_at_once_durable() {
        let directory = tempfile::tempdir().unwrap();
        let failed = Journal::open(directory.path(), || Err(io::Error::other("unreadable"))).unwrap_err();
        assert_eq!(failed.to_string(), "unreadable");
        let (_, first, lost) = Journal::open(directory.path(), || Ok(vec![reign(3)])).unwrap();
        assert_eq!((first.epoch, lost), (Epoch(3), LostState::Absent));
        let (_, second, lost) = Journal::open(directory.path(), || Ok(vec![reign(9)])).unwrap();
        assert_eq!((second, lost), (first, LostState::No));
    }

    fn reign(epoch: u64) -> Record {
        Record::Reign { manager: ManagerId(7), epoch: Epoch(epoch) }
    }

    #[test]
    fn states_survive() {
        let directory = tempfile::tempdir().unwrap();
        let (mut journal, state, lost) = Journal::open(directory.path(), nothing).unwrap();
        assert_eq!((state, lost), (State::default(), LostState::Absent));
        for epoch in 1..20 {
            journal.append(&[reign(epoch)]).unwrap();
            journal.compact_at = if epoch % 3 == 0 { 1 } else { COMPACT };
        }
        assert!(
            Journal::open(directory.path(), nothing).unwrap_err().to_string().contains("another manager")
        );
        drop(journal);
        let path = directory.path().join(FILE);
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(b"torn");
        fs::write(&path, &bytes).unwrap();
        let (journal, state, lost) = Journal::open(directory.path(), nothing).unwrap();
        assert_eq!((state.epoch, lost), (Epoch(19), LostState::No));
        drop(journal);
        bytes[20] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let (_, _, lost) = Journal::open(directory.path(), nothing).unwrap();
        assert!(matches!(lost, LostState::Damaged(_)));
        assert_eq!(fs::read(directory.path().join("state.damaged.0")).unwrap(), bytes);
    }

    #[test]
    fn batches_are_reported_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let (journal, ..) = Journal::open(directory.path(), nothing).unwrap();
        let (reports, received) = mpsc::channel();
        let sender = journal.start(move |report| reports.send(report).unwrap()).unwrap();
        for number in 1..=50 {
            sender.send((number, vec![reign(number)])).unwrap();
        }
        let mut last = 0;
        while last < 50 {
            let Report::Durable(number) = received.recv().unwrap() else { panic!("it can be stored") };
            assert!(number > last);
            last = number;
        }
    }
}
