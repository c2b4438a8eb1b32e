//! What an administrator, or HALO, wrote.

use std::path::Path;

use coordinatool::ha::config::{check_host, check_mode, difference, halo_state, load};
use coordinatool::ha::ocf::environment;
use coordinatool::ha::state::record::State;

/// A configuration is refused with places that exist, or whatever it names is there and agents take it.
pub fn config(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    let loaded = match load(&text, "f") {
        Ok(loaded) => loaded,
        Err(problems) => {
            assert!(!problems.is_empty());
            let lines = text.split(['\n', '\r']).count() + 1;
            assert!(problems.iter().all(|problem| problem.line <= lines), "{problems:?}");
            assert!(problems.iter().all(|problem| !problem.to_string().contains('\n')), "{problems:?}");
            return;
        }
    };
    let config = &loaded.config;
    for group in config.groups.values() {
        assert!(group.hosts().all(|host| config.hosts.contains_key(host)));
        assert_eq!(group.members[0], group.root);
        for (place, member) in group.members.iter().enumerate() {
            let resource = &config.resources[member];
            assert_eq!(resource.group, group.id);
            let parent = resource.parent.as_ref();
            assert!(parent.map_or(place == 0, |parent| group.members[..place].contains(parent)));
        }
    }
    let members: usize = config.groups.values().map(|group| group.members.len()).sum();
    assert_eq!(members, config.resources.len());
    for resource in config.resources.values() {
        environment::script(Path::new("/"), &resource.spec).unwrap();
    }
    assert!(difference(config, config).is_empty());
    check_mode(&loaded, 0o644);
    for host in config.hosts.keys() {
        check_host(config, host, &Default::default());
    }
}

/// Reading ends, and the result can be applied.
pub fn halo(data: &[u8]) {
    let imported = halo_state::import(data, 1_800_000_000_000_000_000);
    let mut state = State::default();
    imported.records.iter().for_each(|record| state.apply(record));
    assert!(state.fences.values().flatten().all(|attempt| attempt.result.is_some()));
}

/// What resource agents say of themselves: anybody may install one.
pub fn metadata(data: &[u8]) {
    use coordinatool::ha::ocf::metadata::Metadata;
    let text = String::from_utf8_lossy(data);
    if let Ok(metadata) = Metadata::parse(&text) {
        for action in ["start", "stop", "monitor"] {
            assert!(metadata.timeout(action).is_none_or(|time| !time.is_zero()));
        }
        assert!(metadata.interval().is_none_or(|time| !time.is_zero()));
    }
}

/// The journal of a manager: what is read is as good when it is cut behind the last good line. Lines that begin with `!` stand
/// as they are, the others get their checksum.
pub fn records(data: &[u8]) {
    use coordinatool::ha::records::read;
    use coordinatool::ha::state::log::recover;

    let mut bytes = Vec::new();
    for text in data.split_inclusive(|byte| *byte == b'\n') {
        if let Some(raw) = text.strip_prefix(b"!") {
            bytes.extend_from_slice(raw);
        } else {
            let json = text.strip_suffix(b"\n").unwrap_or(text);
            bytes.extend_from_slice(format!("{:08x} ", crc32fast::hash(json)).as_bytes());
            bytes.extend_from_slice(text);
        }
    }
    let found = read::<serde_json::Value>(&bytes);
    let good = usize::try_from(found.good).unwrap();
    let again = read::<serde_json::Value>(&bytes[..good]);
    assert_eq!((again.records, again.torn), (found.records, false));
    if let Ok(recovered) = recover(&bytes) {
        let again = recover(&bytes).unwrap();
        assert_eq!(format!("{:?}", again.state), format!("{:?}", recovered.state));
    }
}
