//! Providers: who answers for users and groups under a name that `AuthBasicProvider`, `AuthDigestProvider` and
//! `Require` know.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::ptr;

use super::hook::Hooks;
use super::{Request, guard, optional, text};
use crate::sys;

/// What is said of a user and a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authentication {
    /// The password is right.
    Granted,
    /// It is wrong.
    Denied,
    /// No such user; the next provider is asked.
    Unknown,
    /// There is no answer: the request fails.
    Failed,
}

/// Knows users.
pub(crate) trait UserProvider {
    /// Whether the password is the user's. May change the request's user.
    fn check_password(request: &mut Request<'_>, user: &CStr, password: &CStr) -> Authentication;

    /// The digest of user, realm and password: in `Ok(None)` there is no such user, in `Err` no answer.
    fn realm_hash<'r>(
        request: &mut Request<'r>,
        user: &CStr,
        realm: &CStr,
    ) -> Result<Option<&'r CStr>, ()>;
}

/// What is said of a user and a `Require`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Authorization {
    /// The user meets it.
    Granted,
    /// The user does not.
    Denied,
    /// Nobody knows yet who the user is.
    NoUser,
    /// There is no answer: the request fails, also where the `Require` is negated.
    Failed,
}

/// Knows groups.
pub(crate) trait GroupProvider {
    /// Whether the request's user meets what stands behind the provider's name in `Require`.
    fn check(request: &mut Request<'_>, required: &CStr) -> Authorization;
}

impl Hooks<'_> {
    /// Has `P` answer for users, under a name for `AuthBasicProvider` and `AuthDigestProvider`.
    pub(crate) fn users<P: UserProvider>(&self, name: &'static CStr) {
        self.provider(sys::AUTHN_PROVIDER_GROUP, name, ptr::from_ref(Users::<P>::TABLE).cast());
    }

    /// Has `P` answer for groups, under a name for `Require`.
    pub(crate) fn groups<P: GroupProvider>(&self, name: &'static CStr) {
        self.provider(sys::AUTHZ_PROVIDER_GROUP, name, ptr::from_ref(Groups::<P>::TABLE).cast());
    }

    fn provider(&self, group: &'static [u8], name: &'static CStr, table: *const c_void) {
        // SAFETY: static texts that end in NUL, and a static table of the kind that the group wants.
        // Asked anew where a request is redirected internally to another directory: scripts may look at the
        // URL.
        unsafe {
            sys::ap_register_auth_provider(
                self.pool().raw(),
                group.as_ptr().cast(),
                name.as_ptr(),
                sys::AUTHN_PROVIDER_VERSION.as_ptr().cast(),
                table,
                sys::AP_AUTH_INTERNAL_PER_URI,
            );
        }
    }
}

const _: () = assert!(
    matches!(sys::AUTHN_PROVIDER_VERSION, b"0\0") && matches!(sys::AUTHZ_PROVIDER_VERSION, b"0\0"),
    "both kinds of providers have the same version"
);

struct Users<P>(PhantomData<P>);

impl<P: UserProvider> Users<P> {
    const TABLE: &'static sys::authn_provider = &sys::authn_provider {
        check_password: Some(check_password::<P>),
        get_realm_hash: Some(realm_hash::<P>),
    };
}

struct Groups<P>(PhantomData<P>);

impl<P: GroupProvider> Groups<P> {
    const TABLE: &'static sys::authz_provider = &sys::authz_provider {
        check_authorization: Some(check_groups::<P>),
        parse_require_line: None,
    };
}

unsafe extern "C" fn check_password<P: UserProvider>(
    r: *mut sys::request_rec,
    user: *const c_char,
    password: *const c_char,
) -> sys::authn_status {
    let answer = guard::fence(Authentication::Failed, || {
        // SAFETY: the request httpd is running, and texts that outlive this call (S1).
        match unsafe { (Request::new(r), text(user), text(password)) } {
            (Some(mut request), Some(user), Some(password)) => {
                P::check_password(&mut request, user, password)
            }
            _ => Authentication::Failed,
        }
    });
    match answer {
        Authentication::Granted => sys::AUTH_GRANTED,
        Authentication::Denied => sys::AUTH_DENIED,
        Authentication::Unknown => sys::AUTH_USER_NOT_FOUND,
        Authentication::Failed => sys::AUTH_GENERAL_ERROR,
    }
}

unsafe extern "C" fn realm_hash<P: UserProvider>(
    r: *mut sys::request_rec,
    user: *const c_char,
    realm: *const c_char,
    hash: *mut *mut c_char,
) -> sys::authn_status {
    guard::fence(sys::AUTH_GENERAL_ERROR, || {
        // SAFETY: the request httpd is running, and texts that outlive this call (S1).
        let asked = unsafe { (Request::new(r), text(user), text(realm)) };
        let (Some(mut request), Some(user), Some(realm)) = asked else {
            return sys::AUTH_GENERAL_ERROR;
        };
        match P::realm_hash(&mut request, user, realm) {
            Ok(Some(found)) => {
                // SAFETY: httpd's place for the answer, which is text in the request's pool.
                unsafe { *hash = found.as_ptr().cast_mut() };
                sys::AUTH_USER_FOUND
            }
            Ok(None) => sys::AUTH_USER_NOT_FOUND,
            Err(()) => sys::AUTH_GENERAL_ERROR,
        }
    })
}

unsafe extern "C" fn check_groups<P: GroupProvider>(
    r: *mut sys::request_rec,
    required: *const c_char,
    _parsed: *const c_void,
) -> sys::authz_status {
    let answer = guard::fence(Authorization::Failed, || {
        // SAFETY: the request httpd is running, and configuration text (S1, S3).
        match unsafe { (Request::new(r), text(required)) } {
            (Some(mut request), Some(required)) => P::check(&mut request, required),
            _ => Authorization::Failed,
        }
    });
    match answer {
        Authorization::Granted => sys::AUTHZ_GRANTED,
        Authorization::Denied => sys::AUTHZ_DENIED,
        Authorization::NoUser => sys::AUTHZ_DENIED_NO_USER,
        Authorization::Failed => sys::AUTHZ_GENERAL_ERROR,
    }
}

/// What only those who let clients in look at.
impl<'r> Request<'r> {
    /// Gives the user another name.
    pub(crate) fn rename_user(&self, user: &'r CStr) {
        // SAFETY: this thread's request, and text that lives as long as it does.
        unsafe { (*self.raw()).user = user.as_ptr().cast_mut() };
    }

    /// The client's host name, where `HostnameLookups` has it looked up.
    pub(crate) fn remote_host(&self) -> Option<&'r CStr> {
        let record = self.record();
        let directory = record.per_dir_config.cast();
        // SAFETY: the request's own connection and configuration (S1); the text is the connection's.
        unsafe {
            text(sys::ap_get_remote_host(
                record.connection,
                directory,
                sys::REMOTE_HOST,
                ptr::null_mut(),
            ))
        }
    }

    /// `ServerSignature`; empty where it is off.
    pub(crate) fn signature(&self) -> &'r CStr {
        // SAFETY: the request is alive (S1); the text is the request's or static.
        unsafe { text(sys::ap_psignature(c"".as_ptr(), self.raw())) }.unwrap_or_default()
    }

    /// `Satisfy Any`: a user's password can still let in whom an access check refuses.
    pub(crate) fn password_suffices(&self) -> bool {
        // SAFETY: the request is alive (S1).
        unsafe { sys::ap_satisfies(self.raw()) == sys::SATISFY_ANY }
    }

    /// What mod_ssl knows of the connection under a name such as `SSL_CLIENT_S_DN`.
    pub(crate) fn tls_variable(&self, name: &CStr) -> Option<&'r CStr> {
        // SAFETY: the request is alive and this thread's (S1); the text is the request's or the
        // configuration's.
        unsafe { text(optional::tls_variable(self.raw(), name.as_ptr())) }
    }
}
