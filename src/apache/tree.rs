//! The directives that httpd has read, as they stand in its files.

use super::command::Place;
use super::text;
use crate::sys;

/// One directive.
pub(crate) struct Written {
    /// Its name.
    pub(crate) name: String,
    /// The text behind it.
    pub(crate) arguments: String,
    /// Where it stands.
    pub(crate) place: Place,
}

/// All directives that are wanted by name, those in sections as well. For the parent, when it has read a
/// configuration.
pub(crate) fn written(wanted: impl Fn(&str) -> bool) -> Vec<Written> {
    let mut found = Vec::new();
    // SAFETY: httpd sets the pointer before it asks modules to look at what it has read; the parent has one thread.
    let mut left = vec![unsafe { sys::ap_conftree }];
    while let Some(node) = left.pop() {
        // SAFETY: a node of the tree, which lives as long as the configuration, or null.
        let Some(node) = (unsafe { node.as_ref() }) else { continue };
        left.extend([node.next, node.first_child]);
        // SAFETY: texts of a node live as long as the tree.
        let [name, arguments, file] = [node.directive, node.args, node.filename]
            .map(|part| unsafe { text(part) }.unwrap_or_default().to_string_lossy().into_owned());
        if wanted(&name) {
            let line = u32::try_from(node.line_num).unwrap_or(0);
            found.push(Written { name, arguments, place: Place { file, line } });
        }
    }
    found
}
