//! YAML as a tree that knows where everything was written. JSON is YAML as well.
//!
//! Nothing here recurses while it reads, and nesting and size are bounded, also after aliases are replaced by what they
//! stand for.

use std::collections::{BTreeMap, BTreeSet};

use yaml_rust2::parser::{Event, Parser, Tag};
use yaml_rust2::scanner::{Marker, TScalarStyle};

use super::problem::shown;

/// Longest text, in bytes.
pub const MAX_TEXT: usize = 16 << 20;
/// Deepest nesting. A configuration needs nine.
pub const MAX_DEPTH: usize = 32;
/// Most values, aliases replaced.
pub const MAX_NODES: usize = 2_000_000;
/// Problems after which reading ends.
const MAX_FAULTS: usize = 100;

/// Where something is: line and column, both from 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Place {
    /// Line.
    pub line: usize,
    /// Column, in characters.
    pub column: usize,
}

impl From<Marker> for Place {
    fn from(mark: Marker) -> Self {
        Self { line: mark.line().max(1), column: mark.col() + 1 }
    }
}

/// A value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Where it begins.
    pub place: Place,
    /// What it is.
    pub value: Value,
    /// How many values it holds, itself included.
    size: usize,
}

/// What a value is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// A text, number, boolean or null.
    Scalar {
        /// As written, quotes and escapes resolved.
        text: String,
        /// It was quoted, so it is a text whatever it looks like.
        quoted: bool,
    },
    /// A sequence.
    List(Vec<Node>),
    /// A mapping, in the order of the file.
    Map(Vec<(Key, Node)>),
}

/// A key of a mapping.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Key {
    /// Where it is.
    pub place: Place,
    /// As written.
    pub text: String,
}

impl Node {
    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar { text, quoted: false }
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// In words, for an error.
    pub fn describe(&self) -> String {
        match &self.value {
            _ if self.is_null() => "nothing".to_owned(),
            Value::Scalar { text, .. } if text.chars().count() > 40 => "a long text".to_owned(),
            Value::Scalar { text, .. } => format!("{text:?}"),
            Value::List(_) => "a list".to_owned(),
            Value::Map(_) => "a mapping".to_owned(),
        }
    }
}

/// Something that is wrong with the text as YAML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where.
    pub place: Place,
    /// In which value: `hosts[1]`.
    pub path: String,
    /// What.
    pub message: String,
    /// What to do.
    pub hint: Option<&'static str>,
}

/// Reads one document. Of a key that is there twice the first counts, and the fault is reported.
///
/// # Errors
/// All that is wrong, up to the first thing after which the rest cannot be understood.
pub fn parse(text: &str) -> Result<Node, Vec<Fault>> {
    let mut builder = Builder::default();
    if text.len() > MAX_TEXT {
        return Err(vec![builder.fault(Place::default(), format!("longer than {MAX_TEXT} bytes"), None)]);
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut parser = Parser::new_from_str(text);
    let mut documents = 0;
    loop {
        let (event, mark) = match parser.next_token() {
            Ok(next) => next,
            Err(error) => {
                let mut place = Place::from(*error.marker());
                let mut hint = None;
                if let Some(tab) = tab_near(text, place) {
                    place = tab;
                    hint = Some("indent with spaces, YAML knows no tabs");
                }
                let fault = builder.fault(place, format!("this is no YAML: {}", error.info()), hint);
                builder.faults.push(fault);
                return Err(builder.faults);
            }
        };
        match event {
            Event::StreamEnd => break,
            Event::DocumentStart => {
                documents += 1;
                if documents > 1 {
                    let message = "a second document begins here; a configuration is one".to_owned();
                    let fault = builder.fault(mark.into(), message, Some("remove the line ---"));
                    builder.faults.push(fault);
                    return Err(builder.faults);
                }
            }
            Event::Nothing | Event::StreamStart | Event::DocumentEnd => {}
            event => builder.take(event, mark.into()),
        }
        if builder.stop || builder.faults.len() >= MAX_FAULTS {
            return Err(builder.faults);
        }
    }
    match builder.root {
        Some(root) if builder.faults.is_empty() => Ok(root),
        None if builder.faults.is_empty() => {
            Err(vec![builder.fault(Place::default(), "the file is empty".to_owned(), None)])
        }
        _ => Err(builder.faults),
    }
}

/// The tab that indents this line, or the one before or after it.
fn tab_near(text: &str, place: Place) -> Option<Place> {
    let lines = text.lines().enumerate().skip(place.line.saturating_sub(2)).take(3);
    lines.into_iter().find_map(|(number, line)| {
        let spaces = line.len() - line.trim_start_matches(' ').len();
        line[spaces..].starts_with('\t').then_some(Place { line: number + 1, column: spaces + 1 })
    })
}

enum Frame {
    List {
        place: Place,
        anchor: usize,
        items: Vec<Node>,
        size: usize,
    },
    Map {
        place: Place,
        anchor: usize,
        items: Vec<(Key, Node)>,
        keys: BTreeSet<String>,
        next: Option<Key>,
        size: usize,
    },
}

#[derive(Default)]
struct Builder {
    frames: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    root: Option<Node>,
    nodes: usize,
    faults: Vec<Fault>,
    stop: bool,
}

impl Builder {
    fn fault(&self, place: Place, message: String, hint: Option<&'static str>) -> Fault {
        Fault { place, path: self.path(), message, hint }
    }

    /// Of the value that is being read.
    fn path(&self) -> String {
        let mut path = String::new();
        for frame in &self.frames {
            match frame {
                Frame::List { items, .. } => path += &format!("[{}]", items.len()),
                Frame::Map { next: Some(key), .. } if path.is_empty() => path += &shown(&key.text),
                Frame::Map { next: Some(key), .. } => path += &format!(".{}", shown(&key.text)),
                Frame::Map { next: None, .. } => {}
            }
        }
        path
    }

    fn give_up(&mut self, place: Place, message: String, hint: Option<&'static str>) {
        let fault = self.fault(place, message, hint);
        self.faults.push(fault);
        self.stop = true;
    }

    fn take(&mut self, event: Event, place: Place) {
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let quoted = style != TScalarStyle::Plain || is_string(tag.as_ref());
                self.refuse_tag(tag.as_ref(), place);
                self.add(Node { place, value: Value::Scalar { text, quoted }, size: 1 }, anchor);
            }
            Event::SequenceStart(anchor, tag) => {
                self.refuse_tag(tag.as_ref(), place);
                self.open(Frame::List { place, anchor, items: Vec::new(), size: 1 }, place);
            }
            Event::MappingStart(anchor, tag) => {
                self.refuse_tag(tag.as_ref(), place);
                let (items, keys) = (Vec::new(), BTreeSet::new());
                self.open(Frame::Map { place, anchor, items, keys, next: None, size: 1 }, place);
            }
            Event::SequenceEnd | Event::MappingEnd => match self.frames.pop() {
                Some(Frame::List { place, anchor, items, size }) => {
                    self.add(Node { place, value: Value::List(items), size }, anchor);
                }
                Some(Frame::Map { place, anchor, items, size, .. }) => {
                    self.add(Node { place, value: Value::Map(items), size }, anchor);
                }
                None => self.stop = true,
            },
            Event::Alias(anchor) => match self.anchors.get(&anchor) {
                // It keeps the place where it was written out.
                Some(node) => {
                    let (size, height) = (node.size, height(node));
                    self.count(size, place);
                    if self.frames.len() + height > MAX_DEPTH + 1 {
                        self.give_up(place, format!("nested more than {MAX_DEPTH} deep"), None);
                    }
                    if let Some(node) = self.anchors.get(&anchor).filter(|_| !self.stop).cloned() {
                        self.add(node, 0);
                    }
                }
                None => self.give_up(place, "this alias is part of what it stands for".to_owned(), None),
            },
            _ => {}
        }
    }

    fn refuse_tag(&mut self, tag: Option<&Tag>, place: Place) {
        const CORE: &str = "tag:yaml.org,2002:";
        if let Some(tag) = tag.filter(|tag| tag.handle != CORE && tag.handle != "!!") {
            let message = format!("the YAML tag {}{} means nothing here", tag.handle, tag.suffix);
            let fault = self.fault(place, message, Some("put a text that begins with ! in quotes"));
            self.faults.push(fault);
        }
    }

    fn open(&mut self, frame: Frame, place: Place) {
        let is_key = matches!(self.frames.last(), Some(Frame::Map { next: None, .. }));
        if is_key {
            let hint = Some("a text that begins with { or [ belongs in quotes");
            self.give_up(place, "a key must be a text".to_owned(), hint);
        } else if self.frames.len() >= MAX_DEPTH {
            self.give_up(place, format!("nested more than {MAX_DEPTH} deep"), None);
        } else {
            self.frames.push(frame);
        }
    }

    fn count(&mut self, more: usize, place: Place) {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes > MAX_NODES && !self.stop {
            self.give_up(place, format!("more than {MAX_NODES} values, those behind aliases included"), None);
        }
    }

    fn add(&mut self, node: Node, anchor: usize) {
        self.count(1, node.place);
        if anchor != 0 {
            self.count(node.size, node.place);
        }
        if self.stop {
            return;
        }
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        match self.frames.last_mut() {
            None => self.root = Some(node),
            Some(Frame::List { items, size, .. }) => {
                *size += node.size;
                items.push(node);
            }
            Some(Frame::Map { next: next @ None, .. }) => match node.value {
                Value::Scalar { text, .. } => *next = Some(Key { place: node.place, text }),
                _ => self.give_up(node.place, "a key must be a text".to_owned(), None),
            },
            Some(Frame::Map { items, keys, next, size, .. }) => {
                let Some(key) = next.take() else { return };
                *size += node.size;
                if keys.insert(key.text.clone()) {
                    items.push((key, node));
                } else {
                    let first = items.iter().find(|(other, _)| other.text == key.text);
                    let line = first.map_or(0, |(other, _)| other.place.line);
                    let place = key.place;
                    if let Some(Frame::Map { next, .. }) = self.frames.last_mut() {
                        *next = Some(key);
                    }
                    let fault = self.fault(place, format!("this key is there already, in line {line}"), None);
                    self.faults.push(fault);
                    if let Some(Frame::Map { next, .. }) = self.frames.last_mut() {
                        *next = None;
                    }
                }
            }
        }
    }
}

fn is_string(tag: Option<&Tag>) -> bool {
    tag.is_some_and(|tag| tag.suffix == "str")
}

/// How deep a value is nested; bounded by [`MAX_DEPTH`].
fn height(node: &Node) -> usize {
    match &node.value {
        Value::Scalar { .. } => 1,
        Value::List(items) => 1 + items.iter().map(height).max().unwrap_or(0),
        Value::Map(items) => 1 + items.iter().map(|(_, node)| height(node)).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn faults(text: &str) -> Vec<(usize, String, String)> {
        let faults = parse(text).expect_err(text);
        faults.into_iter().map(|fault| (fault.place.line, fault.path, fault.message)).collect()
    }

    #[test]
    fn what_is_no_yaml_is_told_with_its_line() {
        let table: [(&str, usize, &str); 9] = [
            ("", 0, "empty"),
            ("# nothing\n", 0, "empty"),
            ("a: 1\n\tb: 2\n", 2, "YAML"),
            ("a: [1\n", 2, "YAML"),
            ("a: 1\n---\nb: 1\n", 2, "second document"),
            ("a: 1\n? [b]\n: 2\n", 2, "key must be"),
            ("a: !secret x\n", 1, "!secret"),
            ("a: &x [*x]\n", 1, "alias"),
            ("a: *x\n", 1, "YAML"),
        ];
        for (text, line, message) in table {
            let found = faults(text);
            assert!(found[0].0 == line && found[0].2.contains(message), "{text:?}: {found:?}");
        }
        let tab = parse("a:\n\tb: 2\n").expect_err("tab");
        assert!(tab[0].hint.is_some_and(|hint| hint.contains("spaces")), "{tab:?}");
    }

    #[test]
    fn every_key_that_is_there_twice_is_told() {
        let found = faults("a: 1\nb:\n- c: 1\n- d: 1\n  d: 2\na: 3\n");
        let expected = [(5, "b[1].d", "line 4"), (6, "a", "line 1")];
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for ((line, path, message), (in_line, key, says)) in found.iter().zip(expected) {
            assert!(*line == in_line && path == key && message.contains(says), "{found:?}");
        }
    }

    #[test]
    fn aliases_are_replaced_but_not_without_end() {
        let node = parse("a: &x {y: 1}\nb: *x\n").expect("aliases");
        let Value::Map(items) = node.value else { panic!("{node:?}") };
        assert_eq!(items[0].1.value, items[1].1.value);
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..20 {
            let last = format!("*a{}", n - 1);
            bomb += &format!("a{n}: &a{n} [{}]\n", vec![last; 9].join(", "));
        }
        let found = faults(&bomb);
        assert!(found[0].2.contains("values") || found[0].2.contains("deep"), "{found:?}");
        for deep in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000), "? ".repeat(10_000)] {
            faults(&deep);
        }
    }

    #[test]
    fn texts_numbers_and_nothing() {
        let node = parse("{a: 1, b: \"1\", c: ~, d: !!str null, e: , \"f\": 'x'}").expect("json");
        let Value::Map(items) = &node.value else { panic!("{node:?}") };
        let nulls: Vec<bool> = items.iter().map(|(_, node)| node.is_null()).collect();
        assert_eq!(nulls, [false, false, true, false, true, false]);
        assert_eq!(items[5].0.text, "f");
    }
}
