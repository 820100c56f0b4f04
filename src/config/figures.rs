//! The settings as numbers, for those who watch them.

use super::Config;

impl Config {
    /// Those that alerts and graphs go by: seconds, percent or a count.
    pub fn figures(&self) -> Vec<(&'static str, f64)> {
        let scaling = &self.scaling;
        let counts = [
            ("max_hosts", scaling.max_hosts),
            ("min_hosts", scaling.min_hosts),
            ("max_step", scaling.max_step),
            ("max_launches_per_day", scaling.max_launches_per_day),
        ];
        let times = [
            ("sample_interval", scaling.sample_interval),
            ("window", scaling.window),
            ("cooldown", scaling.cooldown),
            ("replace_after", scaling.replace_after),
            ("scale_down_window", scaling.scale_down_window),
            ("scale_down_cooldown", scaling.scale_down_cooldown),
            ("drain_timeout", scaling.drain_timeout),
            ("boot_timeout", self.machine.boot_timeout),
            ("lease", self.master.lease),
            ("blocked_after", self.notify.blocked_after),
        ];
        let mut figures = vec![
            ("threshold", scaling.threshold),
            ("scale_down_threshold", scaling.scale_down_threshold),
        ];
        figures.extend(counts.map(|(key, count)| (key, count as f64)));
        figures.extend(times.map(|(key, time)| (key, time.as_secs_f64())));
        figures
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn they_are_written_as_json_and_prometheus_read_them() {
        let text = "[scaling]\nthreshold = 62.5\nsample_interval = 100ms\nreplace_after = 8760h\n";
        let config = Config::parse(Path::new("x"), text).unwrap();
        let shown: Vec<String> = config
            .figures()
            .iter()
            .map(|(key, value)| format!("{key} {value}"))
            .collect();
        for line in [
            "threshold 62.5",
            "max_hosts 10",
            "sample_interval 0.1",
            "replace_after 31536000",
        ] {
            assert!(shown.contains(&line.to_string()), "{line}: {shown:?}");
        }
    }
}
