//! What is kept from call to call, by whoever owns it: one thing for each thread that was at work.

use std::ops::{Deref, DerefMut};
use std::sync::Mutex;

/// Most things kept, however many calls there were at the same time.
const MOST: usize = 16;

/// Things that are not in use.
#[derive(Default)]
pub struct Pool<T>(Mutex<Vec<T>>);

impl<T> Pool<T> {
    // Nobody waits: in a forked process the lock may be held for ever.
    fn take(&self) -> Option<T> {
        self.0.try_lock().ok()?.pop()
    }

    fn put(&self, own: T) {
        if let Ok(mut all) = self.0.try_lock()
            && all.len() < MOST
        {
            all.push(own);
        }
    }
}

/// A thing in use, that goes back where it came from.
pub struct Lent<'p, T: Default> {
    own: T,
    home: Option<&'p Pool<T>>,
}

impl<'p, T: Default> Lent<'p, T> {
    /// One of the pool's, if it fits, or a fresh one; without a pool it does not last.
    pub fn new(home: Option<&'p Pool<T>>, fits: impl Fn(&T) -> bool, fresh: impl Fn() -> T) -> Self {
        let own = home.and_then(Pool::take).filter(fits).unwrap_or_else(fresh);
        Self { own, home }
    }
}

impl<T: Default> Deref for Lent<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.own
    }
}

impl<T: Default> DerefMut for Lent<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.own
    }
}

impl<T: Default> Drop for Lent<'_, T> {
    fn drop(&mut self) {
        // Who panicked may have left it half done.
        if let (Some(home), false) = (self.home, std::thread::panicking()) {
            home.put(std::mem::take(&mut self.own));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_is_used_again_and_what_broke_is_not() {
        let pool = Pool::default();
        let lend = |least: u32| Lent::new(Some(&pool), move |&own| own >= least, || 5);
        *lend(0) += 1;
        assert_eq!(*lend(0), 6);
        let (first, second) = (lend(0), lend(0));
        assert_eq!((*first, *second), (6, 5));
        drop((first, second));
        assert_eq!((*lend(100), *lend(100)), (5, 5));
        let broken = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            *lend(0) = 9;
            let mut own = lend(0);
            *own = 10;
            panic!("half-way");
        }));
        assert!(broken.is_err());
        assert_eq!(*lend(0), 5);
        assert_eq!(*Lent::new(None, |_| true, || 7), 7);
    }
}
