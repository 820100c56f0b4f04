use super::*;

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(Path::new("/etc/a.ini"), text).map_err(|e| e.to_string())
}

#[test]
fn an_empty_file_is_all_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.scaling.threshold, 50.0);
    assert_eq!(config.scaling.window, Duration::from_secs(10));
    assert_eq!(config.master.tunnel_ports, 65432..=65439);
    assert_eq!(config.haproxy.ssh_command, ["ssh"]);
    assert_eq!(config.haproxy.config, None);
    assert!(!config.cluster.is_named);
    assert_eq!(config.dir(), Path::new("/etc"));
    assert!(!config.has_secret());
}

#[test]
fn a_file_of_release_0_0_3() {
    let config = parse(
        "[aws]\naws_access_key = AKIA\naws_secret_key = a=b%c;d#e\naws_default_region = eu-west-1\n\
         [machine]\nscale_up_command = aws ec2 run-instances --image-id ami-1 --count 1\n\
         [haproxy]\nservers = 10.0.0.2, lb2\nssh_user = ubuntu\nssh_params = -i ~/.ssh/k -o 'A b=c'\n\
         server_line = server $NAME $IP:80 check\n",
    )
    .unwrap();
    assert_eq!(config.aws.secret_key, "a=b%c;d#e");
    assert_eq!(config.haproxy.servers, ["10.0.0.2", "lb2"]);
    assert_eq!(config.haproxy.ssh_params, ["-i", "~/.ssh/k", "-o", "A b=c"]);
    assert!(config.has_secret());
}

#[test]
fn complaints_name_file_and_line() {
    for (text, complaint) in [
        (
            "[scaling]\n\ntreshold = 5\n",
            "/etc/a.ini:3: unknown key `treshold` in [scaling]; did you mean threshold?",
        ),
        (
            "[scalign]\nx = 5\n",
            "/etc/a.ini:1: unknown section [scalign]; did you mean scaling?",
        ),
        (
            "[scaling]\nthreshold = 101\n",
            "/etc/a.ini:2: threshold: `101` is not a percentage from 0 to 100",
        ),
        (
            "[scaling]\nthreshold = 0\n",
            "/etc/a.ini:2: threshold: must be over 0: at 0 it would scale for ever",
        ),
        (
            "[scaling]\nwindow = 1 day\n",
            "/etc/a.ini:2: window: `1 day` is not a duration such as 500ms, 10s, 2m or 1h",
        ),
        (
            "[scaling]\nsample_interval = 20s\n",
            "/etc/a.ini: window: must not be shorter than sample_interval",
        ),
        (
            "[machine]\nport = 0\n",
            "/etc/a.ini:2: port: `0` is not a port from 1 to 65535",
        ),
        (
            "[machine]\nhealth_check = http\n",
            "/etc/a.ini:2: health_check: is `tcp` or `http:/path`",
        ),
        (
            "[haproxy]\nservers = -oProxyCommand=x\n",
            "/etc/a.ini:2: servers: `-oProxyCommand=x` is not a host name or address",
        ),
        (
            "[haproxy]\nsocket = localhost:no\n",
            "/etc/a.ini:2: socket: `localhost:no` is neither a path nor <address>:<port>, as in 127.0.0.1:9999",
        ),
        (
            "[scaling]\nmax_step = -1\n",
            "/etc/a.ini:2: max_step: `-1` is not a whole number",
        ),
        (
            "[scaling]\nreplace_after = never\n",
            "/etc/a.ini:2: replace_after: `never` is not a duration such as 500ms, 10s, 2m or 1h",
        ),
        (
            "[master]\ntunnel_ports = 9-1\n",
            "/etc/a.ini:2: tunnel_ports: ends before it begins",
        ),
        (
            "[master]\nlisten = 0.0.0.0:1\n",
            "/etc/a.ini:2: listen: outside loopback needs a [cluster] secret, or anyone may ask for the lease",
        ),
    ] {
        assert_eq!(parse(text).unwrap_err(), complaint);
    }
}

#[test]
fn debug_shows_no_secret() {
    let config =
        parse("[aws]\naws_secret_key = hush\naws_session_token = hush\n[cluster]\nsecret = hush\n").unwrap();
    assert!(!format!("{config:?}").contains("hush"));
}

#[test]
fn two_long_words_are_two_secrets() {
    let secrets = |text: &str| {
        let config = parse(&format!("[cluster]\nsecret = {text}\n")).unwrap();
        config.cluster.secrets().to_vec()
    };
    let (new, old) = ("0123456789abcdef", "fedcba9876543210");
    assert_eq!(secrets(&format!("{new} {old}")), [new, old]);
    assert_eq!(secrets(&format!("{new} \t {old}")), [new, old]);
    assert_eq!(secrets(&format!("{new}\n  {old}")), [new, old]);
    for one in [
        "s",
        new,
        "correct horse battery staple",
        "0123456789abcdef 0123456789abcde",
        "0123456789abcdef 0123456789abcdef 0123456789abcdef",
    ] {
        assert_eq!(secrets(one), [one]);
    }
    assert!(secrets("").is_empty());
}

#[test]
fn a_socket_is_a_path_or_an_address() {
    for text in [
        "/run/a:b.sock",
        "admin.sock",
        "127.0.0.1:9999",
        "[::1]:9999",
        "./a:b",
    ] {
        let config = parse(&format!("[haproxy]\nsocket = {text}\n")).unwrap();
        assert_eq!(config.haproxy.socket.to_string(), text);
    }
}
