//! A page of metrics in Prometheus' text format.

use std::fmt::Write;

/// What the text is (Prometheus exposition format 0.0.4).
pub const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A page in the making. All values of a family must be written before the next family begins.
#[derive(Debug, Default)]
pub struct Page {
    text: String,
    family: &'static str,
}

/// Names of labels with their values.
pub type Labels<'a> = &'a [(&'a str, &'a str)];

impl Page {
    /// Begins a family of metrics; `kind` is `counter`, `gauge` or `histogram`.
    pub fn family(&mut self, name: &'static str, kind: &str, help: &str) {
        self.family = name;
        // Writing to a String does not fail.
        let _ = write!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    /// One value of the family.
    pub fn value(&mut self, labels: Labels<'_>, value: f64) {
        self.line("", labels, value);
    }

    /// A family of one value without labels.
    pub fn single(&mut self, name: &'static str, kind: &str, help: &str, value: f64) {
        self.family(name, kind, help);
        self.value(&[], value);
    }

    /// A histogram of the family: how many are at most each bound and above the one before, then the rest.
    pub fn histogram(&mut self, labels: Labels<'_>, bounds: &[f64], counts: &[u64], sum: f64) {
        let mut total = 0;
        for (at, count) in counts.iter().enumerate() {
            total += count;
            let bound = bounds.get(at).map_or_else(|| "+Inf".to_owned(), f64::to_string);
            let mut with_bound = labels.to_vec();
            with_bound.push(("le", &bound));
            self.line("_bucket", &with_bound, total as f64);
        }
        self.line("_sum", labels, sum);
        self.line("_count", labels, total as f64);
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, value: f64) {
        self.text.push_str(self.family);
        self.text.push_str(suffix);
        for (index, (label, text)) in labels.iter().enumerate() {
            let _ = write!(self.text, "{}{label}=\"", if index == 0 { "{" } else { "," });
            for character in text.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        let close = if labels.is_empty() { "" } else { "}" };
        let _ = writeln!(self.text, "{close} {value}");
    }

    /// What was written.
    pub fn finish(self) -> String {
        self.text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut page = Page::default();
        page.family("a", "gauge", "What.");
        page.value(&[("mover", "x\"y\\z\n"), ("b", "é")], 1.5);
        page.value(&[], 3.0);
        let want = "# HELP a What.\n# TYPE a gauge\na{mover=\"x\\\"y\\\\z\\n\",b=\"é\"} 1.5\na 3\n";
        assert_eq!(page.finish(), want);
    }

    #[test]
    fn buckets_add_up() {
        let mut page = Page::default();
        page.family("s", "histogram", "Times.");
        page.histogram(&[("action", "archive")], &[0.1, 5.0], &[2, 0, 1], 61.5);
        let want = "# HELP s Times.\n# TYPE s histogram\n\
            s_bucket{action=\"archive\",le=\"0.1\"} 2\ns_bucket{action=\"archive\",le=\"5\"} 2\n\
            s_bucket{action=\"archive\",le=\"+Inf\"} 3\ns_sum{action=\"archive\"} 61.5\ns_count{action=\"archive\"} 3\n";
        assert_eq!(page.finish(), want);
    }
}
