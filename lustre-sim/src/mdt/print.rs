//! The texts that `lctl` and `lfs` print, byte for byte.

use super::{CurrentAction, HsmState};

/// A parameter as `lctl get_param` prints it: on one line after `name=` if it is one line, otherwise from the next line
/// on. `value` as [`super::Mdt::param`] gives it. Ends with a newline.
pub fn lctl_get_param(name: &str, value: &str) -> String {
    let _ = (name, value);
    todo!()
}

/// A file's state as `lfs hsm_state` prints it, without the newline.
pub fn lfs_hsm_state(path: &str, state: HsmState) -> String {
    let _ = (path, state);
    todo!()
}

/// A file's current action as `lfs hsm_action` prints it, without the newline.
pub fn lfs_hsm_action(path: &str, action: CurrentAction) -> String {
    let _ = (path, action);
    todo!()
}
