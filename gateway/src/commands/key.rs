//! `gateway key new`: an API key, and what the file of keys gets.

use super::CommandError;
use crate::auth::api_keys::new_key;

/// Makes a key; returns the block for the file, behind a comment with the key itself, which stands nowhere else.
///
/// # Errors
/// A name or scopes that a key cannot have, or a system without randomness.
pub fn new(name: &str, scopes: &str) -> Result<String, CommandError> {
    let (mut id, mut secret) = ([0; 4], [0; 32]);
    let filled = getrandom::fill(&mut id).and_then(|()| getrandom::fill(&mut secret));
    filled.map_err(|error| CommandError(format!("the system gives no random bytes: {error}")))?;
    let key = new_key(name, scopes, u32::from_be_bytes(id), secret).map_err(CommandError)?;
    Ok(format!("# key: {}  (shown once, not stored)\n{}", key.key.expose(), key.block))
}
