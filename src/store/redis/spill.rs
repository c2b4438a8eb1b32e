//! What redis could not take: changes in order, in files of the node's own disk, until redis has them.
//!
//! The files have the frames of [`crate::store::record`]. A file that begins a snapshot holds, between the changes, all
//! requests there are: once it is complete, the files before it are of no more use, and neither is what redis held.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use super::meta::Stamp;
use crate::hsm::effect::StoreOp;
use crate::store::record::{self, FRAME_HEAD, FrameAt, HeadFound, Kind, SegmentHead};
use crate::store::{disk, notes};
use crate::system::records_file::RecordsFile;

const PREFIX: &str = "spill-";
/// A file that has grown to this is followed by another one.
const FILE_BYTES: u64 = 16 << 20;
/// Free bytes below which no more requests are taken: what becomes of the known ones needs room as well.
const RESERVE: u64 = 16 << 20;

/// In the flags of a note: it is gone. Its name must be known to take it out of redis, so it stands here as one that is put.
const FORGOTTEN: u64 = 1;

fn note_as_put(op: &StoreOp) -> Option<StoreOp> {
    let StoreOp::Note { name, value } = op else { return None };
    let mut put = notes::to_op(name, Some(value.as_deref().unwrap_or_default()));
    if let (StoreOp::Put(item), None) = (&mut put, value) {
        item.flags = FORGOTTEN;
    }
    Some(put)
}

/// What a spill belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SpillHead {
    /// The last commit that redis has confirmed.
    pub confirmed: Stamp,
    /// The last one that it may have got.
    pub attempted: u64,
    /// The namespace in redis.
    pub namespace: String,
    /// Name of the file system.
    pub fsname: String,
}

impl SpillHead {
    fn encode(&self) -> Vec<u8> {
        format!("{}\n{}\n{}\n{}", self.confirmed, self.attempted, self.namespace, self.fsname).into_bytes()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(bytes).ok()?.split('\n');
        Some(Self {
            confirmed: Stamp::parse(lines.next()?)?,
            attempted: lines.next()?.parse().ok()?,
            namespace: lines.next()?.to_owned(),
            fsname: lines.next()?.to_owned(),
        })
    }

    /// Whether a server with this stamp has lost nothing of what it confirmed, and nobody else has written since.
    pub fn follows(&self, stamp: Option<Stamp>) -> bool {
        // One more: the commit that ended a replay whose files could not be removed.
        stamp.is_some_and(|stamp| {
            stamp.at(0) == self.confirmed.at(0)
                && (self.confirmed.sequence..=self.attempted.saturating_add(1)).contains(&stamp.sequence)
        })
    }
}

/// The files.
#[derive(Debug)]
pub struct Spill {
    path: PathBuf,
    _lock: File,
    /// Numbers of the files there are, oldest first. The last one is `current`, if that is there.
    files: VecDeque<u32>,
    current: Option<(SegmentHead, SpillHead, RecordsFile)>,
    next: u32,
    /// Bytes of the files that are complete.
    complete_bytes: u64,
    /// Random bits for checksums.
    seed: u64,
    frames: Vec<u8>,
}

impl Spill {
    /// Opens the directory, and makes it if it is missing.
    ///
    /// # Errors
    /// When that is not possible, or another daemon has it open.
    pub fn open(path: &Path, seed: u64) -> io::Result<Self> {
        let (_, lock) = disk::open_private(path)?;
        let mut files = Vec::new();
        let mut complete_bytes = 0;
        for entry in fs::read_dir(path)? {
            let entry = entry?;
            let name = entry.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix(PREFIX));
            if let Some(number) = number.and_then(|hex| u32::from_str_radix(hex, 16).ok()) {
                complete_bytes += entry.metadata()?.len();
                files.push(number);
            }
        }
        files.sort_unstable();
        let next = files.last().map_or(1, |last| last.saturating_add(1));
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
            files: files.into(),
            current: None,
            next,
            complete_bytes,
            seed,
            frames: Vec::new(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.files.is_empty()
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.complete_bytes + self.current.as_ref().map_or(0, |(.., file)| file.length())
    }

    /// Whether there is room for more requests.
    pub fn has_room(&self) -> bool {
        rustix::fs::statvfs(&self.path)
            .is_ok_and(|free| free.f_bavail.saturating_mul(free.f_frsize) > RESERVE)
    }

    fn name(&self, number: u32) -> PathBuf {
        self.path.join(format!("{PREFIX}{number:08x}"))
    }

    /// Begins a new file.
    ///
    /// # Errors
    /// When it cannot be made durable; then nothing has changed.
    pub fn begin(&mut self, about: &SpillHead, snapshot: bool) -> io::Result<()> {
        let id = self.next;
        let head = SegmentHead { id, nonce: (self.seed ^ u64::from(id)).wrapping_mul(0x9e37_79b9_7f4a_7c15) };
        let mut bytes = head.encode();
        let mut push = |kind, payload: &[u8]| {
            let at = bytes.len() as u32;
            record::push_frame(&head, at, kind, payload, &mut bytes);
        };
        push(Kind::Spill, &about.encode());
        if snapshot {
            push(Kind::Snapshot, &[]);
        }
        push(Kind::Commit, &[]);
        let file = RecordsFile::create(&self.name(id), &bytes)?;
        if let Some((.., old)) = self.current.take() {
            self.complete_bytes += old.length();
        }
        self.current = Some((head, about.clone(), file));
        self.files.push_back(id);
        self.next = id.saturating_add(1);
        Ok(())
    }

    /// Appends operations, and makes them durable.
    ///
    /// # Errors
    /// When that fails: then none of them was appended.
    pub fn append<'a>(&mut self, ops: impl IntoIterator<Item = &'a StoreOp>) -> io::Result<()> {
        self.rotate()?;
        self.append_with(|payload, push| {
            for op in ops {
                payload.clear();
                let kind = match note_as_put(op) {
                    Some(note) => record::push_payload(&note, 0, payload),
                    None => record::push_payload(op, 0, payload),
                };
                push(kind, payload);
            }
        })
    }

    /// Notes that the snapshot is complete, and removes the files before it.
    ///
    /// # Errors
    /// When that cannot be made durable. Files that cannot be removed are only logged.
    pub fn end_snapshot(&mut self, begun: u32) -> io::Result<()> {
        self.append_with(|_, push| push(Kind::SnapshotEnd, &[]))?;
        self.drop_before(begun);
        Ok(())
    }

    /// Removes the files before this one: it begins a snapshot that is complete. Files that cannot be removed are only logged.
    pub fn drop_before(&mut self, begun: u32) {
        while self.files.front().is_some_and(|first| *first < begun) {
            let Some(first) = self.files.pop_front() else { break };
            self.remove(first);
        }
        self.count_bytes();
    }

    /// The number of the file that is written to.
    pub fn current(&self) -> Option<u32> {
        self.current.as_ref().map(|(head, ..)| head.id)
    }

    fn rotate(&mut self) -> io::Result<()> {
        match &self.current {
            Some((_, about, file)) if file.length() >= FILE_BYTES => {
                let about = about.clone();
                self.begin(&about, false)
            }
            Some(_) => Ok(()),
            None => Err(io::Error::other("no spill was begun")),
        }
    }

    fn append_with(
        &mut self,
        write: impl FnOnce(&mut Vec<u8>, &mut dyn FnMut(Kind, &[u8])),
    ) -> io::Result<()> {
        let Some((head, _, file)) = &mut self.current else {
            return Err(io::Error::other("no spill was begun"));
        };
        let start = file.length();
        let frames = &mut self.frames;
        frames.clear();
        let mut push = |kind: Kind, payload: &[u8]| {
            let at = start + frames.len() as u64;
            record::push_frame(head, at as u32, kind, payload, frames);
        };
        write(&mut Vec::new(), &mut push);
        push(Kind::Commit, &[]);
        let appended = file.append(&self.frames);
        self.frames.shrink_to(1 << 20);
        appended
    }

    fn remove(&self, number: u32) {
        let name = self.name(number);
        if let Err(error) = fs::remove_file(&name) {
            tracing::error!("cannot remove {}: {error}; it will be replayed once more", name.display());
        }
    }

    fn count_bytes(&mut self) {
        let current = self.current();
        let complete = self.files.iter().filter(|number| Some(**number) != current);
        self.complete_bytes =
            complete.filter_map(|number| fs::metadata(self.name(*number)).ok()).map(|meta| meta.len()).sum();
    }

    /// Removes everything, the oldest first. Returns whether nothing is left.
    pub fn clear(&mut self) -> bool {
        self.current = None;
        while let Some(first) = self.files.pop_front() {
            self.remove(first);
        }
        self.complete_bytes = 0;
        // So that a crash of the machine does not bring them back.
        let synced = File::open(&self.path).and_then(|directory| directory.sync_all());
        synced.is_ok()
    }

    /// The numbers of the files there are, oldest first.
    pub fn files(&self) -> Vec<u32> {
        self.files.iter().copied().collect()
    }

    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or is none of ours.
    pub fn read(&self, number: u32) -> io::Result<SpillFile> {
        let path = self.name(number);
        let wrong =
            |text: String| io::Error::new(io::ErrorKind::InvalidData, format!("{}: {text}", path.display()));
        SpillFile::parse(number, fs::read(&path)?).map_err(wrong)
    }

    /// Keeps a file that is damaged under another name, for people to look at.
    pub fn set_aside(&self, number: u32) {
        let name = self.name(number);
        let kept = self.path.join(format!("damaged-{number:08x}"));
        match fs::hard_link(&name, &kept) {
            Ok(()) => tracing::error!("{} is damaged: kept as {}", name.display(), kept.display()),
            Err(error) => tracing::error!("{} is damaged and cannot be kept: {error}", name.display()),
        }
    }
}

/// One file, read.
#[derive(Debug)]
pub struct SpillFile {
    /// What it belongs to; `None` if that is damaged.
    pub about: Option<SpillHead>,
    /// Whether a snapshot begins with it.
    pub snapshot: bool,
    /// Whether a snapshot ends in it.
    pub snapshot_end: bool,
    /// Places that are damaged.
    pub damaged: Vec<(usize, usize)>,
    frames: Vec<FrameAt>,
    bytes: Vec<u8>,
}

impl SpillFile {
    /// Takes the bytes of file `number` apart.
    ///
    /// # Errors
    /// When it is none of ours.
    pub fn parse(number: u32, bytes: Vec<u8>) -> Result<Self, String> {
        let head = match SegmentHead::decode(number, &bytes) {
            HeadFound::Good(head) => head,
            HeadFound::Newer(version) => {
                return Err(format!("written by a newer program (version {version})"));
            }
            HeadFound::Bad => return Err("its head is damaged".to_owned()),
        };
        let scan = record::scan(&head, &bytes);
        let mut file = Self {
            about: None,
            snapshot: false,
            snapshot_end: false,
            damaged: scan.damaged,
            frames: scan.frames,
            bytes,
        };
        for frame in &file.frames {
            match frame.kind {
                Kind::Spill => file.about = SpillHead::decode(file.payload(frame)),
                Kind::Snapshot => file.snapshot = true,
                Kind::SnapshotEnd => file.snapshot_end = true,
                _ => {}
            }
        }
        Ok(file)
    }

    fn payload(&self, frame: &FrameAt) -> &[u8] {
        let start = frame.offset as usize + FRAME_HEAD;
        self.bytes.get(start..start + frame.payload as usize).unwrap_or_default()
    }

    /// How many frames there are.
    pub fn len(&self) -> usize {
        self.frames.len()
    }

    /// Whether there is no frame.
    pub fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// The operation in a frame, if there is one in it.
    pub fn op(&self, frame: usize) -> Option<StoreOp> {
        let frame = self.frames.get(frame)?;
        if !matches!(frame.kind, Kind::Put | Kind::Assign | Kind::Unassign | Kind::Remove) {
            return None;
        }
        match record::decode(frame.kind, self.payload(frame)).ok()?.op {
            StoreOp::Put(item) => {
                let forgotten = item.flags & FORGOTTEN != 0;
                Some(match notes::from_item(item) {
                    Ok((name, value)) => StoreOp::Note { name, value: (!forgotten).then_some(value) },
                    Err(item) => StoreOp::Put(item),
                })
            }
            op => Some(op),
        }
    }
}

#[cfg(test)]
mod tests {
    use lustreapi_sys::Fid;

    use super::*;
    use crate::hsm::{Action, ActionItem};

    fn about() -> SpillHead {
        SpillHead {
            confirmed: Stamp { generation: 1, run: 7, sequence: 3 },
            attempted: 4,
            namespace: "coordinatool".into(),
            fsname: "lus".into(),
        }
    }

    fn ops(cookie: u64) -> Vec<StoreOp> {
        let fid = Fid::new(1, cookie as u32, 0);
        let item = ActionItem {
            flags: 9,
            data: b"\xff".as_slice().into(),
            timestamp: 1,
            ..ActionItem::new(Action::Archive, fid, cookie, 1)
        };
        let key = item.key();
        vec![
            StoreOp::Put(item),
            StoreOp::Assign { key, mover: "m".into() },
            StoreOp::Note { name: "a/b".into(), value: Some("x".into()) },
            StoreOp::Unassign { key },
            StoreOp::Note { name: "a/b".into(), value: None },
            StoreOp::Remove { key },
        ]
    }

    fn read(spill: &Spill) -> Vec<StoreOp> {
        let files: Vec<_> = spill.files().into_iter().map(|number| spill.read(number).unwrap()).collect();
        files.iter().flat_map(|file| (0..file.len()).filter_map(|frame| file.op(frame))).collect()
    }

    #[test]
    fn what_was_appended_is_read_again_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let mut spill = Spill::open(directory.path(), 1).unwrap();
        assert!(spill.append(&ops(1)).is_err(), "nothing was begun");
        spill.begin(&about(), false).unwrap();
        spill.append(&ops(1)).unwrap();
        spill.begin(&about(), false).unwrap();
        spill.append(&ops(2)).unwrap();
        assert!(Spill::open(directory.path(), 1).is_err(), "one daemon only");
        drop(spill);
        let mut spill = Spill::open(directory.path(), 2).unwrap();
        assert_eq!(read(&spill), [ops(1), ops(2)].concat());
        assert_eq!(spill.read(2).unwrap().about, Some(about()));
        assert!(spill.bytes() > 2048);
        assert!(spill.clear());
        assert!(spill.is_empty() && Spill::is_empty(&spill) && spill.bytes() == 0);
    }

    #[test]
    fn a_snapshot_replaces_what_was_before_it_only_when_it_is_complete() {
        let directory = tempfile::tempdir().unwrap();
        let mut spill = Spill::open(directory.path(), 1).unwrap();
        spill.begin(&about(), false).unwrap();
        spill.append(&ops(1)).unwrap();
        spill.begin(&about(), true).unwrap();
        let begun = spill.current().unwrap();
        spill.append(&ops(2)).unwrap();
        assert_eq!(read(&spill), [ops(1), ops(2)].concat());
        spill.end_snapshot(begun).unwrap();
        assert_eq!(read(&spill), ops(2));
        let file = spill.read(begun).unwrap();
        assert!(file.snapshot && file.snapshot_end && file.damaged.is_empty());
    }

    #[test]
    fn what_a_crash_cut_off_is_left_out_and_damage_is_told() {
        let directory = tempfile::tempdir().unwrap();
        let mut spill = Spill::open(directory.path(), 1).unwrap();
        spill.begin(&about(), false).unwrap();
        spill.append(&ops(1)).unwrap();
        let whole = fs::read(spill.name(1)).unwrap();
        spill.append(&ops(2)).unwrap();
        let longer = fs::read(spill.name(1)).unwrap();
        fs::write(spill.name(1), &longer[..longer.len() - 40]).unwrap();
        let file = spill.read(1).unwrap();
        assert!(file.damaged.is_empty());
        assert_eq!(read(&spill)[..6], ops(1));
        let mut bad = longer.clone();
        bad[whole.len() - 60] ^= 1;
        fs::write(spill.name(1), &bad).unwrap();
        assert_eq!(spill.read(1).unwrap().damaged.len(), 1);
    }

    #[test]
    fn a_spill_follows_the_server_that_it_was_written_beside() {
        let about = about();
        let at = |sequence| Some(about.confirmed.at(sequence));
        for (stamp, want) in
            [(at(2), false), (at(3), true), (at(4), true), (at(5), true), (at(6), false), (None, false)]
        {
            assert_eq!(about.follows(stamp), want, "{stamp:?}");
        }
        assert!(!about.follows(Some(Stamp { run: 8, ..about.confirmed })));
        assert_eq!(SpillHead::decode(&about.encode()), Some(about));
        assert_eq!(SpillHead::decode(b"1 2 3\n4\nx"), None);
    }
}
