//! Other people's clients, for what a hand-written HTTP/1.1 client does not speak.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Output};

/// What curl made of a response.
#[derive(Debug, Clone)]
pub struct Curl {
    /// curl's exit code; 18 is a transfer that was cut, 92 an HTTP/2 stream that was reset.
    pub code: i32,
    /// HTTP status.
    pub status: u16,
    /// `1.1` or `2`.
    pub version: String,
    /// The body as far as it came.
    pub body: Vec<u8>,
    /// curl's own complaint.
    pub complaint: String,
}

impl Curl {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Runs curl; certificates are not checked, proxies are not asked.
pub fn curl(url: &str, arguments: &[&str]) -> Curl {
    let output = Command::new("curl")
        .args(["--silent", "--show-error", "--insecure", "--noproxy", "*", "--max-time", "60"])
        .args(["--write-out", "\n%{http_code} %{http_version}"])
        .args(arguments)
        .arg(url)
        .output()
        .expect("run curl");
    let at = output.stdout.iter().rposition(|&byte| byte == b'\n').expect("curl's last line");
    let tail = String::from_utf8_lossy(&output.stdout[at + 1..]).into_owned();
    let (status, version) = tail.split_once(' ').expect("curl's last line");
    Curl {
        code: output.status.code().unwrap_or(-1),
        status: status.parse().unwrap_or(0),
        version: version.to_owned(),
        body: output.stdout[..at].to_vec(),
        complaint: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// True where a program can be started.
pub fn has(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

/// Runs a program to its end and returns what it wrote; a failure of the program is one of the test.
#[track_caller]
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|fault| panic!("run {program}: {fault}"));
    assert!(output.status.success(), "{program} failed:\n{}", both(&output));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Standard output and standard error as one text.
pub fn both(output: &Output) -> String {
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text += &String::from_utf8_lossy(&output.stderr);
    text
}

/// Sends a signal by name.
pub fn signal(pid: u32, name: &str) {
    // The shell's own kill: a container may lack the program.
    let sent = Command::new("sh").args(["-c", &format!("kill -{name} {pid}")]).output();
    assert!(sent.is_ok_and(|output| output.status.success()), "signal {name} to {pid}");
}

/// A key and a self-signed certificate for `localhost`, made with openssl.
pub fn certificate(directory: &Path) {
    let file = |name: &str| directory.join(name).to_string_lossy().into_owned();
    let (key, certificate) = (file("key.pem"), file("cert.pem"));
    run(
        "openssl",
        &[
            "req",
            "-x509",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-days",
            "2",
            "-subj",
            "/CN=localhost",
            "-addext",
            "subjectAltName=DNS:localhost",
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
            &key,
            "-out",
            &certificate,
        ],
    );
}
