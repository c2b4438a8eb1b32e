//! The file of the state: a header, the sum of all records at some time, and the records since.

use serde::{Deserialize, Serialize};

use super::{Record, State};
use crate::ha::records;

/// The format that is written.
pub const FORMAT: u32 = 1;

/// A line of the file. Without a tag inside: serde could not read the numbered commands of a state back then.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// The first.
    Header {
        /// [`FORMAT`].
        format: u32,
    },
    /// The sum of what was before.
    State {
        /// That sum.
        state: Box<State>,
    },
    /// A change since.
    Record {
        /// That change.
        change: Record,
    },
}

/// What a file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recovered {
    /// What could be read.
    pub state: State,
    /// What is missing of it, if more is than a torn last line, which was never promised.
    pub damage: Option<String>,
}

/// A whole file for a state.
///
/// # Errors
/// When it cannot be written as JSON, which no state of ours is.
pub fn file(state: &State) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = records::line(&Line::Header { format: FORMAT })?;
    bytes.extend(records::line(&Line::State { state: Box::new(state.clone()) })?);
    Ok(bytes)
}

/// Lines for records.
///
/// # Errors
/// See [`file()`].
pub fn lines(changes: &[Record]) -> Result<Vec<u8>, serde_json::Error> {
    let mut bytes = Vec::new();
    for change in changes {
        bytes.extend(records::line(&Line::Record { change: change.clone() })?);
    }
    Ok(bytes)
}

/// Reads a file.
///
/// # Errors
/// When a newer version of this program wrote it.
pub fn recover(bytes: &[u8]) -> Result<Recovered, String> {
    let read = records::read::<Line>(bytes);
    let mut damage = read.damaged;
    let mut state = State::default();
    let mut whole = false;
    for line in read.records {
        match line {
            Line::Header { format } if format > FORMAT => {
                return Err(format!("it has format {format}; this version knows {FORMAT}"));
            }
            Line::Header { .. } => {}
            Line::State { state: sum } => {
                state = *sum;
                whole = true;
            }
            Line::Record { change } => state.apply(&change),
        }
    }
    if !whole {
        damage.push("the sum of older records is missing".to_owned());
    }
    let damage = (!damage.is_empty()).then(|| damage.join("; "));
    Ok(Recovered { state, damage })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::ids::{Epoch, ManagerId};

    fn changes() -> Vec<Record> {
        vec![
            Record::Reign { manager: ManagerId(7), epoch: Epoch(3) },
            Record::Command {
                id: crate::ha::ids::CommandId(1),
                what: "w".to_owned(),
                by: "b".to_owned(),
                reason: None,
                at: 5,
                progress: crate::ha::command::Progress::Done { result: "r".to_owned() },
            },
            Record::HostSeen { host: "b".into() },
        ]
    }

    fn whole() -> (State, Vec<u8>) {
        let mut state = State::default();
        state.apply(&changes()[0]);
        let mut bytes = file(&state).unwrap();
        bytes.extend(lines(&changes()[1..]).unwrap());
        for change in &changes()[1..] {
            state.apply(change);
        }
        (state, bytes)
    }

    #[test]
    fn a_state_comes_back() {
        let (state, bytes) = whole();
        assert_eq!(recover(&bytes), Ok(Recovered { state: state.clone(), damage: None }));
        // As the next run writes it.
        let again = file(&state).unwrap();
        assert_eq!(recover(&again), Ok(Recovered { state, damage: None }));
    }

    #[test]
    fn a_cut_after_the_sum_is_no_damage() {
        let (_, bytes) = whole();
        let sum: usize = bytes.split_inclusive(|byte| *byte == b'\n').take(2).map(<[u8]>::len).sum();
        for cut in 0..bytes.len() {
            let found = recover(&bytes[..cut]).unwrap();
            assert_eq!(found.damage.is_some(), cut < sum, "cut at {cut}");
            assert!(found.state.epoch == Epoch(3) || cut < sum);
        }
    }

    #[test]
    fn a_flipped_byte_before_the_last_line_is_damage() {
        let (state, bytes) = whole();
        let last = bytes.len() - lines(&changes()[2..]).unwrap().len();
        for at in 0..last {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            let found = recover(&flipped).unwrap();
            assert!(found.damage.is_some() || found.state == state, "byte {at}");
        }
    }

    #[test]
    fn newer_formats_are_refused() {
        let bytes = records::line(&Line::Header { format: FORMAT + 1 }).unwrap();
        assert!(recover(&bytes).unwrap_err().contains("format 2"));
    }
}
