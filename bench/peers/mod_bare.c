/* The limit that the benchmark compares with: an httpd handler without any application server. It
 * answers every workload with the status, headers and bytes of the WSGI programs in bench/apps.
 *
 * BareFile PATH names the file of the `file` workload. */

#include "httpd.h"
#include "http_config.h"
#include "http_core.h"
#include "http_protocol.h"
#include "http_request.h"
#include "apr_strings.h"

module AP_MODULE_DECLARE_DATA bare_module;

#define HELLO "Hello World!"
#define JSON_SIZE 10240
#define BYTES_SIZE (10 * 1024 * 1024)
#define BLOCK_SIZE 1024
#define BLOCKS 1000

static char json[JSON_SIZE];
static char *bytes;
static const char *file_path;

static const char *set_file(cmd_parms *cmd, void *unused, const char *path)
{
    file_path = path;
    return NULL;
}

static const command_rec commands[] = {
    AP_INIT_TAKE1("BareFile", set_file, NULL, RSRC_CONF, "the file of the `file` workload"),
    { NULL }
};

static int post_config(apr_pool_t *conf, apr_pool_t *log, apr_pool_t *temp, server_rec *s)
{
    size_t fill;

    /* The same text as bench/apps/json_app.py builds. */
    fill = apr_snprintf(json, sizeof(json), "{\"items\": \"");
    memset(json + fill, 'x', sizeof(json) - fill - 2);
    memcpy(json + sizeof(json) - 2, "\"}", 2);
    bytes = apr_palloc(conf, BYTES_SIZE);
    memset(bytes, 'x', BYTES_SIZE);
    return OK;
}

static int send_bytes(request_rec *r, const char *type, const char *data, int size)
{
    ap_set_content_type(r, type);
    ap_set_content_length(r, size);
    ap_rwrite(data, size, r);
    return OK;
}

static int send_stream(request_rec *r)
{
    int i;

    ap_set_content_type(r, "text/plain");
    for (i = 0; i < BLOCKS; i++) {
        if (ap_rwrite(bytes, BLOCK_SIZE, r) < 0 || ap_rflush(r) < 0)
            break;
    }
    return OK;
}

static int send_file(request_rec *r)
{
    apr_file_t *file;
    apr_finfo_t info;
    apr_size_t sent;

    if (apr_file_open(&file, file_path, APR_READ | APR_FOPEN_SENDFILE_ENABLED, 0, r->pool)
            != APR_SUCCESS
        || apr_file_info_get(&info, APR_FINFO_SIZE, file) != APR_SUCCESS)
        return HTTP_NOT_FOUND;
    ap_set_content_type(r, "application/octet-stream");
    ap_set_content_length(r, info.size);
    ap_send_fd(file, r, 0, info.size, &sent);
    return OK;
}

static int take_upload(request_rec *r)
{
    apr_bucket_brigade *bb = apr_brigade_create(r->pool, r->connection->bucket_alloc);
    apr_off_t total = 0;
    int finished = 0;
    char *answer;

    while (!finished) {
        apr_bucket *b;

        if (ap_get_brigade(r->input_filters, bb, AP_MODE_READBYTES, APR_BLOCK_READ, 65536)
            != APR_SUCCESS)
            return HTTP_BAD_REQUEST;
        for (b = APR_BRIGADE_FIRST(bb); b != APR_BRIGADE_SENTINEL(bb); b = APR_BUCKET_NEXT(b)) {
            const char *data;
            apr_size_t size;

            if (APR_BUCKET_IS_EOS(b)) {
                finished = 1;
                break;
            }
            if (APR_BUCKET_IS_METADATA(b))
                continue;
            if (apr_bucket_read(b, &data, &size, APR_BLOCK_READ) != APR_SUCCESS)
                return HTTP_BAD_REQUEST;
            total += size;
        }
        apr_brigade_cleanup(bb);
    }
    answer = apr_psprintf(r->pool, "%" APR_OFF_T_FMT, total);
    return send_bytes(r, "text/plain", answer, (int)strlen(answer));
}

static int handler(request_rec *r)
{
    if (!r->handler || strcmp(r->handler, "bare"))
        return DECLINED;
    if (!strcmp(r->uri, "/hello"))
        return send_bytes(r, "text/plain", HELLO, sizeof(HELLO) - 1);
    if (!strcmp(r->uri, "/json"))
        return send_bytes(r, "application/json", json, sizeof(json));
    if (!strcmp(r->uri, "/bytes"))
        return send_bytes(r, "application/octet-stream", bytes, BYTES_SIZE);
    if (!strcmp(r->uri, "/stream"))
        return send_stream(r);
    if (!strcmp(r->uri, "/file"))
        return send_file(r);
    if (!strcmp(r->uri, "/upload"))
        return take_upload(r);
    return HTTP_NOT_FOUND;
}

static void register_hooks(apr_pool_t *pool)
{
    ap_hook_post_config(post_config, NULL, NULL, APR_HOOK_MIDDLE);
    ap_hook_handler(handler, NULL, NULL, APR_HOOK_MIDDLE);
}

AP_DECLARE_MODULE(bare) = {
    STANDARD20_MODULE_STUFF, NULL, NULL, NULL, NULL, commands, register_hooks
};
