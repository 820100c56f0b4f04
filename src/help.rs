//! What `--help` prints. The manual page and the README are held to these names by a test.

/// One command.
pub struct Topic {
    pub name: &'static str,
    /// What follows the name.
    pub arguments: &'static str,
    pub summary: &'static str,
    /// With the long options, by which the command line is read.
    pub details: &'static str,
}

/// Every command, in the order in which one meets them.
pub const TOPICS: &[Topic] = &[
    Topic {
        name: "init",
        arguments: "",
        summary: "Make the INI, the HAProxy template and hosts.d",
        details: "\
Makes the directory of the INI, autoscaler.ini (mode 0600, with a fresh secret),
the template haproxy.cfg and hosts.d/. What is there already is kept, and said so.
The same [cluster] name and secret belong on every node: copy the INI.
",
    },
    Topic {
        name: "master",
        arguments: "",
        summary: "On a HAProxy host: hand out the lease, keep the tunnels up",
        details: "\
Serves the protocol on [master] listen and keeps one `ssh -R` tunnel to every entry
of hosts.d, following entries as they come and go. Runs until it is stopped.
",
    },
    Topic {
        name: "daemon",
        arguments: "",
        summary: "On an app server: watch the CPU and scale",
        details: "\
Samples the CPU. When the mean over a full window reaches the threshold, it asks
every connected master for the lease, launches as many machines as are missing and
gives the lease back. Each machine is then waited for until it serves, and entered into
every HAProxy of [haproxy] servers. With a scale_down_threshold, a machine whose mean
stays under it drains and terminates itself, if the others can take its load. When a
master tells it to look, it puts right what is not as it should be: entries, machines
that are missing, and those that never served. Runs until it is stopped.
",
    },
    Topic {
        name: "add-host",
        arguments: "<host> <port>",
        summary: "On a HAProxy host: enter an app server into hosts.d",
        details: "\
Writes one entry. A name is resolved once, and its address is written. The same
host and port again is a success that changes nothing. With another instance's id it
replaces the entry of that address, and with the same id that of another address;
the ssh host key that the master kept for it is forgotten.

      --name NAME  the server's name in HAProxy, instead of the next app<n>
      --id ID      the EC2 instance that it is (i-…); also its name
      --unless-removed  not if it was removed within [machine] boot_timeout (75)
      --apply      then do what `generate` does
",
    },
    Topic {
        name: "list-hosts",
        arguments: "",
        summary: "Print the entries: <name> <address> <port> <instance or ->",
        details: "\
A file in hosts.d that is no entry is named on stderr and passed over.

      --state      add UP, DOWN, DRAIN, MAINT or -, and for how many seconds

UP and DOWN: in every section of the template with $SERVERS. - is what HAProxy can't be
asked, or where its sections differ.
",
    },
    Topic {
        name: "remove-host",
        arguments: "<name|host[:port]>",
        summary: "Drain an app server and take it out of hosts.d",
        details: "\
Has HAProxy send it no new requests, waits until those it has are finished or
[scaling] drain_timeout has passed, then removes the entry. One that is DOWN is
removed at once, and so is any when HAProxy can't be asked; both are said. The last
one that is UP stays (exit code 75), also when it becomes the last amid its drain.
An instance that goes on serving is entered again, unless it is tagged autoscaler:keep.

      --apply      then do what `generate` does; refused for the only entry
      --force      also the last one that is UP
",
    },
    Topic {
        name: "generate",
        arguments: "",
        summary: "Make HAProxy's configuration out of the template and hosts.d",
        details: "\
Puts one server line per entry in the place of $SERVERS, has the result checked by
check_command, and installs it to [haproxy] config in one step. The running HAProxy
follows by commands on [haproxy] socket when only servers came or went, else by
reload_command; -v says why. Without a change it does nothing. With no config set
it prints the result.

      --stdout     only print
      --diff       only show what would change
      --check      only say whether it would pass
",
    },
    Topic {
        name: "status",
        arguments: "",
        summary: "Show why it scaled, and why it does not now",
        details: "\
From a HAProxy host or an app server, of every master that it can reach: each node's
CPU, who holds the lease and since when, the cooldown, whether a scale-up would be
granted now, the last ten decisions, the tunnels, and the servers of its HAProxy.

      --json        the same for programs; the manual page has every field
      --prometheus  the same for node_exporter's textfile collector
      --watch       again every second, with a line of history for each node
",
    },
    Topic {
        name: "check",
        arguments: "",
        summary: "Look at all that has to be right, and say what to do about it",
        details: "\
Prints one line per finding: `ok`, `FAIL`, `warn`, `info`, or `skip` for what does not
apply here. On a HAProxy host: the INI, the template, hosts.d, check_command, the admin
socket, the servers of the running HAProxy against its file and hosts.d, hosts.d against
EC2's instances, and the master. On an app server: credentials, dry runs of the launch and
of a termination, ssh to each HAProxy host and its entries against EC2's instances, the
tunnels, and the CPU's counters. Changes nothing. Exits with 0 if nothing failed, else with the exit code
of the first failure.

      --host HOST  have HOST check itself, over ssh as [haproxy] says
",
    },
    Topic {
        name: "prune",
        arguments: "",
        summary: "On a HAProxy host: remove entries whose instance is gone",
        details: "\
For sites without daemons, by cron: where daemons run, they do it. Removes the entries
with an instance that EC2 says to be terminated or not to know. When EC2 lists no
instance of the cluster or does not answer, nothing is removed; nor is the last entry.

      --apply      then do what `generate` does
      --dry-run    only print the entries that would be removed
      --force      also when it is more than half of all entries
",
    },
    Topic {
        name: "scale-up",
        arguments: "",
        summary: "On an app server: add machines by hand",
        details: "\
Takes the same lease and the same steps as the daemon, whatever the load is. Returns when
the machine is UP. Busy (75): a master does not grant it, and says why.

      --dry-run    print the request that it would send, and change nothing; 75 if a
                   master would not grant it
      --wait       wait for cooldown and lease
      --force      pass over cooldowns; never over back-off, max_hosts or the daily cap
      --count N    so many machines (1)
",
    },
    Topic {
        name: "scale-down",
        arguments: "",
        summary: "On an app server: drain and terminate this machine by hand",
        details: "\
Takes the same lease and the same steps as the daemon, whatever the load is. On EC2,
only a machine that autoscaler launched leaves; where scale_down_command is a shell
command, any machine does. Never one of the last min_hosts. Returns when it is gone.

      --dry-run    print the request that it would send, and change nothing; 75 if a
                   master would not grant it
      --wait       wait for cooldown and lease
      --force      pass over cooldowns; never over back-off or min_hosts
",
    },
    Topic {
        name: "replace",
        arguments: "<name...>",
        summary: "On an app server: a new machine for each old one, as after a new image",
        details: "\
One after the other: launches the new machine, waits until it is UP, then drains the old
one everywhere and terminates it. Needs one lease per machine, free in between. There may
be one more than max_hosts meanwhile. The machine that it runs on is left out and named:
run it again on another. Where a new machine did not come UP (69), the old one stays; run
again, it goes on. Only what carries the cluster's tag is replaced.

      --all            every machine of the cluster
      --not-image AMI  those that were launched from another image
",
    },
    Topic {
        name: "set",
        arguments: "<key> <value>",
        summary: "Change one key of the INI",
        details: "\
Sets a key of [scaling], or SECTION.KEY of another section. The file is checked with the
new value first; comments, order, mode and owner stay, and it is replaced in one step.
master and daemon take the change by themselves. An empty value leaves a key at its
default. With - the value is read from the standard input, and a secret only so:

  autoscaler set min_hosts 4
  autoscaler set cluster.secret - <new-secret
",
    },
    Topic {
        name: "simulate",
        arguments: "<trace>",
        summary: "Replay a CPU trace: when would it scale, and at what cost",
        details: "\
Replays a trace through the code that decides, with the settings of the INI, and prints
when it would have scaled, and a table to compare by: machine-hours, time over the first
threshold, unmet work, with and without scaling. A trace is CSV (time,percent; the same
and machines; or time and a column per machine), or what `sar -u`, `sadf`, `sadf -d` or
`aws cloudwatch get-metric-statistics` print; - is the standard input. It needs no
master, no EC2 and no network.

      --hosts N      the trace is the mean of N machines (what it says, or 1)
      --start N      machines at the beginning (as many as the trace is of)
      --boot-time T  from the launch until a machine serves (1m), or from and to (45s-90s)
      --seed N       another draw of those boots (1)
      --spread P     the busiest machine is P percent over the mean (0)
      --loads-alone  without what the requests show of the load beyond 100%
      --svg FILE     draw it as well
      --json         the report for programs

In the place of the INI's [scaling], one value or, to compare, several (40,50,60):

      --threshold P
      --window T
      --cooldown T
      --max-step N
      --min-hosts N
      --max-hosts N
      --scale-down-threshold P
      --scale-down-window T
      --scale-down-cooldown T
      --sample-interval T
",
    },
    Topic {
        name: "ssh-gate",
        arguments: "",
        summary: "On a HAProxy host: the forced command of the app servers' key",
        details: "\
Stands in authorized_keys, before the public key of the app servers, with the path of
autoscaler on this host (/usr/bin/autoscaler with the Debian package):

  restrict,command=\"/usr/local/bin/autoscaler ssh-gate\" ssh-ed25519 ...

Carries out the call in SSH_ORIGINAL_COMMAND if it is one that a daemon makes, and
refuses everything else. No shell reads it. The calls are list-hosts [--state],
generate --check, add-host <host> <port> [--id ID] --apply (up to one entry more than
max_hosts), and remove-host <name|host:port> --apply [--force].
",
    },
];

const OPTIONS: &str = "  -c, --config FILE  the INI, instead of $AUTOSCALER_CONFIG or
                     /etc/autoscaler/autoscaler.ini
  -v, --verbose      say more
  -q, --quiet        say only what went wrong
  -h, --help         help, also for one command
  -V, --version      the version
";

impl Topic {
    /// The long options, which are those of the details: each with whether a value follows it there.
    pub fn options(&self) -> impl Iterator<Item = (&'static str, bool)> {
        let option = |line: &'static str| {
            let (name, rest) = line.strip_prefix("      --")?.split_once(' ')?;
            Some((name, rest.starts_with(|c: char| c.is_ascii_uppercase())))
        };
        self.details.lines().filter_map(option)
    }

    /// The help of this command.
    pub fn text(&self) -> String {
        let call = format!("{} {}", self.name, self.arguments);
        format!(
            "{}\n\nUsage: autoscaler [options] {}\n\n{}\nOptions:\n{OPTIONS}",
            self.summary,
            call.trim_end(),
            self.details
        )
    }
}

/// The command called `name`.
pub fn topic(name: &str) -> Option<&'static Topic> {
    TOPICS.iter().find(|t| t.name == name)
}

/// `autoscaler --help`.
pub fn overview() -> String {
    let mut text = String::from(
        "Reactive scaling for app servers behind HAProxy\n\nUsage: autoscaler [options] <command>\n\nCommands:\n",
    );
    for topic in TOPICS {
        text += &format!("  {:<12} {}\n", topic.name, topic.summary);
    }
    text + "\nOptions:\n"
        + OPTIONS
        + "\nExit codes: 0 ok, 64 usage, 69 a remote end is unavailable, 74 local I/O,\n\
           75 busy or try later, 77 refused credentials, 78 config.\n"
}
