//! TCP as the machines see it: two ordered byte streams that are cut up anywhere, delayed, and break.

use std::collections::{BTreeMap, VecDeque};

use super::rng::Rng;

/// One connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LinkId(pub u64);

/// Which end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// The mover or client that connected.
    Peer,
    /// The daemon that accepted.
    Daemon,
}

impl End {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::Peer => Self::Daemon,
            Self::Daemon => Self::Peer,
        }
    }
}

/// What arrives at an end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Arrival {
    /// Some bytes.
    Bytes(Vec<u8>),
    /// The connection is gone.
    Broken,
}

#[derive(Debug, Default)]
struct Stream {
    /// When each chunk arrives (ns); never earlier than the one before.
    chunks: VecDeque<(u64, Vec<u8>)>,
    /// When this end learns that the connection broke.
    broken_at: Option<u64>,
}

#[derive(Debug, Default)]
struct Link {
    /// Towards the peer and towards the daemon.
    to_peer: Stream,
    to_daemon: Stream,
    /// Nothing passes any more, whoever knows it.
    cut: bool,
}

impl Link {
    fn towards(&mut self, end: End) -> &mut Stream {
        match end {
            End::Peer => &mut self.to_peer,
            End::Daemon => &mut self.to_daemon,
        }
    }
}

/// All connections.
#[derive(Debug)]
pub struct Network {
    links: BTreeMap<LinkId, Link>,
    next: u64,
    rng: Rng,
    /// Longest delay of a chunk, in nanoseconds.
    max_delay: u64,
}

impl Network {
    /// A network without connections.
    pub fn new(rng: Rng, max_delay: u64) -> Self {
        Self { links: BTreeMap::new(), next: 1, rng, max_delay }
    }

    /// A new connection.
    pub fn connect(&mut self) -> LinkId {
        let id = LinkId(self.next);
        self.next += 1;
        self.links.insert(id, Link::default());
        id
    }

    /// Sends bytes from one end: they arrive at the other in order, in pieces cut anywhere. Nothing happens on a
    /// connection that is cut or gone, as with a socket that has not noticed yet.
    pub fn send(&mut self, now: u64, link: LinkId, from: End, bytes: &[u8]) {
        let Some(state) = self.links.get_mut(&link) else { return };
        if state.cut {
            return;
        }
        let stream = state.towards(from.other());
        let mut at = stream.chunks.back().map_or(now, |(at, _)| *at).max(now);
        let mut rest = bytes;
        while !rest.is_empty() {
            // Mostly whole messages, now and then single bytes.
            let len = match self.rng.below(4) {
                0 => 1 + self.rng.below(16),
                1 => 1 + self.rng.below(200),
                _ => rest.len() as u64,
            };
            let (chunk, tail) = rest.split_at((len as usize).min(rest.len()));
            at += self.rng.below(self.max_delay);
            stream.chunks.push_back((at, chunk.to_vec()));
            rest = tail;
        }
    }

    /// Breaks a connection: each end learns of it after its own delay, and what was under way may or may not arrive.
    ///
    /// What does arrive may arrive late, after what was said on a later connection. Returns how many pieces do.
    pub fn cut(&mut self, now: u64, link: LinkId, peer_learns_after: u64, daemon_learns_after: u64) -> u64 {
        let Some(state) = self.links.get_mut(&link) else { return 0 };
        state.cut = true;
        let mut late = 0;
        for (end, after) in [(End::Peer, peer_learns_after), (End::Daemon, daemon_learns_after)] {
            let lose = self.rng.one_in(2);
            let stream = state.towards(end);
            if lose {
                stream.chunks.clear();
            } else if self.rng.one_in(2) {
                let delay = self.rng.below(after.max(1));
                stream.chunks.iter_mut().for_each(|(at, _)| *at += delay);
                late += stream.chunks.len() as u64;
            }
            stream.broken_at = Some(now + after);
        }
        late
    }

    /// One end closes: what it had sent still arrives, then the other end learns of it.
    pub fn close(&mut self, now: u64, link: LinkId, closer: End) {
        let Some(state) = self.links.get_mut(&link) else { return };
        state.cut = true;
        let stream = state.towards(closer);
        stream.chunks.clear();
        stream.broken_at = None;
        let other = state.towards(closer.other());
        let last = other.chunks.back().map_or(now, |(at, _)| *at).max(now);
        other.broken_at = Some(other.broken_at.map_or(last, |at| at.min(last)));
    }

    /// Whether nothing passes on a connection any more, known to its ends or not.
    pub fn is_cut(&self, link: LinkId) -> bool {
        self.links.get(&link).is_none_or(|state| state.cut)
    }

    /// When something arrives next at an end, if anything does.
    pub fn next_arrival(&self) -> Option<u64> {
        let due = |s: &Stream| s.chunks.front().map(|(at, _)| *at).or(s.broken_at);
        self.links.values().flat_map(|l| [due(&l.to_peer), due(&l.to_daemon)]).flatten().min()
    }

    /// Takes what has arrived by `now`, one thing at a time.
    pub fn take(&mut self, now: u64) -> Option<(LinkId, End, Arrival)> {
        let mut found = None;
        for (id, link) in &mut self.links {
            for end in [End::Daemon, End::Peer] {
                let stream = link.towards(end);
                if stream.chunks.front().is_some_and(|(at, _)| *at <= now)
                    && let Some((_, bytes)) = stream.chunks.pop_front()
                {
                    return Some((*id, end, Arrival::Bytes(bytes)));
                }
                if stream.chunks.is_empty() && stream.broken_at.is_some_and(|at| at <= now) {
                    stream.broken_at = None;
                    found = Some((*id, end));
                    break;
                }
            }
            if found.is_some() {
                break;
            }
        }
        let (id, end) = found?;
        let done = self.links.get(&id).is_some_and(|l| {
            l.cut
                && l.to_peer.broken_at.is_none()
                && l.to_daemon.broken_at.is_none()
                && l.to_peer.chunks.is_empty()
                && l.to_daemon.chunks.is_empty()
        });
        if done {
            self.links.remove(&id);
        }
        Some((id, end, Arrival::Broken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_arrive_in_order_and_a_close_comes_last() {
        let mut net = Network::new(Rng::stream(3, "net"), 1000);
        let link = net.connect();
        net.send(0, link, End::Peer, b"hello ");
        net.send(0, link, End::Peer, &[b'x'; 500]);
        net.close(0, link, End::Peer);
        let mut got = Vec::new();
        let mut broken = false;
        while let Some(at) = net.next_arrival() {
            while let Some((id, end, arrival)) = net.take(at) {
                assert_eq!((id, end), (link, End::Daemon));
                match arrival {
                    Arrival::Bytes(bytes) => got.extend(bytes),
                    Arrival::Broken => broken = true,
                }
            }
        }
        assert!(broken);
        assert_eq!(got, [b"hello ".to_vec(), vec![b'x'; 500]].concat());
    }

    #[test]
    fn a_cut_is_learnt_by_each_end_in_its_own_time() {
        let mut net = Network::new(Rng::stream(4, "net"), 1);
        let link = net.connect();
        net.cut(0, link, 10, 1000);
        net.send(1, link, End::Peer, b"lost");
        assert_eq!(net.next_arrival(), Some(10));
        assert_eq!(net.take(10), Some((link, End::Peer, Arrival::Broken)));
        assert_eq!(net.take(999), None);
        assert_eq!(net.take(1000), Some((link, End::Daemon, Arrival::Broken)));
        assert_eq!(net.next_arrival(), None);
    }
}
