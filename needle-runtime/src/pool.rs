//! A few threads that work on one thing at a time, for as long as the engine lives.
//!
//! Work is a number of tasks; the caller and the threads take one after the other until none is
//! left, and the caller returns when all are done. A waiting thread spins for a moment, because the
//! next work mostly comes at once, and then sleeps.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// How often a thread looks for new work before it sleeps: about 50 microseconds.
const SPINS: usize = 2_000;

thread_local! {
    /// Whether this thread is at a task of some pool.
    static IS_AT_A_TASK: Cell<bool> = const { Cell::new(false) };
}

/// What the threads do: the function, called with the index of each task.
type Work = dyn Fn(usize) + Sync;

/// One piece of work.
#[derive(Clone)]
struct Job {
    /// Lives until `unfinished` is 0: see [`Pool::run`].
    work: *const Work,
    tasks: usize,
    next: Arc<AtomicUsize>,
    unfinished: Arc<AtomicUsize>,
    panicked: Arc<AtomicUsize>,
}

// SAFETY: `work` points to a `Sync` function, and is called only while `Pool::run` keeps it alive.
unsafe impl Send for Job {}

impl Job {
    /// Takes tasks until none is left.
    fn work(&self) {
        loop {
            let task = self.next.fetch_add(1, Ordering::Relaxed);
            if task >= self.tasks {
                return;
            }
            // SAFETY: this task is unfinished, so `Pool::run` has not returned and `work` is alive.
            let work = unsafe { &*self.work };
            IS_AT_A_TASK.set(true);
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| work(task)));
            IS_AT_A_TASK.set(false);
            if result.is_err() {
                self.panicked.fetch_add(1, Ordering::Relaxed);
            }
            // Whoever sees 0 also sees what the tasks have written.
            self.unfinished.fetch_sub(1, Ordering::Release);
        }
    }
}

#[derive(Default)]
struct State {
    job: Option<Job>,
    is_closed: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    /// Number of jobs so far; changes under the lock of `state`.
    epoch: AtomicUsize,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the job after number `seen`; none when the pool closes.
    fn wait(&self, seen: &mut usize) -> Option<Job> {
        for _ in 0..SPINS {
            if self.epoch.load(Ordering::Relaxed) != *seen {
                break;
            }
            std::hint::spin_loop();
        }
        let mut state = self.lock();
        loop {
            if state.is_closed {
                return None;
            }
            let epoch = self.epoch.load(Ordering::Relaxed);
            if epoch != *seen {
                *seen = epoch;
                if let Some(job) = &state.job {
                    return Some(job.clone());
                }
            }
            state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

/// The threads.
pub struct Pool {
    shared: Arc<Shared>,
    /// Held while a job runs: another caller then works alone.
    busy: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool in which `threads` work, the caller among them. Where the system gives no more
    /// threads, fewer work.
    pub fn new(threads: usize) -> Self {
        let shared = Arc::new(Shared::default());
        let spawn = |_| {
            let shared = shared.clone();
            let work = move || {
                let mut seen = 0;
                while let Some(job) = shared.wait(&mut seen) {
                    job.work();
                }
            };
            std::thread::Builder::new().name("needle".into()).spawn(work).ok()
        };
        let workers = (1..threads).map_while(spawn).collect();
        Self { shared, busy: Mutex::new(()), workers }
    }

    /// Threads that work for this caller, itself among them: a task of a pool works alone.
    pub fn threads(&self) -> usize {
        if IS_AT_A_TASK.get() { 1 } else { self.workers.len() + 1 }
    }

    /// Calls `work` with each of `0..tasks`, on all threads, and returns when all calls have.
    ///
    /// # Panics
    /// If a call does.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        // A second caller at the same time, or one inside of a task, works alone.
        let _guard = match self.busy.try_lock() {
            _ if tasks < 2 || self.threads() < 2 => return (0..tasks).for_each(work),
            Ok(guard) => guard,
            // A task panicked; nothing was left half done.
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..tasks).for_each(work),
        };
        // SAFETY: only the lifetime changes. The job's calls all come from tasks below `tasks`, and
        // this function does not return, nor unwind, before `unfinished` says that each of them has
        // returned.
        let work = unsafe { std::mem::transmute::<*const (dyn Fn(usize) + Sync + '_), *const Work>(work) };
        let counter = |value| Arc::new(AtomicUsize::new(value));
        let job = Job { work, tasks, next: counter(0), unfinished: counter(tasks), panicked: counter(0) };
        {
            let mut state = self.shared.lock();
            state.job = Some(job.clone());
            self.shared.epoch.fetch_add(1, Ordering::Relaxed);
        }
        self.shared.wake.notify_all();
        job.work();
        let mut spins = 0;
        while job.unfinished.load(Ordering::Acquire) != 0 {
            spins += 1;
            // Another thread may need this core to finish.
            if spins > SPINS { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        assert!(job.panicked.load(Ordering::Relaxed) == 0, "a task of the pool panicked");
    }

    /// Calls `work` with each of `items`, on all threads.
    pub fn each<T: Send>(&self, items: Vec<T>, work: impl Fn(T) + Sync) {
        let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        self.run(items.len(), &|index| {
            let item = items[index].lock().unwrap_or_else(PoisonError::into_inner).take();
            // Each index comes once.
            if let Some(item) = item {
                work(item);
            }
        });
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().is_closed = true;
        self.shared.wake.notify_all();
        for worker in self.workers.drain(..) {
            // A worker catches the panics of its tasks.
            let _ = worker.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_task_runs_once_whatever_the_number_of_threads() {
        for threads in [1, 2, 5] {
            let pool = Pool::new(threads);
            for tasks in [0, 1, 2, 100] {
                let counts: Vec<AtomicUsize> = (0..tasks).map(|_| AtomicUsize::new(0)).collect();
                pool.run(tasks, &|task| _ = counts[task].fetch_add(1, Ordering::Relaxed));
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == 1));
            }
        }
    }

    #[test]
    fn a_task_that_panics_is_a_panic_of_the_caller_and_the_pool_goes_on() {
        let pool = Pool::new(2);
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.run(8, &|task| assert!(task != 5))));
        assert!(failed.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(4, &|task| _ = sum.fetch_add(task, Ordering::Relaxed));
        assert_eq!(sum.into_inner(), 6);
    }

    #[test]
    fn work_inside_of_work_is_done_by_its_caller() {
        let pool = Pool::new(3);
        let sum = AtomicUsize::new(0);
        pool.run(4, &|_| {
            assert_eq!(pool.threads(), 1);
            pool.run(4, &|_| _ = sum.fetch_add(1, Ordering::Relaxed));
        });
        assert_eq!(pool.threads(), 3);
        assert_eq!(sum.into_inner(), 16);
    }
}
