//! What a resource agent finds in its environment (OCF RA API 1.1, and what Pacemaker adds to it).

use std::path::{Path, PathBuf};

use crate::ha::ids::HostId;
use crate::ha::protocol::{Action, Operation, ResourceSpec};

const MAX_PARAMETERS: usize = 256;
const MAX_VALUE: usize = 64 * 1024;

/// The word that a resource agent gets as its argument.
pub fn argument(action: Action) -> &'static str {
    match action {
        Action::Start => "start",
        Action::Stop => "stop",
        Action::Probe | Action::Monitor { .. } => "monitor",
    }
}

/// Where a resource agent is, below `resource.d` of the OCF root.
///
/// # Errors
/// When the kind is not `provider/type`, or a parameter cannot be passed in an environment.
pub fn script(root: &Path, resource: &ResourceSpec) -> Result<PathBuf, String> {
    let kind = &resource.kind;
    let wrong = || format!("{kind:?} is not a resource agent: provider/type is expected");
    let (provider, name) = kind.split_once('/').ok_or_else(wrong)?;
    let fine = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
    };
    if !fine(provider) || !fine(name) {
        return Err(wrong());
    }
    if resource.parameters.len() > MAX_PARAMETERS {
        return Err(format!("{} parameters are too many", resource.parameters.len()));
    }
    for (name, value) in &resource.parameters {
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            return Err(format!("{name:?} is not the name of a parameter"));
        }
        if value.len() > MAX_VALUE || value.contains('\0') {
            return Err(format!("the value of parameter {name} cannot be passed on"));
        }
    }
    Ok(root.join("resource.d").join(provider).join(name))
}

/// The variables, beside `PATH` and the like.
pub fn variables(
    root: &Path,
    host: &HostId,
    operation: &Operation,
    timeout_ms: u64,
) -> Vec<(String, String)> {
    let resource = &operation.resource;
    let (provider, kind) = resource.kind.split_once('/').unwrap_or(("", &resource.kind));
    let (depth, interval) = match operation.action {
        Action::Monitor { depth, interval_ms } => (depth, interval_ms),
        // A probe is a monitor with no interval.
        _ => (0, 0),
    };
    let mut variables: Vec<(String, String)> = vec![
        ("OCF_ROOT".into(), root.display().to_string()),
        ("OCF_RA_VERSION_MAJOR".into(), "1".into()),
        ("OCF_RA_VERSION_MINOR".into(), "1".into()),
        ("OCF_RESOURCE_INSTANCE".into(), resource.id.to_string()),
        ("OCF_RESOURCE_TYPE".into(), kind.into()),
        ("OCF_RESOURCE_PROVIDER".into(), provider.into()),
        ("OCF_EXIT_REASON_PREFIX".into(), "ocf-exit-reason:".into()),
        ("OCF_RESKEY_CRM_meta_timeout".into(), timeout_ms.to_string()),
        ("OCF_RESKEY_CRM_meta_interval".into(), interval.to_string()),
        ("OCF_RESKEY_CRM_meta_on_node".into(), host.to_string()),
        ("OCF_RESKEY_CRM_meta_name".into(), argument(operation.action).into()),
        ("OCF_RESKEY_crm_feature_set".into(), "3.15.1".into()),
    ];
    let mut depth = depth.to_string();
    for (name, value) in &resource.parameters {
        if name == "OCF_CHECK_LEVEL" {
            depth.clone_from(value);
        } else {
            variables.push((format!("OCF_RESKEY_{name}"), value.clone()));
        }
    }
    if matches!(operation.action, Action::Monitor { .. }) {
        variables.push(("OCF_CHECK_LEVEL".into(), depth));
    }
    variables
}

/// What a resource agent wanted to say: the text of its last `ocf-exit-reason:` line, else its last line; bounded.
pub fn exit_reason(standard_error: &str) -> String {
    const MAX_REASON: usize = 500;
    let lines = || standard_error.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let reason = lines()
        .find_map(|line| line.strip_prefix("ocf-exit-reason:"))
        .or_else(|| lines().next())
        .unwrap_or("");
    reason.chars().filter(|c| !c.is_control()).take(MAX_REASON).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(kind: &str) -> ResourceSpec {
        ResourceSpec { id: "r".into(), kind: kind.to_owned(), parameters: Default::default() }
    }

    #[test]
    fn nothing_outside_the_root_is_run() {
        let root = Path::new("/usr/lib/ocf");
        assert_eq!(script(root, &spec("lustre/Lustre")), Ok("/usr/lib/ocf/resource.d/lustre/Lustre".into()));
        for kind in [
            "",
            "x",
            "../../bin/touch",
            "a/../b",
            "a/..",
            "/a",
            "a/",
            "a/b/c",
            "a/.b",
            "a/b c",
            "a\0/b",
            ".ocf/x",
        ] {
            assert!(script(root, &spec(kind)).is_err(), "{kind:?}");
        }
        for parameter in ["", "a b", "LD=", "a\n", "\u{e4}"] {
            let mut resource = spec("a/b");
            resource.parameters.insert(parameter.to_owned(), "x".to_owned());
            assert!(script(root, &resource).is_err(), "{parameter:?}");
        }
    }

    #[test]
    fn reasons() {
        for (text, reason) in [
            ("", ""),
            ("a\nb\n\n", "b"),
            ("ocf-exit-reason:first\nocf-exit-reason:no pool\nnoise\n", "no pool"),
            ("\u{1b}[31mred\n", "[31mred"),
        ] {
            assert_eq!(exit_reason(text), reason, "{text:?}");
        }
        assert_eq!(exit_reason(&"x".repeat(10_000)).len(), 500);
    }
}
