//! Settings of the whole server: one Python, its interpreters, what is loaded at start.

use super::daemon::{DaemonSettings, Origin};
use super::group;
use super::value::{Fault, Words, one_word};

/// `WSGIPythonHashSeed`
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HashSeed {
    /// Python's own randomisation.
    Random,
    /// A fixed seed.
    Fixed(u32),
}

/// `WSGIImportScript`, or a script alias that names both groups: loaded when a process starts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ImportScript {
    /// The file to load.
    pub path: String,
    /// Process group; empty is embedded mode.
    pub process_group: String,
    /// Interpreter; empty is the main one.
    pub application_group: String,
    /// Where it is written; set by who reads the file.
    pub origin: Origin,
}

/// What can be set for all interpreters, or for some by `<WSGIInterpreterOptions>`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterpreterSettings {
    /// `WSGIPerInterpreterGIL`
    pub per_interpreter_gil: Option<bool>,
    /// `WSGIFreeThreading`
    pub free_threading: Option<bool>,
    /// `WSGISwitchInterval`, seconds, > 0
    pub switch_interval: Option<f64>,
    /// `WSGIPythonPath`, entries in the order written
    pub python_path: Vec<String>,
    /// `WSGIRestrictStdin`
    pub restrict_stdin: Option<bool>,
    /// `WSGIRestrictStdout`
    pub restrict_stdout: Option<bool>,
    /// `WSGIRestrictSignal`
    pub restrict_signal: Option<bool>,
}

/// One `<WSGIInterpreterOptions>` section.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct InterpreterBlock {
    /// `process-group=`; `None` matches any.
    pub process_group: Option<String>,
    /// `application-group=`; `None` matches any.
    pub application_group: Option<String>,
    /// What is set inside.
    pub settings: InterpreterSettings,
}

/// Settings of the main server that hold for every process.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProcessSettings {
    /// `WSGIPythonHome`
    pub python_home: Option<String>,
    /// `WSGIPythonEggs`
    pub python_eggs: Option<String>,
    /// `WSGIPythonOptimize`
    pub optimize: Option<u8>,
    /// `WSGIPythonWarnings`, in order
    pub warnings: Vec<String>,
    /// `WSGIPythonHashSeed`
    pub hash_seed: Option<HashSeed>,
    /// `WSGIDontWriteBytecode`
    pub dont_write_bytecode: Option<bool>,
    /// `WSGIDestroyInterpreter`
    pub destroy_interpreter: Option<bool>,
    /// `WSGICaseSensitivity`
    pub case_sensitivity: Option<bool>,
    /// `WSGIRestrictEmbedded`
    pub restrict_embedded: Option<bool>,
    /// `WSGIServerMetrics`
    pub server_metrics: Option<bool>,
    /// `WSGIVerboseDebugging`, which does nothing but cause a notice
    pub verbose_debugging: Option<bool>,
    /// `WSGILazyInitialization` of mod_wsgi 3 to 5, the same
    pub lazy_initialization: Option<bool>,
    /// Top-level interpreter settings.
    pub interpreter: InterpreterSettings,
    /// `<WSGIInterpreterOptions>` sections in file order.
    pub blocks: Vec<InterpreterBlock>,
    /// Scripts to load at start, in file order.
    pub import_scripts: Vec<ImportScript>,
    /// Groups of daemon processes.
    pub daemon: DaemonSettings,
}

impl ProcessSettings {
    /// `WSGIPythonOptimize`; 0 unless written.
    #[must_use]
    pub fn optimize(&self) -> u8 {
        self.optimize.unwrap_or(0)
    }

    /// `WSGIPythonHashSeed`; random unless written.
    #[must_use]
    pub fn hash_seed(&self) -> HashSeed {
        self.hash_seed.unwrap_or(HashSeed::Random)
    }

    /// `WSGIDontWriteBytecode`; off unless written.
    #[must_use]
    pub fn dont_write_bytecode(&self) -> bool {
        self.dont_write_bytecode.unwrap_or(false)
    }

    /// `WSGIDestroyInterpreter`; on unless written.
    #[must_use]
    pub fn destroy_interpreter(&self) -> bool {
        self.destroy_interpreter.unwrap_or(true)
    }

    /// `WSGIServerMetrics`; off unless written.
    #[must_use]
    pub fn server_metrics(&self) -> bool {
        self.server_metrics.unwrap_or(false)
    }

    /// `WSGICaseSensitivity`; on unless written, as file names on Linux have it.
    #[must_use]
    pub fn case_sensitivity(&self) -> bool {
        self.case_sensitivity.unwrap_or(true)
    }

    /// `WSGIRestrictEmbedded`; off unless written.
    #[must_use]
    pub fn restrict_embedded(&self) -> bool {
        self.restrict_embedded.unwrap_or(false)
    }

    /// What holds for one interpreter of one process group (both empty: the main interpreter of
    /// httpd's own processes): the top level, overlaid by the matching sections.
    ///
    /// For each field the section with the most selectors wins, and of equals the later one. The
    /// entries of `python_path` add up, those of the winning section first. The top level's
    /// `python_path` and `switch_interval` are for httpd's own processes only.
    #[must_use]
    pub fn interpreter_for(
        &self,
        process_group: &str,
        application_group: &str,
    ) -> InterpreterSettings {
        let mut result = self.interpreter.clone();
        if !process_group.is_empty() {
            result.python_path.clear();
            result.switch_interval = None;
        }
        let mut matching: Vec<&InterpreterBlock> = self
            .blocks
            .iter()
            .filter(|block| block.matches(process_group, application_group))
            .collect();
        // Stable: sections with as many selectors stay in file order.
        matching.sort_by_key(|block| block.selectors());
        for block in matching {
            result.overlay(block);
        }
        result
    }

    /// `WSGIFreeThreading` for the processes of a group, whose interpreters all share it.
    #[must_use]
    pub fn free_threading(&self, process_group: &str) -> bool {
        // Sections that name an interpreter never count for it, so any interpreter gives the
        // answer.
        self.interpreter_for(process_group, "").free_threading()
    }

    /// What is accepted but does not do what its writer may expect: one line each, for the log at
    /// start.
    #[must_use]
    pub fn notices(&self) -> Vec<String> {
        let mut notices = Vec::new();
        if self.verbose_debugging.is_some() {
            notices.push(
                "WSGIVerboseDebugging does nothing and can be removed: write 'LogLevel wsgi:debug' \
                 to see more of what the module does"
                    .to_owned(),
            );
        }
        if self.lazy_initialization.is_some() {
            notices.push(
                "WSGILazyInitialization does nothing and can be removed: httpd's parent never starts \
                 Python, whatever it says"
                    .to_owned(),
            );
        }
        for block in &self.blocks {
            if let (Some(group), Some(_)) =
                (&block.application_group, block.settings.free_threading)
            {
                notices.push(format!(
                    "WSGIFreeThreading is ignored in the <WSGIInterpreterOptions> section for \
                     application group '{group}': all interpreters of a process share it, so \
                     write it at the top level or in a section with process-group= alone"
                ));
            }
        }
        notices
    }
}

impl InterpreterSettings {
    /// `WSGIPerInterpreterGIL`; off unless written.
    #[must_use]
    pub fn per_interpreter_gil(&self) -> bool {
        self.per_interpreter_gil.unwrap_or(false)
    }

    /// `WSGIFreeThreading`; off unless written.
    #[must_use]
    pub fn free_threading(&self) -> bool {
        self.free_threading.unwrap_or(false)
    }

    /// `WSGIRestrictStdin`; off unless written.
    #[must_use]
    pub fn restrict_stdin(&self) -> bool {
        self.restrict_stdin.unwrap_or(false)
    }

    /// `WSGIRestrictStdout`; off unless written.
    #[must_use]
    pub fn restrict_stdout(&self) -> bool {
        self.restrict_stdout.unwrap_or(false)
    }

    /// `WSGIRestrictSignal`; on unless written.
    #[must_use]
    pub fn restrict_signal(&self) -> bool {
        self.restrict_signal.unwrap_or(true)
    }

    /// Lays a section over what less specific ones have set.
    fn overlay(&mut self, block: &InterpreterBlock) {
        let over = &block.settings;
        self.per_interpreter_gil = over.per_interpreter_gil.or(self.per_interpreter_gil);
        // One process has one answer to this, so a section for one interpreter cannot give it.
        if block.application_group.is_none() {
            self.free_threading = over.free_threading.or(self.free_threading);
        }
        self.switch_interval = over.switch_interval.or(self.switch_interval);
        self.restrict_stdin = over.restrict_stdin.or(self.restrict_stdin);
        self.restrict_stdout = over.restrict_stdout.or(self.restrict_stdout);
        self.restrict_signal = over.restrict_signal.or(self.restrict_signal);
        self.python_path.splice(0..0, over.python_path.iter().cloned());
    }
}

impl InterpreterBlock {
    /// Reads the selectors: the text between the section's name and its closing `>`, that included.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let Some(selectors) = text.trim_end().strip_suffix('>') else {
            return Err(Fault::new("the section's opening line must end with '>'"));
        };
        let mut block = Self::default();
        let mut words = Words::new(selectors);
        while let Some((name, value)) = selector(&mut words)? {
            let slot = if name.eq_ignore_ascii_case("process-group") {
                &mut block.process_group
            } else if name.eq_ignore_ascii_case("application-group") {
                &mut block.application_group
            } else {
                return Err(Fault::new(format!(
                    "unknown selector '{name}': write process-group= or application-group="
                )));
            };
            if slot.is_some() {
                return Err(Fault::new(format!("{name}= is given twice: write it once")));
            }
            *slot = Some(group::literal(&value));
        }
        Ok(block)
    }

    fn matches(&self, process_group: &str, application_group: &str) -> bool {
        let matches =
            |selector: &Option<String>, name| selector.as_deref().is_none_or(|s| s == name);
        matches(&self.process_group, process_group)
            && matches(&self.application_group, application_group)
    }

    fn selectors(&self) -> usize {
        usize::from(self.process_group.is_some()) + usize::from(self.application_group.is_some())
    }
}

impl ImportScript {
    /// Reads `file process-group=group application-group=group`. Whether the process group is
    /// defined is known when all has been read.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        let mut words = Words::new(text);
        let path = match words.word() {
            Some(path) if !path.is_empty() => path,
            _ => return Err(Fault::new("takes the path of a script, then its options")),
        };
        let (mut process_group, mut application_group) = (None, None);
        while let Some((name, value)) = words.option()? {
            match name {
                "process-group" => process_group = Some(group::literal(&value)),
                "application-group" => application_group = Some(group::literal(&value)),
                _ => {
                    return Err(Fault::new(format!(
                        "unknown option '{name}': write process-group= or application-group="
                    )));
                }
            }
        }
        let missing = |name: &str| {
            Fault::new(format!(
                "{name}= is missing: write it, with the value %{{GLOBAL}} if in doubt"
            ))
        };
        Ok(Self {
            path,
            process_group: process_group.ok_or_else(|| missing("process-group"))?,
            application_group: application_group.ok_or_else(|| missing("application-group"))?,
            origin: Origin::default(),
        })
    }
}

/// Reads the directories of `WSGIPythonPath`: one word, separated by colons.
pub fn python_path(text: &str) -> Result<Vec<String>, Fault> {
    directories(&one_word(text)?)
}

/// Directories separated by colons.
pub(super) fn directories(word: &str) -> Result<Vec<String>, Fault> {
    // An empty entry would mean the directory that httpd happens to run in.
    let entries: Vec<String> =
        word.split(':').filter(|entry| !entry.is_empty()).map(str::to_owned).collect();
    if entries.is_empty() {
        return Err(Fault::new(format!(
            "'{word}' names no directory: write directories, separated by ':'"
        )));
    }
    Ok(entries)
}

/// A selector is an option that may also stand in quotes as a whole.
fn selector(words: &mut Words<'_>) -> Result<Option<(String, String)>, Fault> {
    if words.rest().starts_with(['"', '\'']) {
        let word = words.word().unwrap_or_default();
        return match word.split_once('=') {
            Some((name, value)) if !name.is_empty() && !value.is_empty() => {
                Ok(Some((name.to_owned(), value.to_owned())))
            }
            _ => Err(Fault::new(format!("'{word}' is not a selector: write name=value"))),
        };
    }
    Ok(words.option()?.map(|(name, value)| (name.to_owned(), value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A section that sets its own name as path, and a switch interval.
    fn block(selectors: &str, interval: f64) -> InterpreterBlock {
        let mut block = InterpreterBlock::parse(&format!("{selectors}>")).unwrap();
        block.settings.python_path = vec![format!("/{interval}")];
        block.settings.switch_interval = Some(interval);
        block
    }

    fn settings(blocks: Vec<InterpreterBlock>) -> ProcessSettings {
        let interpreter = InterpreterSettings {
            python_path: vec!["/top".to_owned(), "/top2".to_owned()],
            switch_interval: Some(100.0),
            per_interpreter_gil: Some(true),
            ..InterpreterSettings::default()
        };
        ProcessSettings { interpreter, blocks, ..ProcessSettings::default() }
    }

    #[test]
    fn the_most_specific_section_wins_and_paths_add_up() {
        let settings = settings(vec![
            block("process-group=%{GLOBAL} application-group=blog", 4.0),
            block("application-group=blog", 1.0),
            block("", 0.5),
            block("process-group=%{GLOBAL}", 2.0),
            block("application-group=other", 9.0),
            block("process-group=daemon", 8.0),
        ]);
        let table: &[(&str, &str, f64, &[&str])] = &[
            ("", "blog", 4.0, &["/4", "/2", "/1", "/0.5", "/top", "/top2"]),
            ("", "", 2.0, &["/2", "/0.5", "/top", "/top2"]),
            ("", "other", 9.0, &["/9", "/2", "/0.5", "/top", "/top2"]),
            ("daemon", "blog", 8.0, &["/8", "/1", "/0.5"]),
            ("elsewhere", "x", 0.5, &["/0.5"]),
        ];
        for (process, application, interval, path) in table {
            let found = settings.interpreter_for(process, application);
            assert_eq!(found.switch_interval, Some(*interval), "{process}/{application}");
            assert_eq!(&found.python_path, path, "{process}/{application}");
            assert!(found.per_interpreter_gil(), "the top level holds where no section says more");
        }
    }

    #[test]
    fn of_equal_sections_the_later_wins() {
        let settings =
            settings(vec![block("application-group=a", 1.0), block("application-group=a", 2.0)]);
        let found = settings.interpreter_for("", "a");
        assert_eq!(found.switch_interval, Some(2.0));
        assert_eq!(found.python_path, ["/2", "/1", "/top", "/top2"]);
    }

    #[test]
    fn each_field_is_decided_by_itself() {
        let mut wide = InterpreterBlock::parse(">").unwrap();
        wide.settings.restrict_stdin = Some(true);
        wide.settings.restrict_signal = Some(false);
        wide.settings.restrict_stdout = Some(true);
        wide.settings.per_interpreter_gil = Some(false);
        let mut narrow = InterpreterBlock::parse("application-group=a>").unwrap();
        narrow.settings.restrict_signal = Some(true);
        narrow.settings.restrict_stdout = Some(false);
        let settings = settings(vec![narrow, wide]);
        let found = settings.interpreter_for("", "a");
        assert!(found.restrict_stdin());
        assert!(found.restrict_signal());
        assert!(!found.restrict_stdout());
        assert!(!found.per_interpreter_gil());
    }

    #[test]
    fn the_top_levels_path_and_interval_are_for_httpds_own_processes() {
        let settings = settings(Vec::new());
        assert_eq!(settings.interpreter_for("", "x").python_path, ["/top", "/top2"]);
        assert_eq!(settings.interpreter_for("", "x").switch_interval, Some(100.0));
        let daemon = settings.interpreter_for("daemon", "x");
        assert!(daemon.python_path.is_empty());
        assert_eq!(daemon.switch_interval, None);
        assert_eq!(daemon.per_interpreter_gil, Some(true));
    }

    #[test]
    fn free_threading_is_one_answer_for_a_process() {
        let mut settings = ProcessSettings::default();
        assert!(!settings.free_threading(""));
        let mut narrow = InterpreterBlock::parse("application-group=a>").unwrap();
        narrow.settings.free_threading = Some(true);
        settings.blocks.push(narrow);
        assert!(!settings.free_threading(""));
        assert!(!settings.interpreter_for("", "a").free_threading());
        assert!(settings.notices()[0].contains("application group 'a'"));

        let mut own = InterpreterBlock::parse("process-group=%{GLOBAL}>").unwrap();
        own.settings.free_threading = Some(true);
        settings.blocks.push(own);
        assert!(settings.free_threading(""));
        assert!(settings.interpreter_for("", "a").free_threading());
        assert!(!settings.free_threading("daemon"));
        assert_eq!(settings.notices().len(), 1);
    }

    #[test]
    fn unwritten_settings_have_their_documented_defaults() {
        let process = ProcessSettings::default();
        assert_eq!(process.optimize(), 0);
        assert_eq!(process.hash_seed(), HashSeed::Random);
        assert!(!process.dont_write_bytecode());
        assert!(process.destroy_interpreter());
        assert!(process.case_sensitivity());
        assert!(!process.restrict_embedded());
        assert!(process.notices().is_empty());
        let interpreter = process.interpreter_for("", "");
        assert!(!interpreter.per_interpreter_gil());
        assert!(!interpreter.free_threading());
        assert!(!interpreter.restrict_stdin());
        assert!(!interpreter.restrict_stdout());
        assert!(interpreter.restrict_signal());
    }
}
