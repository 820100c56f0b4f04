//! What this machine says of itself: its name, its CPU, its home directory, its randomness.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::ops::RangeInclusive;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use crate::core::load::cpu::Counters;
use crate::core::protocol;
use crate::core::protocol::auth::hex;
use crate::error::Error;

/// The host's name (`uname -n`), as node and master call themselves.
///
/// # Errors
/// I/O, or a name that does not fit into the protocol.
pub fn host_name() -> Result<String, Error> {
    let path = Path::new("/proc/sys/kernel/hostname");
    let text = std::fs::read_to_string(path).map_err(|e| Error::io(path.display(), e))?;
    let name = text.trim();
    if !protocol::is_word(name) {
        let cause = format!("`{}` is empty, too long or has a space", protocol::one_line(name));
        return Err(Error::config("host name", cause));
    }
    Ok(name.to_string())
}

/// The ports among `ports` on which somebody listens whom other machines reach, by what Linux tells
/// of its sockets (proc(5)).
pub fn open_ports(ports: RangeInclusive<u16>) -> Vec<u16> {
    let text =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|file| std::fs::read_to_string(file).unwrap_or_default());
    let listeners = text.iter().flat_map(|text| text.lines().filter_map(listener_of));
    let open = listeners.filter(|(port, loopback)| ports.contains(port) && !loopback);
    let open: BTreeSet<u16> = open.map(|(port, _)| port).collect();
    open.into_iter().collect()
}

/// The port of a socket that listens, and whether its address is this machine's alone.
fn listener_of(line: &str) -> Option<(u16, bool)> {
    const LISTEN: &str = "0A";
    // Words of 32 bits in the order of little-endian machines.
    const LOOPBACK6: &str = "00000000000000000000000001000000";
    const MAPPED: &str = "0000000000000000FFFF0000";
    let mut words = line.split_ascii_whitespace().skip(1);
    let (address, port) = words.next()?.split_once(':')?;
    let listens = words.nth(1)? == LISTEN;
    let four = address.strip_prefix(MAPPED).unwrap_or(address);
    let loopback = address == LOOPBACK6 || four.len() == 8 && four.ends_with("7F");
    listens.then_some((u16::from_str_radix(port, 16).ok()?, loopback))
}

/// The home directory of this process's user by `/etc/passwd`, for where HOME is unset, as services
/// start. No other source of names is asked.
pub fn home() -> Option<String> {
    let user = std::fs::metadata("/proc/self").ok()?.uid();
    home_of(user, &std::fs::read_to_string("/etc/passwd").ok()?)
}

/// The sixth field of the entry that has `user` in the third (passwd(5)).
fn home_of(user: u32, passwd: &str) -> Option<String> {
    let user = user.to_string();
    let mut entries = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let entry = entries.find(|fields| fields.get(2) == Some(&user.as_str()))?;
    let home = entry.get(5).filter(|home| home.starts_with('/'))?;
    Some(home.to_string())
}

/// `/dev/urandom`, held open: it must not fail when there is no file descriptor left.
#[derive(Debug)]
pub struct Random(File);

impl Random {
    /// # Errors
    /// I/O.
    pub fn open() -> Result<Random, Error> {
        let file = File::open("/dev/urandom").map_err(|e| Error::io("/dev/urandom", e))?;
        Ok(Random(file))
    }

    /// 16 bytes that nobody can guess, in hex.
    ///
    /// # Errors
    /// I/O: without it nothing can be kept secret.
    pub fn nonce(&self) -> Result<String, Error> {
        let mut bytes = [0; 16];
        (&self.0)
            .read_exact(&mut bytes)
            .map_err(|e| Error::io("/dev/urandom", e))?;
        Ok(hex(&bytes))
    }
}

/// A nonce, for one who needs no other.
///
/// # Errors
/// I/O, as [`Random`].
pub fn nonce() -> Result<String, Error> {
    Random::open()?.nonce()
}

/// 12 hex digits that are this machine's alone, and stay: of its id (machine-id(5)) and the addresses of
/// its network interfaces, since machines made from one image share the former.
pub fn fingerprint() -> String {
    let read = |path: &Path| {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        text.trim().to_string()
    };
    let mut text = read(Path::new("/etc/machine-id"));
    let interfaces = std::fs::read_dir("/sys/class/net").into_iter().flatten();
    let mut used: Vec<PathBuf> = interfaces.flatten().map(|entry| entry.path()).collect();
    // Others come and go with containers.
    let is_real = |path: &PathBuf| path.join("device").exists();
    if used.iter().any(is_real) {
        used.retain(is_real);
    }
    let mut addresses: Vec<String> = used.iter().map(|path| read(&path.join("address"))).collect();
    addresses.sort();
    text += &addresses.join(" ");
    hex(&Sha256::digest(text)[..6])
}

/// How many files this process may have open, sockets among them: the soft limit of `proc(5)`'s
/// `limits`.
pub fn most_open_files() -> Option<usize> {
    let limits = std::fs::read_to_string("/proc/self/limits").ok()?;
    let line = limits.lines().find_map(|l| l.strip_prefix("Max open files"))?;
    match line.split_ascii_whitespace().next()? {
        "unlimited" => Some(usize::MAX),
        number => number.parse().ok(),
    }
}

/// The address of this machine from which packets to `there` leave.
///
/// # Errors
/// I/O: there is no way.
pub fn address_towards(there: SocketAddr) -> io::Result<IpAddr> {
    let from = if there.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    // Connecting a datagram socket sends nothing: the kernel only picks the way.
    let socket = UdpSocket::bind(from)?;
    socket.connect(there)?;
    Ok(socket.local_addr()?.ip())
}

/// Is `address` one of this machine's own?
pub fn is_own(address: IpAddr) -> bool {
    // Not by binding to it: where addresses fail over, ip_nonlocal_bind lets everybody.
    address.is_loopback() || address_towards((address, 9).into()).is_ok_and(|from| from == address)
}

/// `<procfs>/stat`, read again and again into the same memory.
pub struct StatFile {
    path: PathBuf,
    text: Vec<u8>,
}

impl StatFile {
    pub fn new(procfs: &Path) -> StatFile {
        StatFile {
            path: procfs.join("stat"),
            text: vec![0; 16 * 1024],
        }
    }

    /// The CPU's counters.
    ///
    /// # Errors
    /// I/O, or a text that is not `proc(5)`'s, named after the file.
    pub fn read(&mut self) -> Result<Counters, Error> {
        let length = self.fill().map_err(|e| Error::io(self.path.display(), e))?;
        let text = String::from_utf8_lossy(&self.text[..length]);
        Counters::parse(&text).map_err(|cause| Error::io(self.path.display(), cause))
    }

    /// Reads until the lines about CPUs, which come first, are complete.
    fn fill(&mut self) -> io::Result<usize> {
        let mut file = File::open(&self.path)?;
        let mut length = 0;
        loop {
            let read = file.read(&mut self.text[length..])?;
            length += read;
            if read == 0 || self.text[..length].windows(5).any(|w| w == b"\nintr") {
                return Ok(length);
            }
            if length == self.text.len() {
                self.text.resize(2 * length, 0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_listens_for_others() {
        for (line, found) in [
            (
                "   0: 0100007F:FF98 00000000:0000 0A 00000000:00000000 00:0 0 0 0 1",
                Some((65432, true)),
            ),
            (
                "   1: 00000000:FF98 00000000:0000 0A 00000000:00000000 00:0 0 0 0 1",
                Some((65432, false)),
            ),
            (
                "   1: 0500000A:FF98 00000000:0000 0A 00000000:00000000 00:0 0 0 0 1",
                Some((65432, false)),
            ),
            (
                "   2: 00000000:FF98 00000000:0000 01 00000000:00000000 00:0 0 0 0 1",
                None,
            ),
            (
                "   0: 00000000000000000000000001000000:FF98 00000000000000000000000000000000:0000 0A 0:0",
                Some((65432, true)),
            ),
            (
                "   0: 00000000000000000000000000000000:FF98 00000000000000000000000000000000:0000 0A 0:0",
                Some((65432, false)),
            ),
            ("  sl  local_address rem_address   st tx_queue rx_queue", None),
            ("", None),
        ] {
            assert_eq!(listener_of(line), found, "{line}");
        }
    }

    #[test]
    fn the_home_of_a_user() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n# a comment\n+::::::\napp:x:1000:1000:An app,,,:/srv/app:/bin/false\n\
            none:x:1001:1001:::\n";
        assert_eq!(home_of(0, passwd).as_deref(), Some("/root"));
        assert_eq!(home_of(1000, passwd).as_deref(), Some("/srv/app"));
        assert_eq!(home_of(1001, passwd), None);
        assert_eq!(home_of(100, passwd), None);
    }
}
