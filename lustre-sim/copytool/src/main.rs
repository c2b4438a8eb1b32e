//! A small POSIX copytool.
fn main() {}
