//! Numbers of several runs, and how they are shown.

use std::fmt;
use std::time::Duration;

/// One thing, measured several times.
#[derive(Debug, Clone)]
pub struct Figure {
    name: String,
    unit: &'static str,
    runs: Vec<f64>,
    /// What HALO a0fa0b9 takes, and what we aim at, as it is shown.
    against: Option<(&'static str, &'static str)>,
}

impl Figure {
    /// Runs in a unit.
    pub fn new(name: impl Into<String>, unit: &'static str, runs: Vec<f64>) -> Self {
        Self { name: name.into(), unit, runs, against: None }
    }

    /// Runs in seconds.
    pub fn seconds(name: impl Into<String>, runs: &[Duration]) -> Self {
        Self::new(name, "s", runs.iter().map(Duration::as_secs_f64).collect())
    }

    /// What HALO takes, and the aim.
    #[must_use]
    pub fn against(mut self, halo: &'static str, aim: &'static str) -> Self {
        self.against = Some((halo, aim));
        self
    }

    fn median(&self) -> f64 {
        let mut sorted = self.runs.clone();
        sorted.sort_by(f64::total_cmp);
        match sorted.len() {
            0 => f64::NAN,
            odd if odd % 2 == 1 => sorted[odd / 2],
            even => (sorted[even / 2 - 1] + sorted[even / 2]) / 2.0,
        }
    }
}

/// Three digits at least, and not more than are worth anything.
fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        medium if medium >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let least = self.runs.iter().copied().fold(f64::INFINITY, f64::min);
        let most = self.runs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let runs: Vec<String> = self.runs.iter().copied().map(number).collect();
        let Self { name, unit, .. } = self;
        write!(f, "{name:<58} {:>7} {unit:<4}", number(self.median()))?;
        write!(f, " ({} to {}; {} runs: {})", number(least), number(most), runs.len(), runs.join(" "))?;
        if let Some((halo, aim)) = self.against {
            write!(f, "  [HALO: {halo}; aim: {aim}]")?;
        }
        Ok(())
    }
}

/// How many events fall into each part of a cycle, and how even that is.
#[derive(Debug, Clone)]
pub struct Spread {
    parts: Vec<usize>,
    part: Duration,
}

impl Spread {
    /// `at` in microseconds since any beginning, over several cycles.
    pub fn new(at: &[u64], cycle: Duration, parts: usize) -> Self {
        let cycle_us = u64::try_from(cycle.as_micros()).unwrap_or(u64::MAX).max(1);
        let mut counts = vec![0; parts];
        for at in at {
            let part = (at % cycle_us) as usize * parts / cycle_us as usize;
            counts[part] += 1;
        }
        Self { parts: counts, part: cycle / u32::try_from(parts).unwrap_or(1) }
    }

    fn mean(&self) -> f64 {
        self.parts.iter().sum::<usize>() as f64 / self.parts.len().max(1) as f64
    }

    /// The fullest part over the mean.
    pub fn peak(&self) -> f64 {
        self.parts.iter().copied().max().unwrap_or(0) as f64 / self.mean()
    }

    /// The emptiest part over the mean.
    pub fn trough(&self) -> f64 {
        self.parts.iter().copied().min().unwrap_or(0) as f64 / self.mean()
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let most = self.parts.iter().copied().max().unwrap_or(0).max(1);
        for (number, count) in (0u32..).zip(&self.parts) {
            let from = (self.part * number).as_millis();
            writeln!(f, "    {from:>6} ms {count:>7}  {}", "#".repeat(count * 60 / most))?;
        }
        write!(f, "    fullest part {:.2} of the mean, emptiest {:.2}", self.peak(), self.trough())
    }
}
