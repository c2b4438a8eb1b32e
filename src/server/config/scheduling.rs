//! Keys of the configuration file that say whose requests go first.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::config::{keys, parse_int, parse_switch};
use crate::hsm::HsmConfig;
use crate::hsm::config::{Lane, Priorities, ShareBy};

/// The longest time in milliseconds that is taken: as long as C takes seconds.
const MAX_MS: u64 = i64::MAX as u64 / 1_000_000_000;
/// The most that a share may weigh.
const MAX_WEIGHT: u64 = 1000;

/// What was said so far.
#[derive(Debug, Default)]
pub(super) struct Scheduling {
    on: bool,
    priorities: Priorities,
    /// A key that only means something with `priorities on`.
    needs_priorities: Option<&'static str>,
    fair_share: Option<ShareBy>,
    weights: BTreeMap<String, u32>,
    full: Option<u8>,
}

impl Scheduling {
    /// Takes a key; `None` for one that is not about this.
    pub(super) fn set(&mut self, key: &'static str, value: &str) -> Option<Result<(), String>> {
        let result = match key {
            "priorities" => parse_switch(value).map(|on| self.on = on),
            "ageing_restore_ms" => millis(value).map(|time| self.priorities.restore = time),
            "ageing_bulk_ms" => millis(value).map(|time| self.priorities.bulk = time),
            "blocked_without_data" => parse_switch(value).map(|on| self.priorities.blocked_without_data = on),
            "bulk_restores" => {
                parse_int(value, 0, i32::MAX as u64).map(|count| self.priorities.bulk_restores = count as u32)
            }
            "bulk_hint" => self.bulk_hint(value),
            "priority_weight" => self.priority_weight(value),
            "fair_share" => fair_share(value).map(|by| self.fair_share = by),
            "share_weight" => self.share_weight(value),
            "archives_first_when_full" => percent(value).map(|percent| self.full = Some(percent)),
            _ => return None,
        };
        let of_priorities =
            !matches!(key, "priorities" | "fair_share" | "share_weight" | "archives_first_when_full");
        if of_priorities && result.is_ok() {
            self.needs_priorities = Some(key);
        }
        Some(result)
    }

    /// Puts everything together. Returns what looks wrong.
    pub(super) fn finish(self, hsm: &mut HsmConfig) -> Vec<String> {
        let mut warnings = Vec::new();
        if let (false, Some(key)) = (self.on, self.needs_priorities) {
            warnings.push(format!("{key} was set without `priorities on`, which it is for: ignored"));
        }
        if self.on && self.priorities.bulk_restores > 0 && self.fair_share.is_none() {
            warnings
                .push("bulk_restores was set without fair_share, whose shares it counts: ignored".to_owned());
        }
        if !self.weights.is_empty() && self.fair_share.is_none() {
            warnings.push("share_weight was set without fair_share, which it is for: ignored".to_owned());
        }
        hsm.priorities = self.on.then_some(self.priorities);
        hsm.fair_share = self.fair_share;
        hsm.share_weights = self.weights;
        hsm.archives_first_when_full = self.full;
        warnings
    }

    fn bulk_hint(&mut self, value: &str) -> Result<(), String> {
        if value.contains(',') || value.starts_with('=') {
            return Err(format!("`{value}` is not a hint: NAME=VALUE, or a word of the data"));
        }
        self.priorities.bulk_hint = Some(value.to_owned());
        Ok(())
    }

    fn priority_weight(&mut self, value: &str) -> Result<(), String> {
        let (name, weight) = pair(value).ok_or_else(|| format!("`{value}` is not LANE PERCENT"))?;
        let lane = Lane::from_name(&name.to_ascii_lowercase()).ok_or_else(|| {
            let names = ["blocked", "restore", "bulk", "remove", "archive"];
            let near = keys::nearest_of(name, names);
            let hint = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            format!("`{name}` is none of blocked, restore, bulk, remove and archive{hint}")
        })?;
        let weight =
            parse_int(weight.trim_end_matches('%'), 0, 90).map_err(|error| format!("percent: {error}"))?;
        let weights = &mut self.priorities.weights;
        weights[lane as usize] = weight as u32;
        let all: u32 = weights.iter().sum();
        if all > 90 {
            return Err(format!(
                "the weights add up to {all} percent: 90 at most, so that the others move at all"
            ));
        }
        Ok(())
    }

    fn share_weight(&mut self, value: &str) -> Result<(), String> {
        let (name, weight) = pair(value).ok_or_else(|| {
            format!("`{value}` is not NAME WEIGHT (NAME: the number of a user, group or project, a job or a hint's value)")
        })?;
        let weight = parse_int(weight, 1, MAX_WEIGHT).map_err(|error| format!("weight: {error}"))?;
        self.weights.insert(name.to_owned(), weight as u32);
        Ok(())
    }
}

fn pair(value: &str) -> Option<(&str, &str)> {
    let mut words = value.split_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(name), Some(value), None) => Some((name, value)),
        _ => None,
    }
}

fn millis(value: &str) -> Result<Duration, String> {
    parse_int(value, 0, MAX_MS).map(Duration::from_millis)
}

fn percent(value: &str) -> Result<u8, String> {
    let percent =
        parse_int(value.trim_end_matches('%'), 1, 100).map_err(|error| format!("percent: {error}"))?;
    Ok(percent as u8)
}

fn fair_share(value: &str) -> Result<Option<ShareBy>, String> {
    let (word, hint) = match value.split_once(':') {
        Some((word, hint)) => (word.trim(), Some(hint.trim())),
        None => (value, None),
    };
    match (word.to_ascii_lowercase().as_str(), hint) {
        ("off" | "none", None) => Ok(None),
        ("uid", None) => Ok(Some(ShareBy::User)),
        ("gid", None) => Ok(Some(ShareBy::Group)),
        ("projid", None) => Ok(Some(ShareBy::Project)),
        ("job", None) => Ok(Some(ShareBy::Job)),
        ("hint", Some(name)) => {
            let name = name.strip_suffix('=').unwrap_or(name);
            if name.is_empty() || name.contains([',', '=']) {
                return Err(format!(
                    "`{name}` is not the name of a hint: `hint:owner` finds `owner=VALUE` in the data"
                ));
            }
            Ok(Some(ShareBy::Hint(format!("{name}="))))
        }
        ("hint", None) => Err("`hint` lacks its name: hint:NAME".to_owned()),
        _ => {
            let near = keys::nearest_of(word, ["off", "uid", "gid", "projid", "job", "hint"]);
            let hint = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            Err(format!("`{value}` is none of off, uid, gid, projid, job and hint:NAME{hint}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(lines: &[(&'static str, &str)]) -> (HsmConfig, Vec<String>, Vec<String>) {
        let mut scheduling = Scheduling::default();
        let errors = lines
            .iter()
            .filter_map(|&(key, value)| scheduling.set(key, value).expect("a key of ours").err())
            .collect();
        let mut hsm = HsmConfig::default();
        let warnings = scheduling.finish(&mut hsm);
        (hsm, warnings, errors)
    }

    #[test]
    fn everything_is_off_by_default() {
        let (hsm, warnings, _) = take(&[]);
        assert_eq!(hsm, HsmConfig::default());
        assert_eq!(warnings, [""; 0]);
        assert!(Scheduling::default().set("port", "1").is_none());
    }

    #[test]
    fn good_values() {
        let (hsm, warnings, errors) = take(&[
            ("priorities", "on"),
            ("ageing_restore_ms", "5000"),
            ("ageing_bulk_ms", "7000"),
            ("blocked_without_data", "yes"),
            ("bulk_restores", "100"),
            ("bulk_hint", "class=bulk"),
            ("priority_weight", "archive 20%"),
            ("priority_weight", "bulk 5"),
            ("fair_share", "hint:owner"),
            ("share_weight", "alice 3"),
            ("share_weight", "1000 2"),
            ("archives_first_when_full", "90%"),
        ]);
        assert_eq!((warnings, errors), (vec![], vec![]));
        let priorities = hsm.priorities.unwrap();
        assert_eq!((priorities.restore.as_secs(), priorities.bulk.as_secs()), (5, 7));
        assert_eq!((priorities.bulk_restores, priorities.blocked_without_data), (100, true));
        assert_eq!(priorities.bulk_hint.as_deref(), Some("class=bulk"));
        assert_eq!(priorities.weights, [0, 0, 5, 0, 20]);
        assert_eq!(hsm.fair_share, Some(ShareBy::Hint("owner=".into())));
        assert_eq!(hsm.share_weights.get("alice"), Some(&3));
        assert_eq!(hsm.archives_first_when_full, Some(90));
        for (value, want) in [
            ("uid", Some(ShareBy::User)),
            ("GID", Some(ShareBy::Group)),
            ("projid", Some(ShareBy::Project)),
            ("job", Some(ShareBy::Job)),
            ("off", None),
        ] {
            assert_eq!(take(&[("fair_share", value)]).0.fair_share, want);
        }
    }

    #[test]
    fn bad_values_say_what_is_right() {
        let cases = [
            ("priorities", "maybe", "neither `on` nor `off`"),
            ("priority_weight", "archive", "LANE PERCENT"),
            ("priority_weight", "archives 5", "did you mean `archive`?"),
            ("priority_weight", "archive 91", "percent"),
            ("fair_share", "uuid", "did you mean `uid`?"),
            ("fair_share", "hint", "hint:NAME"),
            ("fair_share", "hint:a,b", "name of a hint"),
            ("fair_share", "uid:x", "none of off, uid"),
            ("share_weight", "alice", "NAME WEIGHT"),
            ("share_weight", "alice 0", "weight"),
            ("archives_first_when_full", "101", "percent"),
            ("bulk_hint", "a,b", "not a hint"),
            ("bulk_restores", "-1", ""),
        ];
        for (key, value, want) in cases {
            let (_, _, errors) = take(&[(key, value)]);
            assert!(errors.len() == 1 && errors[0].contains(want), "{key} {value}: {errors:?}");
        }
        let (_, _, errors) = take(&[("priority_weight", "archive 50"), ("priority_weight", "bulk 50")]);
        assert!(errors[0].contains("add up to 100"), "{errors:?}");
    }

    #[test]
    fn what_means_nothing_alone_is_warned_of() {
        let cases: [(&[(&'static str, &str)], &str); 3] = [
            (&[("ageing_bulk_ms", "1")], "without `priorities on`"),
            (&[("priorities", "on"), ("bulk_restores", "5")], "without fair_share"),
            (&[("share_weight", "a 2")], "without fair_share"),
        ];
        for (lines, want) in cases {
            let (_, warnings, errors) = take(lines);
            assert!(errors.is_empty() && warnings.len() == 1 && warnings[0].contains(want), "{warnings:?}");
        }
    }
}
