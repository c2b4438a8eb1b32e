//! Request numbers of the Lustre ioctls (`'f'`) that HSM needs.
//!
//! The size encoded in a number is what the kernel header declares, which is not always the size of the argument:
//! [`HSM_PROGRESS`] takes a `struct hsm_progress` (48 bytes).

const WRITE: u64 = 1;
const READ: u64 = 2;

const fn ioc(direction: u64, number: u64, size: u64) -> u64 {
    (direction << 30) | (size << 16) | ((b'f' as u64) << 8) | number
}

/// Reads `struct hsm_user_state` of the file behind the descriptor.
pub const HSM_STATE_GET: u64 = ioc(READ, 0xd3, 32);
/// Applies `struct hsm_state_set` to the file behind the descriptor.
pub const HSM_STATE_SET: u64 = ioc(WRITE, 0xd4, 24);
/// Registers or, with `LK_FLG_STOP`, unregisters a copytool: `struct lustre_kernelcomm`.
pub const HSM_CT_START: u64 = ioc(WRITE, 0xd5, 24);
/// Begins an action: `struct hsm_copy`, sampling the data version of an archive.
pub const HSM_COPY_START: u64 = ioc(WRITE, 0xd6, 8);
/// Ends an action: `struct hsm_copy`.
pub const HSM_COPY_END: u64 = ioc(WRITE, 0xd7, 8);
/// Reports progress: `struct hsm_progress`.
pub const HSM_PROGRESS: u64 = ioc(WRITE, 0xd8, 24);
/// Submits `struct hsm_user_request`.
pub const HSM_REQUEST: u64 = ioc(WRITE, 0xd9, 24);
/// Reads `struct hsm_current_action` of the file behind the descriptor.
pub const HSM_ACTION: u64 = ioc(READ, 0xdc, 24);
/// Makes a released file from what a back end holds: `struct hsm_user_import`.
pub const HSM_IMPORT: u64 = ioc(READ | WRITE, 0xf5, 48);
/// Reads the path of a FID: `struct getinfo_fid2path`.
pub const FID2PATH: u64 = ioc(READ | WRITE, 0x96, 8);
/// Reads the FID of the file behind the descriptor: `struct lu_fid`.
pub const PATH2FID: u64 = ioc(READ, 0xad, 8);
/// Index of the MDT that holds a FID.
pub const FID2MDTIDX: u64 = ioc(READ | WRITE, 0xf8, 16);
/// Sets the times of a restored file to the nanosecond.
pub const FUTIMES_3: u64 = ioc(READ | WRITE, 0xb0, 48);

// The numbers a real lhsmtool_posix and lfs use on Lustre 2.17 (x86-64).
const _: () = assert!(HSM_STATE_GET == 0x8020_66d3);
const _: () = assert!(HSM_STATE_SET == 0x4018_66d4);
const _: () = assert!(HSM_CT_START == 0x4018_66d5);
const _: () = assert!(HSM_COPY_START == 0x4008_66d6);
const _: () = assert!(HSM_COPY_END == 0x4008_66d7);
const _: () = assert!(HSM_PROGRESS == 0x4018_66d8);
const _: () = assert!(HSM_REQUEST == 0x4018_66d9);
const _: () = assert!(HSM_ACTION == 0x8018_66dc);
const _: () = assert!(HSM_IMPORT == 0xc030_66f5);
const _: () = assert!(FID2PATH == 0xc008_6696);
const _: () = assert!(PATH2FID == 0x8008_66ad);
const _: () = assert!(FID2MDTIDX == 0xc010_66f8);
const _: () = assert!(FUTIMES_3 == 0xc030_66b0);
