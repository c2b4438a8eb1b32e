//! The file of intents: a thread appends and syncs, so that a hung disk stops neither heartbeats nor results.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::mpsc;

use tokio::sync::mpsc::UnboundedSender;

use crate::ha::agent::{Event, IntentRecord};
use crate::ha::ids::{BootId, OrderId};
use crate::ha::records;
use crate::system::records_file::RecordsFile;

/// A file of intents is written anew when it has grown beyond this, in bytes.
const COMPACT: u64 = 1 << 20;
/// Larger files are not ours.
const MAX_FILE: u64 = 1 << 28;

/// The file, and the lock on its directory.
#[derive(Debug)]
pub struct Intents {
    file: RecordsFile,
    boot: BootId,
    /// What counts, for the next time that it is written anew.
    live: Vec<IntentRecord>,
    compact_at: u64,
    _lock: File,
}

impl Intents {
    /// Opens the file in a directory, which is made if it is not there, and returns what counts of it.
    ///
    /// # Errors
    /// When another agent uses the directory, or a file cannot be read or written.
    pub fn open(directory: &Path, boot: &BootId) -> io::Result<(Self, Vec<IntentRecord>)> {
        let at = |path: &Path, error: io::Error| {
            io::Error::new(error.kind(), format!("{}: {error}", path.display()))
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(|error| at(directory, error))?;
        let path = directory.join("lock");
        let lock = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let lock = lock.map_err(|error| at(&path, error))?;
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).map_err(|error| {
            let why = if error == rustix::io::Errno::WOULDBLOCK {
                io::Error::other("another agent uses this directory")
            } else {
                error.into()
            };
            at(directory, why)
        })?;
        let path = directory.join("intents");
        let mut bytes = Vec::new();
        match File::open(&path) {
            Ok(file) => {
                file.take(MAX_FILE).read_to_end(&mut bytes).map_err(|error| at(&path, error))?;
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(at(&path, error)),
        }
        let read = records::read::<IntentRecord>(&bytes);
        for place in &read.damaged {
            tracing::error!("{}: {place}: what it held is lost", path.display());
        }
        let live = compact(read.records, boot);
        let file = lines(&live).and_then(|bytes| RecordsFile::create(&path, &bytes));
        let file = file.map_err(|error| at(&path, error))?;
        let compact_at = COMPACT.max(2 * file.length());
        let intents = Self { file, boot: boot.clone(), live: live.clone(), compact_at, _lock: lock };
        Ok((intents, live))
    }

    /// Appends and syncs. After an error the file is as it was before.
    fn append(&mut self, batch: &[IntentRecord]) -> io::Result<()> {
        self.file.append(&lines(batch)?)?;
        self.live.extend_from_slice(batch);
        if self.file.length() > self.compact_at {
            self.live = compact(std::mem::take(&mut self.live), &self.boot);
            if let Err(error) = lines(&self.live).and_then(|bytes| self.file.replace(&bytes)) {
                tracing::warn!("{} is not written anew: {error}", self.file.path().display());
            }
            self.compact_at = COMPACT.max(2 * self.file.length());
        }
        Ok(())
    }

    /// Starts the thread that writes. Records are stored one by one, in order.
    ///
    /// # Errors
    /// When there can be no thread.
    pub fn start(mut self, inputs: UnboundedSender<Event>) -> io::Result<mpsc::Sender<IntentRecord>> {
        let (sender, receiver) = mpsc::channel::<IntentRecord>();
        std::thread::Builder::new().name("intents".to_owned()).spawn(move || {
            let mut count = 0;
            while let Ok(first) = receiver.recv() {
                let batch: Vec<IntentRecord> =
                    std::iter::once(first).chain(receiver.try_iter().take(255)).collect();
                let mut error = self.append(&batch).err();
                if let (Some(why), true) = (&error, batch.len() > 1) {
                    tracing::debug!("one by one: {why}");
                    // Only the last of a report can have failed: find out which can be stored.
                    for record in &batch {
                        error = self.append(std::slice::from_ref(record)).err();
                        count += 1;
                        report(&inputs, count, error.as_ref(), self.file.path());
                    }
                    continue;
                }
                count += batch.len() as u64;
                report(&inputs, count, error.as_ref(), self.file.path());
            }
        })?;
        Ok(sender)
    }
}

fn report(inputs: &UnboundedSender<Event>, count: u64, error: Option<&io::Error>, path: &Path) {
    let error = error.map(|error| format!("{}: {error}", path.display()));
    if let Some(error) = &error {
        tracing::error!("an intent cannot be stored, so nothing is done: {error}");
    }
    let _ = inputs.send(Event::Stored { count, error });
}

/// What still counts: the last seal, and operations of this boot that nobody has told to forget.
fn compact(all: Vec<IntentRecord>, boot: &BootId) -> Vec<IntentRecord> {
    let mut seal: Option<IntentRecord> = None;
    let mut operations: BTreeMap<OrderId, Vec<IntentRecord>> = BTreeMap::new();
    let mut order_of_orders = Vec::new();
    for record in all {
        match &record {
            IntentRecord::Sealed { epoch, .. } => {
                let higher = |present: &IntentRecord| matches!(present, IntentRecord::Sealed { epoch: present, .. } if present >= epoch);
                if !seal.as_ref().is_some_and(higher) {
                    seal = Some(record);
                }
            }
            IntentRecord::Intent(intent) => {
                if intent.boot == *boot {
                    order_of_orders.push(intent.order);
                    operations.insert(intent.order, vec![record]);
                }
            }
            IntentRecord::Over { order, .. } => {
                if let Some(records) = operations.get_mut(order) {
                    records.push(record);
                }
            }
            IntentRecord::Forgotten { order } => {
                operations.remove(order);
            }
        }
    }
    let operations = order_of_orders.iter().filter_map(|order| operations.remove(order)).flatten();
    seal.into_iter().chain(operations).collect::<Vec<_>>()
}

fn lines(records: &[IntentRecord]) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for record in records {
        bytes.extend(records::line(record)?);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::agent::Intent;
    use crate::ha::ids::{Epoch, ManagerId, ManagerRun};
    use crate::ha::ocf::Outcome;
    use crate::ha::protocol::{Action, Operation, ResourceSpec};

    fn order(number: u64) -> OrderId {
        OrderId { epoch: Epoch(1), run: ManagerRun(1), number }
    }

    fn intent(number: u64, boot: &str) -> IntentRecord {
        let resource = ResourceSpec { id: "r".into(), kind: "a/b".into(), parameters: Default::default() };
        let operation = Operation { resource, action: Action::Start, timeout_ms: None };
        IntentRecord::Intent(Intent { order: order(number), boot: boot.into(), operation })
    }

    fn seal(epoch: u64) -> IntentRecord {
        let (epoch, manager, run) = (Epoch(epoch), ManagerId(1), ManagerRun(1));
        IntentRecord::Sealed { epoch, manager, run, cluster: "c".into() }
    }

    #[test]
    fn what_counts_is_kept() {
        let over = |number| IntentRecord::Over { order: order(number), outcome: Some(Outcome::Exited(0)) };
        let forgotten = |number| IntentRecord::Forgotten { order: order(number) };
        let all = vec![
            seal(3),
            intent(1, "old"),
            intent(2, "now"),
            over(2),
            intent(3, "now"),
            over(3),
            seal(4),
            seal(2),
            forgotten(3),
            intent(4, "now"),
            over(1),
        ];
        assert_eq!(compact(all, &"now".into()), [seal(4), intent(2, "now"), over(2), intent(4, "now")]);
    }

    #[test]
    fn intents_survive_and_the_directory_has_one_user() {
        let directory = tempfile::tempdir().unwrap();
        let boot = "now".into();
        let (mut intents, live) = Intents::open(directory.path(), &boot).unwrap();
        assert!(live.is_empty());
        intents.append(&[seal(1), intent(1, "now")]).unwrap();
        let other = Intents::open(directory.path(), &boot).unwrap_err().to_string();
        assert!(other.contains("another agent"), "{other}");
        drop(intents);
        let path = directory.path().join("intents");
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend(b"torn");
        fs::write(&path, bytes).unwrap();
        let (mut intents, live) = Intents::open(directory.path(), &boot).unwrap();
        assert_eq!(live, [seal(1), intent(1, "now")]);
        intents.compact_at = 1;
        intents.append(&[IntentRecord::Forgotten { order: order(1) }]).unwrap();
        intents.append(&[intent(2, "now")]).unwrap();
        drop(intents);
        assert_eq!(Intents::open(directory.path(), &boot).unwrap().1, [seal(1), intent(2, "now")]);
    }
}
