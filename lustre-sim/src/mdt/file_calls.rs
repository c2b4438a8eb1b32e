//! What clients do with files.
