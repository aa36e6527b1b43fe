//! Floor 0: httpd and APR as they are. Only `crate::apache` may name this room.
//!
//! The declarations come from the headers found by `build.rs`; nothing here is written twice.

#![allow(unsafe_code, reason = "raw declarations")]

pub(crate) mod constants;

/// What bindgen made of httpd's and APR's headers.
#[allow(
    missing_docs,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    unreachable_pub,
    dead_code,
    clippy::all,
    clippy::undocumented_unsafe_blocks,
    unsafe_op_in_unsafe_fn,
    unnecessary_transmutes,
    reason = "generated code keeps the names and habits of C"
)]
mod bindings {
    include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
}

pub(crate) use bindings::*;

use std::ffi::{c_char, c_int};

// Implemented in shim.c; see there for the macro that each function stands for.
unsafe extern "C" {
    pub(crate) fn mwrs_log_request(
        file: *const c_char,
        line: c_int,
        module_index: c_int,
        level: c_int,
        r: *const request_rec,
        length: c_int,
        text: *const c_char,
    );
    pub(crate) fn mwrs_log_server(
        file: *const c_char,
        line: c_int,
        module_index: c_int,
        level: c_int,
        s: *const server_rec,
        length: c_int,
        text: *const c_char,
    );
    pub(crate) fn mwrs_server_logs(index: c_int, level: c_int, s: *const server_rec) -> c_int;
    pub(crate) fn mwrs_brigade_append(brigade: *mut apr_bucket_brigade, bucket: *mut apr_bucket);
    pub(crate) fn mwrs_brigade_first(brigade: *mut apr_bucket_brigade) -> *mut apr_bucket;
    pub(crate) fn mwrs_bucket_delete(bucket: *mut apr_bucket);
    pub(crate) fn mwrs_bucket_read(
        bucket: *mut apr_bucket,
        data: *mut *const c_char,
        length: *mut apr_size_t,
    ) -> apr_status_t;
    pub(crate) fn mwrs_bucket_is_eos(bucket: *mut apr_bucket) -> c_int;
    pub(crate) fn mwrs_bucket_is_metadata(bucket: *mut apr_bucket) -> c_int;
    pub(crate) fn mwrs_identity(user: *mut *const c_char, uid: *mut uid_t, gid: *mut gid_t);
    pub(crate) fn mwrs_running_magic_minor() -> c_int;
    pub(crate) fn mwrs_core_sendfile(core: *const core_dir_config) -> c_int;
    pub(crate) fn mwrs_core_cgi_pass_auth(core: *const core_dir_config) -> c_int;
    pub(crate) fn mwrs_core_qualify_redirect_url(core: *const core_dir_config) -> c_int;
}

// Sizes that the code above relies on. The same structures are read in every httpd 2.4: they only ever
// grew at their ends, and what is newer than 2.4.0 is reached through `constants` by magic number.
const _: () = {
    assert!(size_of::<apr_off_t>() == 8);
    assert!(size_of::<apr_time_t>() == 8);
    assert!(size_of::<apr_size_t>() == size_of::<usize>());
    assert!(size_of::<uid_t>() == 4 && size_of::<gid_t>() == 4);
    assert!(MODULE_MAGIC_NUMBER_MAJOR == 20_120_211);
    assert!(std::mem::offset_of!(module, version) == 0);
    assert!(std::mem::offset_of!(apr_table_entry_t, val) == size_of::<usize>());
};
