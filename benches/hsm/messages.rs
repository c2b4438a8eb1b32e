//! What the load generator sends, and how it reads answers: as little work for each as possible, since its cores are few.
//!
//! Requests are numbered from 0. Cookie and FID follow from the number, and all messages of a kind have the same length.

use coordinatool::hsm::{Action, ActionItem};
use coordinatool::wire::client::{QueueWriter, write_done, write_recv};
use coordinatool::wire::{ItemStyle, write_item};
use lustreapi_sys::Fid;
use memchr::memmem::Finder;

/// The file system that is served.
pub const FSNAME: &str = "testfs0";

/// The cookie of request 0.
pub const FIRST_COOKIE: u64 = 1_000_000_000;
const FIRST_OID: u32 = 1_000_000_000;

/// The file of a request.
pub fn fid(number: u32) -> Fid {
    Fid::new(0x2_0000_0401, FIRST_OID + number, 0)
}

/// The cookie of a request.
pub fn cookie(number: u32) -> u64 {
    FIRST_COOKIE + u64::from(number)
}

/// A request with these data.
pub fn item(number: u32, data: &str) -> ActionItem {
    ActionItem {
        data: data.as_bytes().into(),
        ..ActionItem::new(Action::Archive, fid(number), cookie(number), 1)
    }
}

/// Ten bytes that no other request has.
pub fn ten_bytes(number: u32) -> String {
    format!("d{number:09}")
}

/// The value of a request in redis, about as long as what the daemon writes there.
pub fn stored_item(number: u32) -> Vec<u8> {
    let mut text = Vec::new();
    let item = ActionItem { timestamp: 1_795_270_000_000_000_000, ..item(number, &ten_bytes(number)) };
    write_item(&item, ItemStyle::STORED, &mut text);
    text
}

/// One `queue` with these requests.
pub fn queue(numbers: std::ops::Range<u32>, data: impl Fn(u32) -> String) -> Vec<u8> {
    let mut out = Vec::with_capacity(400 * numbers.len());
    let mut writer = QueueWriter::begin(Some(FSNAME), &mut out);
    for number in numbers {
        writer.item(&item(number, &data(number)), &mut out);
    }
    writer.end(&mut out);
    out
}

/// `recv` of a mover that runs this many archives at a time.
pub fn recv(most: i32, out: &mut Vec<u8>) {
    write_recv(most, most, most, 1 << 20, out);
}

/// `done` for a request that succeeded.
pub fn done(number: u32, out: &mut Vec<u8>) {
    write_done(cookie(number), fid(number), 0, out);
}

/// Reads what a mover is answered: finds the requests in it, and counts the answers.
#[derive(Debug)]
pub struct Reader {
    cookie: Finder<'static>,
    fid: Finder<'static>,
    done: Finder<'static>,
    recv: Finder<'static>,
    pending: Vec<u8>,
}

/// What came.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Answers {
    /// Answers to `done`.
    pub dones: usize,
    /// Answers to `recv`.
    pub recvs: usize,
}

impl Reader {
    /// Nothing has come.
    pub fn new() -> Self {
        Self {
            cookie: Finder::new("\"hai_cookie\": "),
            fid: Finder::new("\"hai_fid\": {\"f_seq\": 8589935617, \"f_oid\": "),
            done: Finder::new("{\"command\": \"done\"}"),
            recv: Finder::new("\"command\": \"recv\"}"),
            pending: Vec::new(),
        }
    }

    /// Takes what was read and adds the requests of complete answers to `numbers`. The FID of each must be the one that
    /// belongs to its cookie.
    pub fn push(&mut self, bytes: &[u8], numbers: &mut Vec<u32>) -> Answers {
        self.pending.extend_from_slice(bytes);
        let mut answers = Answers::default();
        let mut at = 0;
        loop {
            let rest = &self.pending[at..];
            if rest.starts_with(self.done.needle()) {
                answers.dones += 1;
                at += self.done.needle().len();
                continue;
            }
            assert!(
                rest.is_empty() || rest.starts_with(b"{\"hsm_action_list\"") || rest.len() < 19,
                "an answer that was not expected: {:?}",
                String::from_utf8_lossy(&rest[..rest.len().min(200)])
            );
            let Some(end) = self.recv.find(rest) else { break };
            answers.recvs += 1;
            let list = &rest[..end];
            let mut files =
                self.fid.find_iter(list).map(|found| digits(&list[found + self.fid.needle().len()..]));
            for found in self.cookie.find_iter(list) {
                let number = digits(&list[found + self.cookie.needle().len()..]) - FIRST_COOKIE;
                let number = u32::try_from(number).expect("a cookie of ours");
                assert_eq!(files.next(), Some(u64::from(FIRST_OID + number)), "the FID of request {number}");
                numbers.push(number);
            }
            at += end + self.recv.needle().len();
        }
        self.pending.drain(..at);
        answers
    }
}

fn digits(text: &[u8]) -> u64 {
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit());
    digits.fold(0, |value, digit| value * 10 + u64::from(digit - b'0'))
}
