//! What was measured, beside the aim and what the C coordinatool takes.

use std::fmt;
use std::path::Path;

/// When a value is good.
#[derive(Debug, Clone, Copy)]
pub enum Aim {
    /// At least this.
    AtLeast(f64),
    /// At most this.
    AtMost(f64),
    /// Only shown.
    None,
}

/// One line.
#[derive(Debug, Clone)]
pub struct Line {
    what: String,
    unit: &'static str,
    runs: Vec<f64>,
    aim: Aim,
    first_aim: Option<f64>,
    c: &'static str,
}

impl Line {
    /// What several runs gave.
    pub fn new(what: impl Into<String>, unit: &'static str, runs: Vec<f64>) -> Self {
        Self { what: what.into(), unit, runs, aim: Aim::None, first_aim: None, c: "" }
    }

    /// What it should be.
    #[must_use]
    pub fn aim(mut self, aim: Aim) -> Self {
        self.aim = aim;
        self
    }

    /// What the aim was before it was reached with room to spare.
    #[must_use]
    pub fn raised_from(mut self, first: f64) -> Self {
        self.first_aim = Some(first);
        self
    }

    /// What the C coordinatool was measured with.
    #[must_use]
    pub fn c(mut self, c: &'static str) -> Self {
        self.c = c;
        self
    }

    /// The middle one of all runs.
    pub fn median(&self) -> f64 {
        median(&self.runs)
    }

    fn reached(&self) -> Option<bool> {
        match self.aim {
            Aim::AtLeast(least) => Some(self.median() >= least),
            Aim::AtMost(most) => Some(self.median() <= most),
            Aim::None => None,
        }
    }

    fn aim_text(&self) -> String {
        let aim = match self.aim {
            Aim::AtLeast(least) => format!(">= {}", number(least)),
            Aim::AtMost(most) => format!("<= {}", number(most)),
            Aim::None => "-".to_owned(),
        };
        match self.first_aim {
            Some(first) => format!("{aim} (at first {})", number(first)),
            None => aim,
        }
    }

    /// As a row of a table in Markdown.
    pub fn markdown(&self) -> String {
        let (least, most) = self.spread();
        let reached = match self.reached() {
            Some(true) => "yes",
            Some(false) => "**missed**",
            None => "",
        };
        let c = if self.c.is_empty() { "-" } else { self.c };
        format!(
            "| {} | {c} | {} | {} {} ({} to {}) | {reached} |",
            self.what,
            self.aim_text(),
            number(self.median()),
            self.unit,
            number(least),
            number(most)
        )
    }

    fn spread(&self) -> (f64, f64) {
        let least = self.runs.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        (least, most)
    }
}

/// The head of a table in Markdown.
pub const HEAD: &str =
    "| what | C coordinatool | aim | median (least to most) | reached |\n|---|---|---|---|---|";

/// Puts text between two lines of a document.
///
/// # Errors
/// When they are not there, or the document cannot be read or written.
pub fn put_into(document: &Path, text: &str) -> Result<(), String> {
    const BEGIN: &str = "<!-- table of cargo bench --bench hsm -->\n";
    const END: &str = "<!-- end of the table -->\n";
    let failed = |error: std::io::Error| format!("{}: {error}", document.display());
    let old = std::fs::read_to_string(document).map_err(failed)?;
    let parts = old.split_once(BEGIN).and_then(|(before, rest)| Some((before, rest.split_once(END)?.1)));
    let (before, after) = parts.ok_or_else(|| format!("{}: no place for the table", document.display()))?;
    std::fs::write(document, format!("{before}{BEGIN}{text}{END}{after}")).map_err(failed)
}

/// The middle one.
pub fn median(runs: &[f64]) -> f64 {
    let mut sorted = runs.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        odd if odd % 2 == 1 => sorted[odd / 2],
        even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
    }
}

/// Three digits at least, and not more than are worth anything.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 1e5 => format!("{:.0}k", value / 1000.0),
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (least, most) = self.spread();
        let runs: Vec<String> = self.runs.iter().copied().map(number).collect();
        write!(f, "{:<64} {:>8} {:<8}", self.what, number(self.median()), self.unit)?;
        write!(f, " ({} to {}; {} runs: {})", number(least), number(most), runs.len(), runs.join(" "))?;
        match self.reached() {
            Some(reached) => {
                write!(f, "  [aim {}: {}]", self.aim_text(), if reached { "reached" } else { "MISSED" })
            }
            None => Ok(()),
        }
    }
}
