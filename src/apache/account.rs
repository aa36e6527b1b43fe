//! Users and groups of the system, looked up in the root parent, where there is one thread.

use std::ffi::{CStr, CString, c_char, c_int};
use std::ptr;

use super::text;
use crate::sys;

/// A user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct User {
    /// Its name; `None` for a number that nobody has.
    pub(crate) name: Option<String>,
    /// Its number.
    pub(crate) uid: u32,
    /// Its primary group; `None` as for the name.
    pub(crate) gid: Option<u32>,
    /// Its home directory.
    pub(crate) home: Option<String>,
}

/// Most bytes of one entry of the databases; a group may list thousands of members.
const LARGEST: usize = 1 << 20;

/// The user of this name; `None` if there is none.
pub(crate) fn user_named(name: &str) -> Option<User> {
    let name = CString::new(name).ok()?;
    entry(|record, buffer, length, found| {
        // SAFETY: a C string, and places of the length that is passed.
        unsafe { libc::getpwnam_r(name.as_ptr(), record, buffer, length, found) }
    })
}

/// The user of this number, known or not.
pub(crate) fn user_numbered(uid: u32) -> User {
    entry(|record, buffer, length, found| {
        // SAFETY: places of the length that is passed.
        unsafe { libc::getpwuid_r(uid, record, buffer, length, found) }
    })
    .unwrap_or(User { name: None, uid, gid: None, home: None })
}

/// The number of the group of this name; `None` if there is none.
pub(crate) fn group_named(name: &str) -> Option<u32> {
    let name = CString::new(name).ok()?;
    let mut buffer: Vec<c_char> = vec![0; 4096];
    loop {
        // SAFETY: numbers and pointers, for which zero is a value.
        let mut record: libc::group = unsafe { std::mem::zeroed() };
        let mut found = ptr::null_mut();
        // SAFETY: a C string, and places of the length that is passed.
        let code = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                &raw mut record,
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        if code == libc::ERANGE && buffer.len() < LARGEST {
            buffer.resize(buffer.len() * 4, 0);
            continue;
        }
        return (code == 0 && !found.is_null()).then_some(record.gr_gid);
    }
}

/// All groups of a user: `primary`, and those that list it.
pub(crate) fn groups_of(name: &str, primary: u32) -> Vec<u32> {
    let Ok(name) = CString::new(name) else { return vec![primary] };
    let mut groups: Vec<u32> = vec![0; 64];
    loop {
        let mut count = c_int::try_from(groups.len()).unwrap_or(c_int::MAX);
        // SAFETY: a C string, and room for `count` groups.
        let code = unsafe {
            libc::getgrouplist(name.as_ptr(), primary, groups.as_mut_ptr(), &raw mut count)
        };
        let count = usize::try_from(count).unwrap_or(0);
        if code >= 0 {
            groups.truncate(count);
            return groups;
        }
        if groups.len() >= 65_536 {
            return vec![primary];
        }
        // What is said to be needed, and more than there was in any case.
        groups.resize(count.max(groups.len() * 2), 0);
    }
}

/// `User` and `Group`, which httpd's children run as where httpd is run by root.
pub(crate) fn httpd() -> (Option<String>, u32, u32) {
    let mut name = ptr::null();
    let (mut uid, mut gid) = (0, 0);
    // SAFETY: the shim writes all three.
    unsafe { sys::mwrs_identity(&raw mut name, &raw mut uid, &raw mut gid) };
    // SAFETY: configuration text or null.
    let name = unsafe { text(name) }.map(|name| name.to_string_lossy().into_owned());
    (name.filter(|name| !name.starts_with('#')), uid, gid)
}

/// User and group of this process.
pub(crate) fn own() -> (u32, u32) {
    // SAFETY: take nothing and cannot fail.
    unsafe { (libc::geteuid(), libc::getegid()) }
}

type Find<'a> = &'a dyn Fn(*mut libc::passwd, *mut c_char, usize, *mut *mut libc::passwd) -> c_int;

fn entry(
    find: impl Fn(*mut libc::passwd, *mut c_char, usize, *mut *mut libc::passwd) -> c_int,
) -> Option<User> {
    lookup(&find)
}

fn lookup(find: Find<'_>) -> Option<User> {
    let mut buffer: Vec<c_char> = vec![0; 4096];
    loop {
        // SAFETY: numbers and pointers, for which zero is a value.
        let mut record: libc::passwd = unsafe { std::mem::zeroed() };
        let mut found = ptr::null_mut();
        let code = find(&raw mut record, buffer.as_mut_ptr(), buffer.len(), &raw mut found);
        if code == libc::ERANGE && buffer.len() < LARGEST {
            buffer.resize(buffer.len() * 4, 0);
            continue;
        }
        if code != 0 || found.is_null() {
            return None;
        }
        let owned = |text: Option<&CStr>| text.map(|text| text.to_string_lossy().into_owned());
        // SAFETY: texts in the buffer, which is alive.
        let (name, home) = unsafe { (text(record.pw_name), text(record.pw_dir)) };
        return Some(User {
            name: owned(name),
            uid: record.pw_uid,
            gid: Some(record.pw_gid),
            home: owned(home).filter(|home| home.starts_with('/')),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_is_known() {
        let root = user_named("root").unwrap();
        assert_eq!((root.uid, root.gid), (0, Some(0)));
        assert_eq!(root.home.as_deref(), Some("/root"));
        assert_eq!(user_numbered(0), root);
        assert_eq!(group_named("root"), Some(0));
        assert_eq!(groups_of("root", 7).first(), Some(&7));
    }

    #[test]
    fn nobody_is_made_up() {
        assert_eq!(user_named("no such user"), None);
        assert_eq!(user_named("a\0b"), None);
        assert_eq!(group_named("no such group"), None);
        let stranger = user_numbered(4_000_000_001);
        assert_eq!(stranger, User { name: None, uid: 4_000_000_001, gid: None, home: None });
        assert_eq!(groups_of("no such user", 7), [7]);
    }
}
