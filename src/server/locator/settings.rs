//! Keys of the configuration file about locators and tapes.

use std::time::Duration;

use crate::config::{keys, parse_int, parse_switch};
use crate::hsm::HsmConfig;
use crate::hsm::config::{HostRule, Locating};

const DAY_MS: u64 = 86_400_000;

/// How a locator is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Means {
    /// A program with its arguments: lines in, lines out.
    Command(Vec<String>),
    /// A POST of JSON to `http://HOST[:PORT]/PATH`.
    Http(String),
    /// `phobos_locate` of this library.
    Phobos {
        /// Name or path.
        library: String,
        /// The signature of phobos 3, which has the name of a copy; otherwise that of 1.95.
        copies: bool,
    },
}

/// A locator and how much it may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocatorSettings {
    /// How it is asked.
    pub means: Means,
    /// How long one question may take (`locator_timeout_ms`).
    pub timeout: Duration,
    /// Questions at a time (`locator_threads`).
    pub threads: usize,
    /// Files in one question (`locator_batch`).
    pub batch: usize,
    /// How long an answer is remembered (`locator_cache_ms`).
    pub cache: Duration,
    /// Extended attribute that holds the name of the object (`locator_xattr`).
    pub xattr: Option<String>,
}

/// What was said so far.
#[derive(Debug, Default)]
pub(in crate::server) struct LocatorKeys {
    means: Option<Means>,
    locating: Locating,
    host: Option<HostRule>,
    retry: Option<bool>,
    timeout: Option<Duration>,
    threads: Option<usize>,
    batch: Option<usize>,
    cache: Option<Duration>,
    xattr: Option<String>,
    /// A key that means nothing without `locator`.
    alone: Option<&'static str>,
}

impl LocatorKeys {
    /// Takes a key; `None` for one that is not about this.
    pub(in crate::server) fn set(&mut self, key: &'static str, value: &str) -> Option<Result<(), String>> {
        let count = |min, max| parse_int(value, min, max).map(|count| count as usize);
        let millis = |min| parse_int(value, min, DAY_MS).map(Duration::from_millis);
        let tapes = &mut self.locating.tapes;
        let result = match key {
            "locator" => return Some(means(value).map(|means| self.means = means)),
            "locator_timeout_ms" => millis(1).map(|time| self.timeout = Some(time)),
            "locator_wait_ms" => millis(0).map(|time| self.locating.wait = time),
            "locator_cache_ms" => millis(0).map(|time| self.cache = Some(time)),
            "locator_threads" => count(1, 64).map(|count| self.threads = Some(count)),
            "locator_batch" => count(1, 1000).map(|count| self.batch = Some(count)),
            "locator_xattr" => xattr(value).map(|name| self.xattr = Some(name)),
            "locator_host" => host_rule(value).map(|rule| self.host = Some(rule)),
            "locator_failure" => failure(value).map(|retry| self.retry = Some(retry)),
            "locate_removes" => parse_switch(value).map(|on| self.locating.removes = on),
            "tape_wait_ms" => millis(0).map(|time| tapes.wait = time),
            "tape_wait_most" => count(1, 1 << 30).map(|count| tapes.wait_most = count as u32),
            "tape_max_ms" => millis(0).map(|time| tapes.max = time),
            "tapes_per_mover" => count(0, 1 << 20).map(|count| tapes.per_mover = count as u32),
            _ => return None,
        };
        if result.is_ok() {
            self.alone = Some(key);
        }
        Some(result)
    }

    /// Puts everything together. Returns the locator, and what looks wrong.
    pub(in crate::server) fn finish(self, hsm: &mut HsmConfig) -> (Option<LocatorSettings>, Vec<String>) {
        let Some(means) = self.means else {
            let warning =
                self.alone.map(|key| format!("{key} was set without locator, which it is for: ignored"));
            return (None, warning.into_iter().collect());
        };
        // C 0.4 with phobos: strict, and asked again after the grace.
        let phobos = matches!(means, Means::Phobos { .. });
        hsm.locating = Some(Locating {
            host: self.host.unwrap_or(if phobos { HostRule::Strict } else { HostRule::Soft }),
            retry: self.retry.unwrap_or(phobos),
            ..self.locating
        });
        let settings = LocatorSettings {
            timeout: self.timeout.unwrap_or(Duration::from_secs(30)),
            threads: self.threads.unwrap_or(if phobos { 1 } else { 4 }),
            batch: self.batch.unwrap_or(100),
            cache: self.cache.unwrap_or(Duration::from_secs(60)),
            xattr: self.xattr.or_else(|| phobos.then(|| "trusted.hsm_fuid".to_owned())),
            means,
        };
        (Some(settings), Vec::new())
    }
}

fn means(value: &str) -> Result<Option<Means>, String> {
    let words: Vec<&str> = value.split_whitespace().collect();
    match words.as_slice() {
        ["off" | "none"] => Ok(None),
        ["command", program, ..] if program.starts_with('/') => {
            Ok(Some(Means::Command(words[1..].iter().map(|&word| word.to_owned()).collect())))
        }
        ["command", ..] => {
            Err(format!("`{value}` lacks the absolute path of a program: command PROGRAM ARGUMENT..."))
        }
        ["http", url] if url.starts_with("http://") => Ok(Some(Means::Http((*url).to_owned()))),
        ["http", ..] => Err(format!("`{value}` is not `http http://HOST[:PORT]/PATH`")),
        [name @ ("phobos" | "phobos-1.95"), rest @ ..] if rest.len() <= 1 => {
            let library = rest.first().copied().unwrap_or("libphobos_store.so").to_owned();
            Ok(Some(Means::Phobos { library, copies: *name == "phobos" }))
        }
        _ => {
            let first = words.first().copied().unwrap_or_default();
            let near = keys::nearest_of(first, ["off", "command", "http", "phobos"]);
            let hint = near.map(|near| format!(", did you mean `{near}`?")).unwrap_or_default();
            Err(format!("`{value}` is none of off, command PROGRAM..., http URL and phobos [LIBRARY]{hint}"))
        }
    }
}

fn host_rule(value: &str) -> Result<HostRule, String> {
    match value.to_ascii_lowercase().as_str() {
        "ignore" => Ok(HostRule::Ignore),
        "soft" => Ok(HostRule::Soft),
        "strict" => Ok(HostRule::Strict),
        _ => Err(format!("`{value}` is none of ignore, soft and strict")),
    }
}

fn failure(value: &str) -> Result<bool, String> {
    match value.to_ascii_lowercase().as_str() {
        "retry" => Ok(true),
        "plain" => Ok(false),
        _ => Err(format!("`{value}` is neither `plain` nor `retry`")),
    }
}

fn xattr(value: &str) -> Result<String, String> {
    let spaces = ["user.", "trusted.", "security.", "system.", "lustre."];
    if value.contains(char::is_whitespace) || !spaces.iter().any(|space| value.starts_with(space)) {
        return Err(format!("`{value}` is not the name of an extended attribute, as trusted.hsm_fuid"));
    }
    Ok(value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(
        lines: &[(&'static str, &str)],
    ) -> (HsmConfig, Option<LocatorSettings>, Vec<String>, Vec<String>) {
        let mut keys = LocatorKeys::default();
        let errors = lines
            .iter()
            .filter_map(|&(key, value)| keys.set(key, value).expect("a key of ours").err())
            .collect();
        let mut hsm = HsmConfig::default();
        let (settings, warnings) = keys.finish(&mut hsm);
        (hsm, settings, warnings, errors)
    }

    #[test]
    fn without_a_locator_there_is_none() {
        for lines in [&[][..], &[("locator", "off")][..]] {
            let (hsm, settings, warnings, errors) = take(lines);
            assert_eq!((hsm, settings), (HsmConfig::default(), None));
            assert!(warnings.is_empty() && errors.is_empty());
        }
        let (_, _, warnings, _) = take(&[("tape_wait_ms", "5")]);
        assert!(warnings[0].contains("without locator"), "{warnings:?}");
        assert!(LocatorKeys::default().set("port", "1").is_none());
    }

    #[test]
    fn each_means_has_its_defaults() {
        let cases = [
            ("command /bin/locate -x", Means::Command(vec!["/bin/locate".into(), "-x".into()]), false),
            ("http http://h:1/p", Means::Http("http://h:1/p".into()), false),
            ("phobos", Means::Phobos { library: "libphobos_store.so".into(), copies: true }, true),
            ("phobos-1.95 /lib/x.so", Means::Phobos { library: "/lib/x.so".into(), copies: false }, true),
        ];
        for (value, means, phobos) in cases {
            let (hsm, settings, _, errors) = take(&[("locator", value)]);
            let (settings, locating) = (settings.unwrap(), hsm.locating.unwrap());
            assert_eq!((settings.means, errors), (means, vec![]));
            assert_eq!(locating.host, if phobos { HostRule::Strict } else { HostRule::Soft });
            assert_eq!((locating.retry, settings.xattr.is_some()), (phobos, phobos));
        }
    }

    #[test]
    fn all_keys_are_read() {
        let (hsm, settings, warnings, errors) = take(&[
            ("locator", "command /x"),
            ("locator_timeout_ms", "1"),
            ("locator_wait_ms", "2"),
            ("locator_cache_ms", "3"),
            ("locator_threads", "5"),
            ("locator_batch", "6"),
            ("locator_xattr", "user.oid"),
            ("locator_host", "ignore"),
            ("locator_failure", "retry"),
            ("locate_removes", "on"),
            ("tape_wait_ms", "7"),
            ("tape_wait_most", "8"),
            ("tape_max_ms", "9"),
            ("tapes_per_mover", "10"),
        ]);
        assert_eq!((warnings, errors), (vec![], vec![]));
        let (settings, locating) = (settings.unwrap(), hsm.locating.unwrap());
        assert_eq!((settings.timeout.as_millis(), settings.cache.as_millis()), (1, 3));
        assert_eq!((settings.threads, settings.batch, settings.xattr.as_deref()), (5, 6, Some("user.oid")));
        assert_eq!((locating.wait.as_millis(), locating.host, locating.retry), (2, HostRule::Ignore, true));
        assert!(locating.removes);
        let tapes = locating.tapes;
        assert_eq!((tapes.wait.as_millis(), tapes.wait_most), (7, 8));
        assert_eq!((tapes.max.as_millis(), tapes.per_mover), (9, 10));
    }

    #[test]
    fn bad_values_say_what_is_right() {
        let cases = [
            ("locator", "comand /x", "did you mean `command`?"),
            ("locator", "command locate", "absolute path"),
            ("locator", "http https://x", "http http://"),
            ("locator", "phobos a b", "none of"),
            ("locator_xattr", "hsm_fuid", "trusted.hsm_fuid"),
            ("locator_host", "hard", "ignore, soft and strict"),
            ("locator_failure", "wait", "plain"),
            ("locator_threads", "0", ""),
        ];
        for (key, value, want) in cases {
            let (_, _, _, errors) = take(&[(key, value)]);
            assert!(errors.len() == 1 && errors[0].contains(want), "{key} {value}: {errors:?}");
        }
    }
}
