//! The mover protocol: JSON objects over TCP, one after the other, without any separator.
