//! Every kill point: the connection lost after each frame, and within each, in every way.

use engine::wire::Batch;
use engine::wire::frame::Decoder;
use engine::wire::message::{self, Ending, Kind, from_daemon};

use super::*;

/// How far a request is, as a bystander would say who has only seen the names of the frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Far {
    /// No frame has come for it.
    Untouched,
    /// Some have, but no head.
    Touched,
    /// The head has.
    Begun,
    /// All that the client gets has.
    Ended,
}

use Far::{Begun, Ended, Touched, Untouched};

/// A frame, and how far the request is after it.
type Said = (Vec<u8>, Far);

fn frame(write: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut out = Vec::new();
    write(&mut out);
    out
}

fn head(length: Option<&str>, status: &str) -> Vec<u8> {
    let line = std::ffi::CString::new(status).unwrap();
    let length = length.map(|length| std::ffi::CString::new(length).unwrap());
    frame(|out| {
        let fields = length.as_deref().map(|length| (c"Content-Length", length));
        message::head(out, 1, &line, fields).unwrap();
    })
}

fn data(bytes: &[u8]) -> Vec<u8> {
    frame(|out| {
        let mut batch = Batch::new(out);
        message::data(&mut batch, 1, &[bytes], true);
        let whole = batch.slices().concat();
        *out = whole;
    })
}

fn end(ending: Ending) -> Vec<u8> {
    frame(|out| message::end(out, 1, ending))
}

const PLAIN: Ending = Ending { flush: false, close: false, linger: false };
const LINGER: Ending = Ending { flush: true, close: false, linger: true };

/// Conversations that keep the rules.
fn conversations() -> Vec<Vec<Said>> {
    let log = || frame(|out| message::log(out, 1, 1, "text"));
    let read = || frame(|out| message::read(out, 1, 1000, true));
    let away = || frame(|out| message::go_away(out, 1));
    vec![
        vec![
            (head(None, "200 OK"), Begun),
            (data(b"one"), Begun),
            (data(b"two"), Begun),
            (end(PLAIN), Ended),
        ],
        vec![
            (read(), Touched),
            (log(), Touched),
            (head(Some("3"), "200 OK"), Begun),
            (log(), Begun),
            (read(), Begun),
            (data(b"one"), Begun),
            (end(LINGER), Ended),
            (log(), Ended),
            (frame(|out| message::done(out, 1, false)), Ended),
        ],
        vec![(log(), Touched), (frame(|out| message::failed(out, 1, 503, PLAIN)), Ended)],
        vec![
            (away(), Untouched),
            (head(None, "200 OK"), Begun),
            (frame(|out| message::abort(out, 1, "reason", PLAIN)), Ended),
        ],
        vec![
            (head(Some("5"), "200 OK"), Begun),
            (frame(|out| message::file(out, 1, 7, 5, PLAIN)), Ended),
            (away(), Ended),
        ],
    ]
}

/// What has to become of the request, by the rules and not by the code.
fn expected(far: Far, sent: Sent, loss: &Loss) -> Fate {
    match (far, loss) {
        (Ended, _) => Fate::Complete,
        (Begun, _) => Fate::Cut,
        (_, Loss::Silent) => Fate::Answer(504),
        (Touched, _)
        | (_, Loss::Wrong(_) | Loss::Closed { torn: true } | Loss::Reset { torn: true }) => {
            Fate::Answer(502)
        }
        (Untouched, Loss::Closed { .. } | Loss::Failed(_)) => match sent {
            Sent::Partly => Fate::Again,
            Sent::InOnePiece | Sent::InPieces => Fate::Answer(502),
        },
        (Untouched, Loss::Reset { .. }) => match sent {
            Sent::Partly | Sent::InOnePiece => Fate::Again,
            Sent::InPieces => Fate::Answer(502),
        },
    }
}

fn losses(torn: bool) -> [Loss; 5] {
    [
        Loss::Closed { torn },
        Loss::Reset { torn },
        Loss::Silent,
        Loss::Wrong(Fault::Reserved),
        Loss::Failed("reason".to_owned()),
    ]
}

const SENT: [Sent; 3] = [Sent::Partly, Sent::InOnePiece, Sent::InPieces];

#[test]
fn every_kill_point_has_the_fate_that_the_rules_give_it() {
    let mut checked = 0;
    for said in conversations() {
        let bytes: Vec<u8> = said.iter().flat_map(|(bytes, _)| bytes.clone()).collect();
        for sent in SENT {
            for cut in 0..=bytes.len() {
                let mut course = Course::default();
                assert_eq!(course.request(true, false), Some(1));
                course.sent(sent);
                let mut decoder = Decoder::new(from_daemon);
                assert_eq!(decoder.feed(&bytes[..cut]), cut);
                let mut whole = 0;
                while let Some(frame) = decoder.frame().unwrap() {
                    course.frame(&frame).unwrap();
                    whole += 1;
                }
                let far = if whole == 0 { Untouched } else { said[whole - 1].1 };
                let torn = !decoder.is_empty();
                for loss in losses(torn) {
                    let fate = course.lost(&loss);
                    let rule = expected(far, sent, &loss);
                    assert_eq!(fate, rule, "{far:?} {sent:?} {loss:?} at {cut}");
                    // Whatever the rules above say.
                    let untouched = far == Untouched && (!torn || sent == Sent::Partly);
                    assert!(fate != Fate::Again || untouched, "sent twice");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 5000, "{checked} kill points");
}

/// Feeds frames; the acts by name.
fn acts(course: &mut Course, bytes: &[u8]) -> Result<Vec<String>, Fault> {
    let mut decoder = Decoder::new(from_daemon);
    assert_eq!(decoder.feed(bytes), bytes.len());
    let mut acts = Vec::new();
    while let Some(frame) = decoder.frame()? {
        let act = format!("{:?}", course.frame(&frame)?);
        let end = act.find(|c: char| !c.is_alphanumeric()).unwrap_or(act.len());
        acts.push(act[..end].to_owned());
    }
    Ok(acts)
}

fn begun() -> Course {
    let mut course = Course::default();
    course.request(true, false);
    course.sent(Sent::InOnePiece);
    course
}

#[test]
fn a_request_that_was_not_read_is_sent_again() {
    let mut course = begun();
    let told = frame(|out| message::go_away(out, 0));
    assert_eq!(acts(&mut course, &told).unwrap(), ["Again"]);
    assert!(!course.reusable());
    for loss in losses(false) {
        assert_eq!(course.lost(&loss), Fate::Again);
    }
}

#[test]
fn going_away_after_a_request_lets_it_finish_and_is_the_end_of_the_connection() {
    let mut course = begun();
    let said: Vec<u8> = [frame(|out| message::go_away(out, 1)), head(None, "200 OK"), end(PLAIN)]
        .into_iter()
        .flatten()
        .collect();
    assert_eq!(acts(&mut course, &said).unwrap(), ["Nothing", "Begin", "End"]);
    assert!(course.is_over() && !course.reusable());
}

#[test]
fn a_connection_carries_one_request_after_the_other() {
    let mut course = begun();
    acts(&mut course, &[head(None, "200 OK"), end(PLAIN)].concat()).unwrap();
    assert!(course.reusable());
    assert_eq!(course.request(false, false), Some(2));
    // Nothing of the first one holds for the second.
    assert_eq!(course.lost(&Loss::Closed { torn: false }), Fate::Again);
    course.sent(Sent::InOnePiece);
    assert_eq!(course.lost(&Loss::Closed { torn: false }), Fate::Answer(502));
    let late = head(None, "200 OK");
    assert_eq!(acts(&mut course, &late), Err(Fault::Number(1)));
    assert_eq!(course.request(false, false), None, "while another is under way");
}

#[test]
fn what_lingers_keeps_the_connection_until_it_is_done() {
    let mut course = begun();
    acts(&mut course, &[head(None, "200 OK"), end(LINGER)].concat()).unwrap();
    assert!(course.has_ended() && !course.is_over() && !course.reusable());
    acts(&mut course, &frame(|out| message::done(out, 1, false))).unwrap();
    assert!(course.is_over() && course.reusable());
    let mut course = begun();
    acts(&mut course, &[head(None, "200 OK"), end(LINGER)].concat()).unwrap();
    acts(&mut course, &frame(|out| message::done(out, 1, true))).unwrap();
    assert!(course.is_over() && !course.reusable());
}

#[test]
fn a_body_is_as_long_as_its_head_says() {
    type Case = (&'static str, Vec<Vec<u8>>, &'static [&'static str]);
    let cases: [Case; 6] = [
        ("200 OK", vec![data(b"12345"), end(PLAIN)], &["Begin", "Data", "End"]),
        ("200 OK", vec![data(b"1234"), end(PLAIN)], &["Begin", "Data", "Cut"]),
        ("200 OK", vec![frame(|out| message::file(out, 1, 0, 4, PLAIN))], &["Begin", "Cut"]),
        ("200 OK", vec![frame(|out| message::file(out, 1, 0, 5, PLAIN))], &["Begin", "File"]),
        ("304 Not Modified", vec![end(PLAIN)], &["Begin", "End"]),
        ("204 No Content", vec![end(PLAIN)], &["Begin", "End"]),
    ];
    for (status, rest, expected) in cases {
        let mut course = begun();
        let said = [vec![head(Some("5"), status)], rest].concat().concat();
        assert_eq!(acts(&mut course, &said).unwrap(), expected, "{status}");
    }
    let longer = [
        vec![head(Some("5"), "200 OK"), data(b"123"), data(b"456")],
        vec![head(Some("5"), "200 OK"), frame(|out| message::file(out, 1, 0, 6, PLAIN))],
    ];
    for said in longer {
        let mut course = begun();
        assert!(matches!(acts(&mut course, &said.concat()), Err(Fault::Value(_))));
        assert_eq!(course.lost(&Loss::Wrong(Fault::Short)), Fate::Cut);
    }
}

#[test]
fn the_answer_to_head_has_no_body_and_is_not_short() {
    let mut course = Course::default();
    course.request(false, true);
    let said = [head(Some("5"), "200 OK"), end(PLAIN)].concat();
    assert_eq!(acts(&mut course, &said).unwrap(), ["Begin", "End"]);
}

#[test]
fn body_is_sent_as_far_as_it_was_asked_for() {
    let mut course = begun();
    assert!(!course.wants_body());
    let read = frame(|out| message::read(out, 1, 10, false));
    assert_eq!(acts(&mut course, &[read.clone(), read].concat()).unwrap(), ["Feed", "Feed"]);
    assert_eq!(course.credit(), 20);
    course.fed(15, false);
    assert!(course.wants_body());
    course.fed(5, false);
    assert!(!course.wants_body());
    let read = frame(|out| message::read(out, 1, 10, false));
    acts(&mut course, &read).unwrap();
    course.fed(3, true);
    assert!(!course.wants_body(), "after the last of it");
}

#[test]
fn frames_that_have_no_place_are_faults() {
    let order = |kind: Kind| Fault::Order(kind as u8);
    for (said, fault) in [
        (vec![data(b"x")], order(Kind::Data)),
        (vec![end(PLAIN)], order(Kind::End)),
        (vec![head(None, "200 OK"), head(None, "200 OK")], order(Kind::Head)),
        (vec![head(None, "200 OK"), end(PLAIN), end(PLAIN)], order(Kind::End)),
        (
            vec![head(None, "200 OK"), frame(|out| message::failed(out, 1, 500, PLAIN))],
            order(Kind::Failed),
        ),
        (vec![frame(|out| message::go_away(out, 2))], Fault::Number(2)),
    ] {
        let mut course = begun();
        assert_eq!(acts(&mut course, &said.concat()), Err(fault));
    }
    // Body is asked for although there is none.
    let mut course = Course::default();
    course.request(false, false);
    let read = frame(|out| message::read(out, 1, 10, false));
    assert_eq!(acts(&mut course, &read), Err(order(Kind::Read)));
}
