//! Work shared among threads that live as long as one call.
//!
//! No pool outlives a call, so a forked process finds nothing broken, and a
//! thread costs about 20 µs to start: callers hand out pieces of work that
//! last longer than that.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Condvar, Mutex};

/// Hand the items of `work` to at most `threads` threads, in order, each
/// thread with a scratch of its own. Returns when all is done.
pub fn share<W, S>(
    threads: usize,
    work: Vec<W>,
    scratch: impl Fn() -> S + Sync,
    job: impl Fn(&mut S, W) + Sync,
) where
    W: Send,
{
    let threads = threads.clamp(1, work.len().max(1));
    if threads == 1 {
        let mut own = scratch();
        work.into_iter().for_each(|item| job(&mut own, item));
        return;
    }
    let queue = Mutex::new(work.into_iter());
    // The lock is held only while an item is taken; a poisoned queue means
    // another thread panicked, and that panic reaches the caller by itself.
    let next = || queue.lock().ok().and_then(|mut items| items.next());
    let run = || {
        let mut own = scratch();
        while let Some(item) = next() {
            job(&mut own, item);
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(run);
        }
        run();
    });
}

/// Row ranges of about `target` bytes each, given where each row's text starts.
pub fn row_ranges(offsets: &[i64], target: i64) -> Vec<std::ops::Range<usize>> {
    let rows = offsets.len().saturating_sub(1);
    let mut ranges = Vec::new();
    let mut begin = 0;
    while begin < rows {
        let mut end = begin + 1;
        // Rows without bytes still cost something: 64 bytes' worth.
        let cost = |end: usize| offsets[end] - offsets[begin] + 64 * (end - begin) as i64;
        while end < rows && cost(end) < target {
            end += 1;
        }
        ranges.push(begin..end);
        begin = end;
    }
    ranges
}

/// A barrier that spins at first: phases between two of them last microseconds.
///
/// Who has waited for long sleeps: where other processes want the cores, an idle
/// core lets the thread that is waited for run at once. Sleeping sooner would do
/// harm: the scheduler likes to wake a thread on the core of the one that woke it.
pub struct SpinBarrier {
    threads: usize,
    arrived: AtomicUsize,
    generation: AtomicUsize,
    broken: AtomicBool,
    sleepers: Mutex<usize>,
    wake: Condvar,
}

/// About 20 µs of spinning, then about a millisecond of letting others go first.
const SPINS: u32 = 1000;
const YIELDS: u32 = 3000;

/// Breaks the barrier if dropped by a panic: the others must not wait for ever.
pub struct BreakOnPanic<'b>(&'b SpinBarrier);

impl Drop for BreakOnPanic<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.broken.store(true, Ordering::Release);
            self.0.wake_sleepers();
        }
    }
}

impl SpinBarrier {
    /// A barrier for `threads` threads.
    pub fn new(threads: usize) -> Self {
        Self {
            threads,
            arrived: AtomicUsize::new(0),
            generation: AtomicUsize::new(0),
            broken: AtomicBool::new(false),
            sleepers: Mutex::new(0),
            wake: Condvar::new(),
        }
    }

    /// To be held by each thread as long as others may wait for it.
    pub fn break_on_panic(&self) -> BreakOnPanic<'_> {
        BreakOnPanic(self)
    }

    /// Wait until all threads have come here; what each wrote before is seen by
    /// all after. False: another thread panicked and none should go on.
    #[must_use]
    pub fn wait(&self) -> bool {
        if self.threads == 1 {
            return true;
        }
        let generation = self.generation.load(Ordering::Acquire);
        if self.arrived.fetch_add(1, Ordering::AcqRel) + 1 == self.threads {
            self.arrived.store(0, Ordering::Relaxed);
            self.generation.store(generation.wrapping_add(1), Ordering::Release);
            self.wake_sleepers();
            return true;
        }
        let waiting =
            || self.generation.load(Ordering::Acquire) == generation && !self.broken.load(Ordering::Acquire);
        for spin in 0..SPINS + YIELDS {
            if !waiting() {
                break;
            }
            if spin < SPINS { std::hint::spin_loop() } else { std::thread::yield_now() }
        }
        if waiting() {
            // Nothing panics while it holds this lock, so it cannot be poisoned.
            if let Ok(mut sleepers) = self.sleepers.lock() {
                *sleepers += 1;
                while waiting() {
                    let Ok(woken) = self.wake.wait(sleepers) else { return false };
                    sleepers = woken;
                }
                *sleepers -= 1;
            }
        }
        !self.broken.load(Ordering::Acquire)
    }

    /// The lock orders this after a sleeper's last look and before its sleep, or after both.
    fn wake_sleepers(&self) {
        if self.sleepers.lock().is_ok_and(|sleepers| *sleepers > 0) {
            self.wake.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_is_done_once_for_any_number_of_threads() {
        for threads in [1, 2, 5, 100] {
            let mut done = [0u8; 37];
            let work: Vec<&mut u8> = done.iter_mut().collect();
            share(threads, work, || (), |(), item| *item += 1);
            assert!(done.iter().all(|&n| n == 1));
        }
    }

    #[test]
    fn ranges_cover_all_rows_in_order() {
        let offsets = [0, 10, 10, 500_000, 500_001, 500_001];
        let ranges = row_ranges(&offsets, 1000);
        let rows: Vec<usize> = ranges.iter().flat_map(|r| r.clone()).collect();
        assert_eq!(rows, [0, 1, 2, 3, 4]);
        assert!(row_ranges(&[0], 10).is_empty());
    }

    #[test]
    fn a_panic_breaks_the_barrier() {
        let barrier = SpinBarrier::new(2);
        std::thread::scope(|scope| {
            let doomed = scope.spawn(|| {
                let _guard = barrier.break_on_panic();
                std::panic::resume_unwind(Box::new(()));
            });
            assert!(!barrier.wait());
            assert!(doomed.join().is_err());
        });
    }

    #[test]
    fn barrier_separates_phases() {
        let barrier = SpinBarrier::new(3);
        let count = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for round in 1..=100 {
                        count.fetch_add(1, Ordering::Relaxed);
                        assert!(barrier.wait());
                        assert_eq!(count.load(Ordering::Relaxed), 3 * round);
                        assert!(barrier.wait());
                    }
                });
            }
        });
    }
}
