//! What the documentation and the messages of high availability tell people to type exists.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Parser;
use coordinatool::client::ha::options::Options;
use coordinatool::ha::config::load;

const CLIENT: &str = "coordinatool-client ha ";

fn text(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Words of a command line: quotes as a shell knows them, up to a comment, a redirection or a pipe.
fn words(line: &str) -> Vec<String> {
    let mut words = vec![];
    let mut rest = line.trim();
    while !rest.is_empty() && !rest.starts_with(['#', '>', '|', ';', '&']) {
        let (word, after) = match rest.chars().next().filter(|first| *first == '\'' || *first == '"') {
            Some(quote) => rest[1..].split_once(quote).unwrap(),
            None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

fn parses(line: &str) -> Result<(), String> {
    let arguments = std::iter::once("ha".to_owned()).chain(words(line));
    match Options::try_parse_from(arguments) {
        Ok(_) => Ok(()),
        Err(error) => Err(format!("{line}: {error}")),
    }
}

#[test]
fn commands_of_the_guides_are_commands() {
    for (guide, at_least) in [("docs/ha.md", 20), ("docs/ha-safety.md", 0), ("docs/ha-comparison.md", 0)] {
        let text = text(guide);
        let lines: Vec<&str> = text.lines().filter_map(|line| line.trim().strip_prefix(CLIENT)).collect();
        assert!(lines.len() >= at_least, "{guide}: {lines:?}");
        for line in lines {
            if let Err(error) = parses(line) {
                panic!("{guide}: {error}");
            }
        }
    }
}

/// Commands that the programs themselves name, with a word for each `{placeholder}`.
#[test]
fn commands_that_alerts_name_are_commands() {
    fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                sources(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(path);
            }
        }
    }
    let mut files = vec![];
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/ha/engine"), &mut files);
    let mut commands = BTreeSet::new();
    for file in files {
        let text = fs::read_to_string(file).unwrap();
        for (at, _) in text.match_indices(CLIENT) {
            let rest = &text[at + CLIENT.len()..];
            let end = rest.find(['"', '`', ',', ';', ')', '\n']).unwrap_or(rest.len());
            let mut command = rest[..end].to_owned();
            while let (Some(from), Some(to)) = (command.find('{'), command.find('}')) {
                command.replace_range(from..=to, "name");
            }
            commands.insert(command);
        }
    }
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        if let Err(error) = parses(&command) {
            panic!("{error}");
        }
    }
}

#[test]
fn the_example_of_the_manual_loads() {
    let manual = text("docs/man/coordinatool-ha.yaml.5");
    let (_, example) = manual.split_once(".SH EXAMPLE\n.nf\n").unwrap();
    let (example, _) = example.split_once(".fi\n").unwrap();
    let loaded = load(&example.replace("\\-", "-"), "example").unwrap();
    assert_eq!(loaded.warnings, []);
    assert_eq!(loaded.config.groups.len(), 1);
}

#[test]
fn the_manual_of_the_agent_has_its_options() {
    let manual = text("docs/man/coordinatool-agent.8").replace("\\-", "-");
    let help = Command::new(env!("CARGO_BIN_EXE_coordinatool-agent")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let options: BTreeSet<&str> = help
        .lines()
        .filter_map(|line| line.trim_start().strip_prefix('-'))
        .filter_map(|line| line.split_once("--").or(Some(("", line.strip_prefix('-')?))))
        .filter_map(|(_, option)| option.split(|c: char| c != '-' && !c.is_alphanumeric()).next())
        .collect();
    assert!(options.len() > 10, "{options:?}");
    for option in options {
        assert!(
            matches!(option, "help" | "version") || manual.contains(&format!("--{option}")),
            "--{option}"
        );
    }
}
