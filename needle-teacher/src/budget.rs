//! Limits on money, tokens and speed, shared by all threads that send requests.
//!
//! Before a request is sent, its maximum usage is reserved; when it ends, its actual usage replaces
//! the reservation. So the limits hold for any number of concurrent requests.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::tokens::Usage;

/// What all sessions of a run together may use.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Maximum cost, in the unit of the prices.
    pub cost: Option<f64>,
    /// Maximum number of tokens, of prompts and answers together.
    pub tokens: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    used: Usage,
    reserved_tokens: u64,
    reserved_cost: f64,
    under_way: usize,
}

/// The usage so far, and its limits.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    state: Mutex<State>,
    settled: Condvar,
}

/// The reserved maximum usage of one request.
#[derive(Debug)]
#[must_use = "a reservation must be settled"]
pub struct Reservation(Usage);

impl Budget {
    /// A budget of which `used` has already been spent.
    pub fn new(limits: Limits, used: Usage) -> Self {
        Self { limits, state: Mutex::new(State { used, ..State::default() }), settled: Condvar::new() }
    }

    /// Reserves `most`, waiting for requests in flight if it might fit after they end; `None` if it
    /// cannot fit.
    pub fn reserve(&self, most: Usage) -> Option<Reservation> {
        let mut state = self.lock();
        loop {
            let tokens = state.used.tokens() + state.reserved_tokens + most.tokens();
            let cost = state.used.cost.unwrap_or(0.0) + state.reserved_cost + most.cost.unwrap_or(0.0);
            if self.limits.tokens.is_none_or(|limit| tokens <= limit)
                && self.limits.cost.is_none_or(|limit| cost <= limit)
            {
                state.reserved_tokens += most.tokens();
                state.reserved_cost += most.cost.unwrap_or(0.0);
                state.under_way += 1;
                return Some(Reservation(most));
            }
            if state.under_way == 0 {
                return None;
            }
            state = self.settled.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Replaces a reservation by the request's actual usage.
    pub fn settle(&self, reservation: Reservation, used: &Usage) {
        let Reservation(most) = reservation;
        let mut state = self.lock();
        state.reserved_tokens -= most.tokens();
        state.reserved_cost = (state.reserved_cost - most.cost.unwrap_or(0.0)).max(0.0);
        state.under_way -= 1;
        state.used.add(used);
        self.settled.notify_all();
    }

    /// Counts usage while the request is still in flight: a failed attempt that may be charged.
    pub fn charge(&self, used: &Usage) {
        self.lock().used.add(used);
    }

    /// What has been used so far.
    pub fn used(&self) -> Usage {
        self.lock().used
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A rate limiter: when the next request may be sent. It is pure: the caller passes the time and
/// waits.
#[derive(Debug, Clone, Copy)]
pub struct RateLimiter {
    between_requests: Duration,
    seconds_per_token: f64,
    next: Instant,
}

impl RateLimiter {
    /// A pace of at most this many requests and tokens per minute, from `now` on.
    pub fn new(requests_per_minute: Option<f64>, tokens_per_minute: Option<f64>, now: Instant) -> Self {
        Self {
            between_requests: requests_per_minute.map_or(Duration::ZERO, |n| Duration::from_secs_f64(60.0 / n)),
            seconds_per_token: tokens_per_minute.map_or(0.0, |n| 60.0 / n),
            next: now,
        }
    }

    /// Takes the next slot, for a request of `tokens`, and returns its time.
    pub fn take(&mut self, tokens: u64, now: Instant) -> Instant {
        let slot = self.next.max(now);
        self.next = slot + self.between_requests.max(Duration::from_secs_f64(tokens as f64 * self.seconds_per_token));
        slot
    }

    /// Allows no request before `until`, because the endpoint has asked to wait.
    pub fn pause(&mut self, until: Instant) {
        self.next = self.next.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(tokens: u64) -> Usage {
        Usage { input_tokens: tokens, cost: Some(tokens as f64), ..Usage::default() }
    }

    #[test]
    fn limits_hold_with_requests_under_way() {
        for limits in [Limits { tokens: Some(100), cost: None }, Limits { tokens: None, cost: Some(100.0) }] {
            let budget = Budget::new(limits, usage(30));
            let first = budget.reserve(usage(60)).unwrap();
            std::thread::scope(|scope| {
                // It fits only after the first one has used less than was reserved for it.
                let second = scope.spawn(|| budget.reserve(usage(60)));
                budget.settle(first, &usage(5));
                budget.settle(second.join().unwrap().unwrap(), &usage(60));
            });
            assert_eq!(budget.used().tokens(), 95);
            assert!(budget.reserve(usage(6)).is_none());
            let rest = budget.reserve(usage(5)).unwrap();
            budget.settle(rest, &Usage::default());
        }
    }

    #[test]
    fn requests_and_tokens_are_spread_over_the_minute() {
        let start = Instant::now();
        let second = Duration::from_secs(1);
        let mut pace = RateLimiter::new(Some(60.0), Some(600.0), start);
        assert_eq!(pace.take(10, start), start);
        assert_eq!(pace.take(50, start), start + second);
        assert_eq!(pace.take(1, start), start + 6 * second, "50 tokens take five seconds");
        assert_eq!(pace.take(1, start + 60 * second), start + 60 * second, "unused slots do not accumulate");
        pace.pause(start + 90 * second);
        assert_eq!(pace.take(1, start), start + 90 * second);
    }
}
