//! Lending: something of this call that Python objects may use until the call ends.
//!
//! An application can keep `environ`, `start_response` or `wsgi.input` for ever, or use them in a thread of its own.
//! They hold a [`Lent`], which forgets what was lent when the lending call returns.

use std::ptr::NonNull;
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

use super::gil::Gil;

/// What is lent, as a type of the lifetime it is lent for.
pub trait Loan: 'static {
    /// The type; `Send`, since another thread may use it while the lender waits.
    type Of<'a>: Send;
}

/// A loan for the time of a call, used by one thread at a time.
pub struct Lent<L: Loan> {
    place: Mutex<Option<NonNull<L::Of<'static>>>>,
}

// SAFETY: P6: what is lent is Send and reached only under the mutex: each use moves it to one thread at a time.
unsafe impl<L: Loan> Send for Lent<L> {}
// SAFETY: P6, as above.
unsafe impl<L: Loan> Sync for Lent<L> {}

impl<L: Loan> Default for Lent<L> {
    fn default() -> Self {
        Self { place: Mutex::new(None) }
    }
}

impl<L: Loan> Lent<L> {
    /// Lends `value` while `work` runs, and takes it back: waits, detached, for a thread that is using it.
    pub fn lend<R>(&self, gil: Gil<'_>, value: &mut L::Of<'_>, work: impl FnOnce() -> R) -> R {
        struct Return<'g, 'l, L: Loan>(Gil<'g>, &'l Lent<L>);
        impl<L: Loan> Drop for Return<'_, '_, L> {
            fn drop(&mut self) {
                let Self(gil, lent) = self;
                match lent.place.try_lock() {
                    Ok(mut place) => *place = None,
                    // Whoever holds it waits for a client, or for the GIL: let go of that meanwhile.
                    Err(_) => gil.detach(|| *lent.lock() = None),
                }
            }
        }
        let place = NonNull::from(value).cast::<L::Of<'static>>();
        *self.lock() = Some(place);
        let _return = Return(gil, self);
        work()
    }

    /// Uses what is lent, detached; `None` when the lending call is over.
    pub fn with<R: Send>(
        &self,
        gil: Gil<'_>,
        work: impl FnOnce(&mut L::Of<'_>) -> R + Send,
    ) -> Option<R> {
        gil.detach(|| Self::use_place(self.lock(), work))
    }

    /// Uses what is lent without detaching, for work that cannot wait. Where another thread is using it, waits for
    /// that detached.
    pub fn with_attached<R: Send>(
        &self,
        gil: Gil<'_>,
        work: impl FnOnce(&mut L::Of<'_>) -> R + Send,
    ) -> Option<R> {
        match self.place.try_lock() {
            Ok(place) => Self::use_place(place, work),
            Err(TryLockError::Poisoned(poisoned)) => Self::use_place(poisoned.into_inner(), work),
            Err(TryLockError::WouldBlock) => self.with(gil, work),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Option<NonNull<L::Of<'static>>>> {
        self.place.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn use_place<R>(
        place: MutexGuard<'_, Option<NonNull<L::Of<'static>>>>,
        work: impl FnOnce(&mut L::Of<'_>) -> R,
    ) -> Option<R> {
        // SAFETY: P6: `lend` keeps the value mutably borrowed until its Return has emptied the place, which needs
        // the lock held here; `work` gets it for any lifetime, so it cannot keep it.
        place.map(|mut value| work(unsafe { value.as_mut() }))
    }
}
