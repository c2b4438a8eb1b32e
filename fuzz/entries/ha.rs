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
