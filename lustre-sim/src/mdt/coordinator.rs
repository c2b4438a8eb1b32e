//! When the coordinator looks at its log.
