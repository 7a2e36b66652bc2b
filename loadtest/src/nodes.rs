//! The nodes of the target: one address, or those of several gateways that share one log.
//!
//! Whoever is turned away by one goes to the next. Positions and keys mean the same on each of them.

use std::fmt;
use std::str::FromStr;

use reqwest::Url;

/// At least one address. The first one is the one that is asked for metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nodes(Vec<Url>);

impl Nodes {
    /// A target that is one process.
    #[must_use]
    pub fn one(url: Url) -> Self {
        Self(vec![url])
    }

    /// The address that stands for all of them.
    #[must_use]
    pub fn first(&self) -> &Url {
        &self.0[0]
    }

    /// All addresses, in the order in which they are tried.
    #[must_use]
    pub fn all(&self) -> &[Url] {
        &self.0
    }

    /// Whether all of them are on this machine.
    #[must_use]
    pub fn are_on_loopback(&self) -> bool {
        self.0.iter().all(|url| match url.host_str() {
            Some("localhost") => true,
            Some(host) => {
                host.trim_matches(['[', ']']).parse().is_ok_and(|ip: std::net::IpAddr| ip.is_loopback())
            }
            None => false,
        })
    }
}

impl FromStr for Nodes {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let urls: Vec<Url> = text.split(',').map(http_url).collect::<Result<_, _>>()?;
        // A target that stood there twice would be tried twice before another one.
        if let Some(twice) = urls.iter().enumerate().find(|(at, url)| urls[..*at].contains(url)) {
            return Err(format!("{} is there twice", twice.1));
        }
        Ok(Self(urls))
    }
}

impl fmt::Display for Nodes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let urls: Vec<&str> = self.0.iter().map(Url::as_str).collect();
        formatter.write_str(&urls.join(", "))
    }
}

/// Reads the address of a server that speaks HTTP.
///
/// # Errors
/// When it is none, in words.
pub fn http_url(text: &str) -> Result<Url, String> {
    let url: Url = text.parse().map_err(|error| format!("no address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return Err("not http://… or https://…".to_owned());
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_addresses_are_separated_by_commas_and_each_is_checked() {
        let nodes: Nodes = "http://127.0.0.1:1,http://localhost:2".parse().unwrap();
        assert_eq!((nodes.all().len(), nodes.first().port()), (2, Some(1)));
        assert!(nodes.are_on_loopback());
        assert!(!"http://127.0.0.1:1,http://192.0.2.1:1".parse::<Nodes>().unwrap().are_on_loopback());
        for wrong in ["", "http://a,", "http://a,ftp://b", "http://a,http://a/"] {
            assert!(wrong.parse::<Nodes>().is_err(), "{wrong}");
        }
    }
}
