//! What threads and forked children tell the process that talks to the daemon, as records of fixed size in a pipe.

use coordinatool::hsm::RequestKey;
use lustreapi_sys::Fid;

/// Bytes of a record; no more than `PIPE_BUF`, so that each is written in one piece.
pub const LEN: usize = 72;
const _: () = assert!(LEN <= libc::PIPE_BUF);

/// First bytes of a record, its layout's version among them.
const MAGIC: u32 = 0xC0DE_0001;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The real begin succeeded.
    Begun,
    /// The real end was called.
    Ended,
    /// The end was withheld from the MDT.
    Abandoned,
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// What happened.
    pub kind: Kind,
    /// To which request.
    pub key: RequestKey,
    /// The data FID that the copytool was given.
    pub dfid: Fid,
    /// 0 or a positive errno.
    pub status: i32,
    /// The copytool succeeded, and the status is that of the real end.
    pub unheard: bool,
    /// Whether a cancel was acknowledged.
    pub cancel: bool,
    /// The process it happened in.
    pub pid: i32,
}

impl Record {
    /// The bytes.
    pub fn encode(&self) -> [u8; LEN] {
        let kind: u32 = match self.kind {
            Kind::Begun => 1,
            Kind::Ended => 2,
            Kind::Abandoned => 3,
        };
        let mut out = [0; LEN];
        let mut at = 0;
        let mut put = |bytes: &[u8]| {
            out[at..at + bytes.len()].copy_from_slice(bytes);
            at += bytes.len();
        };
        put(&MAGIC.to_ne_bytes());
        put(&kind.to_ne_bytes());
        put(&self.key.cookie.to_ne_bytes());
        for fid in [self.key.fid, self.dfid] {
            put(&fid.seq.to_ne_bytes());
            put(&fid.oid.to_ne_bytes());
            put(&fid.ver.to_ne_bytes());
        }
        put(&self.status.to_ne_bytes());
        put(&self.pid.to_ne_bytes());
        put(&(u32::from(self.cancel) | u32::from(self.unheard) << 1).to_ne_bytes());
        out
    }

    /// Reads a record; `None` for bytes that are none.
    pub fn decode(bytes: &[u8; LEN]) -> Option<Self> {
        let mut rest = &bytes[..];
        let u32_next = |rest: &mut &[u8]| take(rest).map(u32::from_ne_bytes);
        if u32_next(&mut rest)? != MAGIC {
            return None;
        }
        let kind = match u32_next(&mut rest)? {
            1 => Kind::Begun,
            2 => Kind::Ended,
            3 => Kind::Abandoned,
            _ => return None,
        };
        let cookie = take(&mut rest).map(u64::from_ne_bytes)?;
        let fid_next = |rest: &mut &[u8]| {
            let seq = take(rest).map(u64::from_ne_bytes)?;
            Some(Fid::new(seq, u32_next(rest)?, u32_next(rest)?))
        };
        let fid = fid_next(&mut rest)?;
        let dfid = fid_next(&mut rest)?;
        let status = take(&mut rest).map(i32::from_ne_bytes)?;
        let pid = take(&mut rest).map(i32::from_ne_bytes)?;
        let flags = take(&mut rest).map(u32::from_ne_bytes)?;
        let (cancel, unheard) = (flags & 1 != 0, flags & 2 != 0);
        Some(Self { kind, key: RequestKey { cookie, fid }, dfid, status, unheard, cancel, pid })
    }
}

fn take<const N: usize>(rest: &mut &[u8]) -> Option<[u8; N]> {
    let (first, tail) = rest.split_first_chunk::<N>()?;
    *rest = tail;
    Some(*first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_round_trip_with_all_bits_of_the_cookie() {
        for (kind, status, unheard, cancel) in [
            (Kind::Begun, 0, false, false),
            (Kind::Ended, 125, false, true),
            (Kind::Ended, 2, true, false),
            (Kind::Abandoned, -1, false, false),
        ] {
            let record = Record {
                kind,
                key: RequestKey { cookie: u64::MAX - 1, fid: Fid::new(0x2_0000_0402, u32::MAX, 7) },
                dfid: Fid::new(0x2_4000_0402, 3, 0),
                status,
                unheard,
                cancel,
                pid: 4711,
            };
            assert_eq!(Record::decode(&record.encode()), Some(record));
        }
        assert_eq!(Record::decode(&[0; LEN]), None);
    }
}
