//! What HAProxy answers on its admin socket.

use std::net::{IpAddr, SocketAddr};

/// `srv_admin_state`: in maintenance by command, and by the configuration too.
const FORCED_MAINTENANCE: u32 = 0x01;
const CONFIGURED_MAINTENANCE: u32 = 0x04;
/// In maintenance, whether by command, as the one that it tracks, by the configuration or for want
/// of an address.
const MAINTENANCE: u32 = FORCED_MAINTENANCE | 0x02 | CONFIGURED_MAINTENANCE | 0x20;
/// `srv_admin_state`: set to drain by command.
const FORCED_DRAIN: u32 = 0x08;
/// Set to drain, or as the one that it tracks.
const DRAIN: u32 = FORCED_DRAIN | 0x10;
/// `srv_check_state` and `srv_agent_state`: its line has one, and it is not switched off.
const CONFIGURED: u32 = 0x02;
const ENABLED: u32 = 0x04;

/// The process behind the socket, from `show info`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Process {
    /// Major and minor.
    pub version: (u32, u32),
    pub pid: u32,
    /// Seconds since its start.
    pub uptime: u64,
}

impl Process {
    /// Is this another process than `before`? One in a container may have the same id.
    pub fn is_newer_than(&self, before: &Process) -> bool {
        self.pid != before.pid || self.uptime < before.uptime
    }
}

/// Reads `show info`.
///
/// # Errors
/// The answer as it stands, when it is another one.
pub fn info(answer: &str) -> Result<Process, String> {
    let field = |name: &str| {
        answer
            .lines()
            .find_map(|l| l.strip_prefix(name)?.strip_prefix(": "))
    };
    let read = || {
        let mut version = field("Version")?.split(['.', '-']);
        let mut number = || version.next()?.parse().ok();
        Some(Process {
            version: (number()?, number()?),
            pid: field("Pid")?.parse().ok()?,
            uptime: field("Uptime_sec")?.parse().ok()?,
        })
    };
    read().ok_or_else(|| unexpected("show info", answer))
}

/// One running server, from `show servers state`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Running {
    /// The `backend` or `listen` section that it is in.
    pub section: String,
    pub name: String,
    /// Its number in its section.
    pub id: u32,
    /// `None` while it has no address.
    pub address: Option<SocketAddr>,
    /// Its weight now.
    pub weight: u32,
    /// The one that its line gives it.
    pub initial_weight: u32,
    operational: u32,
    administrative: u32,
    check: u32,
    agent: u32,
}

impl Running {
    /// `<section>/<server>`, as commands name it.
    pub fn id(&self) -> String {
        format!("{}/{}", self.section, self.name)
    }

    /// Does its line say `check`?
    pub fn has_check(&self) -> bool {
        self.check & CONFIGURED != 0
    }

    /// Did somebody tell HAProxy to check it no longer?
    pub fn is_unchecked(&self) -> bool {
        self.has_check() && self.check & ENABLED == 0
    }

    pub fn has_agent(&self) -> bool {
        self.agent & ENABLED != 0
    }

    /// What a command has set, in the words that set it again.
    pub fn set_by_command(&self) -> Vec<String> {
        let mut words = Vec::new();
        if self.administrative & (FORCED_MAINTENANCE | CONFIGURED_MAINTENANCE) == FORCED_MAINTENANCE {
            words.push("state maint".into());
        }
        if self.administrative & FORCED_DRAIN != 0 {
            words.push("state drain".into());
        }
        if self.weight != self.initial_weight {
            words.push(format!("weight {}", self.weight));
        }
        words
    }

    pub fn in_maintenance(&self) -> bool {
        self.administrative & MAINTENANCE != 0
    }

    pub fn is_draining(&self) -> bool {
        self.administrative & DRAIN != 0
    }

    /// Does it take new requests?
    pub fn serves(&self) -> bool {
        // 0 is stopped, 3 stopping.
        self.administrative == 0 && matches!(self.operational, 1 | 2)
    }
}

/// Reads `show servers state`.
///
/// # Errors
/// The answer as it stands, when it is another one.
pub fn servers_state(answer: &str) -> Result<Vec<Running>, String> {
    let wrong = || unexpected("show servers state", answer);
    let mut lines = answer.lines();
    if lines.next() != Some("1") {
        return Err(wrong());
    }
    let header = lines
        .next()
        .and_then(|l| l.strip_prefix("# "))
        .ok_or_else(wrong)?;
    let columns: Vec<&str> = header.split(' ').collect();
    let column = |name: &str| columns.iter().position(|c| *c == name).ok_or_else(wrong);
    let section = column("be_name")?;
    let (name, id) = (column("srv_name")?, column("srv_id")?);
    let (weight, initial_weight) = (column("srv_uweight")?, column("srv_iweight")?);
    let (check, agent) = (column("srv_check_state")?, column("srv_agent_state")?);
    let (address, port) = (column("srv_addr")?, column("srv_port")?);
    let (operational, administrative) = (column("srv_op_state")?, column("srv_admin_state")?);
    let mut fields = Vec::with_capacity(columns.len());
    let mut server = |line| {
        fields.clear();
        fields.extend(str::split(line, ' '));
        let ip: Option<IpAddr> = fields.get(address)?.parse().ok();
        let port: u16 = fields.get(port)?.parse().ok()?;
        let number = |at: usize| fields.get(at)?.parse().ok();
        Some(Running {
            section: (*fields.get(section)?).into(),
            name: (*fields.get(name)?).into(),
            id: number(id)?,
            address: ip.map(|ip| SocketAddr::new(ip, port)),
            weight: number(weight)?,
            initial_weight: number(initial_weight)?,
            operational: number(operational)?,
            administrative: number(administrative)?,
            check: number(check)?,
            agent: number(agent)?,
        })
    };
    lines
        .filter(|l| !l.is_empty())
        .map(|l| server(l).ok_or_else(wrong))
        .collect()
}

/// One server's row of `show stat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The `backend` or `listen` section that it is in.
    pub section: String,
    pub name: String,
    /// `UP`, `DOWN 1/2`, `MAINT`, `DRAIN`, `no check`, …
    pub status: String,
    /// Sessions right now.
    pub sessions: u64,
    /// Is it a `backup`?
    pub backup: bool,
    /// Its `maxconn`.
    pub most_sessions: Option<u64>,
    /// In seconds, since when it is up or down; `None` where HAProxy does not say.
    pub since: Option<u64>,
}

impl Row {
    pub fn is_up(&self) -> bool {
        self.status.starts_with("UP") || self.status == "no check"
    }

    pub fn is_down(&self) -> bool {
        self.status.starts_with("DOWN")
    }

    pub fn in_maintenance(&self) -> bool {
        self.status.starts_with("MAINT")
    }

    /// Was it told to take no new requests?
    pub fn is_set_aside(&self) -> bool {
        // NOLB: it was about to go down when it was set to drain.
        self.in_maintenance() || ["DRAIN", "NOLB"].iter().any(|s| self.status.starts_with(s))
    }
}

/// Reads the servers out of `show stat`.
///
/// # Errors
/// The answer as it stands, when it is another one.
pub fn stat(answer: &str) -> Result<Vec<Row>, String> {
    let columns = ["pxname", "svname", "status", "scur", "bck", "slim", "lastchg"];
    let rows = table(answer, columns)?.into_iter();
    rows.filter(|[_, name, ..]| !["FRONTEND", "BACKEND"].contains(&name.as_str()))
        .map(
            |[section, name, status, sessions, backup, most_sessions, since]| {
                Some(Row {
                    section,
                    name,
                    status,
                    sessions: sessions.parse().ok()?,
                    backup: backup == "1",
                    most_sessions: most_sessions.parse().ok(),
                    since: since.parse().ok(),
                })
            },
        )
        .map(|row| row.ok_or_else(|| unexpected("show stat", answer)))
        .collect()
}

/// How many requests have arrived in each section since the start: its name, and the number.
pub type Arrivals = Vec<(String, u64)>;

/// Reads how many requests have arrived in each section since HAProxy's start out of `show stat`.
///
/// # Errors
/// The answer as it stands, when it is another one.
pub fn arrivals(answer: &str) -> Result<Arrivals, String> {
    let rows = table(answer, ["pxname", "svname", "stot"])?.into_iter();
    rows.filter(|[_, name, _]| name == "BACKEND")
        .map(|[section, _, total]| {
            let total = total.parse().map_err(|_| unexpected("show stat", answer))?;
            Ok((section, total))
        })
        .collect()
}

/// Reads how many servers of `backend` take new requests, backups among them, out of `show stat`.
///
/// # Errors
/// The answer as it stands, when it is another one.
pub fn serving(answer: &str, backend: &str) -> Result<usize, String> {
    let rows = table(answer, ["pxname", "svname", "act", "bck"])?;
    let count = |[_, _, active, backup]: &[String; 4]| {
        Some(active.parse::<usize>().ok()? + backup.parse::<usize>().ok()?)
    };
    let of_backend = |[section, name, ..]: &&[String; 4]| section == backend && name == "BACKEND";
    let row = rows.iter().find(of_backend);
    row.and_then(count).ok_or_else(|| unexpected("show stat", answer))
}

/// These `columns` of the rows of `show stat`.
fn table<const N: usize>(answer: &str, columns: [&str; N]) -> Result<Vec<[String; N]>, String> {
    let wrong = || unexpected("show stat", answer);
    let mut records = csv(answer.strip_prefix("# ").ok_or_else(wrong)?).into_iter();
    let header = records.next().ok_or_else(wrong)?;
    let place = |name: &str| header.iter().position(|c| c == name).ok_or_else(wrong);
    let mut places = [0; N];
    for (at, name) in places.iter_mut().zip(columns) {
        *at = place(name)?;
    }
    records
        .map(|r| match places.iter().all(|at| *at < r.len()) {
            true => Ok(places.map(|at| r[at].clone())),
            false => Err(wrong()),
        })
        .collect()
}

/// The records of a CSV text; a field in quotes may hold commas, doubled quotes and line ends.
fn csv(text: &str) -> Vec<Vec<String>> {
    let mut records = vec![vec![String::new()]];
    let mut quoted = false;
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let record = records.last_mut().expect("never empty");
        let field = record.last_mut().expect("never empty");
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' => quoted = !quoted,
            ',' if !quoted => record.push(String::new()),
            '\n' if !quoted => records.push(vec![String::new()]),
            c => field.push(c),
        }
    }
    records.retain(|r| r.len() > 1);
    records
}

/// What to say of an answer that was not looked for.
pub fn unexpected(command: &str, answer: &str) -> String {
    let answer = answer.trim();
    let first = answer.lines().next().unwrap_or_default();
    match first {
        "" => format!("HAProxy answers nothing to `{command}`"),
        _ => format!("HAProxy answers to `{command}`: {first}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // As 2.6.12 and 2.8.25 write them.
    const STATE: &str = "1\n# be_id be_name srv_id srv_name srv_addr srv_op_state srv_admin_state srv_uweight \
        srv_iweight srv_time_since_last_change srv_check_status srv_check_result srv_check_health \
        srv_check_state srv_agent_state bk_f_forced_id srv_f_forced_id srv_fqdn srv_port srvrecord \
        srv_use_ssl srv_check_port srv_check_addr srv_agent_addr srv_agent_port\n\
        3 servers 1 app1 127.0.0.1 0 0 1 1 1 8 2 0 6 0 0 0 - 18081 - 0 0 - - 0\n\
        3 servers 2 app2 2001:db8::2 2 0 1 1 1 1 0 1 0 0 0 0 - 80 - 0 0 - - 0\n\
        3 servers 3 app3 127.0.0.1 2 9 1 1 1 1 0 1 0 0 0 0 - 80 - 0 0 - - 0\n\n";

    #[test]
    fn the_process() {
        let answer = "Name: HAProxy\nVersion: 2.6.12-1+deb12u4\nPid: 25148\nUptime_sec: 7\n";
        let process = info(answer).unwrap();
        assert_eq!((process.version, process.pid, process.uptime), ((2, 6), 25148, 7));
        let version = |v: &str| info(&answer.replace("2.6.12-1+deb12u4", v)).unwrap().version;
        assert_eq!(version("3.3-dev5"), (3, 3));
        assert_eq!(
            info("Permission denied\n").unwrap_err(),
            "HAProxy answers to `show info`: Permission denied"
        );
        let restarted = Process { uptime: 0, ..process };
        assert!(restarted.is_newer_than(&process) && !process.is_newer_than(&process));
    }

    #[test]
    fn the_state_of_servers() {
        let servers = servers_state(STATE).unwrap();
        assert_eq!(servers[0].address, "127.0.0.1:18081".parse().ok());
        assert_eq!(servers[1].address, "[2001:db8::2]:80".parse().ok());
        assert_eq!(
            servers.iter().map(Running::serves).collect::<Vec<_>>(),
            [false, true, false]
        );
        assert!(servers[2].in_maintenance() && servers[2].is_draining());
        assert!(servers[0].has_check() && !servers[0].is_unchecked() && !servers[1].has_check());
        assert_eq!(servers[2].set_by_command(), ["state maint", "state drain"]);
        assert!(servers[0].set_by_command().is_empty());
        assert_eq!(
            servers_state("Can't find backend.\n\n").unwrap_err(),
            "HAProxy answers to `show servers state`: Can't find backend."
        );
    }

    #[test]
    fn the_sessions_of_servers() {
        let answer = "# pxname,svname,scur,status,last_chk,bck,lastchg,slim,\nweb,FRONTEND,3,OPEN,,,,,\n\
            servers,app1,2,UP 1/3,\"a, \"\"b\"\"\nc\",0,7,5,\nservers,BACKEND,2,UP,,0,7,,\nother,app1,9,no check,,1,,,\n\n";
        let rows = stat(answer).unwrap();
        assert_eq!(rows.len(), 2);
        assert_eq!((rows[0].name.as_str(), rows[0].sessions), ("app1", 2));
        assert!(!rows[0].is_down() && !rows[0].is_set_aside() && rows.iter().all(Row::is_up));
        assert_eq!(rows.iter().map(|r| r.since).collect::<Vec<_>>(), [Some(7), None]);
        assert_eq!(rows[0].most_sessions, Some(5));
        assert!(rows[1].backup && !rows[0].backup && rows[1].section == "other");
        assert!(stat("Permission denied\n").is_err());
    }

    #[test]
    fn how_many_requests_arrived() {
        let answer = "# pxname,svname,stot,\nservers,app1,9,\nservers,BACKEND,734,\nother,BACKEND,0,\n\n";
        let expected = [("servers".to_string(), 734), ("other".into(), 0)];
        assert_eq!(arrivals(answer).unwrap(), expected);
        assert!(arrivals("# pxname,svname,stot,\nservers,BACKEND,x,\n").is_err());
        assert!(arrivals("Permission denied\n").is_err());
    }

    #[test]
    fn how_many_serve() {
        let answer = "# pxname,svname,act,bck,\nservers,FRONTEND,,,\nother,BACKEND,7,0,\n\
            servers,BACKEND,2,1,\n\n";
        assert_eq!(serving(answer, "servers"), Ok(3));
        for strange in [
            "",
            "Permission denied\n",
            "# pxname,svname,act,bck,\nother,BACKEND,7,0,\n",
            "# pxname,svname,act,bck,\nservers,BACKEND\n",
            "# pxname,svname,act,bck,\nservers,BACKEND,,,\n",
        ] {
            assert!(serving(strange, "servers").is_err(), "{strange:?}");
        }
    }

    proptest! {
        #[test]
        fn no_answer_is_too_strange(answer in "(1\n# |# )?[a-z_0-9 ,\"\n:.]{0,80}") {
            let _ = (info(&answer), servers_state(&answer));
            let _ = (stat(&answer), serving(&answer, "b"), arrivals(&answer));
        }
    }
}
