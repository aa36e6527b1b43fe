//! The way from this program to a daemon process: fork, become who it shall be, execute.
//!
//! Between fork and exec there are system calls and nothing else (S6): all memory is made before,
//! and nothing is freed after.

use std::ffi::{CStr, CString, c_char, c_int};
use std::fmt;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use engine::os::socket::{self, Rights, Wait};

use super::process::{Process, at_least};

/// Descriptors of a daemon process, from 0 on.
pub(crate) const DESCRIPTORS: usize = 7;

/// Numbers from here on are out of the way of a daemon's descriptors.
const FREE: RawFd = 16;

/// What a daemon process is made of. All of it is ready to be handed to the kernel.
#[derive(Debug)]
pub(crate) struct Recipe {
    /// The program; absolute.
    pub(crate) program: CString,
    /// Its arguments, the name it is called by included.
    pub(crate) arguments: Vec<CString>,
    /// Its whole environment.
    pub(crate) environment: Vec<CString>,
    /// Who it is: user, group, supplementary groups. `None`: who this program is.
    pub(crate) identity: Option<(libc::uid_t, libc::gid_t, Vec<libc::gid_t>)>,
    /// Mode bits that new files never have.
    pub(crate) umask: Option<libc::mode_t>,
    /// Its folder.
    pub(crate) folder: Option<CString>,
    /// Its root.
    pub(crate) root: Option<CString>,
    /// Its priority.
    pub(crate) nice: Option<c_int>,
    /// CPU seconds, soft and hard.
    pub(crate) cpu: Option<(u64, Option<u64>)>,
    /// Bytes of its data segment.
    pub(crate) data: Option<u64>,
    /// Bytes of its address space.
    pub(crate) space: Option<u64>,
}

/// A step between fork and exec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum Step {
    ProcessGroup = 1,
    CpuLimit,
    DataLimit,
    SpaceLimit,
    Root,
    Groups,
    Group,
    User,
    Identity,
    Folder,
    Descriptors,
    Signals,
    Execute,
}

const STEPS: [Step; 13] = [
    Step::ProcessGroup,
    Step::CpuLimit,
    Step::DataLimit,
    Step::SpaceLimit,
    Step::Root,
    Step::Groups,
    Step::Group,
    Step::User,
    Step::Identity,
    Step::Folder,
    Step::Descriptors,
    Step::Signals,
    Step::Execute,
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ProcessGroup => "making a process group",
            Self::CpuLimit => "setting cpu-time-limit",
            Self::DataLimit => "setting memory-limit",
            Self::SpaceLimit => "setting virtual-memory-limit",
            Self::Root => "entering the chroot",
            Self::Groups => "setting the supplementary groups",
            Self::Group => "changing the group",
            Self::User => "changing the user",
            Self::Identity => "giving up all rights of root",
            Self::Folder => "going to the home folder",
            Self::Descriptors => "arranging descriptors",
            Self::Signals => "resetting signals",
            Self::Execute => "executing Python",
        })
    }
}

/// A step that went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    /// Which.
    pub(crate) step: Step,
    /// The kernel's word for it.
    pub(crate) errno: c_int,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} failed: {}", self.step, io::Error::from_raw_os_error(self.errno))
    }
}

/// A process that was forked and waits to be released. Dropped instead, it ends, and is waited for.
#[derive(Debug)]
pub(crate) struct Newborn {
    process: Option<Process>,
    channel: Option<OwnedFd>,
    pid: libc::pid_t,
}

impl Newborn {
    /// Its number.
    pub(crate) fn pid(&self) -> u32 {
        u32::try_from(self.pid).unwrap_or(0)
    }

    /// Lets it go on. If this program ends before, so does it: nobody would know of it.
    pub(crate) fn release(mut self) -> io::Result<(Process, OwnedFd)> {
        if let Some(channel) = &self.channel {
            let sent = socket::send(channel.as_fd(), &[&[1]], &[], Wait::No);
            sent.map_err(|fault| fault.error)?;
        }
        match (self.process.take(), self.channel.take()) {
            (Some(process), Some(channel)) => Ok((process, channel)),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

impl Drop for Newborn {
    fn drop(&mut self) {
        // It reads the end of the channel, and ends at once.
        if self.channel.take().is_some() {
            // SAFETY: our child, which nobody has waited for; its status is not asked for.
            unsafe { libc::waitpid(self.pid, std::ptr::null_mut(), 0) };
        }
    }
}

/// What a process that has ended said on the channel of its birth, if a step went wrong.
pub(crate) fn failure(channel: BorrowedFd<'_>) -> Option<Failure> {
    let mut bytes = [0; 8];
    let length = socket::receive(channel, &mut bytes, &mut Rights::new(0), Wait::No).ok()?;
    if length != bytes.len() {
        return None;
    }
    let [s0, s1, s2, s3, e0, e1, e2, e3] = bytes;
    let number = u32::from_le_bytes([s0, s1, s2, s3]);
    let step = STEPS.into_iter().find(|step| *step as u32 == number)?;
    Some(Failure { step, errno: c_int::from_le_bytes([e0, e1, e2, e3]) })
}

/// Forks a process, which waits for [`Newborn::release`] and then becomes what the recipe says,
/// with these descriptors from 0 on and no others.
pub(crate) fn fork(
    recipe: &Recipe,
    descriptors: [BorrowedFd<'_>; DESCRIPTORS],
) -> io::Result<Newborn> {
    let (ours, theirs) = socket::pair()?;
    let theirs = at_least(theirs.as_fd(), FREE)?;
    // Above the numbers they shall have, so that none is overwritten before it is used.
    let sources = descriptors
        .iter()
        .map(|descriptor| at_least(*descriptor, FREE))
        .collect::<io::Result<Vec<OwnedFd>>>()?;
    let mut numbers = [-1; DESCRIPTORS];
    for (number, source) in numbers.iter_mut().zip(&sources) {
        *number = source.as_raw_fd();
    }
    let arguments = pointers(&recipe.arguments);
    let environment = pointers(&recipe.environment);
    let groups = recipe.identity.as_ref().map_or(0, |(_, _, groups)| groups.len());
    let mut room: Vec<libc::gid_t> = vec![0; groups + 1];
    let plan = Plan {
        recipe,
        arguments: &arguments,
        environment: &environment,
        numbers,
        ours: ours.as_raw_fd(),
        channel: theirs.as_raw_fd(),
    };
    // SAFETY: this program has one thread, so the child's memory is whole; the child makes system
    // calls only and never returns.
    match unsafe { libc::fork() } {
        -1 => Err(io::Error::last_os_error()),
        0 => become_daemon(&plan, &mut room),
        pid => {
            drop(theirs);
            let mut newborn = Newborn { process: None, channel: Some(ours), pid };
            newborn.process = Some(Process::open(newborn.pid())?);
            Ok(newborn)
        }
    }
}

/// What the child needs, all of it made before the fork.
struct Plan<'a> {
    recipe: &'a Recipe,
    arguments: &'a [*const c_char],
    environment: &'a [*const c_char],
    numbers: [RawFd; DESCRIPTORS],
    ours: RawFd,
    channel: RawFd,
}

/// The addresses of texts, closed by null.
fn pointers(texts: &[CString]) -> Vec<*const c_char> {
    texts.iter().map(|text| text.as_ptr()).chain([std::ptr::null()]).collect()
}

/// In the child.
fn become_daemon(plan: &Plan<'_>, room: &mut [libc::gid_t]) -> ! {
    wait_for_release(plan);
    match prepare(plan, room) {
        Ok(()) => {}
        Err(step) => report(plan.channel, step),
    }
    let program = plan.recipe.program.as_ptr();
    // SAFETY: S6; three lists closed by null, of texts closed by NUL.
    unsafe { libc::execve(program, plan.arguments.as_ptr(), plan.environment.as_ptr()) };
    report(plan.channel, Step::Execute)
}

fn wait_for_release(plan: &Plan<'_>) {
    let mut byte = 0_u8;
    // While it is open here as well, the end of the supervisor would not be seen.
    // SAFETY: S6.
    unsafe { libc::close(plan.ours) };
    loop {
        // SAFETY: S6; room for one byte.
        let count = unsafe { libc::read(plan.channel, (&raw mut byte).cast(), 1) };
        if count == 1 {
            return;
        }
        if count == 0 || errno() != libc::EINTR {
            // SAFETY: S6.
            unsafe { libc::_exit(1) };
        }
    }
}

fn prepare(plan: &Plan<'_>, room: &mut [libc::gid_t]) -> Result<(), Step> {
    let recipe = plan.recipe;
    // SAFETY: S6; numbers.
    done(unsafe { libc::setpgid(0, 0) }, Step::ProcessGroup)?;
    if let Some((soft, hard)) = recipe.cpu {
        limit(libc::RLIMIT_CPU, soft, hard.unwrap_or(libc::RLIM_INFINITY), Step::CpuLimit)?;
    }
    if let Some(data) = recipe.data {
        limit(libc::RLIMIT_DATA, data, data, Step::DataLimit)?;
    }
    if let Some(space) = recipe.space {
        limit(libc::RLIMIT_AS, space, space, Step::SpaceLimit)?;
    }
    if let Some(root) = &recipe.root {
        // SAFETY: S6; a text closed by NUL.
        done(unsafe { libc::chroot(root.as_ptr()) }, Step::Root)?;
        go(c"/", Step::Root)?;
    }
    if let Some((user, group, groups)) = &recipe.identity {
        identify(*user, *group, groups, room)?;
    }
    if let Some(umask) = recipe.umask {
        // SAFETY: S6; a number. It cannot fail.
        unsafe { libc::umask(umask) };
    }
    if let Some(folder) = &recipe.folder {
        go(folder, Step::Folder)?;
    }
    for (target, source) in (0..).zip(plan.numbers) {
        // The copy is not close-on-exec.
        // SAFETY: S6; numbers.
        done(unsafe { libc::dup2(source, target) }, Step::Descriptors)?;
    }
    let first = plan.numbers.len();
    // All of ours are close-on-exec already, which is enough where the kernel does not know this
    // call.
    // SAFETY: S6; numbers.
    unsafe {
        libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC)
    };
    reset_signals()
}

fn identify(
    user: libc::uid_t,
    group: libc::gid_t,
    groups: &[libc::gid_t],
    room: &mut [libc::gid_t],
) -> Result<(), Step> {
    // SAFETY: S6; as many numbers as said.
    done(unsafe { libc::setgroups(groups.len(), groups.as_ptr()) }, Step::Groups)?;
    // SAFETY: S6; a number.
    done(unsafe { libc::setgid(group) }, Step::Group)?;
    // SAFETY: S6; a number.
    done(unsafe { libc::setuid(user) }, Step::User)?;

    // That a call succeeded is not enough to run other people's code: the kernel is asked what it
    // made of it.
    let (mut real, mut effective, mut saved) = (0, 0, 0);
    // SAFETY: S6; three places.
    let result = unsafe { libc::getresuid(&raw mut real, &raw mut effective, &raw mut saved) };
    done(result, Step::Identity)?;
    let users = [real, effective, saved];
    // SAFETY: S6; three places.
    let result = unsafe { libc::getresgid(&raw mut real, &raw mut effective, &raw mut saved) };
    done(result, Step::Identity)?;
    let same = users == [user; 3] && [real, effective, saved] == [group; 3];
    let places = c_int::try_from(room.len()).unwrap_or(0);
    // SAFETY: S6; as many places as said.
    let count = unsafe { libc::getgroups(places, room.as_mut_ptr()) };
    let found = usize::try_from(count).ok().and_then(|count| room.get(..count)).unwrap_or(&[]);
    let listed = found.len() == groups.len() && found.iter().all(|group| groups.contains(group));
    // SAFETY: S6; a number.
    let regained = user != 0 && unsafe { libc::setuid(0) } == 0;
    // SAFETY: S6; a number.
    let group_regained = group != 0 && unsafe { libc::setgid(0) } == 0;
    if !same || !listed || regained || group_regained {
        set_errno(libc::EPERM);
        return Err(Step::Identity);
    }
    Ok(())
}

fn go(folder: &CStr, step: Step) -> Result<(), Step> {
    // SAFETY: S6; a text closed by NUL.
    done(unsafe { libc::chdir(folder.as_ptr()) }, step)
}

fn limit(
    resource: libc::__rlimit_resource_t,
    soft: u64,
    hard: u64,
    step: Step,
) -> Result<(), Step> {
    let mut most = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: S6; a place for the answer.
    done(unsafe { libc::getrlimit(resource, &raw mut most) }, step)?;
    // A stricter limit, as of a container, holds as well; not every root may raise it.
    let limit =
        libc::rlimit { rlim_cur: soft.min(most.rlim_max), rlim_max: hard.min(most.rlim_max) };
    // SAFETY: S6; a value of the right type.
    done(unsafe { libc::setrlimit(resource, &raw const limit) }, step)
}

/// What this program ignores, and what it was told to ignore, is nothing a daemon process should.
fn reset_signals() -> Result<(), Step> {
    // The kernel's own form of an action, on every machine all zero for the default: handler,
    // flags, restorer, mask. The library's call refuses two signals that it uses itself, which can
    // be ignored as well by whoever has started httpd.
    let default = [0_u64; 4];
    for number in 1..=64 {
        // Those that cannot be changed are refused, and need no change.
        // SAFETY: S6; the action is at least as long as the kernel's, and its set has 64 bits.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                number,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                size_of::<u64>(),
            )
        };
    }
    let mut none = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: S6; a place for a set.
    unsafe { libc::sigemptyset(none.as_mut_ptr()) };
    let nothing = std::ptr::null_mut();
    // SAFETY: S6; the set that was filled just now.
    done(unsafe { libc::sigprocmask(libc::SIG_SETMASK, none.as_ptr(), nothing) }, Step::Signals)
}

fn done(result: c_int, step: Step) -> Result<(), Step> {
    if result == -1 { Err(step) } else { Ok(()) }
}

fn report(channel: RawFd, step: Step) -> ! {
    let mut bytes = [0; 8];
    bytes[..4].copy_from_slice(&(step as u32).to_le_bytes());
    bytes[4..].copy_from_slice(&errno().to_le_bytes());
    // SAFETY: S6; as many bytes as said. The channel is empty, so it takes them.
    unsafe { libc::write(channel, bytes.as_ptr().cast(), bytes.len()) };
    // SAFETY: S6.
    unsafe { libc::_exit(1) }
}

fn errno() -> c_int {
    // SAFETY: the address of this thread's own number.
    unsafe { *libc::__errno_location() }
}

fn set_errno(number: c_int) {
    // SAFETY: as above.
    unsafe { *libc::__errno_location() = number };
}
