//! The fuzz target of the wire: any bytes, as any side, in pieces of any size.

#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../engine/tests/wire/exercise.rs"]
mod exercise;

fuzz_target!(|input: &[u8]| exercise::fuzz(input));
