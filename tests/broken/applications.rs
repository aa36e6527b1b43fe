//! Broken applications: what is in `applications.txt`, as values.

/// What the client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A whole response with this status, whatever the body.
    Status(u16),
    /// A whole response with status 200 and exactly this body.
    Body(String),
    /// Status 200 and a body that can be told from a whole one, then the end of the connection. What of
    /// the body arrives is a beginning of this text, or all of it; a `*` is anything.
    Cut(String),
    /// Whatever, as long as the server is well afterwards.
    Any,
}

/// One broken application.
#[derive(Debug, Clone)]
pub struct Case {
    /// Its name: the file is `<name>.py`.
    pub name: String,
    /// The script.
    pub script: String,
    /// What comes of it.
    pub outcome: Outcome,
    /// What the error log has to say; empty where nothing is wrong enough for an error.
    pub log: String,
}

/// What scripts get that start a plain response.
const PRELUDE: &str = "\
def ok(start_response, *headers):
    return start_response('200 OK', [('Content-Type', 'text/plain'), *headers])

";

/// All cases, in the order of the file.
pub fn all() -> Vec<Case> {
    include_str!("applications.txt")
        .split("\n=== ")
        .skip(1)
        .map(|text| {
            // The heading of the next section is not part of a script.
            let text = text.split("\n--- ").next().unwrap_or_default();
            let mut lines = text.splitn(4, '\n');
            let mut line = || lines.next().unwrap_or_default();
            let name = line().to_owned();
            let outcome = line().strip_prefix("outcome: ").and_then(outcome);
            let outcome = outcome.unwrap_or_else(|| panic!("{name}: no outcome"));
            let log = line().strip_prefix("log:").unwrap_or_else(|| panic!("{name}: no log line"));
            let log = log.trim().to_owned();
            let body = line().trim_end().replace("<NUL>", "\0");
            let prelude = if body.contains("ok(") { PRELUDE } else { "" };
            Case { script: format!("{prelude}{body}\n"), name, outcome, log }
        })
        .collect()
}

fn outcome(text: &str) -> Option<Outcome> {
    let (kind, rest) = text.split_once(' ').unwrap_or((text, ""));
    let rest = rest.replace("\\r", "\r").replace("\\n", "\n");
    match kind {
        "status" => rest.parse().ok().map(Outcome::Status),
        "body" => Some(Outcome::Body(rest)),
        "cut" => Some(Outcome::Cut(rest)),
        "any" => Some(Outcome::Any),
        _ => None,
    }
}
