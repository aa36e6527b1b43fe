//! httpd's scoreboard: shared memory in which its processes write what they are doing.

use std::ffi::c_char;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use engine::wsgi::scoreboard::{Process, Scoreboard, Worker};

use super::facts::running_magic;
use crate::sys;
use crate::sys::constants::MAGIC_CLIENT64;

/// Letters of `SERVER_DEAD` to `SERVER_IDLE_KILL`, as mod_status has them.
const STATES: &[u8] = b".S_RWKLDCGI";

/// A copy of all of it; `None` where httpd keeps none.
pub(crate) fn scoreboard() -> Option<Scoreboard> {
    // SAFETY: no precondition.
    if unsafe { sys::ap_exists_scoreboard_image() } == 0 {
        return None;
    }
    // SAFETY: the image exists from before the first child to the end of the process, and its dimensions
    // do not change meanwhile.
    let (server_limit, thread_limit, generation, restarted) = unsafe {
        let global = sys::ap_get_scoreboard_global();
        if global.is_null() {
            return None;
        }
        let restarted = (&raw const (*global).restart_time).read_volatile();
        let generation = (&raw const (*global).running_generation).read_volatile();
        ((*global).server_limit, (*global).thread_limit, generation, restarted)
    };
    let processes = (0..server_limit).filter_map(|process| {
        // SAFETY: null for what is out of range.
        let place = unsafe { sys::ap_get_scoreboard_process(process) };
        if place.is_null() {
            return None;
        }
        let workers = (0..thread_limit).filter_map(|thread| worker(process, thread)).collect();
        // SAFETY: a place in the image; others may be writing it, so each field is read once.
        unsafe {
            Some(Process {
                pid: u32::try_from((&raw const (*place).pid).read_volatile()).unwrap_or(0),
                generation: number((&raw const (*place).generation).read_volatile()),
                quiescing: (&raw const (*place).quiescing).read_volatile() != 0,
                workers,
            })
        }
    });
    Some(Scoreboard {
        server_limit: number(server_limit),
        thread_limit: number(thread_limit),
        generation: number(generation),
        restarted: time(restarted),
        processes: processes.collect(),
    })
}

fn worker(process: i32, thread: i32) -> Option<Worker> {
    // SAFETY: null for what is out of range.
    let place = unsafe { sys::ap_get_scoreboard_worker_from_indexes(process, thread) };
    if place.is_null() {
        return None;
    }
    // SAFETY: a place in the image; others may be writing it, so each field is read once. The last of
    // them is there where the running httpd is new enough.
    unsafe {
        let state = usize::from((&raw const (*place).status).read_volatile());
        let client = if running_magic() >= MAGIC_CLIENT64 {
            chars(&(&raw const (*place).client64).read_volatile())
        } else {
            chars(&(&raw const (*place).client).read_volatile())
        };
        Some(Worker {
            number: number((&raw const (*place).thread_num).read_volatile()),
            generation: number((&raw const (*place).generation).read_volatile()),
            status: state_letter(state),
            accesses: (&raw const (*place).access_count).read_volatile(),
            bytes: number((&raw const (*place).bytes_served).read_volatile()),
            start: time((&raw const (*place).start_time).read_volatile()),
            stop: time((&raw const (*place).stop_time).read_volatile()),
            used: time((&raw const (*place).last_used).read_volatile()),
            client,
            request: chars(&(&raw const (*place).request).read_volatile()),
            host: chars(&(&raw const (*place).vhost).read_volatile()),
        })
    }
}

fn state_letter(state: usize) -> u8 {
    STATES.get(state).copied().unwrap_or(b'?')
}

fn number(value: impl TryInto<u64>) -> u64 {
    value.try_into().unwrap_or(0)
}

/// A time of httpd's; the epoch for none.
fn time(micros: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

/// A text in a field of fixed size, which it may fill.
fn chars(field: &[c_char]) -> Vec<u8> {
    field.iter().map(|c| c.cast_unsigned()).take_while(|byte| *byte != 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_as_httpd_writes_them() {
        let field = b"GET /\0\0x".map(u8::cast_signed);
        assert_eq!(chars(&field), b"GET /");
        assert_eq!(chars(&field[..3]), b"GET");
        assert_eq!((state_letter(0), state_letter(4), state_letter(10)), (b'.', b'W', b'I'));
        assert_eq!(state_letter(11), b'?');
        assert_eq!(
            (time(-1), time(1_500_000)),
            (UNIX_EPOCH, UNIX_EPOCH + Duration::from_millis(1500))
        );
    }
}
