//! Responses whose applications make blocks faster than these can be sent one by one.

use std::fs::File;

use crate::harness::{Server, Site};

/// `/stall` makes its first blocks quickly, then waits for a file before it makes as many again; `/fork` has another
/// process go on beside it from there; `/` does neither. The bytes say where in the body they are.
const BLOCKS: &str = r#"
import os
import time

SCRATCH = os.environ["TEST_SCRATCH"]
COUNT = 5000

def blocks(path):
    at = 0
    for half in range(2):
        for number in range(COUNT):
            size = 1 + number * 7919 % 1301
            yield b"%08d" % at + b"." * size
            at += 8 + size
        if half == 0 and path == "/fork":
            child = os.fork()
            if child:
                os.waitpid(child, 0)
        if half == 0 and path == "/stall":
            with open(SCRATCH + "/stalls", "w") as file:
                file.write("%d;" % at)
            while not os.path.exists(SCRATCH + "/go"):
                time.sleep(0.005)

def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return blocks(environ["PATH_INFO"])
"#;

/// Blocks in half of a body.
const COUNT: usize = 5000;

/// What [`BLOCKS`] makes, in `halves` halves.
fn body(halves: usize) -> Vec<u8> {
    let mut body = Vec::new();
    for number in (0..halves).flat_map(|_| 0..COUNT) {
        let at = body.len();
        body.extend_from_slice(format!("{at:08}").as_bytes());
        body.resize(at + 9 + number * 7919 % 1301, b'.');
    }
    body
}

fn site(name: &str) -> Server {
    Site::new(name).source_with("/", BLOCKS, "application-group=%{GLOBAL}").daemon().start()
}

#[test]
fn last_block_before_a_stall_arrives() {
    let server = site("stall");
    let before = body(1);
    let mut client = server.client();
    client.send_request("GET", "/stall", &[], b"");
    assert_eq!(client.read_head().status, 200);
    let mut received = Vec::new();
    while received.len() < before.len() {
        let chunk = client.read_chunk().expect("it is not cut");
        assert!(!chunk.is_empty(), "the end after {} bytes", received.len());
        received.extend(chunk);
    }
    // The application waits, and goes on only now.
    assert!(received == before);
    assert_eq!(server.wait_for_file("scratch/stalls", ";"), format!("{};", before.len()));
    File::create(server.path("scratch/go")).expect("a file");
    loop {
        let chunk = client.read_chunk().expect("it is not cut");
        if chunk.is_empty() {
            break;
        }
        received.extend(chunk);
    }
    assert!(received == body(2));
}

#[test]
fn forked_process_sends_nothing_and_waits_for_nobody() {
    let server = site("fork");
    for _ in 0..5 {
        assert!(server.get("/fork").expect(200).body == body(2));
    }
}

#[test]
fn quick_blocks_arrive_whole_and_in_order() {
    let server = site("blocks");
    let expected = body(2);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = server.client();
                for _ in 0..3 {
                    assert!(client.get("/").expect(200).body == expected);
                }
            });
        }
    });
}
