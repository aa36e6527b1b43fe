//! The supervisor as httpd's parent sees it: a program to start, and a socket to tell it what shall run.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use engine::os::inbound::{Arrival, Inbound};
use engine::os::program::{self, Call, Program, open_trusted};
use engine::os::socket::{self, SendFault, Wait};
use engine::wire::control::{Configure, FromParent, GroupPlan, ToParent, to_parent};

/// Its file.
const SUPERVISOR: &str = "mod_wsgi_supervisor";
/// Names of the engine's file: as installed, and as built.
const ENGINE: [&str; 2] = ["mod_wsgi_engine.so", "libmod_wsgi_engine.so"];

/// How long the supervisor may take to read what it is told, and to answer. It does nothing that takes
/// time, so this is for a machine that is out of breath.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long it may take to end everything: it ends processes by force after four seconds.
const END: Duration = Duration::from_secs(5);

/// The files that daemon mode is made of, opened once: a package that is upgraded meanwhile changes
/// names, not these.
#[derive(Debug)]
pub(crate) struct Files {
    supervisor: Program,
    engine: File,
}

impl Files {
    /// Finds them beside the module, or in the folder for programs of its installation.
    pub(crate) fn open(module: &Path) -> Result<Self, String> {
        let folders = folders(module);
        let supervisor = find(&folders, &[SUPERVISOR], Program::open)?;
        let engine = find(&folders, &ENGINE, open_trusted)?;
        Ok(Self { supervisor, engine })
    }
}

/// Where the files may be: beside the module; where it is a link, beside what it leads to; in libexec,
/// as seen from both.
fn folders(module: &Path) -> Vec<PathBuf> {
    let mut beside: Vec<PathBuf> = module.parent().map(Path::to_owned).into_iter().collect();
    if let Some(folder) = module.canonicalize().ok().as_deref().and_then(Path::parent)
        && !beside.contains(&folder.to_owned())
    {
        beside.push(folder.to_owned());
    }
    let libexec: Vec<PathBuf> = beside
        .iter()
        .flat_map(|folder| folder.ancestors().skip(1).take(3))
        .map(|prefix| prefix.join("libexec/mod_wsgi_rs"))
        .collect();
    beside.into_iter().chain(libexec).collect()
}

fn find<T>(
    folders: &[PathBuf],
    names: &[&str],
    open: impl Fn(&Path) -> io::Result<T>,
) -> Result<T, String> {
    for folder in folders {
        for path in names.iter().map(|name| folder.join(name)) {
            match open(&path) {
                Ok(found) => return Ok(found),
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(format!("{} cannot be used: {error}", path.display())),
            }
        }
    }
    let first = folders.first().map(|folder| folder.display().to_string()).unwrap_or_default();
    Err(format!(
        "{} is not beside the module, in {first}: install all of mod_wsgi_rs's files together",
        names.first().copied().unwrap_or_default()
    ))
}

/// A supervisor that was started.
pub(crate) struct Supervisor {
    pid: u32,
    control: OwnedFd,
    inbound: Inbound,
}

/// A group and where it listens.
pub(crate) type Listening<'a> = (&'a GroupPlan, BorrowedFd<'a>);

impl Supervisor {
    /// Starts one, with the memory that it shares: the board, and the news.
    pub(crate) fn start(
        files: &Files,
        [board, news]: [BorrowedFd<'_>; 2],
        log: BorrowedFd<'_>,
        time_zone: Option<&str>,
    ) -> Result<Self, String> {
        let fault = |error: io::Error| format!("{SUPERVISOR} cannot be started: {error}");
        let (ours, theirs) = socket::pair().map_err(fault)?;
        let nothing = File::open("/dev/null").map_err(fault)?;
        let zone = time_zone.and_then(|zone| CString::new(format!("TZ={zone}")).ok());
        let call = Call {
            arguments: &[c"mod_wsgi_supervisor"],
            environment: zone.as_slice(),
            descriptors: &[
                nothing.as_fd(),
                log,
                log,
                theirs.as_fd(),
                board,
                files.engine.as_fd(),
                news,
            ],
        };
        let pid = files.supervisor.start(&call).map_err(fault)?;
        socket::set_send_timeout(ours.as_fd(), Some(PATIENCE)).map_err(fault)?;
        Ok(Self { pid, control: ours, inbound: Inbound::new(to_parent, 0) })
    }

    /// Ends it by force. It is a child of this process, so the number is still its own.
    pub(crate) fn kill(self) {
        program::kill(self.pid);
    }

    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Tells it a configuration with these groups, and waits until it has it.
    pub(crate) fn configure(
        &mut self,
        configure: Configure,
        log: BorrowedFd<'_>,
        groups: &[Listening<'_>],
    ) -> Result<(), Trouble> {
        let generation = configure.generation;
        self.say(&FromParent::Configure(configure), Some(log))?;
        for (plan, listener) in groups {
            self.say(&FromParent::Group(Box::new((*plan).clone())), Some(*listener))?;
        }
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.hear(deadline)? {
                ToParent::Configured(number) if number == generation => return Ok(()),
                ToParent::Refused { generation: number, reason } if number == generation => {
                    return Err(Trouble::Refused(reason));
                }
                // An answer to what was said before, and not waited for.
                _ => {}
            }
        }
    }

    /// Tells it that nobody is left who knows a configuration.
    pub(crate) fn retire(&mut self, generation: u64) -> Result<(), Trouble> {
        self.say(&FromParent::RetireGeneration(generation), None)
    }

    /// Has it end everything, and waits for that. `false`: it is lost.
    pub(crate) fn stop(&mut self) -> bool {
        if self.say(&FromParent::Stop { graceful: false }, None).is_err() {
            return false;
        }
        let deadline = Instant::now() + END;
        loop {
            match self.hear(deadline) {
                // Its last word, after which it ends.
                Ok(ToParent::Stopped) => return true,
                Ok(_) => {}
                Err(_) => return false,
            }
        }
    }

    fn say(
        &mut self,
        what: &FromParent,
        descriptor: Option<BorrowedFd<'_>>,
    ) -> Result<(), Trouble> {
        let mut frame = Vec::new();
        what.encode(&mut frame).map_err(|fault| Trouble::Refused(fault.to_string()))?;
        let given: Vec<BorrowedFd<'_>> = descriptor.into_iter().collect();
        socket::send(self.control.as_fd(), &[&frame], &given, Wait::Yes)
            .map_err(|SendFault { error, .. }| Trouble::Lost(error.to_string()))
    }

    fn hear(&mut self, deadline: Instant) -> Result<ToParent, Trouble> {
        loop {
            let decoded = match self.inbound.frame() {
                Ok(Some((frame, _))) => Some(ToParent::decode(&frame)),
                Ok(None) => None,
                Err(fault) => Some(Err(fault)),
            };
            match decoded {
                Some(Ok(message)) => return Ok(message),
                Some(Err(fault)) => return Err(Trouble::Lost(fault.to_string())),
                None => {}
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(Trouble::Lost("it does not answer".to_owned()));
            }
            let control = self.control.as_fd();
            let arrived = socket::set_receive_timeout(control, Some(left))
                .and_then(|()| self.inbound.receive(control, Wait::Yes));
            match arrived {
                Ok(Arrival::Bytes) => {}
                Ok(Arrival::End { .. }) => return Err(Trouble::Lost("it has ended".to_owned())),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(Trouble::Lost(error.to_string())),
            }
        }
    }
}

/// What went wrong with a supervisor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// It does not take this, and goes on with what it had.
    Refused(String),
    /// It cannot be talked to any more.
    Lost(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Refused(reason) => {
                write!(f, "the supervisor refuses the configuration: {reason}")
            }
            Self::Lost(reason) => write!(f, "the supervisor is lost: {reason}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;
    use std::thread;

    use engine::os::socket::Peer;
    use engine::wire::control::from_parent;

    use super::*;

    #[test]
    fn files_are_beside_the_module_or_in_libexec() {
        let root = tempfile::tempdir().unwrap();
        let (modules, libexec) =
            (root.path().join("lib/httpd"), root.path().join("libexec/mod_wsgi_rs"));
        fs::create_dir_all(&modules).unwrap();
        fs::create_dir_all(&libexec).unwrap();
        let module = modules.join("mod_wsgi_rs.so");
        let fault = Files::open(&module).unwrap_err();
        assert!(fault.contains("mod_wsgi_supervisor is not beside the module"), "{fault}");
        fs::copy("/bin/true", libexec.join("mod_wsgi_supervisor")).unwrap();
        let fault = Files::open(&module).unwrap_err();
        assert!(fault.contains("mod_wsgi_engine.so is not beside the module"), "{fault}");
        fs::write(modules.join("libmod_wsgi_engine.so"), "").unwrap();
        assert!(Files::open(&module).is_ok());
        // What everybody can change is not executed as root, and not passed over for another either.
        let beside = modules.join("mod_wsgi_supervisor");
        fs::copy("/bin/true", &beside).unwrap();
        fs::set_permissions(&beside, PermissionsExt::from_mode(0o777)).unwrap();
        let fault = Files::open(&module).unwrap_err();
        assert!(fault.contains("everybody can write"), "{fault}");
    }

    /// A supervisor that answers as `answer` says, and the frames that it got, with whether a descriptor
    /// came along.
    fn with(
        answer: impl Fn(&FromParent) -> Vec<ToParent> + Send,
        talk: impl FnOnce(&mut Supervisor),
    ) -> Vec<(String, bool)> {
        let (ours, theirs) = socket::pair().unwrap();
        let mut supervisor =
            Supervisor { pid: 0, control: ours, inbound: Inbound::new(to_parent, 0) };
        let Peer { pid, .. } = socket::peer(theirs.as_fd()).unwrap();
        assert_ne!(pid, 0);
        thread::scope(|scope| {
            let heard = scope.spawn(move || {
                let mut inbound = Inbound::new(from_parent, 8);
                let mut heard = Vec::new();
                loop {
                    while let Some((frame, descriptor)) = inbound.frame().unwrap() {
                        let said = FromParent::decode(&frame).unwrap();
                        let name = format!("{said:?}")
                            .chars()
                            .take_while(char::is_ascii_alphabetic)
                            .collect();
                        heard.push((name, descriptor.is_some()));
                        for message in answer(&said) {
                            let mut bytes = Vec::new();
                            message.encode(&mut bytes).unwrap();
                            socket::send(theirs.as_fd(), &[&bytes], &[], Wait::Yes).unwrap();
                        }
                        if matches!(said, FromParent::Stop { .. }) {
                            return heard;
                        }
                    }
                    if matches!(
                        inbound.receive(theirs.as_fd(), Wait::Yes),
                        Ok(Arrival::End { .. }) | Err(_)
                    ) {
                        return heard;
                    }
                }
            });
            talk(&mut supervisor);
            drop(supervisor);
            heard.join().unwrap()
        })
    }

    fn configure(generation: u64) -> Configure {
        Configure { generation, groups: 0, reload: false, log_level: 2, syslog: None }
    }

    #[test]
    fn a_configuration_is_taken_or_refused() {
        let log = File::open("/dev/null").unwrap();
        let answer = |said: &FromParent| match said {
            FromParent::Configure(configure) if configure.generation == 2 => {
                vec![ToParent::Refused { generation: 2, reason: "no".to_owned() }]
            }
            // An answer that came late stands before.
            FromParent::Configure(configure) => {
                vec![ToParent::Configured(0), ToParent::Configured(configure.generation)]
            }
            FromParent::Stop { .. } => vec![ToParent::Stopped],
            _ => vec![],
        };
        let heard = with(answer, |supervisor| {
            assert_eq!(supervisor.configure(configure(1), log.as_fd(), &[]), Ok(()));
            assert_eq!(
                supervisor.configure(configure(2), log.as_fd(), &[]),
                Err(Trouble::Refused("no".to_owned()))
            );
            assert_eq!(supervisor.retire(1), Ok(()));
            supervisor.stop();
        });
        let names: Vec<(&str, bool)> =
            heard.iter().map(|(name, given)| (name.as_str(), *given)).collect();
        assert_eq!(
            names,
            [
                ("Configure", true),
                ("Configure", true),
                ("RetireGeneration", false),
                ("Stop", false)
            ]
        );
    }

    #[test]
    fn one_that_is_gone_is_lost() {
        let log = File::open("/dev/null").unwrap();
        let (ours, theirs) = socket::pair().unwrap();
        let mut supervisor =
            Supervisor { pid: 0, control: ours, inbound: Inbound::new(to_parent, 0) };
        drop(theirs);
        assert!(matches!(
            supervisor.configure(configure(1), log.as_fd(), &[]),
            Err(Trouble::Lost(_))
        ));
        // And is not waited for.
        supervisor.stop();
    }
}
