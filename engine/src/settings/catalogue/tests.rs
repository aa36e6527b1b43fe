//! Every directive with what it accepts and what it refuses, and the reference page against the
//! list.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use super::*;
use crate::settings::daemon::OPTIONS;
use crate::settings::{AliasOptions, ImportScript, Pattern};

/// Everything a directive can change.
#[derive(Clone, Debug, Default, PartialEq)]
struct World {
    process: ProcessSettings,
    block: InterpreterBlock,
    server: ServerSettings,
    request: RequestSettings,
}

impl World {
    /// Applies a directive as httpd would hand it over: `Name arguments`.
    fn apply(&mut self, line: &str) -> Result<(), String> {
        let (name, text) = line.split_once(' ').unwrap_or((line, ""));
        let entry = Entry::find(name).unwrap_or_else(|| panic!("no directive {name}"));
        match entry.apply {
            Apply::Process(apply) => apply(&mut self.process, text),
            Apply::Interpreter(apply) => apply(&mut self.process.interpreter, text),
            Apply::Server(apply) => apply(&mut self.server, text),
            Apply::Request(apply) => apply(&mut self.request, text),
            Apply::Section(apply) => apply(&mut self.block, text),
        }
        .map_err(|fault| fault.to_string())
    }
}

fn world(lines: &[&str]) -> World {
    let mut world = World::default();
    for line in lines {
        world.apply(line).unwrap_or_else(|fault| panic!("{line}: {fault}"));
    }
    world
}

/// Checks that `lines`, applied in order, do exactly what `change` does.
fn accepts(lines: &[&str], change: impl FnOnce(&mut World)) {
    let mut expected = World::default();
    change(&mut expected);
    assert_eq!(world(lines), expected, "{lines:?}");
}

/// Checks that a line is refused, by a one-line text that contains `reason`, and changes nothing.
fn refuses(line: &str, reason: &str) {
    let mut world = World::default();
    match world.apply(line) {
        Ok(()) => panic!("{line}: accepted"),
        Err(fault) => {
            assert!(fault.contains(reason), "{line}: {fault}");
            assert!(!fault.contains('\n'), "{line}: {fault}");
            assert!(!fault.contains("WSGI"), "the caller names the directive: {fault}");
        }
    }
    assert_eq!(world, World::default(), "{line} changed something");
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned())
}

fn named(name: &str) -> Option<GroupName> {
    Some(GroupName::Name(name.to_owned()))
}

type Flag = fn(&mut World) -> &mut Option<bool>;

/// The directives that take On or Off and nothing else.
const SWITCHES: &[(&str, Flag)] = &[
    ("WSGIPerInterpreterGIL", |w| &mut w.process.interpreter.per_interpreter_gil),
    ("WSGIFreeThreading", |w| &mut w.process.interpreter.free_threading),
    ("WSGIRestrictStdin", |w| &mut w.process.interpreter.restrict_stdin),
    ("WSGIRestrictStdout", |w| &mut w.process.interpreter.restrict_stdout),
    ("WSGIRestrictSignal", |w| &mut w.process.interpreter.restrict_signal),
    ("WSGIScriptReloading", |w| &mut w.request.script_reloading),
    ("WSGIErrorOverride", |w| &mut w.request.error_override),
    ("WSGIChunkedRequest", |w| &mut w.request.chunked_request),
    ("WSGIEnableSendfile", |w| &mut w.request.enable_sendfile),
    ("WSGIDontWriteBytecode", |w| &mut w.process.dont_write_bytecode),
    ("WSGIDestroyInterpreter", |w| &mut w.process.destroy_interpreter),
    ("WSGIRestrictEmbedded", |w| &mut w.process.restrict_embedded),
    ("WSGICaseSensitivity", |w| &mut w.process.case_sensitivity),
    ("WSGIServerMetrics", |w| &mut w.process.server_metrics),
    ("WSGIVerboseDebugging", |w| &mut w.process.verbose_debugging),
    ("WSGILazyInitialization", |w| &mut w.process.lazy_initialization),
];

#[test]
fn switches() {
    for (name, flag) in SWITCHES {
        accepts(&[&format!("{name} On")], |w| *flag(w) = Some(true));
        accepts(&[&format!("{name} oFF")], |w| *flag(w) = Some(false));
        accepts(&[&format!("{name} On"), &format!("{name} 'Off'")], |w| *flag(w) = Some(false));
        refuses(&format!("{name} Auto"), "'Auto' is not allowed: write On or Off");
        refuses(&format!("{name} 1"), "write On or Off");
        refuses(name, "takes one argument, none is given");
        refuses(&format!("{name} On Off"), "takes one argument, 'Off' is too much");
        refuses(&format!("{name} ''"), "it is empty");
    }
}

#[test]
fn choices() {
    for (word, flag) in [
        ("On", PassAuthorization::On),
        ("off", PassAuthorization::Off),
        ("AUTO", PassAuthorization::Auto),
    ] {
        accepts(&[&format!("WSGIPassAuthorization {word}")], |w| {
            w.request.pass_authorization = Some(flag);
        });
    }
    for (word, flag) in [("On", MapHead::On), ("off", MapHead::Off), ("AUTO", MapHead::Auto)] {
        accepts(&[&format!("WSGIMapHEADToGET {word}")], |w| w.request.map_head_to_get = Some(flag));
    }
    for name in ["WSGIPassAuthorization", "WSGIMapHEADToGET"] {
        refuses(&format!("{name} yes"), "'yes' is not allowed: write On, Off or Auto");
        refuses(name, "takes one argument");
        refuses(&format!("{name} On On"), "takes one argument");
    }
}

#[test]
fn script_alias() {
    accepts(&["WSGIScriptAlias /blog /srv/blog.wsgi"], |w| {
        w.server.aliases = vec![ScriptAlias {
            pattern: Pattern::Prefix("/blog".to_owned()),
            target: "/srv/blog.wsgi".to_owned(),
            options: AliasOptions::default(),
        }];
    });
    accepts(
        &[r#"WSGIScriptAlias "/a b" '/srv/my app.wsgi' process-group=%{GLOBAL} \
            application-group="b c" callable-object=%{ENV:X} pass-authorization=off"#
            .replace("\\\n", "")
            .as_str()],
        |w| {
            w.server.aliases = vec![ScriptAlias {
                pattern: Pattern::Prefix("/a b".to_owned()),
                target: "/srv/my app.wsgi".to_owned(),
                options: AliasOptions {
                    process_group: Some(GroupName::Global),
                    application_group: named("b c"),
                    callable_object: text("%{ENV:X}"),
                    pass_authorization: Some(PassAuthorization::Off),
                },
            }];
        },
    );
    // Order is kept, a name given twice takes its last value, and the root may be written with more
    // slashes.
    let lines = [
        "WSGIScriptAlias // /a process-group=blog process-group=%{ENV:G}",
        "WSGIScriptAlias /b/ /b/ application-group=%{HOST} pass-authorization=Auto",
    ];
    let aliases = world(&lines).server.aliases;
    assert_eq!(aliases.len(), 2);
    assert_eq!(aliases[0].pattern, Pattern::Prefix("/".to_owned()));
    assert_eq!(aliases[0].options.process_group, Some(GroupName::Env("G".to_owned())));
    assert_eq!(aliases[1].pattern, Pattern::Prefix("/b/".to_owned()));
    assert_eq!(aliases[1].options.application_group, Some(GroupName::Host));
    assert_eq!(aliases[1].options.pass_authorization, Some(PassAuthorization::Auto));

    refuses("WSGIScriptAlias blog /srv/blog.wsgi", "URL path 'blog' must begin with '/'");
}

#[test]
fn script_alias_match() {
    accepts(&["WSGIScriptAliasMatch ^/(\\w+)/ /srv/$1.wsgi callable-object=app"], |w| {
        w.server.aliases = vec![ScriptAlias {
            pattern: Pattern::Regex("^/(\\w+)/".to_owned()),
            target: "/srv/$1.wsgi".to_owned(),
            options: AliasOptions { callable_object: text("app"), ..AliasOptions::default() },
        }];
    });
}

#[test]
fn alias_faults() {
    for name in ["WSGIScriptAlias", "WSGIScriptAliasMatch"] {
        refuses(name, "takes at least two arguments");
        refuses(&format!("{name} /x"), "takes at least two arguments");
        refuses(&format!("{name} '' /x"), "may be empty");
        refuses(&format!("{name} /x ''"), "may be empty");
        let with = |option: &str| format!("{name} /x /y {option}");
        let all =
            "write process-group=, application-group=, callable-object= or pass-authorization=";
        refuses(&with("threads=5"), &format!("unknown option 'threads': {all}"));
        refuses(&with("Process-Group=x"), "unknown option 'Process-Group'");
        refuses(&with("process-group =x"), "blank before '=' after 'process-group'");
        refuses(&with("blog"), "'blog' is not an option: options are written name=value");
        refuses(&with("=blog"), "option name missing before '='");
        refuses(&with("pass-authorization=1"), "pass-authorization=: '1' is not allowed: write On");
        for option in
            ["process-group", "application-group", "callable-object", "pass-authorization"]
        {
            let reason = format!("option '{option}' has no value");
            refuses(&with(&format!("{option}=")), &reason);
            refuses(&with(&format!("{option}=\"\"")), &reason);
        }
    }
}

#[test]
fn callable_object() {
    for name in ["app", "%{ENV:APP}", "größe"] {
        accepts(&["WSGICallableObject first", &format!("WSGICallableObject {name}")], |w| {
            w.request.callable_object = text(name);
        });
    }
    refuses("WSGICallableObject", "takes one argument, none is given");
    refuses("WSGICallableObject a b", "takes one argument, 'b' is too much");
    for word in ["%{GLOBAL}", "%{ENV:}", "%{ENV:X", "%"] {
        refuses(&format!("WSGICallableObject {word}"), "or %{ENV:name}");
    }
}

#[test]
fn application_group() {
    for (word, group) in [
        ("%{GLOBAL}", GroupName::Global),
        ("%{SERVER}", GroupName::Server),
        ("%{RESOURCE}", GroupName::Resource),
        ("%{HOST}", GroupName::Host),
        ("%{ENV:SITE}", GroupName::Env("SITE".to_owned())),
        ("'my site'", GroupName::Name("my site".to_owned())),
    ] {
        accepts(&["WSGIApplicationGroup x", &format!("WSGIApplicationGroup {word}")], |w| {
            w.request.application_group = Some(group);
        });
    }
    refuses("WSGIApplicationGroup", "takes one argument, none is given");
    refuses("WSGIApplicationGroup ''", "it is empty");
    refuses("WSGIApplicationGroup a b", "put quotes around an argument with blanks");
}

#[test]
fn import_script() {
    let script = |path: &str, group: &str| ImportScript {
        path: path.to_owned(),
        process_group: String::new(),
        application_group: group.to_owned(),
        ..ImportScript::default()
    };
    accepts(
        &[
            "WSGIImportScript /a.wsgi process-group=%{GLOBAL} application-group=%{GLOBAL}",
            "WSGIImportScript '/b c' application-group=x process-group=%{GLOBAL} application-group=y",
            "WSGIImportScript /d application-group=%{SERVER} process-group=%{GLOBAL}",
        ],
        |w| {
            w.process.import_scripts =
                vec![script("/a.wsgi", ""), script("/b c", "y"), script("/d", "%{SERVER}")];
        },
    );
    refuses("WSGIImportScript", "takes the path of a script");
    refuses("WSGIImportScript ''", "takes the path of a script");
    refuses("WSGIImportScript /a", "process-group= is missing");
    refuses("WSGIImportScript /a application-group=x", "process-group= is missing");
    refuses("WSGIImportScript /a process-group=%{GLOBAL}", "application-group= is missing");
    refuses("WSGIImportScript /a process-group=", "option 'process-group' has no value");
    refuses("WSGIImportScript /a process-group =x", "blank before '='");
    refuses(
        "WSGIImportScript /a callable-object=x",
        "unknown option 'callable-object': write process-group= or application-group=",
    );
}

#[test]
fn interpreter_options() {
    let (global, blog) = (Some(String::new()), text("blog"));
    let table = [
        (">", None, None),
        (" > ", None, None),
        ("process-group=%{GLOBAL}>", global.clone(), None),
        ("application-group=blog >", None, blog.clone()),
        ("APPLICATION-GROUP=blog Process-Group=%{GLOBAL}>", global.clone(), blog.clone()),
        (r#"application-group="a > b">"#, None, text("a > b")),
        (r#""application-group=blog">"#, None, blog.clone()),
        ("application-group=%{SERVER}>", None, text("%{SERVER}")),
        ("application-group=www.example.org|/app>", None, text("www.example.org|/app")),
    ];
    for (selectors, process_group, application_group) in table {
        accepts(&[&format!("<WSGIInterpreterOptions {selectors}")], |w| {
            w.block.process_group = process_group;
            w.block.application_group = application_group;
        });
    }
    for (selectors, reason) in [
        ("", "must end with '>'"),
        ("application-group=blog", "must end with '>'"),
        ("application-group=blog> x", "must end with '>'"),
        ("application-group=a application-group=b>", "application-group= is given twice"),
        ("process-group=a Process-Group=a>", "Process-Group= is given twice"),
        ("threads=5>", "unknown selector 'threads': write process-group= or application-group="),
        ("blog>", "'blog' is not an option: options are written name=value"),
        ("'blog'>", "'blog' is not a selector: write name=value"),
        ("application-group=>", "option 'application-group' has no value"),
        ("'application-group='>", "is not a selector"),
        ("application-group =x>", "blank before '='"),
    ] {
        refuses(&format!("<WSGIInterpreterOptions {selectors}"), reason);
    }
}

#[test]
fn switch_interval() {
    for (word, value) in [("0.01", 0.01), ("1", 1.0), ("1e-4", 0.0001)] {
        accepts(&["WSGISwitchInterval 5", &format!("WSGISwitchInterval {word}")], |w| {
            w.process.interpreter.switch_interval = Some(value);
        });
    }
    for word in ["0", "-1", "5ms", "one", "inf", "nan"] {
        refuses(&format!("WSGISwitchInterval {word}"), "write a number of seconds above 0");
    }
    refuses("WSGISwitchInterval", "takes one argument");
    refuses("WSGISwitchInterval 1 2", "takes one argument");
}

#[test]
fn python_path_and_its_entries() {
    accepts(&["WSGIPythonPath /x", "WSGIPythonPath '/a b:/c'"], |w| {
        w.process.interpreter.python_path = vec!["/a b".to_owned(), "/c".to_owned()];
    });
    accepts(&["WSGIPythonPath :/a::/b:"], |w| {
        w.process.interpreter.python_path = vec!["/a".to_owned(), "/b".to_owned()];
    });
    refuses("WSGIPythonPath", "takes one argument, none is given");
    refuses("WSGIPythonPath ::", "'::' names no directory");
    refuses("WSGIPythonPath /a /b", "takes one argument, '/b' is too much");
}

#[test]
fn python_home_and_eggs() {
    accepts(&["WSGIPythonHome /x", "WSGIPythonHome '/srv/my venv'"], |w| {
        w.process.python_home = text("/srv/my venv");
    });
    accepts(&["WSGIPythonEggs /x", "WSGIPythonEggs /var/cache/eggs"], |w| {
        w.process.python_eggs = text("/var/cache/eggs");
    });
    for name in ["WSGIPythonHome", "WSGIPythonEggs"] {
        refuses(name, "takes one argument, none is given");
        refuses(&format!("{name} ''"), "it is empty");
        refuses(&format!("{name} /a /b"), "'/b' is too much");
    }
}

#[test]
fn python_optimize() {
    for level in 0..=2 {
        accepts(&["WSGIPythonOptimize 1", &format!("WSGIPythonOptimize {level}")], |w| {
            w.process.optimize = Some(level);
        });
    }
    for word in ["3", "-1", "one", "1x", "On"] {
        refuses(&format!("WSGIPythonOptimize {word}"), "write a whole number from 0 to 2");
    }
    refuses("WSGIPythonOptimize", "takes one argument");
}

#[test]
fn python_warnings() {
    accepts(&["WSGIPythonWarnings error", "WSGIPythonWarnings 'ignore:a b::'"], |w| {
        w.process.warnings = vec!["error".to_owned(), "ignore:a b::".to_owned()];
    });
    refuses("WSGIPythonWarnings", "takes one argument");
    refuses("WSGIPythonWarnings a b", "takes one argument");
}

#[test]
fn python_hash_seed() {
    for (word, seed) in [
        ("random", HashSeed::Random),
        ("0", HashSeed::Fixed(0)),
        ("4294967295", HashSeed::Fixed(u32::MAX)),
    ] {
        accepts(&["WSGIPythonHashSeed 7", &format!("WSGIPythonHashSeed {word}")], |w| {
            w.process.hash_seed = Some(seed);
        });
    }
    for word in ["4294967296", "-1", "Random", "1x", "0x10", "99999999999999999999999"] {
        refuses(
            &format!("WSGIPythonHashSeed {word}"),
            "write random or a whole number from 0 to 4294967295",
        );
    }
    refuses("WSGIPythonHashSeed", "takes one argument");
}

#[test]
fn verbose_debugging_is_explained() {
    assert!(world(&[]).process.notices().is_empty());
    let notices = world(&["WSGIVerboseDebugging Off"]).process.notices();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].contains("LogLevel wsgi:debug"));
}

#[test]
fn lazy_initialization_is_explained() {
    let notices = world(&["WSGILazyInitialization Off"]).process.notices();
    assert_eq!(notices.len(), 1);
    assert!(notices[0].contains("httpd's parent never starts Python"));
}

#[test]
fn defaults_in_the_list_are_those_that_hold() {
    // For a switch, writing its default must resolve to what not writing it does.
    let resolve = |lines: &[&str]| {
        let world = world(lines);
        let mut request = RequestSettings::resolve(None, &world.request);
        // Where it is not written httpd's own EnableSendfile may still turn it off.
        request.enable_sendfile = request.enable_sendfile.or(Some(true));
        let interpreter = world.process.interpreter_for("", "");
        format!(
            "{request:?} {:?}",
            [
                interpreter.per_interpreter_gil(),
                interpreter.free_threading(),
                interpreter.restrict_stdin(),
                interpreter.restrict_stdout(),
                interpreter.restrict_signal(),
                world.process.dont_write_bytecode(),
                world.process.destroy_interpreter(),
                world.process.restrict_embedded(),
                world.process.case_sensitivity(),
                world.process.server_metrics(),
            ]
        )
    };
    let nothing = resolve(&[]);
    let others = ["WSGIPassAuthorization", "WSGIMapHEADToGET", "WSGICallableObject"];
    let switches = SWITCHES.iter().map(|&(name, _)| name);
    for name in switches.chain(others).chain(["WSGIApplicationGroup"]) {
        let default = Entry::find(name).unwrap().default;
        assert_eq!(resolve(&[&format!("{name} {default}")]), nothing, "{name}");
        let idle = ["WSGIVerboseDebugging", "WSGILazyInitialization"].contains(&name);
        if ["On", "Off"].contains(&default) && !idle {
            let other = if default == "On" { "Off" } else { "On" };
            assert_ne!(resolve(&[&format!("{name} {other}")]), nothing, "{name}");
        }
    }
    let process = ProcessSettings::default();
    assert_eq!(process.optimize().to_string(), Entry::find("WSGIPythonOptimize").unwrap().default);
    assert_eq!(Entry::find("WSGIPythonHashSeed").unwrap().default, "random");
    assert_eq!(process.hash_seed(), HashSeed::Random);
}

#[test]
fn entries_are_well_formed() {
    let names: BTreeSet<String> = CATALOGUE.iter().map(|e| e.name.to_ascii_lowercase()).collect();
    assert_eq!(names.len(), CATALOGUE.len(), "a name stands twice");
    for entry in CATALOGUE {
        assert!(entry.syntax.starts_with(entry.name), "{}", entry.name);
        assert!(!entry.syntax.contains("  "), "{}", entry.name);
        assert!(!entry.help.ends_with('.') && !entry.help.contains('\n'), "{}", entry.name);
        assert!(!entry.default.is_empty(), "{}", entry.name);
        if entry.in_section() {
            assert_eq!(entry.scope, Scope::Global, "{}", entry.name);
        }
    }
}

#[test]
fn contexts() {
    let table = [
        ("WSGIPythonHome", "server config"),
        ("WSGIPythonPath", "server config, <WSGIInterpreterOptions>"),
        ("WSGIScriptAlias", "server config, virtual host"),
        ("WSGIApplicationGroup", "server config, virtual host, directory"),
        (
            "WSGICallableObject",
            "server config, virtual host, directory, .htaccess (AllowOverride FileInfo)",
        ),
    ];
    for (name, context) in table {
        assert_eq!(Entry::find(name).unwrap().context(), context);
    }
    assert_eq!(Entry::find("<WSGIInterpreterOptions").unwrap().title(), "<WSGIInterpreterOptions>");
}

/// The sections of the reference page: what follows each `## ` heading that names a directive.
fn sections(page: &str) -> Vec<(&str, &str)> {
    page.split("\n## ")
        .skip(1)
        .map(|section| {
            let (title, body) = section.split_once('\n').unwrap_or((section, ""));
            (title.trim_matches('`'), body)
        })
        .collect()
}

#[test]
fn the_reference_page_agrees_with_the_list() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/directives.md");
    let page = fs::read_to_string(&path).unwrap();
    let sections = sections(&page);
    let titles: Vec<&str> = sections.iter().map(|&(title, _)| title).collect();
    let entries: Vec<String> = CATALOGUE.iter().map(Entry::title).collect();
    assert_eq!(titles, entries, "the page has the directives of the list, in its order");
    for (entry, (title, body)) in CATALOGUE.iter().zip(&sections) {
        let lines: Vec<&str> = body.lines().collect();
        for line in [
            format!("- Syntax: `{}`", entry.syntax),
            format!(
                "- Context: {}",
                entry.context().replace("<WSGIInterpreterOptions>", "`<WSGIInterpreterOptions>`")
            ),
            format!("- Default: `{}`", entry.default),
        ] {
            assert!(lines.contains(&line.as_str()), "{title}: the line '{line}' is missing");
        }
        assert!(lines.contains(&format!("{}.", entry.help).as_str()), "{title}: help is missing");
        assert!(body.contains("\n```apache\n"), "{title}: example is missing");
        assert!(body.contains("\nDifferences from mod_wsgi: "), "{title}: differences are missing");
    }
}

#[test]
fn the_reference_page_has_every_option_of_a_group() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/directives.md");
    let page = fs::read_to_string(&path).unwrap();
    let sections = sections(&page);
    let (_, body) = sections.iter().find(|(title, _)| *title == "WSGIDaemonProcess").unwrap();
    let rows: Vec<&str> = body.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(rows.len(), OPTIONS.len());
    for (row, option) in rows.iter().zip(OPTIONS) {
        let mut columns = row.trim_matches('|').replace("\\|", "\0");
        columns = columns.replace(" | ", "\u{1}").replace('\0', "|");
        let columns: Vec<&str> = columns.trim().split('\u{1}').collect();
        let [written, default, effect, difference] = columns.as_slice() else {
            panic!("{} does not have four columns: {row}", option.name);
        };
        assert_eq!(*written, format!("`{}={}`", option.name, option.value));
        assert_eq!(*default, option.default, "{}", option.name);
        let effect_of = if option.has_effect() { "" } else { "Without effect: " };
        let help = format!("{effect_of}{}.", option.help);
        assert!(effect.starts_with(&help), "{}: '{help}' is missing", option.name);
        assert!(!difference.is_empty(), "{}", option.name);
    }
}
