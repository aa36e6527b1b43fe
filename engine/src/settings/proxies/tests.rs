//! Header forms, one table for each topic, and who is believed.

use super::*;

const ALL: &str = "X-Forwarded-For X-Client-IP X-Real-IP X-Forwarded-Host X-Host \
    X-Forwarded-Server X-Forwarded-Port X-Script-Name X-Forwarded-Script-Name \
    X-Forwarded-Proto X-Forwarded-Scheme X-Scheme X-Forwarded-HTTPS X-Forwarded-SSL X-HTTPS";

fn settings(headers: &str, networks: &str) -> ProxySettings {
    let mut settings = ProxySettings::default();
    settings.add_headers(headers).unwrap();
    if !networks.is_empty() {
        settings.add_networks(networks).unwrap();
    }
    settings
}

/// What is said by `sent`, headers and their values in turn, of a request from `peer`.
fn said(
    settings: &ProxySettings,
    peer: &str,
    sent: &[(&str, &'static str)],
) -> Option<Testimony<'static>> {
    let proxies = Proxies {
        headers: settings.headers.as_deref().unwrap_or_default(),
        networks: settings.networks.as_deref().unwrap_or_default(),
    };
    proxies.hear(peer.as_bytes(), |header| {
        let name = header.name().to_str().unwrap();
        let found = sent.iter().find(|(sent, _)| sent.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_bytes())
    })
}

fn text(value: Option<&[u8]>) -> Option<&str> {
    value.map(|value| std::str::from_utf8(value).unwrap())
}

#[test]
fn headers_are_numbered_as_they_are_listed() {
    for (index, (header, name, variable, _)) in HEADERS.iter().enumerate() {
        assert_eq!(*header as usize, index);
        let name = name.to_str().unwrap();
        let made = format!("HTTP_{}", name.to_ascii_uppercase().replace('-', "_"));
        assert_eq!(variable.to_str().unwrap(), made);
        assert_eq!(Header::parse(&name.to_ascii_lowercase()), Ok(*header));
    }
    assert_eq!(settings(ALL, "").headers.unwrap().len(), HEADERS.len());
}

#[test]
fn networks_are_read_strictly() {
    for (word, inside, outside) in [
        ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ("192.0.2.7/32", "192.0.2.7", "192.0.2.6"),
        ("192.0.2.0/24", "192.0.2.255", "192.0.3.0"),
        // What stands outside of the mask does not matter, as everywhere in httpd.
        ("192.0.2.77/24", "192.0.2.1", "192.0.3.0"),
        ("192.0.2.0/255.255.255.0", "192.0.2.255", "192.0.3.0"),
        ("10.0.0.0/8", "10.255.255.255", "11.0.0.0"),
        ("10", "10.1.2.3", "11.1.2.3"),
        ("10.1", "10.1.255.3", "10.2.0.0"),
        ("10.1.2.", "10.1.2.255", "10.1.3.0"),
        ("0.0.0.0/0", "255.255.255.255", "::1"),
        ("0.0.0.0/0.0.0.0", "1.2.3.4", "::1"),
        ("::1", "::1", "::2"),
        ("2001:DB8::/32", "2001:db8:ffff::1", "2001:db9::"),
        ("2001:db8::/128", "2001:db8::", "2001:db8::1"),
        ("::/0", "ffff::1", "1.2.3.4"),
        // IPv4 in the form of IPv6 is IPv4.
        ("::ffff:192.0.2.0/120", "192.0.2.9", "192.0.3.0"),
        ("192.0.2.0/24", "::ffff:192.0.2.9", "::ffff:192.0.3.0"),
    ] {
        let network = Network::parse(word).unwrap();
        assert!(network.holds(inside.parse().unwrap()), "{word} {inside}");
        assert!(!network.holds(outside.parse().unwrap()), "{word} {outside}");
        assert_eq!(Network::parse(&network.to_string()), Ok(network));
    }
    for word in [
        "localhost",
        "proxy.example.org",
        "192.0.2.256",
        "192.0.2.0/33",
        "192.0.2.0/",
        "192.0.2.0/-1",
        "192.0.2.0/+8",
        "192.0.2.0/255.0.255.0",
        "192.0.2.0/24/8",
        "10.1/16",
        "1.2.3.4.5",
        "10..1",
        ".",
        "",
        "/8",
        "+10",
        "0x7f.1",
        "::1/129",
        "::1/ffff::",
        "[::1]",
        "fe80::1%eth0",
        "192.0.2.7:80",
        "*",
        "all",
    ] {
        let fault = Network::parse(word).unwrap_err().to_string();
        assert!(fault.contains("no IP address"), "{word}: {fault}");
    }
}

#[test]
fn lines_add_up_and_a_child_replaces_the_list() {
    let mut parent = settings("X-Real-IP", "10.0.0.1");
    parent.add_headers("x-scheme X-HOST").unwrap();
    parent.add_networks("10.0.0.2 10.0.0.3").unwrap();
    assert_eq!(
        parent.headers.as_deref(),
        Some(&[Header::XRealIp, Header::XScheme, Header::XHost][..])
    );
    assert_eq!(parent.networks.as_ref().map(Vec::len), Some(3));
    let child = settings("X-Forwarded-For", "");
    let merged = ProxySettings::merge(&parent, &child);
    assert_eq!(merged.headers, child.headers);
    assert_eq!(merged.networks, parent.networks);
    assert_eq!(ProxySettings::merge(&parent, &ProxySettings::default()), parent);
}

#[test]
fn mistakes_change_nothing() {
    let mut settings = settings("X-Real-IP", "10.0.0.1");
    let before = settings.clone();
    for text in ["", "X-Real-IP Forwarded", "X_Real_IP", "X-Forwarded-Prefix", "''"] {
        assert!(settings.add_headers(text).is_err(), "{text}");
    }
    for text in ["", "10.0.0.2 example.org", "''"] {
        assert!(settings.add_networks(text).is_err(), "{text}");
    }
    assert_eq!(settings, before);
}

#[test]
fn only_named_proxies_are_believed() {
    let sent = [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-Proto", "https")];
    let named = settings("X-Forwarded-For X-Forwarded-Proto", "192.0.2.0/24 ::1");
    for peer in ["192.0.2.1", "::ffff:192.0.2.1", "::1"] {
        let said = said(&named, peer, &sent).unwrap();
        assert_eq!(text(said.client), Some("203.0.113.9"), "{peer}");
        assert_eq!(said.https, Some(true));
        assert!(!said.hides_header(b"x-forwarded-for"));
    }
    let nobody = settings("X-Forwarded-For X-Forwarded-Proto", "");
    for (settings, peer) in [
        (&named, "192.0.3.1"),
        (&named, "::2"),
        (&named, ""),
        (&named, "unix"),
        (&named, "192.0.2.1, 192.0.2.1"),
        // Without a list of proxies nobody is a proxy.
        (&nobody, "192.0.2.1"),
        (&nobody, "127.0.0.1"),
    ] {
        let said = said(settings, peer, &sent).unwrap();
        assert_eq!(said, Testimony { hidden: said.hidden, ..Testimony::default() }, "{peer}");
        for name in ["X-Forwarded-For", "X-Real-IP", "x-client-ip", "X-Forwarded-Ssl", "X-HTTPS"] {
            assert!(said.hides_header(name.as_bytes()), "{peer} {name}");
        }
        // Nothing was said about these topics.
        for name in ["X-Forwarded-Host", "X-Forwarded-Port", "X-Script-Name", "Host", "Forwarded"] {
            assert!(!said.hides_header(name.as_bytes()), "{peer} {name}");
        }
        assert!(said.hides_variable(b"HTTP_X_FORWARDED_PROTO"));
        assert!(!said.hides_variable(b"HTTP_X_FORWARDED_HOST"));
    }
    assert_eq!(said(&ProxySettings::default(), "192.0.2.1", &sent), None);
}

/// `X-Forwarded-For`, the client in it, and what is left of the header.
const CHAINS: &[(&str, Option<(&str, &str)>)] = &[
    // One hop.
    ("203.0.113.9", Some(("203.0.113.9", "203.0.113.9"))),
    (" 203.0.113.9\t", Some(("203.0.113.9", "203.0.113.9"))),
    // What the client itself sent along is cut off.
    ("1.1.1.1, 203.0.113.9", Some(("203.0.113.9", "203.0.113.9"))),
    ("127.0.0.1, 203.0.113.9", Some(("203.0.113.9", "203.0.113.9"))),
    // Several hops of ours.
    ("203.0.113.9, 192.0.2.5", Some(("203.0.113.9", "203.0.113.9, 192.0.2.5"))),
    (
        "1.1.1.1,203.0.113.9,192.0.2.5,192.0.2.6",
        Some(("203.0.113.9", "203.0.113.9,192.0.2.5,192.0.2.6")),
    ),
    // A proxy of ours behind a foreign one is the foreign one's word.
    ("192.0.2.5, 203.0.113.9, 192.0.2.6", Some(("203.0.113.9", "203.0.113.9, 192.0.2.6"))),
    // All are proxies: the first is where the request began.
    ("192.0.2.5, 192.0.2.6", Some(("192.0.2.5", "192.0.2.5, 192.0.2.6"))),
    // Empty elements do not count.
    (",, 203.0.113.9 ,, 192.0.2.6, ,", Some(("203.0.113.9", "203.0.113.9 ,, 192.0.2.6"))),
    ("203.0.113.9,", Some(("203.0.113.9", "203.0.113.9"))),
    ("", None),
    (" , ,", None),
    // Ports and brackets.
    ("203.0.113.9:4711", Some(("203.0.113.9", "203.0.113.9:4711"))),
    ("203.0.113.9:4711, 192.0.2.5:80", Some(("203.0.113.9", "203.0.113.9:4711, 192.0.2.5:80"))),
    ("2001:db8::9", Some(("2001:db8::9", "2001:db8::9"))),
    ("[2001:db8::9]", Some(("2001:db8::9", "[2001:db8::9]"))),
    ("[2001:db8::9]:4711, 192.0.2.5", Some(("2001:db8::9", "[2001:db8::9]:4711, 192.0.2.5"))),
    ("203.0.113.9, ::ffff:192.0.2.5", Some(("203.0.113.9", "203.0.113.9, ::ffff:192.0.2.5"))),
    ("203.0.113.9, [fd00::1]:443", Some(("203.0.113.9", "203.0.113.9, [fd00::1]:443"))),
    // What is no address ends the search: the last address before it counts.
    ("unknown", None),
    ("203.0.113.9, unknown", None),
    ("unknown, 203.0.113.9", Some(("203.0.113.9", "203.0.113.9"))),
    ("unknown, 192.0.2.5", Some(("192.0.2.5", "192.0.2.5"))),
    ("localhost, 192.0.2.5", Some(("192.0.2.5", "192.0.2.5"))),
    ("203.0.113.9:", None),
    ("203.0.113.9:x", None),
    ("203.0.113.9:99999", None),
    ("[203.0.113.9]", None),
    ("[2001:db8::9", None),
    ("[2001:db8::9]x", None),
    ("[2001:db8::9]:", None),
    ("2001:db8::9:443:x", None),
    ("203.0.113.009", None),
    ("203.0.113", None),
    ("0xcb.0.113.9", None),
    ("fe80::1%eth0", None),
    ("203.0.113.9 192.0.2.5", None),
    ("203.0.113.9;192.0.2.5", None),
    ("<script>", None),
    ("\u{ff}", None),
];

#[test]
fn clients_are_found_in_chains() {
    let settings = settings("X-Forwarded-For", "192.0.2.0/24 fd00::/8");
    for (sent, expected) in CHAINS {
        let said = said(&settings, "192.0.2.1", &[("X-Forwarded-For", sent)]).unwrap();
        let found = text(said.client).zip(text(said.forwarded_for));
        assert_eq!(found, *expected, "{sent}");
        // What is not believed is not shown either.
        assert_eq!(said.hides_header(b"X-Forwarded-For"), expected.is_none(), "{sent}");
    }
}

#[test]
fn single_clients_are_addresses() {
    for name in ["X-Real-IP", "X-Client-IP"] {
        let settings = settings(name, "192.0.2.1");
        for (sent, expected) in [
            ("203.0.113.9", Some("203.0.113.9")),
            ("203.0.113.9:80", Some("203.0.113.9")),
            ("[2001:db8::9]:80", Some("2001:db8::9")),
            ("2001:DB8::9", Some("2001:DB8::9")),
            ("203.0.113.9, 192.0.2.5", None),
            ("unknown", None),
            ("", None),
        ] {
            let said = said(&settings, "192.0.2.1", &[(name, sent)]).unwrap();
            assert_eq!(text(said.client), expected, "{name}: {sent}");
            assert_eq!(said.hides_header(name.as_bytes()), expected.is_none());
        }
    }
}

#[test]
fn schemes() {
    let words =
        [("https", Some(true)), ("HTTP", Some(false)), ("wss", None), ("https, http", None)];
    let flags = [
        ("On", Some(true)),
        ("TRUE", Some(true)),
        ("1", Some(true)),
        ("off", Some(false)),
        ("False", Some(false)),
        ("0", Some(false)),
        ("yes", None),
        ("https", None),
        ("", None),
    ];
    let by_word = ["X-Forwarded-Proto", "X-Forwarded-Scheme", "X-Scheme"];
    let by_flag = ["X-Forwarded-HTTPS", "X-Forwarded-SSL", "X-HTTPS"];
    for (names, table) in [(by_word, &words[..]), (by_flag, &flags[..])] {
        for (name, (sent, expected)) in
            names.iter().flat_map(|name| table.iter().map(move |row| (name, row)))
        {
            let settings = settings(name, "192.0.2.1");
            let said = said(&settings, "192.0.2.1", &[(name, sent)]).unwrap();
            assert_eq!(said.https, *expected, "{name}: {sent}");
            assert_eq!(said.hides_header(name.as_bytes()), expected.is_none(), "{name}: {sent}");
        }
    }
}

#[test]
fn hosts_servers_ports_and_paths() {
    let settings = settings(ALL, "192.0.2.1");
    let hear = |name: &'static str, value| said(&settings, "192.0.2.1", &[(name, value)]).unwrap();
    for name in ["X-Forwarded-Host", "X-Host"] {
        assert_eq!(text(hear(name, "www.example.org:8080").host), Some("www.example.org:8080"));
        assert_eq!(text(hear(name, " [::1]:8080 ").host), Some("[::1]:8080"));
        assert_eq!(hear(name, "").host, None);
        assert!(hear(name, "").hides_header(name.as_bytes()));
    }
    assert_eq!(text(hear("X-Forwarded-Server", "front").server_name), Some("front"));
    for (sent, expected) in [
        ("443", Some("443")),
        ("65535", Some("65535")),
        ("0", None),
        ("65536", None),
        ("443, 80", None),
        ("-1", None),
        ("https", None),
        ("", None),
    ] {
        assert_eq!(text(hear("X-Forwarded-Port", sent).server_port), expected, "{sent}");
    }
    for name in ["X-Script-Name", "X-Forwarded-Script-Name"] {
        for (sent, expected) in
            [("/app", Some("/app")), ("/", Some("/")), ("", Some("")), ("app", None)]
        {
            assert_eq!(text(hear(name, sent).script_name), expected, "{name}: {sent}");
        }
    }
}

#[test]
fn the_last_named_header_of_a_topic_wins() {
    let sent = [("X-Real-IP", "203.0.113.1"), ("X-Forwarded-For", "203.0.113.2")];
    for (order, expected, hidden, shown) in [
        ("X-Real-IP X-Forwarded-For", "203.0.113.2", "X-Real-IP", "X-Forwarded-For"),
        ("X-Forwarded-For X-Real-IP", "203.0.113.1", "X-Forwarded-For", "X-Real-IP"),
        // One that is not sent does not win.
        ("X-Forwarded-For X-Real-IP X-Client-IP", "203.0.113.1", "X-Client-IP", "X-Real-IP"),
    ] {
        let said = said(&settings(order, "192.0.2.1"), "192.0.2.1", &sent).unwrap();
        assert_eq!(text(said.client), Some(expected), "{order}");
        assert!(said.hides_header(hidden.as_bytes()), "{order}");
        assert!(!said.hides_header(shown.as_bytes()), "{order}");
    }
    let sent = [("X-Forwarded-Proto", "https"), ("X-Forwarded-SSL", "off")];
    let both = settings("X-Forwarded-Proto X-Forwarded-SSL", "192.0.2.1");
    assert_eq!(said(&both, "192.0.2.1", &sent).unwrap().https, Some(false));
}
