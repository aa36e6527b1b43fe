//! Values of macros that bindgen does not evaluate, and the magic numbers of what is newer than 2.4.0.

use std::ffi::c_int;

/// httpd 2.4.13: `cgi_pass_auth` in `core_dir_config`; `qualify_redirect_url` shares its word.
pub(crate) const MAGIC_CGI_PASS_AUTH: c_int = 44;
/// httpd 2.4.21: `cgi_var_rules` in `core_dir_config`
pub(crate) const MAGIC_CGI_VAR_RULES: c_int = 58;
/// httpd 2.4.35: `client64` in `worker_score`
pub(crate) const MAGIC_CLIENT64: c_int = 83;
/// httpd 2.4.47: `read_buf_size` in `core_dir_config`
pub(crate) const MAGIC_READ_BUF_SIZE: c_int = 97;

/// `APLOG_CRIT`
pub(crate) const APLOG_CRIT: c_int = 2;
/// `APLOG_ERR`
pub(crate) const APLOG_ERR: c_int = 3;
/// `APLOG_WARNING`
pub(crate) const APLOG_WARNING: c_int = 4;
/// `APLOG_INFO`
pub(crate) const APLOG_INFO: c_int = 6;
/// `APLOG_DEBUG`
pub(crate) const APLOG_DEBUG: c_int = 7;

/// `APR_SUCCESS`
pub(crate) const APR_SUCCESS: c_int = 0;
/// `AP_FILTER_ERROR`: a filter has already answered the request.
pub(crate) const AP_FILTER_ERROR: c_int = -102;
/// `APR_EGENERAL`
pub(crate) const APR_EGENERAL: c_int = 20_014;
/// `APR_TIMEUP`
pub(crate) const APR_TIMEUP: c_int = 70_007;
/// `APR_INCOMPLETE`
pub(crate) const APR_INCOMPLETE: c_int = 70_008;
/// `APR_EOF`
pub(crate) const APR_EOF: c_int = 70_014;
