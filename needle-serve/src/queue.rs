//! The queue in front of the models, which limits how many answers are computed at a time, how many
//! requests may wait, and how long a request may take.
//!
//! Requests beyond the limit are refused at once (429). Work whose client has disconnected is
//! stopped at its next piece, or never started.

use std::num::NonZero;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Instant, timeout_at};

/// The limits of a queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueConfig {
    /// Answers computed at the same time; as many as there are cores by default.
    pub workers: usize,
    /// Requests that may wait in addition to those.
    pub max_waiting: usize,
    /// Time limit of a request, including its wait.
    pub time_limit: Duration,
}

impl Default for QueueConfig {
    fn default() -> Self {
        let workers = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { workers, max_waiting: 64, time_limit: Duration::from_secs(60) }
    }
}

/// There is no room for another request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QueueFull;

/// Why work ended without its last event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Interrupted {
    /// It took longer than the time limit.
    TimeLimit,
    /// It panicked.
    Panicked,
}

/// The events of some work, in order. Dropping it stops the work.
pub type Events<E> = UnboundedReceiver<Result<E, Interrupted>>;

/// The queue in front of the models.
#[derive(Debug, Clone)]
pub struct Queue {
    config: QueueConfig,
    /// One permit for each request, waiting or being computed.
    places: Arc<Semaphore>,
    /// One permit for each request that is being computed.
    workers: Arc<Semaphore>,
}

impl Queue {
    /// An empty queue.
    pub fn new(config: QueueConfig) -> Self {
        let workers = config.workers.max(1);
        Self {
            config,
            places: Arc::new(Semaphore::new(workers + config.max_waiting)),
            workers: Arc::new(Semaphore::new(workers)),
        }
    }

    /// Number of requests that are waiting or being computed.
    pub fn len(&self) -> usize {
        self.config.workers.max(1) + self.config.max_waiting - self.places.available_permits()
    }

    /// Whether no request is waiting or being computed.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Puts `work` into the queue. The work passes its events to the function that it is given, and
    /// must end when that function returns [`ControlFlow::Break`].
    ///
    /// # Errors
    /// If there is no room.
    pub fn submit<E, W>(&self, work: W) -> Result<Events<E>, QueueFull>
    where
        E: Send + 'static,
        W: FnOnce(&mut dyn FnMut(E) -> ControlFlow<()>) + Send + 'static,
    {
        let place = self.places.clone().try_acquire_owned().map_err(|_| QueueFull)?;
        let deadline = Instant::now() + self.config.time_limit;
        let (sender, events) = unbounded_channel();
        tokio::spawn(run(place, self.workers.clone(), deadline, sender, work));
        Ok(events)
    }
}

async fn run<E, W>(
    place: OwnedSemaphorePermit,
    workers: Arc<Semaphore>,
    deadline: Instant,
    sender: UnboundedSender<Result<E, Interrupted>>,
    work: W,
) where
    E: Send + 'static,
    W: FnOnce(&mut dyn FnMut(E) -> ControlFlow<()>) + Send + 'static,
{
    let worker = tokio::select! {
        worker = timeout_at(deadline, workers.acquire_owned()) => worker,
        () = sender.closed() => return,
    };
    // The semaphore is never closed, so that only the time limit can fail here.
    let Ok(Ok(worker)) = worker else {
        let _ = sender.send(Err(Interrupted::TimeLimit));
        return;
    };
    let stop = Arc::new(AtomicBool::new(false));
    let job = tokio::task::spawn_blocking({
        let (stop, sender) = (stop.clone(), sender.clone());
        move || {
            // Held until the work has really ended, even if its client disconnected long ago.
            let _held = (place, worker);
            work(&mut |event| {
                let is_over = stop.load(Ordering::Relaxed) || sender.send(Ok(event)).is_err();
                if is_over { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            });
        }
    });
    let reason = match timeout_at(deadline, job).await {
        Ok(Ok(())) => return,
        Ok(Err(_)) => Interrupted::Panicked,
        Err(_) => Interrupted::TimeLimit,
    };
    stop.store(true, Ordering::Relaxed);
    let _ = sender.send(Err(reason));
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    fn queue(workers: usize, max_waiting: usize, time_limit: Duration) -> Queue {
        Queue::new(QueueConfig { workers, max_waiting, time_limit })
    }

    #[tokio::test]
    async fn what_does_not_fit_is_refused_until_there_is_room() {
        let queue = queue(1, 1, Duration::from_secs(60));
        let (go_on, wait) = channel::<()>();
        let mut first = queue.submit(move |emit| {
            let _ = emit("computing");
            let _ = wait.recv();
        });
        assert_eq!(first.as_mut().unwrap().recv().await, Some(Ok("computing")));
        let mut second = queue.submit(|emit| _ = emit("waited")).unwrap();
        assert_eq!(queue.submit(|emit| _ = emit(())).unwrap_err(), QueueFull);
        assert_eq!(queue.len(), 2);
        go_on.send(()).unwrap();
        assert_eq!(second.recv().await, Some(Ok("waited")));
        assert_eq!(second.recv().await, None);
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn work_whose_receiver_is_gone_is_told_to_stop() {
        let queue = queue(1, 1, Duration::from_secs(60));
        let (tell, told) = channel();
        let events = queue.submit(move |emit| {
            while emit(()).is_continue() {
                std::thread::yield_now();
            }
            tell.send(()).unwrap();
        });
        drop(events);
        tokio::task::spawn_blocking(move || told.recv().ok()).await.unwrap();
    }

    #[tokio::test]
    async fn what_takes_too_long_or_panics_ends_with_the_reason() {
        let queue = queue(1, 1, Duration::from_millis(50));
        let mut events = queue.submit(|emit| while emit(()).is_continue() {}).unwrap();
        let reason = loop {
            if let Err(reason) = events.recv().await.unwrap() {
                break reason;
            }
        };
        assert_eq!(reason, Interrupted::TimeLimit);
        let queue = super::Queue::new(QueueConfig::default());
        let mut events: Events<()> = queue.submit(|_| panic!("as it should")).unwrap();
        assert_eq!(events.recv().await, Some(Err(Interrupted::Panicked)));
    }
}
