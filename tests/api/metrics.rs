//! Metrics: what they count, and when.

use crate::harness::{DEADLINE, Server, Site, both_modes, wait_for};

/// Counts; `/eval` evaluates an expression over `r`, the request metrics, and `p`, the process metrics.
const COUNTING: &str = r#"
import os
import mod_wsgi

mod_wsgi.start_recording_metrics()

def application(environ, start_response):
    path = environ["PATH_INFO"]
    if path == "/eval":
        names = {"p": mod_wsgi.process_metrics()}
        if "r[" in environ["HTTP_X_EXPRESSION"]:
            names["r"] = mod_wsgi.request_metrics()
        body = repr(eval(environ["HTTP_X_EXPRESSION"], names)).encode()
        start_response("200 OK", [])
        return [body]
    if path == "/raise":
        raise ValueError("raised for a test")
    environ["wsgi.input"].read()
    if path == "/wait":
        with open(os.environ["TEST_SCRATCH"] + "/began", "w") as file:
            file.write("began")
        with open(os.environ["TEST_SCRATCH"] + "/pipe") as pipe:
            pipe.read()
    start_response("404 Not Found" if path == "/missing" else "200 OK", [])
    return iter([b"x" * 100, b"y" * 50])
"#;

/// One process, which has begun to count.
fn counting(site: Site) -> Server {
    let server = site.conf("ServerLimit 1\nMaxRequestWorkers 8").source("/", COUNTING).start();
    server.get("/").expect(200);
    settle(&server);
    // What came with the first requests is not looked at.
    ask(&server, "r['pid'] and 0");
    server
}

/// Waits for requests that their clients think are over.
fn settle(server: &Server) {
    let settled = wait_for(DEADLINE, || (ask(server, "p['active_requests']") == "1").then_some(()));
    assert!(settled.is_some(), "there are requests that do not end");
}

#[track_caller]
fn ask(server: &Server, expression: &str) -> String {
    let headers = [("X-Expression", expression)];
    server.client().request("GET", "/eval", &headers, b"").expect(200).text()
}

both_modes!(nothing_is_told_before_recording_begins, |site| {
    let server = site.app("evaluate.py").start();
    let expression = "[getattr(__import__('mod_wsgi'), name)() for name in \
                      ('request_metrics', 'process_metrics', 'server_metrics')]";
    let headers = [("X-Expression", expression)];
    let reply = server.client().request("GET", "/", &headers, b"").expect(200);
    assert_eq!(reply.text(), "[None, None, None]");
});

both_modes!(requests_are_counted_once, |site| {
    let server = counting(site);
    let mut client = server.client();
    client.post("/", b"twenty bytes of body").expect(200);
    client.get("/missing").expect(404);
    client.get("/raise").expect(500);
    server.expect_log("raised for a test");
    settle(&server);
    let found = ask(
        &server,
        "[r[k] for k in ('status_1xx', 'status_3xx', 'status_4xx', 'status_5xx', 'input_bytes', \
         'output_bytes')]",
    );
    // Whoever asked was answered by a few bytes.
    let numbers: Vec<u64> = found
        .trim_matches(['[', ']'])
        .split(", ")
        .map(|number| number.parse().expect("a number"))
        .collect();
    assert_eq!(numbers[..5], [0, 0, 1, 1, 20], "{found}");
    assert!((300..450).contains(&numbers[5]), "{found}");
    settle(&server);
    ask(&server, "r['pid'] and 0");
    // The next window knows nothing of that.
    let next = ask(&server, "[r['status_4xx'], r['input_bytes'], r['output_bytes'] < 100]");
    assert_eq!(next, "[0, 0, True]");
});

both_modes!(windows_follow_each_other, |site| {
    let server = counting(site);
    let stop: f64 = ask(&server, "r['stop_time']").parse().expect("a time");
    let next = ask(
        &server,
        "[r['start_time'], r['sample_period'] > 0, r['stop_time'] >= r['start_time']]",
    );
    assert_eq!(next, format!("[{stop}, True, True]"));
});

both_modes!(requests_in_progress_are_seen, |site| {
    let server = counting(site);
    let pipe = server.path("scratch/pipe");
    let made = std::process::Command::new("mkfifo").args(["-m", "666"]).arg(&pipe).status();
    assert!(made.expect("run mkfifo").success());
    let mut waiting = server.client();
    waiting.send_request("GET", "/wait", &[], b"");
    server.wait_for_file("scratch/began", "began");
    // The one that waits, and the one that asks.
    let active = wait_for(DEADLINE, || (ask(&server, "p['active_requests']") == "2").then_some(()));
    assert!(active.is_some());
    let found = ask(
        &server,
        "[r['request_threads_active'] >= 2, sum(t > 0 for t in r['request_threads_current_elapsed']) >= 2, \
         sum(r['request_threads_busy_time']) > 0, 0 < r['capacity_utilization'] <= 1]",
    );
    assert_eq!(found, "[True, True, True, True]");
    std::fs::write(&pipe, b"go on").expect("write into a pipe");
    waiting.read_response().expect(200);
});

both_modes!(sums_agree_with_each_other, |site| {
    let server = counting(site);
    for _ in 0..5 {
        server.get("/").expect(200);
    }
    settle(&server);
    for (expression, expected) in [
        (
            "(lambda n: [sum(r[k + '_buckets']) for k in ('server_time', 'application_time', \
             'request_time', 'input_read_time', 'output_write_time', 'gil_wait_time')] == [n] * 6 \
             and sum(r['request_threads_completed']) == n and n >= 5)(r['request_count'])",
            "True",
        ),
        ("r['application_time_min_us'] <= r['application_time_max_us']", "True"),
        ("r['request_threads_buckets'] == r['request_threads_completed']", "True"),
        (
            "abs(r['cpu_utilization'] - r['cpu_user_utilization'] - r['cpu_system_utilization']) < 1e-9",
            "True",
        ),
        ("1000000 < p['memory_rss'] <= p['memory_max_rss']", "True"),
        ("p['request_count'] == sum(t['request_count'] for t in p['threads']) >= 7", "True"),
        ("0 <= p['running_time'] < 600 and p['request_busy_time'] > 0", "True"),
    ] {
        assert_eq!(ask(&server, expression), expected, "{expression}");
    }
});

#[test]
fn the_scoreboard_is_shown_where_that_is_allowed() {
    let server = Site::new("scoreboard")
        .mount("/main", "api.py", "application-group=%{GLOBAL}")
        .mount("/sub", "api.py", "application-group=sub")
        .conf("WSGIServerMetrics On\nExtendedStatus On")
        .start();
    for place in ["/main", "/sub"] {
        let found = server.get(&format!("{place}/server_metrics")).expect(200).text();
        assert_eq!(found, "as it should be", "{place}");
    }
}

both_modes!(the_scoreboard_is_not_shown_otherwise, |site| {
    let server = site.mount("/", "api.py", "").start();
    assert_eq!(server.get("/server_metrics").expect(200).text(), "nothing");
});
