//! Compares what is known here with what the MDTs list.

pub mod command;
