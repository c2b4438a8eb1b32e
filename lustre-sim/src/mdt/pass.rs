//! One pass of the coordinator over its log, and the sending of what it found.
