//! What is wrong with a configuration, and where.

use std::fmt;

/// Something that is wrong, or looks wrong, in a configuration file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// The file, as it was named to us.
    pub file: String,
    /// Line, from 1. 0: the file as a whole.
    pub line: usize,
    /// Column, from 1, in characters.
    pub column: Option<usize>,
    /// Which key, as a path: `hosts[1].fence_agent`. Empty: the file as a whole.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

impl Problem {
    /// A problem of a file as a whole.
    pub fn of_file(file: &str, message: impl Into<String>) -> Self {
        let (key, message) = (String::new(), message.into());
        Self { file: file.to_owned(), line: 0, column: None, key, message, hint: None }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        f.write_str(": ")?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)?;
        if let Some(hint) = &self.hint {
            write!(f, "; {hint}")?;
        }
        Ok(())
    }
}

/// A key as it is shown: bounded, on one line.
pub(super) fn shown(key: &str) -> String {
    key.chars().take(60).collect::<String>().escape_debug().to_string()
}
