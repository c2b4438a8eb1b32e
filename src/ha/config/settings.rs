//! Reading `cluster`.

use std::time::Duration;

use super::keys;
use super::model::{FenceAttempts, Settings};
use super::read::{Reader, below, show};
use super::yaml::{Node, Place, Value};

const PATH: &str = "cluster";
/// Shorter heartbeats and cycles are only load.
const SHORTEST: Duration = Duration::from_millis(10);

/// Reads the settings. What is missing, or wrong, has its default.
pub(super) fn read(reader: &mut Reader, node: Option<&Node>) -> Settings {
    let mut settings = Settings::default();
    let Some(node) = node else { return settings };
    let Some(fields) = reader.fields(node, PATH, &keys::CLUSTER) else { return settings };

    if fields.get("name").is_some()
        && let Some(name) = reader.name(&fields, PATH, "name")
    {
        settings.cluster = name.to_owned();
    }
    if let Some(node) = fields.get("manage") {
        settings.manage = reader.boolean(node, "cluster.manage");
    }
    let flag = |reader: &mut Reader, key: &str, value: &mut bool| {
        if let Some(node) = fields.get(key) {
            *value = reader.boolean(node, &below(PATH, key)).unwrap_or(*value);
        }
    };
    flag(reader, "startup_fencing", &mut settings.startup_fencing);
    flag(reader, "power_on_after_fence", &mut settings.power_on_after_fence);

    let time = |reader: &mut Reader, key: &str, value: &mut Duration, least: Duration| {
        if let Some(node) = fields.get(key) {
            *value = reader.duration(node, &below(PATH, key), least).unwrap_or(*value);
        }
    };
    time(reader, "heartbeat_interval", &mut settings.heartbeat_interval, SHORTEST);
    time(reader, "detection_time", &mut settings.detection_time, SHORTEST);
    time(reader, "fresh_time", &mut settings.fresh_time, SHORTEST);
    time(reader, "agent_grace", &mut settings.agent_grace, Duration::ZERO);
    time(reader, "fence_monitor_interval", &mut settings.fence_monitor_interval, Duration::ZERO);
    time(reader, "monitor_interval", &mut settings.monitor_interval, SHORTEST);
    time(reader, "unfinished_limit", &mut settings.unfinished_limit, SHORTEST);
    time(reader, "proof_age", &mut settings.proof_age, SHORTEST);

    if let Some(node) = fields.get("fence_attempts")
        && let Some(attempts) = fence_attempts(reader, node)
    {
        settings.fence_attempts = attempts;
    }
    if let Some(node) = fields.get("blast_radius") {
        settings.blast_radius_percent =
            percent(reader, node, "cluster.blast_radius").unwrap_or(settings.blast_radius_percent);
    }
    let place = |key: &str| fields.get(key).map(|node| node.place);
    contradictions(reader, &settings, &place);
    settings
}

fn fence_attempts(reader: &mut Reader, node: &Node) -> Option<FenceAttempts> {
    const AT: &str = "cluster.fence_attempts";
    match &node.value {
        Value::Scalar { text, .. } if text == "once" => return Some(FenceAttempts::OnceUntilReset),
        Value::Map(_) => {}
        _ => {
            let message = format!("{} is neither `once` nor a mapping", node.describe());
            let hint = "write once, or {count: 3, window: 1h}".to_owned();
            reader.error_with_hint(node.place, AT, message, hint);
            return None;
        }
    }
    let fields = reader.fields(node, AT, &keys::FENCE_ATTEMPTS)?;
    let (Some(count), Some(window)) = (fields.get("count"), fields.get("window")) else {
        reader.error(fields.place, AT, "both count and window are needed");
        return None;
    };
    let count = reader.whole(count, &below(AT, "count"), 1..=1000);
    let window = reader.duration(window, &below(AT, "window"), Duration::from_secs(1));
    Some(FenceAttempts::Within { count: count?, window: window? })
}

fn percent(reader: &mut Reader, node: &Node, path: &str) -> Option<u8> {
    let number = match &node.value {
        Value::Scalar { text, .. } => text.strip_suffix('%').unwrap_or(text).trim().parse().ok(),
        Value::List(_) | Value::Map(_) => None,
    };
    let number = number.filter(|number| (1..=100).contains(number));
    if number.is_none() {
        reader.error(
            node.place,
            path,
            format!("a share from 1 to 100 per cent is expected, not {}", node.describe()),
        );
    }
    number
}

/// Settings that cannot all be meant.
fn contradictions(reader: &mut Reader, settings: &Settings, place: &dyn Fn(&str) -> Option<Place>) {
    let Settings { heartbeat_interval: heartbeat, detection_time: detection, fresh_time: fresh, .. } =
        settings;
    let mut wrong = |keys: [&str; 2], message: String, hint: String| {
        // The first of them that is written is the one to look at; defaults agree with each other.
        if let Some((key, place)) = keys.iter().find_map(|key| Some((*key, place(key)?))) {
            reader.error_with_hint(place, &below(PATH, key), message, hint);
        }
    };
    if *heartbeat * 2 >= *detection {
        let message = format!(
            "with a heartbeat every {} a host would be lost ({}) after a single one is late",
            show(*heartbeat),
            show(*detection)
        );
        let hint = format!("a detection_time of more than {} is needed", show(*heartbeat * 2));
        wrong(["heartbeat_interval", "detection_time"], message, hint);
    }
    if fresh >= detection {
        let message = format!(
            "a start could refer to a heartbeat ({}) older than what makes a host lost ({})",
            show(*fresh),
            show(*detection)
        );
        wrong(
            ["fresh_time", "detection_time"],
            message,
            "fresh_time must be less than detection_time".to_owned(),
        );
    }
    if fresh <= heartbeat {
        let message = format!(
            "heartbeats come every {}, so that few starts would refer to one younger than {}",
            show(*heartbeat),
            show(*fresh)
        );
        wrong(
            ["fresh_time", "heartbeat_interval"],
            message,
            "fresh_time must be more than heartbeat_interval".to_owned(),
        );
    }
    if settings.proof_age > *detection {
        let message = format!(
            "a proof may not be older ({}) than the silence after which a host is lost ({})",
            show(settings.proof_age),
            show(*detection)
        );
        wrong(
            ["proof_age", "detection_time"],
            message,
            "proof_age must not be more than detection_time".to_owned(),
        );
    }
}
