//! What a fence agent says about itself (fence-agents API, action `metadata`).

use std::collections::BTreeMap;

use roxmltree::{Document, Node, ParsingOptions};

/// Longer meta-data is refused. The longest of fence-agents 4.12 has 20 KB.
pub const LONGEST: usize = 1 << 20;
const NODES: u32 = 50_000;

/// A fence agent's meta-data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metadata {
    /// The agent's name.
    pub name: String,
    /// What it is for, in a few words.
    pub about: String,
    /// Its parameters by name, with `_` for `-`.
    pub parameters: BTreeMap<String, KnownParameter>,
    /// Its actions by name.
    pub actions: BTreeMap<String, KnownAction>,
}

/// A parameter of a fence agent.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KnownParameter {
    /// It must be given.
    pub required: bool,
    /// What holds when it is not given.
    pub default: Option<String>,
    /// `string`, `integer`, `second`, `boolean` or `select`.
    pub kind: String,
    /// Another name for it is preferred.
    pub deprecated: bool,
}

/// An action of a fence agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KnownAction {
    /// To be called by itself when a host joins.
    pub automatic: bool,
    /// To be called on the host that it acts upon.
    pub on_target: bool,
}

/// Whether a host that joins must be let in by its fence device first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unfencing {
    /// No.
    NotNeeded,
    /// By `on`, called from anywhere: switches of networks (`fence_brocade`).
    Needed,
    /// By `on`, called on the host itself: reservations of disks (`fence_scsi`).
    NeededOnTarget,
}

impl Metadata {
    /// Reads meta-data. The error says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        if text.len() > LONGEST {
            return Err(format!("longer than {LONGEST} bytes"));
        }
        let options = ParsingOptions { allow_dtd: false, nodes_limit: NODES, ..ParsingOptions::default() };
        let document =
            Document::parse_with_options(text.trim_start(), options).map_err(|error| error.to_string())?;
        let root = document.root_element();
        if root.tag_name().name() != "resource-agent" {
            return Err(format!("the outermost element is {:?}, not resource-agent", root.tag_name().name()));
        }
        let attribute = |node: Node<'_, '_>, name| node.attribute(name).unwrap_or_default().to_owned();
        let below = |list: &'static str, element: &'static str| {
            let lists = root.children().filter(move |node| node.has_tag_name(list));
            lists.flat_map(|node| node.children()).filter(move |node| node.has_tag_name(element))
        };
        let parameters = below("parameters", "parameter").map(|node| {
            let content = node.children().find(|child| child.has_tag_name("content"));
            let parameter = KnownParameter {
                required: is_set(node, "required"),
                default: content.and_then(|content| content.attribute("default")).map(str::to_owned),
                kind: content.map(|content| attribute(content, "type")).unwrap_or_default(),
                deprecated: is_set(node, "deprecated"),
            };
            (attribute(node, "name").replace('-', "_"), parameter)
        });
        let actions = below("actions", "action").map(|node| {
            let action =
                KnownAction { automatic: is_set(node, "automatic"), on_target: is_set(node, "on_target") };
            (attribute(node, "name"), action)
        });
        Ok(Self {
            name: attribute(root, "name"),
            about: attribute(root, "shortdesc"),
            parameters: parameters.collect(),
            actions: actions.collect(),
        })
    }

    /// Whether it has this action.
    pub fn supports(&self, action: &str) -> bool {
        self.actions.contains_key(action)
    }

    /// Whether it has this parameter. The API takes `-` and `_` for each other.
    pub fn knows(&self, parameter: &str) -> bool {
        self.parameters.contains_key(&parameter.replace('-', "_"))
    }

    /// Whether a host that joins must be let in first.
    pub fn unfencing(&self) -> Unfencing {
        match self.actions.get("on") {
            Some(KnownAction { automatic: true, on_target: false }) => Unfencing::Needed,
            Some(KnownAction { automatic: true, on_target: true }) => Unfencing::NeededOnTarget,
            _ => Unfencing::NotNeeded,
        }
    }
}

fn is_set(node: Node<'_, '_>, attribute: &str) -> bool {
    matches!(node.attribute(attribute), Some("1" | "true" | "yes"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn with_on(attributes: &str) -> String {
        format!(
            r#"<?xml version="1.0" ?>
<resource-agent name="fence_x" shortdesc="Fence agent for X" >
<parameters>
	<parameter name="ip" unique="0" required="1" obsoletes="ipaddr">
		<getopt mixed="-a, --ip=[ip]" />
		<content type="string"  />
	</parameter>
	<parameter name="ipaddr" unique="0" required="1" deprecated="1"><content type="string"/></parameter>
	<parameter name="power_timeout" unique="0" required="0"><content type="second" default="20"/></parameter>
</parameters>
<actions>
	<action name="on" {attributes}/>
	<action name="off" />
</actions>
</resource-agent>"#
        )
    }

    #[test]
    fn parameters_and_actions_are_known() {
        let metadata = Metadata::parse(&with_on("automatic=\"0\"")).unwrap();
        assert_eq!((metadata.name.as_str(), metadata.about.as_str()), ("fence_x", "Fence agent for X"));
        for (name, known) in [("ip", true), ("power-timeout", true), ("power_timeout", true), ("plug", false)]
        {
            assert_eq!(metadata.knows(name), known, "{name}");
        }
        assert_eq!(
            metadata.parameters["ipaddr"],
            KnownParameter { required: true, default: None, kind: "string".into(), deprecated: true }
        );
        assert_eq!(metadata.parameters["power_timeout"].default.as_deref(), Some("20"));
        assert!(metadata.supports("off") && !metadata.supports("status"));
    }

    #[test]
    fn unfencing_is_asked_for_by_an_automatic_on() {
        for (attributes, unfencing) in [
            ("", Unfencing::NotNeeded),
            ("automatic=\"0\"", Unfencing::NotNeeded),
            ("automatic=\"1\"", Unfencing::Needed),
            ("on_target=\"1\"", Unfencing::NotNeeded),
            ("on_target=\"1\" automatic=\"1\"", Unfencing::NeededOnTarget),
        ] {
            assert_eq!(Metadata::parse(&with_on(attributes)).unwrap().unfencing(), unfencing, "{attributes}");
        }
    }

    #[test]
    fn what_is_no_meta_data_is_refused() {
        let bomb =
            "<!DOCTYPE x [<!ENTITY a \"aaaa\"><!ENTITY b \"&a;&a;\">]><resource-agent>&b;</resource-agent>";
        let wide = format!("<resource-agent>{}</resource-agent>", "<a/>".repeat(60_000));
        let deep = "<a>".repeat(100_000);
        let long = " ".repeat(LONGEST + 1);
        for text in ["", "Usage: fence_x", "<html/>", "<resource-agent>", bomb, &wide, &deep, &long] {
            let start: String = text.chars().take(40).collect();
            assert!(Metadata::parse(text).is_err(), "{start}");
        }
        let nested =
            format!("<resource-agent>{}{}</resource-agent>", "<a>".repeat(40_000), "</a>".repeat(40_000));
        assert!(Metadata::parse(&nested).is_ok_and(|metadata| metadata.actions.is_empty()));
    }

    proptest! {
        #[test]
        fn nothing_makes_it_panic(text in "[<>/a-z=\" &;!\\[\\]]{0,200}") {
            let _ = Metadata::parse(&text);
        }
    }
}
