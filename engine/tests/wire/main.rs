//! The wire, from outside: valid streams in pieces, broken ones, hostile ones.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod corpus;
mod exercise;
mod memory;

use std::collections::HashSet;
use std::time::Duration;

use engine::wire::control::{self, FromParent, Life, Reason};
use engine::wire::frame::{Decoder, Fault, HEADER, Header, MAX_HEAD, MAX_STREAM};
use engine::wire::message::{
    self, Ending, Entry, FromChild, FromDaemon, Kind, RequestBody, Target, flag,
};
use engine::wire::order::{ChildOrder, DaemonOrder, Place, Stage};
use engine::wire::{Batch, Secret};
use exercise::Side;

/// A frame by hand, which need not keep any rule.
fn raw(kind: u8, flags: u8, number: u32, payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u32;
    let mut bytes = Header { length, kind, flags, number }.encode().to_vec();
    bytes.extend_from_slice(payload);
    bytes
}

fn fault(side: Side, bytes: &[u8]) -> Option<Fault> {
    exercise::decode(side, bytes, usize::MAX).1.err()
}

#[test]
fn valid_streams_decode_whatever_the_pieces() {
    for stream in corpus::streams() {
        for piece in (1..40).chain([64, 100, 4096, usize::MAX]) {
            let decoded = exercise::decode(stream.side, &stream.bytes, piece);
            assert_eq!(decoded, (stream.frames, Ok(())), "{} by {piece}", stream.name);
        }
    }
}

#[test]
fn every_split_in_two_gives_the_same() {
    for stream in corpus::streams() {
        for split in 0..=stream.bytes.len() {
            let mut decoder = Decoder::new(stream.side.rules());
            let mut frames = 0;
            let (one, two) = stream.bytes.split_at(split);
            for mut part in [one, two] {
                while !part.is_empty() {
                    let count = decoder.feed(part);
                    part = &part[count..];
                    while decoder.frame().unwrap().is_some() {
                        frames += 1;
                    }
                }
            }
            assert_eq!(frames, stream.frames, "{} at {split}", stream.name);
            assert!(decoder.is_empty());
        }
    }
}

#[test]
fn every_truncation_is_fewer_frames_and_no_fault() {
    for stream in corpus::streams() {
        for end in 0..stream.bytes.len() {
            let (frames, result) = exercise::decode(stream.side, &stream.bytes[..end], 7);
            assert_eq!(result, Ok(()), "{} up to {end}", stream.name);
            assert!(frames < stream.frames, "{} up to {end}", stream.name);
        }
    }
}

#[test]
fn a_payload_cut_short_or_drawn_out_is_refused() {
    for stream in corpus::streams() {
        let mut decoder = Decoder::new(stream.side.rules());
        let mut rest = &stream.bytes[..];
        while !rest.is_empty() {
            let count = decoder.feed(rest);
            rest = &rest[count..];
            while let Some(frame) = decoder.frame().unwrap() {
                let Header { kind, flags, number, .. } = frame.header;
                // Texts and bytes to the end of the frame have no length of their own.
                let open_ended = match stream.side {
                    Side::Child => matches!(kind, 3 | 4),
                    Side::Daemon => matches!(kind, 19 | 22 | 24),
                    Side::ToParent => kind == control::Kind::Refused as u8,
                    Side::FromDaemon => matches!(kind, 42 | 46),
                    Side::Parent | Side::ToDaemon => false,
                };
                if open_ended {
                    continue;
                }
                for end in 0..frame.payload.len() {
                    let cut = raw(kind, flags, number, &frame.payload[..end]);
                    assert!(fault(stream.side, &cut).is_some(), "{} {kind} {end}", stream.name);
                }
                let longer = [frame.payload, &[0]].concat();
                let longer = raw(kind, flags, number, &longer);
                assert!(fault(stream.side, &longer).is_some(), "{} {kind}", stream.name);
            }
        }
    }
}

#[test]
fn every_change_of_one_byte_is_survived_within_the_limits() {
    let mut tried = 0_u64;
    for stream in corpus::streams() {
        let mut bytes = stream.bytes.clone();
        for place in 0..bytes.len() {
            let good = bytes[place];
            for value in 0..=u8::MAX {
                // Every value near the start of frames and in small streams; the rest of the large
                // plan by its bits.
                if bytes.len() > 600 && !(value ^ good).is_power_of_two() && value != 0xff {
                    continue;
                }
                bytes[place] = value;
                let peak = memory::peak(|| exercise::decode(stream.side, &bytes, usize::MAX));
                assert!(peak < 4 * MAX_HEAD, "{} held {peak} bytes", stream.name);
                tried += 1;
            }
            bytes[place] = good;
        }
    }
    assert!(tried > 100_000, "{tried}");
}

/// A small generator, so that a failure can be repeated.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let value = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(value).unwrap() % end.max(1)
    }
}

fn mutate(random: &mut Random, bytes: &mut Vec<u8>, other: &[u8]) {
    const ODD: [u32; 8] =
        [0, 1, 0xff, 0xffff, 0x7fff_ffff, u32::MAX, MAX_HEAD as u32, MAX_STREAM as u32 + 1];
    for _ in 0..=random.below(4) {
        let place = random.below(bytes.len());
        match random.below(7) {
            0 if !bytes.is_empty() => bytes[place] ^= 1 << random.below(8),
            1 if !bytes.is_empty() => bytes[place] = random.below(256) as u8,
            2 => bytes.truncate(place),
            3 => {
                let odd = ODD[random.below(ODD.len())].to_le_bytes();
                let width = [1, 2, 4][random.below(3)].min(bytes.len() - place);
                bytes[place..place + width].copy_from_slice(&odd[..width]);
            }
            4 => {
                let from = random.below(other.len());
                let end = from + random.below(other.len() - from + 1);
                bytes.splice(place..place, other[from..end].iter().copied());
            }
            5 => {
                let end = place + random.below(bytes.len() - place + 1);
                bytes.drain(place..end);
            }
            _ => bytes.extend_from_slice(other),
        }
    }
}

#[test]
fn mutated_streams_are_survived_within_the_limits() {
    let rounds: usize =
        std::env::var("WIRE_FUZZ_ROUNDS").map_or(200_000, |rounds| rounds.parse().unwrap());
    let streams = corpus::streams();
    let mut random = Random(0x5eed_0001);
    let (mut good, mut faults) = (0, HashSet::new());
    for _ in 0..rounds {
        let stream = &streams[random.below(streams.len())];
        let other = &streams[random.below(streams.len())].bytes;
        let mut bytes = stream.bytes.clone();
        mutate(&mut random, &mut bytes, other);
        let piece = [usize::MAX, 1 + random.below(64)][random.below(2)];
        let mut outcome = (0, Ok(()));
        let peak = memory::peak(|| outcome = exercise::decode(stream.side, &bytes, piece));
        assert!(peak < 4 * MAX_HEAD, "{peak} bytes for {} bytes", bytes.len());
        match outcome {
            (frames, Ok(())) => good += frames,
            (_, Err(fault)) => {
                faults.insert(std::mem::discriminant(&fault));
            }
        }
    }
    // The mutations reach behind the header: good frames are left, and faults of many forms.
    assert!(good > rounds / 10, "{good}");
    assert!(faults.len() >= 8, "{faults:?}");
}

#[test]
fn the_kept_corpus_of_the_fuzzer_is_survived() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/wire");
    let mut seen = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        exercise::fuzz(&std::fs::read(entry.unwrap().path()).unwrap());
        seen += 1;
    }
    assert!(seen >= corpus::streams().len(), "{seen}");
}

/// Writes the valid streams into the corpus of the fuzzer: `cargo test -p mod_wsgi_engine --test
/// wire -- --ignored`.
#[test]
#[ignore = "writes files"]
fn write_the_corpus_of_the_fuzzer() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/wire");
    std::fs::create_dir_all(folder).unwrap();
    for stream in corpus::streams() {
        let side = Side::ALL.iter().position(|side| *side == stream.side).unwrap();
        let input = [&[side as u8, 0], &stream.bytes[..]].concat();
        let name = stream.name.replace([' ', ','], "_");
        std::fs::write(format!("{folder}/valid_{name}"), input).unwrap();
    }
}

#[test]
fn hostile_headers_are_refused_before_their_payload() {
    let huge = |length: u32, kind| Header { length, kind, flags: 0, number: 1 }.encode();
    for (side, bytes, expected) in [
        (Side::Child, huge(u32::MAX, 2), Fault::TooLong(u32::MAX as usize)),
        (Side::Child, huge(MAX_HEAD as u32 + 1, 2), Fault::TooLong(MAX_HEAD + 1)),
        (Side::Child, huge(MAX_STREAM as u32 + 1, 3), Fault::TooLong(MAX_STREAM + 1)),
        (Side::Child, huge(1, 5), Fault::TooLong(1)),
        (Side::Child, huge(0, 0), Fault::Kind(0)),
        (Side::Child, huge(0, 6), Fault::Kind(6)),
        (Side::Child, huge(0, 64), Fault::Kind(64)),
        (Side::Child, huge(0, 255), Fault::Kind(255)),
        // A frame of the other direction.
        (Side::Child, huge(0, 20), Fault::Kind(20)),
        (Side::Daemon, huge(0, 2), Fault::Kind(2)),
        (Side::FromDaemon, huge(0, 33), Fault::Kind(33)),
        (Side::ToDaemon, huge(0, 41), Fault::Kind(41)),
        (Side::Parent, huge(0, 9), Fault::Kind(9)),
        (Side::Daemon, huge(5, 17), Fault::TooLong(5)),
        (Side::Daemon, huge(MAX_STREAM as u32 + 1, 19), Fault::TooLong(MAX_STREAM + 1)),
        // A number where none belongs, none where one does.
        (Side::Child, huge(64, 1), Fault::Number(1)),
        (Side::Daemon, huge(4, 25), Fault::Number(1)),
        (Side::FromDaemon, huge(0, 45), Fault::Number(1)),
        (
            Side::Child,
            Header { length: 0, kind: 5, flags: 0, number: 0 }.encode(),
            Fault::Number(0),
        ),
        (Side::Child, Header { length: 0, kind: 3, flags: 2, number: 1 }.encode(), Fault::Flags(2)),
        (
            Side::Child,
            Header { length: 0, kind: 2, flags: 64, number: 1 }.encode(),
            Fault::Flags(64),
        ),
        (Side::Child, [0, 0, 0, 0, 5, 0, 1, 0, 1, 0, 0, 0], Fault::Reserved),
        (Side::Child, [0, 0, 0, 0, 5, 0, 0, 128, 1, 0, 0, 0], Fault::Reserved),
    ] {
        assert_eq!(fault(side, &bytes), Some(expected), "{side:?} {bytes:?}");
        assert!(!expected.to_string().is_empty());
    }
}

/// The parts of a REQUEST's payload, to be broken one by one.
struct Parts {
    log_level: u8,
    body_length: Vec<u8>,
    target: Vec<u8>,
    handler: Vec<u8>,
    count: u32,
    entries: Vec<u8>,
    inline: Vec<u8>,
}

impl Parts {
    fn good() -> Self {
        let target = [&[0_u8][..], &5_u64.to_le_bytes()].concat();
        let inline = 0_u32.to_le_bytes().to_vec();
        let (handler, entries) = (vec![0, 0], Vec::new());
        Self { log_level: 4, body_length: vec![0], target, handler, count: 0, entries, inline }
    }

    fn entries(count: u32, entries: &[u8]) -> Self {
        Self { count, entries: entries.to_vec(), ..Self::good() }
    }

    fn payload(&self) -> Vec<u8> {
        let mut bytes = vec![0; 24];
        bytes.push(self.log_level);
        bytes.extend_from_slice(&self.body_length);
        bytes.extend_from_slice(&self.target);
        bytes.extend_from_slice(&self.handler);
        bytes.extend_from_slice(&self.count.to_le_bytes());
        bytes.extend_from_slice(&(self.entries.len() as u32).to_le_bytes());
        bytes.extend_from_slice(&self.entries);
        bytes.extend_from_slice(&self.inline);
        bytes
    }
}

fn script(path: &[u8], group: &[u8]) -> Parts {
    let mut target = vec![1];
    for text in [path, group, b"app"] {
        target.extend_from_slice(&(text.len() as u16).to_le_bytes());
        target.extend_from_slice(text);
    }
    Parts { target, ..Parts::good() }
}

fn known_length(length: u64) -> Vec<u8> {
    [&[1_u8][..], &length.to_le_bytes()].concat()
}

#[test]
fn hostile_requests_are_refused() {
    let no_float = [&[3_u8, 0][..], &f64::NAN.to_le_bytes()].concat();
    let long_path = [b'/'].repeat(message::MAX_PATH + 1);
    let text = Fault::Value("a text contains NUL");
    let length = Fault::Value("the body does not have the length that is named");
    let with_inline = |body_length: Vec<u8>| Parts {
        body_length,
        inline: vec![1, 0, 0, 0, b'x'],
        ..Parts::good()
    };
    let table: Vec<(&str, u8, Parts, Option<Fault>)> = vec![
        ("good", 0, Parts::good(), None),
        ("good script", 0, script(b"/app", b"g"), None),
        (
            "relative",
            0,
            script(b"app", b""),
            Some(Fault::Value("a path is not absolute or too long")),
        ),
        ("no path", 0, script(b"", b""), Some(Fault::Value("a path is not absolute or too long"))),
        (
            "long",
            0,
            script(&long_path, b""),
            Some(Fault::Value("a path is not absolute or too long")),
        ),
        ("NUL in path", 0, script(b"/a\0b", b""), Some(text)),
        ("group", 0, script(b"/a", b"\xff"), Some(Fault::Value("a text is not UTF-8"))),
        (
            "target",
            0,
            Parts { target: vec![2], ..Parts::good() },
            Some(Fault::Value("a target is of no known form")),
        ),
        (
            "log level",
            0,
            Parts { log_level: 5, ..Parts::good() },
            Some(Fault::Value("a log level is none")),
        ),
        (
            "truth",
            0,
            Parts { body_length: vec![2], ..Parts::good() },
            Some(Fault::Value("a truth value is neither 0 nor 1")),
        ),
        ("handler", 0, Parts { handler: vec![1, 0, 0], ..Parts::good() }, Some(text)),
        (
            "tag 0",
            0,
            Parts::entries(1, &[0]),
            Some(Fault::Value("an environ entry is of no known form")),
        ),
        (
            "tag 7",
            0,
            Parts::entries(1, &[7]),
            Some(Fault::Value("an environ entry is of no known form")),
        ),
        ("count above", 0, Parts::entries(2, &[6, 1]), Some(Fault::Short)),
        ("count below", 0, Parts::entries(0, &[6, 1]), Some(Fault::Trailing)),
        ("count", 0, Parts::entries(message::MAX_ENTRIES + 1, &[]), Some(Fault::TooMany)),
        ("huge count", 0, Parts::entries(u32::MAX, &[]), Some(Fault::TooMany)),
        ("float", 0, Parts::entries(1, &no_float), Some(Fault::Value("a time is not finite"))),
        (
            "https",
            0,
            Parts::entries(1, &[6, 2]),
            Some(Fault::Value("a truth value is neither 0 nor 1")),
        ),
        (
            "no name",
            0,
            Parts::entries(1, &[4, 0, 0, 0, 0, 0, 0]),
            Some(Fault::Value("a name is empty")),
        ),
        ("NUL in name", 0, Parts::entries(1, &[5, 1, 0, 0, 0, 0, 0, 0]), Some(text)),
        ("NUL in value", 0, Parts::entries(1, &[1, 0, 1, 0, 0, 0, 0]), Some(text)),
        ("endless value", 0, Parts::entries(1, &[1, 0, 255, 255, 255, 255]), Some(Fault::Short)),
        ("inline without flag", 0, with_inline(vec![0]), Some(Fault::Flags(0))),
        (
            "flag without inline",
            flag::LAST_BODY,
            Parts::good(),
            Some(Fault::Flags(flag::LAST_BODY)),
        ),
        (
            "two places",
            flag::LAST_BODY | flag::EXPECTS_BODY,
            with_inline(vec![0]),
            Some(Fault::Flags(9)),
        ),
        (
            "file and asked",
            flag::HAS_FILE | flag::EXPECTS_BODY,
            Parts::good(),
            Some(Fault::Flags(3)),
        ),
        ("file of no length", flag::HAS_FILE, Parts::good(), Some(length)),
        ("file and inline", flag::HAS_FILE, with_inline(known_length(1)), Some(length)),
        ("other length", flag::LAST_BODY, with_inline(known_length(2)), Some(length)),
        ("right length", flag::LAST_BODY, with_inline(known_length(1)), None),
        ("nothing left to ask for", flag::EXPECTS_BODY, with_inline(known_length(1)), Some(length)),
        (
            "trailing",
            0,
            Parts { inline: vec![0, 0, 0, 0, 0], ..Parts::good() },
            Some(Fault::Trailing),
        ),
    ];
    for (name, flags, parts, expected) in table {
        let bytes = raw(Kind::Request as u8, flags, 1, &parts.payload());
        assert_eq!(fault(Side::Child, &bytes), expected, "{name}");
    }
}

fn head_payload(line: &[u8], headers: &[(&[u8], &[u8])]) -> Vec<u8> {
    let mut bytes = (line.len() as u16).to_le_bytes().to_vec();
    bytes.extend_from_slice(line);
    bytes.extend_from_slice(&(headers.len() as u16).to_le_bytes());
    for (name, value) in headers {
        bytes.extend_from_slice(&(name.len() as u16).to_le_bytes());
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&(value.len() as u32).to_le_bytes());
        bytes.extend_from_slice(value);
    }
    bytes
}

#[test]
fn hostile_heads_are_refused() {
    type Headers = [(&'static [u8], &'static [u8])];
    let ok = b"200 OK\0";
    let many = vec![(&b"A\0"[..], &b"\0"[..]); usize::from(message::MAX_HEADERS) + 1];
    let table: &[(&[u8], &Headers, bool)] = &[
        (ok, &[], true),
        (b"200 \0", &[(b"A\0", b"b\tc \xff\0")], true),
        (b"200\0", &[], false),
        (b"200", &[], false),
        (b"", &[], false),
        (b"\0", &[], false),
        (b"100 Continue\0", &[], false),
        (b"101 Switching\0", &[], false),
        (b"2000 OK\0", &[], false),
        (b"+20 OK\0", &[], false),
        (b"200 O\rK\0", &[], false),
        (b"200 O\nK\0", &[], false),
        (b"200 O\0K\0", &[], false),
        (ok, &[(b"A", b"b\0")], false),
        (ok, &[(b"A\0", b"b")], false),
        (ok, &[(b"\0", b"b\0")], false),
        (ok, &[(b"A:\0", b"b\0")], false),
        (ok, &[(b"A B\0", b"b\0")], false),
        (ok, &[(b"A\r\n\0", b"b\0")], false),
        (ok, &[(b"A\0", b"b\r\nSet-Cookie: x\0")], false),
        (ok, &[(b"A\0", b"b\0c\0")], false),
        (ok, &[(b"A\0", b"\x7f\0")], false),
        (ok, &[(b"Transfer-Encoding\0", b"chunked\0")], false),
        (ok, &[(b"keep-ALIVE\0", b"1\0")], false),
        (ok, &[(b"Content-Length\0", b"5\0")], true),
        (ok, &[(b"Content-Length\0", b"\0")], false),
        (ok, &[(b"Content-Length\0", b"+5\0")], false),
        (ok, &[(b"Content-Length\0", b"5, 5\0")], false),
        (ok, &[(b"Content-Length\0", b"99999999999999999999\0")], false),
        (ok, &[(b"Content-Length\0", b"5\0"), (b"content-length\0", b"5\0")], false),
        (ok, &many[..usize::from(message::MAX_HEADERS)], true),
        (ok, &many, false),
    ];
    for (line, headers, good) in table {
        let bytes = raw(Kind::Head as u8, 0, 1, &head_payload(line, headers));
        let found = fault(Side::Daemon, &bytes);
        assert_eq!(found.is_none(), *good, "{line:?} {:?}: {found:?}", headers.first());
    }
    let mut short = head_payload(ok, &[]);
    short[9] = 1;
    assert_eq!(fault(Side::Daemon, &raw(18, 0, 1, &short)), Some(Fault::Short));
}

#[test]
fn hostile_answers_and_reports_are_refused() {
    let credit = |credit: u32| credit.to_le_bytes();
    let part = |offset: u64, length: u64| [offset.to_le_bytes(), length.to_le_bytes()].concat();
    let max = i64::MAX as u64;
    for (kind, flags, payload, good) in [
        (Kind::Read, 0, credit(1).to_vec(), true),
        (Kind::Read, 0, credit(0).to_vec(), false),
        (Kind::Read, flag::CONTINUE, credit(0).to_vec(), true),
        (Kind::Read, 0, credit(message::MAX_CREDIT + 1).to_vec(), false),
        (Kind::Data, 0, vec![], false),
        (Kind::Data, flag::FLUSH, vec![], true),
        (Kind::Data, 0, vec![0; MAX_STREAM], true),
        (Kind::End, flag::CLOSE | flag::LINGER, vec![], false),
        (Kind::File, 0, part(0, 0), true),
        (Kind::File, 0, part(1, max), false),
        (Kind::File, 0, part(u64::MAX, 1), false),
        (Kind::Abort, 0, vec![0xff], false),
        (Kind::Failed, 0, vec![0x90, 0x01], true),
        (Kind::Failed, 0, vec![200, 0], false),
        (Kind::Failed, 0, vec![0x58, 0x02], false),
        (Kind::Log, 0, vec![], false),
        (Kind::Log, 0, vec![0], false),
        (Kind::Log, 0, vec![5, b'x'], false),
        (Kind::Log, 0, vec![4, b'x'], true),
        (Kind::Log, 0, vec![4, 0xc3], false),
    ] {
        let bytes = raw(kind as u8, flags, 1, &payload);
        assert_eq!(fault(Side::Daemon, &bytes).is_none(), good, "{kind:?} {payload:?}");
    }
    let runs =
        |path: &[u8]| [&(path.len() as u32).to_le_bytes()[..], path, &7_i64.to_le_bytes()].concat();
    for (kind, payload, good) in [
        (control::Kind::WantsReplacement, vec![0], false),
        (control::Kind::WantsReplacement, vec![Reason::ALL.len() as u8], true),
        (control::Kind::WantsReplacement, vec![Reason::ALL.len() as u8 + 1], false),
        (control::Kind::Ready, vec![3, 9, 2], false),
        (control::Kind::Retired, vec![0], false),
        (control::Kind::Log, vec![9, b'x'], false),
        (control::Kind::Runs, runs(b"/a"), true),
        (control::Kind::Runs, runs(b"a"), false),
        (control::Kind::Runs, runs(b"/\0"), false),
        (control::Kind::Runs, runs(b"/\xff"), false),
        (control::Kind::Runs, runs(&[b'/'; 4096]), true),
        (control::Kind::Runs, runs(&[b'/'; 4097]), false),
    ] {
        let bytes = raw(kind as u8, 0, 0, &payload);
        assert_eq!(fault(Side::FromDaemon, &bytes).is_none(), good, "{kind:?} {payload:?}");
    }
    // What a configuration is, then how many groups, whether they are replaced, the level of the log, and where
    // that is the system's, its facility and the tag.
    let configure = |groups: u32, level: u8, syslog: &[u8]| {
        let front = [&1_u64.to_le_bytes()[..], &groups.to_le_bytes(), &[0, level]].concat();
        fault(Side::Parent, &raw(1, 0, 0, &[&front, syslog].concat()))
    };
    assert_eq!(configure(u32::MAX, 4, &[0]), Some(Fault::TooMany));
    assert_eq!(configure(1, 5, &[0]), Some(Fault::Value("a log level is none")));
    let tag = [1, 0, 0, 0, b't'];
    assert_eq!(
        configure(1, 4, &[&[1, 24][..], &tag].concat()),
        Some(Fault::Value("a facility is none"))
    );
    // Without the descriptor that it has to carry.
    assert_eq!(configure(1, 4, &[&[1, 23][..], &tag].concat()), configure(1, 4, &[0]));
}

#[test]
fn requests_arrive_as_they_were_sent() {
    let mut bytes = Vec::new();
    corpus::request(&mut bytes, 4, b"body");
    let mut decoder = Decoder::new(message::from_child);
    assert_eq!(decoder.feed(&bytes), bytes.len());
    let frame = decoder.frame().unwrap().unwrap();
    assert_eq!(frame.header.number, 4);
    let FromChild::Request(request) = FromChild::decode(&frame).unwrap() else { panic!() };
    assert_eq!(request.target, Target::Mount(0x0123_4567_89ab_cdef));
    assert_eq!((request.inline, request.body_length), (&b"body"[..], Some(4)));
    assert_eq!(request.body, RequestBody::Whole);
    assert!(request.reloading && !request.head_only && !request.ignore_activity);
    assert_eq!((request.mtime_us, request.log_level), (-1, 3));
    let entries: Vec<_> = request.entries.collect();
    assert_eq!(
        entries,
        [
            Entry::Var { name: b"SITE_MODE", value: b"test" },
            Entry::Set { key: 0, value: b"GET" },
            Entry::SetPath { key: 14, value: b"/srv/app.wsgi" },
            Entry::SetFloat { key: 23, value: 1_700_000_000.25 },
            Entry::Header { name: b"Host", value: b"example.org" },
            Entry::Header { name: b"Cookie", value: b"a=b; \xe9\xff" },
            Entry::Header { name: b"X-Empty", value: b"" },
            Entry::Https(true),
        ]
    );
}

#[test]
fn plans_arrive_as_they_were_sent() {
    let mut bytes = Vec::new();
    FromParent::Group(Box::new(corpus::plan())).encode(&mut bytes).unwrap();
    let mut decoder = Decoder::new(control::from_parent);
    decoder.feed(&bytes);
    let frame = decoder.frame().unwrap().unwrap();
    let FromParent::Group(plan) = FromParent::decode(&frame).unwrap() else { panic!() };
    assert_eq!(format!("{plan:?}"), format!("{:?}", corpus::plan()));
    assert_eq!(plan.env[1].value, "hunter2-very-secret");
    assert!(plan.setup.secret.proved_by(&Secret::new([0xab; 32])));
    let mut other = [0xab; 32];
    other[31] ^= 1;
    assert!(!plan.setup.secret.proved_by(&Secret::new(other)));
}

#[test]
fn signs_of_life_come_several_times_before_one_is_missed() {
    let seconds = Duration::from_secs;
    assert_eq!((Life::default().beat(), Life::default().silence()), (None, None));
    for (deadlock, beat, silence) in [(1, 1, 4), (4, 1, 4), (20, 5, 20), (300, 60, 300)] {
        let life = Life { deadlock: Some(seconds(deadlock)), ..Life::default() };
        assert_eq!((life.beat(), life.silence()), (Some(seconds(beat)), Some(seconds(silence))));
    }
}

#[test]
fn secrets_are_in_no_debug_output() {
    let plan = corpus::plan();
    let mut hello = Vec::new();
    message::hello(&mut hello, &[1; 32], &Secret::new([0xab; 32]));
    let mut decoder = Decoder::new(message::from_child);
    decoder.feed(&hello);
    let hello = FromChild::decode(&decoder.frame().unwrap().unwrap()).unwrap();
    let setup = control::ToDaemon::Setup(Box::new(plan.setup.clone()));
    for text in [
        format!("{hello:?}"),
        format!("{plan:?}"),
        format!("{plan:#?}"),
        format!("{setup:?}"),
        format!("{:?}", FromParent::Group(Box::new(plan))),
    ] {
        assert!(text.contains("Secret"), "{text}");
        for secret in ["hunter2", "171", "0xab", "ab, ab"] {
            assert!(!text.contains(secret), "{text}");
        }
    }
}

#[test]
fn what_is_too_large_is_refused_and_leaves_no_trace() {
    let mut out = b"before".to_vec();
    let start = corpus::start(Target::Mount(1), RequestBody::Whole);
    let mut writer = message::request(&mut out, 1, &start);
    writer.set(0, &vec![b'x'; MAX_HEAD]);
    assert!(matches!(writer.finish(0), Err(Fault::TooLong(_))));
    assert_eq!(out, b"before");

    let mut writer = message::request(&mut out, 1, &start);
    (0..=message::MAX_ENTRIES).for_each(|_| writer.https(true));
    assert_eq!(writer.finish(0), Err(Fault::TooMany));
    assert_eq!(out, b"before");

    let mut writer = message::request(&mut out, 1, &start);
    writer.header(&vec![b'x'; 65_536], b"");
    assert_eq!(writer.finish(0), Err(Fault::TooMany));
    assert_eq!(out, b"before");

    let writer = message::request(&mut out, 1, &start);
    assert!(matches!(writer.finish(MAX_HEAD), Err(Fault::TooLong(_))));
    assert_eq!(out, b"before");

    let endless = std::iter::repeat((c"Name", c"value"));
    assert_eq!(message::head(&mut out, 1, c"200 OK", endless), Err(Fault::TooMany));
    assert_eq!(out, b"before");

    let value = std::ffi::CString::new(vec![b'x'; MAX_HEAD]).unwrap();
    let large = [(c"Name", value.as_c_str())];
    assert_eq!(message::head(&mut out, 1, c"200 OK", large), Err(Fault::TooMany));
    assert_eq!(out, b"before");

    let mut plan = corpus::plan();
    plan.env[0].value = "x".repeat(control::MAX_PLAN);
    let group = FromParent::Group(Box::new(plan));
    assert!(matches!(group.encode(&mut out), Err(Fault::TooLong(_))));
    assert_eq!(out, b"before");
}

#[test]
fn large_bodies_are_sent_from_where_they_are() {
    let large = vec![b'x'; 3 * MAX_STREAM + 5];
    let (small, empty) = (vec![b'y'; 10], Vec::new());
    let blocks = [&small[..], &empty, &large, &small];
    let mut own = Vec::new();
    let mut batch = Batch::new(&mut own);
    message::head(batch.out(), 1, c"200 OK", []).unwrap();
    message::data(&mut batch, 1, &blocks, true);
    message::end(batch.out(), 1, Ending::default());
    let slices = batch.slices();
    let range = large.as_ptr_range();
    let borrowed: usize = slices
        .iter()
        .filter(|slice| range.contains(&slice.as_ptr()))
        .map(|slice| slice.len())
        .sum();
    assert!(borrowed > large.len() - 1024, "{borrowed} of {}", large.len());
    assert!(slices.iter().all(|slice| !slice.is_empty()));

    let sent = slices.concat();
    let mut decoder = Decoder::new(message::from_daemon);
    let (mut body, mut kinds, mut rest) = (Vec::new(), Vec::new(), &sent[..]);
    while !rest.is_empty() {
        let count = decoder.feed(rest);
        rest = &rest[count..];
        while let Some(frame) = decoder.frame().unwrap() {
            kinds.push((frame.header.kind, frame.header.flags));
            if let FromDaemon::Data { bytes, .. } = FromDaemon::decode(&frame).unwrap() {
                body.extend_from_slice(bytes);
            }
        }
    }
    assert_eq!(body, blocks.concat());
    let expected = [(18, 0), (19, 0), (19, 0), (19, 0), (19, flag::FLUSH), (20, 0)];
    assert_eq!(kinds, expected);

    let mut own = Vec::new();
    let mut nothing = Batch::new(&mut own);
    message::data(&mut nothing, 1, &[b"", b""], false);
    assert!(nothing.is_empty() && nothing.slices().is_empty());
}

#[test]
fn long_texts_are_divided_between_lines_and_characters() {
    let line = "\u{fc}".repeat(20_000);
    for text in [format!("{line}\n{line}\n{line}"), line.repeat(5), "\n".repeat(MAX_STREAM * 2)] {
        let mut bytes = Vec::new();
        message::log(&mut bytes, 1, 9, &text);
        let mut decoder = Decoder::new(message::from_daemon);
        let (mut pieces, mut rest) = (Vec::new(), &bytes[..]);
        while !rest.is_empty() {
            let count = decoder.feed(rest);
            rest = &rest[count..];
            while let Some(frame) = decoder.frame().unwrap() {
                let FromDaemon::Log { level, text } = FromDaemon::decode(&frame).unwrap() else {
                    panic!()
                };
                assert_eq!(level, message::MAX_LEVEL);
                pieces.push(text.to_owned());
            }
        }
        assert!(pieces.len() > 1);
        let joined = if text.contains('\n') { pieces.join("\n") } else { pieces.concat() };
        assert_eq!(joined, text);
    }
    let mut bytes = Vec::new();
    message::log(&mut bytes, 1, 0, "");
    assert!(bytes.is_empty());

    let mut bytes = Vec::new();
    message::body_fault(&mut bytes, 1, &"\u{20ac}".repeat(1000), false);
    assert_eq!(fault(Side::Child, &bytes), None);
    let last = format!("{}the end", "\u{20ac}".repeat(100_000));
    let mut bytes = Vec::new();
    control::FromDaemon::ImportFailed(last).encode(&mut bytes).unwrap();
    assert!(bytes.ends_with(b"the end"));
    assert_eq!(fault(Side::FromDaemon, &bytes), None);
}

#[test]
fn a_frame_can_be_kept_while_more_arrives() {
    let mut bytes = Vec::new();
    corpus::request(&mut bytes, 1, b"first");
    let end = bytes.len();
    stream_body(&mut bytes, b"second");
    let mut decoder = Decoder::new(message::from_child);
    decoder.feed(&bytes[..end + 15]);
    let whole = decoder.take().unwrap().unwrap();
    assert!(decoder.frame().unwrap().is_none());
    decoder.feed(&bytes[end + 15..]);
    let second = decoder.frame().unwrap().unwrap();
    assert_eq!(second.payload, b"second");
    let FromChild::Request(request) = FromChild::decode(&whole.frame()).unwrap() else { panic!() };
    assert_eq!(request.inline, b"first");
    decoder.give_back(whole);
    let held = decoder.held();
    for _ in 0..10 {
        decoder.feed(&bytes[..end]);
        let whole = decoder.take().unwrap().unwrap();
        decoder.give_back(whole);
    }
    assert_eq!(decoder.held(), held, "buffers are used again");
}

fn stream_body(out: &mut Vec<u8>, block: &[u8]) {
    exercise::stream(out, |batch| message::body(batch, 1, &[block], false));
}

#[test]
fn memory_follows_what_arrived_and_is_given_back() {
    let mut decoder = Decoder::new(message::from_daemon);
    let header = Header { length: MAX_HEAD as u32, kind: 18, flags: 0, number: 1 }.encode();
    decoder.feed(&header);
    decoder.space();
    assert!(decoder.held() <= 16 * 1024, "an announcement is no reason to allocate");
    let mut left = MAX_HEAD;
    while left > 0 {
        let count = decoder.space().len().min(left);
        decoder.filled(count);
        left -= count;
    }
    assert_eq!(decoder.frame().unwrap().unwrap().payload.len(), MAX_HEAD);
    assert!(decoder.held() >= MAX_HEAD);
    decoder.space();
    assert!(decoder.held() <= 16 * 1024);
}

#[test]
fn a_header_can_be_seen_before_its_payload() {
    let mut decoder = Decoder::new(message::from_child);
    let header = Header { length: 100, kind: 2, flags: flag::HAS_FILE, number: 1 };
    decoder.feed(&header.encode()[..11]);
    assert_eq!(decoder.header(), Ok(None));
    decoder.feed(&header.encode()[11..]);
    assert_eq!(decoder.header(), Ok(Some(header)));
    assert_eq!(decoder.frame(), Ok(None));
    assert!(header.carries_descriptor(message::from_child));
    assert!(!Header { flags: 0, ..header }.carries_descriptor(message::from_child));
}

fn at(kind: Kind, flags: u8, number: u32) -> Header {
    Header { length: 0, kind: kind as u8, flags, number }
}

#[test]
fn a_child_keeps_the_order_or_is_refused() {
    use Kind::{Body, BodyFault, Cancel, Data, Hello, Request};
    let here = Ok(Place::Here);
    let late = Ok(Place::Late);
    let asked = flag::EXPECTS_BODY;
    // `None`: this end finishes its response.
    type Step = Option<(Kind, u8, u32, Result<Place, Fault>)>;
    let table: &[&[Step]] = &[
        &[Some((Request, 0, 1, Err(Fault::Order(2))))],
        &[Some((Hello, 0, 0, here)), Some((Hello, 0, 0, Err(Fault::Order(1))))],
        &[Some((Hello, 0, 0, here)), Some((Request, 0, 2, Err(Fault::Number(2))))],
        &[Some((Hello, 0, 0, here)), Some((Body, 0, 1, Err(Fault::Number(1))))],
        &[Some((Hello, 0, 0, here)), Some((Data, 0, 1, Err(Fault::Order(19))))],
        &[
            Some((Hello, 0, 0, here)),
            Some((Request, 0, 1, here)),
            Some((Request, 0, 2, Err(Fault::Order(2)))),
        ],
        &[
            Some((Hello, 0, 0, here)),
            Some((Request, 0, 1, here)),
            Some((Body, 0, 1, Err(Fault::Order(3)))),
        ],
        &[
            Some((Hello, 0, 0, here)),
            Some((Request, asked, 1, here)),
            Some((Body, 0, 1, here)),
            None,
            Some((Body, flag::LAST, 1, late)),
            Some((Cancel, 0, 1, late)),
            Some((Body, 0, 1, Err(Fault::Order(3)))),
            Some((Request, asked, 2, here)),
            Some((Body, 0, 1, Err(Fault::Number(1)))),
            Some((Cancel, 0, 3, Err(Fault::Number(3)))),
            Some((BodyFault, 0, 2, here)),
            Some((Body, 0, 2, Err(Fault::Order(3)))),
            Some((Cancel, 0, 2, here)),
            None,
            Some((Request, 0, 2, Err(Fault::Number(2)))),
            Some((Request, 0, 3, here)),
        ],
    ];
    for steps in table {
        let mut order = ChildOrder::new();
        for (index, step) in steps.iter().enumerate() {
            match step {
                None => order.finish(),
                Some((kind, flags, number, expected)) => {
                    let found = order.accept(&at(*kind, *flags, *number));
                    assert_eq!(found, *expected, "{steps:?} at {index}");
                }
            }
        }
    }
}

#[test]
fn a_daemon_keeps_the_order_or_is_refused() {
    use Kind::{Abort, Body, Data, Done, End, Failed, File, Head, Log, Read};
    type Case = (&'static [(Kind, u8)], Option<Stage>);
    let table: &[Case] = &[
        (&[(Head, 0), (Data, 0), (Data, 0), (End, 0)], Some(Stage::Idle)),
        (&[(Read, 0), (Log, 0), (Head, 0), (Read, 0), (Log, 0)], Some(Stage::Body)),
        (&[(Head, 0), (File, 0)], Some(Stage::Idle)),
        (&[(Head, 0), (Abort, 0)], Some(Stage::Idle)),
        (&[(Log, 0), (Failed, 0)], Some(Stage::Idle)),
        (&[(Head, 0), (End, flag::LINGER), (Log, 0)], Some(Stage::Lingering)),
        (&[(Head, 0), (End, flag::LINGER), (Log, 0), (Done, 0)], Some(Stage::Idle)),
        (&[(Head, 0), (Head, 0)], None),
        (&[(Data, 0)], None),
        (&[(End, 0)], None),
        (&[(File, 0)], None),
        (&[(Abort, 0)], None),
        (&[(Done, 0)], None),
        (&[(Head, 0), (Failed, 0)], None),
        (&[(Head, 0), (End, 0), (Log, 0)], None),
        (&[(Head, 0), (End, 0), (Data, 0)], None),
        (&[(Head, 0), (End, flag::LINGER), (Data, 0)], None),
        (&[(Head, 0), (Done, 0)], None),
        (&[(Body, 0)], None),
    ];
    for (frames, expected) in table {
        let mut order = DaemonOrder::new();
        assert_eq!(order.request(true), Some(1));
        let found = frames
            .iter()
            .try_for_each(|(kind, flags)| order.accept(&at(*kind, *flags, 1), None))
            .map(|()| order.stage());
        assert_eq!(found.ok(), *expected, "{frames:?}");
    }
    let mut order = DaemonOrder::new();
    assert!(order.accept(&at(Head, 0, 1), None).is_err(), "nothing was asked");
    order.request(false);
    assert_eq!(order.accept(&at(Read, 0, 1), None), Err(Fault::Order(17)), "there is no body");
    assert_eq!(order.accept(&at(Head, 0, 2), None), Err(Fault::Number(2)));
    assert_eq!(order.request(false), None, "one at a time");
    order.accept(&at(Head, 0, 1), None).unwrap();
    order.accept(&at(End, flag::CLOSE, 1), None).unwrap();
    assert_eq!(order.request(false), None, "it is being closed");
}

#[test]
fn what_goaway_names_decides_about_sending_again() {
    // Requests sent, frames for the latest, the number named: refused, or (unread, answered).
    for (requests, answered, last, expected) in [
        (0, false, 0, Some((false, false))),
        (1, false, 0, Some((true, false))),
        (1, false, 1, Some((false, false))),
        (1, true, 1, Some((false, true))),
        (1, true, 0, None),
        (1, false, 2, None),
        (3, false, 2, Some((true, false))),
        (3, false, 1, None),
    ] {
        let mut order = DaemonOrder::new();
        for number in 1..=requests {
            assert_eq!(order.request(false), Some(number));
            if number < requests {
                order.accept(&at(Kind::Failed, 0, number), None).unwrap();
            } else if answered {
                order.accept(&at(Kind::Log, 0, number), None).unwrap();
            }
        }
        let done = order.accept(&at(Kind::GoAway, 0, 0), Some(last));
        let found = done.ok().map(|()| (order.unread(), order.answered()));
        assert_eq!(found, expected, "{requests} {answered} {last}");
        assert!(done.is_err() || order.accept(&at(Kind::GoAway, 0, 0), Some(last)).is_err());
        if done.is_ok() {
            assert!(!order.reusable());
        }
        if expected == Some((false, true)) {
            // A response goes on after GOAWAY named its request.
            order.accept(&at(Kind::Head, 0, 1), None).unwrap();
            order.accept(&at(Kind::End, 0, 1), None).unwrap();
            assert!(!order.reusable());
        }
    }
}

#[test]
fn headers_have_their_documented_form() {
    let header = Header { length: 0x0102_0304, kind: 5, flags: 6, number: 0x0708_090a };
    let bytes = header.encode();
    assert_eq!(bytes, [4, 3, 2, 1, 5, 6, 0, 0, 10, 9, 8, 7]);
    assert_eq!(bytes.len(), HEADER);
}
