//! API keys: what senders and administrators show.
//!
//! A key has 256 random bits, so its SHA-256 in the file is all that is needed to recognise it, and of no use to whoever
//! reads the file. A key that vanishes from the file is revoked: from then on its requests are refused and its
//! sessions end.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::path::Path;
use std::str::FromStr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, RwLock};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::files::WatchedFile;
use crate::config::{ConfigError, Rate};
use crate::domain::Secret;
use crate::limits::{Bucket, Denied};
use crate::metrics::{AuthRefusal, CredentialSource, Metrics, ReloadResult};

/// Every API key begins with it, so that people and scanners for leaked secrets recognise one.
const PREFIX: &str = "gwk_";

/// Hexadecimal digits of a key's id.
const ID_DIGITS: usize = 8;

/// The longest name of a key, in bytes.
const MAX_NAME_BYTES: usize = 64;

/// Something that a key allows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Sending, and asking what became of it.
    Send,
    /// Receiving as any user, and looking at users, topics and outcomes.
    Read,
    /// Changing topics, forgetting and disconnecting users.
    Admin,
}

/// A key that the file lists.
#[derive(Debug)]
pub struct ApiKey {
    id: String,
    name: String,
    scopes: Vec<Scope>,
    digest: [u8; 32],
    sends_text: Option<String>,
    sends: Option<Bucket>,
    /// Shared with what the key was before its entry was edited.
    revoked: Arc<AtomicBool>,
}

/// The keys in force.
pub(super) struct ApiKeys {
    file: WatchedFile,
    default_sends: Option<Rate>,
    ring: RwLock<Ring>,
}

type Ring = HashMap<String, Arc<ApiKey>>;

/// A new key: the secret that is shown once, and what the file gets.
#[derive(Debug)]
pub struct NewKey {
    /// What its owner shows.
    pub key: Secret,
    /// The block for the file.
    pub block: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FileOfKeys {
    #[serde(default)]
    key: Vec<Listed>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Listed {
    id: String,
    name: String,
    scopes: Vec<Scope>,
    sha256: String,
    sends: Option<String>,
}

impl ApiKey {
    /// Its name, for audit lines.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether it allows one of these.
    #[must_use]
    pub fn allows(&self, scopes: &[Scope]) -> bool {
        self.scopes.iter().any(|scope| scopes.contains(scope))
    }

    /// Whether it is not in the file any more.
    #[must_use]
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Relaxed)
    }

    /// Takes from what it may send.
    pub(super) fn take_sends(&self, count: u32) -> Result<(), Denied> {
        self.sends.as_ref().map_or(Ok(()), |bucket| bucket.take(count))
    }

    /// Whether it is this key with other terms, and those of its sessions still hold.
    fn is_edited_to(&self, other: &Self) -> bool {
        let may_read = |key: &Self| key.allows(&[Scope::Read]);
        (&self.id, &self.digest) == (&other.id, &other.digest) && (may_read(other) || !may_read(self))
    }

    fn is_same(&self, other: &Self) -> bool {
        (&self.id, &self.name, &self.scopes, &self.digest, &self.sends_text)
            == (&other.id, &other.name, &other.scopes, &other.digest, &other.sends_text)
    }
}

impl ApiKeys {
    /// Reads the file of keys. `default_sends` is what a key may send whose entry does not say.
    pub(super) fn load(path: &Path, default_sends: Option<Rate>) -> Result<Self, ConfigError> {
        let refused =
            |why: String| ConfigError(format!("auth.api_keys_file: cannot use {}: {why}", path.display()));
        let (file, bytes) = WatchedFile::open(path).map_err(|error| refused(error.to_string()))?;
        warn_of_keys_in(path, &bytes);
        let ring = parse(&bytes, default_sends).map_err(refused)?;
        Ok(Self { file, default_sends, ring: RwLock::new(ring) })
    }

    /// The key with this text.
    pub(super) fn verify(&self, text: &str) -> Result<Arc<ApiKey>, AuthRefusal> {
        let (id, _) =
            text.strip_prefix(PREFIX).and_then(|rest| rest.split_once('_')).ok_or(AuthRefusal::Malformed)?;
        let known = self.ring.read().expect("nothing panics while it holds the keys").get(id).cloned();
        let digest: [u8; 32] = Sha256::digest(text).into();
        // A key that nobody knows is compared, too: how long this takes tells nothing.
        let expected = known.as_ref().map_or([0; 32], |key| key.digest);
        let same = bool::from(digest.ct_eq(&expected));
        known.filter(|_| same).ok_or(AuthRefusal::UnknownKey)
    }

    /// Reads the file again if it changed.
    pub(super) fn look_again(&self, metrics: &Metrics) {
        let Some(read) = self.file.changed() else { return };
        let path = self.file.path().display();
        let parsed = read.and_then(|bytes| {
            warn_of_keys_in(self.file.path(), &bytes);
            parse(&bytes, self.default_sends)
        });
        match parsed {
            Ok(ring) => {
                let names: Vec<String> = ring.values().map(|key| key.name.clone()).collect();
                let revoked = self.replace(ring);
                metrics.count_reload(CredentialSource::ApiKeys, ReloadResult::Changed);
                tracing::info!(%path, keys = names.len(), ?revoked, "the API keys were read again");
            }
            Err(error) => {
                metrics.count_reload(CredentialSource::ApiKeys, ReloadResult::Failed);
                tracing::error!(%path, error, "the API keys cannot be read again; those of before hold");
            }
        }
    }

    /// Puts other keys in force and returns the names of those that are gone. A key whose entry stays keeps what it has left to
    /// send; one whose entry is edited keeps its sessions, unless it may not read any more.
    fn replace(&self, mut ring: Ring) -> Vec<String> {
        let mut current = self.ring.write().expect("nothing panics while it holds the keys");
        for (id, key) in &mut ring {
            match current.get(id) {
                Some(known) if known.is_same(key) => *key = Arc::clone(known),
                Some(known) if known.is_edited_to(key) => {
                    let edited = Arc::get_mut(key).expect("nobody else has what was just read");
                    edited.revoked = Arc::clone(&known.revoked);
                }
                _ => {}
            }
        }
        let stays =
            |key: &ApiKey| ring.get(&key.id).is_some_and(|kept| Arc::ptr_eq(&kept.revoked, &key.revoked));
        let gone = current.values().filter(|key| !stays(key)).map(|key| {
            key.revoked.store(true, Ordering::Relaxed);
            key.name.clone()
        });
        let names = gone.collect();
        *current = ring;
        names
    }
}

/// Whether the text means to be an API key.
#[must_use]
pub fn is_api_key(text: &str) -> bool {
    text.starts_with(PREFIX)
}

/// Makes a key of 32 random bytes with the random id `id`.
///
/// # Errors
/// A name that is empty, longer than 64 bytes or has control characters; no scope, or an unknown one. The text says so.
pub fn new_key(name: &str, scopes: &str, id: u32, secret: [u8; 32]) -> Result<NewKey, String> {
    check_name(name)?;
    let words: Vec<&str> = scopes.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    words.iter().try_for_each(|word| word.parse::<Scope>().map(drop))?;
    if words.is_empty() {
        return Err("a key needs a scope: send, read, admin, or several of them with commas".to_owned());
    }
    let key = format!("{PREFIX}{id:08x}_{}", URL_SAFE_NO_PAD.encode(secret));
    let mut block = String::from("[[key]]\n");
    // TOML's basic strings; control characters were refused.
    let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
    let _ = writeln!(block, "id = \"{id:08x}\"\nname = \"{quoted}\"\nscopes = {words:?}");
    let _ = writeln!(block, "sha256 = \"{}\"", hexadecimal(&Sha256::digest(&key)));
    Ok(NewKey { key: Secret::new(key), block })
}

/// `gateway key new` prints the key in a comment; whoever keeps that line keeps the secret beside its hash.
fn warn_of_keys_in(path: &Path, bytes: &[u8]) {
    if bytes.windows(PREFIX.len()).any(|window| window == PREFIX.as_bytes()) {
        let path = path.display();
        tracing::warn!(%path, "a key itself stands in the file of keys: take that line out once its owner has it");
    }
}

fn parse(bytes: &[u8], default_sends: Option<Rate>) -> Result<Ring, String> {
    let text = std::str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned())?;
    if text.trim().is_empty() {
        // An editor may be about to write it: nobody's key is revoked for that.
        return Err("it is empty; a file that lists no key on purpose has a comment in it".to_owned());
    }
    let file: FileOfKeys = toml::from_str(text).map_err(|error| misread(text, &error))?;
    let mut ring = Ring::with_capacity(file.key.len());
    for (place, listed) in (1..).zip(file.key) {
        // By their places: what stands where an id belongs may be a key.
        let refused = |why: String| format!("key number {place}: {why}");
        let key = accept(listed, default_sends).map_err(refused)?;
        if let Some(other) = ring.insert(key.id.clone(), Arc::new(key)) {
            return Err(refused(format!("the id {} is there twice", other.id)));
        }
    }
    Ok(ring)
}

/// Where a file makes no sense. The reader's own words would repeat what stands there, which may be a key in a wrong place.
fn misread(text: &str, error: &toml::de::Error) -> String {
    let before = error.span().map_or(0, |span| span.start.min(text.len()));
    let line = 1 + text.as_bytes()[..before].iter().filter(|byte| **byte == b'\n').count();
    format!(
        "line {line} makes no sense; a key has id, name, scopes (send, read, admin), sha256, and perhaps sends"
    )
}

fn accept(listed: Listed, default_sends: Option<Rate>) -> Result<ApiKey, String> {
    let Listed { id, name, scopes, sha256, sends: sends_text } = listed;
    if id.len() != ID_DIGITS || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(format!("an id is {ID_DIGITS} hexadecimal digits"));
    }
    check_name(&name)?;
    if scopes.is_empty() {
        return Err("it has no scope".to_owned());
    }
    let rate = match sends_text.as_deref() {
        None => default_sends,
        Some("none") => None,
        Some(text) => Some(text.parse().map_err(|error: String| format!("sends: {error}"))?),
    };
    let digest = from_hexadecimal(&sha256).ok_or("sha256 is 64 hexadecimal digits")?;
    Ok(ApiKey { id, name, scopes, digest, sends_text, sends: rate.map(Bucket::new), revoked: Arc::default() })
}

fn check_name(name: &str) -> Result<(), String> {
    if (1..=MAX_NAME_BYTES).contains(&name.len()) && !name.chars().any(char::is_control) {
        return Ok(());
    }
    Err(format!("a name has 1 to {MAX_NAME_BYTES} bytes and no control characters"))
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn from_hexadecimal(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.is_ascii() {
        return None;
    }
    for (index, byte) in bytes.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(bytes)
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "send" => Ok(Self::Send),
            "read" => Ok(Self::Read),
            "admin" => Ok(Self::Admin),
            _ => Err(format!("{text:?} is no scope: there are send, read and admin")),
        }
    }
}

#[cfg(test)]
mod tests;
