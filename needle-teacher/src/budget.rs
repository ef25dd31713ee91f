//! Limits on money, tokens and speed, shared by all threads that ask.
//!
//! Before a request is sent, the most that it can use is reserved; when it ends, what it did use
//! takes the place of the reservation. So the limits hold however many requests are under way.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::tokens::Usage;

/// What a run may use, all sessions of it together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Limits {
    /// Most money, in the unit of the prices.
    pub cost: Option<f64>,
    /// Most tokens, of prompts and answers together.
    pub tokens: Option<u64>,
}

#[derive(Debug, Default)]
struct State {
    used: Usage,
    reserved_tokens: u64,
    reserved_cost: f64,
    under_way: usize,
}

/// What has been used, and what may still be.
#[derive(Debug)]
pub struct Budget {
    limits: Limits,
    state: Mutex<State>,
    settled: Condvar,
}

/// The most that one request can use, put aside.
#[derive(Debug)]
#[must_use = "a reservation must be settled"]
pub struct Reservation(Usage);

impl Budget {
    /// A budget of which `used` is gone already.
    pub fn new(limits: Limits, used: Usage) -> Self {
        Self { limits, state: Mutex::new(State { used, ..State::default() }), settled: Condvar::new() }
    }

    /// Puts `most` aside, waiting for requests under way where it might fit when they have ended;
    /// `None` where it cannot.
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

    /// Counts what a request did use.
    pub fn settle(&self, reservation: Reservation, used: &Usage) {
        let Reservation(most) = reservation;
        let mut state = self.lock();
        state.reserved_tokens -= most.tokens();
        state.reserved_cost = (state.reserved_cost - most.cost.unwrap_or(0.0)).max(0.0);
        state.under_way -= 1;
        state.used.add(used);
        self.settled.notify_all();
    }

    /// Counts what is used while the request is still under way: an attempt that failed and may be
    /// charged.
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

/// When the next request may be sent. Pure: the caller tells the time and waits.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    between_requests: Duration,
    seconds_per_token: f64,
    next: Instant,
}

impl Pace {
    /// A pace of at most this many requests and tokens a minute, from `now` on.
    pub fn new(requests_per_minute: Option<f64>, tokens_per_minute: Option<f64>, now: Instant) -> Self {
        Self {
            between_requests: requests_per_minute.map_or(Duration::ZERO, |n| Duration::from_secs_f64(60.0 / n)),
            seconds_per_token: tokens_per_minute.map_or(0.0, |n| 60.0 / n),
            next: now,
        }
    }

    /// Takes the next slot, for a request of `tokens`, and tells when it is.
    pub fn take(&mut self, tokens: u64, now: Instant) -> Instant {
        let slot = self.next.max(now);
        self.next = slot + self.between_requests.max(Duration::from_secs_f64(tokens as f64 * self.seconds_per_token));
        slot
    }

    /// No request before `until`: the endpoint has asked all of us to wait.
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
                // It fits only when the first has turned out smaller than what was put aside for
                // it.
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
        let mut pace = Pace::new(Some(60.0), Some(600.0), start);
        assert_eq!(pace.take(10, start), start);
        assert_eq!(pace.take(50, start), start + second);
        assert_eq!(pace.take(1, start), start + 6 * second, "50 tokens take five seconds");
        assert_eq!(pace.take(1, start + 60 * second), start + 60 * second, "what was not used is not saved up");
        pace.pause(start + 90 * second);
        assert_eq!(pace.take(1, start), start + 90 * second);
    }
}
