//! What a value may be: the text of one in, its type out, or what is wrong with it.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use super::{HealthCheck, Socket};
use crate::core::haproxy::entry::{check_host, parse_port as port};

/// An HTTP URL without its last slash, or nothing.
pub fn url(text: &str) -> Result<String, String> {
    let rest = text
        .strip_prefix("http://")
        .or_else(|| text.strip_prefix("https://"));
    match rest {
        _ if text.is_empty() => Ok(String::new()),
        Some(rest) if !rest.is_empty() && !rest.contains(char::is_whitespace) => {
            Ok(text.trim_end_matches('/').into())
        }
        _ => Err("must begin with http:// or https://".into()),
    }
}

pub fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = port(first.trim())?..=port(last.trim())?;
    if range.is_empty() {
        return Err("ends before it begins".into());
    }
    if range.len() > 64 {
        return Err("has more than 64 ports; a master takes one, so 8 are plenty".into());
    }
    Ok(range)
}

pub fn health_check(text: &str) -> Result<HealthCheck, String> {
    match text.split_once(':') {
        None if text == "tcp" => Ok(HealthCheck::Tcp),
        Some(("http", path)) if path.starts_with('/') && path.bytes().all(|b| b.is_ascii_graphic()) => {
            Ok(HealthCheck::Http { path: path.into() })
        }
        _ => Err("is `tcp` or `http:/path`".into()),
    }
}

pub fn percent(text: &str) -> Result<f64, String> {
    text.trim_end_matches('%')
        .trim_end_matches(' ')
        .parse()
        .ok()
        .filter(|p| (0.0..=100.0).contains(p))
        .ok_or_else(|| format!("`{text}` is not a percentage from 0 to 100"))
}

pub fn over_zero(percent: f64) -> Result<f64, String> {
    if percent > 0.0 {
        Ok(percent)
    } else {
        Err("must be over 0: at 0 it would scale for ever".into())
    }
}

pub fn count(text: &str) -> Result<usize, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not a whole number"))
}

pub fn address(text: &str) -> Result<Option<IpAddr>, String> {
    match text.parse() {
        _ if text.is_empty() => Ok(None),
        Ok(address) => Ok(Some(address)),
        Err(_) => Err(format!("`{text}` is not an IP address")),
    }
}

pub fn listen(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| format!("`{text}` is not <address>:<port>, as in 127.0.0.1:65432"))
}

pub fn cluster_name(text: &str) -> Result<String, String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
    if (1..=64).contains(&text.len()) && text.bytes().all(ok) {
        Ok(text.into())
    } else {
        Err("takes 1 to 64 letters, digits, `-`, `_` and `.`".into())
    }
}

pub fn servers(text: &str) -> Result<Vec<String>, String> {
    text.split([',', ' ', '\t', '\n'])
        .filter(|host| !host.is_empty())
        .map(|host| match check_host(host) {
            Ok(()) => Ok(host.to_string()),
            Err(cause) if host.contains(':') => {
                Err(format!("{cause}; ssh's port goes into ssh_params, as -p"))
            }
            Err(cause) => Err(cause),
        })
        .collect()
}

pub fn ssh_user(text: &str) -> Result<String, String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.+\\".contains(&b);
    match text.bytes().all(ok) && !text.starts_with('-') {
        true => Ok(text.into()),
        false => Err(format!("`{text}` is not a user name")),
    }
}

pub fn server_line(text: &str) -> Result<String, String> {
    match text.split_ascii_whitespace().next() {
        Some("server") if text.contains("$NAME") && text.contains("$IP") && !text.contains('\n') => {
            Ok(text.into())
        }
        _ => Err("must be one line such as `server $NAME $IP:$PORT check`".into()),
    }
}

pub fn backend(text: &str) -> Result<String, String> {
    let ok = |b: u8| b.is_ascii_alphanumeric() || b"-_.:".contains(&b);
    if !text.is_empty() && text.bytes().all(ok) {
        Ok(text.into())
    } else {
        Err("takes letters, digits, `-`, `_`, `.` and `:`".into())
    }
}

pub fn socket(text: &str) -> Result<Socket, String> {
    match text.parse() {
        Ok(address) => Ok(Socket::Address(address)),
        Err(_) if text.contains(':') && !text.contains('/') => Err(format!(
            "`{text}` is neither a path nor <address>:<port>, as in 127.0.0.1:9999"
        )),
        Err(_) => Ok(Socket::Path(text.into())),
    }
}

pub fn not_empty(words: Vec<String>) -> Result<Vec<String>, String> {
    if words.is_empty() {
        Err("must not be empty".into())
    } else {
        Ok(words)
    }
}
