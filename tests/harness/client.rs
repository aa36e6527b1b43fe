//! An HTTP/1.1 client that shows what is on the wire: raw bytes in, framing checked on the way out.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};

use super::DEADLINE;

/// One keep-alive connection.
pub struct Client {
    stream: TcpStream,
    host: String,
    pending: Vec<u8>,
    ended: bool,
}

/// One response, as far as it came.
#[derive(Debug, Clone, Default)]
pub struct Reply {
    /// Status code.
    pub status: u16,
    /// What follows the code on the status line.
    pub reason: String,
    /// Header lines in order; bytes above 127 read as Latin-1.
    pub headers: Vec<(String, String)>,
    /// The body, without chunk framing.
    pub body: Vec<u8>,
    /// Chunk sizes, when the body was chunked.
    pub chunks: Vec<usize>,
    /// Status codes of interim responses (1xx) that came before.
    pub interim: Vec<u16>,
    /// False when the body was cut: no final chunk, or fewer bytes than announced.
    pub complete: bool,
}

impl Reply {
    /// The first header of this name.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str())
    }

    /// All headers of this name, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        self.headers
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// True when the server says that it closes the connection behind this response.
    pub fn closes(&self) -> bool {
        self.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }

    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The value of `key` in a body of `key=value` lines.
    pub fn field(&self, key: &str) -> Option<String> {
        let prefix = format!("{key}=");
        self.text().lines().find_map(|line| line.strip_prefix(&prefix).map(str::to_owned))
    }

    /// The same, where it must be there.
    #[track_caller]
    pub fn value(&self, key: &str) -> String {
        self.field(key).unwrap_or_else(|| panic!("no '{key}' in: {}\n{}", self.status, self.text()))
    }

    /// Panics unless the status is this one and the response came whole.
    #[track_caller]
    pub fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "status line '{}', body:\n{}", self.reason, self.text());
        assert!(self.complete, "the response was cut after {} bytes", self.body.len());
        self
    }
}

impl Client {
    /// Connects; every read and write has a deadline.
    pub fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect_timeout(&address, DEADLINE).expect("connect to httpd");
        stream.set_read_timeout(Some(DEADLINE)).expect("read deadline");
        stream.set_write_timeout(Some(DEADLINE)).expect("write deadline");
        stream.set_nodelay(true).expect("TCP_NODELAY");
        let host = format!("localhost:{}", address.port());
        Self { stream, host, pending: Vec::new(), ended: false }
    }

    /// The `Host` header sent from now on.
    pub fn host(&mut self, host: &str) -> &mut Self {
        host.clone_into(&mut self.host);
        self
    }

    /// GET without further headers.
    #[track_caller]
    pub fn get(&mut self, target: &str) -> Reply {
        self.request("GET", target, &[], b"")
    }

    /// HEAD without further headers.
    #[track_caller]
    pub fn head(&mut self, target: &str) -> Reply {
        self.request("HEAD", target, &[], b"")
    }

    /// POST with a `Content-Length`.
    #[track_caller]
    pub fn post(&mut self, target: &str, body: &[u8]) -> Reply {
        self.request("POST", target, &[], body)
    }

    /// One request and its response. `Host` is added, and `Content-Length` where there is a body and no
    /// header frames it.
    #[track_caller]
    pub fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Reply {
        self.send_request(method, target, headers, body);
        self.read_reply_to(method)
    }

    /// The first half of [`Client::request`].
    #[track_caller]
    pub fn send_request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        let mut raw = format!("{method} {target} HTTP/1.1\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("Host")) {
            raw += &format!("Host: {}\r\n", self.host);
        }
        let framed = headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("Content-Length")
                || name.eq_ignore_ascii_case("Transfer-Encoding")
        });
        if !framed && (!body.is_empty() || method == "POST" || method == "PUT") {
            raw += &format!("Content-Length: {}\r\n", body.len());
        }
        for (name, value) in headers {
            raw += &format!("{name}: {value}\r\n");
        }
        raw += "\r\n";
        let mut bytes = raw.into_bytes();
        bytes.extend_from_slice(body);
        self.send_raw(&bytes);
    }

    /// Bytes as they are. A server that has closed already is no failure here: its answer tells.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        if let Err(fault) = self.try_send(bytes) {
            assert!(
                matches!(fault.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset),
                "sending failed: {fault}"
            );
        }
    }

    /// Bytes as they are, and whether they could be given to the kernel.
    pub fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes)
    }

    /// Says that nothing more will be sent; responses can still be read.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(Shutdown::Write).expect("shut down the sending side");
    }

    /// The next response, to a request that is not HEAD.
    #[track_caller]
    pub fn read_response(&mut self) -> Reply {
        self.read_reply_to("GET")
    }

    /// The next response to a request of this method.
    #[track_caller]
    pub fn read_reply_to(&mut self, method: &str) -> Reply {
        let mut interim = Vec::new();
        loop {
            let mut reply = self.read_head();
            if (100..200).contains(&reply.status) && reply.status != 101 {
                interim.push(reply.status);
                continue;
            }
            reply.interim = interim;
            self.read_body(&mut reply, method);
            return reply;
        }
    }

    /// The head of the next response, interim ones included; its body is still to come.
    #[track_caller]
    pub fn read_head(&mut self) -> Reply {
        let line = self.read_line().expect("the connection ended before a response");
        let line = latin1(&line);
        let mut words = line.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        assert!(version.starts_with("HTTP/1."), "not a status line: {line:?}");
        let status = words.next().and_then(|code| code.parse().ok());
        let status = status.unwrap_or_else(|| panic!("not a status line: {line:?}"));
        let reason = words.next().unwrap_or_default().to_owned();
        let mut reply = Reply { status, reason, ..Reply::default() };
        loop {
            let line = self.read_line().expect("the connection ended inside a response's head");
            if line.is_empty() {
                return reply;
            }
            let line = latin1(&line);
            let (name, value) =
                line.split_once(':').unwrap_or_else(|| panic!("not a header line: {line:?}"));
            reply.headers.push((name.to_owned(), value.trim().to_owned()));
        }
    }

    /// The rest of a response whose head was read, by its own framing.
    #[track_caller]
    pub fn read_body(&mut self, reply: &mut Reply, method: &str) {
        let chunked = reply
            .header("Transfer-Encoding")
            .is_some_and(|coding| coding.eq_ignore_ascii_case("chunked"));
        if method == "HEAD" || matches!(reply.status, 100..=199 | 204 | 304) {
            reply.complete = true;
        } else if chunked {
            reply.complete = self.read_chunks(reply).is_some();
        } else if let Some(length) = reply.header("Content-Length") {
            let length: usize = length.parse().expect("a Content-Length that is a number");
            while reply.body.len() < length {
                let want = length - reply.body.len();
                match self.read_some(want) {
                    Some(part) => reply.body.extend_from_slice(&part),
                    None => return,
                }
            }
            reply.complete = true;
        } else {
            while let Some(part) = self.read_some(usize::MAX) {
                reply.body.extend_from_slice(&part);
            }
            reply.complete = true;
        }
    }

    /// One chunk of a chunked body whose head was read: empty at the end, `None` when cut.
    #[track_caller]
    pub fn read_chunk(&mut self) -> Option<Vec<u8>> {
        let line = latin1(&self.read_line()?);
        let size = line.split(';').next().unwrap_or_default().trim().to_owned();
        let size = usize::from_str_radix(&size, 16)
            .unwrap_or_else(|_| panic!("not a chunk size: {line:?}"));
        let mut chunk = Vec::new();
        while chunk.len() < size {
            chunk.extend_from_slice(&self.read_some(size - chunk.len())?);
        }
        if size > 0 {
            assert_eq!(self.read_line()?, b"", "a chunk that is longer than it says");
        } else {
            while !self.read_line()?.is_empty() {}
        }
        Some(chunk)
    }

    /// True when the server has closed the connection and nothing is left to read. Waits for one or the
    /// other.
    #[track_caller]
    pub fn is_closed(&mut self) -> bool {
        self.pending.is_empty() && !self.fill()
    }

    /// Gets ready for another request after `reply`: where the server said that it closes, it must have,
    /// and a new connection is made; else the old one goes on.
    #[track_caller]
    pub fn settle(&mut self, reply: &Reply) {
        if reply.closes() {
            assert!(self.is_closed(), "'Connection: close' on a connection that stays open");
            let address = self.stream.peer_addr().expect("the server's address");
            let host = std::mem::take(&mut self.host);
            *self = Self { host, ..Self::connect(address) };
        }
    }

    /// Everything up to the server's close.
    #[track_caller]
    pub fn read_to_close(&mut self) -> Vec<u8> {
        while self.fill() {}
        std::mem::take(&mut self.pending)
    }

    fn read_chunks(&mut self, reply: &mut Reply) -> Option<()> {
        loop {
            // Kept even when cut inside a chunk: a test may want to see how much came.
            let line = latin1(&self.read_line()?);
            let size = line.split(';').next().unwrap_or_default().trim().to_owned();
            let size = usize::from_str_radix(&size, 16)
                .unwrap_or_else(|_| panic!("not a chunk size: {line:?}"));
            if size == 0 {
                while !self.read_line()?.is_empty() {}
                return Some(());
            }
            let mut left = size;
            while left > 0 {
                let part = self.read_some(left)?;
                left -= part.len();
                reply.body.extend_from_slice(&part);
            }
            assert_eq!(self.read_line()?, b"", "a chunk that is longer than it says");
            reply.chunks.push(size);
        }
    }

    fn read_line(&mut self) -> Option<Vec<u8>> {
        let mut looked = 0;
        loop {
            if let Some(at) = self.pending[looked..].iter().position(|&byte| byte == b'\n') {
                let mut line: Vec<u8> = self.pending.drain(..=looked + at).collect();
                line.pop();
                assert_eq!(line.pop(), Some(b'\r'), "a line that ends in a bare newline");
                return Some(line);
            }
            looked = self.pending.len();
            if !self.fill() {
                return None;
            }
        }
    }

    fn read_some(&mut self, limit: usize) -> Option<Vec<u8>> {
        if self.pending.is_empty() && !self.fill() {
            return None;
        }
        let take = limit.min(self.pending.len());
        Some(self.pending.drain(..take).collect())
    }

    /// Reads what is there; false at the end of the connection. Silence up to the deadline is a hang.
    #[track_caller]
    fn fill(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let mut buffer = vec![0; 65536];
        match self.stream.read(&mut buffer) {
            Ok(0) => self.ended = true,
            Ok(count) => self.pending.extend_from_slice(&buffer[..count]),
            Err(fault) if fault.kind() == io::ErrorKind::ConnectionReset => self.ended = true,
            Err(fault) if fault.kind() == io::ErrorKind::Interrupted => {}
            Err(fault) => panic!("the server neither sent nor closed within {DEADLINE:?}: {fault}"),
        }
        !self.ended
    }
}

fn latin1(bytes: &[u8]) -> String {
    bytes.iter().map(|&byte| char::from(byte)).collect()
}
