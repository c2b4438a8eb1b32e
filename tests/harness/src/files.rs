//! Files of a test and what is asked for them, like a user with `lfs`.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use crate::ledger::{self, Entry};
use crate::lustre::Ask;
use crate::testbed::Testbed;

/// State flag of `lfs hsm_state`: the file has a copy in the archive, perhaps an old one.
pub const EXISTS: u32 = 0x1;
/// Its data is not in Lustre.
pub const RELEASED: u32 = 0x4;
/// The copy in the archive is complete.
pub const ARCHIVED: u32 = 0x8;

/// What goes with a request.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// `--archive`; `None` leaves the choice to the MDT.
    pub archive_id: Option<u32>,
    /// `--data`.
    pub data: Vec<u8>,
}

impl Request {
    /// With this data.
    pub fn data(data: impl AsRef<[u8]>) -> Self {
        Self { archive_id: None, data: data.as_ref().to_vec() }
    }

    /// With this archive id.
    pub fn archive(id: u32) -> Self {
        Self { archive_id: Some(id), data: Vec::new() }
    }
}

/// Files `file.N` with the content `foo.N`, the even ones on the first MDT and the odd ones on the second.
#[derive(Debug)]
pub struct FileSet<'bed> {
    bed: &'bed Testbed,
    numbers: Vec<u32>,
}

impl<'bed> FileSet<'bed> {
    /// Writes the files.
    pub fn create(bed: &'bed Testbed, numbers: Range<u32>) -> Self {
        for mdt in 0..bed.mdts() {
            bed.lustre().make_directory(&directory(mdt), mdt);
        }
        let set = Self { bed, numbers: numbers.collect() };
        for &number in &set.numbers {
            fs::write(set.path(number), content(number)).expect("a file can be written");
        }
        set
    }

    /// Those of them with these numbers.
    pub fn part(&self, numbers: Range<u32>) -> Self {
        Self {
            bed: self.bed,
            numbers: self.numbers.iter().copied().filter(|n| numbers.contains(n)).collect(),
        }
    }

    /// How many they are.
    pub fn len(&self) -> usize {
        self.numbers.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The path of one of them.
    pub fn path(&self, number: u32) -> PathBuf {
        let mdt = number as usize % self.bed.mdts();
        self.bed.mount(0).join(directory(mdt)).join(format!("file.{number}"))
    }

    /// All paths.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.numbers.iter().map(|&number| self.path(number)).collect()
    }

    /// The FIDs as Lustre prints them, in order.
    pub fn fids(&self) -> Vec<String> {
        self.bed.lustre().fids(&self.paths())
    }

    /// Asks for archives.
    pub fn archive(&self, request: &Request) {
        self.bed.lustre().request(Ask::Archive, &self.paths(), request);
    }

    /// Asks for restores.
    pub fn restore(&self, request: &Request) {
        self.bed.lustre().request(Ask::Restore, &self.paths(), request);
    }

    /// Asks for the removal of the copies.
    pub fn remove(&self, request: &Request) {
        self.bed.lustre().request(Ask::Remove, &self.paths(), request);
    }

    /// Cancels what was asked for.
    pub fn cancel(&self) {
        self.bed.lustre().request(Ask::Cancel, &self.paths(), &Request::default());
    }

    /// Gives the data back, which must be archived.
    pub fn release(&self) {
        self.bed.lustre().request(Ask::Release, &self.paths(), &Request::default());
    }

    /// The archive ids that `lfs hsm_state` shows, in order.
    pub fn archive_ids(&self) -> Vec<u32> {
        self.bed.lustre().hsm_states(&self.paths()).into_iter().map(|state| state.archive_id).collect()
    }

    /// The state flags, in order.
    pub fn states(&self) -> Vec<u32> {
        self.bed.lustre().hsm_states(&self.paths()).into_iter().map(|state| state.flags).collect()
    }

    /// How many of them are archived.
    pub fn archived(&self) -> usize {
        self.states().iter().filter(|&&state| state & ARCHIVED != 0).count()
    }

    /// Waits until all are archived.
    pub fn wait_archived(&self) {
        self.bed.wait(&format!("{} files are archived", self.len()), || self.archived() == self.len());
    }

    /// Waits until none is released, and compares the contents.
    pub fn wait_restored(&self) {
        self.bed.wait(&format!("{} files are restored", self.len()), || {
            self.states().iter().all(|state| state & RELEASED == 0)
        });
        self.check_contents();
    }

    /// Waits until none is archived.
    pub fn wait_removed(&self) {
        self.bed.wait(&format!("{} copies are removed", self.len()), || self.archived() == 0);
    }

    /// Waits until no request for these files is left at the MDTs, and gives those that there were.
    pub fn wait_ended(&self) -> Vec<Entry> {
        self.bed.wait_for(&format!("all requests for {} files have ended", self.len()), || {
            let entries = self.entries();
            entries.iter().all(Entry::has_ended).then_some(entries)
        })
    }

    /// The ledger's entries for these files.
    pub fn entries(&self) -> Vec<Entry> {
        let fids: BTreeSet<String> = self.fids().into_iter().collect();
        self.bed.lustre().ledger().into_iter().filter(|entry| fids.contains(&entry.fid)).collect()
    }

    /// Compares the contents with what was written.
    pub fn check_contents(&self) {
        for &number in &self.numbers {
            let found = fs::read(self.path(number)).expect("a file can be read");
            assert_eq!(
                String::from_utf8_lossy(&found),
                content(number),
                "content of {}",
                self.path(number).display()
            );
        }
    }

    /// Checks that each of these files has had exactly one request of a kind, ended once and with success.
    pub fn check_each_done_once(&self, action: &str) {
        let entries = self.entries();
        for fid in self.fids() {
            let of_file: Vec<&Entry> =
                entries.iter().filter(|e| e.fid == fid && e.action == action).collect();
            assert_eq!(of_file.len(), 1, "{action} requests of {fid}: {of_file:?}");
            let entry = of_file[0];
            assert_eq!((entry.status, entry.accepted_ends), (ledger::Status::Succeeded, 1), "{entry:?}");
        }
    }
}

/// The directory of the files of one MDT.
fn directory(mdt: usize) -> String {
    format!("tests{mdt}")
}

fn content(number: u32) -> String {
    format!("foo.{number}\n")
}

/// Writes a program that can be run at once, even while other threads of this process start programs: a child of theirs
/// that has not become its program yet would hold the file open for writing ("text file busy").
pub fn write_program(path: &std::path::Path, text: &str) {
    use std::io::Write;
    use std::process::{Command, Stdio};

    let mut writer = Command::new("sh")
        .args(["-c", "cat >\"$1\" && chmod 755 \"$1\"", "sh"])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .expect("there is a shell");
    writer.stdin.take().expect("a pipe").write_all(text.as_bytes()).expect("the shell reads");
    assert!(writer.wait().expect("a child").success(), "cannot write {}", path.display());
}
