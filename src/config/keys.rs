//! Every key there is.

/// Who reads a key. The other side skips it without a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The daemon.
    Server,
    /// The client and the library for movers.
    Client,
    /// Everybody.
    Both,
}

/// A key of the configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    /// Its name; case does not matter in the file.
    pub name: &'static str,
    /// Whose it is.
    pub owner: Owner,
    /// The environment variable that says the same, if there is one.
    pub env: Option<&'static str>,
    /// Whether the key may stand alone, with an empty value. C skips such lines with a warning.
    pub may_be_empty: bool,
}

const fn key(name: &'static str, owner: Owner, env: Option<&'static str>) -> Key {
    Key { name, owner, env, may_be_empty: false }
}

/// All keys: those of C 0.4 first, then ours.
pub const KEYS: &[Key] = &[
    key("host", Owner::Both, Some("COORDINATOOL_HOST")),
    key("port", Owner::Both, Some("COORDINATOOL_PORT")),
    key("verbose", Owner::Both, Some("COORDINATOOL_VERBOSE")),
    Key { may_be_empty: true, ..key("redis_host", Owner::Server, Some("COORDINATOOL_REDIS_HOST")) },
    key("redis_port", Owner::Server, Some("COORDINATOOL_REDIS_PORT")),
    key("client_grace_ms", Owner::Server, Some("COORDINATOOL_CLIENT_GRACE")),
    key("archive_id", Owner::Server, None),
    key("archive_on_hosts", Owner::Server, None),
    key("archive_on_hosts_ch", Owner::Server, None),
    key("batch_archives_slices_sec", Owner::Server, None),
    key("batch_archives_slots_per_client", Owner::Server, None),
    key("reporting_dir", Owner::Server, None),
    key("reporting_hint", Owner::Server, None),
    key("reporting_schedule_interval_ms", Owner::Server, None),
    key("client_id", Owner::Client, Some("COORDINATOOL_CLIENT_ID")),
    key("max_restore", Owner::Client, Some("COORDINATOOL_MAX_RESTORE")),
    key("max_archive", Owner::Client, Some("COORDINATOOL_MAX_ARCHIVE")),
    key("max_remove", Owner::Client, Some("COORDINATOOL_MAX_REMOVE")),
    key("hal_size", Owner::Client, Some("COORDINATOOL_HAL_SIZE")),
    // Ours.
    key("lustre", Owner::Server, Some("COORDINATOOL_LUSTRE")),
    key("fsname", Owner::Server, Some("COORDINATOOL_FSNAME")),
    key("store", Owner::Server, Some("COORDINATOOL_STORE")),
    key("redis_user", Owner::Server, None),
    key("redis_password_file", Owner::Server, None),
    key("redis_namespace", Owner::Server, None),
    key("state_dir", Owner::Server, Some("COORDINATOOL_STATE_DIR")),
    key("api_socket", Owner::Both, Some("COORDINATOOL_API_SOCKET")),
    key("api_group", Owner::Server, None),
    key("api_read_group", Owner::Server, None),
    key("metrics_listen", Owner::Server, None),
    key("lease_ms", Owner::Server, None),
    key("ageing_remove_ms", Owner::Server, None),
    key("ageing_archive_ms", Owner::Server, None),
    key("settle_ms", Owner::Server, None),
    key("request_timeout_sec", Owner::Server, None),
    key("keepalive_running_max_sec", Owner::Server, None),
    key("keepalive_rate", Owner::Server, None),
    key("stranded_max", Owner::Server, None),
    key("stranded_timeout_sec", Owner::Server, None),
    key("priorities", Owner::Server, None),
    key("ageing_restore_ms", Owner::Server, None),
    key("ageing_bulk_ms", Owner::Server, None),
    key("blocked_without_data", Owner::Server, None),
    key("bulk_restores", Owner::Server, None),
    key("bulk_hint", Owner::Server, None),
    key("priority_weight", Owner::Server, None),
    key("fair_share", Owner::Server, None),
    key("share_weight", Owner::Server, None),
    key("archives_first_when_full", Owner::Server, None),
    key("locator", Owner::Server, None),
    key("locator_timeout_ms", Owner::Server, None),
    key("locator_wait_ms", Owner::Server, None),
    key("locator_cache_ms", Owner::Server, None),
    key("locator_threads", Owner::Server, None),
    key("locator_batch", Owner::Server, None),
    key("locator_xattr", Owner::Server, None),
    key("locator_host", Owner::Server, None),
    key("locator_failure", Owner::Server, None),
    key("locate_removes", Owner::Server, None),
    key("tape_wait_ms", Owner::Server, None),
    key("tape_wait_most", Owner::Server, None),
    key("tape_max_ms", Owner::Server, None),
    key("tapes_per_mover", Owner::Server, None),
    key("reconcile_command", Owner::Server, None),
    key("reconcile_interval_sec", Owner::Server, None),
    key("reconcile_timeout_sec", Owner::Server, None),
    key("reconcile_adopt", Owner::Server, None),
    key("retry_limit", Owner::Server, None),
    key("retry_backoff_ms", Owner::Server, None),
    key("dead_letters", Owner::Server, None),
    key("quarantine_errors", Owner::Server, None),
    key("quarantine_window_ms", Owner::Server, None),
    key("quarantine_ms", Owner::Server, None),
    key("limit_mover", Owner::Server, None),
    key("limit_hint", Owner::Server, None),
    key("limit_user", Owner::Server, None),
    key("history_size", Owner::Server, None),
    key("count_bytes", Owner::Server, None),
    key("max_message_size", Owner::Server, None),
    key("max_message_depth", Owner::Server, None),
    key("max_client_buffer", Owner::Server, None),
    key("max_input_buffers", Owner::Server, None),
    key("max_connections", Owner::Server, None),
    key("handshake_timeout_ms", Owner::Server, None),
    key("hai_len", Owner::Client, Some("COORDINATOOL_HAI_LEN")),
    key("begin_timeout_ms", Owner::Client, Some("COORDINATOOL_BEGIN_TIMEOUT")),
    // Security.
    key("tls", Owner::Both, Some("COORDINATOOL_TLS")),
    key("tls_port", Owner::Both, Some("COORDINATOOL_TLS_PORT")),
    key("tls_ca", Owner::Both, Some("COORDINATOOL_TLS_CA")),
    key("tls_cert", Owner::Both, Some("COORDINATOOL_TLS_CERT")),
    key("tls_key", Owner::Both, Some("COORDINATOOL_TLS_KEY")),
    key("tls_server_name", Owner::Client, Some("COORDINATOOL_TLS_SERVER_NAME")),
    key("psk_file", Owner::Both, Some("COORDINATOOL_PSK_FILE")),
    key("psk_admin_file", Owner::Both, Some("COORDINATOOL_PSK_ADMIN_FILE")),
    key("psk_read_only_file", Owner::Both, Some("COORDINATOOL_PSK_READ_ONLY_FILE")),
    key("role", Owner::Server, None),
    key("bind_ids", Owner::Server, None),
    key("plain", Owner::Server, None),
    key("plain_role", Owner::Server, None),
    key("local_socket", Owner::Both, Some("COORDINATOOL_LOCAL_SOCKET")),
    key("local_group", Owner::Server, None),
];

/// The key of this name, whatever its case.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name.eq_ignore_ascii_case(name))
}

/// The key that is nearest to a misspelt one and that `owner` reads, if any is near.
pub fn nearest(name: &str, owner: Owner) -> Option<&'static str> {
    let mine = KEYS.iter().filter(|key| key.owner == owner || key.owner == Owner::Both);
    nearest_of(name, mine.map(|key| key.name))
}

/// The word that is nearest to a misspelt one: at most a third of its letters differ.
pub fn nearest_of<'a>(name: &str, words: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let name: String = name.chars().take(64).collect::<String>().to_ascii_lowercase();
    let limit = (name.chars().count() / 3).max(1);
    let scored = words.into_iter().map(|word| (distance(&name, word), word));
    scored.filter(|(score, _)| *score <= limit).min_by_key(|(score, _)| *score).map(|(_, word)| word)
}

/// Letters to insert, delete, replace or swap (with the next) to make one word the other.
fn distance(a: &str, b: &str) -> usize {
    let a: Vec<char> = a.chars().collect();
    let b: Vec<char> = b.chars().collect();
    let mut rows = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for (i, row) in rows.iter_mut().enumerate() {
        row[0] = i;
    }
    rows[0] = (0..=b.len()).collect();
    for i in 1..=a.len() {
        for j in 1..=b.len() {
            let cost = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + cost);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_found_in_any_case_and_unique() {
        assert_eq!(find("Redis_HOST").map(|key| key.name), Some("redis_host"));
        assert_eq!(find("redis"), None);
        for (i, key) in KEYS.iter().enumerate() {
            assert!(KEYS[..i].iter().all(|other| other.name != key.name), "{}", key.name);
            assert_eq!(key.name, key.name.to_ascii_lowercase());
        }
    }

    #[test]
    fn every_key_is_in_the_sample_and_in_the_manual() {
        let sample = include_str!("../../conf/coordinatool.conf");
        let manual = include_str!("../../docs/man/coordinatool.conf.5");
        let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
        for key in KEYS {
            let in_sample = sample.lines().any(|line| {
                let line = line.trim_start_matches('#');
                line.strip_prefix(key.name).is_some_and(|rest| !rest.starts_with(is_word))
            });
            assert!(in_sample, "conf/coordinatool.conf lacks {}", key.name);
            let mut words = manual.split(|c| !is_word(c));
            assert!(words.any(|word| word == key.name), "coordinatool.conf(5) lacks {}", key.name);
        }
    }

    #[test]
    fn misspelt_keys_get_a_suggestion_their_reader_knows() {
        let cases = [
            ("client_grace", Owner::Server, Some("client_grace_ms")),
            ("prot", Owner::Server, Some("port")),
            ("archive_on_host", Owner::Server, Some("archive_on_hosts")),
            ("max_archives", Owner::Client, Some("max_archive")),
            ("hal_sise", Owner::Server, None),
            ("something_else", Owner::Server, None),
        ];
        for (name, owner, want) in cases {
            assert_eq!(nearest(name, owner), want, "{name}");
        }
        assert_eq!(nearest_of("embeded", ["embedded", "none"]), Some("embedded"));
    }
}
