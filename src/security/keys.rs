//! Credentials that are read again when their files change.

use std::sync::Arc;

use rustls::ClientConfig;

use super::client::Credentials;
use super::files::{self, FileError, Stamp};

/// Credentials, and what their files held when they were last good.
#[derive(Debug)]
pub struct Keys {
    credentials: Credentials,
    stamps: Vec<Stamp>,
    current: Option<Arc<ClientConfig>>,
}

impl Keys {
    /// Nothing is read yet.
    pub fn new(credentials: Credentials) -> Self {
        Self { credentials, stamps: Vec::new(), current: None }
    }

    /// What to connect with now. The files are read when they have changed; where they are no good, for instance in the
    /// middle of a renewal, what they held before stays in use, and the error is handed to `complain`.
    ///
    /// # Errors
    /// Names the file, when it was never any good.
    pub fn fresh(&mut self, complain: impl FnOnce(&FileError)) -> Result<Arc<ClientConfig>, FileError> {
        // Before the files are read: a change in between is seen the next time.
        let stamps: Vec<Stamp> = self.credentials.files().into_iter().map(files::stamp).collect();
        if let Some(current) = &self.current
            && stamps == self.stamps
        {
            return Ok(Arc::clone(current));
        }
        match (self.credentials.load(), &self.current) {
            (Ok(config), _) => {
                let config = Arc::new(config);
                self.current = Some(Arc::clone(&config));
                self.stamps = stamps;
                Ok(config)
            }
            (Err(error), Some(current)) => {
                complain(&error);
                self.stamps = stamps;
                Ok(Arc::clone(current))
            }
            (Err(error), None) => Err(error),
        }
    }
}
