//! What a person or a script sees: results on stdout, progress on stderr.
//!
//! Bars and colours appear only on a terminal and never under `NO_COLOR`; elsewhere each step is
//! one line, so that a log of CI reads like the terminal's scrollback. A closed pipe is not an
//! error.

use std::fmt::Display;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Prints one line of the result.
pub(crate) fn out(line: impl Display) {
    if cfg!(test) {
        // Only what the macros print is held back by the test harness.
        #[expect(clippy::print_stdout, reason = "see above")]
        return println!("{line}");
    }
    // A reader that went away (`| head`) wants no more of it.
    let _ = writeln!(io::stdout().lock(), "{line}");
}

/// Prints one line of progress.
pub(crate) fn note(line: impl Display) {
    if cfg!(test) {
        #[expect(clippy::print_stderr, reason = "as in `out`")]
        return eprintln!("{line}");
    }
    let _ = writeln!(io::stderr().lock(), "{line}");
}

/// Prints a warning on stderr.
pub(crate) fn warn(line: impl Display) {
    note(format_args!("{} {line}", paint("33", "warning:")));
}

/// Prints an error on stderr.
pub(crate) fn error(line: impl Display) {
    note(format_args!("{} {line}", paint("31", "error:")));
}

/// Prints the title of a step on stderr.
pub(crate) fn title(line: impl Display) {
    note(paint("1", &line.to_string()));
}

/// A duration as people say it: `0.3 s`, `2 min 05 s`.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    if seconds < 60 {
        format!("{:.1} s", duration.as_secs_f64())
    } else {
        format!("{} min {:02} s", seconds / 60, seconds % 60)
    }
}

/// One step that takes a while: a spinner on a terminal, one line when it ends elsewhere.
pub(crate) struct Step {
    label: String,
    began: Instant,
    bar: Option<ProgressBar>,
}

impl Step {
    /// Begins a step and, on a terminal, shows that it runs.
    pub(crate) fn begin(label: impl Into<String>) -> Self {
        let label = label.into();
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new_spinner();
            if let Ok(style) = ProgressStyle::with_template("{spinner} {msg} {elapsed}") {
                bar.set_style(style);
            }
            bar.set_message(label.clone());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { label, began: Instant::now(), bar }
    }

    /// Changes what the spinner says; without a terminal nothing is printed.
    pub(crate) fn say(&self, what: impl Display) {
        if let Some(bar) = &self.bar {
            bar.set_message(format!("{}: {what}", self.label));
        }
    }

    /// Ends the step with its time, and answers the time.
    pub(crate) fn done(self) -> Duration {
        let took = self.began.elapsed();
        note(format_args!("{} ({})", self.label, human(took)));
        took
    }
}

impl Drop for Step {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

fn paint(code: &str, text: &str) -> String {
    let plain = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if plain || !io::stderr().is_terminal() {
        text.to_owned()
    } else {
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_said_in_the_unit_people_use() {
        assert_eq!(human(Duration::from_millis(340)), "0.3 s");
        assert_eq!(human(Duration::from_secs(125)), "2 min 05 s");
    }
}
