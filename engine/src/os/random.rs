//! Bytes that nobody can guess.

#![expect(unsafe_code, reason = "the border to the system, see SAFETY.md")]

use std::io;

/// As many bytes as a secret has, from the kernel. Waits only where the machine has just started and the
/// kernel itself has none yet.
pub fn random() -> io::Result<[u8; 32]> {
    let mut bytes = [0; 32];
    loop {
        // SAFETY: the place has as many bytes as said.
        let count = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
        match usize::try_from(count) {
            // So few bytes are given at once or, where a signal came first, not at all.
            Ok(count) if count == bytes.len() => return Ok(bytes),
            Ok(_) => {}
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != io::ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_are_not_the_same() {
        let (one, other) = (random().unwrap(), random().unwrap());
        assert_ne!(one, other);
        assert_ne!(one, [0; 32]);
    }
}
