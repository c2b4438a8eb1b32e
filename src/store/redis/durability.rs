//! Whether a server keeps what it has confirmed.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use redis::RedisError;

use super::link::{Link, Server};

/// How often the server is asked.
const CHECK: Duration = Duration::from_secs(60);
/// How often warnings are repeated.
const REPEAT: Duration = Duration::from_secs(3600);

/// What the server's settings mean for what is stored.
#[derive(Debug, Default)]
pub struct Durability {
    warnings: Vec<String>,
    checked: Option<Instant>,
    warned: Option<Instant>,
}

impl Durability {
    /// What is to be said, as of the last check.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Asks the server if it is time to, and logs what is new.
    ///
    /// # Errors
    /// Of the connection.
    pub fn check(&mut self, now: Instant, server: &Server, link: &mut Link) -> Result<(), RedisError> {
        if let Some(at) = self.checked
            && now < at + CHECK
        {
            return Ok(());
        }
        self.checked = Some(now);
        let warnings = ask(link)?;
        let again = self.warned.is_none_or(|at| now >= at + REPEAT);
        if !warnings.is_empty() && (again || warnings != self.warnings) {
            for warning in &warnings {
                tracing::warn!("{server}: {warning}");
            }
            self.warned = Some(now);
        }
        if warnings.is_empty() && !self.warnings.is_empty() {
            tracing::info!("{server}: its settings keep what is stored now");
        }
        self.warnings = warnings;
        Ok(())
    }
}

fn ask(link: &mut Link) -> Result<Vec<String>, RedisError> {
    // Users of shared servers may not be allowed to ask.
    let info: String = match link.ask(&redis::cmd("INFO")) {
        Ok(info) => info,
        Err(error) if error.is_io_error() => return Err(error),
        Err(error) => {
            return Ok(vec![format!(
                "its settings cannot be looked at ({error}): whether it keeps what it has confirmed is not known"
            )]);
        }
    };
    let info: HashMap<&str, &str> = info.lines().filter_map(|line| line.trim_end().split_once(':')).collect();
    let mut config = redis::cmd("CONFIG");
    config.arg("GET").arg("append*");
    let config = match link.ask::<HashMap<String, String>>(&config) {
        Ok(config) => Some(config),
        Err(error) if error.is_io_error() => return Err(error),
        Err(_) => None,
    };
    Ok(judge(&info, config.as_ref()))
}

/// What is wrong with these settings.
fn judge(info: &HashMap<&str, &str>, config: Option<&HashMap<String, String>>) -> Vec<String> {
    let mut warnings = Vec::new();
    let is = |key: &str, value: &str| info.get(key).copied() == Some(value);
    let mut warn = |text: &str| warnings.push(text.to_owned());
    if is("aof_enabled", "0") {
        warn(
            "`appendonly` is off: a crash of the server loses what was stored since its last dump (set `appendonly yes`)",
        );
    } else {
        let fsync = config.and_then(|config| config.get("appendfsync")).map(String::as_str);
        if fsync == Some("no") {
            warn(
                "`appendfsync` is `no`: a crash of the server's host loses what was stored in the last half minute (set \
                 `appendfsync always`, or `everysec` to lose a second at most)",
            );
        }
        if is("aof_last_write_status", "err") {
            warn("its last write of the append only file failed: is its disk full?");
        }
    }
    let policy = info.get("maxmemory_policy").copied().unwrap_or("noeviction");
    let limited = info.get("maxmemory").is_some_and(|bytes| *bytes != "0");
    if limited && !policy.starts_with("noeviction") && !policy.starts_with("volatile-") {
        warn(&format!(
            "`maxmemory-policy` is `{policy}`: it may throw requests away when its memory is full (set `noeviction`)"
        ));
    }
    if is("role", "slave") {
        warn(
            "it is a replica: what is stored here is lost at its next resynchronisation (connect to the master)",
        );
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_lose_requests_are_named() {
        type Pairs = &'static [(&'static str, &'static str)];
        let cases: [(Pairs, Pairs, &[&str]); 8] = [
            (&[("aof_enabled", "1"), ("role", "master")], &[("appendfsync", "always")], &[]),
            (&[("aof_enabled", "1")], &[("appendfsync", "everysec")], &[]),
            (&[("aof_enabled", "1")], &[], &[]),
            (&[("aof_enabled", "0")], &[("appendfsync", "no")], &["`appendonly` is off"]),
            (&[("aof_enabled", "1")], &[("appendfsync", "no")], &["`appendfsync` is `no`"]),
            (&[("maxmemory", "1000"), ("maxmemory_policy", "allkeys-lru")], &[], &["`maxmemory-policy`"]),
            (&[("maxmemory", "0"), ("maxmemory_policy", "allkeys-lru")], &[], &[]),
            (&[("aof_last_write_status", "err"), ("role", "slave")], &[], &["disk full", "a replica"]),
        ];
        for (info, config, want) in cases {
            let info = info.iter().copied().collect();
            let config = config.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
            let got = judge(&info, Some(&config));
            assert_eq!(got.len(), want.len(), "{got:?}");
            assert!(want.iter().zip(&got).all(|(want, got)| got.contains(want)), "{got:?}");
        }
    }
}
