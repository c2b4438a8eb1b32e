//! What the user sees while the demo runs: one line per phase, with a bar on a terminal.

use std::io::{IsTerminal, Write};
use std::time::Instant;

/// Width of the bar.
const WIDTH: usize = 24;

/// One phase: begun with a title, moved, and finished with a result.
pub struct Phase {
    title: String,
    total: usize,
    shown: Option<usize>,
    terminal: bool,
    begun: Instant,
}

impl Phase {
    /// Begins a phase of so many steps.
    pub fn begin(title: &str, total: usize) -> Self {
        let mut phase = Self {
            title: title.to_owned(),
            total,
            shown: None,
            terminal: std::io::stdout().is_terminal(),
            begun: Instant::now(),
        };
        phase.show(0);
        phase
    }

    /// How many steps it has.
    pub fn total(&self) -> usize {
        self.total
    }

    /// So many steps are done.
    pub fn show(&mut self, done: usize) {
        if self.terminal && self.shown != Some(done) {
            self.shown = Some(done);
            let filled = done * WIDTH / self.total.max(1);
            print!("\r{:<52} [{:<WIDTH$}] {done}/{}", self.title, "#".repeat(filled.min(WIDTH)), self.total);
            let _ = std::io::stdout().flush();
        }
    }

    /// It is finished.
    pub fn end(self, result: &str) {
        let clear = if self.terminal { "\r\x1b[K" } else { "" };
        println!("{clear}{:<52} {result} ({:.1} s)", self.title, self.begun.elapsed().as_secs_f64());
    }
}
