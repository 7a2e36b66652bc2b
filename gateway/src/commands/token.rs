//! `gateway token`: a token for development, as an issuer would make it.

use std::path::PathBuf;
use std::time::Duration;

use super::CommandError;
use crate::auth::{Mint, SigningKey, mint};
use crate::clock::Clock;
use crate::config;
use crate::domain::UserId;

/// What the token shall say.
#[derive(Debug, Clone)]
pub struct Options {
    /// Whose it is.
    pub user: String,
    /// How long it holds.
    pub ttl: Duration,
    /// What it allows beside receiving: `send`, or nothing.
    pub scope: Option<String>,
    /// The key to sign with; without it the first configured key that can: the secret of HS256.
    pub key_file: Option<PathBuf>,
}

/// Signs a token that a gateway with this configuration accepts: its audience and issuer are the first configured ones. Also
/// returns a warning if everybody on this machine may read the key.
///
/// # Errors
/// No key that can sign, no such user, or a token that would be over at once.
pub fn run(
    options: &Options,
    config: &config::Auth,
    clock: &Clock,
) -> Result<(String, Option<String>), CommandError> {
    if options.ttl.as_secs() == 0 {
        return Err(CommandError("--ttl: a token holds for a second at least".to_owned()));
    }
    let user = UserId::parse(&options.user).map_err(|error| CommandError(format!("--user: {error}")))?;
    let (path, key) = signing_key(options, config)?;
    let now_s = clock.now_ms() / 1_000;
    let token = mint(
        &key,
        &Mint {
            sub: user.as_str(),
            iat: now_s,
            exp: now_s.saturating_add(options.ttl.as_secs()),
            scope: options.scope.as_deref(),
            aud: config.audience.first().map(String::as_str),
            iss: config.issuer.first().map(String::as_str),
        },
    );
    let warning = key
        .is_shared()
        .then(|| format!("everybody on this machine may read {}, and sign tokens with it", path.display()));
    token.map(|token| (token.expose().to_owned(), warning)).map_err(CommandError)
}

fn signing_key(options: &Options, config: &config::Auth) -> Result<(PathBuf, SigningKey), CommandError> {
    if let Some(file) = &options.key_file {
        return SigningKey::read(file).map(|key| (file.clone(), key)).map_err(CommandError);
    }
    let mut why = "there is no auth.token_key_files".to_owned();
    for file in &config.token_key_files {
        match SigningKey::read(file) {
            Ok(key) => return Ok((file.clone(), key)),
            // A public key above all, which verifies and does not sign.
            Err(error) => why = error,
        }
    }
    Err(CommandError(format!("{why}; name a key that can sign: --key-file")))
}
