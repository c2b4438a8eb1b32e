//! The network between managers and agents: TCP as its ends see it, over paths that work in one direction, both, or none.
//!
//! Bytes that are sent while a path does not work stay in the sender's socket and arrive when it works again, even if the
//! sender is dead by then: an order may come out of a dead manager's socket.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::clock::{MILLI, SECOND};
use super::world::{Task, World};
use crate::ha::ids::LinkId;
use crate::ha::protocol::frame::Decoder;

/// Unacknowledged for so long, a connection breaks (TCP_USER_TIMEOUT and keepalive).
const USER_TIMEOUT: u64 = 60 * SECOND;

/// An end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Manager,
    Agent,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Manager => Self::Agent,
            Self::Agent => Self::Manager,
        }
    }
}

/// What travels.
#[derive(Debug)]
pub(super) enum Piece {
    Bytes(Vec<u8>),
    /// The other end closed.
    End,
    /// The other end knows of no such connection.
    Reset,
}

/// One direction of a connection.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pieces: VecDeque<(u64, Piece)>,
    pub(super) decoder: Decoder,
}

/// A connection.
#[derive(Debug)]
pub(super) struct Link {
    pub(super) manager: usize,
    pub(super) manager_life: u64,
    /// What the manager calls it.
    pub(super) manager_link: LinkId,
    pub(super) host: usize,
    pub(super) boot: u64,
    pub(super) agent_life: u64,
    to_manager: Stream,
    to_agent: Stream,
    manager_open: bool,
    agent_open: bool,
}

impl Link {
    pub(super) fn towards(&mut self, side: Side) -> &mut Stream {
        match side {
            Side::Manager => &mut self.to_manager,
            Side::Agent => &mut self.to_agent,
        }
    }

    pub(super) fn is_open(&self, side: Side) -> bool {
        match side {
            Side::Manager => self.manager_open,
            Side::Agent => self.agent_open,
        }
    }

    pub(super) fn shut(&mut self, side: Side) {
        match side {
            Side::Manager => self.manager_open = false,
            Side::Agent => self.agent_open = false,
        }
    }

    fn node(&self, side: Side) -> usize {
        match side {
            Side::Manager => self.manager,
            Side::Agent => super::managers::MANAGERS + self.host,
        }
    }
}

/// All connections and paths.
#[derive(Debug, Default)]
pub(super) struct Network {
    pub(super) links: BTreeMap<u64, Link>,
    last: u64,
    /// Directions that do not work: from node to node. Nodes are the managers, then the hosts.
    pub(super) blocked: BTreeSet<(usize, usize)>,
}

impl Network {
    pub(super) fn is_blocked(&self, from: usize, to: usize) -> bool {
        self.blocked.contains(&(from, to))
    }
}

impl World {
    pub(super) fn net_delay(&mut self) -> u64 {
        let longest = self.scenario.net_delay;
        let rng = &mut self.rng.network;
        if rng.one_in(50) { rng.below(longest * 8) } else { 20_000 + rng.below(longest) }
    }

    /// A new connection, which both kernels agree upon.
    pub(super) fn open_link(&mut self, manager: usize, manager_link: LinkId, host: usize) -> Option<u64> {
        let agent_life = self.hosts[host].agent.as_ref()?.life;
        self.net.last += 1;
        let key = self.net.last;
        let link = Link {
            manager,
            manager_life: self.managers[manager].life,
            manager_link,
            host,
            boot: self.hosts[host].boot,
            agent_life,
            to_manager: Stream::default(),
            to_agent: Stream::default(),
            manager_open: true,
            agent_open: true,
        };
        self.net.links.insert(key, link);
        Some(key)
    }

    /// Sends bytes towards one side.
    pub(super) fn send_bytes(&mut self, key: u64, to: Side, bytes: Vec<u8>) {
        let now = self.now;
        let Some(link) = self.net.links.get_mut(&key) else { return };
        if !link.is_open(to.other()) {
            return;
        }
        if link.towards(to).pieces.front().is_some_and(|(at, _)| at + USER_TIMEOUT < now) {
            return self.break_link(key, to.other(), "no acknowledgement of what was sent");
        }
        if bytes.len() > 8 && self.rng.network.one_in(30) {
            let cut = 1 + self.rng.network.below(bytes.len() as u64 - 1) as usize;
            let (first, rest) = bytes.split_at(cut);
            self.push(key, to, Piece::Bytes(first.to_vec()));
            self.push(key, to, Piece::Bytes(rest.to_vec()));
        } else {
            self.push(key, to, Piece::Bytes(bytes));
        }
    }

    fn push(&mut self, key: u64, to: Side, piece: Piece) {
        let delay = self.net_delay();
        let now = self.now;
        let Some(link) = self.net.links.get_mut(&key) else { return };
        let stream = link.towards(to);
        let at = stream.pieces.back().map_or(now + delay, |(last, _)| (*last).max(now + delay));
        stream.pieces.push_back((at, piece));
        self.at(at, Task::Deliver { link: key, to });
    }

    /// One side closes in an orderly way, or its process dies: what it sent before still arrives.
    pub(super) fn close_link(&mut self, key: u64, by: Side) {
        let Some(link) = self.net.links.get_mut(&key) else { return };
        if !link.is_open(by) {
            return;
        }
        link.shut(by);
        link.towards(by).pieces.clear();
        self.push(key, by.other(), Piece::End);
    }

    /// One side's machine is gone: nothing more comes from it, not even an end.
    pub(super) fn abandon_link(&mut self, key: u64, by: Side) {
        let late = self.rng.network.one_in(2);
        let Some(link) = self.net.links.get_mut(&key) else { return };
        link.shut(by);
        if !late {
            link.towards(by.other()).pieces.clear();
        }
        // What was sent to it stays with its sender, which tries again and again.
    }

    /// One side learns that a connection broke.
    pub(super) fn break_link(&mut self, key: u64, side: Side, why: &'static str) {
        let Some(link) = self.net.links.get_mut(&key) else { return };
        if !link.is_open(side) {
            return;
        }
        link.shut(side);
        link.towards(side).pieces.clear();
        let gone = !link.is_open(side.other());
        self.side_lost_link(key, side, why);
        if gone {
            self.net.links.remove(&key);
        }
    }

    fn side_lost_link(&mut self, key: u64, side: Side, why: &'static str) {
        let Some(link) = self.net.links.get(&key) else { return };
        match side {
            Side::Manager => {
                let (manager, life, id) = (link.manager, link.manager_life, link.manager_link);
                self.manager_lost_link(manager, life, id, why);
            }
            Side::Agent => {
                let (host, boot, life) = (link.host, link.boot, link.agent_life);
                self.agent_lost_link(host, boot, life, LinkId(key));
            }
        }
    }

    /// The next piece of a stream is due.
    pub(super) fn deliver(&mut self, key: u64, to: Side) {
        let Some(link) = self.net.links.get_mut(&key) else { return };
        let (from_node, to_node) = (link.node(to.other()), link.node(to));
        let now = self.now;
        if link.towards(to).pieces.front().is_none_or(|(at, _)| *at > now) {
            return;
        }
        if self.net.blocked.contains(&(from_node, to_node)) {
            self.report.stuck += 1;
            return;
        }
        let (host, boot, agent_life) = (link.host, link.boot, link.agent_life);
        let (manager, manager_life) = (link.manager, link.manager_life);
        if to == Side::Agent && !self.hosts[host].answers() {
            // Nothing acknowledges it: it is sent again and again.
            return;
        }
        let lives = match to {
            Side::Agent => {
                self.hosts[host].boot == boot
                    && self.hosts[host].agent.as_ref().is_some_and(|agent| agent.life == agent_life)
            }
            Side::Manager => {
                self.managers[manager].life == manager_life && self.managers[manager].process.is_some()
            }
        };
        let Some(link) = self.net.links.get_mut(&key) else { return };
        let Some((_, piece)) = link.towards(to).pieces.pop_front() else { return };
        let open = link.is_open(to) && lives;
        match piece {
            Piece::Bytes(_) if !open => {
                link.shut(to);
                if link.is_open(to.other()) {
                    self.push(key, to.other(), Piece::Reset);
                } else {
                    self.net.links.remove(&key);
                }
            }
            Piece::Bytes(bytes) => match to {
                Side::Agent => self.agent_bytes(host, key, &bytes),
                Side::Manager => self.manager_bytes(manager, key, &bytes),
            },
            Piece::End | Piece::Reset => {
                if matches!(piece, Piece::Reset) {
                    link.shut(to.other());
                }
                if open {
                    self.break_link(key, to, "reset by peer");
                } else {
                    self.net.links.remove(&key);
                }
            }
        }
    }

    /// What waits in sockets for a path or a host comes out.
    pub(super) fn flush(&mut self, concerns: impl Fn(usize, usize) -> bool) {
        let mut due = Vec::new();
        for (key, link) in &mut self.net.links {
            for side in [Side::Agent, Side::Manager] {
                let (from, to) = (link.node(side.other()), link.node(side));
                let waiting = link.towards(side).pieces.len();
                if waiting > 0 && (concerns(from, to) || concerns(to, from)) {
                    due.push((*key, side, waiting));
                }
            }
        }
        for (key, side, waiting) in due {
            // The next retransmission.
            let delay = self.rng.network.below(3 * SECOND);
            for _ in 0..waiting {
                self.after(delay + MILLI, Task::Deliver { link: key, to: side });
            }
        }
    }

    /// A path works again.
    pub(super) fn heal(&mut self, one: usize, other: usize) {
        let cut = self.net.blocked.remove(&(one, other)) | self.net.blocked.remove(&(other, one));
        if cut {
            self.tell(format_args!("path {one} - {other} works again"));
            self.flush(|from, to| (from, to) == (one, other));
        }
    }

    /// A random connection is reset by something in between.
    pub(super) fn reset_some_link(&mut self) -> bool {
        let keys: Vec<u64> = self
            .net
            .links
            .iter()
            .filter(|(_, link)| link.manager_open && link.agent_open)
            .map(|(key, _)| *key)
            .collect();
        let Some(key) = self.rng.faults.pick(&keys).copied() else { return false };
        let sides = if self.rng.faults.one_in(2) {
            vec![Side::Manager]
        } else if self.rng.faults.one_in(2) {
            vec![Side::Agent]
        } else {
            vec![Side::Manager, Side::Agent]
        };
        self.tell(format_args!("connection {key} is reset for {sides:?}"));
        for side in sides {
            self.break_link(key, side, "reset on its way");
        }
        true
    }
}
