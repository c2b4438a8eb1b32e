//! Where Lustre's headers are installed, the C compiler must agree with the layouts that this crate asserts.
//!
//! `LUSTRE_INCLUDE` names another directory than `/usr/include`, such as `include/uapi` of a Lustre tree.

#![allow(clippy::expect_used)]

use std::fmt::Write as _;
use std::io::Write as _;
use std::mem::offset_of;
use std::path::PathBuf;
use std::process::Command;

use lustreapi_sys::abi::*;

/// Writes the C program's line and ours for one structure.
macro_rules! compare {
    ($c:ident, $ours:ident, $type:ident: $($field:ident),*) => {{
        let name = stringify!($type);
        let _ = writeln!($c, "printf(\"{name} %zu\", sizeof(struct {name}));");
        let _ = write!($ours, "{name} {}", size_of::<$type>());
        $(
            let field = stringify!($field);
            let _ = writeln!($c, "printf(\" {field} %zu\", offsetof(struct {name}, {field}));");
            let _ = write!($ours, " {field} {}", offset_of!($type, $field));
        )*
        let _ = writeln!($c, "printf(\"\\n\");");
        let _ = writeln!($ours);
    }};
}

fn skip(reason: &str) {
    eprintln!("skipped: {reason}");
    if let Some(log) = std::env::var_os("COORDINATOOL_SKIP_LOG") {
        let log = std::fs::OpenOptions::new().append(true).create(true).open(log);
        let line = format!("layouts_agree_with_the_installed_headers\t{reason}\n");
        log.and_then(|mut log| log.write_all(line.as_bytes())).expect("the skip log can be written");
    }
}

#[test]
fn layouts_agree_with_the_installed_headers() {
    let include =
        std::env::var_os("LUSTRE_INCLUDE").map_or_else(|| PathBuf::from("/usr/include"), PathBuf::from);
    if !include.join("linux/lustre/lustre_user.h").exists() {
        return skip("no Lustre headers are installed");
    }
    let (mut c, mut ours) = (String::new(), String::new());
    compare!(c, ours, lu_fid: f_seq, f_oid, f_ver);
    compare!(c, ours, hsm_extent: offset, length);
    compare!(c, ours, hsm_action_item: hai_len, hai_action, hai_fid, hai_dfid, hai_extent, hai_cookie, hai_gid);
    compare!(c, ours, hsm_action_list: hal_version, hal_count, hal_compound_id, hal_flags, hal_archive_id);
    compare!(c, ours, hsm_copy: hc_data_version, hc_flags, hc_errval, hc_hai);
    compare!(c, ours, hsm_progress: hp_fid, hp_cookie, hp_extent, hp_flags, hp_errval);
    compare!(c, ours, hsm_request: hr_action, hr_archive_id, hr_flags, hr_itemcount, hr_data_len);
    compare!(c, ours, hsm_user_item: hui_fid, hui_extent);
    compare!(c, ours, hsm_user_request: hur_request);
    compare!(c, ours, hsm_user_state: hus_states, hus_archive_id, hus_in_progress_state, hus_in_progress_action,
        hus_in_progress_location);
    compare!(c, ours, hsm_current_action: hca_state, hca_action, hca_location);
    // hsm_state_set is in a header of Lustre's internal protocol, which installations do not have.
    compare!(c, ours, hsm_user_import: hui_size, hui_atime, hui_mtime, hui_atime_ns, hui_mtime_ns, hui_uid, hui_gid,
        hui_mode, hui_archive_id);
    compare!(c, ours, kuc_hdr: kuc_magic, kuc_transport, kuc_flags, kuc_msgtype, kuc_msglen);
    compare!(c, ours, lustre_kernelcomm: lk_wfd, lk_rfd, lk_uid, lk_group, lk_data_count, lk_flags);
    let program = format!(
        "#include <stddef.h>\n#include <stdio.h>\n#include <stdbool.h>\n#include <linux/lustre/lustre_user.h>\n\
         #include <linux/lustre/lustre_kernelcomm.h>\nint main(void)\n{{\n{c}return 0;\n}}\n"
    );
    let dir = std::env::temp_dir().join(format!("lustre-layouts-{}", std::process::id()));
    std::fs::create_dir_all(&dir).expect("a temporary directory");
    let (source, binary) = (dir.join("layouts.c"), dir.join("layouts"));
    std::fs::write(&source, program).expect("the program is written");
    let built =
        Command::new("cc").arg("-w").arg("-I").arg(&include).arg("-o").arg(&binary).arg(&source).status();
    let printed = built.ok().filter(|status| status.success()).map(|_| Command::new(&binary).output());
    std::fs::remove_dir_all(&dir).expect("the temporary directory is removed");
    let output = printed.expect("the headers compile").expect("the program runs");
    assert_eq!(String::from_utf8_lossy(&output.stdout), ours);
}
