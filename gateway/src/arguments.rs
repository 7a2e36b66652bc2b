//! The command line, and the greeting that shows a newcomer where to click.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use gateway::app::App;
use gateway::commands::{CommandError, DEFAULT_OPS_URL, DEFAULT_URL, listen, read_credential, token};
use gateway::config::ConfigError;

/// The configuration file that is read if it is there and no other is named.
const DEFAULT_FILE: &str = "gateway.toml";

/// The environment variable that names another one; the flag wins.
const FILE_VARIABLE: &str = "GATEWAY_CONFIG";

const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("BUILD_REVISION"), ")");

/// A self-hosted notification gateway: POST in, WebSocket push out.
#[derive(Parser)]
#[command(name = "gateway", version = VERSION, args_conflicts_with_subcommands = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) serve: Serve,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Run the gateway (what it does without a command, too)
    Serve(Serve),
    /// Listen as a user and print what arrives
    Listen(Listen),
    /// Send a text to a user
    Send {
        /// The gateway
        #[arg(long, default_value = DEFAULT_URL)]
        url: String,
        /// Who says it
        #[arg(long)]
        from: Option<String>,
        /// A file with an API key or a token, for a gateway that asks for one
        #[arg(long, value_name = "FILE")]
        credential_file: Option<PathBuf>,
        /// The recipient
        user: String,
        /// The text; several words need no quotes
        #[arg(required = true)]
        text: Vec<String>,
    },
    /// Make an API key, for a sender or an administrator
    Key {
        #[command(subcommand)]
        command: KeyCommand,
    },
    /// Make a token (JWT) for a receiver, for development: an issuer of yours makes the real ones
    Token(Token),
    /// Print the OpenAPI document
    Openapi,
    /// Check the configuration and exit with 78 if it cannot be used
    CheckConfig {
        /// Print every setting with its value and where that came from
        #[arg(long)]
        print: bool,
        #[command(flatten)]
        options: Serve,
    },
    /// Copy what waits and what holds from one log into another, empty one, while no gateway runs on either
    CopyLog {
        /// Where it is now
        #[arg(long, value_name = "disk:DIRECTORY|nats://…")]
        from: String,
        /// Where it shall be
        #[arg(long, value_name = "disk:DIRECTORY|nats://…")]
        to: String,
        /// The configuration file, for everything else [default: $GATEWAY_CONFIG, or gateway.toml if it is there]
        #[arg(long, value_name = "FILE")]
        config: Option<PathBuf>,
    },
    /// Exit with 0 if the gateway is ready, for containers
    Healthcheck {
        /// The operator's listener
        #[arg(long, default_value = DEFAULT_OPS_URL)]
        ops_url: String,
    },
}

/// Where settings come from on the command line.
#[derive(Args)]
pub(crate) struct Serve {
    /// The configuration file [default: $GATEWAY_CONFIG, or gateway.toml if it is there]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The public listener (http.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<String>,
    /// The operator's listener (ops.listen)
    #[arg(long, value_name = "ADDRESS:PORT")]
    ops_listen: Option<String>,
    /// Where accepted notifications are kept (log.store)
    #[arg(long, value_name = "disk:DIRECTORY|memory|nats://HOST:PORT,…/STREAM")]
    log: Option<String>,
    /// Declare every position that clients know meaningless, once: for a directory restored from a backup
    #[arg(long)]
    pub(crate) new_epoch: bool,
    /// Start although a listener is not on loopback and no keys are configured (http.open_on_any_address)
    #[arg(long)]
    open_on_any_address: bool,
}

#[derive(Subcommand)]
pub(crate) enum KeyCommand {
    /// Print a new key, once, and the block for the file of keys (auth.api_keys_file)
    New {
        /// Whose key it is: shows in audit lines
        #[arg(long)]
        name: String,
        /// What it may do: send, read, admin, or several of them with commas
        #[arg(long)]
        scopes: String,
    },
}

/// What `gateway token` makes.
#[derive(Args)]
pub(crate) struct Token {
    /// Whose token
    #[arg(long)]
    user: String,
    /// How long it holds
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    ttl: Duration,
    /// What it allows beside receiving: send
    #[arg(long)]
    scope: Option<String>,
    /// The key to sign with: a private key in PEM, or a secret [default: the first of auth.token_key_files that can sign]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// The configuration file [default: $GATEWAY_CONFIG, or gateway.toml if it is there]
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
}

/// How `gateway listen` listens.
#[derive(Args)]
pub(crate) struct Listen {
    /// The gateway
    #[arg(long, default_value = DEFAULT_URL)]
    url: String,
    /// Where to start: `start`, `now` or a position [default: everything that waits]
    #[arg(long)]
    after: Option<String>,
    /// Print frames as they come
    #[arg(long)]
    json: bool,
    /// Stop after so many notifications
    #[arg(long)]
    count: Option<u64>,
    /// A file with a token or an API key, for a gateway that asks for one
    #[arg(long, value_name = "FILE")]
    credential_file: Option<PathBuf>,
    /// Whose notifications
    user: String,
}

impl Serve {
    /// Where settings come from when only the file is named.
    pub(crate) fn of_file(config: Option<PathBuf>) -> Self {
        let (listen, ops_listen, log) = (None, None, None);
        Self { config, listen, ops_listen, log, new_epoch: false, open_on_any_address: false }
    }

    /// The same, with this log.
    pub(crate) fn of_file_with_log(config: Option<PathBuf>, log: String) -> Self {
        Self { log: Some(log), ..Self::of_file(config) }
    }

    /// The text of the configuration file and its path, if there is one.
    pub(crate) fn read_file(&self) -> Result<Option<(String, String)>, ConfigError> {
        let named = self.config.clone().or_else(|| std::env::var_os(FILE_VARIABLE).map(PathBuf::from));
        let path = named.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some((path.display().to_string(), text))),
            Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ConfigError(format!("cannot read {}: {error}", path.display()))),
        }
    }

    /// The settings given as flags.
    pub(crate) fn flags(&self) -> impl Iterator<Item = (&'static str, String)> {
        let given =
            [("http.listen", &self.listen), ("ops.listen", &self.ops_listen), ("log.store", &self.log)];
        let texts = given.into_iter().filter_map(|(key, value)| Some((key, value.clone()?)));
        texts.chain(self.open_on_any_address.then(|| ("http.open_on_any_address", "true".to_owned())))
    }
}

impl TryFrom<Listen> for listen::Options {
    type Error = CommandError;

    fn try_from(options: Listen) -> Result<Self, CommandError> {
        let Listen { url, after, json, count, credential_file, user } = options;
        let credential = credential_file.as_deref().map(read_credential).transpose()?;
        Ok(Self { url, user, after, json, count, credential })
    }
}

impl From<Token> for token::Options {
    fn from(options: Token) -> Self {
        let Token { user, ttl, scope, key_file, .. } = options;
        Self { user, ttl, scope, key_file }
    }
}

/// A few lines for whoever started the gateway: where to click, what to paste.
pub(crate) fn greeting(app: &App) -> String {
    let addresses = app.addresses();
    let (http, ops) = (addresses.http, addresses.ops);
    let command = if std::env::var_os("CARGO").is_some() { "cargo run --release --" } else { "gateway" };
    let open = app.is_open();
    let mode = if !open {
        "with keys: senders show an API key, receivers a token"
    } else if http.ip().is_loopback() {
        "open mode: whoever is on this machine may send and listen, nobody else can reach it"
    } else {
        "OPEN ON ANY ADDRESS: whoever can reach it may send and listen"
    };
    let url = format!("{}://{http}", if app.is_encrypted() { "https" } else { "http" });
    let option = if url == DEFAULT_URL { String::new() } else { format!(" --url {url}") };
    let (shows, header) =
        if open { ("", "") } else { (" --credential-file FILE", "-H \"Authorization: Bearer $KEY\" ") };
    format!(
        "\
notification gateway {VERSION}
  {mode}
  log      {durability}

{console}  manual   {url}/docs
  metrics  http://{ops}/metrics     health  http://{ops}/health/ready

paste into two other terminals:
  {command} listen{option}{shows} bob
  {command} send{option}{shows} bob hello
or:
  curl {header}-H 'Content-Type: application/json' -d '{{\"to\":[\"bob\"],\"body\":\"hello\"}}' {url}/v1/notifications

",
        durability = app.durability().describe(),
        console = if app.has_console() {
            format!("  console  {url}/            (open it: send, and see it arrive)\n")
        } else {
            String::new()
        },
    )
}
