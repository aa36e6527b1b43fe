/*
 * What bindgen cannot express: macros and variadic functions of httpd and APR. Each function names the
 * macro or the variadic function it stands for and does nothing else.
 */
#include "wrapper.h"

_Static_assert(sizeof(apr_off_t) == 8, "large file support is required");
_Static_assert(sizeof(apr_time_t) == 8, "times are 64 bits of microseconds");
_Static_assert(MODULE_MAGIC_NUMBER_MAJOR == 20120211, "httpd 2.4 is required");

/* ap_log_rerror_, variadic. Text is data, never a format. */
void mwrs_log_request(const char *file, int line, int module_index, int level, const request_rec *r,
                      int length, const char *text)
{
    ap_log_rerror_(file, line, module_index, level, 0, r, "%.*s", length, text);
}

/* ap_log_error_, variadic. */
void mwrs_log_server(const char *file, int line, int module_index, int level, const server_rec *s,
                     int length, const char *text)
{
    ap_log_error_(file, line, module_index, level, 0, s, "%.*s", length, text);
}

/* APLOG_MODULE_IS_LEVEL */
int mwrs_server_logs(int module_index, int level, const server_rec *s)
{
    return APLOG_MODULE_IS_LEVEL(s, module_index, level);
}

/* APR_BRIGADE_INSERT_TAIL */
void mwrs_brigade_append(apr_bucket_brigade *brigade, apr_bucket *bucket)
{
    APR_BRIGADE_INSERT_TAIL(brigade, bucket);
}

/* APR_BRIGADE_FIRST, with NULL for APR_BRIGADE_SENTINEL */
apr_bucket *mwrs_brigade_first(apr_bucket_brigade *brigade)
{
    return APR_BRIGADE_EMPTY(brigade) ? NULL : APR_BRIGADE_FIRST(brigade);
}

/* apr_bucket_delete */
void mwrs_bucket_delete(apr_bucket *bucket)
{
    apr_bucket_delete(bucket);
}

/* apr_bucket_read, blocking */
apr_status_t mwrs_bucket_read(apr_bucket *bucket, const char **data, apr_size_t *length)
{
    return apr_bucket_read(bucket, data, length, APR_BLOCK_READ);
}

/* APR_BUCKET_IS_EOS */
int mwrs_bucket_is_eos(apr_bucket *bucket)
{
    return APR_BUCKET_IS_EOS(bucket);
}

/* APR_BUCKET_IS_METADATA */
int mwrs_bucket_is_metadata(apr_bucket *bucket)
{
    return APR_BUCKET_IS_METADATA(bucket);
}

/* ap_unixd_config: the User and Group that httpd's children run as */
void mwrs_identity(const char **user, uid_t *uid, gid_t *gid)
{
    *user = ap_unixd_config.user_name;
    *uid = ap_unixd_config.user_id;
    *gid = ap_unixd_config.group_id;
}

/* core_module.minor_version of the httpd that runs, not of the headers seen here (STANDARD20_MODULE_STUFF) */
int mwrs_running_magic_minor(void)
{
    return core_module.minor_version;
}

/* Bit-fields of core_dir_config */
int mwrs_core_sendfile(const core_dir_config *core)
{
    return core->enable_sendfile != ENABLE_SENDFILE_OFF;
}

/* AP_CGI_PASS_AUTH_ON */
int mwrs_core_cgi_pass_auth(const core_dir_config *core)
{
    return core->cgi_pass_auth == AP_CGI_PASS_AUTH_ON;
}

/* AP_CORE_CONFIG_ON for QualifyRedirectURL */
int mwrs_core_qualify_redirect_url(const core_dir_config *core)
{
    return core->qualify_redirect_url == AP_CORE_CONFIG_ON;
}
