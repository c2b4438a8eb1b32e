//! What every daemon of ours needs of the machine: clocks, logs, files, the service manager, random numbers, memory that stays.

#[cfg(any(feature = "daemon", feature = "agent"))]
pub mod clock;
pub mod fence_path;
#[cfg(any(feature = "daemon", feature = "agent"))]
pub mod framed;
#[cfg(feature = "daemon")]
pub mod handover;
#[cfg(any(feature = "daemon", feature = "agent"))]
pub mod logging;
#[cfg(any(feature = "daemon", feature = "agent"))]
pub mod records_file;
#[cfg(any(feature = "daemon", feature = "agent"))]
pub mod supervisor;

/// A number that nobody else draws.
///
/// # Errors
/// When the kernel has no random numbers, which it always has once it has booted.
pub fn random() -> std::io::Result<u64> {
    let mut bytes = [0_u8; 8];
    let filled = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())?;
    if filled < bytes.len() {
        return Err(std::io::Error::other("the kernel gave too few random bytes"));
    }
    Ok(u64::from_ne_bytes(bytes))
}

/// Keeps this process in memory and out of the reach of the out-of-memory killer, where that is permitted: it must act when
/// the machine is in trouble.
pub fn stay_in_memory() {
    use rustix::mm::{MlockAllFlags as Flags, mlockall};

    // The program itself is read now, in case that its disk hangs later. What is allocated later is locked as it is used:
    // otherwise each thread and each arena of the allocator would hold all of what it only may need.
    let locked = mlockall(Flags::CURRENT).and_then(|()| mlockall(Flags::FUTURE | Flags::ONFAULT));
    if let Err(error) = locked {
        tracing::debug!("memory is not locked: {error}");
    }
    if let Err(error) = std::fs::write("/proc/self/oom_score_adj", "-1000") {
        tracing::debug!("not protected from the out-of-memory killer: {error}");
    }
}

/// No image of this process's memory is ever written to a disk, and no other user may look into it: it holds the secrets of
/// fence devices.
pub fn keep_secrets() {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};

    if let Err(error) = set_dumpable_behavior(DumpableBehavior::NotDumpable) {
        tracing::debug!("memory may be dumped: {error}");
    }
}

/// A runtime for the one thread that does everything, with a few more for what may hang. Their stacks are small: they stay
/// in memory as all of this process does.
///
/// # Errors
/// When the kernel gives no descriptors for it.
pub fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(128)
        .thread_stack_size(512 * 1024)
        .build()
}
