//! How the text of a setting becomes its type.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

use crate::domain::OverflowPolicy;

/// The longest duration: what is added to a clock must not overflow it, and its seconds fit 32 bits.
pub(super) const LONGEST: Duration = Duration::from_secs(u32::MAX as u64);

/// The largest size: a few of them can be added up.
const LARGEST: bytesize::ByteSize = bytesize::ByteSize::eib(1);

/// A size in bytes, written as `4096`, `4KiB` or `1MB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl Bytes {
    /// The size for indexing into memory.
    #[must_use]
    pub fn as_usize(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes", self.0)
    }
}

/// Which log holds the entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LogStore {
    /// In this process's memory.
    Memory,
    /// In this directory.
    Disk(PathBuf),
    /// In a stream that other gateways share.
    Nats(NatsAddress),
}

/// Where a stream is, written as `nats://host:4222,host2:4222/name`; `tls://` where nothing but TLS will do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NatsAddress {
    /// The servers, each with its scheme: the others of a cluster are learnt from any of them.
    pub servers: Vec<String>,
    /// The name of the stream.
    pub stream: String,
}

/// Where a link leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// As the setting's help says.
    Auto,
    /// There is none.
    Nowhere,
    /// To this page.
    To(String),
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Human on a terminal, JSON elsewhere.
    Auto,
    /// For people.
    Human,
    /// For machines.
    Json,
}

/// How long a bucket may take to fill.
const MAX_FILLING: Duration = Duration::from_secs(366 * 24 * 60 * 60);

/// A token bucket, written as `100/s`, `600/m burst 50` or `10/h`: it holds `burst` tokens and gets back `tokens` in each
/// `period`, evenly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back in a period.
    pub tokens: NonZeroU32,
    /// How long that takes.
    pub period: Duration,
    /// Tokens in a full bucket.
    pub burst: NonZeroU32,
}

/// Whether and how much something is limited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RateLimit {
    /// Not in open mode, otherwise as the setting's help says.
    Auto,
    /// Not at all.
    Unlimited,
    /// So much.
    At(Rate),
}

impl Rate {
    /// So many in a second, and `burst` at once.
    ///
    /// # Panics
    /// When one of them is 0: that would be no rate.
    #[must_use]
    pub const fn per_second(tokens: u32, burst: u32) -> Self {
        let tokens = NonZeroU32::new(tokens).expect("a rate is above 0");
        let burst = NonZeroU32::new(burst).expect("a burst is above 0");
        Self { tokens, period: Duration::from_secs(1), burst }
    }
}

impl RateLimit {
    /// The rate to keep to, if any; `auto` is that of `auto`.
    #[must_use]
    pub fn or(self, auto: Option<Rate>) -> Option<Rate> {
        match self {
            Self::Auto => auto,
            Self::Unlimited => None,
            Self::At(rate) => Some(rate),
        }
    }
}

/// A type that a setting can have.
pub(super) trait FromSetting: Sized {
    /// Parses the text; the error completes the sentence "… is not valid: ".
    fn from_setting(text: &str) -> Result<Self, String>;
}

impl FromSetting for SocketAddr {
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected ADDRESS:PORT, for example 127.0.0.1:8000".to_owned())
    }
}

impl FromSetting for bool {
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected true or false".to_owned())
    }
}

impl FromSetting for u32 {
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected a whole number".to_owned())
    }
}

impl FromSetting for usize {
    fn from_setting(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "expected a whole number".to_owned())
    }
}

impl FromSetting for Option<usize> {
    fn from_setting(text: &str) -> Result<Self, String> {
        if text == "auto" {
            return Ok(None);
        }
        text.parse().map(Some).map_err(|_| "expected a whole number, or auto".to_owned())
    }
}

impl FromSetting for Option<Bytes> {
    fn from_setting(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(None) } else { Bytes::from_setting(text).map(Some) }
    }
}

impl FromSetting for Option<Duration> {
    fn from_setting(text: &str) -> Result<Self, String> {
        if text == "auto" { Ok(None) } else { Duration::from_setting(text).map(Some) }
    }
}

impl FromSetting for Option<PathBuf> {
    fn from_setting(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.into()))
    }
}

impl FromSetting for Option<String> {
    fn from_setting(text: &str) -> Result<Self, String> {
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }
}

impl FromSetting for Vec<PathBuf> {
    fn from_setting(text: &str) -> Result<Self, String> {
        Ok(Vec::<String>::from_setting(text)?.into_iter().map(PathBuf::from).collect())
    }
}

impl FromSetting for Vec<IpNet> {
    fn from_setting(text: &str) -> Result<Self, String> {
        let network = |item: &String| {
            item.parse::<IpNet>().or_else(|_| item.parse::<IpAddr>().map(IpNet::from)).map_err(|_| {
                "expected addresses or networks, for example 10.0.0.7, 10.0.0.0/8 or fd00::/8".to_owned()
            })
        };
        Vec::<String>::from_setting(text)?.iter().map(network).collect()
    }
}

impl FromSetting for RateLimit {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "none" => Ok(Self::Unlimited),
            _ => text.parse().map(Self::At),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = || {
            let mut words = text.split_ascii_whitespace();
            let (tokens, period) = words.next()?.split_once('/')?;
            let tokens: NonZeroU32 = tokens.parse().ok()?;
            let period = Duration::from_secs(match period {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                _ => return None,
            });
            let burst = match (words.next(), words.next(), words.next()) {
                (None, None, None) => tokens,
                (Some("burst"), Some(burst), None) => burst.parse().ok()?,
                _ => return None,
            };
            let rate = Self { tokens, period, burst };
            // A bucket that takes longer to fill is no rate any more, and too long to count with.
            (period / tokens.get() * burst.get() <= MAX_FILLING).then_some(rate)
        };
        parsed().ok_or_else(|| "expected a rate, for example 100/s, 600/m or 100/s burst 1000, that fills its burst within a year".to_owned())
    }
}

impl FromSetting for String {
    fn from_setting(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl FromSetting for Vec<String> {
    fn from_setting(text: &str) -> Result<Self, String> {
        Ok(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
    }
}

impl FromSetting for Duration {
    fn from_setting(text: &str) -> Result<Self, String> {
        let duration = humantime::parse_duration(text)
            .map_err(|_| "expected a duration with its unit, for example 25s or 24h".to_owned())?;
        if duration > LONGEST { Err("it is longer than 136 years".to_owned()) } else { Ok(duration) }
    }
}

impl FromSetting for Bytes {
    fn from_setting(text: &str) -> Result<Self, String> {
        let size = bytesize::ByteSize::from_str(text);
        let size = size.map_err(|_| "expected a size, for example 4096, 32KiB or 8MiB".to_owned())?;
        if size > LARGEST { Err("it is larger than 1EiB".to_owned()) } else { Ok(Self(size.as_u64())) }
    }
}

impl FromSetting for Link {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "" => Ok(Self::Nowhere),
            // Anything else that a browser follows could be a script.
            _ if text.starts_with("http://") || text.starts_with("https://") => Ok(Self::To(text.to_owned())),
            _ => Err("expected auto, or a page such as https://grafana.example/".to_owned()),
        }
    }
}

impl FromSetting for LogStore {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "memory" => Ok(Self::Memory),
            _ if text.starts_with("nats://") || text.starts_with("tls://") => text.parse().map(Self::Nats),
            _ => match text.strip_prefix("disk:") {
                Some(directory) if !directory.is_empty() => Ok(Self::Disk(directory.into())),
                _ => Err(format!("expected disk:DIRECTORY, for example disk:./data, memory, or {NATS_FORM}")),
            },
        }
    }
}

const NATS_FORM: &str = "nats://HOST:PORT,HOST:PORT/STREAM";

/// The longest name of a stream: it stands in subjects and in names of directories.
const MAX_STREAM_NAME: usize = 64;

impl FromStr for NatsAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = text.split_once("://").unwrap_or_default();
        let (hosts, stream) =
            rest.split_once('/').ok_or_else(|| format!("the stream is missing: expected {NATS_FORM}"))?;
        if hosts.contains('@') {
            // Print-outs and log lines name the address.
            return Err("credentials do not belong here: set nats.credentials_file, or nats.user and \
                        nats.password_file, or nats.token_file"
                .to_owned());
        }
        let plain = |character: char| character.is_ascii_alphanumeric() || "-_".contains(character);
        if stream.is_empty() || stream.len() > MAX_STREAM_NAME || !stream.chars().all(plain) {
            return Err(format!(
                "a stream's name has 1 to {MAX_STREAM_NAME} letters, digits, `-` or `_`: expected {NATS_FORM}"
            ));
        }
        let is_host = |host: &&str| {
            let plain = |character: char| character.is_ascii_alphanumeric() || "-._:[]".contains(character);
            !host.is_empty() && host.chars().all(plain)
        };
        let servers: Option<Vec<String>> = hosts
            .split(',')
            .map(|host| Some(host).filter(is_host).map(|host| format!("{scheme}://{host}")))
            .collect();
        let servers = servers.ok_or_else(|| format!("expected {NATS_FORM}"))?;
        Ok(Self { servers, stream: stream.to_owned() })
    }
}

impl FromSetting for OverflowPolicy {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "drop-oldest" => Ok(Self::DropOldest),
            "reject" => Ok(Self::Reject),
            _ => Err("expected drop-oldest or reject".to_owned()),
        }
    }
}

impl FromSetting for LogFormat {
    fn from_setting(text: &str) -> Result<Self, String> {
        match text {
            "auto" => Ok(Self::Auto),
            "human" => Ok(Self::Human),
            "json" => Ok(Self::Json),
            _ => Err("expected auto, human or json".to_owned()),
        }
    }
}
