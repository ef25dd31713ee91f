//! A thread pool that runs one job at a time and lives as long as the engine.
//!
//! A job is a number of tasks. The caller and the threads take tasks until none is left, and the
//! caller returns when all are done. A waiting thread spins for a moment, because the next job
//! mostly comes immediately, and then sleeps.

use std::cell::Cell;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;

/// How often a thread checks for a new job before it sleeps: about 50 microseconds.
const SPINS: usize = 2_000;

thread_local! {
    /// Whether this thread is running a task of some pool.
    static IS_AT_A_TASK: Cell<bool> = const { Cell::new(false) };
}

/// The function of a job, called with the index of each task.
type Work = dyn Fn(usize) + Sync;

/// A job.
#[derive(Clone)]
struct Job {
    /// Valid until `unfinished` is 0: see [`Pool::run`].
    work: *const Work,
    tasks: usize,
    next: Arc<AtomicUsize>,
    unfinished: Arc<AtomicUsize>,
    panicked: Arc<AtomicUsize>,
}

// SAFETY: `work` points to a `Sync` function, and is called only while `Pool::run` keeps it alive.
unsafe impl Send for Job {}

impl Job {
    /// Runs tasks until none is left.
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
            // `Release`: a thread that reads 0 also sees everything that the tasks have written.
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
    /// Number of jobs so far; it changes only while `state` is locked.
    epoch: AtomicUsize,
    wake: Condvar,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        // No code panics while it holds the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a job after number `seen`; `None` when the pool is closed.
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

/// A thread pool.
pub struct Pool {
    shared: Arc<Shared>,
    /// Locked while a job runs; another caller then runs its tasks on its own thread.
    busy: Mutex<()>,
    workers: Vec<JoinHandle<()>>,
}

impl Pool {
    /// A pool of `threads` threads, including the caller; fewer if the system cannot start so many.
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

    /// Number of threads that work for this caller, including itself; 1 inside a task of a pool.
    pub fn threads(&self) -> usize {
        if IS_AT_A_TASK.get() { 1 } else { self.workers.len() + 1 }
    }

    /// Calls `work` with each of `0..tasks`, on all threads, and returns when all calls have
    /// returned.
    ///
    /// # Panics
    /// If a call panics.
    pub fn run(&self, tasks: usize, work: &(dyn Fn(usize) + Sync)) {
        // A single task may itself run tasks on all threads: the lock is not held for it.
        if tasks < 2 || self.threads() < 2 {
            return (0..tasks).for_each(work);
        }
        // A second concurrent caller runs all tasks itself.
        let _guard = match self.busy.try_lock() {
            Ok(guard) => guard,
            // A task panicked, but the pool itself is in a valid state.
            Err(TryLockError::Poisoned(guard)) => guard.into_inner(),
            Err(TryLockError::WouldBlock) => return (0..tasks).for_each(work),
        };
        // SAFETY: only the lifetime changes. The job is called only for tasks below `tasks`, and
        // this function neither returns nor unwinds before `unfinished` shows that all of these
        // calls have returned.
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
            // The thread that is still working may need this core.
            if spins > SPINS { std::thread::yield_now() } else { std::hint::spin_loop() }
        }
        assert!(job.panicked.load(Ordering::Relaxed) == 0, "a task of the pool panicked");
    }

    /// Calls `work` with each of `items`, on all threads.
    pub fn each<T: Send>(&self, items: Vec<T>, work: impl Fn(T) + Sync) {
        let items: Vec<Mutex<Option<T>>> = items.into_iter().map(|item| Mutex::new(Some(item))).collect();
        self.run(items.len(), &|index| {
            let item = items[index].lock().unwrap_or_else(PoisonError::into_inner).take();
            // Every index comes once, so the item is still there.
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
            // Workers catch the panics of their tasks, so `join` does not fail.
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
    fn a_single_task_shares_its_work_with_all_threads() {
        let pool = Pool::new(2);
        let (started, met) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let both_run = |_| {
            started.fetch_add(1, Ordering::SeqCst);
            let begin = std::time::Instant::now();
            while started.load(Ordering::SeqCst) < 2 && begin.elapsed().as_secs() < 20 {
                std::thread::yield_now();
            }
            // The other task runs at the same time, which only a second thread can do.
            met.fetch_add(usize::from(started.load(Ordering::SeqCst) == 2), Ordering::SeqCst);
        };
        pool.run(1, &|_| pool.run(2, &both_run));
        assert_eq!(met.into_inner(), 2);
    }

    #[test]
    fn a_task_that_panics_makes_the_caller_panic_and_the_pool_stays_usable() {
        let pool = Pool::new(2);
        let failed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| pool.run(8, &|task| assert!(task != 5))));
        assert!(failed.is_err());
        let sum = AtomicUsize::new(0);
        pool.run(4, &|task| _ = sum.fetch_add(task, Ordering::Relaxed));
        assert_eq!(sum.into_inner(), 6);
    }

    #[test]
    fn a_job_inside_a_task_runs_on_the_tasks_own_thread() {
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
