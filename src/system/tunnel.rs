//! One `ssh -R` tunnel per app server: from a port of its loopback to this master.
//!
//! What runs at the far end is `cat` on a pipe from here. It echoes a line that nobody else can know,
//! which shows that the whole way works, and that no other program was put in its place; and when this process dies, however suddenly, its end of the pipe closes,
//! `cat` ends, and ssh with it.

use std::fs;
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use super::ssh::Ssh;
use super::{child, lock, machine};
use crate::core::backoff::Backoff;
use crate::core::protocol::one_line;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A tunnel that stood for this long was a good one: the next failure is a new one.
const HEALTHY: Duration = Duration::from_secs(20);
/// What ssh says when the far end does not give it the port, and what Dropbear's does.
const PORT_REFUSED: [&str; 2] = [
    "remote port forwarding failed",
    "Remote TCP forward request failed",
];
/// What ssh says of a host that shows another key than before.
const OTHER_KEY: [&str; 2] = ["Host key verification failed", "IDENTIFICATION HAS CHANGED"];
/// From the start of ssh to the echo.
const ECHO: Duration = Duration::from_secs(20);
/// What the far end may print before the echo, in bytes: the greeting of a shell.
const GREETING: usize = 4096;

/// Where a tunnel leads and what it needs.
#[derive(Debug, Clone)]
pub struct Route {
    pub host: String,
    /// Whose machine that is. Another one at the same address has another key.
    pub instance: Option<String>,
    /// The ports to try at the far end.
    pub ports: RangeInclusive<u16>,
    /// `<address>:<port>` of this master.
    pub target: String,
    /// Where this entry's host key is kept.
    pub known_hosts: PathBuf,
}

/// A change of one tunnel.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    Up {
        port: u16,
    },
    /// Down, or still not up: why, and when it is tried again.
    Down {
        why: String,
        wait: Duration,
    },
}

/// A running tunnel; it ends when this is dropped.
pub struct Tunnel {
    route: Route,
    running: Arc<Mutex<Running>>,
    /// Dropped to wake the keeper out of its back-off.
    _wake: Sender<()>,
}

#[derive(Default)]
struct Running {
    child: Option<Child>,
    stopped: bool,
}

impl Tunnel {
    /// Keeps a tunnel up on a thread of its own; `changed` hears of each change.
    pub fn keep(ssh: Ssh, route: Route, changed: impl Fn(Change) + Send + 'static) -> Tunnel {
        let running = Arc::new(Mutex::new(Running::default()));
        let (wake, woken) = mpsc::channel();
        let tunnel = Tunnel {
            route: route.clone(),
            running: Arc::clone(&running),
            _wake: wake,
        };
        thread::spawn(move || keep(&ssh, &route, &running, &woken, changed));
        tunnel
    }

    /// The host that it leads to.
    pub fn host(&self) -> &str {
        &self.route.host
    }

    /// Does it lead to this host and machine?
    pub fn leads_to(&self, host: &str, instance: Option<&str>) -> bool {
        self.route.host == host && self.route.instance.as_deref() == instance
    }

    /// Ends it for one that leads to this host and machine in its place. The key is forgotten unless
    /// it may be the same machine.
    pub fn give_way(self, host: &str, instance: Option<&str>) {
        let another = self
            .route
            .instance
            .as_deref()
            .zip(instance)
            .is_some_and(|(a, b)| a != b);
        if another || self.route.host != host {
            self.forget();
        }
    }

    /// Ends it for good: the entry is gone, and so is what was remembered of its key.
    pub fn forget(self) {
        let _ = fs::remove_file(&self.route.known_hosts);
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        let mut running = lock(&self.running);
        running.stopped = true;
        if let Some(child) = &mut running.child {
            let _ = child.kill();
        }
    }
}

fn keep(ssh: &Ssh, route: &Route, running: &Mutex<Running>, woken: &Receiver<()>, changed: impl Fn(Change)) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let why = match one_round(ssh, route, running, &mut backoff, &changed) {
            End::Other(why) => why,
            // Is it the port, or the whole of it? The same without a port tells.
            End::PortRefused => match attempt(ssh, route, None, running, &|_| {}).end {
                End::Other(why) if !why.is_empty() => why,
                _ => no_port(&ssh.destination(&route.host), &route.ports),
            },
        };
        if lock(running).stopped {
            return;
        }
        let wait = backoff.failed();
        changed(Change::Down { why, wait });
        if woken.recv_timeout(wait) == Err(mpsc::RecvTimeoutError::Disconnected) {
            return;
        }
    }
}

/// Tries the ports one after another, and keeps the tunnel that comes up until it ends.
fn one_round(
    ssh: &Ssh,
    route: &Route,
    running: &Mutex<Running>,
    backoff: &mut Backoff,
    changed: &impl Fn(Change),
) -> End {
    for port in route.ports.clone() {
        let attempt = attempt(ssh, route, Some(port), running, changed);
        if attempt.stood >= HEALTHY {
            backoff.reset();
        }
        match attempt.end {
            End::PortRefused => {}
            other => return other,
        }
    }
    End::PortRefused
}

fn no_port(destination: &str, ports: &RangeInclusive<u16>) -> String {
    format!(
        "{destination} gives none of the ports {}-{}: all are taken there, or its sshd forbids it; see \
         AllowTcpForwarding and PermitListen in sshd_config, no-port-forwarding and restrict in authorized_keys",
        ports.start(),
        ports.end()
    )
}

struct Attempt {
    /// For how long the tunnel was up; zero if it never was.
    stood: Duration,
    end: End,
}

enum End {
    PortRefused,
    /// Why; empty where the far end answered and ssh was ended from here.
    Other(String),
}

/// Runs ssh once, until it ends; without a port, until the far end has answered.
fn attempt(
    ssh: &Ssh,
    route: &Route,
    port: Option<u16>,
    running: &Mutex<Running>,
    changed: &impl Fn(Change),
) -> Attempt {
    let never = |why: &str| Attempt {
        stood: Duration::ZERO,
        end: End::Other(why.into()),
    };
    let Ok(nonce) = machine::nonce() else {
        return never("no random numbers");
    };
    let forward = port.map(|port| format!("127.0.0.1:{port}:{}", route.target));
    let spawned = ssh
        .to(&route.host, Some(&route.known_hosts), forward.as_deref())
        .arg("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) => return never(&format!("ssh: {e}")),
    };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(mut stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        child::end(&mut child);
        return never("ssh: no pipes");
    };
    {
        let mut running = lock(running);
        if running.stopped {
            child::end(&mut child);
            return never("stopped");
        }
        running.child = Some(child);
    }
    // On its own thread, so that neither stream can fill up and hold ssh back.
    let complaint = thread::spawn(move || child::kept(stderr));
    let line = format!("autoscaler {nonce}\n");
    let written = stdin.write_all(line.as_bytes()).is_ok();
    let heard = match written {
        true => thread::scope(|scope| {
            let (done, waited) = mpsc::channel::<()>();
            scope.spawn(move || kill_unless_done(running, &waited));
            let heard = listen(&mut stdout, &line);
            drop(done);
            heard
        }),
        false => Heard::Else(String::new()),
    };
    let up = matches!(heard, Heard::Echo).then(Instant::now);
    if let (Some(_), Some(port)) = (up, port) {
        changed(Change::Up { port });
        // By the piece and not by the line: an app server that was taken over may send one without end.
        let mut piece = [0; 64];
        while matches!(stdout.read(&mut piece), Ok(1..)) {}
    }
    drop(stdin);
    if let Some(mut child) = lock(running).child.take() {
        child::end(&mut child);
    }
    let complaint = complaint.join().unwrap_or_default();
    Attempt {
        stood: up.map_or(Duration::ZERO, |since| since.elapsed()),
        end: match (up, port) {
            (Some(_), None) => End::Other(String::new()),
            _ => reason(&heard, &complaint, route),
        },
    }
}

/// What came through the tunnel first.
enum Heard {
    Echo,
    /// Something else, or nothing, to its end.
    Else(String),
}

/// Reads until `line` has come, alone or after other lines.
fn listen(stdout: &mut impl Read, line: &str) -> Heard {
    let mut text = Vec::new();
    let mut piece = [0; 64];
    while let Ok(n @ 1..) = stdout.read(&mut piece) {
        text.extend_from_slice(&piece[..n]);
        if text.ends_with(line.as_bytes()) {
            return Heard::Echo;
        }
        if text.len() > GREETING {
            break;
        }
    }
    Heard::Else(String::from_utf8_lossy(&text).into_owned())
}

/// Kills what runs when it takes too long for its echo.
fn kill_unless_done(running: &Mutex<Running>, done: &Receiver<()>) {
    if done.recv_timeout(ECHO) == Err(mpsc::RecvTimeoutError::Timeout) {
        let mut running = lock(running);
        let late = done.try_recv() != Err(mpsc::TryRecvError::Disconnected);
        if let (true, Some(child)) = (late, &mut running.child) {
            let _ = child.kill();
        }
    }
}

/// Why the tunnel is not up (any more), by what the far end and ssh had to say.
fn reason(heard: &Heard, complaint: &str, route: &Route) -> End {
    if PORT_REFUSED.iter().any(|words| complaint.contains(words)) {
        return End::PortRefused;
    }
    End::Other(match (heard, child::last_line(complaint).map(one_line)) {
        (_, Some(said)) if OTHER_KEY.iter().any(|words| complaint.contains(words)) => format!(
            "{said} {} shows another host key than before; if it was set up anew, remove {}",
            route.host,
            route.known_hosts.display()
        ),
        (Heard::Else(text), said) if !text.trim().is_empty() => {
            let printed = text.lines().map(str::trim).find(|l| !l.is_empty()).map(one_line);
            let said = said.map_or(String::new(), |said| format!(" ({said})"));
            format!(
                "where cat should run, this is printed: {}{said}",
                printed.unwrap_or_default()
            )
        }
        (_, Some(said)) => said,
        (Heard::Echo, None) => "ssh ended".into(),
        (Heard::Else(_), None) => "ssh ended before the tunnel was up".into(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route() -> Route {
        Route {
            host: "app1".into(),
            instance: None,
            ports: 1..=2,
            target: "127.0.0.1:1".into(),
            known_hosts: "/s/app1".into(),
        }
    }

    fn other(heard: Heard, complaint: &str) -> String {
        match reason(&heard, complaint, &route()) {
            End::Other(why) => why,
            End::PortRefused => "refused".into(),
        }
    }

    #[test]
    fn only_the_echo_is_one() {
        let is_echo = |text: &str| matches!(listen(&mut text.as_bytes(), "autoscaler 1\n"), Heard::Echo);
        assert!(is_echo("autoscaler 1\n") && is_echo("Welcome to app1\n\nautoscaler 1\n"));
        for text in [
            "",
            "autoscaler 1",
            "autoscaler 2\n",
            "This account is currently not available.\n",
        ] {
            assert!(!is_echo(text), "{text}");
        }
        assert!(!is_echo(&("x".repeat(2 * GREETING) + "autoscaler 1\n")));
    }

    #[test]
    fn each_end_has_its_reason() {
        let said = |text: &str| Heard::Else(text.into());
        assert_eq!(
            other(
                said(""),
                "Error: remote port forwarding failed for listen port 1\n"
            ),
            "refused"
        );
        assert_eq!(
            other(said(""), "@@@\nHost key verification failed.\n"),
            "Host key verification failed. app1 shows another host key than before; if it was set up anew, remove /s/app1"
        );
        assert_eq!(
            other(said("\nPlease login as the user\u{7}\n\n"), ""),
            "where cat should run, this is printed: Please login as the user?"
        );
        assert_eq!(
            other(said(""), "ssh: connect: refused\n"),
            "ssh: connect: refused"
        );
        assert_eq!(other(Heard::Echo, ""), "ssh ended");
    }
}
