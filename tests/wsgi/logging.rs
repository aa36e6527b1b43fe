//! `wsgi.errors`, `sys.stderr`, `print` and tracebacks: where they go and how they read.

use std::thread;

use crate::harness::{Record, Server, Site, both_modes};

/// Names of the log lines with this text, in order.
fn lines(server: &Server, part: &str) -> Vec<String> {
    let found = server.records().into_iter().filter(|record| record.line.contains(part));
    found.map(|record| record.text().to_owned()).collect()
}

/// The lines of one traceback, from its first to the exception; panics when another line is between.
#[track_caller]
fn traceback(records: &[Record], exception: &str) -> Vec<String> {
    let last = records.iter().position(|record| record.text().starts_with(exception));
    let last = last.unwrap_or_else(|| panic!("no line starts with '{exception}'"));
    let first = records[..last]
        .iter()
        .rposition(|record| record.text().starts_with("Traceback (most recent call last)"))
        .expect("the beginning of a traceback");
    let own = &records[first..=last];
    for record in own {
        assert_eq!(record.thread, own[0].thread, "a line of another thread: {}", record.line);
        assert_eq!(record.request, own[0].request, "a line of another request: {}", record.line);
        assert_eq!((record.module.as_str(), record.level.as_str()), ("wsgi", "error"));
    }
    own.iter().map(|record| record.text().to_owned()).collect()
}

const TALKING: &str = r#"
import sys

def application(environ, start_response):
    word = environ["QUERY_STRING"]
    errors = environ["wsgi.errors"]
    errors.write("written " + word + "\n")
    errors.writelines(["lines ", word, "\n"])
    print("printed to errors", word, file=errors)
    print("printed to stderr", word, file=sys.stderr)
    print("printed", word)
    errors.write("two " + word + "\nlines " + word + "\n")
    errors.write("unfinished " + word)
    start_response("200 OK", [])
    return [b""]
"#;

both_modes!(output_goes_to_the_log_of_the_virtual_host, |site| {
    let server = site
        .conf("Listen 127.0.0.1:@tls@")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName one\nErrorLog logs/one-error.log")
        .conf("WSGIScriptAlias / @apps@/source-0.py\n</VirtualHost>")
        .conf("<VirtualHost 127.0.0.1:@port@>\nServerName two\nErrorLog logs/two-error.log")
        .conf("WSGIScriptAlias / @apps@/source-0.py\n</VirtualHost>")
        .source("/unused", TALKING)
        .start();
    for host in ["one", "two"] {
        server.client().host(host).get(&format!("/?for-{host}")).expect(200);
        server.expect_log_in(&format!("{host}-error.log"), &format!("unfinished for-{host}"));
        server.allow_log(&format!("for-{host}"));
    }
    for (host, other) in [("one", "two"), ("two", "one")] {
        let text = server.read(&format!("logs/{host}-error.log"));
        let found = text.lines().filter(|line| line.contains(&format!("for-{host}"))).count();
        assert_eq!(found, 8, "{text}");
        assert!(!text.contains(&format!("for-{other}")), "{text}");
    }
    assert!(!server.log().contains(" for-"), "{}", server.log());
});

both_modes!(lines_come_one_by_one_and_in_order, |site| {
    let server = site.source("/", TALKING).start();
    server.get("/?mark").expect(200);
    server.expect_log("unfinished mark");
    server.allow_log("mark");
    let expected = [
        "written mark",
        "lines mark",
        "printed to errors mark",
        "printed to stderr mark",
        "printed mark",
        "two mark",
        "lines mark",
        "unfinished mark",
    ];
    assert_eq!(lines(&server, " mark"), expected);
    for record in server.records().iter().filter(|record| record.line.contains(" mark")) {
        assert_eq!((record.module.as_str(), record.level.as_str()), ("wsgi", "error"));
        assert_ne!(record.request, "-", "written outside the request");
    }
});

both_modes!(flush_ends_a_line, |site| {
    let server = site
        .source(
            "/",
            r#"
def application(environ, start_response):
    errors = environ["wsgi.errors"]
    errors.write("first half")
    errors.flush()
    errors.write("second half")
    errors.flush()
    start_response("200 OK", [])
    return []
"#,
        )
        .start();
    server.get("/").expect(200);
    server.expect_log("second half");
    server.allow_log("first half");
    assert_eq!(lines(&server, " half"), ["first half", "second half"]);
});

both_modes!(errors_is_a_text_stream, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    for (expression, result) in [
        ("[e.write('wrote\\n'), e.flush()]", "[6, None]"),
        ("[e.writable(), e.readable(), e.isatty()]", "[True, False, False]"),
        ("e.encoding.lower()", "'utf-8'"),
        ("e.buffer.write(b'bytes\\n')", "6"),
        ("caught(e.fileno).split(':')[0] in ('OSError', 'UnsupportedOperation')", "True"),
        ("e.write('caf\\u00e9 \\u20ac \\udc80\\n')", "9"),
    ] {
        let reply = client.request("GET", "/", &[("X-Expression", expression)], b"").expect(200);
        assert_eq!(reply.text(), result, "{expression}");
    }
    server.expect_log("wrote");
    server.expect_log("bytes");
    // httpd escapes what is not ASCII in its logs.
    server.expect_log(r"caf\xc3\xa9 \xe2\x82\xac ");
});

both_modes!(long_lines_are_not_lost, |site| {
    let server = site
        .source(
            "/",
            r#"
def application(environ, start_response):
    print("begin " + "x" * 50000 + " end", file=environ["wsgi.errors"])
    start_response("200 OK", [])
    return []
"#,
        )
        .start();
    server.get("/").expect(200);
    server.expect_log("begin xxx");
    server.expect_log("xxx end");
    server.allow_log("xxxx");
});

both_modes!(errors_are_refused_after_the_request, |site| {
    let server = site.app("evaluate.py").start();
    let mut client = server.client();
    let mut ask = |expression: &str| {
        client.request("GET", "/", &[("X-Expression", expression)], b"").expect(200).text()
    };
    assert_eq!(ask("kept.append(e)"), "None");
    for call in ["write('late\\n')", "writelines(['late\\n'])"] {
        let result = ask(&format!("kept[0].{call}"));
        assert!(result.contains("RuntimeError: "), "{call}: {result}");
    }
    assert!(!server.log().contains("late"), "{}", server.log());
});

both_modes!(output_outside_a_request_goes_to_the_server, |site| {
    let server = site
        .conf("<VirtualHost 127.0.0.1:@port@>\nErrorLog logs/host-error.log")
        .conf("WSGIScriptAlias / @apps@/source-0.py\n</VirtualHost>")
        .source(
            "/unused",
            r#"
import sys
import threading

def speak():
    print("from a thread")
    print("also from a thread", file=sys.stderr)

def application(environ, start_response):
    thread = threading.Thread(target=speak)
    thread.start()
    thread.join()
    start_response("200 OK", [])
    return []
"#,
        )
        .start();
    server.get("/").expect(200);
    server.expect_log("also from a thread");
    server.expect_log("from a thread");
});

const FAILING: &str = r#"
def deep(level, word):
    if level:
        deep(level - 1, word)
        return "not in one expression, so that every level has its line"
    raise ValueError("broken " + word)

def application(environ, start_response):
    word = environ["QUERY_STRING"]
    try:
        deep(10, word)
    except ValueError:
        raise KeyError("chained " + word)
"#;

both_modes!(traceback_is_one_readable_record, |site| {
    let server = site.source("/", FAILING).start();
    let reply = server.get("/?alpha").expect(500);
    assert!(!reply.text().contains("Traceback"), "{}", reply.text());
    assert!(!reply.text().contains("alpha"), "{}", reply.text());
    server.expect_log("KeyError: 'chained alpha'");
    server.allow_log("ValueError: broken alpha");
    let records = server.records();
    let inner = traceback(&records, "ValueError: broken alpha");
    assert!(inner.iter().any(|line| line.contains("in deep")), "{inner:?}");
    assert!(inner.iter().any(|line| line.contains("deep(level - 1, word)")), "{inner:?}");
    let outer = traceback(&records, "KeyError: 'chained alpha'");
    assert!(outer.iter().any(|line| line.contains("in application")), "{outer:?}");
    // No line of it is squeezed into another.
    assert!(!server.log().contains(r"\n"), "{}", server.log());
});

both_modes!(tracebacks_of_many_threads_do_not_mix, |site| {
    // One process: between processes only the operating system could keep lines together.
    let conf = "ServerLimit 1\nMaxRequestWorkers 8";
    let server = site.source("/", FAILING).conf(conf).start();
    server.allow_log("alpha");
    thread::scope(|scope| {
        for number in 0..8 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.client();
                for round in 0..20 {
                    let reply = client.get(&format!("/?alpha-{number}-{round}-")).expect(500);
                    client.settle(&reply);
                }
            });
        }
    });
    server.expect_log("KeyError: 'chained alpha-7-19-'");
    let records = server.records();
    for number in 0..8 {
        for round in 0..20 {
            let word = format!("alpha-{number}-{round}-");
            traceback(&records, &format!("ValueError: broken {word}"));
            traceback(&records, &format!("KeyError: 'chained {word}'"));
        }
    }
});

both_modes!(traceback_goes_to_the_log_of_the_virtual_host, |site| {
    let server = site
        .conf("<VirtualHost 127.0.0.1:@port@>\nErrorLog logs/host-error.log")
        .conf("WSGIScriptAlias / @apps@/source-0.py\n</VirtualHost>")
        .source("/unused", FAILING)
        .start();
    server.get("/?alpha").expect(500);
    server.expect_log_in("host-error.log", "KeyError: 'chained alpha'");
    server.allow_log("alpha");
    assert!(!server.log().contains("alpha"), "{}", server.log());
});

#[test]
fn log_level_of_the_server_is_respected() {
    let server = Site::new("log-level").app("hello.py").conf("LogLevel warn wsgi:debug").start();
    server.get("/").expect(200);
    let own = server.records().iter().filter(|record| record.module == "wsgi").count();
    assert!(own > 0, "nothing of ours at level debug: {}", server.log());

    let server = Site::new("log-level").app("hello.py").conf("LogLevel warn").start();
    server.get("/").expect(200);
    let own = server.records().iter().filter(|record| record.module == "wsgi").count();
    assert_eq!(own, 0, "{}", server.log());
}
