//! Finds httpd's and APR's headers, writes the raw bindings and compiles the shim.
//!
//! Where to look, first hit wins: the variables `HTTPD_INCLUDE` and `APR_INCLUDE` (folders, several
//! separated by `:`), then the program named by `APXS`, then `apxs` and `apxs2` on the path; for APR
//! `apr-1-config` and `apu-1-config`.

use std::env;
use std::error::Error;
use std::ffi::OsStr;
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::process::Command;

const FUNCTIONS: &[&str] = &[
    "ap_add_version_component",
    "ap_allow_options",
    "ap_bucket_error_create",
    "ap_check_cmd_context",
    "ap_context_document_root",
    "ap_context_prefix",
    "ap_document_root",
    "ap_escape_html2",
    "ap_exists_config_define",
    "ap_find_path_info",
    "ap_get_brigade",
    "ap_get_conn_socket",
    "ap_get_core_module_config",
    "ap_exists_scoreboard_image",
    "ap_get_limit_req_body",
    "ap_get_request_module_loglevel",
    "ap_get_scoreboard_global",
    "ap_get_scoreboard_process",
    "ap_get_scoreboard_worker_from_indexes",
    "ap_get_server_module_loglevel",
    "ap_get_module_config",
    "ap_get_remote_host",
    "ap_get_server_banner",
    "ap_get_server_built",
    "ap_get_server_description",
    "ap_get_server_name_for_url",
    "ap_get_server_port",
    "ap_get_server_revision",
    "ap_get_status_line",
    "ap_remove_output_filter",
    "ap_hook_check_access",
    "ap_hook_check_config",
    "ap_hook_child_init",
    "ap_hook_child_status",
    "ap_hook_handler",
    "ap_hook_monitor",
    "ap_hook_optional_fn_retrieve",
    "ap_hook_post_config",
    "ap_hook_test_config",
    "ap_hook_translate_name",
    "ap_mpm_query",
    "ap_pass_brigade",
    "ap_pregsub",
    "ap_psignature",
    "ap_regcomp",
    "ap_regerror",
    "ap_regexec",
    "ap_regfree",
    "ap_register_auth_provider",
    "ap_run_generate_log_id",
    "ap_run_http_scheme",
    "ap_satisfies",
    "ap_set_content_length",
    "ap_set_content_type",
    "ap_set_module_config",
    "ap_server_root_relative",
    "ap_show_mpm",
    "ap_state_query",
    "ap_walk_config",
    "apr_brigade_cleanup",
    "apr_brigade_create",
    "apr_brigade_insert_file",
    "apr_bucket_eos_create",
    "apr_bucket_file_enable_mmap",
    "apr_bucket_flush_create",
    "apr_bucket_transient_create",
    "apr_dynamic_fn_retrieve",
    "apr_file_dup",
    "apr_hash_get",
    "apr_os_file_put",
    "apr_os_sock_get",
    "apr_palloc",
    "apr_pool_cleanup_null",
    "apr_pool_cleanup_register",
    "apr_pool_pre_cleanup_register",
    "apr_pool_userdata_get",
    "apr_pool_userdata_setn",
    "apr_proc_other_child_register",
    "apr_socket_timeout_get",
    "apr_strerror",
    "apr_table_add",
    "apr_table_elts",
    "apr_table_get",
    "apr_table_setn",
    "apr_uri_unparse",
];

const TYPES: &[&str] = &[
    "ap_directive_t",
    "ap_filter_t",
    "ap_filter_rec_t",
    "ap_regex_t",
    "ap_release_t",
    "apr_bucket",
    "apr_bucket_brigade",
    "apr_file_t",
    "apr_off_t",
    "apr_pool_t",
    "apr_proc_t",
    "apr_read_type_e",
    "apr_size_t",
    "apr_status_t",
    "apr_table_entry_t",
    "apr_table_t",
    "apr_time_t",
    "apr_uri_t",
    "authn_provider",
    "authn_status",
    "authz_provider",
    "authz_status",
    "cmd_parms",
    "command_rec",
    "conn_rec",
    "core_dir_config",
    "gid_t",
    "global_score",
    "module",
    "mpm_child_status",
    "process_score",
    "request_rec",
    "server_rec",
    "uid_t",
    "worker_score",
];

const VARIABLES: &[&str] = &[
    "ACCESS_CONF",
    "AP_AUTH_INTERNAL_PER_URI",
    "AP_MAX_REG_MATCH",
    "AP_MPMQ_IS_FORKED",
    "AP_MPMQ_IS_THREADED",
    "AP_MPMQ_MAX_DAEMON_USED",
    "AP_MPMQ_MAX_DAEMONS",
    "AP_MPMQ_MAX_THREADS",
    "AP_MPMQ_NOT_SUPPORTED",
    "AP_REG_.*",
    "AP_REQ_REJECT_PATH_INFO",
    "AP_SQ_MAIN_STATE",
    "AP_SQ_MS_CREATE_PRE_CONFIG",
    "AP_SQ_RM_CONFIG_TEST",
    "APR_FOPEN_READ",
    "APR_FOPEN_SENDFILE_ENABLED",
    "APR_HOOK_.*",
    "APR_OC_REASON_DEATH",
    "APR_OC_REASON_LOST",
    "GLOBAL_ONLY",
    "APLOG_STARTUP",
    "AUTH_.*",
    "AUTHN_PROVIDER_.*",
    "AUTHZ_.*",
    "DECLINED",
    "MODULE_MAGIC_COOKIE",
    "MODULE_MAGIC_NUMBER_MAJOR",
    "MODULE_MAGIC_NUMBER_MINOR",
    "OK",
    "OPT_EXECCGI",
    "OR_AUTHCFG",
    "OR_FILEINFO",
    "REMOTE_HOST",
    "RSRC_CONF",
    "SATISFY_ANY",
    "ap_run_mode",
    "ap_conftree",
    "ap_server_conf",
];

fn main() -> Result<(), Box<dyn Error>> {
    for name in ["APXS", "HTTPD_INCLUDE", "APR_INCLUDE", "LIBCLANG_PATH", "LLVM_CONFIG_PATH"] {
        println!("cargo:rerun-if-env-changed={name}");
    }
    for file in ["build.rs", "src/sys/wrapper.h", "src/sys/shim.c"] {
        println!("cargo:rerun-if-changed={file}");
    }
    let folders = include_folders()?;
    bind(&folders)?;
    compile(&folders);
    // Never unmapped: httpd loads modules anew with every reload, while statics of Rust and threads of
    // Python still refer to this one.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,nodelete");
    Ok(())
}

fn include_folders() -> Result<Vec<PathBuf>, String> {
    let mut folders = match env::var_os("HTTPD_INCLUDE") {
        Some(given) => env::split_paths(&given).collect(),
        None => vec![httpd_folder()?],
    };
    check(&folders, "httpd.h", HTTPD_HINT)?;
    folders.extend(match env::var_os("APR_INCLUDE") {
        Some(given) => env::split_paths(&given).collect::<Vec<_>>(),
        None => apr_folders(),
    });
    check(&folders, "apr_pools.h", APR_HINT)?;
    check(&folders, "apr_buckets.h", APR_HINT)?;
    Ok(folders)
}

const HTTPD_HINT: &str = "Install httpd's development files: apt install apache2-dev (Debian, Ubuntu), \
    dnf install httpd-devel (Fedora, RHEL, Rocky), zypper install apache2-devel (SUSE), \
    apk add apache2-dev (Alpine); or name the program in APXS, or the folder in HTTPD_INCLUDE.";

const APR_HINT: &str = "Install APR's development files: apt install libapr1-dev libaprutil1-dev \
    (Debian, Ubuntu), dnf install apr-devel apr-util-devel (Fedora, RHEL, Rocky), zypper install \
    apr-devel apr-util-devel (SUSE), apk add apr-dev apr-util-dev (Alpine); or name the folders in \
    APR_INCLUDE.";

const CLANG_HINT: &str = "Reading httpd's headers needs libclang. Install it: apt install libclang-dev \
    (Debian, Ubuntu), dnf install clang-devel (Fedora, RHEL, Rocky), zypper install clang-devel (SUSE), \
    apk add clang-dev (Alpine); or name its folder in LIBCLANG_PATH.";

fn httpd_folder() -> Result<PathBuf, String> {
    let given = env::var_os("APXS");
    let names: Vec<&OsStr> = match &given {
        Some(name) => vec![name],
        None => vec![OsStr::new("apxs"), OsStr::new("apxs2")],
    };
    names.iter().find_map(|name| answer(name, &["-q", "INCLUDEDIR"])).map(PathBuf::from).ok_or_else(
        || match &given {
            Some(name) => {
                format!(
                    "APXS={} does not answer -q INCLUDEDIR. {HTTPD_HINT}",
                    name.to_string_lossy()
                )
            }
            None => format!("apxs was not found. {HTTPD_HINT}"),
        },
    )
}

fn apr_folders() -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = ["apr-1-config", "apu-1-config"]
        .iter()
        .filter_map(|name| answer(OsStr::new(name), &["--includedir"]))
        .map(PathBuf::from)
        .collect();
    folders.dedup();
    folders
}

/// The first line that a program prints; `None` if it is not there, fails or prints nothing.
fn answer(program: &OsStr, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let line = String::from_utf8(output.stdout).ok()?.lines().next()?.trim().to_owned();
    (output.status.success() && !line.is_empty()).then_some(line)
}

fn check(folders: &[PathBuf], header: &str, hint: &str) -> Result<(), String> {
    if folders.iter().any(|folder| folder.join(header).is_file()) {
        return Ok(());
    }
    let searched: Vec<_> = folders.iter().map(|folder| folder.display().to_string()).collect();
    Err(format!("{header} was not found in [{}]. {hint}", searched.join(", ")))
}

fn bind(folders: &[PathBuf]) -> Result<(), Box<dyn Error>> {
    let mut builder = bindgen::Builder::default()
        .header("src/sys/wrapper.h")
        .clang_args(folders.iter().map(|folder| format!("-I{}", folder.display())))
        // As apr-1-config --cppflags says on every Linux; without it file offsets are 32 bits on some.
        .clang_args(["-D_GNU_SOURCE", "-D_LARGEFILE64_SOURCE"])
        .layout_tests(false)
        .derive_copy(true)
        .derive_debug(false)
        .generate_comments(false)
        .default_enum_style(bindgen::EnumVariation::Consts)
        .prepend_enum_name(false)
        .default_macro_constant_type(bindgen::MacroTypeVariation::Signed)
        .rust_target(bindgen::RustTarget::stable(85, 0).map_err(|fault| fault.to_string())?);
    for name in FUNCTIONS {
        builder = builder.allowlist_function(name);
    }
    for name in TYPES {
        builder = builder.allowlist_type(name);
    }
    for name in VARIABLES {
        builder = builder.allowlist_var(name);
    }
    let bindings = panic::catch_unwind(AssertUnwindSafe(|| builder.generate()))
        .map_err(|_| CLANG_HINT.to_owned())?
        .map_err(|fault| format!("httpd's headers cannot be read: {fault}"))?;
    let out = env::var_os("OUT_DIR").ok_or("OUT_DIR is not set: run this through cargo")?;
    bindings.write_to_file(Path::new(&out).join("bindings.rs"))?;
    Ok(())
}

fn compile(folders: &[PathBuf]) {
    cc::Build::new()
        .file("src/sys/shim.c")
        .includes(folders)
        .define("_GNU_SOURCE", None)
        .define("_LARGEFILE64_SOURCE", None)
        .warnings(true)
        .compile("mod_wsgi_rs_shim");
}
