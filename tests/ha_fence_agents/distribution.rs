//! Fence agents of the distribution, with simulated devices.
