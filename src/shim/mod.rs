//! The mover's side of the protocol, as a pure state machine: what `libcoordinatool_client.so` does between a copytool
//! and the daemon.
