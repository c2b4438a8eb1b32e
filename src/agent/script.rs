//! Which file a resource agent is, and what its meta-data advise.

use std::collections::HashMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use tokio::io::AsyncReadExt;
use tokio::sync::OnceCell;

use super::runner::environment;
use crate::ha::ocf::environment as ocf;
use crate::ha::ocf::metadata::{MAX_METADATA, Metadata};
use crate::ha::protocol::{Action, Operation, ResourceSpec};

/// Time for `meta-data` (what the agents themselves advise for it).
const METADATA_TIME: Duration = Duration::from_secs(5);
/// Where an agent advises nothing.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
/// Mounting a target waits for recovery (`lustre/conf/resource/Lustre` advises this as well).
const LUSTRE_TIMEOUT: Duration = Duration::from_secs(300);

/// A resource agent that may be run.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Script {
    /// Without symbolic links.
    pub path: PathBuf,
    changed: Option<SystemTime>,
}

/// Finds the file of a resource agent.
///
/// # Errors
/// When it is not below `resource.d` of the root, is no program, or others than root and this user may change it. Blocks.
pub fn find(root: &Path, resource: &ResourceSpec) -> Result<Script, String> {
    let path = ocf::script(root, resource)?;
    let shown = path.display();
    let inside =
        root.join("resource.d").canonicalize().map_err(|error| format!("{}: {error}", root.display()))?;
    let real = path.canonicalize().map_err(|error| format!("{shown}: {error}"))?;
    if !real.starts_with(&inside) {
        return Err(format!("{shown} leads out of {}", inside.display()));
    }
    let file = real.metadata().map_err(|error| format!("{shown}: {error}"))?;
    if !file.is_file() || file.permissions().mode() & 0o111 == 0 {
        return Err(format!("{shown} is not a program"));
    }
    let own = rustix::process::geteuid().as_raw();
    if (file.uid() != 0 && file.uid() != own) || file.permissions().mode() & 0o002 != 0 {
        return Err(format!("{shown} can be changed by other users: it is not run"));
    }
    Ok(Script { path: real, changed: file.modified().ok() })
}

/// Advice of resource agents, asked for once for each state of their files.
#[derive(Debug, Default)]
pub struct Advice {
    known: std::cell::RefCell<HashMap<Script, Rc<OnceCell<Metadata>>>>,
}

impl Advice {
    /// How long an operation may take, and how often a monitor is advised to run.
    pub async fn of(&self, script: &Script, operation: &Operation) -> (Duration, Option<Duration>) {
        let monitor = matches!(operation.action, Action::Monitor { .. });
        let given = operation.timeout_ms.filter(|ms| *ms > 0).map(Duration::from_millis);
        if let (Some(given), false) = (given, monitor) {
            return (given, None);
        }
        let metadata = self.metadata(script, operation).await;
        let fallback =
            if operation.resource.kind == "lustre/Lustre" { LUSTRE_TIMEOUT } else { DEFAULT_TIMEOUT };
        let advised = || metadata.timeout(ocf::argument(operation.action));
        (given.or_else(advised).unwrap_or(fallback), metadata.interval().filter(|_| monitor))
    }

    async fn metadata(&self, script: &Script, operation: &Operation) -> Metadata {
        let cell = Rc::clone(self.known.borrow_mut().entry(script.clone()).or_default());
        let metadata = cell.get_or_init(|| async {
            match tokio::time::timeout(METADATA_TIME, ask(script, operation)).await {
                Ok(Ok(metadata)) => return metadata,
                Ok(Err(error)) => tracing::warn!("{} meta-data: {error}", script.path.display()),
                Err(_) => tracing::warn!("{} meta-data: no answer", script.path.display()),
            }
            Metadata::default()
        });
        metadata.await.clone()
    }
}

async fn ask(script: &Script, operation: &Operation) -> Result<Metadata, String> {
    let mut command = tokio::process::Command::new(&script.path);
    command.arg("meta-data").env_clear().envs(environment()).current_dir("/").process_group(0);
    if let Some(root) = script.path.ancestors().nth(3) {
        command.env("OCF_ROOT", root);
    }
    command.env("OCF_RA_VERSION_MAJOR", "1").env("OCF_RA_VERSION_MINOR", "1");
    command.env("OCF_RESOURCE_INSTANCE", operation.resource.id.as_str());
    command.stdin(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().map_err(|error| error.to_string())?;
    let mut text = Vec::new();
    if let Some(output) = child.stdout.take() {
        let mut output = output.take(MAX_METADATA as u64);
        output.read_to_end(&mut text).await.map_err(|error| error.to_string())?;
    }
    let status = child.wait().await.map_err(|error| error.to_string())?;
    if !status.success() {
        return Err(status.to_string());
    }
    Metadata::parse(&String::from_utf8_lossy(&text))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn spec(kind: &str) -> ResourceSpec {
        ResourceSpec { id: "r".into(), kind: kind.to_owned(), parameters: Default::default() }
    }

    #[test]
    fn only_safe_programs_inside_the_root_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path().join("ocf");
        let agents = root.join("resource.d/test");
        fs::create_dir_all(&agents).unwrap();
        let file = |name: &str, mode| {
            fs::write(agents.join(name), "#!/bin/sh\n").unwrap();
            fs::set_permissions(agents.join(name), fs::Permissions::from_mode(mode)).unwrap();
        };
        file("good", 0o755);
        file("text", 0o644);
        file("open", 0o757);
        fs::write(directory.path().join("outside"), "#!/bin/sh\n").unwrap();
        fs::set_permissions(directory.path().join("outside"), fs::Permissions::from_mode(0o755)).unwrap();
        std::os::unix::fs::symlink("../../../outside", agents.join("link")).unwrap();
        std::os::unix::fs::symlink("good", agents.join("same")).unwrap();
        assert!(find(&root, &spec("test/good")).is_ok());
        assert_eq!(find(&root, &spec("test/same")), find(&root, &spec("test/good")));
        for (name, error) in [
            ("text", "is not a program"),
            ("open", "other users"),
            ("link", "leads out"),
            ("none", "No such file"),
        ] {
            let found = find(&root, &spec(&format!("test/{name}")));
            assert!(found.as_ref().is_err_and(|why| why.contains(error)), "{name}: {found:?}");
        }
    }
}
