//! When a failed request is sent again.

use std::time::{Duration, SystemTime};

use rand::RngExt;
use rand::rngs::ChaCha8Rng;

/// Maximum wait between two attempts, unless the endpoint asks for more.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
/// Maximum wait that an endpoint may ask for; a longer one is shortened to it.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(600);

/// Exponential backoff with jitter: `first * 2^attempt`, at most a minute, times a random factor in
/// `[0.5, 1)`; but never less than what the endpoint asked for.
///
/// `attempt` counts from 0.
pub fn delay(first: Duration, attempt: u32, retry_after: Option<Duration>, rng: &mut ChaCha8Rng) -> Duration {
    let backoff = first.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST_BACKOFF);
    let jittered = backoff.mul_f64(rng.random_range(0.5..1.0));
    jittered.max(retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER))
}

/// Whether a status means that the same request may succeed later.
pub const fn is_temporary(status: u16) -> bool {
    matches!(status, 408 | 425 | 429 | 500..=599)
}

/// The wait that the headers ask for: `retry-after-ms`, or `retry-after` in seconds or as a date.
pub fn retry_after<'a>(header: impl Fn(&str) -> Option<&'a str>, now: SystemTime) -> Option<Duration> {
    let number = |text: &str| text.trim().parse::<f64>().ok().filter(|n| n.is_finite() && *n >= 0.0);
    if let Some(milliseconds) = header("retry-after-ms").and_then(number) {
        return Some(Duration::from_secs_f64((milliseconds / 1e3).min(LONGEST_RETRY_AFTER.as_secs_f64())));
    }
    let text = header("retry-after")?;
    if let Some(seconds) = number(text) {
        return Some(Duration::from_secs_f64(seconds.min(LONGEST_RETRY_AFTER.as_secs_f64())));
    }
    // A date that has passed asks for no wait.
    httpdate::parse_http_date(text.trim()).ok().map(|date| date.duration_since(now).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use needle_data::random::{Purpose, rng};

    #[test]
    fn waits_double_up_to_a_minute_and_never_undercut_the_endpoint() {
        let mut rng = rng(1, Purpose::RetryDelay, &[]);
        let first = Duration::from_secs(1);
        for attempt in 0..40 {
            let most = first.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST_BACKOFF);
            let wait = delay(first, attempt, None, &mut rng);
            assert!(wait >= most / 2 && wait <= most, "{attempt}: {wait:?}");
        }
        assert_eq!(delay(first, 0, Some(Duration::from_secs(9)), &mut rng), Duration::from_secs(9));
        assert_eq!(delay(first, 0, Some(Duration::MAX), &mut rng), LONGEST_RETRY_AFTER);
    }

    #[test]
    fn retry_after_is_read_in_all_its_forms() {
        let now = httpdate::parse_http_date("Sun, 06 Nov 1994 08:49:37 GMT").unwrap();
        let read = |name: &'static str, value: &'static str| {
            retry_after(|asked| (asked == name).then_some(value), now).map(|d| d.as_millis())
        };
        assert_eq!(read("retry-after", "2"), Some(2000));
        assert_eq!(read("retry-after", " 0.5 "), Some(500));
        assert_eq!(read("retry-after-ms", "250"), Some(250));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:49:40 GMT"), Some(3000));
        assert_eq!(read("retry-after", "Sun, 06 Nov 1994 08:00:00 GMT"), Some(0));
        assert_eq!(read("retry-after", "1e300"), Some(600_000));
        for nonsense in ["-1", "soon", "nan", ""] {
            assert_eq!(read("retry-after", nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn only_statuses_that_can_pass_are_tried_again() {
        assert!([408, 425, 429, 500, 502, 503, 504, 529].into_iter().all(is_temporary));
        assert!(![400, 401, 403, 404, 413, 422].into_iter().any(is_temporary));
    }
}
