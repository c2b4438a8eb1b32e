//! What a resource agent's meta-data advises.

use std::collections::BTreeMap;
use std::time::Duration;

/// Longest meta-data that are read, in bytes.
pub const MAX_METADATA: usize = 1 << 20;

/// Advice of a resource agent for its operations.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    actions: BTreeMap<String, (Option<Duration>, Option<Duration>)>,
}

impl Metadata {
    /// Reads `<resource-agent>` (OCF RA API 1.0 and 1.1).
    ///
    /// # Errors
    /// When it is no XML, or not that.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > MAX_METADATA {
            return Err(format!("{} bytes of meta-data are too many", text.len()));
        }
        let options =
            roxmltree::ParsingOptions { allow_dtd: true, nodes_limit: 20_000, ..Default::default() };
        let document =
            roxmltree::Document::parse_with_options(text, options).map_err(|error| error.to_string())?;
        let root = document.root_element();
        if !root.has_tag_name("resource-agent") {
            return Err(format!("<{}> instead of <resource-agent>", root.tag_name().name()));
        }
        let mut metadata = Self::default();
        for action in root.descendants().filter(|node| node.has_tag_name("action")) {
            let Some(name) = action.attribute("name") else { continue };
            let duration = |attribute| action.attribute(attribute).and_then(duration);
            // Of several monitors (roles, depths) the first is the plain one.
            metadata.actions.entry(name.to_owned()).or_insert((duration("timeout"), duration("interval")));
        }
        Ok(metadata)
    }

    /// How long an action may take.
    pub fn timeout(&self, action: &str) -> Option<Duration> {
        self.actions.get(action)?.0.filter(|time| !time.is_zero())
    }

    /// How often a monitor shall run.
    pub fn interval(&self) -> Option<Duration> {
        self.actions.get("monitor")?.1.filter(|time| !time.is_zero())
    }
}

/// `20`, `20s`, `500ms`, `5min`: seconds unless said otherwise.
fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let number: u64 = text[..digits].parse().ok()?;
    let seconds = match text[digits..].trim() {
        "" | "s" | "sec" => number,
        "ms" | "msec" => return Some(Duration::from_millis(number)),
        "m" | "min" => number.checked_mul(60)?,
        "h" | "hr" => number.checked_mul(3600)?,
        _ => return None,
    };
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_actions() {
        let text = r#"<?xml version="1.0"?>
            <!DOCTYPE resource-agent SYSTEM "ra-api-1.dtd">
            <resource-agent name="x"><actions>
              <action name="start" timeout="300s"/><action name="stop" timeout="20"/>
              <action name="monitor" timeout="500ms" interval="10s" depth="0"/>
              <action name="monitor" timeout="9" interval="99" depth="10"/>
              <action name="meta-data" timeout="soon"/>
            </actions></resource-agent>"#;
        let metadata = Metadata::parse(text).unwrap();
        assert_eq!(metadata.timeout("start"), Some(Duration::from_secs(300)));
        assert_eq!(metadata.timeout("stop"), Some(Duration::from_secs(20)));
        assert_eq!(metadata.timeout("monitor"), Some(Duration::from_millis(500)));
        assert_eq!(metadata.interval(), Some(Duration::from_secs(10)));
        assert_eq!(metadata.timeout("meta-data"), None);
    }

    #[test]
    fn what_is_no_metadata_is_refused() {
        for text in ["", "<", "<a/>", "<resource-agent>"] {
            assert!(Metadata::parse(text).is_err(), "{text}");
        }
        let bomb = r#"<!DOCTYPE b [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;"><!ENTITY c "&b;&b;&b;&b;&b;&b;&b;">]><resource-agent>&c;&c;&c;</resource-agent>"#;
        // Either refused or small: never an explosion.
        let _ = Metadata::parse(bomb);
        assert!(Metadata::parse(&"x".repeat(MAX_METADATA + 1)).is_err());
    }
}
