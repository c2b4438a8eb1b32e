//! Makes a stand-in for `liblustreapi.so.1` to link against, so that the program needs that name like any other copytool.

use std::path::PathBuf;
use std::process::Command;

/// What the program imports.
const FUNCTIONS: [&str; 12] = [
    "llapi_hsm_copytool_register",
    "llapi_hsm_copytool_unregister",
    "llapi_hsm_copytool_get_fd",
    "llapi_hsm_copytool_recv",
    "llapi_hsm_action_begin",
    "llapi_hsm_action_end",
    "llapi_hsm_action_progress",
    "llapi_hsm_action_get_fd",
    "llapi_hsm_action_get_dfid",
    "llapi_get_mdt_index_by_fid",
    "llapi_search_fsname",
    "llapi_msg_set_level",
];

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rerun-if-env-changed=CC");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let source = out.join("stub.c");
    let text: String = FUNCTIONS.iter().map(|name| format!("void {name}(void) {{}}\n")).collect();
    if let Err(error) = std::fs::write(&source, text) {
        fail(&format!("{}: {error}", source.display()));
    }
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(&compiler)
        .args(["-shared", "-fPIC", "-nostdlib", "-Wl,-soname,liblustreapi.so.1"])
        .arg(&source)
        .arg("-o")
        .arg(out.join("liblustreapi_stub.so"))
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("{compiler} of a shared library: {status}")),
        Err(error) => fail(&format!("a C compiler is needed, and `{compiler}` cannot be run: {error}")),
    }
    println!("cargo:rustc-link-search=native={}", out.display());
    println!("cargo:rustc-link-lib=dylib=lustreapi_stub");
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(1);
}
