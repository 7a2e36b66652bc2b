//! What is attacked: where it listens, and what honest clients show there.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use gateway::auth::api_keys::new_key;
use gateway::auth::{Mint, SigningKey, mint};

/// The gateway under attack.
#[derive(Clone)]
pub(crate) struct Target {
    pub(crate) http: SocketAddr,
    pub(crate) credentials: Option<Credentials>,
}

/// What honest clients of a gateway with keys have.
#[derive(Clone)]
pub(crate) struct Credentials {
    key: String,
    secret_file: PathBuf,
}

impl Credentials {
    /// Makes an API key that may do everything and a secret for tokens; returns the settings that make them hold.
    pub(crate) fn write(folder: &Path) -> (Self, [(&'static str, String); 2]) {
        let new = new_key("bystander", "send,read,admin", 0xb157_a4de, [7; 32]).expect("a name and scopes");
        let [keys, secret_file] = ["keys.toml", "secret"].map(|name| folder.join(name));
        std::fs::write(&keys, new.block).expect("the folder takes a file");
        std::fs::write(&secret_file, "a secret of at least thirty-two bytes, for attacks")
            .expect("and another");
        let settings = [
            ("GATEWAY_AUTH_API_KEYS_FILE", keys.display().to_string()),
            ("GATEWAY_AUTH_TOKEN_KEY_FILES", secret_file.display().to_string()),
        ];
        (Self { key: new.key.expose().to_owned(), secret_file }, settings)
    }
}

impl Target {
    /// The header line of an honest sender; empty in open mode.
    pub(crate) fn sender(&self) -> String {
        let line = |credentials: &Credentials| format!("Authorization: Bearer {}\r\n", credentials.key);
        self.credentials.as_ref().map_or_else(String::new, line)
    }

    /// The header line of an honest user, with a token that may send; empty in open mode.
    pub(crate) fn user(&self, user: &str) -> String {
        self.users([user]).next().expect("one user, one line")
    }

    /// Likewise, for many.
    pub(crate) fn users<'a>(&self, users: impl IntoIterator<Item = &'a str>) -> impl Iterator<Item = String> {
        let read =
            |credentials: &Credentials| SigningKey::read(&credentials.secret_file).expect("it is there");
        let key = self.credentials.as_ref().map(read);
        let now = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs());
        users.into_iter().map(move |sub| {
            let Some(key) = &key else { return String::new() };
            let exp = now + Duration::from_secs(3_600).as_secs();
            let token = mint(key, &Mint { sub, iat: now, exp, scope: Some("send"), aud: None, iss: None });
            format!("Authorization: Bearer {}\r\n", token.expect("a secret signs").expose())
        })
    }
}
