//! The operator: looks at the status, locks and unlocks, and queues what the MDTs show as active.

use std::collections::BTreeMap;

use super::world::{Owner, Task, World};
use crate::hsm::event::Lock;
use crate::lustre::active_requests::{Line, State, parse_line};
use crate::sim::network::{Arrival, End, LinkId};
use crate::wire::client::{QueueWriter, ServerMessage, parse_reply, write_lock, write_status};
use crate::wire::decoder::{Decoder, Limits};

/// What the operator does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Errand {
    /// `coordinatool-client -v -v`.
    Status,
    /// `--lock`, `--unlock`.
    Lock(Lock),
    /// `lctl get_param mdt.*.hsm.active_requests | coordinatool-client -Q`.
    Requeue,
}

/// Connections of the operator.
#[derive(Debug, Default)]
pub struct Operator {
    sessions: BTreeMap<LinkId, (Errand, Decoder)>,
}

impl World {
    /// Starts an errand; tries again later when the daemon is away.
    pub(super) fn run_errand(&mut self, errand: Errand) -> Result<(), String> {
        if self.daemon.is_none() {
            self.after(1_000_000_000, Task::Operator(errand));
            return Ok(());
        }
        let mut bytes = Vec::new();
        match errand {
            Errand::Status => write_status(6, &mut bytes),
            Errand::Lock(lock) => write_lock(lock, &mut bytes),
            Errand::Requeue => {
                let text = self.fs.get_param("mdt.*.hsm.active_requests").map_err(|e| e.to_string())?;
                let mut queue = QueueWriter::begin(Some("testfs0"), &mut bytes);
                for line in text.lines() {
                    match parse_line(line.as_bytes()).map_err(|error| format!("{error}: {line}"))? {
                        Line::Record(record)
                            if matches!(record.state, State::Active { canceled: false, .. }) =>
                        {
                            queue.item(&record.item, &mut bytes);
                            self.report.requeued += 1;
                        }
                        _ => {}
                    }
                }
                queue.end(&mut bytes);
            }
        }
        self.note(format_args!("operator: {errand:?}"));
        let link = self.net.connect();
        self.link_owner.insert(link, Owner::Operator);
        self.operator.sessions.insert(link, (errand, Decoder::new(Limits::default())));
        let clock = self.clock();
        if let Some(daemon) = &mut self.daemon {
            daemon.accept(clock, link, format!("operator:{}", link.0))?;
        }
        self.net.send(self.now, link, End::Peer, &bytes);
        Ok(())
    }

    /// Something arrives at the operator's end.
    pub(super) fn operator_arrival(&mut self, link: LinkId, arrival: Arrival) -> Result<(), String> {
        let Some((errand, decoder)) = self.operator.sessions.get_mut(&link) else { return Ok(()) };
        let errand = *errand;
        let Arrival::Bytes(bytes) = arrival else {
            // The daemon went away in the middle.
            self.operator.sessions.remove(&link);
            self.after(1_000_000_000, Task::Operator(errand));
            return Ok(());
        };
        decoder.push(&bytes);
        let Some(object) = decoder.next_object().map_err(|error| error.to_string())? else { return Ok(()) };
        let reply = parse_reply(object).map_err(|error| format!("{errand:?}: {error}"))?;
        match (errand, &reply) {
            (Errand::Status, ServerMessage::Status(_)) => {
                serde_json::from_slice::<serde::de::IgnoredAny>(object).map_err(|error| error.to_string())?;
                self.report.statuses += 1;
            }
            (Errand::Lock(_), ServerMessage::Lock(Ok(())))
            | (Errand::Requeue, ServerMessage::Queue { .. }) => {}
            _ => return Err(format!("the answer to {errand:?} is {reply:?}")),
        }
        self.note(format_args!("operator: {errand:?} is done"));
        self.acknowledged(link)?;
        self.operator.sessions.remove(&link);
        self.net.close(self.now, link, End::Peer);
        Ok(())
    }
}
