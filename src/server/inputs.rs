//! Memory for messages that are not whole yet, of all peers together.
//!
//! One peer may hold `max_message_size` of it, which is much more than a fair share when many do: beyond the bound for all,
//! the peers go whose message has been coming for the longest time, as the oldest handshakes do. Whoever sends a message at
//! once is younger than those that only hold one.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;

use super::connection::Connection;
use super::listener::Complaint;

/// Bytes that are read from one peer at a time.
const READ: usize = 256 << 10;
/// Lines in ten seconds about what cannot be read.
const NONSENSE: u32 = 50;
/// Peers that hold less are never sent away: it would not help.
const LARGE: usize = 64 << 10;

/// What all peers hold.
#[derive(Debug)]
pub struct Inputs {
    /// What is read goes through here.
    pub buffer: RefCell<Vec<u8>>,
    limit: usize,
    held: Cell<usize>,
    /// Those that hold much, by age.
    large: RefCell<BTreeMap<u64, (Rc<Connection>, usize)>>,
    last: Cell<u64>,
    complaint: Complaint,
    /// About what peers send that cannot be read: each could send a thousand such messages a second.
    pub nonsense: Complaint,
}

impl Inputs {
    /// Nobody holds anything; `limit` is in bytes.
    pub fn new(limit: usize) -> Self {
        Self {
            buffer: RefCell::new(vec![0; READ]),
            limit,
            held: Cell::new(0),
            large: RefCell::default(),
            last: Cell::new(0),
            complaint: Complaint::default(),
            nonsense: Complaint::up_to(NONSENSE),
        }
    }

    /// Sends peers away until the others have room.
    fn make_room(&self) {
        while self.held.get() > self.limit {
            let Some((_, (connection, bytes))) = self.large.borrow_mut().pop_first() else { return };
            self.held.set(self.held.get() - bytes);
            let limit = self.limit;
            self.complaint.log(format_args!(
                "Clients: more than max_input_buffers {limit} bytes of messages that are not whole: {} goes, which has \
                 {bytes}, and began before the others",
                connection.label()
            ));
            connection.send_away("its message has not come to its end for too long");
        }
    }
}

/// One peer's part.
#[derive(Debug)]
pub struct Holding {
    inputs: Rc<Inputs>,
    bytes: usize,
    /// Its place among those that hold much.
    place: Option<u64>,
}

impl Holding {
    /// Nothing yet.
    pub fn new(inputs: &Rc<Inputs>) -> Self {
        Self { inputs: Rc::clone(inputs), bytes: 0, place: None }
    }

    /// This peer holds so much now.
    pub fn set(&mut self, connection: &Rc<Connection>, bytes: usize) {
        if bytes == self.bytes {
            return;
        }
        let inputs = &self.inputs;
        {
            let mut large = inputs.large.borrow_mut();
            if let Some(place) = self.place {
                // Who is being sent away counts no more.
                let Some(entry) = large.get_mut(&place) else { return };
                entry.1 = bytes;
                if bytes < LARGE {
                    large.remove(&place);
                    self.place = None;
                }
            } else if bytes >= LARGE {
                inputs.last.set(inputs.last.get() + 1);
                self.place = Some(inputs.last.get());
                large.insert(inputs.last.get(), (Rc::clone(connection), bytes));
            }
        }
        inputs.held.set(inputs.held.get() - self.bytes + bytes);
        self.bytes = bytes;
        inputs.make_room();
    }
}

impl Drop for Holding {
    fn drop(&mut self) {
        let counted = self.place.is_none_or(|place| self.inputs.large.borrow_mut().remove(&place).is_some());
        if counted {
            self.inputs.held.set(self.inputs.held.get() - self.bytes);
        }
    }
}
