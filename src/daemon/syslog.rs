//! `ErrorLog syslog`, as httpd understands it (`open_error_log` in log.c).

use engine::wire::control::Syslog;

/// Facilities by name, in the order in which httpd looks for one that begins with what is written.
const FACILITIES: [(&str, u8); 20] = [
    ("auth", 4),
    ("authpriv", 10),
    ("cron", 9),
    ("daemon", 3),
    ("ftp", 11),
    ("kern", 0),
    ("lpr", 6),
    ("mail", 2),
    ("news", 7),
    ("syslog", 5),
    ("user", 1),
    ("uucp", 8),
    ("local0", 16),
    ("local1", 17),
    ("local2", 18),
    ("local3", 19),
    ("local4", 20),
    ("local5", 21),
    ("local6", 22),
    ("local7", 23),
];

const LOCAL7: u8 = 23;

/// Most characters of a tag; RFC 3164 has half as many.
const TAG: usize = 64;

/// What an `ErrorLog` of this value, of a program of this name, says: `syslog[:facility[:tag]]`; `None` for another log.
pub(super) fn read(error_log: &str, program: &str) -> Option<Syslog> {
    let mut parts = error_log.splitn(3, ':');
    if !parts.next()?.eq_ignore_ascii_case("syslog") {
        return None;
    }
    let name = parts.next().unwrap_or_default().to_ascii_lowercase();
    let found = FACILITIES.iter().find(|(known, _)| !name.is_empty() && known.starts_with(&name));
    let tag = parts.next().filter(|tag| !tag.is_empty()).unwrap_or(program);
    Some(Syslog {
        facility: found.map_or(LOCAL7, |(_, facility)| *facility),
        tag: tag.chars().take(TAG).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn facility_and_tag_may_be_left_out() {
        let told = |text| read(text, "apache2").map(|syslog| (syslog.facility, syslog.tag));
        let own = |facility| Some((facility, "apache2".to_owned()));
        assert_eq!(told("logs/error_log"), None);
        assert_eq!(told("syslogd"), None);
        assert_eq!(told("syslog"), own(23));
        assert_eq!(told("Syslog:LOCAL1"), own(17));
        assert_eq!(told("syslog:auth"), own(4));
        assert_eq!(told("syslog:nothing"), own(23));
        assert_eq!(told("syslog::www:x"), Some((23, "www:x".to_owned())));
        assert_eq!(told("syslog:user:www"), Some((1, "www".to_owned())));
        assert_eq!(told("syslog:user:"), own(1));
    }
}
