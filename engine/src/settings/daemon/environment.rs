//! Variables for the environment of daemon processes. Their values may be secrets: no fault and no
//! `Debug` repeats them.

use std::fmt;

use crate::settings::value::Fault;

/// `NAME=value`
#[derive(Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The variable.
    pub name: String,
    /// Its value, possibly empty.
    pub value: String,
}

impl fmt::Debug for Assignment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}=…", self.name)
    }
}

impl Assignment {
    /// Reads `NAME=value`; all behind the first `=` is the value.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let (name, value) = text.split_once('=').unwrap_or((text, "\0"));
        let mut characters = name.chars();
        let first = characters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
        if !first || !characters.all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(Fault::new(
                "the name of a variable is letters, digits and '_', not beginning with a digit: \
                 write NAME=value",
            ));
        }
        if value.contains('\0') {
            return Err(Fault::new("a variable has a value without NUL: write NAME=value"));
        }
        Ok(Self { name: name.to_owned(), value: value.to_owned() })
    }

    /// Reads a file: a variable per line, possibly behind `export`, with blank lines and lines that
    /// begin with `#` between them. A value may stand as a whole in one pair of quotes, single or
    /// double, within which nothing has a meaning of its own.
    pub fn parse_file(text: &str) -> Result<Vec<Self>, Fault> {
        let mut found = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let written = match line.strip_prefix("export") {
                Some(rest) if rest.starts_with([' ', '\t']) => rest.trim_start(),
                _ => line,
            };
            let mut variable = Self::parse(written)
                .map_err(|fault| Fault::new(format!("line {}: {fault}", index + 1)))?;
            for quote in ['"', '\''] {
                if let Some(rest) = variable.value.strip_prefix(quote) {
                    // Not what was meant, and its lines would be taken for further variables.
                    let inner = rest.strip_suffix(quote).ok_or_else(|| {
                        Fault::new(format!(
                            "line {}: {quote} is not closed; a value has one line",
                            index + 1
                        ))
                    })?;
                    variable.value = inner.to_owned();
                    break;
                }
            }
            found.push(variable);
        }
        Ok(found)
    }
}
