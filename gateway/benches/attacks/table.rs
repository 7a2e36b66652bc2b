//! The attacks, their sizes and their bounds.

use std::time::Duration;

use crate::floods::{self, Endless};
use crate::slow::{self, Unread};
use crate::target::Target;
use crate::{Attack, Blow, crowds, frames};

const MIB: u64 = 1 << 20;

/// An attack of requests ends with its last answer, and not before so long.
const AT_MOST: Duration = Duration::from_secs(60);

type Settings = Vec<(&'static str, &'static str)>;

/// Six seconds in open mode, within 64 MiB.
fn attack<F>(
    name: &'static str,
    size: usize,
    blow: impl Fn(Target, usize, tokio::time::Instant) -> F + 'static,
) -> Attack
where
    F: Future<Output = crate::wire::Tally> + Send + 'static,
{
    Attack {
        name,
        size,
        secured: false,
        settings: Settings::new(),
        open_files: None,
        lasting: Duration::from_secs(6),
        most_growth: 64 * MIB,
        blow: Box::new(move |target, size, until| Box::pin(blow(target, size, until)) as Blow),
    }
}

impl Attack {
    fn secured(self) -> Self {
        Self { secured: true, ..self }
    }

    fn with(mut self, key: &'static str, value: &'static str) -> Self {
        self.settings.push((key, value));
        self
    }

    /// Until all of it is done, within so much memory.
    fn whole(self, most_growth: u64) -> Self {
        Self { lasting: AT_MOST, most_growth, ..self }
    }
}

/// All of them; `jwks` is where an identity provider publishes its keys.
pub(crate) fn attacks(jwks: &str) -> Vec<Attack> {
    // Lives as long as the program, as the table does.
    let jwks: &'static str = Box::leak(jwks.to_owned().into_boxed_str());
    vec![
        attack("half-sent headers", 500, slow::half_sent_headers)
            .with("GATEWAY_HTTP_FIRST_REQUEST_TIMEOUT", "2s"),
        attack("half-sent bodies", 500, slow::half_sent_bodies).with("GATEWAY_HTTP_BODY_TIMEOUT", "2s"),
        attack("half-sent bodies", 500, slow::half_sent_bodies)
            .secured()
            .with("GATEWAY_HTTP_BODY_TIMEOUT", "2s"),
        // Each may hold what the kernel takes and a mailbox of 1 MiB, whose frames all share.
        attack("sockets never read", 500, |target, size, until| {
            slow::never_read(target, Unread::Frames, size, until)
        })
        .with("GATEWAY_SESSIONS_WRITE_TIMEOUT", "2s")
        .whole(256 * MIB),
        attack("streams never read", 500, |target, size, until| {
            slow::never_read(target, Unread::Events, size, until)
        })
        .with("GATEWAY_HTTP_WRITE_TIMEOUT", "2s")
        // What hyper gathers for one connection before it waits, 408 KiB, and a pull beyond it.
        .whole(384 * MIB),
        attack("answers never read", 500, |target, size, until| {
            slow::never_read(target, Unread::Answers, size, until)
        })
        .with("GATEWAY_HTTP_WRITE_TIMEOUT", "2s")
        .whole(256 * MIB),
        attack("connects", 200, floods::connects),
        attack("connects, one address", 1, floods::connects).secured(),
        attack("illegal frames, rounds", 3_000, frames::illegal).whole(64 * MIB),
        attack("pings without end", 8, |target, size, until| {
            floods::endless(target, Endless::Pings, size, until)
        }),
        attack("pings without end", 8, |target, size, until| {
            floods::endless(target, Endless::Pings, size, until)
        })
        .secured(),
        attack("empty fragments", 8, |target, size, until| {
            floods::endless(target, Endless::EmptyFragments, size, until)
        }),
        attack("nested documents", 2_000, floods::nested).whole(64 * MIB),
        // Some 1.2 KiB for each: mailbox, entry, outcome, key.
        attack("strange users and keys", 100_000, crowds::users_and_keys).whole(256 * MIB),
        attack("strange senders", 100_000, crowds::senders)
            .secured()
            .with("GATEWAY_LIMITS_SENDS_PER_USER", "6/m burst 10")
            .whole(256 * MIB),
        attack("strange addresses", 100_000, crowds::addresses)
            .secured()
            .with("GATEWAY_HTTP_TRUSTED_PROXIES", "127.1.0.0/16")
            .with("GATEWAY_LIMITS_CONNECTS_PER_ADDRESS", "6/m burst 10")
            .whole(256 * MIB),
        Attack {
            open_files: Some(512),
            ..attack("no descriptors left", 2_000, slow::half_sent_headers)
                .with("GATEWAY_HTTP_MAX_CONNECTIONS", "5000")
                .with("GATEWAY_HTTP_FIRST_REQUEST_TIMEOUT", "2s")
        },
        attack("guessed keys", 50_000, crowds::guessed_keys).secured().whole(64 * MIB),
        attack("invented signers", 50_000, crowds::invented_signers)
            .secured()
            .with("GATEWAY_AUTH_JWKS", jwks)
            .whole(64 * MIB),
        attack("reconnects", 10_000, floods::reconnects).whole(384 * MIB),
        attack("reconnects", 10_000, floods::reconnects).secured().whole(384 * MIB),
    ]
}
