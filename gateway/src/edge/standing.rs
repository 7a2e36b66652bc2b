//! What a session stands on, and when to look whether that is gone.

use std::time::Duration;

use tokio::time::Instant;

use crate::auth::{Authority, Lapse};
use crate::protocol::CloseCode;

/// The least time between two looks whether a token is over: the clock it goes by may stand.
const MIN_LOOK: Duration = Duration::from_millis(10);

/// A token that holds longer is looked at before: no point in time is further away than a timer can be.
const MAX_LOOK: Duration = Duration::from_secs(24 * 60 * 60);

/// An authority, and when to look at it again.
pub struct Standing {
    authority: Authority,
    look_at: Option<Instant>,
}

impl Standing {
    /// Stands on this, at the time `now`, which is `now_ms` for tokens.
    #[must_use]
    pub fn new(authority: Authority, now_ms: u64, now: Instant) -> Self {
        let look_at = look_at(&authority, now_ms, now);
        Self { authority, look_at }
    }

    /// The earlier one of `deadline` and the next look.
    #[must_use]
    pub fn earlier(&self, deadline: Instant) -> Instant {
        self.look_at.map_or(deadline, |look_at| deadline.min(look_at))
    }

    /// What to end the session with, if the authority is gone. The next look is set anew each time: the wall clock, which
    /// tokens go by, may have been set.
    pub fn look(&mut self, now_ms: u64, now: Instant) -> Option<CloseCode> {
        self.look_at = look_at(&self.authority, now_ms, now);
        self.authority.lapse(now_ms).map(CloseCode::from)
    }
}

fn look_at(authority: &Authority, now_ms: u64, now: Instant) -> Option<Instant> {
    let remaining = Duration::from_millis(authority.remaining_ms(now_ms)?);
    Some(now + remaining.clamp(MIN_LOOK, MAX_LOOK))
}

impl From<Lapse> for CloseCode {
    fn from(lapse: Lapse) -> Self {
        match lapse {
            Lapse::Expired => Self::TokenExpired,
            Lapse::Revoked => Self::InvalidToken,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_looked_at_when_it_is_over_and_again_if_the_clock_was_set_back() {
        let start = Instant::now();
        let far = start + Duration::from_secs(3_600);
        let mut standing = Standing::new(Authority::Token { until_ms: 10_000 }, 4_000, start);
        assert_eq!(standing.earlier(far), start + Duration::from_secs(6));
        let then = start + Duration::from_secs(6);
        assert_eq!(standing.look(8_000, then), None, "the clock was set back by two seconds");
        assert_eq!(standing.earlier(far), then + Duration::from_secs(2));
        assert_eq!(standing.look(10_000, then), Some(CloseCode::TokenExpired));
        let endless = Standing::new(Authority::Token { until_ms: u64::MAX }, 0, start);
        assert_eq!(endless.earlier(start + MAX_LOOK * 2), start + MAX_LOOK);
        assert_eq!(Standing::new(Authority::Open, 0, start).earlier(far), far);
    }
}
