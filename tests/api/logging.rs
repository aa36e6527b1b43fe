//! `mod_wsgi.LogHandler`: Python's logging in httpd's error log.

use crate::harness::{Record, Server, Site, both_modes};

const LOGGING: &str = r#"
import logging
import threading
import mod_wsgi

class Formatter(logging.Formatter):
    def format(self, record):
        if record.threadName != "outside":
            formatted.append(record.levelname)
        return super().format(record)

formatted = []
handler = mod_wsgi.LogHandler()
handler.setFormatter(Formatter("%(name)s says %(message)s"))
log = logging.getLogger("test-log")
log.addHandler(handler)
log.setLevel(logging.DEBUG)

def outside():
    log.warning("from outside")

def application(environ, start_response):
    del formatted[:]
    log.debug("at debug")
    log.info("at info")
    log.warning("at warning")
    log.error("at error\nin two lines")
    log.critical("at critical")
    thread = threading.Thread(target=outside, name="outside")
    thread.start()
    thread.join()
    start_response("200 OK", [])
    return [" ".join(formatted).encode()]
"#;

fn record(server: &Server, part: &str) -> Record {
    let mut found = server.records().into_iter().filter(|record| record.line.contains(part));
    let record = found.next().unwrap_or_else(|| panic!("no '{part}' in {}", server.log()));
    assert_eq!(found.count(), 0, "'{part}' is there twice");
    record
}

both_modes!(records_keep_their_level, |site| {
    let server = site.source("/", LOGGING).start();
    server.get("/").expect(200);
    server.expect_log("test-log says at critical");
    server.expect_log("test-log says from outside");
    server.allow_log("test-log");
    server.allow_log("in two lines");
    for (part, level) in [
        ("test-log says at info", "info"),
        ("test-log says at warning", "warn"),
        ("test-log says at error", "error"),
        ("in two lines", "error"),
        ("test-log says at critical", "crit"),
    ] {
        let record = record(&server, part);
        assert_eq!((record.module.as_str(), record.level.as_str()), ("wsgi", level), "{part}");
        assert_ne!(record.request, "-", "{part}");
    }
    assert_eq!(record(&server, "from outside").request, "-");
    assert!(!server.log().contains("at debug"), "LogLevel is info");
});

both_modes!(what_is_not_logged_is_not_formatted, |site| {
    let server = site.source("/", LOGGING).conf("LogLevel info wsgi:error").start();
    assert_eq!(server.get("/").expect(200).text(), "ERROR CRITICAL");
    server.allow_log("test-log");
    server.allow_log("in two lines");
});

#[test]
fn records_say_where_they_were_made() {
    let server = Site::new("log-source")
        .source("/", LOGGING)
        .conf("<VirtualHost 127.0.0.1:@port@>\nErrorLog logs/places.log")
        .conf("ErrorLogFormat \"%F|%M\"\n</VirtualHost>")
        .start();
    server.get("/").expect(200);
    server.allow_log("test-log");
    server.allow_log("in two lines");
    let text = server.read("logs/places.log");
    assert!(text.lines().any(|line| line == "source-0.py(26)|test-log says at warning"), "{text}");
}

both_modes!(records_go_to_the_log_of_the_virtual_host, |site| {
    let server = site
        .source("/", LOGGING)
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName one\nErrorLog logs/one-error.log")
        .conf("</VirtualHost>")
        .start();
    server.client().host("one").get("/").expect(200);
    server.expect_log_in("one-error.log", "test-log says at critical");
    server.allow_log("test-log");
    server.allow_log("in two lines");
    assert!(!server.log().contains("at critical"), "{}", server.log());
});
