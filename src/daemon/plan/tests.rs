//! Plans on a system that is made up.

use engine::settings::{InterpreterBlock, ScriptAlias};

use super::mounts::mount_id;
use super::*;

/// Users `httpd` (33, group 33), `blog` (1000), `root`; groups `web` (50), `blog` (1000).
#[derive(Default)]
struct Fake {
    directories: Vec<String>,
    files: BTreeMap<String, String>,
    python: Option<Result<String, String>>,
}

impl System for Fake {
    fn user_named(&self, name: &str) -> Option<User> {
        let (uid, gid, home) = match name {
            "httpd" => (33, 33, "/var/www"),
            "blog" => (1000, 1000, "/home/blog"),
            "root" => (0, 0, "/root"),
            _ => return None,
        };
        let (name, home) = (Some(name.to_owned()), Some(home.to_owned()));
        Some(User { name, uid, gid: Some(gid), home })
    }

    fn barrier(&self, path: &str, uid: u32, gids: &[u32], _: &str) -> Option<String> {
        (path.starts_with("/closed") && uid != 1000).then(|| format!("closed to {uid} {gids:?}"))
    }

    fn user_numbered(&self, uid: u32) -> User {
        let known = ["httpd", "blog", "root"].iter().filter_map(|name| self.user_named(name));
        known.into_iter().find(|user| user.uid == uid).unwrap_or(User {
            name: None,
            uid,
            gid: None,
            home: None,
        })
    }

    fn group_named(&self, name: &str) -> Option<u32> {
        [("web", 50), ("blog", 1000)]
            .into_iter()
            .find(|(known, _)| *known == name)
            .map(|(_, id)| id)
    }

    fn groups_of(&self, name: &str, primary: u32) -> Vec<u32> {
        if name == "blog" { vec![primary, 50, 7] } else { vec![primary] }
    }

    fn python(&self, home: Option<&str>) -> Result<String, String> {
        let found = Ok(format!("{}/bin/python3", home.unwrap_or("/usr")));
        self.python.clone().unwrap_or(found)
    }

    fn read(&self, path: &str) -> Result<String, String> {
        self.files.get(path).cloned().ok_or_else(|| "no such file".to_owned())
    }

    fn is_directory(&self, path: &str) -> bool {
        ["/srv", "/jail/", "/jail"].contains(&path)
            || self.directories.iter().any(|one| one == path)
    }
}

fn httpd() -> Httpd {
    Httpd {
        build: [1; 32],
        user: Some("httpd".to_owned()),
        uid: 33,
        gid: 33,
        root: true,
        timeout: Some(Duration::from_secs(60)),
        time_zone: None,
        server: Server { mpm_name: "event".to_owned(), ..Server::default() },
    }
}

/// A configuration: groups, and aliases with what their server says.
#[derive(Default)]
struct World {
    settings: ProcessSettings,
    aliases: Vec<(ScriptAlias, RequestSettings, &'static str, u16)>,
    uses: Vec<(GroupName, &'static str)>,
    system: Fake,
    user_is_root: Option<bool>,
}

impl World {
    fn group(self, text: &str) -> Self {
        self.group_in(text, None)
    }

    fn group_in(mut self, text: &str, server: Option<&str>) -> Self {
        let line = u32::try_from(self.settings.daemon.groups.len()).unwrap() + 1;
        let origin = Origin { file: "/f".to_owned(), line, server: server.map(str::to_owned) };
        let process = DaemonProcess::parse(text).unwrap();
        self.settings.daemon.groups.push(Definition { process, origin });
        self
    }

    fn alias(self, pattern: &str, target: &str, process: Option<&str>) -> Self {
        self.alias_with(pattern, target, process, |_, _| {})
    }

    fn alias_with(
        mut self,
        location: &str,
        target: &str,
        process: Option<&str>,
        change: impl FnOnce(&mut AliasOptions, &mut RequestSettings),
    ) -> Self {
        let text = format!("{location} {target}");
        let mut alias = match location.starts_with('^') {
            true => ScriptAlias::parse_regex(&text),
            false => ScriptAlias::parse_prefix(&text),
        }
        .unwrap();
        alias.options.process_group = process.map(GroupName::parse);
        let mut request = RequestSettings::default();
        change(&mut alias.options, &mut request);
        self.aliases.push((alias, request, "www.example.org", 443));
        self
    }

    fn plan(&self) -> Outcome {
        plan(&self.input(), &self.system)
    }

    fn dump(&self) -> String {
        let input = self.input();
        dump::text(&input, &plan(&input, &self.system), &self.system, "/usr/bin/python3")
    }

    fn input(&self) -> Input<'_> {
        let mounts = self
            .aliases
            .iter()
            .enumerate()
            .map(|(index, (alias, request, name, port))| Written {
                location: match &alias.pattern {
                    engine::settings::Pattern::Prefix(location) => Some(location.as_str()),
                    engine::settings::Pattern::Regex(_) => None,
                },
                target: &alias.target,
                options: &alias.options,
                request,
                server: Name { name, port: *port },
                place: Place { file: "/f".to_owned(), line: 100 + u32::try_from(index).unwrap() },
            })
            .collect();
        let uses = self
            .uses
            .iter()
            .map(|(group, name)| Use {
                group,
                server: Name { name, port: 80 },
                place: Place { file: "/f".to_owned(), line: 200 },
            })
            .collect();
        let httpd = Httpd { root: self.user_is_root.unwrap_or(true), ..httpd() };
        Input { settings: &self.settings, mounts, uses, httpd }
    }

    fn only(&self) -> Planned {
        let outcome = self.plan();
        assert_eq!(outcome.faults, [""; 0]);
        assert_eq!(outcome.groups.len(), 1);
        outcome.groups.into_iter().next().unwrap()
    }

    fn fault(&self) -> String {
        let outcome = self.plan();
        assert_eq!(outcome.faults.len(), 1, "{:?}", outcome.faults);
        outcome.faults.into_iter().next().unwrap()
    }
}

fn world() -> World {
    World::default()
}

fn variable(planned: &Planned, name: &str) -> Option<String> {
    planned.plan.env.iter().find(|known| known.name == name).map(|known| known.value.clone())
}

fn mount(planned: &Planned) -> Vec<(&str, &str, &str)> {
    planned
        .plan
        .setup
        .mounts
        .iter()
        .map(|m| (m.path.as_str(), m.application_group.as_str(), m.callable.as_str()))
        .collect()
}

#[test]
fn a_group_with_nothing_written() {
    let planned = world().group("blog").only();
    let plan = &planned.plan;
    assert_eq!((plan.processes, plan.setup.threads), (1, 15));
    assert_eq!(plan.python, "/usr/bin/python3");
    let identity = Identity { uid: 33, gid: 33, groups: vec![33] };
    assert_eq!(plan.user, Some(identity));
    assert_eq!(plan.setup.peer_uid, 33);
    assert_eq!(planned.socket_owner, 33);
    assert_eq!(plan.cwd, None);
    assert_eq!(plan.limits, Limits::default());
    assert_eq!(plan.life.graceful, Some(Duration::from_secs(15)));
    assert_eq!(plan.setup.timeouts.socket, Some(Duration::from_secs(60)));
    assert_eq!(plan.setup.group_id, plan.id);
    assert_ne!(plan.id, 0);
    let names: Vec<&str> = plan.env.iter().map(|variable| variable.name.as_str()).collect();
    assert_eq!(names, ["HOME", "LANG", "LOGNAME", "PATH", "USER"]);
    assert_eq!(variable(&planned, "LANG").unwrap(), "C.UTF-8");
    assert!(!plan.setup.server.multiprocess);
}

#[test]
fn users_and_groups() {
    let user = |text: &str| world().group(&format!("blog {text}")).only().plan.user.unwrap();
    let table = [
        ("user=blog", 1000, 33, vec![7, 33, 50]),
        ("user=blog group=web", 1000, 50, vec![7, 50]),
        ("user=#1000 group=#9", 1000, 9, vec![7, 9, 50]),
        ("user=#4242", 4242, 33, vec![33]),
        ("user=blog supplementary-groups=web,#5", 1000, 33, vec![5, 33, 50]),
    ];
    for (text, uid, gid, groups) in table {
        assert_eq!(user(text), Identity { uid, gid, groups }, "{text}");
    }
    for (text, reason) in [
        ("user=stranger", "user=: there is no user 'stranger'"),
        ("user=root", "do not run as root"),
        ("group=stranger", "group=: there is no group 'stranger'"),
        ("supplementary-groups=web,x", "supplementary-groups=: there is no group 'x'"),
        ("socket-user=x", "socket-user=: there is no user 'x'"),
        ("script-user=x", "script-user=: there is no user 'x'"),
        ("script-group=x", "script-group=: there is no group 'x'"),
    ] {
        let fault = world().group(&format!("blog {text}")).fault();
        assert!(fault.starts_with("/f:1: WSGIDaemonProcess: "), "{fault}");
        assert!(fault.contains(reason), "{text}: {fault}");
    }
    let planned = world().group("blog socket-user=blog script-user=blog").only();
    assert_eq!((planned.socket_owner, planned.script_user), (1000, Some(1000)));
    assert_eq!(world().group("blog script-group=web").only().script_group, Some(50));
}

#[test]
fn without_root_there_is_one_user() {
    let mut world = world().group("blog user=blog");
    world.user_is_root = Some(false);
    let outcome = world.plan();
    assert!(outcome.notices[0].contains("httpd is not run by root"), "{:?}", outcome.notices);
    assert!(outcome.groups[0].plan.user.is_none());
    assert_eq!(variable(&outcome.groups[0], "USER").unwrap(), "httpd");
}

#[test]
fn folders() {
    let with = |text: &str, directory: &str| {
        let mut world = world().group(&format!("blog {text}"));
        world.system.directories.push(directory.to_owned());
        world.only().plan.cwd
    };
    assert_eq!(with("", "/var/www"), None, "httpd's own user");
    assert_eq!(with("user=blog", "/home/blog").as_deref(), Some("/home/blog"));
    assert_eq!(with("user=blog", "/elsewhere"), None, "a home that does not exist");
    assert_eq!(with("user=blog home=/srv", "/home/blog").as_deref(), Some("/srv"));
    let inside = with("user=blog chroot=/jail", "/jail/home/blog");
    assert_eq!(inside.as_deref(), Some("/home/blog"));
}

#[test]
fn folders_that_are_missing_or_closed_are_told_and_the_group_is_tried() {
    let with = |text: &str, directories: &[&str]| {
        let mut world = world().group(&format!("blog {text}"));
        world.system.directories = directories.iter().map(|&name| name.to_owned()).collect();
        let input = world.input();
        let outcome = plan(&input, &world.system);
        assert_eq!(outcome.groups.len(), 1);
        let told = scripts::unreadable(&input, &[], &outcome, &world.system);
        (outcome.faults, told)
    };
    for (text, said) in [
        ("home=/gone", "home=: there is no directory /gone:"),
        ("chroot=/gone/ home=/srv", "chroot=: there is no directory /gone/:"),
        ("chroot=/jail/ home=/srv", "home=: there is no directory /jail/srv:"),
    ] {
        let (faults, _) = with(text, &[]);
        let [fault] = &faults[..] else { panic!("{faults:?}") };
        assert!(fault.starts_with("/f:1: WSGIDaemonProcess: ") && fault.contains(said), "{fault}");
    }
    assert_eq!(with("chroot=/jail home=/srv", &["/jail/srv"]).0, [""; 0]);
    let (faults, told) = with("home=/closed", &["/closed"]);
    assert_eq!(faults, [""; 0]);
    assert!(told[0].starts_with("/f:1: WSGIDaemonProcess: home=: no process will"), "{told:?}");
    assert_eq!(with("home=/closed user=blog", &["/closed"]).1, [""; 0]);
    let told = with("python-home=/closed/venv", &[]).1;
    assert!(told[0].starts_with("/f:1: WSGIDaemonProcess: python-home=: no process"), "{told:?}");
}

#[test]
fn the_environment_is_what_is_written() {
    let mut world = world().group(
        "blog lang=de_DE.UTF-8 locale=C python-eggs=/eggs env-file=/secrets env=A=2 env=PATH=/x",
    );
    world.system.files.insert("/secrets".to_owned(), "A=1\nB=b\n".to_owned());
    world.settings.optimize = Some(2);
    world.settings.hash_seed = Some(HashSeed::Fixed(7));
    world.settings.dont_write_bytecode = Some(true);
    world.settings.warnings = vec!["error".to_owned(), "ignore::X".to_owned()];
    let planned = world.only();
    for (name, value) in [
        ("LANG", "de_DE.UTF-8"),
        ("LC_ALL", "C"),
        ("A", "2"),
        ("B", "b"),
        ("PATH", "/x"),
        ("PYTHON_EGG_CACHE", "/eggs"),
    ] {
        assert_eq!(variable(&planned, name).as_deref(), Some(value), "{name}");
    }
    // What Python is called with is no part of the environment that was written.
    let python = &planned.plan.setup.python;
    assert_eq!((python.optimize, python.hash_seed), (2, Some(7)));
    assert!(python.dont_write_bytecode && python.gil);
    assert_eq!(python.warnings, ["error", "ignore::X"]);
    assert_eq!(variable(&planned, "PYTHONHASHSEED"), None);
    // What goes to children has no secrets, and neither has what is shown.
    assert!(planned.process.env.is_empty() && planned.process.env_files.is_empty());
    assert!(!format!("{planned:?}").contains("PATH=/x"));

    let missing = self::world().group("blog env-file=/x").fault();
    assert!(missing.contains("env-file=: /x: no such file"), "{missing}");
    let mut faulty = self::world().group("blog env-file=/x");
    faulty.system.files.insert("/x".to_owned(), "A=1\nhunter2".to_owned());
    let fault = faulty.fault();
    assert!(fault.contains("/x: line 2: ") && !fault.contains("hunter2"), "{fault}");
}

#[test]
fn pythons() {
    assert_eq!(world().group("blog python-home=/v").only().plan.python, "/v/bin/python3");
    let mut general = world().group("blog");
    general.settings.python_home = Some("/g".to_owned());
    assert_eq!(general.only().plan.python, "/g/bin/python3");
    let mut none = world().group("blog");
    none.system.python = Some(Err("there is none".to_owned()));
    assert_eq!(none.fault(), "/f:1: WSGIDaemonProcess: python-home=: there is none");
}

#[test]
fn limits_and_life() {
    let plan = world()
        .group(
            "blog cpu-time-limit=60 memory-limit=1000 virtual-memory-limit=2000 cpu-priority=5 \
             display-name=%{GROUP} umask=0027 maximum-requests=9 reload-wait=2 processes=1",
        )
        .only()
        .plan;
    // 15 threads with stacks of 8 MiB.
    let data = Some(1000 + 15 * 8 * 1024 * 1024);
    let limits = Limits { cpu_seconds: Some(60), data, address_space: Some(2000) };
    assert_eq!(plan.limits, limits);
    assert_eq!((plan.nice, plan.umask), (Some(5), Some(0o27)));
    assert_eq!(plan.setup.display_name.as_deref(), Some("(wsgi:blog)"));
    assert_eq!(plan.life.maximum_requests, Some(9));
    assert_eq!(plan.life.resident, Some(900));
    assert_eq!(plan.life.reload_wait, Some(Duration::from_secs(2)));
    assert_eq!(plan.life, plan.setup.life);
    assert!(plan.setup.server.multiprocess);
}

#[test]
fn interpreters_of_other_groups_are_left_out() {
    let section = |text: &str| InterpreterBlock::parse(&format!("{text}>")).unwrap();
    let mut world = world().group("blog");
    world.settings.interpreter.python_path = vec!["/embedded".to_owned()];
    world.settings.interpreter.switch_interval = Some(1.0);
    world.settings.interpreter.per_interpreter_gil = Some(true);
    let before = world.only().plan;
    assert_eq!(before.setup.python.interpreter.python_path, [""; 0]);
    assert_eq!(before.setup.python.interpreter.switch_interval, None);
    assert_eq!(before.setup.python.interpreter.per_interpreter_gil, Some(true));
    world.settings.blocks = vec![section("process-group=other")];
    assert_eq!(world.only().plan.id, before.id);
    world.settings.blocks.push(section("application-group=x"));
    world.settings.blocks.push(section("process-group=blog"));
    let after = world.only().plan;
    assert_eq!(after.setup.python.sections.len(), 2);
    assert_ne!(after.id, before.id);
}

#[test]
fn one_application_gets_the_main_interpreter() {
    let planned = world().group("blog").alias("/", "/srv/a.wsgi", Some("blog")).only();
    assert!(planned.main_interpreter);
    assert_eq!(mount(&planned), [("/srv/a.wsgi", "", "application")]);
    assert!(planned.plan.setup.mounts[0].preload);

    // The server's process group counts as well.
    let by_server = world().group("blog").alias_with("/", "/srv/a.wsgi", None, |_, request| {
        request.process_group = Some(GroupName::parse("blog"));
    });
    assert_eq!(mount(&by_server.only()), [("/srv/a.wsgi", "", "application")]);

    // Several have each their own, as has one whose interpreter is written.
    let two = world()
        .group("blog")
        .alias("/", "/srv/a.wsgi", Some("blog"))
        .alias("/B/", "/srv/b.wsgi", Some("blog"))
        .only();
    assert!(!two.main_interpreter);
    assert_eq!(
        mount(&two),
        [
            ("/srv/a.wsgi", "www.example.org|", "application"),
            ("/srv/b.wsgi", "www.example.org|/B", "application")
        ]
    );
    let named = world().group("blog").alias_with("/", "/srv/a.wsgi", Some("blog"), |alias, _| {
        alias.application_group = Some(GroupName::parse("x"));
        alias.callable_object = Some("app".to_owned());
    });
    assert!(!named.only().main_interpreter);
    assert_eq!(mount(&named.only()), [("/srv/a.wsgi", "x", "app")]);
}

#[test]
fn interpreters_by_name() {
    let interpreter = |name: &str, port: u16, case_sensitive: bool| {
        let mut world =
            world().group("blog").alias_with("/Blog", "/a", Some("blog"), |alias, _| {
                alias.application_group = Some(GroupName::parse(name));
            });
        world.aliases[0].3 = port;
        world.settings.case_sensitivity = Some(case_sensitive);
        world.only().plan.setup.mounts.first().map(|mount| mount.application_group.clone())
    };
    let table = [
        ("%{GLOBAL}", 80, Some("")),
        ("%{SERVER}", 80, Some("www.example.org")),
        ("%{SERVER}", 8080, Some("www.example.org:8080")),
        ("%{RESOURCE}", 443, Some("www.example.org|/Blog")),
        ("%{HOST}", 80, None),
        ("%{ENV:X}", 80, None),
        ("x", 80, Some("x")),
    ];
    for (name, port, expected) in table {
        assert_eq!(interpreter(name, port, true).as_deref(), expected, "{name}");
    }
    assert_eq!(interpreter("%{RESOURCE}", 80, false).unwrap(), "www.example.org|/blog");
}

#[test]
fn what_only_a_request_knows_is_not_mounted() {
    let mut world = world()
        .group("blog")
        .alias("/dir", "/srv/scripts", Some("blog"))
        .alias("/slash", "/srv/other/", Some("blog"))
        .alias("^/(.*)$", "/srv/$1.wsgi", Some("blog"))
        .alias("^/all", "/srv/all.wsgi", Some("blog"))
        .alias("/env", "/srv/env.wsgi", Some("%{ENV:GROUP}"))
        .alias("/here", "/srv/here.wsgi", None)
        .alias_with("/call", "/srv/call.wsgi", Some("blog"), |_, request| {
            request.callable_object = Some("%{ENV:APP}".to_owned());
        })
        .alias_with("/all", "/srv/all.wsgi", Some("blog"), |alias, _| {
            alias.application_group = Some(GroupName::Global);
        });
    world.system.directories.push("/srv/scripts".to_owned());
    let planned = world.only();
    assert!(!planned.main_interpreter);
    assert_eq!(mount(&planned), [("/srv/all.wsgi", "", "application")]);
}

#[test]
fn chroots_change_paths() {
    let world = world()
        .group("blog chroot=/jail/")
        .alias("/", "/jail/srv/a.wsgi", Some("blog"))
        .alias("/b", "/jailbreak/b.wsgi", Some("blog"));
    let outcome = world.plan();
    assert_eq!(outcome.faults, [""; 0]);
    assert_eq!(outcome.groups[0].plan.setup.mounts[0].path, "/srv/a.wsgi");
    assert_eq!(outcome.groups[0].plan.setup.mounts.len(), 1);
    assert_eq!(outcome.notices.len(), 1);
    assert!(outcome.notices[0].starts_with("/f:101: "), "{:?}", outcome.notices);
}

#[test]
fn import_scripts_that_are_not_mounted() {
    let mut world = world().group("blog").alias("/", "/srv/a.wsgi", Some("blog"));
    let script = |path: &str, group: &str| engine::settings::ImportScript {
        path: path.to_owned(),
        process_group: group.to_owned(),
        application_group: String::new(),
        ..engine::settings::ImportScript::default()
    };
    world.settings.import_scripts = vec![
        script("/srv/warm.py", "blog"),
        script("/srv/a.wsgi", "blog"),
        script("/srv/warm.py", "blog"),
        script("/srv/embedded.py", ""),
    ];
    let scripts = world.only().plan.setup.import_scripts;
    let paths: Vec<&str> = scripts.iter().map(|script| script.path.as_str()).collect();
    assert_eq!(paths, ["/srv/warm.py"]);
}

#[test]
fn a_service_runs_all_its_scripts_and_is_nothing_without_any() {
    let mut world = world().group("mail threads=0").alias("/", "/srv/a.wsgi", Some("mail"));
    let outcome = world.plan();
    assert!(outcome.groups.is_empty(), "{outcome:?}");
    let notice = outcome.notices.iter().find(|notice| notice.contains("nothing to run in it"));
    assert!(notice.is_some_and(|notice| notice.contains("'mail'")), "{:?}", outcome.notices);
    world.settings.import_scripts = vec![engine::settings::ImportScript {
        path: "/srv/a.wsgi".to_owned(),
        process_group: "mail".to_owned(),
        ..engine::settings::ImportScript::default()
    }];
    let setup = &world.plan().groups[0].plan.setup;
    assert_eq!((setup.threads, setup.import_scripts.len()), (0, 1));
}

#[test]
fn names_must_be_known() {
    let fault = world().group("blog").alias("/", "/a", Some("other")).fault();
    assert_eq!(
        fault,
        "/f:100: WSGIScriptAlias: no daemon process group called 'other' is defined: write \
         WSGIDaemonProcess other"
    );
    let mut used = world().group("blog");
    used.uses = vec![
        (GroupName::parse("nowhere"), "a"),
        (GroupName::Global, "a"),
        (GroupName::parse("%{ENV:X}"), "a"),
        (GroupName::parse("blog"), "a"),
    ];
    assert!(used.fault().starts_with("/f:200: WSGIProcessGroup: no daemon process group"));

    // An alias with both groups is an import script, too, and told once.
    let mut both = world().alias("/", "/a", Some("other"));
    both.settings.import_scripts.push(engine::settings::ImportScript {
        path: "/a".to_owned(),
        process_group: "other".to_owned(),
        application_group: String::new(),
        ..engine::settings::ImportScript::default()
    });
    assert!(both.fault().contains("WSGIScriptAlias"));
    both.aliases.clear();
    assert!(both.fault().starts_with("WSGIImportScript: no daemon process group"));
}

#[test]
fn a_service_is_no_group_for_requests() {
    let service = || world().group("work threads=0");
    for world in [service().alias("/", "/srv/a.wsgi", Some("work")), {
        let mut world = service();
        world.uses.push((GroupName::parse("work"), ""));
        world
    }] {
        let faults = world.plan().faults;
        let [fault] = &faults[..] else { panic!("{faults:?}") };
        assert!(fault.contains("'work' has threads=0 and serves no requests: name"), "{fault}");
    }
}

#[test]
fn groups_of_a_virtual_host_are_its_own() {
    let host = |server: &'static str| {
        let mut world = world().group_in("blog", Some(server)).alias("/", "/a", Some("blog"));
        world.uses = vec![(GroupName::parse("blog"), "www.example.org")];
        world
    };
    assert_eq!(host("WWW.example.org").only().server.as_deref(), Some("WWW.example.org"));
    let faults = host("other.example.org").plan().faults;
    assert_eq!(faults.len(), 2);
    for fault in faults {
        assert!(fault.contains("defined in virtual host other.example.org"), "{fault}");
    }
}

#[test]
fn one_name_is_one_group() {
    let same = world().group("blog threads=2").group("blog threads=2");
    assert_eq!(same.only().plan.setup.threads, 2);
    assert_eq!(
        world().group("blog threads=2").group("blog threads=3").fault(),
        "/f:2: WSGIDaemonProcess: process group 'blog' is defined differently in /f:1: give it \
         another name"
    );
    let secrets = world().group("blog env=A=1").group("blog env=A=2");
    assert!(secrets.fault().contains("defined differently"));
}

#[test]
fn the_fingerprint_is_of_what_matters() {
    let id = |text: &str| world().group(&format!("blog {text}")).only().plan.id;
    let plain = id("");
    // Each changes the processes or their socket.
    let mut ids = vec![plain];
    for text in [
        "processes=2",
        "threads=2",
        "user=blog",
        "env=A=1",
        "env=A=2",
        "python-home=/v",
        "home=/srv",
        "request-timeout=5",
        "listen-backlog=5",
        "queue-limit=7",
        "socket-user=blog",
        "memory-limit=1G",
    ] {
        ids.push(id(text));
    }
    let mut different = ids.clone();
    different.sort_unstable();
    different.dedup();
    assert_eq!(different.len(), ids.len());
    // These are the children's business.
    for text in ["connect-timeout=3", "request-buffering=Off", "script-user=blog"] {
        assert_eq!(id(text), plain, "{text}");
    }
    assert_eq!(id("threads=15"), plain, "the default, written");
    // Other groups do not matter, nor does the place in the file.
    let two = world().group("other").group("blog").plan();
    assert_eq!(two.groups.iter().find(|g| g.plan.name == "blog").unwrap().plan.id, plain);
    let mounted = world().group("blog").alias("/", "/a", Some("blog")).only().plan.id;
    assert_ne!(mounted, plain);
    let elsewhere = world().group("blog").alias("/b", "/a", Some("blog")).only().plan.id;
    assert_eq!(mounted, elsewhere, "the same application at another URL");
}

#[test]
fn ids_of_mounts_differ_by_all_that_is_in_them() {
    let ids = [
        mount_id("g", "p", "a", "c"),
        mount_id("x", "p", "a", "c"),
        mount_id("g", "x", "a", "c"),
        mount_id("g", "p", "x", "c"),
        mount_id("g", "p", "a", "x"),
        mount_id("g", "pa", "", "c"),
    ];
    let different: std::collections::BTreeSet<u64> = ids.into_iter().collect();
    assert_eq!(different.len(), ids.len());
    assert_eq!(mount_id("g", "p", "a", "c"), ids[0]);
}

#[test]
fn a_plan_that_is_too_large_is_a_fault() {
    let mut world = world().group("blog env-file=/big");
    world.system.files.insert("/big".to_owned(), format!("A={}", "x".repeat(2 << 20)));
    assert!(world.fault().contains("more than 1 MiB"));
}

#[test]
fn notices_are_passed_on() {
    let mut world = world().group("blog header-buffer-size=8192");
    world.settings.daemon.socket_rotation = Some(true);
    assert_eq!(world.plan().notices.len(), 2);
}

#[test]
fn a_dump_tells_of_groups_and_mounts() {
    let mut world = world()
        .group("blog user=blog threads=3 request-timeout=1500ms home=/srv env=\"SECRET=s3cret\"")
        .group_in("shop", Some("shop.example.org"))
        .alias("/blog", "/srv/blog.wsgi", Some("blog"))
        .alias("/own", "/srv/own.wsgi", None)
        .alias("^/(x)", "/srv/$1.wsgi", Some("%{ENV:SITE}"))
        .alias_with("/nowhere", "/srv/nowhere.wsgi", Some("missing"), |options, request| {
            options.callable_object = Some("app".to_owned());
            request.application_group = Some(GroupName::Env("GROUP".to_owned()));
            request.proxies.add_headers("X-Real-IP").unwrap();
            request.proxies.add_networks("10.0.0.0/8 ::1").unwrap();
        });
    world.settings.import_scripts.push(engine::settings::ImportScript {
        path: "/srv/start.py".to_owned(),
        process_group: "blog".to_owned(),
        application_group: String::new(),
        ..Default::default()
    });
    let text = world.dump();
    let section = |title: &str| {
        let found = text.split("\n\n").find(|section| section.starts_with(title));
        found.unwrap_or_else(|| panic!("no {title} in\n{text}")).to_owned()
    };
    for (title, lines) in [
        ("httpd's own processes", &["Python: /usr/bin/python3", "user: httpd (33)"][..]),
        (
            "process group blog (/f:1)",
            &[
                "user: blog (1000), group 33, groups 7 33 50",
                "loaded at start: /srv/start.py in the main interpreter",
                "home=/srv",
                "threads=3",
                "request-timeout=1500ms",
                "queue-timeout=0",
                "graceful-timeout=15 eviction-timeout=15",
            ],
        ),
        ("process group shop (/f:2)", &["requests: of virtual host shop.example.org alone"]),
        (
            "/blog -> /srv/blog.wsgi (/f:100)",
            &[
                "server: www.example.org",
                "process group: blog",
                "Python: /usr/bin/python3",
                "user: blog (1000)",
                "interpreter: the main interpreter (the group's only application)",
                "application: application",
                "WSGIPassAuthorization Auto, WSGIScriptReloading On",
            ],
        ),
        (
            "/own -> /srv/own.wsgi",
            &[
                "process group: none: httpd's own processes",
                "user: httpd (33)",
                "interpreter: www.example.org|/own",
            ],
        ),
        (
            "(a regular expression) -> /srv/$1.wsgi",
            &[
                "process group: as each request says: %{ENV:SITE}",
                "as each request says: %{RESOURCE}",
            ],
        ),
        (
            "/nowhere -> ",
            &[
                "process group: missing, which is not defined",
                "interpreter: as each request says: %{ENV:GROUP}",
                "application: app",
                "WSGITrustedProxyHeaders X-Real-IP, WSGITrustedProxies 10.0.0.0/8 ::1/128",
            ],
        ),
    ] {
        let section = section(title);
        for line in lines {
            assert!(section.contains(line), "no '{line}' in\n{section}");
        }
    }
    assert!(!text.contains("s3cret"), "{text}");
}

#[test]
fn a_dump_tells_of_all_options() {
    let told = |name: &str| dump::OPTIONS.iter().any(|(known, _)| *known == name);
    // Who runs what is told in lines of their own; the environment may hold secrets.
    let elsewhere = ["user", "group", "supplementary-groups", "python-home", "env", "env-file"];
    for option in engine::settings::daemon::OPTIONS {
        let expected = option.has_effect() && !elsewhere.contains(&option.name);
        assert_eq!(told(option.name), expected, "{}", option.name);
    }
}

#[test]
fn scripts_that_cannot_be_read_are_told_of_those_who_are_to_read_them() {
    let world = world()
        .group("blog user=blog")
        .alias("/open", "/srv/a.wsgi", None)
        .alias("/own", "/closed/b.wsgi", Some("blog"))
        .alias("/shut", "/closed/c.wsgi", None)
        .alias("/from", "somewhere/c.wsgi", None)
        .alias("^/x(.*)", "/closed/$1.wsgi", None);
    let input = world.input();
    let asked = [
        ("WSGIAccessScript", "/closed/d.py application-group=x"),
        ("WSGIHandlerScript", "pages /closed/e.py"),
        ("WSGIHandlerScript", "pages /closed/f.py process-group=blog"),
    ]
    .map(|(name, arguments)| crate::apache::tree::Written {
        name: name.to_owned(),
        arguments: arguments.to_owned(),
        place: Place { file: "/f".to_owned(), line: 7 },
    });
    let told = scripts::unreadable(&input, &asked, &plan(&input, &world.system), &world.system);
    let [told, relative, access, handler] = &told[..] else { panic!("{told:?}") };
    assert!(relative.contains("somewhere/c.wsgi may not be found"), "{relative}");
    assert!(told.starts_with("/f:102: WSGIScriptAlias: /closed/c.wsgi will not run"), "{told}");
    assert!(access.starts_with("/f:7: WSGIAccessScript: /closed/d.py"), "{access}");
    assert!(handler.starts_with("/f:7: WSGIHandlerScript: /closed/e.py"), "{handler}");
    assert!(told.contains("closed to 33"), "{told}");
}
