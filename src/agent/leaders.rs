//! Who an operation's own process is, for an agent that is started again while it runs: others of the operation may be left
//! when it has ended, and that is something else.

use std::fs;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::ha::agent::IntentRecord;
use crate::ha::ids::OrderId;

/// A directory with a file for each operation that changes something.
#[derive(Debug, Clone)]
pub struct Leaders {
    directory: PathBuf,
}

impl Leaders {
    /// In a state directory. Of operations other than these everything is forgotten.
    ///
    /// # Errors
    /// When there can be no such directory.
    pub fn open(state: &Path, alive: &[OrderId]) -> io::Result<Self> {
        let directory = state.join("leaders");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        for entry in fs::read_dir(&directory)?.flatten() {
            let order = entry.file_name().to_str().and_then(|name| name.parse().ok());
            if !order.is_some_and(|order| alive.contains(&order)) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Ok(Self { directory })
    }

    /// Where an operation's own process says who it is.
    pub fn path(&self, order: OrderId) -> PathBuf {
        self.directory.join(order.to_string())
    }

    /// Which of these are to be told to the agent's machine. It kills what it finds no record of: that is what a look of an
    /// earlier run left. Where the records are lost, that could be the resources that run here.
    pub fn told(&self, records: &[IntentRecord], alive: Vec<OrderId>) -> Vec<OrderId> {
        let sealed = records.iter().any(|record| matches!(record, IntentRecord::Sealed { .. }));
        let known = |order: OrderId| {
            records
                .iter()
                .any(|record| matches!(record, IntentRecord::Intent(intent) if intent.order == order))
        };
        let (told, lost): (Vec<_>, Vec<_>) =
            alive.into_iter().partition(|order| known(*order) || (sealed && !self.is_gone(*order)));
        for order in lost {
            tracing::error!(
                "processes of the order {order} are there, but the record of it is lost: they are left alone"
            );
        }
        told
    }

    /// Whether an operation's own process is known to have ended.
    pub fn is_gone(&self, order: OrderId) -> bool {
        let Ok(text) = fs::read_to_string(self.path(order)) else { return false };
        let Some((pid, begun)) = text.trim_end().split_once(' ') else { return false };
        let Ok(pid) = pid.parse::<u32>() else { return false };
        match fs::read_to_string(format!("/proc/{pid}/stat")) {
            Ok(stat) => match state_and_start(&stat) {
                // What is left of a process that nobody waits for does nothing any more.
                Some((state, start)) => start != begun || matches!(state, "Z" | "X"),
                None => false,
            },
            Err(error) => error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(ESRCH),
        }
    }

    /// It is over.
    pub fn forget(&self, order: OrderId) {
        let _ = fs::remove_file(self.path(order));
    }
}

/// What reading about a process gives that ends at this moment.
const ESRCH: i32 = 3;

/// Says that this process is the leader. It is not worth failing for.
pub fn write_own(path: &Path) {
    let Ok(stat) = fs::read_to_string("/proc/self/stat") else { return };
    let Some((_, start)) = state_and_start(&stat) else { return };
    let _ = fs::write(path, format!("{} {start}\n", std::process::id()));
}

/// The state, and the time when it was started, of `/proc/PID/stat` (proc_pid_stat(5)).
fn state_and_start(stat: &str) -> Option<(&str, &str)> {
    // The name, in parentheses, may contain anything.
    let (_, rest) = stat.rsplit_once(") ")?;
    let mut fields = rest.split(' ');
    Some((fields.next()?, fields.nth(18)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ha::ids::{Epoch, ManagerRun};

    fn order(number: u64) -> OrderId {
        OrderId { epoch: Epoch(1), run: ManagerRun(1), number }
    }

    #[test]
    fn a_leader_is_told_from_another_process_with_its_number() {
        let directory = tempfile::tempdir().unwrap();
        let leaders = Leaders::open(directory.path(), &[]).unwrap();
        assert!(!leaders.is_gone(order(1)), "nobody knows");
        write_own(&leaders.path(order(1)));
        assert!(!leaders.is_gone(order(1)));
        fs::write(leaders.path(order(2)), format!("{} 1\n", std::process::id())).unwrap();
        assert!(leaders.is_gone(order(2)), "this one was not started at boot");
        fs::write(leaders.path(order(3)), "torn").unwrap();
        assert!(!leaders.is_gone(order(3)), "nobody knows");
        // No process has a number as high as this.
        fs::write(leaders.path(order(3)), "999999999 5\n").unwrap();
        assert!(leaders.is_gone(order(3)));
        let again = Leaders::open(directory.path(), &[order(1)]).unwrap();
        assert!(!again.is_gone(order(1)) && again.path(order(1)).exists());
        assert!(!again.path(order(2)).exists());
    }

    #[test]
    fn names_may_contain_anything() {
        let rest = "R 1 2 2 0 -1 4194560 117 0 0 0 0 0 0 0 20 0 1 0 8675309 2531328";
        assert_eq!(state_and_start(&format!("7 (a) S (b) {rest}")), Some(("R", "8675309")));
        assert_eq!(state_and_start("7 (a"), None);
    }
}
