//! Complete configurations as sites publish them, from the documentation of applications and from packages, each
//! written anew: httpd starts with them, and every mount answers from where it should.
//!
//! A file of `tests/corpus` begins with what kind of site it is, and with lines for this program:
//! - `#+ path`: a file below the server root: a script that stands in for the application where it ends in
//!   `.py` or `.wsgi` or is executable by its name, a directory where it ends in `/`, else a text;
//! - `#! modules name...`: further modules of httpd;
//! - `#! without-module`: the file loads the module itself, as `@module@`;
//! - `#= path status name=value...`: a request, the status it gets, and what the answer says: the process group,
//!   the interpreter, the callable, the script (names as [`STAND_IN`] has them) or `text`. `host`, `user` and `port`
//!   (`second`) are of the request;
//! - `#~ text`: what the error log says of these requests.
//!
//! Besides the harness's own, `@user@`, `@group@` and `@python@` stand for what this machine has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod harness;

use std::collections::BTreeSet;
use std::fs;

use harness::{Client, Server, Site, pythons, site, tools};

/// In place of the applications: says where it runs.
const STAND_IN: &str = r#"
import mod_wsgi, os, sys

class Application:
    def __init__(self, name):
        self.name = name

    def __call__(self, environ, start_response):
        facts = {
            "process": environ["mod_wsgi.process_group"],
            "interpreter": environ["mod_wsgi.application_group"],
            "callable": self.name,
            "script": os.path.basename(__file__),
            "mount": environ["SCRIPT_NAME"],
            "rest": environ["PATH_INFO"],
            "remote": environ.get("REMOTE_USER", ""),
            "authorization": "yes" if "HTTP_AUTHORIZATION" in environ else "no",
            "multithread": str(environ["wsgi.multithread"]),
            "multiprocess": str(environ["wsgi.multiprocess"]),
            "scheme": environ["wsgi.url_scheme"],
            "variable": environ.get("SITE_VARIABLE", ""),
            "setting": os.environ.get("SITE_SETTING", ""),
            "lang": os.environ.get("LANG", ""),
            "first": os.path.basename(sys.path[0]),
            "folder": os.path.basename(os.getcwd()),
            "optimize": str(sys.flags.optimize),
            "umask": oct(umask()),
        }
        assert mod_wsgi.process_group == facts["process"]
        assert mod_wsgi.application_group == facts["interpreter"]
        start_response("200 OK", [("Content-Type", "text/plain")])
        return ["".join("%s=%s\n" % fact for fact in facts.items()).encode()]

def umask():
    text = open("/proc/self/status").read()
    return int(text.split("Umask:")[1].split()[0], 8)

for name in ["application", "app", "main", "handler"]:
    globals()[name] = Application(name)

def check_password(environ, user, password):
    return password == "secret" if user == "anne" else None

def groups_for_user(environ, user):
    return ["staff"]
"#;

/// A request of a configuration.
struct Wanted {
    path: String,
    status: u16,
    values: Vec<(String, String)>,
}

impl Wanted {
    fn parse(line: &str) -> Self {
        let mut words = line.split_whitespace();
        let path = words.next().expect("a path").to_owned();
        let status = words.next().and_then(|word| word.parse().ok()).expect("a status");
        let values = words
            .map(|word| word.split_once('=').expect("name=value"))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Self { path, status, values }
    }

    fn value(&self, name: &str) -> Option<&str> {
        self.values.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    fn ask(&self, server: &Server) {
        let second = || {
            let url = server.tls_url("");
            url.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
        };
        let port: u16 = if self.value("port").is_some() { second() } else { server.port() };
        let mut client = Client::connect(([127, 0, 0, 1], port).into());
        if let Some(host) = self.value("host") {
            client.host(host);
        }
        let credentials = self.value("user").map(|user| {
            let encoded = tools::run("sh", &["-c", &format!("printf %s '{user}' | base64")]);
            format!("Basic {}", encoded.trim())
        });
        let headers: Vec<(&str, &str)> =
            credentials.iter().map(|value| ("Authorization", value.as_str())).collect();
        let reply = client.request("GET", &self.path, &headers, b"");
        assert_eq!(reply.status, self.status, "{}: {}", self.path, reply.text());
        for (name, value) in &self.values {
            let value = value.replace("@port@", &port.to_string());
            match name.as_str() {
                "host" | "user" | "port" => {}
                "text" => assert!(reply.text().contains(&value), "{}", self.path),
                name => {
                    let found = reply.field(name);
                    assert_eq!(found.as_deref(), Some(value.as_str()), "{} {name}", self.path);
                }
            }
        }
    }
}

fn path_of(name: &str) -> std::path::PathBuf {
    site::manifest().join("tests/corpus").join(format!("{name}.conf"))
}

fn serves(name: &str) {
    let text = fs::read_to_string(path_of(name)).expect("read a configuration");
    let first = text.lines().next().unwrap_or_default();
    assert!(first.starts_with("# ") && first.len() > 20, "{name} does not say what it is");
    let user = site::httpd_user().unwrap_or_else(|| "nobody".to_owned());
    let group = tools::run("id", &["-gn", &user]);
    let python = pythons::default().expect("a usable Python");
    let text = text
        .replace("@user@", &user)
        .replace("@group@", group.trim())
        .replace("@python@", &python.prefix.to_string_lossy())
        .replace("@module@", &site::module_file().to_string_lossy());
    let mut site = Site::new(name);
    let mut wanted = Vec::new();
    for line in text.lines() {
        if let Some(path) = line.strip_prefix("#+ ") {
            let script = [".py", ".wsgi", ".cgi"].iter().any(|end| path.ends_with(end))
                || path.contains("wsgi-") && !path.ends_with('/');
            site = match path.strip_suffix('/') {
                Some(folder) => site.file(&format!("{folder}/.keep"), ""),
                None if script => site.file(path, STAND_IN),
                None => site.file(path, format!("file {path}\n")),
            };
        } else if let Some(modules) = line.strip_prefix("#! modules ") {
            site = modules.split_whitespace().fold(site, Site::module);
        } else if line == "#! without-module" {
            site = site.without_module();
        } else if let Some(request) = line.strip_prefix("#= ") {
            wanted.push(Wanted::parse(request));
        }
    }
    assert!(!wanted.is_empty(), "{name} asks for nothing");
    let server = site.conf(&text).start();
    // Options that old configurations have and that do nothing here.
    server.allow_log("has no effect");
    server.allow_log("does nothing");
    for request in &wanted {
        request.ask(&server);
    }
    for text in text.lines().filter_map(|line| line.strip_prefix("#~ ")) {
        server.expect_log(text);
    }
}

macro_rules! corpus {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                serves(stringify!($name));
            }
        )*

        const NAMES: &[&str] = &[$(stringify!($name)),*];
    };
}

corpus! {
    askbot
    blue_green
    bottle
    buildbot
    cherrypy
    ckan
    debian_module
    django_auth
    django_daemon
    django_embedded
    django_process_group
    django_static
    etebase
    fedora_module
    flask_callable
    flask_daemon
    flask_several
    folder_of_scripts
    freeipa
    gnocchi
    graphite
    hgweb
    horizon
    indico
    isso
    kallithea
    keystone
    koji
    mass_hosting
    mediagoblin
    moinmoin
    nautobot
    netbox
    odoo
    paperless
    patchwork
    pgadmin4
    placement
    plone
    pootle
    postorius
    pulp
    pyramid
    radicale
    reviewboard
    rhodecode
    roundup
    tandoor
    tls_only
    trac
    trac_projects
    viewvc
    wagtail
    weblate
    webpy
    webpy_htaccess
}

#[test]
fn every_configuration_is_served() {
    let files: BTreeSet<String> = fs::read_dir(site::manifest().join("tests/corpus"))
        .expect("read the corpus")
        .flatten()
        .filter_map(|entry| {
            entry.file_name().to_string_lossy().strip_suffix(".conf").map(str::to_owned)
        })
        .collect();
    let names: BTreeSet<String> = NAMES.iter().map(|name| (*name).to_owned()).collect();
    assert_eq!(names, files);
    assert!(names.len() >= 40);
}
