//! Figures, and their forms: tables for people, JSON lines for programs, sections of a page.

use std::path::Path;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::measure::load_average;
use crate::statistics::Median;

/// One figure with what it is compared to.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// Suite, cell, quantity and target, such as `e2e/c16/cpu_per_request/cocoon`.
    pub(crate) name: String,
    /// Unit of the value.
    pub(crate) unit: &'static str,
    /// The median over rounds.
    pub(crate) value: f64,
    /// Lowest and highest value of a round.
    pub(crate) spread: (f64, f64),
    /// What the ratio is to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) yardstick: Option<&'static str>,
    /// The median over rounds of value by yardstick, each within one round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio: Option<f64>,
    /// Lowest and highest ratio of a round.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ratio_spread: Option<(f64, f64)>,
}

impl Figure {
    /// A figure that stands alone.
    pub(crate) fn new(name: impl Into<String>, unit: &'static str, median: Median) -> Self {
        let spread = (median.lowest, median.highest);
        let name = name.into();
        Self { name, unit, value: median.value, spread, yardstick: None, ratio: None, ratio_spread: None }
    }

    /// The same beside its yardstick.
    pub(crate) fn compared(mut self, yardstick: &'static str, ratio: Option<Median>) -> Self {
        if let Some(ratio) = ratio {
            self.yardstick = Some(yardstick);
            self.ratio = Some(ratio.value);
            self.ratio_spread = Some((ratio.lowest, ratio.highest));
        }
        self
    }
}

/// What a suite found.
pub(crate) struct Report {
    suite: &'static str,
    /// What was run, so that a reader can repeat it.
    command: String,
    versions: Vec<String>,
    load_average: f64,
    figures: Vec<Figure>,
    /// Paragraphs and tables.
    text: String,
}

impl Report {
    pub(crate) fn new(suite: &'static str, command: String, versions: Vec<String>) -> Self {
        let load_average = load_average();
        Self { suite, command, versions, load_average, figures: Vec::new(), text: String::new() }
    }

    pub(crate) fn push(&mut self, figure: Figure) {
        self.figures.push(figure);
    }

    /// Appends a paragraph.
    pub(crate) fn say(&mut self, paragraph: &str) {
        self.text.push_str(paragraph);
        self.text.push_str("\n\n");
    }

    /// Appends a table; the first row is its head.
    pub(crate) fn table(&mut self, rows: &[Vec<String>]) {
        for (number, row) in rows.iter().enumerate() {
            self.text.push_str(&format!("| {} |\n", row.join(" | ")));
            if number == 0 {
                self.text.push_str(&format!("|{}\n", " --- |".repeat(row.len())));
            }
        }
        self.text.push('\n');
    }

    /// Each figure as an object with the circumstances.
    pub(crate) fn json_lines(&self) -> Vec<String> {
        #[derive(Serialize)]
        struct Line<'a> {
            #[serde(flatten)]
            figure: &'a Figure,
            load_average: f64,
            versions: &'a [String],
        }
        let lines = self.figures.iter().map(|figure| Line {
            figure,
            load_average: self.load_average,
            versions: &self.versions,
        });
        lines.map(|line| serde_json::to_string(&line).expect("a figure is plain data")).collect()
    }

    /// The section for a page or a terminal.
    pub(crate) fn markdown(&self) -> String {
        format!(
            "`{}` · {} · load average {:.1} before the run\n\n{}",
            self.command,
            self.versions.join(" · "),
            self.load_average,
            self.text.trim_end()
        )
    }

    /// Replaces the suite's section of the file.
    ///
    /// # Errors
    /// If the file cannot be read or written, or has no such section.
    pub(crate) fn write(&self, file: &Path) -> Result<()> {
        let page = std::fs::read_to_string(file)?;
        Ok(std::fs::write(file, replace_section(&page, self.suite, &self.markdown())?)?)
    }
}

fn replace_section(page: &str, suite: &str, text: &str) -> Result<String> {
    let (begin, end) = (format!("<!-- begin {suite} -->\n"), format!("<!-- end {suite} -->"));
    let start = page.find(&begin).with_context(|| format!("the page has no line {:?}", begin.trim_end()))?;
    let start = start + begin.len();
    let len = page[start..].find(&end).with_context(|| format!("the page has no {end:?} after the begin"))?;
    Ok(format!("{}\n{text}\n\n{}", &page[..start], &page[start + len..]))
}

/// A number with as many digits as it deserves.
pub(crate) fn short(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

/// A ratio with its spread.
pub(crate) fn with_spread(median: Option<Median>) -> String {
    median.map_or_else(
        || "–".to_owned(),
        |median| format!("{} ({}–{})", short(median.value), short(median.lowest), short(median.highest)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_section_of_the_suite_changes() {
        let page = "a\n<!-- begin e2e -->\nold\n<!-- end e2e -->\nb\n<!-- begin hol -->\n<!-- end hol -->\n";
        let new = replace_section(page, "e2e", "new").unwrap();
        assert_eq!(new, page.replace("old\n", "\nnew\n\n"));
        assert_eq!(replace_section(&new, "e2e", "new").unwrap(), new);
        assert!(replace_section(page, "scale", "new").is_err());
    }

    #[test]
    fn numbers_have_the_digits_they_deserve() {
        assert_eq!(["0.53", "12.4", "1594"], [0.534, 12.44, 1594.2].map(short)[..]);
    }
}
