//! Everything that touches Lustre.
