//! Whether there is memory for more: asked before anything is accepted, so that refusing comes before being killed.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Whether the process takes more memory than it should. Each clone speaks of the same process.
#[derive(Debug, Clone)]
pub struct MemoryAdmission {
    limit_bytes: u64,
    exceeded: Arc<AtomicBool>,
}

impl MemoryAdmission {
    /// Refuses while more than `limit_bytes` are resident; `None`: never.
    #[must_use]
    pub fn new(limit_bytes: Option<u64>) -> Self {
        Self { limit_bytes: limit_bytes.unwrap_or(u64::MAX), exceeded: Arc::default() }
    }

    /// Notes how much is resident now; returns whether that changed the answer.
    pub fn note(&self, resident_bytes: u64) -> bool {
        let exceeded = resident_bytes > self.limit_bytes;
        self.exceeded.swap(exceeded, Ordering::Relaxed) != exceeded
    }

    /// Whether nothing more is to be accepted.
    #[must_use]
    pub fn is_exceeded(&self) -> bool {
        self.exceeded.load(Ordering::Relaxed)
    }

    /// Beyond how many resident bytes it refuses.
    #[must_use]
    pub fn limit_bytes(&self) -> u64 {
        self.limit_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_refuses_above_the_limit_and_accepts_again_below() {
        let memory = MemoryAdmission::new(Some(100));
        assert!(!memory.is_exceeded());
        assert!(memory.note(101));
        assert!(memory.is_exceeded());
        assert!(!memory.note(102));
        assert!(memory.note(100));
        assert!(!memory.is_exceeded());
        let unlimited = MemoryAdmission::new(None);
        assert!(!unlimited.note(u64::MAX));
    }
}
