//! The Lustre HSM ABI, from Lustre 2.10 to master, on 64-bit little-endian machines.
//!
//! This crate holds the binary formats and nothing else: no ioctl is made here and no Lustre header or library is
//! needed to build it. [`abi`] has the C structures with their sizes and offsets asserted at compile time, [`ioctl`] the
//! request numbers, [`kuc`] the frames that the kernel writes into a copytool's pipe and [`hal`] the action lists inside
//! them. [`Fid`] is the file identifier as Rust code wants to hold it.

pub mod abi;
pub mod fid;
pub mod hal;
pub mod ioctl;
pub mod kuc;
pub mod request;

pub use fid::{Fid, ParseFidError};
