//! Names of application groups (interpreters) and process groups, as written.

use std::fmt;

/// How an interpreter or a process group is named; all but `Name` and `Global` need a request to
/// resolve.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum GroupName {
    /// `%{GLOBAL}`: the main interpreter, or httpd's own processes. Its name is empty.
    Global,
    /// `%{SERVER}`: the server name, with the port unless it is 80 or 443.
    Server,
    /// `%{RESOURCE}`: as `%{SERVER}`, then `|` and the script name of the request.
    Resource,
    /// `%{HOST}`: as `%{SERVER}`, but with the host that the client asked for.
    Host,
    /// `%{ENV:name}`: the value of this variable, which may be one of the forms above.
    Env(String),
    /// The name itself. Also anything else in `%{…}`: it has no meaning and is taken as it stands.
    Name(String),
}

impl GroupName {
    /// The group that the text names. Every text names one; an empty text names the main
    /// interpreter.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        match variable(text) {
            Some(name) => Self::Env(name.to_owned()),
            None => Self::parse_value(text),
        }
    }

    /// The group that the value of an `%{ENV:…}` variable names. As [`GroupName::parse`], but
    /// another `%{ENV:…}` in it stands for itself, so that variables cannot refer to each other in
    /// a circle.
    #[must_use]
    pub fn parse_value(text: &str) -> Self {
        match text {
            "" | "%{GLOBAL}" => Self::Global,
            "%{SERVER}" => Self::Server,
            "%{RESOURCE}" => Self::Resource,
            "%{HOST}" => Self::Host,
            _ => Self::Name(text.to_owned()),
        }
    }

    /// The name where it is the same for every request; `None` where it takes a request to know it.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match self {
            Self::Global => Some(""),
            Self::Name(name) => Some(name),
            Self::Server | Self::Resource | Self::Host | Self::Env(_) => None,
        }
    }
}

impl fmt::Display for GroupName {
    /// As the administrator wrote it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("%{GLOBAL}"),
            Self::Server => f.write_str("%{SERVER}"),
            Self::Resource => f.write_str("%{RESOURCE}"),
            Self::Host => f.write_str("%{HOST}"),
            Self::Env(name) => write!(f, "%{{ENV:{name}}}"),
            Self::Name(name) => f.write_str(name),
        }
    }
}

/// The name in `%{ENV:name}`; `None` if the text is anything else.
#[must_use]
pub fn variable(text: &str) -> Option<&str> {
    text.strip_prefix("%{ENV:")?.strip_suffix('}').filter(|name| !name.is_empty())
}

/// The name of a group that no request resolves: `%{GLOBAL}` is empty, anything else is literal.
#[must_use]
pub fn literal(text: &str) -> String {
    if text == "%{GLOBAL}" { String::new() } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> GroupName {
        GroupName::Name(text.to_owned())
    }

    #[test]
    fn parses_every_form() {
        let table = [
            ("%{GLOBAL}", GroupName::Global),
            ("", GroupName::Global),
            ("%{SERVER}", GroupName::Server),
            ("%{RESOURCE}", GroupName::Resource),
            ("%{HOST}", GroupName::Host),
            ("%{ENV:SITE}", GroupName::Env("SITE".to_owned())),
            ("%{ENV:a}b}", GroupName::Env("a}b".to_owned())),
            ("blog", name("blog")),
            ("%", name("%")),
            ("%{global}", name("%{global}")),
            ("%{ENV:}", name("%{ENV:}")),
            ("%{ENV:x", name("%{ENV:x")),
            ("x%{GLOBAL}", name("x%{GLOBAL}")),
            ("%{OTHER}", name("%{OTHER}")),
        ];
        for (text, expected) in table {
            assert_eq!(GroupName::parse(text), expected, "{text}");
            let shown = if text.is_empty() { "%{GLOBAL}" } else { text };
            assert_eq!(expected.to_string(), shown);
        }
    }

    #[test]
    fn a_variable_leads_no_further() {
        assert_eq!(GroupName::parse_value("%{ENV:X}"), name("%{ENV:X}"));
        assert_eq!(GroupName::parse_value("%{SERVER}"), GroupName::Server);
        assert_eq!(GroupName::parse_value(""), GroupName::Global);
    }

    #[test]
    fn fixed_names_need_no_request() {
        assert_eq!(GroupName::Global.fixed(), Some(""));
        assert_eq!(name("blog").fixed(), Some("blog"));
        for text in ["%{SERVER}", "%{RESOURCE}", "%{HOST}", "%{ENV:X}"] {
            assert_eq!(GroupName::parse(text).fixed(), None, "{text}");
        }
    }

    #[test]
    fn literal_knows_only_the_global_form() {
        assert_eq!(literal("%{GLOBAL}"), "");
        assert_eq!(literal("%{SERVER}"), "%{SERVER}");
        assert_eq!(literal("www.example.org|/app"), "www.example.org|/app");
    }
}
