//! Where values come from: flag, then environment variable, then file, then default.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use super::ConfigError;
use super::parse::FromSetting;
use super::settings::{SETTINGS, Setting};

/// What was given, before it is resolved. Later calls for the same key win within a source.
#[derive(Debug, Default, Clone)]
pub struct Sources {
    flags: BTreeMap<String, String>,
    variables: BTreeMap<String, String>,
    file: Option<(String, BTreeMap<String, String>)>,
}

/// Where an effective value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// The command line.
    Flag,
    /// An environment variable, by name.
    Variable(String),
    /// The configuration file, by path.
    File(String),
    /// Nobody said otherwise.
    Default,
}

/// The effective text of every setting.
#[derive(Debug, Clone)]
pub struct Values(BTreeMap<&'static str, (String, Source)>);

/// A name is worth suggesting if it is this similar, on strsim's scale from 0 to 1.
const SIMILAR: f64 = 0.6;

impl Sources {
    /// A value from the command line.
    pub fn flag(&mut self, key: &str, value: impl Into<String>) {
        self.flags.insert(key.to_owned(), value.into());
    }

    /// The process's environment; only names that begin with `GATEWAY_` are looked at.
    pub fn variables(&mut self, environment: impl IntoIterator<Item = (String, String)>) {
        self.variables.extend(environment.into_iter().filter(|(name, _)| name.starts_with("GATEWAY_")));
    }

    /// A configuration file's text.
    ///
    /// # Errors
    /// When it is no TOML, or a value is neither text, number, boolean nor a list of text.
    pub fn file(&mut self, path: &str, text: &str) -> Result<(), ConfigError> {
        let table: toml::Table = text
            .parse()
            .map_err(|error: toml::de::Error| ConfigError(format!("{path}: {}", one_line(&error))))?;
        let mut values = BTreeMap::new();
        flatten(path, "", &table, &mut values)?;
        self.file = Some((path.to_owned(), values));
        Ok(())
    }

    /// Picks the effective value of every setting. Also returns a warning for each variable that sets nothing.
    ///
    /// # Errors
    /// An unknown key in the file; the message names the nearest one.
    pub fn resolve(self) -> Result<(Values, Vec<String>), ConfigError> {
        let (path, mut file) = self.file.unwrap_or_default();
        let mut variables = self.variables;
        let mut flags = self.flags;
        let mut values = BTreeMap::new();
        for setting in SETTINGS {
            let variable = setting.variable();
            let from_file = file.remove(setting.key).map(|value| (value, Source::File(path.clone())));
            let from_variable = variables.remove(&variable).map(|value| (value, Source::Variable(variable)));
            let from_flag = flags.remove(setting.key).map(|value| (value, Source::Flag));
            let default = (setting.default.to_owned(), Source::Default);
            values.insert(setting.key, from_flag.or(from_variable).or(from_file).unwrap_or(default));
        }
        if let Some((key, _)) = file.first_key_value() {
            return Err(ConfigError(format!(
                "{path}: unknown key `{}`{}",
                key.escape_debug(),
                suggestion(key, |known| known.key.to_owned())
            )));
        }
        let warnings = variables.keys().filter(|name| !is_injected(name)).map(|name| {
            let nearest = suggestion(name, Setting::variable);
            format!("environment variable {} sets nothing{nearest}", name.escape_debug())
        });
        Ok((Values(values), warnings.collect()))
    }
}

/// Kubernetes injects such names for a service called `gateway`; they are nobody's mistake.
fn is_injected(variable: &str) -> bool {
    variable == "GATEWAY_CONFIG"
        || variable.starts_with("GATEWAY_PORT")
        || variable.starts_with("GATEWAY_SERVICE_")
}

impl Values {
    /// The typed value of a setting.
    ///
    /// # Errors
    /// When the text does not parse; the message names the key, the text and where it came from.
    pub(super) fn get<T: FromSetting>(&self, key: &str) -> Result<T, ConfigError> {
        let (text, _) = &self.0[key];
        T::from_setting(text).map_err(|expected| self.error(key, &format!("is not valid: {expected}")))
    }

    /// An error about a setting's value.
    pub(super) fn error(&self, key: &str, complaint: &str) -> ConfigError {
        let (text, source) = &self.0[key];
        // Quoted with escapes: a line break in a value must not look like a line of ours.
        ConfigError(format!("{key} = {:?} ({source}) {complaint}", shown(text)))
    }

    /// Every setting with its effective text and where that came from. Whoever prints a text prints it as [`shown`].
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &str, &Source)> {
        self.0.iter().map(|(key, (text, source))| (*key, text.as_str(), source))
    }
}

/// A value as it may be printed: without the user, the password and the query of an address. No setting is a secret itself, only
/// files are.
#[must_use]
pub fn shown(text: &str) -> Cow<'_, str> {
    let Some((scheme, rest)) = text.split_once("://") else { return text.into() };
    let (place, query) = rest.split_once('?').map_or((rest, ""), |(place, _)| (place, "?***"));
    let secret =
        place.split('/').next().and_then(|host| host.rsplit_once('@')).map_or(0, |(secret, _)| secret.len());
    if secret == 0 && query.is_empty() {
        return text.into();
    }
    let hidden = if secret == 0 { "" } else { "***" };
    format!("{scheme}://{hidden}{}{query}", &place[secret..]).into()
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => formatter.write_str("from the command line"),
            Self::Variable(name) => write!(formatter, "from {name}"),
            Self::File(path) => write!(formatter, "from {path}"),
            Self::Default => formatter.write_str("default"),
        }
    }
}

fn flatten(
    path: &str,
    prefix: &str,
    table: &toml::Table,
    values: &mut BTreeMap<String, String>,
) -> Result<(), ConfigError> {
    for (name, value) in table {
        let key = format!("{prefix}{name}");
        let text = match value {
            toml::Value::Table(inner) => {
                flatten(path, &format!("{key}."), inner, values)?;
                continue;
            }
            toml::Value::String(text) => text.clone(),
            toml::Value::Integer(number) => number.to_string(),
            toml::Value::Boolean(choice) => choice.to_string(),
            toml::Value::Array(items) => {
                let texts: Option<Vec<&str>> = items.iter().map(toml::Value::as_str).collect();
                texts
                    .ok_or_else(|| {
                        ConfigError(format!("{path}: `{}` must be a list of texts", key.escape_debug()))
                    })?
                    .join(",")
            }
            _ => {
                return Err(ConfigError(format!(
                    "{path}: `{}` must be a text, a whole number or true/false",
                    key.escape_debug()
                )));
            }
        };
        values.insert(key, text);
    }
    Ok(())
}

fn suggestion(name: &str, spelling: impl Fn(&Setting) -> String) -> String {
    let nearest = SETTINGS
        .iter()
        .map(spelling)
        .map(|known| (strsim::jaro_winkler(name, &known), known))
        .max_by(|left, right| left.0.total_cmp(&right.0));
    match nearest {
        Some((similarity, known)) if similarity > SIMILAR => format!("; did you mean `{known}`?"),
        _ => String::new(),
    }
}

/// The excerpt in it is what stands in the file, whatever that is.
fn one_line(error: &toml::de::Error) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ").replace(char::is_control, " ")
}
