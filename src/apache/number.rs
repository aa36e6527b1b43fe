//! Decimal digits on the stack.

/// A number in decimal digits.
pub(crate) struct Digits {
    bytes: [u8; 20],
    start: usize,
}

impl Digits {
    /// The digits of `value`.
    pub(crate) fn new(mut value: u64) -> Self {
        let mut bytes = [b'0'; 20];
        let mut start = bytes.len();
        loop {
            start -= 1;
            // The remainder of ten is one digit.
            bytes[start] = b'0' + (value % 10) as u8;
            value /= 10;
            if value == 0 {
                return Self { bytes, start };
            }
        }
    }

    /// The digits as text.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[self.start..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_those_of_the_number() {
        for value in [0, 1, 9, 10, 80, 443, 65_535, u64::MAX] {
            assert_eq!(Digits::new(value).as_bytes(), value.to_string().as_bytes());
        }
    }
}
