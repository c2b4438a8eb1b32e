//! Compiles the one C file with the system's compiler and gives the library its name.

use std::path::PathBuf;
use std::process::Command;

fn main() {
    let source = "csrc/messages.c";
    println!("cargo:rerun-if-changed={source}");
    println!("cargo:rerun-if-env-changed=CC");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default());
    let object = out.join("messages.o");
    let compiler = std::env::var("CC").unwrap_or_else(|_| "cc".to_owned());
    let status = Command::new(&compiler)
        .args(["-c", "-O2", "-g", "-fPIC", "-fvisibility=hidden", "-D_GNU_SOURCE", "-Wall", "-Wextra"])
        .arg(source)
        .arg("-o")
        .arg(&object)
        .status();
    match status {
        Ok(status) if status.success() => {}
        Ok(status) => fail(&format!("{compiler} {source}: {status}")),
        Err(error) => fail(&format!("a C compiler is needed, and `{compiler}` cannot be run: {error}")),
    }
    println!("cargo:rustc-link-arg={}", object.display());
    println!("cargo:rustc-cdylib-link-arg=-Wl,-soname,liblustreapi.so.1");
}

fn fail(message: &str) -> ! {
    eprintln!("{message}");
    std::process::exit(1);
}
