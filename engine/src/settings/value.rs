//! Argument text to values: words, options, switches and numbers.
//!
//! httpd hands a directive's arguments over as one line of text. It is split here by the rules that
//! httpd itself uses for all its directives, so that quoting works the same everywhere in one file.

use std::error::Error;
use std::fmt;
use std::time::Duration;

/// Why an argument is refused: what is wrong and what to write instead, as one line.
///
/// The directive is not named in it; who applies the directive knows its name and puts it in front.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault(String);

impl Fault {
    /// A fault with this text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Fault {}

/// Reads words off an argument line, left to right.
#[derive(Clone, Debug)]
pub struct Words<'a> {
    rest: &'a str,
}

impl<'a> Words<'a> {
    /// A reader at the start of `line`.
    #[must_use]
    pub fn new(line: &'a str) -> Self {
        Self { rest: line.trim_matches(is_blank) }
    }

    /// What has not been read yet, without blanks around it.
    #[must_use]
    pub fn rest(&self) -> &'a str {
        self.rest
    }

    /// The next word; `None` at the end of the line. A word may be empty if it is quoted.
    ///
    /// A word ends at a blank, or stands in single or double quotes; inside quotes, the quote
    /// itself is written with a backslash before it, and a backslash anywhere may be doubled. A
    /// quote that is not closed runs to the end of the line, as everywhere in httpd.
    pub fn word(&mut self) -> Option<String> {
        let first = self.rest.chars().next()?;
        let (word, rest) = if first == '"' || first == '\'' {
            quoted(self.rest.get(1..).unwrap_or_default(), first)
        } else {
            let end = self.rest.find(is_blank).unwrap_or(self.rest.len());
            let (word, rest) = self.rest.split_at(end);
            (word.replace("\\\\", "\\"), rest)
        };
        self.rest = rest.trim_start_matches(is_blank);
        Some(word)
    }

    /// The next `name=value` option; `None` at the end of the line. The value is one word and may
    /// be quoted, the name may not. An empty value is a fault.
    pub fn option(&mut self) -> Result<Option<(&'a str, String)>, Fault> {
        if self.rest.is_empty() {
            return Ok(None);
        }
        let end = self.rest.find(|c| c == '=' || is_blank(c)).unwrap_or(self.rest.len());
        let (name, rest) = self.rest.split_at(end);
        let Some(value) = rest.strip_prefix('=') else {
            let text = if rest.trim_start_matches(is_blank).starts_with('=') {
                format!("blank before '=' after '{name}': write {name}=value")
            } else {
                format!("'{name}' is not an option: options are written name=value")
            };
            return Err(Fault::new(text));
        };
        if name.is_empty() {
            return Err(Fault::new("option name missing before '=': write name=value"));
        }
        // Blanks behind the '=' have always been let pass.
        self.rest = value.trim_start_matches(is_blank);
        match self.word() {
            Some(word) if !word.is_empty() => Ok(Some((name, word))),
            _ => Err(no_value(name)),
        }
    }
}

/// The only word of a line, not empty.
pub fn one_word(line: &str) -> Result<String, Fault> {
    let mut words = Words::new(line);
    let Some(word) = words.word() else {
        return Err(Fault::new("takes one argument, none is given"));
    };
    if !words.rest().is_empty() {
        return Err(Fault::new(format!(
            "takes one argument, '{}' is too much: put quotes around an argument with blanks",
            words.rest()
        )));
    }
    if word.is_empty() { Err(Fault::new("takes one argument, it is empty")) } else { Ok(word) }
}

/// `On` or `Off`, in any case, as the only word of a line.
pub fn on_off(line: &str) -> Result<bool, Fault> {
    choice(&one_word(line)?, &[("On", true), ("Off", false)])
}

/// One of a few names, in any case.
pub fn choice<T: Copy>(word: &str, choices: &[(&str, T)]) -> Result<T, Fault> {
    choices
        .iter()
        .find(|(name, _)| name.eq_ignore_ascii_case(word))
        .map(|&(_, value)| value)
        .ok_or_else(|| {
            let names: Vec<&str> = choices.iter().map(|&(name, _)| name).collect();
            Fault::new(format!("'{word}' is not allowed: write {}", alternatives(&names)))
        })
}

/// A whole number in a range, as decimal digits and nothing else.
pub fn whole(word: &str, from: u64, to: u64) -> Result<u64, Fault> {
    let digits = !word.is_empty() && word.bytes().all(|b| b.is_ascii_digit());
    let number = if digits { word.parse().ok() } else { None };
    number.filter(|n| (from..=to).contains(n)).ok_or_else(|| {
        Fault::new(format!("'{word}' is not allowed: write a whole number from {from} to {to}"))
    })
}

/// Longest interval in seconds: what published configurations write for "never", and low enough to be counted in
/// microseconds.
const LONGEST: f64 = 2_147_483_647.0;

/// A time in seconds above zero, possibly with a fraction.
pub fn seconds(word: &str) -> Result<f64, Fault> {
    // The names that a float may also have ("inf", "nan") are no times.
    let plain = word.starts_with(|c: char| c.is_ascii_digit() || c == '.');
    let number: Option<f64> = if plain { word.parse().ok() } else { None };
    number.filter(|&n| n > 0.0 && n <= LONGEST).ok_or_else(|| {
        Fault::new(format!(
            "'{word}' is not allowed: write a number of seconds above 0, such as 0.005"
        ))
    })
}

/// A whole number in a range that may begin below zero.
pub fn signed(word: &str, from: i32, to: i32) -> Result<i32, Fault> {
    let digits = word.strip_prefix('-').unwrap_or(word);
    let plain = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    let number = if plain { word.parse().ok() } else { None };
    number.filter(|n| (from..=to).contains(n)).ok_or_else(|| {
        Fault::new(format!("'{word}' is not allowed: write a whole number from {from} to {to}"))
    })
}

/// Units of time, with their milliseconds.
const TIMES: &[(&str, u64)] =
    &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// A time as a whole number with a unit; without one it is in seconds. May be zero.
pub fn duration(word: &str) -> Result<Duration, Fault> {
    time(word, 1_000, "30 or 30s (seconds), 500ms, 5m, 2h or 1d")
}

/// As [`duration`], but without a unit it is in milliseconds.
pub fn milliseconds(word: &str) -> Result<Duration, Fault> {
    time(word, 1, "500 or 500ms (milliseconds), 1s or 1m")
}

fn time(word: &str, unit: u64, examples: &str) -> Result<Duration, Fault> {
    // Compared in seconds with the longest, so that no sum of a few can overflow anything.
    with_unit(word, unit, TIMES)
        .map(Duration::from_millis)
        .filter(|time| time.as_secs_f64() <= LONGEST)
        .ok_or_else(|| {
            Fault::new(format!("'{word}' is not allowed: write a time such as {examples}"))
        })
}

/// A number of bytes, at least `least` or, where that is more than 1, zero: a whole number,
/// possibly of K, M or G (powers of 1024, in either case).
pub fn size(word: &str, least: u64) -> Result<u64, Fault> {
    const SIZES: &[(&str, u64)] = &[
        ("K", 1 << 10),
        ("k", 1 << 10),
        ("M", 1 << 20),
        ("m", 1 << 20),
        ("G", 1 << 30),
        ("g", 1 << 30),
    ];
    with_unit(word, 1, SIZES)
        // Beyond this the kernel's limits count as none.
        .filter(|&size| size <= i64::MAX.cast_unsigned())
        .filter(|&size| size >= least || (size == 0 && least > 1))
        .ok_or_else(|| {
            let bound = match least {
                0 => String::new(),
                1 => " above 0".to_owned(),
                _ => format!(" from {least}, or 0"),
            };
            Fault::new(format!(
                "'{word}' is not allowed: write a number of bytes{bound}, such as 524288, 512K, \
                 512M or 2G"
            ))
        })
}

/// Digits and one of the units, or none, multiplied.
fn with_unit(word: &str, unit: u64, units: &[(&str, u64)]) -> Option<u64> {
    let end = word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len());
    let (digits, name) = word.split_at(end);
    let factor = match name {
        "" => unit,
        _ => units.iter().find(|(known, _)| *known == name)?.1,
    };
    digits.parse::<u64>().ok()?.checked_mul(factor)
}

/// `a`, `a or b`, `a, b or c`.
#[must_use]
pub fn alternatives(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [only] => (*only).to_owned(),
        [before @ .., last] => format!("{} or {last}", before.join(", ")),
    }
}

/// Splits a quoted word, whose opening quote has been read, from what follows it.
fn quoted(text: &str, quote: char) -> (String, &str) {
    let mut word = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        if c == quote {
            return (word, text.get(at + 1..).unwrap_or_default());
        }
        if c == '\\' {
            let mut ahead = chars.clone();
            if let Some((_, next)) = ahead.next().filter(|&(_, n)| n == quote || n == '\\') {
                word.push(next);
                chars = ahead;
                continue;
            }
        }
        word.push(c);
    }
    (word, "")
}

fn no_value(name: &str) -> Fault {
    Fault::new(format!("option '{name}' has no value: write {name}=value"))
}

/// What separates words: C's `isspace`.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all_words(line: &str) -> Vec<String> {
        let mut words = Words::new(line);
        std::iter::from_fn(|| words.word()).collect()
    }

    #[test]
    fn words_follow_httpds_quoting() {
        let table: &[(&str, &[&str])] = &[
            ("", &[]),
            ("  \t ", &[]),
            ("a", &["a"]),
            (" a \t b\x0bc ", &["a", "b", "c"]),
            (r#""a b" c"#, &["a b", "c"]),
            ("'a b' c", &["a b", "c"]),
            (r#""it's""#, &["it's"]),
            (r#""a \" b""#, &[r#"a " b"#]),
            (r"'a \' b'", &["a ' b"]),
            (r#""a \' b""#, &[r"a \' b"]),
            (r#""a\\" b"#, &[r"a\", "b"]),
            (r"a\\b a\b a\", &[r"a\b", r"a\b", r"a\"]),
            (r"\\\\x", &[r"\\x"]),
            (r#"a"b c"#, &[r#"a"b"#, "c"]),
            (r#""a"b"#, &["a", "b"]),
            (r#""" b"#, &["", "b"]),
            (r#""open end"#, &["open end"]),
            (r#""open\"#, &[r"open\"]),
            ("\"é ü\" ß", &["é ü", "ß"]),
        ];
        for (line, expected) in table {
            assert_eq!(&all_words(line), expected, "{line:?}");
        }
    }

    #[test]
    fn options_are_name_and_value() {
        let mut words = Words::new(r#"a=1  b-c="x y" d='q\'r' e==f g=  h"#);
        let mut seen = Vec::new();
        while let Some((name, value)) = words.option().unwrap() {
            seen.push(format!("{name}:{value}"));
        }
        assert_eq!(seen, ["a:1", "b-c:x y", "d:q'r", "e:=f", "g:h"]);
    }

    #[test]
    fn faulty_options_say_what_to_write() {
        let table = [
            ("name", "'name' is not an option: options are written name=value"),
            ("name more=1", "'name' is not an option: options are written name=value"),
            ("name =1", "blank before '=' after 'name': write name=value"),
            ("name = 1", "blank before '=' after 'name': write name=value"),
            ("=1", "option name missing before '=': write name=value"),
            ("name=", "option 'name' has no value: write name=value"),
            (r#"name="""#, "option 'name' has no value: write name=value"),
        ];
        for (line, text) in table {
            assert_eq!(Words::new(line).option().unwrap_err().to_string(), text, "{line}");
        }
    }

    #[test]
    fn one_word_is_exactly_one() {
        assert_eq!(one_word(" 'a b' ").unwrap(), "a b");
        let table = [
            ("", "takes one argument, none is given"),
            (r#""""#, "takes one argument, it is empty"),
            ("a b", "takes one argument, 'b' is too much"),
        ];
        for (line, text) in table {
            let fault = one_word(line).unwrap_err().to_string();
            assert!(fault.starts_with(text), "{line}: {fault}");
        }
    }

    #[test]
    fn switches_take_any_case_and_nothing_else() {
        for (line, value) in [("On", true), ("on", true), ("OFF", false), ("\"oFf\"", false)] {
            assert_eq!(on_off(line), Ok(value), "{line}");
        }
        for line in ["", "yes", "1", "On Off", "Onn", "''"] {
            assert!(on_off(line).is_err(), "{line}");
        }
        assert_eq!(
            on_off("maybe").unwrap_err().to_string(),
            "'maybe' is not allowed: write On or Off"
        );
    }

    #[test]
    fn whole_numbers_are_digits_in_range() {
        assert_eq!(whole("0", 0, 2), Ok(0));
        assert_eq!(whole("002", 0, 2), Ok(2));
        for word in ["", "3", "-1", "+1", "1s", "one", "0x1", "1.0", " 1", "99999999999999999999"] {
            assert!(whole(word, 0, 2).is_err(), "{word}");
        }
        assert_eq!(
            whole("one", 0, 2).unwrap_err().to_string(),
            "'one' is not allowed: write a whole number from 0 to 2"
        );
    }

    #[test]
    fn seconds_are_above_zero() {
        for (word, value) in [("1", 1.0), ("0.005", 0.005), (".5", 0.5), ("5e-3", 0.005)] {
            assert_eq!(seconds(word), Ok(value), "{word}");
        }
        for word in ["", "0", "0.0", "-1", "+1", "5ms", "inf", "nan", "one", "1e10", "1e999", "."] {
            assert!(seconds(word).is_err(), "{word}");
        }
    }

    #[test]
    fn signed_numbers_are_digits_in_range() {
        for (word, value) in [("0", 0), ("-20", -20), ("19", 19), ("-0", 0)] {
            assert_eq!(signed(word, -20, 19), Ok(value), "{word}");
        }
        for word in ["", "-", "+1", "20", "-21", "1.0", "--1", "99999999999"] {
            assert!(signed(word, -20, 19).is_err(), "{word}");
        }
    }

    #[test]
    fn times_have_units() {
        for (word, milliseconds_written) in [
            ("0", 0),
            ("30", 30_000),
            ("30s", 30_000),
            ("500ms", 500),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
            ("1000000000", 1_000_000_000_000),
        ] {
            let time = Duration::from_millis(milliseconds_written);
            assert_eq!(duration(word), Ok(time), "{word}");
        }
        assert_eq!(milliseconds("5"), Ok(Duration::from_millis(5)));
        assert_eq!(milliseconds("5s"), Ok(Duration::from_secs(5)));
        for word in
            ["", "s", "one", "-1", "+1", "1.5", "1 s", "60S", "60sec", "1m30s", "2147483648"]
        {
            assert!(duration(word).is_err(), "{word}");
        }
        assert!(duration("99999999999999999999").is_err());
        assert!(duration("18446744073709551615d").is_err());
        assert_eq!(
            duration("one").unwrap_err().to_string(),
            "'one' is not allowed: write a time such as 30 or 30s (seconds), 500ms, 5m, 2h or 1d"
        );
    }

    #[test]
    fn sizes_have_units() {
        for (word, bytes) in [
            ("0", 0),
            ("1", 1),
            ("524288", 524_288),
            ("512K", 524_288),
            ("512k", 524_288),
            ("3M", 3 << 20),
            ("2g", 2 << 30),
        ] {
            assert_eq!(size(word, 0), Ok(bytes), "{word}");
        }
        for word in
            ["", "K", "one", "-1", "1.5M", "1MB", "1 M", "1T", "9223372036854775808", "8589934592G"]
        {
            assert!(size(word, 0).is_err(), "{word}");
        }
        assert!(size("0", 1).is_err());
        assert_eq!(size("0", 512), Ok(0));
        assert_eq!(size("512", 512), Ok(512));
        assert_eq!(
            size("511", 512).unwrap_err().to_string(),
            "'511' is not allowed: write a number of bytes from 512, or 0, such as 524288, 512K, \
             512M or 2G"
        );
    }

    #[test]
    fn alternatives_read_as_a_sentence() {
        assert_eq!(alternatives(&[]), "");
        assert_eq!(alternatives(&["a"]), "a");
        assert_eq!(alternatives(&["a", "b"]), "a or b");
        assert_eq!(alternatives(&["a", "b", "c"]), "a, b or c");
    }
}
