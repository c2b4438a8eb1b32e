//! The configuration, read at the start and again.

use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::handle::{Manager, Order};
use crate::ha::command::Command;
use crate::ha::config::{self, Loaded};
use crate::ha::ids::CommandId;

/// Largest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 16 << 20;

/// What came of loading the configuration again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reloaded {
    /// What changes, a line each.
    pub difference: Vec<String>,
    /// What may be wrong.
    pub warnings: Vec<String>,
    /// The command under which it goes on; `None` for a dry run.
    pub command: Option<CommandId>,
    /// What follows from it.
    pub consequences: Vec<String>,
}

/// Reads a configuration file.
///
/// # Errors
/// All problems of it, one line each.
pub fn load(file: &Path) -> Result<Loaded, Vec<String>> {
    let shown = file.display().to_string();
    let read = File::open(file).and_then(|file| {
        let mode = file.metadata()?.permissions().mode();
        let mut bytes = Vec::new();
        file.take(MAX_CONFIG).read_to_end(&mut bytes)?;
        let text =
            String::from_utf8(bytes).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
        Ok((text, mode))
    });
    let (text, mode) = read.map_err(|error| vec![format!("{shown}: {error}")])?;
    let loaded = config::load(&text, &shown);
    let mut loaded =
        loaded.map_err(|problems| problems.iter().map(ToString::to_string).collect::<Vec<_>>())?;
    loaded.warnings.extend(config::check_mode(&loaded, mode));
    Ok(loaded)
}

/// Reads the configuration again and has the manager use it.
///
/// # Errors
/// All problems; nothing has changed then.
pub async fn reload(
    manager: &Manager,
    file: &Path,
    by: String,
    reason: Option<String>,
    dry_run: bool,
) -> Result<Reloaded, Vec<String>> {
    let path = file.to_owned();
    let loaded = tokio::task::spawn_blocking(move || load(&path)).await;
    let loaded = loaded.map_err(|error| vec![error.to_string()])??;
    let old = manager.config().await.map_err(|error| vec![error.to_string()])?;
    let difference = config::difference(&old, &loaded.config);
    let command = Command::Reload { config: Box::new(loaded.config) };
    let answer = manager.order(Order { command, by, reason, dry_run }).await;
    let accepted = answer.map_err(|error| vec![error.to_string()])?.map_err(|denied| vec![denied.message])?;
    let warnings = loaded.warnings.iter().map(ToString::to_string).collect();
    Ok(Reloaded { difference, warnings, command: accepted.command, consequences: accepted.consequences })
}
