//! Waiting for a state, never for a time.

use std::time::{Duration, Instant};

/// How long a state may take to come about before a test fails. Generous: it only decides how soon a failure shows.
/// `COORDINATOOL_TEST_PATIENCE` overrides it, in seconds.
pub fn patience() -> Duration {
    let seconds = std::env::var("COORDINATOOL_TEST_PATIENCE").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(seconds.unwrap_or(60))
}

/// Asks `probe` again and again until it gives something, or until `patience` is over.
pub fn poll<T>(patience: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let deadline = Instant::now() + patience;
    let mut pause = Duration::from_millis(2);
    loop {
        if let Some(found) = probe() {
            return Some(found);
        }
        if Instant::now() >= deadline {
            return None;
        }
        std::thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn poll_asks_until_there_is_an_answer() {
        let mut asked = 0;
        let found = poll(patience(), || {
            asked += 1;
            (asked == 3).then_some(asked)
        });
        assert_eq!(found, Some(3));
        assert_eq!(poll(Duration::ZERO, || None::<()>), None);
    }
}
