//! Reverse proxies: whose headers are believed, and what the believed ones say of a request.
//!
//! Nothing here asks a name server: an address is digits or it is none.

use std::ffi::CStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::value::{Fault, Words};

/// A header by which a proxy says something about the request it passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "each is the header of the same name, see `HEADERS`")]
#[repr(u8)]
pub enum Header {
    XForwardedFor,
    XClientIp,
    XRealIp,
    XForwardedHost,
    XHost,
    XForwardedServer,
    XForwardedPort,
    XScriptName,
    XForwardedScriptName,
    XForwardedProto,
    XForwardedScheme,
    XScheme,
    XForwardedHttps,
    XForwardedSsl,
    XHttps,
}

/// What a header speaks of. Several headers speak of the same, and only one of them is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Topic {
    Client,
    Host,
    Server,
    Port,
    ScriptName,
    Scheme,
}

/// Every header with its name, the name of its variable, and its topic.
const HEADERS: [(Header, &CStr, &CStr, Topic); 15] = [
    (Header::XForwardedFor, c"X-Forwarded-For", c"HTTP_X_FORWARDED_FOR", Topic::Client),
    (Header::XClientIp, c"X-Client-IP", c"HTTP_X_CLIENT_IP", Topic::Client),
    (Header::XRealIp, c"X-Real-IP", c"HTTP_X_REAL_IP", Topic::Client),
    (Header::XForwardedHost, c"X-Forwarded-Host", c"HTTP_X_FORWARDED_HOST", Topic::Host),
    (Header::XHost, c"X-Host", c"HTTP_X_HOST", Topic::Host),
    (Header::XForwardedServer, c"X-Forwarded-Server", c"HTTP_X_FORWARDED_SERVER", Topic::Server),
    (Header::XForwardedPort, c"X-Forwarded-Port", c"HTTP_X_FORWARDED_PORT", Topic::Port),
    (Header::XScriptName, c"X-Script-Name", c"HTTP_X_SCRIPT_NAME", Topic::ScriptName),
    (
        Header::XForwardedScriptName,
        c"X-Forwarded-Script-Name",
        c"HTTP_X_FORWARDED_SCRIPT_NAME",
        Topic::ScriptName,
    ),
    (Header::XForwardedProto, c"X-Forwarded-Proto", c"HTTP_X_FORWARDED_PROTO", Topic::Scheme),
    (Header::XForwardedScheme, c"X-Forwarded-Scheme", c"HTTP_X_FORWARDED_SCHEME", Topic::Scheme),
    (Header::XScheme, c"X-Scheme", c"HTTP_X_SCHEME", Topic::Scheme),
    (Header::XForwardedHttps, c"X-Forwarded-HTTPS", c"HTTP_X_FORWARDED_HTTPS", Topic::Scheme),
    (Header::XForwardedSsl, c"X-Forwarded-SSL", c"HTTP_X_FORWARDED_SSL", Topic::Scheme),
    (Header::XHttps, c"X-HTTPS", c"HTTP_X_HTTPS", Topic::Scheme),
];

impl Header {
    /// Its name on the wire.
    #[must_use]
    pub const fn name(self) -> &'static CStr {
        HEADERS[self as usize].1
    }

    /// Its name in `environ`.
    #[must_use]
    pub const fn variable(self) -> &'static CStr {
        HEADERS[self as usize].2
    }

    fn topic(self) -> Topic {
        HEADERS[self as usize].3
    }

    fn bit(self) -> u16 {
        1 << self as u8
    }

    /// The headers that speak of the same as this one, itself among them, as bits.
    fn synonyms(self) -> u16 {
        let of_topic = HEADERS.iter().filter(|(.., topic)| *topic == self.topic());
        of_topic.fold(0, |bits, (header, ..)| bits | header.bit())
    }

    /// Reads the name of one header, in any case.
    fn parse(word: &str) -> Result<Self, Fault> {
        let known = HEADERS
            .iter()
            .find(|(_, name, ..)| name.to_bytes().eq_ignore_ascii_case(word.as_bytes()));
        known.map(|(header, ..)| *header).ok_or_else(|| {
            let names: Vec<_> =
                HEADERS.iter().map(|(_, name, ..)| name.to_string_lossy()).collect();
            Fault::new(format!(
                "'{word}' is no header that is understood: write some of {}",
                names.join(", ")
            ))
        })
    }
}

/// A network of addresses, one single address among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Addresses whose bits under the mask are these.
    V4 {
        /// The bits, zero outside of the mask.
        bits: u32,
        /// The mask: ones, then zeros.
        mask: u32,
    },
    /// As above. Addresses of IPv4 in the form of IPv6 count as IPv4.
    V6 {
        /// The bits, zero outside of the mask.
        bits: u128,
        /// The mask: ones, then zeros.
        mask: u128,
    },
}

impl Network {
    /// Reads an address, `address/length`, `address/mask`, or the first numbers of an IPv4 address.
    fn parse(word: &str) -> Result<Self, Fault> {
        Self::read(word).ok_or_else(|| {
            Fault::new(format!(
                "'{word}' is no IP address and no network: write 192.0.2.7, 192.0.2.0/24, \
                 192.0.2.0/255.255.255.0, 192.0.2 or 2001:db8::/32; names are not looked up"
            ))
        })
    }

    fn read(word: &str) -> Option<Self> {
        let Some((address, mask)) = word.split_once('/') else {
            if let Some(network) = Self::first_numbers(word) {
                return Some(network);
            }
            return match word.parse().ok()? {
                IpAddr::V4(address) => Some(Self::v4(address, 32)),
                IpAddr::V6(address) => Some(Self::v6(address, 128)),
            };
        };
        match address.parse().ok()? {
            IpAddr::V4(address) => {
                Some(Self::v4(address, length(mask, 32).or_else(|| ones(mask))?))
            }
            IpAddr::V6(address) => Some(Self::v6(address, length(mask, 128)?)),
        }
    }

    /// `10`, `10.1` or `10.1.2`, possibly with another dot behind: all addresses that begin with it.
    fn first_numbers(word: &str) -> Option<Self> {
        let mut bytes = [0; 4];
        let mut count: u8 = 0;
        for number in word.strip_suffix('.').unwrap_or(word).split('.') {
            let digits = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
            *bytes.get_mut(usize::from(count))? = number.parse().ok().filter(|_| digits)?;
            count += 1;
        }
        (count < 4).then(|| Self::v4(Ipv4Addr::from(bytes), count * 8))
    }

    fn v4(address: Ipv4Addr, length: u8) -> Self {
        let mask = u32::MAX.checked_shl(32 - u32::from(length)).unwrap_or(0);
        Self::V4 { bits: u32::from(address) & mask, mask }
    }

    fn v6(address: Ipv6Addr, length: u8) -> Self {
        if let (Some(address), Some(length)) = (address.to_ipv4_mapped(), length.checked_sub(96)) {
            return Self::v4(address, length);
        }
        let mask = u128::MAX.checked_shl(128 - u32::from(length)).unwrap_or(0);
        Self::V6 { bits: u128::from(address) & mask, mask }
    }

    /// Whether an address belongs to it.
    #[must_use]
    pub fn holds(&self, address: IpAddr) -> bool {
        match (self, address.to_canonical()) {
            (Self::V4 { bits, mask }, IpAddr::V4(address)) => u32::from(address) & mask == *bits,
            (Self::V6 { bits, mask }, IpAddr::V6(address)) => u128::from(address) & mask == *bits,
            _ => false,
        }
    }
}

impl fmt::Display for Network {
    /// As address and length.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V4 { bits, mask } => write!(f, "{}/{}", Ipv4Addr::from(*bits), mask.count_ones()),
            Self::V6 { bits, mask } => write!(f, "{}/{}", Ipv6Addr::from(*bits), mask.count_ones()),
        }
    }
}

/// The length of a network's mask as digits.
fn length(mask: &str, most: u8) -> Option<u8> {
    let digits = !mask.is_empty() && mask.bytes().all(|byte| byte.is_ascii_digit());
    mask.parse().ok().filter(|length| digits && *length <= most)
}

/// The length of a network's mask as an address: ones, then zeros.
fn ones(mask: &str) -> Option<u8> {
    let mask = u32::from(mask.parse::<Ipv4Addr>().ok()?);
    let length = mask.leading_ones();
    (length + mask.trailing_zeros() >= 32).then(|| u8::try_from(length).ok())?
}

/// `WSGITrustedProxyHeaders` and `WSGITrustedProxies` as written in one context; lines in the same
/// context add up.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProxySettings {
    /// The headers, in the order written; `None` is "not written here".
    pub headers: Option<Vec<Header>>,
    /// The proxies; `None` is "not written here".
    pub networks: Option<Vec<Network>>,
}

impl ProxySettings {
    /// The settings of a child context over those of its parent: a list as a whole, where written.
    #[must_use]
    pub fn merge(parent: &Self, child: &Self) -> Self {
        Self {
            headers: child.headers.clone().or_else(|| parent.headers.clone()),
            networks: child.networks.clone().or_else(|| parent.networks.clone()),
        }
    }

    /// Reads names of headers.
    pub fn add_headers(&mut self, text: &str) -> Result<(), Fault> {
        let found = each_word(text, "names of headers", Header::parse)?;
        self.headers.get_or_insert_default().extend(found);
        Ok(())
    }

    /// Reads addresses and networks.
    pub fn add_networks(&mut self, text: &str) -> Result<(), Fault> {
        let found = each_word(text, "addresses or networks", Network::parse)?;
        self.networks.get_or_insert_default().extend(found);
        Ok(())
    }
}

fn each_word<T>(
    text: &str,
    what: &str,
    read: impl Fn(&str) -> Result<T, Fault>,
) -> Result<Vec<T>, Fault> {
    let mut words = Words::new(text);
    let mut found = Vec::new();
    while let Some(word) = words.word() {
        found.push(read(&word)?);
    }
    if found.is_empty() {
        return Err(Fault::new(format!("takes {what}, none is given")));
    }
    Ok(found)
}

/// What holds for one request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Proxies<'a> {
    /// The headers that proxies speak by.
    pub headers: &'a [Header],
    /// The proxies that are believed; nobody is where it is empty.
    pub networks: &'a [Network],
}

/// What believed proxies say of a request; `None` is "nothing". Texts are parts of the headers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Testimony<'r> {
    /// `REMOTE_ADDR`: always an address, without brackets and port.
    pub client: Option<&'r [u8]>,
    /// `HTTP_X_FORWARDED_FOR` without what stands before the client.
    pub forwarded_for: Option<&'r [u8]>,
    /// `HTTP_HOST`
    pub host: Option<&'r [u8]>,
    /// `SERVER_NAME`
    pub server_name: Option<&'r [u8]>,
    /// `SERVER_PORT`
    pub server_port: Option<&'r [u8]>,
    /// `SCRIPT_NAME` and `mod_wsgi.mount_point`
    pub script_name: Option<&'r [u8]>,
    /// Whether the client speaks TLS.
    pub https: Option<bool>,
    /// The headers that the application must not see, as bits.
    hidden: u16,
}

impl Testimony<'_> {
    /// Whether a header is kept from the application: another one of its topic is believed, or none
    /// is, and what it says is the client's own invention.
    #[must_use]
    pub fn hides_header(&self, name: &[u8]) -> bool {
        self.hides(name, Header::name)
    }

    /// As [`Testimony::hides_header`], by the name in `environ`.
    #[must_use]
    pub fn hides_variable(&self, name: &[u8]) -> bool {
        self.hides(name, Header::variable)
    }

    fn hides(&self, name: &[u8], of: impl Fn(Header) -> &'static CStr) -> bool {
        self.hidden != 0
            && HEADERS.iter().any(|(header, ..)| {
                self.hidden & header.bit() != 0 && of(*header).to_bytes().eq_ignore_ascii_case(name)
            })
    }
}

impl Proxies<'_> {
    /// What the headers say of a request that came from `peer`. `None` where no header is to be looked
    /// at, which is the usual case.
    #[must_use]
    pub fn hear<'r>(
        &self,
        peer: &[u8],
        value: impl Fn(Header) -> Option<&'r [u8]>,
    ) -> Option<Testimony<'r>> {
        if self.headers.is_empty() {
            return None;
        }
        let believed = address(peer).is_some_and(|(peer, _)| self.holds(peer));
        let mut said = Testimony::default();
        let mut winners = 0;
        for header in self.headers {
            said.hidden |= header.synonyms();
            let value = value(*header).map(<[u8]>::trim_ascii).filter(|_| believed);
            if let Some(value) = value
                && self.take(*header, value, &mut said)
            {
                winners = (winners & !header.synonyms()) | header.bit();
            }
        }
        said.hidden &= !winners;
        Some(said)
    }

    fn holds(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.holds(address))
    }

    /// Takes one header for true; `false` where it says nothing that could be.
    fn take<'r>(&self, header: Header, value: &'r [u8], said: &mut Testimony<'r>) -> bool {
        let text = Some(value).filter(|value| !value.is_empty());
        match header {
            Header::XForwardedFor => {
                let Some((client, rest)) = self.client_of(value) else { return false };
                (said.client, said.forwarded_for) = (Some(client), Some(rest));
                true
            }
            Header::XClientIp | Header::XRealIp => {
                let found = address(value).map(|(_, text)| text);
                keep(&mut said.client, found)
            }
            Header::XForwardedHost | Header::XHost => keep(&mut said.host, text),
            Header::XForwardedServer => keep(&mut said.server_name, text),
            Header::XForwardedPort => {
                let port = number(value).filter(|port| *port > 0);
                keep(&mut said.server_port, port.map(|_| value))
            }
            Header::XScriptName | Header::XForwardedScriptName => {
                let path = value.is_empty() || value.starts_with(b"/");
                keep(&mut said.script_name, path.then_some(value))
            }
            Header::XForwardedProto | Header::XForwardedScheme | Header::XScheme => {
                keep(&mut said.https, one_of(value, &[b"https"], &[b"http"]))
            }
            Header::XForwardedHttps | Header::XForwardedSsl | Header::XHttps => keep(
                &mut said.https,
                one_of(value, &[b"on", b"true", b"1"], &[b"off", b"false", b"0"]),
            ),
        }
    }

    /// The client in a list of addresses, to which each proxy added whom it was talking to; and the
    /// list from there on. From the right, all that are proxies of ours are believed: the client
    /// is the first that is none. Where what stands there is no address, it is the last one that is.
    fn client_of<'r>(&self, list: &'r [u8]) -> Option<(&'r [u8], &'r [u8])> {
        let mut found = None;
        let mut end = list.len();
        let mut whole_end = None;
        loop {
            let rest = list.get(..end)?;
            let start = rest.iter().rposition(|byte| *byte == b',').map_or(0, |comma| comma + 1);
            let element = rest.get(start..)?.trim_ascii();
            // Empty elements do not count (RFC 9110, 5.6.1).
            if !element.is_empty() {
                let Some((address, text)) = address(element) else { return found };
                let whole_end = *whole_end.get_or_insert(end);
                let from_here = list.get(start..whole_end)?.trim_ascii();
                found = Some((text, from_here));
                if !self.holds(address) {
                    return found;
                }
            }
            if start == 0 {
                return found;
            }
            end = start - 1;
        }
    }
}

fn keep<T>(place: &mut Option<T>, value: Option<T>) -> bool {
    if value.is_none() {
        return false;
    }
    *place = value;
    true
}

fn one_of(value: &[u8], yes: &[&[u8]], no: &[&[u8]]) -> Option<bool> {
    let among = |words: &[&[u8]]| words.iter().any(|word| value.eq_ignore_ascii_case(word));
    if among(yes) {
        return Some(true);
    }
    among(no).then_some(false)
}

/// An address as proxies write it, possibly with a port, and the part of the text that is the
/// address itself.
fn address(text: &[u8]) -> Option<(IpAddr, &[u8])> {
    let parse = |text: &[u8]| std::str::from_utf8(text).ok()?.parse::<IpAddr>().ok();
    if let Some(address) = parse(text) {
        return Some((address, text));
    }
    let (inner, port) = if let Some(rest) = text.strip_prefix(b"[") {
        let end = rest.iter().position(|byte| *byte == b']')?;
        (rest.get(..end)?, rest.get(end + 1..)?)
    } else {
        text.split_at(text.iter().position(|byte| *byte == b':')?)
    };
    let bracketed = text.starts_with(b"[");
    let sound = match port.strip_prefix(b":") {
        Some(port) => number(port).is_some(),
        None => bracketed && port.is_empty(),
    };
    let address = parse(inner).filter(|address| sound && address.is_ipv6() == bracketed)?;
    Some((address, inner))
}

/// A port: decimal digits.
fn number(text: &[u8]) -> Option<u16> {
    let digits = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    std::str::from_utf8(text).ok().filter(|_| digits)?.parse().ok()
}

#[cfg(test)]
mod tests;
