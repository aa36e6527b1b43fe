//! Directives that are read as strictly as any, and do nothing: what they are about does not exist here.

use super::{Apply, Entry, Scope};
use crate::settings::value::{Fault, Words, on_off, one_word, seconds};

pub(super) const ENTRIES: &[Entry] = &[
    Entry {
        name: APACHE_REQUEST,
        scope: Scope::ServerDir,
        syntax: "WSGIPassApacheRequest On|Off",
        default: "Off",
        help: "Does nothing: applications are not given httpd's own request",
        apply: Apply::Request(|_, text| on_off(text).map(drop)),
    },
    Entry {
        name: GROUP_AUTHORITATIVE,
        scope: Scope::Dir,
        syntax: "WSGIGroupAuthoritative On|Off",
        default: "On",
        help: "Does nothing: how several Require lines work together is httpd's to say",
        apply: Apply::Request(|_, text| on_off(text).map(drop)),
    },
    Entry {
        name: TELEMETRY_SERVICE,
        scope: Scope::Global,
        syntax: "WSGITelemetryService unix:/path [interval=seconds]",
        default: "none",
        help: "Does nothing: no process sends datagrams about itself",
        apply: Apply::Process(|_, text| telemetry_service(text)),
    },
    Entry {
        name: TELEMETRY_OPTIONS,
        scope: Scope::Global,
        syntax: "WSGITelemetryOptions None|All|[+|-]CaptureUserAgent ...",
        default: "None",
        help: "Does nothing: no process sends datagrams about itself",
        apply: Apply::Process(|_, text| telemetry_options(text)),
    },
    Entry {
        name: SLOW_REQUESTS,
        scope: Scope::Global,
        syntax: "WSGISlowRequests seconds",
        default: "none",
        help: "Does nothing: no process sends datagrams about itself",
        apply: Apply::Process(|_, text| slow_requests(text)),
    },
];

const APACHE_REQUEST: &str = "WSGIPassApacheRequest";
const GROUP_AUTHORITATIVE: &str = "WSGIGroupAuthoritative";
const TELEMETRY_SERVICE: &str = "WSGITelemetryService";
const TELEMETRY_OPTIONS: &str = "WSGITelemetryOptions";
const SLOW_REQUESTS: &str = "WSGISlowRequests";

/// The directives that do nothing, with what to do instead.
pub(super) const INSTEAD: [(&str, &str); 5] = [
    (
        APACHE_REQUEST,
        "applications are not given a pointer into httpd; environ holds what they need",
    ),
    (
        GROUP_AUTHORITATIVE,
        "write <RequireAny>, <RequireAll> and <RequireNone> around Require wsgi-group",
    ),
    (TELEMETRY_SERVICE, TELEMETRY),
    (TELEMETRY_OPTIONS, TELEMETRY),
    (SLOW_REQUESTS, TELEMETRY),
];

const TELEMETRY: &str = "no process sends datagrams about itself; applications have the metrics \
    functions of the module mod_wsgi, and httpd's access log can show how long requests take (%D)";

fn telemetry_service(text: &str) -> Result<(), Fault> {
    let mut words = Words::new(text);
    let target = words.word().unwrap_or_default();
    if target.strip_prefix("unix:").is_none_or(str::is_empty) {
        return Err(Fault::new(format!("'{target}' is not allowed: write unix:/path")));
    }
    while let Some((name, value)) = words.option()? {
        if name != "interval" {
            return Err(Fault::new(format!("unknown option '{name}': write interval=")));
        }
        seconds(&value).map_err(|fault| Fault::new(format!("interval=: {fault}")))?;
    }
    Ok(())
}

fn slow_requests(text: &str) -> Result<(), Fault> {
    let word = one_word(text)?;
    // Zero counts every request as slow.
    let zero = word.parse::<f64>().is_ok_and(|seconds| seconds == 0.0);
    if zero { Ok(()) } else { seconds(&word).map(drop) }
}

fn telemetry_options(text: &str) -> Result<(), Fault> {
    let mut words = Words::new(text);
    let (mut signed, mut plain) = (false, false);
    while let Some(word) = words.word() {
        let flag = word.strip_prefix(['+', '-']);
        let known: &[&str] = match flag {
            Some(_) => &["CaptureUserAgent"],
            None => &["CaptureUserAgent", "None", "All"],
        };
        let name = flag.unwrap_or(&word);
        if !known.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            return Err(Fault::new(format!(
                "'{word}' is not allowed: write None, All or CaptureUserAgent"
            )));
        }
        signed |= flag.is_some();
        plain |= flag.is_none();
    }
    match (signed, plain) {
        (false, false) => Err(Fault::new("takes names of options, none is given")),
        (true, true) => Err(Fault::new("either all options have a + or - in front, or none")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{ProcessSettings, RequestSettings};

    fn apply(line: &str) -> Result<(), String> {
        let (name, text) = line.split_once(' ').unwrap_or((line, ""));
        let entry = ENTRIES.iter().find(|entry| entry.name == name).unwrap();
        let (mut process, mut request) = (ProcessSettings::default(), RequestSettings::default());
        let done = match entry.apply {
            Apply::Process(apply) => apply(&mut process, text),
            Apply::Request(apply) => apply(&mut request, text),
            _ => panic!("{name}"),
        };
        assert_eq!((process, request), Default::default(), "{line} changed something");
        done.map_err(|fault| fault.to_string())
    }

    #[test]
    fn what_mod_wsgi_takes_is_taken_and_mistakes_are_not() {
        for line in [
            "WSGIPassApacheRequest On",
            "WSGIGroupAuthoritative off",
            "WSGITelemetryService unix:/run/telemetry.sock",
            "WSGITelemetryService unix:/run/telemetry.sock interval=0.5",
            "WSGITelemetryOptions captureuseragent",
            "WSGITelemetryOptions none",
            "WSGITelemetryOptions +CaptureUserAgent -CaptureUserAgent",
            "WSGISlowRequests 0",
            "WSGISlowRequests 1.5",
        ] {
            assert_eq!(apply(line), Ok(()), "{line}");
        }
        for (line, reason) in [
            ("WSGIPassApacheRequest 1", "write On or Off"),
            ("WSGIGroupAuthoritative", "takes one argument"),
            ("WSGITelemetryService", "write unix:/path"),
            ("WSGITelemetryService unix:", "write unix:/path"),
            ("WSGITelemetryService udp:localhost:99", "write unix:/path"),
            ("WSGITelemetryService unix:/a interval=x", "interval=: 'x' is not allowed"),
            ("WSGITelemetryService unix:/a every=1", "unknown option 'every'"),
            ("WSGITelemetryOptions", "none is given"),
            ("WSGITelemetryOptions +", "'+' is not allowed"),
            ("WSGITelemetryOptions +All", "'+All' is not allowed"),
            ("WSGITelemetryOptions Other", "'Other' is not allowed"),
            ("WSGITelemetryOptions All +CaptureUserAgent", "either all options"),
            ("WSGISlowRequests", "takes one argument"),
            ("WSGISlowRequests one", "number of seconds"),
            ("WSGISlowRequests -1", "number of seconds"),
        ] {
            let fault = apply(line).unwrap_err();
            assert!(fault.contains(reason), "{line}: {fault}");
        }
    }

    #[test]
    fn each_says_what_to_do_instead() {
        let names: Vec<&str> = ENTRIES.iter().map(|entry| entry.name).collect();
        assert_eq!(INSTEAD.map(|(name, _)| name), *names);
        assert!(ENTRIES.iter().all(|entry| entry.help.starts_with("Does nothing")));
    }
}
