//! Nobody attacks, but the processors are as busy as if.

use std::hint::black_box;

use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::wire::Tally;

/// Burns the time of so many threads until the time is over.
pub(crate) async fn spin(threads: usize, until: Instant) -> Tally {
    let mut spinning = JoinSet::new();
    for _ in 0..threads {
        spinning.spawn_blocking(move || {
            let mut turns = 0_u64;
            while Instant::now() < until {
                turns = black_box(turns + 1);
            }
        });
    }
    spinning.join_all().await;
    Tally::from([("spun".to_owned(), threads)])
}
