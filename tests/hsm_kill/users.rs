//! Users who archive, release, restore and remove, file after file, so that there always is more to do than movers can.

use std::fs;
use std::path::PathBuf;

use harness::ledger::{Entry, Status};
use harness::{ARCHIVED, Ask, EXISTS, FileSet, RELEASED, Random, Request, Testbed};

/// What a file's user waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Archived,
    Restored,
    Removed,
}

#[derive(Debug)]
struct Owned {
    number: u32,
    path: PathBuf,
    fid: String,
    wish: Wish,
}

/// All users.
#[derive(Debug)]
pub struct Users<'bed> {
    bed: &'bed Testbed,
    random: Random,
    files: Vec<Owned>,
    next: u32,
    busy: bool,
    finished: usize,
}

impl<'bed> Users<'bed> {
    /// So many files at a time.
    pub fn start(bed: &'bed Testbed, files: u32, seed: u64) -> Self {
        let mut users =
            Self { bed, random: Random::new(seed), files: Vec::new(), next: 0, busy: true, finished: 0 };
        users.create(files);
        users
    }

    fn create(&mut self, count: u32) {
        if count == 0 {
            return;
        }
        let set = FileSet::create(self.bed, self.next..self.next + count);
        let numbers = self.next..self.next + count;
        for ((number, path), fid) in numbers.zip(set.paths()).zip(set.fids()) {
            self.files.push(Owned { number, path, fid, wish: Wish::Archived });
        }
        // Three bytes of data: `active_requests` shows them all.
        set.archive(&Request {
            archive_id: Some(1),
            data: format!("t={}", self.random.below(3)).into_bytes(),
        });
        self.next += count;
    }

    /// No new files from now on.
    pub fn wind_down(&mut self) {
        self.busy = false;
    }

    /// Whether all have got what they wanted.
    pub fn are_content(&self) -> bool {
        self.files.is_empty()
    }

    /// Files that were archived, restored and removed.
    pub fn finished(&self) -> usize {
        self.finished
    }

    /// What is still wanted.
    pub fn wishes(&self) -> String {
        let wishes: Vec<String> = self
            .files
            .iter()
            .map(|file| format!("{} of {} ({})", file.fid, file.number, wish(file.wish)))
            .collect();
        wishes.join(", ")
    }

    /// Looks at all files, and asks for what is next. `ledger` is recent or empty.
    pub fn step(&mut self, ledger: &[Entry]) {
        let paths: Vec<PathBuf> = self.files.iter().map(|file| file.path.clone()).collect();
        let states = self.bed.lustre().hsm_states(&paths);
        let (mut restore, mut again) = (Vec::new(), Vec::new());
        let (mut remove, mut gone) = (Vec::new(), Vec::new());
        for (index, (file, state)) in self.files.iter_mut().zip(states).enumerate() {
            let has = |flag| state.flags & flag != 0;
            match file.wish {
                Wish::Archived if has(ARCHIVED) => {
                    file.wish = Wish::Restored;
                    restore.push(file.path.clone());
                }
                Wish::Restored if !has(RELEASED) => {
                    let found = fs::read_to_string(&file.path).expect("a file can be read");
                    assert_eq!(
                        found,
                        format!("foo.{}\n", file.number),
                        "{} was restored",
                        file.path.display()
                    );
                    file.wish = Wish::Removed;
                    remove.push(file.path.clone());
                }
                // The mover was killed while the MDT took its end, and its volatile file went with it: that has failed, and
                // users ask again.
                Wish::Restored if failed(ledger, &file.fid, "RESTORE") => again.push(file.path.clone()),
                // A mover that was killed after it had deleted the copy leaves nothing for the next one.
                Wish::Removed if !has(EXISTS) || failed(ledger, &file.fid, "REMOVE") => gone.push(index),
                _ => {}
            }
        }
        let request = Request::default();
        self.bed.lustre().request(Ask::Release, &restore, &request);
        self.bed.lustre().request(Ask::Restore, &restore, &request);
        self.bed.lustre().request(Ask::Restore, &again, &request);
        self.bed.lustre().request(Ask::Remove, &remove, &request);
        self.finished += gone.len();
        for index in gone.iter().rev() {
            self.files.swap_remove(*index);
        }
        if self.busy {
            self.create(gone.len() as u32);
        }
    }
}

/// Whether the last request of this kind has failed.
fn failed(ledger: &[Entry], fid: &str, action: &str) -> bool {
    let last = ledger.iter().rev().find(|entry| entry.fid == fid && entry.action == action);
    last.is_some_and(|entry| entry.status == Status::Failed)
}

fn wish(wish: Wish) -> &'static str {
    match wish {
        Wish::Archived => "archive",
        Wish::Restored => "restore",
        Wish::Removed => "remove",
    }
}
