//! Malformed, misleading and merely unusual requests, byte by byte, and the answers that are right.
//!
//! Most of them are httpd's to refuse. They are here because a module that reads bodies and closes
//! connections is in the middle of it: every answer must carry the token of its own request, and the word
//! `smuggled` stands in places that must never be taken for a request.

use crate::harness::Reply;

/// One connection: what is sent, and what comes back.
#[derive(Debug)]
pub struct Exchange {
    /// A name for messages.
    pub name: &'static str,
    /// What the client sends, all at once.
    pub bytes: Vec<u8>,
    /// Whether it says then that nothing more will come.
    pub half_closed: bool,
    /// The answers, in order.
    pub answers: Vec<Answer>,
    /// What becomes of the connection.
    pub then: Then,
}

/// The connection after the last answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    /// The server closes it, and sends nothing more.
    Closed,
    /// It serves on.
    Open,
    /// As the last answer's `Connection` header says: what httpd makes of it differs by version.
    AsSaid,
}

/// One answer.
#[derive(Debug)]
pub enum Answer {
    /// The good application answers the request with this token; its lines have these in them, and do
    /// not have those.
    Echo(&'static str, Vec<&'static str>, Vec<&'static str>),
    /// The same for HEAD: status 200 and no body.
    Head,
    /// A whole answer with one of these statuses, which is not from the application.
    Status(&'static [u16]),
    /// One of these statuses, or the end of the connection.
    Maybe(&'static [u16]),
    /// Status 200 and a body that is visibly broken off.
    Cut,
    /// No status line at all: everything up to the close has this text.
    Bare(&'static str),
}

impl Answer {
    /// Whether this is the answer to a HEAD request.
    pub fn to_head(&self) -> bool {
        matches!(self, Self::Head)
    }

    /// Compares what came with what is right.
    pub fn check(&self, reply: &Reply) -> Result<(), String> {
        let fault = |what: &str| {
            Err(format!(
                "{what}, {self:?} wanted: {} complete: {}\n{}",
                reply.status,
                reply.complete,
                reply.text()
            ))
        };
        if reply.text().contains("smuggled") && reply.status == 200 && !self.may_name_it() {
            return fault("a smuggled request was answered");
        }
        match self {
            Self::Echo(token, has, lacks) => {
                if reply.status != 200 || !reply.complete {
                    return fault("not answered");
                }
                if reply.field("token").as_deref() != Some(token) {
                    return fault("another request's answer");
                }
                let text = reply.text();
                if let Some(line) = has.iter().find(|line| !text.contains(**line)) {
                    return fault(&format!("without {line:?}"));
                }
                if let Some(line) = lacks.iter().find(|line| text.contains(**line)) {
                    return fault(&format!("with {line:?}"));
                }
            }
            Self::Cut if reply.status != 200 || reply.complete => return fault("not cut"),
            Self::Head if reply.status != 200 => return fault("not answered"),
            Self::Status(statuses) | Self::Maybe(statuses) => {
                if !statuses.contains(&reply.status) {
                    return fault("another status");
                }
            }
            Self::Head | Self::Cut | Self::Bare(_) => {}
        }
        Ok(())
    }

    // A body may well have the word in it, as long as it is the body of the request that was meant.
    fn may_name_it(&self) -> bool {
        matches!(self, Self::Echo(_, has, _) if has.iter().any(|line| line.contains("smuggled")))
    }
}

/// What httpd and the good application write about all this.
pub const COMPLAINTS: &[&str] = &[
    "AH10244: invalid URI path",
    "LimitRequestBody",
    "Transfer-Encoding '",
    "call_raises broke",
    "next_raises_late",
];

const BAD: &[u16] = &[400];

fn exchange(name: &'static str, bytes: impl Into<Vec<u8>>) -> Exchange {
    Exchange {
        name,
        bytes: bytes.into(),
        half_closed: false,
        answers: Vec::new(),
        then: Then::Closed,
    }
}

impl Exchange {
    fn answer(mut self, answer: Answer) -> Self {
        self.answers.push(answer);
        self
    }

    fn echo(self, token: &'static str) -> Self {
        self.answer(Answer::Echo(token, Vec::new(), Vec::new()))
    }

    fn echo_body(self, token: &'static str, body: &'static str) -> Self {
        self.answer(Answer::Echo(token, vec![body], Vec::new()))
    }

    fn status(self, statuses: &'static [u16]) -> Self {
        self.answer(Answer::Status(statuses))
    }

    fn maybe(self, statuses: &'static [u16]) -> Self {
        self.answer(Answer::Maybe(statuses))
    }

    fn half_closed(mut self) -> Self {
        self.half_closed = true;
        self
    }

    fn if_said(mut self) -> Self {
        self.then = Then::AsSaid;
        self
    }

    fn open(mut self) -> Self {
        self.then = Then::Open;
        self
    }
}

/// `GET /echo?token=1` with further header lines, each ended by CRLF.
fn get(name: &'static str, lines: &str) -> Exchange {
    exchange(name, format!("GET /echo?token=1 HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n"))
}

/// `POST /echo?token=1` with further header lines and a body.
fn post(name: &'static str, lines: &str, body: &str) -> Exchange {
    exchange(name, format!("POST /echo?token=1 HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n{body}"))
}

/// A request that is well-formed but for its first line.
fn line(name: &'static str, line: &str) -> Exchange {
    exchange(name, format!("{line}\r\nHost: localhost\r\n\r\n"))
}

/// What a request looks like that must never be answered.
const SMUGGLED: &str = "GET /echo?token=smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";

/// Bodies that are framed by Transfer-Encoding.
const CHUNKED: &str = "Transfer-Encoding: chunked\r\n";

/// All of them.
pub fn all() -> Vec<Exchange> {
    let mut all = request_lines();
    all.extend(header_lines());
    all.extend(lengths());
    all.extend(chunks());
    all.extend(pipelines());
    all
}

fn request_lines() -> Vec<Exchange> {
    let long = "a".repeat(9000);
    vec![
        line("empty_word", "GET  HTTP/1.1").status(BAD),
        line("no_protocol_word", "GET /echo?token=1 ").answer(Answer::Bare("token=1\n")),
        line("method_odd", "G@T(ever) /echo?token=1 HTTP/1.1").status(BAD),
        line("method_lowercase", "get /echo?token=1 HTTP/1.1")
            .answer(Answer::Echo("1", vec!["method=get"], vec![]))
            .open(),
        line("method_unknown", "FROBNICATE /echo?token=1 HTTP/1.1").echo("1").open(),
        line("method_huge", &format!("{long} / HTTP/1.1")).status(&[400, 414]),
        line("leading_blank", " GET /echo?token=1 HTTP/1.1").status(BAD),
        line("tabs_between_words", "GET\t/echo?token=1\tHTTP/1.1").status(BAD),
        line("two_blanks", "GET  /echo?token=1  HTTP/1.1").status(BAD),
        line("four_words", "GET /echo?token=1 x HTTP/1.1").status(BAD),
        line("version_missing_number", "GET /echo?token=1 HTTP/").status(BAD),
        line("version_words", "GET /echo?token=1 HTTP/one.one").status(BAD),
        line("version_2", "GET /echo?token=1 HTTP/2.0").status(&[200, 400, 505]).if_said(),
        line("version_other_protocol", "GET /echo?token=1 ICY/1.1").status(BAD),
        line("version_lowercase", "GET /echo?token=1 http/1.1").status(BAD),
        line("target_no_slash", "GET echo?token=1 HTTP/1.1").status(BAD),
        line("target_star", "GET * HTTP/1.1").status(BAD),
        line("target_absolute", "GET http://localhost/echo?token=1 HTTP/1.1").echo("1").open(),
        line("target_other_host", "GET http://elsewhere.test/echo?token=1 HTTP/1.1")
            .answer(Answer::Echo("1", vec!["HTTP_HOST='elsewhere.test'"], vec![]))
            .open(),
        line("target_userinfo", "GET http://u:p@localhost/echo?token=1 HTTP/1.1").status(BAD),
        line("target_bad_port", "GET http://localhost:99999999/echo?token=1 HTTP/1.1")
            .status(&[200, 400])
            .if_said(),
        line("target_bad_escape", "GET /echo/%zz?token=1 HTTP/1.1").status(BAD),
        line("target_half_escape", "GET /echo/%4?token=1 HTTP/1.1").status(BAD),
        line("target_nul_escape", "GET /echo/%00?token=1 HTTP/1.1").status(&[400, 404]).if_said(),
        line("target_slash_escape", "GET /echo/a%2fb?token=1 HTTP/1.1").status(&[404]).open(),
        line("target_dots", "GET /echo/../../../etc/passwd?token=1 HTTP/1.1").status(BAD),
        line("target_dots_escaped", "GET /echo/%2e%2e/%2e%2e/etc/passwd HTTP/1.1")
            .status(&[400, 403, 404]),
        line("target_dots_inside", "GET /nowhere/../echo/./x/..//y?token=1 HTTP/1.1")
            .echo_body("1", "path=/y\n")
            .open(),
        line("target_overlong_utf8", "GET /echo/%c0%af%c0%ae?token=1 HTTP/1.1").echo("1").open(),
        line("target_crlf_escape", "GET /echo/%0d%0aX-Injected:%20yes?token=1 HTTP/1.1")
            .echo("1")
            .open(),
        line("target_fragment", "GET /echo?token=1#frag HTTP/1.1").status(&[200, 400]).if_said(),
        line("target_too_long", &format!("GET /echo/{long}?token=1 HTTP/1.1")).status(&[414]),
        exchange(
            "target_raw_bytes",
            &b"GET /echo/\xff\xfe?token=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        )
        .status(&[200, 400])
        .if_said(),
        exchange(
            "target_raw_nul",
            &b"GET /echo/\0?token=1 HTTP/1.1\r\nHost: localhost\r\n\r\n"[..],
        )
        .status(BAD),
        exchange("old_0_9", "GET /echo?token=1\r\n").answer(Answer::Bare("token=1\n")),
        exchange("old_1_0", "GET /echo?token=1 HTTP/1.0\r\n\r\n").echo("1"),
        exchange(
            "old_1_0_keepalive",
            "GET /echo?token=1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n\
             GET /echo?token=2 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        )
        .echo("1")
        .echo("2")
        .open(),
        exchange(
            "old_1_0_chunked",
            format!("POST /echo?token=1 HTTP/1.0\r\n{CHUNKED}\r\n0\r\n\r\n"),
        )
        .status(&[200, 400, 411, 501]),
        exchange("http2_preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .status(&[400, 405, 501, 505]),
        exchange("tls_hello", &b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n"[..])
            .maybe(BAD)
            .half_closed(),
        exchange(
            "empty_lines_first",
            "\r\n\r\nGET /echo?token=1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
        )
        .echo("1")
        .open(),
        exchange("nothing_but_newlines", "\r\n".repeat(200)).maybe(BAD).half_closed(),
        exchange("nothing", "").half_closed(),
        exchange("half_a_line", "GET /echo?token=1 HT").maybe(BAD).half_closed(),
        exchange("half_a_head", "GET /echo?token=1 HTTP/1.1\r\nHost: local")
            .maybe(BAD)
            .half_closed(),
        exchange("bare_newlines", "GET /echo?token=1 HTTP/1.1\nHost: localhost\n\n")
            .status(&[200, 400]),
        exchange("bare_return", "GET /echo?token=1 HTTP/1.1\rHost: localhost\r\r")
            .maybe(BAD)
            .half_closed(),
    ]
}

fn header_lines() -> Vec<Exchange> {
    let long = "v".repeat(9000);
    let many = (0..200).map(|n| format!("X-{n}: v\r\n")).collect::<String>();
    vec![
        exchange("no_host", "GET /echo?token=1 HTTP/1.1\r\n\r\n").status(BAD),
        get("two_hosts", "Host: elsewhere\r\n").status(BAD),
        exchange("odd_host", "GET /echo?token=1 HTTP/1.1\r\nHost: a b/c\r\n\r\n").status(BAD),
        get("no_colon", "Not a header\r\n").status(BAD),
        get("empty_name", ": value\r\n").status(BAD),
        get("blank_before_colon", "Content-Length : 5\r\n").status(BAD),
        get("blank_in_name", "X A: 1\r\n").status(BAD),
        get("odd_name", "X(A): 1\r\n").status(BAD),
        get("folded_first", " folded: yes\r\n").status(&[200, 400]),
        get("folded", "X-Fold: a\r\n b\r\n\tc\r\n").echo_body("1", "HTTP_X_FOLD='a b c'").open(),
        get("nul_in_value", "X-Nul: a\0b\r\n").status(BAD),
        get("return_in_value", "X-Return: a\rb\r\n").status(BAD),
        get("control_in_value", "X-Control: a\x07b\r\n").status(BAD),
        exchange(
            "latin1_in_value",
            &b"GET /echo?token=1 HTTP/1.1\r\nHost: localhost\r\nX-High: \xe9\xff\r\n\r\n"[..],
        )
        .echo_body("1", "HTTP_X_HIGH=")
        .open(),
        get("underscore", "X_Token: evil\r\nX-Token: good\r\n")
            .answer(Answer::Echo("1", vec!["HTTP_X_TOKEN='good'"], vec!["evil"]))
            .open(),
        get("underscore_alone", "Remote_User: root\r\nX_Forwarded_For: 1.2.3.4\r\n")
            .answer(Answer::Echo("1", vec![], vec!["REMOTE_USER", "1.2.3.4"]))
            .open(),
        get("dot_in_name", "X.Token: evil\r\n")
            .answer(Answer::Echo("1", vec![], vec!["evil"]))
            .open(),
        get("proxy", "Proxy: http://evil/\r\n")
            .answer(Answer::Echo("1", vec![], vec!["HTTP_PROXY", "evil"]))
            .open(),
        get("same_name_twice", "X-Twice: 1\r\nx-twice: 2\r\n")
            .echo_body("1", "HTTP_X_TWICE='1, 2'")
            .open(),
        get("line_too_long", &format!("X-Long: {long}\r\n")).status(BAD),
        get("too_many", &many).status(BAD),
        get("empty_value", "X-Empty:\r\n").echo_body("1", "HTTP_X_EMPTY=''").open(),
        get("expect_unknown", "Expect: miracles\r\n").status(&[417]),
        post("expect_without_body", "Expect: 100-continue\r\nContent-Length: 0\r\n", "")
            .echo("1")
            .if_said(),
        post("expect_and_body_at_once", "Expect: 100-continue\r\nContent-Length: 3\r\n", "abc")
            .echo_body("1", "body=abc\n")
            .open(),
        get("upgrade_unknown", "Upgrade: websocket\r\nConnection: Upgrade\r\n").echo("1").open(),
        get("connection_hides_header", "Connection: X-Gone\r\nX-Gone: 1\r\n").echo("1").open(),
        get("connection_close", "Connection: close\r\n").echo("1"),
        get("range_of_nothing", "Range: bytes=9999999999-1,a-b,,--\r\n").echo("1").open(),
        get("condition_odd", "If-Modified-Since: never\r\nIf-None-Match: \"\r\n").echo("1").open(),
    ]
}

fn lengths() -> Vec<Exchange> {
    let refused: &[u16] = &[400, 413];
    vec![
        post("length_negative", "Content-Length: -1\r\n", SMUGGLED).status(BAD),
        post("length_word", "Content-Length: ten\r\n", SMUGGLED).status(BAD),
        post("length_plus", "Content-Length: +3\r\n", "abc").status(BAD),
        post("length_hex", "Content-Length: 0x3\r\n", "abc").status(BAD),
        post("length_fraction", "Content-Length: 3.0\r\n", "abc").status(BAD),
        post("length_list", "Content-Length: 3, 3\r\n", "abc").status(BAD),
        post("length_twice_same", "Content-Length: 3\r\nContent-Length: 3\r\n", "abc").status(BAD),
        post("length_twice", &format!("Content-Length: 0\r\nContent-Length: {}\r\n", SMUGGLED.len()), SMUGGLED)
            .status(BAD),
        post("length_empty", "Content-Length:\r\n", SMUGGLED).status(BAD),
        post("length_overflow", &format!("Content-Length: {}\r\n", "9".repeat(40)), "abc")
            .status(refused),
        post("length_over_limit", "Content-Length: 1000001\r\n", "abc").status(&[413]),
        post("length_just_below_2_63", "Content-Length: 9223372036854775807\r\n", "abc")
            .status(&[413]),
        post("length_short", "Content-Length: 10\r\n", "abc").maybe(&[200, 400, 408, 500]).half_closed(),
        post("length_short_unread", "Content-Length: 10\r\n", "abc").maybe(&[200, 400, 408, 500])
            .half_closed(),
        exchange(
            "length_short_not_read",
            "POST /echo?token=1&read=none HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
        )
        .echo("1")
        .half_closed(),
        exchange(
            "length_short_half_read",
            "POST /echo?token=1&read=2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc",
        )
        .echo("1")
        .half_closed(),
        post("no_length", "", SMUGGLED)
            .echo_body("1", "length=0\n")
            .answer(Answer::Echo("smuggled", vec!["token=smuggled"], vec![]))
            .open(),
        get("get_with_body", "Content-Length: 3\r\n").maybe(&[200, 400, 408, 500]).half_closed(),
        exchange(
            "head_with_body",
            "HEAD /echo?token=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
        )
        .answer(Answer::Head)
        .open(),
        exchange(
            "trace_with_body",
            "TRACE /echo?token=1 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc",
        )
        .status(&[200, 400, 405, 413]),
        exchange("options_star", "OPTIONS * HTTP/1.1\r\nHost: localhost\r\n\r\n").maybe(&[200]).open(),
        exchange("connect", "CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .status(&[400, 403, 404, 405, 501]).if_said(),
    ]
}

fn chunks() -> Vec<Exchange> {
    let refused: &[u16] = &[200, 400, 413, 500];
    let both = format!("{CHUNKED}Content-Length: {}\r\n", SMUGGLED.len());
    vec![
        post("chunks_good", CHUNKED, "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
            .echo_body("1", "body=abcde\n")
            .open(),
        post("chunks_trailer", CHUNKED, "3\r\nabc\r\n0\r\nX-Sum: 1\r\nHost: smuggled\r\n\r\n")
            .answer(Answer::Echo("1", vec!["body=abc\n"], vec!["smuggled"]))
            .open(),
        post("chunks_extension", CHUNKED, "3;name=value;q=\"x y\"\r\nabc\r\n0;last\r\n\r\n")
            .echo_body("1", "body=abc\n")
            .open(),
        post("chunks_leading_zeros", CHUNKED, "0000000000000003\r\nabc\r\n0\r\n\r\n")
            .status(&[200, 400, 413])
            .if_said(),
        post("chunks_upper_hex", CHUNKED, "A\r\n0123456789\r\n0\r\n\r\n")
            .echo_body("1", "body=0123456789\n")
            .open(),
        post("chunk_size_word", CHUNKED, "xyz\r\nabc\r\n0\r\n\r\n").status(refused),
        post("chunk_size_negative", CHUNKED, "-3\r\nabc\r\n0\r\n\r\n").status(refused),
        post("chunk_size_0x", CHUNKED, "0x3\r\nabc\r\n0\r\n\r\n").status(refused),
        post("chunk_size_empty", CHUNKED, "\r\nabc\r\n0\r\n\r\n").status(refused),
        post("chunk_size_overflow", CHUNKED, "ffffffffffffffffff\r\nabc\r\n0\r\n\r\n")
            .status(refused),
        post("chunk_size_2_63", CHUNKED, "8000000000000000\r\nabc\r\n0\r\n\r\n").status(refused),
        post("chunk_too_long", CHUNKED, &format!("3\r\nabcdef\r\n0\r\n\r\n{SMUGGLED}"))
            .status(refused),
        post("chunk_without_newline", CHUNKED, "3\r\nabc0\r\n\r\n").maybe(refused).half_closed(),
        post("chunk_bare_newline", CHUNKED, "3\nabc\n0\n\n").maybe(refused).half_closed(),
        post("chunk_truncated", CHUNKED, "5\r\nabc").maybe(refused).half_closed(),
        post("chunk_size_truncated", CHUNKED, "5").maybe(refused).half_closed(),
        post("chunk_last_missing", CHUNKED, "3\r\nabc\r\n").maybe(refused).half_closed(),
        post("chunk_end_truncated", CHUNKED, "3\r\nabc\r\n0\r\n").maybe(refused).half_closed(),
        post(
            "chunk_extension_huge",
            CHUNKED,
            &format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(10000)),
        )
        .status(refused),
        post(
            "chunks_over_limit",
            CHUNKED,
            &format!("{:x}\r\n{}\r\n0\r\n\r\n", 1_000_001, "a".repeat(1_000_001)),
        )
        .maybe(&[200, 413, 500]),
        post("both_framings", &both, &format!("0\r\n\r\n{SMUGGLED}")).status(&[200, 400]),
        post("coding_unknown", "Transfer-Encoding: gzip\r\n", "abc").status(&[400, 501]),
        post("coding_identity", "Transfer-Encoding: identity\r\nContent-Length: 3\r\n", "abc")
            .status(&[400, 501]),
        post("coding_two", "Transfer-Encoding: gzip, chunked\r\n", "0\r\n\r\n").status(&[400, 501]),
        post("coding_not_last", "Transfer-Encoding: chunked, gzip\r\n", "0\r\n\r\n")
            .status(&[400, 501]),
        post("coding_twice", &format!("{CHUNKED}{CHUNKED}"), "0\r\n\r\n").status(&[400, 501]),
        post("coding_prefix", "Transfer-Encoding: xchunked\r\n", "0\r\n\r\n").status(&[400, 501]),
        post("coding_suffix", "Transfer-Encoding: chunkedx\r\n", "0\r\n\r\n").status(&[400, 501]),
        post("coding_tab", "Transfer-Encoding:\tchunked\r\n", "3\r\nabc\r\n0\r\n\r\n")
            .echo_body("1", "body=abc\n")
            .open(),
        post("coding_upper", "Transfer-Encoding: CHUNKED\r\n", "3\r\nabc\r\n0\r\n\r\n")
            .echo_body("1", "body=abc\n")
            .open(),
        post("coding_quoted", "Transfer-Encoding: \"chunked\"\r\n", "0\r\n\r\n")
            .status(&[400, 501]),
        post("coding_folded", "Transfer-Encoding:\r\n chunked\r\n", "3\r\nabc\r\n0\r\n\r\n")
            .status(&[200, 400, 501])
            .if_said(),
        post("coding_blank_name", "Transfer-Encoding : chunked\r\n", "0\r\n\r\n").status(BAD),
        post("coding_underscore", "Transfer_Encoding: chunked\r\nContent-Length: 3\r\n", "abc")
            .echo_body("1", "body=abc\n")
            .open(),
    ]
}

fn pipelines() -> Vec<Exchange> {
    let good = |token: u8, read: &str| {
        format!(
            "POST /echo?token={token}&read={read} HTTP/1.1\r\nHost: localhost\r\n\
             Content-Length: {}\r\n\r\n{SMUGGLED}",
            SMUGGLED.len()
        )
    };
    let chunked = |token: u8, read: &str| {
        format!(
            "POST /echo?token={token}&read={read} HTTP/1.1\r\nHost: localhost\r\n{CHUNKED}\r\n\
             {:x}\r\n{SMUGGLED}\r\n0\r\n\r\n",
            SMUGGLED.len()
        )
    };
    let in_body = "body=GET /echo?token=smuggled";
    let unread = |read: &str| (1..=5).map(|token| good(token, read)).collect::<String>();
    let five = |exchange: Exchange| {
        ["1", "2", "3", "4", "5"].into_iter().fold(exchange, Exchange::echo).open()
    };
    let big = "b".repeat(900_000);
    vec![
        five(exchange("bodies_not_read", unread("none"))),
        exchange("bodies_half_read", good(1, "20") + &good(2, "20"))
            .echo_body("1", "body=GET /echo?token=smug")
            .echo_body("2", "body=GET /echo?token=smug")
            .open(),
        exchange("bodies_read", good(1, "all") + &good(2, "all"))
            .answer(Answer::Echo("1", vec![in_body], vec![]))
            .answer(Answer::Echo("2", vec![in_body], vec![]))
            .open(),
        exchange("chunked_not_read", chunked(1, "none") + &chunked(2, "none"))
            .echo("1")
            .echo("2")
            .open(),
        exchange("chunked_half_read", chunked(1, "30") + &chunked(2, "all"))
            .answer(Answer::Echo("1", vec![in_body], vec![]))
            .answer(Answer::Echo("2", vec![in_body], vec![]))
            .open(),
        exchange(
            "big_body_not_read",
            format!(
                "POST /echo?token=1&read=none HTTP/1.1\r\nHost: localhost\r\n\
                 Content-Length: 900000\r\n\r\n{big}{}",
                good(2, "none")
            ),
        )
        .echo("1")
        .echo("2")
        .open(),
        exchange("garbage_after_post", good(1, "none") + "garbage\r\n\r\n").echo("1").status(BAD),
        exchange("garbage_after_read_post", good(1, "all") + "\0\0\0\r\n\r\n")
            .answer(Answer::Echo("1", vec![in_body], vec![]))
            .status(BAD),
        exchange("close_in_the_middle", {
            "GET /echo?token=1 HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_owned()
                + SMUGGLED
        })
        .echo("1"),
        exchange("error_in_the_middle", {
            good(1, "all")
                + "GET /case/call_raises.py HTTP/1.1\r\nHost: localhost\r\n\r\n"
                + SMUGGLED
        })
        .answer(Answer::Echo("1", vec![in_body], vec![]))
        .status(&[500]),
        exchange("cut_in_the_middle", {
            "GET /case/next_raises_late.py HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned()
                + SMUGGLED
        })
        .answer(Answer::Cut),
        exchange("gets_then_half_closed", {
            (1..=3)
                .map(|n| format!("GET /echo?token={n} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
                .collect::<String>()
        })
        .echo("1")
        .echo("2")
        .echo("3")
        .half_closed(),
    ]
}
