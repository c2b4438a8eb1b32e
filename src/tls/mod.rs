//! Certificates, and TLS between managers and agents.
