//! Access control: the API key, and the `Host` and `Origin` headers that a browser sends.
//!
//! A page of another site can make a visitor's browser send requests to this machine, and by DNS
//! rebinding even read the answers. The headers give such requests away: `Origin` names the other
//! site, and after rebinding `Host` does.

use std::net::IpAddr;

use axum::http::{HeaderMap, Uri, header};

use crate::error::ServeError;

/// The API key that clients must send.
#[derive(Clone)]
pub struct ApiKey(String);

impl std::fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ApiKey(..)")
    }
}

impl ApiKey {
    /// Fewest characters of a key.
    const LEAST: usize = 16;

    /// A key that is long enough not to be guessed.
    ///
    /// # Errors
    /// If it is shorter than 16 characters, or cannot be sent in a header.
    pub fn new(key: impl Into<String>) -> Result<Self, ServeError> {
        let key = key.into();
        if key.len() < Self::LEAST || !key.bytes().all(|b| b.is_ascii_graphic()) {
            let reason = format!("expected at least {} ASCII characters without spaces", Self::LEAST);
            return Err(ServeError::Config(format!("the API key cannot be used: {reason}")));
        }
        Ok(Self(key))
    }

    /// Whether `headers` have the key. Takes a time that does not depend on where the first
    /// difference is.
    pub fn is_shown(&self, headers: &HeaderMap) -> bool {
        let shown = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some(shown) = shown.and_then(|value| value.strip_prefix("Bearer ")) else { return false };
        let differences = self.0.bytes().zip(shown.trim().bytes()).fold(0, |all, (a, b)| all | (a ^ b));
        shown.trim().len() == self.0.len() && differences == 0
    }
}

/// The checks that every request must pass.
#[derive(Debug, Clone)]
pub struct Access {
    key: Option<ApiKey>,
    /// Hosts that `Host` may name; any host if it is empty.
    hosts: Vec<String>,
}

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refused {
    /// A page of another site sent it, or its `Host` is not this server.
    Foreign(String),
    /// It does not have the key.
    Key,
}

impl Access {
    /// The checks of a server that listens on `address`.
    ///
    /// # Errors
    /// If other machines can reach the address, and there is no key.
    pub fn new(address: IpAddr, key: Option<ApiKey>) -> Result<Self, ServeError> {
        if address.is_loopback() {
            let hosts = ["localhost".to_owned(), address.to_string(), "127.0.0.1".to_owned(), "::1".to_owned()];
            return Ok(Self { key, hosts: hosts.into() });
        }
        if key.is_none() {
            return Err(ServeError::Config(format!(
                "{address} can be reached by other machines, and there is no API key; put one into an environment variable and \
                 pass the variable's name as --api-key-env, or listen on 127.0.0.1"
            )));
        }
        // Any name of this machine will do: a page of another site does not have the key.
        Ok(Self { key, hosts: Vec::new() })
    }

    /// Whether requests need a key.
    pub fn has_key(&self) -> bool {
        self.key.is_some()
    }

    /// Checks a request with these headers; `needs_key` is false for routes that anyone may see.
    ///
    /// # Errors
    /// Why the request is refused.
    pub fn check(&self, headers: &HeaderMap, uri: &Uri, needs_key: bool) -> Result<(), Refused> {
        let host = headers.get(header::HOST).map(|value| value.to_str().unwrap_or("?").to_owned());
        // HTTP/1.1 requires the header; a request line in absolute form names the host, too.
        let host = host.or_else(|| uri.authority().map(ToString::to_string));
        let host = host.ok_or_else(|| Refused::Foreign("the request has no Host".into()))?;
        if !self.hosts.is_empty() && !self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name(&host))) {
            return Err(Refused::Foreign(format!("{host:?} is not a name of this server")));
        }
        if let Some(origin) = headers.get(header::ORIGIN) {
            let origin = origin.to_str().unwrap_or("?");
            let from = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            if !from.is_some_and(|from| from.eq_ignore_ascii_case(&host)) {
                return Err(Refused::Foreign(format!("a page of {origin:?} may not send requests to {host:?}")));
            }
        }
        match &self.key {
            Some(key) if needs_key && !key.is_shown(headers) => Err(Refused::Key),
            _ => Ok(()),
        }
    }
}

/// The host without its port: the name of `name:port`, or the address of `[address]:port`.
fn name(host: &str) -> &str {
    if let Some((address, _)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address;
    }
    match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit()) => name,
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(header::HeaderName, &str)]) -> HeaderMap {
        all.iter().map(|(name, value)| (name.clone(), value.parse().unwrap())).collect()
    }

    fn check(access: &Access, all: &[(header::HeaderName, &str)]) -> Result<(), Refused> {
        access.check(&headers(all), &Uri::from_static("/"), true)
    }

    #[test]
    fn a_server_that_others_can_reach_needs_a_key() {
        for address in ["0.0.0.0", "192.168.0.7", "::"] {
            let error = Access::new(address.parse().unwrap(), None).unwrap_err().to_string();
            assert!(error.contains("--api-key-env"), "{error}");
            let key = ApiKey::new("0123456789abcdef").unwrap();
            assert!(Access::new(address.parse().unwrap(), Some(key)).is_ok());
        }
        assert!(Access::new("127.0.0.1".parse().unwrap(), None).is_ok());
    }

    #[test]
    fn short_keys_and_keys_with_spaces_are_refused_and_none_is_printed() {
        assert!(ApiKey::new("short").is_err());
        assert!(ApiKey::new("0123456789abcdef ").is_err());
        assert_eq!(format!("{:?}", ApiKey::new("0123456789abcdef").unwrap()), "ApiKey(..)");
    }

    #[test]
    fn only_names_of_this_machine_are_served_on_loopback() {
        let access = Access::new("127.0.0.1".parse().unwrap(), None).unwrap();
        for host in ["127.0.0.1", "127.0.0.1:8080", "localhost:1", "LOCALHOST", "[::1]:8080"] {
            assert_eq!(check(&access, &[(header::HOST, host)]), Ok(()), "{host}");
        }
        for host in ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "localhost:80:80", ""] {
            assert!(check(&access, &[(header::HOST, host)]).is_err(), "{host}");
        }
        assert!(check(&access, &[]).is_err());
    }

    #[test]
    fn pages_of_other_sites_are_refused() {
        let access = Access::new("127.0.0.1".parse().unwrap(), None).unwrap();
        let host = (header::HOST, "localhost:8080");
        assert_eq!(check(&access, &[host.clone(), (header::ORIGIN, "http://localhost:8080")]), Ok(()));
        for origin in ["https://evil.example", "null", "http://localhost:8081", "http://localhost:8080.evil.example"] {
            assert!(check(&access, &[host.clone(), (header::ORIGIN, origin)]).is_err(), "{origin}");
        }
    }

    #[test]
    fn only_the_whole_key_opens() {
        let key = ApiKey::new("0123456789abcdef").unwrap();
        let access = Access::new("0.0.0.0".parse().unwrap(), Some(key)).unwrap();
        let host = (header::HOST, "anything.example");
        let with = |value: &str| check(&access, &[host.clone(), (header::AUTHORIZATION, value)]);
        assert_eq!(with("Bearer 0123456789abcdef"), Ok(()));
        for wrong in ["Bearer 0123456789abcde", "Bearer 0123456789abcdefg", "Bearer ", "0123456789abcdef", "Basic x"] {
            assert_eq!(with(wrong), Err(Refused::Key), "{wrong}");
        }
        assert_eq!(check(&access, std::slice::from_ref(&host)), Err(Refused::Key));
        assert_eq!(access.check(&headers(&[host]), &Uri::from_static("/"), false), Ok(()));
    }
}
