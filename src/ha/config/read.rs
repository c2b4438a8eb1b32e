//! From YAML to texts, numbers and times, collecting what is wrong on the way.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::time::Duration;

use super::keys::Section;
use super::problem::{Problem, shown};
use super::suggest::nearest;
use super::yaml::{Fault, Key, Node, Place, Value};

/// Looking for what was meant takes time, so it is not done for ever.
const MAX_SUGGESTIONS: usize = 100;
/// A day may be needed, more than a month is a mistake.
pub(super) const LONGEST: Duration = Duration::from_secs(31 * 86_400);

/// What is found wrong while a file is read.
pub(super) struct Reader {
    file: String,
    pub errors: Vec<Problem>,
    pub warnings: Vec<Problem>,
    /// Where secrets are written in the file itself.
    pub secrets: Vec<(Place, String)>,
    suggestions: usize,
}

/// A mapping whose keys were checked.
#[derive(Clone, Copy)]
pub(super) struct Fields<'a> {
    pub place: Place,
    entries: &'a [(Key, Node)],
}

impl<'a> Fields<'a> {
    /// The value of a key, unless it is null.
    pub fn get(&self, name: &str) -> Option<&'a Node> {
        self.entries
            .iter()
            .find(|(key, _)| key.text == name)
            .map(|(_, node)| node)
            .filter(|node| !node.is_null())
    }
}

/// The path of a key in a mapping.
pub(super) fn below(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

impl Reader {
    pub fn new(file: &str) -> Self {
        Self {
            file: file.to_owned(),
            errors: Vec::new(),
            warnings: Vec::new(),
            secrets: Vec::new(),
            suggestions: 0,
        }
    }

    fn problem(&self, place: Place, key: &str, message: String, hint: Option<String>) -> Problem {
        let column = Some(place.column).filter(|column| *column > 0);
        Problem { file: self.file.clone(), line: place.line, column, key: key.to_owned(), message, hint }
    }

    pub fn error(&mut self, place: Place, key: &str, message: impl Into<String>) {
        let problem = self.problem(place, key, message.into(), None);
        self.errors.push(problem);
    }

    pub fn error_with_hint(
        &mut self,
        place: Place,
        key: &str,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let problem = self.problem(place, key, message.into(), hint.into());
        self.errors.push(problem);
    }

    pub fn warn(
        &mut self,
        place: Place,
        key: &str,
        message: impl Into<String>,
        hint: impl Into<Option<String>>,
    ) {
        let problem = self.problem(place, key, message.into(), hint.into());
        self.warnings.push(problem);
    }

    pub fn fault(&mut self, fault: Fault) {
        self.error_with_hint(fault.place, &fault.path, fault.message, fault.hint.map(str::to_owned));
    }

    /// Notes that this value is a secret.
    pub fn secret(&mut self, place: Place, key: &str) {
        self.secrets.push((place, key.to_owned()));
    }

    /// See [`nearest`]; nothing after it was asked often.
    pub fn nearest<'a>(
        &mut self,
        word: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<&'a str> {
        self.suggestions += 1;
        if self.suggestions > MAX_SUGGESTIONS { None } else { nearest(word, candidates) }
    }

    /// `did you mean ...?`
    pub fn suggest<'a>(
        &mut self,
        word: &str,
        candidates: impl IntoIterator<Item = &'a str>,
    ) -> Option<String> {
        self.nearest(word, candidates).map(|candidate| format!("did you mean {candidate}?"))
    }

    /// A mapping with these keys and no others.
    pub fn fields<'a>(&mut self, node: &'a Node, path: &str, section: &Section) -> Option<Fields<'a>> {
        let entries = self.map(node, path)?;
        for (key, _) in entries {
            let known = section.keys.iter().any(|(name, _)| *name == key.text);
            if !known && !key.text.starts_with("x-") {
                let names = section.keys.iter().map(|(name, _)| *name);
                let hint = self.suggest(&key.text, names.clone());
                let hint =
                    hint.unwrap_or_else(|| format!("known here: {}", names.collect::<Vec<_>>().join(", ")));
                self.error_with_hint(key.place, &below(path, &shown(&key.text)), "unknown key", hint);
            }
        }
        Some(Fields { place: node.place, entries })
    }

    pub fn map<'a>(&mut self, node: &'a Node, path: &str) -> Option<&'a [(Key, Node)]> {
        match &node.value {
            Value::Map(entries) => Some(entries),
            _ => {
                self.error(node.place, path, format!("a mapping is expected, not {}", node.describe()));
                None
            }
        }
    }

    pub fn list<'a>(&mut self, node: &'a Node, path: &str) -> Option<&'a [Node]> {
        match &node.value {
            Value::List(items) => Some(items),
            _ => {
                self.error(node.place, path, format!("a list is expected, not {}", node.describe()));
                None
            }
        }
    }

    /// A text; numbers and booleans are taken as they are written (HALO does).
    pub fn text<'a>(&mut self, node: &'a Node, path: &str) -> Option<&'a str> {
        match &node.value {
            Value::Scalar { text, .. } if !node.is_null() => Some(text),
            _ => {
                let hint = node.is_null().then(|| "an empty text is written \"\"".to_owned());
                let message = format!("a text is expected, not {}", node.describe());
                self.error_with_hint(node.place, path, message, hint);
                None
            }
        }
    }

    /// A text that must be there and not be empty.
    pub fn name<'a>(&mut self, fields: &Fields<'a>, path: &str, key: &str) -> Option<&'a str> {
        const LONGEST: usize = 255;
        let path = below(path, key);
        let Some(node) = fields.get(key) else {
            self.error(fields.place, &path, "this key is missing");
            return None;
        };
        let text = self.text(node, &path)?;
        if text.is_empty() || text.len() > LONGEST || text.trim() != text || text.contains(char::is_control) {
            self.error(node.place, &path, format!("{} is not a name", node.describe()));
            return None;
        }
        Some(text)
    }

    pub fn boolean(&mut self, node: &Node, path: &str) -> Option<bool> {
        match &node.value {
            Value::Scalar { text, .. } => match text.to_ascii_lowercase().as_str() {
                "true" | "yes" | "on" => return Some(true),
                "false" | "no" | "off" => return Some(false),
                _ => {}
            },
            Value::List(_) | Value::Map(_) => {}
        }
        self.error(node.place, path, format!("true or false is expected, not {}", node.describe()));
        None
    }

    pub fn whole(&mut self, node: &Node, path: &str, range: RangeInclusive<u32>) -> Option<u32> {
        let number = match &node.value {
            Value::Scalar { text, .. } => text.parse().ok().filter(|number| range.contains(number)),
            Value::List(_) | Value::Map(_) => None,
        };
        if number.is_none() {
            let (from, to) = (range.start(), range.end());
            let message = format!("a number from {from} to {to} is expected, not {}", node.describe());
            self.error(node.place, path, message);
        }
        number
    }

    /// A time of at least `least` and at most a month.
    pub fn duration(&mut self, node: &Node, path: &str, least: Duration) -> Option<Duration> {
        let time = match &node.value {
            Value::Scalar { text, .. } => duration(text),
            Value::List(_) | Value::Map(_) => None,
        };
        match time {
            Some(time) if time < least || time > LONGEST => {
                let range = format!("from {} to {}", show(least), show(LONGEST));
                self.error(node.place, path, format!("{} is not a time {range}", node.describe()));
                None
            }
            Some(time) => Some(time),
            None => {
                let hint = "write 500ms, 30s, 2m, 1h or a number of seconds".to_owned();
                self.error_with_hint(node.place, path, format!("{} is not a time", node.describe()), hint);
                None
            }
        }
    }

    /// A mapping of texts, and where each of them is.
    pub fn texts(&mut self, node: &Node, path: &str) -> BTreeMap<String, (Place, String)> {
        let mut texts = BTreeMap::new();
        for (key, node) in self.map(node, path).unwrap_or_default() {
            if let Some(text) = self.text(node, &below(path, &shown(&key.text))) {
                texts.insert(key.text.clone(), (key.place, text.to_owned()));
            }
        }
        texts
    }
}

/// Reads `500ms`, `30s`, `2m`, `1h`, `1d`, `1.5s`; seconds where there is no unit.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(|byte| byte.is_ascii_digit() || *byte == b'.').count();
    let (number, unit) = text.split_at(digits);
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    let nanos: u128 = match unit.trim() {
        "ms" => 1_000_000,
        "" | "s" => 1_000_000_000,
        "m" | "min" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        "d" => 86_400_000_000_000,
        _ => return None,
    };
    if whole.is_empty() || part.len() > 9 || number.ends_with('.') {
        return None;
    }
    let part: u128 = if part.is_empty() { 0 } else { format!("{part:0<9}").parse().ok()? };
    let whole: u128 = whole.parse::<u64>().ok()?.into();
    let total = whole * nanos + part * nanos / 1_000_000_000;
    u64::try_from(total).ok().map(Duration::from_nanos)
}

/// A time as one would write it in the configuration.
pub(super) fn show(time: Duration) -> String {
    let millis = time.as_millis();
    match millis {
        0 => "0s".to_owned(),
        _ if millis.is_multiple_of(86_400_000) => format!("{}d", millis / 86_400_000),
        _ if millis.is_multiple_of(3_600_000) => format!("{}h", millis / 3_600_000),
        _ if millis.is_multiple_of(60_000) => format!("{}m", millis / 60_000),
        _ if millis.is_multiple_of(1000) => format!("{}s", millis / 1000),
        _ => format!("{millis}ms"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times() {
        let table = [
            ("30", Some(30_000)),
            ("30s", Some(30_000)),
            ("500ms", Some(500)),
            ("2m", Some(120_000)),
            (" 1 h ", Some(3_600_000)),
            ("1.5", Some(1500)),
            ("0", Some(0)),
            ("31d", Some(31 * 86_400_000)),
            ("", None),
            ("s", None),
            (".5", None),
            ("5.", None),
            ("1.2.3", None),
            ("-1", None),
            ("5 weeks", None),
            ("99999999999999999999d", None),
            ("18446744073709551615d", None),
        ];
        for (text, millis) in table {
            let time = duration(text);
            assert_eq!(time, millis.map(Duration::from_millis), "{text:?}");
            if let Some(time) = time {
                assert_eq!(duration(&show(time)), Some(time), "{text:?}");
            }
        }
    }
}
