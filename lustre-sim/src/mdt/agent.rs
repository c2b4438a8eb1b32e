//! Registered copytools, what `hsm/agents` prints.

use super::ClientId;

/// A registered copytool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// Its mount.
    pub client: ClientId,
    /// Its uuid.
    pub uuid: String,
    /// Archives it serves, all if empty.
    pub archives: Vec<u32>,
    /// Requests it has.
    pub current: i64,
    /// Requests that ended well.
    pub ok: i64,
    /// Requests that ended with an error or timed out.
    pub errors: i64,
}

impl Agent {
    /// Whether it serves an archive. Archive 0 only if it serves all.
    pub fn serves(&self, archive_id: u32) -> bool {
        self.archives.is_empty() || self.archives.contains(&archive_id)
    }
}

/// The agents in order of registration.
#[derive(Debug, Clone, Default)]
pub(super) struct Agents {
    list: Vec<Agent>,
}

impl Agents {
    /// All of them.
    pub fn list(&self) -> &[Agent] {
        &self.list
    }

    /// Adds one; false if the client has one already.
    pub fn add(&mut self, client: ClientId, uuid: String, archives: Vec<u32>) -> bool {
        if self.list.iter().any(|agent| agent.client == client) {
            return false;
        }
        self.list.push(Agent { client, uuid, archives, current: 0, ok: 0, errors: 0 });
        true
    }

    /// Removes a client's; false if it has none.
    pub fn remove(&mut self, client: ClientId) -> bool {
        let before = self.list.len();
        self.list.retain(|agent| agent.client != client);
        self.list.len() < before
    }

    /// Removes all.
    pub fn clear(&mut self) {
        self.list.clear();
    }

    /// A client's.
    pub fn get_mut(&mut self, client: ClientId) -> Option<&mut Agent> {
        self.list.iter_mut().find(|agent| agent.client == client)
    }

    /// The least loaded agent that serves an archive, the first of equals (`mdt_hsm_find_best_agent`). The search ends at
    /// the first agent that is idle.
    pub fn best(&self, archive_id: u32) -> Option<ClientId> {
        let mut best: Option<&Agent> = None;
        for agent in self.list.iter().filter(|agent| agent.serves(archive_id)) {
            if best.is_none_or(|b| b.current > agent.current) {
                best = Some(agent);
            }
            if agent.current == 0 {
                break;
            }
        }
        best.map(|agent| agent.client)
    }
}
