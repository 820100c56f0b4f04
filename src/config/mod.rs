//! `autoscaler.ini`: text in, typed settings out, every complaint with its file and line.

mod difference;
mod keys;
mod notify;
mod parse;
mod secrets;
mod values;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::core::haproxy::entry::parse_port as port;
use crate::core::text::words;
use crate::error::Error;
pub use keys::KEYS;
use parse::{
    address, backend, cluster_name, count, health_check, listen, not_empty, over_zero, percent, ports,
    server_line, servers, socket, ssh_user, url,
};
pub use secrets::{is_secret, others_may_read};
pub use values::Place;
use values::{Source, Values};

/// All settings. Every key has a value: its own or the default.
#[derive(Debug)]
pub struct Config {
    /// The INI file; `hosts.d/` and the template stand beside it.
    pub path: PathBuf,
    pub aws: Aws,
    pub machine: Machine,
    pub scaling: Scaling,
    pub master: Master,
    pub cluster: Cluster,
    pub haproxy: Haproxy,
    pub notify: notify::Notify,
    file: difference::Texts,
}

/// `[aws]`; an empty text is an unset key.
pub struct Aws {
    pub access_key: String,
    pub secret_key: String,
    pub session_token: String,
    pub region: String,
    pub endpoint_url: String,
    pub ca_bundle: String,
    pub metadata_url: String,
}

/// `[machine]`.
#[derive(Debug)]
pub struct Machine {
    pub scale_up_command: String,
    pub scale_up_at: Place,
    /// Empty: this instance is terminated.
    pub scale_down_command: String,
    pub scale_down_at: Place,
    /// Empty: it is found out.
    pub address: Option<IpAddr>,
    pub port: u16,
    pub health_check: HealthCheck,
    pub boot_timeout: Duration,
    pub fallback_subnet_ids: Vec<String>,
    pub fallback_instance_types: Vec<String>,
}

/// What a new machine must answer before HAProxy is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HealthCheck {
    /// The port takes a connection.
    Tcp,
    /// `GET` of this path is answered with 2xx or 3xx.
    Http { path: String },
}

/// `[scaling]`.
#[derive(Debug)]
pub struct Scaling {
    /// Percent, over 0 to 100.
    pub threshold: f64,
    pub sample_interval: Duration,
    pub window: Duration,
    pub cooldown: Duration,
    pub max_hosts: usize,
    pub min_hosts: usize,
    /// The most machines of one scale-up; 0: as many as are missing.
    pub max_step: usize,
    /// How long every HAProxy has a machine DOWN before it is terminated; zero: never.
    pub replace_after: Duration,
    /// 0: no limit.
    pub max_launches_per_day: usize,
    /// Percent; 0: never leave.
    pub scale_down_threshold: f64,
    pub scale_down_window: Duration,
    pub scale_down_cooldown: Duration,
    /// How long a leaving server may take to finish its requests.
    pub drain_timeout: Duration,
    pub procfs: PathBuf,
}

/// `[master]`.
#[derive(Debug)]
pub struct Master {
    pub listen: SocketAddr,
    pub tunnel_ports: RangeInclusive<u16>,
    pub lease: Duration,
    pub state: PathBuf,
}

impl Master {
    /// The directory in which the host key of each entry's machine is kept, by the entry's name.
    pub fn known_hosts(&self) -> PathBuf {
        self.state.join("known_hosts")
    }
}

/// `[cluster]`.
pub struct Cluster {
    pub name: String,
    /// Whether the file sets the name: clusters that do not may share one, and an account.
    pub is_named: bool,
    secrets: Vec<String>,
}

impl Cluster {
    /// None: nodes and masters take each other's word. Two: the new one and the old, while one
    /// replaces the other.
    pub fn secrets(&self) -> &[String] {
        &self.secrets
    }
}

/// `[haproxy]`.
#[derive(Debug)]
pub struct Haproxy {
    pub servers: Vec<String>,
    /// Empty: ssh decides.
    pub ssh_user: String,
    pub ssh_params: Vec<String>,
    pub ssh_command: Vec<String>,
    pub remote_command: String,
    pub server_line: String,
    pub config: Option<PathBuf>,
    pub check_command: String,
    pub socket: Socket,
    /// A backend or listen section that has to be there, if the INI names one.
    pub backend: Option<String>,
    pub reload_command: String,
}

/// HAProxy's admin socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Socket {
    Path(PathBuf),
    Address(SocketAddr),
}

impl fmt::Display for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Socket::Path(path) => path.display().fmt(f),
            Socket::Address(address) => address.fmt(f),
        }
    }
}

impl Config {
    /// Reads the settings out of `text`, which stands in the file `path`.
    ///
    /// # Errors
    /// The first thing wrong, as `<file>:<line>: …`.
    pub fn parse(path: &Path, text: &str) -> Result<Config, Error> {
        Config::parse_with(path, text, &[])
    }

    /// The same, with these keys of `[scaling]` set on the command line, whatever the file says.
    ///
    /// # Errors
    /// As above; usage, where the command line's values are wrong.
    pub fn parse_with(path: &Path, text: &str, scaling: &[(&str, &str)]) -> Result<Config, Error> {
        Config::read(path, text, Source::CommandLine, scaling)
    }

    fn read(path: &Path, text: &str, source: Source, scaling: &[(&str, &str)]) -> Result<Config, Error> {
        let mut v = Values::read(path, text, KEYS, source)?;
        let file = difference::Texts::of(&v);
        for (key, value) in scaling {
            v.set("scaling", key, value);
        }
        let config = Config {
            path: path.into(),
            aws: Aws {
                access_key: v.text("aws", "aws_access_key"),
                secret_key: v.text("aws", "aws_secret_key"),
                session_token: v.text("aws", "aws_session_token"),
                region: v.text("aws", "aws_default_region"),
                endpoint_url: v.parsed("aws", "endpoint_url", url)?,
                ca_bundle: v.text("aws", "ca_bundle"),
                metadata_url: v.parsed("aws", "metadata_url", url)?,
            },
            machine: Machine {
                scale_up_command: v.text("machine", "scale_up_command"),
                scale_up_at: v.place("machine", "scale_up_command"),
                scale_down_command: v.text("machine", "scale_down_command"),
                scale_down_at: v.place("machine", "scale_down_command"),
                address: v.parsed("machine", "address", address)?,
                port: v.parsed("machine", "port", port)?,
                health_check: v.parsed("machine", "health_check", health_check)?,
                boot_timeout: v.duration("machine", "boot_timeout")?,
                fallback_subnet_ids: v.list("machine", "fallback_subnet_ids"),
                fallback_instance_types: v.list("machine", "fallback_instance_types"),
            },
            scaling: Scaling {
                threshold: v.parsed("scaling", "threshold", |t| percent(t).and_then(over_zero))?,
                sample_interval: v.duration("scaling", "sample_interval")?,
                window: v.duration("scaling", "window")?,
                cooldown: v.duration("scaling", "cooldown")?,
                max_hosts: v.parsed("scaling", "max_hosts", count)?,
                min_hosts: v.parsed("scaling", "min_hosts", count)?,
                max_step: v.parsed("scaling", "max_step", count)?,
                replace_after: v.duration("scaling", "replace_after")?,
                max_launches_per_day: v.parsed("scaling", "max_launches_per_day", count)?,
                scale_down_threshold: v.parsed("scaling", "scale_down_threshold", percent)?,
                scale_down_window: v.duration("scaling", "scale_down_window")?,
                scale_down_cooldown: v.duration("scaling", "scale_down_cooldown")?,
                drain_timeout: v.duration("scaling", "drain_timeout")?,
                procfs: v.text("scaling", "procfs").into(),
            },
            master: Master {
                listen: v.parsed("master", "listen", listen)?,
                tunnel_ports: v.parsed("master", "tunnel_ports", ports)?,
                lease: v.duration("master", "lease")?,
                state: v.text("master", "state").into(),
            },
            cluster: Cluster {
                name: v.parsed("cluster", "name", cluster_name)?,
                is_named: v.is_set("cluster", "name"),
                secrets: secrets::split(&v.text("cluster", "secret")),
            },
            haproxy: Haproxy {
                servers: v.parsed("haproxy", "servers", servers)?,
                ssh_user: v.parsed("haproxy", "ssh_user", ssh_user)?,
                ssh_params: v.parsed("haproxy", "ssh_params", words::quoted)?,
                ssh_command: v.parsed("haproxy", "ssh_command", |t| words::quoted(t).and_then(not_empty))?,
                remote_command: v.text("haproxy", "remote_command"),
                server_line: v.parsed("haproxy", "server_line", server_line)?,
                config: Some(v.text("haproxy", "config"))
                    .filter(|c| !c.is_empty())
                    .map(PathBuf::from),
                check_command: v.text("haproxy", "check_command"),
                socket: v.parsed("haproxy", "socket", socket)?,
                backend: Some(v.parsed("haproxy", "backend", backend)?)
                    .filter(|_| v.is_set("haproxy", "backend")),
                reload_command: v.text("haproxy", "reload_command"),
            },
            notify: notify::Notify::read(&v)?,
            file,
        };
        config.check(&v)?;
        Ok(config)
    }

    /// The rules that span keys.
    fn check(&self, v: &Values) -> Result<(), Error> {
        if self.scaling.window < self.scaling.sample_interval {
            return Err(v.error("scaling", "window", "must not be shorter than sample_interval"));
        }
        if self.scaling.scale_down_window < self.scaling.sample_interval {
            return Err(v.error(
                "scaling",
                "scale_down_window",
                "must not be shorter than sample_interval",
            ));
        }
        if self.scaling.scale_down_threshold >= self.scaling.threshold {
            return Err(v.error(
                "scaling",
                "scale_down_threshold",
                "must be under threshold, or machines would come and go for ever",
            ));
        }
        if self.scaling.sample_interval < Duration::from_millis(10) {
            return Err(v.error(
                "scaling",
                "sample_interval",
                "must be at least 10ms, the tick of /proc/stat",
            ));
        }
        if self.master.lease < Duration::from_secs(1) {
            return Err(v.error("master", "lease", "must be at least 1s"));
        }
        if self.machine.boot_timeout.is_zero() {
            return Err(v.error("machine", "boot_timeout", "must be over zero"));
        }
        if self.scaling.min_hosts > self.scaling.max_hosts {
            return Err(v.error("scaling", "min_hosts", "must not be over max_hosts"));
        }
        if !self.master.listen.ip().is_loopback() && self.cluster.secrets.is_empty() {
            return Err(v.error(
                "master",
                "listen",
                "outside loopback needs a [cluster] secret, or anyone may ask for the lease",
            ));
        }
        Ok(())
    }

    /// The directory that holds the INI, `hosts.d/` and the template.
    pub fn dir(&self) -> &Path {
        dir_of(&self.path)
    }
}

/// The directory of the INI at `path`.
pub fn dir_of(path: &Path) -> &Path {
    let dir = path.parent().filter(|dir| *dir != Path::new(""));
    dir.unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests;
