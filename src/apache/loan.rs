//! A request on loan to whichever thread works on it just now.

use std::ops::Deref;

use super::Request;

/// A request that nobody else can use meanwhile, and that may therefore change threads: an application may
/// read its input in a thread of its own while the one that serves the request waits for it.
pub(crate) struct Loan<'x, 'r> {
    request: &'x mut Request<'r>,
}

// SAFETY: httpd ties a request to no thread; it only wants one at a time at the request, its pool, its
// filters and its connection. The exclusive borrow keeps the lender from it while the loan lasts, and a
// loan is not Sync, so whoever has it has it alone.
unsafe impl Send for Loan<'_, '_> {}

impl<'x, 'r> Loan<'x, 'r> {
    /// Lends a request out.
    pub(crate) fn new(request: &'x mut Request<'r>) -> Self {
        Self { request }
    }
}

impl<'r> Deref for Loan<'_, 'r> {
    type Target = Request<'r>;

    fn deref(&self) -> &Request<'r> {
        self.request
    }
}
