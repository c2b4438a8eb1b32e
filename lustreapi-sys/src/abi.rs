//! The C structures and constants of the HSM interface, with the kernel's names.
//!
//! Every size and offset is asserted at compile time against the layouts of Lustre 2.17 (`lustre_user.h`,
//! `lustre_kernelcomm.h`, `liblustreapi_hsm.c` on x86-64), which have not changed since 2.10 except where said. All
//! integers are native-endian.

#![allow(non_camel_case_types)]
#![allow(missing_docs)] // The fields carry the kernel's own names.

use core::ffi::{c_char, c_int, c_uint};
use core::mem::{align_of, offset_of, size_of};

/// Asserts the size, alignment and field offsets of a structure at compile time.
macro_rules! layout {
    ($type:ty, size $size:literal, align $align:literal, $($field:ident $offset:literal),+ $(,)?) => {
        const _: () = {
            assert!(size_of::<$type>() == $size);
            assert!(align_of::<$type>() == $align);
            $(assert!(offset_of!($type, $field) == $offset);)+
        };
    };
}

/// A file identifier on the wire. [`crate::Fid`] is the form to work with.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct lu_fid {
    pub f_seq: u64,
    pub f_oid: u32,
    pub f_ver: u32,
}
layout!(lu_fid, size 16, align 1, f_seq 0, f_oid 8, f_ver 12);

/// A byte range. A whole file is offset 0, length [`EXTENT_EOF`].
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct hsm_extent {
    pub offset: u64,
    pub length: u64,
}
layout!(hsm_extent, size 16, align 1, offset 0, length 8);

/// One action of a list; `hai_data` follows, and is not terminated by a NUL.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hsm_action_item {
    /// Exact length of header and data: the next item starts at the next multiple of 8.
    pub hai_len: u32,
    pub hai_action: u32,
    pub hai_fid: lu_fid,
    pub hai_dfid: lu_fid,
    pub hai_extent: hsm_extent,
    pub hai_cookie: u64,
    pub hai_gid: u64,
}
layout!(hsm_action_item, size 72, align 1, hai_len 0, hai_action 4, hai_fid 8, hai_dfid 24, hai_extent 40,
    hai_cookie 56, hai_gid 64);

/// Header of a list of actions; the file system's name follows, then the items, each at a multiple of 8.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hsm_action_list {
    pub hal_version: u32,
    pub hal_count: u32,
    pub hal_compound_id: u64,
    pub hal_flags: u64,
    pub hal_archive_id: u32,
    pub padding1: u32,
}
layout!(hsm_action_list, size 32, align 1, hal_version 0, hal_count 4, hal_compound_id 8, hal_flags 16,
    hal_archive_id 24, padding1 28);

/// Argument of `HSM_COPY_START` and `HSM_COPY_END`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hsm_copy {
    pub hc_data_version: u64,
    pub hc_flags: u16,
    /// A positive errno.
    pub hc_errval: u16,
    pub padding: u32,
    pub hc_hai: hsm_action_item,
}
layout!(hsm_copy, size 88, align 8, hc_data_version 0, hc_flags 8, hc_errval 10, padding 12, hc_hai 16);

/// Argument of `HSM_PROGRESS`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hsm_progress {
    pub hp_fid: lu_fid,
    pub hp_cookie: u64,
    pub hp_extent: hsm_extent,
    pub hp_flags: u16,
    /// A positive errno.
    pub hp_errval: u16,
    pub padding: u32,
}
layout!(hsm_progress, size 48, align 8, hp_fid 0, hp_cookie 16, hp_extent 24, hp_flags 40, hp_errval 42, padding 44);

/// What the client sends to the MDT for a progress or an end.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hsm_progress_kernel {
    pub hpk_fid: lu_fid,
    pub hpk_cookie: u64,
    pub hpk_extent: hsm_extent,
    pub hpk_flags: u16,
    pub hpk_errval: u16,
    pub hpk_padding1: u32,
    pub hpk_data_version: u64,
    pub hpk_padding2: u64,
}
layout!(hsm_progress_kernel, size 64, align 1, hpk_fid 0, hpk_cookie 16, hpk_extent 24, hpk_flags 40, hpk_errval 42,
    hpk_padding1 44, hpk_data_version 48, hpk_padding2 56);

/// Head of a user's request.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct hsm_request {
    pub hr_action: u32,
    pub hr_archive_id: u32,
    pub hr_flags: u64,
    pub hr_itemcount: u32,
    pub hr_data_len: u32,
}
layout!(hsm_request, size 24, align 8, hr_action 0, hr_archive_id 4, hr_flags 8, hr_itemcount 16, hr_data_len 20);

/// One file of a user's request.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hsm_user_item {
    pub hui_fid: lu_fid,
    pub hui_extent: hsm_extent,
}
layout!(hsm_user_item, size 32, align 1, hui_fid 0, hui_extent 16);

/// Argument of `HSM_REQUEST`; `hr_itemcount` items follow, then `hr_data_len` bytes of data, once for all of them.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hsm_user_request {
    pub hur_request: hsm_request,
}
layout!(hsm_user_request, size 24, align 1, hur_request 0);

/// Answer of `HSM_STATE_GET`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hsm_user_state {
    pub hus_states: u32,
    pub hus_archive_id: u32,
    pub hus_in_progress_state: u32,
    pub hus_in_progress_action: u32,
    pub hus_in_progress_location: hsm_extent,
}
layout!(hsm_user_state, size 32, align 4, hus_states 0, hus_archive_id 4, hus_in_progress_state 8,
    hus_in_progress_action 12, hus_in_progress_location 16);

/// Answer of `HSM_ACTION`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hsm_current_action {
    pub hca_state: u32,
    pub hca_action: u32,
    pub hca_location: hsm_extent,
}
layout!(hsm_current_action, size 24, align 4, hca_state 0, hca_action 4, hca_location 8);

/// Argument of `HSM_STATE_SET`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hsm_state_set {
    pub hss_valid: u32,
    pub hss_archive_id: u32,
    pub hss_setmask: u64,
    pub hss_clearmask: u64,
}
layout!(hsm_state_set, size 24, align 8, hss_valid 0, hss_archive_id 4, hss_setmask 8, hss_clearmask 16);

/// Argument of `HSM_IMPORT`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct hsm_user_import {
    pub hui_size: u64,
    pub hui_atime: u64,
    pub hui_mtime: u64,
    pub hui_atime_ns: u32,
    pub hui_mtime_ns: u32,
    pub hui_uid: u32,
    pub hui_gid: u32,
    pub hui_mode: u32,
    pub hui_archive_id: u32,
}
layout!(hsm_user_import, size 48, align 8, hui_size 0, hui_atime 8, hui_mtime 16, hui_atime_ns 24, hui_mtime_ns 28,
    hui_uid 32, hui_gid 36, hui_mode 40, hui_archive_id 44);

/// Header of a message in a copytool's pipe.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct kuc_hdr {
    pub kuc_magic: u16,
    pub kuc_transport: u8,
    pub kuc_flags: u8,
    pub kuc_msgtype: u16,
    /// Length of the message, this header included.
    pub kuc_msglen: u16,
}
layout!(kuc_hdr, size 8, align 8, kuc_magic 0, kuc_transport 2, kuc_flags 3, kuc_msgtype 4, kuc_msglen 6);

/// Argument of `HSM_CT_START`; `lk_data_count` archive ids follow when `LK_FLG_DATANR` is set.
#[repr(C, packed)]
#[derive(Clone, Copy, Debug, Default)]
pub struct lustre_kernelcomm {
    pub lk_wfd: u32,
    pub lk_rfd: u32,
    pub lk_uid: u32,
    pub lk_group: u32,
    pub lk_data_count: u32,
    pub lk_flags: u32,
}
layout!(lustre_kernelcomm, size 24, align 1, lk_wfd 0, lk_rfd 4, lk_uid 8, lk_group 12, lk_data_count 16, lk_flags 20);

/// The head of liblustreapi's `struct hsm_copytool_private`, opaque to copytools.
///
/// The action functions use only `mnt`, `mnt_fd` and `open_by_fid_fd`, so an object of this shape with another magic can
/// stand in for a registered copytool.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct hsm_copytool_private {
    pub magic: c_int,
    pub mnt: *mut c_char,
    pub kuch: *mut kuc_hdr,
    pub mnt_fd: c_int,
    pub open_by_fid_fd: c_int,
    pub kuc: *mut lustre_kernelcomm,
}
layout!(hsm_copytool_private, size 40, align 8, magic 0, mnt 8, kuch 16, mnt_fd 24, open_by_fid_fd 28, kuc 32);

/// liblustreapi's `struct hsm_copyaction_private`, opaque to copytools (since 2.12; 2.10 holds a shorter stat).
#[repr(C)]
#[derive(Clone, Copy)]
pub struct hsm_copyaction_private {
    pub magic: c_uint,
    pub source_fd: c_int,
    pub data_fd: c_int,
    pub ct_priv: *const hsm_copytool_private,
    pub copy: hsm_copy,
    pub statx: [u64; 32],
}
layout!(hsm_copyaction_private, size 368, align 8, magic 0, source_fd 4, data_fd 8, ct_priv 16, copy 24, statx 112);

/// `hsm_copytool_private.magic` of a copytool registered through the real library.
pub const CT_PRIV_MAGIC: u32 = 0xC0BE_2001;
/// `hsm_copyaction_private.magic`.
pub const CP_PRIV_MAGIC: u32 = 0x1988_0429;

/// `hsm_extent.length` of a whole file.
pub const EXTENT_EOF: u64 = u64::MAX;

// enum hsm_copytool_action
pub const HSMA_NONE: u32 = 10;
pub const HSMA_ARCHIVE: u32 = 20;
pub const HSMA_RESTORE: u32 = 21;
pub const HSMA_REMOVE: u32 = 22;
pub const HSMA_CANCEL: u32 = 23;

// enum hsm_user_action
pub const HUA_NONE: u32 = 1;
pub const HUA_ARCHIVE: u32 = 10;
pub const HUA_RESTORE: u32 = 11;
pub const HUA_RELEASE: u32 = 12;
pub const HUA_REMOVE: u32 = 13;
pub const HUA_CANCEL: u32 = 14;

// enum hsm_states
pub const HS_NONE: u32 = 0;
pub const HS_EXISTS: u32 = 0x1;
pub const HS_DIRTY: u32 = 0x2;
pub const HS_RELEASED: u32 = 0x4;
pub const HS_ARCHIVED: u32 = 0x8;
pub const HS_NORELEASE: u32 = 0x10;
pub const HS_NOARCHIVE: u32 = 0x20;
pub const HS_LOST: u32 = 0x40;
/// Since Lustre 2.16.
pub const HS_PCCRW: u32 = 0x80;
/// Since Lustre 2.16.
pub const HS_PCCRO: u32 = 0x100;

// enum hsm_progress_states
pub const HPS_NONE: u32 = 0;
pub const HPS_WAITING: u32 = 1;
pub const HPS_RUNNING: u32 = 2;
pub const HPS_DONE: u32 = 3;

/// The action has ended.
pub const HP_FLAG_COMPLETED: u16 = 1;
/// The action failed and may be tried again.
pub const HP_FLAG_RETRY: u16 = 2;

// hr_flags, hal_flags
pub const HSM_FORCE_ACTION: u64 = 1;
pub const HSM_GHOST_COPY: u64 = 2;
/// A user process is blocked on this restore (LU-18940, since Lustre 2.17).
pub const HSM_REQ_BLOCKING: u64 = 4;

/// `hsm_action_list.hal_version`.
pub const HAL_VERSION: u32 = 1;
/// The largest action list, in bytes (the LNet MTU).
pub const HAL_MAXSIZE: usize = 1 << 20;
/// The longest file system name.
pub const LUSTRE_MAXFSNAME: usize = 8;
/// How many archive ids one copytool may register.
pub const LL_HSM_MAX_ARCHIVES_PER_AGENT: usize = 1024;

/// `kuc_hdr.kuc_magic`.
pub const KUC_MAGIC: u16 = 0x191C;
pub const KUC_TRANSPORT_GENERIC: u8 = 1;
pub const KUC_TRANSPORT_HSM: u8 = 2;
/// Message type of the generic transport: the client is being unmounted.
pub const KUC_MSG_SHUTDOWN: u16 = 1;
/// Message type of the HSM transport: an action list.
pub const HMT_ACTION_LIST: u16 = 100;
pub const KUC_GRP_HSM: u32 = 2;
pub const LK_FLG_STOP: u32 = 1;
pub const LK_FLG_DATANR: u32 = 2;
pub const LK_NOFD: u32 = u32::MAX;

// hss_valid
pub const HSS_SETMASK: u32 = 1;
pub const HSS_CLEARMASK: u32 = 2;
pub const HSS_ARCHIVE_ID: u32 = 4;
