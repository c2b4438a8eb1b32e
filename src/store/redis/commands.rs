//! Changes of fields as few commands: `HSET` and `HDEL` with many fields each, made as the changes come.
//!
//! What is set goes before what is removed, so that the last change of a field counts, whatever came before. A field that is
//! set after it was removed is the exception: what came until then is complete, and commands of its own follow.

use lustreapi_sys::Fid;
use rustc_hash::FxHashSet;

use super::names::{self, Hash};
use super::transaction::{push_head, push_word, push_word_with};

/// Fields in one command, so that none takes long.
const FIELDS: usize = 512;
/// Bytes of memory that are kept for the next ones.
const KEPT: usize = 2 << 20;
const HASHES: usize = Hash::ALL.len();

/// The end of one command, or of all there is so far of the last one.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    fields: usize,
    end: usize,
}

/// The words of commands of one kind.
#[derive(Debug, Default)]
struct Words {
    bytes: Vec<u8>,
    parts: Vec<Part>,
}

impl Words {
    /// Where the words of one more field go.
    fn field(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        write(&mut self.bytes);
        let end = self.bytes.len();
        match self.parts.last_mut() {
            Some(part) if part.fields < FIELDS => *part = Part { fields: part.fields + 1, end },
            _ => self.parts.push(Part { fields: 1, end }),
        }
    }

    /// Appends the commands, and forgets them. Returns how many they are.
    fn complete(&mut self, command: &[u8], key: &[u8], words: usize, out: &mut Vec<u8>) -> usize {
        let mut start = 0;
        for part in &self.parts {
            push_head(2 + words * part.fields, out);
            push_word(command, out);
            push_word(key, out);
            out.extend_from_slice(&self.bytes[start..part.end]);
            start = part.end;
        }
        let count = self.parts.len();
        self.clear();
        count
    }

    fn clear(&mut self) {
        self.bytes.clear();
        self.bytes.shrink_to(KEPT);
        self.parts.clear();
    }
}

/// What a field is named for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Name {
    /// A request: its cookie and one of its FIDs.
    Request(u64, Fid),
    /// A note.
    Note(Box<str>),
}

impl Name {
    /// Appends it as a word of a command.
    fn push(&self, out: &mut Vec<u8>) {
        match self {
            Self::Request(cookie, fid) => push_word(&names::field_bytes(*cookie, *fid), out),
            Self::Note(name) => push_word(name.as_bytes(), out),
        }
    }
}

/// Commands in the making.
#[derive(Debug)]
pub(super) struct Commands {
    /// The key of each hash.
    keys: [String; HASHES],
    set: [Words; HASHES],
    removed: [Words; HASHES],
    /// Fields that were removed since commands were completed.
    gone: FxHashSet<(Hash, Name)>,
    /// Commands that are complete.
    complete: Vec<u8>,
    count: usize,
}

impl Commands {
    /// None yet, for hashes with these keys.
    pub fn new(key: impl Fn(Hash) -> String) -> Self {
        Self {
            keys: Hash::ALL.map(key),
            set: Default::default(),
            removed: Default::default(),
            gone: FxHashSet::default(),
            complete: Vec::new(),
            count: 0,
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.bytes() == 0
    }

    /// About how many bytes they have.
    pub fn bytes(&self) -> usize {
        let open = self.set.iter().chain(&self.removed).map(|words| words.bytes.len());
        self.complete.len() + open.sum::<usize>()
    }

    /// Sets a field to what `write` appends.
    pub fn set(&mut self, hash: Hash, name: Name, write: impl FnOnce(&mut Vec<u8>)) {
        let field = (hash, name);
        if !self.gone.is_empty() && self.gone.contains(&field) {
            let mut complete = std::mem::take(&mut self.complete);
            self.complete(&mut complete);
            self.complete = complete;
        }
        self.set[hash as usize].field(|out| {
            field.1.push(out);
            push_word_with(out, write);
        });
    }

    /// Removes a field.
    pub fn remove(&mut self, hash: Hash, name: Name) {
        self.removed[hash as usize].field(|out| name.push(out));
        self.gone.insert((hash, name));
    }

    /// Appends those that are not complete.
    fn complete(&mut self, out: &mut Vec<u8>) {
        for (at, key) in self.keys.iter().enumerate() {
            self.count += self.set[at].complete(b"HSET", key.as_bytes(), 2, out);
            self.count += self.removed[at].complete(b"HDEL", key.as_bytes(), 1, out);
        }
        self.gone.clear();
    }

    /// Appends them, and forgets them. Returns how many they are.
    pub fn take(&mut self, out: &mut Vec<u8>) -> usize {
        out.append(&mut self.complete);
        self.complete(out);
        std::mem::take(&mut self.count)
    }
}
