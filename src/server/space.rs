//! Looks now and then how full the file system is.

use std::io;
use std::time::Duration;

use crate::lustre::link::CurrentMount;

const EVERY: Duration = Duration::from_secs(30);

/// Starts a thread that tells the percentage in use. It has one of its own because the call waits while a target is away.
pub fn watch(mount: CurrentMount, tell: impl Fn(u8) + Send + 'static) -> io::Result<()> {
    let run = move || {
        loop {
            match rustix::fs::fstatvfs(mount.get().root()) {
                Ok(found) => tell(percent(found.f_blocks, found.f_bfree, found.f_bavail)),
                Err(error) => tracing::warn!("cannot see how full the file system is: {error}"),
            }
            std::thread::sleep(EVERY);
        }
    };
    std::thread::Builder::new().name("space".into()).spawn(run)?;
    Ok(())
}

/// Percent in use, rounded up, as `df` counts: of what users may have.
fn percent(blocks: u64, free: u64, available: u64) -> u8 {
    let used = blocks.saturating_sub(free);
    let all = used.saturating_add(available);
    if all == 0 {
        return 0;
    }
    let percent = (u128::from(used) * 100).div_ceil(u128::from(all));
    u8::try_from(percent).unwrap_or(100).min(100)
}

#[cfg(test)]
mod tests {
    use super::percent;

    #[test]
    fn use_is_counted_as_df_does() {
        for (blocks, free, available, want) in
            [(100, 10, 5, 95), (100, 100, 95, 0), (0, 0, 0, 0), (1000, 1, 0, 100), (1000, 999, 999, 1)]
        {
            assert_eq!(percent(blocks, free, available), want, "{blocks} {free} {available}");
        }
    }
}
