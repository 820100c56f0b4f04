//! One `ssh -R` tunnel per app server: from a port of its loopback to this master.
//!
//! What runs at the far end is `cat` on a pipe from here. It echoes a line, which shows that the
//! whole way works; and when this process dies, however suddenly, its end of the pipe closes,
//! `cat` ends, and ssh with it.

use std::fs;
use std::io::{Read, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::child;
use super::ssh::Ssh;
use crate::core::backoff::Backoff;

const FIRST_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// A tunnel that stood for this long was a good one: the next failure is a new one.
const HEALTHY: Duration = Duration::from_secs(20);
/// What ssh says when the port is taken at the far end.
const PORT_TAKEN: &str = "remote port forwarding failed";

/// Where a tunnel leads and what it needs.
#[derive(Debug, Clone)]
pub struct Route {
    pub host: String,
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

/// A poisoned lock holds a child all the same.
fn lock(running: &Mutex<Running>) -> std::sync::MutexGuard<'_, Running> {
    running.lock().unwrap_or_else(PoisonError::into_inner)
}

fn keep(ssh: &Ssh, route: &Route, running: &Mutex<Running>, woken: &Receiver<()>, changed: impl Fn(Change)) {
    let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
    loop {
        let mut why = String::new();
        for port in route.ports.clone() {
            let attempt = attempt(ssh, route, port, running, &changed);
            if attempt.stood >= HEALTHY {
                backoff.reset();
            }
            why = attempt.why;
            if !why.contains(PORT_TAKEN) {
                break;
            }
        }
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

struct Attempt {
    /// For how long the tunnel was up; zero if it never was.
    stood: Duration,
    why: String,
}

/// Runs ssh once, until it ends.
fn attempt(
    ssh: &Ssh,
    route: &Route,
    port: u16,
    running: &Mutex<Running>,
    changed: &impl Fn(Change),
) -> Attempt {
    let never = |why: String| Attempt {
        stood: Duration::ZERO,
        why,
    };
    let forward = format!("127.0.0.1:{port}:{}", route.target);
    let spawned = ssh
        .to(&route.host, Some(&route.known_hosts), Some(&forward))
        .arg("cat")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(e) => return never(format!("ssh: {e}")),
    };
    let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
    let (Some(mut stdin), Some(mut stdout), Some(stderr)) = (stdin, stdout, stderr) else {
        child::end(&mut child);
        return never("ssh: no pipes".into());
    };
    {
        let mut running = lock(running);
        if running.stopped {
            child::end(&mut child);
            return never("stopped".into());
        }
        running.child = Some(child);
    }
    // On its own thread, so that neither stream can fill up and hold ssh back.
    let complaint = thread::spawn(move || child::kept(stderr));
    let mut up = None;
    // By the piece and not by the line: an app server that was taken over may send one without end.
    let mut piece = [0; 64];
    let mut echoes = move || matches!(stdout.read(&mut piece), Ok(1..));
    if stdin.write_all(b"autoscaler\n").is_ok() && echoes() {
        up = Some(Instant::now());
        changed(Change::Up { port });
        while echoes() {}
    }
    drop(stdin);
    if let Some(mut child) = lock(running).child.take() {
        child::end(&mut child);
    }
    let complaint = complaint.join().unwrap_or_default();
    let why = match complaint.lines().rfind(|l| !l.trim().is_empty()) {
        Some(line) => line.trim().to_string(),
        None if up.is_some() => "ssh ended".into(),
        None => "ssh ended before the tunnel was up".into(),
    };
    Attempt {
        stood: up.map_or(Duration::ZERO, |since| since.elapsed()),
        why,
    }
}
