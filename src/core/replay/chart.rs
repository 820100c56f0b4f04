//! The runs as one self-contained SVG (1.1, <https://www.w3.org/TR/SVG11/>): the load and the
//! machines over time, one panel a setting, all on one scale.

use std::fmt::Write;
use std::time::Duration;

use super::{Model, Run, Trace, report};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 60.0;
const RIGHT: f64 = 20.0;
const PLOT: f64 = WIDTH - LEFT - RIGHT;
/// Above a panel's plot, for its title, its settings and its numbers.
const HEAD: f64 = 58.0;
/// Under it, for the time axis.
const FOOT: f64 = 26.0;
/// So that a short boot can be seen.
const THIN: f64 = 4.0;
const LONGEST_NAME: usize = 60;
/// The plot is looked at in columns of a pixel.
const COLUMNS: u32 = 880;

const STYLE: &str = "text{font:12px sans-serif;fill:#333}.h{font-size:18px;font-weight:bold}.t{font-size:14px;\
font-weight:bold}.g{fill:#666}.n{fill:#b01818}.w{fill:#b01818;stroke:#fff;stroke-width:3;paint-order:stroke}\
.e{text-anchor:end}.m{text-anchor:middle}.grid{stroke:#ccd;fill:none;opacity:.6}.axis{stroke:#888;fill:none}\
.cap{fill:#dfe8f5}.serving{stroke:#1f4e9c;stroke-width:2;fill:none}\
.limit{stroke:#1f4e9c;stroke-dasharray:4 3;fill:none}.load{stroke:#d96a00;stroke-width:1.6;fill:none}\
.band{fill:#f0a050;opacity:.45}.boot{fill:#8a5fd0}.mark{fill:#e02020}.veil{opacity:.2}\
.worst{fill:#fff;stroke:#b01818;stroke-width:1.5}.lead{stroke:#b01818;stroke-dasharray:1 2}";

/// Draws `runs` of the trace called `name`. The same input makes the same bytes.
pub fn svg(name: &str, trace: &Trace, model: &Model, runs: &[Run]) -> String {
    let most = trace
        .spans
        .iter()
        .fold(0.0f64, |most, (_, load)| most.max(load / 100.0));
    let most = runs.iter().fold(most, |most, run| most.max(run.peak as f64));
    let height = if runs.len() == 1 { 320.0 } else { 180.0 };
    let mut chart = Chart {
        out: String::new(),
        trace,
        height,
        top: 0.0,
        // Room for a label above the highest point.
        unit: height / (most * 1.12),
    };
    let body = chart.body(name, model, runs);
    let title = format!("Load and machines: {}", escape(name));
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{0}\" viewBox=\"0 0 {WIDTH} {0}\" role=\"img\">\n\
         <title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n{body}</svg>\n",
        short(chart.top),
    )
}

struct Chart<'a> {
    out: String,
    trace: &'a Trace,
    /// Of one plot, in pixels.
    height: f64,
    /// How far down the picture has been drawn.
    top: f64,
    /// Pixels of one machine.
    unit: f64,
}

impl Chart<'_> {
    fn body(&mut self, name: &str, model: &Model, runs: &[Run]) -> String {
        let trace = self.trace;
        let title = format!("{}: load and machines", shorten(name));
        self.line(30.0, "h", &title);
        self.line(22.0, "g", &format!("Recorded: {}.", report::recorded(trace)));
        self.line(16.0, "g", &format!("Replayed: {}.", report::assumed(model)));
        for note in &trace.notes {
            self.line(16.0, "n", &format!("Note: {note}."));
        }
        self.top += 24.0;
        self.legend();
        self.top += 14.0;
        // Every panel shows the same load.
        let (load, band) = self.load();
        let _ = writeln!(
            self.out,
            "<defs><g id=\"load\"><path class=\"band\" d=\"{band}\"/><path class=\"load\" d=\"{load}\"/></g></defs>"
        );
        for run in runs {
            self.panel(run);
        }
        let unit = match self.time_step() {
            86_400_000.. => "date",
            step if step % 60_000 == 0 => "time, h:min",
            _ => "time, h:min:s",
        };
        self.top += 10.0;
        self.text(LEFT + PLOT / 2.0, self.top, "m g", unit);
        self.top += 14.0;
        std::mem::take(&mut self.out)
    }

    /// A line of text, so many pixels under the last.
    fn line(&mut self, pixels: f64, class: &str, text: &str) {
        self.top += pixels;
        self.text(20.0, self.top, class, text);
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        let (x, y) = (short(x), short(y));
        let _ = writeln!(
            self.out,
            "<text x=\"{x}\" y=\"{y}\" class=\"{class}\">{}</text>",
            escape(text)
        );
    }

    fn rect(&mut self, x: f64, y: f64, width: f64, height: f64, class: &str) {
        let [x, y, width, height] = [x, y, width, height].map(short);
        let _ = writeln!(
            self.out,
            "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{height}\" class=\"{class}\"/>"
        );
    }

    fn path(&mut self, class: &str, d: &str) {
        let _ = writeln!(self.out, "<path class=\"{class}\" d=\"{d}\"/>");
    }

    /// Pixels from the left.
    fn x(&self, at: Duration) -> f64 {
        LEFT + PLOT * (at.as_secs_f64() / self.trace.length.as_secs_f64()).min(1.0)
    }

    /// Pixels from the top, for a plot that ends at `bottom`.
    fn y(&self, bottom: f64, machines: f64) -> f64 {
        bottom - machines * self.unit
    }

    fn legend(&mut self) {
        let y = self.top;
        let mut x = 20.0;
        for (class, label) in [
            ("load", "load, in machines at 100% CPU"),
            ("serving", "machines serving"),
            ("boot", "booting"),
            ("limit", "load at the threshold"),
            ("mark", "time over the threshold (paler: less of it)"),
        ] {
            match class {
                "boot" => self.rect(x, y - 10.0, 16.0, 10.0, class),
                "mark" => {
                    self.rect(x, y - 12.0, 16.0, 14.0, "mark veil");
                    self.rect(x, y - 3.0, 16.0, 5.0, class);
                }
                _ => self.path(class, &format!("M{x} {}h16", y - 4.0)),
            }
            self.text(x + 21.0, y, "", label);
            x += 40.0 + 6.4 * label.len() as f64;
        }
    }

    fn panel(&mut self, run: &Run) {
        self.top += HEAD;
        let (top, bottom) = (self.top, self.top + self.height);
        self.text(LEFT, top - 40.0, "t", &run.title);
        self.text(LEFT, top - 24.0, "g", &run.details);
        self.text(LEFT, top - 8.0, "g", &report::numbers(run));
        let capacity = self.steps(bottom, run, |machines| machines);
        let close = format!("V{}H{LEFT}z", short(bottom));
        self.path("cap", &(capacity.clone() + &close));
        self.over(top, bottom, run);
        for boot in &run.boots {
            // To the left of the step that ends it, whose line would cover it.
            let end = self.x(boot.end);
            let x = self.x(boot.begin).min(end - THIN).max(LEFT);
            let y = self.y(bottom, boot.level as f64 + 1.0);
            self.rect(x, y, end - x, self.unit, "boot");
        }
        self.axes(top, bottom);
        let limit = self.steps(bottom, run, |machines| {
            let busiest = if machines > 1.0 { 1.0 + run.spread } else { 1.0 };
            machines * run.threshold / 100.0 / busiest
        });
        self.path("limit", &limit);
        let _ = writeln!(self.out, "<use href=\"#load\" y=\"{}\"/>", short(bottom));
        self.path("serving", &capacity);
        self.worst(top, bottom, run);
        self.top = bottom + FOOT;
    }

    /// The line of something that follows from how many machines serve.
    fn steps(&self, bottom: f64, run: &Run, height: impl Fn(f64) -> f64) -> String {
        let mut d = String::new();
        for (at, machines) in &run.serving {
            let y = short(self.y(bottom, height(*machines as f64)));
            match d.is_empty() {
                true => d = format!("M{LEFT} {y}"),
                false => {
                    let _ = write!(d, "H{}V{y}", short(self.x(*at)));
                }
            }
        }
        d + &format!("H{}", LEFT + PLOT)
    }

    /// The time over the threshold: the stronger a column, the more of its time was.
    fn over(&mut self, top: f64, bottom: f64, run: &Run) {
        let edges = run
            .over
            .iter()
            .flat_map(|(begin, end)| [(*begin, 1.0), (*end, 0.0)]);
        let tenths: Vec<i32> = self
            .columns(edges)
            .map(|(share, ..)| (share * 10.0).ceil() as i32)
            .chain([0])
            .collect();
        let (mut strength, mut from) = (0, 0);
        for (column, tenth) in tenths.into_iter().enumerate() {
            if tenth != strength {
                if strength > 0 {
                    let [x, width] = [from, column - from].map(|n| n as f64);
                    let group = format!("<g class=\"mark\" opacity=\"{}\">\n", f64::from(strength) / 10.0);
                    self.out += &group;
                    self.rect(LEFT + x, top, width, bottom - top, "veil");
                    self.rect(LEFT + x, bottom - 5.0, width, 5.0, "");
                    self.out += "</g>\n";
                }
                (strength, from) = (tenth, column);
            }
        }
    }

    /// Of each column of the plot the mean, the lowest and the highest of a value that changes at
    /// these times.
    fn columns(&self, steps: impl Iterator<Item = (Duration, f64)>) -> impl Iterator<Item = (f64, f64, f64)> {
        let length = self.trace.length;
        let mut steps = steps.peekable();
        let mut now = 0.0;
        (0..COLUMNS).map(move |column| {
            let (mut at, end) = (length * column / COLUMNS, length * (column + 1) / COLUMNS);
            let width = (end - at).as_secs_f64();
            let (mut sum, mut extremes) = (0.0, None);
            while at < end {
                while let Some((_, value)) = steps.next_if(|(begin, _)| *begin <= at) {
                    now = value;
                }
                let until = steps.peek().map_or(end, |(begin, _)| end.min(*begin));
                sum += now * (until - at).as_secs_f64() / width;
                let (low, high) = extremes.unwrap_or((now, now));
                extremes = Some((now.min(low), now.max(high)));
                at = until;
            }
            let (low, high) = extremes.unwrap_or((now, now));
            (sum, low, high)
        })
    }

    /// The mean load as a line, and the band from its lowest to its highest, around a bottom of 0.
    fn load(&self) -> (String, String) {
        let y = |load: f64| short(self.y(0.0, load / 100.0));
        let (mut line, mut highs, mut lows) = (String::new(), String::new(), String::new());
        let mut before = String::new();
        for (column, (mean, low, high)) in self.columns(self.trace.spans.iter().copied()).enumerate() {
            let x = LEFT + column as f64;
            let here = y(mean);
            if before.is_empty() {
                line = format!("M{x} {here}");
            } else if here != before {
                let _ = write!(line, "H{x}V{here}");
            }
            before = here;
            let _ = write!(highs, "{}{x} {}", if column == 0 { "M" } else { "L" }, y(high));
            lows.insert_str(0, &format!("L{x} {}", y(low)));
        }
        (line + &format!("H{}", LEFT + PLOT), highs + &lows + "z")
    }

    fn axes(&mut self, top: f64, bottom: f64) {
        let most = self.height / self.unit;
        let step = [1, 2, 5, 10, 20, 50, 100, 200, 500]
            .into_iter()
            .find(|s| most / f64::from(*s) <= 6.0);
        let step = step.unwrap_or(1000);
        for machines in (0..=most as i32).step_by(step as usize) {
            let y = self.y(bottom, f64::from(machines));
            self.path("grid", &format!("M{LEFT} {}h{PLOT}", short(y)));
            self.text(LEFT - 8.0, y + 4.0, "e", &machines.to_string());
        }
        let middle = short((top + bottom) / 2.0);
        let _ = writeln!(
            self.out,
            "<text class=\"m g\" transform=\"translate(24 {middle}) rotate(-90)\">machines</text>"
        );
        let face = &self.trace.face;
        let (first, last) = (face.at(Duration::ZERO), face.at(self.trace.length));
        let step = self.time_step();
        let mut at = first.div_euclid(step) * step;
        let mut ticks = String::new();
        while at <= last {
            if at >= first {
                let x = self.x(Duration::from_millis((at - first).unsigned_abs()));
                let _ = write!(ticks, "M{} {}v5", short(x), short(bottom));
                let label = self.trace.face.label(at, step);
                let class = if x > LEFT + PLOT - 20.0 { "e" } else { "m" };
                let x = if class == "e" { WIDTH - 6.0 } else { x };
                self.text(x, bottom + 18.0, class, &label);
            }
            at += step;
        }
        self.path(
            "axis",
            &format!("M{LEFT} {}v{}h{PLOT}{ticks}", short(top), self.height),
        );
    }

    /// Milliseconds between two marks: the smallest round time that gives no more than a dozen.
    fn time_step(&self) -> i64 {
        const STEPS: [i64; 17] = [
            1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10_800, 21_600, 43_200, 86_400, 604_800,
        ];
        let length = self.trace.length.as_millis() as i64;
        let step = STEPS
            .into_iter()
            .map(|s| s * 1000)
            .find(|step| length / step <= 12);
        step.unwrap_or(30 * 86_400_000)
    }

    /// Its label stands above every line.
    fn worst(&mut self, top: f64, bottom: f64, run: &Run) {
        let (load, at) = run.worst;
        let load_then = self
            .trace
            .spans
            .iter()
            .take_while(|(begin, _)| *begin <= at)
            .last();
        let (x, y) = (
            self.x(at),
            self.y(bottom, load_then.map_or(0.0, |(_, load)| load / 100.0)),
        );
        let [x, y] = [x, y].map(short);
        self.path("lead", &format!("M{x} {}V{y}", short(top + 15.0)));
        let _ = writeln!(
            self.out,
            "<circle cx=\"{x}\" cy=\"{y}\" r=\"3.5\" class=\"worst\"/>"
        );
        let x = self.x(at).clamp(LEFT + 36.0, LEFT + PLOT - 36.0);
        self.text(x, top + 12.0, "m w", &format!("worst {load:.0}%"));
    }
}

/// A number of pixels with one decimal at most.
fn short(pixels: f64) -> String {
    let text = format!("{pixels:.1}");
    text.strip_suffix(".0").map_or(text.clone(), String::from)
}

fn shorten(name: &str) -> String {
    match name.char_indices().nth(LONGEST_NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.into(),
    }
}

/// Text for XML: what has a meaning there is escaped, and what may not stand there left out.
fn escape(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        match c {
            '&' => out += "&amp;",
            '<' => out += "&lt;",
            '>' => out += "&gt;",
            '\u{fffe}' | '\u{ffff}' => {}
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}
