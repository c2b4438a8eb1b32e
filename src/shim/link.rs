//! Part of the shim.
